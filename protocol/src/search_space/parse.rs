//! From JSON to a checked [`SearchSpace`].

use serde_json::{Map, Value};

use super::{Condition, Dimension, Domain, Levels, Range, RangeKind, SearchSpace, predefined};
use crate::error::{Problem, did_you_mean, pointer};
use crate::json;
use crate::limits;
use crate::point::SegmentId;

/// Every method with the keys of its `dimension`: required, optional.
const METHODS: [(&str, &[&str], &[&str]); 12] = [
    ("categorical", &["categories"], &["grid_search"]),
    ("uniform", &["low", "high"], &["levels"]),
    ("uniformint", &["low", "high"], &["levels"]),
    ("quniform", &["low", "high", "q"], &["levels"]),
    ("loguniform", &["low", "high"], &["base", "levels"]),
    ("loguniformint", &["low", "high"], &["base", "levels"]),
    ("qloguniform", &["low", "high", "q"], &["base", "levels"]),
    ("normal", &["mu", "sigma"], &[]),
    ("qnormal", &["mu", "sigma", "q"], &[]),
    ("lognormal", &["mu", "sigma"], &["base"]),
    ("qlognormal", &["mu", "sigma", "q"], &["base"]),
    ("fixed", &["value"], &[]),
];

/// Integers beyond this magnitude are not exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

type Problems = Vec<Problem>;

pub(super) fn segmented(value: &Value) -> Result<Vec<(SegmentId, SearchSpace)>, Problems> {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    let mut problems = Vec::new();
    let mut spaces: Vec<(SegmentId, SearchSpace)> = Vec::new();
    if items.is_empty() {
        problems.push(Problem::new(
            "",
            "expected a search space for at least one segment, found an empty list",
        ));
    }
    for (index, item) in items.iter().enumerate() {
        let place = pointer("", index);
        let (Some(id), Some(space)) = (item.get("model_id"), item.get("search_space")) else {
            problems.push(Problem::new(
                &place,
                "expected {\"model_id\": …, \"search_space\": {…}}",
            ));
            continue;
        };
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).map(SegmentId);
        match id {
            None => problems.push(Problem::new(pointer(&place, "model_id"), "expected an integer from 0")),
            Some(id) if spaces.iter().any(|(other, _)| *other == id) => {
                problems.push(Problem::new(
                    pointer(&place, "model_id"),
                    format!("the id {id} is taken by an earlier segment"),
                ));
            }
            Some(_) => {}
        }
        match self::space(space) {
            Ok(space) => spaces.extend(id.map(|id| (id, space))),
            Err(faults) => problems.extend(
                faults
                    .into_iter()
                    .map(|fault| fault.below(&pointer(&place, "search_space"))),
            ),
        }
    }
    if problems.is_empty() { Ok(spaces) } else { Err(problems) }
}

pub(super) fn space(value: &Value) -> Result<SearchSpace, Problems> {
    let Value::Object(map) = value else {
        return Err(vec![Problem::new(
            "",
            format!("expected an object of dimensions, found {}", json::type_name(value)),
        )]);
    };
    let mut problems = Vec::new();
    if map.keys().all(|name| name == json::SCHEMA_KEY) {
        problems.push(Problem::new(
            "",
            "expected at least one dimension, found an empty object",
        ));
    }
    if map.len() > limits::KEYS {
        problems.push(Problem::new(
            "",
            format!("{} dimensions, at most {} are allowed", map.len(), limits::KEYS),
        ));
    }
    let mut dimensions = Vec::with_capacity(map.len());
    for (name, spec) in map.iter().filter(|(name, _)| *name != json::SCHEMA_KEY) {
        match dimension(name, spec) {
            Ok(dimension) => dimensions.push(dimension),
            Err(faults) => problems.extend(faults.into_iter().map(|fault| fault.below(&pointer("", name)))),
        }
    }
    if problems.is_empty() {
        check_conditions(&dimensions, &mut problems);
    }
    if problems.is_empty() {
        Ok(SearchSpace { dimensions })
    } else {
        Err(problems)
    }
}

