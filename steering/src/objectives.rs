//! Searches with several objectives.
//!
//! A sampler that knows fronts, as `gp` does, chooses by the hypervolume that a point is expected to add; for every other one each
//! point has a weighting of its own.

mod front;
mod weighting;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use protocol::Loss;
use protocol::error::did_you_mean;
use protocol::steering::HistoryEntry;

pub(crate) use front::of_interest;
pub use front::{Front, front, hypervolume, reference};
pub(crate) use weighting::{WEIGHTS, explain, ranked, suggest};

use crate::history::{History, Mode};

/// Most objectives of a search; beyond, nearly all points are on the front.
pub const MOST: usize = 5;
/// The name of the loss itself.
pub const LOSS: &str = "loss";

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

/// The history with one objective as the loss, on the scale on which volume is measured: as it is, up to what is still of interest.
/// Beyond, where one diverged training would hide all differences that count, it goes on as a logarithm.
pub(crate) fn of_objective(history: &History, objective: usize) -> Cow<'_, History> {
    if history.objectives() < 2 {
        return Cow::Borrowed(history);
    }
    Cow::Owned(history.with_losses(|losses| {
        let Some(end) = of_interest(losses).get(objective).copied() else {
            return Vec::new();
        };
        let least = losses
            .iter()
            .map(|losses| losses[objective])
            .fold(f64::INFINITY, f64::min);
        let bound = |loss: f64| {
            let range = end - least;
            if loss > end {
                end + range * libm::log1p((loss - end) / range)
            } else {
                loss
            }
        };
        losses.iter().map(|losses| bound(losses[objective])).collect()
    }))
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
}
