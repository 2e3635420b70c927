//! Searches under a scheduler: checkpoints are handed on, kills change nothing, and bare steering decides the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::programs::{folder, hpo, points};

/// Trains nothing: the loss after some epochs is x + 1 / epochs. Notes where it began and ended.
const PAYLOAD: &str = r#"
begun=$(cat "$HPO_CHECKPOINT_DIR/epochs" 2>/dev/null || echo 0)
x=$(tr -dc '0-9.e-' < input.json)
echo "$HPO_POINT_ID $begun $HPO_EPOCHS" >> "$1"
echo "$HPO_EPOCHS" > "$HPO_CHECKPOINT_DIR/epochs"
awk "BEGIN {printf \"{\\\"loss\\\": %.17g}\", $x + 1 / $HPO_EPOCHS}" > output.json
"#;

const SPACE: &str = r#"{"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}"#;

struct Task {
    scratch: tempfile::TempDir,
}

impl Task {
    fn new(options: &Value) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let files = scratch.path().join("files");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("space.json"), SPACE).unwrap();
        fs::write(files.join("train.sh"), PAYLOAD).unwrap();
        let mut all = json!({
            "searchSpaceFile": "space.json",
            "evaluationExec": format!("sh train.sh '{}'", scratch.path().join("ledger").display()),
            "stripReserved": true,
            "seed": 5,
            "maxEvaluationJobs": 1000,
            "maxLostAttempts": 1000,
        });
        let map = all.as_object_mut().unwrap();
        map.extend(options.as_object().unwrap().clone());
        fs::write(files.join("task.json"), all.to_string()).unwrap();
        Self { scratch }
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("task")
    }

    fn start(&self) -> Child {
        let mut command = hpo();
        command.arg("run").arg(self.scratch.path().join("files/task.json"));
        command.arg("--taskDir").arg(self.directory());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("hpo starts")
    }

    /// Runs to the end; point and loss of each point.
    fn finish(&self) -> Vec<(Value, Value)> {
        let status = self.start().wait().unwrap();
        assert!(status.success(), "hpo ended with {status}");
        let points = points(&self.directory()).into_iter();
        points
            .map(|point| (point["point"].clone(), point["loss"].clone()))
            .collect()
    }

    /// Runs until the journal has grown by so many bytes, then kills; false if the search ended before.
    fn kill_after(&self, growth: u64) -> bool {
        let bytes = || fs::metadata(self.directory().join("journal")).map_or(0, |metadata| metadata.len());
        let goal = bytes() + growth;
        self.end_when(Signal::KILL, || bytes() >= goal)
    }

    fn end_when(&self, signal: Signal, is_time: impl Fn() -> bool) -> bool {
        let mut child = self.start();
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if is_time() {
                let _ = kill_process(Pid::from_child(&child), signal);
                child.wait().unwrap();
                return true;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
    }

    /// Point, epochs at the beginning, epochs at the end.
    fn trainings(&self) -> Vec<[u64; 3]> {
        let text = fs::read_to_string(self.scratch.path().join("ledger")).unwrap();
        let line = |line: &str| {
            let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
            <[u64; 3]>::try_from(numbers).unwrap()
        };
        text.lines().map(line).collect()
    }
}

fn asha() -> Value {
    json!({"scheduler": "asha", "maxEpochs": 9, "sampler": "random", "maxPoints": 20})
}

/// The same search by calls of steering alone.
fn by_steering_alone(directory: &Path, count: usize, arguments: &[&str]) -> Vec<(Value, Value)> {
    let (space, input, output) = (directory.join("space"), directory.join("in"), directory.join("out"));
    fs::write(&space, SPACE).unwrap();
    let mut history: Vec<(Value, Value)> = Vec::new();
    while history.len() < count {
        fs::write(&input, json!({"points": history, "opt_space": null}).to_string()).unwrap();
        let mut command = Command::new(folder().join("steering"));
        command.env("HPO_TASK", "task");
        command.args(["ask", "-n", "1", "-m", &count.to_string(), "--seed", "5", "--space"]);
        command
            .arg(&space)
            .arg("-i")
            .arg(&input)
            .arg("-o")
            .arg(&output)
            .args(arguments);
        assert!(command.status().unwrap().success());
        let answer: Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
        let point = answer[0].clone();
        let (x, epochs) = (point["x"].as_f64().unwrap(), point["hpo.epochs"].as_f64().unwrap());
        history.push((point, json!(x + 1.0 / epochs)));
    }
    history
}

