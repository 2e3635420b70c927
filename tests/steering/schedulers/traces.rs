//! Courses of events worked out by hand.

use serde_json::{Value, json};

use protocol::steering::SteeringInput;
use steering::ask::ask;

use super::{next, plane, schedule, scheduled};
use crate::support::{document, values};

/// The configuration number `id` after training for `epochs`.
pub(super) fn trained(id: usize, number: usize, epochs: u64, loss: &Value) -> Value {
    json!([{"x": id as f64 / 100.0, "rate": 0.1, "hpo.n": number, "hpo.c": id, "hpo.epochs": epochs}, loss])
}

#[test]
fn asha_promotes_whoever_is_in_the_best_third_as_soon_as_it_is() {
    let losses = [0.5, 0.4, 0.6, 0.3, 0.7, 0.35, 0.2, 0.45, 0.55, 0.3, 0.25, 0.1];
    let request = scheduled(schedule("asha", 81, &[]), 1, None);
    let mut points: Vec<Value> = Vec::new();
    let mut promoted = Vec::new();
    for (id, loss) in losses.into_iter().enumerate() {
        points.push(trained(id, id, 1, &loss.into()));
        let new = next(&plane(), &points, &request).remove(0);
        if new["hpo.epochs"] == 3 {
            let climber = new["hpo.c"].as_u64().unwrap() as usize;
            assert_eq!(new["hpo.from"], climber);
            assert_eq!(new["x"], climber as f64 / 100.0);
            promoted.push((id, climber));
            points.push(trained(climber, 100 + climber, 3, &Value::Null));
        } else {
            assert_eq!((&new["hpo.epochs"], new.get("hpo.from")), (&json!(1), None));
        }
    }
    assert_eq!(promoted, [(2, 1), (3, 3), (5, 5), (6, 6), (9, 9), (10, 10), (11, 11)]);
}

#[test]
fn a_loss_that_is_no_number_neither_climbs_nor_keeps_others_from_climbing() {
    let losses = [
        json!(0.5),
        json!(0.4),
        json!(0.6),
        json!("NaN"),
        json!(0.7),
        json!(0.35),
        json!(1e5),
    ];
    let mut points: Vec<Value> = losses
        .iter()
        .enumerate()
        .map(|(id, loss)| trained(id, id, 1, loss))
        .collect();
    let request = scheduled(schedule("asha", 81, &[]), 1, None);
    let mut climbers = Vec::new();
    for number in 100..110 {
        let new = next(&plane(), &points, &request).remove(0);
        if new["hpo.epochs"] == 3 {
            climbers.push(new["hpo.c"].clone());
        }
        points.push(json!([new, null]));
        points.last_mut().unwrap()[0]["hpo.n"] = number.into();
    }
    assert_eq!(climbers, [5, 1]);
}

#[test]
fn the_highest_rung_with_a_candidate_goes_first() {
    let mut points: Vec<Value> = (0..6).map(|id| trained(id, id, 1, &json!(id))).collect();
    points.extend((0..3).map(|id| trained(id, 10 + id, 3, &json!(9 - id))));
    let new = next(&plane(), &points, &scheduled(schedule("asha", 9, &[]), 2, None));
    assert_eq!((&new[0]["hpo.c"], &new[0]["hpo.epochs"]), (&json!(2), &json!(9)));
    assert_eq!(new[1].get("hpo.from"), None, "{new:?}");
}

#[test]
fn the_last_points_finish_what_was_begun() {
    let mut points: Vec<Value> = (0..8).map(|id| trained(id, id, 1, &json!(id))).collect();
    points.push(trained(0, 8, 3, &json!(0.5)));
    points.push(trained(1, 9, 3, &Value::Null));
    let request = |max| scheduled(schedule("asha", 27, &[]), 1, Some(max));
    let new = next(&plane(), &points, &request(14)).remove(0);
    assert_eq!(new["hpo.epochs"], 1, "{new}");
    // Three are left, as many as there are promotions: no more new ones.
    let new = next(&plane(), &points, &request(13)).remove(0);
    assert_eq!(
        (&new["hpo.c"], &new["hpo.epochs"], &new["hpo.from"]),
        (&json!(0), &json!(9), &json!(8))
    );
    // One is left, and nobody was trained in full.
    let new = next(&plane(), &points, &request(11)).remove(0);
    assert_eq!(
        (&new["hpo.c"], &new["hpo.epochs"], &new["hpo.from"]),
        (&json!(0), &json!(27), &json!(8))
    );
    assert_eq!(next(&plane(), &points, &request(10)), Vec::<Value>::new());
}

