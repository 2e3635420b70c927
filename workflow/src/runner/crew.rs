//! A runner that carries out one attempt after another, for as long as the manager that started it has some.
//!
//! Starting a process costs more than all that a runner does. The manager writes the directory of an attempt, closed by a zero byte,
//! to the standard input, and reads a byte from the standard output for each that is over. When the manager is gone, the input
//! ends, and the runner with it: after the attempt that is under way, which the next manager adopts by its claim.

use std::ffi::OsStr;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::WaitOptions;

use super::supervise::Signals;

/// Closes the name of a directory.
pub(crate) const END_OF_NAME: u8 = 0;
/// Says that an attempt is over.
const OVER: [u8; 1] = [b'.'];

/// Carries out `first`, then what else there is.
pub(super) fn serve(first: &Path, signals: &Signals) -> io::Result<()> {
    let mut directory = PathBuf::from(first);
    let mut orders = io::stdin().lock();
    loop {
        let done = super::carry_out(&directory, signals);
        if let Err(error) = &done {
            super::complain(&directory, error);
        }
        // What could not be killed would be taken for a part of the next attempt.
        let has_survivors = rustix::process::wait(WaitOptions::NOHANG).is_ok();
        if done.is_err() || has_survivors {
            return done;
        }
        let mut ends = io::stdout().lock();
        if ends.write_all(&OVER).and_then(|()| ends.flush()).is_err() {
            return Ok(());
        }
        let mut name = Vec::new();
        orders.read_until(END_OF_NAME, &mut name)?;
        if name.pop() != Some(END_OF_NAME) {
            return Ok(());
        }
        directory = PathBuf::from(OsStr::from_bytes(&name));
    }
}
