//! Products in half precision, everything else in single: Micikevicius et al. 2018, "Mixed Precision Training".
//!
//! Weights, optimiser states, sums, losses and norms stay 32-bit numbers. Matrix products and convolutions, which take
//! most of the time, get their operands rounded to 16 bits and give 16 bits, between `Cast` nodes. For `float16`, whose
//! smallest numbers gradients fall below, the loss is multiplied by a factor before gradients are taken and they are
//! divided by it afterwards (section 3.2 there); a step whose gradients are not finite changes nothing. The factor adapts
//! itself unless it is given: such a step halves it, so many others in a row double it. It is a state of the training like
//! the weights, so that a checkpoint holds it.

use std::collections::HashMap;

use serde::Serialize;

use super::TrainingError;
use crate::engine::Engine;
use crate::graph::{Builder, ElementType, Graph, Node, Tensor, TensorType, attribute};

/// Operators whose operands are rounded.
const PRODUCTS: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// The type of the operands of products.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    Float32,
    /// 16 bits with the exponents of `float32`.
    Bfloat16,
    /// 16 bits, up to 65504.
    Float16 {
        /// Factor of the loss under the gradients.
        loss_scale: LossScale,
    },
}

/// The factor of the loss under the gradients of `float16`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LossScale {
    /// Always the same, above 0.
    Constant(f64),
    /// Halved by every step whose gradients are not finite, doubled by `interval` others in a row.
    Adaptive {
        /// What it begins with, from `2⁻²⁴` to `2²⁴`, its limits.
        initial: f64,
        /// At least 1.
        interval: usize,
    },
}

impl Default for LossScale {
    fn default() -> Self {
        Self::Adaptive {
            initial: 65536.0,
            interval: 2000,
        }
    }
}

impl LossScale {
    /// The limits of an adaptive factor.
    pub const LIMITS: [f64; 2] = [1.0 / 16_777_216.0, 16_777_216.0];
}

/// States of the training: the factor, the steps in a row whose gradients were finite, and how many were not.
const FACTOR: &str = "precision/loss_scale";
const CLEAN: &str = "precision/clean_steps";
pub(crate) const SKIPPED: &str = "precision/skipped_steps";

impl Precision {
    /// Whether nothing is rounded.
    #[must_use]
    pub fn is_single(&self) -> bool {
        *self == Self::Float32
    }

