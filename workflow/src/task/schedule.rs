//! The scheduler of a task: the options that name it, as what our steering takes them for.

use std::fmt::Write as _;

use protocol::Problem;
use protocol::task_options::TaskOptions;
use steering::registry::SetupError;
use steering::schedulers::{Fidelity, Registry, Schedule};

/// The scheduler that the options ask for, if they do.
///
/// # Errors
/// All that is wrong about it, with pointers to the keys.
pub(crate) fn schedule(options: &TaskOptions) -> Result<Option<Schedule>, Vec<Problem>> {
    let problem = |key: &str, message: String| vec![Problem::new(format!("/{key}"), message)];
    if let Some(parts) = &options.two_step {
        return two_step(options, parts).map_err(|message| problem("twoStep", message));
    }
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
    let is_table = |(name, value): &(String, String)| name == "table" && value == "on";
    if schedule.settings.iter().any(is_table) {
        let message =
            "`table=on` is for managers that hear of no epoch; this one decides while evaluations run".to_owned();
        return Err(problem("schedule", message));
    }
    match Registry::standard().build(&schedule) {
        Ok(_) => Ok(Some(schedule)),
        Err(error @ SetupError::Unknown { .. }) => Err(problem("scheduler", error.to_string())),
        Err(error) => Err(problem("schedule", error.to_string())),
    }
}

/// `twoStep` in words of the scheduler of that name.
fn two_step(options: &TaskOptions, parts: &[String]) -> Result<Option<Schedule>, String> {
    let others = [
        ("scheduler", options.scheduler.is_some()),
        ("minEpochs", options.min_epochs.is_some()),
        ("maxEpochs", options.max_epochs.is_some()),
        ("minFraction", options.min_fraction.is_some()),
        ("schedule", options.schedule.is_some()),
    ];
    if let Some((key, _)) = others.iter().find(|(_, given)| *given) {
        return Err(format!(
            "and `{key}` exclude each other: it is a scheduler with settings of its own"
        ));
    }
    let (mut fraction, mut settings) = (None, Vec::new());
    for part in parts.iter().flat_map(|part| part.split(',')).map(str::trim) {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!(
                "expected `name=value`, such as `fraction=0.05`, found `{part}`"
            ));
        };
        match name.trim() {
            // A ladder of shares: the first is the least, the others are further rungs.
            "fraction" => {
                let (least, further) = value
                    .trim()
                    .split_once('/')
                    .map_or((value.trim(), None), |(least, further)| (least, Some(further)));
                fraction = Some(least.trim().parse().unwrap_or(f64::NAN));
                settings.extend(further.map(|further| ("ladder".to_owned(), further.to_owned())));
            }
            name => settings.push((name.to_owned(), value.trim().to_owned())),
        }
    }
    let Some(fraction) = fraction else {
        return Err("needs the share of the data for the first step, such as `fraction=0.05`".to_owned());
    };
    let schedule = Schedule {
        scheduler: TWO_STEP.to_owned(),
        settings,
        fidelity: Fidelity::fraction(fraction).map_err(|error| error.to_string())?,
    };
    let built = Registry::standard().build(&schedule);
    built.map(|_| Some(schedule)).map_err(|error| error.to_string())
}

/// Name of the scheduler of [`two_step`].
const TWO_STEP: &str = "two-step";

/// The options of `steering ask` that say the same.
pub(super) fn arguments(options: &TaskOptions) -> String {
    if options.two_step.is_some()
        && let Ok(Some(schedule)) = schedule(options)
    {
        let least = schedule.fidelity.value(schedule.fidelity.least());
        let mut text = format!(" --scheduler {TWO_STEP} --min-fraction {least}");
        for (name, value) in &schedule.settings {
            let _ = write!(text, " --schedule {}", quoted(&format!("{name}={value}")));
        }
        return text;
    }
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
    fn two_steps_are_a_scheduler_in_short() {
        for given in [
            json!("fraction=0.05, top=2%,epochs=3"),
            json!({"fraction": 0.05, "top": "2%", "epochs": 3}),
        ] {
            let options = options(&json!({"twoStep": given}));
            assert_eq!(
                arguments(&options),
                " --scheduler two-step --min-fraction 0.05 --schedule top=2% --schedule epochs=3"
            );
        }
        assert_eq!(
            arguments(&options(&json!({"twoStep": "fraction=0.05/0.2/0.5"}))),
            " --scheduler two-step --min-fraction 0.05 --schedule ladder=0.2/0.5"
        );
        let told = |given: serde_json::Value| schedule(&options(&given)).unwrap_err()[0].to_string();
        assert_eq!(
            told(json!({"twoStep": "top=3"})),
            "at `/twoStep`: needs the share of the data for the first step, such as `fraction=0.05`"
        );
        assert_eq!(
            told(json!({"twoStep": "fraction=2"})),
            "at `/twoStep`: expected a least share of the data from 0.000001 to 1, found 2"
        );
        assert_eq!(
            told(json!({"twoStep": "fraction=0.1,top=0"})),
            "at `/twoStep`: the setting `top` of the scheduler `two-step` must be a number from 1, or a share above 0% and up to 100%, found `0`"
        );
        assert_eq!(
            told(json!({"twoStep": "fraction=0.1", "maxEpochs": 3})),
            "at `/twoStep`: and `maxEpochs` exclude each other: it is a scheduler with settings of its own"
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
                json!({"scheduler": "median", "maxEpochs": 3, "schedule": "table=on"}),
                "at `/schedule`: `table=on` is for managers that hear of no epoch; this one decides while evaluations run",
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
