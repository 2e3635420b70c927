//! Builds the programs of a training: the step, and the evaluation of a batch.

use super::TrainingError;
use super::custom::LossGraph;
use super::losses::{self, Given};
use super::lowering::{self, Mask};
use super::optimizers::Settings;
use super::plan::TrainingPlan;
use crate::autodiff::differentiate;
use crate::engine::{Engine, NEXT};
use crate::graph::{Builder, ElementType, Graph, Node, TensorType, attribute};
use crate::model::import::Imported;

/// Names of the constants that hold the data, and of the feed that picks rows.
pub(crate) const TRAIN_INPUTS: &str = "data/train/inputs";
pub(crate) const TRAIN_TARGETS: &str = "data/train/targets";
pub(crate) const TRAIN_WEIGHTS: &str = "data/train/weights";
pub(crate) const VALIDATION_INPUTS: &str = "data/validation/inputs";
pub(crate) const VALIDATION_TARGETS: &str = "data/validation/targets";
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
    /// Numbers that the model predicts per row; none for whatever the model gives, to a loss graph.
    pub(crate) outputs: Option<usize>,
    /// Numbers that are to be predicted per row.
    pub(crate) targets: usize,
    /// Whether the targets are classes, as integers.
    pub(crate) labels: bool,
    /// Factors of the classes in the loss.
    pub(crate) class_weights: Option<Vec<f64>>,
    /// Whether the training rows have weights.
    pub(crate) weighted: bool,
    /// The loss, when it is a graph of its own.
    pub(crate) loss: Option<LossGraph>,
    /// Which inputs come with each batch.
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
    /// What the scalars of the optimiser are computed for, in the order in which they are fed.
    pub(crate) settings: Vec<Settings>,
}

/// The evaluation of a batch.
#[derive(Debug)]
pub(crate) struct Evaluation {
    pub(crate) graph: Graph,
    /// Types of its results: the prediction, and the loss where that is a graph.
    pub(crate) results: Vec<TensorType>,
}

/// Name of an optimiser slot of a parameter.
pub(crate) fn slot_name(slot: &str, parameter: &str) -> String {
    format!("optimizer/{slot}/{parameter}")
}

/// Name of the moving average of a parameter.
pub(crate) fn average_name(parameter: &str) -> String {
    format!("average/{parameter}")
}

