//! Whether a point is one of the space.

use protocol::PointValue;
use protocol::error::{did_you_mean, pointer};
use protocol::{Point, Problem};

use super::{Dimension, Domain, Space};

impl Space {
    /// Everything that keeps `point` from being a point of this space: missing, unknown and inactive keys, values that a dimension
    /// does not have. Reserved keys are not looked at.
    #[must_use]
    pub fn problems(&self, point: &Point) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut assignment = self.blank();
        for &position in self.order() {
            let dimension = &self.dimensions()[position];
            let value = point.get(&dimension.name);
            let place = pointer("", &dimension.name);
            match (value, self.is_active(position, &assignment)) {
                (None, true) => problems.push(Problem::new("", format!("the key `{}` is missing", dimension.name))),
                (Some(_), false) => {
                    problems.push(Problem::new(
                        place,
                        "the dimension is inactive here, so the key must be absent",
                    ));
                }
                (Some(value), true) => match dimension.encode(value) {
                    Some(coordinate) => assignment.set(position, dimension.decode(coordinate)),
                    None => problems.push(Problem::new(
                        place,
                        format!("expected {}, found {value}", describe(dimension)),
                    )),
                },
                (None, false) => {}
            }
        }
        for (key, _) in point.hyperparameters() {
            if !self.dimensions().iter().any(|dimension| dimension.name == key) {
                let hint = did_you_mean(key, self.dimensions().iter().map(|dimension| dimension.name.as_str()));
                problems.push(Problem::new(
                    pointer("", key),
                    format!("no dimension has this name{hint}"),
                ));
            }
        }
        problems
    }
}

/// The values of a dimension in words.
fn describe(dimension: &Dimension) -> String {
    match &dimension.domain {
        Domain::Fixed(value) => value.to_string(),
        Domain::Categorical { categories, .. } => {
            let shown: Vec<String> = categories.iter().take(12).map(PointValue::to_string).collect();
            let more = if categories.len() > shown.len() { ", …" } else { "" };
            format!("one of {}{more}", shown.join(", "))
        }
        Domain::Numeric(numeric) => numeric.describe(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::space;
    use super::*;

    #[test]
    fn all_faults_of_a_point_are_found_at_once() {
        let space = space(&json!({
            "opt": {"method": "categorical", "dimension": {"categories": ["sgd", "adam"]}},
            "momentum": {"method": "uniform", "dimension": {"low": 0, "high": 1}, "if": {"opt": ["sgd"]}},
            "units": {"method": "quniform", "dimension": {"low": 16, "high": 64, "q": 16}},
            "batch": {"method": "uniformint", "dimension": {"low": 1, "high": 8}},
            "seed": {"method": "fixed", "dimension": {"value": 7}}
        }));
        let faults = |point: Value| -> String {
            let faults = space.problems(&Point::from(point.as_object().unwrap().clone()));
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            faults(json!({"opt": "adam", "units": 32, "batch": 8, "seed": 7, "hpo.n": 3})),
            ""
        );
        assert_eq!(
            faults(json!({"opt": "sgd", "momentum": 0.5, "units": 32.0, "batch": 1, "seed": 7.0})),
            ""
        );
        insta::assert_snapshot!(faults(json!({"opt": "adam", "momentum": 0.1, "units": 24, "batch": 1.5, "unit": 1})), @r"
        at `/momentum`: the dimension is inactive here, so the key must be absent
        at `/units`: expected an integer from 16 to 64 that is a multiple of 16, found 24
        at `/batch`: expected an integer from 1 to 8, found 1.5
        the key `seed` is missing
        at `/unit`: no dimension has this name; did you mean `units`?
        ");
    }
}