#[test]
fn under_hpo_and_by_steering_alone_the_same_is_decided() {
    let task = Task::new(&asha());
    let found = task.finish();
    let alone = by_steering_alone(
        task.scratch.path(),
        20,
        &["--lib", "random", "--scheduler", "asha", "--max-epochs", "9"],
    );
    assert_eq!(found, alone);
    let reached: Vec<u64> = found
        .iter()
        .map(|(point, _)| point["hpo.epochs"].as_u64().unwrap())
        .collect();
    assert!([1, 3, 9].iter().all(|rung| reached.contains(rung)), "{reached:?}");
    for [point, begun, _] in task.trainings() {
        let (point, _) = &found[point as usize - 1];
        let before = point["hpo.from"].as_u64().map_or(0, |from| reached[from as usize]);
        assert_eq!(begun, before, "{point}");
    }
    // None of the rungs below is worth its room at the end.
    assert_eq!(fs::read_dir(task.directory().join("checkpoints")).unwrap().count(), 0);
}

/// Kills the manager again and again: the search comes to the end of an undisturbed one.
fn comes_to_the_same_end(options: &Value) {
    let undisturbed = Task::new(options).finish();
    let task = Task::new(options);
    let mut kills = 0;
    for growth in [900, 1500, 700, 2600, 1100, 400, 1900] {
        kills += usize::from(task.kill_after(growth));
    }
    assert!(kills > 3, "only {kills} kills");
    assert_eq!(task.finish(), undisturbed);
}

#[test]
fn a_search_that_is_killed_in_mid_rung_comes_to_the_same_end() {
    comes_to_the_same_end(&asha());
}

#[test]
fn a_population_that_is_killed_between_generations_comes_to_the_same_end() {
    comes_to_the_same_end(&json!({
        "scheduler": "pbt", "maxEpochs": 4, "schedule": {"population": 5}, "sampler": "random", "maxPoints": 20
    }));
}

#[test]
fn a_second_step_by_a_model_that_is_killed_comes_to_the_same_end() {
    comes_to_the_same_end(&json!({
        "scheduler": "two-step", "maxEpochs": 9, "schedule": {"configurations": 12, "top": 2, "calibration": 4, "cost": "60%"},
        "sampler": "random", "maxPoints": 40
    }));
}

#[test]
fn files_that_the_task_names_are_handed_on_from_rung_to_rung() {
    let mut options = asha();
    options["checkPointToSave"] = "weights/epochs".into();
    let task = Task::new(&options);
    let named = PAYLOAD.replace("\"$HPO_CHECKPOINT_DIR/epochs\"", "weights/epochs");
    let script = format!("mkdir -p weights\n{named}");
    fs::write(task.scratch.path().join("files/train.sh"), script).unwrap();
    let found = task.finish();
    assert_eq!(found, Task::new(&asha()).finish());
    let epochs: Vec<u64> = found
        .iter()
        .map(|(point, _)| point["hpo.epochs"].as_u64().unwrap())
        .collect();
    let mut handed = 0;
    for [point, begun, _] in task.trainings() {
        let (point, _) = &found[point as usize - 1];
        assert_eq!(
            begun,
            point["hpo.from"].as_u64().map_or(0, |from| epochs[from as usize]),
            "{point}"
        );
        handed += usize::from(begun > 0);
    }
    assert!(handed > 0, "{found:?}");
}

#[test]
fn a_population_goes_on_from_the_checkpoints_of_its_best() {
    let task = Task::new(&json!({
        "scheduler": "pbt", "maxEpochs": 4, "schedule": {"population": 6}, "maxPoints": 24, "nParallelEvaluation": 2
    }));
    let found = task.finish();
    let epochs = |ordinal: u64| {
        let is_it = |(point, _): &&(Value, Value)| point["hpo.n"] == ordinal;
        found.iter().find(is_it).unwrap().0["hpo.epochs"].as_u64().unwrap()
    };
    let mut copies = 0;
    for [point, begun, _] in task.trainings() {
        let (point, _) = &found[point as usize - 1];
        assert_eq!(begun, point["hpo.from"].as_u64().map_or(0, epochs), "{point}");
        copies += usize::from(point.get("hpo.sched").is_some());
    }
    assert!(copies > 0, "{found:?}");
    lineages_lead_from_nothing_to_the_best(&task, &found);
}

