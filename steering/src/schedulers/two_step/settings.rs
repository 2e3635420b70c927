//! What the settings of two-step search mean.

use crate::registry::{Settings, SetupError};
use crate::schedulers::{Fidelity, Unit};

/// Fewest that go on when `top` is a share.
const FEWEST: usize = 10;

/// Epochs of a step; they are the scheduler's own business where it schedules epochs.
pub(super) fn epochs(settings: &Settings, name: &'static str, fidelity: Fidelity) -> Result<u64, SetupError> {
    match fidelity.unit() {
        Unit::Fraction => settings.get(name, "an integer from 0 to 2³²", |epochs| *epochs <= 1 << 32),
        Unit::Epochs => settings.get(name, "0 where epochs are scheduled, not shares of the data", |epochs| {
            *epochs == 0
        }),
    }
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
