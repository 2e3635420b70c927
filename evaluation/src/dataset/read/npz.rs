//! NumPy's `.npz`: a zip archive with one `.npy` member per array.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::Reader;
use super::npy::read_array;
use crate::dataset::column::Column;
use crate::dataset::error::DatasetError;

/// An open archive; its arrays are the columns.
#[derive(Debug)]
pub(crate) struct NpzReader {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    members: Vec<usize>,
    names: Vec<String>,
}

impl NpzReader {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|error| DatasetError::io(path, error))?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
            DatasetError::damaged(
                path,
                format!("the archive cannot be opened ({error}); it may be cut off: copy or download it again"),
            )
        })?;
        let (members, names): (Vec<_>, Vec<_>) = archive
            .file_names()
            .enumerate()
            .filter_map(|(index, name)| Some((index, name.ok()?.strip_suffix(".npy")?.to_owned())))
            .unzip();
        if names.is_empty() {
            return Err(DatasetError::damaged(
                path,
                "the archive holds no arrays (members named `*.npy`)",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            archive,
            members,
            names,
        })
    }
}

impl Reader for NpzReader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn read(&mut self, wanted: &[usize]) -> Result<Vec<Column>, DatasetError> {
        let mut columns = Vec::with_capacity(wanted.len());
        for &index in wanted {
            let name = &self.names[index];
            let member = self.archive.by_index(self.members[index]).map_err(|error| {
                DatasetError::damaged(
                    &self.path,
                    format!("array `{name}`: {error}; copy or download the file again"),
                )
            })?;
            columns.push(read_array(&self.path, name, member)?);
        }
        Ok(columns)
    }
}
