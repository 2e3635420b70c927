//! Local Bayesian optimisation in a trust region, for spaces of tens to hundreds of dimensions.
//!
//! D. Eriksson and others, *Scalable global optimization via local Bayesian optimization*, Advances in Neural Information
//! Processing Systems 32 (2019), where it is called `TuRBO-1`.
//! For categories: X. Wan and others, *Think global and act local: Bayesian optimisation over high-dimensional categorical and
//! mixed search spaces*, ICML (2021), section 4. For failures: D. Eriksson, M. Poloczek, *Scalable constrained Bayesian
//! optimization*, AISTATS (2021), section 3.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | d | dimensions that vary |
//! | L | side of the trust region in model coordinates |
//!
//! One ask:
//!
//! 1. [`region`]: the trust region, a box round the best point, read off the history.
//! 2. [`local`]: a Gaussian process, the kernel and the fit of `gp`, from the points nearest to the centre and the best ones.
//! 3. [`candidates`]: points of the box that differ from its centre in twenty dimensions or so.
//! 4. The candidate with the lowest loss in one draw from the process is the next point: Thompson sampling, so that points asked
//!    for at once differ as much as the model is unsure. Where points have failed, candidates below a drawn chance of success are
//!    left out.
//!
//! Differences from the paper: the side is a function of the set of points and not of the order in which they came, see
//! [`region`]; the box is a cube, and the length scales say instead which dimensions change most; the starting design has up to
//! twenty points and not 2d, since the prior of the length scales grows with the dimension; losses are put on the scale that `gp`
//! chooses; the draw is made among the candidates that could be the best, not among all.

mod candidates;
mod local;
mod region;

use protocol::Point;

use super::gp::candidates::Source;
use super::gp::layout::Layout;
use super::gp::startup;
use super::{Entry, Sampler, Setting, Settings, SetupError, SuggestError, first_unused, one_by_one, prior_point};
use crate::explain::Explanation;
use crate::history::History;
use crate::rng::{Key, Stream};
use crate::space::{Domain, Space};
use local::Local;
use region::Region;

pub(super) const ENTRY: Entry = Entry {
    name: "turbo",
    summary: "a trust region with a local Gaussian process: tens to hundreds of dimensions and some hundred evaluations or more",
    settings: &[
        Setting {
            name: "startup",
            default: "0",
            meaning: "points that fill the space before the first trust region, from 2; 0: 10 to 20, by dimension",
        },
        Setting {
            name: "tolerance",
            default: "0",
            meaning: "points without improvement after which the region shrinks, from 1; 0: one per dimension, at least 4",
        },
        Setting {
            name: "candidates",
            default: "1000",
            meaning: "points of the region among which the next one is chosen, from 1 to 100000",
        },
    ],
    build,
};

fn build(settings: &Settings) -> Result<Box<dyn Sampler>, SetupError> {
    Ok(Box::new(Turbo {
        startup: settings.get("startup", "0 or an integer from 2", |count| *count != 1)?,
        tolerance: settings.get("tolerance", "an integer from 0", |_| true)?,
        candidates: settings.get("candidates", "an integer from 1 to 100000", |count| {
            (1..=100_000).contains(count)
        })?,
    }))
}

#[derive(Debug)]
struct Turbo {
    startup: usize,
    tolerance: usize,
    candidates: usize,
}

impl Sampler for Turbo {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        let layout = Layout::new(space);
        // Points on their way have no loss: one region and one model serve all points of a batch.
        let mut found = None;
        Ok(one_by_one(space, history, count, |grown| {
            if grown.len() >= self.startup(space) {
                let found = found.get_or_insert_with(|| self.local(space, &layout, history, key));
                if let Some((_, local)) = found {
                    return self.model_point(space, &layout, grown, local, key);
                }
            }
            startup::next(space, &layout, grown, key)
        }))
    }

    fn explain(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        let layout = Layout::new(space);
        let found = if history.len() >= self.startup(space) {
            self.local(space, &layout, history, key)
        } else {
            None
        };
        let Some((region, local)) = found else {
            return Explanation::new("design", "one of the first points of a region, which fill the space")
                .with("index", history.next_ordinal());
        };
        let row = layout.row(&space.encode(point));
        let forecast = local.forecast(&row);
        let text = format!(
            "the lowest loss in one draw from the local model, inside a trust region with sides of {} round the best point, where {} \
             of {} points that are put up with brought no improvement",
            region.length, region.inside, region.tolerance
        );
        Explanation::new("trust-region", text)
            .with("length", region.length)
            .with("inside", region.inside)
            .with("tolerance", region.tolerance)
            .with("regions_given_up", region.given_up)
            .with("above_centre", forecast.mean - local.centre_mean())
            .with("deviation", forecast.variance.sqrt())
            .with("chance_of_success", local.chance(&row))
    }
}

