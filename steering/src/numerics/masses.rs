//! Masses of many normals at a time.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | φ, Q | density of the standard normal, and its mass above x |
//! | R | Q(x) / φ(x), over √(2π): smooth, and of no great range |

use super::exponentials::exp_negative;
use super::vectors::for_this_processor;

for_this_processor! {
    /// The logarithms of the masses in the unit interval of the normals with centres `mu`, in that interval, and scales `sigma`, above
    /// 0 and at most 1; to within 3·10⁻¹⁵.
    pub(crate) fn log_masses_inside<'a>(mu: &'a [f64], sigma: &'a [f64], logs: &'a mut [f64]) -> () = inside
}

#[expect(clippy::inline_always, reason = "it must be compiled for the vectors of its caller")]
#[inline(always)]
fn inside(mu: &[f64], sigma: &[f64], logs: &mut [f64]) {
    for ((log, mu), sigma) in logs.iter_mut().zip(mu).zip(sigma) {
        *log = log_of_rest(above(mu / sigma) + above((1.0 - mu) / sigma));
    }
}

/// Q(x) for x ≥ 0.
#[inline(always)]
fn above(x: f64) -> f64 {
    /// Where the variable of the series changes its sign.
    const MIDDLE: f64 = 4.0;
    /// (x + 4) R(x) as a polynomial in (x − 4) / (x + 4): its Chebyshev series, cut where the next term is below 10⁻¹⁶.
    const SERIES: [f64; 24] = [
        -1.199_778_203_125_31e-10,
        -1.688_656_796_678_673_5e-9,
        -5.873_626_764_987_188e-10,
        1.606_738_695_732_940_4e-8,
        1.784_492_777_298_144e-8,
        -7.878_360_342_693_638e-8,
        -1.597_739_614_223_922e-7,
        2.647_337_281_979_868e-7,
        1.024_785_101_655_277_4e-6,
        -6.249_551_077_565_178e-7,
        -5.921_611_045_923_978e-6,
        7.146_021_531_267_462e-7,
        3.514_511_190_283_765e-5,
        -1.907_676_030_719_098e-6,
        -2.310_950_173_627_742_6e-4,
        1.333_442_091_601_477_8e-4,
        1.630_818_467_409_908_5e-3,
        -3.479_692_356_651_502_5e-3,
        -7.540_188_967_386_312e-3,
        6.039_657_489_036_092e-2,
        -1.865_218_579_596_366e-1,
        3.871_374_007_422_266e-1,
        -6.078_966_419_718_923e-1,
        7.552_851_304_157_514e-1,
    ];
    let inverse = 1.0 / (x + MIDDLE);
    let t = 1.0 - 2.0 * MIDDLE * inverse;
    let mut ratio = 0.0;
    for coefficient in SERIES {
        ratio = ratio * t + coefficient;
    }
    ratio * inverse * exp_negative(-0.5 * x * x)
}

/// log(1 − q) for 0 ≤ q ≤ 2/3.
#[expect(clippy::inline_always, reason = "it must be compiled for the vectors of its caller")]
#[inline(always)]
fn log_of_rest(q: f64) -> f64 {
    // 2 artanh(s): the first term left out is below s² to the 26th, which is 10⁻¹⁶, over 53.
    let s = q / (q - 2.0);
    let square = s * s;
    let mut sum = 0.0;
    for term in (0..26_u32).rev() {
        sum = sum * square + 1.0 / f64::from(2 * term + 1);
    }
    2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::normal;

    #[test]
    fn tails_are_those_of_the_library() {
        for step in 0..3_700 {
            let x = f64::from(step) / 100.0;
            let wanted = normal::distribution(-x);
            assert!(
                (above(x) - wanted).abs() <= 1e-15 * (1.0 + x * x) * wanted,
                "{x}: {} {wanted}",
                above(x)
            );
        }
        assert!(above(1e6) < 1e-300);
    }

    #[test]
    fn masses_inside_are_those_of_the_library_with_any_vectors() {
        let (mut mu, mut sigma) = (Vec::new(), Vec::new());
        for centre in 0..=100 {
            for scale in [0.001, 0.01, 0.03, 0.1, 0.37, 0.8, 1.0] {
                mu.push(f64::from(centre) / 100.0);
                sigma.push(scale);
            }
        }
        let mut logs = vec![0.0; mu.len()];
        log_masses_inside(&mu, &sigma, &mut logs);
        let mut plain = vec![0.0; mu.len()];
        inside(&mu, &sigma, &mut plain);
        for (((mu, sigma), log), plain) in mu.iter().zip(&sigma).zip(&logs).zip(&plain) {
            let wanted = normal::log_mass(-mu / sigma, (1.0 - mu) / sigma);
            assert!((log - wanted).abs() < 3e-15, "{mu} {sigma}: {log} {wanted}");
            assert_eq!(log.to_bits(), plain.to_bits());
        }
    }
}
