//! Courses of two-step searches worked out by hand.

use serde_json::{Value, json};

use steering::schedulers::{Fidelity, Schedule};

use super::traces::trained;
use super::{next, plane, schedule, scheduled};

#[test]
fn the_second_step_begins_with_a_calibration_and_goes_on_with_the_best() {
    let settings = [
        ("configurations", "30"),
        ("top", "3"),
        ("calibration", "4"),
        ("chance", "0"),
        ("second", "none"),
    ];
    let mut request = scheduled(schedule("two-step", 9, &settings), 1, None);
    let mut points: Vec<Value> = Vec::new();
    let mut second: Vec<f64> = Vec::new();
    for number in 0..60 {
        let Some(point) = next(&plane(), &points, &request).into_iter().next() else {
            break;
        };
        let expected = if number < 30 { (1, 1) } else { (2, 9) };
        assert_eq!(
            (&point["hpo.step"], &point["hpo.epochs"]),
            (&json!(expected.0), &json!(expected.1))
        );
        if number >= 30 {
            second.push(point["x"].as_f64().unwrap());
        }
        let loss = point["x"].clone();
        points.push(json!([point, loss]));
    }
    let mut first: Vec<f64> = points[..30].iter().map(|pair| pair[1].as_f64().unwrap()).collect();
    first.sort_by(f64::total_cmp);
    // Four of all ranks, then the best three, of which one was among the four.
    assert_eq!(second, [first[0], first[9], first[19], first[29], first[1], first[2]]);
    // As long as one is on its way, the best so far go on, and then more are begun: the answer never ends the search.
    points.truncate(30);
    points[29][1] = Value::Null;
    request.count = 5;
    let steps: Vec<Value> = next(&plane(), &points, &request)
        .iter()
        .map(|point| point["hpo.step"].clone())
        .collect();
    assert_eq!(steps, [2, 2, 2, 1, 1]);
}

/// All points of a search one by one, the loss being `x`, as (step, share, epochs, loss).
fn by_x(schedule: Schedule) -> Vec<(u64, f64, u64, f64)> {
    let request = scheduled(schedule, 1, None);
    let mut points: Vec<Value> = Vec::new();
    while let Some(point) = next(&plane(), &points, &request).into_iter().next() {
        let loss = point["x"].clone();
        points.push(json!([point, loss]));
        assert!(points.len() < 200, "it does not end");
    }
    let line = |pair: &Value| {
        let point = &pair[0];
        let share = point["hpo.frac"].as_f64().unwrap_or(1.0);
        (
            point["hpo.step"].as_u64().unwrap(),
            share,
            point["hpo.epochs"].as_u64().unwrap(),
            pair[1].as_f64().unwrap(),
        )
    };
    points.iter().map(line).collect()
}

#[test]
fn the_second_step_is_a_race_that_promotes_nobody_wrongly() {
    let raced = |calibration: &str| {
        let settings = [
            ("configurations", "40"),
            ("top", "2"),
            ("calibration", calibration),
            ("second", "halving"),
        ];
        let found = by_x(schedule("two-step", 9, &settings));
        let at = |step: u64, epochs: u64| {
            let there = found.iter().filter(|line| (line.0, line.2) == (step, epochs));
            let mut losses: Vec<f64> = there.map(|line| line.3).collect();
            losses.sort_by(f64::total_cmp);
            losses
        };
        [at(1, 1), at(2, 3), at(2, 9)]
    };
    let [first, entered, full] = raced("0");
    assert_eq!((first.len(), &entered[..], &full[..]), (40, &first[..6], &first[..2]));
    // Where ranks agree only the best enter.
    let [first, entered, full] = raced("4");
    assert_eq!(entered, [first[1]]);
    assert_eq!(full, [0, 1, 13, 26, 39].map(|place| first[place]));
}

