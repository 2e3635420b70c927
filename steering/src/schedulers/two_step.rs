//! All configurations on part of the data (or for few epochs), and the best of them in full.
//!
//! S. Yu, P.-L. Ma, B. Singh, S. Silva, M. Pritchard, *Two-step hyperparameter optimization method: accelerating hyperparameter
//! search by using a fraction of a training dataset*, Artificial Intelligence for the Earth Systems 3 (2024). How many go on is
//! worked out as in [`two_step`](crate::two_step): a few configurations, spread over all ranks of the first step, are trained in
//! full first; their rank correlation, or rather its lower bound, says how many of the best must follow so that the true best is
//! among them with the wanted chance.
//!
//! Where even the most that may go on would not have the wanted chance, the share of the data was too small. With a ladder the better
//! half, and the configurations of the calibration, are then compared on more data, and the same is asked again there.
//!
//! Points carry `hpo.step`, 1 or 2. While the last of the first step are still being evaluated, the best so far go on early.

mod first_step;
mod settings;

use protocol::Outcome;

use super::ledger::Configuration;
use super::{Assignment, Budget, Entry, Fidelity, Plan, PlannedBracket, Record, Scheduler, Situation, Subject, bare};
use crate::explain::Explanation;
use crate::registry::{Setting, Settings, SetupError};
use crate::two_step::{Chances, agreement, spread};
use first_step::{FirstStep, loss_at};
use settings::{Top, epochs, rungs};

/// Configurations of the first step when neither setting nor budget says how many.
const CONFIGURATIONS: usize = 500;
/// How many more than `top` may go on for the sake of the chance, as a factor.
const MOST: usize = 5;

pub(super) const ENTRY: Entry = Entry {
    name: "two-step",
    summary: "all configurations with the least training, the best of them in full; says how sure that is",
    settings: &[
        Setting {
            name: "top",
            default: "2%",
            meaning: "how many go on: a number, or a share such as 2% (of which at least 10)",
        },
        Setting {
            name: "configurations",
            default: "0",
            meaning: "configurations of the first step; 0 for what -m allows, or 500",
        },
        Setting {
            name: "calibration",
            default: "12",
            meaning: "configurations of all ranks that are trained in full to compare both steps; 0, or from 4",
        },
        Setting {
            name: "chance",
            default: "0.9",
            meaning: "wanted chance that the true best goes on, in [0, 1); up to 5 times `top` go on for it",
        },
        Setting {
            name: "ladder",
            default: "off",
            meaning: "`on` to double the share where ranks agree too little, or the further shares, with slashes between: `0.2/0.5`",
        },
        Setting {
            name: "epochs",
            default: "0",
            meaning: "epochs of the first step, given to points as `hpo.epochs`; 0 for the evaluation's own",
        },
        Setting {
            name: "full-epochs",
            default: "0",
            meaning: "epochs of the second step; 0 for the evaluation's own",
        },
    ],
    build,
};

fn build(settings: &Settings, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
    let is_top = |top: &String| Top::parse(top).is_some();
    let top: String = settings.get("top", "a number from 1, or a share above 0% and up to 100%", is_top)?;
    let ladder: String = settings.get(
        "ladder",
        "`off`, `on` or rising shares such as 0.2/0.5",
        |text: &String| rungs(text, fidelity).is_some(),
    )?;
    Ok(Box::new(TwoStep {
        rungs: rungs(&ladder, fidelity).expect("it was parsed when it was read"),
        top: Top::parse(&top).expect("it was parsed when it was read"),
        configurations: settings.get("configurations", "an integer from 0", |_| true)?,
        calibration: settings.get("calibration", "0 or an integer from 4", |count| {
            *count == 0 || *count >= 4
        })?,
        epochs: [
            epochs(settings, "epochs", fidelity)?,
            epochs(settings, "full-epochs", fidelity)?,
        ],
        chance: settings.get("chance", "at least 0 and below 1", |chance| (0.0..1.0).contains(chance))?,
        fidelity,
    }))
}

