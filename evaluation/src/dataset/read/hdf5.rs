//! HDF5: every dataset with at least one axis is a column, in groups by its path.
//!
//! Besides the filters of the crate (deflate, shuffle, Fletcher, LZ4, szip, n-bit, scale-offset) the LZF of h5py is read.

use std::path::{Path, PathBuf};

use hdf5_reader::error::Error;
use hdf5_reader::group::Group;
use hdf5_reader::{Dataset, Datatype, FilterRegistry, H5Type, Hdf5File, OpenOptions, SliceInfo, SliceInfoElem};

use super::npy::half_to_single;
use super::{Chunks, Extent, Reader, Separate};
use crate::dataset::column::{Column, Values};
use crate::dataset::error::DatasetError;

/// Number under which the HDF Group registered h5py's LZF.
const LZF: u16 = 32000;

/// An open HDF5 file.
pub(crate) struct Hdf5Reader {
    path: PathBuf,
    names: Vec<String>,
    datasets: Vec<Dataset>,
    is_netcdf: bool,
}

impl Hdf5Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let bad = |error: &Error| {
            DatasetError::damaged(
                path,
                format!("the HDF5 file cannot be opened ({error}); it may be cut off: copy or download it again"),
            )
        };
        let mut filters = FilterRegistry::new();
        filters.register(
            LZF,
            Box::new(|filter, data, _| {
                let size = filter.client_data.get(2).copied().unwrap_or(0) as usize;
                lzf(data, size).ok_or_else(|| Error::DecompressionError("LZF data are damaged".to_owned()))
            }),
        );
        let options = OpenOptions::default().with_filter_registry(filters);
        let file = Hdf5File::open_with_options(path, options).map_err(|error| bad(&error))?;
        let root = file.root_group().map_err(|error| bad(&error))?;
        let is_netcdf = root.attribute("_NCProperties").is_ok();
        let mut reader = Self {
            path: path.to_owned(),
            names: Vec::new(),
            datasets: Vec::new(),
            is_netcdf,
        };
        reader.collect(&root, "", 0).map_err(|error| bad(&error))?;
        if reader.names.is_empty() {
            return Err(DatasetError::damaged(path, "the HDF5 file holds no datasets with rows"));
        }
        Ok(reader)
    }

    /// Whether the `NetCDF` library wrote the file.
    pub(crate) fn is_netcdf(&self) -> bool {
        self.is_netcdf
    }

    fn collect(&mut self, group: &Group, prefix: &str, depth: usize) -> Result<(), Error> {
        // Links may lead in circles.
        if depth > 16 {
            return Ok(());
        }
        let (groups, datasets) = group.members()?;
        let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        for dataset in datasets.into_iter().filter(|dataset| dataset.ndim() > 0) {
            self.names.push(format!("{prefix}{}", last(dataset.name())));
            self.datasets.push(dataset);
        }
        for group in groups {
            let prefix = format!("{prefix}{}/", last(group.name()));
            self.collect(&group, &prefix, depth + 1)?;
        }
        Ok(())
    }
}

impl Reader for Hdf5Reader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn extents(&mut self, wanted: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError> {
        let extent = |&index: &usize| Extent {
            rows: self.datasets[index].shape()[0] as usize,
            width: self.datasets[index].shape()[1..].iter().product::<u64>() as usize,
        };
        Ok(Some(wanted.iter().map(extent).collect()))
    }

    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError> {
        let wanted = wanted.to_vec();
        let rows = wanted.iter().map(|&index| self.datasets[index].shape()[0] as usize);
        let rows = rows.max().unwrap_or(0);
        let mut whole: Vec<Option<Column>> = vec![None; wanted.len()];
        Ok(Box::new(Separate::new(rows, move |start, count| {
            let mut columns = Vec::with_capacity(wanted.len());
            for (&index, whole) in wanted.iter().zip(&mut whole) {
                let (name, dataset) = (&self.names[index], &self.datasets[index]);
                let all = dataset.shape()[0] as usize;
                let range = start.min(all)..(start + count).min(all);
                columns.push(read(name, dataset, range, whole).map_err(|error| {
                    DatasetError::damaged(&self.path, format!("dataset `{name}`: {}", explain(error)))
                })?);
            }
            Ok(columns)
        })))
    }
}

/// Reads rows; those types that can only be read whole are kept in `whole`.
fn read(
    name: &str,
    dataset: &Dataset,
    range: std::ops::Range<usize>,
    whole: &mut Option<Column>,
) -> Result<Column, Error> {
    if let Some(whole) = whole {
        return Ok(whole.slice(range));
    }
    let row_shape: Vec<usize> = dataset.shape()[1..].iter().map(|length| *length as usize).collect();
    let column = |values| Column {
        name: name.to_owned(),
        row_shape: row_shape.clone(),
        values,
    };
    let values = match dataset.dtype() {
        Datatype::FixedPoint { size, signed, .. } => match (size, signed) {
            (1, false) => Values::Bytes(rows(dataset, &range)?),
            (1, true) => Values::Singles(each(rows::<i8>(dataset, &range)?, f32::from)),
            (2, false) => Values::Singles(each(rows::<u16>(dataset, &range)?, f32::from)),
            (2, true) => Values::Singles(each(rows::<i16>(dataset, &range)?, f32::from)),
            (4, false) => Values::Integers(each(rows::<u32>(dataset, &range)?, i64::from)),
            (4, true) => Values::Integers(each(rows::<i32>(dataset, &range)?, i64::from)),
            (8, false) => wide(rows::<u64>(dataset, &range)?),
            _ => Values::Integers(rows(dataset, &range)?),
        },
        Datatype::FloatingPoint { size: 4, .. } => Values::Singles(rows(dataset, &range)?),
        Datatype::FloatingPoint { size: 8, .. } => Values::Doubles(rows(dataset, &range)?),
        other => {
            let all = whole.insert(column(whole_values(dataset, other)?));
            return Ok(all.slice(range));
        }
    };
    Ok(column(values))
}

