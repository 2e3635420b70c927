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
//! Over the epochs of each step there may be a scheduler: of the family of successive halving for the first (`first`), and for the
//! second (`second`) a race, in which `top` are trained in full and many more are begun, or a model, which learns from the second step
//! who is to enter it and goes by cost instead of chance. So a point of a search over shares of the data has both `hpo.frac` and
//! `hpo.epochs`. With `weights` the second step starts from the weights of the first.
//!
//! Points carry `hpo.step`, 1 or 2. While the last of the first step are still being evaluated, the best so far go on early.

mod course;
mod first_step;
mod modelled;
mod numbers;
mod second_step;
mod settings;

use std::cell::RefCell;

use protocol::{Point, PointValue};

use super::ledger::{self, Configuration, Stage};
use super::{Assignment, Budget, Entry, Fidelity, Plan, Record, Schedule, Scheduler, Situation, Subject, Unit};
use crate::registry::{Setting, Settings, SetupError};
use crate::two_step::{Agreement, Chances, agreement, spread};
use course::Course;
use settings::{Second, Top, epochs, rungs};

pub(super) const ENTRY: Entry = Entry {
    name: "two-step",
    summary: "all configurations with the least training, the best of them in full; says how sure that is",
    settings: &[
        Setting {
            name: "top",
            default: "2%",
            meaning: "how many are trained in full: a number, or a share such as 2% (of which at least 10)",
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
            meaning: "wanted chance that the true best goes on, in [0, 1); as many go on for it as `second` has room for, or 5 times `top`",
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
        Setting {
            name: "first",
            default: "none",
            meaning: "scheduler over the `epochs` of the first step: `asha`, `hyperband`, `pasha`, `synchronous`, or `none`",
        },
        Setting {
            name: "second",
            default: "auto",
            meaning: "who decides over the epochs of the second step: a `model`, `halving`, `asha`, `pasha`, or `none`; `auto` is `model` where epochs are scheduled",
        },
        Setting {
            name: "cost",
            default: "10%",
            meaning: "what a search with a `model` may cost, as a share of training all configurations in full; `top` are trained in any case",
        },
        Setting {
            name: "eta",
            default: "3",
            meaning: "one in so many is promoted by the schedulers of the steps, an integer from 2",
        },
        Setting {
            name: "min-epochs",
            default: "1",
            meaning: "epochs on the lowest rung of the schedulers of the steps, where shares of the data are compared",
        },
        Setting {
            name: "weights",
            default: "off",
            meaning: "`on` to start training on more data from the weights that less data gave",
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
    let rungs = rungs(&ladder, fidelity).expect("it was parsed when it was read");
    let last = *rungs.last().expect("there is a rung");
    let eta = super::asha::eta(settings)?;
    let epochs = [
        epochs(settings, "epochs", fidelity)?,
        epochs(settings, "full-epochs", fidelity)?,
    ];
    let first = settings::first(settings, fidelity, epochs, eta)?;
    let second = settings::second(settings, fidelity, (last, ladder != "off"), epochs[1], eta)?;
    Ok(Box::new(TwoStep {
        race: second.rungs(eta),
        rungs,
        top: Top::parse(&top).expect("it was parsed when it was read"),
        configurations: settings.get("configurations", "an integer from 0", |_| true)?,
        calibration: settings.get("calibration", "0 or an integer from 4", |count| {
            *count == 0 || *count >= 4
        })?,
        epochs,
        chance: settings.get("chance", "at least 0 and below 1", |chance| (0.0..1.0).contains(chance))?,
        first,
        second,
        cost: settings::cost(settings)?,
        eta,
        weights: settings::weights(settings, fidelity)?,
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
    /// Scheduler over the epochs of the first step.
    first: Option<Box<dyn Scheduler>>,
    second: Second,
    /// Rungs over the epochs of the second step, if whoever goes on is compared there.
    race: Option<Vec<u64>>,
    eta: u64,
    /// What a search with a model may cost, as a share of full training of all.
    cost: f64,
    /// Whether the second step starts from the weights of the first.
    weights: bool,
    fidelity: Fidelity,
}

impl TwoStep {
    /// The reserved keys of a point of step 1 or 2, and what it is granted: `epochs` where the step has a scheduler.
    fn grant(&self, step: usize, resource: u64, epochs: Option<u64>) -> (u64, Vec<(&'static str, serde_json::Value)>) {
        let mut tags = vec![("step", step.into())];
        if self.fidelity.unit() == Unit::Epochs {
            return (epochs.unwrap_or(resource), tags);
        }
        let epochs = epochs.unwrap_or(self.epochs[step - 1]);
        if epochs > 0 {
            tags.push(("epochs", epochs.into()));
        }
        (resource, tags)
    }

    /// Whether a grant is one of the second step.
    fn is_second(&self, resource: u64) -> bool {
        let last = *self.rungs.last().expect("there is a rung");
        resource > last || resource >= self.fidelity.full()
    }

    /// What a stage of the second step was granted there: its epochs, or all of them.
    fn in_race(&self, stage: &Stage) -> u64 {
        let last = || self.race.as_ref().and_then(|rungs| rungs.last().copied());
        match self.fidelity.unit() {
            Unit::Epochs => stage.resource,
            Unit::Fraction => stage.epochs.or_else(last).unwrap_or(0),
        }
    }

    /// Whether it was granted full training.
    fn is_full(&self, stage: &Stage) -> bool {
        let last = self.race.as_ref().and_then(|rungs| rungs.last().copied());
        stage.resource >= self.fidelity.full() && last.is_none_or(|last| self.in_race(stage) >= last)
    }

    fn is_modelled(&self) -> bool {
        matches!(self.second, Second::Modelled(_))
    }

    /// What the calibration says about a ranking; nothing as long as it says nothing.
    fn certainty(&self, ranking: &[(f64, usize)], full: &[Option<f64>], memory: &Memory) -> Option<Certainty> {
        let places = spread(ranking.len(), self.calibration);
        let pairs = places
            .iter()
            .filter_map(|place| Some((ranking[*place].0, full[ranking[*place].1]?)));
        let agreement = agreement(&pairs.collect::<Vec<_>>())?;
        let key = (ranking.len(), agreement);
        if let Some((known, found)) = &*memory.certainty.borrow()
            && *known == key
        {
            return Some(found.clone());
        }
        let chances = Chances::new(ranking.len(), agreement.bound.max(0.0));
        let top = self.top.of(ranking.len());
        let wanted = chances.smallest(self.chance);
        let going_on = wanted.min(self.most(ranking.len())).max(top).min(ranking.len());
        let text = format!(
            "rank correlation {:.2} (at least {:.2} with 95 % confidence, {} pairs): the true best is among the best {going_on} with \
             a chance of {:.2}",
            agreement.correlation,
            agreement.bound,
            agreement.pairs,
            chances.among(going_on)
        );
        let found = Certainty {
            going_on,
            is_enough: wanted <= going_on,
            text,
        };
        *memory.certainty.borrow_mut() = Some((key, found.clone()));
        Some(found)
    }
}

/// What was found for decisions that are made together: working it out takes longer than all else.
#[derive(Default)]
struct Memory {
    certainty: RefCell<Option<((usize, Agreement), Certainty)>>,
    learnt: modelled::Learnt,
}

/// What is known about the second step.
#[derive(Clone)]
struct Certainty {
    /// How many go on.
    going_on: usize,
    /// Whether the true best is among them with the wanted chance.
    is_enough: bool,
    text: String,
}

/// Whether nobody goes on from a point of a search over shares of the data, of its second step or the first.
pub(super) fn is_last(schedule: &Schedule, is_second: bool, point: &Point) -> bool {
    let (scheduler, epochs) = if is_second {
        (
            schedule
                .setting("second")
                .filter(|name| *name != "auto")
                .unwrap_or("none"),
            "full-epochs",
        )
    } else {
        (schedule.setting("first").unwrap_or("none"), "epochs")
    };
    let until: u64 = schedule
        .setting(epochs)
        .and_then(|epochs| epochs.parse().ok())
        .unwrap_or(0);
    let reached = point.reserved("epochs").and_then(PointValue::as_u64);
    let may_climb = scheduler != "none" && reached.is_some_and(|reached| reached < until);
    let gives_weights = !is_second && schedule.setting("weights") == Some("on");
    !may_climb && !gives_weights
}

/// What a configuration lost after full training.
fn loss_at_end(two_step: &TwoStep, configuration: &Configuration<'_>) -> Option<f64> {
    let stages = configuration.stages.iter().filter(|stage| two_step.is_full(stage));
    stages.filter_map(|stage| stage.outcome.loss()).next_back()
}

impl Scheduler for TwoStep {
    fn assign(&self, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment> {
        let begun = situation.ledger.next_ordinal();
        let first = self.first(budget.left.map(|left| left + begun as usize));
        let (mut left, nobody, memory) = (budget, Point::default(), Memory::default());
        let next = |configurations: &[Configuration<'_>], budget: Budget| {
            let situation = Situation {
                configurations,
                ..*situation
            };
            Course::new(self, &situation, first, budget, &memory).next()
        };
        let mut assignments: Vec<Assignment> = next(situation.configurations, budget).into_iter().collect();
        if count < 2 || assignments.is_empty() {
            assignments.truncate(count);
            return assignments;
        }
        // Each further decision sees the points of those before it.
        let mut configurations = situation.configurations.to_vec();
        while let Some(assignment) = assignments.last().filter(|_| assignments.len() < count) {
            let ordinal = begun + assignments.len() as u64 - 1;
            ledger::add(&mut configurations, assignment, ordinal, &nobody);
            left.left = left.left.map(|left| left.saturating_sub(1));
            if matches!(assignment.subject, Subject::New) {
                left.new = left.new.map(|new| new.saturating_sub(1));
            }
            let Some(assignment) = next(&configurations, left) else {
                break;
            };
            assignments.push(assignment);
        }
        assignments
    }

    fn plan(&self, configurations: Option<u64>) -> Plan {
        self.planned(configurations.map(|count| count as usize))
    }

    fn check(&self, record: &Record<'_>) -> Result<(), String> {
        let fidelity = &self.fidelity;
        // The schedulers of the steps see epochs for grants.
        let granted = |epochs: u64| {
            let mut seen = record.clone();
            seen.resource = epochs;
            seen
        };
        if let (Some(first), true) = (&self.first, record.resource == fidelity.least()) {
            return first.check(&granted(record.epochs.unwrap_or(self.epochs[0])));
        }
        if let (Some(_), Some(epochs), true) = (&self.race, record.epochs, self.is_second(record.resource)) {
            let mut seen = granted(epochs);
            // That of the first step means nothing here.
            seen.bracket = None;
            return self.second.check(&seen);
        }
        let rungs = self.rungs.iter();
        let grants: Vec<u64> = match &self.race {
            Some(race) if fidelity.unit() == Unit::Epochs => rungs.chain(race).copied().collect(),
            _ => rungs.copied().chain([fidelity.full()]).collect(),
        };
        if record.member.is_none() && record.bracket.is_none() && grants.contains(&record.resource) {
            return Ok(());
        }
        let shown: Vec<String> = grants.iter().map(|grant| fidelity.value(*grant).to_string()).collect();
        let (last, before) = shown.split_last().expect("full training is one of them");
        Err(format!(
            "expected `{}` to be {} or {last}, without bracket and member, found {}: the point is of another scheduler or of other \
             settings",
            fidelity.key(),
            before.join(", "),
            fidelity.value(record.resource)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedulers::PlannedBracket;

    fn built(text: &str, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
        let pair = |part: &str| {
            part.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let given: Vec<(String, String)> = text.split(',').filter_map(pair).collect();
        build(
            &Settings::of("scheduler", ENTRY.name, ENTRY.settings, &given)?,
            fidelity,
        )
    }

    fn two_step(top: &str) -> TwoStep {
        let fidelity = Fidelity::fraction(0.05).unwrap();
        TwoStep {
            top: Top::parse(top).unwrap(),
            configurations: 0,
            calibration: 12,
            chance: 0.9,
            rungs: rungs("off", fidelity).unwrap(),
            epochs: [3, 0],
            first: None,
            second: Second::Nobody,
            race: None,
            eta: 3,
            cost: 0.1,
            weights: false,
            fidelity,
        }
    }

    #[test]
    fn the_steps_may_have_epochs_of_their_own() {
        let tags = |step: usize| {
            let (_, tags) = two_step("3").grant(step, 1, None);
            tags.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!((tags(1), tags(2)), (vec!["step", "epochs"], vec!["step"]));
        assert!(built("epochs=3", Fidelity::epochs(1, 9).unwrap()).is_err());
    }

    #[test]
    fn schedulers_of_the_steps_need_to_know_the_epochs() {
        let (shares, epochs) = (Fidelity::fraction(0.05).unwrap(), Fidelity::epochs(1, 27).unwrap());
        for (text, fidelity, is_right) in [
            ("first=asha,epochs=9,full-epochs=9", shares, true),
            ("first=asha,epochs=9", shares, false),
            ("first=asha", epochs, false),
            ("second=halving", shares, false),
            ("second=halving,full-epochs=9", shares, true),
            ("second=asha", epochs, true),
            ("second=asha,ladder=on", epochs, false),
            ("second=hyperband", epochs, false),
            ("eta=1", epochs, false),
            ("min-epochs=10,second=halving,full-epochs=9", shares, false),
            ("weights=on", epochs, false),
            ("weights=on", shares, true),
        ] {
            assert_eq!(built(text, fidelity).is_ok(), is_right, "{text}");
        }
    }

    #[test]
    fn a_race_has_rungs_of_equal_cost() {
        let race = built("second=halving", Fidelity::epochs(1, 27).unwrap()).unwrap();
        assert_eq!(
            race.plan(Some(1_000)).brackets[0].rungs,
            [(1, 1_000), (3, 180), (9, 60), (27, 31)]
        );
        let both = built(
            "first=asha,second=halving,epochs=9,full-epochs=9",
            Fidelity::fraction(0.1).unwrap(),
        )
        .unwrap();
        let plan = both.plan(Some(100));
        let rungs: Vec<_> = plan.brackets.iter().map(|bracket| bracket.rungs.clone()).collect();
        assert_eq!(rungs, [[(1, 100), (3, 33), (9, 11)], [(1, 90), (3, 30), (9, 21)]]);
        assert_eq!((plan.configurations(), plan.evaluations()), (100, 285));
        // A tenth of (100 + 66 + 66) / 9, and (90 + 60 + 126) / 9.
        assert_eq!(plan.sum(PlannedBracket::resumed), 2_577_777 + 30_666_666);
    }

    #[test]
    fn a_model_plans_what_it_may_spend() {
        let plan = |text: &str, count| {
            let scheduler = built(text, Fidelity::epochs(1, 27).unwrap()).unwrap();
            scheduler.plan(Some(count)).brackets.remove(0).rungs
        };
        // Of 100 full trainings 1,000 epochs are 37.0, and 31 after the first epoch 29.9; 8 of 27 epochs make 0.296.
        assert_eq!(plan("", 1_000), [(1, 1_000), (9, 111 + 31), (27, 31)]);
        assert_eq!(plan("cost=5%", 1_000), [(1, 1_000), (9, 31), (27, 31)]);
        assert!(built("cost=5", Fidelity::epochs(1, 27).unwrap()).is_err());
        // Where nobody says how long the first step is, it is as long as the second: 50 of 100 trainings, 31 more, and 19 for thirds.
        let shares = built("second=model,full-epochs=27", Fidelity::fraction(0.05).unwrap()).unwrap();
        assert_eq!(shares.plan(Some(1_000)).brackets[1].rungs, [(9, 57 + 31), (27, 31)]);
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
            let found = all.certainty(&ranking, full, &Memory::default())?;
            Some((found.going_on, found.is_enough))
        };
        assert_eq!(found(&agreeing), Some((10, true)));
        assert_eq!(found(&shuffled), Some((50, false)));
        assert_eq!(found(&vec![None; 200]), None);
    }
}
