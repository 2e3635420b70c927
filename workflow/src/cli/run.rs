//! `hpo run` and `hpo retry`.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use protocol::task_options::TaskOptions;
use protocol::exit;
use serde_json::{Value, json};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use super::arguments::{RetryArguments, RunArguments};
use super::error::CliError;
use super::inspect::point_table;
use super::open::{Opened, absolute, replay};
use super::output::{Output, print, remark};
use crate::backend::Local;
use crate::coordinator::{self, Coordinator, Halt, Observer};
use crate::host::ProcessIdentity;
use crate::journal::{self, Claim, Journal};
use crate::report::{self, Lines, Live, escape};
use crate::state::{Event, State, TaskEnd};
use crate::task::{Placeholders, Settings, Sources, Task, TaskDirectory, prepare, with_defaults};

/// Points of the table at the end.
const SHOWN_AT_THE_END: usize = 10;

/// How the manager is to behave.
#[derive(Debug, Clone, Copy)]
struct Manner {
    take_over: bool,
    json: bool,
    quiet: bool,
    reopen: bool,
    silent: bool,
}

pub(super) fn run(arguments: RunArguments) -> Result<u8, CliError> {
    let file = arguments.task.or(arguments.load_json);
    let current = absolute(Path::new("."))?;
    let from_line = with_absolute_paths(&arguments.options, &current)?;
    let (options, base, named) = match &file {
        Some(path) => {
            let path = absolute(path)?;
            let (from_file, warnings) = TaskOptions::read(&path).map_err(crate::task::TaskError::Document)?;
            for warning in warnings {
                remark(&format!("task file `{}`: {warning}", path.display()));
            }
            let base = crate::files::parent_of(&path).to_owned();
            let from_file = with_absolute_paths(&from_file, &base)?;
            let (options, overridden) = from_line.over(&from_file);
            for key in overridden {
                remark(&format!("option `{key}` of the command line overrides that of the task file"));
            }
            (options, base, true)
        }
        None => (from_line.clone(), current, from_line != TaskOptions::default()),
    };
    let name = options.out_ds.clone().unwrap_or_else(|| {
        let folder = base.file_name().map(|name| name.to_string_lossy().into_owned());
        arguments.manager.task_dir.as_deref().and_then(Path::file_name).map_or_else(
            || folder.unwrap_or_else(|| "task".to_owned()),
            |name| name.to_string_lossy().into_owned(),
        )
    });
    let directory = match &arguments.manager.task_dir {
        Some(path) => absolute(path)?,
        None if named => {
            let safe: String = name
                .trim_end_matches('/')
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
                .collect();
            absolute(Path::new(&format!("hpo-{safe}")))?
        }
        None => {
            return Err(CliError::Usage(
                "nothing to run: name a task file, as in `hpo run task.json`, or a task to resume with `--taskDir`".to_owned(),
            ));
        }
    };
    let directory = TaskDirectory::new(directory);
    let manner = Manner {
        take_over: arguments.manager.take_over,
        json: arguments.manager.json,
        quiet: arguments.manager.quiet,
        reopen: false,
        silent: false,
    };
    if let Some(path) = &arguments.dump_json {
        let text = serde_json::to_string_pretty(&with_defaults(&options)).map_err(std::io::Error::from);
        let written = text.and_then(|text| protocol::json::write_atomically(path, (text + "\n").as_bytes()));
        written.map_err(|source| CliError::io(format!("`{}` cannot be written", path.display()), source))?;
    }
    if directory.exists() {
        if named {
            check_same(&directory, &options, arguments.options.out_ds.is_some() || options.out_ds.is_some())?;
        }
        if options.no_submit == Some(true) {
            let (task, settings, _) = Task::read(&directory)?;
            print(&Plan { directory: &directory, task: &task, settings: &settings }, manner.json)?;
            return Ok(exit::DONE);
        }
        if !manner.silent && directory.journal().exists() {
            remark(&format!("resuming task `{}`", directory.root().display()));
        }
        return manage(&directory, manner, None);
    }
    if !named {
        return Err(CliError::Usage(format!(
            "`{}` is not a task directory, there is nothing to resume; name a task file, as in `hpo run task.json`",
            directory.root().display()
        )));
    }
    check_free(&directory)?;
    let sources = Sources { options: options.clone(), base: base.clone(), name };
    let (task, settings) = prepare(&sources)?;
    tell_warnings(&task, &settings, &options);
    if options.no_submit == Some(true) {
        print(&Plan { directory: &directory, task: &task, settings: &settings }, manner.json)?;
        return Ok(exit::DONE);
    }
    manage(&directory, manner, Some((&task, &base)))
}

