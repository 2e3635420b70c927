//! An evolutionary search for huge budgets: what it does for a point costs time linear in the length of the history, and little.
//!
//! R. Storn, K. Price, *J. Global Optim.* 11 (1997) 341, for differential evolution, with the step towards a good point of J. Zhang,
//! A. C. Sanderson, *JADE*, IEEE Trans. Evol. Comput. 13 (2009) 945; E. Real et al., *Regularized evolution*, AAAI 33 (2019) 4780,
//! for the tournament and for parents that grow old.
//!
//! Parents are the best points of the history, or of its newest evaluated points where `memory` says so: with noisy losses, a lucky
//! point then does not stay for ever. A tournament of two chooses a parent. Its child is made in one of two ways, at random:
//!
//! * *differential*: the parent moves towards one of the best points and along the difference of two others, in some of its
//!   dimensions; a category is taken over where the two others differ;
//! * *mutation*: some dimensions change at random. Steps are spread over three powers of ten, so no step size has to be learnt, and
//!   none has to be remembered.
//!
//! Nothing but the history decides, and points still pending change nothing but which points are taken.

mod breeding;

use protocol::{Outcome, Point};

use super::sobol::Sequence;
use super::{Entry, Sampler, Setting, Settings, SetupError, SuggestError, first_unused, one_by_one};
use crate::explain::Explanation;
use crate::history::{History, Observation};
use crate::rng::{Key, Stream};
use crate::space::Space;
use breeding::{Child, Origin, Population};

pub(super) const ENTRY: Entry = Entry {
    name: "evolution",
    summary: "differential evolution and mutation: many thousands of cheap evaluations, any mix of dimensions",
    settings: &[
        Setting {
            name: "startup",
            default: "20",
            meaning: "points of a Sobol sequence before the first child, from 2",
        },
        Setting {
            name: "parents",
            default: "30",
            meaning: "best points that may be parents, from 4",
        },
        Setting {
            name: "memory",
            default: "0",
            meaning: "only so many of the newest evaluated points with `hpo.n` may be parents; 0 for all",
        },
    ],
    build,
};

fn build(settings: &Settings) -> Result<Box<dyn Sampler>, SetupError> {
    Ok(Box::new(Evolution {
        startup: settings.get("startup", "an integer from 2", |count| *count >= 2)?,
        parents: settings.get("parents", "an integer from 4", |count| *count >= 4)?,
        memory: settings.get("memory", "an integer from 0", |_| true)?,
    }))
}

#[derive(Debug)]
struct Evolution {
    startup: usize,
    parents: usize,
    memory: usize,
}

impl Sampler for Evolution {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        let sequence = Sequence::new(space);
        // Pending points are no parents, so a batch has one population.
        let population = self.population(history);
        Ok(one_by_one(space, history, count, |grown| match &population {
            Some(population) if grown.len() >= self.startup => {
                let mut generator = key.generator(grown.next_ordinal(), Stream::Density);
                first_unused(space, grown, key, |_| {
                    space.decode(&population.child(space, &mut generator).coordinates)
                })
            }
            _ => sequence.next(space, grown, key),
        }))
    }

    fn explain(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        let Some(population) = self.population(history).filter(|_| history.len() >= self.startup) else {
            return Sequence::new(space).explain(space, history, point, key);
        };
        let wanted = space.fingerprint(&space.encode(point));
        let mut generator = key.generator(history.next_ordinal(), Stream::Density);
        let child = (0..super::DRAWS)
            .map(|_| population.child(space, &mut generator))
            .find(|child| space.fingerprint(&child.coordinates) == wanted);
        match child {
            Some(Child { parent, origin, .. }) => {
                let way = match origin {
                    Origin::Differential => "moved towards a better point and along the difference of two others",
                    Origin::Mutation => "with some dimensions changed at random",
                };
                let text = format!(
                    "a child of the point that ranks {} of {}, {way}",
                    parent + 1,
                    population.evaluated()
                );
                Explanation::new(origin.name(), text)
                    .with("parent_rank", parent + 1)
                    .with("parent_loss", population.loss(parent))
                    .with("parents", population.len())
                    .with("evaluated", population.evaluated())
            }
            None => Explanation::stand_in("every child that was tried"),
        }
    }
}

