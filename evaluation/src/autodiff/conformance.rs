//! Checks every registered rule through ONNX Runtime against central differences.
//!
//! A case is one node with variable and constant inputs. The scalar is `Σ R·y` over the node's floating-point outputs
//! with fixed pseudo-random `R`. Graphs are in double precision where ONNX Runtime has such a kernel, else in single.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use crate::autodiff::{differentiate, operators};
use crate::engine::reference::Reference;
use crate::engine::{Engine, Feed, testing};
use crate::graph::proto::AttributeProto;
use crate::graph::{Builder, ElementType, Elements, Graph, Node, OPSET, Tensor, TensorType};

/// Step of the central difference and what may remain, per precision.
struct Tolerance {
    step: f64,
    relative: f64,
}

const DOUBLE: Tolerance = Tolerance {
    step: 1e-5,
    relative: 1e-7,
};
const SINGLE: Tolerance = Tolerance {
    step: 1e-2,
    relative: 3e-3,
};

/// One node whose gradients are checked.
#[derive(Debug, Clone)]
pub(super) struct Case {
    operator: &'static str,
    inputs: Vec<Input>,
    attributes: Vec<AttributeProto>,
    outputs: usize,
    using: usize,
    single: bool,
    rough: bool,
    opset: i64,
}

#[derive(Debug, Clone)]
enum Input {
    Variable { shape: Vec<usize>, range: Range<f64> },
    Constant(Tensor),
    FloatConstant { shape: Vec<usize>, values: Vec<f64> },
    Absent,
}

impl Case {
    pub(super) fn new(operator: &'static str) -> Self {
        Self {
            operator,
            inputs: Vec::new(),
            attributes: Vec::new(),
            outputs: 1,
            using: usize::MAX,
            single: false,
            rough: false,
            opset: OPSET,
        }
    }

    /// A variable with values from a range.
    pub(super) fn input(mut self, shape: impl Into<Vec<usize>>, range: Range<f64>) -> Self {
        self.inputs.push(Input::Variable {
            shape: shape.into(),
            range,
        });
        self
    }

    pub(super) fn constant(mut self, tensor: Tensor) -> Self {
        self.inputs.push(Input::Constant(tensor));
        self
    }

    /// A constant of the graph's floating-point type.
    pub(super) fn float_constant(mut self, shape: &[usize], values: Vec<f64>) -> Self {
        self.inputs.push(Input::FloatConstant {
            shape: shape.to_vec(),
            values,
        });
        self
    }

    pub(super) fn absent(mut self) -> Self {
        self.inputs.push(Input::Absent);
        self
    }

    pub(super) fn attribute(mut self, attribute: AttributeProto) -> Self {
        self.attributes.push(attribute);
        self
    }

    pub(super) fn outputs(mut self, outputs: usize) -> Self {
        self.outputs = outputs;
        self
    }

    /// The scalar depends on the first `outputs` outputs only.
    pub(super) fn using(mut self, outputs: usize) -> Self {
        self.using = outputs;
        self
    }

    /// Check in single precision only.
    pub(super) fn single(mut self) -> Self {
        self.single = true;
        self
    }

    /// ONNX Runtime's kernel for double precision computes in single precision.
    pub(super) fn rough(mut self) -> Self {
        self.rough = true;
        self
    }