pub(super) fn retry(arguments: &RetryArguments) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    let failed = opened.state.points.iter().any(|point| point.word() == "failed");
    if !failed && opened.state.steering_failures.is_empty() && !matches!(opened.state.end, Some(TaskEnd::Killed)) {
        remark("no point of this task has failed, there is nothing to try again");
    }
    let RetryArguments { take_over, json, quiet, .. } = *arguments;
    let _ = fs::remove_file(opened.directory.kill_request());
    manage(&opened.directory, Manner { take_over, json, quiet, reopen: true, silent: false }, None)
}

/// Becomes the manager only to end the task.
pub(super) fn wind_up(arguments: &RetryArguments) -> Result<u8, CliError> {
    let directory = TaskDirectory::new(absolute(&arguments.directory)?);
    let manner =
        Manner { take_over: arguments.take_over, json: false, quiet: true, reopen: false, silent: true };
    manage(&directory, manner, None)
}

/// Paths in options are relative to the file that has them; absolute, they can be mixed.
fn with_absolute_paths(options: &TaskOptions, base: &Path) -> Result<TaskOptions, CliError> {
    let mut options = options.clone();
    for path in [&mut options.search_space_file, &mut options.segment_spec_file].into_iter().flatten() {
        let full = base.join(&*path);
        *path = text_of(&full)?;
    }
    if let Some(list) = &mut options.training_ds {
        let mut items = Vec::new();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let is_url = item.starts_with("http://") || item.starts_with("https://");
            items.push(if is_url { item.to_owned() } else { text_of(&base.join(item))? });
        }
        *list = items.join(",");
    }
    Ok(options)
}

fn text_of(path: &Path) -> Result<String, CliError> {
    let path: PathBuf = absolute(path)?;
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| crate::task::TaskError::NotUtf8 { path: path.clone() }.into())
}

/// A task is frozen: what is asked for now must be what was asked for then.
fn check_same(directory: &TaskDirectory, options: &TaskOptions, named: bool) -> Result<(), CliError> {
    let (task, _, _) = Task::read(directory)?;
    let normal = |options: &TaskOptions| {
        let mut options = with_defaults(options);
        options.no_submit = None;
        options.verbose = None;
        if !named {
            options.out_ds = None;
        }
        serde_json::to_value(options).unwrap_or_default()
    };
    let (now, then) = (normal(options), normal(&task.options));
    let empty = serde_json::Map::new();
    let (now, then) = (now.as_object().unwrap_or(&empty), then.as_object().unwrap_or(&empty));
    let keys: std::collections::BTreeSet<&String> = now.keys().chain(then.keys()).collect();
    let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let different: Vec<String> = keys
        .into_iter()
        .filter(|key| now.get(*key) != then.get(*key))
        .map(|key| format!("`{key}` was {}, is {} now", shown(then.get(key)), shown(now.get(key))))
        .collect();
    if different.is_empty() {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "task `{}` was begun with other options: {}; resume it with `hpo run --taskDir {0}` alone, or begin a new one with another `--taskDir`",
        directory.root().display(),
        different.join("; ")
    )))
}

/// A new task takes an empty directory, or one that a start which did not get far has left.
fn check_free(directory: &TaskDirectory) -> Result<(), CliError> {
    let root = directory.root();
    match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CliError::io(format!("`{}` cannot be read", root.display()), source)),
        Ok(entries) => {
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let ours = ["sandbox", "points", "metrics", "epochs", "lock"].contains(&name.as_str())
                    || (name.starts_with(".task.json.") && name.ends_with(".tmp"));
                if !ours {
                    return Err(CliError::Usage(format!(
                        "`{}` holds `{}` and is not a task directory; choose an empty or new directory with `--taskDir`",
                        root.display(),
                        escape(&name)
                    )));
                }
            }
            Ok(())
        }
    }
}