#[test]
fn a_space_without_new_points_is_trained_up_and_then_the_search_is_over() {
    let space = json!({"x": {"method": "categorical", "dimension": {"categories": [1, 2, 3, 4]}}});
    let mut request = scheduled(schedule("asha", 9, &[]), 3, None);
    let mut points: Vec<Value> = Vec::new();
    let mut grants = Vec::new();
    for _ in 0..20 {
        let new = next(&space, &points, &request);
        if new.is_empty() {
            break;
        }
        request.count = 1;
        for point in new {
            grants.push((point["x"].as_u64().unwrap(), point["hpo.epochs"].as_u64().unwrap()));
            let loss = point["x"].as_f64().unwrap() / 10.0;
            points.push(json!([point, loss]));
        }
    }
    let of = |epochs| grants.iter().filter(|grant| grant.1 == epochs).count();
    assert_eq!((of(1), of(9)), (4, 1), "{grants:?}");
    assert!(grants.contains(&(1, 9)), "{grants:?}");
    // Somebody is still at work: the answer may not be that the search is over.
    let mut waiting = points.clone();
    waiting.pop();
    let last = waiting.pop().unwrap();
    waiting.push(json!([last[0], null]));
    assert!(!next(&space, &waiting, &request).is_empty());
}

/// The grants of a search by bracket, all evaluations done one by one.
fn grants(scheduler: &str, full: u64, settings: &[(&str, &str)], count: usize) -> Vec<(u64, u64)> {
    let request = scheduled(schedule(scheduler, full, settings), 1, None);
    let mut points: Vec<Value> = Vec::new();
    for _ in 0..count {
        let new = next(&plane(), &points, &request).remove(0);
        let loss = new["x"].as_f64().unwrap();
        points.push(json!([new, loss]));
    }
    let grant = |pair: &Value| {
        (
            pair[0]["hpo.b"].as_u64().unwrap(),
            pair[0]["hpo.epochs"].as_u64().unwrap(),
        )
    };
    points.iter().map(grant).collect()
}

fn of(grants: &[(u64, u64)], bracket: u64, epochs: u64) -> usize {
    grants.iter().filter(|grant| **grant == (bracket, epochs)).count()
}

#[test]
fn synchronous_brackets_have_the_rungs_of_the_paper() {
    let table = [
        (0, vec![(1, 27), (3, 9), (9, 3), (27, 1)]),
        (1, vec![(3, 12), (9, 4), (27, 1)]),
        (2, vec![(9, 6), (27, 2)]),
        (3, vec![(27, 4)]),
    ];
    let all: usize = table.iter().flat_map(|(_, rungs)| rungs).map(|(_, count)| count).sum();
    let grants = grants("synchronous", 27, &[], all);
    for (bracket, rungs) in table {
        for (epochs, count) in rungs {
            assert_eq!(of(&grants, bracket, epochs), count, "bracket {bracket} at {epochs}");
        }
    }
    assert_eq!(
        grants.iter().map(|grant| grant.1).sum::<u64>(),
        27 * 4 + 12 * 3 + 4 * 9 + 27 + 6 * 9 + 2 * 27 + 4 * 27
    );
}

#[test]
fn a_synchronous_rung_waits_while_the_next_bracket_begins() {
    let request = scheduled(schedule("synchronous", 9, &[]), 1, None);
    let mut points: Vec<Value> = Vec::new();
    for number in 0..9 {
        let new = next(&plane(), &points, &request).remove(0);
        assert_eq!((&new["hpo.b"], &new["hpo.epochs"]), (&json!(0), &json!(1)));
        let loss = if number == 4 { Value::Null } else { new["x"].clone() };
        points.push(json!([new, loss]));
    }
    let new = next(&plane(), &points, &request).remove(0);
    assert_eq!((&new["hpo.b"], &new["hpo.epochs"]), (&json!(1), &json!(3)));
    points[4][1] = json!(1e5);
    let new = next(&plane(), &points, &request).remove(0);
    assert_eq!((&new["hpo.b"], &new["hpo.epochs"]), (&json!(0), &json!(3)));
}

#[test]
fn hyperband_shares_its_configurations_out_among_brackets() {
    let grants = grants("hyperband", 9, &[], 60);
    let begun = [of(&grants, 0, 1), of(&grants, 1, 3), of(&grants, 2, 9)];
    let all: usize = begun.iter().sum();
    for (begun, share) in begun.into_iter().zip([9.0, 5.0, 3.0]) {
        assert!(
            (begun as f64 - all as f64 * share / 17.0).abs() < 2.0,
            "{begun} of {all}"
        );
    }
    let one = self::grants("hyperband", 9, &[("brackets", "1")], 20);
    assert!(one.iter().all(|grant| grant.0 == 0));
}

