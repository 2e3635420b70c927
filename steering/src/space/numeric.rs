//! Numeric dimensions.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | v | the value in the point |
//! | s | v, or ln v on a logarithmic scale |
//! | q | step of a discrete dimension; its values are the multiples of q inside the bounds |
//! | t | model coordinate, in [0, 1], see the parent module |
//! | Φ | distribution function of the standard normal |
//!
//! The range of a discrete dimension is widened by half a step at both ends *before* the logarithm is taken, so that every value
//! has a whole cell.

use protocol::PointValue;

use super::dimension::Coordinate;
use crate::numerics::normal;

/// Relative slack when a number that crossed a file is compared with a bound or a multiple of a step.
const SLACK: f64 = 1e-9;

/// Least width of a cell.
const NARROWEST: f64 = 1e-12;

/// How the prior spreads over the scale s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    /// Uniform between the bounds.
    Uniform {
        /// Smallest s, widened.
        low: f64,
        /// Largest s, widened.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean of s.
        mu: f64,
        /// Standard deviation of s.
        sigma: f64,
    },
}

/// The multiples of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Steps {
    q: f64,
    first: i64,
    last: i64,
}

/// A dimension of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Numeric {
    spread: Spread,
    log: bool,
    /// Bounds of v.
    low: f64,
    high: f64,
    steps: Option<Steps>,
    /// Values are written as JSON integers.
    integer: bool,
}

impl Numeric {
    /// Real numbers from `low` to `high`, on a linear or logarithmic scale. The caller has checked `low < high`, and `0 < low` for
    /// a logarithmic scale.
    pub(crate) fn bounded(low: f64, high: f64, log: bool) -> Self {
        let spread = Spread::Uniform {
            low: scale(low, log),
            high: scale(high, log),
        };
        Self {
            spread,
            log,
            low,
            high,
            steps: None,
            integer: false,
        }
    }

    /// The multiples of `q` from `low` to `high`; nothing if there is none.
    pub(crate) fn stepped(low: f64, high: f64, q: f64, log: bool, integer: bool) -> Option<Self> {
        let first = libm::ceil(low / q - SLACK);
        let last = libm::floor(high / q + SLACK);
        if first > last {
            return None;
        }
        let spread = Spread::Uniform {
            low: scale((first - 0.5) * q, log),
            high: scale((last + 0.5) * q, log),
        };
        let steps = Some(Steps {
            q,
            first: first as i64,
            last: last as i64,
        });
        Some(Self {
            spread,
            log,
            low,
            high,
            steps,
            integer,
        })
    }

    /// Normally distributed numbers, or numbers whose logarithm is; with a step, rounded to its multiples.
    pub(crate) fn normal(mu: f64, sigma: f64, log: bool, q: Option<f64>, integer: bool) -> Self {
        let low = if log { 0.0 } else { f64::NEG_INFINITY };
        let largest = 1_i64 << 53;
        let steps = q.map(|q| Steps {
            q,
            first: if log { 0 } else { -largest },
            last: largest,
        });
        Self {
            spread: Spread::Normal { mu, sigma },
            log,
            low,
            high: f64::INFINITY,
            steps,
            integer,
        }
    }

    /// The prior.
    #[must_use]
    pub fn spread(&self) -> Spread {
        self.spread
    }

    /// Whether only certain numbers are possible.
    #[must_use]
    pub fn is_discrete(&self) -> bool {
        self.steps.is_some()
    }

    /// The value nearest to `t`.
    #[must_use]
    pub fn at(&self, t: f64) -> Coordinate {
        let v = self.unscale(match self.spread {
            Spread::Uniform { low, high } => low + t * (high - low),
            // The outermost draws there are lie 8.2 standard deviations out.
            Spread::Normal { mu, sigma } => mu + sigma * normal::quantile(t.clamp(5.5e-17, 1.0 - 1.2e-16)),
        });
        self.nearest(v)
    }

    /// The value nearest to `v`.
    pub(crate) fn nearest(&self, v: f64) -> Coordinate {
        match self.steps {
            Some(steps) => self.step(steps, (libm::round(v / steps.q) as i64).clamp(steps.first, steps.last)),
            None => self.real(v.clamp(self.low, self.high)),
        }
    }

