//! Searches with several objectives.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | m | objectives, 2 to 5 | |
//! | y | losses of a point, all of them minimised | m |
//! | l, h | the least loss of each objective, and the largest on the front | m |
//! | w | weights, at least 0, sum 1 | m |
//!
//! Every point is chosen for a weighting of its own: y becomes the one number max w (y − l)/(h − l) + ρ Σ w (y − l)/(h − l), the
//! augmented Chebyshev norm of J. Knowles, *`ParEGO`*, IEEE Transactions on Evolutionary Computation 10 (2006), equation 2, and any
//! sampler minimises that. Deviations: the weights of successive points are a low-discrepancy sequence, so that a few points already
//! cover the front; and losses are scaled by the front, not by all points, because diverged trainings would squash the front.

mod front;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use protocol::Loss;
use protocol::error::did_you_mean;
use protocol::steering::HistoryEntry;

pub use front::{Front, front, hypervolume, reference};

use crate::history::{History, Mode};
use crate::rng::{Key, Stream};

/// Most objectives of a search; beyond, nearly all points are on the front.
pub const MOST: usize = 5;
/// The name of the loss itself.
pub const LOSS: &str = "loss";
/// ρ.
const AUGMENTATION: f64 = 0.05;

/// One thing to be made small or large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objective {
    /// A key of `losses`, or `loss` for the loss itself.
    pub name: String,
    /// Which values are good.
    pub mode: Mode,
}

/// The objectives of a search, 1 to [`MOST`], with different names. Written `name:min,name:max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objectives(Vec<Objective>);

/// What is wrong with a list of objectives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectivesError {
    /// The text is not a list of names with directions.
    #[error("expected objectives as `name:min` or `name:max`, separated by commas, found `{found}`")]
    Malformed {
        /// The part that is not understood.
        found: String,
    },
    /// A name occurs twice.
    #[error("the objective `{name}` is given twice; name it once")]
    Twice {
        /// The name.
        name: String,
    },
    /// There are too many.
    #[error("expected at most {MOST} objectives, found {found}; put the less important ones together into one loss")]
    TooMany {
        /// Their number.
        found: usize,
    },
    /// No evaluated point has such a loss.
    #[error(
        "no evaluated point has a loss `{name}`{hint} (known are {known}); evaluations give it in `losses` of their output file"
    )]
    Unknown {
        /// The objective.
        name: String,
        /// The nearest name, if any is near.
        hint: String,
        /// The names that occur.
        known: String,
    },
}

impl FromStr for Objectives {
    type Err = ObjectivesError;

    fn from_str(text: &str) -> Result<Self, ObjectivesError> {
        let mut objectives: Vec<Objective> = Vec::new();
        for part in text.split(',') {
            let malformed = || ObjectivesError::Malformed {
                found: part.trim().to_owned(),
            };
            let (name, mode) = match part.trim().rsplit_once(':') {
                Some((name, "min")) => (name, Mode::Min),
                Some((name, "max")) => (name, Mode::Max),
                _ => return Err(malformed()),
            };
            if name.is_empty() {
                return Err(malformed());
            }
            if objectives.iter().any(|objective| objective.name == name) {
                return Err(ObjectivesError::Twice { name: name.to_owned() });
            }
            objectives.push(Objective {
                name: name.to_owned(),
                mode,
            });
        }
        if objectives.len() > MOST {
            return Err(ObjectivesError::TooMany {
                found: objectives.len(),
            });
        }
        Ok(Self(objectives))
    }
}

impl fmt::Display for Objectives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, objective) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let mode = if objective.mode == Mode::Min { "min" } else { "max" };
            write!(f, "{comma}{}:{mode}", objective.name)?;
        }
        Ok(())
    }
}

impl Objectives {
    /// The objectives, at least one.
    #[must_use]
    pub fn all(&self) -> &[Objective] {
        &self.0
    }

