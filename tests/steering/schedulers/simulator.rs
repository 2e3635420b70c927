//! How soon a good configuration has been trained in full, with several workers: ASHA against training everything in full.
//!
//! Learning curves fall as loss(r) = f + c (r^-a − 81^-a) + 0.03 r^-0.25 N(0, 1) towards a final loss f of the distribution Beta(2, 5),
//! with a from 0.5 to 1.5 and c from 0.3 to 1.2; durations vary by a fifth. One unit of time is one full training of 81 epochs.
//! Training everything in full takes five workers 4 units on average until one of the best 5 % is among it.

use std::collections::HashMap;

use serde_json::{Value, json};
use steering::rng::{Generator, Key, Stream};

use super::{next, schedule, scheduled};

const FULL: u64 = 81;
const WORKERS: usize = 5;
/// Final losses below this are the best 5 % of the distribution Beta(2, 5).
const GOOD: f64 = 0.0628;

/// The curve of one configuration.
#[derive(Clone, Copy)]
struct Curve {
    end: f64,
    drop: f64,
    power: f64,
}

impl Curve {
    fn draw(chance: &mut Generator) -> Self {
        // The second smallest of six uniform numbers has the distribution Beta(2, 5).
        let mut numbers: Vec<f64> = (0..6).map(|_| chance.uniform()).collect();
        numbers.sort_by(f64::total_cmp);
        Self {
            end: numbers[1],
            drop: 0.3 + 0.9 * chance.uniform(),
            power: 0.5 + chance.uniform(),
        }
    }

    fn loss(self, epochs: u64, chance: &mut Generator) -> f64 {
        let epochs = epochs as f64;
        let noise: f64 = (0..12).map(|_| chance.uniform()).sum::<f64>() - 6.0;
        let shape = epochs.powf(-self.power) - (FULL as f64).powf(-self.power);
        self.end + self.drop * shape + 0.03 * epochs.powf(-0.25) * noise
    }
}

/// Time until a configuration among the best 5 % was trained in full.
fn time_of_success(seed: u64) -> f64 {
    let mut chance = Key::new(seed, "simulator", None, "simulator").generator(0, Stream::Startup);
    let space = json!({"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}});
    let mut request = scheduled(schedule("asha", FULL, &[]), 1, None);
    request.seed = seed;
    let mut curves: HashMap<u64, Curve> = HashMap::new();
    let mut points: Vec<Value> = Vec::new();
    let mut running: Vec<(f64, usize)> = Vec::new();
    let mut now = 0.0;
    loop {
        request.count = WORKERS - running.len();
        for point in next(&space, &points, &request) {
            let before = point["hpo.from"].as_u64().map_or(0, |from| {
                let source = points.iter().find(|pair| pair[0]["hpo.n"] == from).unwrap();
                source[0]["hpo.epochs"].as_u64().unwrap()
            });
            let epochs = point["hpo.epochs"].as_u64().unwrap() - before;
            running.push((now + epochs as f64 * (0.8 + 0.4 * chance.uniform()), points.len()));
            points.push(json!([point, null]));
        }
        // Workers that become free within half an epoch of each other are served together.
        let first = running.iter().map(|(end, _)| *end).fold(f64::INFINITY, f64::min);
        now = first + 0.5;
        let mut ended: Vec<(f64, usize)> = running.iter().copied().filter(|(end, _)| *end <= now).collect();
        running.retain(|(end, _)| *end > now);
        ended.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, place) in ended {
            let number = |name: &str| points[place][0][name].as_u64().unwrap();
            let (configuration, epochs) = (number("hpo.c"), number("hpo.epochs"));
            let curve = *curves.entry(configuration).or_insert_with(|| Curve::draw(&mut chance));
            points[place][1] = curve.loss(epochs, &mut chance).into();
            if epochs == FULL && curve.end < GOOD {
                return now / FULL as f64;
            }
        }
        assert!(now < 20.0 * FULL as f64, "nothing good was found");
    }
}

#[test]
fn with_some_workers_a_good_configuration_is_soon_trained_in_full() {
    let mut times: Vec<f64> = (0..3).map(time_of_success).collect();
    times.sort_by(f64::total_cmp);
    assert!(times[1] < 2.0, "{times:?}");
}
