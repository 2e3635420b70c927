//! One command under control: its output is kept within limits, its time too, and none of its processes survives it.
//!
//! The caller's process becomes a child subreaper: whatever a payload starts, however it detaches, ends up as a child of this
//! process when its parent dies. So "no child is left" means that nothing is left.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use super::course::{Course, Intervention, Step};
use super::group::Group;
use super::log::{CappedLog, LOG_LIMIT};
use super::plain;
use crate::host::{Stat, all_processes};

/// What to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// For `sh -c`.
    pub(crate) command: String,
    pub(crate) work_directory: PathBuf,
    /// Where `stdout.log` and `stderr.log` go.
    pub(crate) log_directory: PathBuf,
    /// Set in the environment, in addition to what is inherited.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) timeout: Option<Duration>,
    /// Between the request to end and the end by force.
    pub(crate) grace: Duration,
    /// For `sh -c` when the command has not ended well: removes what no signal reaches, such as a container of a daemon.
    #[serde(default)]
    pub(crate) afterwards: Option<String>,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) intervention: Intervention,
    /// Processes that could not be killed.
    pub(crate) survivors: usize,
}

/// Signals of this process, as flags and as something to wait for.
#[derive(Debug)]
pub(crate) struct Signals {
    pipe: UnixStream,
    stop: Arc<AtomicBool>,
    checkpoint: Arc<AtomicBool>,
    /// Requests to stop that come closer together are one.
    same: Cell<Duration>,
    stopped: Cell<Option<Instant>>,
}

impl Signals {
    /// Takes SIGTERM and SIGINT as "stop", SIGUSR1 as "checkpoint now"; SIGHUP is ignored.
    pub(crate) fn install() -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        let signals = Signals {
            pipe: read,
            stop: Arc::new(AtomicBool::new(false)),
            checkpoint: Arc::new(AtomicBool::new(false)),
            same: Cell::new(Duration::ZERO),
            stopped: Cell::new(None),
        };
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&signals.stop))?;
        }
        signal_hook::flag::register(SIGUSR1, Arc::clone(&signals.checkpoint))?;
        for signal in [SIGTERM, SIGINT, SIGUSR1, SIGCHLD, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(signals)
    }

    /// From now on, requests to stop that come within this time of each other are one.
    pub(super) fn take_as_one_within(&self, time: Duration) {
        self.same.set(time);
    }

    /// Whether this process was asked to stop since the last call.
    pub(crate) fn take_stop(&self) -> bool {
        if !self.stop.swap(false, Ordering::Relaxed) {
            return false;
        }
        if self.stopped.get().is_some_and(|at| at.elapsed() < self.same.get()) {
            return false;
        }
        self.stopped.set(Some(Instant::now()));
        true
    }

    /// Whether this process was ever asked to stop.
    pub(super) fn was_asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.stopped.get().is_some()
    }

    /// Whether a checkpoint was asked for since the last call.
    pub(super) fn take_checkpoint(&self) -> bool {
        self.checkpoint.swap(false, Ordering::Relaxed)
    }

    /// Returns when a signal has come, or after the time.
    pub(super) fn wait(&self, time: Duration) -> io::Result<()> {
        let mut descriptors = [PollFd::new(&self.pipe, PollFlags::IN)];
        let time = Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        match rustix::event::poll(&mut descriptors, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.drain();
        Ok(())
    }

    /// Returns when a signal has come, or the descriptor is readable or closed at its other end.
    pub(super) fn wait_or_readable(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let mut descriptors = [
            PollFd::new(&self.pipe, PollFlags::IN),
            PollFd::from_borrowed_fd(descriptor, PollFlags::IN),
        ];
        match rustix::event::poll(&mut descriptors, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.drain();
        Ok(())
    }

    fn drain(&self) {
        let mut buffer = [0; 64];
        while matches!((&self.pipe).read(&mut buffer), Ok(count) if count > 0) {}
    }
}

/// Something to do now and then while the command runs.
pub(crate) trait Periodic {
    /// When to call next; `None` if never.
    fn due(&self) -> Option<Instant>;
    /// Called when due, or when a checkpoint is asked for. Must not take long.
    fn run(&mut self);
}

/// Nothing to do.
#[derive(Debug)]
pub(crate) struct Idle;

impl Periodic for Idle {
    fn due(&self) -> Option<Instant> {
        None
    }
    fn run(&mut self) {}
}

/// Runs the command to its end and returns when none of its processes is left.
///
/// # Errors
/// When it could not be started.
pub(crate) fn supervise(launch: &Launch, signals: &Signals, periodic: &mut dyn Periodic) -> io::Result<Ended> {
    let mut child = start(launch)?;
    let pid = Pid::from_child(&child);
    let mut streams = [
        Stream::new(
            child.stdout.take().map(OwnedFd::from),
            launch.log_directory.join("stdout.log"),
        )?,
        Stream::new(
            child.stderr.take().map(OwnedFd::from),
            launch.log_directory.join("stderr.log"),
        )?,
    ];
    let deadline = launch.timeout.map(|timeout| Instant::now() + timeout);
    let mut course = Course::new(deadline, launch.grace);
    let mut status = None;
    loop {
        let left = reap(pid, &mut status);
        let now = Instant::now();
        match course.next(now, status.is_some(), left, &mut || signals.take_stop()) {
            Step::Over => break,
            Step::Ask => {
                let _ = rustix::process::kill_process_group(pid, Signal::TERM);
                let _ = rustix::process::kill_process_group(pid, Signal::CONT);
            }
            Step::Kill => {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            }
            Step::Wait(until) => {
                if signals.take_checkpoint() || periodic.due().is_some_and(|due| now >= due) {
                    periodic.run();
                }
                let until = until.into_iter().chain(periodic.due()).min();
                let wait = until.map(|at| at.saturating_duration_since(now));
                wait_for(signals, &mut streams, wait)?;
            }
        }
    }
    let intervention = course.intervention();
    let survivors = kill_descendants();
    let ended_well = intervention == Intervention::None && status.and_then(WaitStatus::exit_status) == Some(0);
    if let Some(cleaning) = launch.afterwards.as_ref().filter(|_| !ended_well) {
        run_afterwards(cleaning);
    }
    for stream in streams {
        stream.finish();
    }
    let exit = match status.map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(code), _)) => Exit::Code(code),
        Some((None, Some(signal))) => Exit::Signal(signal),
        // Taken away by somebody else, which cannot be, or of a kind that is no end.
        _ => Exit::Signal(0),
    };
    Ok(Ended {
        exit,
        intervention,
        survivors,
    })
}

