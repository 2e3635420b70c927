//! Sums of exponentials.

use super::vectors::for_this_processor;

/// Partial sums.
const LANES: usize = 8;

/// log₂ e, and ln 2 as a number with 20 trailing zero bits, whose small multiples are exact, and the rest.
const LOG2_E: f64 = std::f64::consts::LOG2_E;
const LN_2_HIGH: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
const LN_2_LOW: f64 = f64::from_bits(0x3DEA_39EF_3579_3C76);

/// 1.5 · 2⁵²: a small number added to it is rounded to an integer, which stands in its last bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// Below it an exponential is taken for the smallest normal number.
const LEAST: f64 = -708.0;

/// 1/13!, 1/12!, …, 1/0!: over ±½ ln 2 the rest of the series is below 10⁻¹⁷.
const SERIES: [f64; 14] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

for_this_processor! {
    /// Σ exp(xᵢ − `largest`), where no xᵢ is above `largest`, which is finite.
    pub(super) fn sum_below<'a>(terms: &'a [f64], largest: f64) -> f64 = sum
}

#[expect(clippy::inline_always, reason = "it must be compiled for the vectors of its caller")]
#[inline(always)]
fn sum(terms: &[f64], largest: f64) -> f64 {
    let (blocks, rest) = terms.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for block in blocks {
        for lane in 0..LANES {
            sums[lane] += exponential(block[lane] - largest);
        }
    }
    let rest: f64 = rest.iter().map(|term| exponential(term - largest)).sum();
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + rest
}

/// exp(x) for x ≤ 0, to some units in the last place: 2ⁿ times the series of what is left of x without n ln 2.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn exponential(x: f64) -> f64 {
    let x = if x > LEAST { x } else { LEAST };
    let shifted = x * LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let left = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut value = SERIES[0];
    for coefficient in &SERIES[1..] {
        value = value * left + coefficient;
    }
    // The exponent of a double begins at its bit 52 and counts from −1023.
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    value * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_library() {
        for step in 0..200_000_u32 {
            let x = -f64::from(step) * 0.00354;
            let (found, expected) = (exponential(x), libm::exp(x));
            assert!(
                (found / expected - 1.0).abs() < 5e-16,
                "exp({x}): {found} is not {expected}"
            );
        }
        assert!(exponential(f64::NEG_INFINITY) < 1e-300);
    }

    #[test]
    fn sums_of_any_length_are_those_of_the_library_and_the_same_with_any_vectors() {
        let terms: Vec<f64> = (0..37).map(|term| -f64::from(term) / 7.0).collect();
        let expected: f64 = terms.iter().map(|term| libm::exp(*term)).sum();
        assert!((sum_below(&terms, 0.0) - expected).abs() < 1e-14);
        assert_eq!(sum_below(&terms, 0.0).to_bits(), sum(&terms, 0.0).to_bits());
    }
}
