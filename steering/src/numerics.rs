//! Numeric tools that give the same bits on every machine: elementary functions come from `libm`, sums have a fixed order.

pub(crate) mod eigen;
pub(crate) mod exponentials;
pub(crate) mod linear_algebra;
pub(crate) mod masses;
pub(crate) mod normal;
pub(crate) mod side_by_side;
pub(crate) mod sobol;
mod tiles;
pub(crate) mod vectors;

/// log Σ exp(xᵢ), without overflow; −∞ for nothing.
pub(crate) fn log_sum_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    largest + libm::log(exponentials::sum_below(terms, largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sum_exp_survives_huge_and_missing_terms() {
        assert!((log_sum_exp(&[1000.0, 1000.0]) - (1000.0 + std::f64::consts::LN_2)).abs() < 1e-12);
        assert!((log_sum_exp(&[f64::NEG_INFINITY, 0.0]) - 0.0).abs() < 1e-15);
        assert!(log_sum_exp(&[]).is_infinite());
    }
}