impl Turbo {
    fn startup(&self, space: &Space) -> usize {
        if self.startup > 0 {
            self.startup
        } else {
            varying(space).clamp(10, 20)
        }
    }

    /// The trust region with its model; nothing while too few points outside the regions that were given up are evaluated.
    fn local(&self, space: &Space, layout: &Layout, history: &History, key: Key) -> Option<(Region, Local)> {
        let tolerance = if self.tolerance > 0 {
            self.tolerance
        } else {
            varying(space).max(4)
        };
        let least = 2.max(self.startup(space) / 2);
        let region = Region::find(space, history, tolerance, least)?;
        let local = Local::new(layout, history, &region, key)?;
        Some((region, local))
    }

    fn model_point(&self, space: &Space, layout: &Layout, history: &History, local: &Local, key: Key) -> Option<Point> {
        let source = Source::new(space, layout);
        let candidates = candidates::inside(&source, history, local, self.candidates, key);
        let ordinal = history.next_ordinal();
        if let Some(best) = local.choose(&candidates, key, ordinal) {
            return Some(space.point(source.assignment(&candidates[best])));
        }
        let mut generator = key.generator(ordinal, Stream::Startup);
        first_unused(space, history, key, |_| prior_point(space, || generator.uniform()))
    }
}

/// d.
fn varying(space: &Space) -> usize {
    let fixed = |domain: &Domain| matches!(domain, Domain::Fixed(_));
    (space.dimensions().iter())
        .filter(|dimension| !fixed(&dimension.domain))
        .count()
}

#[cfg(test)]
mod tests {
    use protocol::search_space::SpaceDocument;
    use protocol::steering::SteeringInput;
    use serde_json::{Value, json};

    use crate::ask::{Request, ask};

    /// The best loss of a search in thirty dimensions of which four matter, and the share of points in the half that fails.
    fn search(sampler: &str, fails: bool) -> (f64, f64) {
        let keys = (0..30).map(|key| {
            (
                format!("x{key:02}"),
                json!({"method": "uniform", "dimension": {"low": 0, "high": 1}}),
            )
        });
        let document = SpaceDocument::from_value(&Value::Object(keys.collect())).unwrap();
        let mut points: Vec<Value> = Vec::new();
        while points.len() < 80 {
            let input = SteeringInput::from_value(json!({"points": points}), Some(1e5)).unwrap();
            let request = Request {
                sampler: sampler.into(),
                ..Request::new(20, 5)
            };
            for one in ask(&document, &input, &request).unwrap() {
                let point = json!(one.point());
                let x = |key: &str| point[key].as_f64().unwrap();
                let loss: f64 = (["x03", "x11", "x19", "x27"].iter().zip([0.2, 0.8, 0.7, 0.1]))
                    .map(|(key, best)| (x(key) - best).abs())
                    .sum();
                points.push(json!([point, if fails && x("x05") < 0.5 { 1e5 } else { loss }]));
            }
        }
        let losses: Vec<f64> = points.iter().map(|pair| pair[1].as_f64().unwrap()).collect();
        let failed = losses[40..].iter().filter(|loss| **loss > 1e4).count();
        (
            losses.iter().copied().fold(f64::INFINITY, f64::min),
            failed as f64 / 40.0,
        )
    }

    #[test]
    fn what_matters_is_found_among_thirty_dimensions() {
        let (turbo, random) = (search("turbo", false).0, search("random", false).0);
        assert!(turbo < 0.5 * random, "{turbo} {random}");
    }

    #[test]
    fn a_region_that_fails_is_left_alone() {
        let (best, failed) = search("turbo", true);
        assert!(best < 0.6 && failed < 0.15, "{best} {failed}");
    }
}
