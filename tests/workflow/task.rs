//! A task made of shell scripts, and how a test runs it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

/// Steering: point number k is `{"x": k}`; as many as asked for, up to the maximum.
const STEERING: &str = r#"#!/bin/sh
# steer.sh NUM MAX IN OUT
known=$(grep -o '\[{"x":' "$3" | wc -l)
printf '[' > "$4.part"
i=0
while [ "$i" -lt "$1" ] && [ "$known" -lt "$2" ]; do
  known=$((known + 1))
  [ "$i" -gt 0 ] && printf ',' >> "$4.part"
  printf '{"x":%d}' "$known" >> "$4.part"
  i=$((i + 1))
done
printf ']' >> "$4.part"
mv "$4.part" "$4"
"#;

/// Evaluation: notes its attempt in the ledger; the loss is (x - 3)².
const EVALUATION: &str = r#"#!/bin/sh
echo "$HPO_POINT_ID $HPO_ATTEMPT" >> "$1"
x=$(tr -dc '0-9' < input.json)
echo "{\"status\": 0, \"loss\": $(( (x - 3) * (x - 3) )), \"message\": \"ok\"}" > output.json
"#;

/// A scratch directory with the files of a task.
pub(crate) struct Task {
    scratch: tempfile::TempDir,
    options: Value,
}

impl Task {
    /// A search of six points that would succeed.
    pub(crate) fn new() -> Task {
        let scratch = tempfile::tempdir().unwrap();
        let task = Task {
            scratch,
            options: Value::Null,
        };
        fs::create_dir(task.files()).unwrap();
        task.file("steer.sh", STEERING);
        task.file("evaluate.sh", EVALUATION);
        let options = json!({
            "outDS": "user.me.test",
            "steeringExec": "sh steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT",
            "evaluationExec": format!("sh evaluate.sh '{}'", task.ledger().display()),
            "maxPoints": 6,
            "nParallelEvaluation": 2,
            "nPointsPerIteration": 3,
            "minUnevaluatedPoints": 1,
            "killGrace": "5s"
        });
        Task { options, ..task }.with(&json!({}))
    }

    /// The same with further options; null takes one away.
    pub(crate) fn with(mut self, options: &Value) -> Task {
        for (key, value) in options.as_object().unwrap() {
            if value.is_null() {
                self.options.as_object_mut().unwrap().remove(key);
            } else {
                self.options[key] = value.clone();
            }
        }
        self.file("task.json", &self.options.to_string());
        self
    }

    /// The same with another evaluation, a shell command.
    pub(crate) fn evaluating(self, command: &str) -> Task {
        self.with(&json!({ "evaluationExec": command }))
    }

    /// Writes one of the user's files.
    pub(crate) fn file(&self, name: &str, text: &str) {
        let path = self.files().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.scratch.path().join("files")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.scratch.path().join("ledger")
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.scratch.path().join("task")
    }

    /// `hpo` in the scratch directory.
    pub(crate) fn hpo(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpo"));
        command
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .env("NO_COLOR", "1")
            .env("COLUMNS", "80");
        command
    }

    /// `hpo run` of the task file.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.hpo();
        command.args(["run", "files/task.json", "--taskDir", "task"]);
        command
    }

    pub(crate) fn start(&self) -> Child {
        self.command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(crate) fn run(&self, further: &[&str]) -> Finished {
        Finished::new(self.command().args(further).output().unwrap(), self)
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Finished {
        Finished::new(self.hpo().args(arguments).output().unwrap(), self)
    }

    /// Runs to a good end and returns all points.
    pub(crate) fn succeed(&self) -> Vec<Value> {
        let finished = self.run(&[]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        self.points()
    }

    pub(crate) fn show(&self) -> Value {
        let shown = self.call(&["show", "task", "--json"]);
        serde_json::from_str(&shown.stdout).unwrap_or_else(|error| panic!("{error}: {shown:?}"))
    }

    pub(crate) fn points(&self) -> Vec<Value> {
        self.show()["points"].as_array().unwrap().clone()
    }

    /// Lines of the ledger, sorted.
    pub(crate) fn attempts(&self) -> Vec<String> {
        let mut lines: Vec<String> = fs::read_to_string(self.ledger())
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }

    /// A file of an attempt.
    pub(crate) fn of_attempt(&self, point: u32, attempt: u32, name: &str) -> PathBuf {
        self.directory()
            .join(format!("points/{point}/attempt-{attempt}"))
            .join(name)
    }
}

/// What a call of `hpo` left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    /// With the scratch directory replaced by `$DIR`.
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn new(output: Output, task: &Task) -> Finished {
        let here = task.scratch.path().to_str().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(here, "$DIR");
        Finished {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The lines of standard error that `hpo` itself wrote.
    pub(crate) fn remarks(&self) -> Vec<&str> {
        self.stderr
            .lines()
            .filter_map(|line| line.strip_prefix("hpo: "))
            .collect()
    }
}

/// Waits, without a fixed time, until something is true; a minute is far beyond any expectation.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed().as_secs() < 60, "waited in vain until {what}");
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
}

/// The JSON file at a path.
pub(crate) fn read_json(path: &std::path::Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}
