//! `steering validate`.

use std::fmt::Write as _;
use std::path::Path;

use protocol::error::pointer;
use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;
use protocol::{DocumentError, Problem, SegmentId, exit};
use serde_json::{Value, json};

use super::arguments::ValidateOptions;
use super::asking::{Source, check, read};
use super::{Failure, output};
use crate::ask::spaces;
use crate::space::Space;

/// Everything found, by file.
#[derive(Default)]
struct Findings {
    faults: Vec<(String, &'static str, Problem)>,
    spaces: Vec<(Option<SegmentId>, Space)>,
    points: Option<usize>,
}

impl Findings {
    fn add(&mut self, path: &Path, what: &'static str, problems: impl IntoIterator<Item = Problem>) {
        self.faults.extend(
            problems
                .into_iter()
                .map(|problem| (path.display().to_string(), what, problem)),
        );
    }

    /// Keeps the faults of a document; what kept it from being read at all is an error of the call.
    fn absorb(&mut self, error: DocumentError) -> Result<(), Failure> {
        match error {
            DocumentError::Invalid { what, path, problems } => {
                self.add(&path, what, problems);
                Ok(())
            }
            other => Err(other.into()),
        }
    }
}

pub(super) fn run(options: &ValidateOptions) -> Result<u8, Failure> {
    let mut findings = Findings::default();
    let mut input = None;
    if let Some(path) = &options.infile {
        match SteeringInput::read(path, options.failed_loss.0) {
            Ok(found) => input = Some(found),
            Err(error) => findings.absorb(error)?,
        }
    }
    let source = match (
        &options.space,
        &options.infile,
        input.as_ref().and_then(|input| input.space.clone()),
    ) {
        (Some(path), _, _) => Some(read(path)?),
        (None, Some(path), Some(value)) => Some(Source {
            path,
            value,
            pointer: "/opt_space",
            what: "steering input",
        }),
        (None, Some(path), None) if input.is_some() => {
            let problem = Problem::new(
                "/opt_space",
                "expected a search space, found none; give one by `--space FILE`",
            );
            findings.add(path, "steering input", [problem]);
            None
        }
        _ => None,
    };
    if let Some(source) = source {
        match check(&source) {
            Ok(document) => lay_out(&document, &source, &mut findings),
            Err(error) => findings.absorb(error)?,
        }
    }
    if let (Some(input), Some(path)) = (&input, &options.infile) {
        findings.points = Some(input.points.len());
        if let Some(Err(error)) = options
            .objectives
            .as_ref()
            .map(|objectives| objectives.check(&input.points))
        {
            findings.add(path, "steering input", [Problem::new("/meta", error.to_string())]);
        }
        if !findings.spaces.is_empty() {
            compare(input, path, &mut findings);
        }
    }
    output::print(&if options.json {
        as_json(&findings)
    } else {
        as_text(&findings)
    })?;
    Ok(if findings.faults.is_empty() {
        exit::DONE
    } else {
        exit::USAGE
    })
}

fn lay_out(document: &SpaceDocument, source: &Source<'_>, findings: &mut Findings) {
    match spaces(document) {
        Ok(spaces) => findings.spaces = spaces,
        Err(problems) => {
            let problems: Vec<Problem> = problems
                .into_iter()
                .map(|problem| problem.below(source.pointer))
                .collect();
            findings.add(source.path, source.what, problems);
        }
    }
}

/// Checks every point of the input against its space.
fn compare(input: &SteeringInput, path: &Path, findings: &mut Findings) {
    let mut problems = Vec::new();
    for (index, entry) in input.points.iter().enumerate() {
        let mut place = pointer(&pointer("/points", index), 0);
        let segment = entry.input.segment();
        let Some((_, space)) = findings.spaces.iter().find(|(other, _)| *other == segment) else {
            problems.push(Problem::new(
                place,
                "the point belongs to no segment of the search space",
            ));
            continue;
        };
        if segment.is_some() {
            place = pointer(&place, 1);
        }
        let faults = space
            .problems(entry.input.point())
            .into_iter()
            .chain(entry.input.point().problems());
        problems.extend(faults.map(|fault| fault.below(&place)));
    }
    findings.add(path, "steering input", problems);
}

fn as_json(findings: &Findings) -> String {
    let problems: Vec<Value> = findings
        .faults
        .iter()
        .map(|(file, _, problem)| json!({"file": file, "pointer": problem.pointer, "message": problem.message}))
        .collect();
    let spaces: Vec<Value> = findings
        .spaces
        .iter()
        .map(|(segment, space)| json!({"model_id": segment, "dimensions": space.dimensions().len(), "points": space.size()}))
        .collect();
    let valid = problems.is_empty();
    format!(
        "{}\n",
        json!({"valid": valid, "problems": problems, "spaces": spaces, "history": findings.points})
    )
}

fn as_text(findings: &Findings) -> String {
    let mut text = String::new();
    for (file, what, problem) in &findings.faults {
        let _ = writeln!(text, "{what} `{file}`: {problem}");
    }
    if findings.faults.is_empty() {
        for (segment, space) in &findings.spaces {
            let place = segment.map_or_else(String::new, |id| format!("segment {id}: "));
            let size = match space.size() {
                None => "infinitely many".to_owned(),
                Some(u64::MAX) => "more than 10^19".to_owned(),
                Some(size) => size.to_string(),
            };
            let _ = writeln!(text, "{place}dimensions {}, points {size}", space.dimensions().len());
        }
        if let Some(points) = findings.points {
            let _ = writeln!(text, "history: {points} points, all of this search space");
        }
    }
    text
}
