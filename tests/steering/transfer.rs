//! Learning from other segments and from earlier tasks.

use serde_json::{Value, json};
use steering::ask::{AskError, Request, ask};
use steering::samplers::Registry;

use crate::support::{document, every_kind, history, read_input, request, stderr, stdout, steer, toy_loss, values};

fn line() -> Value {
    json!({
        "x": {"method": "uniform", "dimension": {"low": 0, "high": 1}},
        "y": {"method": "uniform", "dimension": {"low": 0, "high": 1}}
    })
}

fn segments(spaces: &[Value]) -> Value {
    let segment = |(id, space)| json!({"model_id": id, "search_space": space});
    spaces.iter().enumerate().map(segment).collect()
}

/// A valley with its lowest point at (0.8, 0.3), seen at `count` points from `first` on.
fn valley(segment: usize, first: usize, count: usize, sign: f64) -> Vec<Value> {
    (first..first + count)
        .map(|index| {
            let (x, y) = (index as f64 * 0.618_034 % 1.0, index as f64 * 0.754_878 % 1.0);
            let loss = 5.0 + segment as f64 + sign * ((x - 0.8) * (x - 0.8) + (y - 0.3) * (y - 0.3));
            json!([[segment, {"x": x, "y": y}], loss])
        })
        .collect()
}

fn distance(point: &Value) -> f64 {
    (point["x"].as_f64().unwrap() - 0.8).abs() + (point["y"].as_f64().unwrap() - 0.3).abs()
}

fn learning(transfer: bool) -> Request {
    Request {
        transfer,
        ..request("gp", 1)
    }
}

fn able() -> Vec<&'static str> {
    let registry = Registry::standard();
    let able = registry.entries().filter(|entry| {
        let built = registry.build(entry.name, &[]);
        built.is_ok_and(|(_, sampler)| sampler.learns_from_others())
    });
    able.map(|entry| entry.name).collect()
}

#[test]
fn a_segment_with_four_points_knows_where_its_relative_is_good() {
    let spaces = document(&segments(&[line(), line()]));
    let mut points = valley(0, 1, 4, 1.0);
    points.extend(valley(1, 30, 25, 1.0));
    let points = history(&points.into());
    let of_first = |transfer| values(&ask(&spaces, &points, &learning(transfer)).unwrap()).remove(0);
    assert!(distance(&of_first(true)) < 0.25, "{}", of_first(true));
    assert!(distance(&of_first(false)) > 0.3, "{}", of_first(false));
}

#[test]
fn a_segment_is_not_misled_by_its_opposite() {
    let spaces = document(&segments(&[line(), line()]));
    for sign in [1.0, -1.0] {
        let mut points = valley(0, 1, 12, sign);
        points.extend(valley(1, 30, 25, -sign));
        let points = history(&points.into());
        let answer = |transfer| ask(&spaces, &points, &learning(transfer)).unwrap();
        assert_eq!(answer(true), answer(false));
    }
}

#[test]
fn earlier_tasks_are_tried_at_once_where_they_were_best() {
    let earlier: Vec<Value> = valley(0, 30, 25, 1.0)
        .into_iter()
        .map(|entry| json!([entry[0][1], entry[1]]))
        .collect();
    let mut request = learning(false);
    request.earlier = vec![history(&earlier.clone().into())];
    let first = values(&ask(&document(&line()), &history(&json!([])), &request).unwrap()).remove(0);
    assert!(distance(&first) < 0.2, "{first}");
}

#[test]
fn batches_and_the_order_of_the_history_do_not_matter_among_segments() {
    let spaces = document(&segments(&[line(), every_kind(), line()]));
    let mut points = valley(0, 1, 7, 1.0);
    points.extend(valley(2, 30, 12, 1.0));
    let kinds = values(&ask(&document(&every_kind()), &history(&json!([])), &request("random", 9)).unwrap());
    points.extend(kinds.into_iter().map(|point| {
        let loss = toy_loss(&point);
        json!([[1, point], loss])
    }));
    for sampler in able() {
        let ask = |points: &[Value], count| {
            let request = Request {
                transfer: true,
                sampler: sampler.into(),
                ..request(sampler, count)
            };
            ask(&spaces, &history(&points.to_vec().into()), &request).unwrap()
        };
        let together = ask(&points, 3);
        let mut turned = points.clone();
        turned.reverse();
        turned.swap(3, 17);
        assert_eq!(ask(&turned, 3), together, "{sampler}");
        let mut grown = points.clone();
        for step in 0..3 {
            let one = ask(&grown, 1);
            for (segment, input) in one.iter().enumerate() {
                assert_eq!(*input, together[3 * segment + step], "{sampler}");
            }
            grown.extend(one.iter().map(|input| json!([input, null])));
        }
    }
}

