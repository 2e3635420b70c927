//! The scheduler of a task: the options that name it, as what our steering takes them for.

use std::fmt::Write as _;

use protocol::Problem;
use protocol::task_options::TaskOptions;
use steering::schedulers::{Fidelity, Registry, Schedule};

/// The scheduler that the options ask for, if they do.
///
/// # Errors
/// All that is wrong about it, with pointers to the keys.
pub(crate) fn schedule(options: &TaskOptions) -> Result<Option<Schedule>, Vec<Problem>> {
    let problem = |key: &str, message: String| vec![Problem::new(format!("/{key}"), message)];
    let Some(scheduler) = options.scheduler.clone() else {
        let idle = [
            ("minEpochs", options.min_epochs.is_some()),
            ("maxEpochs", options.max_epochs.is_some()),
            ("minFraction", options.min_fraction.is_some()),
            ("schedule", options.schedule.is_some()),
        ];
        let idle = idle.into_iter().filter(|(_, given)| *given);
        let problems: Vec<Problem> = idle
            .flat_map(|(key, _)| problem(key, "is of no use without `scheduler`".to_owned()))
            .collect();
        return if problems.is_empty() { Ok(None) } else { Err(problems) };
    };
    let fidelity = match (options.max_epochs, options.min_fraction.as_deref()) {
        (Some(_), Some(_)) => {
            return Err(problem(
                "minFraction",
                "and `maxEpochs` exclude each other: a scheduler grants either epochs or shares of the data".to_owned(),
            ));
        }
        (Some(full), None) => Fidelity::epochs(options.min_epochs.unwrap_or(1), full)
            .map_err(|error| problem("maxEpochs", format!("is no range with `minEpochs`: {error}")))?,
        (None, Some(_)) if options.min_epochs.is_some() => {
            return Err(problem("minEpochs", "is of no use without `maxEpochs`".to_owned()));
        }
        (None, Some(share)) => {
            let share = share.trim().parse().unwrap_or(f64::NAN);
            Fidelity::fraction(share).map_err(|error| problem("minFraction", error.to_string()))?
        }
        (None, None) => {
            return Err(problem(
                "scheduler",
                format!(
                    "`{scheduler}` needs to know what full training is: give `maxEpochs`, or `minFraction` to schedule the share of the training data"
                ),
            ));
        }
    };
    let mut settings = Vec::new();
    for setting in options.schedule.iter().flatten() {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(problem("schedule", format!("expected `name=value`, found `{setting}`")));
        };
        settings.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let schedule = Schedule {
        scheduler,
        settings,
        fidelity,
    };
    let key = |name: &str| {
        if name.contains("no scheduler") {
            "scheduler"
        } else {
            "schedule"
        }
    };
    match Registry::standard().build(&schedule) {
        Ok(_) => Ok(Some(schedule)),
        Err(error) => Err(problem(key(&error.to_string()), error.to_string())),
    }
}

/// The options of `steering ask` that say the same.
pub(super) fn arguments(options: &TaskOptions) -> String {
    let Some(scheduler) = &options.scheduler else {
        return String::new();
    };
    let mut text = format!(" --scheduler {}", quoted(scheduler));
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(text, " --{name} {}", quoted(&value));
        }
    };
    add("min-epochs", options.min_epochs.map(|count| count.to_string()));
    add("max-epochs", options.max_epochs.map(|count| count.to_string()));
    add("min-fraction", options.min_fraction.clone());
    for setting in options.schedule.iter().flatten() {
        add("schedule", Some(setting.clone()));
    }
    text
}

/// A word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.=%+:,/".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(value: &serde_json::Value) -> TaskOptions {
        TaskOptions::from_map(value.as_object().unwrap()).unwrap().0
    }

    #[test]
    fn the_same_scheduler_is_meant_here_and_by_steering() {
        let options = options(&json!({
            "scheduler": "pbt", "minEpochs": 2, "maxEpochs": "12", "schedule": {"population": 6, "frozen": "units, layers"}
        }));
        let schedule = schedule(&options).unwrap().unwrap();
        assert_eq!((schedule.fidelity.least(), schedule.fidelity.full()), (2, 12));
        assert_eq!(schedule.settings[0], ("population".to_owned(), "6".to_owned()));
        assert_eq!(
            arguments(&options),
            " --scheduler pbt --min-epochs 2 --max-epochs 12 --schedule population=6 --schedule 'frozen=units, layers'"
        );
    }

    #[test]
    fn what_makes_no_schedule_is_told_with_its_key() {
        for (given, expected) in [
            (
                json!({"scheduler": "asha"}),
                "at `/scheduler`: `asha` needs to know what full training is: give `maxEpochs`, or `minFraction` to schedule the share of the training data",
            ),
            (
                json!({"scheduler": "asha", "minEpochs": 9, "maxEpochs": 3}),
                "at `/maxEpochs`: is no range with `minEpochs`: expected 1 ≤ least epochs ≤ full epochs ≤ 2⁴⁰, found 9 and 3",
            ),
            (
                json!({"scheduler": "asha", "maxEpochs": 3, "schedule": ["eta=1"]}),
                "at `/schedule`: the setting `eta` of the scheduler `asha` must be an integer from 2 to 1000000, found `1`",
            ),
            (
                json!({"scheduler": "pbt", "maxEpochs": 3, "schedule": "population=3"}),
                "at `/schedule`: the setting `population` of the scheduler `pbt` must be an integer from 4, found `3`",
            ),
            (
                json!({"scheduler": "asha", "maxEpochs": 3, "minFraction": 0.1}),
                "at `/minFraction`: and `maxEpochs` exclude each other: a scheduler grants either epochs or shares of the data",
            ),
            (
                json!({"scheduler": "two-step", "minFraction": "half"}),
                "at `/minFraction`: expected a least share of the data from 0.000001 to 1, found NaN",
            ),
            (
                json!({"maxEpochs": 3}),
                "at `/maxEpochs`: is of no use without `scheduler`",
            ),
            (
                json!({"scheduler": "asha", "maxEpochs": 3, "schedule": "eta"}),
                "at `/schedule`: expected `name=value`, found `eta`",
            ),
        ] {
            let problems = schedule(&options(&given)).unwrap_err();
            assert_eq!(problems[0].to_string(), expected);
        }
        let unknown = schedule(&options(&json!({"scheduler": "ahsa", "maxEpochs": 3}))).unwrap_err();
        assert!(
            unknown[0]
                .to_string()
                .starts_with("at `/scheduler`: no scheduler is called `ahsa`"),
            "{unknown:?}"
        );
    }
}
