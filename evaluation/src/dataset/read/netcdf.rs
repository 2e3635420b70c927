//! `NetCDF`, classic and 4: every variable with at least one dimension is a column, in groups by its path.
//!
//! Values that the attributes of the CF conventions mark as missing (`_FillValue`, `missing_value`, `valid_range` and its
//! kin) are missing, and packed ones (`scale_factor`, `add_offset`) are unpacked.

use std::ops::Range;
use std::path::{Path, PathBuf};

use netcdf_reader::{Error, NcFile, NcGroup, NcReadable, NcSliceInfo, NcSliceInfoElem, NcType, NcVariable};

use super::{Chunks, Extent, Reader, Separate};
use crate::dataset::column::{Column, Values};
use crate::dataset::error::DatasetError;

/// Attributes that change what the stored numbers mean.
const CONVENTIONS: [&str; 8] = [
    "_FillValue",
    "missing_value",
    "valid_min",
    "valid_max",
    "valid_range",
    "scale_factor",
    "add_offset",
    "_Unsigned",
];

/// An open `NetCDF` file.
pub(crate) struct NetcdfReader {
    path: PathBuf,
    file: NcFile,
    names: Vec<String>,
    variables: Vec<NcVariable>,
}

impl NetcdfReader {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let bad = |error: &Error| {
            DatasetError::damaged(
                path,
                format!("the NetCDF file cannot be opened ({error}); it may be cut off: copy or download it again"),
            )
        };
        let file = NcFile::open(path).map_err(|error| bad(&error))?;
        let (mut names, mut variables) = (Vec::new(), Vec::new());
        collect(
            file.root_group().map_err(|error| bad(&error))?,
            "",
            &mut names,
            &mut variables,
        );
        if names.is_empty() {
            return Err(DatasetError::damaged(
                path,
                "the NetCDF file holds no variables with rows",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            names,
            variables,
        })
    }
}

fn collect(group: &NcGroup, prefix: &str, names: &mut Vec<String>, variables: &mut Vec<NcVariable>) {
    for variable in &group.variables {
        if variable.ndim() > 0 {
            names.push(format!("{prefix}{}", variable.name()));
            variables.push(variable.clone());
        }
    }
    for child in &group.groups {
        collect(child, &format!("{prefix}{}/", child.name), names, variables);
    }
}

impl Reader for NetcdfReader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn extents(&mut self, wanted: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError> {
        let extent = |&index: &usize| {
            let shape = self.variables[index].shape();
            Extent {
                rows: shape[0] as usize,
                width: shape[1..].iter().product::<u64>() as usize,
            }
        };
        Ok(Some(wanted.iter().map(extent).collect()))
    }

    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError> {
        let wanted = wanted.to_vec();
        let rows = wanted.iter().map(|&index| self.variables[index].shape()[0] as usize);
        let rows = rows.max().unwrap_or(0);
        Ok(Box::new(Separate::new(rows, move |start, count| {
            let mut columns = Vec::with_capacity(wanted.len());
            for &index in &wanted {
                let name = &self.names[index];
                let all = self.variables[index].shape()[0] as usize;
                let range = start.min(all)..(start + count).min(all);
                columns.push(
                    self.column(index, &range)
                        .map_err(|reason| DatasetError::damaged(&self.path, format!("variable `{name}`: {reason}")))?,
                );
            }
            Ok(columns)
        })))
    }
}

impl NetcdfReader {
    fn column(&self, index: usize, range: &Range<usize>) -> Result<Column, String> {
        let (name, variable) = (&self.names[index], &self.variables[index]);
        let mut row_shape: Vec<usize> = variable.shape()[1..].iter().map(|length| *length as usize).collect();
        let kind = variable.dtype();
        let values = match kind {
            NcType::Char | NcType::String => {
                if *kind == NcType::Char {
                    // The last dimension of characters is the length of the texts.
                    row_shape.pop();
                }
                let all = self.file.read_variable_as_strings(name).map_err(words)?;
                let width: usize = row_shape.iter().product();
                let texts = all.get(range.start * width..range.end * width);
                Values::Texts(texts.ok_or("has fewer texts than rows; the file is damaged")?.to_vec())
            }
            _ if range.is_empty() => Values::Doubles(Vec::new()),
            _ if CONVENTIONS.iter().any(|key| variable.attribute(key).is_some()) => {
                let numbers = self
                    .file
                    .read_variable_slice_unpacked_masked(name, &selection(variable, range))
                    .map_err(words)?;
                let numbers = numbers.into_raw_vec_and_offset().0;
                // Single precision that is only masked loses nothing.
                let packed = ["scale_factor", "add_offset"]
                    .iter()
                    .any(|key| variable.attribute(key).is_some());
                if *kind == NcType::Float && !packed {
                    Values::Singles(numbers.into_iter().map(|number| number as f32).collect())
                } else {
                    Values::Doubles(numbers)
                }
            }
            NcType::UByte => Values::Bytes(self.rows(name, variable, range)?),
            NcType::Byte => Values::Singles(each(self.rows::<i8>(name, variable, range)?, f32::from)),
            NcType::Short => Values::Singles(each(self.rows::<i16>(name, variable, range)?, f32::from)),
            NcType::UShort => Values::Singles(each(self.rows::<u16>(name, variable, range)?, f32::from)),
            NcType::Int => Values::Integers(each(self.rows::<i32>(name, variable, range)?, i64::from)),
            NcType::UInt => Values::Integers(each(self.rows::<u32>(name, variable, range)?, i64::from)),
            NcType::Int64 => Values::Integers(self.rows(name, variable, range)?),
            NcType::UInt64 => super::hdf5::wide(self.rows(name, variable, range)?),
            NcType::Float => Values::Singles(self.rows(name, variable, range)?),
            NcType::Double => Values::Doubles(self.rows(name, variable, range)?),
            other => return Err(format!("type {other:?} is not read; save it as a number or as text")),
        };
        Ok(Column {
            name: name.clone(),
            row_shape,
            values,
        })
    }

    fn rows<T: NcReadable>(&self, name: &str, variable: &NcVariable, range: &Range<usize>) -> Result<Vec<T>, String> {
        let array = self
            .file
            .read_variable_slice::<T>(name, &selection(variable, range))
            .map_err(words)?;
        Ok(array.into_raw_vec_and_offset().0)
    }
}

fn words(error: Error) -> String {
    match error {
        Error::Hdf5(error) => super::hdf5::explain(error),
        Error::UnexpectedEof { .. } | Error::InvalidData(_) | Error::Io(_) => {
            format!("{error}; the file may be cut off: copy or download it again")
        }
        other => other.to_string(),
    }
}

fn selection(variable: &NcVariable, range: &Range<usize>) -> NcSliceInfo {
    let mut selection = NcSliceInfo::all(variable.ndim());
    selection.selections[0] = NcSliceInfoElem::Slice {
        start: range.start as u64,
        end: range.end as u64,
        step: 1,
    };
    selection
}

fn each<T, U>(values: Vec<T>, convert: impl Fn(T) -> U) -> Vec<U> {
    values.into_iter().map(convert).collect()
}
