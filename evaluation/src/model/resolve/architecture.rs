//! The section `model`: a list of blocks, or a file.

use std::path::Path;

use serde_json::Value;

use super::Origins;
use crate::model::fields::{Fields, choose, wrong};
use crate::model::{Activation, Architecture, Block, Initialization, ModelError};

const ACTIVATIONS: &[(&str, Activation)] = &[
    ("linear", Activation::Linear),
    ("relu", Activation::Relu),
    ("leaky_relu", Activation::LeakyRelu),
    ("elu", Activation::Elu),
    ("selu", Activation::Selu),
    ("gelu", Activation::Gelu),
    ("gelu_tanh", Activation::GeluTanh),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("softplus", Activation::Softplus),
    ("hard_sigmoid", Activation::HardSigmoid),
    ("hard_swish", Activation::HardSwish),
];

const INITIALIZATIONS: &[(&str, Initialization)] = &[
    ("default", Initialization::Default),
    ("he_uniform", Initialization::HeUniform),
    ("he_normal", Initialization::HeNormal),
    ("xavier_uniform", Initialization::XavierUniform),
    ("xavier_normal", Initialization::XavierNormal),
];

/// Blocks may not multiply without end.
const MOST_BLOCKS: usize = 1000;

pub(super) fn architecture(root: &Fields<'_>, directory: &Path) -> Result<Architecture, ModelError> {
    let expected = "an object with `blocks` or `onnx`";
    let value = root
        .get("model")
        .ok_or_else(|| root.error("model", format!("is missing; it must be {expected}")))?;
    let fields = Fields::new(value, "/model", &["blocks", "onnx", "init", "freeze"], root.origins())?;
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
                initialization: initialization.unwrap_or(Initialization::Default),
            })
        }
        (None, Some(Value::String(path))) => Ok(Architecture::Onnx {
            path: directory.join(path),
            initialization,
            freeze: fields.texts("freeze")?,
        }),
        (None, Some(value)) => Err(fields.wrong("onnx", "the path of an ONNX file", value)),
        _ => Err(root.wrong("model", expected, value)),
    }
}

fn add_blocks(value: &Value, pointer: &str, origins: &Origins, blocks: &mut Vec<Block>) -> Result<(), ModelError> {
    let Value::Array(items) = value else {
        return Err(wrong(pointer, "a list of blocks", value, origins));
    };
    for (index, item) in items.iter().enumerate() {
        add_block(item, &format!("{pointer}/{index}"), origins, blocks)?;
        if blocks.len() > MOST_BLOCKS {
            return Err(ModelError::Field {
                pointer: format!("{pointer}/{index}"),
                message: format!("makes more than {MOST_BLOCKS} blocks"),
            });
        }
    }
    Ok(())
}

fn add_block(item: &Value, pointer: &str, origins: &Origins, blocks: &mut Vec<Block>) -> Result<(), ModelError> {
    const KINDS: [&str; 7] = [
        "dense",
        "dropout",
        "batch_norm",
        "layer_norm",
        "activation",
        "flatten",
        "repeat",
    ];
    let object = Fields::new(item, pointer, &KINDS, origins)?;
    let mut present = KINDS
        .into_iter()
        .filter_map(|kind| object.get(kind).map(|value| (kind, value)));
    let (Some((kind, value)), None) = (present.next(), present.next()) else {
        return Err(wrong(
            pointer,
            "an object with one key, the kind of the block",
            item,
            origins,
        ));
    };
    let pointer = object.pointer(kind);
    let fields = |known: &[&str]| Fields::new(value, pointer.clone(), known, origins);
    match kind {
        "dense" => {
            let fields = fields(&["units", "activation", "bias", "repeat"])?;
            let block = Block::Dense {
                units: fields.integer("units", 1, None)?,
                bias: fields.flag("bias", true)?,
                activation: fields.choice("activation", ACTIVATIONS, Some(Activation::Linear))?,
            };
            let repeat = fields.integer("repeat", 0, Some(1))?.min(MOST_BLOCKS + 1);
            blocks.extend(std::iter::repeat_n(block, repeat));
        }
        "dropout" => blocks.push(Block::Dropout {
            rate: fields(&["rate"])?.share("rate", Some(0.5))?,
        }),
        "batch_norm" => {
            let fields = fields(&["momentum", "epsilon"])?;
            let momentum = fields.number(
                "momentum",
                "a number in (0, 1]",
                |value| value > 0.0 && value <= 1.0,
                Some(0.1),
            )?;
            blocks.push(Block::BatchNorm {
                momentum,
                epsilon: fields.positive("epsilon", Some(1e-5))?,
            });
        }
        "layer_norm" => {
            blocks.push(Block::LayerNorm {
                epsilon: fields(&["epsilon"])?.positive("epsilon", Some(1e-5))?,
            });
        }
        "activation" => blocks.push(Block::Activation(choose(value, &pointer, ACTIVATIONS, origins)?)),
        "flatten" => {
            fields(&[])?;
            blocks.push(Block::Flatten);
        }
        _ => {
            let fields = fields(&["times", "blocks"])?;
            let times = fields.integer("times", 0, None)?;
            let inner = fields
                .get("blocks")
                .ok_or_else(|| fields.error("blocks", "is missing"))?;
            let mut group = Vec::new();
            add_blocks(inner, &fields.pointer("blocks"), origins, &mut group)?;
            for _ in 0..times.min(MOST_BLOCKS + 1) {
                blocks.extend(group.iter().cloned());
                if blocks.len() > MOST_BLOCKS {
                    break;
                }
            }
        }
    }
    Ok(())
}