#[derive(Debug)]
struct TwoStep {
    top: Top,
    configurations: usize,
    calibration: usize,
    chance: f64,
    /// What configurations are compared with before any goes on, rising; just one without a ladder.
    rungs: Vec<u64>,
    /// Epochs of both steps, 0 where the evaluation knows.
    epochs: [u64; 2],
    fidelity: Fidelity,
}

impl TwoStep {
    /// The reserved keys of a point of step 1 or 2.
    fn tags(&self, step: usize) -> Vec<(&'static str, serde_json::Value)> {
        let mut tags = vec![("step", step.into())];
        let epochs = self.epochs[step - 1];
        if epochs > 0 {
            tags.push(("epochs", epochs.into()));
        }
        tags
    }

    /// Configurations of the first step in a search of so many points.
    fn first(&self, points: Option<usize>) -> usize {
        match (self.configurations, points) {
            (0, None) => CONFIGURATIONS,
            (0, Some(points)) => {
                // The largest number that leaves room for the second step; the room grows with it by steps of one.
                let fits = |count: usize| count + self.climbs(count) + self.second(count) <= points;
                let (mut low, mut high) = (1, points.max(1));
                while low < high {
                    let middle = (low + high).div_ceil(2);
                    if fits(middle) { low = middle } else { high = middle - 1 }
                }
                low
            }
            (count, _) => count,
        }
    }

    /// Full trainings after a first step of so many, if the calibration asks for no more.
    fn second(&self, first: usize) -> usize {
        // The best belongs to both; where all that there are go on, so do those of the calibration.
        (self.top.of(first) + self.calibration.saturating_sub(1)).min(first)
    }

    /// Trainings on all further rungs of the ladder, if every one of them is needed.
    fn climbs(&self, first: usize) -> usize {
        let (mut members, mut sum) = (first, 0);
        for _ in 1..self.rungs.len() {
            members = self.survivors(members);
            sum += members;
        }
        sum
    }

    /// How many of so many are compared again on the next rung, at most: the better half and those of the calibration.
    fn survivors(&self, count: usize) -> usize {
        (count.div_ceil(2) + self.calibration).min(count)
    }

    /// What the calibration says about a ranking; nothing as long as it says nothing.
    fn certainty(&self, ranking: &[(f64, usize)], full: &[Option<f64>]) -> Option<Certainty> {
        let places = spread(ranking.len(), self.calibration);
        let pairs = places
            .iter()
            .filter_map(|place| Some((ranking[*place].0, full[ranking[*place].1]?)));
        let agreement = agreement(&pairs.collect::<Vec<_>>())?;
        let chances = Chances::new(ranking.len(), agreement.bound.max(0.0));
        let top = self.top.of(ranking.len());
        let wanted = chances.smallest(self.chance);
        let going_on = wanted.min(MOST * top).max(top).min(ranking.len());
        let text = format!(
            "rank correlation {:.2} (at least {:.2} with 95 % confidence, {} pairs): the true best is among the best {going_on} with \
             a chance of {:.2}",
            agreement.correlation,
            agreement.bound,
            agreement.pairs,
            chances.among(going_on)
        );
        Some(Certainty {
            going_on,
            is_enough: wanted <= going_on,
            text,
        })
    }
}

/// What is known about the second step.
struct Certainty {
    /// How many go on.
    going_on: usize,
    /// Whether the true best is among them with the wanted chance.
    is_enough: bool,
    text: String,
}

