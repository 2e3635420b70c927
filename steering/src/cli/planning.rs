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
            .map(|(resource, count)| json!({"granted": fidelity.value(*resource), "evaluations": count}));
        json!({
            "bracket": bracket.bracket,
            "rungs": rungs.collect::<Value>(),
            "resumed": fidelity.amount(bracket.resumed()),
            "anew": fidelity.amount(bracket.anew()),
        })
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

fn as_text(plan: &Plan, fidelity: &Fidelity) -> String {
    let mut text = String::new();
    for bracket in &plan.brackets {
        let rungs = bracket
            .rungs
            .iter()
            .map(|(resource, count)| format!("{count} at {}", fidelity.words(*resource)));
        let _ = writeln!(
            text,
            "bracket {}: {}",
            bracket.bracket,
            rungs.collect::<Vec<_>>().join(", ")
        );
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
