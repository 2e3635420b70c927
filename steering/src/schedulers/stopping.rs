//! Full training for everybody, of which the bad ones are ended on the way: the rules of [`stopping`](crate::stopping).
//!
//! Decisions are made while evaluations run, by a manager that hears of every epoch. Points say nothing but that they are granted
//! everything, unless a table is asked for: then they carry, under `hpo.stop`, epochs with the loss that must be reached by then, as
//! the curves of the history had them when the point was asked for, and an evaluation stops itself. What was stopped tells as much
//! as its curve: see [`Configuration`](super::ledger::Configuration).

use std::fmt::Write as _;

use super::asha::{ETA, eta};
use super::{
    Assignment, Budget, Entry, Fidelity, FidelityError, Plan, PlannedBracket, Record, Scheduler, Situation, Subject,
    Unit,
};
use crate::explain::Explanation;
use crate::registry::{Setting, Settings, SetupError};
use crate::stopping::{Curve, Halving, Median, Stopping};

const TABLE: Setting = Setting {
    name: "table",
    default: "off",
    meaning: "`on` to give points cutoffs of their own, for managers that hear of no epoch",
};

pub(super) const HALVING: Entry = Entry {
    name: "stopping",
    summary: "early-stopping halving: all are trained in full, but at each rung only the best third goes on, decided while they run",
    settings: &[ETA, TABLE],
    build: halving,
};

pub(super) const MEDIAN: Entry = Entry {
    name: "median",
    summary: "median stopping rule: all are trained in full, but who is worse than the median of the others ends, while they run",
    settings: &[
        Setting {
            name: "startup",
            default: "5",
            meaning: "evaluations that must have been trained to the end before any is stopped, from 1",
        },
        Setting {
            name: "grace",
            default: "1",
            meaning: "epochs that everybody has, from 1",
        },
        TABLE,
    ],
    build: median,
};

fn halving(settings: &Settings, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
    let eta = eta(settings)?;
    let rungs = fidelity.rungs(eta);
    build(settings, fidelity, Rule::Halving(Halving { eta, rungs }))
}

fn median(settings: &Settings, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
    let rule = Median {
        startup: settings.get("startup", "an integer from 1", |count| *count >= 1)?,
        grace: settings.get("grace", "an integer from 1", |count| *count >= 1)?,
        rungs: fidelity.rungs(2),
    };
    build(settings, fidelity, Rule::Median(rule))
}

fn build(settings: &Settings, fidelity: Fidelity, rule: Rule) -> Result<Box<dyn Scheduler>, SetupError> {
    if fidelity.unit() != Unit::Epochs {
        return Err(SetupError::Unit {
            owner: rule.name(),
            error: FidelityError::NotEpochs,
        });
    }
    let table: String = settings.get("table", "`on` or `off`", |word: &String| word == "on" || word == "off")?;
    Ok(Box::new(Stopped {
        rule,
        table: table == "on",
        fidelity,
    }))
}

#[derive(Debug)]
enum Rule {
    Halving(Halving),
    Median(Median),
}

impl Rule {
    fn name(&self) -> &'static str {
        match self {
            Self::Halving(_) => HALVING.name,
            Self::Median(_) => MEDIAN.name,
        }
    }

    fn as_stopping(&self) -> &dyn Stopping {
        match self {
            Self::Halving(rule) => rule,
            Self::Median(rule) => rule,
        }
    }
}

#[derive(Debug)]
struct Stopped {
    rule: Rule,
    table: bool,
    fidelity: Fidelity,
}

impl Scheduler for Stopped {
    fn assign(&self, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment> {
        let count = count.min(budget.left.unwrap_or(count)).min(budget.new.unwrap_or(count));
        let full = self.fidelity.full();
        let table = self.table.then(|| {
            let curves: Vec<Curve> = situation
                .ledger
                .records()
                .iter()
                .filter_map(|record| record.curve.clone())
                .collect();
            let mut text = String::new();
            for (epoch, cutoff) in self.rule.as_stopping().cutoffs(&curves) {
                let separator = if text.is_empty() { "" } else { ";" };
                let _ = write!(text, "{separator}{epoch}:{cutoff}");
            }
            text
        });
        let tags: Vec<(&'static str, serde_json::Value)> = table
            .filter(|text| !text.is_empty())
            .map(|text| ("stop", text.into()))
            .into_iter()
            .collect();
        let text = format!(
            "a new configuration, to be trained for {} unless it is stopped",
            self.fidelity.words(full)
        );
        let assignment = Assignment {
            subject: Subject::New,
            resource: full,
            from: None,
            tags,
            explanation: Explanation::new("start", text),
        };
        vec![assignment; count]
    }

    fn plan(&self, configurations: Option<u64>) -> Plan {
        Plan {
            brackets: vec![PlannedBracket {
                bracket: 0,
                step: None,
                rungs: vec![(self.fidelity.full(), configurations.unwrap_or(100))],
            }],
        }
    }

    fn check(&self, record: &Record<'_>) -> Result<(), String> {
        if record.member.is_none() && record.bracket.is_none() && record.resource == self.fidelity.full() {
            return Ok(());
        }
        Err(format!(
            "expected `{}` to be {}, without bracket and member, found {}: the point is of another scheduler or of other settings",
            self.fidelity.key(),
            self.fidelity.full(),
            self.fidelity.value(record.resource)
        ))
    }

    fn stopping(&self) -> Option<&dyn Stopping> {
        Some(self.rule.as_stopping())
    }
}