#[test]
fn each_step_has_a_scheduler_over_its_epochs() {
    let names = [
        ("configurations", "27"),
        ("top", "1"),
        ("calibration", "0"),
        ("first", "asha"),
        ("second", "asha"),
        ("epochs", "3"),
        ("full-epochs", "9"),
    ];
    let shares = Schedule {
        fidelity: Fidelity::fraction(0.1).unwrap(),
        ..schedule("two-step", 9, &names)
    };
    let found = by_x(shares);
    let count = |step: u64, epochs: u64| found.iter().filter(|line| (line.0, line.2) == (step, epochs)).count();
    assert!(found.iter().all(|line| (line.1 < 1.0) == (line.0 == 1)), "{found:?}");
    assert_eq!(count(1, 1), 27);
    assert!((9..=15).contains(&count(1, 3)), "{found:?}");
    assert_eq!(count(2, 1), 9);
    assert!(count(2, 3) >= 3 && count(2, 9) >= 1, "{found:?}");
    // Whoever was trained longer on part of the data ranks before the others.
    let longer: Vec<f64> = found
        .iter()
        .filter(|line| (line.0, line.2) == (1, 3))
        .map(|line| line.3)
        .collect();
    let entered = found.iter().filter(|line| (line.0, line.2) == (2, 1));
    assert!(entered.into_iter().all(|line| longer.contains(&line.3)), "{found:?}");
}

#[test]
fn a_ladder_climbs_where_ranks_agree_too_little_and_only_there() {
    let full = |n: u64, loss: f64| json!([{"x": n as f64 / 100.0, "rate": 0.1, "hpo.n": 100 + n, "hpo.c": n, "hpo.epochs": 32, "hpo.step": 2}, loss]);
    let settings = [
        ("configurations", "40"),
        ("calibration", "8"),
        ("top", "2"),
        ("ladder", "on"),
    ];
    let request = scheduled(schedule("two-step", 32, &settings), 4, None);
    let after = |loss: fn(u64) -> f64| {
        let mut points: Vec<Value> = (0..40_u64)
            .map(|n| trained(n as usize, n as usize, 1, &json!(n)))
            .collect();
        points.extend((0..8).map(|place| place * 39 / 7).map(|n| full(n, loss(n))));
        next(&plane(), &points, &request)
    };
    let agreeing = after(|n| n as f64);
    assert!(agreeing.iter().all(|point| point["hpo.epochs"] == 32), "{agreeing:?}");
    let shuffled = after(|n| (n * 17 % 40) as f64);
    let again: Vec<(u64, u64)> = (shuffled.iter())
        .map(|point| (point["hpo.c"].as_u64().unwrap(), point["hpo.epochs"].as_u64().unwrap()))
        .collect();
    assert_eq!(again, [(0, 2), (1, 2), (2, 2), (3, 2)]);
}

#[test]
fn a_model_finds_who_is_good_where_the_first_step_says_the_opposite() {
    // After one epoch the worst are ahead; what counts in the end is the distance from 0.3.
    let settings = [
        ("configurations", "200"),
        ("calibration", "6"),
        ("top", "2"),
        ("cost", "12%"),
    ];
    let request = scheduled(schedule("two-step", 27, &settings), 1, None);
    let lost = |point: &Value| {
        let distance = (point["x"].as_f64().unwrap() - 0.3).abs();
        match point["hpo.epochs"].as_u64().unwrap() {
            1 => 1.0 - distance,
            epochs => distance + 1.0 / epochs as f64,
        }
    };
    let mut points: Vec<Value> = Vec::new();
    while let Some(point) = next(&plane(), &points, &request).into_iter().next() {
        let loss = lost(&point);
        points.push(json!([point, loss]));
        assert!(points.len() < 400, "it does not end");
    }
    let epochs = |pair: &Value| pair[0]["hpo.epochs"].as_u64().unwrap();
    let mut best = points[..200].to_vec();
    best.sort_by(|a, b| b[1].as_f64().unwrap().total_cmp(&a[1].as_f64().unwrap()));
    let in_full = |pair: &&Value| epochs(pair) == 27;
    let found = points
        .iter()
        .filter(in_full)
        .min_by(|a, b| a[1].as_f64().unwrap().total_cmp(&b[1].as_f64().unwrap()));
    assert_eq!(found.unwrap()[0]["hpo.c"], best[0][0]["hpo.c"]);
    // Longer training goes on from shorter: the last grant of each configuration is what it cost.
    let mut granted = std::collections::BTreeMap::new();
    for pair in &points {
        granted.insert(pair[0]["hpo.c"].as_u64(), epochs(pair));
    }
    let cost: u64 = granted.values().sum();
    assert!(cost <= 200 * 27 * 12 / 100, "{cost}");
    assert!(
        points.iter().filter(in_full).count() >= 7,
        "`top`, and the calibration without the best"
    );
    // Whoever enters is trained for a third first.
    assert!(points.iter().all(|pair| [1, 9, 27].contains(&epochs(pair))));
}
