//! Studies of Optuna: journal files, one JSON object a line, and databases in `SQLite`.
//!
//! Numbers of states, directions and operations are those of Optuna's `JournalStorage` (3.1 to 5.0), names of tables and columns
//! those of its `RDBStorage` (schema 12).

use std::collections::BTreeMap;

use protocol::json::{self, Dialect, canonical};
use serde_json::{Map, Value, json};

use super::sqlite::{Cell, Database};
use super::{End, Goal, Search, Trial, Wish, chosen, number, space, unfinished};

/// A trial as it is put together from single operations or rows.
#[derive(Debug, Default)]
struct Draft {
    study: i64,
    state: State,
    values: Vec<f64>,
    /// Names with internal values, in order, and what they are drawn from.
    parameters: Vec<(String, f64, Value)>,
    intermediate: BTreeMap<i64, f64>,
    began: Option<f64>,
    ended: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Unfinished,
    Complete,
    Pruned,
    Failed,
}

#[derive(Debug, Default)]
struct Study {
    number: i64,
    name: String,
    maximise: Vec<bool>,
    /// Names of the values, where they were given.
    names: Vec<String>,
}

/// Reads a journal file. Its last line may be torn.
pub(crate) fn from_journal(bytes: &[u8], wish: &Wish) -> Result<Search, String> {
    let (mut studies, mut trials) = (Vec::<Study>::new(), Vec::<Draft>::new());
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    for (index, line) in bytes[..whole].split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let fault = |message: String| format!("line {}: {message}", index + 1);
        let value = json::parse(line, Dialect::NonFinite).map_err(fault)?;
        operation(&value, &mut studies, &mut trials).map_err(|message| fault(message.to_owned()))?;
    }
    finish(studies, trials, wish)
}

fn operation(line: &Value, studies: &mut Vec<Study>, trials: &mut Vec<Draft>) -> Result<(), &'static str> {
    let code = line["op_code"].as_i64().ok_or("expected a number as `op_code`")?;
    let known = |key: &str, most: usize| {
        let index = line[key].as_u64().and_then(|index| usize::try_from(index).ok());
        index
            .filter(|index| *index < most)
            .ok_or("it names a study or trial that there is not")
    };
    match code {
        0 => studies.push(Study {
            number: studies.len() as i64,
            name: line["study_name"].as_str().unwrap_or("no-name").to_owned(),
            maximise: line["directions"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|direction| direction == 2)
                .collect(),
            names: Vec::new(),
        }),
        1 => {
            let study = known("study_id", studies.len())?;
            studies[study].name.clear();
        }
        3 => {
            let study = known("study_id", studies.len())?;
            let names = line["system_attr"]["study:metric_names"].as_array();
            studies[study].names = texts(names.into_iter().flatten());
        }
        4 => {
            let mut draft = Draft {
                study: known("study_id", studies.len())? as i64,
                ..Draft::default()
            };
            ended(&mut draft, line);
            for (name, value) in line["params"].as_object().into_iter().flatten() {
                let drawn = &line["distributions"][name];
                parameter(&mut draft, name, value, drawn)?;
            }
            for (step, value) in line["intermediate_values"].as_object().into_iter().flatten() {
                draft.intermediate.extend(step.parse().ok().zip(number(value)));
            }
            trials.push(draft);
        }
        5 => {
            let trial = known("trial_id", trials.len())?;
            let name = line["param_name"].as_str().unwrap_or_default();
            parameter(
                &mut trials[trial],
                name,
                &line["param_value_internal"],
                &line["distribution"],
            )?;
        }
        6 => {
            let trial = known("trial_id", trials.len())?;
            ended(&mut trials[trial], line);
        }
        7 => {
            let trial = known("trial_id", trials.len())?;
            let report = line["step"].as_i64().zip(number(&line["intermediate_value"]));
            trials[trial].intermediate.extend(report);
        }
        _ => {}
    }
    Ok(())
}

