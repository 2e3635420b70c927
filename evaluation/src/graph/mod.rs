//! ONNX files and the graph they hold.
