//! Reads files piece by piece: inputs go to a store, all other columns to a table.

use std::path::{Path, PathBuf};

use super::column::{Column, Source, Table};
use super::description::Missing;
use super::error::DatasetError;
use super::gather::{InputColumn, Loaded, Needed, Opened, positions};
use super::prepare::Origin;
use super::read::Extent;
use super::store::{Target, Writer};
use super::survey::Survey;

/// Bytes of a piece, about.
const PIECE: usize = 8 << 20;

/// Reads training files, then files of the validation set if there are any.
pub(crate) fn load(
    needed: &Needed,
    missing: Missing,
    target: &Target<'_>,
    training: Vec<Opened>,
    max_rows: Option<usize>,
    validation: Option<Vec<Opened>>,
) -> Result<Loaded, DatasetError> {
    let mut stream = Stream {
        needed,
        wanted: needed.all(),
        in_place: matches!(target, Target::Scratch(_)),
        writer: Writer::new(target),
        survey: Survey::new(missing),
        columns: None,
        table: None,
        rows: 0,
    };
    for (path, reader) in training {
        let left = max_rows.map_or(usize::MAX, |most| most - stream.rows);
        if left == 0 {
            break;
        }
        stream.file(&path, reader, left)?;
    }
    let origin = match validation {
        None => Origin::Divide,
        Some(files) => {
            let rows = stream.rows;
            for (path, reader) in files {
                stream.file(&path, reader, usize::MAX)?;
            }
            Origin::From(rows)
        }
    };
    let (_, columns) = stream.columns.unwrap_or_default();
    Ok(Loaded {
        table: stream.table.expect("there is at least one file with rows"),
        columns,
        store: Some(stream.writer.finish()),
        survey: stream.survey,
        origin,
    })
}

struct Stream<'a> {
    needed: &'a Needed,
    /// All columns that are read, the inputs first.
    wanted: Vec<String>,
    /// Whether rows may stay where they are in a file.
    in_place: bool,
    writer: Writer,
    survey: Survey,
    /// The first file, and what its inputs are like.
    columns: Option<(PathBuf, Vec<InputColumn>)>,
    table: Option<Table>,
    rows: usize,
}

impl Stream<'_> {
    fn file(&mut self, path: &Path, mut reader: Box<dyn super::read::Reader>, most: usize) -> Result<(), DatasetError> {
        let indices = positions(path, reader.names(), &self.wanted)?;
        let inputs = self.needed.inputs.len();
        let extents = reader.extents(&indices)?;
        if let Some(extents) = &extents {
            self.same_rows(path, extents)?;
        }
        let segment = match &indices[..inputs] {
            [index] if self.in_place => reader.plain(*index)?,
            _ => None,
        };
        let is_in_place = segment.is_some();
        let width: usize = match &extents {
            Some(extents) => extents.iter().map(|extent| extent.width).sum(),
            None => 64.max(indices.len()),
        };
        let piece = (PIECE / 8 / width.max(1)).clamp(1, 1 << 16);
        let before = self.rows;
        let mut chunks = reader.chunks(&indices)?;
        while self.rows - before < most {
            let columns = chunks.next(piece.min(most - (self.rows - before)))?;
            let rows = columns.first().map_or(0, Column::rows);
            if rows == 0 {
                break;
            }
            self.piece(path, columns, is_in_place)?;
            self.rows += rows;
        }
        if self.rows == before {
            return Err(DatasetError::NoRows { path: path.to_owned() });
        }
        if let Some(segment) = segment {
            self.writer.adopt(segment.truncated(self.rows - before));
        }
        Ok(())
    }

    fn same_rows(&self, path: &Path, extents: &[Extent]) -> Result<(), DatasetError> {
        match extents.iter().position(|extent| extent.rows != extents[0].rows) {
            None => Ok(()),
            Some(at) => Err(DatasetError::RowCount {
                path: path.to_owned(),
                column: self.wanted[at].clone(),
                found: extents[at].rows,
                other: self.wanted[0].clone(),
                expected: extents[0].rows,
            }),
        }
    }

    fn piece(&mut self, path: &Path, mut columns: Vec<Column>, is_in_place: bool) -> Result<(), DatasetError> {
        let rows = columns[0].rows();
        if let Some(other) = columns.iter().find(|column| column.rows() != rows) {
            return Err(DatasetError::damaged(
                path,
                format!(
                    "`{}` has fewer rows than `{}`; every input and target needs one row per sample",
                    other.name, columns[0].name
                ),
            ));
        }
        let others: Vec<Column> = columns
            .iter()
            .filter(|column| self.needed.is_required(&column.name) || self.needed.group.as_ref() == Some(&column.name))
            .cloned()
            .collect();
        columns.truncate(self.needed.inputs.len());
        self.same_columns(path, &columns)?;
        let is_target = |column: &&Column| self.needed.is_required(&column.name);
        self.survey.look(
            &columns.iter().collect::<Vec<_>>(),
            &others.iter().filter(is_target).collect::<Vec<_>>(),
        );
        if is_in_place {
            self.writer.note(&columns);
        } else {
            self.writer.append(path, &columns)?;
        }
        let more = Table {
            sources: vec![Source {
                path: path.to_owned(),
                rows,
            }],
            columns: others,
        };
        match &mut self.table {
            None => self.table = Some(more),
            Some(table) => {
                table.append(more)?;
                table.merge_last_sources();
            }
        }
        Ok(())
    }

    fn same_columns(&mut self, path: &Path, columns: &[Column]) -> Result<(), DatasetError> {
        let found: Vec<InputColumn> = columns.iter().map(InputColumn::of).collect();
        if let Some(text) = found.iter().find(|column| column.is_text) {
            return Err(DatasetError::Shape {
                what: format!("input `{}`", text.name),
                expected: "numbers".to_owned(),
                found: "text; encode it as numbers or leave it out of `data.inputs`".to_owned(),
            });
        }
        let Some((first, expected)) = &self.columns else {
            self.columns = Some((path.to_owned(), found));
            return Ok(());
        };
        match expected.iter().zip(columns).find(|(a, b)| a.row_shape != b.row_shape) {
            None => Ok(()),
            Some((expected, column)) => Err(DatasetError::Schema {
                path: path.to_owned(),
                column: column.name.clone(),
                found: column.describe(),
                first: first.clone(),
                expected: format!("rows of shape {}", super::column::shape_text(&expected.row_shape)),
            }),
        }
    }
}