fn texts<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<String> {
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Takes state, values and times of a line.
fn ended(draft: &mut Draft, line: &Value) {
    draft.state = match line["state"].as_i64() {
        Some(1) => State::Complete,
        Some(2) => State::Pruned,
        Some(3) => State::Failed,
        _ => State::Unfinished,
    };
    let values = line["values"].as_array();
    let values: Vec<f64> = values.into_iter().flatten().filter_map(number).collect();
    draft.values = if values.is_empty() {
        number(&line["value"]).into_iter().collect()
    } else {
        values
    };
    draft.began = seconds(line["datetime_start"].as_str()).or(draft.began);
    draft.ended = seconds(line["datetime_complete"].as_str()).or(draft.ended);
}

fn parameter(draft: &mut Draft, name: &str, value: &Value, drawn: &Value) -> Result<(), &'static str> {
    const EXPECTED: &str = "expected a parameter with a number and a distribution";
    let drawn = drawn.as_str().ok_or(EXPECTED)?;
    let drawn = json::parse(drawn.as_bytes(), Dialect::NonFinite).map_err(|_| EXPECTED)?;
    let value = number(value).ok_or(EXPECTED)?;
    draft.parameters.push((name.to_owned(), value, drawn));
    Ok(())
}

/// Reads a database.
pub(crate) fn from_database(bytes: Vec<u8>, wish: &Wish) -> Result<Search, String> {
    let database = Database::new(bytes)?;
    let mut studies: Vec<Study> = Vec::new();
    for [number, name] in database.table("studies")?.select(["study_id", "study_name"]) {
        studies.push(Study {
            number: number.integer().unwrap_or_default(),
            name: name.text().unwrap_or_default().to_owned(),
            ..Study::default()
        });
    }
    if studies.is_empty() {
        return Err("it has no study of Optuna".to_owned());
    }
    let directions = database.table("study_directions")?;
    let mut directions: Vec<_> = directions
        .select(["study_id", "objective", "direction"])
        .map(|[study, objective, direction]| {
            (
                study.integer(),
                objective.integer(),
                direction.text() == Some("MAXIMIZE"),
            )
        })
        .collect();
    directions.sort_unstable();
    for study in &mut studies {
        let own = directions.iter().filter(|(number, ..)| *number == Some(study.number));
        study.maximise = own.map(|(.., maximise)| *maximise).collect();
    }
    for [study, key, value] in database
        .table("study_system_attributes")?
        .select(["study_id", "key", "value_json"])
    {
        let names = value
            .text()
            .and_then(|text| json::parse(text.as_bytes(), Dialect::NonFinite).ok());
        if key.text() == Some("study:metric_names")
            && let Some(Value::Array(names)) = names
            && let Some(study) = studies.iter_mut().find(|found| study.integer() == Some(found.number))
        {
            study.names = texts(names.iter());
        }
    }
    finish(studies, trials_of(&database)?, wish)
}

fn trials_of(database: &Database) -> Result<Vec<Draft>, String> {
    let mut trials: BTreeMap<i64, Draft> = BTreeMap::new();
    for [id, study, state, began, ended] in
        database
            .table("trials")?
            .select(["trial_id", "study_id", "state", "datetime_start", "datetime_complete"])
    {
        let draft = Draft {
            study: study.integer().unwrap_or_default(),
            state: match state.text() {
                Some("COMPLETE") => State::Complete,
                Some("PRUNED") => State::Pruned,
                Some("FAIL") => State::Failed,
                _ => State::Unfinished,
            },
            began: seconds(began.text()),
            ended: seconds(ended.text()),
            ..Draft::default()
        };
        trials.extend(id.integer().map(|id| (id, draft)));
    }
    for [id, name, value, drawn] in
        database
            .table("trial_params")?
            .select(["trial_id", "param_name", "param_value", "distribution_json"])
    {
        if let Some(draft) = id.integer().and_then(|id| trials.get_mut(&id)) {
            let value = value.real().map_or(Value::Null, |value| json!(value));
            let drawn = drawn.text().map_or(Value::Null, Value::from);
            parameter(draft, name.text().unwrap_or_default(), &value, &drawn)?;
        }
    }
    let finite = |value: &Cell, kind: &Cell| match kind.text() {
        Some("INF_POS") => Some(f64::INFINITY),
        Some("INF_NEG") => Some(f64::NEG_INFINITY),
        Some("NAN") => Some(f64::NAN),
        _ => value.real(),
    };
    let values = database.table("trial_values")?;
    let mut values: Vec<_> = values
        .select(["trial_id", "objective", "value", "value_type"])
        .filter_map(|[id, objective, value, kind]| Some((id.integer()?, objective.integer(), finite(value, kind)?)))
        .collect();
    values.sort_by_key(|(id, objective, _)| (*id, *objective));
    for (id, _, value) in values {
        if let Some(draft) = trials.get_mut(&id) {
            draft.values.push(value);
        }
    }
    for [id, step, value, kind] in database.table("trial_intermediate_values")?.select([
        "trial_id",
        "step",
        "intermediate_value",
        "intermediate_value_type",
    ]) {
        if let Some(draft) = id.integer().and_then(|id| trials.get_mut(&id)) {
            draft.intermediate.extend(step.integer().zip(finite(value, kind)));
        }
    }
    Ok(trials.into_values().collect())
}