#[test]
fn spaces_that_share_some_dimensions_or_none_are_no_obstacle() {
    let earlier = read_input(
        r#"{"points": [[{"rate": 5.0, "layers": 2, "new": 1}, 0.5], [{"rate": 0.01}, 0.2], [{"other": 3}, 0.1],
            [{"optimizer": "rmsprop", "units": 17}, 0.3], [{"rate": "fast"}, NaN], [{"rate": 0.001}, null]]}"#,
    );
    for sampler in able() {
        for known in [0, 4, 12] {
            let mut request = request(sampler, 4);
            let points = values(
                &ask(
                    &document(&every_kind()),
                    &history(&json!([])),
                    &self::request("random", known),
                )
                .unwrap(),
            );
            let points: Vec<Value> = points
                .into_iter()
                .map(|point| json!([point, toy_loss(&point)]))
                .collect();
            request.earlier = vec![earlier.clone(), history(&json!([])), earlier.clone()];
            let new = ask(&document(&every_kind()), &history(&points.into()), &request).unwrap();
            assert_eq!(new.len(), 4, "{sampler}");
        }
    }
}

#[test]
fn samplers_that_cannot_learn_from_others_refuse() {
    let registry = Registry::standard();
    let able = able();
    for entry in registry.entries().filter(|entry| !able.contains(&entry.name)) {
        let request = Request {
            transfer: true,
            ..request(entry.name, 1)
        };
        let error = ask(&document(&line()), &history(&json!([])), &request).unwrap_err();
        assert!(matches!(error, AskError::Unteachable { .. }), "{error}");
    }
    let request = Request {
        transfer: true,
        ..request("random", 1)
    };
    insta::assert_snapshot!(
        ask(&document(&line()), &history(&json!([])), &request).unwrap_err(),
        @"the sampler `random` learns from its own search alone; leave `--transfer` and `--warm` out, or choose one of auto, gp"
    );
}

#[test]
fn earlier_tasks_are_read_from_files_and_task_directories() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, value: Value| std::fs::write(directory.path().join(name), value.to_string()).unwrap();
    let plain: Vec<Value> = valley(0, 30, 12, 1.0)
        .into_iter()
        .map(|entry| json!([entry[0][1], entry[1]]))
        .collect();
    let results: Vec<Value> = (plain.iter())
        .map(|entry| json!({"point": entry[0], "loss": entry[1], "status": "done"}))
        .collect();
    write("space.json", line());
    write("old.json", json!({"points": plain, "opt_space": null}));
    std::fs::create_dir(directory.path().join("task")).unwrap();
    write("task/results.json", json!({"task": "old", "points": results}));
    write("strange.json", json!({"points": [[{"z": 1}, 0.5]], "opt_space": null}));
    write(
        "far.json",
        json!({"points": [[{"x": 7}, 0.5], [{"x": 0.5}, 0.4]], "opt_space": null}),
    );
    let answer = |warm: &str| steer(directory.path(), &format!("ask -n 3 -s space.json {warm}"));
    let from_file = answer("--warm old.json");
    assert_eq!(stderr(&from_file), "");
    assert_eq!(stdout(&from_file), stdout(&answer("--warm task")));
    assert_ne!(stdout(&from_file), stdout(&answer("")));
    let odd = answer("--warm strange.json --warm far.json");
    insta::assert_snapshot!(stderr(&odd), @r"
    warning: nothing is learnt from `strange.json`: none of its 1 points has a loss and a dimension of the search space
    warning: 1 of the 2 points of `far.json` have numbers out of range, which count as the nearest in range
    ");
    let missing = answer("--warm nowhere");
    assert_eq!(missing.status.code(), Some(2));
    let message = stderr(&missing);
    assert!(
        message.contains("cannot read history of an earlier task `nowhere`"),
        "{message}"
    );
}
