//! Projects of hpogrid: `config/config.json`, and the reports of its jobs (version 1.3).

use std::path::{Path, PathBuf};

use protocol::DocumentError;
use serde_json::{Map, Value};

use super::{End, Goal, Search, Trial, Wish, document, number};

/// Whether a document is the configuration of a project or a report.
pub(super) fn is_one(document: &Value) -> bool {
    is_project(document) || !reports(document).is_empty()
}

fn is_project(document: &Value) -> bool {
    document["hpo_config"].is_object() && document["search_space"].is_object()
}

/// The reports in a document: one, a list, or a summary of jobs.
fn reports(document: &Value) -> Vec<&Value> {
    let jobs = match document {
        Value::Array(list) => Some(list),
        other => other["jobs"].as_array(),
    };
    let candidates: Vec<&Value> = jobs.map_or_else(|| vec![document], |jobs| jobs.iter().collect());
    candidates
        .into_iter()
        .filter(|report| report["result"].is_object())
        .collect()
}

pub(super) fn read(path: &Path, wish: &Wish) -> Result<Result<Search, String>, DocumentError> {
    let files: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let json = |path: &PathBuf| path.is_file() && path.extension().is_some_and(|end| end == "json");
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(json).collect();
        found.sort();
        std::iter::once(path.join("config/config.json")).chain(found).collect()
    } else {
        vec![path.to_owned()]
    };
    let documents = files.iter().map(|file| document(file)).collect::<Result<Vec<_>, _>>()?;
    Ok(search(&documents, wish))
}

fn search(documents: &[Value], wish: &Wish) -> Result<Search, String> {
    let mut search = Search::default();
    let (mut metric, mut mode) = (wish.metric.clone(), None);
    if let Some(project) = documents.iter().find(|document| is_project(document)) {
        let hpo = &project["hpo_config"];
        project["project_name"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut search.name);
        search.space = project["search_space"].as_object().cloned().unwrap_or_default();
        metric = metric.or_else(|| hpo["metric"].as_str().map(str::to_owned));
        mode = hpo["mode"].as_str().map(str::to_owned);
        let count = |key: &str| {
            hpo[key]
                .as_u64()
                .and_then(|count| u32::try_from(count).ok())
                .filter(|count| *count > 0)
        };
        (search.max_points, search.parallel) = (count("num_trials"), count("max_concurrent"));
        search.sampler = hpo["algorithm"].as_str().map(str::to_owned);
    }
    for whole in documents {
        for report in reports(whole) {
            // In a summary these stand once for all jobs.
            let said = |key: &str| report[key].as_str().or_else(|| whole[key].as_str()).map(str::to_owned);
            metric = metric.or_else(|| said("metric"));
            mode = mode.or_else(|| said("mode"));
            if search.name.is_empty() {
                search.name = said("project_name").unwrap_or_default();
            }
            let names = report["hyperparameters"]
                .as_array()
                .or_else(|| whole["hyperparameters"].as_array());
            let names = names.ok_or("a report does not name its `hyperparameters`")?;
            let metric = metric
                .as_deref()
                .ok_or("its files do not say which metric was optimised; say `--metric NAME`")?;
            let mut results: Vec<(&String, &Value)> = report["result"].as_object().into_iter().flatten().collect();
            results.sort_by_key(|(index, _)| index.parse::<u64>().unwrap_or(u64::MAX));
            for (_, result) in results {
                let value = |name: &str| result.get(name).cloned();
                let point: Map<String, Value> = (names.iter().filter_map(Value::as_str))
                    .filter_map(|name| Some((name.to_owned(), value(name)?)))
                    .collect();
                let loss = result.get(metric).and_then(number);
                search.trials.push(Trial {
                    point,
                    end: loss.map_or_else(
                        || End::Failed(format!("it has no `{metric}`")),
                        |loss| End::Done(vec![loss]),
                    ),
                    seconds: result["time_s"].as_f64().unwrap_or(0.0),
                });
            }
        }
    }
    if let Some(name) = metric {
        let maximise = wish.maximise.unwrap_or(mode.as_deref() == Some("max"));
        search.goals.push(Goal { name, maximise });
    }
    Ok(search)
}
