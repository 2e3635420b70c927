//! The section `model`: a list of blocks, or a file.

use std::path::Path;

use serde_json::Value;

use super::layers::{INITIALIZATIONS, add_blocks};
use crate::model::fields::Fields;
use crate::model::{Architecture, Initialization, ModelError};

pub(super) fn architecture(root: &Fields<'_>, directory: &Path) -> Result<Architecture, ModelError> {
    let expected = "an object with `blocks` or `onnx`";
    let value = root
        .get("model")
        .ok_or_else(|| root.error("model", format!("is missing; it must be {expected}")))?;
    let fields = Fields::new(
        value,
        "/model",
        &["blocks", "onnx", "init", "head", "freeze"],
        root.origins(),
    )?;
    let initialization = fields
        .get("init")
        .map(|_| fields.choice("init", INITIALIZATIONS, None))
        .transpose()?;
    match (fields.get("blocks"), fields.get("onnx")) {
        (Some(list), None) => {
            if fields.get("freeze").is_some() {
                return Err(fields.error("freeze", "is for models from a file (`onnx`) only"));
            }
            let mut blocks = Vec::new();
            add_blocks(list, "/model/blocks", root.origins(), &mut blocks)?;
            Ok(Architecture::Blocks {
                blocks,
                head: fields.flag("head", true)?,
                initialization: initialization.unwrap_or(Initialization::Default),
            })
        }
        (None, Some(Value::String(path))) => {
            if fields.get("head").is_some() {
                return Err(fields.error("head", "is for models of `blocks` only"));
            }
            Ok(Architecture::Onnx {
                path: directory.join(path),
                initialization,
                freeze: fields.texts("freeze")?,
            })
        }
        (None, Some(value)) => Err(fields.wrong("onnx", "the path of an ONNX file", value)),
        _ => Err(root.wrong("model", expected, value)),
    }
}
