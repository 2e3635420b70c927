//! `hpo run` and `hpo retry`.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::exit;
use protocol::task_options::{ContainerRuntime, TaskOptions};
use serde_json::Value;

use super::arguments::{MannerArguments, ResumeArguments, RetryArguments, RunArguments};
use super::detach;
use super::error::CliError;
use super::manage::{Manner, Purpose, check, manage};
use super::open::{Opened, absolute};
use super::output::{print, remark};
use super::panda;
use super::plan::Plan;
use crate::coordinator;
use crate::report::escape;
use crate::state::TaskEnd;
use crate::task::{
    Containers, MANAGER_LOG, Placeholders, Placement, Settings, Sources, Task, TaskDirectory, prepare, with_defaults,
};

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
                remark(&format!(
                    "option `{key}` of the command line overrides that of the task file"
                ));
            }
            (options, base, true)
        }
        None => (from_line.clone(), current, from_line != TaskOptions::default()),
    };
    let name = options.out_ds.clone().unwrap_or_else(|| {
        let folder = base.file_name().map(|name| name.to_string_lossy().into_owned());
        arguments
            .manager
            .task_dir
            .as_deref()
            .and_then(Path::file_name)
            .map_or_else(
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
                .map(|c| {
                    if c.is_ascii_alphanumeric() || "._-".contains(c) {
                        c
                    } else {
                        '_'
                    }
                })
                .collect();
            absolute(Path::new(&format!("hpo-{safe}")))?
        }
        None => {
            return Err(CliError::Usage(
                "nothing to run: name a task file, as in `hpo run task.json`, or a task to resume with `--taskDir`"
                    .to_owned(),
            ));
        }
    };
    let directory = TaskDirectory::new(directory);
    let switches = arguments.manager.manner;
    let manner = manner(Purpose::Run, switches);
    if let Some(path) = &arguments.dump_json {
        let text = serde_json::to_string_pretty(&with_defaults(&options)).map_err(std::io::Error::from);
        let written = text.and_then(|text| protocol::json::write_atomically(path, (text + "\n").as_bytes()));
        written.map_err(|source| CliError::io(format!("`{}` cannot be written", path.display()), source))?;
    }
    if directory.exists() {
        if named {
            check_same(
                &directory,
                &options,
                arguments.options.out_ds.is_some() || options.out_ds.is_some(),
            )?;
        }
        if options.no_submit == Some(true) {
            let (task, settings, _) = Task::read(&directory)?;
            print(
                &Plan {
                    directory: &directory,
                    task: &task,
                    settings: &settings,
                },
                manner.json,
            )?;
            return Ok(exit::DONE);
        }
        if directory.journal().exists() {
            remark(&format!("resuming task `{}`", directory.root().display()));
        }
        // Where evaluations run may change on the way.
        let placement = if named { Some(placement_of(&options)?) } else { None };
        return attend(&directory, switches, manner, None, placement);
    }
    if !named {
        return Err(CliError::Usage(format!(
            "`{}` is not a task directory, there is nothing to resume; name a task file, as in `hpo run task.json`",
            directory.root().display()
        )));
    }
    check_free(&directory)?;
    let sources = Sources {
        options: options.clone(),
        base: base.clone(),
        name,
    };
    let (task, settings) = prepare(&sources)?;
    check_bound_paths(&directory, &task, &settings)?;
    tell_warnings(&task, &settings, &options);
    if options.no_submit == Some(true) {
        print(
            &Plan {
                directory: &directory,
                task: &task,
                settings: &settings,
            },
            manner.json,
        )?;
        return Ok(exit::DONE);
    }
    check(&settings.placement)?;
    attend(&directory, switches, manner, Some((&task, &base)), None)
}

fn manner(purpose: Purpose, switches: MannerArguments) -> Manner {
    Manner {
        purpose,
        take_over: switches.take_over,
        json: switches.json,
        quiet: switches.quiet,
    }
}

/// Becomes the manager of the task, or has a process in the background become it.
fn attend(
    directory: &TaskDirectory,
    switches: MannerArguments,
    manner: Manner,
    new: Option<(&Task, &Path)>,
    placement: Option<Placement>,
) -> Result<u8, CliError> {
    if switches.detached {
        // Away from the terminal of the user. Fails only for the leader of a group, which is away from it already.
        let _ = rustix::process::setsid();
    } else if switches.detach {
        return detach::start(directory, switches.json);
    }
    manage(directory, manner, new, placement)
}

pub(super) fn submit(mut arguments: RunArguments) -> Result<u8, CliError> {
    if panda::is_wanted(&arguments)? {
        return panda::submit(&arguments);
    }
    arguments.manager.manner.detach = true;
    run(arguments)
}

pub(super) fn resume(arguments: &ResumeArguments) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    let switches = arguments.manner;
    attend(&opened.directory, switches, manner(Purpose::Run, switches), None, None)
}

