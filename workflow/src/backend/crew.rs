//! Runners that this manager has started, each for one attempt after another.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::runner;

/// A runner of ours.
#[derive(Debug)]
pub(super) struct Member {
    child: Child,
    orders: ChildStdin,
    ends: ChildStdout,
    /// It was asked to end, so nothing more is given to it: nobody could say which attempt the request would meet.
    is_leaving: bool,
}

/// What a runner has said of its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing yet.
    Nothing,
    /// The attempt is over, and it waits for another.
    Over,
    /// It is gone, or going.
    Gone,
}

impl Member {
    /// A new runner with its first attempt.
    pub(super) fn start(executable: &Path, attempt: &Path) -> io::Result<Member> {
        let mut command = Command::new(executable);
        command.args([runner::SUBCOMMAND, runner::CREW]).arg(attempt);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (orders, ends) = pipes.ok_or_else(|| io::Error::other("a runner without pipes"))?;
        rustix::io::ioctl_fionbio(&ends, true)?;
        Ok(Member {
            child,
            orders,
            ends,
            is_leaving: false,
        })
    }

    /// Gives it another attempt. An error means that it is gone and has not taken it.
    pub(super) fn give(&mut self, attempt: &Path) -> io::Result<()> {
        let mut name = attempt.as_os_str().as_bytes().to_vec();
        name.push(runner::END_OF_NAME);
        self.orders.write_all(&name)
    }

    /// What it has said since it was given its attempt.
    pub(super) fn hear(&mut self) -> Said {
        match self.ends.read(&mut [0]) {
            Ok(0) => Said::Gone,
            Ok(_) if self.is_leaving => Said::Gone,
            Ok(_) => Said::Over,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Said::Nothing,
            Err(_) => Said::Gone,
        }
    }

    /// Asks it to save a checkpoint and end; asked again, it ends at once.
    pub(super) fn cancel(&mut self) {
        self.is_leaving = true;
        // Nobody else takes its status, so the id is still its own.
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// Becomes readable when there is something to hear.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.ends.as_fd()
    }

    /// Lets it go, and returns when it is gone. One at work would not be let go, but left to itself.
    pub(super) fn dismiss(self) {
        let Member { mut child, orders, .. } = self;
        drop(orders);
        let _ = child.wait();
    }
}
