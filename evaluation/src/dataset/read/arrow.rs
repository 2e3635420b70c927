//! Arrow IPC, as a file (Feather version 2) or as a stream: flat columns, lists of constant length, and dictionaries.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, DataType};

use super::{Chunks, Extent, Reader};
use crate::dataset::column::{Column, Values};
use crate::dataset::error::DatasetError;

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

/// An Arrow file; its fields are the columns.
#[derive(Debug)]
pub(crate) struct ArrowReader {
    path: PathBuf,
    names: Vec<String>,
    is_stream: bool,
}

impl ArrowReader {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let mut reader = Self {
            path: path.to_owned(),
            names: Vec::new(),
            is_stream: false,
        };
        let schema = if let Ok(file) = reader.file(None) {
            file.schema()
        } else {
            reader.is_stream = true;
            reader.stream(None).map_err(|error| reader.bad(&error))?.schema()
        };
        reader.names = schema.fields().iter().map(|field| field.name().clone()).collect();
        Ok(reader)
    }

    fn file(&self, columns: Option<Vec<usize>>) -> Result<FileReader<BufReader<File>>, ArrowError> {
        FileReader::try_new(BufReader::new(File::open(&self.path)?), columns)
    }

    fn stream(&self, columns: Option<Vec<usize>>) -> Result<StreamReader<BufReader<File>>, ArrowError> {
        StreamReader::try_new(BufReader::new(File::open(&self.path)?), columns)
    }

    fn bad(&self, error: &ArrowError) -> DatasetError {
        DatasetError::damaged(
            &self.path,
            format!("the Arrow data cannot be read ({error}); the file may be cut off: copy or download it again"),
        )
    }
}

impl Reader for ArrowReader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn extents(&mut self, _: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError> {
        Ok(None)
    }

    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError> {
        let mut columns = wanted.to_vec();
        columns.sort_unstable();
        columns.dedup();
        let batches: Batches = if self.is_stream {
            Box::new(self.stream(Some(columns.clone())).map_err(|error| self.bad(&error))?)
        } else {
            Box::new(self.file(Some(columns.clone())).map_err(|error| self.bad(&error))?)
        };
        let position = |index: &usize| columns.binary_search(index).expect("every wanted column is read");
        Ok(Box::new(ArrowChunks {
            positions: wanted.iter().map(position).collect(),
            names: wanted.iter().map(|&index| self.names[index].clone()).collect(),
            file: self,
            batches,
            rest: None,
        }))
    }
}

struct ArrowChunks<'a> {
    file: &'a ArrowReader,
    names: Vec<String>,
    /// Where each wanted column is in a batch.
    positions: Vec<usize>,
    batches: Batches,
    /// What the last chunk left of a batch.
    rest: Option<RecordBatch>,
}

impl ArrowChunks<'_> {
    fn columns(&self, batch: &RecordBatch) -> Result<Vec<Column>, DatasetError> {
        self.positions
            .iter()
            .zip(&self.names)
            .map(|(&position, name)| {
                let (row_shape, values) = convert(batch.column(position))
                    .map_err(|reason| DatasetError::damaged(&self.file.path, format!("column `{name}`: {reason}")))?;
                Ok(Column {
                    name: name.clone(),
                    row_shape,
                    values,
                })
            })
            .collect()
    }
}

impl Chunks for ArrowChunks<'_> {
    fn next(&mut self, rows: usize) -> Result<Vec<Column>, DatasetError> {
        let mut whole: Option<Vec<Column>> = None;
        let mut missing = rows;
        while missing > 0 {
            let batch = match self.rest.take() {
                Some(batch) => batch,
                None => match self.batches.next() {
                    Some(batch) => batch.map_err(|error| self.file.bad(&error))?,
                    None => break,
                },
            };
            let count = missing.min(batch.num_rows());
            if count < batch.num_rows() {
                self.rest = Some(batch.slice(count, batch.num_rows() - count));
            }
            missing -= count;
            let columns = self.columns(&batch.slice(0, count))?;
            whole = Some(match whole {
                None => columns,
                Some(whole) => joined(&self.file.path, whole, columns)?,
            });
        }
        Ok(whole.unwrap_or_else(|| {
            let empty = |name: &String| Column {
                name: name.clone(),
                row_shape: Vec::new(),
                values: Values::Doubles(Vec::new()),
            };
            self.names.iter().map(empty).collect()
        }))
    }
}

fn joined(path: &Path, whole: Vec<Column>, more: Vec<Column>) -> Result<Vec<Column>, DatasetError> {
    whole
        .into_iter()
        .zip(more)
        .map(|(whole, more)| {
            if whole.row_shape != more.row_shape {
                return Err(DatasetError::damaged(
                    path,
                    format!(
                        "column `{}`: one batch has {}, another {}; all rows must be equally long",
                        whole.name,
                        whole.describe(),
                        more.describe()
                    ),
                ));
            }
            let values = whole.values.concatenated(more.values);
            Ok(Column {
                values: values.expect("a column is text in every batch or in none"),
                ..whole
            })
        })
        .collect()
}

