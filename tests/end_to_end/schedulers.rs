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
        let mut child = self.start();
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if bytes() >= goal {
                let _ = kill_process(Pid::from_child(&child), Signal::KILL);
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

#[test]
fn a_search_that_is_killed_in_mid_rung_comes_to_the_same_end() {
    let undisturbed = Task::new(&asha()).finish();
    let task = Task::new(&asha());
    let mut kills = 0;
    for growth in [900, 1500, 700, 2600, 1100, 400, 1900] {
        kills += usize::from(task.kill_after(growth));
    }
    assert!(kills > 3, "only {kills} kills");
    assert_eq!(task.finish(), undisturbed);
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
}
