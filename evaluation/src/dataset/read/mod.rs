//! Readers, one file each, chosen by what the file begins with and then by its extension.
//!
//! To add a format: write a module with a type that implements [`Reader`], and add its line to [`open`].

#[cfg(feature = "arrow")]
mod arrow;
mod csv;
#[cfg(feature = "hdf5")]
mod hdf5;
#[cfg(feature = "hdf5")]
mod netcdf;
mod npy;
mod npz;
mod optional;
mod parquet;
#[cfg(feature = "root")]
mod root;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::column::Column;
use super::error::DatasetError;
use super::store::Segment;

/// How text tables are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TextOptions {
    /// The separator; found out from the first line where absent.
    pub(crate) delimiter: Option<u8>,
    /// Whether the first line holds names; found out where absent.
    pub(crate) header: Option<bool>,
}

/// Rows of a column and numbers in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

/// One open file with named columns.
pub(crate) trait Reader {
    /// The names of all columns, in the order of the file.
    fn names(&self) -> &[String];

    /// How much the wanted columns hold, by index into [`Reader::names`], where that is known without reading them.
    fn extents(&mut self, wanted: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError>;

    /// Starts reading the wanted columns, by index into [`Reader::names`], from their first row.
    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError>;

    /// Where the rows of a column lie in the file, when they lie there as they are in memory.
    fn plain(&self, index: usize) -> Result<Option<Segment>, DatasetError> {
        let _ = index;
        Ok(None)
    }

    /// The wanted columns, whole.
    ///
    /// On return every column holds whole rows; columns may still differ in length where the format allows it.
    fn read(&mut self, wanted: &[usize]) -> Result<Vec<Column>, DatasetError> {
        self.chunks(wanted)?.next(usize::MAX)
    }
}

/// Columns in pieces.
pub(crate) trait Chunks {
    /// The next `rows` rows of every column, fewer at the end, then none.
    ///
    /// Values of a column keep their type from chunk to chunk, but for integers, which become doubles where one is missing.
    fn next(&mut self, rows: usize) -> Result<Vec<Column>, DatasetError>;
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
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_lowercase())
        .unwrap_or_default();

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
        return Ok(Box::new(csv::CsvReader::open(path, text, true)?));
    }
    if head.starts_with(b"ARROW1") || head.starts_with(&[0xff; 4]) {
        return optional::arrow(path);
    }
    if head.starts_with(b"FEA1") {
        return Err(DatasetError::damaged(
            path,
            "this is a Feather file of version 1; save it anew with `pyarrow.feather.write_feather`",
        ));
    }
    if head.starts_with(b"CDF") {
        return optional::netcdf(path);
    }
    if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        return optional::hdf5(path, &extension);
    }
    if head.starts_with(b"root") {
        return optional::root(path);
    }

    let unknown = |found: &str| DatasetError::UnknownFormat {
        path: path.to_owned(),
        found: found.to_owned(),
    };
    match extension.as_str() {
        "csv" | "tsv" | "txt" | "dat" | "data" => Ok(Box::new(csv::CsvReader::open(path, text, false)?)),
        "npy" | "npz" | "parquet" | "gz" | "arrow" | "feather" | "h5" | "hdf5" | "nc" | "nc4" | "root" => {
            Err(DatasetError::damaged(
                path,
                format!(
                    "the name says `.{extension}`, but the file does not begin like one; it may be cut off or be a saved error page"
                ),
            ))
        }
        "" => Err(unknown("the name has no extension and the content is not known")),
        _ => Err(unknown(&format!("the extension `.{extension}` is not known"))),
    }
}

/// Columns that are read independently of one another, all from row `start` on.
pub(crate) struct Separate<F> {
    rows: usize,
    start: usize,
    read: F,
}

impl<F: FnMut(usize, usize) -> Result<Vec<Column>, DatasetError>> Separate<F> {
    /// `read` gets first row and number of rows; none of the columns has more than `rows`.
    pub(crate) fn new(rows: usize, read: F) -> Self {
        Self { rows, start: 0, read }
    }
}

impl<F: FnMut(usize, usize) -> Result<Vec<Column>, DatasetError>> Chunks for Separate<F> {
    fn next(&mut self, rows: usize) -> Result<Vec<Column>, DatasetError> {
        let count = rows.min(self.rows - self.start);
        let columns = (self.read)(self.start, count)?;
        self.start += count;
        Ok(columns)
    }
}
