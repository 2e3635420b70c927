//! The metrics archive: a gzipped tar with an `mlruns` tree, read by every MLflow since version 2.
//!
//! MLflow hides a whole experiment when one of its files is not as expected, so: no empty metric file, whole numbers as
//! steps, tame names, and an entry of its own for each directory, also the empty ones.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use protocol::json;
use serde_json::{Map, Value};
use tar::{Builder, EntryType, Header};

use super::Identity;
use crate::training::EpochReport;

/// How the run ended, in MLflow's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A loss came out.
    Finished,
    /// Training failed.
    Failed,
    /// The scheduler ended it.
    Killed,
}

/// All that is recorded of one run.
#[derive(Debug, Clone)]
pub struct RunRecord<'a> {
    /// Whose run it is.
    pub identity: &'a Identity,
    /// Hyperparameters, reserved keys left out.
    pub hyperparameters: &'a Map<String, Value>,
    /// One report per epoch.
    pub epochs: &'a [EpochReport],
    /// The number that is minimised, if it is known.
    pub loss: Option<f64>,
    /// Further tags.
    pub tags: &'a [(String, String)],
    /// Milliseconds since 1970.
    pub started: u64,
    /// Milliseconds since 1970.
    pub ended: u64,
    /// How it ended.
    pub ending: Ending,
}

/// Writes the archive so that it appears whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_metrics(path: &Path, record: &RunRecord<'_>) -> io::Result<()> {
    let mut tree = Tree::new(record.ended / 1000);
    fill(&mut tree, record)?;
    json::write_atomically(path, &tree.finish()?)
}

fn fill(tree: &mut Tree, record: &RunRecord<'_>) -> io::Result<()> {
    let (experiment, run) = (record.identity.experiment_id(), record.identity.run_id());
    let quoted = |text: &str| Value::from(text).to_string();
    let top = format!("mlruns/{experiment}");
    let base = format!("{top}/{run}");
    tree.directory("mlruns")?;
    tree.directory(&top)?;
    tree.file(
        &format!("{top}/meta.yaml"),
        &format!(
            "artifact_location: mlruns/{experiment}\ncreation_time: {started}\nexperiment_id: '{experiment}'\n\
             last_update_time: {started}\nlifecycle_stage: active\nname: {name}\n",
            started = record.started,
            name = quoted(&record.identity.experiment()),
        ),
    )?;
    tree.directory(&base)?;
    let status = match record.ending {
        Ending::Finished => 3,
        Ending::Failed => 4,
        Ending::Killed => 5,
    };
    tree.file(
        &format!("{base}/meta.yaml"),
        &format!(
            "artifact_uri: mlruns/{experiment}/{run}/artifacts\nend_time: {ended}\nentry_point_name: ''\n\
             experiment_id: '{experiment}'\nlifecycle_stage: active\nrun_id: '{run}'\nrun_name: {name}\n\
             run_uuid: '{run}'\nsource_name: ''\nsource_type: 4\nsource_version: ''\nstart_time: {started}\n\
             status: {status}\ntags: []\nuser_id: hpo\n",
            ended = record.ended,
            started = record.started,
            name = quoted(&record.identity.run_name()),
        ),
    )?;

    tree.directory(&format!("{base}/params"))?;
    for (name, value) in record.hyperparameters {
        tree.file(&format!("{base}/params/{}", tame(name)), &plain(value))?;
    }
    tree.directory(&format!("{base}/metrics"))?;
    for (name, lines) in metric_files(record) {
        tree.file(&format!("{base}/metrics/{name}"), &lines)?;
    }
    tree.directory(&format!("{base}/tags"))?;
    let name = record.identity.run_name();
    let own = [
        ("mlflow.runName", name.as_str()),
        ("mlflow.user", "hpo"),
        ("mlflow.source.name", "evaluation"),
        ("mlflow.source.type", "LOCAL"),
        ("hpo.task", &record.identity.task),
        ("hpo.segment", record.identity.segment.as_deref().unwrap_or("")),
        ("hpo.point", &record.identity.point),
        ("hpo.attempt", &record.identity.attempt),
    ];
    let further = record.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.into_iter().chain(further).filter(|(_, value)| !value.is_empty()) {
        tree.file(&format!("{base}/tags/{}", tame(name)), value)?;
    }
    tree.directory(&format!("{base}/artifacts"))?;
    tree.file(
        &format!("{base}/artifacts/learning_curve.csv"),
        &curve_csv(record.epochs),
    )?;
    tree.file(
        &format!("{base}/artifacts/learning_curve.json"),
        &curve_json(record.epochs),
    )
}

