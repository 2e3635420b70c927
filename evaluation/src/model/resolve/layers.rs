//! Blocks: which fields each has.

use serde_json::Value;

use super::Origins;
use crate::model::fields::{Fields, choose, wrong};
use crate::model::fill::MOST_BLOCKS;
use crate::model::{Activation, Block, Cell, Conv, Initialization, Join, ModelError, Padding, Reduction};

pub(super) const ACTIVATIONS: &[(&str, Activation)] = &[
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

pub(super) const INITIALIZATIONS: &[(&str, Initialization)] = &[
    ("default", Initialization::Default),
    ("he_uniform", Initialization::HeUniform),
    ("he_normal", Initialization::HeNormal),
    ("xavier_uniform", Initialization::XavierUniform),
    ("xavier_normal", Initialization::XavierNormal),
];

const REDUCTIONS: &[(&str, Reduction)] = &[("max", Reduction::Max), ("mean", Reduction::Mean)];

type Read = fn(&Fields<'_>) -> Result<Block, ModelError>;

/// Blocks with their fields. Those that are no object or hold blocks themselves are read apart.
const KINDS: [(&str, &[&str], Read); 21] = [
    (
        "dense",
        &["units", "activation", "bias", "per_position", "repeat"],
        |fields| {
            Ok(Block::Dense {
                units: fields.integer("units", 1, None)?,
                bias: fields.flag("bias", true)?,
                activation: fields.choice("activation", ACTIVATIONS, Some(Activation::Linear))?,
                per_position: fields.flag("per_position", false)?,
            })
        },
    ),
    ("conv", CONV, |fields| convolution(fields, false)),
    ("conv_transpose", CONV, |fields| convolution(fields, true)),
    ("pool", &["kind", "size", "stride", "padding"], |fields| {
        Ok(Block::Pool {
            kind: fields.choice("kind", REDUCTIONS, Some(Reduction::Max))?,
            size: fields.sizes("size", 1, Some(2))?,
            stride: match fields.get("stride") {
                Some(_) => fields.sizes("stride", 1, None)?,
                None => Vec::new(),
            },
            padding: padding(fields, Padding::Sizes(vec![0]))?,
        })
    }),
    ("global_pool", &["kind"], |fields| {
        Ok(Block::GlobalPool {
            kind: fields.choice("kind", REDUCTIONS, Some(Reduction::Mean))?,
        })
    }),
    ("position", &["at"], |fields| {
        let whole = |number: f64| number.fract() == 0.0 && number.abs() < 1e9;
        Ok(Block::Position {
            at: fields.number("at", "a whole number", whole, Some(0.0))? as i64,
        })
    }),
    ("residual", &["blocks", "activation"], |fields| {
        Ok(Block::Residual {
            blocks: inner(fields, "blocks")?,
            activation: fields.choice("activation", ACTIVATIONS, Some(Activation::Linear))?,
        })
    }),
    ("parallel", &["branches", "join"], |fields| {
        let branches = match fields.get("branches") {
            Some(Value::Array(items)) if !items.is_empty() => (0..items.len())
                .map(|index| {
                    let mut blocks = Vec::new();
                    let pointer = format!("{}/{index}", fields.pointer("branches"));
                    add_blocks(&items[index], &pointer, fields.origins(), &mut blocks)?;
                    Ok(blocks)
                })
                .collect::<Result<_, ModelError>>()?,
            Some(other) => return Err(fields.wrong("branches", "a list of lists of blocks", other)),
            None => return Err(fields.error("branches", "is missing")),
        };
        Ok(Block::Parallel {
            branches,
            join: fields.choice(
                "join",
                &[("concat", Join::Concat), ("add", Join::Add)],
                Some(Join::Concat),
            )?,
        })
    }),
    ("dropout", &["rate"], |fields| {
        Ok(Block::Dropout {
            rate: fields.share("rate", Some(0.5))?,
        })
    }),
    ("batch_norm", &["momentum", "epsilon"], |fields| {
        let part = |value: f64| value > 0.0 && value <= 1.0;
        Ok(Block::BatchNorm {
            momentum: fields.number("momentum", "a number in (0, 1]", part, Some(0.1))?,
            epsilon: fields.positive("epsilon", Some(1e-5))?,
        })
    }),
    ("layer_norm", &["epsilon"], |fields| {
        Ok(Block::LayerNorm {
            epsilon: fields.positive("epsilon", Some(1e-5))?,
        })
    }),
    ("group_norm", &["groups", "epsilon"], |fields| {
        Ok(Block::GroupNorm {
            groups: groups(fields, None)?,
            epsilon: fields.positive("epsilon", Some(1e-5))?,
        })
    }),
    (
        "recurrent",
        &["cell", "units", "bidirectional", "output", "repeat"],
        |fields| {
            let cells = [("lstm", Cell::Lstm), ("gru", Cell::Gru), ("rnn", Cell::Rnn)];
            Ok(Block::Recurrent {
                cell: fields.choice("cell", &cells, Some(Cell::Lstm))?,
                units: fields.integer("units", 1, None)?,
                bidirectional: fields.flag("bidirectional", false)?,
                sequence: fields.choice("output", &[("last", false), ("sequence", true)], Some(false))?,
            })
        },
    ),
    ("attention", &["heads", "dropout", "causal"], |fields| {
        Ok(Block::Attention {
            heads: fields.integer("heads", 1, Some(1))?,
            dropout: fields.share("dropout", Some(0.0))?,
            causal: fields.flag("causal", false)?,
        })
    }),
    (
        "transformer",
        &[
            "heads",
            "feed_forward",
            "dropout",
            "activation",
            "norm_first",
            "causal",
            "repeat",
        ],
        |fields| {
            Ok(Block::Transformer {
                heads: fields.integer("heads", 1, Some(1))?,
                feed_forward: fields.integer("feed_forward", 1, None)?,
                dropout: fields.share("dropout", Some(0.0))?,
                activation: fields.choice("activation", ACTIVATIONS, Some(Activation::Gelu))?,
                norm_first: fields.flag("norm_first", true)?,
                causal: fields.flag("causal", false)?,
            })
        },
    ),
    ("embedding", &["vocabulary", "width"], |fields| {
        Ok(Block::Embedding {
            vocabulary: fields.integer("vocabulary", 1, None)?,
            width: fields.integer("width", 1, None)?,
        })
    }),
    ("feature_tokens", &["width", "categorical", "class_token"], |fields| {
        Ok(Block::FeatureTokens {
            width: fields.integer("width", 1, None)?,
            categorical: categorical(fields)?,
            class_token: fields.flag("class_token", true)?,
        })
    }),
    ("positions", &["kind"], |fields| {
        Ok(Block::Positions {
            learned: fields.choice("kind", &[("learned", true), ("sines", false)], Some(true))?,
        })
    }),
    ("flatten", &[], |_| Ok(Block::Flatten)),
    ("reshape", &["shape"], |fields| {
        Ok(Block::Reshape {
            shape: fields.sizes("shape", 1, None)?,
        })
    }),
    ("permute", &["order"], |fields| {
        Ok(Block::Permute {
            order: fields.sizes("order", 0, None)?,
        })
    }),
];

const CONV: &[&str] = &[
    "filters",
    "kernel",
    "stride",
    "dilation",
    "padding",
    "groups",
    "bias",
    "batch_norm",
    "activation",
];

pub(super) fn add_blocks(
    value: &Value,
    pointer: &str,
    origins: &Origins,
    blocks: &mut Vec<Block>,
) -> Result<(), ModelError> {
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
    let names: Vec<&str> = KINDS
        .iter()
        .map(|(name, ..)| *name)
        .chain(["activation", "repeat"])
        .collect();
    let object = Fields::new(item, pointer, &names, origins)?;
    let mut present = names
        .iter()
        .filter_map(|kind| object.get(kind).map(|value| (*kind, value)));
    let (Some((kind, value)), None) = (present.next(), present.next()) else {
        let expected = "an object with one key, the kind of the block";
        return Err(wrong(pointer, expected, item, origins));
    };
    let pointer = object.pointer(kind);
    if kind == "activation" {
        blocks.push(Block::Activation(choose(value, &pointer, ACTIVATIONS, origins)?));
        return Ok(());
    }
    let Some((_, known, read)) = KINDS.iter().find(|(name, ..)| *name == kind) else {
        // Repetitions of the right form were written out before.
        return Err(wrong(&pointer, "an object with `times` and `blocks`", value, origins));
    };
    let fields = Fields::new(value, pointer, known, origins)?;
    let block = read(&fields)?;
    let repeat = if known.contains(&"repeat") {
        fields.integer("repeat", 0, Some(1))?.min(MOST_BLOCKS + 1)
    } else {
        1
    };
    // Of several recurrent layers all but the last hand on whole sequences.
    let last = block.clone();
    if let Block::Recurrent {
        cell,
        units,
        bidirectional,
        ..
    } = block
    {
        let handing_on = Block::Recurrent {
            cell,
            units,
            bidirectional,
            sequence: true,
        };
        blocks.extend(std::iter::repeat_n(handing_on, repeat.saturating_sub(1)));
        blocks.extend((repeat > 0).then_some(last));
    } else {
        blocks.extend(std::iter::repeat_n(block, repeat));
    }
    Ok(())
}

fn inner(fields: &Fields<'_>, key: &str) -> Result<Vec<Block>, ModelError> {
    let value = fields.get(key).ok_or_else(|| fields.error(key, "is missing"))?;
    let mut blocks = Vec::new();
    add_blocks(value, &fields.pointer(key), fields.origins(), &mut blocks)?;
    Ok(blocks)
}

fn convolution(fields: &Fields<'_>, transposed: bool) -> Result<Block, ModelError> {
    Ok(Block::Conv(Conv {
        filters: fields.integer("filters", 1, None)?,
        kernel: fields.sizes("kernel", 1, Some(if transposed { 2 } else { 3 }))?,
        stride: fields.sizes("stride", 1, Some(if transposed { 2 } else { 1 }))?,
        dilation: fields.sizes("dilation", 1, Some(1))?,
        padding: padding(
            fields,
            if transposed {
                Padding::Sizes(vec![0])
            } else {
                Padding::Same
            },
        )?,
        groups: groups(fields, Some(1))?,
        bias: fields.flag("bias", true)?,
        batch_norm: fields.flag("batch_norm", false)?,
        activation: fields.choice("activation", ACTIVATIONS, Some(Activation::Linear))?,
        transposed,
    }))
}

fn padding(fields: &Fields<'_>, default: Padding) -> Result<Padding, ModelError> {
    match fields.get("padding") {
        None => Ok(default),
        Some(Value::String(name)) if name == "same" => Ok(Padding::Same),
        Some(Value::String(name)) if name == "valid" => Ok(Padding::Sizes(vec![0])),
        Some(value) => fields
            .sizes("padding", 0, None)
            .map(Padding::Sizes)
            .map_err(|_| fields.wrong("padding", "`same`, `valid`, or integers of at least 0", value)),
    }
}

/// A number of groups, or `channels` for as many as there are.
fn groups(fields: &Fields<'_>, default: Option<usize>) -> Result<Option<usize>, ModelError> {
    match fields.get("groups") {
        None => Ok(default),
        Some(Value::String(name)) if name == "channels" => Ok(None),
        Some(value) => fields
            .integer("groups", 1, None)
            .map(Some)
            .map_err(|_| fields.wrong("groups", "an integer of at least 1, or `channels`", value)),
    }
}

/// Pairs of a column and its number of classes.
fn categorical(fields: &Fields<'_>) -> Result<Vec<(usize, usize)>, ModelError> {
    const KEY: &str = "categorical";
    let Some(value) = fields.get(KEY) else {
        return Ok(Vec::new());
    };
    let pairs: Option<Vec<(usize, usize)>> = value.as_array().and_then(|items| {
        items
            .iter()
            .map(|item| match item.as_array().map(Vec::as_slice) {
                Some([column, classes]) => {
                    let classes = classes.as_u64().filter(|classes| *classes >= 1)?;
                    Some((column.as_u64()? as usize, classes as usize))
                }
                _ => None,
            })
            .collect()
    });
    let mut seen = std::collections::BTreeSet::new();
    pairs
        .filter(|pairs| pairs.iter().all(|(column, _)| seen.insert(*column)))
        .ok_or_else(|| {
            fields.wrong(
                KEY,
                "a list of pairs: a column from 0, each once, and its number of classes",
                value,
            )
        })
}
