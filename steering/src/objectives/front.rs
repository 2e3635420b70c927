//! The Pareto front and how much it dominates.

/// Times as far from the least loss as any other: an outlier.
const OUTLYING: f64 = 10.0;

/// The front of a set of points with what it dominates.
#[derive(Debug, Clone, PartialEq)]
pub struct Front {
    /// Positions of the points that no other dominates, by their first loss, then the second and so on.
    pub members: Vec<usize>,
    /// The point against which the hypervolume is measured.
    pub reference: Vec<f64>,
    /// Volume between the front and the reference.
    pub hypervolume: f64,
}

impl Front {
    /// The front of `points`, all losses minimised; `reference` as [`reference()`] gives it, unless given. Nothing without points.
    #[must_use]
    pub fn new(points: &[&[f64]], given: Option<&[f64]>) -> Option<Self> {
        let members = front(points);
        let losses: Vec<&[f64]> = members.iter().map(|member| points[*member]).collect();
        let reference = match given {
            Some(given) => given.to_vec(),
            None => reference(points)?,
        };
        Some(Self {
            hypervolume: hypervolume(&losses, &reference),
            members,
            reference,
        })
    }
}

#[cfg(test)]
/// Whether `a` is at least as good as `b` in everything, and better in something.
fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b)
}

/// Positions of the points that no other dominates, by their first loss, then the second and so on; of equal points the first.
#[must_use]
pub fn front(points: &[&[f64]]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    let compare = |a: &[f64], b: &[f64]| {
        let unequal = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
        unequal.unwrap_or(std::cmp::Ordering::Equal)
    };
    order.sort_by(|a, b| compare(points[*a], points[*b]).then(a.cmp(b)));
    // A point can only be dominated by one before it in this order.
    let mut members: Vec<usize> = Vec::new();
    for position in order {
        let covered = |member: &usize| points[*member].iter().zip(points[position]).all(|(a, b)| a <= b);
        if !members.iter().any(covered) {
            members.push(position);
        }
    }
    members
}

/// The reference by rule: in each objective the worst loss on the front and a tenth of the front's range. Where the front has no
/// range, that of all points counts; where these have none either, the magnitude of the loss, or 1.
#[must_use]
pub fn reference(points: &[&[f64]]) -> Option<Vec<f64>> {
    let objectives = points.first()?.len();
    let members = front(points);
    let reference = (0..objectives).map(|objective| {
        let ends = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
        };
        let (low, high) = ends(&mut members.iter().map(|member| points[*member][objective]));
        let (lowest, highest) = ends(&mut points.iter().map(|point| point[objective]));
        let ranges = [high - low, highest - lowest, high.abs()];
        high + 0.1 * ranges.into_iter().find(|range| *range > 0.0).unwrap_or(1.0)
    });
    Some(reference.collect())
}

/// For each objective, the loss up to which a search for the front is interested: a tenth of the front's range beyond the worst on the
/// front, and of what lies between there and the worst loss of all a share, the larger the fewer points the front has. Of a
/// front that was found at one end, its range alone would keep the search there. Outliers do not count: they begin where a loss is
/// [`OUTLYING`] times as far from the least one as the worst on the front, half of all, and any below it.
pub(crate) fn of_interest(losses: &[&[f64]]) -> Vec<f64> {
    let on_front = front(losses);
    let objectives = 0..losses.first().map_or(0, |losses| losses.len());
    let end = |objective: usize| {
        let mut all: Vec<f64> = losses.iter().map(|losses| losses[objective]).collect();
        all.sort_by(f64::total_cmp);
        let least = all[0];
        let worst = on_front.iter().map(|position| losses[*position][objective]);
        let worst = worst.fold(least, f64::max);
        let ranges = all.iter().map(|loss| loss - least);
        let reach = ranges.fold(worst.max(all[all.len() / 2]) - least, |reach: f64, range| {
            if reach == 0.0 || range <= OUTLYING * reach {
                reach.max(range)
            } else {
                reach
            }
        });
        let near = 1.1 * (worst - least);
        let share = 2.0 / (on_front.len() as f64 + 1.0);
        let ranges = [near + share * (reach - near).max(0.0), least.abs()];
        least + ranges.into_iter().find(|range| *range > 0.0).unwrap_or(1.0)
    };
    objectives.map(end).collect()
}

