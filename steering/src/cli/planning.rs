//! `steering plan`.

use std::fmt::Write as _;

use protocol::exit;
use serde_json::{Value, json};

use super::arguments::PlanOptions;
use super::{Failure, output};
use crate::schedulers::{Fidelity, Plan, PlannedBracket, Registry};

pub(super) fn run(options: &PlanOptions) -> Result<u8, Failure> {
    let schedule = options.schedule.schedule()?;
    let schedule =
        schedule.ok_or_else(|| Failure::input(anyhow::anyhow!("there is nothing to plan; give `--scheduler NAME`")))?;
    let scheduler = Registry::standard().build(&schedule).map_err(Failure::input)?;
    let plan = scheduler.plan(options.configurations);
    let text = if options.json {
        as_json(&plan, &schedule.fidelity)
    } else {
        as_text(&plan, &schedule.fidelity)
    };
    output::print(&text)?;
    Ok(exit::DONE)
}

fn as_json(plan: &Plan, fidelity: &Fidelity) -> String {
    let brackets = plan.brackets.iter().map(|bracket| {
        let rungs = bracket
            .rungs
            .iter()
            .map(|(resource, count)| json!({"granted": granted(bracket, fidelity, *resource), "evaluations": count}));
        let mut shown = json!({
            "bracket": bracket.bracket,
            "rungs": rungs.collect::<Value>(),
            "resumed": fidelity.amount(bracket.resumed()),
            "anew": fidelity.amount(bracket.anew()),
        });
        if let Some(step) = bracket.step {
            shown["step"] = step.number.into();
            shown["fraction"] = fidelity.value(step.share);
        }
        shown
    });
    let document = json!({
        "brackets": brackets.collect::<Value>(),
        "configurations": plan.configurations(),
        "max_points": plan.evaluations(),
        "resumed": fidelity.amount(plan.sum(PlannedBracket::resumed)),
        "anew": fidelity.amount(plan.sum(PlannedBracket::anew)),
    });
    format!("{document}\n")
}

/// What a rung grants, which within a step is epochs.
fn granted(bracket: &PlannedBracket, fidelity: &Fidelity, resource: u64) -> Value {
    bracket
        .step
        .map_or_else(|| fidelity.value(resource), |_| resource.into())
}

fn words(bracket: &PlannedBracket, fidelity: &Fidelity, resource: u64) -> String {
    match (bracket.step, resource) {
        (None, _) => fidelity.words(resource),
        (Some(_), 1) => "1 epoch".to_owned(),
        (Some(_), count) => format!("{count} epochs"),
    }
}

fn as_text(plan: &Plan, fidelity: &Fidelity) -> String {
    let mut text = String::new();
    for bracket in &plan.brackets {
        let rungs = bracket
            .rungs
            .iter()
            .map(|(resource, count)| format!("{count} at {}", words(bracket, fidelity, *resource)));
        let name = match bracket.step {
            Some(step) if bracket.bracket == 0 => format!("step {}, {}", step.number, fidelity.words(step.share)),
            Some(step) => {
                let share = fidelity.words(step.share);
                format!("step {}, {share}, bracket {}", step.number, bracket.bracket)
            }
            None => format!("bracket {}", bracket.bracket),
        };
        let _ = writeln!(text, "{name}: {}", rungs.collect::<Vec<_>>().join(", "));
    }
    let total = |units: u64| fidelity.words_of_amount(units);
    let _ = write!(
        text,
        "{} configurations in {} evaluations\n{} where checkpoints are carried on, {} where every evaluation begins anew\n\
         --maxPoints {}\n",
        plan.configurations(),
        plan.evaluations(),
        total(plan.sum(PlannedBracket::resumed)),
        total(plan.sum(PlannedBracket::anew)),
        plan.evaluations(),
    );
    text
}
