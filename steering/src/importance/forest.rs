//! Regression trees.
//!
//! L. Breiman, *Random forests*, Machine Learning 45 (2001) 5. Each node looks at a random part of the axes and takes the split that
//! lowers the squared error most; the threshold lies at random between the two points that it separates.

use crate::rng::Generator;

/// Points below which a node is not split; also the least on either side.
const LEAF: usize = 2;
/// Share of the axes that a node looks at.
const LOOKED_AT: f64 = 5.0 / 6.0;

/// What an axis holds.
#[derive(Debug)]
pub(super) enum Axis {
    /// Numbers from 0 to 1, all equally likely.
    Numeric,
    /// Numbers of categories, with the probabilities given.
    Categorical(Vec<f64>),
}

/// The points: one row each.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) x: Vec<Vec<f64>>,
    pub(super) y: Vec<f64>,
}

/// A tree; the first node is its root.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Leaf(f64),
    Split {
        axis: usize,
        rule: Rule,
        left: usize,
        right: usize,
    },
}

/// What goes to the left.
#[derive(Debug, Clone)]
enum Rule {
    Below(f64),
    In(Vec<bool>),
}

/// The part of an axis that reaches a leaf.
#[derive(Debug, Clone)]
pub(super) enum Extent {
    Interval(f64, f64),
    Categories(Vec<bool>),
}

impl Tree {
    /// Grows a tree on `rows`, which may repeat.
    pub(super) fn grow(sample: &Sample, rows: Vec<usize>, axes: &[Axis], generator: &mut Generator) -> Self {
        let mut tree = Self { nodes: Vec::new() };
        tree.nodes.push(Node::Leaf(0.0));
        // Depth first with a list of its own: a degenerate tree may be deep.
        let mut open = vec![(0, rows)];
        while let Some((at, rows)) = open.pop() {
            let mean = rows.iter().map(|row| sample.y[*row]).sum::<f64>() / rows.len() as f64;
            match best_split(sample, &rows, axes, generator) {
                None => tree.nodes[at] = Node::Leaf(mean),
                Some((axis, rule)) => {
                    let (left_rows, right_rows) = rows.into_iter().partition(|row| rule.is_left(sample.x[*row][axis]));
                    let left = tree.nodes.len();
                    tree.nodes[at] = Node::Split {
                        axis,
                        rule,
                        left,
                        right: left + 1,
                    };
                    tree.nodes.extend([Node::Leaf(0.0), Node::Leaf(0.0)]);
                    open.push((left, left_rows));
                    open.push((left + 1, right_rows));
                }
            }
        }
        tree
    }

    pub(super) fn predict(&self, x: &[f64]) -> f64 {
        let mut at = 0;
        loop {
            match &self.nodes[at] {
                Node::Leaf(value) => return *value,
                Node::Split {
                    axis,
                    rule,
                    left,
                    right,
                } => at = if rule.is_left(x[*axis]) { *left } else { *right },
            }
        }
    }

    /// Calls `leaf` with the box and the value of each leaf.
    pub(super) fn leaves(&self, axes: &[Axis], mut leaf: impl FnMut(&[Extent], f64)) {
        let whole = axes.iter().map(|axis| match axis {
            Axis::Numeric => Extent::Interval(0.0, 1.0),
            Axis::Categorical(weights) => Extent::Categories(vec![true; weights.len()]),
        });
        let mut open = vec![(0, whole.collect::<Vec<_>>())];
        while let Some((at, extents)) = open.pop() {
            match &self.nodes[at] {
                Node::Leaf(value) => leaf(&extents, *value),
                Node::Split {
                    axis,
                    rule,
                    left,
                    right,
                } => {
                    let (mut lower, mut upper) = (extents.clone(), extents);
                    (lower[*axis], upper[*axis]) = rule.divide(&lower[*axis]);
                    open.push((*right, upper));
                    open.push((*left, lower));
                }
            }
        }
    }
}

