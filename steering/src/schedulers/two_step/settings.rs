//! What the settings of two-step search mean.

use super::second_step::Halving;
use crate::registry::{Settings, SetupError};
use crate::schedulers::{Fidelity, Registry, Schedule, Scheduler, Unit};

/// Fewest that go on when `top` is a share.
const FEWEST: usize = 10;
/// Schedulers of the registry that a first step may have, and those without brackets, which a second step may have.
const FIRST: [&str; 4] = ["asha", "hyperband", "pasha", "synchronous"];
const SECOND: [&str; 2] = ["asha", "pasha"];

/// How the configurations of the second step are compared on the way to full training.
#[derive(Debug)]
pub(super) enum Second {
    /// They are not: whoever goes on is trained in full.
    Nobody,
    /// By halvings of known size.
    Halving(Halving),
    /// By a model of who may be the best, which takes no more than the rungs from halving.
    Modelled(Halving),
    /// By a scheduler of the registry.
    Scheduler(Box<dyn Scheduler>, Fidelity),
}

/// Epochs of a step; they are the scheduler's own business where it schedules epochs.
pub(super) fn epochs(settings: &Settings, name: &'static str, fidelity: Fidelity) -> Result<u64, SetupError> {
    match fidelity.unit() {
        Unit::Fraction => settings.get(name, "an integer from 0 to 2³²", |epochs| *epochs <= 1 << 32),
        Unit::Epochs => settings.get(name, "0 where epochs are scheduled, not shares of the data", |epochs| {
            *epochs == 0
        }),
    }
}

fn refusal(name: &'static str, expected: &'static str, found: &str) -> SetupError {
    SetupError::BadSetting {
        kind: "scheduler",
        owner: super::ENTRY.name,
        name,
        expected,
        found: found.to_owned(),
    }
}

/// The epochs of a step, from the lowest rung on.
fn range(settings: &Settings, full: u64) -> Result<Fidelity, SetupError> {
    let expected = "an integer from 1 to the epochs of each step that has a scheduler";
    let least: u64 = settings.get("min-epochs", expected, |least| *least >= 1)?;
    Fidelity::epochs(least, full).map_err(|_| refusal("min-epochs", expected, &least.to_string()))
}

fn registered(name: &str, eta: u64, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
    Registry::standard().build(&Schedule {
        scheduler: name.to_owned(),
        settings: vec![("eta".to_owned(), eta.to_string())],
        fidelity,
    })
}

/// The scheduler over the epochs of the first step, if there is one.
pub(super) fn first(
    settings: &Settings,
    fidelity: Fidelity,
    [epochs, in_full]: [u64; 2],
    eta: u64,
) -> Result<Option<Box<dyn Scheduler>>, SetupError> {
    let is_known = |name: &String| name == "none" || FIRST.contains(&name.as_str());
    let name: String = settings.get(
        "first",
        "`none`, `asha`, `hyperband`, `pasha` or `synchronous`",
        is_known,
    )?;
    match (name.as_str(), fidelity.unit()) {
        ("none", _) => Ok(None),
        (found, Unit::Epochs) => Err(refusal(
            "first",
            "`none` where epochs are scheduled, not shares of the data; there it would be a scheduler of its own",
            found,
        )),
        (found, Unit::Fraction) if epochs < 2 || in_full == 0 || fidelity.least() == fidelity.full() => Err(refusal(
            "first",
            "`none` unless `epochs`, from 2, and `full-epochs` say how long the steps are, and the first has less data",
            found,
        )),
        (name, Unit::Fraction) => registered(name, eta, range(settings, epochs)?).map(Some),
    }
}

