//! The distribution that points are drawn from, and its update by a generation.
//!
//! Equation numbers are those of N. Hansen, *The CMA evolution strategy: a tutorial*, arXiv:1604.00772 (2016).
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | m, σ | mean and step | n, 1 |
//! | C | covariance matrix | n × n, or n where it is diagonal |
//! | A | scales of the margin, 1 in continuous dimensions | n |
//! | p_σ, p_c | evolution paths | n |
//! | x | latent point, drawn from N(m, σ² C) | n |
//! | y | (x − m)/σ | n |
//! | q | probabilities of the categories of a dimension | K |

use super::axes::{Axes, SIGMA};
use super::constants::Constants;
use super::margin;
use crate::numerics::eigen;
use crate::rng::Generator;
use crate::space::pick;

/// Draws after which a continuous coordinate outside its bounds is put on the bound.
const DRAWS: usize = 100;
/// Numeric dimensions above which the covariance matrix is kept diagonal.
const FULL: usize = 100;

/// What is drawn: a latent point, and a category for each categorical dimension.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Latent {
    pub(super) x: Vec<f64>,
    pub(super) categories: Vec<usize>,
}

/// The state of the strategy after some generations.
#[derive(Debug, Clone)]
pub(super) struct Distribution {
    pub(super) constants: Constants,
    /// Number of the restart, from 0.
    pub(super) run: usize,
    /// Generations of this run that it was updated by.
    pub(super) generation: usize,
    pub(super) m: Vec<f64>,
    pub(super) sigma: f64,
    c: Vec<f64>,
    a: Vec<f64>,
    p_sigma: Vec<f64>,
    p_c: Vec<f64>,
    diagonal: bool,
    /// √C and its inverse, of the same shape as C.
    root: Vec<f64>,
    inverse_root: Vec<f64>,
    largest: f64,
    condition: f64,
    q: Vec<Vec<f64>>,
    /// Best loss of each generation.
    bests: Vec<f64>,
}

impl Distribution {
    /// The start of a run at the mean `m` with generations of `lambda` points.
    pub(super) fn start(axes: &Axes, m: Vec<f64>, lambda: usize, run: usize) -> Self {
        let n = m.len();
        let diagonal = n > FULL;
        let unit: Vec<f64> = if diagonal {
            vec![1.0; n]
        } else {
            (0..n * n).map(|at| if at / n == at % n { 1.0 } else { 0.0 }).collect()
        };
        let mut start = Self {
            constants: Constants::new(n, lambda, diagonal),
            run,
            generation: 0,
            m,
            sigma: SIGMA,
            root: unit.clone(),
            inverse_root: unit.clone(),
            c: unit,
            a: vec![1.0; n],
            p_sigma: vec![0.0; n],
            p_c: vec![0.0; n],
            diagonal,
            largest: 1.0,
            condition: 1.0,
            q: axes.categorical.iter().map(|choice| choice.prior.to_vec()).collect(),
            bests: Vec::new(),
        };
        start.keep_margin(axes);
        start
    }

    /// Draws a point. Infeasible ones are drawn again.
    pub(super) fn draw(&self, axes: &Axes, generator: &mut Generator) -> Latent {
        let categories = self.q.iter().map(|q| pick(q, generator.uniform())).collect();
        let n = self.m.len();
        for _ in 0..DRAWS {
            let step = self.times(&self.root, &normals(n, generator));
            let x: Vec<f64> = self.m.iter().zip(step).map(|(m, step)| m + self.sigma * step).collect();
            let feasible = axes
                .numeric
                .iter()
                .zip(&x)
                .all(|(axis, x)| (axis.feasible(*x) - x).abs() <= 0.0);
            if feasible {
                return Latent { x, categories };
            }
        }
        let step = self.times(&self.root, &normals(n, generator));
        let x = axes
            .numeric
            .iter()
            .zip(self.m.iter().zip(step))
            .map(|(axis, (m, step))| axis.feasible(m + self.sigma * step));
        Latent {
            x: x.collect(),
            categories,
        }
    }

    /// The coordinate of numeric dimension number `axis` that the latent coordinate `x` stands for, before rounding.
    pub(super) fn spread(&self, axis: usize, x: f64) -> f64 {
        self.m[axis] + self.a[axis] * (x - self.m[axis])
    }

    /// Length of the way from the mean to `x` in standard deviations.
    pub(super) fn length(&self, x: &[f64]) -> f64 {
        norm(&self.times(&self.inverse_root, &self.y(x)))
    }

    /// Updates by a generation of any size, the best point first, each with whether it was drawn from this very distribution; `best` is its
    /// loss, if any point of the generation has one.
    pub(super) fn update(&mut self, axes: &Axes, ranked: &[(&Latent, bool)], best: Option<f64>) {
        self.generation += 1;
        self.bests.extend(best);
        if best.is_some() {
            self.move_normal(ranked);
            self.move_categories(ranked);
        }
        self.keep_margin(axes);
    }

