//! When a dimension is part of a point.

use protocol::PointValue;

/// The dimension exists only where `parent` has one of `values`. Several conditions of one dimension must all hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    /// Position of the parent dimension.
    pub(crate) parent: usize,
    /// The values of the parent under which the dimension exists.
    pub(crate) values: Vec<PointValue>,
}

impl Condition {
    /// Whether the condition holds; an absent parent fulfils nothing.
    pub(crate) fn holds(&self, parent: Option<&PointValue>) -> bool {
        parent.is_some_and(|value| self.values.iter().any(|wanted| same(wanted, value)))
    }
}

/// Whether two JSON values mean the same: numbers by value, all else exactly.
pub(crate) fn same(left: &PointValue, right: &PointValue) -> bool {
    match (left, right) {
        (PointValue::Number(left), PointValue::Number(right)) => {
            left == right || matches!((left.as_f64(), right.as_f64()), (Some(a), Some(b)) if a.to_bits() == b.to_bits())
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn numbers_are_compared_by_value_and_other_things_exactly() {
        let same = |left: Value, right: Value| same(&left.into(), &right.into());
        assert!(same(json!(1), json!(1.0)));
        assert!(!same(json!(1), json!(true)));
        assert!(!same(json!(1), json!("1")));
        assert!(same(json!([1, "a"]), json!([1, "a"])));
    }

    #[test]
    fn an_absent_parent_fulfils_no_condition() {
        let condition = Condition {
            parent: 0,
            values: vec![2.into(), 3.into()],
        };
        assert!(condition.holds(Some(&3.into())));
        assert!(!condition.holds(Some(&4.into())));
        assert!(!condition.holds(None));
    }
}
