//! Every parser of what others have written, with inputs made from a corpus: none may panic, none may take more memory than a
//! multiple of its input, none may hang.
//!
//! The corpus is `tests/fuzz/corpus/NAME/`, a file an input, and for some parsers what comes with the program. A short run is part
//! of the test command. The long one, a million inputs for each parser unless `FUZZ_INPUTS` says otherwise:
//!
//! ```sh
//! cargo test --release -p workflow --lib fuzzing -- --ignored --nocapture
//! ```
//!
//! The long one keeps the input at hand in `/dev/shm/fuzz-NAME-PROCESS`, should the process itself come to an end.
//!
//! An input that a parser fails on is written to the corpus, where it stays: the short run begins with every file as it is.

mod generator;
mod memory;
mod parsers;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use generator::{Generator, LONGEST};
use parsers::{PARSERS, Parser};

/// Inputs of the short run for each parser.
const FEW: usize = 1_500;
/// Bytes that any parser may have allocated at most, whatever its input: buffers, and the table of all options.
const ROOM: usize = 2 << 20;
/// Bytes beyond these for each byte of the input: a number of one digit becomes a value of 32 bytes in a list with room to grow.
const ROOM_A_BYTE: usize = 256;
/// Longest that any input may take. In the long run only: short runs share their machine.
const LONGEST_TIME: Duration = Duration::from_secs(1);

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
}

/// The inputs that are kept for a parser.
fn corpus(parser: &Parser) -> Vec<Vec<u8>> {
    let folders = match parser.name {
        "search_space" => vec![repository().join("search_spaces")],
        "task_file" => files(&repository().join("examples")),
        "optuna" => vec![repository().join("tests/workflow/fixtures/import")],
        _ => Vec::new(),
    };
    let kept = repository().join("tests/fuzz/corpus").join(parser.name);
    let paths = folders.iter().chain([&kept]).flat_map(|folder| files(folder));
    let wanted = |path: &PathBuf| match parser.name {
        "task_file" => path.ends_with("task.json") || path.starts_with(&kept),
        _ => path.is_file(),
    };
    let texts = paths
        .filter(wanted)
        .map(|path| fs::read(path).expect("the corpus can be read"));
    texts.filter(|text| text.len() <= LONGEST).collect()
}

/// What a folder holds, in an order of its own; nothing, if there is none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What is wrong with how a parser took an input, if anything.
fn fault(parser: &Parser, input: &[u8], longest: Option<Duration>) -> Option<String> {
    let begin = Instant::now();
    let mut panicked = false;
    let peak = memory::peak_of(|| panicked = catch_unwind(AssertUnwindSafe(|| (parser.read)(input))).is_err());
    let took = begin.elapsed();
    if panicked {
        return Some("it panicked".to_owned());
    }
    let allowed = ROOM + ROOM_A_BYTE * input.len();
    if peak > allowed {
        return Some(format!("it allocated {peak} bytes, at most {allowed} are allowed"));
    }
    longest
        .filter(|longest| took > *longest)
        .map(|_| format!("it took {took:?}"))
}

/// Gives a parser its corpus and then `count` inputs made of it; panics on the first fault, and keeps its input.
fn feed(parser: &Parser, count: usize, seed: u64, longest: Option<Duration>) {
    let corpus = corpus(parser);
    assert!(!corpus.is_empty(), "`{}` has no corpus", parser.name);
    let mut generator = Generator::new(&corpus, seed);
    // Where the process itself might end: what it was about to read.
    let kept = longest.map(|_| parsers::room().join(format!("fuzz-{}-{}", parser.name, std::process::id())));
    let made = std::iter::repeat_with(|| generator.input()).take(count);
    for input in corpus.iter().cloned().chain(made) {
        if let Some(path) = &kept {
            fs::write(path, &input).expect("the input can be kept");
        }
        if let Some(fault) = fault(parser, &input, longest) {
            let folder = repository().join("tests/fuzz/corpus").join(parser.name);
            let digest = crc32c::crc32c(&input);
            let path = folder.join(format!("found_{digest:08x}"));
            fs::write(&path, &input).expect("the corpus can be written");
            panic!("{}: {fault}: {}", parser.name, path.display());
        }
    }
    if let Some(path) = kept {
        fs::remove_file(path).expect("the last input was kept");
    }
}

fn feed_shortly(name: &str) {
    let parser = PARSERS.iter().find(|parser| parser.name == name);
    feed(parser.expect("the parser is in the list"), FEW, 1, None);
}

#[test]
fn search_spaces_are_read_or_refused() {
    feed_shortly("search_space");
}

#[test]
fn histories_are_read_or_refused() {
    feed_shortly("history");
}

#[test]
fn task_files_are_read_or_refused() {
    feed_shortly("task_file");
}

#[test]
fn loss_documents_are_read_or_refused() {
    feed_shortly("loss_document");
}

#[test]
fn segment_files_are_read_or_refused() {
    feed_shortly("segment_file");
}

#[test]
fn archives_are_unpacked_or_refused() {
    feed_shortly("archive");
}

#[test]
fn journals_are_read_or_refused() {
    feed_shortly("journal");
}

#[test]
fn reports_are_read_or_refused() {
    feed_shortly("report");
}

#[test]
fn studies_of_optuna_are_read_or_refused() {
    feed_shortly("optuna");
}

#[test]
fn tokens_are_understood_or_refused() {
    feed_shortly("token");
}

#[test]
fn faults_are_noticed() {
    let panics = Parser {
        name: "panics",
        read: |input| assert!(input.len() < 4),
    };
    let greedy = Parser {
        name: "greedy",
        read: |_| drop(std::hint::black_box(vec![1_u8; 4 * ROOM])),
    };
    assert_eq!(fault(&panics, b"abc", None), None);
    assert_eq!(fault(&panics, b"abcd", None).unwrap(), "it panicked");
    assert!(fault(&greedy, b"abc", None).unwrap().starts_with("it allocated 838"));
    assert!(
        fault(&panics, b"abc", Some(Duration::ZERO))
            .unwrap()
            .starts_with("it took")
    );
}

#[test]
#[ignore = "takes minutes, in release"]
fn a_million_inputs_for_every_parser() {
    let count = std::env::var("FUZZ_INPUTS").map_or(1_000_000, |count| count.parse().expect("FUZZ_INPUTS is a number"));
    let only = std::env::var("FUZZ_PARSER").ok();
    for parser in PARSERS
        .iter()
        .filter(|parser| only.as_deref().is_none_or(|only| only == parser.name))
    {
        let begin = Instant::now();
        feed(parser, count, 2, Some(LONGEST_TIME));
        let line = format!(
            "{}: {count} inputs in {:.0} s\n",
            parser.name,
            begin.elapsed().as_secs_f64()
        );
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("standard error takes a line");
    }
}
