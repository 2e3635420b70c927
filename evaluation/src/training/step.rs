//! Builds the programs of a training: the step, and the evaluation of a batch.

use std::collections::BTreeSet;

use super::TrainingError;
use super::losses;
use super::lowering::{self, Mask};
use super::optimizers;
use super::plan::TrainingPlan;
use crate::autodiff::differentiate;
use crate::engine::{Engine, NEXT};
use crate::graph::{Builder, ElementType, Graph, Node, TensorType, attribute};
use crate::model::import::Imported;

/// Names of the constants that hold the data, and of the feed that picks rows.
pub(crate) const TRAIN_INPUTS: &str = "data/train/inputs";
pub(crate) const TRAIN_TARGETS: &str = "data/train/targets";
pub(crate) const VALIDATION_INPUTS: &str = "data/validation/inputs";
const ROWS: &str = "feed/rows";

/// Which inputs come with each batch, instead of being gathered from a constant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fed {
    pub(crate) train: bool,
    pub(crate) validation: bool,
}

/// What the programs are built from.
#[derive(Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) plan: &'a TrainingPlan,
    pub(crate) imported: &'a Imported,
    /// Shape of one row as the model takes it.
    pub(crate) row_shape: Vec<usize>,
    /// Numbers that the model predicts per row.
    pub(crate) outputs: usize,
    /// Type of the targets of one row: a class or `outputs` numbers.
    pub(crate) classes: bool,
    pub(crate) fed: Fed,
}

/// The program of a training step for one batch size.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) graph: Graph,
    /// Masks with their lengths, fed after the rows.
    pub(crate) masks: Vec<(usize, f64)>,
    /// Names of the trained constants.
    pub(crate) parameters: Vec<String>,
    /// Names of the running statistics.
    pub(crate) running: Vec<String>,
}

/// Name of an optimiser slot of a parameter.
pub(crate) fn slot_name(slot: &str, parameter: &str) -> String {
    format!("optimizer/{slot}/{parameter}")
}

