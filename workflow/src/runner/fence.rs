//! How a runner on another machine hears that it is to end: no signal reaches it there, a file does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::batch::EndRequest;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// Looks for a request in the directory of the attempt.
#[derive(Debug)]
pub(super) struct Fence {
    directory: PathBuf,
    next: Instant,
    heard: Option<EndRequest>,
}

impl Fence {
    pub(super) fn new(directory: PathBuf) -> Fence {
        Fence {
            directory,
            next: Instant::now() + LOOK,
            heard: None,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// Looks, if it is time, and passes what it finds on to this process as the signal that means the same.
    pub(super) fn look(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + LOOK;
        let found = EndRequest::read(&self.directory);
        // Asked again, a runner ends at once.
        let again = found.is_some_and(|request| request >= EndRequest::Kill);
        if found.is_some() && (self.heard.is_none() || again) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::TERM);
        }
        self.heard = found.or(self.heard);
    }

    /// Whether the attempt was given up: what it leaves behind would meet that of its successor.
    pub(super) fn is_revoked(&self) -> bool {
        EndRequest::read(&self.directory) == Some(EndRequest::Revoked)
    }
}