    /// The losses of an evaluated point, by objective, all of them to be minimised; nothing for a point that is not evaluated or
    /// lacks one of them.
    #[must_use]
    pub fn losses(&self, entry: &HistoryEntry) -> Option<Vec<f64>> {
        let meta = entry.meta.as_ref();
        let loss = entry.outcome.loss()?;
        if meta.and_then(|meta| meta.status.as_deref()) == Some("failed") {
            return None;
        }
        let further = meta.and_then(|meta| meta.losses.as_ref());
        let value = |objective: &Objective| {
            let named = further.and_then(|losses| losses.get(&objective.name)).copied();
            let value = named.or_else(|| (objective.name == LOSS).then_some(loss))?;
            let value = Loss::new(value)?.get();
            Some(if objective.mode == Mode::Max { -value } else { value })
        };
        self.0.iter().map(value).collect()
    }

    /// Losses that are all to be minimised as they were given.
    #[must_use]
    pub fn as_given(&self, losses: &[f64]) -> Vec<f64> {
        let signed = self.0.iter().zip(losses);
        signed
            .map(|(objective, loss)| if objective.mode == Mode::Max { -loss } else { *loss })
            .collect()
    }

    /// Checks that the evaluated points, if there are any, have the losses that are asked for.
    ///
    /// # Errors
    /// [`ObjectivesError::Unknown`] for a loss that none of them has.
    pub fn check(&self, entries: &[HistoryEntry]) -> Result<(), ObjectivesError> {
        let evaluated: Vec<&HistoryEntry> = entries.iter().filter(|entry| entry.outcome.loss().is_some()).collect();
        if evaluated.is_empty() {
            return Ok(());
        }
        let mut known: Vec<&str> = vec![LOSS];
        for entry in evaluated {
            let further = entry.meta.as_ref().and_then(|meta| meta.losses.as_ref());
            known.extend(further.into_iter().flat_map(|losses| losses.keys().map(String::as_str)));
        }
        known.sort_unstable();
        known.dedup();
        match self
            .0
            .iter()
            .find(|objective| !known.contains(&objective.name.as_str()))
        {
            None => Ok(()),
            Some(unknown) => Err(ObjectivesError::Unknown {
                name: unknown.name.clone(),
                hint: did_you_mean(&unknown.name, known.iter().copied()),
                known: known.join(", "),
            }),
        }
    }
}

/// The history as the sampler of the next point sees it: with several objectives, one number for each point, by the weights of
/// the next point.
pub(crate) fn for_next_point(history: &History, key: Key) -> Cow<'_, History> {
    match weights_of_next(history, key) {
        None => Cow::Borrowed(history),
        Some(weights) => Cow::Owned(history.with_losses(|losses| scalars(losses, &weights))),
    }
}

/// The weights of the next point; nothing with one objective.
pub(crate) fn weights_of_next(history: &History, key: Key) -> Option<Vec<f64>> {
    let objectives = history.objectives();
    (objectives > 1).then(|| weights(objectives, history.next_ordinal(), key))
}

/// Weights from a Kronecker sequence with a random start: M. Roberts's generalised golden ratio in m − 1 dimensions, whose sorted
/// coordinates divide the unit interval into m parts.
fn weights(objectives: usize, ordinal: u64, key: Key) -> Vec<f64> {
    let dimensions = objectives - 1;
    // The root above 1 of g^(d + 1) = g + 1.
    let mut ratio = 1.5_f64;
    for _ in 0..60 {
        ratio = libm::pow(1.0 + ratio, 1.0 / (dimensions as f64 + 1.0));
    }
    let mut start = key.generator(0, Stream::Weights);
    let mut cuts: Vec<f64> = (1..=dimensions)
        .map(|power| {
            let step = libm::pow(ratio, -(power as f64));
            // Beyond 2^32 points nothing is lost by beginning again.
            let place = start.uniform() + (ordinal % (1 << 32)) as f64 * step;
            place - libm::floor(place)
        })
        .collect();
    cuts.sort_by(f64::total_cmp);
    let ends = cuts.iter().copied().chain([1.0]);
    let begins = [0.0].into_iter().chain(cuts.iter().copied());
    begins.zip(ends).map(|(begin, end)| end - begin).collect()
}

