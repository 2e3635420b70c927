//! Being the manager of a task: taking it, working on it, and the last words.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use protocol::exit;
use serde_json::{Value, json};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use super::error::CliError;
use super::inspect::point_table;
use super::open::Opened;
use super::output::{Output, print, remark};
use crate::backend::{Backend, Local, Slurm, job_is_over};
use crate::coordinator::{self, Coordinator, Halt, Observer};
use crate::host::{Liveness, ProcessIdentity};
use crate::journal::{Claim, Journal, last_holder};
use crate::report::{self, Lines, Live};
use crate::state::{Event, State, TaskEnd};
use crate::task::{Placement, Request, Settings, Task, TaskDirectory};

/// Points of the table at the end.
const SHOWN_AT_THE_END: usize = 10;

/// What the manager is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run the task to its end.
    Run,
    /// The same, with everything that failed tried again, and a search of more points if so many are named.
    Retry { max_points: Option<u32> },
    /// To do what the user asked of the task, without a word.
    WindUp,
}

/// How the manager is to behave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) purpose: Purpose,
    pub(super) take_over: bool,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

/// Whether the last manager worked in a job on another machine, and that job is over: started once more on another node, a job goes
/// on with its task.
fn is_left_behind(root: &Path) -> bool {
    let Some(holder) = last_holder(root).filter(|holder| holder.liveness() == Liveness::Elsewhere) else {
        return false;
    };
    let own = ProcessIdentity::current().job;
    let over = holder
        .job
        .as_ref()
        .is_some_and(|job| own.as_ref() == Some(job) || job_is_over(job));
    if over {
        remark(&format!(
            "the job in which this task was run on host `{}` is over; going on here",
            holder.host
        ));
    }
    over
}

/// Whether evaluations can run where they are to run.
pub(super) fn check(placement: &Placement) -> Result<(), CliError> {
    if let Placement::Slurm(jobs) = placement
        && let Some(doubt) = jobs.check()?
    {
        remark(&format!("{doubt}; what is submitted waits for it"));
    }
    Ok(())
}

fn backend_of(
    settings: &Settings,
    task: &Task,
    directory: &TaskDirectory,
    executable: &Path,
) -> Result<Box<dyn Backend>, CliError> {
    Ok(match &settings.placement {
        Placement::Local => {
            let most = settings.slots.saturating_mul(task.segments.len().max(1) as u32);
            Box::new(Local::new(executable.to_owned(), directory.root().to_owned(), most))
        }
        Placement::Slurm(jobs) => {
            let slurm = Slurm::new(directory, jobs.clone(), executable);
            Box::new(slurm.map_err(|source| CliError::io("jobs of Slurm cannot be prepared", source))?)
        }
    })
}

