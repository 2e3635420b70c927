//! A runner that carries out one attempt after another, for as long as the manager that started it has some.
//!
//! Starting a process costs more than all that a runner does. All runners of a manager read from one pipe, their standard input, so
//! whoever is free takes the next attempt without anybody having to hand it over. An attempt is a message of [`MESSAGE`] bytes, which
//! the system neither mixes nor divides; the same message on the standard output says that the attempt is over. When the manager is
//! gone, a runner ends after the attempt that is under way, which the next manager adopts by its claim.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::WaitOptions;

use super::order::Ticket;
use super::supervise::Signals;
use crate::state::{AttemptKey, PointId};
use crate::task::TaskDirectory;

/// Bytes that name an attempt between a manager and its runners.
pub(crate) const MESSAGE: usize = 8;

/// An attempt as a message.
pub(crate) fn message_of(AttemptKey { point, attempt }: AttemptKey) -> [u8; MESSAGE] {
    (u64::from(point.0) << 32 | u64::from(attempt)).to_le_bytes()
}

/// The attempt behind a message.
pub(crate) fn attempt_of(message: [u8; MESSAGE]) -> AttemptKey {
    let both = u64::from_le_bytes(message);
    AttemptKey {
        point: PointId((both >> 32) as u32),
        attempt: both as u32,
    }
}

/// Carries out attempts of the task in this directory.
pub(super) fn serve(root: &Path, signals: &Signals) -> io::Result<()> {
    let directory = TaskDirectory::new(root.to_owned());
    let manager = rustix::process::getppid();
    rustix::io::ioctl_fionbio(io::stdin(), true)?;
    let mut ticket = Ticket::new(root);
    // Whoever was asked to end takes nothing more: nobody could say which attempt the request would meet.
    while rustix::process::getppid() == manager && !signals.was_asked_to_stop() {
        let Some(key) = take(signals)? else {
            return Ok(());
        };
        let at = directory.attempt(key);
        let done = super::carry_out(&at, signals, &mut ticket);
        if let Err(error) = &done {
            super::complain(&at, error);
        }
        let mut ends = io::stdout().lock();
        let told = ends.write_all(&message_of(key)).and_then(|()| ends.flush());
        // What could not be killed would be taken for a part of the next attempt.
        let has_survivors = rustix::process::wait(WaitOptions::NOHANG).is_ok();
        if done.is_err() || has_survivors || told.is_err() {
            return done;
        }
    }
    Ok(())
}

/// The next attempt, as soon as there is one; `None` when there will be no more, or this process is to end.
fn take(signals: &Signals) -> io::Result<Option<AttemptKey>> {
    loop {
        let mut message = [0; MESSAGE];
        // Without a buffer, which would take what is for others.
        match rustix::io::read(io::stdin(), &mut message) {
            Ok(MESSAGE) => return Ok(Some(attempt_of(message))),
            Ok(0) => return Ok(None),
            Ok(length) => return Err(io::Error::other(format!("a message of {length} bytes"))),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        signals.wait_or_readable(io::stdin().as_fd())?;
        if signals.was_asked_to_stop() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_attempt() {
        let key = AttemptKey {
            point: PointId(0x0102_0304),
            attempt: 7,
        };
        assert_eq!(attempt_of(message_of(key)), key);
    }
}
