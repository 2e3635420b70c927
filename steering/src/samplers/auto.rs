//! The default: the sampler that suits the search as it is now.
//!
//! | what is looked at | choice |
//! | --- | --- |
//! | up to 2,000 evaluated points in up to 60 dimensions | `gp`, which gets most out of few evaluations |
//! | up to 2,000 evaluated points in more dimensions | `turbo`, which learns what matters near the best point alone |
//! | more points | `tpe`: its cost grows in proportion to them, and they describe the good region by their number |
//! | 64 points still being evaluated | `tpe` for all further ones: hypothetical losses of so many would outweigh the real ones |
//!
//! What else tells searches apart is settled inside `gp`, by the data: kinds of dimensions by the kernel, noise and the scale of
//! the losses by the fit, batches by believing in pending points, failures by a model of success. So there are no further
//! switches, and none that could flip back and forth: points are never taken back, so a search moves to `tpe` at most once, apart
//! from bursts of pending points.
//!
//! The choice depends on the space and the history alone, not on how many points are asked for at once.

use protocol::Point;

use super::{Entry, Sampler, Settings, SetupError, SuggestError, gp, tpe, turbo};
use crate::explain::Explanation;
use crate::history::History;
use crate::objectives;
use crate::rng::Key;
use crate::space::{Domain, Space};

/// Evaluated points up to which `gp` is chosen.
const POINTS: usize = 2_000;
/// Dimensions up to which `gp` is chosen.
const DIMENSIONS: usize = 60;
/// Points still being evaluated from which on `tpe` is chosen.
const PENDING: usize = 64;

pub(super) const ENTRY: Entry = Entry {
    name: "auto",
    summary: "the default: `gp` while evaluations are few, `turbo` in many dimensions, `tpe` for long histories",
    settings: &[],
    build,
};

fn build(_: &Settings) -> Result<Box<dyn Sampler>, SetupError> {
    let default = |entry: &Entry| super::build(entry, &[]);
    Ok(Box::new(Auto {
        gp: default(&gp::ENTRY)?,
        tpe: default(&tpe::ENTRY)?,
        turbo: default(&turbo::ENTRY)?,
    }))
}

#[derive(Debug)]
struct Auto {
    gp: Box<dyn Sampler>,
    tpe: Box<dyn Sampler>,
    turbo: Box<dyn Sampler>,
}

impl Auto {
    /// What is chosen where `gp` is not, with its name.
    fn otherwise(&self, space: &Space, history: &History) -> (&'static str, &dyn Sampler) {
        if is_wide(space) && history.len() - history.pending() <= POINTS {
            ("turbo", self.turbo.as_ref())
        } else {
            ("tpe", self.tpe.as_ref())
        }
    }
}

impl Sampler for Auto {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        let share = share(space, history).min(count);
        let mut points = self.gp.suggest(space, history, share, key)?;
        // Fewer than asked for: the space is exhausted.
        if points.len() == share && share < count {
            let mut grown = history.clone();
            for point in &mut points {
                grown.push(space, point);
            }
            let (_, other) = self.otherwise(space, history);
            points.extend(objectives::suggest(other, space, &grown, count - share, key)?);
        }
        Ok(points)
    }

    fn weighs_seconds(&self) -> bool {
        true
    }

    fn learns_from_others(&self) -> bool {
        true
    }

    fn knows_fronts(&self) -> bool {
        true
    }

    fn explain(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        let (sampler, chosen) = if share(space, history) > 0 {
            ("gp", self.gp.as_ref())
        } else {
            self.otherwise(space, history)
        };
        objectives::explain(chosen, space, history, point, key).with("sampler", sampler)
    }
}

/// How many of the next points are for `gp`.
fn share(space: &Space, history: &History) -> usize {
    let pending = history.pending();
    if is_wide(space) || history.len() - pending > POINTS {
        0
    } else {
        PENDING.saturating_sub(pending)
    }
}

/// Whether there are more dimensions that vary than `gp` has length scales for.
fn is_wide(space: &Space) -> bool {
    let dimensions = space.dimensions().iter();
    let varying = dimensions.filter(|dimension| !matches!(dimension.domain, Domain::Fixed(_)));
    varying.count() > DIMENSIONS
}

#[cfg(test)]
mod tests {
    use protocol::search_space::SearchSpace;
    use serde_json::{Value, json};

    use super::*;
    use crate::history::Mode;

    fn space(dimensions: usize) -> Space {
        let keys = (0..dimensions).map(|key| {
            (
                format!("x{key}"),
                json!({"method": "uniform", "dimension": {"low": 0, "high": 1}}),
            )
        });
        let document = Value::Object(keys.collect());
        Space::new(&SearchSpace::from_value(&document).unwrap()).unwrap()
    }

    fn history(space: &Space, evaluated: usize, pending: usize) -> History {
        let points: Vec<Value> = (0..evaluated + pending)
            .map(|index| {
                let loss = if index < evaluated { json!(1.0) } else { Value::Null };
                json!([{"x0": index as f64 / 1e4}, loss])
            })
            .collect();
        let input = protocol::steering::SteeringInput::from_value(json!({"points": points}), None).unwrap();
        History::new(space, &input.points, Mode::Min)
    }

    #[test]
    fn the_choice_follows_dimensions_points_and_pending_points() {
        let few = space(1);
        assert_eq!(share(&few, &history(&few, 100, 0)), 64);
        assert_eq!(share(&few, &history(&few, 2_000, 10)), 54);
        assert_eq!(share(&few, &history(&few, 2_001, 0)), 0);
        assert_eq!(share(&few, &history(&few, 0, 70)), 0);
        assert_eq!(share(&space(60), &history(&few, 0, 0)), 64);
        assert_eq!(share(&space(61), &history(&few, 0, 0)), 0);
    }

    #[test]
    fn many_dimensions_are_for_turbo_and_long_histories_for_tpe() {
        let explained = |space: &Space, evaluated: usize| {
            let auto = super::super::build(&ENTRY, &[]).unwrap();
            let history = history(space, evaluated, 0);
            let point = Point::default();
            auto.explain(space, &history, &point, Key::new(1, "", None, "auto"))
                .facts["sampler"]
                .clone()
        };
        assert_eq!(explained(&space(2), 5), "gp");
        assert_eq!(explained(&space(61), 5), "turbo");
        assert_eq!(explained(&space(2), 2_001), "tpe");
        assert_eq!(explained(&space(61), 2_001), "tpe");
    }
}
