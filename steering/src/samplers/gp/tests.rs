//! Whole searches with the sampler `gp`.

use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;
use serde_json::{Value, json};

use crate::ask::{Request, ask};

fn space() -> Value {
    json!({
        "x": {"method": "uniform", "dimension": {"low": -1, "high": 1}},
        "rate": {"method": "loguniform", "dimension": {"low": 1e-4, "high": 1}},
        "layers": {"method": "uniformint", "dimension": {"low": 1, "high": 5}},
        "kind": {"method": "categorical", "dimension": {"categories": ["a", "b", "c"]}}
    })
}

/// The next `count` points after `points`, each a `[point, loss]`; `meta` may be null.
fn next(space: &Value, points: &[Value], meta: &Value, count: usize, seed: u64) -> Vec<Value> {
    let document = SpaceDocument::from_value(space).unwrap();
    let mut input = json!({"points": points});
    if meta.is_array() {
        input["meta"] = meta.clone();
    }
    let input = SteeringInput::from_value(input, Some(1e5)).unwrap();
    let request = Request {
        sampler: "gp".into(),
        ..Request::new(count, seed)
    };
    let answer = ask(&document, &input, &request).unwrap();
    answer
        .into_iter()
        .map(|input| serde_json::to_value(input.point()).unwrap())
        .collect()
}

fn search(space: &Value, count: usize, batch: usize, loss: impl Fn(&Value) -> Value) -> Vec<Value> {
    let mut points: Vec<Value> = Vec::new();
    while points.len() < count {
        for point in next(space, &points, &Value::Null, batch, 7) {
            let loss = loss(&point);
            points.push(json!([point, loss]));
        }
    }
    points
}

/// Least 0, at x = 0.3, a rate of 0.01, three layers of kind "b".
fn bowl(point: &Value) -> f64 {
    let x = point["x"].as_f64().unwrap() - 0.3;
    let rate = libm::log10(point["rate"].as_f64().unwrap()) + 2.0;
    let layers = point["layers"].as_f64().unwrap() - 3.0;
    let kind = if point["kind"] == "b" { 0.0 } else { 0.4 };
    x * x + 0.3 * rate * rate + 0.05 * layers * layers + kind
}

fn least(points: &[Value], from: usize) -> f64 {
    points[from..]
        .iter()
        .filter_map(|pair| pair[1].as_f64())
        .fold(f64::INFINITY, f64::min)
}

#[test]
fn a_smooth_mixed_function_is_solved_in_forty_evaluations() {
    for batch in [1, 8] {
        let points = search(&space(), 40, batch, |point| bowl(point).into());
        assert!(least(&points, 0) < 5e-3, "batch {batch}: {}", least(&points, 0));
    }
}

#[test]
fn losses_over_many_decades_are_no_obstacle() {
    let points = search(&space(), 40, 1, |point| libm::exp(12.0 * bowl(point)).into());
    assert!(least(&points, 0) < 1.1, "{}", least(&points, 0));
}

/// The place of a value of a dimension in its range, from 0 to 1.
fn place(point: &Value, dimension: &str) -> f64 {
    let value = point[dimension].as_f64().unwrap();
    match dimension {
        "x" => 0.5 * (value + 1.0),
        "rate" => 0.25 * libm::log10(value) + 1.0,
        _ => 0.25 * (value - 1.0),
    }
}

/// Searches 98 points of `bowl` in batches of 8 around a region that fails, which covers about two fifths of the space and holds
/// the best points, so that losses fall towards its border. At most a tenth of the evaluations after the fiftieth may be wasted.
fn search_around(fails: impl Fn(&Value) -> bool) -> f64 {
    let points = search(&space(), 98, 8, |point| {
        if fails(point) {
            100_000.0.into()
        } else {
            bowl(point).into()
        }
    });
    let wasted = points[50..].iter().filter(|pair| fails(&pair[0])).count();
    assert!(wasted <= (points.len() - 50) / 10, "{wasted} points failed");
    least(&points, 0)
}

#[test]
fn a_half_that_fails_is_left_alone_and_its_border_searched() {
    let least = search_around(|point| place(point, "x") > 0.6);
    assert!(least < 0.05, "{least}");
}

#[test]
fn a_slope_that_fails_is_left_alone() {
    search_around(|point| place(point, "x") - place(point, "rate") > 0.1);
}

#[test]
fn a_ball_that_fails_is_left_alone() {
    search_around(|point| {
        let (x, rate) = (place(point, "x") - 0.65, place(point, "rate") - 0.5);
        x * x + rate * rate < 0.13
    });
}

#[test]
fn a_corner_that_fails_is_left_alone() {
    search_around(|point| place(point, "layers") >= 0.5 && place(point, "rate") > 0.35);
}

#[test]
fn failures_of_the_infrastructure_teach_nothing() {
    let mut points = search(&space(), 20, 1, |point| bowl(point).into());
    let before = points.len();
    let mut meta = vec![json!({}); before];
    for point in next(&space(), &points, &Value::Null, 3, 7) {
        points.push(json!([point, 100_000.0]));
        meta.push(json!({"status": "failed", "failure": "infrastructure"}));
    }
    let blamed = next(&space(), &points, &Value::Null, 1, 7);
    let excused = next(&space(), &points, &meta.into(), 1, 7);
    assert_ne!(blamed, excused);
    // Good points were lost: their neighbourhood is still wanted.
    assert!(bowl(&excused[0]) < 0.2, "{}", excused[0]);
}

#[test]
fn the_points_of_a_batch_keep_apart() {
    let points = search(&space(), 24, 1, |point| bowl(point).into());
    let batch = next(&space(), &points, &Value::Null, 6, 3);
    for (index, a) in batch.iter().enumerate() {
        for b in &batch[..index] {
            let far = |key: &str, unit: f64| (a[key].as_f64().unwrap() - b[key].as_f64().unwrap()).abs() / unit;
            let distance = far("x", 2.0) + far("layers", 4.0) + f64::from(a["kind"] != b["kind"]) + far("rate", 1.0);
            assert!(distance > 1e-4, "{a} {b}");
        }
    }
}

#[test]
fn a_small_space_is_searched_to_its_last_point() {
    let small = json!({
        "a": {"method": "categorical", "dimension": {"categories": [1, 2, 4, 8]}},
        "b": {"method": "uniformint", "dimension": {"low": 1, "high": 4}}
    });
    let loss = |point: &Value| json!(point["a"].as_f64().unwrap() * point["b"].as_f64().unwrap());
    let points = search(&small, 16, 1, loss);
    let mut found: Vec<String> = points.iter().map(|pair| pair[0].to_string()).collect();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 16);
    assert!(next(&small, &points, &Value::Null, 1, 7).is_empty());
    let best = points.iter().position(|pair| pair[1] == 1.0).unwrap();
    assert!(best < 10, "the best point came as number {best}");
}
