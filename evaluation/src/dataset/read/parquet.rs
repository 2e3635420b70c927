//! Apache Parquet, read column by column: flat columns, and lists of one level and constant length (images, vectors).

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::{ConvertedType, LogicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor};

use super::npy::half_to_single;
use super::{Chunks, Extent, Reader};
use crate::dataset::column::{Column, Values};
use crate::dataset::error::DatasetError;

/// An open parquet file; its leaf columns are the columns.
pub(crate) struct ParquetReader {
    path: PathBuf,
    file: SerializedFileReader<File>,
    names: Vec<String>,
}

impl ParquetReader {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|error| DatasetError::io(path, error))?;
        let file = SerializedFileReader::new(file).map_err(|error| {
            DatasetError::damaged(
                path,
                format!("the footer cannot be read ({error}); the file may be cut off: copy or download it again"),
            )
        })?;
        let schema = file.metadata().file_metadata().schema_descr();
        // The path of a list is `name.list.element`; nobody asks for it by that.
        let names = schema
            .columns()
            .iter()
            .map(|column| {
                let parts = column.path().parts();
                if column.max_rep_level() > 0 {
                    parts[0].clone()
                } else {
                    parts.join(".")
                }
            })
            .collect();
        Ok(Self {
            path: path.to_owned(),
            file,
            names,
        })
    }

    fn bad(&self, index: usize, reason: &str) -> DatasetError {
        DatasetError::damaged(&self.path, format!("column `{}`: {reason}", self.names[index]))
    }
}

impl Reader for ParquetReader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn extents(&mut self, wanted: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError> {
        let metadata = self.file.metadata();
        let rows = metadata.file_metadata().num_rows() as usize;
        Ok(Some(
            wanted
                .iter()
                .map(|&index| {
                    let groups = metadata.row_groups().iter();
                    let values: i64 = groups.map(|group| group.column(index).num_values()).sum();
                    let width = (values as usize).div_ceil(rows.max(1));
                    Extent { rows, width }
                })
                .collect(),
        ))
    }

    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError> {
        let schema = self.file.metadata().file_metadata().schema_descr();
        let mut descriptions = Vec::with_capacity(wanted.len());
        for &index in wanted {
            let description = schema.column(index);
            if description.max_rep_level() > 1 {
                let reason = "lists of lists are not read; flatten them and give `data.shape`";
                return Err(self.bad(index, reason));
            }
            descriptions.push(description);
        }
        Ok(Box::new(ParquetChunks {
            descriptions,
            wanted: wanted.to_vec(),
            readers: Vec::new(),
            group: 0,
            left: 0,
            file: self,
        }))
    }
}

/// Reads all wanted columns side by side, through one row group after another.
struct ParquetChunks<'a> {
    file: &'a ParquetReader,
    wanted: Vec<usize>,
    descriptions: Vec<ColumnDescPtr>,
    /// Of the current row group.
    readers: Vec<ColumnReader>,
    /// The next row group.
    group: usize,
    /// Rows of the current row group that are left.
    left: usize,
}

