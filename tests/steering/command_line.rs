//! Every spelling of every option, and what the files look like.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{binary, run_in, stderr, stdout, steer};

const SPACE: &str = r#"{"lr":{"method":"loguniform","dimension":{"low":0.0001,"high":0.1}},"n":{"method":"uniformint","dimension":{"low":1,"high":64}}}"#;

/// A directory with `space.json`, and `in.json` with `pending` of six points pending.
fn directory(pending: usize) -> TempDir {
    let directory = TempDir::new().unwrap();
    let points: Vec<Value> = (0..6)
        .map(|index| json!([{"lr": 0.001, "n": index + 1}, if index < pending { Value::Null } else { json!(0.5) }]))
        .collect();
    let space: Value = serde_json::from_str(SPACE).unwrap();
    fs::write(directory.path().join("space.json"), SPACE).unwrap();
    fs::write(
        directory.path().join("in.json"),
        json!({"points": points, "opt_space": space}).to_string(),
    )
    .unwrap();
    directory
}

fn output(directory: &TempDir) -> Vec<Value> {
    let text = fs::read_to_string(directory.path().join("out.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_spelling_of_the_options_is_the_same_request() {
    let same = |sampler: &str, lines: &[&str]| {
        let answer = |line: &str| {
            let directory = directory(0);
            let done = steer(directory.path(), line);
            assert!(done.status.success(), "{line}: {}", stderr(&done));
            assert!(done.stdout.is_empty() && done.stderr.is_empty(), "{line}");
            output(&directory)
        };
        let expected = answer(&format!("ask --lib {sampler} -n 4 -m 100 -i in.json -o out.json"));
        assert_eq!(expected.len(), 4);
        for line in lines {
            assert_eq!(answer(line), expected, "{line}");
        }
    };
    same(
        "tpe",
        &[
            "ask --lib=tpe --n-point=4 --max-point=100 --infile=in.json --outfile=out.json",
            "ask -n4 -m100 -ltpe -iin.json -oout.json",
            "ask -l TPE -n 4 -i in.json -o out.json --mode min --metric loss",
            "generate -l=nevergrad --n_point=4 --max_point=100 -i in.json -o out.json",
            "-l=nevergrad --n_point=4 --max_point=20 -i in.json -o out.json",
            "-l nevergrad --n_point 4 --max_point 20 -i in.json -o out.json",
            "-lNevergrad -n 4 -m 20 --infile in.json --outfile out.json",
            "--lib=Hyperopt --n_point=4 --infile=in.json --outfile=out.json -s missing.json",
            "--lib optuna -n 4 -i in.json -o out.json --mode MIN --metric accuracy",
            "-l=bohb -n=4 -i=in.json -o=out.json -e loss -d min",
        ],
    );
    same(
        "gp",
        &[
            "--lib skopt --n_point 4 --infile in.json --outfile out.json --method GP",
            "-l=ax -n=4 -m=50 -i=in.json -o=out.json",
        ],
    );
    same(
        "auto",
        &["--n_point=4 -i in.json -o out.json", "ask -n4 -iin.json -oout.json"],
    );
}

#[test]
fn libraries_that_have_a_sampler_of_their_name_use_it() {
    for (line, same) in [
        ("-l=random -n 3", "ask --lib random -n 3"),
        ("-l=nevergrad --method RandomSearch -n 3", "ask --lib random -n 3"),
        ("-l=nevergrad --method ScrHaltonSearch -n 3", "ask --lib sobol -n 3"),
        ("-l=Sobol -n 3", "ask --lib sobol -n 3"),
    ] {
        let directory = directory(0);
        let left = steer(directory.path(), &format!("{line} -s space.json"));
        let right = steer(directory.path(), &format!("{same} -s space.json"));
        assert!(left.status.success(), "{line}: {}", stderr(&left));
        assert_eq!(stdout(&left), stdout(&right), "{line}");
    }
}

#[test]
fn the_number_asked_for_is_an_upper_bound_that_max_point_cuts() {
    for (pending, line, count) in [
        (2, "ask -n 4 -m 100", 4),
        (2, "ask -n 4 -m 8", 2),
        (2, "ask -n 4 -m 6", 0),
        (2, "ask -n 0", 0),
        (2, "ask -n 4 --subtract-pending", 2),
        (5, "ask -n 4 --subtract-pending", 0),
        (2, "generate -n 4", 4),
    ] {
        let directory = directory(pending);
        let done = steer(directory.path(), &format!("{line} -i in.json -o out.json"));
        assert!(done.status.success(), "{line}: {}", stderr(&done));
        assert_eq!(output(&directory).len(), count, "{line} with {pending} pending");
    }
}

#[test]
#[cfg(unix)]
fn called_hpogrid_it_counts_as_hpogrid_does() {
    let directory = directory(3);
    let program = directory.path().join("hpogrid");
    std::os::unix::fs::symlink(binary(), &program).unwrap();
    for line in [
        "generate --n_point 4 --max_point 20 --infile in.json --outfile out.json -l nevergrad -s x",
        "-l=nevergrad --n_point=4 --max_point=20 -i in.json -o out.json",
    ] {
        let done = run_in(directory.path(), &program, &line.split(' ').collect::<Vec<_>>());
        assert!(done.status.success(), "{line}: {}", stderr(&done));
        assert_eq!(output(&directory).len(), 1, "{line}");
    }
}

#[test]
fn the_search_space_may_come_from_either_file() {
    let directory = directory(0);
    let other = r#"{"z": {"method": "fixed", "dimension": {"value": 1}}}"#;
    fs::write(directory.path().join("other.json"), other).unwrap();
    let first_key = |line: &str| {
        let done = steer(directory.path(), line);
        assert!(done.status.success(), "{line}: {}", stderr(&done));
        let points: Vec<Value> = serde_json::from_str(&stdout(&done)).unwrap();
        points[0].as_object().unwrap().keys().next().unwrap().clone()
    };
    assert_eq!(first_key("ask -n 1 -i in.json"), "lr");
    assert_eq!(first_key("ask -n 1 -i in.json -s other.json"), "z");
    assert_eq!(first_key("generate -n 1 -i in.json -s other.json"), "lr");
    assert_eq!(first_key("generate -n 1 -s other.json"), "z");
    assert_eq!(first_key("ask -n 1 -s other.json"), "z");
}

#[test]
fn seeds_come_from_the_option_then_the_environment_then_the_search_space() {
    let directory = directory(0);
    let ask = |arguments: &str, variable: Option<&str>| {
        let mut command = std::process::Command::new(binary());
        command
            .args("ask -n 2 --lib random -s space.json".split(' '))
            .args(arguments.split_whitespace());
        command
            .current_dir(directory.path())
            .env_remove("STEERING_SEED")
            .env_remove("HPO_TASK");
        if let Some(seed) = variable {
            command.env("STEERING_SEED", seed);
        }
        stdout(&command.output().unwrap())
    };
    let (by_default, zero) = (ask("", None), ask("--seed 0", None));
    assert_eq!(by_default, ask("", None));
    assert_ne!(by_default, zero);
    assert_eq!(zero, ask("", Some("0")));
    assert_eq!(ask("--seed 5", None), ask("--seed 5", Some("0")));
    assert_ne!(ask("--task a", None), ask("--task b", None));
}

#[test]
fn segmented_inputs_give_pairs_in_the_order_of_the_segments() {
    let directory = directory(0);
    let space: Value = serde_json::from_str(SPACE).unwrap();
    let input = json!({
        "points": [[[1, {"lr": 0.01, "n": 3}], null], [[0, {"lr": 0.01, "n": 3}], 0.25]],
        "opt_space": [{"model_id": 0, "search_space": space}, {"model_id": 1, "search_space": space}]
    });
    fs::write(directory.path().join("in.json"), input.to_string()).unwrap();
    let done = steer(directory.path(), "ask -n 2 -m 6 -i in.json -o out.json");
    assert!(done.status.success(), "{}", stderr(&done));
    let ids: Vec<Value> = output(&directory).iter().map(|pair| pair[0].clone()).collect();
    assert_eq!(ids, [0, 0, 1, 1]);
    assert!(output(&directory)[0][1]["lr"].is_f64());
    assert_ne!(output(&directory)[0][1], output(&directory)[2][1]);
}

#[test]
fn losses_that_python_writes_are_read_and_never_written() {
    let directory = directory(0);
    let text = format!(
        "{{\"points\": [[{{\"lr\": 0.001, \"n\": 1}}, NaN], [{{\"lr\": 0.002, \"n\": 2}}, -Infinity], \
         [{{\"lr\": 0.003, \"n\": 3}}, 1e400], [{{\"lr\": 0.004, \"n\": 4}}, 0.0]], \"opt_space\": {SPACE}}}"
    );
    fs::write(directory.path().join("in.json"), text).unwrap();
    let done = steer(directory.path(), "ask -n 12 -i in.json -o out.json");
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(output(&directory).len(), 12);
}

#[test]
fn the_failed_loss_can_be_moved_or_switched_off() {
    let directory = directory(0);
    // Fifteen points near n = 60 that are best if their loss counts, and far worse ones elsewhere.
    let points: Vec<Value> = (0..30_i32)
        .map(|index| {
            let good = index % 2 == 0;
            let n = if good { 50 + index / 2 } else { 1 + index / 2 };
            json!([{"lr": 0.001 * f64::from(index + 1), "n": n}, if good { 100_000.0 } else { 200_000.0 + f64::from(index) }])
        })
        .collect();
    let space: Value = serde_json::from_str(SPACE).unwrap();
    fs::write(
        directory.path().join("in.json"),
        json!({"points": points, "opt_space": space}).to_string(),
    )
    .unwrap();
    let mean = |line: &str| {
        let done = steer(directory.path(), line);
        assert!(done.status.success(), "{line}: {}", stderr(&done));
        let points: Vec<Value> = serde_json::from_str(&stdout(&done)).unwrap();
        points.iter().map(|point| point["n"].as_f64().unwrap()).sum::<f64>() / points.len() as f64
    };
    assert!(mean("ask -n 6 -i in.json") < 32.0);
    assert!(mean("ask -n 6 -i in.json --failed-loss off") > 32.0);
    assert!(mean("ask -n 6 -i in.json --failed-loss -1") > 32.0);
}

#[test]
fn an_error_leaves_no_output_and_a_success_replaces_the_old_one() {
    let directory = directory(0);
    let out = directory.path().join("out.json");
    let done = steer(directory.path(), "ask -n 1 -i missing.json -o out.json");
    assert_eq!(done.status.code(), Some(2));
    assert!(!out.exists());
    fs::write(&out, "stale").unwrap();
    let done = steer(directory.path(), "ask -n 1 -i in.json -o out.json");
    assert!(done.status.success());
    assert_eq!(output(&directory).len(), 1);
    let names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 3, "no temporary files are left: {names:?}");
}

#[test]
fn an_output_that_cannot_be_written_is_a_fault_of_the_infrastructure() {
    let directory = directory(0);
    let done = steer(directory.path(), "ask -n 1 -i in.json -o no/such/directory/out.json");
    assert_eq!(done.status.code(), Some(3));
    assert!(
        stderr(&done).starts_with("error: cannot write the new points to `no/such/directory/out.json`: "),
        "{}",
        stderr(&done)
    );
}

#[test]
fn another_process_gives_the_same_bytes_whatever_the_order_of_the_history() {
    let directory = directory(1);
    let first = steer(directory.path(), "ask -n 9 -i in.json");
    let mut input: Value =
        serde_json::from_str(&fs::read_to_string(directory.path().join("in.json")).unwrap()).unwrap();
    input["points"].as_array_mut().unwrap().reverse();
    fs::write(directory.path().join("in.json"), input.to_string()).unwrap();
    let second = steer(directory.path(), "ask -n 9 -i in.json");
    assert!(first.status.success());
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn listings_are_for_people_and_for_programs() {
    let here = Path::new(".");
    let text = stdout(&steer(here, "samplers"));
    assert!(text.contains("tpe") && text.contains("also for nevergrad"), "{text}");
    let list: Vec<Value> = serde_json::from_str(&stdout(&steer(here, "samplers --json"))).unwrap();
    let names: Vec<&str> = list.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "auto",
            "cmaes",
            "evolution",
            "gp",
            "grid",
            "random",
            "sobol",
            "tpe",
            "turbo"
        ]
    );
    assert!(
        list[3]["settings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|setting| setting["meaning"].is_string())
    );
}

#[test]
fn help_shows_an_example_first_and_says_what_the_library_names_stand_for() {
    let help = stdout(&steer(Path::new("."), "ask --help"));
    assert!(help.starts_with("Example:\n  steering ask -n 4"), "{help}");
    for name in [
        "nevergrad",
        "skopt",
        "hyperopt",
        "optuna",
        "ax",
        "bohb",
        "grid",
        "random",
    ] {
        assert!(help.contains(name), "{name} is not explained");
    }
    assert!(steer(Path::new("."), "--version").status.success());
}

#[test]
fn validation_reports_all_faults_of_both_files() {
    let directory = directory(0);
    let done = steer(directory.path(), "validate -s space.json -i in.json");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(
        stdout(&done),
        "dimensions 2, points infinitely many\nhistory: 6 points, all of this search space\n"
    );
    let done = steer(directory.path(), "validate -i in.json --json");
    let report: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(report["valid"], true);
    assert_eq!(report["history"], 6);
    fs::write(
        directory.path().join("space.json"),
        r#"{"a": 3, "b": {"method": "uniform", "dimension": {"low": 2, "high": 1}}}"#,
    )
    .unwrap();
    fs::write(directory.path().join("in.json"), r#"{"points": [[{"x": 1}], 4]}"#).unwrap();
    let done = steer(directory.path(), "validate -s space.json -i in.json --json");
    assert_eq!(done.status.code(), Some(2));
    let report: Value = serde_json::from_str(&stdout(&done)).unwrap();
    let places: Vec<&str> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["/points/0", "/points/1", "/a", "/b/dimension/low"]);
}