fn lineages_lead_from_nothing_to_the_best(task: &Task, found: &[(Value, Value)]) {
    let directory = task.directory();
    let lineage = |more: &[&str]| {
        let mut arguments = vec!["lineage", directory.to_str().unwrap(), "--json"];
        arguments.extend(more);
        crate::programs::json(&arguments)
    };
    let is_copy = |(point, _): &(Value, Value)| point.get("hpo.sched").is_some();
    let (copy, (point, loss)) = (1..).zip(found).find(|(_, found)| is_copy(found)).unwrap();
    let shown = lineage(&["--point", &copy.to_string()]);
    let stages = shown["stages"].as_array().unwrap();
    assert!(stages.len() > 1, "{shown}");
    assert_eq!((&shown["loss"], &stages[0]["from"]), (loss, &json!(0)));
    for pair in stages.windows(2) {
        assert_eq!(pair[0]["until"], pair[1]["from"]);
        assert_ne!(pair[0]["values"]["x"], pair[1]["values"]["x"]);
    }
    assert_eq!(stages.last().unwrap()["values"]["x"], point["x"]);
    assert_eq!(
        lineage(&[])["point"],
        crate::programs::json(&["best", directory.to_str().unwrap(), "--json"])["id"]
    );
    let text = crate::programs::run(&["lineage", directory.to_str().unwrap(), "--point", &copy.to_string()]);
    assert!(text.starts_with("after  until  x"), "{text}");
}

/// Reports x + 1 / epoch after each epoch, and waits for the answer to each before it goes on.
const REPORTING: &str = r#"
x=$(tr -dc '0-9.e-' < input.json)
epoch=0
while [ $epoch -lt $HPO_EPOCHS ]; do
  epoch=$((epoch + 1))
  loss=$(awk "BEGIN {printf \"%.17g\", $x + 1 / $epoch}")
  echo "{\"epoch\": $epoch, \"loss\": $loss}" >> "$HPO_REPORT_FILE"
  until grep -q " $epoch" "$HPO_DECISION_FILE" 2>/dev/null; do :; done
  grep -q stop "$HPO_DECISION_FILE" && break
done
echo "{\"loss\": $loss}" > output.json
"#;

/// Point, loss and last epoch of each point of a search whose evaluations report.
fn reporting(scheduler: &str, kills: &[u64]) -> Vec<(Value, Value, Value)> {
    let task = Task::new(&json!({"scheduler": scheduler, "maxEpochs": 9, "sampler": "random", "maxPoints": 12}));
    fs::write(task.scratch.path().join("files/train.sh"), REPORTING).unwrap();
    for growth in kills {
        task.kill_after(*growth);
    }
    task.finish();
    early_ends(&task)
}

fn early_ends(task: &Task) -> Vec<(Value, Value, Value)> {
    let points = points(&task.directory()).into_iter();
    points
        .map(|point| {
            (
                point["point"].clone(),
                point["loss"].clone(),
                point["ended_early_after"].clone(),
            )
        })
        .collect()
}

/// The same with checkpoints, deaf to signals. The point in the file `chosen` is told to pause before it reports its first epoch: it
/// reports, saves, writes the loss so far, and ends without an answer.
const PAUSING: &str = r#"
trap '' TERM INT
x=$(tr -dc '0-9.e-' < input.json)
epoch=$(cat "$HPO_CHECKPOINT_DIR/epoch" 2>/dev/null || echo 0)
echo "$HPO_POINT_ID $epoch $HPO_EPOCHS" >> "$1"
[ $epoch -gt 0 ] && loss=$(awk "BEGIN {printf \"%.17g\", $x + 1 / $epoch}")
while [ $epoch -lt $HPO_EPOCHS ]; do
  epoch=$((epoch + 1))
  loss=$(awk "BEGIN {printf \"%.17g\", $x + 1 / $epoch}")
  if [ "$HPO_POINT_ID $epoch" = "$(cat "$1.chosen") 1" ]; then
    : > "$1.waits"
    until grep -q pause "$HPO_DECISION_FILE" 2>/dev/null; do :; done
  fi
  echo "{\"epoch\": $epoch, \"loss\": $loss}" >> "$HPO_REPORT_FILE"
  echo $epoch > "$HPO_CHECKPOINT_DIR/epoch"
  until grep -q -e " $epoch" -e pause "$HPO_DECISION_FILE" 2>/dev/null; do :; done
  grep -q -e stop -e pause "$HPO_DECISION_FILE" && break
done
echo "{\"loss\": $loss}" > output.json
"#;

/// The same search, interrupted while the evaluation of point `chosen` is under way.
fn pausing(scheduler: &str, chosen: usize) -> Vec<(Value, Value, Value)> {
    let task = Task::new(&json!({
        "scheduler": scheduler, "maxEpochs": 9, "sampler": "random", "maxPoints": 12, "killGrace": "60s"
    }));
    fs::write(task.scratch.path().join("files/train.sh"), PAUSING).unwrap();
    fs::write(task.scratch.path().join("ledger.chosen"), chosen.to_string()).unwrap();
    let waits = task.scratch.path().join("ledger.waits");
    assert!(task.end_when(Signal::TERM, || waits.exists()));
    task.finish();
    let of_chosen = task
        .trainings()
        .into_iter()
        .filter(|[point, ..]| *point == chosen as u64);
    assert_eq!(
        of_chosen.collect::<Vec<_>>(),
        [[chosen as u64, 0, 9], [chosen as u64, 1, 1]]
    );
    early_ends(&task)
}

