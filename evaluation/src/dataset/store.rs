//! Rows of inputs as records of equal length, in memory, in a scratch file, or where they already lie in `.npy` files.
//!
//! Any row can be read at any time by its number, in the type that the file has.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::column::{Column, Values};
use super::error::DatasetError;

/// How a number of a record is kept: as in memory of a little-endian machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Byte,
    Single,
    Double,
}

impl Element {
    fn size(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Single => 4,
            Self::Double => 8,
        }
    }

    /// What keeps these values exactly; integers count as the doubles that scaling makes of them.
    fn of(values: &Values) -> Option<Self> {
        match values {
            Values::Bytes(_) => Some(Self::Byte),
            Values::Singles(_) => Some(Self::Single),
            Values::Doubles(_) | Values::Integers(_) => Some(Self::Double),
            Values::Texts(_) => None,
        }
    }
}

/// What a record consists of: for each column the kind of its numbers and how many there are.
pub(crate) type Layout = Vec<(Element, usize)>;

fn record_bytes(layout: &Layout) -> usize {
    layout.iter().map(|(element, width)| element.size() * width).sum()
}

/// Consecutive rows in one place.
#[derive(Debug)]
pub(crate) struct Segment {
    place: Place,
    rows: usize,
    layout: Layout,
    record: usize,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    File { path: PathBuf, file: File, offset: u64 },
}

impl Segment {
    /// Rows that already lie in a file, from byte `offset` on.
    pub(crate) fn new(path: &Path, offset: u64, rows: usize, layout: Layout) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|error| DatasetError::io(path, error))?;
        Ok(Self {
            place: Place::File {
                path: path.to_owned(),
                file,
                offset,
            },
            rows,
            record: record_bytes(&layout),
            layout,
        })
    }

    /// Only the first rows.
    pub(crate) fn truncated(mut self, rows: usize) -> Self {
        self.rows = self.rows.min(rows);
        self
    }

    fn read(&self, row: usize, record: &mut [u8]) -> Result<(), String> {
        let at = row * self.record;
        match &self.place {
            Place::Memory(bytes) => record.copy_from_slice(&bytes[at..at + self.record]),
            Place::File { path, file, offset } => file
                .read_exact_at(record, offset + at as u64)
                .map_err(|error| format!("`{}`: cannot be read: {error}", path.display()))?,
        }
        Ok(())
    }
}

/// All rows of a table's inputs.
#[derive(Debug, Default)]
pub(crate) struct Store {
    segments: Vec<Segment>,
    /// First row of each segment, and the number of rows at the end.
    starts: Vec<usize>,
    digest: [u8; 32],
}

impl Store {
    pub(crate) fn rows(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.segments
            .iter()
            .all(|segment| matches!(segment.place, Place::Memory(_)))
    }

    /// SHA-256 of the content.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Writes the numbers of a row to `out`; missing ones are NaN.
    pub(crate) fn read(&self, row: usize, record: &mut Vec<u8>, out: &mut [f64]) -> Result<(), String> {
        let index = self.starts.partition_point(|start| *start <= row) - 1;
        let segment = &self.segments[index];
        record.resize(segment.record, 0);
        segment.read(row - self.starts[index], record)?;
        let (mut from, mut to) = (0, 0);
        for (element, width) in &segment.layout {
            let bytes = &record[from..from + element.size() * width];
            let out = &mut out[to..to + width];
            match element {
                Element::Byte => out
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(out, byte)| *out = f64::from(*byte)),
                Element::Single => out
                    .iter_mut()
                    .zip(bytes.as_chunks().0)
                    .for_each(|(out, bytes)| *out = f64::from(f32::from_le_bytes(*bytes))),
                Element::Double => out
                    .iter_mut()
                    .zip(bytes.as_chunks().0)
                    .for_each(|(out, bytes)| *out = f64::from_le_bytes(*bytes)),
            }
            from += bytes.len();
            to += width;
        }
        Ok(())
    }
}

