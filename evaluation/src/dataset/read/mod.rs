//! Readers, one file each, chosen by what the file begins with and then by its extension.
//!
//! To add a format: write a module with a type that implements [`Reader`], and add its line to [`open`].

mod csv;
mod npy;
mod npz;
mod parquet;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::column::Column;
use super::error::DatasetError;

/// How text tables are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TextOptions {
    /// The separator; found out from the first line where absent.
    pub(crate) delimiter: Option<u8>,
    /// Whether the first line holds names; found out where absent.
    pub(crate) header: Option<bool>,
}

/// One open file with named columns.
pub(crate) trait Reader {
    /// The names of all columns, in the order of the file.
    fn names(&self) -> &[String];

    /// The wanted columns, by index into [`Reader::names`], in that order.
    ///
    /// On return every column holds whole rows; columns may still differ in length where the format allows it.
    fn read(&mut self, wanted: &[usize]) -> Result<Vec<Column>, DatasetError>;
}

/// Opens a file with the reader that fits it.
pub(crate) fn open(path: &Path, text: TextOptions) -> Result<Box<dyn Reader>, DatasetError> {
    let mut head = Vec::with_capacity(8);
    let metadata = std::fs::metadata(path).map_err(|error| DatasetError::io(path, error))?;
    if metadata.is_dir() {
        return Err(DatasetError::damaged(path, "this is a directory, a file is needed"));
    }
    File::open(path)
        .and_then(|file| file.take(8).read_to_end(&mut head))
        .map_err(|error| DatasetError::io(path, error))?;
    if head.is_empty() {
        return Err(DatasetError::Empty { path: path.to_owned() });
    }

    if head.starts_with(b"\x93NUMPY") {
        return Ok(Box::new(npy::NpyReader::new(path)));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(Box::new(npz::NpzReader::open(path)?));
    }
    if head.starts_with(b"PAR1") {
        return Ok(Box::new(parquet::ParquetReader::open(path)?));
    }
    if head.starts_with(b"\x1f\x8b") {
        return Ok(Box::new(csv::CsvReader::open_gzip(path, text)?));
    }

    let unknown = |found: &str| DatasetError::UnknownFormat {
        path: path.to_owned(),
        found: found.to_owned(),
    };
    if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Err(unknown("this is an HDF5 file, save the arrays with `numpy.savez`"));
    }
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    match extension.as_str() {
        "csv" | "tsv" | "txt" | "dat" | "data" => Ok(Box::new(csv::CsvReader::open(path, text)?)),
        "npy" | "npz" | "parquet" | "gz" => Err(DatasetError::damaged(
            path,
            format!(
                "the name says `.{extension}`, but the file does not begin like one; it may be cut off or be a saved error page"
            ),
        )),
        "" => Err(unknown("the name has no extension and the content is not known")),
        _ => Err(unknown(&format!("the extension `.{extension}` is not known"))),
    }
}
