//! What an evaluation costs: a Gaussian process for the logarithm of its seconds.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | c | predicted seconds |
//! | a | thrift: how much they count |
//!
//! The worth of a point, a logarithm, loses a ln c: the expected improvement is divided by cᵃ. J. Snoek, H. Larochelle, R. P. Adams,
//! *Practical Bayesian optimization of machine learning algorithms*, Advances in Neural Information
//! Processing Systems 25 (2012), section 3.2, has a = 1.

use super::{FITTED, Fit, PRIOR, Posterior, Scratch, mix};
use crate::history::History;
use crate::samplers::gp::layout::Layout;

/// Measured times below which there is nothing to learn.
const LEAST: usize = 4;
/// Standard deviation of ln c below which all evaluations cost the same.
const EQUAL: f64 = 0.02;

/// The process, if seconds count.
#[derive(Debug, Clone)]
pub(super) struct Cost {
    posterior: Posterior,
    /// Mean and standard deviation of ln c over the history.
    mean: f64,
    deviation: f64,
    /// a.
    thrift: f64,
}

impl Cost {
    /// Learns from the points that were evaluated in a known time; nothing if seconds do not count, too few are known or all are
    /// alike.
    pub(super) fn new(layout: &Layout, history: &History) -> Option<Self> {
        let thrift = history.thrift();
        let measured: Vec<(Vec<f64>, f64)> = (history.observations().iter())
            .filter(|observation| observation.key().is_some() && observation.outcome.loss().is_some())
            .filter_map(|observation| Some((layout.row(&observation.coordinates), libm::log(observation.seconds?))))
            .collect();
        if thrift <= 0.0 || measured.len() < LEAST {
            return None;
        }
        // Of a long history, evenly.
        let stride = measured.len().div_ceil(FITTED);
        let (rows, logs): (Vec<Vec<f64>>, Vec<f64>) = measured.into_iter().step_by(stride).unzip();
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let deviation = (logs.iter().map(|log| (log - mean) * (log - mean)).sum::<f64>() / n).sqrt();
        if deviation < EQUAL {
            return None;
        }
        let values: Vec<f64> = logs.iter().map(|log| (log - mean) / deviation).collect();
        let fit = Fit::new(&rows, layout.distances, layout.features, PRIOR);
        let optimum = fit.climb(&values, &fit.data_driven(&values), 20);
        let posterior = Posterior::new(fit.parameters(&optimum.theta), layout.distances, &rows, &values)?;
        Some(Self {
            posterior,
            mean,
            deviation,
            thrift,
        })
    }

    /// a ln c; its derivatives are subtracted from `slopes`.
    pub(super) fn weight(&self, row: &[f64], slopes: Option<&mut Vec<f64>>) -> f64 {
        let Some(slopes) = slopes else {
            return self.thrift * self.log_seconds(row);
        };
        let outlook = self.posterior.outlook(row, true);
        mix(slopes, -self.thrift * self.deviation, &outlook.by_mean);
        self.thrift * (self.mean + self.deviation * outlook.prediction.mean)
    }

    /// ln c.
    pub(super) fn log_seconds(&self, row: &[f64]) -> f64 {
        self.mean + self.deviation * self.posterior.mean(row, &mut Scratch::default())
    }
}

#[cfg(test)]
mod tests {
    use protocol::search_space::SpaceDocument;
    use protocol::steering::SteeringInput;
    use serde_json::{Value, json};

    use crate::ask::{Request, ask};
    use crate::explain::explain;

    /// A plane with its best point at (0.3, 0.6), and a width that matters little and costs what it is.
    fn search(cost_aware: bool, seed: u64, seconds: impl Fn(f64) -> Value) -> (f64, f64, Vec<Value>) {
        let document = SpaceDocument::from_value(&json!({
            "x": {"method": "uniform", "dimension": {"low": 0, "high": 1}},
            "y": {"method": "uniform", "dimension": {"low": 0, "high": 1}},
            "width": {"method": "loguniform", "dimension": {"low": 1, "high": 100}}
        }))
        .unwrap();
        let (mut points, mut meta): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        let (mut total, mut best) = (0.0, f64::INFINITY);
        for _ in 0..30 {
            let input = SteeringInput::from_value(json!({"points": points, "meta": meta}), None).unwrap();
            let request = Request {
                sampler: "gp".into(),
                cost_aware,
                max_points: Some(60),
                ..Request::new(1, seed)
            };
            let point = json!(ask(&document, &input, &request).unwrap()[0].point());
            let number = |key: &str| point[key].as_f64().unwrap();
            let (x, y, width) = (number("x") - 0.3, number("y") - 0.6, number("width"));
            let off = libm::log10(width) - 1.0;
            let loss = x * x + y * y + 0.02 * off * off;
            total += width;
            best = loss.min(best);
            points.push(json!([point, loss]));
            meta.push(json!({"seconds": seconds(width)}));
        }
        (best, total, points)
    }

    #[test]
    fn the_same_quality_costs_clearly_fewer_seconds() {
        let (mut aware, mut blind) = (0.0, 0.0);
        for seed in 0..3 {
            let (best, total, _) = search(true, seed, Value::from);
            assert!(best < 1e-3, "{seed}: {best}");
            aware += total;
            blind += search(false, seed, Value::from).1;
        }
        assert!(aware < 0.7 * blind, "{aware} {blind}");
    }

    #[test]
    fn missing_and_equal_times_change_nothing() {
        let plain = search(false, 1, |_| Value::Null).2;
        assert_eq!(search(true, 1, |_| Value::Null).2, plain);
        assert_eq!(search(true, 1, |_| json!(30.0)).2, plain);
        assert_eq!(search(true, 1, |width| json!(-width)).2, plain);
    }

    #[test]
    fn explanations_say_the_seconds() {
        let document = SpaceDocument::from_value(&json!({"x": [0, 1]})).unwrap();
        let points: Vec<Value> = (0..12)
            .map(|index| json!([{"x": f64::from(index) / 12.0}, 0.1]))
            .collect();
        let meta: Vec<Value> = (0..12).map(|index| json!({"seconds": 10 + index})).collect();
        let input = SteeringInput::from_value(json!({"points": points, "meta": meta}), None).unwrap();
        let request = Request {
            cost_aware: true,
            max_points: Some(48),
            ..Request::new(1, 1)
        };
        let explained = explain(&document, &input, &request).unwrap();
        let facts = &explained[0].explanation.facts;
        let seconds = facts["predicted_seconds"].as_f64().unwrap();
        assert!((9.0..23.0).contains(&seconds), "{seconds}");
        assert_eq!(facts["thrift"], 0.75);
    }
}