#[test]
fn promoting_all_that_may_be_takes_the_known_number_of_evaluations() {
    for (eta, base, all) in [("3", 27, 40), ("3", 81, 121), ("4", 100, 132), ("2", 100, 197)] {
        let mut points: Vec<Value> = (0..base).map(|id| trained(id, id, 1, &json!(id))).collect();
        let full = u64::pow(eta.parse().unwrap(), 10);
        let request = scheduled(schedule("asha", full, &[("eta", eta)]), 1, None);
        loop {
            let new = next(&plane(), &points, &request).remove(0);
            if new.get("hpo.from").is_none() {
                break;
            }
            let loss = new["hpo.c"].clone();
            points.push(json!([new, loss]));
        }
        assert_eq!(points.len(), all, "η = {eta}, N = {base}");
    }
}

/// The stage of a member of a population.
fn stage(member: usize, generation: u64, rate: f64, loss: &Value) -> Value {
    let number = 10 * generation + member as u64;
    let mut point = json!({"x": 0.5, "rate": rate, "hpo.n": number, "hpo.c": member, "hpo.epochs": generation + 1});
    point["hpo.m"] = member.into();
    point["hpo.g"] = generation.into();
    if generation > 0 {
        point["hpo.from"] = (number - 10).into();
    }
    json!([point, loss])
}

#[test]
fn the_worst_of_a_population_go_on_from_the_best_with_changed_values() {
    let losses = [0.5, 0.1, 0.3, 0.9, 0.2];
    let points: Vec<Value> = losses
        .iter()
        .enumerate()
        .map(|(m, loss)| stage(m, 0, 0.01 * (m + 1) as f64, &json!(loss)))
        .collect();
    let settings = [("population", "5"), ("frozen", "x"), ("resample", "0")];
    let new = next(&plane(), &points, &scheduled(schedule("pbt", 9, &settings), 5, None));
    for (member, point) in new.iter().enumerate() {
        assert_eq!(
            (&point["hpo.m"], &point["hpo.g"], &point["hpo.epochs"]),
            (&json!(member), &json!(1), &json!(2))
        );
        assert_eq!(point["x"], 0.5);
        if member == 3 {
            assert_eq!(point["hpo.from"], 1, "{point}");
            let ratio = point["rate"].as_f64().unwrap() / 0.02;
            assert!((ratio - 1.2).abs() < 1e-9 || (ratio - 0.8).abs() < 1e-9, "{point}");
            assert_eq!(
                (&point["hpo.c"], &point["hpo.sched"]),
                (&point["hpo.n"], &json!("1:rate=0.02"))
            );
        } else {
            assert_eq!((&point["hpo.from"], &point["hpo.c"]), (&json!(member), &json!(member)));
            assert_eq!(
                (&point["rate"], point.get("hpo.sched")),
                (&points[member][0]["rate"], None)
            );
        }
    }
}

#[test]
fn a_member_that_failed_waits_for_one_to_go_on_from() {
    let settings = [("population", "4"), ("resample", "0")];
    let request = scheduled(schedule("pbt", 9, &settings), 1, None);
    let mut points: Vec<Value> = (0..4).map(|m| stage(m, 0, 0.01, &Value::Null)).collect();
    points[2][1] = json!("NaN");
    let new = next(&plane(), &points, &request).remove(0);
    assert_eq!(
        (&new["hpo.m"], &new["hpo.g"]),
        (&json!(4), &json!(0)),
        "all are at work: {new}"
    );
    points[1][1] = json!(0.5);
    let grown = scheduled(schedule("pbt", 9, &settings), 2, None);
    let new = next(&plane(), &points, &grown);
    assert_eq!(
        (&new[0]["hpo.m"], &new[0]["hpo.from"]),
        (&json!(1), &json!(1)),
        "{new:?}"
    );
    assert_eq!(
        (&new[1]["hpo.m"], &new[1]["hpo.from"]),
        (&json!(2), &json!(1)),
        "{new:?}"
    );
}

#[test]
fn a_schedule_tells_what_was_used_up_to_which_epoch() {
    let mut points: Vec<Value> = Vec::new();
    for generation in 0..3 {
        let rate = if generation < 2 { 0.1 } else { 0.12 };
        points.push(stage(0, generation, rate, &json!(0.5)));
        points[generation as usize][0]["hpo.c"] = if generation < 2 { 0 } else { 20 }.into();
    }
    let settings = [("population", "4"), ("resample", "0")];
    let request = scheduled(schedule("pbt", 9, &settings), 4, None);
    let new = next(&plane(), &points, &request);
    let on = new.iter().find(|point| point["hpo.m"] == 0).unwrap();
    assert_eq!((&on["hpo.epochs"], &on["hpo.sched"]), (&json!(4), &json!("2:rate=0.1")));
}

