//! How far points are trained: the range, its unit, and the rungs between its ends.
//!
//! All arithmetic is that of integers. A rung computed by a quotient of logarithms is lost where the quotient is rounded down:
//! log 243 / log 3 is below 5 in double precision.

use protocol::Point;
use protocol::PointValue;
use protocol::limits::RESERVED_PREFIX;
use serde_json::Value;

/// Fractions are counted in units of this.
const FRACTION: u64 = 1_000_000;
/// Most epochs.
const MOST: u64 = 1 << 40;

/// What is granted to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Epochs of training, in the reserved key `hpo.epochs`.
    Epochs,
    /// A share of the training data, in the reserved key `hpo.frac`; counted in millionths.
    Fraction,
}

/// The range of what is granted. Grants are totals: a point granted 9 epochs has been trained for 9, wherever it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fidelity {
    unit: Unit,
    least: u64,
    full: u64,
}

/// A range that is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FidelityError {
    /// The ends are out of order, or out of range.
    #[error("expected 1 ≤ least epochs ≤ full epochs ≤ 2⁴⁰, found {least} and {full}")]
    Epochs {
        /// The lower end.
        least: u64,
        /// The upper end.
        full: u64,
    },
    /// The smallest share is no share.
    #[error("expected a least share of the data from 0.000001 to 1, found {0}")]
    Fraction(f64),
    /// The scheduler knows epochs only.
    #[error("it ends trainings after some of their epochs: give `--max-epochs`, not a share of the data")]
    NotEpochs,
}

impl Fidelity {
    /// From `least` to `full` epochs.
    ///
    /// # Errors
    /// Unless 1 ≤ `least` ≤ `full` ≤ 2⁴⁰.
    pub fn epochs(least: u64, full: u64) -> Result<Self, FidelityError> {
        if least == 0 || least > full || full > MOST {
            return Err(FidelityError::Epochs { least, full });
        }
        Ok(Self {
            unit: Unit::Epochs,
            least,
            full,
        })
    }

    /// From the share `least` of the training data to all of them.
    ///
    /// # Errors
    /// Unless 10⁻⁶ ≤ `least` ≤ 1.
    pub fn fraction(least: f64) -> Result<Self, FidelityError> {
        let units = libm::round(least * FRACTION as f64);
        if !(1.0..=FRACTION as f64).contains(&units) {
            return Err(FidelityError::Fraction(least));
        }
        Ok(Self {
            unit: Unit::Fraction,
            least: units as u64,
            full: FRACTION,
        })
    }

    /// The unit.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The lower end, in units.
    #[must_use]
    pub fn least(&self) -> u64 {
        self.least
    }

    /// The upper end, in units: full training.
    #[must_use]
    pub fn full(&self) -> u64 {
        self.full
    }

    /// How many steps by the factor `eta` come nearest to the ratio of the ends: the largest K with least · etaᴷ ≤ full · √eta.
    #[must_use]
    pub fn halvings(&self, eta: u64) -> u32 {
        let eta = u128::from(eta);
        let (mut reached, full) = (u128::from(self.least), u128::from(self.full));
        let mut count = 0;
        // Both sides squared: (least · etaᴷ)² ≤ full² · eta, of which one eta is divided out on the way to K.
        while reached * reached * eta <= full * full {
            reached *= eta;
            count += 1;
        }
        count
    }

    /// The rungs full / etaᴷ, …, full / eta, full, rounded to integers not below the least, of which equal ones count once.
    #[must_use]
    pub fn rungs(&self, eta: u64) -> Vec<u64> {
        let halvings = self.halvings(eta);
        let mut rungs: Vec<u64> = (0..=halvings)
            .rev()
            .map(|times| {
                let divisor = u128::from(eta).pow(times);
                let rounded = (2 * u128::from(self.full) + divisor) / (2 * divisor);
                (rounded as u64).max(self.least)
            })
            .collect();
        rungs.dedup();
        rungs
    }

    /// The reserved key, with its prefix.
    #[must_use]
    pub fn key(&self) -> String {
        let name = match self.unit {
            Unit::Epochs => "epochs",
            Unit::Fraction => "frac",
        };
        format!("{RESERVED_PREFIX}{name}")
    }

    /// A grant that somebody has written: epochs, or a share in (0, 1].
    #[must_use]
    pub fn read(&self, text: &str) -> Option<u64> {
        match self.unit {
            Unit::Epochs => text.parse().ok(),
            Unit::Fraction => {
                let units = libm::round(text.parse::<f64>().ok()? * FRACTION as f64);
                (1.0..=FRACTION as f64).contains(&units).then_some(units as u64)
            }
        }
    }

    /// What stands under [`key`](Self::key) for a grant.
    #[must_use]
    pub fn value(&self, resource: u64) -> Value {
        match self.unit {
            Unit::Epochs => resource.into(),
            Unit::Fraction => (resource as f64 / FRACTION as f64).into(),
        }
    }

