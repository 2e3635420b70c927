//! Tree-structured Parzen estimators with multivariate kernels.
//!
//! J. Bergstra et al., *Algorithms for hyper-parameter optimization*, NeurIPS 24 (2011), section 4; S. Falkner et al., *BOHB*,
//! ICML (2018), for the multivariate kernels; S. Watanabe, arXiv:2304.11127 (2023), for the ablation behind the defaults.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | x | the values of one group of dimensions |
//! | l(x) | density of the good points |
//! | g(x) | density of the others |
//! | n | points with an outcome, failed ones included |
//!
//! Candidates are drawn from l and ordered by l(x)/g(x). Points still being evaluated count among the others: that keeps a
//! batch from crowding in one place. Within a batch each point sees those before it in the same way.
//!
//! Dimensions under a condition form a group of their own, with densities made from the points in which the group is active;
//! parents are chosen first.

mod mixture;
mod split;

use protocol::Point;

use super::sobol::Sequence;
use super::{Entry, Sampler, Setting, Settings, SetupError, SuggestError, first_unused, one_by_one, prior_point};
use crate::history::History;
use crate::rng::{Generator, Key, Stream};
use crate::space::{Assignment, Coordinate, Group, Space};
use mixture::{Mixture, Shape};
use split::Split;

pub(super) const ENTRY: Entry = Entry {
    name: "tpe",
    summary: "tree-structured Parzen estimators: learns from good and bad points, any mix of dimensions",
    settings: &[
        Setting {
            name: "startup",
            default: "10",
            meaning: "points of a Sobol sequence before the first model, from 1",
        },
        Setting {
            name: "candidates",
            default: "24",
            meaning: "candidates per point, from 1",
        },
        Setting {
            name: "good",
            default: "0.1",
            meaning: "share of the points that counts as good, in (0, 1)",
        },
        Setting {
            name: "root",
            default: "0",
            meaning: "x",
        },
        Setting {
            name: "prior",
            default: "1",
            meaning: "weight of the prior among the points, above 0",
        },
        Setting {
            name: "bandwidth",
            default: "0",
            meaning: "x",
        },
        Setting {
            name: "floor",
            default: "0",
            meaning: "x",
        },
        Setting {
            name: "spread",
            default: "1",
            meaning: "x",
        },
        Setting {
            name: "improve",
            default: "0",
            meaning: "x",
        },
        Setting {
            name: "category",
            default: "0",
            meaning: "x",
        },
        Setting {
            name: "age",
            default: "0",
            meaning: "x",
        },
        Setting {
            name: "cap",
            default: "25",
            meaning: "x",
        },
        Setting {
            name: "topg",
            default: "0",
            meaning: "x",
        },
    ],
    build,
};

fn build(settings: &Settings) -> Result<Box<dyn Sampler>, SetupError> {
    let x = |name| settings.get::<f64>(name, "x", |_| true);
    Ok(Box::new(Tpe {
        startup: settings.get("startup", "an integer from 1", |count| *count >= 1)?,
        candidates: settings.get("candidates", "an integer from 1", |count| *count >= 1)?,
        split: split::Rule {
            good: settings.get("good", "above 0 and below 1", |share| *share > 0.0 && *share < 1.0)?,
            root: x("root")?,
            cap: x("cap")? as usize,
            improve: x("improve")? > 0.5,
            age: x("age")? > 0.5,
        },
        shape: Shape {
            prior: settings.get("prior", "above 0", |weight: &f64| *weight > 0.0 && weight.is_finite())?,
            bandwidth: x("bandwidth")?,
            floor: x("floor")?,
            spread: x("spread")?,
            category: x("category")?,
        },
    }))
}

#[derive(Debug)]
struct Tpe {
    startup: usize,
    candidates: usize,
    split: split::Rule,
    shape: Shape,
}

impl Sampler for Tpe {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        let sequence = Sequence::new(space);
        Ok(one_by_one(space, history, count, |history| {
            // Without some losses a model has nothing to say, however many points are on their way.
            let evaluated = history
                .observations()
                .iter()
                .filter(|observation| observation.outcome.loss().is_some())
                .count();
            if history.len() < self.startup || 2 * evaluated < self.startup.min(10) {
                sequence.next(space, history, key)
            } else {
                self.model_point(space, history, key)
            }
        }))
    }
}

impl Tpe {
    fn model_point(&self, space: &Space, history: &History, key: Key) -> Option<Point> {
        let split = Split::new(history, &self.split);
        let mut generator = key.generator(history.next_ordinal(), Stream::Density);
        let mut search = Search {
            tpe: self,
            space,
            history,
            split: &split,
            generator: &mut generator,
        };
        let Some((first, rest)) = space.groups().split_first() else {
            return None;
        };
        for start in search.ranked(first) {
            let mut assignment = space.blank();
            let mut coordinates = vec![None; space.dimensions().len()];
            search.take(first, &start, &mut assignment, &mut coordinates);
            for group in rest {
                if space.is_active(group.members[0], &assignment)
                    && let Some(best) = search.ranked(group).first()
                {
                    search.take(group, best, &mut assignment, &mut coordinates);
                }
            }
            if !history.is_taken(space, &coordinates) {
                return Some(space.point(assignment));
            }
        }
        let mut prior = key.generator(history.next_ordinal(), Stream::Startup);
        first_unused(space, history, key, |_| prior_point(space, || prior.uniform()))
    }
}

struct Search<'a> {
    tpe: &'a Tpe,
    space: &'a Space,
    history: &'a History,
    split: &'a Split,
    generator: &'a mut Generator,
}

impl Search<'_> {
    /// Candidates for a group, the most promising first; of equals the one drawn first.
    fn ranked(&mut self, group: &Group) -> Vec<Vec<Coordinate>> {
        let good = Mixture::new(self.space, group, self.history, &self.split.good, &self.tpe.shape);
        let others = Mixture::new(self.space, group, self.history, &self.split.others, &self.tpe.shape);
        let candidates: Vec<Vec<Coordinate>> = (0..self.tpe.candidates).map(|_| good.draw(self.generator)).collect();
        let (good, others) = (good.log_densities(&candidates), others.log_densities(&candidates));
        let mut ranking: Vec<usize> = (0..candidates.len()).collect();
        ranking.sort_by(|a, b| {
            (good[*b] - others[*b])
                .total_cmp(&(good[*a] - others[*a]))
                .then(a.cmp(b))
        });
        ranking
            .into_iter()
            .map(|candidate| candidates[candidate].clone())
            .collect()
    }

    fn take(
        &self,
        group: &Group,
        values: &[Coordinate],
        assignment: &mut Assignment,
        coordinates: &mut [Option<Coordinate>],
    ) {
        for (&position, &coordinate) in group.members.iter().zip(values) {
            assignment.set(position, self.space.dimensions()[position].decode(coordinate));
            coordinates[position] = Some(coordinate);
        }
    }
}
