//! What every registered sampler must do. Driven by the registry: a new sampler is tested by being registered.

use std::collections::HashSet;

use proptest::prelude::*;
use protocol::limits::FAILED_LOSS;
use protocol::search_space::SpaceDocument;
use serde_json::{Value, json};
use steering::ask::{AskError, ask};
use steering::samplers::Registry;
use steering::space::Space;

use crate::support::{document, every_kind, history, read_input, request, suggest, toy_loss, unbounded, values};

fn samplers() -> Vec<&'static str> {
    Registry::standard().entries().map(|entry| entry.name).collect()
}

/// All samplers but those that only work on grids.
fn free_samplers() -> Vec<&'static str> {
    let continuum = json!({"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}});
    let works = |name: &&str| ask(&document(&continuum), &history(&json!([])), &request(name, 1)).is_ok();
    samplers().into_iter().filter(works).collect()
}

fn space(value: &Value) -> Space {
    let SpaceDocument::Single(space) = document(value) else {
        panic!("one space")
    };
    Space::new(&space).unwrap()
}

/// A history of points that the sampler itself chose, one at a time.
fn grow(space: &Value, sampler: &str, count: usize, loss: impl Fn(usize, &Value) -> Value) -> Vec<Value> {
    let mut points: Vec<Value> = Vec::new();
    for index in 0..count {
        let new = suggest(space, &points.clone().into(), sampler, 1);
        let Some(point) = new.into_iter().next() else { break };
        let loss = loss(index, &point);
        points.push(json!([point, loss]));
    }
    points
}

fn assert_valid(space_document: &Value, sampler: &str, points: &[Value]) {
    let space = space(space_document);
    for point in points {
        let typed = protocol::Point::from(point.as_object().unwrap().clone());
        let problems = space.problems(&typed);
        assert!(problems.is_empty(), "{sampler}: {point}: {problems:?}");
        assert!(serde_json::to_string(point).unwrap().len() <= 3_500);
    }
}

#[test]
fn every_point_is_valid_at_every_stage_of_a_search() {
    for sampler in samplers() {
        let points = grow(&every_kind(), sampler, 24, |_, point| toy_loss(point).into());
        assert_eq!(points.len(), 24, "{sampler}");
        assert_valid(
            &every_kind(),
            sampler,
            &points.iter().map(|pair| pair[0].clone()).collect::<Vec<_>>(),
        );
    }
    for sampler in free_samplers() {
        let points = grow(&unbounded(), sampler, 24, |_, point| toy_loss(point).into());
        assert_valid(
            &unbounded(),
            sampler,
            &points.iter().map(|pair| pair[0].clone()).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn json_types_are_kept() {
    for sampler in samplers() {
        for pair in grow(&every_kind(), sampler, 16, |_, point| toy_loss(point).into()) {
            let point = &pair[0];
            assert!(
                point["layers"].is_i64() && point["units"].is_i64() && point["batch"].is_i64(),
                "{sampler}: {point}"
            );
            assert!(
                point["rate"].is_f64() && point["dropout"].is_f64() && point["constant"].is_f64(),
                "{sampler}: {point}"
            );
            assert!(
                point.get("nesterov").is_none_or(Value::is_boolean),
                "{sampler}: {point}"
            );
        }
    }
}

#[test]
fn the_same_request_gives_the_same_points_and_another_seed_others() {
    for sampler in samplers() {
        let points: Value = grow(&every_kind(), sampler, 15, |_, point| toy_loss(point).into()).into();
        let first = suggest(&every_kind(), &points, sampler, 5);
        assert_eq!(first, suggest(&every_kind(), &points, sampler, 5), "{sampler}");
    }
    for sampler in free_samplers() {
        let mut other = request(sampler, 5);
        other.seed = 12;
        let other = values(&ask(&document(&unbounded()), &history(&json!([])), &other).unwrap());
        assert_ne!(other, suggest(&unbounded(), &json!([]), sampler, 5), "{sampler}");
    }
}

#[test]
fn the_order_of_the_history_does_not_matter() {
    for sampler in samplers() {
        let mut points = grow(&every_kind(), sampler, 20, |index, point| match index % 7 {
            3 => Value::Null,
            5 => FAILED_LOSS.into(),
            _ => toy_loss(point).into(),
        });
        let expected = suggest(&every_kind(), &points.clone().into(), sampler, 4);
        points.reverse();
        assert_eq!(
            suggest(&every_kind(), &points.clone().into(), sampler, 4),
            expected,
            "{sampler}"
        );
        points.rotate_left(7);
        points.swap(0, 5);
        assert_eq!(
            suggest(&every_kind(), &points.into(), sampler, 4),
            expected,
            "{sampler}"
        );
    }
}

#[test]
fn one_ask_of_six_is_six_asks_of_one() {
    for sampler in samplers() {
        for known in [0, 8, 18] {
            let mut points = grow(&every_kind(), sampler, known, |_, point| toy_loss(point).into());
            let together = suggest(&every_kind(), &points.clone().into(), sampler, 6);
            for expected in together {
                let one = suggest(&every_kind(), &points.clone().into(), sampler, 1);
                assert_eq!(
                    one.as_slice(),
                    std::slice::from_ref(&expected),
                    "{sampler} after {known}"
                );
                points.push(json!([expected, null]));
            }
        }
    }
}

#[test]
fn numbered_histories_are_continued_with_numbers() {
    for sampler in samplers() {
        let mut request = request(sampler, 3);
        request.number_points = true;
        let first = values(&ask(&document(&every_kind()), &history(&json!([])), &request).unwrap());
        let numbers: Vec<&Value> = first.iter().map(|point| &point["hpo.n"]).collect();
        assert_eq!(numbers, [0, 1, 2], "{sampler}");
        let pairs: Vec<Value> = first.into_iter().map(|point| json!([point, 0.5])).collect();
        let next = suggest(&every_kind(), &pairs.into(), sampler, 2);
        assert_eq!(next[1]["hpo.n"], 4, "{sampler}");
        let plain = suggest(&every_kind(), &json!([]), sampler, 1);
        assert!(plain[0].get("hpo.n").is_none(), "{sampler}");
    }
}

#[test]
fn every_strange_loss_is_survived() {
    let strange = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "1e308",
        "-1e29",
        "0",
        "0.0",
        "-0.0",
        "5e-324",
        "-3",
        "null",
        "100000.0",
        "\"0.25\"",
    ];
    for sampler in samplers() {
        let points = suggest(&every_kind(), &json!([]), sampler, 28);
        let entries: Vec<String> = points
            .iter()
            .zip(strange.iter().cycle())
            .map(|(point, loss)| format!("[{point},{loss}]"))
            .collect();
        let input = read_input(&format!("{{\"points\":[{}],\"opt_space\":null}}", entries.join(",")));
        let new = values(&ask(&document(&every_kind()), &input, &request(sampler, 5)).unwrap());
        assert_eq!(new.len(), 5, "{sampler}");
        assert_valid(&every_kind(), sampler, &new);
    }
}

#[test]
fn equal_failed_and_pending_histories_still_lead_on() {
    for sampler in samplers() {
        for loss in [json!(0.5), json!(0.0), json!(FAILED_LOSS), Value::Null] {
            let points = grow(&every_kind(), sampler, 18, |_, _| loss.clone());
            assert_eq!(points.len(), 18, "{sampler} with {loss}");
        }
    }
}

#[test]
fn no_point_is_repeated_while_unused_ones_exist_and_then_the_search_is_over() {
    let small = json!({
        "a": {"method": "categorical", "dimension": {"categories": ["x", "x", "x", "x", "y"]}},
        "b": {"method": "uniformint", "dimension": {"low": 1, "high": 5}, "if": {"a": ["x"]}},
        "c": {"method": "quniform", "dimension": {"low": 0, "high": 1, "q": 0.5}}
    });
    for sampler in samplers() {
        for loss in [json!(1.0), Value::Null, json!(FAILED_LOSS)] {
            let points = grow(&small, sampler, 100, |index, _| {
                if index % 2 == 0 { loss.clone() } else { json!(index) }
            });
            assert_eq!(points.len(), 5 * 3 + 3, "{sampler}");
            let distinct: HashSet<String> = points.iter().map(|pair| pair[0].to_string()).collect();
            assert_eq!(distinct.len(), points.len(), "{sampler}");
        }
        let all = suggest(&small, &json!([]), sampler, 1_000);
        assert_eq!(all.len(), 18, "{sampler}: a batch larger than the space");
    }
}

#[test]
fn a_space_of_one_point_gives_it_once() {
    let one = json!({"x": {"method": "fixed", "dimension": {"value": 3}}, "y": {"method": "uniformint", "dimension": {"low": 2, "high": 2}}});
    for sampler in samplers() {
        assert_eq!(
            suggest(&one, &json!([]), sampler, 3),
            [json!({"x": 3, "y": 2})],
            "{sampler}"
        );
        assert!(
            suggest(&one, &json!([[{"x": 3, "y": 2}, 0.1]]), sampler, 3).is_empty(),
            "{sampler}"
        );
    }
}

#[test]
fn foreign_points_are_tolerated() {
    let own = |sampler| grow(&every_kind(), sampler, 12, |_, point| toy_loss(point).into());
    let foreign = [
        json!([{}, 0.1]),
        json!([{"rate": "fast", "layers": 99, "extra": {"deep": [1, 2]}}, 0.2]),
        json!([{"point_type": "toy"}, null]),
        json!([{"optimizer": "rmsprop", "rate": -1.0, "momentum": 7}, 0.01]),
        json!([{"optimizer": "adam", "nesterov": true, "rate": 0.01}, 0.3]),
        json!([{"rate": null, "units": 17, "hpo.n": "x"}, 100_000.0]),
    ];
    for sampler in samplers() {
        let mut points = own(sampler);
        points.extend(foreign.iter().cloned());
        let new = suggest(&every_kind(), &points.clone().into(), sampler, 4);
        assert_eq!(new.len(), 4, "{sampler}");
        assert_valid(&every_kind(), sampler, &new);
        assert_eq!(
            suggest(&every_kind(), &foreign.to_vec().into(), sampler, 2).len(),
            2,
            "{sampler}: nothing but foreign points"
        );
    }
}

#[test]
fn two_hundred_keys_are_no_obstacle() {
    let mut wide = json!({});
    for key in 0..100 {
        wide[format!("c{key}")] = json!({"method": "categorical", "dimension": {"categories": [1, 2, 3]}});
        wide[format!("i{key}")] = json!({"method": "uniformint", "dimension": {"low": 0, "high": 9}});
    }
    for sampler in samplers() {
        let points = grow(&wide, sampler, 12, |_, point| toy_loss(point).into());
        assert_eq!(points.len(), 12, "{sampler}");
        assert_valid(
            &wide,
            sampler,
            &points.iter().map(|pair| pair[0].clone()).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn a_history_of_twenty_thousand_points_is_digested() {
    let continuum = json!({
        "x": {"method": "uniform", "dimension": {"low": 0, "high": 1, "levels": 300}},
        "n": {"method": "uniformint", "dimension": {"low": 1, "high": 100}},
        "c": {"method": "categorical", "dimension": {"categories": ["a", "b"]}}
    });
    let points: Vec<Value> = (0..20_000_u32)
        .map(|index| {
            let x = f64::from(index % 5_000) / 5_000.0;
            json!([{"x": x, "n": index % 100 + 1, "c": if index % 2 == 0 { "a" } else { "b" }}, (x - 0.3).abs()])
        })
        .collect();
    let points = Value::from(points);
    for sampler in samplers() {
        let new = suggest(&continuum, &points, sampler, 2);
        assert_eq!(new.len(), 2, "{sampler}");
        assert_valid(&continuum, sampler, &new);
    }
}

#[test]
fn richer_histories_give_valid_points_and_a_failed_status_counts() {
    for sampler in samplers() {
        let points = suggest(&every_kind(), &json!([]), sampler, 12);
        let pairs: Vec<Value> = points.iter().map(|point| json!([point, 0.5])).collect();
        let meta: Vec<Value> = (0..12)
            .map(|index| match index % 3 {
                0 => json!({"status": "done", "seconds": 3.5, "attempts": 1}),
                1 => json!({"status": "failed", "failure": "infrastructure"}),
                _ => json!({"status": "failed", "failure": "payload", "unknown": [1]}),
            })
            .collect();
        let input = read_input(&json!({"points": pairs, "opt_space": null, "meta": meta}).to_string());
        let new = values(&ask(&document(&every_kind()), &input, &request(sampler, 3)).unwrap());
        assert_eq!(new.len(), 3, "{sampler}");
        assert_valid(&every_kind(), sampler, &new);
    }
}

#[test]
fn segments_are_searched_apart_and_share_the_budget() {
    let one = json!({"x": {"method": "uniformint", "dimension": {"low": 1, "high": 1000}}});
    let spaces = json!([{"model_id": 0, "search_space": one}, {"model_id": 4, "search_space": one}, {"model_id": 2, "search_space": one}]);
    for sampler in samplers() {
        let points = json!([[[0, {"x": 1}], 0.5], [[0, {"x": 2}], null], [[4, {"x": 1}], 0.1]]);
        let asked = |max_points, subtract_pending| -> Vec<u32> {
            let mut request = request(sampler, 2);
            request.max_points = max_points;
            request.subtract_pending = subtract_pending;
            let new = ask(&document(&spaces), &history(&points), &request).unwrap();
            new.iter().map(|input| input.segment().unwrap().0).collect()
        };
        assert_eq!(asked(None, false), [0, 0, 4, 4, 2, 2], "{sampler}");
        assert_eq!(asked(None, true), [0, 4, 4, 2, 2], "{sampler}");
        assert_eq!(
            asked(Some(6), false),
            [4, 2, 2],
            "{sampler}: two points for each segment"
        );
        assert_eq!(asked(Some(7), false), [0, 4, 2, 2], "{sampler}: one more for the first");
        assert!(asked(Some(0), false).is_empty(), "{sampler}");
    }
}

#[test]
fn a_better_region_is_found_whichever_way_the_losses_point() {
    let line = json!({"x": {"method": "uniform", "dimension": {"low": 0, "high": 1, "levels": 101}}});
    for sampler in free_samplers() {
        let best = |sign: f64| {
            let mut points: Vec<Value> = Vec::new();
            for _ in 0..40 {
                let mut request = request(sampler, 1);
                request.mode = if sign > 0.0 {
                    steering::history::Mode::Min
                } else {
                    steering::history::Mode::Max
                };
                let new = values(&ask(&document(&line), &history(&points.clone().into()), &request).unwrap()).remove(0);
                let x = new["x"].as_f64().unwrap();
                points.push(json!([new, sign * (x - 0.77).abs()]));
            }
            let distance = |pair: &Value| (pair[0]["x"].as_f64().unwrap() - 0.77).abs();
            points.iter().map(distance).fold(f64::INFINITY, f64::min)
        };
        assert!(best(1.0) < 0.05 && best(-1.0) < 0.05, "{sampler}");
    }
}

#[test]
fn a_continuum_without_levels_is_refused_by_the_grid_with_its_name() {
    let error = ask(&document(&unbounded()), &history(&json!([])), &request("grid", 1)).unwrap_err();
    assert!(matches!(error, AskError::Suggest { .. }));
    insta::assert_snapshot!(
        error,
        @"the sampler `grid` needs a list of values for each dimension, but `a` has infinitely many; give it `levels`, or choose another sampler"
    );
}

/// A dimension of any method with any sensible bounds.
fn any_dimension() -> impl Strategy<Value = Value> {
    let bounds = (-1e6_f64..1e6, 1e-6_f64..1e6).prop_map(|(low, width)| (low, low + width));
    let positive = (1e-9_f64..1e3, 1.0_f64..1e6).prop_map(|(low, factor)| (low, low * factor));
    let integers = (-1_000_000_i64..1_000_000, 0_i64..1_000_000).prop_map(|(low, width)| (low, low + width));
    let category = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from)
    ];
    prop_oneof![
        bounds.clone().prop_map(|(low, high)| json!({"method": "uniform", "dimension": {"low": low, "high": high}})),
        positive.clone().prop_map(|(low, high)| json!({"method": "loguniform", "dimension": {"low": low, "high": high}})),
        integers.clone().prop_map(|(low, high)| json!({"method": "uniformint", "dimension": {"low": low, "high": high}})),
        integers.prop_map(|(low, high)| json!({"method": "loguniformint", "dimension": {"low": low.abs() + 1, "high": low.abs() + 1 + high.abs()}})),
        (bounds, 0.01_f64..1.0).prop_map(|((low, high), share)| {
            let q = (high - low) * share * 0.5;
            json!({"method": "quniform", "dimension": {"low": low, "high": high, "q": q}})
        }),
        (positive, 0.01_f64..1.0).prop_map(|((low, high), share)| {
            let q = (high - low).max(low) * share * 0.5;
            json!({"method": "qloguniform", "dimension": {"low": low, "high": high.max(low + 2.0 * q), "q": q}})
        }),
        (-1e3_f64..1e3, 1e-3_f64..1e3).prop_map(|(mu, sigma)| json!({"method": "normal", "dimension": {"mu": mu, "sigma": sigma}})),
        (-5.0_f64..5.0, 1e-2_f64..3.0, 1e-3_f64..10.0)
            .prop_map(|(mu, sigma, q)| json!({"method": "qlognormal", "dimension": {"mu": mu, "sigma": sigma, "q": q}})),
        (-5.0_f64..5.0, 1e-2_f64..3.0).prop_map(|(mu, sigma)| json!({"method": "lognormal", "dimension": {"mu": mu, "sigma": sigma}})),
        prop::collection::vec(category, 1..6).prop_map(|list| json!({"method": "categorical", "dimension": {"categories": list}})),
    ]
}

proptest! {
    #[test]
    fn whatever_a_dimension_gives_out_it_takes_back_unchanged(dimension in any_dimension(), u in 0.0_f64..=1.0) {
        let space = space(&json!({"x": dimension}));
        let point = space.at_quantiles(|_| u);
        prop_assert!(space.problems(&point).is_empty(), "{:?}: {:?}", point, space.problems(&point));
        let text = serde_json::to_string(&point).unwrap();
        let read: protocol::Point = serde_json::from_str(&text).unwrap();
        let coordinates = space.encode(&read);
        let decoded = space.dimensions()[0].decode(coordinates[0].unwrap());
        prop_assert_eq!(&decoded, point.get("x").unwrap());
        prop_assert_eq!(space.fingerprint(&coordinates), space.fingerprint(&space.encode(&point)));
    }

    #[test]
    fn every_sampler_gives_valid_points_in_any_space(
        dimensions in prop::collection::vec(any_dimension(), 1..6),
        losses in prop::collection::vec(prop::option::of(-1e6_f64..1e6), 0..14),
    ) {
        let mut document = json!({});
        for (index, dimension) in dimensions.into_iter().enumerate() {
            document[format!("x{index}")] = dimension;
        }
        for sampler in free_samplers() {
            let points: Vec<Value> = suggest(&document, &json!([]), sampler, losses.len())
                .into_iter()
                .zip(&losses)
                .map(|(point, loss)| json!([point, loss]))
                .collect();
            let new = suggest(&document, &points.into(), sampler, 3);
            assert_valid(&document, sampler, &new);
        }
    }
}