    /// The constants for a generation of `count` points.
    fn constants_for(&self, count: usize) -> Constants {
        if count == self.constants.lambda {
            self.constants.clone()
        } else {
            Constants::new(self.m.len(), count, self.diagonal)
        }
    }

    fn move_normal(&mut self, ranked: &[(&Latent, bool)]) {
        let n = self.m.len();
        if n == 0 {
            return;
        }
        let k = self.constants_for(ranked.len());
        // Points of an older distribution may be far out under this one. They are shortened to a typical length, as
        // N. Hansen, *Injecting external solutions into CMA-ES*, arXiv:1110.4181 (2011), does with solutions from elsewhere.
        let typical = libm::sqrt(n as f64) + 2.0 * n as f64 / (n as f64 + 2.0);
        let steps: Vec<Vec<f64>> = ranked
            .iter()
            .map(|(latent, own)| {
                let mut y = self.y(&latent.x);
                let length = norm(&self.times(&self.inverse_root, &y));
                if !own && length > typical {
                    for y in &mut y {
                        *y *= typical / length;
                    }
                }
                y
            })
            .collect();
        let mut mean_step = vec![0.0; n];
        for (weight, y) in k.weights.iter().zip(&steps).take(k.mu) {
            add(&mut mean_step, *weight, y);
        }
        // Equation 42.
        add(&mut self.m, self.sigma, &mean_step);
        // Equations 43 and 44.
        let whitened = self.times(&self.inverse_root, &mean_step);
        self.p_sigma.iter_mut().for_each(|p| *p *= 1.0 - k.c_sigma);
        add(
            &mut self.p_sigma,
            libm::sqrt(k.c_sigma * (2.0 - k.c_sigma) * k.mu_eff),
            &whitened,
        );
        let length = norm(&self.p_sigma);
        let warm = libm::sqrt(1.0 - libm::pow(1.0 - k.c_sigma, 2.0 * self.generation as f64));
        let settled = length / warm < (1.4 + 2.0 / (n as f64 + 1.0)) * k.chi;
        self.sigma = (self.sigma * libm::exp(k.c_sigma / k.d_sigma * (length / k.chi - 1.0))).min(1e32);
        // Equation 45.
        self.p_c.iter_mut().for_each(|p| *p *= 1.0 - k.c_c);
        if settled {
            add(&mut self.p_c, libm::sqrt(k.c_c * (2.0 - k.c_c) * k.mu_eff), &mean_step);
        }
        // Equations 46 and 47; the negative weights are scaled to keep C positive definite.
        let weights: Vec<f64> = k
            .weights
            .iter()
            .zip(&steps)
            .map(|(weight, y)| {
                let whitened = norm(&self.times(&self.inverse_root, y));
                if *weight >= 0.0 {
                    *weight
                } else {
                    weight * n as f64 / (whitened * whitened + 1e-8)
                }
            })
            .collect();
        let stalled = if settled { 0.0 } else { k.c_c * (2.0 - k.c_c) };
        let kept = 1.0 + k.c_1 * stalled - k.c_1 - k.c_mu * k.weights.iter().sum::<f64>();
        self.c.iter_mut().for_each(|c| *c *= kept);
        let path = self.p_c.clone();
        self.add_square(k.c_1, &path);
        for (weight, y) in weights.iter().zip(&steps) {
            self.add_square(k.c_mu * weight, y);
        }
        self.decompose();
    }

    /// Moves the probabilities towards the categories of the good points, along the natural gradient as in R. Hamano et al.,
    /// *CMA-ES for categories* (`CatCMA`), GECCO (2024), section 3, but with a fixed learning rate, which falls with the number of probabilities.
    fn move_categories(&mut self, ranked: &[(&Latent, bool)]) {
        let free: usize = self.q.iter().map(|q| q.len() - 1).sum();
        let k = self.constants_for(ranked.len());
        let rate = k.mu_eff / (k.mu_eff + 8.0 + free as f64);
        for (dimension, q) in self.q.iter_mut().enumerate() {
            for q in q.iter_mut() {
                *q *= 1.0 - rate;
            }
            for (weight, (latent, _)) in k.weights.iter().zip(ranked).take(k.mu) {
                q[latent.categories[dimension]] += rate * weight;
            }
        }
    }

