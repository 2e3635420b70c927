//! Trains a model through ONNX Runtime for one point of a search.
//!
//! - [`dataset`]: training data from files and servers, split and scaled
//! - [`graph`]: ONNX files and the graph they hold
//! - [`autodiff`]: gradients of a graph as further nodes of the graph
//! - [`engine`]: executes graphs
//! - [`model`]: the model file
//! - [`training`]: the training loop
//! - [`output`]: metadata and the metrics archive
//! - [`cli`]: the command line

pub mod autodiff;
pub mod cli;
pub mod dataset;
pub mod engine;
pub mod graph;
pub mod model;
pub mod output;
pub mod training;
mod vectors;