fn tell_warnings(task: &Task, settings: &Settings, options: &TaskOptions) {
    let (_, warnings) = coordinator::plan_orders(task, settings);
    let steering = Placeholders::steering(1, 1, "in", "out").expand(&settings.steering_exec);
    for warning in steering.warnings {
        remark(&format!("steering: {warning}"));
    }
    for warning in warnings {
        remark(&warning);
    }
    for (key, image) in
        [("steeringContainer", &options.steering_container), ("evaluationContainer", &options.evaluation_container)]
    {
        if let Some(image) = image.as_deref().filter(|image| !image.is_empty()) {
            remark(&format!("`{key}` (`{}`) is left aside, its command runs on this machine", escape(image)));
        }
    }
    let grid = [
        ("architecture", options.architecture.is_some()),
        ("site", options.site.is_some()),
        ("workingGroup", options.working_group.is_some()),
        ("vomsRoles", options.voms_roles.is_some()),
        ("official", options.official == Some(true)),
        ("alrbArgs", options.alrb_args.is_some()),
    ];
    for (key, _) in grid.iter().filter(|(_, given)| *given) {
        remark(&format!("option `{key}` concerns the grid and has no effect here"));
    }
}

/// What would be run.
struct Plan<'a> {
    directory: &'a TaskDirectory,
    task: &'a Task,
    settings: &'a Settings,
}

impl Output for Plan<'_> {
    fn json(&self) -> Value {
        let state = State::new(self.settings.retry);
        let asked = coordinator::points_to_ask(&state, self.settings, &self.task.segment_ids());
        let most = self.settings.max_points * self.task.segments.len().max(1) as u32;
        let steering = Placeholders::steering(most, asked.unwrap_or(0), "idds_input.json", "output.json");
        json!({
            "task": self.task.name,
            "directory": self.directory.root().display().to_string(),
            "steering": steering.expand(&self.settings.steering_exec).command,
            "evaluations": coordinator::plan_orders(self.task, self.settings).0,
            "sandbox": self.task.sandbox.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>(),
            "training": self.task.training,
            "segments": self.task.segments,
            "options": self.task.options,
        })
    }

    fn text(&self) -> String {
        let plan = self.json();
        let mut text = format!("task {} in {}\n", escape(&self.task.name), self.directory.root().display());
        text.push_str(&format!("steering    {}\n", escape(plan["steering"].as_str().unwrap_or_default())));
        let names = self.task.segments.iter().map(|segment| Some(segment.name.as_str())).chain(std::iter::repeat(None));
        for (command, name) in plan["evaluations"].as_array().into_iter().flatten().zip(names) {
            let name = name.map(|name| format!("[{name}] ")).unwrap_or_default();
            text.push_str(&format!("evaluation  {name}{}\n", escape(command.as_str().unwrap_or_default())));
        }
        for file in &self.task.sandbox {
            text.push_str(&format!("sandbox     {} ({} bytes)\n", escape(&file.path.display().to_string()), file.bytes));
        }
        for file in self.task.training.iter().flatten() {
            text.push_str(&format!("training    {}\n", escape(file)));
        }
        for (key, value) in plan["options"].as_object().into_iter().flatten() {
            text.push_str(&format!("option      {key} = {value}\n"));
        }
        text.push_str("nothing was started (--noSubmit)\n");
        text
    }
}

