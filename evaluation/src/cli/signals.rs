//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What has been asked by signals.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    at_once: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over both signals. Until [`Signals::end_orderly`] they end the program at once, as there is nothing to save.
    pub(crate) fn install() -> io::Result<Self> {
        let signals = Self {
            at_once: Arc::new(AtomicBool::new(true)),
            terminated: Arc::new(AtomicBool::new(false)),
            interrupted: Arc::new(AtomicBool::new(false)),
        };
        for (signal, code, seen) in [
            (SIGTERM, exit::TERMINATED, &signals.terminated),
            (SIGINT, exit::INTERRUPTED, &signals.interrupted),
        ] {
            // In this order: the second signal finds the flag that the first has set.
            flag::register_conditional_shutdown(signal, i32::from(code), Arc::clone(&signals.at_once))?;
            flag::register(signal, Arc::clone(&signals.at_once))?;
            flag::register(signal, Arc::clone(seen))?;
        }
        Ok(signals)
    }

    /// From now on the first signal is only noted.
    pub(crate) fn end_orderly(&self) {
        self.at_once.store(false, Ordering::SeqCst);
    }

    /// The exit code that a noted signal asks for.
    pub(crate) fn asked(&self) -> Option<u8> {
        if self.terminated.load(Ordering::Relaxed) {
            Some(exit::TERMINATED)
        } else if self.interrupted.load(Ordering::Relaxed) {
            Some(exit::INTERRUPTED)
        } else {
            None
        }
    }
}
