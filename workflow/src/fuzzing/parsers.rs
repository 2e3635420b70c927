//! Everything that reads what others have written, as functions of bytes.

use std::io::Read;
use std::path::Path;

use base64::Engine;
use protocol::json::{self, Dialect};
use protocol::report::Report;
use protocol::search_space::SpaceDocument;
use protocol::steering::{SteeringInput, new_points};
use protocol::task_options::TaskOptions;
use protocol::{earlier, limits, loss_document, segments, training_data};
use serde_json::Value;
use steering::history::{History, Mode};

use crate::checkpoint::{extract, unpack};
use crate::import::{Wish, from_database, from_journal};
use crate::journal::{Contents, ReadError, Record, salvage};
use crate::panda::understood_token;
use crate::state::{Event, RetryLimits, State};

/// A parser, and what it is known by: the folder of its corpus.
pub(super) struct Parser {
    pub(super) name: &'static str,
    pub(super) read: fn(&[u8]),
}

pub(super) const PARSERS: [Parser; 10] = [
    Parser {
        name: "search_space",
        read: search_space,
    },
    Parser {
        name: "history",
        read: history,
    },
    Parser {
        name: "task_file",
        read: task_file,
    },
    Parser {
        name: "loss_document",
        read: loss_document,
    },
    Parser {
        name: "segment_file",
        read: segment_file,
    },
    Parser {
        name: "archive",
        read: archive,
    },
    Parser {
        name: "journal",
        read: journal,
    },
    Parser {
        name: "report",
        read: report,
    },
    Parser {
        name: "optuna",
        read: optuna,
    },
    Parser {
        name: "token",
        read: token,
    },
];

fn value(bytes: &[u8], dialect: Dialect) -> Option<Value> {
    json::parse(bytes, dialect).ok()
}

/// A space that is accepted must also give points, and know them again.
fn search_space(bytes: &[u8]) {
    let Some(document) = value(bytes, Dialect::Commented).and_then(|value| SpaceDocument::from_value(&value).ok())
    else {
        return;
    };
    for (_, space) in steering::ask::spaces(&document).unwrap_or_default() {
        let _ = space.size();
        for quantile in [0.0, 0.3, 1.0] {
            let point = space.at_quantiles(|_| quantile);
            let _ = space.decode(&space.encode(&point));
        }
    }
}

/// Of steering, of an earlier task, and as the answer of steering. What can be read quickly is the same as what is read thoroughly.
fn history(bytes: &[u8]) {
    let quick = SteeringInput::read_quickly(bytes, Some(limits::FAILED_LOSS));
    let Some(value) = value(bytes, Dialect::NonFinite) else {
        assert_eq!(quick, None);
        return;
    };
    if quick.is_some() {
        assert_eq!(
            quick,
            SteeringInput::from_value(value.clone(), Some(limits::FAILED_LOSS)).ok()
        );
    }
    let _ = new_points(value.clone());
    let _ = earlier::from_value(value.clone(), Some(limits::FAILED_LOSS));
    if let Ok(input) = SteeringInput::from_value(value, Some(limits::FAILED_LOSS)) {
        let space = SpaceDocument::from_value(&serde_json::json!({"x": [0, 1]})).expect("a space of one dimension");
        for (_, space) in steering::ask::spaces(&space).expect("a space of one dimension") {
            let history = History::new(&space, &input.points, Mode::Min);
            let _ = (history.pending(), history.next_ordinal());
        }
        let _ = input.to_json(limits::FAILED_LOSS);
    }
}

fn task_file(bytes: &[u8]) {
    if let Some(Value::Object(map)) = value(bytes, Dialect::Commented) {
        let _ = TaskOptions::from_map(&map);
    }
}

fn loss_document(bytes: &[u8]) {
    let _ = loss_document::interpret(bytes);
}

/// Segments, and the list of training files that a job finds.
fn segment_file(bytes: &[u8]) {
    if let Some(value) = value(bytes, Dialect::Strict) {
        let _ = segments::from_value(&value);
        let _ = training_data::from_value(&value);
    }
}

/// As it is, and behind decompression.
fn archive(bytes: &[u8]) {
    let unpacked = |read: &dyn Fn(&Path) -> bool| {
        let target = tempfile::tempdir_in(room()).expect("a scratch directory");
        let _ = read(target.path());
    };
    if bytes.starts_with(&[0x1f, 0x8b]) {
        unpacked(&|target| extract(bytes, target, 1 << 16).is_ok());
    } else {
        unpacked(&|target| unpack(bytes.take(1 << 20), target, 1 << 16).is_ok());
    }
}

/// Where it costs least.
pub(super) fn room() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

/// Read, salvaged, and replayed. Since hardly any other record has the right checksum, the texts are also taken for records
/// whose checksums hold.
fn journal(bytes: &[u8]) {
    let path = Path::new("journal");
    let read = |bytes: &[u8]| {
        let mut state = State::new(RetryLimits {
            attempts: 3,
            lost: 10,
            points_per_job: None,
        });
        let mut visit = |record: Record| {
            if let Ok(event) = serde_json::from_str::<Event>(&record.json) {
                let _ = state.apply(&event);
            }
            Ok::<(), ReadError>(())
        };
        let _ = Contents::default().take_all(path, bytes, &mut visit);
        let _ = state.ranking();
    };
    read(bytes);
    let _ = salvage(bytes);
    let mut sound = crate::journal::header().into_bytes();
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok());
    for (index, line) in lines.take(100).enumerate() {
        let json = line.splitn(5, ' ').last().unwrap_or_default().to_owned();
        let sequence = index as u64 + 1;
        Record {
            epoch: 1,
            continues: false,
            sequence,
            json,
        }
        .encode(&mut sound);
    }
    read(&sound);
}

fn report(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        let _ = serde_json::from_slice::<Report>(line);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<protocol::report::Decision>();
    }
}

/// Journal or database.
fn optuna(bytes: &[u8]) {
    let wish = Wish::default();
    let _ = if bytes.starts_with(b"SQLite") {
        from_database(bytes.to_vec(), &wish)
    } else {
        from_journal(bytes, &wish)
    };
}

/// The file with the token for PanDA, whose middle part is JSON again.
fn token(bytes: &[u8]) {
    let _ = understood_token(bytes, 0.0);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let file = serde_json::json!({"id_token": format!("e30.{claims}.x"), "refresh_token": text});
        let _ = understood_token(file.to_string().as_bytes(), 0.0);
    }
}
