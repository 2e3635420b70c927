//! The margin that keeps discrete dimensions from freezing.
//!
//! R. Hamano, S. Saito, M. Nomura, S. Shirakawa, *CMA-ES with margin*, GECCO (2022), section 4. Once the step is much smaller than
//! the distance of two values, a plain evolution strategy would draw the same value for ever. The margin corrects mean and scale
//! after each update such that the values on either side of the mean's own keep a probability.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | α | probability kept, 1/(n λ) |
//! | m | mean of the dimension |
//! | s | standard deviation of the dimension, σ A √C in the symbols of the parent module |
//! | l | thresholds around m: ends of the cell that m is in |
//! | p | probability on the far side of a threshold |

use crate::numerics::normal;

/// The neighbourhood of the mean: its lower threshold, if there are values below, and its upper one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Thresholds {
    pub(super) lower: Option<f64>,
    pub(super) upper: Option<f64>,
}

/// The corrected mean and standard deviation.
pub(super) fn correct(m: f64, s: f64, thresholds: Thresholds, alpha: f64) -> (f64, f64) {
    let beyond = |threshold: f64| normal::distribution(-(threshold - m).abs() / s);
    match thresholds {
        // The mean is in an end cell: bring it so near that the only other side has at least α.
        Thresholds {
            lower: None,
            upper: Some(upper),
        } if beyond(upper) < alpha => (upper - s * distance(alpha), s),
        Thresholds {
            lower: Some(lower),
            upper: None,
        } if beyond(lower) < alpha => (lower + s * distance(alpha), s),
        Thresholds {
            lower: Some(lower),
            upper: Some(upper),
        } => {
            let (below, above) = (beyond(lower), beyond(upper));
            let middle = 1.0 - below - above;
            let least = alpha / 2.0;
            let (raised_below, raised_above) = (below.max(least), above.max(least));
            let excess = 1.0 - raised_below - raised_above - middle;
            let share = excess / (raised_below + raised_above + middle - 3.0 * least);
            let below = raised_below + share * (raised_below - least);
            let above = raised_above + share * (raised_above - least);
            let (left, right) = (distance(below), distance(above));
            // Both thresholds nearly in the middle of the mass: the cell is tiny against s, and there is nothing to correct.
            if left + right < 1e-9 {
                return (m, s);
            }
            (
                (lower * right + upper * left) / (left + right),
                (upper - lower) / (left + right),
            )
        }
        _ => (m, s),
    }
}

/// How many standard deviations away a threshold has the probability `p` beyond it: √ of the chi-square quantile at 1 − 2p.
fn distance(p: f64) -> f64 {
    -normal::quantile(p.min(0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALPHA: f64 = 1.0 / 54.0;

    #[test]
    fn the_margin_in_six_dimensions_is_at_the_tabulated_quantile() {
        let squared = distance(ALPHA) * distance(ALPHA);
        assert!((squared - 4.348_707_836_779_934).abs() < 1e-10, "{squared}");
    }

    #[test]
    fn a_mean_in_an_end_cell_is_moved_until_the_other_side_has_alpha() {
        let thresholds = Thresholds {
            lower: None,
            upper: Some(0.5),
        };
        let (m, s) = correct(0.0, 0.1, thresholds, ALPHA);
        assert!((normal::distribution((m - 0.5) / s) - ALPHA).abs() < 1e-12);
        assert!((s - 0.1).abs() < 1e-15);
        assert_eq!(correct(0.45, 0.1, thresholds, ALPHA), (0.45, 0.1));
        let mirrored = Thresholds {
            lower: Some(0.5),
            upper: None,
        };
        assert!((correct(1.0, 0.1, mirrored, ALPHA).0 - (1.0 - m)).abs() < 1e-15);
    }

    #[test]
    fn both_sides_of_an_inner_cell_keep_half_of_alpha() {
        let thresholds = Thresholds {
            lower: Some(0.4),
            upper: Some(0.6),
        };
        for (m, s) in [(0.5, 0.01), (0.41, 0.001), (0.58, 0.03), (0.45, 0.2)] {
            let (m, s) = correct(m, s, thresholds, ALPHA);
            let below = normal::distribution((0.4 - m) / s);
            let above = normal::distribution((m - 0.6) / s);
            assert!(
                below >= ALPHA / 2.0 * (1.0 - 1e-9) && above >= ALPHA / 2.0 * (1.0 - 1e-9),
                "{below} {above}"
            );
        }
    }

    #[test]
    fn probabilities_above_the_margin_are_left_alone() {
        let (m, s) = correct(
            0.5,
            0.2,
            Thresholds {
                lower: Some(0.4),
                upper: Some(0.6),
            },
            ALPHA,
        );
        assert!((m - 0.5).abs() < 1e-12 && (s - 0.2).abs() < 1e-12);
        assert_eq!(
            correct(
                0.5,
                0.2,
                Thresholds {
                    lower: None,
                    upper: None
                },
                ALPHA
            ),
            (0.5, 0.2)
        );
    }
}
