//! The parameters of the kernel that explain the data best.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | θ | ln l of every feature, ln s², ln v |
//! | D | squared differences (or inequalities) between all points, packed | one per feature
//! | G | K⁻¹ − α αᵀ, packed, with half its diagonal |
//!
//! The maximum of the posterior density of θ, by L-BFGS with the gradient ½ tr((K⁻¹ − α αᵀ) dK) (Rasmussen and Williams 2006,
//! equation 5.9). The prior of the length scales is log-normal and grows with the root of the dimension, so that points of a
//! space of many dimensions are not strangers to each other from the start: C. Hvarfner, E. O. Hellsten, L. Nardi, *Vanilla
//! Bayesian optimization performs great in high dimensions*, ICML (2024), section 4. Ours is narrower, and taken in ln θ.

use std::cell::RefCell;
use std::f64::consts::TAU;

use argmin::core::{CostFunction, Error, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;

use super::kernel;
use super::posterior::{Parameters, leave_one_out};
use crate::numerics::linear_algebra::{Cholesky, add_scaled, dot, row_start, symmetric_times};
use crate::numerics::normal::{LOG_SQRT_TWO_PI, quantile};
use crate::rng::Generator;

/// Steps that L-BFGS remembers.
const MEMORY: usize = 8;
/// Gradient at which the fit is good enough; more digits say nothing about the data.
const TOLERANCE: f64 = 1e-2;
/// Gain of logarithmic density that is not worth another search.
const LITTLE: f64 = 1e-4;
/// Searches from where the last one ended, at most.
const RESTARTS: usize = 5;

/// Shrinkings after which a step of the sampler stays where it is.
const SHRINKS: usize = 30;

/// What is believed about the parameters before there are data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prior {
    /// Median of ln l in one dimension, and its standard deviation.
    pub(super) length: (f64, f64),
    /// The same for ln s².
    pub(super) signal: (f64, f64),
    /// The same for ln v.
    pub(super) noise: (f64, f64),
    /// Least v.
    pub(super) floor: f64,
    /// τ².
    pub(super) mean_variance: f64,
}

/// A local maximum of the posterior density.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Optimum {
    pub(super) theta: Vec<f64>,
    /// Its logarithm there, up to a constant.
    pub(super) log_density: f64,
}

/// Points and losses to fit.
#[derive(Debug)]
pub(super) struct Fit {
    n: usize,
    /// D.
    differences: Vec<Vec<f64>>,
    prior: Prior,
}

/// The objective at one θ.
struct Evaluation {
    theta: Vec<f64>,
    cost: f64,
    gradient: Vec<f64>,
}

impl Fit {
    /// Prepares the comparison of all pairs of `rows`, of which the first `distances` features are compared by distance.
    pub(super) fn new(rows: &[Vec<f64>], distances: usize, features: usize, prior: Prior) -> Self {
        let differences = (0..features)
            .map(|feature| {
                let mut packed = Vec::with_capacity(row_start(rows.len()));
                for (i, row) in rows.iter().enumerate() {
                    let x = row[feature];
                    packed.extend(rows[..=i].iter().map(|other| {
                        let difference = x - other[feature];
                        if feature < distances {
                            difference * difference
                        } else {
                            f64::from(x.to_bits() != other[feature].to_bits())
                        }
                    }));
                }
                packed
            })
            .collect();
        Self {
            n: rows.len(),
            differences,
            prior,
        }
    }

    /// The median of the prior.
    pub(super) fn prior_median(&self) -> Vec<f64> {
        let features = self.differences.len();
        let mut theta = vec![self.length_median(); features];
        theta.extend([self.prior.signal.0, self.prior.noise.0]);
        theta
    }

