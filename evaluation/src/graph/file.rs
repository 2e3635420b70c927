//! Reads and writes ONNX files, weights kept beside them included.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use prost::Message;

use super::GraphError;
use super::proto::{ModelProto, TensorProto};

/// Reads an ONNX file and the weights that it keeps in other files of its folder.
///
/// # Errors
/// When a file cannot be read or is no ONNX model.
pub fn read_model(path: &Path) -> Result<ModelProto, GraphError> {
    let bytes = fs::read(path).map_err(|source| GraphError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut model = ModelProto::decode(bytes.as_slice()).map_err(|error| GraphError::NotOnnx {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let Some(graph) = model.graph.as_mut() else {
        let message = if bytes.is_empty() {
            "the file is empty"
        } else {
            "it holds no graph"
        }
        .to_owned();
        return Err(GraphError::NotOnnx {
            path: path.to_owned(),
            message,
        });
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let attributes = graph
        .node
        .iter_mut()
        .flat_map(|node| &mut node.attribute)
        .filter_map(|a| a.t.as_mut());
    for tensor in graph.initializer.iter_mut().chain(attributes) {
        fetch_external(tensor, folder)?;
    }
    Ok(model)
}

/// The bytes of an ONNX file.
#[must_use]
pub fn encode_model(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

fn fetch_external(tensor: &mut TensorProto, folder: &Path) -> Result<(), GraphError> {
    if tensor.data_location != Some(1) {
        return Ok(());
    }
    let name = tensor.name.clone().unwrap_or_default();
    let malformed = |message: String| GraphError::Tensor {
        name: name.clone(),
        message,
    };
    let entry = |key: &str| {
        tensor
            .external_data
            .iter()
            .find(|entry| entry.key.as_deref() == Some(key))
            .and_then(|e| e.value.clone())
    };
    let number = |key: &str| {
        entry(key)
            .map(|text| {
                text.parse::<u64>()
                    .map_err(|_| malformed(format!("`{key}` of its data is `{text}`")))
            })
            .transpose()
    };
    let location = entry("location").ok_or_else(|| malformed("its data has no `location`".into()))?;
    // A model file must not make us read outside its own folder.
    if !Path::new(&location)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(malformed(format!(
            "its data lies outside the model's folder: `{location}`"
        )));
    }
    let path = folder.join(location);
    let read_error = |source| GraphError::Read {
        path: path.clone(),
        source,
    };
    let mut file = fs::File::open(&path).map_err(read_error)?;
    file.seek(SeekFrom::Start(number("offset")?.unwrap_or(0)))
        .map_err(read_error)?;
    let mut bytes = Vec::new();
    match number("length")? {
        Some(length) => file.take(length).read_to_end(&mut bytes),
        None => file.read_to_end(&mut bytes),
    }
    .map_err(read_error)?;
    tensor.raw_data = Some(bytes);
    tensor.external_data.clear();
    tensor.data_location = None;
    Ok(())
}