/// The volume of what `points` dominate up to `reference`; points beyond the reference add nothing.
///
/// L. While, L. Bradstreet, L. Barone, *A fast way of calculating exact hypervolumes*, IEEE Transactions on Evolutionary Computation
/// 16 (2012), section III: each point adds what it dominates less what those after it dominate of that.
#[must_use]
pub fn hypervolume(points: &[&[f64]], reference: &[f64]) -> f64 {
    let inside: Vec<Vec<f64>> = (points.iter())
        .filter(|point| point.iter().zip(reference).all(|(loss, limit)| loss < limit))
        .map(|point| point.to_vec())
        .collect();
    volume(&inside, reference)
}

fn volume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let borrowed: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
    let members = front(&borrowed);
    let mut sum = 0.0;
    for (index, member) in members.iter().enumerate() {
        let point = borrowed[*member];
        let own: f64 = point.iter().zip(reference).map(|(loss, limit)| limit - loss).product();
        let limited = members[index + 1..].iter().map(|other| {
            let corner = borrowed[*other].iter().zip(point).map(|(a, b)| a.max(*b));
            corner.collect::<Vec<f64>>()
        });
        let limited: Vec<Vec<f64>> = limited.collect();
        sum += own
            - if limited.is_empty() {
                0.0
            } else {
                volume(&limited, reference)
            };
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slices(points: &[Vec<f64>]) -> Vec<&[f64]> {
        points.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn known_volumes() {
        let close = |points: &[Vec<f64>], reference: &[f64], wanted: f64| {
            let found = hypervolume(&slices(points), reference);
            assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}");
        };
        close(&[], &[1.0, 1.0], 0.0);
        close(&[vec![0.0, 0.0]], &[2.0, 3.0], 6.0);
        close(&[vec![1.0, 3.0], vec![2.0, 2.0], vec![3.0, 1.0]], &[4.0, 4.0], 6.0);
        close(&[vec![1.0, 3.0], vec![5.0, 0.0], vec![3.0, 3.5]], &[4.0, 4.0], 3.0);
        // Three boxes of 2 × 2 × 1 overlap pairwise in 2 and all together in 1.
        close(
            &[vec![0.0, 0.0, 1.0], vec![0.0, 1.0, 0.0], vec![1.0, 0.0, 0.0]],
            &[2.0, 2.0, 2.0],
            7.0,
        );
        close(&[vec![0.0; 5], vec![0.5; 5]], &[1.0; 5], 1.0);
    }

    #[test]
    fn the_front_of_a_fine_curve_has_the_volume_of_its_integral() {
        // The front of ZDT1 is f2 = 1 − √f1: below (1.1, 1.1) it dominates 1.21 − ∫ (1 − √x) dx over [0, 1] = 1.21 − 1/3.
        let points: Vec<Vec<f64>> = (0..=400)
            .map(|i| f64::from(i) / 400.0)
            .map(|x| vec![x, 1.0 - x.sqrt()])
            .collect();
        let found = hypervolume(&slices(&points), &[1.1, 1.1]);
        assert!((found - (1.21 - 1.0 / 3.0)).abs() < 5e-3, "{found}");
    }

    #[test]
    fn the_reference_lies_beyond_the_front_by_a_tenth_of_its_range() {
        let points = [vec![0.0, 10.0], vec![1.0, 0.0], vec![50.0, 50.0]];
        assert_eq!(reference(&slices(&points)).unwrap(), [1.1, 11.0]);
        assert_eq!(reference(&[&[2.0, 0.0]]).unwrap(), [2.2, 0.1]);
        assert_eq!(reference(&[]), None);
    }

    proptest! {
        #[test]
        fn no_member_of_the_front_is_dominated_and_all_others_are_covered(
            points in prop::collection::vec(prop::collection::vec(0_u8..6, 3), 0..20),
        ) {
            let points: Vec<Vec<f64>> = points.into_iter().map(|point| point.into_iter().map(f64::from).collect()).collect();
            let points = slices(&points);
            let members = front(&points);
            for position in 0..points.len() {
                let dominated = points.iter().any(|other| dominates(other, points[position]));
                prop_assert!(!(dominated && members.contains(&position)));
                prop_assert!(members.iter().any(|member| points[*member].iter().zip(points[position]).all(|(a, b)| a <= b)));
            }
            // Counting the cells of a grid is slow and certain.
            let mut cells = 0_u32;
            for cell in 0..216 {
                let corner = [f64::from(cell / 36), f64::from(cell / 6 % 6), f64::from(cell % 6)];
                cells += u32::from(points.iter().any(|point| point.iter().zip(corner).all(|(a, b)| *a <= b)));
            }
            prop_assert!((hypervolume(&points, &[6.0, 6.0, 6.0]) - f64::from(cells)).abs() < 1e-9);
        }
    }
}