    /// The discrete value next to one, above it if `up`; at an end, and on a continuum, the value itself.
    pub(crate) fn beside(&self, coordinate: Coordinate, up: bool) -> Coordinate {
        match (coordinate, self.steps) {
            (Coordinate::Step { index, .. }, Some(steps)) => {
                let next = if up { index + 1 } else { index - 1 };
                self.step(steps, next.clamp(steps.first, steps.last))
            }
            _ => coordinate,
        }
    }

    /// The interval of t that rounds to a discrete value.
    #[must_use]
    pub fn cell(&self, index: i64) -> (f64, f64) {
        let Some(steps) = self.steps else { return (0.0, 1.0) };
        let edge = |index: f64| {
            let v = index * steps.q;
            if self.log && v <= 0.0 {
                0.0
            } else {
                self.t_of(scale(v, self.log))
            }
        };
        let left = if index == steps.first {
            0.0
        } else {
            edge(index as f64 - 0.5)
        };
        let right = if index == steps.last {
            1.0
        } else {
            edge(index as f64 + 0.5)
        };
        // Far out in the tail of a normal a cell may vanish in double precision; every value keeps some width.
        let left = left.clamp(0.0, 1.0 - NARROWEST);
        (left, right.clamp(left + NARROWEST, 1.0))
    }

    /// The coordinate of a JSON value; nothing for what is no number, out of bounds or off the steps.
    #[must_use]
    pub fn encode(&self, value: &PointValue) -> Option<Coordinate> {
        let v = value.as_f64().filter(|v| v.is_finite())?;
        let slack = SLACK * v.abs().max(self.steps.map_or(0.0, |steps| steps.q));
        if v < self.low - slack || v > self.high + slack {
            return None;
        }
        match self.steps {
            Some(steps) => {
                let index = libm::round(v / steps.q);
                let near = (index * steps.q - v).abs() <= slack.max(SLACK * steps.q);
                let index = index as i64;
                (near && (steps.first..=steps.last).contains(&index)).then(|| self.step(steps, index))
            }
            None if self.log && v <= 0.0 => None,
            None => Some(self.real(v.clamp(self.low, self.high))),
        }
    }

    /// The JSON value of a coordinate.
    pub(crate) fn json(&self, coordinate: Coordinate) -> PointValue {
        match (coordinate, self.steps) {
            (Coordinate::Step { index, .. }, Some(steps)) if self.integer => PointValue::from(index * steps.q as i64),
            (Coordinate::Step { index, .. }, Some(steps)) => PointValue::from(multiple(index, steps.q)),
            (Coordinate::Real { value, .. }, _) => PointValue::from(value),
            _ => unreachable!("a number has a numeric coordinate"),
        }
    }

    /// Number of values; `None` for a continuum and for the unbounded normal family.
    pub(crate) fn size(&self) -> Option<u64> {
        match (self.spread, self.steps) {
            (Spread::Uniform { .. }, Some(steps)) => Some((steps.last - steps.first + 1).cast_unsigned()),
            _ => None,
        }
    }

    /// The value number `index` from below.
    pub(crate) fn nth(&self, index: u64) -> Coordinate {
        let steps = self.steps.expect("only discrete dimensions are counted through");
        self.step(steps, steps.first + index as i64)
    }

    /// What the values are, for messages.
    pub(crate) fn describe(&self) -> String {
        let kind = if self.integer { "an integer" } else { "a number" };
        let range = match self.spread {
            Spread::Uniform { .. } => format!(" from {} to {}", plain(self.low), plain(self.high)),
            Spread::Normal { .. } if self.log && self.steps.is_none() => " above 0".to_owned(),
            Spread::Normal { .. } => String::new(),
        };
        match self.steps {
            Some(steps) if !self.integer || steps.q > 1.5 => {
                format!("{kind}{range} that is a multiple of {}", plain(steps.q))
            }
            _ => format!("{kind}{range}"),
        }
    }

    fn step(&self, steps: Steps, index: i64) -> Coordinate {
        // Zero has no logarithm; it is put in the middle of what rounds to it.
        let v = index as f64 * steps.q;
        let v = if self.log { v.max(0.25 * steps.q) } else { v };
        Coordinate::Step {
            index,
            t: self.t_of(scale(v, self.log)),
        }
    }

    fn real(&self, value: f64) -> Coordinate {
        // A value of 0 on a logarithmic scale cannot be encoded, but a draw far in the tail may underflow to it.
        let value = if self.log { value.max(f64::MIN_POSITIVE) } else { value };
        Coordinate::Real {
            value,
            t: self.t_of(scale(value, self.log)),
        }
    }