/// Where records are gathered.
pub(crate) enum Target<'a> {
    /// In memory.
    Memory,
    /// In a file without a name in this folder, which vanishes with the process.
    Scratch(&'a Path),
}

/// Fills a store chunk by chunk.
pub(crate) struct Writer {
    store: Store,
    hash: Sha256,
    /// The segment that chunks are appended to; closed by a segment that lies elsewhere.
    is_open: bool,
    scratch: Option<PathBuf>,
}

impl Writer {
    pub(crate) fn new(target: &Target<'_>) -> Self {
        Self {
            store: Store {
                starts: vec![0],
                ..Store::default()
            },
            hash: Sha256::new(),
            is_open: false,
            scratch: match target {
                Target::Memory => None,
                Target::Scratch(folder) => Some((*folder).to_path_buf()),
            },
        }
    }

    /// Takes a chunk into the sum of the content, without copying it: its rows lie in a segment of their own.
    pub(crate) fn note(&mut self, columns: &[Column]) {
        let layout: Option<Layout> = columns
            .iter()
            .map(|column| Some((Element::of(&column.values)?, column.width())))
            .collect();
        if let Some(layout) = layout {
            let mut bytes = Vec::new();
            encode(columns, &layout, &mut bytes);
            self.hash.update(&bytes);
        }
    }

    /// Adds rows that lie elsewhere.
    pub(crate) fn adopt(&mut self, segment: Segment) {
        self.is_open = false;
        self.store.starts.push(self.store.rows() + segment.rows);
        self.store.segments.push(segment);
    }

    /// Copies the rows of a chunk. Columns of text are refused before.
    pub(crate) fn append(&mut self, path: &Path, columns: &[Column]) -> Result<(), DatasetError> {
        let layout: Layout = columns
            .iter()
            .map(|column| {
                let element = Element::of(&column.values).expect("inputs are numbers");
                (element, column.width())
            })
            .collect();
        let rows = columns.first().map_or(0, Column::rows);
        // Another file, or integers that have become doubles, may come in another type.
        let fits = self.is_open && self.store.segments.last().is_some_and(|last| last.layout == layout);
        if !fits {
            let segment = self.open_segment(layout.clone())?;
            self.adopt(segment);
            self.is_open = true;
        }
        let mut bytes = Vec::new();
        encode(columns, &layout, &mut bytes);
        self.hash.update(&bytes);
        let segment = self.store.segments.last_mut().expect("one was opened above");
        match &mut segment.place {
            Place::Memory(all) => all.extend_from_slice(&bytes),
            Place::File { file, .. } => {
                let folder = self.scratch.as_deref().unwrap_or(path);
                file.write_all(&bytes)
                    .map_err(|error| DatasetError::scratch(folder, error))?;
            }
        }
        segment.rows += rows;
        *self.store.starts.last_mut().expect("there is always a start") += rows;
        Ok(())
    }

    fn open_segment(&self, layout: Layout) -> Result<Segment, DatasetError> {
        let place = match &self.scratch {
            None => Place::Memory(Vec::new()),
            Some(folder) => Place::File {
                path: folder.clone(),
                file: scratch_file(folder).map_err(|error| DatasetError::scratch(folder, error))?,
                offset: 0,
            },
        };
        Ok(Segment {
            place,
            rows: 0,
            record: record_bytes(&layout),
            layout,
        })
    }

    pub(crate) fn finish(mut self) -> Store {
        self.store.digest = self.hash.finalize().into();
        self.store
    }
}

fn scratch_file(folder: &Path) -> io::Result<File> {
    tempfile::tempfile_in(folder)
}

