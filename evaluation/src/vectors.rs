//! Loops compiled for the vectors of the processor at hand.

#![expect(
    clippy::inline_always,
    reason = "their instructions are those of the caller, which alone knows the processor"
)]

use pulp::{Arch, NullaryFnOnce};

/// The vectors of this machine.
pub(crate) fn machine() -> Arch {
    static MACHINE: std::sync::LazyLock<Arch> = std::sync::LazyLock::new(Arch::new);
    *MACHINE
}

/// Does work that is compiled for the vectors of this machine. The closure and all functions that it calls must be
/// `#[inline(always)]`: what is not inlined here stays what every processor can do.
#[inline(always)]
pub(crate) fn vectorized<F: FnMut()>(work: F) {
    struct Work<F>(F);
    impl<F: FnMut()> NullaryFnOnce for Work<F> {
        type Output = ();

        #[inline(always)]
        fn call(mut self) {
            (self.0)();
        }
    }
    machine().dispatch(Work(work));
}
