//! Planted faults: what the simulation is there for must be noticed when it happens.

use super::World;
use crate::state::AttemptKey;

/// Something that must never happen, and that the simulation does on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::coordinator::simulation) enum Plant {
    /// Runners work on attempts that others have.
    ClaimsIgnored,
    /// The manager does not see the results of one point.
    ResultsLost,
    /// The result of an attempt is taken for that of the next one of its point as well.
    ResultsCountedTwice,
    /// The last thing that was committed before a crash is not in the journal.
    CommitForgotten,
    /// Whatever happens to an attempt is put down to its payload.
    PayloadsBlamed,
    /// The next manager does not find what the one before has submitted.
    SubmissionsForgotten,
}

impl Plant {
    /// All of them, with words of the remark that each must draw; where several checks can be the first to notice, those of any.
    pub(in crate::coordinator::simulation) const ALL: [(Plant, &'static [&'static str]); 6] = [
        (Plant::ClaimsIgnored, &["still runs beside", " times"]),
        (Plant::ResultsLost, &["is given up although it has left a result"]),
        (
            Plant::ResultsCountedTwice,
            &["is done without a result", "is blamed for what happened to it"],
        ),
        (Plant::CommitForgotten, &["was shown and is forgotten"]),
        (Plant::PayloadsBlamed, &["is blamed for what happened to it"]),
        (
            Plant::SubmissionsForgotten,
            &["is submitted again beside", "pilots beside", "left behind"],
        ),
    ];
}

impl World {
    /// The attempt whose result is read when that of `key` is asked for.
    pub(super) fn misread(&self, key: AttemptKey) -> Option<AttemptKey> {
        let before = AttemptKey {
            attempt: key.attempt.wrapping_sub(1),
            ..key
        };
        match self.plant {
            Some(Plant::ResultsLost) if key.point.0 == 1 => None,
            Some(Plant::ResultsCountedTwice) if self.results.contains_key(&before) => Some(before),
            _ => Some(key),
        }
    }
}
