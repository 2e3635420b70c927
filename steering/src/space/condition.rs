//! When a dimension is part of a point.

use serde_json::Value;

/// The dimension exists only where `parent` has one of `values`. Several conditions of one dimension must all hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    /// Position of the parent dimension.
    pub(crate) parent: usize,
    /// The values of the parent under which the dimension exists.
    pub(crate) values: Vec<Value>,
}

impl Condition {
    /// Whether the condition holds; an absent parent fulfils nothing.
    pub(crate) fn holds(&self, parent: Option<&Value>) -> bool {
        parent.is_some_and(|value| self.values.iter().any(|wanted| same(wanted, value)))
    }
}

/// Whether two JSON values mean the same: numbers by value, all else exactly.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || matches!((left.as_f64(), right.as_f64()), (Some(a), Some(b)) if a.to_bits() == b.to_bits())
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_compared_by_value_and_other_things_exactly() {
        assert!(same(&json!(1), &json!(1.0)));
        assert!(!same(&json!(1), &json!(true)));
        assert!(!same(&json!(1), &json!("1")));
        assert!(same(&json!([1, "a"]), &json!([1, "a"])));
    }

    #[test]
    fn an_absent_parent_fulfils_no_condition() {
        let condition = Condition {
            parent: 0,
            values: vec![json!(2), json!(3)],
        };
        assert!(condition.holds(Some(&json!(3))));
        assert!(!condition.holds(Some(&json!(4))));
        assert!(!condition.holds(None));
    }
}