    fn keep_margin(&mut self, axes: &Axes) {
        let n = self.m.len();
        let alpha = 1.0 / (n as f64 * self.constants.lambda as f64);
        for (number, axis) in axes.numeric.iter().enumerate().filter(|(_, axis)| axis.is_discrete()) {
            let deviation = self.sigma * libm::sqrt(self.c[if self.diagonal { number } else { number * n + number }]);
            let (m, s) = margin::correct(
                self.m[number],
                deviation * self.a[number],
                axis.thresholds(self.m[number]),
                alpha,
            );
            self.m[number] = m;
            self.a[number] = s / deviation;
        }
        // The least probability of `CatCMA`, section 4.2: a draw differs from the most probable one in some dimension with a
        // probability of 27 %.
        let dimensions = self.q.len() as f64;
        for q in &mut self.q {
            let least = (1.0 - libm::pow(0.73, 1.0 / dimensions)) / (q.len() - 1) as f64;
            let least = least.min(0.5 / q.len() as f64);
            for q in q.iter_mut() {
                *q = q.max(least);
            }
            let total: f64 = q.iter().sum();
            let above: f64 = q.iter().map(|q| q - least).sum();
            for q in q.iter_mut() {
                *q += (1.0 - total) / above * (*q - least);
            }
        }
    }

    /// Whether nothing is to be expected any more: the distribution has degenerated, or the losses no longer change.
    pub(super) fn is_spent(&self) -> bool {
        let n = self.m.len();
        let window = 10 + (30 * n).div_ceil(self.constants.lambda);
        let flat = self.bests.len() >= window && {
            let recent = &self.bests[self.bests.len() - window..];
            let least = recent.iter().copied().fold(f64::INFINITY, f64::min);
            let most = recent.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            most - least <= 1e-12
        };
        let step = self.sigma * self.largest;
        flat || n > 0 && (self.condition > 1e14 || !(1e-12..=1e4).contains(&step))
    }

    /// √C, its inverse and the shape of C.
    fn decompose(&mut self) {
        let n = self.m.len();
        let floor = f64::MIN_POSITIVE;
        let (values, vectors) = if self.diagonal {
            (self.c.clone(), Vec::new())
        } else {
            eigen::symmetric(&self.c, n)
        };
        let roots: Vec<f64> = values.iter().map(|value| libm::sqrt(value.max(floor))).collect();
        let smallest = roots.iter().copied().fold(f64::INFINITY, f64::min);
        self.largest = roots.iter().copied().fold(0.0, f64::max);
        self.condition = (self.largest / smallest) * (self.largest / smallest);
        if self.diagonal {
            self.inverse_root = roots.iter().map(|root| 1.0 / root).collect();
            self.root = roots;
            return;
        }
        for i in 0..n {
            for j in 0..=i {
                let (mut root, mut inverse) = (0.0, 0.0);
                for k in 0..n {
                    let product = vectors[i * n + k] * vectors[j * n + k];
                    root += product * roots[k];
                    inverse += product / roots[k];
                }
                for at in [i * n + j, j * n + i] {
                    self.root[at] = root;
                    self.inverse_root[at] = inverse;
                }
            }
        }
    }

    fn y(&self, x: &[f64]) -> Vec<f64> {
        x.iter().zip(&self.m).map(|(x, m)| (x - m) / self.sigma).collect()
    }

    fn times(&self, matrix: &[f64], vector: &[f64]) -> Vec<f64> {
        if self.diagonal {
            return matrix.iter().zip(vector).map(|(a, b)| a * b).collect();
        }
        matrix
            .chunks(vector.len().max(1))
            .map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
            .collect()
    }

    /// C ← C + factor v vᵀ.
    fn add_square(&mut self, factor: f64, v: &[f64]) {
        let n = v.len();
        if self.diagonal {
            self.c.iter_mut().zip(v).for_each(|(c, v)| *c += factor * v * v);
            return;
        }
        for i in 0..n {
            for j in 0..n {
                self.c[i * n + j] += factor * (v[i] * v[j]);
            }
        }
    }
}

/// Standard normal numbers, two from each pair of uniform ones (G. E. P. Box, M. E. Muller, 1958).
fn normals(n: usize, generator: &mut Generator) -> Vec<f64> {
    let mut numbers = Vec::with_capacity(n + 1);
    while numbers.len() < n {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - generator.uniform()));
        let (sine, cosine) = libm::sincos(2.0 * std::f64::consts::PI * generator.uniform());
        numbers.extend([radius * cosine, radius * sine]);
    }
    numbers.truncate(n);
    numbers
}

fn norm(v: &[f64]) -> f64 {
    libm::sqrt(v.iter().map(|x| x * x).sum())
}

