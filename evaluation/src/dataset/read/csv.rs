//! Text tables: values parted by commas, semicolons, tabs or blanks, plain or gzipped.
//!
//! A column whose every value is an integer holds integers, else numbers if every value is one, else text. Empty fields
//! and the usual words for "missing" are missing values.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder, Trim};
use flate2::read::MultiGzDecoder;

use super::{Chunks, Extent, Reader, TextOptions};
use crate::dataset::column::{Column, Values};
use crate::dataset::error::DatasetError;

/// Enough of a file to find its separator and its first line.
const HEAD: u64 = 1 << 22;

/// A text table. It is read from its beginning for every pass, so it need not fit into memory.
#[derive(Debug)]
pub(crate) struct CsvReader {
    path: PathBuf,
    gzip: bool,
    delimiter: u8,
    header: bool,
    names: Vec<String>,
}

impl CsvReader {
    pub(crate) fn open(path: &Path, options: TextOptions, gzip: bool) -> Result<Self, DatasetError> {
        let mut head = Vec::new();
        decoded(path, gzip)
            .and_then(|input| input.take(HEAD).read_to_end(&mut head))
            .map_err(|error| failure(path, gzip, error))?;
        let delimiter = options.delimiter.unwrap_or_else(|| guess_delimiter(&head));
        let mut first = ByteRecord::new();
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .trim(Trim::All)
            .from_reader(head.as_slice());
        let found = reader
            .read_byte_record(&mut first)
            .map_err(|error| DatasetError::damaged(path, error.to_string()))?;
        if !found {
            return Err(DatasetError::NoRows { path: path.to_owned() });
        }
        check_text(path, &first)?;
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
            gzip,
            delimiter,
            header,
            names,
        })
    }

    fn records(&self) -> Result<Records<'_>, DatasetError> {
        let input = decoded(&self.path, self.gzip).map_err(|error| failure(&self.path, self.gzip, error))?;
        Ok(Records {
            table: self,
            reader: ReaderBuilder::new()
                .has_headers(self.header)
                .delimiter(self.delimiter)
                .trim(Trim::All)
                .buffer_capacity(1 << 18)
                .from_reader(input),
            record: ByteRecord::new(),
        })
    }

    /// The types of columns, from all their values.
    fn types(&self, wanted: &[usize]) -> Result<Vec<Type>, DatasetError> {
        let mut types = vec![Type::Integers; wanted.len()];
        let mut records = self.records()?;
        while let Some(record) = records.next()? {
            for (kind, &index) in types.iter_mut().zip(wanted) {
                *kind = kind.widened(&record[index]);
            }
        }
        Ok(types)
    }

    /// A column's first values as they are spelt.
    fn texts(&self, index: usize, count: usize) -> Result<Vec<String>, DatasetError> {
        let mut records = self.records()?;
        let mut texts = Vec::with_capacity(count);
        while texts.len() < count {
            let Some(record) = records.next()? else { break };
            texts.push(text(&String::from_utf8_lossy(&record[index])));
        }
        Ok(texts)
    }
}

/// The text of a file without compression and byte order mark.
fn decoded(path: &Path, gzip: bool) -> io::Result<Box<dyn Read>> {
    let file = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut input: Box<dyn BufRead> = if gzip {
        Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    };
    if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    Ok(Box::new(input))
}

fn failure(path: &Path, gzip: bool, error: io::Error) -> DatasetError {
    if gzip && !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
        return DatasetError::damaged(
            path,
            format!("the gzip data is damaged or cut off ({error}); copy or download it again"),
        );
    }
    DatasetError::io(path, error)
}

/// The lines of a table after its names.
struct Records<'a> {
    table: &'a CsvReader,
    reader: csv::Reader<Box<dyn Read>>,
    record: ByteRecord,
}

impl Records<'_> {
    fn next(&mut self) -> Result<Option<&ByteRecord>, DatasetError> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {
                check_text(&self.table.path, &self.record)?;
                Ok(Some(&self.record))
            }
            Ok(false) => Ok(None),
            Err(error) => Err(explain(self.table, error)),
        }
    }
}

