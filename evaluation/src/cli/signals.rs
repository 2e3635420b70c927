//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use protocol::exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals as Arrivals;

/// What has been asked by signals.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    /// Whether nothing is to be saved yet.
    preparing: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over both signals. Until [`Signals::end_orderly`] the first one calls `last_words` with the exit code, from a
    /// thread of its own, and ends the program, even while it waits for a disk or a server.
    pub(crate) fn install(last_words: impl Fn(u8) + Send + 'static) -> io::Result<Self> {
        let signals = Self {
            preparing: Arc::new(AtomicBool::new(true)),
            terminated: Arc::new(AtomicBool::new(false)),
            interrupted: Arc::new(AtomicBool::new(false)),
        };
        let again = Arc::new(AtomicBool::new(false));
        for (signal, code, seen) in [
            (SIGTERM, exit::TERMINATED, &signals.terminated),
            (SIGINT, exit::INTERRUPTED, &signals.interrupted),
        ] {
            // In this order: the second signal finds the flag that the first has set.
            flag::register_conditional_shutdown(signal, i32::from(code), Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(seen))?;
        }
        let mut arrivals = Arrivals::new([SIGTERM, SIGINT])?;
        let preparing = Arc::clone(&signals.preparing);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in arrivals.forever() {
                if preparing.load(Ordering::SeqCst) {
                    let code = if signal == SIGTERM {
                        exit::TERMINATED
                    } else {
                        exit::INTERRUPTED
                    };
                    last_words(code);
                    end(code);
                }
            }
        })?;
        Ok(signals)
    }

    /// From now on the first signal is only noted.
    pub(crate) fn end_orderly(&self) {
        self.preparing.store(false, Ordering::SeqCst);
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

#[expect(clippy::exit, reason = "the main thread may wait for a disk that never answers")]
fn end(code: u8) -> ! {
    std::process::exit(i32::from(code))
}
