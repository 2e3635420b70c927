//! An evaluation that is ended at any moment resumes to the result it would have had.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Work, blobs, fixture, model};

const EPOCHS: &str = "240";

fn long() -> Work {
    let mut model = model(&blobs());
    model["model"]["blocks"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({"dropout": {"rate": 0.2}}));
    Work::new(&model)
}

fn start(work: &Work) -> Child {
    let data = fixture("blobs.csv");
    work.command(&[
        "--device",
        "cpu",
        "--epochs",
        EPOCHS,
        "--checkpoint",
        "c",
        "--data",
        &data,
    ])
    .stderr(Stdio::piped())
    .spawn()
    .unwrap()
}

/// Runs until it has shown `lines` further epochs, sends the signal, and returns the exit code.
fn end_after(work: &Work, lines: usize, signal: Signal) -> Option<i32> {
    let mut child = start(work);
    let shown = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let mut seen = 0;
    for line in shown {
        seen += usize::from(line.starts_with("epoch "));
        if seen == lines {
            // The pipe stays open until here, so the program can still write; a process that has ended meanwhile is none to signal.
            let _ = kill_process(Pid::from_child(&child), signal);
            break;
        }
    }
    child.wait().unwrap().code()
}

fn finish(work: &Work) -> Value {
    let data = fixture("blobs.csv");
    work.succeed(&[
        "--quiet",
        "--device",
        "cpu",
        "--epochs",
        EPOCHS,
        "--checkpoint",
        "c",
        "--data",
        &data,
    ])
}

#[test]
fn sigterm_leaves_a_checkpoint_that_leads_to_the_same_result() {
    let expected = finish(&long());
    let work = long();
    for lines in [1, 2, 5, 3] {
        assert_eq!(end_after(&work, lines, Signal::TERM), Some(143));
        let document = work.json("output.json");
        assert_eq!(document["status"], 1);
        assert!(
            document["message"]
                .as_str()
                .unwrap()
                .contains("the same command resumes from it"),
            "{document}"
        );
    }
    assert_eq!(end_after(&work, 4, Signal::INT), Some(130));
    assert_eq!(finish(&work), expected);
}

#[test]
fn sigkill_costs_at_most_the_work_since_the_last_checkpoint() {
    let expected = finish(&long());
    let work = long();
    for lines in [1, 7, 2, 4] {
        end_after(&work, lines, Signal::KILL);
    }
    assert_eq!(finish(&work), expected);
}

#[test]
fn without_a_checkpoint_directory_nothing_is_saved_and_it_says_so() {
    let work = long();
    let data = fixture("blobs.csv");
    let mut child = work
        .command(&["--device", "cpu", "--epochs", "100000", "--data", &data])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    lines.find(|line| line.starts_with("epoch 2/")).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let message = work.json("output.json")["message"].as_str().unwrap().to_owned();
    assert!(
        message.ends_with("nothing is saved without `--checkpoint`"),
        "{message}"
    );
}

#[test]
fn a_signal_while_data_are_read_leaves_a_document_that_says_so() {
    use std::io::Write as _;
    for (signal, code, name) in [(Signal::TERM, 143, "SIGTERM"), (Signal::INT, 130, "SIGINT")] {
        let work = long();
        // A pipe that nobody ends: the program waits for the rest of its data.
        let pipe = work.path("data.csv");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let mut child = work
            .command(&["--data", "data.csv"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Opening the pipe waits for its reader, so the program is reading afterwards.
        let mut writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        writer.write_all(b"a,b\n1,").unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(
            work.json("output.json"),
            serde_json::json!({
                "status": 1,
                "message": format!("ended by {name} while data and model were prepared; nothing was trained yet"),
            })
        );
    }
}
