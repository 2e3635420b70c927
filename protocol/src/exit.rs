//! Exit codes of all three programs.

/// The work is done.
pub const DONE: u8 = 0;
/// The work failed: a training diverged, a task has no successful point.
pub const FAILED: u8 = 1;
/// Wrong usage or wrong input: the same call will fail again until the user changes something.
pub const USAGE: u8 = 2;
/// Infrastructure: disk, network, missing library; the same call may succeed later or elsewhere.
pub const INFRASTRUCTURE: u8 = 3;
/// The journal of a task is damaged; `hpo journal repair` keeps what is sound.
pub const DAMAGED: u8 = 4;
/// Ended by SIGINT.
pub const INTERRUPTED: u8 = 130;
/// Ended by SIGTERM.
pub const TERMINATED: u8 = 143;
