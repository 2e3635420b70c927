//! Fills hyperparameters into a document: references, expressions, choices, templates, and repeated groups of blocks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::ModelError;
use super::expression::{Expression, Names};
use super::fields::nearest;

/// A document with everything filled in.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) document: Value,
    /// JSON pointer to the hyperparameter from which the value there came.
    pub(crate) origins: BTreeMap<String, String>,
    /// Pointers to items of lists that were moved by repetitions, to where the file has them.
    places: BTreeMap<String, String>,
    /// Hyperparameters that the document names, in branches that are not taken too.
    used: BTreeSet<String>,
}

impl Filled {
    /// Where the file has what an error names.
    pub(crate) fn in_file(&self, error: ModelError) -> ModelError {
        let ModelError::Field { pointer, message } = error else {
            return error;
        };
        // The longest known beginning of the pointer.
        let ends = pointer.match_indices('/').map(|(at, _)| at).chain([pointer.len()]);
        let known = ends.filter_map(|end| self.places.get(&pointer[..end]).map(|place| (end, place)));
        let pointer = match known.max_by_key(|(end, _)| *end) {
            Some((end, place)) => format!("{place}{}", &pointer[end..]),
            None => pointer,
        };
        ModelError::Field { pointer, message }
    }

    /// Names of hyperparameters that nothing refers to; those with the prefix `hpo.` are not meant for models.
    pub(crate) fn unused(&self, hyperparameters: &Map<String, Value>) -> Vec<String> {
        hyperparameters
            .keys()
            .filter(|name| !name.starts_with("hpo.") && !self.used.contains(*name))
            .cloned()
            .collect()
    }
}

/// Fields in which `{name}` stands for a hyperparameter.
const TEMPLATES: [&str; 2] = ["/model/onnx", "/loss/onnx"];

/// Key of an object that stands for one of its other values.
const CHOOSE: &str = "$choose";

/// Repetitions may not multiply without end.
pub(crate) const MOST_BLOCKS: usize = 1000;

/// Replaces references, expressions and the like by values.
pub(crate) fn fill(document: &Value, hyperparameters: &Map<String, Value>) -> Result<Filled, ModelError> {
    let mut filler = Filler {
        hyperparameters,
        origins: BTreeMap::new(),
        places: BTreeMap::new(),
        used: BTreeSet::new(),
        variables: Vec::new(),
    };
    let document = filler.value(document, "", "")?;
    Ok(Filled {
        document,
        origins: filler.origins,
        places: filler.places,
        used: filler.used,
    })
}

struct Filler<'a> {
    hyperparameters: &'a Map<String, Value>,
    origins: BTreeMap<String, String>,
    places: BTreeMap<String, String>,
    used: BTreeSet<String>,
    /// Numbers of the repetitions around the current value, the innermost last.
    variables: Vec<(String, f64)>,
}

impl Names for Filler<'_> {
    fn hyperparameter(&self, name: &str) -> Result<Value, String> {
        self.hyperparameters.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.hyperparameters.keys().map(String::as_str).collect();
            if names.is_empty() {
                return format!("refers to the hyperparameter `{name}`, the point has none");
            }
            let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let hint = nearest(name, &names);
            format!(
                "refers to the hyperparameter `{name}`, the point has {}{hint}",
                listed.join(", ")
            )
        })
    }

    fn variable(&self, name: &str) -> Result<f64, String> {
        let found = self.variables.iter().rev().find(|(variable, _)| variable == name);
        found.map(|(_, value)| *value).ok_or_else(|| {
            format!("has the name `{name}`, which is no repetition around it; hyperparameters are written `${name}`")
        })
    }
}

