//! Training data.

mod column;
mod error;
pub mod fetch;
mod read;

pub use error::DatasetError;
