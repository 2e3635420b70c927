//! Exponentials of many numbers at a time.

use super::vectors::for_this_processor;

/// Partial sums.
const LANES: usize = 8;

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
            sums[lane] += exp_negative(block[lane] - largest);
        }
    }
    let rest: f64 = rest.iter().map(|term| exp_negative(term - largest)).sum();
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + rest
}

/// exp(x) for x ≤ 0 to within two units in the last place; 0 below −700. Without branches or table, so that compilers can
/// compute several at once, and only of operations that round the same everywhere.
#[inline(always)]
pub(crate) fn exp_negative(x: f64) -> f64 {
    /// 1.5 · 2⁵²: adding it leaves the nearest integer in the low bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = x.max(-700.0);
    let shifted = x * std::f64::consts::LOG2_E + SHIFT;
    let k = shifted - SHIFT;
    let f = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    // Taylor's series is exact enough for |f| ≤ ln 2 / 2: the first term left out is 0.35¹⁴/14! = 4·10⁻¹⁸.
    let mut p = 1.0 / 6_227_020_800.0;
    for inverse in [
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
    ] {
        p = p * f + inverse;
    }
    let exponent = shifted.to_bits().wrapping_sub(SHIFT.to_bits());
    p * f64::from_bits(exponent.wrapping_add(1_023) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_library_to_the_last_bits() {
        let mut x = 0.0;
        while x > -690.0 {
            let (found, wanted) = (exp_negative(x), libm::exp(x));
            assert!((found - wanted).abs() <= 4.5e-16 * wanted, "{x}: {found} {wanted}");
            x -= 0.037;
        }
        assert!(exp_negative(-1e300) < 1e-300);
    }

    #[test]
    fn sums_of_any_length_are_those_of_the_library_and_the_same_with_any_vectors() {
        let terms: Vec<f64> = (0..37).map(|term| -f64::from(term) / 7.0).collect();
        let expected: f64 = terms.iter().map(|term| libm::exp(*term)).sum();
        assert!((sum_below(&terms, 0.0) - expected).abs() < 1e-14);
        assert_eq!(sum_below(&terms, 0.0).to_bits(), sum(&terms, 0.0).to_bits());
    }
}
