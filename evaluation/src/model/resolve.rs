//! Turns a filled-in model file into a plan.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::fields::{Fields, choose, fill, unused, wrong};
use super::{Activation, Architecture, Block, Initialization, ModelError, Resolved};
use crate::training::{EarlyStopping, Keep, Loss, Metric, Mode, Objective, Optimizer, Rule, Schedule, TrainingPlan};

type Origins = BTreeMap<String, String>;

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

/// The seed when the model file names none.
const DEFAULT_SEED: usize = 1;

pub(super) fn resolve(
    document: &Value,
    directory: &Path,
    hyperparameters: &Map<String, Value>,
) -> Result<Resolved, ModelError> {
    let filled = fill(document, hyperparameters)?;
    let origins = &filled.origins;
    let known = [
        "data",
        "model",
        "loss",
        "optimizer",
        "schedule",
        "training",
        "objective",
        "description",
        "$schema",
    ];
    let root = Fields::new(&filled.document, "", &known, origins)?;
    let empty = Value::Object(Map::new());
    let section = |key| root.get(key).unwrap_or(&empty);

    let training = Fields::new(
        section("training"),
        "/training",
        &[
            "epochs",
            "batch_size",
            "drop_last",
            "shuffle",
            "early_stopping",
            "clip_norm",
            "seed",
            "keep",
        ],
        origins,
    )?;
    let epochs = training.integer("epochs", 1, Some(10))?;
    let early_stopping = match training.get("early_stopping") {
        None | Some(Value::Bool(false)) => None,
        Some(value) => {
            let fields = Fields::new(value, "/training/early_stopping", &["patience", "min_delta"], origins)?;
            Some(EarlyStopping {
                patience: fields.integer("patience", 1, None)?,
                min_delta: fields.non_negative("min_delta", 0.0)?,
            })
        }
    };
    let loss = loss(&root)?;
    let plan = TrainingPlan {
        architecture: architecture(&root, directory)?,
        loss,
        optimizer: optimizer(section("optimizer"), origins)?,
        schedule: schedule(section("schedule"), epochs, origins)?,
        epochs,
        batch_size: training.integer("batch_size", 1, Some(32))?,
        drop_last: training.flag("drop_last", false)?,
        shuffle: training.flag("shuffle", true)?,
        early_stopping,
        clip_norm: training
            .get("clip_norm")
            .map(|_| training.positive("clip_norm", None))
            .transpose()?,
        seed: training.integer("seed", 0, Some(DEFAULT_SEED))? as u64,
        keep: training.choice("keep", &[("best", Keep::Best), ("last", Keep::Last)], Some(Keep::Best))?,
        objective: objective(section("objective"), &loss, origins)?,
    };
    let warnings = unused(hyperparameters, origins)
        .into_iter()
        .map(|name| format!("nothing in the model file refers to the hyperparameter `{name}`"))
        .collect();
    Ok(Resolved {
        plan,
        data: root.get("data").cloned().unwrap_or(Value::Null),
        warnings,
    })
}

