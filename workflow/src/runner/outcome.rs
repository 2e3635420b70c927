//! What a payload's end and its files mean.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use protocol::limits;
use protocol::loss_document::{self, Verdict};
use protocol::report::Decision;

use super::course::Intervention;
use super::order::{MetricsOrder, Order};
use super::supervise::{Ended, Exit, last_line};
use crate::files::{self, ForeignFileError};
use crate::state::AttemptEnd;

/// Classifies the end of an attempt and keeps what is to be kept.
///
/// A loss counts only if the payload also exited with 0, also when it was asked to end.
pub(super) fn interpret(directory: &Path, order: &Order, ended: Ended, warnings: &mut Vec<String>) -> AttemptEnd {
    let work = &order.launch.work_directory;
    let document = files::read_foreign(&work.join(&order.output), limits::LOSS_DOCUMENT_BYTES);
    let verdict = document.as_ref().ok().map(|bytes| loss_document::interpret(bytes));
    let said = match &verdict {
        Some(Verdict::Failure { reason }) => Some(reason.as_str()),
        _ => None,
    };
    let failed = |reason: String| AttemptEnd::Failed {
        reason: crate::report::escape(&shortened(&reason)),
    };
    match (ended.exit, ended.intervention) {
        // The loss of an evaluation that was asked to pause is not its last.
        (Exit::Code(0), _) if is_paused(directory) => AttemptEnd::Stopped,
        (Exit::Code(0), intervention) => match (verdict, document) {
            (Some(Verdict::Loss { loss, losses, message }), _) => {
                let metadata = keep_metadata(directory, order, warnings);
                let metrics = keep_metrics(order, warnings);
                let message = message.map(|text| shortened(&text));
                let losses = plain(losses, warnings);
                AttemptEnd::Done {
                    loss,
                    losses,
                    message,
                    metrics,
                    metadata,
                }
            }
            (_, _) if intervention == Intervention::Stopped => AttemptEnd::Stopped,
            (_, _) if intervention == Intervention::TimedOut => failed(timed_out(order.launch.timeout)),
            (Some(Verdict::Failure { reason }), _) => failed(reason),
            (None, Err(ForeignFileError::Missing(name))) => {
                let hint = last_line(&directory.join("stderr.log"));
                let hint = hint
                    .map(|line| format!("; last line of its stderr: {line}"))
                    .unwrap_or_default();
                failed(format!("the evaluation exited with 0 but wrote no `{name}`{hint}"))
            }
            (None, Err(error)) => failed(error.to_string()),
            (None, Ok(_)) => failed("the loss document could not be interpreted".to_owned()),
        },
        (_, Intervention::Stopped) => AttemptEnd::Stopped,
        (_, Intervention::TimedOut) => failed(timed_out(order.launch.timeout)),
        (exit, Intervention::None) => {
            let mut reason = match exit {
                Exit::Code(127) => "exit code 127 (command not found)".to_owned(),
                Exit::Code(126) => "exit code 126 (command cannot be executed)".to_owned(),
                Exit::Code(code) => format!("exit code {code}"),
                // We send it only to what was asked to end before.
                Exit::Signal(9) => {
                    "ended by signal 9 (SIGKILL), which the kernel sends where memory runs out".to_owned()
                }
                Exit::Signal(signal) => format!("ended by signal {signal}{}", name_of(signal)),
            };
            if let Some(said) = said {
                let _ = write!(reason, "; {said}");
            } else if let Some(line) = last_line(&directory.join("stderr.log")) {
                let _ = write!(reason, "; last line of its stderr: {line}");
            }
            failed(reason)
        }
    }
}

/// Whether the last decision that the payload could read was to pause.
fn is_paused(directory: &Path) -> bool {
    let decision = fs::read_to_string(directory.join("decision")).ok();
    decision.and_then(|text| text.parse().ok()) == Some(Decision::Pause)
}

/// Most letters of a payload's words that are kept; all of them are in its work directory.
const LONGEST_WORDS: usize = 1000;
/// Most further losses that are kept.
const MOST_LOSSES: usize = 100;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_WORDS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The further losses that fit into a journal record.
fn plain(losses: Vec<(String, f64)>, warnings: &mut Vec<String>) -> Vec<(String, f64)> {
    let all = losses.len();
    let kept: Vec<(String, f64)> = losses
        .into_iter()
        .filter(|(name, loss)| loss.is_finite() && name.len() <= limits::KEY_BYTES)
        .take(MOST_LOSSES)
        .collect();
    if kept.len() < all {
        warnings.push(format!(
            "{} of {all} further losses are left out: at most {MOST_LOSSES} finite ones with names of {} bytes are kept",
            all - kept.len(),
            limits::KEY_BYTES
        ));
    }
    kept
}

fn timed_out(timeout: Option<Duration>) -> String {
    let seconds = timeout.unwrap_or_default().as_secs_f64();
    format!("not finished after {seconds} s (evaluationTimeout)")
}

fn name_of(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal)
        .map(|name| format!(" ({name})"))
        .unwrap_or_default()
}

/// Copies the metadata out of the work directory if they are a JSON object within the limit.
fn keep_metadata(directory: &Path, order: &Order, warnings: &mut Vec<String>) -> bool {
    let Some(name) = &order.meta else { return false };
    let bytes = match files::read_foreign(&order.launch.work_directory.join(name), limits::METADATA_BYTES) {
        Ok(bytes) => bytes,
        Err(ForeignFileError::Missing(_)) => return false,
        Err(error) => {
            warnings.push(format!("metadata ignored: {error}"));
            return false;
        }
    };
    if !serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|value| value.is_object()) {
        warnings.push(format!("metadata ignored: `{name}` must be a JSON object"));
        return false;
    }
    match files::write_whole(&directory.join("metadata.json"), &bytes, files::Durability::PowerCut) {
        Ok(()) => true,
        Err(error) => {
            warnings.push(format!("metadata not kept: {error}"));
            false
        }
    }
}

/// Renames and nests the metrics file as the PanDA job wrapper does: `<file>_<point>` within a gzipped tar.
fn keep_metrics(order: &Order, warnings: &mut Vec<String>) -> Option<String> {
    let metrics = order.metrics.as_ref()?;
    let source = order.launch.work_directory.join(&metrics.file);
    match fs::symlink_metadata(&source) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => {
            warnings.push(format!("metrics ignored: `{}` must be a regular file", metrics.file));
            return None;
        }
        // As in the wrapper, a payload need not write metrics.
        Err(_) => return None,
    }
    match nest(&source, metrics) {
        Ok(()) => Some(metrics.archive_name.clone()),
        Err(error) => {
            warnings.push(format!("metrics not kept: {error}"));
            None
        }
    }
}

fn nest(source: &Path, metrics: &MetricsOrder) -> io::Result<()> {
    let temporary = files::temporary_beside(&metrics.archive);
    let result = (|| {
        let mut archive = tar::Builder::new(GzEncoder::new(File::create_new(&temporary)?, Compression::fast()));
        archive.append_file(&metrics.member, &mut File::open(source)?)?;
        archive.into_inner()?.finish()?.sync_all()?;
        fs::rename(&temporary, &metrics.archive)?;
        files::sync_directory(files::parent_of(&metrics.archive))
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}
