//! The search-space formats of iDDS's two predefined methods.
//!
//! `nevergrad` writes `{"type": T, "params": {…}, "bounds": [low, high]}` with the types `Choice`, `TransitionChoice` (both:
//! `params.choices`), `Scalar` (`params.lower`/`upper` or `bounds`; without bounds a unit normal around `params.init`) and `Log`
//! (`params.lower`, `params.upper`). `Array` yields values that iDDS itself cannot write as JSON, so it is refused here.
//! `bayesian` writes `[low, high]`.

use serde_json::{Map, Value};

use super::{Domain, Range, RangeKind};
use crate::error::{Problem, did_you_mean};

const TYPES: [&str; 4] = ["Choice", "TransitionChoice", "Scalar", "Log"];

type Faults = Vec<Problem>;

fn fault<T>(pointer: &str, message: impl Into<String>) -> Result<T, Faults> {
    Err(vec![Problem::new(pointer, message)])
}

pub(super) fn bayesian(bounds: &[Value]) -> Result<Domain, Faults> {
    match bounds {
        [low, high] => range(low.as_f64(), high.as_f64(), false, ""),
        _ => fault(
            "",
            format!("expected the bounds [low, high], found a list of {}", bounds.len()),
        ),
    }
}

pub(super) fn nevergrad(spec: &Map<String, Value>) -> Result<Domain, Faults> {
    let empty = Map::new();
    let params = match spec.get("params") {
        None => &empty,
        Some(Value::Object(params)) => params,
        Some(_) => return fault("/params", "expected an object"),
    };
    let number = |key: &str| params.get(key).and_then(Value::as_f64);
    match spec.get("type").and_then(Value::as_str) {
        Some("Choice" | "TransitionChoice") => match params.get("choices") {
            Some(Value::Array(choices)) if !choices.is_empty() => Ok(Domain::Categorical {
                categories: choices.clone(),
                grid_search: false,
            }),
            _ => fault("/params/choices", "expected a list of at least one choice"),
        },
        Some("Log") => range(number("lower"), number("upper"), true, "/params"),
        Some("Scalar") => match spec.get("bounds") {
            Some(Value::Array(bounds)) if bounds.len() == 2 => {
                range(bounds[0].as_f64(), bounds[1].as_f64(), false, "/bounds")
            }
            Some(Value::Null) | None if params.contains_key("lower") || params.contains_key("upper") => {
                range(number("lower"), number("upper"), false, "/params")
            }
            Some(Value::Null) | None => Ok(Domain::Normal {
                mu: number("init").unwrap_or(0.0),
                sigma: 1.0,
                step: None,
                log: false,
                base: std::f64::consts::E,
            }),
            Some(_) => fault("/bounds", "expected [low, high]"),
        },
        Some("Array") => fault(
            "/type",
            "values of type `Array` cannot be written as JSON points; use one `Scalar` an element",
        ),
        other => {
            let other = other.unwrap_or_default();
            let hint = did_you_mean(other, TYPES);
            fault("/type", format!("unknown type `{other}`{hint}"))
        }
    }
}

fn range(low: Option<f64>, high: Option<f64>, log: bool, place: &str) -> Result<Domain, Faults> {
    match (low, high) {
        (Some(low), Some(high)) if low <= high && (!log || low > 0.0) => Ok(Domain::Range(Range {
            low,
            high,
            kind: RangeKind::Real,
            log,
            levels: None,
        })),
        (Some(low), Some(high)) => {
            let rule = if log { "0 < low <= high" } else { "low <= high" };
            fault(place, format!("expected bounds with {rule}, found {low} and {high}"))
        }
        _ => fault(place, "expected two numbers as bounds"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SearchSpace;
    use super::*;
    use serde_json::json;

    #[test]
    fn both_predefined_formats_become_ordinary_domains() {
        let space = SearchSpace::from_value(&json!({
            "A": {"type": "Choice", "params": {"choices": [1, 4]}},
            "B": {"type": "Scalar", "bounds": [0, 5]},
            "C": {"type": "Log", "params": {"lower": 0.01, "upper": 1.0}},
            "D": {"type": "Scalar", "params": {"init": 2.0}},
            "E": [1, 4]
        }))
        .unwrap();
        let real = |low, high, log| {
            Domain::Range(Range {
                low,
                high,
                kind: RangeKind::Real,
                log,
                levels: None,
            })
        };
        let domains: Vec<_> = space
            .dimensions
            .iter()
            .map(|dimension| dimension.domain.clone())
            .collect();
        assert_eq!(
            domains[0],
            Domain::Categorical {
                categories: vec![json!(1), json!(4)],
                grid_search: false
            }
        );
        assert_eq!(domains[1], real(0.0, 5.0, false));
        assert_eq!(domains[2], real(0.01, 1.0, true));
        assert!(matches!(
            domains[3],
            Domain::Normal {
                mu: 2.0,
                sigma: 1.0,
                ..
            }
        ));
        assert_eq!(domains[4], real(1.0, 4.0, false));
    }

    #[test]
    fn faults_of_the_predefined_formats_have_places() {
        let faults: Vec<_> = SearchSpace::from_value(&json!({
            "A": {"type": "Choise", "params": {}},
            "B": {"type": "Scalar", "bounds": [5, 0]},
            "C": [1],
            "D": {"type": "Array", "params": {"shape": [2]}}
        }))
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(
            faults,
            [
                "at `/A/type`: unknown type `Choise`; did you mean `Choice`?",
                "at `/B/bounds`: expected bounds with low <= high, found 5 and 0",
                "at `/C`: expected the bounds [low, high], found a list of 1",
                "at `/D/type`: values of type `Array` cannot be written as JSON points; use one `Scalar` an element",
            ]
        );
    }
}
