//! All configurations on part of the data (or for few epochs), and the best of them in full.
//!
//! S. Yu, P.-L. Ma, B. Singh, S. Silva, M. Pritchard, *Two-step hyperparameter optimization method: accelerating hyperparameter
//! search by using a fraction of a training dataset*, Artificial Intelligence for the Earth Systems 3 (2024). How many go on is
//! worked out as in [`two_step`](crate::two_step): a few configurations, spread over all ranks of the first step, are trained in
//! full first; their rank correlation, or rather its lower bound, says how many of the best must follow so that the true best is
//! among them with the wanted chance.
//!
//! Points carry `hpo.step`, 1 or 2. While the last of the first step are still being evaluated, the best so far go on early.

use protocol::{Outcome, Point};

use super::ledger::Configuration;
use super::{Assignment, Budget, Entry, Fidelity, Plan, PlannedBracket, Record, Scheduler, Situation, Subject, Unit};
use crate::explain::Explanation;
use crate::registry::{Setting, Settings, SetupError};
use crate::two_step::{Chances, agreement, spread};

/// Configurations of the first step when neither setting nor budget says how many.
const CONFIGURATIONS: usize = 500;
/// Fewest that go on when `top` is a share.
const FEWEST: usize = 10;
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
    Ok(Box::new(TwoStep {
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

/// Epochs of a step; they are the scheduler's own business where it schedules epochs.
fn epochs(settings: &Settings, name: &'static str, fidelity: Fidelity) -> Result<u64, SetupError> {
    match fidelity.unit() {
        Unit::Fraction => settings.get(name, "an integer from 0 to 2³²", |epochs| *epochs <= 1 << 32),
        Unit::Epochs => settings.get(name, "0 where epochs are scheduled, not shares of the data", |epochs| {
            *epochs == 0
        }),
    }
}

/// How many go on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Top {
    Count(usize),
    Share(f64),
}

impl Top {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(share) => (share.parse().ok().filter(|share| *share > 0.0 && *share <= 100.0))
                .map(|share: f64| Self::Share(share / 100.0)),
            None => text.parse().ok().filter(|count| *count >= 1).map(Self::Count),
        }
    }

    fn of(self, count: usize) -> usize {
        match self {
            Self::Count(top) => top,
            Self::Share(share) => (libm::ceil(share * count as f64) as usize).max(FEWEST),
        }
        .min(count)
    }
}

#[derive(Debug)]
struct TwoStep {
    top: Top,
    configurations: usize,
    calibration: usize,
    chance: f64,
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
                let fits = |count: usize| count + self.second(count) <= points;
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

    /// How many of the best go on, given the ranking and what is known of the second step.
    fn going_on(&self, ranking: &[(f64, usize)], full: &[Option<f64>]) -> (usize, Option<String>) {
        let top = self.top.of(ranking.len());
        let places = spread(ranking.len(), self.calibration);
        let pairs: Vec<(f64, f64)> = places
            .iter()
            .filter_map(|place| Some((ranking[*place].0, full[ranking[*place].1]?)))
            .collect();
        let Some(agreement) = agreement(&pairs) else {
            return (top, None);
        };
        let chances = Chances::new(ranking.len(), agreement.bound.max(0.0));
        let needed = chances
            .smallest(self.chance)
            .min(MOST * top)
            .max(top)
            .min(ranking.len());
        let text = format!(
            "rank correlation {:.2} (at least {:.2} with 95 % confidence, {} pairs): the true best is among the best {needed} with \
             a chance of {:.2}",
            agreement.correlation,
            agreement.bound,
            agreement.pairs,
            chances.among(needed)
        );
        (needed, Some(text))
    }
}

