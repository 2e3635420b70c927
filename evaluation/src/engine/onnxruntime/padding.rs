//! Padding that differs at both ends, for devices that refuse it.
//!
//! The CUDA provider hands a convolution, its transpose or a pool with such padding to the CPU, or refuses it. Here the
//! padding becomes a node of its own: `Pad` before a convolution or a pool, `Slice` behind a transposed convolution.

use crate::engine::types;
use crate::graph::{Builder, Graph, Node, Tensor, Window, attribute};

/// The graph with equal padding at both ends of every axis.
///
/// A pool that says where its greatest elements are keeps its padding, for which there is a kernel; so does a mean that
/// leaves padding out, which no padding of equal numbers gives.
pub(super) fn symmetric(graph: &Graph) -> Graph {
    if !graph.nodes.iter().any(has_padding) {
        return graph.clone();
    }
    let mut types = types::of_graph(graph);
    types.extend(graph.inputs.iter().cloned());
    let mut builder = Builder::extending(graph.clone(), types);
    for node in builder.take_nodes() {
        if !has_padding(&node) || rewrite(&mut builder, &node).is_none() {
            builder.push_node(node);
        }
    }
    builder.finish()
}

fn has_padding(node: &Node) -> bool {
    let covered = match node.operator.as_str() {
        "Conv" | "ConvTranspose" => true,
        "MaxPool" => node.output(1).is_none(),
        "AveragePool" => node.int("count_include_pad").unwrap_or(0) != 0,
        _ => false,
    };
    let rule = node.string("auto_pad").unwrap_or("NOTSET");
    let pads = node.ints("pads").unwrap_or(&[]);
    covered && (rule.starts_with("SAME") || pads[..pads.len() / 2] != pads[pads.len() / 2..])
}