/// Seconds since the beginning of the year 0 of a time as `2026-11-21T21:23:08.973698+00:00`; only differences are of use.
fn seconds(text: Option<&str>) -> Option<f64> {
    let text = text?;
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<f64>().ok();
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let clock = part(11..13)? * 3600.0 + part(14..16)? * 60.0 + part(17..19)?;
    let fraction = text
        .get(19..)
        .map_or("", |rest| rest.split(['+', 'Z']).next().unwrap_or_default());
    let days = (year * 12.0 + month) * 31.0 + day;
    Some(days * 86_400.0 + clock + fraction.parse::<f64>().unwrap_or(0.0))
}

fn finish(mut studies: Vec<Study>, trials: Vec<Draft>, wish: &Wish) -> Result<Search, String> {
    studies.retain(|study| !study.name.is_empty());
    let names: Vec<String> = studies.iter().map(|study| study.name.clone()).collect();
    let name = chosen("study", "--study", &names, wish.study.as_deref())?;
    let study = studies
        .iter()
        .find(|study| study.name == *name)
        .expect("the name is that of a study");
    let mut search = Search {
        name: name.clone(),
        ..Search::default()
    };
    let single = study.maximise.len() <= 1;
    for index in 0..study.maximise.len().max(1) {
        let given = study.names.get(index).cloned();
        let plain = if single {
            "value".to_owned()
        } else {
            format!("value_{index}")
        };
        search.goals.push(Goal {
            name: given.unwrap_or(plain),
            maximise: study.maximise.get(index).copied().unwrap_or(false),
        });
    }
    let mut left_out = 0;
    for draft in trials.into_iter().filter(|draft| draft.study == study.number) {
        let end = match draft.state {
            State::Unfinished => {
                left_out += 1;
                continue;
            }
            State::Complete if draft.values.len() == search.goals.len() => End::Done(draft.values.clone()),
            State::Complete => End::Failed("it has no value".to_owned()),
            State::Failed => End::Failed("it failed under Optuna".to_owned()),
            State::Pruned => match draft.intermediate.last_key_value() {
                Some((step, value)) if single => {
                    // Steps mostly count from 0, epochs from 1.
                    let from_zero = draft.intermediate.contains_key(&0);
                    let epoch = u64::try_from(*step).unwrap_or(0) + u64::from(from_zero);
                    End::Stopped(epoch.max(1), *value)
                }
                _ => End::Failed("it was pruned before it reported anything".to_owned()),
            },
        };
        let mut point = Map::new();
        for (name, value, drawn) in &draft.parameters {
            point.insert(name.clone(), external(*value, drawn)?);
            merge(&mut search.space, name, drawn)?;
        }
        let seconds = draft
            .began
            .zip(draft.ended)
            .map_or(0.0, |(began, ended)| (ended - began).max(0.0));
        search.trials.push(Trial { point, end, seconds });
    }
    search.remarks.extend(unfinished(left_out));
    Ok(search)
}

/// What a distribution is, in the terms of today's: older versions of Optuna had one for each combination.
struct Range {
    low: f64,
    high: f64,
    step: Option<f64>,
    log: bool,
    is_integer: bool,
}

fn range(drawn: &Value) -> Option<Range> {
    let (name, attributes) = (drawn["name"].as_str()?, &drawn["attributes"]);
    let step = number(&attributes["step"]).or_else(|| number(&attributes["q"]));
    Some(Range {
        low: number(&attributes["low"])?,
        high: number(&attributes["high"])?,
        step,
        log: attributes["log"] == true || name.contains("Log"),
        is_integer: name.starts_with("Int"),
    })
}

