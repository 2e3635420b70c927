//! A manager that lacks descriptors, memory, threads or processes says so, harms nothing, and the next one goes on.

use std::process::Command;

use serde_json::json;

use crate::task::{Finished, Task};

/// `hpo run` below a limit of the shell.
fn under(task: &Task, limit: &str) -> Finished {
    let hpo = task.command();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"]);
    command.arg(hpo.get_program()).args(hpo.get_args());
    command.current_dir(hpo.get_current_dir().unwrap()).env("NO_COLOR", "1");
    Finished::new(command.output().unwrap(), task)
}

/// A search that the lack ends, if at all, by a request, so that no limit makes it fail.
fn search() -> Task {
    Task::new()
        .with(&json!({"maxPoints": 4, "nPointsPerIteration": 4, "minUnevaluatedPoints": 0, "maxLostAttempts": 2}))
}

#[test]
fn without_descriptors_or_memory_nothing_begins_and_nothing_is_harmed() {
    let task = search();
    // From none at all to almost enough: every start gets a little further.
    for limit in ["-n 4", "-n 5", "-n 6", "-n 7", "-n 8"] {
        let finished = under(&task, limit);
        assert_eq!(finished.code, Some(3), "{limit}: {finished:?}");
        let last = finished.remarks().last().copied().unwrap_or_default();
        assert!(
            last.ends_with("Too many open files (os error 24)"),
            "{limit}: {finished:?}"
        );
    }
    // KiB of addresses, from too few for the loader on; what suffices differs from machine to machine.
    for limit in ["-v 10000", "-v 14000", "-v 18000", "-v 24000"] {
        let finished = under(&task, limit);
        assert!(!finished.stderr.contains("panicked"), "{limit}: {finished:?}");
    }
    let points = task.succeed();
    assert_eq!((points.len(), task.attempts().len()), (4, 4));
}