impl Scheduler for TwoStep {
    fn assign(&self, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment> {
        let full = self.fidelity.full();
        let configurations = situation.configurations;
        let points = situation.ledger.next_ordinal() as usize;
        let first = self.first(budget.left.map(|left| left + points));
        let own = |configuration: &&Configuration<'_>| configuration.first.configuration.is_some();
        let mut begun = configurations.iter().filter(own).count();
        let mut step = FirstStep::of(self, configurations);
        let second: Vec<Option<f64>> = configurations
            .iter()
            .map(|configuration| loss_at(configuration, full))
            .collect();
        let mut granted: Vec<bool> = configurations
            .iter()
            .map(|configuration| configuration.stages.iter().any(|stage| stage.resource >= full))
            .collect();
        let mut finished = second.iter().any(Option::is_some);
        let is_quiet = begun >= first && !step.waiting && step.outstanding.is_empty();
        let certainty = if is_quiet {
            self.certainty(&step.ranking, &second)
        } else {
            None
        };
        let places = spread(step.ranking.len(), self.calibration);
        let is_calibrated = is_quiet
            && places.iter().all(|place| {
                let stages = &configurations[step.ranking[*place].1].stages;
                stages
                    .iter()
                    .any(|stage| stage.resource >= full && stage.outcome != Outcome::Pending)
            });
        let next_rung = self.rungs.get(step.rung + 1).copied();
        if let (Some(next), Some(false), true) = (
            next_rung,
            certainty.as_ref().map(|found| found.is_enough),
            is_calibrated,
        ) {
            let outstanding = step.survivors(self, configurations, next);
            let needed = outstanding.len() + self.second(outstanding.len());
            if budget.left.is_none_or(|left| left >= needed) {
                step.rung += 1;
                step.outstanding = outstanding;
            }
        }
        let going_on = certainty
            .as_ref()
            .map_or(self.top.of(step.ranking.len()), |found| found.going_on);
        let certainty = certainty.map(|found| found.text);
        let is_single = self.fidelity.least() == full;

        let mut assignments = Vec::new();
        let (mut left, mut new) = (budget.left.unwrap_or(usize::MAX), budget.new.unwrap_or(usize::MAX));
        while assignments.len() < count && left > 0 {
            let last = left == 1 && !finished && !is_single;
            let ranking = &step.ranking;
            if (begun < first || (is_single && budget.left.is_some())) && new > 0 && (!last || ranking.is_empty()) {
                assignments.push(self.begin(last));
                begun += 1;
                new -= 1;
                step.waiting = true;
            } else if let Some(position) = step.outstanding.pop_front().filter(|_| !last) {
                step.waiting = true;
                assignments.push(self.compare_again(&configurations[position], self.rungs[step.rung]));
            } else {
                let calibration = spread(ranking.len(), if step.waiting { 0 } else { self.calibration });
                let best = 0..going_on.min(ranking.len());
                let next = calibration
                    .into_iter()
                    .chain(best)
                    .find(|place| !granted[ranking[*place].1]);
                // The rest of a budget is for those next in line.
                let spare = || {
                    let mut places = (0..ranking.len()).filter(|_| budget.left.is_some());
                    places.find(|place| !granted[ranking[*place].1])
                };
                if let Some(place) = next.or_else(spare) {
                    granted[ranking[place].1] = true;
                    finished |= last;
                    assignments.push(self.go_on(
                        &configurations[ranking[place].1],
                        place,
                        ranking.len(),
                        certainty.as_deref(),
                    ));
                } else if (step.waiting || !finished || budget.left.is_some()) && new > 0 {
                    // Nobody is known to be good: one more for the first step is better than an answer that would end the search.
                    assignments.push(self.begin(last));
                    begun += 1;
                    new -= 1;
                } else {
                    break;
                }
            }
            left -= 1;
        }
        assignments
    }

    fn plan(&self, configurations: Option<u64>) -> Plan {
        let first = configurations.map_or(self.first(None), |count| count as usize);
        let second = self.second(first);
        Plan {
            brackets: vec![PlannedBracket {
                bracket: 0,
                rungs: vec![
                    (self.fidelity.least(), first as u64),
                    (self.fidelity.full(), second as u64),
                ],
            }],
        }
    }

    fn check(&self, record: &Record<'_>) -> Result<(), String> {
        let grants: Vec<u64> = self.rungs.iter().copied().chain([self.fidelity.full()]).collect();
        if record.member.is_none() && record.bracket.is_none() && grants.contains(&record.resource) {
            return Ok(());
        }
        let shown: Vec<String> = grants
            .iter()
            .map(|grant| self.fidelity.value(*grant).to_string())
            .collect();
        let (last, before) = shown.split_last().expect("full training is one of them");
        Err(format!(
            "expected `{}` to be {} or {last}, without bracket and member, found {}: the point is of another scheduler or of other \
             settings",
            self.fidelity.key(),
            before.join(", "),
            self.fidelity.value(record.resource)
        ))
    }
}

impl TwoStep {
    fn begin(&self, in_full: bool) -> Assignment {
        let (step, resource) = if in_full {
            (2, self.fidelity.full())
        } else {
            (1, self.fidelity.least())
        };
        let text = format!(
            "a new configuration of step {step}, to be trained with {}",
            self.fidelity.words(resource)
        );
        Assignment {
            subject: Subject::New,
            resource,
            from: None,
            tags: self.tags(step),
            explanation: Explanation::new("start", text),
        }
    }