    /// A start that looks at the data: features whose differences go with differences of the losses get short length scales.
    pub(super) fn data_driven(&self, values: &[f64]) -> Vec<f64> {
        let mut theta = self.prior_median();
        let mut losses = Vec::with_capacity(row_start(self.n));
        for i in 0..self.n {
            losses.extend(
                values[..=i]
                    .iter()
                    .map(|other| (values[i] - other) * (values[i] - other)),
            );
        }
        let relations: Vec<f64> = self
            .differences
            .iter()
            .map(|differences| correlation(differences, &losses).max(0.02))
            .collect();
        let mean = relations.iter().sum::<f64>() / relations.len().max(1) as f64;
        for (theta, relation) in theta.iter_mut().zip(&relations) {
            *theta += -0.7 - 0.5 * libm::log(relation / mean);
        }
        theta
    }

    /// Climbs from `start`, at most `iterations` steps.
    ///
    /// The first step of L-BFGS is as long as the gradient, which far from the maximum leads out of the region where K can be
    /// factored, and the line search gives up there. So the objective is divided by the length of its gradient, and after a
    /// search that ended early another begins where it got to.
    pub(super) fn climb(&self, values: &[f64], start: &[f64], iterations: u64) -> Optimum {
        let mut objective = Objective {
            fit: self,
            values,
            scale: 1.0,
            last: RefCell::new(None),
            best: RefCell::new(None),
        };
        let mut place = start.to_vec();
        let (mut cost, mut gradient) = objective.at(start);
        let mut left = iterations;
        for _ in 0..RESTARTS {
            let steepness = dot(&gradient, &gradient).sqrt();
            if left == 0 || !(cost.is_finite() && steepness > TOLERANCE) {
                break;
            }
            objective.scale = 1.0 / steepness.max(1.0);
            let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
                .with_tolerance_grad(TOLERANCE * objective.scale)
                .and_then(|solver| solver.with_tolerance_cost(LITTLE * objective.scale))
                .expect("the tolerances are positive");
            // A line search that finds no further step ends with an error; the best point so far is a result all the same.
            let ended = Executor::new(&objective, solver)
                .configure(|state| state.param(place.clone()).max_iters(left))
                .timer(false)
                .run();
            left = left.saturating_sub(ended.map_or(0, |result| result.state.get_iter()).max(1));
            let Some((theta, found)) = objective.best.borrow().clone() else {
                break;
            };
            let gained = cost - found;
            (place, cost) = (theta, found);
            if gained < LITTLE {
                break;
            }
            gradient = objective.at(&place).1;
        }
        Optimum {
            theta: place,
            log_density: -cost,
        }
    }

    /// A draw from the posterior distribution of θ, after `steps` steps from `theta`.
    ///
    /// I. Murray and others, *Elliptical slice sampling*, AISTATS (2010), figure 2: the prior of θ is normal, so
    /// the method has nothing to be tuned.
    pub(super) fn draw(
        &self,
        values: &[f64],
        mut theta: Vec<f64>,
        steps: usize,
        generator: &mut Generator,
    ) -> Vec<f64> {
        let beliefs = self.beliefs();
        let mut likelihood = self.log_likelihood(values, &theta);
        for _ in 0..steps {
            let other: Vec<f64> = (beliefs.iter())
                .map(|(_, deviation)| deviation * quantile(generator.uniform().clamp(1e-12, 1.0 - 1e-12)))
                .collect();
            let level = likelihood + libm::log(generator.uniform().max(f64::MIN_POSITIVE));
            let mut angle = TAU * generator.uniform();
            let (mut low, mut high) = (angle - TAU, angle);
            for _ in 0..SHRINKS {
                let (sine, cosine) = libm::sincos(angle);
                let trial: Vec<f64> = (theta.iter().zip(&other).zip(&beliefs))
                    .map(|((theta, other), (median, _))| median + (theta - median) * cosine + other * sine)
                    .collect();
                let found = self.log_likelihood(values, &trial);
                if found > level {
                    theta = trial;
                    likelihood = found;
                    break;
                }
                if angle < 0.0 {
                    low = angle;
                } else {
                    high = angle;
                }
                angle = low + (high - low) * generator.uniform();
            }
        }
        theta
    }

    /// The parameters at θ.
    pub(super) fn parameters(&self, theta: &[f64]) -> Parameters {
        let features = self.differences.len();
        Parameters {
            lengths: theta[..features].iter().map(|log| libm::exp(*log)).collect(),
            signal: libm::exp(theta[features]),
            noise: self.prior.floor + libm::exp(theta[features + 1]),
            mean_variance: self.prior.mean_variance,
        }
    }

