//! Which rows train and which judge: a function of seed, row count and, where asked, classes, groups or files.
//!
//! Every row has a key, a hash of seed and row number; rows in the order of their keys are a random permutation that is
//! the same on every machine. The hash is the finaliser of `SplitMix64` (Steele, Lea and Flood 2014).

use std::collections::BTreeMap;

use super::description::{Amount, SplitKind};

/// Keeps the permutation that splits apart from the one that thins out the training set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Split = 1,
    Fraction = 2,
    Balance = 3,
    Augment = 4,
}

/// What a split may look at, one entry per row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowTraits<'a> {
    pub(crate) labels: Option<&'a [i64]>,
    pub(crate) groups: Option<&'a [usize]>,
    pub(crate) files: &'a [usize],
}

/// Rows of both sets, each ascending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) train: Vec<usize>,
    pub(crate) validation: Vec<usize>,
}

/// Divides rows `0..rows`. Neither part is empty.
pub(crate) fn split(
    rows: usize,
    amount: Amount,
    seed: u64,
    kind: &SplitKind,
    traits: RowTraits<'_>,
) -> Result<Parts, String> {
    let wanted = match amount {
        Amount::Share(share) => ((rows as f64 * share).round() as usize).max(1),
        Amount::Rows(count) => count,
    };
    if wanted >= rows {
        return Err(format!(
            "{wanted} validation rows of {rows} leave none for training; use more data or a smaller `data.split.validation`"
        ));
    }
    let validation = match kind {
        SplitKind::Random => permutation(rows, seed, Stream::Split)[..wanted].to_vec(),
        SplitKind::Last => (rows - wanted..rows).collect(),
        SplitKind::Stratified => {
            let labels = traits.labels.ok_or(
                "`data.split.kind` is `stratified`, but the targets are values; use `random`, or classes as targets",
            )?;
            stratified(labels, wanted, seed)
        }
        SplitKind::Grouped(_) => {
            let groups = traits.groups.expect("the groups were read for a grouped split");
            whole(groups, wanted, seed, "group")?
        }
        SplitKind::ByFile => whole(traits.files, wanted, seed, "file")?,
    };
    let mut is_validation = vec![false; rows];
    for row in validation {
        is_validation[row] = true;
    }
    let (validation, train) = (0..rows).partition(|row| is_validation[*row]);
    Ok(Parts { train, validation })
}

/// A share of `rows`, at least one, ascending. Larger shares contain smaller ones, also where `labels` are given, one for
/// each row of the table, and each class keeps its proportion.
pub(crate) fn fraction_of(rows: &[usize], share: f64, seed: u64, labels: Option<&[i64]>) -> Vec<usize> {
    let count = ((rows.len() as f64 * share).ceil() as usize).clamp(1, rows.len());
    let mut keyed: Vec<usize> = rows.to_vec();
    keyed.sort_by_key(|row| (key(seed, Stream::Fraction, *row), *row));
    if let Some(labels) = labels {
        // Each class is spread evenly over the order, so every beginning of the order has all in proportion.
        let mut sizes: BTreeMap<i64, usize> = BTreeMap::new();
        for row in &keyed {
            *sizes.entry(labels[*row]).or_default() += 1;
        }
        let mut seen: BTreeMap<i64, usize> = BTreeMap::new();
        let mut ranked: Vec<(f64, usize)> = keyed
            .iter()
            .map(|row| {
                let label = labels[*row];
                let before = seen.entry(label).or_default();
                *before += 1;
                ((*before as f64 - 0.5) / sizes[&label] as f64, *row)
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        keyed = ranked.into_iter().map(|(_, row)| row).collect();
    }
    keyed.truncate(count);
    keyed.sort_unstable();
    keyed
}

/// `rows` with those of rarer classes repeated until each class has as many as the largest, ascending; `labels` has one
/// entry for each row of the table.
pub(crate) fn oversampled(rows: &[usize], labels: &[i64], seed: u64) -> Vec<usize> {
    let mut classes: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for row in rows {
        classes.entry(labels[*row]).or_default().push(*row);
    }
    let most = classes.values().map(Vec::len).max().unwrap_or(0);
    let mut all = Vec::with_capacity(most * classes.len());
    for mut members in classes.into_values() {
        members.sort_by_key(|row| (key(seed, Stream::Balance, *row), *row));
        all.extend(members.iter().cycle().take(most));
    }
    all.sort_unstable();
    all
}

/// Random bits for a position in a pass over the training set.
pub(crate) fn key_of(seed: u64, pass: u64, position: u64) -> u64 {
    key(mix(seed ^ mix(pass)), Stream::Augment, position as usize)
}

fn permutation(count: usize, seed: u64, stream: Stream) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..count).collect();
    rows.sort_by_key(|row| (key(seed, stream, *row), *row));
    rows
}

