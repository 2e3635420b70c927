//! Searches with several objectives.

use std::fmt::Write as _;

use serde_json::{Value, json};
use steering::ask::{AskError, Request, ask};
use steering::objectives::hypervolume;
use steering::samplers::Registry;

use crate::support::{document, every_kind, history, read_input, request, stderr, stdout, steer, toy_loss, values};

fn asking(sampler: &str, count: usize, objectives: &str) -> Request {
    Request {
        objectives: Some(objectives.parse().unwrap()),
        ..request(sampler, count)
    }
}

/// All samplers that may have several objectives.
fn samplers() -> Vec<&'static str> {
    let registry = Registry::standard();
    let able = registry.entries().filter(|entry| {
        let built = registry.build(entry.name, &[]);
        built.is_ok_and(|(_, sampler)| sampler.bears_changing_losses())
    });
    able.map(|entry| entry.name).collect()
}

/// A steering input of `points`, each with its losses, `null` for a pending point.
fn input(points: &[(Value, Value)]) -> String {
    let pairs: Vec<Value> = points
        .iter()
        .map(|(point, losses)| json!([point, losses["loss"]]))
        .collect();
    let meta: Vec<Value> = points.iter().map(|(_, losses)| json!({"losses": losses})).collect();
    json!({"points": pairs, "meta": meta, "opt_space": null}).to_string()
}

fn every_kind_history() -> Vec<(Value, Value)> {
    let points = values(&ask(&document(&every_kind()), &history(&json!([])), &request("random", 20)).unwrap());
    let losses = |(index, point): (usize, &Value)| match index % 9 {
        4 => json!({"loss": null}),
        5 => json!({"loss": 100_000.0}),
        6 => json!({"loss": 0.5}),
        _ => json!({"loss": toy_loss(point), "size": point["units"].as_f64().unwrap()}),
    };
    points
        .iter()
        .enumerate()
        .map(|pair| (pair.1.clone(), losses(pair)))
        .collect()
}

#[test]
fn every_sampler_gives_the_same_valid_points_in_batches_and_from_any_order() {
    let space = document(&every_kind());
    for sampler in samplers() {
        let mut points = every_kind_history();
        let request = |count| asking(sampler, count, "loss:min,size:max");
        let together = ask(&space, &read_input(&input(&points)), &request(4)).unwrap();
        assert_eq!(together.len(), 4, "{sampler}");
        points.reverse();
        points.swap(2, 11);
        assert_eq!(
            ask(&space, &read_input(&input(&points)), &request(4)).unwrap(),
            together,
            "{sampler}"
        );
        for expected in together {
            let one = ask(&space, &read_input(&input(&points)), &request(1)).unwrap();
            assert_eq!(one.as_slice(), std::slice::from_ref(&expected), "{sampler}");
            points.push((json!(expected.point()), json!({"loss": null})));
        }
    }
}

#[test]
fn one_objective_is_an_ordinary_search_for_it() {
    let points: Vec<(Value, Value)> = every_kind_history();
    let space = document(&every_kind());
    let named: Vec<(Value, Value)> = (points.iter().enumerate())
        .map(|(index, (point, _))| (point.clone(), json!({"loss": index, "accuracy": toy_loss(point)})))
        .collect();
    let plain: Vec<Value> = points
        .iter()
        .map(|(point, _)| json!([point, toy_loss(point)]))
        .collect();
    for sampler in ["gp", "tpe"] {
        let mut maximal = request(sampler, 3);
        maximal.mode = steering::history::Mode::Max;
        assert_eq!(
            ask(&space, &read_input(&input(&named)), &asking(sampler, 3, "accuracy:max")).unwrap(),
            ask(&space, &history(&plain.clone().into()), &maximal).unwrap(),
            "{sampler}"
        );
    }
}

