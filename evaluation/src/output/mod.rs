//! What an evaluation leaves behind: metadata for machines, and the metrics archive that MLflow opens.

mod archive;
mod identity;
mod metadata;

pub(crate) use archive::epoch_object;
pub use archive::{Ending, RunRecord, write_metrics};
pub use identity::Identity;
pub use metadata::{Metadata, write_metadata};