impl Scheduler for TwoStep {
    fn assign(&self, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment> {
        let full = self.fidelity.full();
        let configurations = situation.configurations;
        let loss_at = |configuration: &Configuration<'_>, resource: u64| {
            let stage = configuration.stages.iter().find(|stage| stage.resource == resource)?;
            stage.outcome.loss()
        };
        let points = situation.ledger.next_ordinal() as usize;
        let first = self.first(budget.left.map(|left| left + points));
        let own = |configuration: &&Configuration<'_>| configuration.first.configuration.is_some();
        let mut begun = configurations.iter().filter(own).count();
        let mut waiting = configurations.iter().any(|configuration| {
            configuration
                .stages
                .iter()
                .any(|stage| stage.resource < full && stage.outcome == Outcome::Pending)
        });
        let mut ranking: Vec<(f64, usize)> = configurations
            .iter()
            .enumerate()
            .filter_map(|(place, configuration)| Some((loss_at(configuration, self.fidelity.least())?, place)))
            .collect();
        ranking.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let second: Vec<Option<f64>> = configurations
            .iter()
            .map(|configuration| loss_at(configuration, full))
            .collect();
        let mut granted: Vec<bool> = configurations
            .iter()
            .map(|configuration| configuration.stages.iter().any(|stage| stage.resource >= full))
            .collect();
        let mut finished = second.iter().any(Option::is_some);
        let (going_on, certainty) = if begun >= first && !waiting {
            self.going_on(&ranking, &second)
        } else {
            (self.top.of(ranking.len()), None)
        };
        let is_single = self.fidelity.least() == full;

        let mut assignments = Vec::new();
        let (mut left, mut new) = (budget.left.unwrap_or(usize::MAX), budget.new.unwrap_or(usize::MAX));
        while assignments.len() < count && left > 0 {
            let last = left == 1 && !finished && !is_single;
            if (begun < first || (is_single && budget.left.is_some())) && new > 0 && (!last || ranking.is_empty()) {
                assignments.push(self.begin(last));
                begun += 1;
                new -= 1;
                waiting = true;
            } else {
                let calibration = spread(ranking.len(), if waiting { 0 } else { self.calibration });
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
                } else if (waiting || !finished || budget.left.is_some()) && new > 0 {
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
        let steps = [self.fidelity.least(), self.fidelity.full()];
        if record.member.is_none() && record.bracket.is_none() && steps.contains(&record.resource) {
            return Ok(());
        }
        Err(format!(
            "expected `{}` to be {} or {}, without bracket and member, found {}: the point is of another scheduler or of other \
             settings",
            self.fidelity.key(),
            self.fidelity.value(steps[0]),
            self.fidelity.value(steps[1]),
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

    fn go_on(&self, configuration: &Configuration<'_>, place: usize, of: usize, certainty: Option<&str>) -> Assignment {
        let hyperparameters = configuration.first.point.hyperparameters();
        let point = Point(
            hyperparameters
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .collect(),
        );
        let from = configuration
            .stages
            .iter()
            .rev()
            .find(|stage| stage.outcome.loss().is_some());
        let certainty = certainty.map(|text| format!("; {text}")).unwrap_or_default();
        let text = format!("place {} of {of} in the first step{certainty}", place + 1);
        Assignment {
            subject: Subject::Known(point, configuration.first.configuration),
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
            epochs: [3, 0],
            fidelity: Fidelity::fraction(0.05).unwrap(),
        }
    }

    #[test]
    fn a_share_has_a_least_number() {
        assert_eq!(two_step("2%").top.of(1_000), 20);
        assert_eq!(two_step("2%").top.of(100), 10);
        assert_eq!(two_step("2%").top.of(7), 7);
        assert_eq!(two_step("3").top.of(100), 3);
        for text in ["0", "0%", "101%", "-1", "few", "nan%"] {
            assert_eq!(Top::parse(text), None, "{text}");
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
        assert_eq!(all.going_on(&ranking, &agreeing).0, 10);
        assert_eq!(all.going_on(&ranking, &shuffled).0, 50);
        assert_eq!(all.going_on(&ranking, &vec![None; 200]), (10, None));
    }
}