impl Rule {
    fn is_left(&self, x: f64) -> bool {
        match self {
            Self::Below(threshold) => x < *threshold,
            Self::In(left) => left[x as usize],
        }
    }

    fn divide(&self, extent: &Extent) -> (Extent, Extent) {
        match (self, extent) {
            (Self::Below(threshold), Extent::Interval(low, high)) => {
                let threshold = threshold.clamp(*low, *high);
                (Extent::Interval(*low, threshold), Extent::Interval(threshold, *high))
            }
            (Self::In(left), Extent::Categories(present)) => {
                let part = |side: bool| {
                    present
                        .iter()
                        .zip(left)
                        .map(|(present, left)| *present && *left == side)
                        .collect()
                };
                (Extent::Categories(part(true)), Extent::Categories(part(false)))
            }
            _ => unreachable!("a rule divides an axis of its own kind"),
        }
    }
}

impl Extent {
    /// The probability of the part.
    pub(super) fn mass(&self, axis: &Axis) -> f64 {
        match (self, axis) {
            (Self::Interval(low, high), _) => high - low,
            (Self::Categories(present), Axis::Categorical(weights)) => present
                .iter()
                .zip(weights)
                .filter(|(present, _)| **present)
                .map(|(_, weight)| weight)
                .sum(),
            (Self::Categories(_), Axis::Numeric) => unreachable!("an extent is of the kind of its axis"),
        }
    }
}

/// The split that lowers the squared error most, among a random part of the axes.
fn best_split(sample: &Sample, rows: &[usize], axes: &[Axis], generator: &mut Generator) -> Option<(usize, Rule)> {
    if rows.len() < 2 * LEAF {
        return None;
    }
    let mut shuffled: Vec<usize> = (0..axes.len()).collect();
    let looked_at = (libm::ceil(LOOKED_AT * axes.len() as f64) as usize).min(axes.len());
    for at in 0..looked_at {
        let other = at + generator.below(axes.len() - at);
        shuffled.swap(at, other);
    }
    let total: f64 = rows.iter().map(|row| sample.y[*row]).sum();
    let whole = total * total / rows.len() as f64;
    let square_sum: f64 = rows.iter().map(|row| sample.y[*row] * sample.y[*row]).sum();
    let mut best: Option<(f64, usize, Rule)> = None;
    for &axis in &shuffled[..looked_at] {
        let found = match &axes[axis] {
            Axis::Numeric => split_numeric(sample, rows, axis, total, generator),
            Axis::Categorical(weights) => split_categorical(sample, rows, axis, weights.len(), total),
        };
        if let Some((score, rule)) = found
            && best.as_ref().is_none_or(|(least, _, _)| score > *least)
        {
            best = Some((score, axis, rule));
        }
    }
    // A gain below the rounding of the sums is none.
    best.filter(|(score, _, _)| score - whole > 1e-12 * square_sum)
        .map(|(_, axis, rule)| (axis, rule))
}

/// The score of a split is Σ(sum of a side)²/(size of a side): the larger, the smaller the squared error.
fn score(left: f64, left_count: usize, total: f64, count: usize) -> f64 {
    let right = total - left;
    left * left / left_count as f64 + right * right / (count - left_count) as f64
}

fn split_numeric(
    sample: &Sample,
    rows: &[usize],
    axis: usize,
    total: f64,
    generator: &mut Generator,
) -> Option<(f64, Rule)> {
    let mut sorted: Vec<(f64, f64)> = rows.iter().map(|row| (sample.x[*row][axis], sample.y[*row])).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut best: Option<(f64, f64, f64)> = None;
    let mut left = 0.0;
    for (at, pair) in sorted.windows(2).enumerate() {
        left += pair[0].1;
        let count = at + 1;
        if count < LEAF || sorted.len() - count < LEAF || pair[1].0 <= pair[0].0 {
            continue;
        }
        let score = score(left, count, total, sorted.len());
        if best.is_none_or(|(most, _, _)| score > most) {
            best = Some((score, pair[0].0, pair[1].0));
        }
    }
    // Drawn whether it is used or not, so that every axis uses up one number.
    let u = generator.uniform();
    let (score, low, high) = best?;
    let threshold = low + (high - low) * u;
    // The threshold must not be the lower of the two points, which belongs to the left.
    Some((score, Rule::Below(if threshold > low { threshold } else { high })))
}

