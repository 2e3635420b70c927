//! Tree-structured Parzen estimators with multivariate kernels.
//!
//! J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl, *Algorithms for hyper-parameter optimization*, Advances in Neural Information
//! Processing Systems 24 (2011), section 4; S. Falkner, A. Klein, F. Hutter, *BOHB*, ICML (2018), for kernels over several
//! dimensions; S. Watanabe, arXiv:2304.11127 (2023), for an ablation of the choices to be made.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | x | the values of one group of dimensions |
//! | l(x) | density of the good points |
//! | g(x) | density of the others |
//!
//! Candidates are drawn from l and ordered by l(x)/g(x), which orders them by expected improvement. Points still being evaluated
//! count among the others: that keeps a batch from crowding in one place. Within a batch each point sees those before it in the
//! same way, so a batch of two is two batches of one.
//!
//! Dimensions under a condition form a group of their own, whose densities are made from the points in which the group is active;
//! parents are chosen before their children.
//!
//! Where some points were trained further than others, those speak that have come to the highest rung with two more points than
//! there are dimensions (BOHB, section 3.3), by their losses there.
//!
//! Deviations from the usual form: the first points are a Sobol sequence; a failed point is never counted as good, even when
//! nothing else is known; a point lost with its node tells nothing; and the widths of the kernels follow Scott's rule instead of
//! the distance between neighbours, which on the benchmark problems of this project was the largest single gain.

mod explaining;
mod kernels;
mod mixture;
mod split;

use protocol::Point;

use super::sobol::Sequence;
use super::{Entry, Sampler, Setting, Settings, SetupError, SuggestError, first_unused, one_by_one, prior_point};
use crate::explain::Explanation;
use crate::history::History;
use crate::rng::{Generator, Key, Stream};
use crate::space::{Assignment, Coordinate, Group, Space};
use mixture::{Mixture, Shape};
use split::{Rule, Split};

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
            meaning: "candidates for each point, from 1",
        },
        Setting {
            name: "good",
            default: "0.1",
            meaning: "share of the points that counts as good, in (0, 1); at most 25 points",
        },
        Setting {
            name: "prior",
            default: "1",
            meaning: "weight of the prior, where a point has 1; above 0",
        },
        Setting {
            name: "widths",
            default: "scott",
            meaning: "kernel widths by Scott's rule, or by the distance of `neighbours`",
        },
        Setting {
            name: "weights",
            default: "equal",
            meaning: "`gain` weighs good points by their lead, `age` lets points with `hpo.n` fade",
        },
    ],
    build,
};

fn build(settings: &Settings) -> Result<Box<dyn Sampler>, SetupError> {
    Ok(Box::new(Tpe {
        startup: settings.get("startup", "an integer from 1", |count| *count >= 1)?,
        candidates: settings.get("candidates", "an integer from 1", |count| *count >= 1)?,
        rule: Rule {
            good: settings.get("good", "above 0 and below 1", |share| *share > 0.0 && *share < 1.0)?,
            weights: settings.get("weights", "`equal`, `gain` or `age`", |_| true)?,
            trained: split::Trained::Far,
        },
        shape: Shape {
            prior: settings.get("prior", "a finite number above 0", |weight: &f64| {
                *weight > 0.0 && weight.is_finite()
            })?,
            widths: settings.get("widths", "`scott` or `neighbours`", |_| true)?,
        },
    }))
}

#[derive(Debug)]
struct Tpe {
    startup: usize,
    candidates: usize,
    rule: Rule,
    shape: Shape,
}

impl Sampler for Tpe {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        let sequence = Sequence::new(space);
        Ok(one_by_one(space, history, count, |history| {
            if self.is_starting(history) {
                sequence.next(space, history, key)
            } else {
                self.model_point(space, history, key)
            }
        }))
    }

    fn explain(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        if self.is_starting(history) {
            Sequence::new(space).explain(space, history, point, key)
        } else {
            self.explain_model(space, history, point)
        }
    }
}

impl Tpe {
    /// Without some losses a model has nothing to say, however many points are on their way.
    fn is_starting(&self, history: &History) -> bool {
        let evaluated = history
            .observations()
            .iter()
            .filter(|observation| observation.outcome.loss().is_some())
            .count();
        history.len() < self.startup || 2 * evaluated < self.startup.min(10)
    }

    fn model_point(&self, space: &Space, history: &History, key: Key) -> Option<Point> {
        let ordinal = history.next_ordinal();
        let split = Split::new(history, &self.rule);
        let mut generator = key.generator(ordinal, Stream::Density);
        let mut search = Search {
            tpe: self,
            space,
            history,
            split: &split,
            generator: &mut generator,
        };
        let (first, rest) = space.groups().split_first()?;
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
        let mut prior = key.generator(ordinal, Stream::Startup);
        first_unused(space, history, key, |_| prior_point(space, || prior.uniform()))
    }
}

/// `count` draws from the density of the good points, under the default settings: candidates for other samplers.
pub(super) fn good_points(
    space: &Space,
    history: &History,
    count: usize,
    generator: &mut Generator,
) -> Vec<Vec<Option<Coordinate>>> {
    let (rule, shape) = (
        Rule {
            good: 0.1,
            weights: split::Weights::Equal,
            // The model of `gp` has an opinion of its own about the others, and this is for its candidates.
            trained: split::Trained::All,
        },
        Shape {
            prior: 1.0,
            widths: mixture::Widths::Scott,
        },
    );
    let split = Split::new(history, &rule);
    let mixtures: Vec<Mixture<'_>> = space
        .groups()
        .iter()
        .map(|group| Mixture::new(space, group, history, &split.good, &shape))
        .collect();
    (0..count)
        .map(|_| {
            let mut assignment = space.blank();
            let mut coordinates = vec![None; space.dimensions().len()];
            for (group, mixture) in space.groups().iter().zip(&mixtures) {
                let drawn = mixture.draw(generator);
                if space.is_active(group.members[0], &assignment) {
                    for (&position, coordinate) in group.members.iter().zip(drawn) {
                        let dimension = &space.dimensions()[position];
                        if dimension.is_parent {
                            assignment.set(position, dimension.decode(coordinate));
                        }
                        coordinates[position] = Some(coordinate);
                    }
                }
            }
            coordinates
        })
        .collect()
}

/// The making of one point.
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
        let mixture = |points: &[(usize, f64)]| Mixture::new(self.space, group, self.history, points, &self.tpe.shape);
        let (good, others) = (mixture(&self.split.good), mixture(&self.split.others));
        let candidates: Vec<Vec<Coordinate>> = (0..self.tpe.candidates).map(|_| good.draw(self.generator)).collect();
        let scores: Vec<f64> = good
            .log_densities(&candidates)
            .iter()
            .zip(others.log_densities(&candidates))
            .map(|(good, others)| good - others)
            .collect();
        let mut ranking: Vec<usize> = (0..candidates.len()).collect();
        ranking.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
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
