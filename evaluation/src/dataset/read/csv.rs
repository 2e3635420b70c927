//! Text tables: values parted by commas, semicolons, tabs or blanks, plain or gzipped.
//!
//! A column whose every value is an integer holds integers, else numbers if every value is one, else text. Empty fields
//! and the usual words for "missing" are missing values.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder, Trim};
use flate2::read::MultiGzDecoder;

use super::{Reader, TextOptions};
use crate::dataset::column::{Column, Values};
use crate::dataset::error::DatasetError;

/// A text table, whole in memory.
#[derive(Debug)]
pub(crate) struct CsvReader {
    path: PathBuf,
    content: Vec<u8>,
    delimiter: u8,
    header: bool,
    names: Vec<String>,
}

impl CsvReader {
    pub(crate) fn open(path: &Path, options: TextOptions) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|error| DatasetError::io(path, error))?;
        let mut content = Vec::new();
        BufReader::new(file)
            .read_to_end(&mut content)
            .map_err(|error| DatasetError::io(path, error))?;
        Self::new(path, content, options)
    }

    pub(crate) fn open_gzip(path: &Path, options: TextOptions) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|error| DatasetError::io(path, error))?;
        let mut content = Vec::new();
        MultiGzDecoder::new(BufReader::new(file))
            .read_to_end(&mut content)
            .map_err(|error| {
                DatasetError::damaged(
                    path,
                    format!("the gzip data is damaged or cut off ({error}); copy or download it again"),
                )
            })?;
        Self::new(path, content, options)
    }

    fn new(path: &Path, mut content: Vec<u8>, options: TextOptions) -> Result<Self, DatasetError> {
        if content.starts_with(b"\xef\xbb\xbf") {
            content.drain(..3);
        }
        check_text(path, &content)?;
        let delimiter = options.delimiter.unwrap_or_else(|| guess_delimiter(&content));
        let mut first = ByteRecord::new();
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .trim(Trim::All)
            .from_reader(content.as_slice());
        let found = reader
            .read_byte_record(&mut first)
            .map_err(|error| DatasetError::damaged(path, error.to_string()))?;
        if !found {
            return Err(DatasetError::NoRows { path: path.to_owned() });
        }
        let fields: Vec<String> = first
            .iter()
            .map(|field| String::from_utf8_lossy(field).into_owned())
            .collect();
        // A line of names has no number in it; a line of data nearly always has one.
        let header = options.header.unwrap_or_else(|| {
            fields
                .iter()
                .all(|field| field.parse::<f64>().is_err() && !field.is_empty())
        });
        let names = if header {
            fields
        } else {
            (0..fields.len()).map(|index| format!("column_{index}")).collect()
        };
        if let Some(name) = names
            .iter()
            .enumerate()
            .find_map(|(at, name)| names[..at].contains(name).then_some(name))
        {
            return Err(DatasetError::damaged(
                path,
                format!("two columns are named `{name}`; names must differ"),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            content,
            delimiter,
            header,
            names,
        })
    }
}

impl Reader for CsvReader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn read(&mut self, wanted: &[usize]) -> Result<Vec<Column>, DatasetError> {
        let mut reader = ReaderBuilder::new()
            .has_headers(self.header)
            .delimiter(self.delimiter)
            .trim(Trim::All)
            .from_reader(self.content.as_slice());
        let mut builders: Vec<Builder> = wanted.iter().map(|_| Builder::Integers(Vec::new())).collect();
        let mut record = ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    return Err(DatasetError::damaged(&self.path, explain(&error, self.header)));
                }
            }
            for (builder, &index) in builders.iter_mut().zip(wanted) {
                let field = std::str::from_utf8(&record[index]).expect("the content was checked to be UTF-8");
                builder.push(field, &self.content, self.delimiter, self.header, index);
            }
        }
        Ok(builders
            .into_iter()
            .zip(wanted)
            .map(|(builder, &index)| Column {
                name: self.names[index].clone(),
                row_shape: Vec::new(),
                values: builder.finish(),
            })
            .collect())
    }
}

fn check_text(path: &Path, content: &[u8]) -> Result<(), DatasetError> {
    if let Err(error) = std::str::from_utf8(content) {
        let at = error.valid_up_to();
        let line = content[..at].split(|byte| *byte == b'\n').count();
        return Err(DatasetError::damaged(
            path,
            format!(
                "line {line} is not UTF-8 (byte 0x{:02x}); convert the file, for example with `iconv -t utf-8`",
                content[at]
            ),
        ));
    }
    if content.contains(&0) {
        return Err(DatasetError::damaged(
            path,
            "the file holds zero bytes, it is not a text table",
        ));
    }
    Ok(())
}

/// The first candidate that is in the first line; a comma where there is none.
fn guess_delimiter(content: &[u8]) -> u8 {
    let line = content
        .split(|byte| *byte == b'\n')
        .find(|line| !line.trim_ascii().is_empty())
        .unwrap_or_default();
    b",;\t| "
        .iter()
        .copied()
        .find(|delimiter| line.trim_ascii().contains(delimiter))
        .unwrap_or(b',')
}

