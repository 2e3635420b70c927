//! Draws for tests that try many courses of events.

/// A small deterministic generator: moments must be spread, not secret.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    /// A number from 0 up to `bound`, which is not reached and above 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// The same for places in memory.
    pub(crate) fn place(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }
}