pub(super) fn retry(arguments: &RetryArguments) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    let (before, max_points) = (opened.settings.max_points, arguments.max_points);
    match max_points {
        Some(points) if points < before => {
            return Err(CliError::Usage(format!(
                "`--maxPoints` must be at least {before}, the points that the search has already, found {points}"
            )));
        }
        Some(points) if u64::from(points) * opened.task.segments.len() as u64 > u64::from(u32::MAX) => {
            return Err(CliError::Usage(
                "`--maxPoints`: too many points for so many segments".to_owned(),
            ));
        }
        _ => {}
    }
    let failed = opened.state.points.iter().any(|point| point.word() == "failed");
    let killed = matches!(opened.state.end, Some(TaskEnd::Killed));
    let left = opened.state.points.iter().any(|point| point.word() == "pending");
    let longer = max_points.is_some_and(|points| points > before);
    if !failed && !killed && !left && !longer && opened.state.steering_failures.is_empty() {
        remark("no point of this task has failed, there is nothing to try again; `--maxPoints` searches on with more");
    }
    opened.directory.withdraw_request();
    let switches = arguments.manner;
    attend(
        &opened.directory,
        switches,
        manner(Purpose::Retry { max_points }, switches),
        None,
        None,
    )
}

/// Becomes the manager only to do what was asked of the task.
pub(super) fn wind_up(directory: &TaskDirectory) -> Result<u8, CliError> {
    let manner = Manner {
        purpose: Purpose::WindUp,
        take_over: false,
        json: false,
        quiet: true,
    };
    manage(directory, manner, None, None)
}

/// Where options want evaluations to run.
fn placement_of(options: &TaskOptions) -> Result<Placement, CliError> {
    let settings = Settings::resolve(options);
    settings.map(|settings| settings.placement).map_err(|problems| {
        let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CliError::Usage(format!("options: {}", words.join("; ")))
    })
}

/// Paths in options are relative to the file that has them; absolute, they can be mixed.
pub(super) fn with_absolute_paths(options: &TaskOptions, base: &Path) -> Result<TaskOptions, CliError> {
    let mut options = options.clone();
    for path in [&mut options.search_space_file, &mut options.segment_spec_file]
        .into_iter()
        .flatten()
    {
        let full = base.join(&*path);
        *path = text_of(&full)?;
    }
    if let Some(list) = &mut options.training_ds {
        let mut items = Vec::new();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let is_url = item.starts_with("http://") || item.starts_with("https://");
            items.push(if is_url {
                item.to_owned()
            } else {
                text_of(&base.join(item))?
            });
        }
        *list = items.join(",");
    }
    if let Some(list) = &mut options.warm {
        let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
        let items: Result<Vec<String>, CliError> = items.map(|item| text_of(&base.join(item))).collect();
        *list = items?.join(",");
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
        for text in [
            &mut options.slurm_time,
            &mut options.slurm_partition,
            &mut options.slurm_account,
            &mut options.slurm_qos,
            &mut options.slurm_memory,
            &mut options.slurm_gres,
            &mut options.slurm_constraint,
            &mut options.slurm_poll,
        ] {
            *text = None;
        }
        options.sbatch_option = None;
        options.slurm_pilots = None;
        options.evaluations_per_job = None;
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
pub(super) fn check_free(directory: &TaskDirectory) -> Result<(), CliError> {
    let root = directory.root();
    match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CliError::io(format!("`{}` cannot be read", root.display()), source)),
        Ok(entries) => {
            for entry in entries.flatten() {
                if directory.exists() {
                    // Another hpo makes the same task at this moment; its lock tells.
                    return Ok(());
                }
                let name = entry.file_name().to_string_lossy().into_owned();
                let ours = ["sandbox", "earlier", "points", "metrics", "epochs", "lock", MANAGER_LOG]
                    .contains(&name.as_str())
                    || (name.starts_with(".task.json.")
                        && Path::new(&name).extension().is_some_and(|end| end == "tmp"));
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

/// Directories that containers are to see must have names that their runtimes can pass on.
fn check_bound_paths(directory: &TaskDirectory, task: &Task, settings: &Settings) -> Result<(), CliError> {
    let segments = task.segments.iter().flat_map(|segment| &segment.training);
    let training = task.training.iter().flatten().chain(segments);
    let folders = training
        .map(|file| crate::files::parent_of(Path::new(file)))
        .filter(|folder| folder.is_absolute());
    let bound: Vec<&Path> = folders.chain([directory.root()]).collect();
    settings.containers.check_paths(&bound).map_err(CliError::Usage)
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
    let left_aside = options.container_runtime == Some(ContainerRuntime::None);
    for (key, image) in [
        ("steeringContainer", &options.steering_container),
        ("evaluationContainer", &options.evaluation_container),
    ] {
        if let Some(image) = image.as_deref().filter(|image| left_aside && !image.is_empty()) {
            remark(&format!(
                "`{key}` (`{}`) is left aside, its command runs on this machine",
                escape(image)
            ));
        }
    }
    let no_container = settings.containers == Containers::default();
    if options.alrb_args.is_some() && no_container {
        remark("option `alrbArgs` has no effect: nothing runs in a container");
    }
    for key in Placement::unused(options) {
        remark(&format!(
            "option `{key}` concerns jobs that are submitted to Slurm and has no effect here"
        ));
    }
    let grid = [
        ("architecture", options.architecture.is_some()),
        ("site", options.site.is_some()),
        ("workingGroup", options.working_group.is_some()),
        ("vomsRoles", options.voms_roles.is_some()),
        ("official", options.official == Some(true)),
    ];
    for (key, _) in grid.iter().filter(|(_, given)| *given) {
        remark(&format!("option `{key}` concerns the grid and has no effect here"));
    }
}
