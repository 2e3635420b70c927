//! What the parser accepts, and what it says of the rest.

use super::*;
use serde_json::json;

fn faults(value: &Value) -> Vec<String> {
    space(value).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn every_method_is_read() {
    let document = json!({
        "a": {"method": "categorical", "dimension": {"categories": [1, 1, 2], "grid_search": 0}},
        "b": {"method": "uniform", "dimension": {"low": 0, "high": 1, "levels": 3}},
        "c": {"method": "uniformint", "dimension": {"low": 1, "high": 3, "levels": [1, 3]}},
        "d": {"method": "quniform", "dimension": {"low": 0, "high": 1, "q": 0.25}},
        "e": {"method": "loguniform", "dimension": {"low": 1e-4, "high": 1e-1, "base": 10}},
        "f": {"method": "loguniformint", "dimension": {"low": 1, "high": 1024}},
        "g": {"method": "qloguniform", "dimension": {"low": 1, "high": 64, "q": 2}},
        "h": {"method": "normal", "dimension": {"mu": 0, "sigma": 1}},
        "i": {"method": "qnormal", "dimension": {"mu": 0, "sigma": 1, "q": 0.5}},
        "j": {"method": "lognormal", "dimension": {"mu": 0, "sigma": 1}},
        "k": {"method": "qlognormal", "dimension": {"mu": 0, "sigma": 1, "q": 0.5}},
        "l": {"method": "fixed", "dimension": {"value": [1, "x"]}, "if": {"a": [1.0]}}
    });
    let space = space(&document).unwrap();
    assert_eq!(space.dimensions.len(), METHODS.len());
    assert_eq!(space.get("l").unwrap().conditions[0].parent, "a");
    assert_eq!(
        space.get("c").unwrap().domain,
        Domain::Range(Range {
            low: 1.0,
            high: 3.0,
            kind: RangeKind::Integer,
            log: false,
            levels: Some(Levels::Values(vec![1.0, 3.0]))
        })
    );
}

#[test]
fn all_faults_of_a_space_are_reported_at_once_with_their_places() {
    let document = json!({
        "lr": {"method": "loguniform", "dimension": {"low": 0.5, "high": 0.1}},
        "log": {"method": "loguniform", "dimension": {"low": 0, "high": 0.1}},
        "n": {"method": "uniformint", "dimension": {"low": 0.5, "high": 3}},
        "m": {"method": "uniforms", "dimension": {"low": 0, "high": 3}},
        "o": {"method": "uniform", "dimension": {"lo": 0, "high": "3"}},
        "c": {"method": "categorical", "dimension": {"categories": []}},
        "s": {"method": "normal", "dimension": {"mu": 0, "sigma": 0}},
        "hpo.x": {"method": "fixed", "dimension": {"value": 1}},
        "z": 3,
        "q": {"method": "fixed", "dimension": {"value": 1}, "iff": {}}
    });
    assert_eq!(
        faults(&document),
        [
            "at `/lr/dimension/low`: must not be above `high` (0.1), found 0.5",
            "at `/log/dimension/low`: must be above 0 on a logarithmic axis, found 0",
            "at `/n/dimension/low`: expected an integer of magnitude at most 2^53, found 0.5",
            "at `/m/method`: unknown method `uniforms`; did you mean `uniform`? known are categorical, uniform, uniformint, \
         quniform, loguniform, loguniformint, qloguniform, normal, qnormal, lognormal, qlognormal, fixed",
            "at `/o/dimension/lo`: unknown key for `uniform`; did you mean `low`?",
            "at `/o/dimension`: `uniform` needs `low`",
            "at `/c/dimension/categories`: expected at least one category, found an empty list",
            "at `/s/dimension/sigma`: must be above 0, found 0",
            "at `/hpo.x`: names that begin with `hpo.` are reserved for schedulers",
            "at `/z`: expected {\"method\": …, \"dimension\": {…}}, found a number",
            "at `/q/iff`: unknown key; did you mean `if`?",
        ]
    );
}

#[test]
fn conditions_need_an_existing_parent_a_possible_value_and_no_cycle() {
    let fixed = |condition: Value| json!({"method": "fixed", "dimension": {"value": 1}, "if": condition});
    assert_eq!(
        faults(&json!({"a": fixed(json!({"b": [1]}))})),
        ["at `/a/if/b`: no dimension has this name; did you mean `a`?"]
    );
    assert_eq!(
        faults(&json!({"a": fixed(json!({"b": [2]})), "b": {"method": "fixed", "dimension": {"value": 1}}})),
        ["at `/a/if/b`: `b` can never be 2"]
    );
    assert_eq!(
        faults(&json!({"a": fixed(json!({"b": [1]})), "b": fixed(json!({"a": [1]}))})),
        [
            "at `/a/if`: the condition depends on itself through its parents",
            "at `/b/if`: the condition depends on itself through its parents"
        ]
    );
}

#[test]
fn a_segmented_document_has_distinct_ids() {
    let one = json!({"x": [0, 1]});
    let good = json!([{"model_id": 0, "search_space": one}, {"model_id": 3, "search_space": one}]);
    assert_eq!(
        segmented(&good).unwrap().iter().map(|(id, _)| id.0).collect::<Vec<_>>(),
        [0, 3]
    );
    let bad = json!([{"model_id": 0, "search_space": one}, {"model_id": 0, "search_space": {}}, {"x": 1}]);
    let places: Vec<_> = segmented(&bad)
        .unwrap_err()
        .into_iter()
        .map(|fault| fault.pointer)
        .collect();
    assert_eq!(places, ["/1/model_id", "/1/search_space", "/2"]);
}
