//! What makes a point worth evaluating where there are several objectives.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | m | objectives, 2 to 5, all of them minimised | |
//! | μ, s | means and standard deviations of the model at a point, independent of each other | m |
//! | r | the reference, up to which volume counts | m |
//! | l, u | the corners of a cell: a box below r of which no point is dominated by the front | m |
//! | h(z) | φ(z) + z Φ(z) | |
//! | e(a) | s h((a − μ)/s), the expectation of how far a loss is below a | |
//!
//! The volume that a new point adds to what the front dominates is the sum over the cells of Π max(0, u − max(y, l)), and since
//! the losses are independent its expectation is the sum of Π (e(u) − e(l)): exact, with exact derivatives, for any number of
//! objectives. M. Emmerich, A. Deutz, J. Klinkenberg, *Hypervolume-based expected improvement: monotonicity properties and exact
//! computation*, IEEE Congress on Evolutionary Computation (2011), section III. Its logarithm is computed directly, as that of the
//! improvement of one loss is, because far from the front it underflows.

mod sides;

use self::sides::{Edge, Side};
use super::posterior::Prediction;
use crate::numerics::log_sum_exp;
use crate::numerics::normal::distribution;
use crate::objectives::{MOST, front, of_interest};

/// Cells, at most: of a front that makes more, every second point counts, or every third and so on.
const CELLS: usize = 600;

/// Share of the mean distance between the points of a front by which each counts as better than it is.
const SPACING: f64 = 0.2;

/// What a front leaves to be gained.
#[derive(Debug, Clone)]
pub(super) struct Region {
    /// The points of which the front is made, the dominated ones included.
    points: Vec<Vec<f64>>,
    /// For each objective the places where cells begin or end, rising.
    edges: Vec<Vec<f64>>,
    /// For each cell and objective, where it begins and ends among the edges.
    cells: Vec<Vec<(usize, usize)>>,
}

/// The logarithm of an expected gain with its derivatives by each mean and each standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LogGain {
    pub(super) value: f64,
    pub(super) by_mean: [f64; MOST],
    pub(super) by_deviation: [f64; MOST],
}

/// A box, as its lower and its upper corner.
type Box = (Vec<f64>, Vec<f64>);

/// For each objective the places where boxes begin or end, and for each box where among them.
type Cells = (Vec<Vec<f64>>, Vec<Vec<(usize, usize)>>);

impl Region {
    /// What the front of `points` leaves, at least one, all with as many losses.
    ///
    /// Every point counts as a little better than it is, by a fifth of the distance at which the points would stand if they were
    /// spread over the front evenly. Without this the ends of the front draw the search: there a loss that is known up to the last
    /// thousandth, times all that the others may lose, seems to be worth as much as a gap in the middle.
    pub(super) fn new(points: Vec<Vec<f64>>) -> Self {
        let borrowed: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
        let limits = of_interest(&borrowed);
        let least = lowest(&points, limits.len());
        let members = front(&borrowed);
        let better = |member: &usize| {
            let ranges = limits.iter().zip(&least).map(|(limit, least)| limit - least);
            let losses = borrowed[*member].iter().zip(ranges);
            losses
                .map(|(loss, range)| loss - SPACING * range / (members.len() as f64 + 1.0))
                .collect()
        };
        let improved: Vec<Vec<f64>> = members.iter().map(better).collect();
        let (edges, cells) = between(&improved, &limits);
        Self { points, edges, cells }
    }

    /// The region with one point more.
    pub(super) fn with(&self, point: Vec<f64>) -> Self {
        let mut points = self.points.clone();
        points.push(point);
        Self::new(points)
    }

    /// The least of each loss.
    pub(super) fn least(&self) -> Vec<f64> {
        lowest(&self.points, self.edges.len())
    }

