//! From a point to the order of its runner.

use std::io;
use std::path::{Path, PathBuf};

use protocol::task_options::InputFormat;
use protocol::{EvaluationInput, environment, limits};
use serde_json::{Value, json};

use super::keeping;
use crate::backend::MARK;
use crate::checkpoint::{PAYLOAD, Source};
use crate::runner::{CheckpointOrder, Launch, MetricsOrder, Order};
use crate::state::{AttemptKey, State};
use crate::task::{
    Placeholders, Placement, Settings, Surroundings, Task, TaskDirectory, Wrapped, container_name, link_name, share_of,
};

/// Names of the environment that a reserved key of a point must not replace.
const OWN: [&str; 9] = [
    environment::TASK,
    environment::SEGMENT,
    environment::POINT_ID,
    environment::ATTEMPT,
    environment::REPORT_FILE,
    environment::DECISION_FILE,
    environment::CHECKPOINT_DIR,
    environment::KEEP_CHECKPOINT,
    environment::SLOTS,
];

/// What a point says about its epochs.
const EPOCHS_KEY: &str = "hpo.epochs";
/// What a point says about its share of the data.
const FRACTION_KEY: &str = "hpo.frac";

/// The command lines that a task would run, and warnings about them; for the plan and before the start.
pub(crate) fn plan_orders(task: &Task, settings: &Settings) -> (Vec<String>, Vec<String>) {
    let (mut commands, mut warnings) = (Vec::new(), Vec::new());
    for segment in task.segment_ids() {
        let placeholders = placeholders(task, task.training_files(segment), segment, 1);
        let names = [
            settings.meta.as_deref(),
            settings.metrics.as_deref(),
            Some(settings.output.as_str()),
        ];
        for (index, text) in [Some(settings.evaluation_exec.as_str())]
            .into_iter()
            .chain(names)
            .enumerate()
        {
            let Some(text) = text else { continue };
            let expanded = placeholders.expand(text);
            if index == 0 {
                commands.push(expanded.command);
            }
            for warning in expanded.warnings {
                let warning = format!("evaluation: {warning}");
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
    }
    (commands, warnings)
}

fn placeholders(task: &Task, files: Option<&[String]>, segment: Option<protocol::SegmentId>, job: u32) -> Placeholders {
    let names: Option<Vec<String>> = files.map(|files| files.iter().map(|file| link_name(file).to_owned()).collect());
    Placeholders::evaluation(task.segment_name(segment), names.as_deref(), job)
}

/// Makes the directory of an attempt with its order.
pub(super) fn prepare(
    directory: &TaskDirectory,
    task: &Task,
    settings: &Settings,
    state: &State,
    path: &str,
    key: AttemptKey,
) -> io::Result<()> {
    let at = directory.attempt(key);
    std::fs::create_dir_all(&at)?;
    let order = order(directory, task, settings, state, path, key);
    if settings.placement == Placement::Local {
        // What is there already is not made between two evaluations.
        std::fs::create_dir_all(&order.launch.work_directory)?;
        crate::files::create_private_directory(&order.payload_checkpoints)?;
    }
    order.write(&at)
}

fn order(
    directory: &TaskDirectory,
    task: &Task,
    settings: &Settings,
    state: &State,
    path: &str,
    key: AttemptKey,
) -> Order {
    let point = state.point(key.point).expect("an attempt belongs to a point");
    let attempt = point.attempts.last().expect("its intent is recorded");
    let at = directory.attempt(key);
    let mut shown = point.point.clone();
    if let Some(epochs) = point
        .stopped()
        .and_then(|epoch| point.point.reserved("epochs").map(|_| epoch))
    {
        // It was decided that the point ends here, and the attempt that should have heard of it did not: nothing more is granted.
        shown.insert(EPOCHS_KEY, epochs);
    }
    let mut files = task.training_files(point.segment).map(<[String]>::to_vec);
    if let (Some(files), true) = (&mut files, settings.takes_files) {
        // The share is taken here; the evaluation must not take it again.
        let share = shown.remove(FRACTION_KEY).and_then(|share| share.as_f64());
        *files = share_of(files, share.unwrap_or(1.0), settings.seed.unwrap_or(0));
    }
    let placeholders = placeholders(task, files.as_deref(), point.segment, attempt.job);
    let expand = |text: &str| placeholders.expand(text).command;
    let segment = task.segment_name(point.segment);
    let checkpoints = directory.checkpoints(key.point);
    let payload_checkpoints = checkpoints.join(PAYLOAD);
    let schedule = settings.schedule.as_ref();
    let keep = keeping::label(point, schedule);
    let source = keeping::source(state, point).and_then(|source| {
        Some(Source {
            store: directory.checkpoints(source.id),
            label: keeping::label(source, schedule)?,
        })
    });
    let text = |path: &Path| path.display().to_string();

    let mut variables: Vec<(String, String)> = shown
        .iter()
        .filter_map(|(key, value)| {
            let name = variable(key.strip_prefix(limits::RESERVED_PREFIX)?);
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (!OWN.contains(&name.as_str()) && !value.contains('\0')).then_some((name, value))
        })
        .collect();
    let own = [
        (environment::TASK, task.name.clone()),
        (environment::POINT_ID, key.point.to_string()),
        (environment::ATTEMPT, key.attempt.to_string()),
        (environment::REPORT_FILE, text(&at.join("report.jsonl"))),
        (environment::DECISION_FILE, text(&at.join("decision"))),
        (environment::CHECKPOINT_DIR, text(&payload_checkpoints)),
        (MARK, text(&at)),
        ("PATH", path.to_owned()),
    ];
    variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
    if let (Some(shares), Some(slot)) = (&settings.shares, attempt.slot) {
        variables.extend(shares.variables(slot));
    }
    let slots = settings.slots as usize * task.segments.len().max(1);
    variables.push((environment::SLOTS.to_owned(), slots.to_string()));
    if point.point.reserved("n").is_some() {
        let keep = if keep.is_some() { "1" } else { "0" };
        variables.push((environment::KEEP_CHECKPOINT.to_owned(), keep.to_owned()));
    }
    if let Some(segment) = segment {
        variables.push((environment::SEGMENT.to_owned(), segment.to_owned()));
    }

    let command = expand(&settings.evaluation_exec);
    let work_directory = at.join("workDir");
    let Wrapped { command, afterwards } = match &settings.containers.evaluation {
        None => Wrapped {
            command,
            afterwards: None,
        },
        Some(container) => {
            let surroundings = Surroundings {
                work_directory: &work_directory,
                writable: vec![&at, &payload_checkpoints],
                readable: directories_of(files.as_deref().unwrap_or_default()),
                variables: &variables,
                name: container_name(&at),
            };
            container.wrap(&command, &surroundings)
        }
    };
    let metrics = settings.metrics.as_deref().map(|name| {
        let file = expand(name);
        // The names of the PanDA job wrapper: task, serial number of the job, iteration within the job.
        let prefix = segment.map(|segment| format!("{segment}.")).unwrap_or_default();
        let archive_name = format!(
            "{prefix}{}.metrics.{:06}.tgz_{}",
            task.id, attempt.job, attempt.index_in_job
        );
        let base = file.rsplit('/').next().unwrap_or(&file);
        let member = format!("{base}_{}", key.point);
        MetricsOrder {
            member,
            archive: directory.metrics().join(&archive_name),
            archive_name,
            file,
        }
    });
    Order {
        task: task.id.clone(),
        point: key.point,
        attempt: key.attempt,
        launch: Launch {
            command,
            work_directory,
            afterwards,
            log_directory: at.clone(),
            environment: variables,
            timeout: settings.evaluation_timeout,
            grace: settings.grace,
        },
        sandbox: directory.sandbox(),
        sandbox_files: task.sandbox.clone(),
        input: settings.input.clone(),
        input_content: input(settings, point.segment, &shown),
        training: files.map(|files| (settings.training_data.clone(), files)),
        output: expand(&settings.output),
        meta: settings.meta.as_deref().map(expand),
        metrics,
        checkpoint: settings.checkpoint.as_ref().map(|settings| CheckpointOrder {
            paths: settings.paths.clone(),
            load_as: settings.load_as.clone(),
            interval: settings.interval,
            mean_time_to_failure: settings.mean_time_to_failure,
            largest: settings.largest,
        }),
        checkpoints,
        payload_checkpoints,
        source,
        ended: (settings.placement != Placement::Local).then(|| directory.ended_marks()),
        keep,
    }
}

/// The directories that hold `files`, each once. Relative names are links within the work directory.
fn directories_of(files: &[String]) -> Vec<PathBuf> {
    let parents = files.iter().filter_map(|file| Path::new(file).parent());
    let mut directories: Vec<PathBuf> = parents
        .filter(|parent| parent.is_absolute())
        .map(Path::to_owned)
        .collect();
    directories.sort();
    directories.dedup();
    directories
}

/// The variable that tells a payload what stands under the reserved key `name`.
fn variable(name: &str) -> String {
    match name {
        "frac" => environment::DATA_FRACTION.to_owned(),
        _ => format!("HPO_{}", name.to_ascii_uppercase()).replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"),
    }
}

fn input(settings: &Settings, segment: Option<protocol::SegmentId>, point: &protocol::Point) -> Value {
    let mut point = point.clone();
    if settings.strip_reserved {
        point.retain(|key| !protocol::point::is_reserved(key));
    }
    match settings.input_format {
        InputFormat::Pair => json!(EvaluationInput::new(segment, point)),
        InputFormat::Plain => json!(point),
    }
}
