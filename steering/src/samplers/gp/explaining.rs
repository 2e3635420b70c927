//! Why the model chose a point.

use protocol::Point;
use serde_json::Value;

use super::model::{Model, Purpose};
use super::{Gp, purpose};
use crate::explain::Explanation;
use crate::history::History;
use crate::rng::Key;
use crate::space::Space;

impl Gp {
    /// The reason for `point`, which was chosen right after `history`.
    pub(super) fn reason(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        let layout = Self::layout(space, history);
        let model = if self.is_starting(space, &layout, history) {
            None
        } else {
            Model::new(&layout, history, &self.options, key)
        };
        let Some(model) = model else {
            let known = history.len();
            let text = if known == 0 {
                "the middle of the space, where a search begins".to_owned()
            } else {
                format!("one of the first points, which fill the space: far from the {known} points known so far")
            };
            return Explanation::new("design", text).with("index", history.next_ordinal());
        };
        let pending = history.pending();
        let forecast = (model.with_pending(&layout, history).as_ref())
            .unwrap_or(&model)
            .forecast(&layout.row(&space.encode(point)));
        let risk = forecast.success.map_or_else(String::new, |success| {
            format!(", and with a chance of {:.0} % it does not fail", 100.0 * success)
        });
        let time = (forecast.seconds).map_or_else(String::new, |seconds| {
            format!("; its evaluation is expected to take {seconds:.3} seconds, and short ones are preferred")
        });
        let chance = 100.0 * forecast.improvement;
        let (name, text) = if let ([above], [deviation]) =
            (forecast.above_best.as_slice(), forecast.deviation.as_slice())
        {
            let (name, aim) = match purpose(history) {
                Purpose::Improve => ("improvement", "expected to lower the loss most"),
                Purpose::Explore => ("exploration", "chosen to learn most where a low loss is still possible"),
            };
            let text = format!(
                "{aim}; the model predicts {above:+.2} ± {deviation:.2} against the best point, in standard deviations of the losses: \
                 better than it with a chance of {chance:.0} %{risk}{time}"
            );
            (name, text)
        } else {
            let text = format!(
                "expected to widen the front most; with a chance of {chance:.0} % no known point is better in everything{risk}{time}"
            );
            ("front", text)
        };
        Explanation::new(name, text)
            .with("evaluated", history.len() - pending)
            .with("pending", pending)
            .with("above_best", each(forecast.above_best))
            .with("deviation", each(forecast.deviation))
            .with("chance_of_improvement", forecast.improvement)
            .with("chance_of_success", forecast.success)
            .with("predicted_seconds", forecast.seconds)
            .with("thrift", forecast.seconds.map(|_| history.thrift()))
    }
}

/// A number for the one objective, else a list of them.
fn each(numbers: Vec<f64>) -> Value {
    match numbers.as_slice() {
        [one] => (*one).into(),
        _ => numbers.into(),
    }
}