fn explain(error: &csv::Error, header: bool) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            let first = if header { "the header" } else { "the first line" };
            format!("line {line} has {len} fields, but {first} has {expected_len}")
        }
        _ => error.to_string(),
    }
}

fn is_missing(field: &str) -> bool {
    matches!(
        field,
        "" | "NA" | "N/A" | "n/a" | "NaN" | "nan" | "NAN" | "null" | "NULL" | "None" | "?"
    )
}

/// Grows a column and widens its type when a value asks for it.
enum Builder {
    Integers(Vec<i64>),
    Doubles(Vec<f64>),
    Texts(Vec<String>),
}

impl Builder {
    fn push(&mut self, field: &str, content: &[u8], delimiter: u8, header: bool, index: usize) {
        match self {
            Self::Integers(values) => {
                if let Ok(value) = field.parse() {
                    values.push(value);
                } else {
                    *self = Self::Doubles(values.iter().map(|value| *value as f64).collect());
                    self.push(field, content, delimiter, header, index);
                }
            }
            Self::Doubles(values) => {
                if is_missing(field) {
                    values.push(f64::NAN);
                } else if let Ok(value) = field.parse() {
                    values.push(value);
                } else {
                    // The spelling of earlier numbers matters in a text column (`007`), so they are read again.
                    let count = values.len();
                    *self = Self::Texts(texts(content, delimiter, header, index, count));
                    self.push(field, content, delimiter, header, index);
                }
            }
            Self::Texts(values) => {
                values.push(if is_missing(field) {
                    String::new()
                } else {
                    field.to_owned()
                });
            }
        }
    }

    fn finish(self) -> Values {
        match self {
            Self::Integers(values) => Values::Integers(values),
            Self::Doubles(values) => Values::Doubles(values),
            Self::Texts(values) => Values::Texts(values),
        }
    }
}

fn texts(content: &[u8], delimiter: u8, header: bool, index: usize, count: usize) -> Vec<String> {
    ReaderBuilder::new()
        .has_headers(header)
        .delimiter(delimiter)
        .trim(Trim::All)
        .from_reader(content)
        .byte_records()
        .take(count)
        .filter_map(Result::ok)
        .map(|record| String::from_utf8_lossy(&record[index]).into_owned())
        .map(|field| if is_missing(&field) { String::new() } else { field })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8], options: TextOptions) -> Result<(Vec<String>, Vec<Values>), String> {
        let mut reader =
            CsvReader::new(Path::new("t.csv"), content.to_vec(), options).map_err(|error| error.to_string())?;
        let all: Vec<usize> = (0..reader.names.len()).collect();
        let columns = reader.read(&all).map_err(|error| error.to_string())?;
        Ok((
            reader.names.clone(),
            columns.into_iter().map(|column| column.values).collect(),
        ))
    }

    #[test]
    fn types_follow_the_values() {
        let (names, values) = read(b"a,b,c\n1,2,07\n3,4.5,x\n", TextOptions::default()).unwrap();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(values[0], Values::Integers(vec![1, 3]));
        assert_eq!(values[1], Values::Doubles(vec![2.0, 4.5]));
        assert_eq!(values[2], Values::Texts(vec!["07".to_owned(), "x".to_owned()]));
    }

    #[test]
    fn a_first_line_with_a_number_is_data() {
        let (names, values) = read(b"0;1\n2;3\n", TextOptions::default()).unwrap();
        assert_eq!(names, ["column_0", "column_1"]);
        assert_eq!(values[1], Values::Integers(vec![1, 3]));
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_are_no_matter() {
        let (names, values) = read(b"\xef\xbb\xbfa\tb\r\n1\t2\r\n", TextOptions::default()).unwrap();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(values[1], Values::Integers(vec![2]));
    }

    #[test]
    fn missing_values_become_nan() {
        let (_, values) = read(b"a,b\n1,\n2,NA\n3,4\n", TextOptions::default()).unwrap();
        assert!(values[1].number(0).is_nan() && values[1].number(1).is_nan());
        assert!((values[1].number(2) - 4.0).abs() < f64::EPSILON);
    }

    #[test]
    fn broken_tables_say_which_line() {
        let ragged = read(b"a,b\n1,2\n3\n", TextOptions::default()).unwrap_err();
        assert_eq!(
            ragged,
            "training data `t.csv`: line 3 has 1 fields, but the header has 2"
        );
        let latin = read(b"a,b\n1,caf\xe9\n", TextOptions::default()).unwrap_err();
        assert_eq!(
            latin,
            "training data `t.csv`: line 2 is not UTF-8 (byte 0xe9); convert the file, for example with `iconv -t utf-8`"
        );
        let twice = read(b"a,a\n1,2\n", TextOptions::default()).unwrap_err();
        assert_eq!(
            twice,
            "training data `t.csv`: two columns are named `a`; names must differ"
        );
    }
}