fn start(launch: &Launch) -> io::Result<Child> {
    let spawn = |mut command: Command| {
        command.current_dir(&launch.work_directory).process_group(0);
        command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn()
    };
    if let Some(command) = plain::command(launch)
        && let Ok(child) = spawn(command)
    {
        return Ok(child);
    }
    // Whatever is wrong with the command, a shell says it in the words that users know.
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(&launch.command);
    spawn(shell)
}

/// Runs what a launch wants done when its command is over. Whether it succeeds tells nothing: mostly there is nothing left.
pub(crate) fn run_afterwards(cleaning: &str) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", cleaning]).stdin(Stdio::null());
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn wait_for(signals: &Signals, streams: &mut [Stream; 2], wait: Option<Duration>) -> io::Result<()> {
    let mut descriptors = vec![PollFd::new(&signals.pipe, PollFlags::IN)];
    for stream in streams.iter() {
        if let Some(descriptor) = &stream.descriptor {
            descriptors.push(PollFd::new(descriptor, PollFlags::IN));
        }
    }
    let timeout = wait.map(|wait| Timespec {
        tv_sec: wait.as_secs() as i64,
        tv_nsec: i64::from(wait.subsec_nanos()),
    });
    match rustix::event::poll(&mut descriptors, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    drop(descriptors);
    signals.drain();
    for stream in streams {
        // Bounded, so that a flood of output delays no deadline.
        stream.read(64);
    }
    Ok(())
}

/// Collects ended children, keeps the status of `pid`, and tells whether any child is left.
fn reap(pid: Pid, status: &mut Option<WaitStatus>) -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((ended, how))) if ended == pid => *status = Some(how),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// How long to try to kill what is left. Only a process that the kernel itself holds takes that long.
const KILL_PATIENCE: Duration = Duration::from_mins(1);

/// How long to kill one by one before the rest is put into a group.
const WALK: Duration = Duration::from_millis(100);

/// Kills everything that descends from this process, until nothing is left; returns how many could not be killed.
fn kill_descendants() -> usize {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut group = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => continue,
            Ok(None) => {}
            Err(_) => return 0,
        }
        let left = descendants(std::process::id() as i32);
        if begin.elapsed() > KILL_PATIENCE {
            return left.len().max(1);
        }
        if begin.elapsed() > WALK && group.is_none() {
            group = Some(Group::create());
        }
        if let Some(Some(group)) = &group {
            for pid in &left {
                group.take(*pid);
            }
            group.kill();
        }
        for pid in left {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        // A killed process needs a moment to die, and an orphan to come to us.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn descendants(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = all_processes()
        .into_iter()
        .filter_map(|pid| Some((pid, Stat::of(pid)?.parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        next += 1;
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
    }
    found.remove(0);
    found
}

/// One output stream of the payload.
#[derive(Debug)]
struct Stream {
    descriptor: Option<OwnedFd>,
    log: CappedLog,
}

impl Stream {
    fn new(descriptor: Option<OwnedFd>, path: PathBuf) -> io::Result<Stream> {
        if let Some(descriptor) = &descriptor {
            rustix::io::ioctl_fionbio(descriptor.as_fd(), true)?;
        }
        Ok(Stream {
            descriptor,
            log: CappedLog::new(path, LOG_LIMIT),
        })
    }

    /// Takes what is there, at most `pieces` times 16 KiB.
    fn read(&mut self, pieces: usize) {
        let mut buffer = [0_u8; 16384];
        for _ in 0..pieces {
            let Some(descriptor) = &self.descriptor else { return };
            match rustix::io::read(descriptor, &mut buffer) {
                Ok(0) => self.descriptor = None,
                // A full disk must not stop the payload; its output is then lost.
                Ok(count) => drop(self.log.push(&buffer[..count])),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.descriptor = None,
            }
        }
    }

    fn finish(mut self) {
        // All writers are dead: what is left is at most a pipe's capacity.
        self.read(1024);
        let _ = self.log.finish();
    }
}

/// The last line of a log with something in it, for messages, with control characters escaped.
pub(crate) fn last_line(path: &Path) -> Option<String> {
    use std::io::{Seek, SeekFrom};
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096))).ok()?;
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    let short: String = line.chars().take(300).collect();
    Some(crate::report::escape(&short))
}
