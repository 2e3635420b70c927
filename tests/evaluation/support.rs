//! A work directory, and the program in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A work directory with model file and point.
pub(crate) struct Work {
    pub(crate) directory: TempDir,
}

pub(crate) fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/evaluation/fixtures")
        .join(name);
    path.to_str().unwrap().to_owned()
}

/// A small classifier whose width and rate are hyperparameters.
pub(crate) fn model(data: &Value) -> Value {
    json!({
        "data": data,
        "model": {"blocks": [{"dense": {"units": "$units", "activation": "relu"}}]},
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": "$rate", "momentum": 0.9},
        "training": {"epochs": 12, "batch_size": 16, "seed": 3},
        "objective": {"metric": "error", "mode": "min"},
    })
}

/// The columns of `blobs.csv` and `blobs.parquet`.
pub(crate) fn blobs() -> Value {
    json!({"inputs": ["a", "b", "c", "d"], "targets": "kind", "split": {"validation": 0.3, "kind": "stratified"}})
}

impl Work {
    pub(crate) fn new(model: &Value) -> Self {
        let work = Self {
            directory: TempDir::new().unwrap(),
        };
        work.write("model.json", model.to_string());
        work.write("input.json", r#"{"units": 8, "rate": 0.05}"#);
        work
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// The program, with none of the variables that it would read, on the CPU.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaluation"));
        command.args(arguments).current_dir(self.directory.path());
        for name in [
            "HPO_TASK",
            "HPO_SEGMENT",
            "HPO_POINT_ID",
            "HPO_ATTEMPT",
            "HPO_REPORT_FILE",
            "HPO_DECISION_FILE",
            "HPO_CHECKPOINT_DIR",
            "HPO_ENGINE",
            "PanDA_TaskID",
            "PANDAID",
        ] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs to success and returns the loss document.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let document = self.json("output.json");
        assert_eq!(document["status"], 0, "{document}");
        document
    }

    /// Runs to failure with this exit code and returns the message of the loss document, which stderr must show too.
    pub(crate) fn fail(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let document = self.json("output.json");
        assert_eq!(document["status"], 1, "{document}");
        assert!(document.get("loss").is_none(), "{document}");
        let message = document["message"].as_str().unwrap().to_owned();
        assert!(stderr(&output).contains(&message), "{message}\n{}", stderr(&output));
        message.replace(self.directory.path().to_str().unwrap(), "DIR")
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