/// Takes the task and works on it; `placement` is where its evaluations run from now on, if not where they did.
pub(super) fn manage(
    directory: &TaskDirectory,
    manner: Manner,
    new: Option<(&Task, &Path)>,
    placement: Option<Placement>,
) -> Result<u8, CliError> {
    let root = directory.root();
    let failed = |what: &str| format!("`{}` {what}", root.display());
    crate::files::create_private_directory(root).map_err(|source| CliError::io(failed("cannot be created"), source))?;
    let take_over = manner.take_over || is_left_behind(root);
    let mut claim = Claim::take(root, take_over)?;
    if let Some((task, base)) = new
        && !directory.exists()
    {
        task.write(directory, base)?;
    }
    let (task, _, digest) = Task::read(directory)?;
    // Read again under the lock: another manager may have worked until a moment ago.
    let opened = Opened::read(root)?;
    let mut settings = opened.settings;
    if let Some(shares) = &mut settings.shares {
        shares.look().map_err(CliError::Usage)?;
    }
    settings.placement = placement.unwrap_or(settings.placement);
    if new.is_none() && manner.purpose != Purpose::WindUp {
        check(&settings.placement)?;
    }
    claim.raise_above(root, opened.contents.epoch)?;
    let mut journal = Journal::open(&directory.journal(), &opened.contents, claim)?;
    if opened.contents.torn_bytes > 0 {
        remark(&format!(
            "{} bytes of an unfinished journal record were cut off",
            opened.contents.torn_bytes
        ));
    }
    let mut state = opened.state;
    if manner.purpose != Purpose::WindUp && directory.request() == Some(Request::Pause) {
        directory.withdraw_request();
    }
    let mut events = Vec::new();
    if state.created.is_none() {
        events.push(Event::Created {
            task: task.id.clone(),
            digest,
        });
    }
    let time = coordinator::now();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    if state.end.is_none() || matches!(manner.purpose, Purpose::Retry { .. }) {
        events.push(Event::Started {
            process: ProcessIdentity::current(),
            version,
            time,
        });
    }
    if let Purpose::Retry { max_points } = manner.purpose {
        if let Some(max_points) = max_points.filter(|points| *points > settings.max_points) {
            events.push(Event::Extended { max_points, time });
            settings.extend(Some(max_points));
        }
        events.push(Event::Reopened { time });
    }
    let settings = &settings;
    let mut texts = Vec::new();
    for event in &events {
        state.apply(event).expect("a manager may always start");
        texts.push(serde_json::to_string(event).expect("events are plain data"));
    }
    if !texts.is_empty() {
        journal.commit(&texts)?;
        journal.forget_earlier_epochs();
    }

    let interrupts = Arc::new(AtomicUsize::new(0));
    let waker = install_signals(&interrupts)?;
    raise_descriptor_limit();
    let executable = std::env::current_exe().map_err(|source| CliError::io("the path of `hpo` is unknown", source))?;
    let path = search_path(&executable);
    let points = settings.max_points * task.segments.len().max(1) as u32;
    let live = std::io::stderr().is_terminal() && !manner.quiet && !manner.json && manner.purpose != Purpose::WindUp;
    let mut lines = Lines::new(points, manner.quiet);
    let mut screen = live.then(|| Live::new(directory.clone(), points));
    let observer: &mut dyn Observer = match &mut screen {
        Some(screen) => screen,
        None => &mut lines,
    };
    let mut coordinator = Coordinator {
        directory,
        task: &task,
        settings,
        scheduler: settings.watching_scheduler(),
        state,
        journal,
        backend: backend_of(settings, &task, directory, &executable)?,
        observer,
        executable,
        path,
        interrupts: Arc::clone(&interrupts),
        waker,
        take_over,
        flow: coordinator::Flow::default(),
    };
    let halt = coordinator.run();
    if halt.is_ok() {
        coordinator.leave();
    }
    // After an error another manager may be at work, or the disk is not sound.
    if halt.is_ok() {
        coordinator.write_results(true);
    }
    let state = coordinator.state;
    if let Some(screen) = &screen {
        screen.clear();
    }
    let halt = halt?;
    if manner.purpose == Purpose::WindUp {
        return Ok(exit::DONE);
    }
    print(
        &Summary {
            directory,
            task: &task,
            settings,
            state: &state,
        },
        manner.json,
    )?;
    Ok(conclude(directory, &state, &halt, &interrupts))
}

/// The last words and the exit code.
fn conclude(directory: &TaskDirectory, state: &State, halt: &Halt, interrupts: &AtomicUsize) -> u8 {
    let root = directory.root().display();
    if *halt == Halt::Interrupted {
        if directory.request() == Some(Request::Pause) {
            remark(&format!("paused; `hpo resume {root}` goes on"));
            return exit::INTERRUPTED;
        }
        remark(&format!("interrupted; resume with `hpo run --taskDir {root}`"));
        return if interrupts.load(Ordering::Relaxed) >= TERMINATED {
            exit::TERMINATED
        } else {
            exit::INTERRUPTED
        };
    }
    match &state.end {
        Some(TaskEnd::Finished { .. }) if !state.ranking().is_empty() => exit::DONE,
        Some(TaskEnd::Finished { .. }) => {
            if state.points.is_empty() {
                remark("steering proposed no point at all");
            } else {
                remark(&format!(
                    "no point has a loss; `hpo logs {root} 1` shows what an evaluation printed, `hpo retry {root}` tries again"
                ));
            }
            exit::FAILED
        }
        Some(TaskEnd::Failed { reason }) => {
            remark(&format!("the task failed: {reason}"));
            remark(&format!("`hpo retry {root}` tries again"));
            exit::FAILED
        }
        Some(TaskEnd::Killed) => {
            remark(&format!("the task was ended by `hpo kill`; `hpo retry {root}` goes on"));
            exit::FAILED
        }
        None => exit::FAILED,
    }
}

