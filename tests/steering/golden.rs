//! Suggestions for fixed histories, to the last digit. They change only with the version that says so in its change log.

use std::fmt::Write as _;

use serde_json::{Value, json};
use steering::ask::ask;
use steering::samplers::Registry;

use crate::support::{document, every_kind, history, request, toy_loss, unbounded, values};

#[test]
fn suggestions_for_fixed_histories_stay_what_they_were() {
    let mut transcript = String::new();
    for (title, space) in [("every kind", every_kind()), ("unbounded", unbounded())] {
        let start = values(&ask(&document(&space), &history(&json!([])), &request("random", 24)).unwrap());
        let points: Vec<Value> = start
            .into_iter()
            .enumerate()
            .map(|(index, point)| {
                let loss = match index % 8 {
                    3 => Value::Null,
                    6 => json!(100_000.0),
                    _ => toy_loss(&point).into(),
                };
                json!([point, loss])
            })
            .collect();
        for entry in Registry::standard().entries() {
            let Ok(new) = ask(
                &document(&space),
                &history(&points.clone().into()),
                &request(entry.name, 3),
            ) else {
                continue;
            };
            let _ = writeln!(transcript, "{} on {title}", entry.name);
            for point in new {
                let _ = writeln!(transcript, "  {}", serde_json::to_string(&point).unwrap());
            }
        }
    }
    insta::with_settings!({ snapshot_path => "../golden/steering", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("suggestions", transcript);
    });
}