/// The value that a user saw.
fn external(value: f64, drawn: &Value) -> Result<Value, String> {
    if let Some(choices) = drawn["attributes"]["choices"].as_array() {
        let choice = choices.get(value as usize).filter(|_| value >= 0.0);
        return choice
            .cloned()
            .ok_or_else(|| format!("choice {value} of {} is beyond the list", canonical(drawn)));
    }
    match range(drawn) {
        Some(range) if range.is_integer => Ok(json!(value as i64)),
        Some(_) if value.is_finite() => Ok(json!(value)),
        _ => Err(format!(
            "a parameter of the distribution {} is not known",
            canonical(drawn)
        )),
    }
}

/// Widens the dimension so that it holds the distribution, too: it may differ from trial to trial.
fn merge(space: &mut Map<String, Value>, name: &str, drawn: &Value) -> Result<(), String> {
    let dimension = if let Some(choices) = drawn["attributes"]["choices"].as_array() {
        let mut all: Vec<Value> = space
            .get(name)
            .and_then(|known| known["dimension"]["categories"].as_array().cloned())
            .unwrap_or_default();
        for choice in choices {
            if !all.iter().any(|known| canonical(known) == canonical(choice)) {
                all.push(choice.clone());
            }
        }
        space::categories(all)
    } else {
        let found = range(drawn).ok_or_else(|| format!("the distribution {} is not known", canonical(drawn)))?;
        let known = |key: &str| space.get(name).and_then(|known| known["dimension"][key].as_f64());
        let low = known("low").unwrap_or(found.low).min(found.low);
        let high = known("high").unwrap_or(found.high).max(found.high);
        if found.is_integer {
            let step = found.step.unwrap_or(1.0).max(1.0);
            space::integers(low as i64, high as i64, step as i64, found.log)
        } else {
            space::reals(low, high, found.step, found.log)
        }
    };
    space.insert(name.to_owned(), dimension);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_differ_by_their_seconds() {
        let of = |text| seconds(Some(text)).unwrap();
        let difference = of("2026-11-22T00:00:00.250000+00:00") - of("2026-11-21 23:59:59.500000");
        assert!((difference - 0.75).abs() < 1e-3, "{difference}");
        assert_eq!(seconds(Some("yesterday")), None);
        assert_eq!(seconds(Some("2026-11-21")), None);
    }

    #[test]
    fn faults_of_a_journal_have_lines() {
        let fault = |text: &str| from_journal(text.as_bytes(), &Wish::default()).unwrap_err();
        let study = "{\"op_code\":0,\"worker_id\":\"w\",\"study_name\":\"s\",\"directions\":[1]}\n";
        assert_eq!(fault("{}\n"), "line 1: expected a number as `op_code`");
        assert_eq!(
            fault(&format!("{study}{{\"op_code\":4,\"study_id\":1}}\n")),
            "line 2: it names a study or trial that there is not"
        );
        assert_eq!(fault(""), "there is no study");
        let two = format!("{study}{}", study.replace("\"s\"", "\"t\""));
        assert!(fault(&two).contains("choose one with `--study`"));
        // A torn last line was never acknowledged.
        assert_eq!(
            from_journal(format!("{study}{{\"op").as_bytes(), &Wish::default())
                .unwrap()
                .name,
            "s"
        );
    }

    #[test]
    fn distributions_of_older_versions_are_read() {
        let old = |name: &str, attributes: Value| {
            let mut space = Map::new();
            merge(&mut space, "x", &json!({"name": name, "attributes": attributes})).unwrap();
            space["x"]["method"].as_str().unwrap().to_owned()
        };
        assert_eq!(old("UniformDistribution", json!({"low": 0.0, "high": 1.0})), "uniform");
        assert_eq!(
            old("LogUniformDistribution", json!({"low": 0.1, "high": 1.0})),
            "loguniform"
        );
        assert_eq!(
            old(
                "DiscreteUniformDistribution",
                json!({"low": 0.0, "high": 1.0, "q": 0.25})
            ),
            "categorical"
        );
        assert_eq!(
            old("IntUniformDistribution", json!({"low": 0, "high": 9, "step": 1})),
            "uniformint"
        );
        assert_eq!(
            old("IntLogUniformDistribution", json!({"low": 1, "high": 9, "step": 1})),
            "loguniformint"
        );
    }
}
