//! Every rule of the larger families against PyTorch's gradients, computed in double precision by
//! `tests/golden/evaluation/make_operator_gradients.py`.

use std::collections::HashMap;

use serde_json::Value;

use super::differentiate;
use crate::engine::reference::Reference;
use crate::engine::{Engine, testing};
use crate::graph::proto::AttributeProto;
use crate::graph::{Builder, ElementType, Elements, Graph, Node, Tensor, TensorType, attribute};

const ORACLE: &str = include_str!("../../../tests/golden/evaluation/operator_gradients.json");

fn floats(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list of numbers");
    list.iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn attribute_of(name: &str, value: &Value) -> AttributeProto {
    match value {
        Value::String(text) => attribute::string(name, text),
        Value::Array(list) if list.first().is_some_and(Value::is_string) => {
            let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            attribute::strings(name, &texts)
        }
        Value::Array(list) => {
            let numbers: Vec<i64> = list.iter().filter_map(Value::as_i64).collect();
            attribute::ints(name, &numbers)
        }
        Value::Number(number) if number.is_f64() => {
            attribute::float(name, number.as_f64().expect("a real number") as f32)
        }
        _ => attribute::int(name, value.as_i64().expect("a whole number")),
    }
}

/// The node of a case, with the values of its variables.
fn forward(case: &Value, element: ElementType) -> (Builder, Vec<(String, Tensor)>) {
    let graph = Graph {
        opset: case["opset"].as_i64().expect("an operator set"),
        ..Graph::default()
    };
    let mut builder = Builder::extending(graph, HashMap::new());
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (index, input) in case["inputs"].as_array().expect("inputs").iter().enumerate() {
        if input.is_null() {
            names.push(String::new());
            continue;
        }
        let shape: Vec<usize> = floats(&input["shape"]).iter().map(|size| *size as usize).collect();
        let numbers = floats(&input["values"]);
        let tensor = if input["type"] == "f64" {
            Tensor::new(shape.clone(), Elements::F64(numbers)).cast_float(element)
        } else {
            Tensor::new(
                shape.clone(),
                Elements::I64(numbers.iter().map(|number| *number as i64).collect()),
            )
        };
        if input["variable"] == true {
            let name = builder.input(&format!("x{index}"), TensorType::new(element, shape));
            values.push((name.clone(), tensor));
            names.push(name);
        } else {
            names.push(builder.constant(tensor));
        }
    }
    let attributes = case["attributes"].as_object().expect("attributes");
    let outputs = case["weights"].as_array().expect("weights").len();
    builder.push_node(Node {
        name: "node".into(),
        operator: case["operator"].as_str().expect("an operator").into(),
        inputs: names,
        outputs: (0..outputs).map(|index| format!("y{index}")).collect(),
        attributes: attributes
            .iter()
            .map(|(name, value)| attribute_of(name, value))
            .collect(),
    });
    (builder, values)
}

/// The largest deviation of the gradients from PyTorch's, relative to 1 and their own size.
fn deviation(engine: &dyn Engine, case: &Value, element: ElementType) -> f64 {
    let (mut builder, values) = forward(case, element);
    let single = forward(case, ElementType::F32).0;
    let types = testing::engine().types(single.graph()).expect("the node is understood");
    let mut seeds = Vec::new();
    for (index, weights) in case["weights"].as_array().expect("weights").iter().enumerate() {
        let name = format!("y{index}");
        let shape = types[&name].shape.clone();
        let weights = Tensor::new(shape.clone(), Elements::F64(floats(weights))).cast_float(element);
        builder.declare(&name, TensorType::new(element, shape));
        let weights = builder.constant(weights);
        seeds.push((name, weights));
    }
    let wanted: Vec<String> = values.iter().map(|(name, _)| name.clone()).collect();
    let gradients = differentiate(&mut builder, &seeds, &wanted).expect("the node has a rule");
    for (index, gradient) in gradients.iter().enumerate() {
        builder.output(
            &format!("gradient{index}"),
            gradient.as_ref().expect("every variable has a gradient"),
        );
    }
    let found = engine.run(&builder.finish(), values).expect("the graph runs");
    let expected = case["gradients"].as_array().expect("gradients");
    found
        .iter()
        .zip(expected)
        .flat_map(|(found, expected)| found.to_f64().expect("numbers").into_iter().zip(floats(expected)))
        .map(|(found, expected)| (found - expected).abs() / (1.0 + expected.abs()))
        .fold(0.0, f64::max)
}

fn check(engine: &dyn Engine, element: ElementType, tolerance: f64) {
    let cases: Vec<Value> = serde_json::from_str(ORACLE).expect("the oracle is JSON");
    for case in &cases {
        let deviation = deviation(engine, case, element);
        assert!(
            deviation < tolerance,
            "{} {}: {deviation}",
            case["operator"],
            case["attributes"]
        );
    }
}

#[test]
fn gradients_through_onnx_runtime_are_those_of_pytorch() {
    check(testing::engine(), ElementType::F32, 2e-6);
}

#[test]
fn gradients_through_the_reference_interpreter_are_those_of_pytorch() {
    check(&Reference, ElementType::F64, 2e-7);
}
