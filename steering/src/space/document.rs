//! From a search-space document to the encoded space.

use protocol::PointValue;
use protocol::Problem;
use protocol::error::pointer;
use protocol::search_space::{self, Levels, RangeKind, SearchSpace};
use serde_json::Value;

use super::condition::{Condition, same};
use super::dimension::{Dimension, Domain};
use super::numeric::{Numeric, plain};
use super::{Space, arrange};

/// Steps that a double counts exactly.
const MOST_STEPS: f64 = 9_007_199_254_740_992.0;

impl Space {
    /// Encodes a checked search space.
    ///
    /// # Errors
    /// All faults that only show when values are laid out: a step without any multiple between the bounds, a range too wide for
    /// double precision.
    pub fn new(document: &SearchSpace) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut dimensions = Vec::with_capacity(document.dimensions.len());
        for dimension in &document.dimensions {
            match domain(&dimension.domain) {
                Ok((domain, levels)) => dimensions.push(Dimension {
                    name: dimension.name.clone(),
                    domain,
                    levels,
                    conditions: conditions(document, dimension),
                    is_parent: false,
                }),
                Err(problem) => problems.push(problem.below(&pointer("", &dimension.name))),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        arrange(dimensions).map_err(|circle| {
            let fault = |position: usize| {
                let place = pointer(&pointer("", &document.dimensions[position].name), "if");
                Problem::new(place, "the condition depends on itself through its parents")
            };
            circle.into_iter().map(fault).collect()
        })
    }
}

/// The conditions of a dimension, by position, in an order that makes equal sets equal.
fn conditions(document: &SearchSpace, dimension: &search_space::Dimension) -> Vec<Condition> {
    let position = |name: &str| {
        let found = document.dimensions.iter().position(|other| other.name == name);
        found.expect("a checked search space only names dimensions that it has")
    };
    let mut conditions: Vec<Condition> = dimension
        .conditions
        .iter()
        .map(|condition| Condition {
            parent: position(&condition.parent),
            values: condition.values.iter().cloned().map(PointValue::from).collect(),
        })
        .collect();
    conditions.sort_by_key(|condition| condition.parent);
    for condition in &mut conditions {
        condition.values.sort_by_cached_key(ToString::to_string);
        condition.values.dedup();
    }
    conditions
}

type Encoded = (Domain, Option<Vec<PointValue>>);

fn domain(document: &search_space::Domain) -> Result<Encoded, Problem> {
    match document {
        search_space::Domain::Fixed { value } => Ok((Domain::Fixed(value.clone().into()), None)),
        search_space::Domain::Categorical { categories, .. } => Ok((categorical(categories), None)),
        search_space::Domain::Range(range) => ranged(range),
        search_space::Domain::Normal {
            mu,
            sigma,
            step,
            log,
            base,
        } => {
            let unit = if *log { libm::log(*base) } else { 1.0 };
            let integer = step.is_some_and(is_whole);
            Ok((
                Domain::Numeric(Numeric::normal(mu * unit, sigma * unit, *log, *step, integer)),
                None,
            ))
        }
    }
}

fn categorical(all: &[Value]) -> Domain {
    let mut categories: Vec<PointValue> = Vec::new();
    let mut weights: Vec<f64> = Vec::new();
    for category in all {
        if let Some(position) = categories.iter().position(|known| known == category) {
            weights[position] += 1.0;
        } else {
            categories.push(category.clone().into());
            weights.push(1.0);
        }
    }
    if categories.len() == 1 {
        return Domain::Fixed(categories.remove(0));
    }
    for weight in &mut weights {
        *weight /= all.len() as f64;
    }
    Domain::Categorical { categories, weights }
}

fn ranged(range: &search_space::Range) -> Result<Encoded, Problem> {
    let search_space::Range {
        low,
        high,
        kind,
        log,
        levels,
    } = range;
    if !(high - low).is_finite() {
        return Err(Problem::new(
            "/dimension",
            format!(
                "the range from {} to {} is too wide for double precision",
                plain(*low),
                plain(*high)
            ),
        ));
    }
    let numeric = match kind {
        RangeKind::Real if is_same(*low, *high) => return Ok((Domain::Fixed((*low).into()), None)),
        RangeKind::Real => Numeric::bounded(*low, *high, *log),
        RangeKind::Integer => stepped(*low, *high, 1.0, *log, true)?,
        RangeKind::Step(q) => stepped(*low, *high, *q, *log, is_whole(*q) && is_whole(*low) && is_whole(*high))?,
    };
    if numeric.size() == Some(1) {
        return Ok((Domain::Fixed(numeric.json(numeric.nth(0))), None));
    }
    let levels = levels.as_ref().map(|levels| level_values(&numeric, levels));
    Ok((Domain::Numeric(numeric), levels))
}

fn stepped(low: f64, high: f64, q: f64, log: bool, integer: bool) -> Result<Numeric, Problem> {
    if low.abs().max(high.abs()) / q > MOST_STEPS {
        return Err(Problem::new(
            "/dimension",
            format!(
                "bounds of {} and {} are too many steps of {} from zero; at most 2^53 are exact",
                plain(low),
                plain(high),
                plain(q)
            ),
        ));
    }
    Numeric::stepped(low, high, q, log, integer).ok_or_else(|| {
        Problem::new(
            "/dimension/q",
            format!(
                "expected a multiple of `q` between {} and {}, found none with {}",
                plain(low),
                plain(high),
                plain(q)
            ),
        )
    })
}

/// The distinct values that the grid takes, rising as the document has them.
fn level_values(numeric: &Numeric, levels: &Levels) -> Vec<PointValue> {
    let all: Vec<PointValue> = match levels {
        // The ends of the range proper, not those of the widened range of a discrete dimension.
        Levels::Count(1) => vec![numeric.json(numeric.at(0.5))],
        Levels::Count(count) => {
            let (first, last) = (numeric.at(0.0).t().unwrap_or(0.0), numeric.at(1.0).t().unwrap_or(1.0));
            let share = |index: u32| f64::from(index) / f64::from(count - 1);
            (0..*count)
                .map(|index| numeric.json(numeric.at(first + (last - first) * share(index))))
                .collect()
        }
        Levels::Values(values) => values
            .iter()
            .map(|value| numeric.json(numeric.nearest(*value)))
            .collect(),
    };
    let mut distinct: Vec<PointValue> = Vec::with_capacity(all.len());
    for value in all {
        if !distinct.iter().any(|other| same(other, &value)) {
            distinct.push(value);
        }
    }
    distinct
}

fn is_whole(value: f64) -> bool {
    is_same(value, libm::trunc(value)) && value.abs() <= MOST_STEPS
}

fn is_same(left: f64, right: f64) -> bool {
    left.total_cmp(&right).is_eq()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::space;
    use super::*;

    fn faults(document: &Value) -> Vec<String> {
        Space::new(&SearchSpace::from_value(document).unwrap())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn repeated_categories_are_weights_and_types_are_kept() {
        let space = space(&json!({"x": {"method": "categorical", "dimension": {"categories": [1, 1, 2, 1.0, true]}}}));
        let Domain::Categorical { categories, weights } = &space.dimensions()[0].domain else {
            panic!("categorical")
        };
        assert_eq!(json!(categories).to_string(), "[1,2,1.0,true]");
        assert_eq!(weights, &[0.4, 0.2, 0.2, 0.2]);
    }

    #[test]
    fn what_can_take_one_value_only_is_fixed() {
        let space = space(&json!({
            "a": {"method": "uniform", "dimension": {"low": 2.5, "high": 2.5}},
            "b": {"method": "uniformint", "dimension": {"low": 3, "high": 3}},
            "c": {"method": "categorical", "dimension": {"categories": ["x", "x"]}},
            "d": {"method": "quniform", "dimension": {"low": 3, "high": 5, "q": 4}},
            "e": {"method": "fixed", "dimension": {"value": {"nested": [1]}}}
        }));
        assert_eq!(space.size(), Some(1));
        let point = space.at_quantiles(|_| 0.7);
        assert_eq!(
            serde_json::to_string(&point).unwrap(),
            r#"{"a":2.5,"b":3,"c":"x","d":4,"e":{"nested":[1]}}"#
        );
    }

    #[test]
    fn levels_are_laid_out_on_the_axis_and_snap_to_the_steps() {
        let space = space(&json!({
            "a": {"method": "loguniform", "dimension": {"low": 0.001, "high": 0.1, "levels": 3}},
            "b": {"method": "uniformint", "dimension": {"low": 1, "high": 9, "levels": 3}},
            "c": {"method": "uniformint", "dimension": {"low": 1, "high": 2, "levels": 7}},
            "d": {"method": "uniform", "dimension": {"low": 0, "high": 1, "levels": [0.25, 0.75, 0.25]}}
        }));
        let levels: Vec<Value> = space
            .dimensions()
            .iter()
            .map(|d| json!(d.levels.as_ref().unwrap()))
            .collect();
        let logarithmic: Vec<f64> = serde_json::from_value(levels[0].clone()).unwrap();
        for (found, expected) in logarithmic.iter().zip([0.001, 0.01, 0.1]) {
            assert!((found / expected - 1.0).abs() < 1e-12, "{found}");
        }
        assert_eq!(
            Value::from(levels[1..].to_vec()),
            json!([[1, 5, 9], [1, 2], [0.25, 0.75]])
        );
    }

    #[test]
    fn faults_of_the_layout_are_all_reported_with_their_place() {
        let document = json!({
            "a": {"method": "quniform", "dimension": {"low": 0.3, "high": 0.4, "q": 0.5}},
            "b": {"method": "uniform", "dimension": {"low": -1e308, "high": 1e308}},
            "c": {"method": "quniform", "dimension": {"low": 0, "high": 1e12, "q": 1e-9}}
        });
        insta::assert_snapshot!(faults(&document).join("\n"), @r"
        at `/a/dimension/q`: expected a multiple of `q` between 0.3 and 0.4, found none with 0.5
        at `/b/dimension`: the range from -1e308 to 1e308 is too wide for double precision
        at `/c/dimension`: bounds of 0 and 1000000000000 are too many steps of 1e-9 from zero; at most 2^53 are exact
        ");
    }
}
