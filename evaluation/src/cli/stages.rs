//! What a scheduler writes into a point as text: the schedule of a population's member, and cutoffs.
//!
//! `hpo.sched` is `2:rate=0.1,drop=0;5:rate=0.08,drop=0.1`: up to epoch 2 with a rate of 0.1, then up to epoch 5 with 0.08, and after
//! that with what the point itself says. Values are JSON. `hpo.stop` is `3:0.5;9:0.4`: whoever is worse than 0.5 after epoch 3 ends.

use protocol::{Point, exit};
use serde_json::Value;

use super::failure::Failure;
use crate::model::{ModelFile, Resolved};
use crate::training::TrainingPlan;

/// Up to which epoch, and the hyperparameters that were different until then.
pub(super) type Stage = (usize, Vec<(String, Value)>);

/// Reads `hpo.sched`.
pub(super) fn read_schedule(text: &str) -> Result<Vec<Stage>, Failure> {
    let wrong = |what: &str, rest: &str| {
        let place = text.len() - rest.len();
        let message = format!(
            "point: `hpo.sched` must be like `2:rate=0.1;5:rate=0.08`, expected {what} at byte {place} of `{text}`"
        );
        Failure::new(exit::USAGE, message)
    };
    let mut stages: Vec<Stage> = Vec::new();
    let mut rest = text;
    loop {
        let (epoch, after) = rest.split_once(':').ok_or_else(|| wrong("an epoch and `:`", rest))?;
        let least = stages.last().map_or(1, |(before, _)| before + 1);
        let epoch = epoch.parse().ok().filter(|epoch| *epoch >= least);
        let epoch: usize = epoch.ok_or_else(|| wrong(&format!("an epoch from {least}"), rest))?;
        rest = after;
        let mut changes = Vec::new();
        loop {
            let (name, after) = rest.split_once('=').ok_or_else(|| wrong("a name and `=`", rest))?;
            let (value, length) = leading_value(after).ok_or_else(|| wrong("a JSON value", after))?;
            changes.push((name.to_owned(), value));
            rest = &after[length..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        stages.push((epoch, changes));
        match rest.strip_prefix(';') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(stages),
            None => return Err(wrong("`,`, `;` or the end", rest)),
        }
    }
}

/// The JSON value with which a text begins, and its length.
fn leading_value(text: &str) -> Option<(Value, usize)> {
    if text.starts_with(['"', '[', '{']) {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let value = values.next()?.ok()?;
        return Some((value, values.byte_offset()));
    }
    // Numbers and words end where the next pair or stage begins.
    let length = text.find([',', ';']).unwrap_or(text.len());
    Some((serde_json::from_str(&text[..length]).ok()?, length))
}

/// Reads `hpo.stop`.
pub(super) fn read_cutoffs(text: &str) -> Result<Vec<(usize, f64)>, Failure> {
    let pair = |part: &str| {
        let (epoch, cutoff) = part.split_once(':')?;
        Some((
            epoch.parse().ok()?,
            cutoff.parse().ok().filter(|cutoff: &f64| !cutoff.is_nan())?,
        ))
    };
    let pairs = text.split(';').map(pair).collect::<Option<Vec<_>>>();
    pairs.ok_or_else(|| {
        let message = format!("point: `hpo.stop` must be like `3:0.5;9:0.4`, epochs and losses, found `{text}`");
        Failure::new(exit::USAGE, message)
    })
}

/// The plans of the stages before the last; those that differ in nothing from the next are joined to it.
pub(super) fn earlier(
    model: &ModelFile,
    point: &Point,
    last: &Resolved,
    stages: &[Stage],
    granted: usize,
) -> Result<Vec<TrainingPlan>, Failure> {
    let mut plans: Vec<TrainingPlan> = Vec::with_capacity(stages.len());
    for (until, changes) in stages {
        if *until >= granted {
            let message = format!(
                "point: `hpo.sched` must end before epoch {granted}, which the point is granted, found {until}"
            );
            return Err(Failure::new(exit::USAGE, message));
        }
        let mut hyperparameters = point.to_object();
        hyperparameters.extend(changes.iter().cloned());
        let mut resolved = model.resolve(&hyperparameters)?;
        if resolved.data != last.data {
            let message = "point: `hpo.sched` changes a hyperparameter on which the data depend; it has to be frozen \
                           (`frozen=NAME` of the scheduler)";
            return Err(Failure::new(exit::USAGE, message.to_owned()));
        }
        resolved.plan.epochs = *until;
        resolved.plan.seed = last.plan.seed;
        plans.push(resolved.plan);
    }
    let same = |a: &TrainingPlan, b: &TrainingPlan| {
        let mut a = a.clone();
        a.epochs = b.epochs;
        a == *b
    };
    let mut joined: Vec<TrainingPlan> = Vec::with_capacity(plans.len());
    for plan in plans {
        if joined.last().is_some_and(|before| same(before, &plan)) {
            joined.pop();
        }
        joined.push(plan);
    }
    if joined.last().is_some_and(|before| same(before, &last.plan)) {
        joined.pop();
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schedule_is_read_with_json_values() {
        let stages = read_schedule(r#"2:rate=0.1,name="a;b,c";5:rate=8e-2,name=null"#).unwrap();
        let pair = |name: &str, value: Value| (name.to_owned(), value);
        assert_eq!(
            stages,
            [
                (2, vec![pair("rate", json!(0.1)), pair("name", json!("a;b,c"))]),
                (5, vec![pair("rate", json!(0.08)), pair("name", json!(null))]),
            ]
        );
    }

    #[test]
    fn what_is_no_schedule_is_told_with_its_place() {
        let told = |text: &str| {
            let message = read_schedule(text).unwrap_err().to_string();
            message.split(", expected ").nth(1).unwrap().to_owned()
        };
        assert_eq!(told("rate=1"), "an epoch and `:` at byte 0 of `rate=1`");
        assert_eq!(told("0:a=1"), "an epoch from 1 at byte 0 of `0:a=1`");
        assert_eq!(told("3:a=1;3:a=2"), "an epoch from 4 at byte 6 of `3:a=1;3:a=2`");
        assert_eq!(told("3:a"), "a name and `=` at byte 2 of `3:a`");
        assert_eq!(told("3:a=x"), "a JSON value at byte 4 of `3:a=x`");
        assert_eq!(told("3:a=1 5"), "a JSON value at byte 4 of `3:a=1 5`");
        assert_eq!(told("3:a=[1] 5"), "`,`, `;` or the end at byte 7 of `3:a=[1] 5`");
    }

    #[test]
    fn cutoffs_are_pairs() {
        assert_eq!(read_cutoffs("1:0.5;3:-2").unwrap(), [(1, 0.5), (3, -2.0)]);
        for text in ["", "1", "1:x", "1:nan", "-1:2"] {
            assert!(read_cutoffs(text).is_err(), "{text}");
        }
    }
}