fn dimension(name: &str, spec: &Value) -> Result<Dimension, Problems> {
    if name.is_empty() {
        return Err(vec![Problem::new("", "expected a name, found an empty string")]);
    }
    if crate::point::is_reserved(name) {
        let message = format!(
            "names that begin with `{}` are reserved for schedulers",
            limits::RESERVED_PREFIX
        );
        return Err(vec![Problem::new("", message)]);
    }
    match spec {
        Value::Object(map) if map.contains_key("type") && !map.contains_key("method") => {
            let domain = predefined::nevergrad(map)?;
            Ok(Dimension {
                name: name.into(),
                domain,
                conditions: Vec::new(),
            })
        }
        Value::Object(map) => own(name, map),
        Value::Array(bounds) => {
            let domain = predefined::bayesian(bounds)?;
            Ok(Dimension {
                name: name.into(),
                domain,
                conditions: Vec::new(),
            })
        }
        other => Err(vec![Problem::new(
            "",
            format!(
                "expected {{\"method\": …, \"dimension\": {{…}}}}, found {}",
                json::type_name(other)
            ),
        )]),
    }
}

fn own(name: &str, map: &Map<String, Value>) -> Result<Dimension, Problems> {
    let mut problems = Vec::new();
    for key in map.keys() {
        if !["method", "dimension", "if"].contains(&key.as_str()) {
            let hint = did_you_mean(key, ["method", "dimension", "if"]);
            problems.push(Problem::new(pointer("", key), format!("unknown key{hint}")));
        }
    }
    let conditions = conditions(map.get("if"), &mut problems);
    let method = match map.get("method") {
        Some(Value::String(method)) => METHODS.iter().find(|(known, ..)| known == method).or_else(|| {
            let hint = did_you_mean(method, METHODS.iter().map(|(known, ..)| *known));
            let known: Vec<_> = METHODS.iter().map(|(known, ..)| *known).collect();
            problems.push(Problem::new(
                "/method",
                format!("unknown method `{method}`{hint} known are {}", known.join(", "))
                    .replacen("` known", "`; known", 1),
            ));
            None
        }),
        other => {
            let found = other.map_or("nothing", json::type_name);
            problems.push(Problem::new(
                "/method",
                format!("expected the name of a method, found {found}"),
            ));
            None
        }
    };
    let keys = match map.get("dimension") {
        Some(Value::Object(keys)) => Some(keys),
        other => {
            let found = other.map_or("nothing", json::type_name);
            problems.push(Problem::new("/dimension", format!("expected an object, found {found}")));
            None
        }
    };
    if let (Some(&(method, required, optional)), Some(keys)) = (method, keys) {
        let before = problems.len();
        for key in keys.keys() {
            if !required.contains(&key.as_str()) && !optional.contains(&key.as_str()) {
                let hint = did_you_mean(key, required.iter().chain(optional).copied());
                problems.push(Problem::new(
                    pointer("/dimension", key),
                    format!("unknown key for `{method}`{hint}"),
                ));
            }
        }
        for key in required {
            if !keys.contains_key(*key) {
                problems.push(Problem::new("/dimension", format!("`{method}` needs `{key}`")));
            }
        }
        if problems.len() == before
            && let Some(domain) = domain(method, keys, &mut problems)
            && problems.is_empty()
        {
            return Ok(Dimension {
                name: name.into(),
                domain,
                conditions,
            });
        }
    }
    Err(problems)
}

fn domain(method: &str, keys: &Map<String, Value>, problems: &mut Problems) -> Option<Domain> {
    let mut reader = Reader { keys, problems };
    match method {
        "categorical" => reader.categorical(),
        "fixed" => Some(Domain::Fixed {
            value: keys.get("value")?.clone(),
        }),
        "normal" | "qnormal" => reader.normal(false),
        "lognormal" | "qlognormal" => reader.normal(true),
        "uniform" => reader.range(false, RangeKind::Real),
        "loguniform" => reader.range(true, RangeKind::Real),
        "uniformint" => reader.range(false, RangeKind::Integer),
        "loguniformint" => reader.range(true, RangeKind::Integer),
        _ => {
            let step = reader.positive("q")?;
            reader.range(method == "qloguniform", RangeKind::Step(step))
        }
    }
}

