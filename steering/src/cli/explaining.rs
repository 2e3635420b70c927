//! `steering explain`.

use std::fmt::Write as _;

use protocol::exit;
use serde_json::{Value, json};

use super::arguments::ExplainOptions;
use super::{Dialect, Failure, asking, output};
use crate::explain::{Explained, explain};

pub(super) fn run(options: &ExplainOptions) -> Result<u8, Failure> {
    let points = asking::with_question(&options.ask, Dialect::Own, explain)?;
    output::print(&if options.json {
        as_json(&points)
    } else {
        as_text(&points)
    })?;
    Ok(exit::DONE)
}

fn as_json(points: &[Explained]) -> String {
    let points: Vec<Value> = points
        .iter()
        .map(|explained| {
            let nearest = explained.nearest.as_ref().map(|nearest| {
                json!({
                    "point": nearest.point,
                    "loss": nearest.loss,
                    "rank": nearest.rank,
                    "of": nearest.of,
                    "distance": nearest.distance,
                    "changed": nearest.changed,
                })
            });
            json!({
                "model_id": explained.segment,
                "point": explained.point,
                "reason": explained.explanation.reason,
                "text": explained.explanation.text,
                "facts": explained.explanation.facts,
                "nearest": nearest,
            })
        })
        .collect();
    format!("{}\n", Value::from(points))
}

fn as_text(points: &[Explained]) -> String {
    if points.is_empty() {
        return "no points: the search is over\n".into();
    }
    let mut text = String::new();
    for explained in points {
        let place = explained
            .segment
            .map_or_else(String::new, |id| format!("segment {id}: "));
        let _ = writeln!(text, "{place}{}", json!(explained.point));
        let _ = writeln!(
            text,
            "  {}: {}",
            explained.explanation.reason, explained.explanation.text
        );
        if let Some(nearest) = &explained.nearest {
            let changed = match nearest.changed.as_slice() {
                [] => "no known key differs".to_owned(),
                keys => format!("other values of {}", keys.join(", ")),
            };
            let _ = writeln!(
                text,
                "  nearest: {} with loss {}, rank {} of {}, at distance {:.3}; {changed}",
                json!(nearest.point),
                nearest.loss,
                nearest.rank,
                nearest.of,
                nearest.distance
            );
        }
    }
    text
}