/// Row by row, each with its part of every column.
fn encode(columns: &[Column], layout: &Layout, out: &mut Vec<u8>) {
    let rows = columns.first().map_or(0, Column::rows);
    let record = record_bytes(layout);
    out.resize(rows * record, 0);
    let mut from = 0;
    for (column, (element, width)) in columns.iter().zip(layout) {
        let size = element.size() * width;
        let parts = out
            .chunks_exact_mut(record.max(1))
            .map(|record| &mut record[from..from + size]);
        match &column.values {
            Values::Bytes(values) => parts
                .zip(values.chunks_exact((*width).max(1)))
                .for_each(|(part, values)| part.copy_from_slice(values)),
            Values::Singles(values) => parts
                .zip(values.chunks_exact((*width).max(1)))
                .for_each(|(part, values)| put(part, values, f32::to_le_bytes)),
            Values::Doubles(values) => parts
                .zip(values.chunks_exact((*width).max(1)))
                .for_each(|(part, values)| put(part, values, f64::to_le_bytes)),
            Values::Integers(values) => parts
                .zip(values.chunks_exact((*width).max(1)))
                .for_each(|(part, values)| put(part, values, |value| (value as f64).to_le_bytes())),
            Values::Texts(_) => unreachable!("inputs are numbers"),
        }
        from += size;
    }
}

fn put<const N: usize, T: Copy>(part: &mut [u8], values: &[T], convert: impl Fn(T) -> [u8; N]) {
    for (bytes, value) in part.as_chunks_mut().0.iter_mut().zip(values) {
        *bytes = convert(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(first: u8) -> Vec<Column> {
        vec![
            Column {
                name: "image".to_owned(),
                row_shape: vec![2],
                values: Values::Bytes(vec![first, first + 1, first + 2, first + 3]),
            },
            Column {
                name: "mass".to_owned(),
                row_shape: Vec::new(),
                values: Values::Doubles(vec![0.1, f64::NAN]),
            },
            Column {
                name: "charge".to_owned(),
                row_shape: Vec::new(),
                values: Values::Integers(vec![-7, i64::from(first)]),
            },
        ]
    }

    fn all(store: &Store) -> Vec<Vec<f64>> {
        let mut record = Vec::new();
        (0..store.rows())
            .map(|row| {
                let mut out = vec![0.0; 4];
                store.read(row, &mut record, &mut out).unwrap();
                out
            })
            .collect()
    }

    #[test]
    fn rows_come_back_in_any_place_with_the_same_sum() {
        let folder = tempfile::tempdir().unwrap();
        let stores = [Target::Memory, Target::Scratch(folder.path())].map(|target| {
            let mut writer = Writer::new(&target);
            writer.append(Path::new("a"), &chunk(1)).unwrap();
            writer.append(Path::new("a"), &chunk(9)).unwrap();
            writer.finish()
        });
        for store in &stores {
            let rows = all(store);
            assert_eq!(rows.len(), 4);
            assert_eq!(rows[2], [9.0, 10.0, 0.1, -7.0]);
            assert!(rows[3][2].is_nan());
        }
        assert_eq!(stores[0].digest(), stores[1].digest());
    }

    #[test]
    fn a_chunk_of_other_types_begins_a_new_segment() {
        let mut writer = Writer::new(&Target::Memory);
        writer.append(Path::new("a"), &chunk(1)).unwrap();
        let mut wide = chunk(1);
        wide[0].values = Values::Singles(vec![0.5; 4]);
        writer.append(Path::new("b"), &wide).unwrap();
        let store = writer.finish();
        assert_eq!(store.segments.len(), 2);
        assert_eq!(all(&store)[2][..1], [0.5]);
    }

    #[test]
    fn rows_in_a_file_are_read_where_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        let bytes: Vec<u8> = [1.5f32, 2.5, 3.5, 4.5]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        std::fs::write(&path, [&b"head"[..], &bytes].concat()).unwrap();
        let mut writer = Writer::new(&Target::Memory);
        writer.adopt(Segment::new(&path, 4, 2, vec![(Element::Single, 2)]).unwrap());
        let store = writer.finish();
        let (mut record, mut out) = (Vec::new(), vec![0.0; 2]);
        store.read(1, &mut record, &mut out).unwrap();
        assert_eq!(out, [3.5, 4.5]);
        std::fs::write(&path, b"head").unwrap();
        let error = store.read(1, &mut record, &mut out).unwrap_err();
        assert!(error.contains("x.bin`: cannot be read"), "{error}");
    }
}
