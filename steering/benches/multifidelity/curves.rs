//! Learning curves, served by `problems.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use protocol::Point;
use protocol::search_space::SpaceDocument;
use serde_json::{Value, json};

/// What is searched.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) name: String,
    pub(super) space: SpaceDocument,
    /// Epochs of full training.
    pub(super) full: u64,
    /// The loss to reach.
    pub(super) goal: f64,
}

/// The program that knows them.
#[derive(Debug)]
pub(super) struct Curves {
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
    _child: Child,
}

/// What a training loses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    /// What the search sees; nothing if the training diverged.
    pub(super) loss: Option<f64>,
    /// Without noise, after full training.
    pub(super) truth: Option<f64>,
}

impl Curves {
    pub(super) fn start(python: &str, kit: &str) -> (Self, Vec<Problem>) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/multifidelity/problems.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(kit)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("PYTHON can be run");
        let asked = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut curves = Self {
            asked,
            answers,
            _child: child,
        };
        let described = curves.read();
        let problems = described
            .as_array()
            .expect("a list of problems")
            .iter()
            .map(|problem| Problem {
                name: problem["name"].as_str().expect("a name").to_owned(),
                space: SpaceDocument::from_value(&problem["space"]).expect("the space is well formed"),
                full: problem["full"].as_u64().expect("epochs"),
                goal: problem["goal"].as_f64().expect("a loss"),
            });
        let problems = problems.collect();
        (curves, problems)
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the program answers");
        serde_json::from_str(&line).expect("the answer is JSON")
    }

    /// The loss after so many epochs on this share of the data.
    pub(super) fn loss(&mut self, problem: &Problem, seed: u64, point: &Point, epochs: u64, share: f64) -> Answer {
        let question = json!({"problem": problem.name, "seed": seed, "point": point, "epochs": epochs, "share": share});
        writeln!(self.asked, "{question}").expect("the program listens");
        let answer = self.read();
        Answer {
            loss: answer["loss"].as_f64(),
            truth: answer["truth"].as_f64(),
        }
    }
}