fn add(sum: &mut [f64], factor: f64, v: &[f64]) {
    sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += factor * v);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Axes = Axes {
        numeric: Vec::new(),
        categorical: Vec::new(),
    };

    fn generation(distribution: &Distribution, z: &[[f64; 2]]) -> Vec<Latent> {
        let x = |z: &[f64; 2]| {
            let step = distribution.times(&distribution.root, z);
            distribution
                .m
                .iter()
                .zip(step)
                .map(|(m, step)| m + distribution.sigma * step)
                .collect()
        };
        z.iter()
            .map(|z| Latent {
                x: x(z),
                categories: Vec::new(),
            })
            .collect()
    }

    fn ranks(latents: &[Latent]) -> Vec<usize> {
        let loss = |x: &[f64]| (x[0] - 1.0) * (x[0] - 1.0) + 4.0 * (x[1] - 0.5) * (x[1] - 0.5);
        let mut order: Vec<usize> = (0..latents.len()).collect();
        order.sort_by(|a, b| loss(&latents[*a].x).total_cmp(&loss(&latents[*b].x)));
        order
    }

    fn step(distribution: &mut Distribution, z: &[[f64; 2]]) -> Vec<usize> {
        let latents = generation(distribution, z);
        let order = ranks(&latents);
        let ranked: Vec<(&Latent, bool)> = order.iter().map(|at| (&latents[*at], true)).collect();
        distribution.update(&NONE, &ranked, Some(0.0));
        order
    }

    fn close(found: &[f64], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-10, "{found} is not {expected}");
        }
    }

    #[test]
    fn two_generations_go_as_computed_by_hand() {
        let mut distribution = Distribution::start(&NONE, vec![0.0, 0.0], 6, 0);
        distribution.sigma = 0.5;
        let order = step(
            &mut distribution,
            &[
                [1.0, 0.0],
                [0.0, 1.0],
                [-1.0, 0.0],
                [0.0, -1.0],
                [1.0, 1.0],
                [-1.0, -1.0],
            ],
        );
        assert_eq!(order, [4, 1, 0, 2, 3, 5]);
        close(&distribution.m, &[0.357_714_871_280_983_56, 0.460_806_414_339_624_9]);
        close(&[distribution.sigma], &[0.516_168_420_236_646_3]);
        close(
            &distribution.c,
            &[0.994_499_030_6, 0.147_860_861_9, 0.147_860_861_9, 1.042_111_398_0],
        );
        close(&distribution.p_c, &[0.944_437_669_0, 1.216_619_634_1]);
        let order = step(
            &mut distribution,
            &[
                [0.5, 0.5],
                [-0.5, 0.5],
                [0.5, -0.5],
                [-0.5, -0.5],
                [2.0, 0.0],
                [0.0, 2.0],
            ],
        );
        assert_eq!(order, [4, 0, 2, 1, 3, 5]);
        close(&distribution.m, &[1.108_835_071_123_458_2, 0.570_180_916_249_934_4]);
        close(&[distribution.sigma], &[0.669_801_180_614_040_7]);
        close(
            &distribution.c,
            &[1.797_896_622_2, 0.362_157_495_3, 0.362_157_495_3, 0.838_049_504_6],
        );
    }

    #[test]
    fn a_far_point_of_an_older_distribution_moves_the_mean_by_a_typical_step_only() {
        let start = Distribution::start(&NONE, vec![0.0, 0.0], 6, 0);
        let far = Latent {
            x: vec![1e6, 0.0],
            categories: Vec::new(),
        };
        let near = Latent {
            x: vec![0.0, 0.0],
            categories: Vec::new(),
        };
        let ranked: Vec<(&Latent, bool)> = std::iter::once((&far, false)).chain([(&near, true); 5]).collect();
        let mut moved = start.clone();
        moved.update(&NONE, &ranked, Some(0.0));
        assert!(moved.m[0] > 0.1 && moved.m[0] < 1.0, "{}", moved.m[0]);
    }

    #[test]
    fn a_generation_of_failures_leaves_the_normal_alone_and_a_flat_run_is_spent() {
        let mut distribution = Distribution::start(&NONE, vec![0.5, 0.5], 6, 0);
        let latents = generation(&distribution, &[[1.0, 0.0]; 6]);
        let ranked: Vec<(&Latent, bool)> = latents.iter().map(|latent| (latent, true)).collect();
        distribution.update(&NONE, &ranked, None);
        assert_eq!(distribution.m, [0.5, 0.5]);
        for _ in 0..19 {
            assert!(!distribution.is_spent());
            distribution.bests.push(0.25);
        }
        distribution.bests.push(0.25);
        assert!(distribution.is_spent());
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut generator = crate::rng::Key::new(1, "", None, "").generator(0, crate::rng::Stream::Latent);
        let draws = normals(20_001, &mut generator);
        let mean = draws.iter().sum::<f64>() / 20_001.0;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 20_001.0;
        assert!(
            draws.len() == 20_001 && mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03,
            "{mean} {variance}"
        );
    }
}