    /// θ of parameters.
    pub(super) fn theta(&self, parameters: &Parameters) -> Vec<f64> {
        let noise = (parameters.noise - self.prior.floor).max(f64::MIN_POSITIVE);
        let lengths = parameters.lengths.iter().map(|length| libm::log(*length));
        lengths
            .chain([libm::log(parameters.signal), libm::log(noise)])
            .collect()
    }

    /// K⁻¹ at θ, for predictions that leave one point out.
    pub(super) fn inverse(&self, theta: &[f64]) -> Option<Vec<f64>> {
        let parameters = self.parameters(theta);
        let (covariances, _) = self.covariances(&parameters);
        Some(self.factor(covariances, parameters.noise)?.inverse())
    }

    /// Mean error and variance of every value when it is predicted from the others.
    pub(super) fn left_out(inverse: &[f64], values: &[f64]) -> Vec<(f64, f64)> {
        leave_one_out(inverse, &symmetric_times(inverse, values))
    }

    /// Median and standard deviation of every component of θ.
    fn beliefs(&self) -> Vec<(f64, f64)> {
        let lengths = std::iter::repeat_n((self.length_median(), self.prior.length.1), self.differences.len());
        lengths.chain([self.prior.signal, self.prior.noise]).collect()
    }

    /// The logarithm of the likelihood of θ.
    fn log_likelihood(&self, values: &[f64], theta: &[f64]) -> f64 {
        if theta.iter().any(|t| t.is_nan() || t.abs() > 30.0) {
            return f64::NEG_INFINITY;
        }
        let parameters = self.parameters(theta);
        let (covariances, _) = self.covariances(&parameters);
        let Some(factor) = self.factor(covariances, parameters.noise) else {
            return f64::NEG_INFINITY;
        };
        let mut solved = values.to_vec();
        factor.solve_lower(&mut solved);
        -0.5 * dot(&solved, &solved) - 0.5 * factor.log_determinant() - self.n as f64 * LOG_SQRT_TWO_PI
    }

    fn length_median(&self) -> f64 {
        self.prior.length.0 + 0.5 * libm::log(self.differences.len().max(1) as f64)
    }

    /// Covariances without noise, and their derivatives by r², both packed.
    fn covariances(&self, parameters: &Parameters) -> (Vec<f64>, Vec<f64>) {
        let mut values = vec![0.0; row_start(self.n)];
        for (differences, length) in self.differences.iter().zip(&parameters.lengths) {
            add_scaled(&mut values, 1.0 / (length * length), differences);
        }
        let mut slopes = vec![0.0; values.len()];
        kernel::covariances_with_slopes(&mut values, &mut slopes, parameters.signal, parameters.mean_variance);
        (values, slopes)
    }

    fn factor(&self, mut covariances: Vec<f64>, noise: f64) -> Option<Cholesky> {
        for i in 0..self.n {
            covariances[row_start(i) + i] += noise;
        }
        Cholesky::new(covariances, self.n)
    }