    fn t_of(&self, s: f64) -> f64 {
        match self.spread {
            Spread::Uniform { low, high } => (s - low) / (high - low),
            Spread::Normal { mu, sigma } => normal::distribution((s - mu) / sigma),
        }
    }

    fn unscale(&self, s: f64) -> f64 {
        if self.log { libm::exp(s).min(f64::MAX) } else { s }
    }
}

fn scale(v: f64, log: bool) -> f64 {
    if log { libm::log(v) } else { v }
}

/// A number as a person would write it.
pub(super) fn plain(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        1e-5..1e15 => number.to_string(),
        _ => format!("{number:e}"),
    }
}

/// `index` times `q`, without the dirt of binary fractions: three steps of 0.1 are 0.3.
fn multiple(index: i64, q: f64) -> f64 {
    let product = index as f64 * q;
    format!("{product:.14e}").parse().expect("a printed number is a number")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn value(numeric: &Numeric, u: f64) -> Value {
        (&numeric.json(numeric.at(u))).into()
    }

    #[test]
    fn integers_have_equal_shares_and_both_ends() {
        let dice = Numeric::stepped(1.0, 6.0, 1.0, false, true).unwrap();
        let mut counts = [0; 7];
        for draw in 0..600 {
            counts[value(&dice, (f64::from(draw) + 0.5) / 600.0).as_u64().unwrap() as usize] += 1;
        }
        assert_eq!(counts, [0, 100, 100, 100, 100, 100, 100]);
        assert_eq!((value(&dice, 0.0), value(&dice, 1.0)), (json!(1), json!(6)));
    }

    #[test]
    fn log_integers_share_by_the_logarithm_of_their_cells() {
        let batch = Numeric::stepped(1.0, 8.0, 1.0, true, true).unwrap();
        let (low, high) = batch.cell(1);
        assert!((high - low - libm::log(3.0) / libm::log(17.0)).abs() < 1e-12);
        assert_eq!(batch.encode(&8.into()), batch.encode(&8.0.into()));
    }

    #[test]
    fn steps_are_clean_multiples_inside_the_bounds() {
        let tenth = Numeric::stepped(0.1, 0.7, 0.1, false, false).unwrap();
        let all: Vec<String> = (0..7).map(|index| tenth.json(tenth.nth(index)).to_string()).collect();
        assert_eq!(all, ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]);
        assert_eq!(tenth.size(), Some(7));
        assert!(Numeric::stepped(0.3, 0.4, 0.5, false, false).is_none());
        let off = Numeric::stepped(0.3, 2.3, 0.5, false, false).unwrap();
        assert_eq!((value(&off, 0.0), value(&off, 1.0)), (json!(0.5), json!(2.0)));
    }

    #[test]
    fn log_scale_is_uniform_in_the_logarithm() {
        let rate = Numeric::bounded(1e-4, 1.0, true);
        let middle = value(&rate, 0.5).as_f64().unwrap();
        assert!((middle - 0.01).abs() < 1e-15, "{middle}");
        assert!((value(&rate, 0.0).as_f64().unwrap() - 1e-4).abs() < 1e-18);
    }

    #[test]
    fn normals_have_their_quantiles() {
        let weight = Numeric::normal(10.0, 2.0, false, None, false);
        assert!((value(&weight, 0.5).as_f64().unwrap() - 10.0).abs() < 1e-12);
        assert!((value(&weight, 0.975).as_f64().unwrap() - 13.919_927_969_080_108).abs() < 1e-9);
        assert!(value(&weight, 0.0).as_f64().unwrap().is_finite());
        let count = Numeric::normal(0.0, 1.0, true, Some(1.0), true);
        assert_eq!(value(&count, 0.01), json!(0));
        assert!(count.encode(&0.into()).unwrap().t().unwrap().is_finite());
    }

    #[test]
    fn foreign_numbers_have_no_coordinate() {
        let even = Numeric::stepped(2.0, 10.0, 2.0, false, true).unwrap();
        for foreign in [json!(3), json!(12), json!(0), json!("4"), json!(true), json!(null)] {
            assert_eq!(even.encode(&foreign.clone().into()), None, "{foreign}");
        }
        let rate = Numeric::bounded(1e-4, 1.0, true);
        for foreign in [json!(-1.0), json!(0), json!(1.1), json!([1])] {
            assert_eq!(rate.encode(&foreign.clone().into()), None, "{foreign}");
        }
    }
}