    /// A known configuration, on more data or for longer than before, but not in full.
    fn compare_again(&self, configuration: &Configuration<'_>, resource: u64) -> Assignment {
        let text = format!(
            "ranks agree too little; compared again with {}",
            self.fidelity.words(resource)
        );
        Assignment {
            resource,
            tags: self.tags(1),
            explanation: Explanation::new("ladder", text),
            ..self.go_on(configuration, 0, 1, None)
        }
    }

    fn go_on(&self, configuration: &Configuration<'_>, place: usize, of: usize, certainty: Option<&str>) -> Assignment {
        let from = configuration
            .stages
            .iter()
            .rev()
            .find(|stage| stage.outcome.loss().is_some());
        let certainty = certainty.map(|text| format!("; {text}")).unwrap_or_default();
        let text = format!("place {} of {of} in the first step{certainty}", place + 1);
        Assignment {
            subject: Subject::Known(bare(configuration.first.point), configuration.first.configuration),
            resource: self.fidelity.full(),
            from: from.and_then(|stage| stage.ordinal),
            tags: self.tags(2),
            explanation: Explanation::new("second step", text)
                .with("place", place + 1)
                .with("of", of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_step(top: &str) -> TwoStep {
        TwoStep {
            top: Top::parse(top).unwrap(),
            configurations: 0,
            calibration: 12,
            chance: 0.9,
            rungs: rungs("off", Fidelity::fraction(0.05).unwrap()).unwrap(),
            epochs: [3, 0],
            fidelity: Fidelity::fraction(0.05).unwrap(),
        }
    }

    #[test]
    fn the_steps_may_have_epochs_of_their_own() {
        let tags = |step: usize| {
            two_step("3")
                .tags(step)
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!((tags(1), tags(2)), (vec!["step", "epochs"], vec!["step"]));
        let settings = [("epochs".to_owned(), "3".to_owned())];
        let settings = Settings::of("scheduler", ENTRY.name, ENTRY.settings, &settings).unwrap();
        assert!(build(&settings, Fidelity::epochs(1, 9).unwrap()).is_err());
    }

    #[test]
    fn the_budget_is_shared_between_the_steps() {
        let all = two_step("2%");
        for points in [1, 2, 10, 50, 1_031] {
            let first = all.first(Some(points));
            assert!(first == 1 || first + all.second(first) <= points, "{points}: {first}");
            assert!(first + 1 + all.second(first + 1) > points, "{points}: {first}");
        }
        assert_eq!(all.first(Some(1_031)), 1_000);
    }

    #[test]
    fn the_less_the_steps_agree_the_more_go_on() {
        let all = two_step("10");
        let ranking: Vec<(f64, usize)> = (0..200).map(|place| (place as f64, place)).collect();
        let agreeing: Vec<Option<f64>> = (0..200).map(|place| Some(f64::from(place))).collect();
        let shuffled: Vec<Option<f64>> = (0..200).map(|place| Some(f64::from(place * 77 % 200))).collect();
        let found = |full: &[Option<f64>]| {
            let found = all.certainty(&ranking, full)?;
            Some((found.going_on, found.is_enough))
        };
        assert_eq!(found(&agreeing), Some((10, true)));
        assert_eq!(found(&shuffled), Some((50, false)));
        assert_eq!(found(&vec![None; 200]), None);
    }
}
