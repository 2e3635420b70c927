//! NumPy's `.npz`: a zip archive with one `.npy` member per array.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::npy::{Arrays, NpyArray};
use super::{Chunks, Extent, Reader};
use crate::dataset::error::DatasetError;

/// An open archive; its arrays are the columns.
#[derive(Debug)]
pub(crate) struct NpzReader {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// One more for each array that is being read.
    side_by_side: Vec<ZipArchive<BufReader<File>>>,
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
            side_by_side: Vec::new(),
            members,
            names,
        })
    }
}

impl Reader for NpzReader {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn extents(&mut self, wanted: &[usize]) -> Result<Option<Vec<Extent>>, DatasetError> {
        let mut extents = Vec::with_capacity(wanted.len());
        for &index in wanted {
            let name = &self.names[index];
            let member = self
                .archive
                .by_index(self.members[index])
                .map_err(|error| bad(&self.path, name, &error))?;
            extents.push(NpyArray::open(&self.path, name, member)?.extent());
        }
        Ok(Some(extents))
    }

    fn chunks<'a>(&'a mut self, wanted: &[usize]) -> Result<Box<dyn Chunks + 'a>, DatasetError> {
        // An archive unpacks one member at a time, so each array has its own.
        self.side_by_side.clear();
        for _ in wanted {
            let file = File::open(&self.path).map_err(|error| DatasetError::io(&self.path, error))?;
            let archive = ZipArchive::new(BufReader::new(file))
                .map_err(|error| DatasetError::damaged(&self.path, error.to_string()))?;
            self.side_by_side.push(archive);
        }
        let mut arrays = Vec::with_capacity(wanted.len());
        for (archive, &index) in self.side_by_side.iter_mut().zip(wanted) {
            let name = &self.names[index];
            let member = archive
                .by_index(self.members[index])
                .map_err(|error| bad(&self.path, name, &error))?;
            arrays.push(NpyArray::open(&self.path, name, member)?);
        }
        Ok(Box::new(Arrays(arrays)))
    }
}

fn bad(path: &Path, name: &str, error: &ZipError) -> DatasetError {
    DatasetError::damaged(
        path,
        format!("array `{name}`: {error}; copy or download the file again"),
    )
}