fn each<T, U>(values: Vec<T>, convert: impl Fn(T) -> U) -> Vec<U> {
    values.into_iter().map(convert).collect()
}

/// Integers where all of them are, else doubles.
pub(super) fn wide(values: Vec<u64>) -> Values {
    if values.iter().all(|value| i64::try_from(*value).is_ok()) {
        Values::Integers(each(values, |value| value as i64))
    } else {
        Values::Doubles(each(values, |value| value as f64))
    }
}

fn rows<T: H5Type>(dataset: &Dataset, range: &std::ops::Range<usize>) -> Result<Vec<T>, Error> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let array = if range.len() as u64 == dataset.shape()[0] {
        dataset.read_array::<T>()?
    } else {
        let mut selection = SliceInfo::all(dataset.ndim());
        selection.selections[0] = SliceInfoElem::Slice {
            start: range.start as u64,
            end: range.end as u64,
            step: 1,
        };
        dataset.read_slice::<T>(&selection)?
    };
    Ok(array.into_raw_vec_and_offset().0)
}

fn whole_values(dataset: &Dataset, kind: &Datatype) -> Result<Values, Error> {
    match kind {
        Datatype::String { .. } | Datatype::VarLen { .. } => Ok(Values::Texts(dataset.read_strings()?)),
        Datatype::FloatingPoint { size: 2, .. } => {
            let bytes = dataset.read_native_bytes()?;
            let halves = bytes.as_chunks().0.iter();
            Ok(Values::Singles(
                halves.map(|half| half_to_single(u16::from_ne_bytes(*half))).collect(),
            ))
        }
        // What h5py makes of booleans.
        Datatype::Enum { base, .. } if matches!(**base, Datatype::FixedPoint { size: 1, .. }) => {
            Ok(Values::Bytes(dataset.read_native_bytes()?))
        }
        Datatype::Compound { fields, .. } => {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            Err(Error::UnsupportedEncoding(format!(
                "holds records with the fields `{}`, which are not read; save each field as a dataset of its own",
                names.join("`, `")
            )))
        }
        other => Err(Error::UnsupportedEncoding(format!(
            "type {other:?} is not read; save it as float32 or int64"
        ))),
    }
}

/// What went wrong, with a remedy where there is one.
pub(super) fn explain(error: Error) -> String {
    match error {
        Error::Context { source, .. } => explain(*source),
        Error::UnsupportedEncoding(message) => message,
        Error::UnsupportedFilter(what) => {
            let name = match what.rsplit(' ').next() {
                Some("305" | "307") => " (bzip2)",
                Some("32001") => " (Blosc)",
                Some("32013") => " (ZFP)",
                Some("32015") => " (Zstandard)",
                Some("32026") => " (Blosc 2)",
                Some("32008") => " (bitshuffle)",
                _ => "",
            };
            format!(
                "is packed with {what}{name}, which is not read; repack the file with `h5repack -f GZIP=4 OLD NEW`, or \
                 save it with `compression=\"gzip\"`"
            )
        }
        Error::UnexpectedEof { .. } | Error::OffsetOutOfBounds(_) | Error::Io(_) => {
            format!("{error}; the file may be cut off: copy or download it again")
        }
        other => other.to_string(),
    }
}

/// Unpacks LZF (Marc Lehmann's LibLZF): a control byte below 32 announces so many literal bytes and one more; otherwise
/// its upper three bits are a length, and the lower five, with another byte, a distance back.
fn lzf(data: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(size);
    let mut input = data.iter().copied();
    while let Some(control) = input.next() {
        let control = usize::from(control);
        if control < 32 {
            for _ in 0..=control {
                out.push(input.next()?);
            }
            continue;
        }
        let mut length = control >> 5;
        if length == 7 {
            length += usize::from(input.next()?);
        }
        let distance = ((control & 31) << 8) + usize::from(input.next()?) + 1;
        let from = out.len().checked_sub(distance)?;
        for at in from..from + length + 2 {
            out.push(out[at]);
        }
    }
    (size == 0 || out.len() == size).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lzf_copies_what_it_has_seen() {
        // Three literals, then five bytes from three back, which overlap themselves.
        assert_eq!(lzf(&[2, b'a', b'b', b'c', 0x60, 2], 8).unwrap(), b"abcabcab");
        assert_eq!(lzf(&[2, b'a', b'b'], 3), None);
        assert_eq!(lzf(&[0, b'a', 0x20, 9], 4), None);
    }
}