/// For squared errors the best set of categories is a beginning of their order by mean (W. D. Fisher, 1958). Categories that are
/// absent from the rows go with the larger side.
fn split_categorical(sample: &Sample, rows: &[usize], axis: usize, count: usize, total: f64) -> Option<(f64, Rule)> {
    let mut sums = vec![(0.0, 0_usize); count];
    for &row in rows {
        let category = &mut sums[sample.x[row][axis] as usize];
        category.0 += sample.y[row];
        category.1 += 1;
    }
    let mut order: Vec<usize> = (0..count).filter(|category| sums[*category].1 > 0).collect();
    let mean = |category: usize| sums[category].0 / sums[category].1 as f64;
    order.sort_by(|a, b| mean(*a).total_cmp(&mean(*b)).then(a.cmp(b)));
    let mut best: Option<(f64, usize, bool)> = None;
    let (mut left, mut left_count) = (0.0, 0);
    for (at, category) in order.iter().enumerate() {
        left += sums[*category].0;
        left_count += sums[*category].1;
        if left_count < LEAF || rows.len() - left_count < LEAF {
            continue;
        }
        let score = score(left, left_count, total, rows.len());
        if best.is_none_or(|(most, _, _)| score > most) {
            best = Some((score, at, 2 * left_count >= rows.len()));
        }
    }
    let (score, last, absent_left) = best?;
    let mut is_left = vec![absent_left; count];
    for (at, category) in order.iter().enumerate() {
        is_left[*category] = at <= last;
    }
    Some((score, Rule::In(is_left)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Key, Stream};

    fn generator() -> Generator {
        Key::new(2, "", None, "").generator(0, Stream::Startup)
    }

    fn axes() -> Vec<Axis> {
        vec![Axis::Numeric, Axis::Categorical(vec![0.5, 0.25, 0.25])]
    }

    /// A step along the number, and another for one category.
    fn sample() -> Sample {
        let x: Vec<Vec<f64>> = (0..90)
            .map(|row| vec![f64::from(row % 30) / 30.0, f64::from(row / 30)])
            .collect();
        let y = x
            .iter()
            .map(|x| f64::from(u8::from(x[0] > 0.5)) + if x[1] > 1.5 { 10.0 } else { 0.0 })
            .collect();
        Sample { x, y }
    }

    #[test]
    fn a_tree_learns_steps_exactly_and_its_leaves_fill_the_space() {
        let sample = sample();
        let axes = axes();
        let tree = Tree::grow(&sample, (0..90).collect(), &axes, &mut generator());
        for (x, y) in sample.x.iter().zip(&sample.y) {
            assert!((tree.predict(x) - y).abs() < 1e-12, "{x:?}");
        }
        let mut mass = 0.0;
        tree.leaves(&axes, |extents, _| {
            mass += extents
                .iter()
                .zip(&axes)
                .map(|(extent, axis)| extent.mass(axis))
                .product::<f64>();
        });
        assert!((mass - 1.0).abs() < 1e-12, "{mass}");
    }

    #[test]
    fn equal_losses_make_a_single_leaf() {
        let mut sample = sample();
        sample.y.fill(0.1);
        let tree = Tree::grow(&sample, (0..90).collect(), &axes(), &mut generator());
        let mut leaves = 0;
        tree.leaves(&axes(), |_, value| {
            leaves += 1;
            assert!((value - 0.1).abs() < 1e-12);
        });
        assert_eq!(leaves, 1);
    }
}
