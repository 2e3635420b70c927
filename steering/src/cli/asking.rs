//! `steering ask` and `steering generate`.

use std::fs;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use protocol::DocumentError;
use protocol::exit;
use protocol::json::{self, Dialect as Json};
use protocol::limits;
use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;
use serde_json::Value;

use super::arguments::AskOptions;
use super::{Dialect, Failure, output};
use crate::ask::{AskError, Request, ask, seed_of, spaces};
use crate::history::Related;
use crate::samplers::resolve;

/// A search space with the file that it came from.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) value: Value,
    /// Where in the file it stands.
    pub(super) pointer: &'static str,
    pub(super) what: &'static str,
}

pub(super) fn run(options: &AskOptions, dialect: Dialect) -> Result<u8, Failure> {
    if let Some(path) = &options.outfile {
        clear(path, [options.infile.as_deref(), options.space.as_deref()])?;
    }
    let text = answer(options, dialect)?;
    match &options.outfile {
        // A call that a power cut ended is made again: its answer need not be on the disk.
        Some(path) => json::write_whole(path, text.as_bytes()).map_err(|error| {
            Failure::infrastructure(anyhow!("cannot write the new points to `{}`: {error}", path.display()))
        })?,
        None => output::print(&text)?,
    }
    Ok(exit::DONE)
}

/// Takes away what an earlier call has left at `path`: whatever happens now, it will not be taken for the answer.
fn clear(path: &Path, sources: [Option<&Path>; 2]) -> Result<(), Failure> {
    let Ok(place) = path.canonicalize() else { return Ok(()) };
    let same = |source: &Path| source.canonicalize().is_ok_and(|source| source == place);
    if let Some(source) = sources.into_iter().flatten().find(|source| same(source)) {
        return Err(Failure::input(anyhow!(
            "the new points would overwrite `{}`, from which they are made; give another file by `--outfile`",
            source.display()
        )));
    }
    // Pipes and devices hold nothing old.
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        fs::remove_file(path).map_err(|error| {
            Failure::infrastructure(anyhow!("cannot remove the old output `{}`: {error}", path.display()))
        })?;
    }
    Ok(())
}

/// What goes into the output file.
pub(super) fn answer(options: &AskOptions, dialect: Dialect) -> Result<String, Failure> {
    let points = with_question(options, dialect, ask)?;
    let mut text = serde_json::to_string(&points).map_err(Failure::infrastructure)?;
    text.push('\n');
    Ok(text)
}

/// Reads what the options name and puts it to `answer`.
pub(super) fn with_question<T>(
    options: &AskOptions,
    dialect: Dialect,
    answer: impl FnOnce(&SpaceDocument, &SteeringInput, &Request) -> Result<T, AskError>,
) -> Result<T, Failure> {
    // Never given back: the process ends soon, and a long history is a million small pieces.
    let input = ManuallyDrop::new(match &options.infile {
        Some(path) => SteeringInput::read(path, options.failed_loss.0)?,
        None => SteeringInput {
            points: Vec::new(),
            space: None,
        },
    });
    let source = source(
        options.infile.as_deref(),
        options.space.as_deref(),
        input.space.clone(),
        dialect,
    )?;
    let document = check(&source)?;
    let request = Request {
        sampler: resolve(&options.lib, options.method.as_deref()),
        settings: options.settings.clone(),
        schedule: options.schedule.schedule()?,
        count: options.n_point,
        max_points: options.max_point,
        seed: options.seed.unwrap_or_else(|| seed_of(&source.value)),
        task: options.task.clone(),
        mode: options.mode.into(),
        subtract_pending: options.subtract_pending || dialect == Dialect::Hpogrid,
        number_points: options.number_points,
        transfer: options.transfer,
        earlier: earlier(&options.warm, options.failed_loss.0)?,
        objectives: options.objectives.clone(),
        cost_aware: options.cost_aware,
    };
    for remark in remarks(&document, &input, &request, &options.warm) {
        output::warn(&remark);
    }
    answer(&document, &input, &request).map_err(|error| explain(error, &source, options.infile.as_deref()))
}

/// The histories of earlier tasks.
fn earlier(paths: &[PathBuf], failed_loss: Option<f64>) -> Result<Vec<SteeringInput>, Failure> {
    let read = |path: &PathBuf| protocol::earlier::read(path, failed_loss).map_err(Failure::from);
    paths.iter().map(read).collect()
}