/// Shape of a row, and the values.
fn convert(array: &ArrayRef) -> Result<(Vec<usize>, Values), String> {
    let flat = |values| Ok((Vec::new(), values));
    match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean();
            if array.null_count() == 0 {
                return flat(Values::Bytes(
                    array.iter().map(|value| u8::from(value == Some(true))).collect(),
                ));
            }
            let single = |value: bool| f32::from(u8::from(value));
            flat(Values::Singles(
                array.iter().map(|value| value.map_or(f32::NAN, single)).collect(),
            ))
        }
        DataType::UInt8 if array.null_count() == 0 => {
            flat(Values::Bytes(array.as_primitive::<UInt8Type>().values().to_vec()))
        }
        DataType::UInt8 => flat(singles::<UInt8Type>(array, f32::from)),
        DataType::Int8 => flat(singles::<Int8Type>(array, f32::from)),
        DataType::Int16 => flat(singles::<Int16Type>(array, f32::from)),
        DataType::UInt16 => flat(singles::<UInt16Type>(array, f32::from)),
        DataType::Float16 => flat(singles::<Float16Type>(array, f32::from)),
        DataType::Float32 => flat(singles::<Float32Type>(array, |value| value)),
        DataType::Float64 => flat(doubles::<Float64Type>(array, |value| value)),
        DataType::Int32 => flat(integers::<Int32Type>(array, i64::from)),
        DataType::UInt32 => flat(integers::<UInt32Type>(array, i64::from)),
        DataType::Int64 => flat(integers::<Int64Type>(array, |value| value)),
        DataType::UInt64 => {
            let fits = array
                .as_primitive::<UInt64Type>()
                .iter()
                .flatten()
                .all(|value| i64::try_from(value).is_ok());
            flat(if fits {
                integers::<UInt64Type>(array, |value| value as i64)
            } else {
                doubles::<UInt64Type>(array, |value| value as f64)
            })
        }
        DataType::Decimal128(_, scale) => {
            let divisor = 10f64.powi(i32::from(*scale));
            flat(doubles::<Decimal128Type>(array, |value| value as f64 / divisor))
        }
        DataType::Utf8 => flat(texts(array.as_string::<i32>().iter())),
        DataType::LargeUtf8 => flat(texts(array.as_string::<i64>().iter())),
        DataType::Utf8View => flat(texts(array.as_string_view().iter())),
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let (shape, values) = convert(dictionary.values())?;
            let Values::Texts(words) = values else {
                return Err("is a dictionary of numbers; save it as numbers".to_owned());
            };
            let keys = dictionary.normalized_keys();
            let word = |(row, key): (usize, usize)| {
                if dictionary.is_null(row) {
                    String::new()
                } else {
                    words[key].clone()
                }
            };
            Ok((shape, Values::Texts(keys.into_iter().enumerate().map(word).collect())))
        }
        DataType::FixedSizeList(_, length) => {
            let list = array.as_fixed_size_list();
            no_missing_lists(array)?;
            let length = *length as usize;
            let (mut shape, values) = convert(&list.values().slice(list.value_offset_at(0), array.len() * length))?;
            shape.insert(0, length);
            Ok((shape, values))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            no_missing_lists(array)?;
            let offsets: Vec<usize> = list.value_offsets().iter().map(|offset| *offset as usize).collect();
            of_lists(&offsets, list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            no_missing_lists(array)?;
            let offsets: Vec<usize> = list.value_offsets().iter().map(|offset| *offset as usize).collect();
            of_lists(&offsets, list.values())
        }
        other => Err(format!("type {other} is not read; save it as a number or as text")),
    }
}

fn no_missing_lists(array: &ArrayRef) -> Result<(), String> {
    match (0..array.len()).find(|row| array.is_null(*row)) {
        None => Ok(()),
        Some(row) => Err(format!(
            "row {} of a batch is missing; all rows must be equally long",
            row + 1
        )),
    }
}

fn of_lists(offsets: &[usize], values: &ArrayRef) -> Result<(Vec<usize>, Values), String> {
    let lengths: Vec<usize> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let length = lengths.first().copied().unwrap_or(0);
    if let Some(row) = lengths.iter().position(|other| *other != length) {
        return Err(format!(
            "row {} of a batch is a list of {} values, but its first has {length}; all rows must be equally long",
            row + 1,
            lengths[row]
        ));
    }
    let (first, last) = (
        offsets.first().copied().unwrap_or(0),
        offsets.last().copied().unwrap_or(0),
    );
    let (mut shape, values) = convert(&values.slice(first, last - first))?;
    shape.insert(0, length);
    Ok((shape, values))
}

fn singles<T: ArrowPrimitiveType>(array: &ArrayRef, convert: impl Fn(T::Native) -> f32) -> Values {
    let array = array.as_primitive::<T>();
    Values::Singles(if array.null_count() == 0 {
        array.values().iter().map(|value| convert(*value)).collect()
    } else {
        array.iter().map(|value| value.map_or(f32::NAN, &convert)).collect()
    })
}

fn doubles<T: ArrowPrimitiveType>(array: &ArrayRef, convert: impl Fn(T::Native) -> f64) -> Values {
    let array = array.as_primitive::<T>();
    Values::Doubles(array.iter().map(|value| value.map_or(f64::NAN, &convert)).collect())
}

fn integers<T: ArrowPrimitiveType>(array: &ArrayRef, convert: impl Fn(T::Native) -> i64) -> Values {
    if array.null_count() > 0 {
        return doubles::<T>(array, |value| convert(value) as f64);
    }
    let array = array.as_primitive::<T>();
    Values::Integers(array.values().iter().map(|value| convert(*value)).collect())
}

fn texts<'a>(words: impl Iterator<Item = Option<&'a str>>) -> Values {
    Values::Texts(words.map(|word| word.unwrap_or_default().to_owned()).collect())
}