/// Added to the count of interrupts by SIGTERM, so that one number tells how often and by what.
const TERMINATED: usize = 1 << 16;

fn install_signals(interrupts: &Arc<AtomicUsize>) -> Result<UnixStream, CliError> {
    let install = || -> std::io::Result<UnixStream> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGCHLD, write.try_clone()?)?;
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let interrupts = Arc::clone(interrupts);
        std::thread::Builder::new().spawn(move || {
            let mut waker = write;
            for signal in signals.forever() {
                let before = interrupts.load(Ordering::Relaxed) % TERMINATED;
                let mark = if signal == SIGTERM { TERMINATED } else { 0 };
                let marked = interrupts.load(Ordering::Relaxed) >= TERMINATED;
                interrupts.store(before + 1 + if marked { TERMINATED } else { mark }, Ordering::Relaxed);
                if before == 0 {
                    remark("stopping: running evaluations save a checkpoint and end; once more ends them at once");
                }
                let _ = std::io::Write::write(&mut waker, &[0]);
            }
        })?;
        Ok(read)
    };
    install().map_err(|source| CliError::io("signals cannot be handled", source))
}

/// Each runner takes a descriptor of ours.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Our own programs lie beside `hpo`, and are found before others of their names.
pub(super) fn search_path(executable: &Path) -> String {
    let own = crate::files::parent_of(executable).display().to_string();
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{own}:{path}"),
        _ => format!("{own}:/usr/local/bin:/usr/bin:/bin"),
    }
}

struct Summary<'a> {
    directory: &'a TaskDirectory,
    task: &'a Task,
    settings: &'a Settings,
    state: &'a State,
}

impl Output for Summary<'_> {
    fn json(&self) -> Value {
        let mut document = report::show(self.task, self.state, "interrupted");
        if let Some(found) = report::two_step_json(self.task, self.state, self.settings) {
            document["two_step"] = found;
        }
        document["directory"] = json!(self.directory.root().display().to_string());
        document
    }

    fn text(&self) -> String {
        let ranking = self.state.ranking();
        let mut text = String::new();
        for segment in self.task.segment_ids() {
            let best: Vec<_> = ranking
                .iter()
                .filter(|point| point.segment == segment)
                .take(SHOWN_AT_THE_END)
                .copied()
                .collect();
            if !best.is_empty() {
                text.push_str(&point_table(self.task, &best));
            }
        }
        let failed = self
            .state
            .points
            .iter()
            .filter(|point| point.word() == "failed")
            .count();
        let all = self.state.points.len();
        let _ = write!(text, "{} of {all} points have a loss", ranking.len());
        if failed > 0 {
            let _ = write!(text, ", {failed} failed");
        }
        let certainty = report::two_step_text(self.task, self.state, self.settings);
        if !certainty.is_empty() {
            let _ = write!(text, "\n{}", certainty.trim_end());
        }
        let root = self.directory.root().display();
        let _ = write!(text, "\nresults     {root}/results.json\n");
        let has_metrics =
            |point: &crate::state::PointState| point.further().is_some_and(|further| further.metrics.is_some());
        if self.state.points.iter().any(has_metrics) {
            let _ = writeln!(text, "metrics     {root}/metrics");
        }
        let _ = writeln!(text, "evaluations {root}/points");
        text
    }
}