fn architecture(root: &Fields<'_>, directory: &Path) -> Result<Architecture, ModelError> {
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

fn loss(root: &Fields<'_>) -> Result<Loss, ModelError> {
    let names: &[(&str, Loss)] = &[
        ("cross_entropy", Loss::CrossEntropy { label_smoothing: 0.0 }),
        ("binary_cross_entropy", Loss::BinaryCrossEntropy),
        ("mse", Loss::Mse),
        ("mae", Loss::Mae),
        ("huber", Loss::Huber { delta: 1.0 }),
    ];
    let Some(value @ Value::Object(_)) = root.get("loss") else {
        return root.choice("loss", names, None);
    };
    let name = Fields::new(value, "/loss", &["name", "label_smoothing", "delta"], root.origins())?;
    let loss = name.choice("name", names, None)?;
    let known: &[&str] = match loss {
        Loss::CrossEntropy { .. } => &["name", "label_smoothing"],
        Loss::Huber { .. } => &["name", "delta"],
        _ => &["name"],
    };
    let fields = Fields::new(value, "/loss", known, root.origins())?;
    Ok(match loss {
        Loss::CrossEntropy { .. } => Loss::CrossEntropy {
            label_smoothing: fields.share("label_smoothing", Some(0.0))?,
        },
        Loss::Huber { .. } => Loss::Huber {
            delta: fields.positive("delta", Some(1.0))?,
        },
        other => other,
    })
}

fn optimizer(value: &Value, origins: &Origins) -> Result<Optimizer, ModelError> {
    #[derive(Clone, Copy)]
    enum Kind {
        Sgd,
        Adam,
        AdamW,
        RmsProp,
    }
    const ALL: [&str; 8] = [
        "name",
        "learning_rate",
        "weight_decay",
        "momentum",
        "nesterov",
        "betas",
        "epsilon",
        "alpha",
    ];
    let kinds = &[
        ("sgd", Kind::Sgd),
        ("adam", Kind::Adam),
        ("adamw", Kind::AdamW),
        ("rmsprop", Kind::RmsProp),
    ];
    // Which keys exist depends on the name, so it is read first.
    let kind = Fields::new(value, "/optimizer", &ALL, origins)?.choice("name", kinds, Some(Kind::Adam))?;
    let known: &[&str] = match kind {
        Kind::Sgd => &["name", "learning_rate", "weight_decay", "momentum", "nesterov"],
        Kind::Adam | Kind::AdamW => &["name", "learning_rate", "weight_decay", "betas", "epsilon"],
        Kind::RmsProp => &["name", "learning_rate", "weight_decay", "alpha", "epsilon", "momentum"],
    };
    let fields = Fields::new(value, "/optimizer", known, origins)?;
    let betas = fields.pair("betas", [0.9, 0.999])?;
    let epsilon = fields.positive("epsilon", Some(1e-8))?;
    let rule = match kind {
        Kind::Sgd => {
            let (momentum, nesterov) = (fields.share("momentum", Some(0.0))?, fields.flag("nesterov", false)?);
            if nesterov && momentum <= 0.0 {
                return Err(fields.error("nesterov", "needs a `momentum` above 0"));
            }
            Rule::Sgd { momentum, nesterov }
        }
        Kind::Adam => Rule::Adam { betas, epsilon },
        Kind::AdamW => Rule::AdamW { betas, epsilon },
        Kind::RmsProp => Rule::RmsProp {
            alpha: fields.share("alpha", Some(0.99))?,
            epsilon,
            momentum: fields.share("momentum", Some(0.0))?,
        },
    };
    let usual_rate = if matches!(kind, Kind::Sgd | Kind::RmsProp) {
        0.01
    } else {
        0.001
    };
    let usual_decay = if matches!(kind, Kind::AdamW) { 0.01 } else { 0.0 };
    Ok(Optimizer {
        learning_rate: fields.positive("learning_rate", Some(usual_rate))?,
        weight_decay: fields.non_negative("weight_decay", usual_decay)?,
        rule,
    })
}

fn schedule(value: &Value, epochs: usize, origins: &Origins) -> Result<Schedule, ModelError> {
    #[derive(Clone, Copy)]
    enum Kind {
        Constant,
        Step,
        Multistep,
        Exponential,
        Cosine,
        Linear,
        LinearWarmup,
        OneCycle,
    }
    let kinds = &[
        ("constant", Kind::Constant),
        ("step", Kind::Step),
        ("multistep", Kind::Multistep),
        ("exponential", Kind::Exponential),
        ("cosine", Kind::Cosine),
        ("linear", Kind::Linear),
        ("linear_warmup", Kind::LinearWarmup),
        ("one_cycle", Kind::OneCycle),
    ];
    if value.is_string() {
        let named = Value::Object(Map::from_iter([("name".to_owned(), value.clone())]));
        return schedule(&named, epochs, origins);
    }
    let all = [
        "name",
        "step_size",
        "gamma",
        "milestones",
        "minimum",
        "warmup_epochs",
        "total_epochs",
        "start_factor",
        "end_factor",
        "epochs",
        "rising",
        "initial_divisor",
        "final_divisor",
    ];
    let kind = Fields::new(value, "/schedule", &all, origins)?.choice("name", kinds, Some(Kind::Constant))?;
    let known: &[&str] = match kind {
        Kind::Constant => &["name"],
        Kind::Step => &["name", "step_size", "gamma"],
        Kind::Multistep => &["name", "milestones", "gamma"],
        Kind::Exponential => &["name", "gamma"],
        Kind::Cosine => &["name", "minimum", "warmup_epochs", "total_epochs"],
        Kind::Linear => &["name", "start_factor", "end_factor", "epochs"],
        Kind::LinearWarmup => &["name", "epochs"],
        Kind::OneCycle => &["name", "rising", "initial_divisor", "final_divisor", "total_epochs"],
    };
    let fields = Fields::new(value, "/schedule", known, origins)?;
    let total_epochs = || fields.integer("total_epochs", 1, Some(epochs));
    Ok(match kind {
        Kind::Constant => Schedule::Constant,
        Kind::Step => Schedule::Step {
            step_size: fields.integer("step_size", 1, None)?,
            gamma: fields.positive("gamma", Some(0.1))?,
        },
        Kind::Multistep => Schedule::Multistep {
            milestones: fields.ascending("milestones")?,
            gamma: fields.positive("gamma", Some(0.1))?,
        },
        Kind::Exponential => Schedule::Exponential {
            gamma: fields.positive("gamma", None)?,
        },
        Kind::Cosine => Schedule::Cosine {
            minimum: fields.non_negative("minimum", 0.0)?,
            warmup_epochs: fields.integer("warmup_epochs", 0, Some(0))?,
            total_epochs: total_epochs()?,
        },
        Kind::Linear => Schedule::Linear {
            start_factor: fields.non_negative("start_factor", 1.0)?,
            end_factor: fields.non_negative("end_factor", 0.0)?,
            epochs: fields.integer("epochs", 1, Some(epochs))?,
        },
        Kind::LinearWarmup => Schedule::LinearWarmup {
            epochs: fields.integer("epochs", 1, None)?,
        },
        Kind::OneCycle => Schedule::OneCycle {
            rising: fields.number(
                "rising",
                "a number in (0, 1)",
                |share| share > 0.0 && share < 1.0,
                Some(0.3),
            )?,
            initial_divisor: fields.positive("initial_divisor", Some(25.0))?,
            final_divisor: fields.positive("final_divisor", Some(1e4))?,
            total_epochs: total_epochs()?,
        },
    })
}

fn objective(value: &Value, loss: &Loss, origins: &Origins) -> Result<Objective, ModelError> {
    if value.is_string() {
        let named = Value::Object(Map::from_iter([("metric".to_owned(), value.clone())]));
        return objective(&named, loss, origins);
    }
    let fields = Fields::new(value, "/objective", &["metric", "mode"], origins)?;
    let usual = match loss {
        Loss::CrossEntropy { .. } | Loss::BinaryCrossEntropy => Metric::Error,
        _ => Metric::Loss,
    };
    let metrics = Metric::ALL.map(|metric| (metric.name(), metric));
    let metric = fields.choice("metric", &metrics, Some(usual))?;
    let mode = fields.choice(
        "mode",
        &[("min", Mode::Min), ("max", Mode::Max)],
        Some(metric.usual_mode()),
    )?;
    Ok(Objective { metric, mode })
}