impl ParquetChunks<'_> {
    fn next_group(&mut self) -> Result<(), String> {
        let file = &self.file.file;
        let group = file.get_row_group(self.group).map_err(|error| error.to_string())?;
        self.left = group.metadata().num_rows() as usize;
        self.group += 1;
        self.readers = self
            .wanted
            .iter()
            .map(|&index| group.get_column_reader(index).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl Chunks for ParquetChunks<'_> {
    fn next(&mut self, rows: usize) -> Result<Vec<Column>, DatasetError> {
        let mut raws: Vec<Raw> = self.wanted.iter().map(|_| Raw::default()).collect();
        let mut missing = rows;
        while missing > 0 {
            if self.left == 0 {
                if self.group == self.file.file.num_row_groups() {
                    break;
                }
                self.next_group()
                    .map_err(|reason| DatasetError::damaged(&self.file.path, reason))?;
                continue;
            }
            let count = missing.min(self.left);
            for (at, raw) in raws.iter_mut().enumerate() {
                raw.read(&mut self.readers[at], &self.descriptions[at], count)
                    .map_err(|reason| self.file.bad(self.wanted[at], &reason))?;
            }
            self.left -= count;
            missing -= count;
        }
        raws.into_iter()
            .enumerate()
            .map(|(at, raw)| {
                let index = self.wanted[at];
                let row_shape = raw
                    .row_shape(self.descriptions[at].max_rep_level() > 0)
                    .map_err(|reason| self.file.bad(index, &reason))?;
                Ok(Column {
                    name: self.file.names[index].clone(),
                    row_shape,
                    values: raw.finish(),
                })
            })
            .collect()
    }
}

/// What has been read of one column so far.
#[derive(Default)]
struct Raw {
    values: Option<Values>,
    /// Values in each row; only for lists.
    lengths: Vec<usize>,
}

impl Raw {
    fn read(&mut self, reader: &mut ColumnReader, description: &ColumnDescriptor, rows: usize) -> Result<(), String> {
        let lengths = &mut self.lengths;
        let values = match reader {
            ColumnReader::BoolColumnReader(reader) => {
                Values::Singles(collect(reader, description, rows, lengths, f32::NAN, |value| {
                    Ok(f32::from(u8::from(*value)))
                })?)
            }
            ColumnReader::Int32ColumnReader(reader) => integers(reader, description, rows, lengths, |value| {
                if unsigned(description) {
                    i64::from(*value as u32)
                } else {
                    i64::from(*value)
                }
            })?,
            ColumnReader::Int64ColumnReader(reader) => integers(reader, description, rows, lengths, |value| *value)?,
            ColumnReader::FloatColumnReader(reader) => {
                Values::Singles(collect(reader, description, rows, lengths, f32::NAN, |value| {
                    Ok(*value)
                })?)
            }
            ColumnReader::DoubleColumnReader(reader) => {
                Values::Doubles(collect(reader, description, rows, lengths, f64::NAN, |value| {
                    Ok(*value)
                })?)
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                Values::Texts(collect(reader, description, rows, lengths, String::new(), |value| {
                    std::str::from_utf8(value.data())
                        .map(str::to_owned)
                        .map_err(|_| "holds bytes that are not UTF-8 text".to_owned())
                })?)
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader)
                if description.logical_type_ref() == Some(&LogicalType::Float16) =>
            {
                Values::Singles(collect(reader, description, rows, lengths, f32::NAN, |value| {
                    let bytes = value.data();
                    Ok(half_to_single(u16::from_le_bytes([bytes[0], bytes[1]])))
                })?)
            }
            ColumnReader::FixedLenByteArrayColumnReader(_) | ColumnReader::Int96ColumnReader(_) => {
                return Err(format!(
                    "type {} is not read; save it as a number or as text",
                    description.physical_type()
                ));
            }
        };
        self.values = Some(match self.values.take() {
            None => values,
            Some(before) => before
                .concatenated(values)
                .expect("one column has one type in every row group"),
        });
        Ok(())
    }

    fn row_shape(&self, list: bool) -> Result<Vec<usize>, String> {
        if !list {
            return Ok(Vec::new());
        }
        let length = self.lengths.first().copied().unwrap_or(0);
        if let Some(row) = self.lengths.iter().position(|other| *other != length) {
            return Err(format!(
                "row {} is a list of {} values, but row 1 has {length}; all rows must be equally long",
                row + 1,
                self.lengths[row]
            ));
        }
        Ok(vec![length])
    }

    fn finish(self) -> Values {
        self.values.unwrap_or(Values::Doubles(Vec::new()))
    }
}

fn unsigned(description: &ColumnDescriptor) -> bool {
    matches!(
        description.converted_type(),
        ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32
    )
}

/// Integers, decimals by their scale, and doubles with NaN where a value is missing.
fn integers<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    description: &ColumnDescriptor,
    rows: usize,
    lengths: &mut Vec<usize>,
    convert: impl Fn(&T::T) -> i64,
) -> Result<Values, String> {
    let values = collect(reader, description, rows, lengths, None, |value| {
        Ok(Some(convert(value)))
    })?;
    let scale = if description.converted_type() == ConvertedType::DECIMAL {
        10f64.powi(description.type_scale())
    } else {
        1.0
    };
    let plain = scale <= 1.0;
    Ok(match values.iter().copied().collect::<Option<Vec<i64>>>() {
        Some(values) if plain => Values::Integers(values),
        _ => Values::Doubles(
            values
                .into_iter()
                .map(|value| value.map_or(f64::NAN, |value| value as f64 / scale))
                .collect(),
        ),
    })
}

/// All values of a column in one row group, with `missing` in the gaps.
fn collect<T: DataType, V: Clone>(
    reader: &mut ColumnReaderImpl<T>,
    description: &ColumnDescriptor,
    rows: usize,
    lengths: &mut Vec<usize>,
    missing: V,
    convert: impl Fn(&T::T) -> Result<V, String>,
) -> Result<Vec<V>, String> {
    let (max_definition, list) = (description.max_def_level(), description.max_rep_level() > 0);
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, _, _) = reader
            .read_records(
                rows - read,
                (max_definition > 0).then_some(&mut definitions),
                list.then_some(&mut repetitions),
                &mut values,
            )
            .map_err(|error: ParquetError| format!("{error}; the file may be damaged"))?;
        if records == 0 {
            return Err(format!("ends after {read} of {rows} rows; the file is damaged"));
        }
        read += records;
    }
    if max_definition == 0 {
        return values.iter().map(convert).collect();
    }
    let mut out = Vec::with_capacity(definitions.len());
    let mut values = values.iter();
    // In a list a level below that of a missing element stands for an empty or a missing list.
    let element = if list && !description.self_type().is_optional() {
        max_definition
    } else {
        max_definition - i16::from(list)
    };
    for (at, &definition) in definitions.iter().enumerate() {
        if list && repetitions[at] == 0 {
            lengths.push(0);
        }
        if list && definition < element {
            continue;
        }
        if list {
            *lengths
                .last_mut()
                .ok_or("a list continues before it begins; the file is damaged")? += 1;
        }
        if definition == max_definition {
            let value = values
                .next()
                .ok_or("has fewer values than its levels say; the file is damaged")?;
            out.push(convert(value)?);
        } else {
            out.push(missing.clone());
        }
    }
    Ok(out)
}