fn key(seed: u64, stream: Stream, row: usize) -> u64 {
    let mut state = mix(seed);
    for part in [stream as u64, row as u64] {
        state = mix(state ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    state
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// From each class its share, rounded down, then one more from those with the largest remainders.
fn stratified(labels: &[i64], wanted: usize, seed: u64) -> Vec<usize> {
    let mut classes: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for row in permutation(labels.len(), seed, Stream::Split) {
        classes.entry(labels[row]).or_default().push(row);
    }
    let share = wanted as f64 / labels.len() as f64;
    let mut counts: Vec<(f64, i64, usize)> = classes
        .iter()
        .map(|(label, rows)| {
            let exact = rows.len() as f64 * share;
            (exact.fract(), *label, exact.floor() as usize)
        })
        .collect();
    let mut left = wanted - counts.iter().map(|(_, _, count)| count).sum::<usize>();
    counts.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, label, count) in &mut counts {
        if left > 0 && *count < classes[label].len() {
            *count += 1;
            left -= 1;
        }
    }
    counts
        .iter()
        .flat_map(|(_, label, count)| classes[label][..*count].iter().copied())
        .collect()
}

/// Whole groups in random order until at least `wanted` rows are together, but never all groups.
fn whole(groups: &[usize], wanted: usize, seed: u64, what: &str) -> Result<Vec<usize>, String> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.iter().enumerate() {
        members.entry(*group).or_default().push(row);
    }
    if members.len() < 2 {
        return Err(format!(
            "a split by {what} needs at least two {what}s, found {}",
            members.len()
        ));
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let mut chosen = Vec::new();
    for group in permutation(members.len(), seed, Stream::Split).into_iter().skip(1) {
        if chosen.len() >= wanted {
            break;
        }
        chosen.extend_from_slice(&members[group]);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TRAITS: RowTraits<'_> = RowTraits {
        labels: None,
        groups: None,
        files: &[],
    };

    fn parts(rows: usize, share: f64, seed: u64) -> Parts {
        split(rows, Amount::Share(share), seed, &SplitKind::Random, NO_TRAITS).unwrap()
    }

    #[test]
    fn a_random_split_is_the_same_each_time_and_complete() {
        let first = parts(100, 0.2, 7);
        assert_eq!(first, parts(100, 0.2, 7));
        assert_ne!(first, parts(100, 0.2, 8));
        assert_eq!(first.validation.len(), 20);
        let mut all = [first.train, first.validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_permutation_is_part_of_the_promise() {
        // The first output of `SplitMix64` with seed 0, and the order that an independent program gave.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(permutation(8, 0, Stream::Split), [4, 1, 5, 7, 2, 0, 3, 6]);
    }

    #[test]
    fn each_class_gives_its_share_in_a_stratified_split() {
        let labels: Vec<i64> = (0..100).map(|row| i64::from(row % 10 == 0)).collect();
        let traits = RowTraits {
            labels: Some(&labels),
            ..NO_TRAITS
        };
        let parts = split(100, Amount::Share(0.2), 3, &SplitKind::Stratified, traits).unwrap();
        assert_eq!(parts.validation.len(), 20);
        assert_eq!(parts.validation.iter().filter(|row| labels[**row] == 1).count(), 2);
    }

    #[test]
    fn groups_are_never_torn() {
        let groups: Vec<usize> = (0..60).map(|row| row % 7).collect();
        let traits = RowTraits {
            groups: Some(&groups),
            ..NO_TRAITS
        };
        let kind = SplitKind::Grouped(super::super::description::Selector::Position(0));
        let parts = split(60, Amount::Rows(12), 1, &kind, traits).unwrap();
        assert!(parts.validation.len() >= 12 && !parts.train.is_empty());
        assert!(
            parts
                .validation
                .iter()
                .all(|row| parts.train.iter().all(|other| groups[*row] != groups[*other]))
        );
    }

    #[test]
    fn the_last_rows_are_the_last_rows() {
        let parts = split(10, Amount::Rows(3), 0, &SplitKind::Last, NO_TRAITS).unwrap();
        assert_eq!(parts.validation, [7, 8, 9]);
    }

    #[test]
    fn smaller_fractions_are_contained_in_larger_ones() {
        let rows: Vec<usize> = (0..200).collect();
        let labels: Vec<i64> = (0..200).map(|row| i64::from(row % 10 == 0)).collect();
        for labels in [None, Some(labels.as_slice())] {
            let (small, large) = (fraction_of(&rows, 0.1, 5, labels), fraction_of(&rows, 0.5, 5, labels));
            assert_eq!((small.len(), large.len()), (20, 100));
            assert!(small.iter().all(|row| large.contains(row)));
            assert_eq!(fraction_of(&rows, 1.0, 5, labels), rows);
            if labels.is_some() {
                assert_eq!(small.iter().filter(|row| **row % 10 == 0).count(), 2);
                assert_eq!(large.iter().filter(|row| **row % 10 == 0).count(), 10);
            }
        }
    }

    #[test]
    fn rare_classes_are_repeated_evenly() {
        let labels = [0, 0, 0, 0, 0, 1, 1];
        let rows: Vec<usize> = (0..7).collect();
        let all = oversampled(&rows, &labels, 1);
        assert_eq!(all.len(), 10);
        assert_eq!(all[..5], [0, 1, 2, 3, 4]);
        let fives = all.iter().filter(|row| **row == 5).count();
        assert!(fives == 2 || fives == 3);
    }

    #[test]
    fn impossible_splits_say_what_is_too_few() {
        let none = split(3, Amount::Rows(3), 0, &SplitKind::Random, NO_TRAITS).unwrap_err();
        assert!(
            none.starts_with("3 validation rows of 3 leave none for training"),
            "{none}"
        );
        let files = RowTraits {
            files: &[0, 0, 0],
            ..NO_TRAITS
        };
        let one = split(3, Amount::Rows(1), 0, &SplitKind::ByFile, files).unwrap_err();
        assert_eq!(one, "a split by file needs at least two files, found 1");
        let values = split(3, Amount::Rows(1), 0, &SplitKind::Stratified, NO_TRAITS).unwrap_err();
        assert!(values.contains("the targets are values"), "{values}");
    }
}
