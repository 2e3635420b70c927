//! Names of the environment variables by which the manager speaks to steering and to payloads.

/// Name of the task.
pub const TASK: &str = "HPO_TASK";
/// Name of the segment; absent in a task without segments.
pub const SEGMENT: &str = "HPO_SEGMENT";
/// Id of the point, a decimal string from "1".
pub const POINT_ID: &str = "HPO_POINT_ID";
/// Number of the attempt, from 1.
pub const ATTEMPT: &str = "HPO_ATTEMPT";
/// File to which a payload may append [`crate::report::Report`] lines.
pub const REPORT_FILE: &str = "HPO_REPORT_FILE";
/// File in which a payload finds a [`crate::report::Decision`]; absent until there is one.
pub const DECISION_FILE: &str = "HPO_DECISION_FILE";
/// Directory for checkpoints that outlive an attempt.
pub const CHECKPOINT_DIR: &str = "HPO_CHECKPOINT_DIR";
/// Epochs up to which a point is to be trained in total, whatever it begins from; absent without a scheduler of epochs.
pub const EPOCHS: &str = "HPO_EPOCHS";
/// Share of the training data on which a point is to be trained, in (0, 1]; absent without a scheduler of shares.
pub const DATA_FRACTION: &str = "HPO_DATA_FRACTION";
/// `1` if what lies in [`CHECKPOINT_DIR`] at the end may be gone on from by another point, `0` if nobody will ask for it.
pub const KEEP_CHECKPOINT: &str = "HPO_KEEP_CHECKPOINT";
/// Seed of steering when the command line gives none.
pub const STEERING_SEED: &str = "STEERING_SEED";
/// Engine of a training when the command line gives none.
pub const ENGINE: &str = "HPO_ENGINE";
