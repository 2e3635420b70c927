//! Evaluations as jobs of a batch system, played by three shell scripts that are called like the programs of Slurm.
//!
//! They show what is asked and how answers are taken; what Slurm really does, `tests/slurm/check.sh` shows.

use std::fs;

use serde_json::json;

use crate::task::{Finished, Task};

/// Runs the jobs of an array at once, each as a process. `behaviour` is run first, with the number of the call in `$n`.
const SBATCH: &str = r#"#!/bin/sh
state=$(dirname "$0")/state
mkdir -p "$state"
case " $* " in *" --version "*) exit 0 ;; *" --test-only "*) exec sh "$state/../trial.sh" ;; esac
n=$(($(ls "$state" | wc -l) + 1))
touch "$state/call-$n"
for last in "$@"; do
  case $last in --job-name=*) name=${last#*=} ;; --array=*) end=${last#*-0-}; end=${last##*-} ;; esac
done
submit() {
  for i in $(seq 0 "$end"); do
    (
      SLURM_ARRAY_TASK_ID=$i sh "$last" >/dev/null 2>&1 </dev/null
      echo "$n|$i|COMPLETED|$name" > "$state/job-$n-$i"
    ) >/dev/null 2>&1 &
    echo "$n|$i|RUNNING|$name" > "$state/job-$n-$i"
  done
}
. "$state/../behaviour.sh"
submit
echo "$n"
"#;

const SQUEUE: &str = r#"#!/bin/sh
cat "$(dirname "$0")"/state/job-* 2>/dev/null
exit 0
"#;

fn task(behaviour: &str, options: &serde_json::Value) -> Task {
    let task = Task::new()
        .with(&json!({"backend": "slurm", "slurmPoll": "0.1s"}))
        .with(options);
    let programs = task.path("slurm");
    fs::create_dir(&programs).unwrap();
    let write = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::write(programs.join(name), text).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    };
    write("sbatch", SBATCH);
    write("squeue", SQUEUE);
    write("scancel", "#!/bin/sh\n");
    write("scontrol", "#!/bin/sh\necho 'MaxArraySize = 2'\n");
    write("behaviour.sh", behaviour);
    write("trial.sh", "exit 0\n");
    task
}

/// `hpo run` where the programs of this directory come first.
fn run(task: &Task) -> Finished {
    let path = format!("{}:{}", task.path("slurm").display(), std::env::var("PATH").unwrap());
    Finished::new(task.command().env("PATH", path).output().unwrap(), task)
}

fn succeeds(task: &Task) {
    let finished = run(task);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(task.attempts(), EACH_ONCE, "{finished:?}");
}

const EACH_ONCE: [&str; 6] = ["1 1", "2 1", "3 1", "4 1", "5 1", "6 1"];

#[test]
fn each_batch_of_points_is_an_array() {
    let task = task("", &json!({"nParallelEvaluation": 3, "minUnevaluatedPoints": 0}));
    succeeds(&task);
    let calls = fs::read_dir(task.path("slurm/state")).unwrap().flatten();
    let calls = calls.filter(|entry| entry.file_name().to_string_lossy().starts_with("call-"));
    // Three points at a time, and an array may have two jobs.
    assert_eq!(calls.count(), 4);
    let left: Vec<_> = fs::read_dir(task.directory().join("slurm"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(left.len(), 3, "batches are left: {left:?}");
}

#[test]
fn pilots_take_points_one_after_another() {
    let task = task("", &json!({"slurmPilots": 2, "evaluationsPerJob": 2}));
    succeeds(&task);
}

#[test]
fn what_was_accepted_although_sbatch_denies_it_runs_once() {
    let task = task(
        "if [ $n = 1 ]; then submit; echo 'timed out' >&2; exit 1; fi\n",
        &json!({}),
    );
    succeeds(&task);
}

#[test]
fn a_refusal_is_quoted_before_anything_is_begun() {
    let task = task("", &json!({"slurmPartition": "nowhere"}));
    fs::write(
        task.path("slurm/trial.sh"),
        "echo 'sbatch: error: invalid partition specified: nowhere' >&2; exit 1\n",
    )
    .unwrap();
    let finished = run(&task);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    insta::assert_snapshot!(finished.stderr, @r"
    hpo: Slurm refuses the jobs of this task: sbatch: error: invalid partition specified: nowhere (asked for: --nodes=1 --ntasks=1 --partition=nowhere --signal=B:TERM@90 --no-requeue); `sinfo` shows partitions, `sacctmgr show associations` accounts
    ");
    assert!(!task.directory().exists());
}

#[test]
fn without_slurm_that_is_said() {
    let task = Task::new().with(&json!({"backend": "slurm"}));
    // `hpo` itself needs none of the system's programs until it starts something.
    let finished = Finished::new(
        task.command().env("PATH", task.path("nowhere")).output().unwrap(),
        &task,
    );
    assert_eq!(finished.code, Some(3), "{}", finished.stderr);
    insta::assert_snapshot!(finished.stderr, @r"
    hpo: Slurm is not to be found here: `sbatch` cannot be started: No such file or directory (os error 2); run hpo where `sbatch` works, or without `--backend slurm`
    ");
}
