//! The journal: the append-only truth about a task.
//!
//! Everything that a task directory holds besides `task.json` and this file follows from the two. A record is on disk
//! (`fdatasync`) before anybody acts upon it; many records share one synchronisation.

mod lock;
mod read;
mod record;
mod salvage;
mod write;

pub(crate) use lock::{Claim, LockError, holder, last_holder};
pub(crate) use read::{Contents, ReadError, read, remedy};
pub(crate) use record::Record;
pub(crate) use salvage::{Dropped, salvage, written_anew};
pub(crate) use write::{Journal, WriteError};

#[cfg(test)]
mod power_cuts;

/// Version of the journal's format.
pub(crate) const FORMAT: u32 = 1;

/// The first line of every journal.
pub(crate) fn header() -> String {
    format!("hpo-journal {FORMAT}\n")
}