/// Appends the nodes in the place of one; none where its padding is equal after all, or its shapes are not known.
fn rewrite(builder: &mut Builder, node: &Node) -> Option<()> {
    let x = node.input(0)?;
    let shape = shape_of(builder, x)?;
    let input = shape.get(2..)?.to_vec();
    let kernel = match node.operator.as_str() {
        "Conv" | "ConvTranspose" => shape_of(builder, node.input(1)?)?.get(2..)?.to_vec(),
        _ => Vec::new(),
    };
    let is_transposed = node.operator == "ConvTranspose";
    let (window, output) = if is_transposed {
        Window::transposed(node, &kernel, &input, None).ok()?
    } else {
        (Window::sliding(node, &kernel, &input).ok()?, Vec::new())
    };
    if window.begin == window.end {
        return None;
    }
    let mut bare = node.clone();
    let said = ["auto_pad", "pads", "output_shape"];
    bare.attributes
        .retain(|attribute| !said.iter().any(|name| attribute.name.as_deref() == Some(name)));
    if is_transposed {
        let name = format!("{}.whole", node.outputs[0]);
        bare.outputs[0].clone_from(&name);
        builder.push_node(bare);
        let ends: Vec<usize> = window
            .begin
            .iter()
            .zip(&output)
            .map(|(begin, size)| begin + size)
            .collect();
        let numbers = |sizes: &[usize]| sizes.iter().map(|size| *size as i64).collect::<Vec<_>>();
        let axes: Vec<i64> = (0..output.len()).map(|axis| axis as i64 + 2).collect();
        let starts = builder.ints(&numbers(&window.begin));
        let ends = builder.ints(&numbers(&ends));
        let axes = builder.ints(&axes);
        let part = builder.node("Slice", &[&name, &starts, &ends, &axes], Vec::new());
        builder.alias(&part, &node.outputs[0]);
        return Some(());
    }
    let around = |sizes: &[usize]| {
        [0, 0]
            .into_iter()
            .chain(sizes.iter().map(|size| *size as i64))
            .collect::<Vec<i64>>()
    };
    let pads = builder.ints(&[around(&window.begin), around(&window.end)].concat());
    let mut inputs = vec![x.to_owned(), pads];
    if node.operator == "MaxPool" {
        inputs.push(builder.constant(Tensor::f32([], vec![f32::MIN])));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let padded = builder.node("Pad", &inputs, Vec::new());
    bare.inputs[0] = padded;
    bare.attributes
        .push(attribute::ints("pads", &vec![0; 2 * window.kernel.len()]));
    builder.push_node(bare);
    Some(())
}

/// The shape of a tensor, also of one that was rounded to 16 bits, a type that we do not have.
fn shape_of(builder: &Builder, name: &str) -> Option<Vec<usize>> {
    if let Some(kind) = builder.type_of(name) {
        return Some(kind.shape.clone());
    }
    let node = builder.producer(name).filter(|node| node.operator == "Cast")?;
    Some(builder.type_of(node.input(0)?)?.shape.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing;
    use crate::graph::proto::AttributeProto;
    use crate::graph::{ElementType, TensorType};

    fn graph(operator: &str, shapes: [&[usize]; 2], attributes: Vec<AttributeProto>) -> (Graph, Vec<(String, Tensor)>) {
        let mut builder = Builder::new();
        let mut values = Vec::new();
        for (name, shape) in ["x", "w"].into_iter().zip(shapes) {
            if shape.is_empty() {
                continue;
            }
            let count = shape.iter().product();
            builder.input(name, TensorType::new(ElementType::F32, shape));
            let numbers = (0..count).map(|at| (at as f32 * 0.618).fract() - 0.7).collect();
            values.push((name.to_owned(), Tensor::f32(shape, numbers)));
        }
        let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
        let y = builder.node(operator, &names, attributes);
        builder.output("y", &y);
        (builder.finish(), values)
    }

    #[test]
    fn padding_in_nodes_of_its_own_gives_the_same() {
        let ints = attribute::ints;
        let pads = || ints("pads", &[0, 2, 1, 0]);
        let image: &[usize] = &[2, 3, 5, 6];
        let window = || vec![ints("kernel_shape", &[2, 3]), ints("strides", &[2, 1])];
        let counted = attribute::int("count_include_pad", 1);
        for (operator, kernel, attributes, kinds) in [
            ("Conv", &[4, 3, 2, 3][..], vec![pads()], ["Pad", "Conv"]),
            (
                "Conv",
                &[4, 3, 2, 2],
                vec![attribute::string("auto_pad", "SAME_LOWER"), ints("strides", &[2, 2])],
                ["Pad", "Conv"],
            ),
            (
                "ConvTranspose",
                &[3, 2, 3, 3],
                vec![pads(), ints("strides", &[2, 2]), ints("output_padding", &[1, 0])],
                ["ConvTranspose", "Slice"],
            ),
            ("MaxPool", &[], [window(), vec![pads()]].concat(), ["Pad", "MaxPool"]),
            (
                "AveragePool",
                &[],
                [window(), vec![pads(), counted]].concat(),
                ["Pad", "AveragePool"],
            ),
        ] {
            let (before, values) = graph(operator, [image, kernel], attributes);
            let after = symmetric(&before);
            let operators: Vec<&str> = after.nodes.iter().map(|node| node.operator.as_str()).collect();
            let operators: Vec<&str> = operators.into_iter().filter(|name| *name != "Identity").collect();
            assert_eq!(operators, kinds);
            let [found, expected] =
                [&after, &before].map(|graph| testing::engine().run(graph, values.clone()).unwrap());
            assert_eq!(found[0].shape, expected[0].shape, "{operator}");
            for (found, expected) in found[0].as_f32().unwrap().iter().zip(expected[0].as_f32().unwrap()) {
                assert!((found - expected).abs() < 1e-6, "{operator}: {found} is not {expected}");
            }
        }
    }

    #[test]
    fn equal_padding_and_positions_of_greatest_elements_stay() {
        let (even, _) = graph(
            "Conv",
            [&[1, 1, 4, 4], &[1, 1, 3, 3]],
            vec![attribute::string("auto_pad", "SAME_UPPER")],
        );
        assert_eq!(symmetric(&even), even);
        let (mut pool, _) = graph(
            "MaxPool",
            [&[1, 1, 4, 4], &[]],
            vec![
                attribute::ints("kernel_shape", &[2, 2]),
                attribute::ints("pads", &[0, 0, 1, 1]),
            ],
        );
        pool.nodes[0].outputs.push("positions".into());
        assert_eq!(symmetric(&pool), pool);
    }
}
