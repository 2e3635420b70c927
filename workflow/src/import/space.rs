//! Dimensions in the format of hpogrid.

use protocol::json::canonical;
use serde_json::{Map, Value, json};

use super::Trial;

/// Most values of a list that stands for a range with steps.
const MOST_VALUES: usize = 1_000;

pub(super) fn dimension(method: &str, keys: &Value) -> Value {
    json!({"method": method, "dimension": keys})
}

pub(super) fn categories(values: impl IntoIterator<Item = Value>) -> Value {
    let values: Vec<Value> = values.into_iter().collect();
    dimension("categorical", &json!({"categories": values}))
}

/// A range of real numbers, with a step from `low` on if there is one.
pub(super) fn reals(low: f64, high: f64, step: Option<f64>, log: bool) -> Value {
    if low.total_cmp(&high).is_eq() {
        return dimension("fixed", &json!({"value": low}));
    }
    match step.filter(|step| *step > 0.0) {
        Some(step) if (high - low) / step < MOST_VALUES as f64 => {
            let count = ((high - low) / step + 1e-8).floor() as usize;
            categories((0..=count).map(|index| json!(low + index as f64 * step)))
        }
        _ if log && low > 0.0 => dimension("loguniform", &json!({"low": low, "high": high})),
        _ => dimension("uniform", &json!({"low": low, "high": high})),
    }
}

/// A range of integers, with a step from `low` on.
pub(super) fn integers(low: i64, high: i64, step: i64, log: bool) -> Value {
    if low == high {
        return dimension("fixed", &json!({"value": low}));
    }
    let values = high.saturating_sub(low) / step.max(1);
    if step > 1 && values < MOST_VALUES as i64 {
        return categories((0..=values).map(|index| json!(low + index * step)));
    }
    let method = if log && low > 0 { "loguniformint" } else { "uniformint" };
    dimension(method, &json!({"low": low, "high": high}))
}

/// A space around all points: ranges from the least to the greatest value, logarithmic where that spans two orders of magnitude.
pub(super) fn guessed(trials: &[Trial]) -> Map<String, Value> {
    let mut space = Map::new();
    for key in trials.iter().flat_map(|trial| trial.point.keys()) {
        if space.contains_key(key) {
            continue;
        }
        let values: Vec<&Value> = trials.iter().filter_map(|trial| trial.point.get(key)).collect();
        space.insert(key.clone(), around(&values));
    }
    space
}

fn around(values: &[&Value]) -> Value {
    let numbers: Option<Vec<f64>> = values.iter().map(|value| value.as_f64()).collect();
    let integers_only: Option<Vec<i64>> = values.iter().map(|value| value.as_i64()).collect();
    if let Some(numbers) = integers_only {
        let (low, high) = (numbers.iter().min(), numbers.iter().max());
        return integers(low.copied().unwrap_or(0), high.copied().unwrap_or(0), 1, false);
    }
    if let Some(numbers) = numbers {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        return reals(low, high, None, low > 0.0 && high / low >= 100.0);
    }
    let mut distinct: Vec<Value> = Vec::new();
    for value in values {
        if !distinct.iter().any(|known| canonical(known) == canonical(value)) {
            distinct.push((*value).clone());
        }
    }
    match &distinct[..] {
        [only] => dimension("fixed", &json!({"value": only})),
        _ => categories(distinct),
    }
}

#[cfg(test)]
mod tests {
    use protocol::search_space::SearchSpace;

    use super::*;
    use crate::import::End;

    #[test]
    fn ranges_become_methods() {
        assert_eq!(
            reals(1.0, 2.0, Some(0.5), false),
            json!({"method": "categorical", "dimension": {"categories": [1.0, 1.5, 2.0]}})
        );
        assert_eq!(reals(1.0, 2.0, None, true)["method"], "loguniform");
        assert_eq!(reals(-1.0, 2.0, None, true)["method"], "uniform");
        assert_eq!(reals(2.0, 2.0, None, true)["method"], "fixed");
        assert_eq!(
            integers(1, 6, 2, false),
            json!({"method": "categorical", "dimension": {"categories": [1, 3, 5]}})
        );
        assert_eq!(integers(1, 6, 1, true)["method"], "loguniformint");
        assert_eq!(integers(i64::MIN, i64::MAX, 2, false)["method"], "uniformint");
    }

    #[test]
    fn a_space_is_guessed_around_points() {
        let trials: Vec<Trial> = [
            json!({"rate": 0.001, "units": 8, "kind": "a", "same": 1.5, "some": [1]}),
            json!({"rate": 0.5, "units": 64, "kind": "b", "same": 1.5}),
        ]
        .into_iter()
        .map(|point| Trial {
            point: point.as_object().unwrap().clone(),
            end: End::Done(vec![0.0]),
            seconds: 0.0,
        })
        .collect();
        let space = guessed(&trials);
        let methods: Vec<&str> = space.values().map(|value| value["method"].as_str().unwrap()).collect();
        assert_eq!(methods, ["loguniform", "uniformint", "categorical", "fixed", "fixed"]);
        SearchSpace::from_value(&Value::Object(space)).unwrap();
    }
}