    /// The grant of a point; full training where it says nothing, and `None` where it says what cannot be.
    #[must_use]
    pub fn of(&self, point: &Point) -> Option<u64> {
        self.granted(point.get(&self.key()))
    }

    /// The grant that stands under [`key`](Self::key), if anything does.
    pub(super) fn granted(&self, value: Option<&PointValue>) -> Option<u64> {
        let Some(value) = value else {
            return Some(self.full);
        };
        match self.unit {
            Unit::Epochs => value.as_u64().or_else(|| {
                let number = value.as_f64()?;
                (number >= 1.0 && number.fract() == 0.0 && number <= MOST as f64).then_some(number as u64)
            }),
            Unit::Fraction => {
                let units = libm::round(value.as_f64()? * FRACTION as f64);
                (1.0..=FRACTION as f64).contains(&units).then_some(units as u64)
            }
        }
        .filter(|resource| *resource >= 1)
    }

    /// A sum of grants: epochs, or times all data.
    #[must_use]
    pub fn amount(&self, units: u64) -> Value {
        self.value(units)
    }

    /// A sum of grants in words: `405 epochs`, `2.5 times all data`.
    #[must_use]
    pub fn words_of_amount(&self, units: u64) -> String {
        match self.unit {
            Unit::Epochs => self.words(units),
            Unit::Fraction => format!("{} times all data", units as f64 / FRACTION as f64),
        }
    }

    /// A grant in words: `9 epochs`, `0.25 of the data`.
    #[must_use]
    pub fn words(&self, resource: u64) -> String {
        match (self.unit, resource) {
            (Unit::Epochs, 1) => "1 epoch".to_owned(),
            (Unit::Epochs, count) => format!("{count} epochs"),
            (Unit::Fraction, units) => format!("{} of the data", units as f64 / FRACTION as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(least: u64, full: u64) -> Fidelity {
        Fidelity::epochs(least, full).unwrap()
    }

    #[test]
    fn rungs_divide_full_training_by_powers() {
        assert_eq!(epochs(1, 81).rungs(3), [1, 3, 9, 27, 81]);
        assert_eq!(epochs(1, 16).rungs(4), [1, 4, 16]);
        assert_eq!(epochs(1, 100).rungs(3), [1, 4, 11, 33, 100]);
        assert_eq!(epochs(5, 5).rungs(3), [5]);
        assert_eq!(epochs(2, 3).rungs(2), [2, 3]);
        assert_eq!(epochs(3, 17).rungs(2), [3, 4, 9, 17]);
        assert_eq!(epochs(1, 52).rungs(3), [1, 2, 6, 17, 52]);
        assert_eq!(epochs(1, 12).rungs(3), [1, 4, 12]);
    }

    #[test]
    fn no_rung_is_lost_to_the_rounding_of_logarithms() {
        for (eta, powers) in [(3, vec![5, 10, 13]), (10, vec![3, 6, 9, 12]), (2, vec![29, 40])] {
            for power in powers {
                let full = u64::pow(eta, power);
                assert_eq!(epochs(1, full).halvings(eta), power, "{eta}^{power}");
                assert_eq!(epochs(1, full).rungs(eta).len(), power as usize + 1);
                assert_eq!(epochs(1, full - 1).halvings(eta), power, "{eta}^{power} - 1");
            }
        }
    }

    #[test]
    fn the_lowest_rung_is_the_one_nearest_to_the_least_training() {
        assert_eq!((epochs(1, 31).halvings(10), epochs(1, 32).halvings(10)), (1, 2));
        assert_eq!(
            (epochs(1, 31).rungs(10), epochs(1, 32).rungs(10)),
            (vec![3, 31], vec![1, 3, 32])
        );
    }

    #[test]
    fn fractions_are_counted_in_millionths() {
        let fidelity = Fidelity::fraction(1.0 / 27.0).unwrap();
        let values: Vec<Value> = fidelity.rungs(3).into_iter().map(|rung| fidelity.value(rung)).collect();
        assert_eq!(values, [0.037_037, 0.111_111, 0.333_333, 1.0]);
        let point = |value: f64| Point::from_iter([("hpo.frac", value)]);
        assert_eq!(fidelity.of(&point(0.111_111)), Some(111_111));
        assert_eq!(fidelity.of(&point(1.5)), None);
        assert_eq!(fidelity.of(&Point::default()), Some(1_000_000));
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        for (least, full) in [(0, 3), (4, 3), (1, u64::MAX)] {
            assert!(Fidelity::epochs(least, full).is_err());
        }
        for least in [0.0, -1.0, 1.1, f64::NAN, 1e-9] {
            assert!(Fidelity::fraction(least).is_err());
        }
    }
}
