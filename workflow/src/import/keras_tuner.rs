//! Projects of Keras Tuner: `oracle.json`, and a `trial.json` for each trial (version 1.4).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{End, Goal, Search, Trial, Wish, chosen, document, number, space, unfinished};

type Content<T> = Result<T, String>;

pub(super) fn read(path: &Path, wish: &Wish) -> Result<Content<Search>, protocol::DocumentError> {
    let oracle = document(&path.join("oracle.json"))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("trial.json"))
        .filter(|file| file.is_file())
        .collect();
    files.sort();
    let mut trials = files.iter().map(|file| document(file)).collect::<Result<Vec<_>, _>>()?;
    // They began in this order; those that it does not name come last.
    let order = oracle["start_order"].as_array().cloned().unwrap_or_default();
    trials.sort_by_key(|trial| {
        order
            .iter()
            .position(|id| *id == trial["trial_id"])
            .unwrap_or(order.len())
    });
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(search(name, &oracle, &trials, wish))
}

fn search(name: String, oracle: &Value, trials: &[Value], wish: &Wish) -> Content<Search> {
    let mut search = Search {
        name,
        ..Search::default()
    };
    let own = [&oracle["hyperparameters"]];
    for hyperparameters in own
        .into_iter()
        .chain(trials.iter().map(|trial| &trial["hyperparameters"]))
    {
        for found in hyperparameters["space"].as_array().into_iter().flatten() {
            let config = &found["config"];
            let Some(name) = config["name"].as_str().filter(|name| !search.space.contains_key(*name)) else {
                continue;
            };
            let mut dimension = dimension(found).ok_or_else(|| format!("the hyperparameter {found} is not known"))?;
            let conditions = conditions(&config["conditions"]);
            if !conditions.is_empty() {
                dimension["if"] = Value::Object(conditions);
            }
            search.space.insert(name.to_owned(), dimension);
        }
    }
    // A trial had other hyperparameters than the space has today, if the program changed in between.
    let goal = goal(trials, wish)?;
    let mut left_out = 0;
    for trial in trials {
        let end = match trial["status"].as_str() {
            Some("COMPLETED" | "STOPPED") => {
                let value = goal.as_ref().and_then(|goal| value(trial, &goal.name));
                value.map_or_else(
                    || End::Failed("it has no value".to_owned()),
                    |value| End::Done(vec![value]),
                )
            }
            Some("INVALID" | "FAILED") => {
                let message = trial["message"].as_str().unwrap_or_default().trim();
                let last = message.lines().last().unwrap_or("it failed under Keras Tuner");
                End::Failed(last.to_owned())
            }
            _ => {
                left_out += 1;
                continue;
            }
        };
        let values = trial["hyperparameters"]["values"].as_object();
        let mut point = values.cloned().unwrap_or_default();
        // What the tuner itself keeps there, as Hyperband does.
        point.retain(|name, _| !name.starts_with("tuner/"));
        search.trials.push(Trial {
            point,
            end,
            seconds: 0.0,
        });
    }
    search.goals.extend(goal);
    search.remarks.extend(unfinished(left_out));
    Ok(search)
}

/// What the score is: the one metric whose best value it is, unless the user names one.
fn goal(trials: &[Value], wish: &Wish) -> Content<Option<Goal>> {
    let mut names: Vec<String> = Vec::new();
    let mut direction = Map::new();
    let mut scored: Vec<String> = Vec::new();
    for trial in trials {
        for (name, metric) in trial["metrics"]["metrics"].as_object().into_iter().flatten() {
            if !names.contains(name) {
                names.push(name.clone());
                direction.insert(name.clone(), metric["direction"].clone());
            }
            let same = value(trial, name).zip(number(&trial["score"]));
            if same.is_some_and(|(value, score)| value.total_cmp(&score).is_eq()) && !scored.contains(name) {
                scored.push(name.clone());
            }
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    let known = if wish.metric.is_none() && scored.len() == 1 {
        &scored
    } else {
        &names
    };
    let name = chosen("metric", "--metric", known, wish.metric.as_deref())?;
    let maximise = wish.maximise.unwrap_or_else(|| direction[name] == "max");
    Ok(Some(Goal {
        name: name.clone(),
        maximise,
    }))
}

/// The best value of a metric, which Keras Tuner calls the score: each is the mean over the executions of one step.
fn value(trial: &Value, name: &str) -> Option<f64> {
    let metric = &trial["metrics"]["metrics"][name];
    let means = metric["observations"].as_array()?.iter().filter_map(|observation| {
        let values: Vec<f64> = observation["value"].as_array()?.iter().filter_map(number).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    });
    let finite = means.filter(|mean| mean.is_finite());
    if metric["direction"] == "max" {
        finite.max_by(f64::total_cmp)
    } else {
        finite.min_by(f64::total_cmp)
    }
}

fn dimension(found: &Value) -> Option<Value> {
    let config = &found["config"];
    let log = config["sampling"] == "log";
    match found["class_name"].as_str()? {
        "Fixed" => Some(space::dimension("fixed", &json!({"value": config["value"]}))),
        "Boolean" => Some(space::categories(vec![json!(true), json!(false)])),
        "Choice" => Some(space::categories(config["values"].as_array()?.clone())),
        "Int" => {
            let (low, high) = (config["min_value"].as_i64()?, config["max_value"].as_i64()?);
            let step = config["step"].as_i64().unwrap_or(1);
            if log && step > 1 {
                let powers = std::iter::successors(Some(low.max(1)), |value| value.checked_mul(step));
                return Some(space::categories(
                    powers.take_while(|value| *value <= high).map(Value::from),
                ));
            }
            Some(space::integers(low, high, step, log))
        }
        "Float" => {
            let (low, high) = (config["min_value"].as_f64()?, config["max_value"].as_f64()?);
            match config["step"].as_f64() {
                // Under a logarithm the step is a factor.
                Some(step) if log && step > 1.0 && low > 0.0 => {
                    let powers = std::iter::successors(Some(low), |value| Some(value * step));
                    let values = powers.take_while(|value| *value <= high * (1.0 + 1e-9)).take(1_000);
                    Some(space::categories(values.map(Value::from)))
                }
                step => Some(space::reals(low, high, step, log)),
            }
        }
        _ => None,
    }
}

fn conditions(list: &Value) -> Map<String, Value> {
    let parents = list.as_array().into_iter().flatten().filter_map(|condition| {
        let config = &condition["config"];
        let values = config["values"].as_array().filter(|values| !values.is_empty())?;
        Some((config["name"].as_str()?.to_owned(), Value::from(values.clone())))
    });
    parents.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_under_a_logarithm_are_factors() {
        let found = |class: &str, config: Value| dimension(&json!({"class_name": class, "config": config})).unwrap();
        let powers = found(
            "Int",
            json!({"min_value": 8, "max_value": 64, "step": 2, "sampling": "log"}),
        );
        assert_eq!(powers["dimension"]["categories"], json!([8, 16, 32, 64]));
        let decades = found(
            "Float",
            json!({"min_value": 0.001, "max_value": 0.1, "step": 10, "sampling": "log"}),
        );
        assert_eq!(decades["dimension"]["categories"].as_array().unwrap().len(), 3);
        assert_eq!(
            found("Boolean", json!({}))["dimension"]["categories"],
            json!([true, false])
        );
    }
}
