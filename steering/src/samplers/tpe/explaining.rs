//! Why the model chose a point.

use protocol::Point;
use serde_json::Map;

use super::Tpe;
use super::mixture::Mixture;
use super::split::Split;
use crate::explain::Explanation;
use crate::history::History;
use crate::space::{Coordinate, Domain, Group, Space};

impl Tpe {
    /// The density ratio of the point, whole and by dimension.
    pub(super) fn explain_model(&self, space: &Space, history: &History, point: &Point) -> Explanation {
        let split = Split::new(history, &self.rule);
        let coordinates = space.encode(point);
        let ratio = |group: &Group| -> Option<f64> {
            let values: Vec<Coordinate> = group
                .members
                .iter()
                .map(|member| coordinates[*member])
                .collect::<Option<_>>()?;
            let log = |points: &[(usize, f64)]| {
                Mixture::new(space, group, history, points, &self.shape).log_densities(std::slice::from_ref(&values))[0]
            };
            Some(log(&split.good) - log(&split.others))
        };
        let total: f64 = space.groups().iter().filter_map(&ratio).sum();
        let mut single: Vec<(&str, f64)> = Vec::new();
        for (position, dimension) in space.dimensions().iter().enumerate() {
            if !matches!(dimension.domain, Domain::Fixed(_))
                && let Some(ratio) = ratio(&Group {
                    members: vec![position],
                })
            {
                single.push((&dimension.name, ratio));
            }
        }
        single.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        let for_it: Vec<&str> = single
            .iter()
            .filter(|(_, ratio)| *ratio > 0.0)
            .take(3)
            .map(|(name, _)| *name)
            .collect();
        let reason = if for_it.is_empty() {
            String::new()
        } else {
            format!(", most of all by its {}", for_it.join(", "))
        };
        let text = format!(
            "of {} candidates drawn where the {} best of {} points lie, the one that tells them best from the others: it is {:.1} \
             times as likely among the good ones{reason}",
            self.candidates,
            split.good.len(),
            split.good.len() + split.others.len(),
            libm::exp(total),
        );
        let by_dimension: Map<String, serde_json::Value> = single
            .into_iter()
            .map(|(name, ratio)| (name.to_owned(), ratio.into()))
            .collect();
        Explanation::new("density", text)
            .with("good_points", split.good.len())
            .with("other_points", split.others.len())
            .with("log_density_ratio", total)
            .with("log_density_ratio_by_dimension", by_dimension)
    }
}