impl Reader for CsvReader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn extents(&mut self, _: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError> {
        Ok(None)
    }

    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError> {
        Ok(Box::new(CsvChunks {
            records: self.records()?,
            table: self,
            wanted: wanted.to_vec(),
            types: None,
        }))
    }
}

struct CsvChunks<'a> {
    table: &'a CsvReader,
    records: Records<'a>,
    wanted: Vec<usize>,
    /// Found out beforehand when the columns come in several chunks.
    types: Option<Vec<Type>>,
}

impl Chunks for CsvChunks<'_> {
    fn next(&mut self, rows: usize) -> Result<Vec<Column>, DatasetError> {
        if self.types.is_none() {
            self.types = Some(if rows == usize::MAX {
                vec![Type::Integers; self.wanted.len()]
            } else {
                self.table.types(&self.wanted)?
            });
        }
        let types = self.types.iter().flatten();
        let mut builders: Vec<Builder> = types.map(|kind| Builder::new(*kind)).collect();
        let mut count = 0;
        while count < rows {
            let Some(record) = self.records.next()? else { break };
            for (builder, &index) in builders.iter_mut().zip(&self.wanted) {
                builder.push(&record[index], self.table, index)?;
            }
            count += 1;
        }
        Ok(builders
            .into_iter()
            .zip(&self.wanted)
            .map(|(builder, &index)| Column {
                name: self.table.names[index].clone(),
                row_shape: Vec::new(),
                values: builder.finish(),
            })
            .collect())
    }
}