/// Reads the keys of one `dimension` object.
struct Reader<'a> {
    keys: &'a Map<String, Value>,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(pointer("/dimension", key), message));
    }

    fn number(&mut self, key: &str) -> Option<f64> {
        let value = self.keys.get(key)?;
        let number = value.as_f64().filter(|number| number.is_finite());
        if number.is_none() {
            self.fault(key, format!("expected a number, found {}", json::type_name(value)));
        }
        number
    }

    fn positive(&mut self, key: &str) -> Option<f64> {
        let number = self.number(key)?;
        if number > 0.0 {
            return Some(number);
        }
        self.fault(key, format!("must be above 0, found {number}"));
        None
    }

    fn base(&mut self) -> Option<f64> {
        if !self.keys.contains_key("base") {
            return Some(std::f64::consts::E);
        }
        let base = self.number("base")?;
        if base > 1.0 {
            return Some(base);
        }
        self.fault("base", format!("must be above 1, found {base}"));
        None
    }

    fn categorical(&mut self) -> Option<Domain> {
        let categories = match self.keys.get("categories")? {
            Value::Array(items) if !items.is_empty() => items.clone(),
            Value::Array(_) => {
                self.fault("categories", "expected at least one category, found an empty list");
                return None;
            }
            other => {
                self.fault(
                    "categories",
                    format!("expected a list, found {}", json::type_name(other)),
                );
                return None;
            }
        };
        let grid_search = match self.keys.get("grid_search") {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Bool(true)) => true,
            Some(Value::Number(number)) if matches!(number.as_u64(), Some(0 | 1)) => number.as_u64() == Some(1),
            Some(other) => {
                self.fault("grid_search", format!("expected 0 or 1, found {other}"));
                return None;
            }
        };
        Some(Domain::Categorical {
            categories,
            grid_search,
        })
    }

    fn normal(&mut self, log: bool) -> Option<Domain> {
        let mu = self.number("mu");
        let sigma = self.positive("sigma");
        let base = if log { self.base() } else { Some(std::f64::consts::E) };
        let step = if self.keys.contains_key("q") {
            Some(self.positive("q")?)
        } else {
            None
        };
        Some(Domain::Normal {
            mu: mu?,
            sigma: sigma?,
            step,
            log,
            base: base?,
        })
    }

    fn range(&mut self, log: bool, kind: RangeKind) -> Option<Domain> {
        let (low, high) = (self.number("low"), self.number("high"));
        if log {
            self.base()?;
        }
        let (low, high) = (low?, high?);
        if low > high {
            self.fault("low", format!("must not be above `high` ({high}), found {low}"));
            return None;
        }
        if log && low <= 0.0 {
            self.fault("low", format!("must be above 0 on a logarithmic axis, found {low}"));
            return None;
        }
        if kind == RangeKind::Integer {
            for (key, bound) in [("low", low), ("high", high)] {
                // Read as a double, the next integer is 2^53 itself.
                let written = self.keys.get(key).and_then(Value::as_i64);
                let exact = written.is_none_or(|integer| integer.unsigned_abs() <= EXACT as u64);
                if bound.fract() != 0.0 || bound.abs() > EXACT || !exact {
                    let found = self.keys.get(key).map_or_else(|| bound.to_string(), Value::to_string);
                    self.fault(
                        key,
                        format!("expected an integer of magnitude at most 2^53, found {found}"),
                    );
                    return None;
                }
            }
        }
        let levels = match self.keys.get("levels") {
            None => None,
            Some(value) => Some(self.levels(value, low, high)?),
        };
        Some(Domain::Range(Range {
            low,
            high,
            kind,
            log,
            levels,
        }))
    }

    fn levels(&mut self, value: &Value, low: f64, high: f64) -> Option<Levels> {
        if let Some(count) = value
            .as_u64()
            .and_then(|count| u32::try_from(count).ok())
            .filter(|count| (1..=limits::LEVELS).contains(count))
        {
            return Some(Levels::Count(count));
        }
        let values = value
            .as_array()
            .filter(|items| (1..=limits::LEVELS as usize).contains(&items.len()))
            .and_then(|items| {
                items
                    .iter()
                    .map(|item| item.as_f64().filter(|number| (low..=high).contains(number)))
                    .collect::<Option<Vec<_>>>()
            });
        if values.is_none() {
            self.fault(
                "levels",
                format!(
                    "expected a count from 1 to {}, or a list of as many numbers from {low} to {high}",
                    limits::LEVELS
                ),
            );
        }
        values.map(Levels::Values)
    }
}