impl Filler<'_> {
    /// A value with everything filled in; it will have the pointer `pointer`, and has `place` in the file.
    fn value(&mut self, value: &Value, pointer: &str, place: &str) -> Result<Value, ModelError> {
        match value {
            Value::String(text) => self.text(text, pointer).map_err(|message| ModelError::Field {
                pointer: place.to_owned(),
                message,
            }),
            Value::Array(items) => {
                let mut filled = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    self.item(item, pointer, &format!("{place}/{index}"), &mut filled)?;
                }
                Ok(Value::Array(filled))
            }
            Value::Object(map) => {
                if let Some(choice) = map.get(CHOOSE) {
                    return self.chosen(map, choice, pointer, place);
                }
                let mut filled = Map::new();
                for (key, item) in map {
                    let part = key.replace('~', "~0").replace('/', "~1");
                    let value = self.value(item, &format!("{pointer}/{part}"), &format!("{place}/{part}"))?;
                    filled.insert(key.clone(), value);
                }
                Ok(Value::Object(filled))
            }
            _ => Ok(value.clone()),
        }
    }

    fn text(&mut self, text: &str, pointer: &str) -> Result<Value, String> {
        if let Some(rest) = text.strip_prefix("$$") {
            return Ok(Value::String(format!("${rest}")));
        }
        if let Some(name) = text.strip_prefix('$') {
            self.used.insert(name.to_owned());
            self.origins.insert(pointer.to_owned(), name.to_owned());
            return self.hyperparameter(name);
        }
        if text.starts_with("==") {
            return Ok(Value::String(text[1..].to_owned()));
        }
        if let Some(formula) = text.strip_prefix('=') {
            let explain = |message: String| format!("{message} (in the expression `{text}`)");
            let expression = Expression::parse(formula).map_err(explain)?;
            let mut names = Vec::new();
            expression.hyperparameters(&mut names);
            self.used.extend(names);
            return expression.value(self).map_err(explain);
        }
        if TEMPLATES.contains(&pointer) && text.contains('{') {
            return self.template(text).map(Value::String);
        }
        Ok(Value::String(text.to_owned()))
    }

    /// Replaces each `{name}` by the value of a hyperparameter, whole numbers without decimals.
    fn template(&mut self, text: &str) -> Result<String, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("has a `{{` without its `}}`: `{text}`"))?;
            let name = name.strip_prefix('$').unwrap_or(name);
            self.used.insert(name.to_owned());
            filled.push_str(before);
            let value = self.hyperparameter(name)?;
            let whole = value
                .as_f64()
                .filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
            filled += &match (value, whole) {
                (Value::String(text), _) => text,
                (_, Some(number)) => (number as i64).to_string(),
                (value, None) => value.to_string(),
            };
            rest = after;
        }
        Ok(filled + rest)
    }

    /// One item of a list, or a group of them when it is a repetition of blocks.
    fn item(&mut self, item: &Value, list: &str, place: &str, filled: &mut Vec<Value>) -> Result<(), ModelError> {
        let repetition = item
            .as_object()
            .filter(|map| map.len() == 1 && list.starts_with("/model/"))
            .and_then(|map| map.get("repeat"))
            .and_then(Value::as_object);
        let Some(repetition) = repetition else {
            let pointer = format!("{list}/{}", filled.len());
            if pointer != place {
                self.places.insert(pointer.clone(), place.to_owned());
            }
            let value = self.value(item, &pointer, place)?;
            filled.push(value);
            return Ok(());
        };
        let place = format!("{place}/repeat");
        let error = |key: &str, message: String| ModelError::Field {
            pointer: format!("{place}{key}"),
            message,
        };
        if let Some(key) = repetition
            .keys()
            .find(|key| !["times", "index", "blocks"].contains(&key.as_str()))
        {
            let message = "is unknown; known are `times`, `index`, `blocks`".to_owned();
            return Err(error(&format!("/{key}"), message));
        }
        let times = match repetition.get("times") {
            Some(times) => self.value(times, &format!("{place}/times"), &format!("{place}/times"))?,
            None => Value::Null,
        };
        let count = times
            .as_f64()
            .filter(|times| times.fract() == 0.0 && *times >= 0.0)
            .ok_or_else(|| error("/times", format!("must be an integer of at least 0, found `{times}`")))?;
        let index = match repetition.get("index") {
            None => "index".to_owned(),
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(error("/index", format!("must be a name, found `{other}`"))),
        };
        let Some(Value::Array(blocks)) = repetition.get("blocks") else {
            return Err(error("/blocks", "must be a list of blocks".into()));
        };
        for repetition in 0..count.min(MOST_BLOCKS as f64 + 1.0) as usize {
            self.variables.push((index.clone(), repetition as f64));
            for (at, block) in blocks.iter().enumerate() {
                self.item(block, list, &format!("{place}/blocks/{at}"), filled)?;
                if filled.len() > MOST_BLOCKS {
                    return Err(error("", format!("makes more than {MOST_BLOCKS} blocks")));
                }
            }
            self.variables.pop();
        }
        Ok(())
    }

    /// The value whose key the chosen text is; what the others refer to counts as used.
    fn chosen(
        &mut self,
        map: &Map<String, Value>,
        choice: &Value,
        pointer: &str,
        place: &str,
    ) -> Result<Value, ModelError> {
        let at = format!("{place}/{CHOOSE}");
        let chosen = self.value(choice, &at, &at)?;
        let name = match &chosen {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        };
        for (key, branch) in map {
            if key != CHOOSE && *key != name {
                self.note(branch);
            }
        }
        match map.get(&name) {
            Some(branch) if name != CHOOSE => {
                let place = format!("{place}/{name}");
                self.places.insert(pointer.to_owned(), place.clone());
                self.value(branch, pointer, &place)
            }
            _ => {
                let names: Vec<String> = map
                    .keys()
                    .filter(|key| *key != CHOOSE)
                    .map(|key| format!("`{key}`"))
                    .collect();
                Err(ModelError::Field {
                    pointer: at,
                    message: format!("must be one of {}, found `{name}`", names.join(", ")),
                })
            }
        }
    }

    /// Takes note of all hyperparameters that a value names.
    fn note(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                if let Some(formula) = text.strip_prefix('=') {
                    let mut names = Vec::new();
                    if let Ok(expression) = Expression::parse(formula) {
                        expression.hyperparameters(&mut names);
                    }
                    self.used.extend(names);
                } else if let Some(name) = text.strip_prefix('$') {
                    self.used.insert(name.to_owned());
                } else {
                    let parts = text.split('{').skip(1).filter_map(|part| part.split_once('}'));
                    self.used.extend(parts.map(|(name, _)| name.to_owned()));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.note(item)),
            Value::Object(map) => map.values().for_each(|item| self.note(item)),
            _ => {}
        }
    }
}