/// Names and lines of all metrics; none is empty.
fn metric_files(record: &RunRecord<'_>) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, time: u64, value: f64, step: usize| {
        let line = format!("{time} {value:?} {step}\n");
        match files.iter_mut().find(|(other, _)| other == name) {
            Some((_, lines)) => lines.push_str(&line),
            None => files.push((name.to_owned(), line)),
        }
    };
    let mut time = record.started as f64;
    for report in record.epochs {
        time += report.seconds * 1000.0;
        let at = (time as u64).min(record.ended);
        add("train_loss", at, report.train_loss, report.epoch);
        add("learning_rate", at, report.learning_rate, report.epoch);
        for (metric, value) in &report.validation.0 {
            add(&metric.series(), at, *value, report.epoch);
        }
    }
    if let Some(loss) = record.loss {
        let last = record.epochs.last().map_or(0, |report| report.epoch);
        add("objective", record.ended, loss, last);
    }
    files
}

/// The learning curve as a table for people and spreadsheets.
fn curve_csv(epochs: &[EpochReport]) -> String {
    let mut text = "epoch,learning_rate,train_loss".to_owned();
    for (metric, _) in epochs.first().map_or(&[][..], |report| &report.validation.0) {
        let _ = write!(text, ",{}", metric.series());
    }
    text.push_str(",seconds\n");
    for report in epochs {
        let _ = write!(
            text,
            "{},{:?},{:?}",
            report.epoch, report.learning_rate, report.train_loss
        );
        for (_, value) in &report.validation.0 {
            let _ = write!(text, ",{value:?}");
        }
        let _ = writeln!(text, ",{:.6}", report.seconds);
    }
    text
}

fn curve_json(epochs: &[EpochReport]) -> String {
    let rows: Vec<Value> = epochs.iter().map(epoch_object).collect();
    let mut text = Value::Array(rows).to_string();
    text.push('\n');
    text
}

/// One epoch as an object with a key per series.
pub(crate) fn epoch_object(report: &EpochReport) -> Value {
    let mut row = Map::new();
    row.insert("epoch".to_owned(), report.epoch.into());
    row.insert("learning_rate".to_owned(), report.learning_rate.into());
    row.insert("train_loss".to_owned(), report.train_loss.into());
    for (metric, value) in &report.validation.0 {
        row.insert(metric.series().into_owned(), (*value).into());
    }
    row.insert("seconds".to_owned(), report.seconds.into());
    Value::Object(row)
}

/// A string as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => json::canonical(other),
    }
}

/// A name that MLflow takes and that stays in its directory.
fn tame(name: &str) -> String {
    let tame: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | ' ') {
                c
            } else {
                '_'
            }
        })
        .take(200)
        .collect();
    if tame.trim_matches(['.', ' ']).is_empty() {
        "_".to_owned()
    } else {
        tame
    }
}

/// A tar archive under construction.
struct Tree {
    builder: Builder<GzEncoder<Vec<u8>>>,
    time: u64,
}

impl Tree {
    fn new(time: u64) -> Self {
        Self {
            builder: Builder::new(GzEncoder::new(Vec::new(), Compression::default())),
            time,
        }
    }

    fn header(&self, kind: EntryType, mode: u32, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(self.time);
        header
    }

    fn directory(&mut self, path: &str) -> io::Result<()> {
        let mut header = self.header(EntryType::Directory, 0o755, 0);
        self.builder.append_data(&mut header, format!("{path}/"), io::empty())
    }

    fn file(&mut self, path: &str, content: &str) -> io::Result<()> {
        let mut header = self.header(EntryType::Regular, 0o644, content.len());
        self.builder.append_data(&mut header, path, content.as_bytes())
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        let mut bytes = self.builder.into_inner()?.finish()?;
        bytes.flush()?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        assert_eq!(tame("a/b(c)"), "a_b_c_");
        assert_eq!(tame(".."), "_");
        assert_eq!(tame(""), "_");
    }

    #[test]
    fn values_are_written_as_people_write_them() {
        assert_eq!(plain(&json!("relu")), "relu");
        assert_eq!(plain(&json!(0.1)), "0.1");
        assert_eq!(plain(&json!([1, 2])), "[1,2]");
    }
}