impl Recipe<'_> {
    /// The step: gather, forward, loss, gradients, update.
    pub(crate) fn step(&self, batch: usize, rows: usize) -> Result<Step, TrainingError> {
        let (mut graph, lowered) = self.lowered_graph(batch, rows)?;
        graph.outputs = vec![self.imported.output.clone()];
        graph
            .outputs
            .extend(lowered.running.iter().map(|(_, next)| next.clone()));
        if let Some(loss) = &self.loss {
            self.gather_targets(&mut graph, TRAIN_TARGETS, rows);
            loss.add_to(&mut graph, &self.imported.output);
        }
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
        let weights = self.weighted.then(|| {
            builder.input(TRAIN_WEIGHTS, TensorType::new(ElementType::F32, [rows]));
            builder.node("Gather", &[TRAIN_WEIGHTS, ROWS], vec![attribute::int("axis", 0)])
        });
        let (loss, seed) = if let Some(graph) = &self.loss {
            let kind = graph.value_type(&builder, batch)?;
            let (mean, gradient) = losses::mean_of_graph(&mut builder, graph.value(), weights.as_deref(), &kind.shape);
            (mean, (graph.value().to_owned(), gradient))
        } else {
            let (prediction, outputs) = self.prediction(&mut builder, batch)?;
            builder.input(TRAIN_TARGETS, self.target_type(rows));
            let target = builder.node("Gather", &[TRAIN_TARGETS, ROWS], vec![attribute::int("axis", 0)]);
            let given = Given {
                z: &prediction,
                target: &target,
                labels: self.labels,
                weights: weights.as_deref(),
                classes: self.class_weights.as_deref(),
                rows: batch,
                outputs,
                targets: self.targets,
            };
            let (value, gradient) = losses::append(&mut builder, &self.plan.loss, given);
            (value, (prediction, gradient))
        };

        let candidates: Vec<String> = self
            .imported
            .candidates
            .iter()
            .filter(|name| builder.constant_value(name).is_some())
            .cloned()
            .collect();
        let precision = self.plan.precision;
        let seed = (seed.0, precision.scale_seed(&mut builder, seed.1));
        let gradients = differentiate(&mut builder, &[seed], &candidates)?;
        let (parameters, mut gradients): (Vec<String>, Vec<String>) = candidates
            .into_iter()
            .zip(gradients)
            .filter_map(|(name, gradient)| gradient.map(|gradient| (name, gradient)))
            .unzip();
        if parameters.is_empty() {
            return Err(TrainingError::Mismatch("the model has no trainable weights".into()));
        }
        let is_finite = precision.restore(&mut builder, &mut gradients);
        if let Some(largest) = self.plan.clip_value {
            gradients = clip_values(&mut builder, &gradients, largest);
        }
        if let Some(largest) = self.plan.clip_norm {
            gradients = clip(&mut builder, &gradients, largest);
        }
        let optimizer = &self.plan.optimizer;
        let ranks: Vec<(String, usize)> = parameters
            .iter()
            .map(|name| (name.clone(), builder.type_of(name).map_or(0, |kind| kind.shape.len())))
            .collect();
        let (settings, setting_of) = optimizer.settings(&ranks).map_err(TrainingError::Mismatch)?;
        let scalars = optimizer.add_scalars(&mut builder, &settings);
        let average = self.plan.average.map(|_| {
            ["decay", "rest"]
                .map(|name| builder.input(&format!("feed/average/{name}"), TensorType::new(ElementType::F32, [])))
        });
        let mut next = Vec::new();
        for ((parameter, gradient), setting) in parameters.iter().zip(&gradients).zip(setting_of) {
            let kind = builder.promote(parameter);
            let slots: Vec<String> = optimizer
                .rule
                .slots()
                .iter()
                .map(|(slot, _)| builder.input(&slot_name(slot, parameter), kind.clone()))
                .collect();
            let (value, slot_values) = optimizer.append(
                &mut builder,
                settings[setting],
                &scalars[setting],
                parameter,
                gradient,
                &slots,
            );
            if let Some([decay, rest]) = &average {
                let name = builder.input(&average_name(parameter), kind.clone());
                let kept = builder.node("Mul", &[&name, decay], Vec::new());
                let new = builder.node("Mul", &[&value, rest], Vec::new());
                let sum = builder.node("Add", &[&kept, &new], Vec::new());
                next.push((name, sum));
            }
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
        for (name, mut value) in next {
            if let Some(is_finite) = &is_finite {
                value = builder.node("Where", &[is_finite, &value, &name], Vec::new());
            }
            builder.output(&format!("{name}{NEXT}"), &value);
        }
        if let Some(is_finite) = &is_finite {
            for (name, value) in precision.next_states(&mut builder, is_finite) {
                builder.output(&format!("{name}{NEXT}"), &value);
            }
        }
        let mut graph = builder.finish();
        precision.lower(&mut graph);
        Ok(Step {
            graph,
            masks,
            parameters,
            running,
            settings,
        })
    }

    /// The evaluation of a batch of the validation set. `states` are the names of the model's changing tensors, with
    /// the names of the states that hold them.
    pub(crate) fn evaluation(
        &self,
        batch: usize,
        rows: usize,
        states: &[(String, String)],
    ) -> Result<Evaluation, TrainingError> {
        let mut graph = self.imported.graph.clone();
        lowering::for_inference(&mut graph);
        self.gather(&mut graph, VALIDATION_INPUTS, batch, rows);
        graph.outputs = vec![self.imported.output.clone()];
        if let Some(loss) = &self.loss {
            self.gather_targets(&mut graph, VALIDATION_TARGETS, rows);
            loss.add_to(&mut graph, &self.imported.output);
        }
        let (mut graph, types) = self.imported.fix(self.engine, graph)?;
        graph.outputs.clear();
        for (name, state) in states {
            if name != state {
                graph.rename(name, state);
            }
        }
        let mut builder = Builder::extending(graph, types);
        let (prediction, outputs) = self.prediction(&mut builder, batch)?;
        for (_, state) in states {
            if builder.constant_value(state).is_some() {
                builder.promote(state);
            }
        }
        builder.output("prediction/result", &prediction);
        let mut results = vec![TensorType::new(ElementType::F32, [batch, outputs])];
        if let Some(loss) = &self.loss {
            results.push(loss.value_type(&builder, batch)?);
            builder.output("loss/result", loss.value());
        }
        let mut graph = builder.finish();
        self.plan.precision.lower(&mut graph);
        Ok(Evaluation { graph, results })
    }

    /// Type of all targets of `rows` rows.
    fn target_type(&self, rows: usize) -> TensorType {
        if self.labels {
            TensorType::new(ElementType::I64, [rows])
        } else {
            TensorType::new(ElementType::F32, [rows, self.targets])
        }
    }

    /// Adds the gathering of the targets of a batch for a loss graph.
    fn gather_targets(&self, graph: &mut Graph, data: &str, rows: usize) {
        graph.inputs.push((data.to_owned(), self.target_type(rows)));
        graph.nodes.push(Node {
            name: "gather_targets".into(),
            operator: "Gather".into(),
            inputs: vec![data.to_owned(), ROWS.to_owned()],
            outputs: vec![LossGraph::TARGET.to_owned()],
            attributes: vec![attribute::int("axis", 0)],
        });
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

    /// The prediction as `[batch, outputs]`, with the number of outputs.
    fn prediction(&self, builder: &mut Builder, batch: usize) -> Result<(String, usize), TrainingError> {
        let name = &self.imported.output;
        let kind = builder.type_of(name).cloned().ok_or_else(|| {
            TrainingError::Mismatch(format!(
                "the shape of the model's output `{name}` is not known before running"
            ))
        })?;
        let outputs = self.outputs.unwrap_or(kind.len() / batch);
        let wanted = [batch, outputs];
        if kind.shape == wanted {
            return Ok((name.clone(), outputs));
        }
        if kind.shape.first() != Some(&batch) || kind.len() != batch * outputs {
            let message = format!(
                "the model's output `{name}` has shape {:?} for a batch of {batch} rows, the data needs {wanted:?}; \
                 if the first number is not the batch size, export the model with a dynamic batch dimension",
                kind.shape
            );
            return Err(TrainingError::Mismatch(message));
        }
        let shape = builder.ints(&[batch as i64, outputs as i64]);
        let name = builder.node("Reshape", &[name, &shape], Vec::new());
        builder.declare(&name, TensorType::new(ElementType::F32, wanted));
        Ok((name, outputs))
    }
}

/// Cuts each number of the gradients to at most `largest` in size.
fn clip_values(builder: &mut Builder, gradients: &[String], largest: f64) -> Vec<String> {
    let low = builder.scalar(ElementType::F32, -largest);
    let high = builder.scalar(ElementType::F32, largest);
    gradients
        .iter()
        .map(|gradient| builder.node("Clip", &[gradient, &low, &high], Vec::new()))
        .collect()
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