impl Recipe<'_> {
    /// The step: gather, forward, loss, gradients, update.
    pub(crate) fn step(&self, batch: usize, rows: usize) -> Result<Step, TrainingError> {
        let (mut graph, lowered) = self.lowered_graph(batch, rows)?;
        graph.outputs = vec![self.imported.output.clone()];
        graph
            .outputs
            .extend(lowered.running.iter().map(|(_, next)| next.clone()));
        let (graph, types) = self.imported.fix(self.engine, graph)?;
        let masks = lowered
            .masks
            .iter()
            .map(|mask| {
                let kind = graph.inputs.iter().find(|(name, _)| *name == mask.feed);
                kind.map(|(_, kind)| (kind.len(), mask.rate))
                    .expect("every mask is an input")
            })
            .collect();
        let mut forward = graph;
        forward.outputs.clear();
        let mut builder = Builder::extending(forward, types);
        let prediction = self.prediction(&mut builder, batch)?;

        let target_shape = if self.classes {
            vec![rows]
        } else {
            vec![rows, self.outputs]
        };
        let target_type = if self.classes {
            ElementType::I64
        } else {
            ElementType::F32
        };
        builder.input(TRAIN_TARGETS, TensorType::new(target_type, target_shape));
        let target = builder.node("Gather", &[TRAIN_TARGETS, ROWS], vec![attribute::int("axis", 0)]);
        let (loss, seed) = losses::append(&mut builder, &self.plan.loss, &prediction, &target, batch, self.outputs);

        let candidates: Vec<String> = self
            .imported
            .candidates
            .iter()
            .filter(|name| builder.constant_value(name).is_some())
            .cloned()
            .collect();
        let gradients = differentiate(&mut builder, &[(prediction, seed)], &candidates)?;
        let (parameters, mut gradients): (Vec<String>, Vec<String>) = candidates
            .into_iter()
            .zip(gradients)
            .filter_map(|(name, gradient)| gradient.map(|gradient| (name, gradient)))
            .unzip();
        if parameters.is_empty() {
            return Err(TrainingError::Mismatch("the model has no trainable weights".into()));
        }
        if let Some(largest) = self.plan.clip_norm {
            gradients = clip(&mut builder, &gradients, largest);
        }
        let scalars = optimizers::add_scalars(&mut builder, &self.plan.optimizer);
        let mut next = Vec::new();
        for (parameter, gradient) in parameters.iter().zip(&gradients) {
            let kind = builder.promote(parameter);
            let slots: Vec<String> = optimizers::slots(&self.plan.optimizer)
                .iter()
                .map(|slot| builder.input(&slot_name(slot, parameter), kind.clone()))
                .collect();
            let (value, slot_values) = optimizers::append(
                &mut builder,
                &self.plan.optimizer,
                &scalars,
                parameter,
                gradient,
                &slots,
            );
            next.push((parameter.clone(), value));
            next.extend(slots.into_iter().zip(slot_values));
        }
        let mut running = Vec::new();
        for (name, value) in lowered.running {
            builder.promote(&name);
            running.push(name.clone());
            next.push((name, value));
        }
        builder.output("loss", &loss);
        for (name, value) in next {
            builder.output(&format!("{name}{NEXT}"), &value);
        }
        Ok(Step {
            graph: builder.finish(),
            masks,
            parameters,
            running,
        })
    }

    /// The evaluation of a batch of the validation set; its only result is the prediction.
    pub(crate) fn evaluation(
        &self,
        batch: usize,
        rows: usize,
        states: &BTreeSet<String>,
    ) -> Result<Graph, TrainingError> {
        let mut graph = self.imported.graph.clone();
        lowering::for_inference(&mut graph);
        self.gather(&mut graph, VALIDATION_INPUTS, batch, rows);
        graph.outputs = vec![self.imported.output.clone()];
        let (mut graph, types) = self.imported.fix(self.engine, graph)?;
        graph.outputs.clear();
        let mut builder = Builder::extending(graph, types);
        let prediction = self.prediction(&mut builder, batch)?;
        for name in states {
            if builder.constant_value(name).is_some() {
                builder.promote(name);
            }
        }
        builder.output("prediction/result", &prediction);
        Ok(builder.finish())
    }

    /// Puts the gathering of a batch in front of the model, or the batch itself where it is fed.
    fn gather(&self, graph: &mut Graph, data: &str, batch: usize, rows: usize) {
        let fed = if data == TRAIN_INPUTS {
            self.fed.train
        } else {
            self.fed.validation
        };
        let mut shape = vec![if fed { batch } else { rows }];
        shape.extend_from_slice(&self.row_shape);
        graph.inputs = vec![
            (ROWS.to_owned(), TensorType::new(ElementType::I64, [batch])),
            (data.to_owned(), TensorType::new(ElementType::F32, shape)),
        ];
        let mut node = Node {
            name: "gather".into(),
            operator: "Gather".into(),
            inputs: vec![data.to_owned(), ROWS.to_owned()],
            outputs: vec![self.imported.input.clone()],
            attributes: vec![attribute::int("axis", 0)],
        };
        if fed {
            node.operator = "Identity".into();
            node.inputs.truncate(1);
            node.attributes.clear();
        }
        graph.nodes.insert(0, node);
    }

    /// The training form of the forward graph, with masks as inputs.
    fn lowered_graph(&self, batch: usize, rows: usize) -> Result<(Graph, lowering::Lowered), TrainingError> {
        // Shapes do not depend on the form, so they come from the form for inference.
        let mut plain = self.imported.graph.clone();
        lowering::for_inference(&mut plain);
        self.gather(&mut plain, TRAIN_INPUTS, batch, rows);
        plain.outputs = vec![self.imported.output.clone()];
        let needs_shapes = self
            .imported
            .graph
            .nodes
            .iter()
            .any(|node| matches!(node.operator.as_str(), "BatchNormalization" | "Dropout"));
        let mut graph = self.imported.graph.clone();
        self.gather(&mut graph, TRAIN_INPUTS, batch, rows);
        if !needs_shapes {
            return Ok((graph, lowering::Lowered::default()));
        }
        let (plain, types) = self.imported.fix(self.engine, plain)?;
        let shape_of = |name: &str| {
            types
                .get(name)
                .or_else(|| {
                    plain
                        .inputs
                        .iter()
                        .find(|(input, _)| input == name)
                        .map(|(_, kind)| kind)
                })
                .map(|kind| kind.shape.clone())
        };
        let lowered = lowering::for_training(&mut graph, &shape_of).map_err(TrainingError::Mismatch)?;
        for Mask { feed, tensor, .. } in &lowered.masks {
            let shape = shape_of(tensor).ok_or_else(|| {
                TrainingError::Mismatch(format!("the shape of `{tensor}` is not known before running"))
            })?;
            graph
                .inputs
                .push((feed.clone(), TensorType::new(ElementType::F32, shape)));
        }
        Ok((graph, lowered))
    }

    /// The prediction as `[batch, outputs]`.
    fn prediction(&self, builder: &mut Builder, batch: usize) -> Result<String, TrainingError> {
        let name = &self.imported.output;
        let kind = builder.type_of(name).cloned().ok_or_else(|| {
            TrainingError::Mismatch(format!(
                "the shape of the model's output `{name}` is not known before running"
            ))
        })?;
        let wanted = [batch, self.outputs];
        if kind.shape == wanted {
            return Ok(name.clone());
        }
        if kind.shape.first() != Some(&batch) || kind.len() != batch * self.outputs {
            let message = format!(
                "the model's output `{name}` has shape {:?} for a batch of {batch} rows, the data needs {wanted:?}; \
                 if the first number is not the batch size, export the model with a dynamic batch dimension",
                kind.shape
            );
            return Err(TrainingError::Mismatch(message));
        }
        let shape = builder.ints(&[batch as i64, self.outputs as i64]);
        let name = builder.node("Reshape", &[name, &shape], Vec::new());
        builder.declare(&name, TensorType::new(ElementType::F32, wanted));
        Ok(name)
    }
}

/// Scales gradients down so that their common Euclidean norm is at most `largest` (Pascanu et al. 2013).
fn clip(builder: &mut Builder, gradients: &[String], largest: f64) -> Vec<String> {
    let squares: Vec<String> = gradients
        .iter()
        .map(|gradient| builder.node("ReduceSumSquare", &[gradient], vec![attribute::int("keepdims", 0)]))
        .collect();
    let squares: Vec<&str> = squares.iter().map(String::as_str).collect();
    let sum = builder.node("Sum", &squares, Vec::new());
    let norm = builder.node("Sqrt", &[&sum], Vec::new());
    let small = builder.scalar(ElementType::F32, 1e-6);
    let norm = builder.node("Add", &[&norm, &small], Vec::new());
    let largest = builder.scalar(ElementType::F32, largest);
    let factor = builder.node("Div", &[&largest, &norm], Vec::new());
    let one = builder.scalar(ElementType::F32, 1.0);
    let factor = builder.node("Min", &[&factor, &one], Vec::new());
    gradients
        .iter()
        .map(|gradient| builder.node("Mul", &[gradient, &factor], Vec::new()))
        .collect()
}