fn conditions(value: Option<&Value>, problems: &mut Problems) -> Vec<Condition> {
    let Some(value) = value else { return Vec::new() };
    let Value::Object(map) = value else {
        problems.push(Problem::new(
            "/if",
            format!("expected {{parent: [values]}}, found {}", json::type_name(value)),
        ));
        return Vec::new();
    };
    let mut conditions = Vec::new();
    for (parent, values) in map {
        match values {
            Value::Array(values) if !values.is_empty() => {
                conditions.push(Condition {
                    parent: parent.clone(),
                    values: values.clone(),
                });
            }
            _ => problems.push(Problem::new(
                pointer("/if", parent),
                "expected a list of at least one value",
            )),
        }
    }
    conditions
}

fn check_conditions(dimensions: &[Dimension], problems: &mut Problems) {
    let index = |name: &str| dimensions.iter().position(|dimension| dimension.name == name);
    for dimension in dimensions {
        let place = pointer(&pointer("", &dimension.name), "if");
        for condition in &dimension.conditions {
            let Some(parent) = index(&condition.parent) else {
                let hint = did_you_mean(&condition.parent, dimensions.iter().map(|other| other.name.as_str()));
                problems.push(Problem::new(
                    pointer(&place, &condition.parent),
                    format!("no dimension has this name{hint}"),
                ));
                continue;
            };
            for value in &condition.values {
                if !may_take(&dimensions[parent].domain, value) {
                    problems.push(Problem::new(
                        pointer(&place, &condition.parent),
                        format!("`{}` can never be {value}", condition.parent),
                    ));
                }
            }
        }
    }
    if problems.is_empty() {
        find_cycle(dimensions, problems);
    }
}

/// Whether a dimension of this domain can have `value`; numbers compare by value, so `1` matches `1.0`.
pub(super) fn may_take(domain: &Domain, value: &Value) -> bool {
    let same = |other: &Value| match (other.as_f64(), value.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
        _ => other == value,
    };
    match domain {
        Domain::Categorical { categories, .. } => categories.iter().any(same),
        Domain::Fixed { value } => same(value),
        Domain::Range(range) => value
            .as_f64()
            .is_some_and(|number| (range.low..=range.high).contains(&number)),
        Domain::Normal { .. } => value.is_number(),
    }
}

fn find_cycle(dimensions: &[Dimension], problems: &mut Problems) {
    let mut settled = vec![false; dimensions.len()];
    loop {
        let before = settled.clone();
        for (index, dimension) in dimensions.iter().enumerate() {
            settled[index] = dimension.conditions.iter().all(|condition| {
                dimensions
                    .iter()
                    .zip(&before)
                    .any(|(other, done)| *done && other.name == condition.parent)
            });
        }
        if settled == before {
            break;
        }
    }
    for (dimension, _) in dimensions.iter().zip(&settled).filter(|(_, done)| !**done) {
        let place = pointer(&pointer("", &dimension.name), "if");
        problems.push(Problem::new(
            place,
            "the condition depends on itself through its parents",
        ));
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
