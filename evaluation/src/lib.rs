//! Trains a model through ONNX Runtime for one point of a search.
//!
//! - [`graph`]: ONNX files and the graph they hold
//! - [`autodiff`]: gradients of a graph as further nodes of the graph
//! - [`engine`]: executes graphs
//! - [`model`]: the model file
//! - [`training`]: the training loop

pub mod autodiff;
pub mod engine;
pub mod graph;
pub mod model;
pub mod training;