    /// The first operator set that has the node in this form, where it is not the oldest of ours.
    pub(super) fn opset(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    /// The node alone, and the starting values of its variables.
    fn forward(&self, element: ElementType) -> (Builder, Vec<(String, Tensor)>) {
        let graph = Graph {
            opset: self.opset,
            ..Graph::default()
        };
        let mut builder = Builder::extending(graph, HashMap::new());
        let mut values = Vec::new();
        let mut inputs = Vec::new();
        for (index, input) in self.inputs.iter().enumerate() {
            let name = match input {
                Input::Variable { shape, range } => {
                    let name = builder.input(&format!("x{index}"), TensorType::new(element, shape.clone()));
                    let count = shape.iter().product();
                    let numbers = (0..count).map(|at| range.start + (range.end - range.start) * unit(index, at));
                    let tensor = Tensor::new(shape.clone(), Elements::F64(numbers.collect())).cast_float(element);
                    values.push((name.clone(), tensor));
                    name
                }
                Input::Constant(tensor) => builder.constant(tensor.clone()),
                Input::FloatConstant { shape, values } => {
                    builder.constant(Tensor::new(shape.clone(), Elements::F64(values.clone())).cast_float(element))
                }
                Input::Absent => String::new(),
            };
            inputs.push(name);
        }
        builder.push_node(Node {
            name: "node".into(),
            operator: self.operator.into(),
            inputs,
            outputs: (0..self.outputs).map(|index| format!("y{index}")).collect(),
            attributes: self.attributes.clone(),
        });
        (builder, values)
    }
}

/// A number in (0, 1) that depends on two counters only.
fn unit(stream: usize, at: usize) -> f64 {
    (((at + 1) as f64 * 0.618_033_988_749_895 + stream as f64 * 0.754_877_666_246_693).fract() * 0.98) + 0.01
}

/// The graphs of a case in one precision.
struct Prepared {
    forward: Graph,
    /// The same in the operators that were differentiated.
    expanded: Graph,
    /// Its outputs are the gradients of the variables.
    backward: Graph,
    values: Vec<(String, Tensor)>,
    /// `R` for each output that the scalar depends on.
    weights: Vec<Tensor>,
    element: ElementType,
    /// Whether the node draws random numbers, which no two sessions share unless they are new.
    random: bool,
}

fn refused(error: &dyn std::fmt::Display) -> String {
    format!("refused: {error}")
}

fn prepare(engine: &dyn Engine, case: &Case, element: ElementType) -> Result<Prepared, String> {
    let (mut builder, values) = case.forward(element);
    // Types come from the form in single precision, for which there are kernels.
    let mut types = engine
        .types(case.forward(ElementType::F32).0.graph())
        .map_err(|error| error.to_string())?;
    for (name, kind) in &mut types {
        if kind.element == ElementType::F32 {
            kind.element = element;
        }
        builder.declare(name, kind.clone());
    }
    let mut used = Vec::new();
    let mut weights = Vec::new();
    for index in 0..case.outputs.min(case.using) {
        let name = format!("y{index}");
        let kind = types
            .get(&name)
            .ok_or_else(|| format!("the type of `{name}` is unknown"))?;
        if kind.element.is_float() {
            let numbers: Vec<f64> = (0..kind.len()).map(|at| unit(7 + index, at) * 2.0 - 1.0).collect();
            weights.push(Tensor::new(kind.shape.clone(), Elements::F64(numbers)).cast_float(kind.element));
            used.push(name);
        }
    }
    let seeds: Vec<(String, String)> = used
        .iter()
        .zip(&weights)
        .map(|(name, weight)| (name.clone(), builder.constant(weight.clone())))
        .collect();
    let wanted: Vec<String> = values.iter().map(|(name, _)| name.clone()).collect();
    let mut forward: Graph = builder.graph().clone();
    forward.outputs.clone_from(&used);
    let gradients = differentiate(&mut builder, &seeds, &wanted).map_err(|error| error.to_string())?;
    let mut expanded: Graph = builder.graph().clone();
    expanded.outputs.clone_from(&used);
    expanded.prune();
    for (index, gradient) in gradients.iter().enumerate() {
        let gradient = gradient
            .as_ref()
            .ok_or_else(|| format!("variable {index} has no gradient"))?;
        builder.output(&format!("gradient{index}"), gradient);
    }
    Ok(Prepared {
        forward,
        expanded,
        backward: builder.finish(),
        values,
        weights,
        element,
        random: case.operator == "Dropout",
    })
}

impl Prepared {
    /// The rule's gradients against central differences, both through one engine.
    fn differences(&self, engine: &dyn Engine, forward: &Graph) -> Result<(), String> {
        let tolerance = if self.element == ElementType::F64 {
            DOUBLE
        } else {
            SINGLE
        };
        let found = engine
            .run(&self.backward, self.values.clone())
            .map_err(|error| refused(&error))?;
        let mut points = Vec::new();
        for (variable, (_, tensor)) in self.values.iter().enumerate() {
            for position in 0..tensor.elements.len() {
                for sign in [1.0, -1.0] {
                    let mut moved = self.values.clone();
                    let mut numbers = tensor.to_f64().expect("variables are floating-point");
                    numbers[position] += sign * tolerance.step;
                    moved[variable].1 =
                        Tensor::new(tensor.shape.clone(), Elements::F64(numbers)).cast_float(self.element);
                    points.push(moved);
                }
            }
        }
        let mut outputs = Vec::new();
        // A session of its own for each point repeats the seeded draws of random operators.
        let at_once = if self.random { 1 } else { points.len().max(1) };
        for points in points.chunks(at_once) {
            outputs.extend(engine.run_each(forward, points).map_err(|error| refused(&error))?);
        }
        let mut scalars = outputs.iter().map(|outputs| {
            let parts = outputs.iter().zip(&self.weights).map(|(y, weight)| {
                let (y, weight) = (numbers(y), numbers(weight));
                y.iter().zip(weight).map(|(y, weight)| y * weight).sum::<f64>()
            });
            parts.sum::<f64>()
        });
        for (found, (name, tensor)) in found.iter().zip(&self.values) {
            if found.shape != tensor.shape {
                return Err(format!(
                    "gradient of {name} has shape {:?}, expected {:?}",
                    found.shape, tensor.shape
                ));
            }
            for (position, analytic) in numbers(found).into_iter().enumerate() {
                let mut next = || scalars.next().expect("one scalar per point");
                let numeric = (next() - next()) / (2.0 * tolerance.step);
                let error = (analytic - numeric).abs();
                if error.is_nan() || error > tolerance.relative * (1.0 + numeric.abs()) {
                    return Err(format!(
                        "d/d{name}[{position}]: rule gives {analytic}, differences give {numeric}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// An engine and the reference interpreter give the same outputs and the same gradients.
    fn agreement(&self, engine: &dyn Engine) -> Result<(), String> {
        if self.random && self.values.len() < self.forward.nodes[0].inputs.len() {
            return Ok(());
        }
        // ONNX Runtime's own kernels hold some constants in single precision; those of gradients are ours.
        let of_gradients = if self.element == ElementType::F64 { 1e-11 } else { 1e-5 };
        let graphs = [
            (&self.forward, &self.expanded, 1e-5),
            (&self.backward, &self.backward, of_gradients),
        ];
        for (graph, expanded, tolerance) in graphs {
            let found = engine
                .run(graph, self.values.clone())
                .map_err(|error| refused(&error))?;
            let reference = Reference
                .run(expanded, self.values.clone())
                .map_err(|error| error.to_string())?;
            agree(&found, &reference, tolerance)?;
        }
        Ok(())
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_f64().expect("outputs and gradients are floating-point")
}

/// In double precision through ONNX Runtime; where it has no such kernel, the differences are those of the reference
/// interpreter, with which ONNX Runtime must agree in single precision.
fn check(engine: &dyn Engine, case: &Case) -> Result<(), String> {
    let in_precision = |element| {
        let prepared = prepare(engine, case, element)?;
        prepared.differences(engine, &prepared.forward)?;
        prepared.agreement(engine)
    };
    if case.single {
        return in_precision(ElementType::F32);
    }
    let outcome = if case.rough {
        Err("refused: not precise".to_owned())
    } else {
        in_precision(ElementType::F64)
    };
    match outcome {
        Err(message) if message.starts_with("refused") => {
            let prepared = prepare(engine, case, ElementType::F64)?;
            prepared.differences(&Reference, &prepared.expanded)?;
            prepare(engine, case, ElementType::F32)?.agreement(engine)
        }
        outcome => outcome,
    }
}

fn agree(found: &[Tensor], reference: &[Tensor], tolerance: f64) -> Result<(), String> {
    for (found, reference) in found.iter().zip(reference) {
        if found.shape != reference.shape {
            return Err(format!(
                "the engine gives the shape {:?}, the reference interpreter {:?}",
                found.shape, reference.shape
            ));
        }
        for (found, reference) in numbers(found).into_iter().zip(numbers(reference)) {
            let error = (found - reference).abs();
            if error.is_nan() || error > tolerance * (1.0 + reference.abs()) {
                return Err(format!(
                    "the engine gives {found}, the reference interpreter {reference}"
                ));
            }
        }
    }
    Ok(())
}

/// Checks the cases of one family on the embedded engine, against the reference interpreter and the types of ONNX
/// Runtime.
#[cfg(feature = "rten")]
pub(super) fn check_embedded(cases: &[Case]) {
    let engine = testing::embedded();
    let check = |case: &Case| {
        let forward = case.forward(ElementType::F32).0.finish();
        let (found, expected) = (engine.types(&forward), testing::engine().types(&forward));
        let (found, expected) = (found.unwrap(), expected.map_err(|error| error.to_string())?);
        for (name, kind) in &expected {
            if found.get(name) != Some(kind) {
                return Err(format!("`{name}` is {kind:?}, found {:?}", found.get(name)));
            }
        }
        prepare(engine, case, ElementType::F32)?.agreement(engine)
    };
    report(cases, check);
}

/// Checks the cases of one family.
pub(super) fn check_all(cases: &[Case]) {
    report(cases, |case| check(testing::engine(), case));
}

fn report(cases: &[Case], check: impl Fn(&Case) -> Result<(), String>) {
    let mut failures = Vec::new();
    for case in cases {
        if let Err(message) = check(case) {
            failures.push(format!("{case:?}: {message}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn every_registered_rule_has_a_case() {
    let covered: BTreeSet<&str> = super::FAMILIES
        .iter()
        .flat_map(|family| (family.cases)())
        .map(|case| case.operator)
        .collect();
    let missing: Vec<&str> = operators()
        .into_iter()
        .filter(|operator| !covered.contains(operator))
        .collect();
    assert!(missing.is_empty(), "rules without a test case: {missing:?}");
}

/// Gradients by the operators of our own that a machine puts in the place of standard ones.
fn by_machine(graph: &Graph, values: &[(String, Tensor)]) -> Vec<Tensor> {
    let engine = testing::engine();
    let types = engine.types(graph).unwrap();
    let results: Vec<TensorType> = graph.outputs.iter().map(|name| types[name].clone()).collect();
    let mut machine = engine.machine(0.0).unwrap();
    let program = machine.load(graph, &results).unwrap();
    let value = |name: &String| {
        values
            .iter()
            .find(|(other, _)| other == name)
            .unwrap()
            .1
            .as_f32()
            .unwrap()
    };
    let feeds: Vec<Feed<'_>> = graph.inputs.iter().map(|(name, _)| Feed::F32(value(name))).collect();
    machine.run(program, &feeds).unwrap();
    let result = |(index, kind): (usize, &TensorType)| {
        Tensor::f32(kind.shape.clone(), machine.result(program, index).unwrap().to_vec())
    };
    results.iter().enumerate().map(result).collect()
}

#[test]
fn every_shortcut_of_a_rule_gives_what_the_standard_nodes_give() {
    let mut seen = BTreeSet::new();
    for case in super::FAMILIES.iter().flat_map(|family| (family.cases)()) {
        let Ok(prepared) = prepare(testing::engine(), &case, ElementType::F32) else {
            continue;
        };
        let graph = &prepared.backward;
        let is_made = |name: &String| graph.nodes.iter().any(|node| node.outputs.contains(name));
        let shortcuts = graph.shortcuts.iter();
        let used: Vec<&Node> = shortcuts
            .filter(|shortcut| shortcut.outputs.iter().all(is_made))
            .collect();
        if used.is_empty() {
            continue;
        }
        let expected = Reference.run(graph, prepared.values.clone()).unwrap();
        if let Err(message) = agree(&by_machine(graph, &prepared.values), &expected, 1e-5) {
            panic!("{case:?}: {message}");
        }
        seen.extend(used.into_iter().map(|node| node.operator.clone()));
    }
    let all = [
        "ConvInputGradient",
        "ConvWeightGradient",
        "GeluGradient",
        "GeluTanhGradient",
        "LayerNormGradient",
        "LstmCell",
        "LstmCellGradient",
        "MaxPoolGradient",
        "ReluGradient",
        "SoftmaxGradient",
    ];
    assert_eq!(seen, BTreeSet::from(all.map(str::to_owned)));
}