/// One number for each point.
fn scalars(losses: &[&[f64]], weights: &[f64]) -> Vec<f64> {
    let objectives = weights.len();
    let on_front = front(losses);
    let (mut least, mut range) = (vec![0.0; objectives], vec![1.0; objectives]);
    for objective in 0..objectives {
        let mut all: Vec<f64> = losses.iter().map(|losses| losses[objective]).collect();
        all.sort_by(f64::total_cmp);
        let Some(first) = all.first() else { continue };
        let widest = on_front.iter().map(|position| losses[*position][objective]);
        let widest = widest.fold(*first, f64::max) - first;
        // The front may be a single point: then half of all points, or all of them, give the scale.
        let ranges = [widest, all[all.len() / 2] - first, all[all.len() - 1] - first, 1.0];
        least[objective] = *first;
        range[objective] = ranges.into_iter().find(|range| *range > 0.0).unwrap_or(1.0);
    }
    (losses.iter())
        .map(|losses| {
            let terms = (0..objectives).map(|i| weights[i] * (losses[i] - least[i]) / range[i]);
            let (most, sum) = terms.fold((f64::NEG_INFINITY, 0.0), |(most, sum): (f64, f64), term| {
                (most.max(term), sum + term)
            });
            // A loss of one objective may be astronomic; the number must stay a loss.
            Loss::new(most + AUGMENTATION * sum).map_or(1e29, Loss::get)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_written_as_names_with_directions() {
        let read = |text: &str| Objectives::from_str(text);
        let two = read("loss:min, accuracy:max").unwrap();
        assert_eq!(two.to_string(), "loss:min,accuracy:max");
        assert_eq!(read("a:b:max").unwrap().all()[0].name, "a:b");
        let message = |text: &str| read(text).unwrap_err().to_string();
        insta::assert_snapshot!(message("loss"), @"expected objectives as `name:min` or `name:max`, separated by commas, found `loss`");
        insta::assert_snapshot!(message("loss:min,"), @"expected objectives as `name:min` or `name:max`, separated by commas, found ``");
        insta::assert_snapshot!(message("loss:min,loss:max"), @"the objective `loss` is given twice; name it once");
        insta::assert_snapshot!(message("a:min,b:min,c:min,d:min,e:min,f:min"), @"expected at most 5 objectives, found 6; put the less important ones together into one loss");
    }

    #[test]
    fn weights_sum_to_one_and_spread_over_the_simplex() {
        let key = Key::new(1, "", None, "test");
        for objectives in 2..=MOST {
            let all: Vec<Vec<f64>> = (0..200).map(|ordinal| weights(objectives, ordinal, key)).collect();
            for weights in &all {
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                assert!(weights.iter().all(|weight| (0.0..=1.0).contains(weight)));
            }
            for objective in 0..objectives {
                let mean = all.iter().map(|weights| weights[objective]).sum::<f64>() / 200.0;
                assert!((mean - 1.0 / objectives as f64).abs() < 0.05, "{objectives} {mean}");
            }
        }
        let mut firsts: Vec<f64> = (0..32).map(|ordinal| weights(2, ordinal, key)[0]).collect();
        firsts.sort_by(f64::total_cmp);
        assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] < 0.08), "{firsts:?}");
    }

    #[test]
    fn the_best_point_for_an_extreme_weighting_is_best_in_that_objective() {
        let losses: Vec<&[f64]> = vec![&[0.0, 9.0], &[1.0, 1.0], &[8.0, 0.0], &[1e29, 1e29], &[9.0, 9.0]];
        let best = |weights: &[f64]| {
            let scalars = scalars(&losses, weights);
            (0..losses.len())
                .min_by(|a, b| scalars[*a].total_cmp(&scalars[*b]))
                .unwrap()
        };
        assert_eq!((best(&[0.99, 0.01]), best(&[0.01, 0.99]), best(&[0.5, 0.5])), (0, 2, 1));
    }
}