/// What the second step has; `last` is the last rung of the first.
pub(super) fn second(
    settings: &Settings,
    fidelity: Fidelity,
    (last, is_ladder): (u64, bool),
    epochs: u64,
    eta: u64,
) -> Result<Second, SetupError> {
    let is_known = |name: &String| {
        ["auto", "none", "model", "halving"].contains(&name.as_str()) || SECOND.contains(&name.as_str())
    };
    let name: String = settings.get(
        "second",
        "`auto`, `none`, `model`, `halving`, `asha` or `pasha`",
        is_known,
    )?;
    let is_single = last == fidelity.full();
    let inner = match (name.as_str(), fidelity.unit()) {
        // Over shares of the data a race needs more points than its users have counted on.
        ("none", _) | ("auto", Unit::Fraction) => return Ok(Second::Nobody),
        ("auto", Unit::Epochs) if is_single || is_ladder => return Ok(Second::Nobody),
        (found, Unit::Epochs) if is_ladder => {
            return Err(refusal(
                "second",
                "`none` with a `ladder` of epochs, which is one itself",
                found,
            ));
        }
        (found, _) if is_single => {
            return Err(refusal(
                "second",
                "`none` where the first step is full training already",
                found,
            ));
        }
        (found, Unit::Fraction) if epochs < 2 => {
            return Err(refusal(
                "second",
                "`none` unless `full-epochs` says from 2 on how many epochs the second step has",
                found,
            ));
        }
        (_, Unit::Fraction) => range(settings, epochs)?,
        (_, Unit::Epochs) => {
            let rungs = Fidelity::epochs(last, fidelity.full())
                .expect("the first step is shorter")
                .rungs(eta);
            let next = rungs.into_iter().find(|rung| *rung > last).unwrap_or(fidelity.full());
            Fidelity::epochs(next, fidelity.full()).expect("a rung is not above full training")
        }
    };
    match name.as_str() {
        "auto" | "model" => Ok(Second::Modelled(Halving::new(inner, eta).shortened())),
        "halving" => Ok(Second::Halving(Halving::new(inner, eta))),
        name => Ok(Second::Scheduler(registered(name, eta, inner)?, inner)),
    }
}

/// Whether the second step starts from the weights of the first.
pub(super) fn weights(settings: &Settings, fidelity: Fidelity) -> Result<bool, SetupError> {
    let weights: String = settings.get("weights", "`on` or `off`", |word: &String| {
        word == "on" || word == "off"
    })?;
    match fidelity.unit() {
        Unit::Epochs if weights == "on" => Err(refusal(
            "weights",
            "`off` where epochs are scheduled, not shares of the data: longer training goes on from shorter in any case",
            &weights,
        )),
        _ => Ok(weights == "on"),
    }
}

/// What a search may cost, as a share of training all in full.
pub(super) fn cost(settings: &Settings) -> Result<f64, SetupError> {
    let share = |text: &str| match Top::parse(text) {
        Some(Top::Share(share)) => Some(share),
        _ => None,
    };
    let cost: String = settings.get("cost", "a share above 0% and up to 100%", |text: &String| {
        share(text).is_some()
    })?;
    Ok(share(&cost).expect("it was parsed when it was read"))
}

/// What configurations are compared with before any goes on: the least training, and what a ladder adds to it.
pub(super) fn rungs(ladder: &str, fidelity: Fidelity) -> Option<Vec<u64>> {
    let (least, full) = (fidelity.least(), fidelity.full());
    match ladder {
        "off" => Some(vec![least]),
        "on" => {
            let doubled = (0..u64::BITS).map_while(|times| least.checked_mul(1 << times)?.checked_mul(1));
            let mut rungs: Vec<u64> = doubled.take_while(|rung| *rung < full).collect();
            if rungs.is_empty() {
                rungs.push(least);
            }
            Some(rungs)
        }
        _ => {
            let mut rungs = vec![least];
            for share in ladder.split('/') {
                let rung = fidelity.read(share)?;
                if rung <= *rungs.last()? || rung >= full {
                    return None;
                }
                rungs.push(rung);
            }
            Some(rungs)
        }
    }
}

/// How many go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Top {
    Count(usize),
    Share(f64),
}

impl Top {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(share) => (share.parse().ok().filter(|share| *share > 0.0 && *share <= 100.0))
                .map(|share: f64| Self::Share(share / 100.0)),
            None => text.parse().ok().filter(|count| *count >= 1).map(Self::Count),
        }
    }

    pub(super) fn of(self, count: usize) -> usize {
        match self {
            Self::Count(top) => top,
            Self::Share(share) => (libm::ceil(share * count as f64) as usize).max(FEWEST),
        }
        .min(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_a_least_number() {
        let of = |text: &str, count: usize| Top::parse(text).unwrap().of(count);
        assert_eq!(of("2%", 1_000), 20);
        assert_eq!(of("2%", 100), 10);
        assert_eq!(of("2%", 7), 7);
        assert_eq!(of("3", 100), 3);
        for text in ["0", "0%", "101%", "-1", "few", "nan%"] {
            assert_eq!(Top::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_ladder_doubles_or_is_given() {
        let fidelity = Fidelity::fraction(0.05).unwrap();
        let shares = |text: &str| rungs(text, fidelity);
        assert_eq!(shares("on"), Some(vec![50_000, 100_000, 200_000, 400_000, 800_000]));
        assert_eq!(shares("0.2/0.5"), Some(vec![50_000, 200_000, 500_000]));
        for text in ["", "yes", "0.05", "0.5/0.2", "0.5/1"] {
            assert_eq!(shares(text), None, "{text}");
        }
        assert_eq!(rungs("on", Fidelity::epochs(1, 1).unwrap()), Some(vec![1]));
    }
}
