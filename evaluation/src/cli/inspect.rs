//! `evaluation library` and `evaluation data`: what is there to work with.

use std::fmt::Write as _;

use protocol::exit;
use serde_json::{Map, Value, json};

use super::arguments::{DataOptions, LibraryOptions};
use super::failure::Failure;
use super::{print, start};
use crate::dataset;

/// Names the library and the device that would be used.
pub(crate) fn library(options: &LibraryOptions) -> Result<(), Failure> {
    let library = start::find_library(&options.engine)?;
    let engine = start::start(&options.engine, &library)?;
    if options.json {
        let answer = json!({
            "path": library.path, "version": library.version, "found": library.to_string(),
            "engine": engine.version(), "device": engine.device(),
        });
        print(&format!("{answer:#}\n"));
    } else {
        print(&format!("{library}; device {}\n", engine.device()));
    }
    Ok(())
}

/// Lists the columns of files.
pub(crate) fn data(options: &DataOptions) -> Result<(), Failure> {
    let delimiter = match options.delimiter {
        None => None,
        Some(character) => Some(u8::try_from(character).ok().filter(u8::is_ascii).ok_or_else(|| {
            Failure::new(
                exit::USAGE,
                format!("`--delimiter` must be an ASCII character, found `{character}`"),
            )
        })?),
    };
    let mut answer = Map::new();
    let mut text = String::new();
    for path in &options.files {
        let columns = dataset::inspect(path, delimiter, options.header)?;
        let name = path.display().to_string();
        let width = columns
            .iter()
            .map(|column| column.name.chars().count())
            .max()
            .unwrap_or(0);
        let _ = writeln!(text, "{name}: {} columns", columns.len());
        for column in &columns {
            let _ = write!(
                text,
                "  {:width$}  {} rows of {}",
                column.name, column.rows, column.content
            );
            if column.missing > 0 {
                let _ = write!(text, ", {} missing", column.missing);
            }
            text.push('\n');
        }
        answer.insert(name, serde_json::to_value(&columns).unwrap_or(Value::Null));
    }
    if options.json {
        text = format!("{:#}\n", Value::Object(answer));
    }
    print(&text);
    Ok(())
}