    /// The negative logarithm of the posterior density with its gradient; infinite where K cannot be factored.
    fn evaluate(&self, values: &[f64], theta: &[f64]) -> (f64, Vec<f64>) {
        let hopeless = || (f64::INFINITY, vec![0.0; theta.len()]);
        if theta.iter().any(|t| t.is_nan() || t.abs() > 30.0) {
            return hopeless();
        }
        let parameters = self.parameters(theta);
        let (covariances, slopes) = self.covariances(&parameters);
        let Some(factor) = self.factor(covariances.clone(), parameters.noise) else {
            return hopeless();
        };
        let mut alpha = values.to_vec();
        factor.solve_lower(&mut alpha);
        factor.solve_upper(&mut alpha);
        let mut cost = 0.5 * dot(values, &alpha) + 0.5 * factor.log_determinant() + self.n as f64 * LOG_SQRT_TWO_PI;
        // G, in place of the inverse.
        let mut g = factor.inverse();
        let mut trace = 0.0;
        for i in 0..self.n {
            let row = &mut g[row_start(i)..row_start(i + 1)];
            add_scaled(row, -alpha[i], &alpha[..=i]);
            row[i] *= 0.5;
            trace += row[i];
        }
        let total: f64 = (0..self.n)
            .map(|i| g[row_start(i)..row_start(i + 1)].iter().sum::<f64>())
            .sum();
        let by_signal = dot(&g, &covariances) - parameters.mean_variance * total;
        for (g, slope) in g.iter_mut().zip(&slopes) {
            *g *= slope;
        }
        let mut gradient = Vec::with_capacity(theta.len());
        for (differences, length) in self.differences.iter().zip(&parameters.lengths) {
            gradient.push(-2.0 / (length * length) * dot(&g, differences));
        }
        gradient.push(by_signal);
        gradient.push(trace * (parameters.noise - self.prior.floor));
        for (position, (median, deviation)) in self.beliefs().into_iter().enumerate() {
            let distance = (theta[position] - median) / deviation;
            cost += 0.5 * distance * distance;
            gradient[position] += distance / deviation;
        }
        if cost.is_finite() { (cost, gradient) } else { hopeless() }
    }
}

/// What argmin minimises. It asks for cost and gradient separately; both come from one factorisation.
struct Objective<'a> {
    fit: &'a Fit,
    values: &'a [f64],
    /// What argmin sees is multiplied by it.
    scale: f64,
    last: RefCell<Option<Evaluation>>,
    best: RefCell<Option<(Vec<f64>, f64)>>,
}

impl Objective<'_> {
    fn at(&self, theta: &[f64]) -> (f64, Vec<f64>) {
        if let Some(last) = &*self.last.borrow()
            && last
                .theta
                .iter()
                .map(|t| t.to_bits())
                .eq(theta.iter().map(|t| t.to_bits()))
        {
            return (last.cost, last.gradient.clone());
        }
        let (cost, gradient) = self.fit.evaluate(self.values, theta);
        let mut best = self.best.borrow_mut();
        if cost.is_finite() && best.as_ref().is_none_or(|(_, lowest)| cost < *lowest) {
            *best = Some((theta.to_vec(), cost));
        }
        *self.last.borrow_mut() = Some(Evaluation {
            theta: theta.to_vec(),
            cost,
            gradient: gradient.clone(),
        });
        (cost, gradient)
    }
}

impl CostFunction for &Objective<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, theta: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.at(theta).0 * self.scale)
    }
}

impl Gradient for &Objective<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, theta: &Vec<f64>) -> Result<Vec<f64>, Error> {
        Ok(self.at(theta).1.iter().map(|slope| slope * self.scale).collect())
    }
}