    /// The chance that a point with such losses lies below the reference and is dominated by no point of the front.
    pub(super) fn chance(&self, predictions: &[Prediction]) -> f64 {
        let masses: Vec<Vec<f64>> = (self.edges.iter().zip(predictions))
            .map(|(edges, Prediction { mean, variance })| {
                edges
                    .iter()
                    .map(|edge| distribution((edge - mean) / variance.sqrt()))
                    .collect()
            })
            .collect();
        let cells = self.cells.iter().map(|cell| {
            let sides = cell
                .iter()
                .zip(&masses)
                .map(|((low, high), masses)| masses[*high] - masses[*low]);
            sides.product::<f64>()
        });
        cells.sum::<f64>().clamp(0.0, 1.0)
    }

    /// The logarithm of the volume that a point is expected to add; standard deviations must be above 0.
    pub(super) fn log_gain(&self, predictions: impl Iterator<Item = Prediction>) -> LogGain {
        let mut deviations = [1.0; MOST];
        let mut seen: [Vec<Edge>; MOST] = Default::default();
        for (objective, Prediction { mean, variance }) in predictions.enumerate() {
            deviations[objective] = variance.sqrt();
            let edges = self.edges[objective].iter();
            seen[objective] = edges
                .map(|edge| Edge::new((edge - mean) / deviations[objective]))
                .collect();
        }
        let mut sides: Vec<[Side; MOST]> = Vec::with_capacity(self.cells.len());
        let mut terms = Vec::with_capacity(self.cells.len());
        for cell in &self.cells {
            let mut own = [Side::default(); MOST];
            for (side, (edges, (low, high))) in own.iter_mut().zip(seen.iter().zip(cell)) {
                *side = Side::new(&edges[*low], &edges[*high]);
            }
            terms.push(own[..cell.len()].iter().map(|side| side.log).sum::<f64>());
            sides.push(own);
        }
        let sum = log_sum_exp(&terms);
        let (mut by_mean, mut by_deviation) = ([0.0; MOST], [0.0; MOST]);
        let objectives = self.edges.len();
        for (term, sides) in terms.iter().zip(&sides).filter(|(term, _)| term.is_finite()) {
            let share = libm::exp(term - sum);
            for objective in 0..objectives {
                by_mean[objective] -= share * sides[objective].mass / deviations[objective];
                by_deviation[objective] += share * sides[objective].density / deviations[objective];
            }
        }
        let scale: f64 = deviations[..objectives]
            .iter()
            .map(|deviation| libm::log(*deviation))
            .sum();
        LogGain {
            value: sum + scale,
            by_mean,
            by_deviation,
        }
    }
}

/// The cells between a front and `limits`.
fn between(front: &[Vec<f64>], limits: &[f64]) -> Cells {
    let boxes = (1..).find_map(|step| {
        let some: Vec<&[f64]> = front.iter().step_by(step).map(Vec::as_slice).collect();
        divided(&some, limits)
    });
    let boxes = boxes.unwrap_or_default();
    let edges: Vec<Vec<f64>> = (0..limits.len())
        .map(|objective| {
            let ends = boxes.iter().flat_map(|(low, high)| [low[objective], high[objective]]);
            let mut edges: Vec<f64> = ends.collect();
            edges.sort_by(f64::total_cmp);
            edges.dedup();
            edges
        })
        .collect();
    let place = |objective: usize, value: f64| edges[objective].partition_point(|edge| *edge < value);
    let cells = (boxes.iter())
        .map(|(low, high)| {
            let sides = low.iter().zip(high).enumerate();
            sides
                .map(|(objective, (low, high))| (place(objective, *low), place(objective, *high)))
                .collect()
        })
        .collect();
    (edges, cells)
}

/// The least of each loss.
fn lowest(points: &[Vec<f64>], objectives: usize) -> Vec<f64> {
    let lowest = |objective: usize| {
        points
            .iter()
            .map(|point| point[objective])
            .fold(f64::INFINITY, f64::min)
    };
    (0..objectives).map(lowest).collect()
}

