//! The formats whose crates take long to compile: each is a feature of this crate, and a file of one that is left out is
//! named as such.

use std::path::Path;

use super::Reader;
use crate::dataset::error::DatasetError;

type Opened = Result<Box<dyn Reader>, DatasetError>;

#[cfg(feature = "arrow")]
pub(super) fn arrow(path: &Path) -> Opened {
    Ok(Box::new(super::arrow::ArrowReader::open(path)?))
}

#[cfg(feature = "hdf5")]
pub(super) fn netcdf(path: &Path) -> Opened {
    Ok(Box::new(super::netcdf::NetcdfReader::open(path)?))
}

#[cfg(feature = "hdf5")]
pub(super) fn hdf5(path: &Path, extension: &str) -> Opened {
    let reader = super::hdf5::Hdf5Reader::open(path)?;
    // In files that the `NetCDF` library wrote, missing and packed values are marked by its conventions.
    if reader.is_netcdf() || matches!(extension, "nc" | "nc4") {
        return netcdf(path);
    }
    Ok(Box::new(reader))
}

#[cfg(feature = "root")]
pub(super) fn root(path: &Path) -> Opened {
    Ok(Box::new(super::root::RootReader::open(path)?))
}

#[cfg(not(feature = "arrow"))]
pub(super) fn arrow(path: &Path) -> Opened {
    left_out(path, "an Arrow", "arrow")
}

#[cfg(not(feature = "hdf5"))]
pub(super) fn netcdf(path: &Path) -> Opened {
    left_out(path, "a NetCDF", "hdf5")
}

#[cfg(not(feature = "hdf5"))]
pub(super) fn hdf5(path: &Path, _: &str) -> Opened {
    left_out(path, "an HDF5", "hdf5")
}

#[cfg(not(feature = "root"))]
pub(super) fn root(path: &Path) -> Opened {
    left_out(path, "a ROOT", "root")
}

#[cfg(not(all(feature = "arrow", feature = "hdf5", feature = "root")))]
fn left_out(path: &Path, format: &str, feature: &str) -> Opened {
    Err(DatasetError::damaged(
        path,
        format!("this is {format} file, and this program was built without the feature `{feature}`"),
    ))
}