/// Takes the task and works on it.
fn manage(directory: &TaskDirectory, manner: Manner, new: Option<(&Task, &Path)>) -> Result<u8, CliError> {
    let root = directory.root();
    let failed = |what: &str| format!("`{}` {what}", root.display());
    crate::files::create_private_directory(root)
        .map_err(|source| CliError::io(failed("cannot be created"), source))?;
    let mut claim = Claim::take(root, manner.take_over)?;
    if let Some((task, base)) = new
        && !directory.exists()
    {
        task.write(directory, base)?;
    }
    let (task, settings, digest) = Task::read(directory)?;
    // Read again under the lock: another manager may have worked until a moment ago.
    let opened = Opened::read(root)?;
    let newest = opened.contents.records.last().map_or(0, |record| record.epoch);
    claim.raise_above(root, newest)?;
    let mut journal = Journal::open(&directory.journal(), &opened.contents, claim)?;
    if opened.contents.torn_bytes > 0 {
        remark(&format!("{} bytes of an unfinished journal record were cut off", opened.contents.torn_bytes));
    }
    let mut state = replay(&directory.journal(), &opened.contents, &settings)?;
    let mut events = Vec::new();
    if state.created.is_none() {
        events.push(Event::Created { task: task.id.clone(), digest });
    }
    let time = coordinator::now();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    if state.end.is_none() || manner.reopen {
        events.push(Event::Started { process: ProcessIdentity::current(), version, time });
    }
    if manner.reopen {
        events.push(Event::Reopened { time });
    }
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
    let executable =
        std::env::current_exe().map_err(|source| CliError::io("the path of `hpo` is unknown", source))?;
    let path = search_path(&executable);
    let points = settings.max_points * task.segments.len().max(1) as u32;
    let live = std::io::stderr().is_terminal() && !manner.quiet && !manner.json && !manner.silent;
    let mut lines = Lines::new(points, manner.quiet);
    let mut screen = live.then(|| Live::new(directory.clone(), points));
    let observer: &mut dyn Observer = match &mut screen {
        Some(screen) => screen,
        None => &mut lines,
    };
    let mut coordinator = Coordinator {
        directory,
        task: &task,
        settings: &settings,
        state,
        journal,
        backend: Box::new(Local::new(executable.clone())),
        observer,
        executable,
        path,
        interrupts: Arc::clone(&interrupts),
        waker,
        take_over: manner.take_over,
        flow: coordinator::Flow::default(),
    };
    let halt = coordinator.run();
    coordinator.write_results(true);
    let state = coordinator.state;
    if let Some(screen) = &screen {
        screen.clear();
    }
    let halt = halt?;
    if manner.silent {
        return Ok(exit::DONE);
    }
    print(&Summary { directory, task: &task, state: &state }, manner.json)?;
    Ok(conclude(directory, &state, &halt, &interrupts))
}

/// The last words and the exit code.
fn conclude(directory: &TaskDirectory, state: &State, halt: &Halt, interrupts: &AtomicUsize) -> u8 {
    let root = directory.root().display();
    if *halt == Halt::Interrupted {
        remark(&format!("interrupted; resume with `hpo run --taskDir {root}`"));
        return if interrupts.load(Ordering::Relaxed) >= TERMINATED { exit::TERMINATED } else { exit::INTERRUPTED };
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
        std::thread::spawn(move || {
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
        });
        Ok(read)
    };
    install().map_err(|source| CliError::io("signals cannot be handled", source))
}

/// Each runner takes a descriptor of ours.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Our own programs lie beside `hpo`, and are found before others of their names.
fn search_path(executable: &Path) -> String {
    let own = crate::files::parent_of(executable).display().to_string();
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{own}:{path}"),
        _ => format!("{own}:/usr/local/bin:/usr/bin:/bin"),
    }
}

struct Summary<'a> {
    directory: &'a TaskDirectory,
    task: &'a Task,
    state: &'a State,
}

impl Output for Summary<'_> {
    fn json(&self) -> Value {
        let mut document = report::show(self.task, self.state, "interrupted");
        document["directory"] = json!(self.directory.root().display().to_string());
        document
    }

    fn text(&self) -> String {
        let ranking = self.state.ranking();
        let mut text = String::new();
        for segment in self.task.segment_ids() {
            let best: Vec<_> =
                ranking.iter().filter(|point| point.segment == segment).take(SHOWN_AT_THE_END).copied().collect();
            if !best.is_empty() {
                text.push_str(&point_table(self.task, &best));
            }
        }
        let failed = self.state.points.iter().filter(|point| point.word() == "failed").count();
        let all = self.state.points.len();
        text.push_str(&format!("{} of {all} points have a loss", ranking.len()));
        if failed > 0 {
            text.push_str(&format!(", {failed} failed"));
        }
        let root = self.directory.root().display();
        text.push_str(&format!("\nresults     {root}/results.json\n"));
        if self.state.points.iter().any(|point| {
            matches!(&point.outcome, crate::state::PointOutcome::Done { metrics: Some(_), .. })
        }) {
            text.push_str(&format!("metrics     {root}/metrics\n"));
        }
        text.push_str(&format!("evaluations {root}/points\n"));
        text
    }
}
