//! Which points are good.

use protocol::Outcome;

use crate::history::History;

/// How the points are divided.
#[derive(Debug)]
pub(super) struct Rule {
    /// Share of the good ones.
    pub(super) good: f64,
    pub(super) root: f64,
    /// At most so many good ones.
    pub(super) cap: usize,
    pub(super) improve: bool,
    pub(super) age: bool,
}

/// The two sets of points, each a list of (position in the history, weight).
#[derive(Debug, PartialEq)]
pub(super) struct Split {
    pub(super) good: Vec<(usize, f64)>,
    pub(super) others: Vec<(usize, f64)>,
}

impl Split {
    pub(super) fn new(history: &History, rule: &Rule) -> Self {
        let observations = history.observations();
        let mut evaluated: Vec<(f64, usize)> = Vec::new();
        let mut others: Vec<usize> = Vec::new();
        let mut known = 0;
        for (position, observation) in observations.iter().enumerate() {
            match observation.outcome {
                Outcome::Done { loss } => evaluated.push((loss.get(), position)),
                Outcome::Pending => others.push(position),
                Outcome::Failed if observation.blamed => others.push(position),
                Outcome::Failed => continue,
            }
            known += usize::from(observation.outcome != Outcome::Pending);
        }
        evaluated.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let good = good_count(known, rule).min(evaluated.len());
        others.extend(evaluated[good..].iter().map(|(_, position)| *position));
        others.sort_unstable();
        let mut best: Vec<(usize, f64)> = evaluated[..good].iter().map(|(_, position)| (*position, 1.0)).collect();
        if rule.improve && good > 0 {
            let threshold = evaluated.get(good).map_or(evaluated[good - 1].0, |(loss, _)| *loss);
            let gains: Vec<f64> = evaluated[..good]
                .iter()
                .map(|(loss, _)| (threshold - loss).max(1e-12))
                .collect();
            let mean = gains.iter().sum::<f64>() / good as f64;
            for (entry, gain) in best.iter_mut().zip(gains) {
                entry.1 = gain / mean;
            }
        }
        best.sort_unstable_by_key(|(position, _)| *position);
        let mut others: Vec<(usize, f64)> = others.into_iter().map(|position| (position, 1.0)).collect();
        if rule.age {
            let weights = ramp(others.len());
            for (entry, weight) in others.iter_mut().zip(weights) {
                entry.1 = weight;
            }
        }
        Self { good: best, others }
    }
}

/// Number of good points among `n`.
fn good_count(n: usize, rule: &Rule) -> usize {
    let count = if rule.root > 0.0 {
        rule.root * libm::sqrt(n as f64)
    } else {
        rule.good * n as f64
    };
    (libm::ceil(count) as usize).min(rule.cap)
}

fn ramp(m: usize) -> Vec<f64> {
    if m < 25 {
        return vec![1.0; m];
    }
    let old = m - 25;
    (0..m)
        .map(|index| {
            if index < old {
                let first = 1.0 / m as f64;
                if old == 1 {
                    first
                } else {
                    first + (1.0 - first) * index as f64 / (old - 1) as f64
                }
            } else {
                1.0
            }
        })
        .collect()
}
