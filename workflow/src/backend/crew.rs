//! The runners that this manager has started, and the queue from which they take attempts.

use std::collections::HashSet;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::runner::{self, MESSAGE, attempt_of, message_of};
use crate::state::AttemptKey;

/// Runners of ours, and their queue.
#[derive(Debug)]
pub(super) struct Crew {
    executable: PathBuf,
    /// The task directory.
    root: PathBuf,
    queue: Option<Queue>,
    members: Vec<Member>,
}

/// Both ends of a pipe: one for us, and one for each new runner.
#[derive(Debug)]
struct Queue {
    reader: PipeReader,
    writer: PipeWriter,
}

/// A runner.
#[derive(Debug)]
struct Member {
    child: Child,
    ends: ChildStdout,
    /// The beginning of a message.
    begun: Vec<u8>,
    /// It was asked to end, and takes nothing more.
    is_leaving: bool,
}

/// What the runners have said since the last time.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Attempts that are over, or were found to be somebody else's.
    pub(super) over: HashSet<AttemptKey>,
    /// Whether a runner is gone. What it had taken, nobody else will.
    pub(super) is_one_gone: bool,
}

impl Crew {
    /// Nobody yet; runners are started from this very program.
    pub(super) fn new(executable: PathBuf, root: PathBuf) -> Crew {
        Crew {
            executable,
            root,
            queue: None,
            members: Vec::new(),
        }
    }

    /// Starts runners until there are so many.
    ///
    /// # Errors
    /// When there is none, and none can be started.
    pub(super) fn staff(&mut self, wanted: usize) -> io::Result<()> {
        let mut there = self.members.iter().filter(|member| !member.is_leaving).count();
        while there < wanted {
            match self.start() {
                Ok(member) => self.members.push(member),
                Err(error) if there == 0 => return Err(error),
                // Those that are there do all of it, only later.
                Err(_) => return Ok(()),
            }
            there += 1;
        }
        Ok(())
    }

    fn queue(&mut self) -> io::Result<&mut Queue> {
        Ok(match &mut self.queue {
            Some(queue) => queue,
            none => {
                let (reader, writer) = io::pipe()?;
                none.insert(Queue { reader, writer })
            }
        })
    }

    fn start(&mut self) -> io::Result<Member> {
        let queue = self.queue()?.reader.try_clone()?;
        let mut command = Command::new(&self.executable);
        command.args([runner::SUBCOMMAND, runner::CREW]).arg(&self.root);
        command.stdin(queue).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let ends = child.stdout.take();
        let ends = ends.ok_or_else(|| io::Error::other("a runner without a pipe"))?;
        rustix::io::ioctl_fionbio(&ends, true)?;
        Ok(Member {
            child,
            ends,
            begun: Vec::new(),
            is_leaving: false,
        })
    }

    /// Puts an attempt into the queue.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn give(&mut self, key: AttemptKey) -> io::Result<()> {
        self.queue()?.writer.write_all(&message_of(key))
    }

    /// Listens to everybody.
    pub(super) fn hear(&mut self) -> Said {
        let mut said = Said::default();
        let mut gone = Vec::new();
        for (index, member) in self.members.iter_mut().enumerate() {
            if !member.hear(&mut said.over) {
                gone.push(index);
            }
        }
        for index in gone.into_iter().rev() {
            let mut member = self.members.swap_remove(index);
            // From here on its claim is that of a process that is dead.
            let _ = member.child.wait();
            said.is_one_gone = true;
        }
        said
    }

    /// Asks everybody to save a checkpoint and end; asked again, they end at once.
    pub(super) fn cancel(&mut self) {
        for member in &mut self.members {
            member.is_leaving = true;
            // Nobody else takes its status, so the id is still its own.
            let _ = rustix::process::kill_process(Pid::from_child(&member.child), Signal::TERM);
        }
    }

    /// Readable when there is something to hear.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.members.iter().map(|member| member.ends.as_fd())
    }

    /// Lets everybody go; `all_idle` says that nobody is at work, so that it does not take long to see them gone.
    pub(super) fn dismiss(&mut self, all_idle: bool) {
        self.queue = None;
        for mut member in self.members.drain(..).filter(|_| all_idle) {
            let _ = member.child.wait();
        }
    }
}

impl Member {
    /// Takes what it has said; false when it is gone.
    fn hear(&mut self, over: &mut HashSet<AttemptKey>) -> bool {
        let mut buffer = [0; 16 * MESSAGE];
        loop {
            match self.ends.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.begun.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
            while let Some((message, _)) = self.begun.split_first_chunk::<MESSAGE>() {
                over.insert(attempt_of(*message));
                self.begun.drain(..MESSAGE);
            }
        }
    }
}