#[test]
fn the_front_is_found_sooner_than_by_chance() {
    let space = json!({
        "x": {"method": "uniform", "dimension": {"low": 0, "high": 1}},
        "y": {"method": "uniform", "dimension": {"low": 0, "high": 1}},
        "kind": {"method": "categorical", "dimension": {"categories": ["a", "b"]}}
    });
    let losses = |point: &Value| {
        let (x, y) = (point["x"].as_f64().unwrap(), point["y"].as_f64().unwrap());
        let g = 1.0 + 4.0 * y + if point["kind"] == "a" { 0.0 } else { 0.7 };
        [x, g * (1.0 - (x / g).sqrt())]
    };
    let volume = |sampler: &str, seed: u64| {
        let mut points: Vec<(Value, Value)> = Vec::new();
        for _ in 0..18 {
            let request = Request {
                seed,
                ..asking(sampler, 1, "loss:min,time:min")
            };
            let new = values(&ask(&document(&space), &read_input(&input(&points)), &request).unwrap()).remove(0);
            let [loss, time] = losses(&new);
            points.push((new, json!({"loss": loss, "time": time})));
        }
        let found: Vec<[f64; 2]> = points.iter().map(|(point, _)| losses(point)).collect();
        let found: Vec<&[f64]> = found.iter().map(<[f64; 2]>::as_slice).collect();
        hypervolume(&found, &[1.1, 1.1])
    };
    let mean = |sampler| (1..=2).map(|seed| volume(sampler, seed)).sum::<f64>() / 2.0;
    // The whole front gives 0.877.
    let (model, chance) = (mean("gp"), mean("random"));
    assert!(model > 0.7 && model > chance + 0.2, "{model} {chance}");
}

#[test]
fn a_sampler_that_replays_its_past_refuses() {
    let error = ask(
        &document(&every_kind()),
        &history(&json!([])),
        &asking("cmaes", 1, "loss:min,size:min"),
    )
    .unwrap_err();
    assert!(matches!(error, AskError::OneObjective { .. }));
    insta::assert_snapshot!(error, @"the sampler `cmaes` cannot search for several objectives, whose weights change from point to point; leave all but one out, or choose one of auto, evolution, gp, grid, random, sobol, tpe, turbo");
}

#[test]
fn the_command_line_shows_the_front_and_tells_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let x = |x: f64| json!({"x": x});
    write(
        "in.json",
        &input(&[
            (x(0.1), json!({"loss": 1.0, "latency": 9.0})),
            (x(0.2), json!({"loss": 2.0, "latency": 4.0})),
            (x(0.3), json!({"loss": 3.0, "latency": 5.0})),
            (x(0.4), json!({"loss": 4.0, "latency": 1.0})),
            (x(0.5), json!({"loss": null})),
            (x(0.6), json!({"loss": 0.1})),
        ]),
    );
    write(
        "space.json",
        r#"{"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}"#,
    );
    let mut transcript = String::new();
    for line in [
        "front -i in.json --objectives loss:min,latency:min",
        "front -i in.json --objectives loss:min,latency:min --reference loss=5,latency=10",
        "front -i in.json --objectives loss:min,latency:max --json",
        "front -i in.json --objectives loss:min,latncy:min",
        "front -i in.json --objectives loss:min --reference loss=1,latency=2",
        "front -i in.json --objectives loss:min,latency:min --reference loss=1",
        "front -i in.json --objectives loss:min,latency:min --reference loss",
        "ask -n 1 -i in.json -s space.json --objectives loss:min,latncy:min",
        "ask -n 1 -i in.json -s space.json --objectives loss,latency",
        "ask -n 1 -i in.json -s space.json --objectives loss:min --mode max",
        "validate -i in.json -s space.json --objectives loss:min,latncy:min",
    ] {
        let output = steer(directory.path(), line);
        let code = output.status.code().unwrap();
        let _ = write!(
            transcript,
            "$ steering {line}\n{}{}exit code {code}\n\n",
            stdout(&output),
            stderr(&output)
        );
    }
    insta::with_settings!({ snapshot_path => "../golden/steering", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("objectives", transcript);
    });
    let answered = steer(
        directory.path(),
        "ask -n 2 -i in.json -s space.json --objectives loss:min,latency:min",
    );
    insta::assert_snapshot!(stderr(&answered), @"warning: nothing is learnt from 1 evaluated points that lack one of the objectives loss:min,latency:min");
    for (sampler, reason) in [
        ("gp", "expected to widen the front most"),
        ("tpe", "made for the weights loss 0."),
    ] {
        let explained = steer(
            directory.path(),
            &format!("explain -n 1 -i in.json -s space.json --lib {sampler} --objectives loss:min,latency:min"),
        );
        assert!(stdout(&explained).contains(reason), "{}", stdout(&explained));
    }
}
