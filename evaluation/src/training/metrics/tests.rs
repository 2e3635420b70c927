use super::*;

fn samples(targets: Targets) -> Samples {
    let rows = targets.rows();
    Samples {
        row_shape: vec![1],
        inputs: vec![0.0; rows].into(),
        targets,
        weights: None,
    }
}

fn metrics(loss: &Loss, samples: &Samples, outputs: usize, extra: &[Metric], predictions: &[f32]) -> Metrics {
    let mut sums = Accumulator::new(loss, None, samples, outputs, extra);
    let (first, rest) = predictions.split_at(outputs);
    sums.add(first, None);
    sums.add(rest, None);
    sums.finish()
}

fn cross_entropy() -> Loss {
    Loss::CrossEntropy {
        label_smoothing: 0.0,
        class_weights: None,
    }
}

fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-15, "{found} is not {expected}");
}

#[test]
fn classification_metrics_are_exact() {
    let samples = samples(Targets::Classes {
        labels: vec![0, 1, 1],
        classes: 2,
    });
    let metrics = metrics(&cross_entropy(), &samples, 2, &[], &[0.0, 0.0, 0.0, 1.0, 2.0, 1.0]);
    let softplus = |x: f64| (1.0 + x.exp()).ln();
    let expected = (2.0_f64.ln() + softplus(-1.0) + softplus(1.0)) / 3.0;
    assert_near(metrics.get(Metric::Loss), expected);
    assert_near(metrics.get(Metric::Error), 1.0 / 3.0);
}

#[test]
fn regression_metrics_are_exact() {
    let samples = samples(Targets::Values {
        width: 1,
        values: vec![1.0, 2.0, 3.0],
    });
    let relative = [Metric::RelativeError(50), Metric::RelativeError(100)];
    let metrics = metrics(&Loss::Huber { delta: 1.0 }, &samples, 1, &relative, &[1.5, 2.0, 5.0]);
    assert_near(metrics.get(Metric::Loss), (0.125 + 1.5) / 3.0);
    assert_near(metrics.get(Metric::Mse), 4.25 / 3.0);
    assert_near(metrics.get(Metric::Mae), 2.5 / 3.0);
    assert_near(metrics.get(Metric::R2), 1.0 - 4.25 / 2.0);
    assert_near(metrics.get(Metric::RelativeError(50)), 0.5);
    assert_near(metrics.get(Metric::RelativeError(100)), 2.0 / 3.0);
}

#[test]
fn a_constant_target_has_a_finite_r2() {
    let samples = samples(Targets::Values {
        width: 1,
        values: vec![2.0, 2.0],
    });
    for (prediction, expected) in [(2.0, 1.0), (2.5, 0.0)] {
        let metrics = metrics(&Loss::Mse, &samples, 1, &[], &[prediction, 2.0]);
        assert_near(metrics.get(Metric::R2), expected);
    }
}

#[test]
fn binary_metrics_count_the_sign_of_the_logit() {
    let samples = samples(Targets::Classes {
        labels: vec![1, 0],
        classes: 2,
    });
    let loss = Loss::BinaryCrossEntropy { positive_weight: 1.0 };
    let metrics = metrics(&loss, &samples, 1, &[Metric::Auc], &[3.0, 0.5]);
    assert_near(metrics.get(Metric::Accuracy), 0.5);
    assert_near(metrics.get(Metric::Auc), 1.0);
}

#[test]
fn a_class_among_the_first_few_counts_and_equals_are_taken_in_order() {
    let samples = samples(Targets::Classes {
        labels: vec![2, 1, 2],
        classes: 3,
    });
    let predictions = [3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0];
    let tops = [Metric::Top(1), Metric::Top(2), Metric::Top(3)];
    let metrics = metrics(&cross_entropy(), &samples, 3, &tops, &predictions);
    let found = tops.map(|top| metrics.get(top) * 3.0);
    assert!(
        found
            .iter()
            .zip([1.0, 2.0, 3.0])
            .all(|(found, expected)| (found - expected).abs() < 1e-12),
        "{found:?}"
    );
}

#[test]
fn an_area_without_one_of_the_classes_is_left_out() {
    let samples = samples(Targets::Classes {
        labels: vec![0, 0],
        classes: 2,
    });
    let metrics = metrics(&cross_entropy(), &samples, 2, &[Metric::Auc], &[0.0, 1.0, 1.0, 0.0]);
    assert!(metrics.0.iter().all(|(metric, _)| *metric != Metric::Auc));
}

#[test]
fn weights_count_rows_as_if_they_were_there_that_often() {
    let targets = |values: Vec<f32>| Targets::Values { width: 1, values };
    let mut weighted = samples(targets(vec![1.0, 2.0, 4.0]));
    weighted.weights = Some(vec![1.0, 3.0, 0.0]);
    let repeated = samples(targets(vec![1.0, 2.0, 2.0, 2.0]));
    let extra = [Metric::RelativeError(50)];
    let first = metrics(&Loss::Mae, &weighted, 1, &extra, &[1.5, 2.25, 9.0]);
    let second = metrics(&Loss::Mae, &repeated, 1, &extra, &[1.5, 2.25, 2.25, 2.25]);
    for ((metric, first), (_, second)) in first.0.iter().zip(&second.0) {
        assert!((first - second).abs() < 1e-15, "{metric:?}: {first} is not {second}");
    }
}
