//! Numbers that need all rows in order.

/// Area under the ROC curve: the probability that a positive row has a greater score than a negative one, equal scores
/// counting half. Rows are score, whether positive, weight; none when one kind has no weight, or a score is NaN.
pub(crate) fn area(mut rows: Vec<(f64, bool, f64)>) -> Option<f64> {
    if rows.iter().any(|(score, ..)| score.is_nan()) {
        return None;
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut positives, mut negatives, mut pairs) = (0.0, 0.0, 0.0);
    for equals in rows.chunk_by(|a, b| a.0 >= b.0) {
        let of = |kind: bool| equals.iter().filter(|row| row.1 == kind).map(|row| row.2).sum::<f64>();
        let (positive, negative) = (of(true), of(false));
        pairs += positive * (negatives + 0.5 * negative);
        positives += positive;
        negatives += negative;
    }
    (positives > 0.0 && negatives > 0.0).then(|| pairs / (positives * negatives))
}

/// The smallest value that at least the given share of the weight does not exceed; none without weight. Entries are
/// value and weight.
pub(crate) fn quantile(values: &[(f64, f64)], share: f64) -> Option<f64> {
    let mut values: Vec<(f64, f64)> = values.iter().copied().filter(|(_, weight)| *weight > 0.0).collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    for (value, weight) in &values {
        sum += weight;
        // Half a unit in the last place is for shares such as 0.95 that have no exact form.
        if sum >= share * total * (1.0 - f64::EPSILON) {
            return Some(*value);
        }
    }
    values.last().map(|(value, _)| *value)
}
