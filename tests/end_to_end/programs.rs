//! Where the programs and examples are, and how a test calls `hpo`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The folder of the programs under test.
pub(crate) fn folder() -> PathBuf {
    let hpo = Path::new(env!("CARGO_BIN_EXE_hpo"));
    let folder = hpo.parent().expect("a program lies in a folder").to_owned();
    for name in ["steering", "evaluation"] {
        assert!(
            folder.join(name).is_file(),
            "build all programs first: cargo build --workspace --bins"
        );
    }
    folder
}

/// The folder of the examples.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .canonicalize()
        .expect("the examples are part of the sources")
}

/// A call of `hpo`.
pub(crate) fn hpo() -> Command {
    folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpo"));
    command.env_remove("STEERING_SEED").env("NO_COLOR", "1");
    command
}

/// Runs `hpo` with these arguments to its end, which must be a good one.
pub(crate) fn run(arguments: &[&str]) -> String {
    let output = hpo().args(arguments).output().expect("hpo starts");
    assert!(
        output.status.success(),
        "hpo {arguments:?} ended with {}:\n{}",
        output.status,
        both(&output)
    );
    String::from_utf8(output.stdout).expect("hpo writes UTF-8")
}

/// Runs `hpo … --json` and returns what it prints.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let text = run(arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("hpo {arguments:?} printed no JSON ({error}):\n{text}"))
}

/// Everything that a program said.
pub(crate) fn both(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The points of `hpo show --json`.
pub(crate) fn points(task_dir: &Path) -> Vec<Value> {
    let shown = json(&["show", task_dir.to_str().expect("a UTF-8 path"), "--json"]);
    shown["points"].as_array().expect("`points` is a list").clone()
}
