//! What others must not see, and what they must not make of a task directory.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::task::Task;

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

#[test]
fn secrets_stay_where_the_user_put_them() {
    const OF_ENVIRONMENT: &str = "canary-7f3a-environment";
    const OF_COMMAND: &str = "canary-7f3a-command";
    const OF_OUTPUT: &str = "canary-7f3a-output";
    let task = Task::new()
        .with(&json!({"maxPoints": 2, "nParallelEvaluation": 2, "nPointsPerIteration": 2, "minUnevaluatedPoints": 0}))
        .evaluating(&format!(
            "echo $SECRET_TOKEN {OF_OUTPUT}; : --token {OF_COMMAND}; echo '{{\"loss\": 1}}' > output.json"
        ));
    let mut said = Vec::new();
    let mut calls = vec![task.command()];
    for words in [
        &["show", "task"][..],
        &["show", "task", "--json"],
        &["list"],
        &["best", "task"],
        &["journal", "export", "task"],
    ] {
        let mut command = task.hpo();
        command.args(words);
        calls.push(command);
    }
    for mut command in calls {
        let output = command.env("SECRET_TOKEN", OF_ENVIRONMENT).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        said.extend([output.stdout, output.stderr].concat());
    }
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains("canary"), "{said}");

    let mut files = Vec::new();
    files_below(&task.directory(), &mut files);
    let with = |canary: &str| {
        let holds = |path: &&PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(canary);
        let names = files
            .iter()
            .filter(holds)
            .map(|path| path.file_name().unwrap().to_str().unwrap());
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    assert_eq!(
        with(OF_ENVIRONMENT),
        ["stdout.log"],
        "the payload itself has printed it"
    );
    // The frozen task, copies of the file that the user wrote, and what was made of it for the attempts.
    assert_eq!(with(OF_COMMAND), ["order.json", "task.json"]);
    assert_eq!(with(OF_OUTPUT), ["order.json", "stdout.log", "task.json"]);
    // Whatever the modes below it: nobody else gets in.
    assert_eq!(fs::metadata(task.directory()).unwrap().mode() & 0o777, 0o700);
    for name in ["journal", "lock"] {
        assert_eq!(
            fs::metadata(task.directory().join(name)).unwrap().mode() & 0o777,
            0o600,
            "{name}"
        );
    }
}

#[test]
fn what_stands_in_the_place_of_our_files_is_neither_followed_nor_waited_for() {
    let task = Task::new().with(&json!({"maxPoints": 1, "nPointsPerIteration": 1, "minUnevaluatedPoints": 0}));
    let victim = task.path("victim");
    let refused = |words: &[&str], name: &str, found: &str| {
        let finished = task.call(words);
        assert_eq!(finished.code, Some(3), "{finished:?}");
        let expected = format!("it must be a regular file, found {found}; somebody has put that there, remove it");
        assert!(finished.stderr.contains(&expected), "{finished:?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine", "{name}");
        fs::remove_file(task.directory().join(name)).unwrap();
    };
    fs::write(&victim, "mine").unwrap();
    // Planted before the task is there.
    fs::DirBuilder::new().create(task.directory()).unwrap();
    let run = ["run", "files/task.json", "--taskDir", "task"];
    for name in ["lock", "manager.log"] {
        symlink(&victim, task.directory().join(name)).unwrap();
        let detached = [&run[..], &["--detach"]].concat();
        refused(if name == "lock" { &run } else { &detached }, name, "a symbolic link");
    }
    task.succeed();
    // And after it.
    let journal = task.directory().join("journal");
    let aside = task.path("aside");
    fs::rename(&journal, &aside).unwrap();
    symlink(&victim, &journal).unwrap();
    refused(&["run", "--taskDir", "task"], "journal", "a symbolic link");
    let fifo = || {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &journal,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
    };
    fifo().unwrap();
    refused(&["show", "task"], "journal", "a pipe");
    fs::rename(&aside, &journal).unwrap();
    assert_eq!(task.succeed().len(), 1);
}

#[test]
fn a_task_into_which_everybody_may_write_is_not_run() {
    let task = Task::new().with(&json!({"maxPoints": 1, "nPointsPerIteration": 1, "minUnevaluatedPoints": 0}));
    task.succeed();
    fs::set_permissions(task.directory(), fs::Permissions::from_mode(0o777)).unwrap();
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert_eq!(
        finished.remarks().last().copied(),
        Some(
            "task `$DIR/task` may be written by everybody, who could so run commands in your name; once its files are as you left them, `chmod o-w $DIR/task`"
        )
    );
    assert_eq!(task.points().len(), 1, "it can still be looked at");
    fs::set_permissions(task.directory(), fs::Permissions::from_mode(0o770)).unwrap();
    task.succeed();
}
