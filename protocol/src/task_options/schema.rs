//! The JSON Schema of task files, for editors. Made of the command line, so that no option can be forgotten.

use std::any::TypeId;

use clap::{Arg, ArgAction, Args as _};
use serde_json::{Map, Value, json};

use super::TaskOptions;
use super::reading::{IGNORED_KEYS, json_key};

impl TaskOptions {
    /// The schema (draft 2020-12) of a task file: the same values are valid that are read without an error. It also refuses unknown
    /// keys, which are read with a warning.
    #[must_use]
    pub fn schema() -> Value {
        let command = Self::augment_args(clap::Command::new("options"));
        let mut properties: Map<String, Value> = (IGNORED_KEYS.iter())
            .map(|key| ((*key).to_owned(), json!({"description": "Not an option of the task"})))
            .collect();
        for argument in command.get_arguments() {
            let mut property = shape(argument);
            if let Some(help) = argument.get_help() {
                property["description"] = json!(help.to_string());
            }
            properties.insert(json_key(argument.get_id().as_str()), property);
        }
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Task of hpo",
            "description": "Options of `hpo run`, by their names without dashes; comments and trailing commas are accepted",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// Which values an option takes, by what its command line takes; see `values` for why it is more than one type.
fn shape(argument: &Arg) -> Value {
    let names: Vec<String> = (argument.get_possible_values().iter())
        .map(|value| value.get_name().to_owned())
        .collect();
    let kind = argument.get_value_parser().type_id();
    if kind == TypeId::of::<bool>() {
        json!({"enum": [true, false, 0, 1, null]})
    } else if !names.is_empty() {
        let names: Vec<Value> = names.into_iter().map(Value::from).chain([Value::Null]).collect();
        json!({ "enum": names })
    } else if kind == TypeId::of::<u32>() || kind == TypeId::of::<u64>() {
        let largest = if kind == TypeId::of::<u32>() {
            u64::from(u32::MAX)
        } else {
            u64::MAX
        };
        json!({"type": ["integer", "string", "null"], "minimum": 0, "maximum": largest, "pattern": r"^\s*\+?[0-9]+\s*$"})
    } else if matches!(argument.get_action(), ArgAction::Append) {
        json!({"type": ["array", "object", "string", "number", "null"]})
    } else {
        json!({"type": ["string", "number", "object", "null"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_every_option_with_its_help() {
        let schema = TaskOptions::schema();
        for key in TaskOptions::keys() {
            let property = &schema["properties"][&key];
            assert!(property["description"].is_string(), "{key}: {property}");
        }
        let of = |key: &str| schema["properties"][key].clone();
        assert_eq!(of("maxPoints")["minimum"], 0);
        assert_eq!(of("noEmail")["enum"], json!([true, false, 0, 1, null]));
        assert!(of("backend")["enum"].as_array().unwrap().contains(&json!("slurm")));
        assert!(of("outDS")["type"].as_array().unwrap().contains(&json!("string")));
    }

    /// The schema's word on a value, for the few keywords that it uses.
    fn allows(property: &Value, value: &Value) -> bool {
        if let Some(values) = property["enum"].as_array() {
            return values.contains(value);
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let types = property["type"].as_array().expect("a property has types or values");
        let is_of = |name: &str| types.iter().any(|other| other == name);
        let in_range = value.as_f64().is_none_or(|number| {
            let bound = |key: &str| property[key].as_f64();
            bound("minimum").is_none_or(|least| number >= least) && bound("maximum").is_none_or(|most| number <= most)
        });
        let digits = |text: &str| {
            text.trim()
                .strip_prefix('+')
                .unwrap_or(text.trim())
                .parse::<u64>()
                .is_ok()
        };
        let matches = property["pattern"].is_null() || value.as_str().is_none_or(digits);
        (is_of(kind) || kind == "integer" && is_of("number")) && in_range && matches
    }

    #[test]
    fn the_schema_allows_what_is_read_and_nothing_else() {
        let schema = TaskOptions::schema();
        let mut values = vec![
            json!(null),
            json!(true),
            json!(0),
            json!(1),
            json!(7),
            json!(-1),
            json!(2.5),
            json!("7"),
            json!("seven"),
            json!("local"),
            json!([]),
            json!(["a=1"]),
            json!({"a": 1}),
        ];
        values.push(json!(u64::from(u32::MAX) + 1));
        for (key, property) in schema["properties"].as_object().unwrap() {
            if IGNORED_KEYS.contains(&key.as_str()) {
                continue;
            }
            for value in &values {
                let map: Map<String, Value> = [(key.clone(), value.clone())].into_iter().collect();
                assert_eq!(
                    allows(property, value),
                    TaskOptions::from_map(&map).is_ok(),
                    "{key}: {value} against {property}"
                );
            }
        }
    }
}
