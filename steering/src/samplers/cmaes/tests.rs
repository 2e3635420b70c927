use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;
use serde_json::{Value, json};

use crate::ask::{Request, ask};
use crate::explain::explain;

fn request(count: usize) -> Request {
    Request {
        sampler: "cmaes".into(),
        ..Request::new(count, 5)
    }
}

fn input(points: &[Value]) -> SteeringInput {
    SteeringInput::from_value(json!({"points": points}), Some(1e5)).unwrap()
}

fn asked(space: &Value, points: &[Value], count: usize) -> Vec<Value> {
    let document = SpaceDocument::from_value(space).unwrap();
    let new = ask(&document, &input(points), &request(count)).unwrap();
    new.iter().map(|one| json!(one.point())).collect()
}

/// The numbers behind the next point.
fn facts(space: &Value, points: &[Value]) -> Value {
    let document = SpaceDocument::from_value(space).unwrap();
    Value::Object(
        explain(&document, &input(points), &request(1))
            .unwrap()
            .remove(0)
            .explanation
            .facts,
    )
}

fn continuous(dimensions: usize) -> Value {
    (0..dimensions)
        .map(|axis| {
            (
                format!("x{axis}"),
                json!({"method": "uniform", "dimension": {"low": -5.0, "high": 5.0}}),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// An ellipsoid with its minimum away from the centre.
fn ellipsoid(point: &Value) -> f64 {
    let values = point.as_object().unwrap().values();
    values
        .enumerate()
        .map(|(axis, x)| libm::pow(10.0, axis as f64) * libm::pow(x.as_f64().unwrap() - 1.5, 2.0))
        .sum()
}

/// Evaluates `budget` points in batches of `batch`.
fn run(space: &Value, budget: usize, batch: usize, loss: impl Fn(&Value) -> f64) -> Vec<Value> {
    let mut points: Vec<Value> = Vec::new();
    while points.len() < budget {
        let new = asked(space, &points, batch);
        points.extend(new.into_iter().map(|point| json!([point, loss(&point)])));
    }
    points
}

fn best(points: &[Value]) -> f64 {
    points
        .iter()
        .filter_map(|pair| pair[1].as_f64())
        .fold(f64::INFINITY, f64::min)
}

#[test]
fn an_ellipsoid_is_solved_to_many_digits_from_unordered_histories() {
    let mut points = run(&continuous(4), 800, 5, ellipsoid);
    assert!(best(&points) < 1e-6, "{}", best(&points));
    let next = asked(&continuous(4), &points, 3);
    points.reverse();
    points.swap(3, 77);
    assert_eq!(asked(&continuous(4), &points, 3), next);
    assert!(facts(&continuous(4), &points)["generation"].as_u64().unwrap() > 70);
}

#[test]
fn integers_and_categories_settle_on_their_best_values() {
    let space = json!({
        "n": {"method": "uniformint", "dimension": {"low": 0, "high": 1000}},
        "b": {"method": "uniformint", "dimension": {"low": 0, "high": 1}},
        "x": {"method": "loguniform", "dimension": {"low": 1e-6, "high": 1.0}},
        "z": {"method": "normal", "dimension": {"mu": 3, "sigma": 2}},
        "c": {"method": "categorical", "dimension": {"categories": ["a", "b", "c", "d"]}},
        "only_c": {"method": "uniform", "dimension": {"low": 0, "high": 1}, "if": {"c": ["c"]}}
    });
    let loss = |point: &Value| {
        let number = |key: &str| point[key].as_f64().unwrap();
        let category = match point["c"].as_str().unwrap() {
            "c" => (point["only_c"].as_f64().unwrap() - 0.2).abs(),
            _ => 1.0,
        };
        (number("n") - 417.0).abs() / 100.0
            + (1.0 - number("b"))
            + (libm::log10(number("x")) + 3.0).abs()
            + (number("z") - 4.0).abs()
            + category
    };
    let points = run(&space, 700, 10, loss);
    assert!(best(&points) < 0.1, "{}", best(&points));
}

#[test]
fn points_from_elsewhere_change_nothing() {
    let own = run(&continuous(3), 60, 6, ellipsoid);
    let expected = asked(&continuous(3), &own, 4);
    let mut mixed = own;
    for index in 0..25 {
        let x = f64::from(index) / 7.0 - 1.7;
        mixed.insert(index as usize * 2, json!([{"x0": x, "x1": -x, "x2": 0.25}, 1e-3 * x]));
    }
    mixed.push(json!([{"x0": 77.0}, -5.0]));
    assert_eq!(asked(&continuous(3), &mixed, 4), expected);
}

#[test]
fn a_late_outcome_leaves_every_later_point_in_its_place() {
    // Four workers, each of which takes its own time: there are always points whose outcome is missing.
    let space = continuous(3);
    let mut points: Vec<Value> = asked(&space, &[], 4)
        .into_iter()
        .map(|point| json!([point, null]))
        .collect();
    for turn in 0..300_usize {
        let open: Vec<usize> = (0..points.len()).filter(|at| points[*at][1].is_null()).collect();
        let done = open[(turn * 7) % open.len()];
        points[done][1] = ellipsoid(&points[done][0]).into();
        let new = asked(&space, &points, 1).remove(0);
        points.push(json!([new, null]));
        // Every point so far is a position of the sequence; were the past rewritten, some would not be found again.
        assert_eq!(facts(&space, &points)["position"], points.len(), "after {turn}");
    }
    assert!(best(&points) < 1e-2, "{}", best(&points));
}

#[test]
fn failures_rank_last_and_lost_points_count_for_nothing() {
    let space = continuous(2);
    let first = asked(&space, &[], 6);
    let with = |losses: [Value; 6]| -> Vec<Value> {
        first
            .iter()
            .zip(losses)
            .map(|(point, loss)| json!([point, loss]))
            .collect()
    };
    let failed = with([json!(1e5), json!(1.0), json!(2.0), json!(3.0), json!(4.0), json!(5.0)]);
    let worst = with([json!(9.0), json!(1.0), json!(2.0), json!(3.0), json!(4.0), json!(5.0)]);
    assert_eq!(facts(&space, &failed)["generation"], 1);
    assert_eq!(asked(&space, &failed, 2), asked(&space, &worst, 2));
    let meta: Vec<Value> = (0..6)
        .map(|index| {
            if index == 0 {
                json!({"status": "failed", "failure": "infrastructure"})
            } else {
                json!({})
            }
        })
        .collect();
    let lost = SteeringInput::from_value(json!({"points": failed, "meta": meta}), Some(1e5)).unwrap();
    let document = SpaceDocument::from_value(&space).unwrap();
    let explained = explain(&document, &lost, &request(1)).unwrap().remove(0);
    assert_eq!(
        explained.explanation.facts["generation"], 0,
        "the generation is one point short"
    );
    assert_eq!(explained.explanation.facts["evaluated_in_generation"], 5);
}

#[test]
fn a_flat_landscape_leads_to_restarts_with_larger_generations() {
    let space = continuous(2);
    let points = run(&space, 300, 6, |_| 0.5);
    let facts = facts(&space, &points);
    assert!(facts["restart"].as_u64().unwrap() >= 1, "{facts}");
    assert_eq!(
        facts["generation_size"].as_u64().unwrap(),
        6 << facts["restart"].as_u64().unwrap()
    );
}