impl Evolution {
    /// The parents, best first; nothing as long as there are too few.
    fn population<'a>(&self, history: &'a History) -> Option<Population<'a>> {
        let mut evaluated: Vec<(f64, usize, &'a Observation)> = history
            .observations()
            .iter()
            .enumerate()
            .filter_map(|(age, observation)| match observation.outcome {
                Outcome::Done { loss } => Some((loss.get(), age, observation)),
                Outcome::Pending | Outcome::Failed => None,
            })
            .collect();
        if self.memory > 0 && history.is_numbered() {
            evaluated.drain(..evaluated.len().saturating_sub(self.memory));
        }
        if evaluated.len() < 4 || 2 * evaluated.len() < self.startup {
            return None;
        }
        let total = evaluated.len();
        let better =
            |a: &(f64, usize, &Observation), b: &(f64, usize, &Observation)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if total > self.parents {
            evaluated.select_nth_unstable_by(self.parents - 1, better);
            evaluated.truncate(self.parents);
        }
        evaluated.sort_unstable_by(better);
        Some(Population::new(
            evaluated
                .into_iter()
                .map(|(loss, _, observation)| (loss, observation))
                .collect(),
            total,
        ))
    }
}

#[cfg(test)]
mod tests {
    use protocol::search_space::SpaceDocument;
    use protocol::steering::SteeringInput;
    use serde_json::{Value, json};

    use crate::ask::{Request, ask};

    fn asked(space: &Value, points: &[Value], request: &Request) -> Vec<Value> {
        let document = SpaceDocument::from_value(space).unwrap();
        let input = SteeringInput::from_value(json!({"points": points}), Some(1e5)).unwrap();
        ask(&document, &input, request)
            .unwrap()
            .iter()
            .map(|one| json!(one.point()))
            .collect()
    }

    fn request(count: usize) -> Request {
        Request {
            sampler: "evolution".into(),
            ..Request::new(count, 2)
        }
    }

    #[test]
    fn a_mixed_space_is_searched_far_better_than_at_random() {
        let mut space = json!({
            "c": {"method": "categorical", "dimension": {"categories": ["a", "b", "c", "d", "e"]}},
            "n": {"method": "uniformint", "dimension": {"low": 1, "high": 500}}
        });
        for axis in 0..6 {
            space[format!("x{axis}")] = json!({"method": "uniform", "dimension": {"low": 0, "high": 1}});
        }
        let loss = |point: &Value| {
            let axes = (0..6).map(|axis| (point[format!("x{axis}")].as_f64().unwrap() - 0.37).abs());
            axes.sum::<f64>()
                + f64::from(u8::from(point["c"] != "d"))
                + (point["n"].as_f64().unwrap() - 123.0).abs() / 500.0
        };
        let mut points: Vec<Value> = Vec::new();
        for _ in 0..60 {
            let new = asked(&space, &points, &request(20));
            points.extend(new.into_iter().map(|point| json!([point, loss(&point)])));
        }
        let best = points
            .iter()
            .map(|pair| pair[1].as_f64().unwrap())
            .fold(f64::INFINITY, f64::min);
        // Random search reaches about 0.5 after 1,200 points.
        assert!(best < 0.02, "{best}");
    }

    #[test]
    fn with_a_memory_only_the_newest_points_have_children() {
        let space = json!({"x": {"method": "uniform", "dimension": {"low": 0.0, "high": 1.0}}});
        let points: Vec<Value> = (0..60)
            .map(|index| {
                let (x, loss) = if index < 30 { (0.1, 0.0) } else { (0.9, 1.0) };
                json!([{"x": x + 1e-4 * f64::from(index), "hpo.n": index}, loss])
            })
            .collect();
        let mean = |memory: &str| {
            let request = Request {
                settings: vec![("memory".into(), memory.into())],
                ..request(40)
            };
            let new = asked(&space, &points, &request);
            new.iter().map(|point| point["x"].as_f64().unwrap()).sum::<f64>() / 40.0
        };
        let (all, newest) = (mean("0"), mean("30"));
        assert!(all < 0.4 && newest > 0.6, "{all} {newest}");
    }
}