fn check_text(path: &Path, record: &ByteRecord) -> Result<(), DatasetError> {
    let line = || record.position().map_or(1, csv::Position::line);
    let bytes = record.as_slice();
    if let Err(error) = std::str::from_utf8(bytes) {
        let byte = bytes[error.valid_up_to()];
        return Err(DatasetError::damaged(
            path,
            format!(
                "line {} is not UTF-8 (byte 0x{byte:02x}); convert the file, for example with `iconv -t utf-8`",
                line()
            ),
        ));
    }
    if bytes.contains(&0) {
        return Err(DatasetError::damaged(
            path,
            format!("line {} holds zero bytes, the file is not a text table", line()),
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

fn explain(table: &CsvReader, error: csv::Error) -> DatasetError {
    let path = &table.path;
    match error.into_kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            let first = if table.header { "the header" } else { "the first line" };
            DatasetError::damaged(
                path,
                format!("line {line} has {len} fields, but {first} has {expected_len}"),
            )
        }
        csv::ErrorKind::Io(error) => failure(path, table.gzip, error),
        other => DatasetError::damaged(path, format!("{other:?}")),
    }
}

fn is_missing(field: &[u8]) -> bool {
    matches!(
        field,
        b"" | b"NA" | b"N/A" | b"n/a" | b"NaN" | b"nan" | b"NAN" | b"null" | b"NULL" | b"None" | b"?"
    )
}

fn text(field: &str) -> String {
    if is_missing(field.as_bytes()) {
        String::new()
    } else {
        field.to_owned()
    }
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// The narrowest type that holds all values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Integers,
    Doubles,
    Texts,
}

impl Type {
    fn widened(self, field: &[u8]) -> Self {
        match self {
            Self::Integers if number::<i64>(field).is_some() => self,
            Self::Integers | Self::Doubles if is_missing(field) || number::<f64>(field).is_some() => Self::Doubles,
            _ => Self::Texts,
        }
    }
}

/// Grows a column and widens its type when a value asks for it.
enum Builder {
    Integers(Vec<i64>),
    Doubles(Vec<f64>),
    Texts(Vec<String>),
}

impl Builder {
    fn new(kind: Type) -> Self {
        match kind {
            Type::Integers => Self::Integers(Vec::new()),
            Type::Doubles => Self::Doubles(Vec::new()),
            Type::Texts => Self::Texts(Vec::new()),
        }
    }

    fn push(&mut self, field: &[u8], table: &CsvReader, index: usize) -> Result<(), DatasetError> {
        match self {
            Self::Integers(values) => {
                if let Some(value) = number(field) {
                    values.push(value);
                } else {
                    *self = Self::Doubles(values.iter().map(|value| *value as f64).collect());
                    self.push(field, table, index)?;
                }
            }
            Self::Doubles(values) => {
                if let Some(value) = number(field) {
                    values.push(value);
                } else if is_missing(field) {
                    values.push(f64::NAN);
                } else {
                    // The spelling of earlier numbers matters in a text column (`007`), so they are read again.
                    let count = values.len();
                    *self = Self::Texts(table.texts(index, count)?);
                    self.push(field, table, index)?;
                }
            }
            Self::Texts(values) => values.push(text(&String::from_utf8_lossy(field))),
        }
        Ok(())
    }

    fn finish(self) -> Values {
        match self {
            Self::Integers(values) => Values::Integers(values),
            Self::Doubles(values) => Values::Doubles(values),
            Self::Texts(values) => Values::Texts(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(content: &[u8]) -> Result<(tempfile::TempDir, CsvReader), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, content).unwrap();
        match CsvReader::open(&path, TextOptions::default(), false) {
            Ok(reader) => Ok((folder, reader)),
            Err(error) => Err(named(&error, &folder)),
        }
    }

    fn named(error: &DatasetError, folder: &tempfile::TempDir) -> String {
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    }

    fn read(content: &[u8]) -> Result<(Vec<String>, Vec<Values>), String> {
        let (folder, mut reader) = table(content)?;
        let all: Vec<usize> = (0..reader.names.len()).collect();
        let columns = reader.read(&all).map_err(|error| named(&error, &folder))?;
        Ok((
            reader.names.clone(),
            columns.into_iter().map(|column| column.values).collect(),
        ))
    }

    #[test]
    fn chunks_have_the_types_of_the_whole_column() {
        let (_folder, mut reader) = table(b"a,b,c\n1,2,07\n3,4.5,x\n5,,y\n").unwrap();
        let mut chunks = reader.chunks(&[0, 1, 2]).unwrap();
        let first = chunks.next(1).unwrap();
        assert_eq!(first[0].values, Values::Integers(vec![1]));
        assert_eq!(first[1].values, Values::Doubles(vec![2.0]));
        assert_eq!(first[2].values, Values::Texts(vec!["07".to_owned()]));
        assert_eq!(chunks.next(9).unwrap()[0].values, Values::Integers(vec![3, 5]));
        assert_eq!(chunks.next(9).unwrap()[0].rows(), 0);
    }

    #[test]
    fn types_follow_the_values() {
        let (names, values) = read(b"a,b,c\n1,2,07\n3,4.5,x\n").unwrap();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(values[0], Values::Integers(vec![1, 3]));
        assert_eq!(values[1], Values::Doubles(vec![2.0, 4.5]));
        assert_eq!(values[2], Values::Texts(vec!["07".to_owned(), "x".to_owned()]));
    }

    #[test]
    fn a_first_line_with_a_number_is_data() {
        let (names, values) = read(b"0;1\n2;3\n").unwrap();
        assert_eq!(names, ["column_0", "column_1"]);
        assert_eq!(values[1], Values::Integers(vec![1, 3]));
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_are_no_matter() {
        let (names, values) = read(b"\xef\xbb\xbfa\tb\r\n1\t2\r\n").unwrap();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(values[1], Values::Integers(vec![2]));
    }

    #[test]
    fn missing_values_become_nan() {
        let (_, values) = read(b"a,b\n1,\n2,NA\n3,4\n").unwrap();
        assert!(values[1].number(0).is_nan() && values[1].number(1).is_nan());
        assert!((values[1].number(2) - 4.0).abs() < f64::EPSILON);
    }

    #[test]
    fn broken_tables_say_which_line() {
        let ragged = read(b"a,b\n1,2\n3\n").unwrap_err();
        assert_eq!(
            ragged,
            "training data `t.csv`: line 3 has 1 fields, but the header has 2"
        );
        let latin = read(b"a,b\n1,caf\xe9\n").unwrap_err();
        assert_eq!(
            latin,
            "training data `t.csv`: line 2 is not UTF-8 (byte 0xe9); convert the file, for example with `iconv -t utf-8`"
        );
        let twice = read(b"a,a\n1,2\n").unwrap_err();
        assert_eq!(
            twice,
            "training data `t.csv`: two columns are named `a`; names must differ"
        );
    }
}
