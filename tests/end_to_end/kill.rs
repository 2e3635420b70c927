//! SIGKILL of the manager and of evaluations at random moments changes nothing but the time it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::programs::{hpo, points};

const POINTS: usize = 8;
/// A search that takes longer than this is stuck.
const PATIENCE: Duration = Duration::from_mins(2);

/// A small deterministic generator: the moments of the kills must be spread, not secret.
struct Moments(u64);

impl Moments {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A task of small real trainings, whose payloads note each attempt in a ledger.
struct Task {
    scratch: tempfile::TempDir,
}

impl Task {
    fn new(sampler: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("files");
        fs::create_dir(&folder).unwrap();
        let mut table = String::from("a,b,c,y\n");
        let mut moments = Moments(7);
        for _ in 0..240 {
            let [a, b, c] = [(); 3].map(|()| moments.below(1000) as f64 / 500.0 - 1.0);
            writeln!(table, "{a},{b},{c},{}", (3.0 * a).sin() + b * c).unwrap();
        }
        fs::write(folder.join("data.csv"), table).unwrap();
        fs::write(
            folder.join("space.json"),
            r#"{"rate": {"method": "loguniform", "dimension": {"low": 0.001, "high": 0.1}},
                "units": {"method": "uniformint", "dimension": {"low": 4, "high": 32}}}"#,
        )
        .unwrap();
        fs::write(
            folder.join("model.json"),
            r#"{"data": {"targets": "y", "target_type": "values", "split": {"validation": 0.25, "seed": 1}},
                "model": {"blocks": [{"dense": {"units": "$units", "activation": "tanh"}}]},
                "loss": "mse", "optimizer": {"name": "adam", "learning_rate": "$rate"},
                "training": {"epochs": 12, "batch_size": 16, "seed": 1}}"#,
        )
        .unwrap();
        let ledger = scratch.path().join("ledger");
        let options = serde_json::json!({
            "searchSpaceFile": "space.json",
            "steeringExec": format!("steering ask --lib={sampler} -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT"),
            "evaluationExec": format!(
                "echo $HPO_POINT_ID $HPO_ATTEMPT >> '{}'; exec evaluation --model model.json --checkpoint checkpoint",
                ledger.display()
            ),
            "checkPointToSave": "checkpoint",
            "trainingDS": "data.csv",
            "maxPoints": POINTS,
            "maxEvaluationJobs": 1000,
            "maxAttempts": 1000,
            "maxLostAttempts": 1000,
            "nParallelEvaluation": 2,
            "nPointsPerIteration": 3,
            "minUnevaluatedPoints": 1
        });
        fs::write(folder.join("task.json"), options.to_string()).unwrap();
        Self { scratch }
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("task")
    }

    fn start(&self) -> Child {
        hpo()
            .arg("run")
            .arg(self.scratch.path().join("files/task.json"))
            .arg("--taskDir")
            .arg(self.directory())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("hpo starts")
    }

    fn finish(&self) {
        let status = self.start().wait().unwrap();
        assert!(status.success(), "hpo ended with {status}");
    }

    fn journal_bytes(&self) -> u64 {
        fs::metadata(self.directory().join("journal")).map_or(0, |metadata| metadata.len())
    }

    /// Runs `hpo` until its journal has grown by `growth` bytes. False: the search ended before.
    fn run_until_growth(&self, manager: &mut Child, growth: u64) -> bool {
        let goal = self.journal_bytes() + growth;
        let began = Instant::now();
        while self.journal_bytes() < goal {
            if manager.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "the search is stuck");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        true
    }

    /// Losses by point, bit by bit.
    fn results(&self) -> BTreeMap<String, u64> {
        points(&self.directory())
            .iter()
            .map(|point| {
                assert_eq!(point["status"], "done", "{point}");
                (point["point"].to_string(), point["loss"].as_f64().unwrap().to_bits())
            })
            .collect()
    }

    /// No attempt ran twice, and every attempt but the last of a point was ended by a kill.
    fn check_ledger(&self, kills_of_evaluations: usize) {
        let ledger = fs::read_to_string(self.scratch.path().join("ledger")).unwrap();
        let attempts: Vec<&str> = ledger.lines().collect();
        let distinct: BTreeSet<&str> = attempts.iter().copied().collect();
        assert_eq!(distinct.len(), attempts.len(), "an attempt ran twice:\n{ledger}");
        assert!(
            attempts.len() <= POINTS + kills_of_evaluations,
            "{} attempts for {POINTS} points and {kills_of_evaluations} kills of evaluations",
            attempts.len()
        );
    }
}

/// Running evaluations of the task, from the process table.
fn evaluations(task_dir: &Path) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let program = fs::read_link(entry.path().join("exe")).ok()?;
            let directory = fs::read_link(entry.path().join("cwd")).ok()?;
            (program.file_name()? == "evaluation" && directory.starts_with(task_dir)).then_some(pid)
        })
        .collect()
}

/// Kills managers and evaluations until so many kills are done; returns how many evaluations were among them.
fn disturb(task: &Task, moments: &mut Moments, kills: usize) -> (usize, usize) {
    let (mut done, mut evaluations_killed) = (0, 0);
    while done < kills {
        let mut manager = task.start();
        if !task.run_until_growth(&mut manager, moments.below(1200)) {
            break;
        }
        // On a busy machine there is not always one to be found.
        if evaluations_killed == 0 || moments.below(3) == 0 {
            let running = evaluations(&task.directory());
            if !running.is_empty() {
                let victim = running[moments.below(running.len() as u64) as usize];
                if kill_process(victim, Signal::KILL).is_ok() {
                    done += 1;
                    evaluations_killed += 1;
                }
            }
        }
        manager.kill().unwrap();
        manager.wait().unwrap();
        done += 1;
    }
    task.finish();
    (done, evaluations_killed)
}

/// Kills of one test; two tests make fifty.
const KILLS: usize = 25;

/// Searches, each disturbed at moments of its own, until the kills are used up; some of them hit evaluations.
fn disturbed_searches(sampler: &str, seed: u64, check: impl Fn(&Task)) {
    let mut moments = Moments(seed);
    let (mut kills, mut of_evaluations) = (0, 0);
    for _ in 0..KILLS {
        let task = Task::new(sampler);
        let (now, now_of_evaluations) = disturb(&task, &mut moments, KILLS - kills);
        kills += now;
        of_evaluations += now_of_evaluations;
        check(&task);
        task.check_ledger(now_of_evaluations);
        if kills >= KILLS {
            break;
        }
    }
    assert!(
        kills >= KILLS && of_evaluations > 0,
        "only {kills} kills, {of_evaluations} of evaluations"
    );
}

#[test]
fn killed_searches_with_sobol_end_with_the_points_and_losses_of_an_undisturbed_one() {
    let undisturbed = Task::new("sobol");
    undisturbed.finish();
    let expected = undisturbed.results();
    assert_eq!(expected.len(), POINTS);
    disturbed_searches("sobol", 1, |task| assert_eq!(task.results(), expected));
}

#[test]
fn killed_searches_with_tpe_lose_nothing_and_evaluate_nothing_twice() {
    disturbed_searches("tpe", 2, |task| assert_eq!(task.results().len(), POINTS));
}
