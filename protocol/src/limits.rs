//! Limits of every file that is read. A file over a limit is refused before it is parsed.

/// Largest steering input, in bytes: about a million points.
pub const HISTORY_BYTES: u64 = 256 << 20;
/// Largest search space, task file or segment file, in bytes.
pub const DOCUMENT_BYTES: u64 = 16 << 20;
/// Largest loss document of a payload, in bytes.
pub const LOSS_DOCUMENT_BYTES: u64 = 1 << 20;
/// Largest metadata document of a payload, in bytes; the limit of the PanDA job wrapper.
pub const METADATA_BYTES: u64 = 1 << 20;
/// Largest point as JSON text, in bytes. iDDS stores a point and its loss in 4,000 characters.
pub const POINT_BYTES: usize = 3_500;
/// Deepest nesting of arrays and objects.
pub const DEPTH: usize = 64;
/// Most keys of one object of a point or a search space.
pub const KEYS: usize = 1_000;
/// Most levels of one dimension in a grid.
pub const LEVELS: u32 = 1_000;
/// Longest key, in bytes.
pub const KEY_BYTES: usize = 256;
/// Longest string, in bytes.
pub const STRING_BYTES: usize = 64 << 10;
/// Magnitude from which a loss counts as a failure.
pub const HUGE_LOSS: f64 = 1e30;
/// The loss that iDDS, and we on the wire, report for a point whose attempts are exhausted.
pub const FAILED_LOSS: f64 = 100_000.0;
/// Prefix of the keys of a point that are not hyperparameters.
pub const RESERVED_PREFIX: &str = "hpo.";