    /// The name in model files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 { .. } => "float16",
        }
    }

    /// The number that stands for the type in ONNX files.
    fn code(self) -> Option<i64> {
        match self {
            Self::Float32 => None,
            Self::Bfloat16 => Some(16),
            Self::Float16 { .. } => Some(10),
        }
    }

    /// Rounds the operands of all products of a graph.
    pub(crate) fn lower(self, graph: &mut Graph) {
        let Some(code) = self.code() else { return };
        let mut rounded: HashMap<String, String> = HashMap::new();
        let cast = |name: &str, from: String, to: String, code: i64| Node {
            name: name.to_owned(),
            operator: "Cast".into(),
            inputs: vec![from],
            outputs: vec![to],
            attributes: vec![attribute::int("to", code)],
        };
        for mut node in std::mem::take(&mut graph.nodes) {
            if !PRODUCTS.contains(&node.operator.as_str()) {
                graph.nodes.push(node);
                continue;
            }
            for name in node.inputs.iter_mut().filter(|name| !name.is_empty()) {
                let half = rounded.entry(name.clone()).or_insert_with(|| {
                    let half = format!("{name}/half");
                    graph.nodes.push(cast(&half, name.clone(), half.clone(), code));
                    half
                });
                name.clone_from(half);
            }
            let whole = node.outputs[0].clone();
            let half = format!("{whole}/half_result");
            node.outputs[0].clone_from(&half);
            graph.nodes.push(node);
            graph
                .nodes
                .push(cast(&whole, half, whole.clone(), ElementType::F32.code().into()));
        }
    }

    /// The states that a training has by its precision, single numbers, with what they begin with.
    pub(crate) fn states(self) -> Vec<(&'static str, f32)> {
        match self {
            Self::Float16 {
                loss_scale: LossScale::Constant(_),
            } => vec![(SKIPPED, 0.0)],
            Self::Float16 {
                loss_scale: LossScale::Adaptive { initial, .. },
            } => vec![(SKIPPED, 0.0), (FACTOR, initial as f32), (CLEAN, 0.0)],
            _ => Vec::new(),
        }
    }

    /// Multiplies the gradient from which all others are made.
    pub(crate) fn scale_seed(self, builder: &mut Builder, seed: String) -> String {
        let Self::Float16 { loss_scale } = self else {
            return seed;
        };
        let factor = match loss_scale {
            LossScale::Constant(factor) => builder.scalar(ElementType::F32, factor),
            LossScale::Adaptive { .. } => builder.input(FACTOR, TensorType::new(ElementType::F32, [])),
        };
        builder.node("Mul", &[&seed, &factor], Vec::new())
    }

    /// Divides the gradients again; also says, as a truth value, whether all are finite.
    pub(crate) fn restore(self, builder: &mut Builder, gradients: &mut [String]) -> Option<String> {
        let Self::Float16 { loss_scale } = self else {
            return None;
        };
        let factor = match loss_scale {
            LossScale::Constant(factor) => builder.scalar(ElementType::F32, 1.0 / factor),
            // A power of two times the first factor: nothing is lost by the division.
            LossScale::Adaptive { .. } => builder.node("Reciprocal", &[FACTOR], Vec::new()),
        };
        let zero = builder.scalar(ElementType::F32, 0.0);
        let mut nothing = Vec::new();
        for gradient in gradients {
            *gradient = builder.node("Mul", &[gradient, &factor], Vec::new());
            // Zero, unless a number is not finite.
            let zeros = builder.node("Mul", &[gradient, &zero], Vec::new());
            nothing.push(builder.node("ReduceSum", &[&zeros], vec![attribute::int("keepdims", 0)]));
        }
        let nothing: Vec<&str> = nothing.iter().map(String::as_str).collect();
        let sum = builder.node("Sum", &nothing, Vec::new());
        Some(builder.node("Equal", &[&sum, &zero], Vec::new()))
    }

    /// What follows the values of [`Self::states`] after a step with or without finite gradients, by name.
    pub(crate) fn next_states(self, builder: &mut Builder, is_finite: &str) -> Vec<(&'static str, String)> {
        let number = |builder: &mut Builder, value: f64| builder.scalar(ElementType::F32, value);
        let Self::Float16 { loss_scale } = self else {
            return Vec::new();
        };
        let (zero, one) = (number(builder, 0.0), number(builder, 1.0));
        let skipped = builder.input(SKIPPED, TensorType::new(ElementType::F32, []));
        let more = builder.node("Add", &[&skipped, &one], Vec::new());
        let mut next = vec![(
            SKIPPED,
            builder.node("Where", &[is_finite, &skipped, &more], Vec::new()),
        )];
        if let LossScale::Adaptive { interval, .. } = loss_scale {
            let clean = builder.input(CLEAN, TensorType::new(ElementType::F32, []));
            let [lowest, highest] = LossScale::LIMITS.map(|limit| number(builder, limit));
            let (half, two) = (number(builder, 0.5), number(builder, 2.0));
            let half = builder.node("Mul", &[FACTOR, &half], Vec::new());
            let half = builder.node("Max", &[&half, &lowest], Vec::new());
            let double = builder.node("Mul", &[FACTOR, &two], Vec::new());
            let double = builder.node("Min", &[&double, &highest], Vec::new());
            let count = builder.node("Add", &[&clean, &one], Vec::new());
            let enough = number(builder, interval as f64);
            let is_few = builder.node("Less", &[&count, &enough], Vec::new());
            let grown = builder.node("Where", &[&is_few, FACTOR, &double], Vec::new());
            let count = builder.node("Where", &[&is_few, &count, &zero], Vec::new());
            next.push((FACTOR, builder.node("Where", &[is_finite, &grown, &half], Vec::new())));
            next.push((CLEAN, builder.node("Where", &[is_finite, &count, &zero], Vec::new())));
        }
        next
    }

    /// Checks by a product that the engine rounds, before anything is trained.
    pub(crate) fn check(self, engine: &dyn Engine) -> Result<(), TrainingError> {
        if self.is_single() {
            return Ok(());
        }
        let refuse = |finding: &str| {
            TrainingError::Mismatch(format!(
                "`training.precision` is `{}`, which {} cannot compute on the device `{}`: {finding}; use `float32`, or \
                 `--device cuda` where there is a GPU",
                self.name(),
                engine.version(),
                engine.device()
            ))
        };
        let mut builder = Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, [1, 1]));
        let y = builder.node("MatMul", &[&x, &x], Vec::new());
        builder.output("y", &y);
        let mut graph = builder.finish();
        self.lower(&mut graph);
        // One, and a quarter of what float16 still tells from one.
        let value = 1.0 + 2.0f32.powi(-12);
        let results = engine
            .run(&graph, vec![("x".into(), Tensor::f32([1, 1], vec![value]))])
            .map_err(|error| refuse(&error.to_string()))?;
        match results.first().and_then(Tensor::as_f32) {
            Some([found]) if found.to_bits() == 1.0f32.to_bits() => Ok(()),
            _ => Err(refuse("it computes in single precision")),
        }
    }
}