/// What does not fit of earlier tasks and of the history.
fn remarks(document: &SpaceDocument, input: &SteeringInput, request: &Request, paths: &[PathBuf]) -> Vec<String> {
    // Faults of the space are told later, with their places.
    let spaces = spaces(document).unwrap_or_default();
    let (mut remarks, goal) = (Vec::new(), request.goal());
    if let Some(objectives) = &request.objectives {
        let evaluated = input.points.iter().filter(|entry| entry.outcome.loss().is_some());
        let lacking = evaluated.filter(|entry| objectives.losses(entry).is_none()).count();
        if lacking > 0 {
            remarks.push(format!(
                "nothing is learnt from {lacking} evaluated points that lack one of the objectives {objectives}"
            ));
        }
    }
    for (input, path) in request.earlier.iter().zip(paths) {
        let related: Vec<Related> = (spaces.iter())
            .map(|(_, space)| Related::new(space, &input.points, &goal))
            .collect();
        let most = |count: fn(&Related) -> usize| related.iter().map(count).max().unwrap_or(0);
        let (path, all, used, moved) = (
            path.display(),
            input.points.len(),
            most(Related::len),
            most(Related::moved),
        );
        if used == 0 {
            remarks.push(format!(
                "nothing is learnt from `{path}`: none of its {all} points has a loss and a dimension of the search space"
            ));
        } else if moved > 0 {
            remarks.push(format!(
                "{moved} of the {used} points of `{path}` have numbers out of range, which count as the nearest in range"
            ));
        }
    }
    remarks
}

/// The search space of the input or of `--space`, whichever the dialect prefers.
pub(super) fn source<'a>(
    infile: Option<&'a Path>,
    space: Option<&'a Path>,
    inside: Option<Value>,
    dialect: Dialect,
) -> Result<Source<'a>, Failure> {
    let inside = match (infile, inside) {
        (Some(path), Some(value)) => Some(Source {
            path,
            value,
            pointer: "/opt_space",
            what: "steering input",
        }),
        _ => None,
    };
    match (space, inside) {
        (Some(path), None) => read(path),
        (Some(path), Some(_)) if dialect == Dialect::Own => read(path),
        (_, Some(inside)) => Ok(inside),
        (None, None) => Err(Failure::input(match infile {
            Some(path) => anyhow!(
                "steering input `{}`: at `/opt_space`: expected a search space, found none; give one by `--space FILE`",
                path.display()
            ),
            None => anyhow!("there is no search space; give one by `--space FILE` or inside `--infile FILE`"),
        })),
    }
}

/// Reads a search-space file.
pub(super) fn read(path: &Path) -> Result<Source<'_>, Failure> {
    const WHAT: &str = "search space";
    let value = json::read(WHAT, path, limits::DOCUMENT_BYTES, Json::Commented)?;
    Ok(Source {
        path,
        value,
        pointer: "",
        what: WHAT,
    })
}

/// Checks the form of a search space.
pub(super) fn check(source: &Source<'_>) -> Result<SpaceDocument, DocumentError> {
    SpaceDocument::from_value(&source.value).map_err(|problems| {
        let problems = problems
            .into_iter()
            .map(|problem| problem.below(source.pointer))
            .collect();
        DocumentError::invalid(source.what, source.path, problems)
    })
}

/// Adds to an error the file that is to blame.
pub(super) fn explain(error: AskError, source: &Source<'_>, infile: Option<&Path>) -> Failure {
    match error {
        AskError::Space(problems) => {
            let problems = problems
                .into_iter()
                .map(|problem| problem.below(source.pointer))
                .collect();
            DocumentError::invalid(source.what, source.path, problems).into()
        }
        AskError::History(problems) => {
            let path = infile.unwrap_or(Path::new("-"));
            DocumentError::invalid("steering input", path, problems).into()
        }
        AskError::Setup(_)
        | AskError::CostBlind { .. }
        | AskError::Unteachable { .. }
        | AskError::OneObjective { .. }
        | AskError::ScheduledObjectives => Failure::input(error),
        AskError::Objectives(error) => {
            let path = infile.unwrap_or(Path::new("-"));
            Failure::input(anyhow!("steering input `{}`: {error}", path.display()))
        }
        AskError::Suggest { .. } | AskError::Point { .. } => {
            Failure::input(anyhow::Error::new(error).context(format!("{} `{}`", source.what, source.path.display())))
        }
    }
}
