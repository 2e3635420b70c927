//! Options from files, and options over options.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::TaskOptions;
use crate::error::{DocumentError, Problem, did_you_mean, pointer};
use crate::json::{self, Dialect};
use crate::limits;

/// Keys that phpo or an editor knows and a task file may carry, but which are not options of a task.
pub(super) const IGNORED_KEYS: [&str; 7] = [
    json::SCHEMA_KEY,
    "loadJson",
    "dumpJson",
    "version",
    "helpGroup",
    "returnCode",
    "returnOut",
];

impl TaskOptions {
    /// Names of all options as JSON keys, in the order of the declaration.
    #[must_use]
    pub fn keys() -> Vec<String> {
        use clap::Args as _;
        Self::augment_args(clap::Command::new("keys"))
            .get_arguments()
            .map(|argument| json_key(argument.get_id().as_str()))
            .collect()
    }

    /// Reads options from a JSON object. Unknown keys are warned of, as phpo does, and skipped.
    ///
    /// # Errors
    /// All wrong types at once, with pointers.
    pub fn from_map(map: &Map<String, Value>) -> Result<(Self, Vec<String>), Vec<Problem>> {
        static KNOWN: LazyLock<Vec<String>> = LazyLock::new(TaskOptions::keys);
        let known = &*KNOWN;
        let (mut accepted, mut warnings, mut problems) = (Map::new(), Vec::new(), Vec::new());
        for (key, value) in map {
            if IGNORED_KEYS.contains(&key.as_str()) {
                continue;
            }
            if !known.contains(key) {
                let hint = did_you_mean(key, known.iter().map(String::as_str));
                warnings.push(format!("unknown option `{key}` is ignored{hint}"));
                continue;
            }
            let alone: Map<String, Value> = [(key.clone(), value.clone())].into_iter().collect();
            match serde_json::from_value::<Self>(Value::Object(alone.clone())) {
                Ok(_) => accepted.extend(alone),
                Err(error) => problems.push(Problem::new(pointer("", key), error.to_string())),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        serde_json::from_value(Value::Object(accepted))
            .map(|options| (options, warnings))
            .map_err(|error| vec![Problem::new("", error.to_string())])
    }

    /// Reads a task file, or a phpo configuration. Comments and trailing commas are accepted. Also returns warnings.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(path: &Path) -> Result<(Self, Vec<String>), DocumentError> {
        const WHAT: &str = "task file";
        match json::read(WHAT, path, limits::DOCUMENT_BYTES, Dialect::Commented)? {
            Value::Object(map) => Self::from_map(&map).map_err(|problems| DocumentError::invalid(WHAT, path, problems)),
            other => {
                let message = format!("expected an object of options, found {}", json::type_name(&other));
                Err(DocumentError::invalid(WHAT, path, vec![Problem::new("", message)]))
            }
        }
    }

    /// These options laid over `below`: what is given here wins. Also returns the keys that both give with different values.
    ///
    /// # Panics
    /// Never: every value was read from valid options.
    #[must_use]
    pub fn over(&self, below: &Self) -> (Self, Vec<String>) {
        let mut merged = as_map(below);
        let mut overridden = Vec::new();
        for (key, value) in as_map(self) {
            if merged.get(&key).is_some_and(|other| *other != value) {
                overridden.push(key.clone());
            }
            merged.insert(key, value);
        }
        let merged = serde_json::from_value(Value::Object(merged)).expect("two valid sets of options merge into one");
        (merged, overridden)
    }
}

fn as_map(options: &TaskOptions) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        _ => unreachable!("a struct serialises into an object"),
    }
}

/// The JSON key of the option whose field is called `id`.
pub(super) fn json_key(id: &str) -> String {
    match id {
        "training_ds" => "trainingDS".to_owned(),
        "out_ds" => "outDS".to_owned(),
        _ => camel_case(id),
    }
}

fn camel_case(id: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for letter in id.chars() {
        if letter == '_' {
            upper = true;
        } else {
            out.extend(if upper {
                letter.to_uppercase().collect::<Vec<_>>()
            } else {
                vec![letter]
            });
            upper = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(value: &Value) -> (TaskOptions, Vec<String>) {
        TaskOptions::from_map(value.as_object().unwrap()).unwrap()
    }

    #[test]
    fn every_declared_key_is_a_json_key() {
        let keys = TaskOptions::keys();
        for phpo in [
            "nParallelEvaluation",
            "maxPoints",
            "maxEvaluationJobs",
            "maxPointsPerEvaluationJob",
            "nPointsPerIteration",
            "minUnevaluatedPoints",
            "steeringContainer",
            "steeringExec",
            "searchSpaceFile",
            "evaluationContainer",
            "evaluationExec",
            "evaluationInput",
            "evaluationTrainingData",
            "evaluationOutput",
            "evaluationMeta",
            "evaluationMetrics",
            "checkPointToSave",
            "checkPointToLoad",
            "checkPointInterval",
            "alrbArgs",
            "architecture",
            "segmentSpecFile",
            "verbose",
            "trainingDS",
            "outDS",
            "official",
            "site",
            "workingGroup",
            "noSubmit",
            "python3",
            "vomsRoles",
            "noEmail",
            "intrSrv",
        ] {
            assert!(keys.iter().any(|key| key == phpo), "{phpo} is missing");
        }
        for key in &keys {
            let accepted = [json!(1), json!("pair"), json!("auto"), json!("files"), json!("slurm")]
                .iter()
                .any(|value| {
                    let map = [(key.clone(), value.clone())].into_iter().collect();
                    TaskOptions::from_map(&map)
                        .is_ok_and(|(options, warnings)| warnings.is_empty() && options != TaskOptions::default())
                });
            assert!(accepted, "{key} is declared but not read");
        }
    }

    #[test]
    fn integers_may_be_strings_and_strings_integers_as_in_phpo() {
        let (found, warnings) = options(&json!({"maxPoints": "12", "outDS": 7, "minUnevaluatedPoints": null}));
        assert_eq!(
            (found.max_points, found.out_ds.as_deref(), found.min_unevaluated_points),
            (Some(12), Some("7"), None)
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn unknown_keys_are_warned_of_and_wrong_types_are_errors_with_places() {
        let (_, warnings) = options(&json!({"maxPoint": 3}));
        assert_eq!(
            warnings,
            ["unknown option `maxPoint` is ignored; did you mean `maxPoints`?"]
        );
        let map = json!({"maxPoints": 2.5, "evaluationExec": true, "noEmail": "x", "evaluationInputFormat": "pairs"});
        let problems: Vec<_> = TaskOptions::from_map(map.as_object().unwrap())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            problems,
            [
                "at `/maxPoints`: expected an integer from 0, found 2.5",
                "at `/evaluationExec`: expected a string, found a boolean",
                "at `/noEmail`: expected true or false, found \"x\"",
                "at `/evaluationInputFormat`: unknown variant `pairs`, expected `pair` or `plain`",
            ]
        );
    }

    #[test]
    fn what_is_laid_over_wins_and_is_reported() {
        let (file, _) = options(&json!({"maxPoints": 12, "outDS": "a"}));
        let (line, _) = options(&json!({"maxPoints": 7, "seed": 3}));
        let (merged, overridden) = line.over(&file);
        assert_eq!(
            (merged.max_points, merged.seed, merged.out_ds.as_deref()),
            (Some(7), Some(3), Some("a"))
        );
        assert_eq!(overridden, ["maxPoints"]);
    }
}