#[test]
fn a_population_ends_when_all_members_are_trained_in_full() {
    let settings = [("population", "4")];
    let mut points: Vec<Value> = Vec::new();
    for _ in 0..40 {
        let new = next(&plane(), &points, &scheduled(schedule("pbt", 3, &settings), 1, None));
        let Some(point) = new.into_iter().next() else { break };
        let loss = point["x"].clone();
        points.push(json!([point, loss]));
    }
    assert_eq!(points.len(), 12);
    assert_eq!(points.iter().filter(|pair| pair[0]["hpo.epochs"] == 3).count(), 4);
}

#[test]
fn what_failed_later_is_not_trained_in_full_at_the_end() {
    let mut points = vec![trained(0, 0, 1, &json!(0.1)), trained(1, 1, 1, &json!(0.9))];
    points.push(trained(0, 2, 3, &json!("NaN")));
    let new = next(&plane(), &points, &scheduled(schedule("asha", 9, &[]), 1, Some(4))).remove(0);
    assert_eq!(
        (&new["hpo.c"], &new["hpo.epochs"], &new["hpo.from"]),
        (&json!(1), &json!(9), &json!(1))
    );
}

#[test]
fn curves_of_the_history_make_tables_of_cutoffs_and_reach_the_sampler() {
    let point = |n: u64| json!({"x": n as f64 / 10.0, "rate": 0.1, "hpo.n": n, "hpo.c": n, "hpo.epochs": 9});
    let points: Vec<Value> = (0..7).map(|n| json!([point(n), n])).collect();
    let meta: Vec<Value> = (0..7)
        .map(|n| json!({"status": if n < 6 { "done" } else { "stopped" }, "epochs_done": 3, "curve": [[1, n + 3], [3, n]]}))
        .collect();
    let history = SteeringInput::from_value(json!({"points": points, "meta": meta}), Some(1e5)).unwrap();
    let stop = |scheduler: &str, table: &str| {
        let request = scheduled(schedule(scheduler, 9, &[("table", table)]), 1, None);
        let answer = values(&ask(&document(&plane()), &history, &request).unwrap());
        answer[0].get("hpo.stop").cloned()
    };
    assert_eq!(stop("stopping", "on"), Some(json!("1:5;3:2")));
    // Medians of the running means of the six that were trained to the end.
    assert_eq!(stop("median", "on"), Some(json!("1:5.5;2:4")));
    assert_eq!(stop("stopping", "off"), None);
}

#[test]
fn a_schedule_that_has_no_room_to_grow_stays_whole() {
    let keys: Vec<String> = (0..8)
        .map(|key| format!("a_hyperparameter_with_a_long_name_{key}"))
        .collect();
    let space: serde_json::Map<String, Value> = (keys.iter())
        .map(|key| {
            (
                key.clone(),
                json!({"method": "uniform", "dimension": {"low": 0, "high": 1}}),
            )
        })
        .collect();
    let space = Value::Object(space);
    let settings = [("population", "4"), ("exploit", "0.5"), ("resample", "0.5")];
    let request = scheduled(schedule("pbt", 60, &settings), 1, None);
    let mut points: Vec<Value> = Vec::new();
    let (mut longest, mut same) = (0, 0);
    for round in 0..120 {
        let point = next(&space, &points, &request).remove(0);
        longest = longest.max(point.to_string().len());
        let mut stages = vec![point.clone()];
        while let Some(from) = stages[0]["hpo.from"].as_u64() {
            stages.insert(0, points[from as usize][0].clone());
        }
        // What each epoch was trained with, by the points themselves and by the schedule of the last.
        let own = |key: &str, epoch: u64| {
            stages
                .iter()
                .find(|stage| stage["hpo.epochs"].as_u64() >= Some(epoch))
                .unwrap()[key]
                .clone()
        };
        let schedule = point["hpo.sched"].as_str().unwrap_or_default();
        let told = |key: &str, epoch: u64| {
            let until = |stage: &&str| stage.split(':').next().unwrap().parse::<u64>().unwrap() >= epoch;
            let stage = schedule.split(';').filter(|stage| !stage.is_empty()).find(until);
            let pairs = stage.map_or("", |stage| stage.split_once(':').unwrap().1).split(',');
            let mut values = pairs.filter_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key));
            values
                .next()
                .map_or_else(|| point[key].clone(), |(_, value)| value.parse().unwrap())
        };
        for epoch in 1..=point["hpo.epochs"].as_u64().unwrap() {
            for key in &keys {
                assert_eq!(told(key, epoch), own(key, epoch), "{key} in epoch {epoch} of {point}");
            }
        }
        let before = stages.iter().rev().nth(1);
        same += usize::from(before.is_some_and(|before| {
            before["hpo.c"] != point["hpo.c"] && keys.iter().all(|key| before[key] == point[key])
        }));
        points.push(json!([point, f64::from(round * 37 % 101)]));
    }
    assert!(longest <= protocol::limits::POINT_BYTES && longest > 2_500, "{longest}");
    assert!(same > 0, "no copy kept its values for want of room");
}