#[test]
fn running_evaluations_are_ended_early_and_neither_kill_nor_pause_changes_anything() {
    let found = reporting("stopping", &[]);
    let mut seen: Vec<f64> = Vec::new();
    let mut third: Vec<f64> = Vec::new();
    for (point, loss, early) in &found {
        // The rule by hand: at epochs 1 and 3 whoever has too many better ones before it ends.
        let x = point["x"].as_f64().unwrap();
        let goes_on = |others: &mut Vec<f64>| {
            others.push(x);
            others.iter().filter(|other| **other < x).count() * 3 <= others.len()
        };
        let last = if !goes_on(&mut seen) {
            1
        } else if !goes_on(&mut third) {
            3
        } else {
            9
        };
        assert_eq!(*early, if last < 9 { json!(last) } else { json!(null) }, "{point}");
        assert_eq!(loss.as_f64().unwrap().to_bits(), (x + 1.0 / f64::from(last)).to_bits());
    }
    assert!(third.len() < 12 && third.len() > 2, "{found:?}");
    assert_eq!(reporting("stopping", &[2500, 1800, 3000]), found);
    let chosen = found.iter().position(|(_, _, early)| *early == json!(1)).unwrap();
    assert_eq!(pausing("stopping", chosen + 1), found);
}

#[test]
fn the_median_rule_ends_evaluations_that_are_worse() {
    let found = reporting("median", &[]);
    let (first, rest) = found.split_at(5);
    assert!(first.iter().all(|(_, _, early)| early.is_null()), "{found:?}");
    assert!(rest.iter().any(|(_, _, early)| !early.is_null()), "{found:?}");
}

/// The loss on a share of the files: x, and some noise that is the less the more files there are.
const COUNTING: &str = r#"
x=$(tr -dc '0-9.e-' < input.json)
files=$(tr -dc ',' < input_ds.json | wc -c)
awk "BEGIN {printf \"{\\\"loss\\\": %.17g, \\\"message\\\": \\\"%d files, epochs $HPO_EPOCHS, share $HPO_DATA_FRACTION\\\"}\", $x + sin(1000 * $x) / (10 + 40 * $files), $files + 1}" > output.json
"#;

#[test]
fn two_steps_search_on_part_of_the_files_and_say_how_sure_that_is() {
    let task = Task::new(&json!({
        "twoStep": "fraction=0.1,top=3,epochs=2,full-epochs=5", "fractionOf": "files", "trainingDS": "data/*",
        "sampler": "random", "maxPoints": 40
    }));
    let files = task.scratch.path().join("files");
    fs::write(files.join("train.sh"), COUNTING).unwrap();
    fs::create_dir(files.join("data")).unwrap();
    for number in 0..20 {
        fs::write(files.join(format!("data/part-{number}")), "").unwrap();
    }
    task.finish();
    let points = points(&task.directory());
    let messages = |step: u64| {
        let of_step = points.iter().filter(|point| point["point"]["hpo.step"] == step);
        of_step
            .map(|point| point["message"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert!(
        messages(1).iter().all(|text| *text == "2 files, epochs 2, share "),
        "{:?}",
        messages(1)
    );
    assert!(
        messages(2).iter().all(|text| *text == "20 files, epochs 5, share "),
        "{:?}",
        messages(2)
    );
    assert_eq!((messages(1).len(), messages(2).len()), (26, 14));
    let shown = crate::programs::json(&["run", "--taskDir", task.directory().to_str().unwrap(), "--json"]);
    let found = &shown["two_step"][0];
    assert_eq!((&found["first_step"], &found["pairs"]), (&json!(26), &json!(12)));
    assert!(found["second_step"].as_u64().unwrap() >= 3, "{found}");
    let chance = found["chance"].as_f64().unwrap();
    assert!(
        chance > 0.5 && found["lower_bound"].as_f64() < found["rank_correlation"].as_f64(),
        "{found}"
    );
    let text = crate::programs::run(&["run", "--taskDir", task.directory().to_str().unwrap()]);
    let told = format!(
        "with 95 % confidence, 12 pairs): the true best is among the best {} with a chance of",
        found["second_step"]
    );
    assert!(text.contains(&told), "{text}");
}