/// The part below `limits` that `points` do not dominate, cut into boxes that do not overlap; nothing if there would be too many.
///
/// Each point takes its part from every box that it reaches into; what is left of the box is cut off one objective after the other.
fn divided(points: &[&[f64]], limits: &[f64]) -> Option<Vec<Box>> {
    let mut cells: Vec<Box> = vec![(vec![f64::NEG_INFINITY; limits.len()], limits.to_vec())];
    for point in points {
        let mut left = Vec::with_capacity(cells.len() + 1);
        for (mut low, high) in cells {
            if point.iter().zip(&high).any(|(loss, end)| loss >= end) {
                left.push((low, high));
                continue;
            }
            for objective in 0..limits.len() {
                if point[objective] > low[objective] {
                    let mut end = high.clone();
                    end[objective] = point[objective];
                    left.push((low.clone(), end));
                    low[objective] = point[objective];
                }
            }
        }
        if left.len() > CELLS && points.len() > 1 {
            return None;
        }
        cells = left;
    }
    Some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numerics::normal::LOG_SQRT_TWO_PI;
    use crate::objectives::hypervolume;
    use crate::rng::{Key, Stream};

    fn at(mean: f64, deviation: f64) -> Prediction {
        Prediction {
            mean,
            variance: deviation * deviation,
        }
    }

    /// What is left of the points as they are.
    fn exact(points: &[Vec<f64>]) -> Region {
        let borrowed: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
        let (edges, cells) = between(points, &of_interest(&borrowed));
        Region {
            points: points.to_vec(),
            edges,
            cells,
        }
    }

    fn curve() -> Vec<Vec<f64>> {
        vec![
            vec![0.0, 2.0],
            vec![0.5, 1.0],
            vec![1.5, 0.4],
            vec![2.0, 0.0],
            vec![1.6, 1.5],
        ]
    }

    /// Sums what a point adds to the hypervolume over a grid of its losses.
    fn by_summing(points: &[Vec<f64>], predictions: &[(f64, f64)]) -> f64 {
        let limits = of_interest(&points.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let volume = |points: &[Vec<f64>]| hypervolume(&points.iter().map(Vec::as_slice).collect::<Vec<_>>(), &limits);
        let before = volume(points);
        let (steps, width) = (120_u32, 7.0);
        let mut sum = 0.0;
        let count = steps.pow(u32::try_from(predictions.len()).unwrap());
        for index in 0..count {
            let mut rest = index;
            let (mut weight, mut losses) = (1.0, Vec::new());
            for (mean, deviation) in predictions {
                let u = width * (2.0 * (f64::from(rest % steps) + 0.5) / f64::from(steps) - 1.0);
                rest /= steps;
                weight *= libm::exp(-0.5 * u * u - LOG_SQRT_TWO_PI) * 2.0 * width / f64::from(steps);
                losses.push(mean + deviation * u);
            }
            let mut with = points.to_vec();
            with.push(losses);
            sum += weight * (volume(&with) - before);
        }
        sum
    }

    #[test]
    fn the_gain_is_the_mean_of_what_a_point_adds_to_the_hypervolume() {
        let region = exact(&curve());
        for predictions in [
            [(0.2, 0.5), (0.3, 0.4)],
            [(1.0, 0.3), (1.0, 0.6)],
            [(2.5, 0.5), (0.1, 1.0)],
        ] {
            let found = region
                .log_gain(predictions.iter().map(|(mean, deviation)| at(*mean, *deviation)))
                .value;
            let wanted = libm::log(by_summing(&curve(), &predictions));
            assert!(
                (found - wanted).abs() < 4e-3,
                "{predictions:?}: {found} is not {wanted}"
            );
        }
    }

    #[test]
    fn cells_do_not_overlap_and_fill_what_is_not_dominated() {
        // Points that are certain add exactly what the hypervolume grows by, in any number of objectives.
        for objectives in 2..=MOST {
            let mut generator = Key::new(7, "", None, "test").generator(objectives as u64, Stream::Density);
            let mut draw = || (0..objectives).map(|_| generator.uniform()).collect::<Vec<f64>>();
            let points: Vec<Vec<f64>> = (0..8).map(|_| draw()).collect();
            let region = exact(&points);
            let borrowed: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
            let limits = of_interest(&borrowed);
            let before = hypervolume(&borrowed, &limits);
            for _ in 0..20 {
                let point: Vec<f64> = draw().iter().map(|loss| loss - 0.3).collect();
                let mut with = borrowed.clone();
                with.push(&point);
                let wanted = hypervolume(&with, &limits) - before;
                let found = libm::exp(region.log_gain(point.iter().map(|loss| at(*loss, 1e-9))).value);
                assert!((found - wanted).abs() < 1e-6, "{objectives}: {found} is not {wanted}");
                let certain: Vec<Prediction> = point.iter().map(|loss| at(*loss, 1e-9)).collect();
                assert!((region.chance(&certain) - f64::from(wanted > 0.0)).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn derivatives_agree_with_differences_near_and_far() {
        let region = Region::new(curve());
        for (mean, deviation) in [
            ([0.4, 0.9], [0.3, 0.5]),
            ([-3.0, -2.0], [0.2, 0.1]),
            ([4.0, 3.0], [0.2, 0.3]),
            ([9.0, 30.0], [0.2, 0.5]),
        ] {
            let value = |mean: [f64; 2], deviation: [f64; 2]| {
                region
                    .log_gain((0..2).map(|objective| at(mean[objective], deviation[objective])))
                    .value
            };
            let found = region.log_gain((0..2).map(|objective| at(mean[objective], deviation[objective])));
            assert!(found.value.is_finite());
            let step = 1e-6;
            for objective in 0..2 {
                let moved = |which: [f64; 2], by: f64| {
                    let mut which = which;
                    which[objective] += by;
                    which
                };
                let by_mean =
                    (value(moved(mean, step), deviation) - value(moved(mean, -step), deviation)) / (2.0 * step);
                let by_deviation =
                    (value(mean, moved(deviation, step)) - value(mean, moved(deviation, -step))) / (2.0 * step);
                for (found, wanted) in [
                    (found.by_mean[objective], by_mean),
                    (found.by_deviation[objective], by_deviation),
                ] {
                    assert!(
                        (found - wanted).abs() < 1e-4 * wanted.abs().max(1.0),
                        "{mean:?}: {found} is not {wanted}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_next_digit_of_an_end_of_the_front_is_worth_less_than_a_gap_in_its_middle() {
        let region = Region::new(vec![vec![0.0, 1.0], vec![0.01, 0.9], vec![0.6, 0.0], vec![1.0, 3.0]]);
        let gain = |losses: [(f64, f64); 2]| {
            region
                .log_gain(losses.iter().map(|(mean, deviation)| at(*mean, *deviation)))
                .value
        };
        let (end, middle) = (gain([(0.0, 1e-3), (1.5, 0.1)]), gain([(0.3, 0.1), (0.5, 0.1)]));
        assert!(end < middle - 10.0, "{end} {middle}");
    }

    #[test]
    fn a_long_front_is_thinned() {
        let points: Vec<Vec<f64>> = (0..900)
            .map(|i| f64::from(i) / 900.0)
            .map(|x| vec![x, (1.0 - x) * 0.5, 1.0 - x * x])
            .collect();
        let region = Region::new(points);
        assert!(region.cells.len() <= CELLS, "{}", region.cells.len());
        assert!(region.log_gain((0..3).map(|_| at(0.5, 0.2))).value.is_finite());
        assert_eq!(region.with(vec![-1.0, -2.0, -3.0]).least(), [-1.0, -2.0, -3.0]);
    }
}