/// Pearson's correlation of two lists; 0 if one of them is constant.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().max(1) as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    let scale = (aa * bb).sqrt();
    if scale > 0.0 { ab / scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prior so wide that it does not count.
    const FLAT: Prior = Prior {
        length: (0.0, 1e9),
        signal: (0.0, 1e9),
        noise: (0.0, 1e9),
        floor: 0.0,
        mean_variance: 0.0,
    };

    fn toy(prior: Prior) -> (Fit, Vec<f64>) {
        let rows = vec![vec![0.1, 0.2], vec![0.4, 0.9], vec![0.8, 0.5]];
        (Fit::new(&rows, 2, 2, prior), vec![0.7, -1.2, 0.5])
    }

    fn theta() -> Vec<f64> {
        vec![libm::log(0.5), 0.0, libm::log(1.3), libm::log(0.01)]
    }

    #[test]
    fn likelihood_and_gradient_agree_with_tabulated_values() {
        let (fit, values) = toy(FLAT);
        let (cost, gradient) = fit.evaluate(&values, &theta());
        assert!((cost - 5.269_009_052_814_826).abs() < 1e-12, "{cost}");
        let wanted = [1.202_861_565_2, 1.838_133_114_8, -0.968_089_204_2, -0.039_048_655_7];
        for (found, wanted) in gradient.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-9, "{gradient:?}");
        }
    }

    #[test]
    fn the_gradient_agrees_with_differences_under_any_prior() {
        let prior = Prior {
            length: (-0.3, 0.9),
            signal: (0.1, 0.8),
            noise: (-4.0, 1.0),
            floor: 1e-4,
            mean_variance: 0.7,
        };
        let rows: Vec<Vec<f64>> = (0..9)
            .map(|i| vec![f64::from(i * i % 7) / 7.0, f64::from(i % 3), f64::from(i % 2)])
            .collect();
        let values: Vec<f64> = (0..9).map(|i| libm::sin(f64::from(i) * 1.3)).collect();
        let fit = Fit::new(&rows, 1, 3, prior);
        let start = vec![-1.0, 0.3, 0.2, -0.1, -3.0];
        let (_, gradient) = fit.evaluate(&values, &start);
        for position in 0..5 {
            let at = |step: f64| {
                let mut theta = start.clone();
                theta[position] += step;
                fit.evaluate(&values, &theta).0
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!(
                (difference - gradient[position]).abs() < 1e-7,
                "{position}: {difference} {gradient:?}"
            );
        }
    }

    #[test]
    fn climbing_ends_where_the_gradient_is_small() {
        let prior = Prior {
            length: (0.0, 1.0),
            signal: (0.0, 1.0),
            noise: (-4.0, 1.0),
            floor: 1e-6,
            mean_variance: 1.0,
        };
        let (fit, values) = toy(prior);
        let optimum = fit.climb(&values, &fit.prior_median(), 50);
        let (cost, gradient) = fit.evaluate(&values, &optimum.theta);
        assert!((cost + optimum.log_density).abs() < 1e-12);
        assert!(gradient.iter().all(|slope| slope.abs() < 0.05), "{gradient:?}");
        assert!(cost < fit.evaluate(&values, &fit.prior_median()).0);
    }

    #[test]
    fn climbing_begins_even_where_the_slope_is_steep() {
        // Two hundred values that are noise alone, all at nearly the same place: at the prior's little noise they are a
        // sensation, and the first step that the slope suggests leads out of the world.
        let mut generator = crate::rng::Key::new(7, "", None, "gp").generator(0, crate::rng::Stream::Parameters);
        let rows: Vec<Vec<f64>> = (0..200).map(|_| vec![0.01 * generator.uniform()]).collect();
        let values: Vec<f64> = (0..200).map(|_| quantile(generator.uniform())).collect();
        let prior = Prior {
            length: (0.0, 1.0),
            signal: (0.0, 1.0),
            noise: (-4.0, 1.0),
            floor: 1e-6,
            mean_variance: 1.0,
        };
        let fit = Fit::new(&rows, 1, 1, prior);
        let start = fit.prior_median();
        let (_, steep) = fit.evaluate(&values, &start);
        assert!(steep.iter().any(|slope| slope.abs() > 1_000.0), "{steep:?}");
        let optimum = fit.climb(&values, &start, 25);
        let (_, gradient) = fit.evaluate(&values, &optimum.theta);
        assert!(gradient.iter().all(|slope| slope.abs() < 0.5), "{gradient:?}");
        let noise = fit.parameters(&optimum.theta).noise;
        assert!((0.7..1.3).contains(&noise), "{noise}");
    }

    #[test]
    fn leaving_one_out_predicts_as_a_fit_without_it() {
        use super::super::posterior::{Posterior, Scratch};
        let (fit, values) = toy(FLAT);
        let parameters = fit.parameters(&theta());
        let inverse = fit.inverse(&theta()).unwrap();
        let (error, variance) = Fit::left_out(&inverse, &values)[1];
        let others = Posterior::new(parameters, 2, &[vec![0.1, 0.2], vec![0.8, 0.5]], &[0.7, 0.5]).unwrap();
        let prediction = others.predict(&[0.4, 0.9], &mut Scratch::default());
        assert!((values[1] - error - prediction.mean).abs() < 1e-12);
        assert!((variance - prediction.variance - 0.01).abs() < 1e-12);
    }
}
