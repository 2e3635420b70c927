//! Normalisations.

use super::{Layout, Start, Writer, Written};
use crate::graph::{Tensor, attribute};

impl Writer {
    pub(super) fn batch_norm(&mut self, name: &str, momentum: f64, epsilon: f64) -> Written {
        if self.shape.len() == 2 && self.layout == Layout::Sequence {
            return Err("normalises features or channels, found sequences; use `layer_norm`".into());
        }
        let channels = self.shape.first().copied().unwrap_or(1);
        let inputs: Vec<String> = [("scale", 1.0), ("bias", 0.0), ("mean", 0.0), ("variance", 1.0)]
            .into_iter()
            .map(|(part, value)| self.weight(&format!("{name}.{part}"), &[channels], Start::Filled(value)))
            .collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        // The file format's momentum is the share of the old value.
        let attributes = vec![
            attribute::float("momentum", (1.0 - momentum) as f32),
            attribute::float("epsilon", epsilon as f32),
        ];
        self.node(name, "BatchNormalization", &inputs, attributes);
        Ok(())
    }

    pub(super) fn layer_norm(&mut self, name: &str, epsilon: f64) {
        let features = self.features();
        let scale = self.weight(&format!("{name}.scale"), &[features], Start::Filled(1.0));
        let bias = self.weight(&format!("{name}.bias"), &[features], Start::Filled(0.0));
        let attributes = vec![attribute::float("epsilon", epsilon as f32)];
        self.node(name, "LayerNormalization", &[&scale, &bias], attributes);
    }

    /// Reshaped so that each group is a channel, normalised by itself, and scaled by channel: the form that older
    /// operator sets have too.
    pub(super) fn group_norm(&mut self, name: &str, groups: Option<usize>, epsilon: f64) -> Written {
        let is_image = self.shape.len() > 2 || (self.shape.len() == 2 && self.layout == Layout::Image);
        if !is_image {
            return Err(format!(
                "needs images, found rows of shape {:?}; use `layer_norm`",
                self.shape
            ));
        }
        let shape = self.shape.clone();
        let channels = shape[0];
        let groups = groups.unwrap_or(channels);
        if !channels.is_multiple_of(groups) {
            return Err(format!("`groups` ({groups}) must divide the channels ({channels})"));
        }
        let size = shape.iter().product::<usize>() / groups;
        self.reshaped(&format!("{name}.split"), &[groups, size]);
        let ones = self.constant(format!("{name}.ones"), Tensor::f32([], vec![1.0]));
        let zeros = self.constant(format!("{name}.zeros"), Tensor::f32([], vec![0.0]));
        let sizes = self.constant(format!("{name}.groups"), Tensor::ints(vec![groups as i64]));
        // Scalars spread to vectors are constants that nobody trains, which vectors in the file would be taken for.
        let ones = self.apply(&format!("{name}.spread_ones"), "Expand", &[&ones, &sizes], Vec::new());
        let zeros = self.apply(&format!("{name}.spread_zeros"), "Expand", &[&zeros, &sizes], Vec::new());
        let attributes = vec![attribute::float("epsilon", epsilon as f32)];
        self.node(name, "InstanceNormalization", &[&ones, &zeros], attributes);
        self.reshaped(&format!("{name}.join"), &shape);
        let by_channel: Vec<usize> = std::iter::once(channels).chain(shape[1..].iter().map(|_| 1)).collect();
        let scale = self.weight(&format!("{name}.scale"), &by_channel, Start::Filled(1.0));
        let bias = self.weight(&format!("{name}.bias"), &by_channel, Start::Filled(0.0));
        self.node(&format!("{name}.scaled"), "Mul", &[&scale], Vec::new());
        self.node(&format!("{name}.shifted"), "Add", &[&bias], Vec::new());
        Ok(())
    }
}
