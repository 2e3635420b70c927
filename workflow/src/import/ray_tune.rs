//! Result folders of Ray Tune: below the folder of an experiment one for each trial, with `params.json` and `result.json`, one JSON
//! object a report (version 2.60; older ones have the same files).

use std::path::{Path, PathBuf};

use protocol::json::{self, Dialect};
use protocol::{DocumentError, limits};
use serde_json::{Map, Value};

use super::{End, Goal, Search, Trial, Wish, document, number};

/// What Ray itself adds to each report.
const ITS_OWN: [&str; 16] = [
    "timestamp",
    "checkpoint_dir_name",
    "done",
    "training_iteration",
    "trial_id",
    "experiment_id",
    "date",
    "time_this_iter_s",
    "time_total_s",
    "pid",
    "time_since_restore",
    "timesteps_since_restore",
    "iterations_since_restore",
    "timesteps_total",
    "episodes_total",
    "experiment_tag",
];

/// The folders of trials below `path`, in an order of their own: Ray numbers them.
pub(super) fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = folders.filter(|folder| folder.join("params.json").is_file()).collect();
    folders.sort();
    folders
}

pub(super) fn read(path: &Path, wish: &Wish) -> Result<Result<Search, String>, DocumentError> {
    let mut read = Vec::new();
    for folder in folders(path) {
        let parameters = document(&folder.join("params.json"))?;
        let results = folder.join("result.json");
        let text = if results.is_file() {
            json::read_regular("reports of a trial", &results, limits::HISTORY_BYTES)?
        } else {
            Vec::new()
        };
        // A last line that is torn was never reported.
        let reports =
            text.split(|byte| *byte == b'\n')
                .filter_map(|line| match json::parse(line, Dialect::NonFinite) {
                    Ok(Value::Object(report)) => Some(report),
                    _ => None,
                });
        let failure = folder.join("error.txt");
        let failure = failure
            .is_file()
            .then(|| std::fs::read_to_string(&failure).unwrap_or_default());
        read.push(Read {
            parameters,
            reports: reports.collect(),
            failure,
        });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(search(name, read, wish))
}

/// What lies in the folder of a trial.
struct Read {
    parameters: Value,
    reports: Vec<Map<String, Value>>,
    failure: Option<String>,
}

fn search(name: String, read: Vec<Read>, wish: &Wish) -> Result<Search, String> {
    let mut search = Search {
        name,
        ..Search::default()
    };
    let mut names: Vec<&String> = Vec::new();
    for (key, value) in read.iter().flat_map(|trial| trial.reports.iter().flatten()) {
        if !ITS_OWN.contains(&key.as_str()) && number(value).is_some() && !names.contains(&key) {
            names.push(key);
        }
    }
    let known = names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    let (Some(metric), Some(maximise)) = (&wish.metric, wish.maximise) else {
        return Err(format!(
            "its files do not say which metric was optimised, and whether it is to be large; say `--metric NAME --mode max` or `min`, reported are {known}"
        ));
    };
    if !names.is_empty() && !names.contains(&metric) {
        return Err(format!("no trial reports `{metric}`; reported are {known}"));
    }
    for trial in read {
        let mut point = Map::new();
        flatten("", &trial.parameters, &mut point);
        let last = trial
            .reports
            .iter()
            .rev()
            .find_map(|report| number(report.get(metric.as_str())?));
        let time = trial
            .reports
            .last()
            .and_then(|report| report.get("time_total_s")?.as_f64());
        let end = match (last, trial.failure) {
            (_, Some(text)) => End::Failed(
                text.trim()
                    .lines()
                    .last()
                    .unwrap_or("it failed under Ray Tune")
                    .to_owned(),
            ),
            (Some(value), None) => End::Done(vec![value]),
            (None, None) => End::Failed(format!("it never reported `{metric}`")),
        };
        search.trials.push(Trial {
            point,
            end,
            seconds: time.unwrap_or(0.0),
        });
    }
    search.goals.push(Goal {
        name: metric.clone(),
        maximise,
    });
    Ok(search)
}

/// Nested parameters get the names that Ray shows: `outer/inner`.
fn flatten(before: &str, value: &Value, point: &mut Map<String, Value>) {
    match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                let name = if before.is_empty() {
                    key.clone()
                } else {
                    format!("{before}/{key}")
                };
                flatten(&name, value, point);
            }
        }
        value => drop(point.insert(before.to_owned(), value.clone())),
    }
}
