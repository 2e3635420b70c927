//! Points as the kernel sees them.
//!
//! A point becomes a row of features. The kernel compares rows feature by feature, each with its own length scale:
//!
//! * a numeric dimension by the square of the difference of its model coordinates; of a discrete dimension the coordinates of the
//!   values themselves, so that the rounding is part of the kernel;
//! * a categorical dimension by whether the categories differ (Hamming);
//! * a categorical dimension whose categories are numbers in order by both, and the fit decides which matters;
//! * dimensions under a condition also by whether they are active. Where a dimension is inactive its coordinate is that of the
//!   middle of the range: a constant keeps the kernel positive definite, and the Hamming part tells the two cases apart.

use protocol::PointValue;

use crate::space::{Coordinate, Dimension, Domain, Space};

/// The coordinate that stands for an inactive numeric dimension.
const MIDDLE: f64 = 0.5;
/// The code that stands for an inactive category.
const INACTIVE: f64 = -1.0;

/// How rows of features are made from points.
#[derive(Debug)]
pub(in crate::samplers) struct Layout {
    sources: Vec<Source>,
    /// Features compared by distance come first, then those compared for equality.
    pub(in crate::samplers) distances: usize,
    pub(in crate::samplers) features: usize,
    /// Rows end with the code of the search that a point belongs to, 0 for this one.
    shared: bool,
    /// The last feature compared by distance is how far a point was trained, 1 for the furthest.
    graded: bool,
}

/// The features of one dimension or condition.
#[derive(Debug)]
enum Source {
    /// A numeric dimension.
    Number { position: usize, feature: usize },
    /// A categorical dimension; the places of its categories on a line if they have an order.
    Category {
        position: usize,
        code: usize,
        place: Option<(usize, Vec<f64>)>,
    },
    /// Whether the conditional dimension at `position` is active.
    Activity { position: usize, feature: usize },
}

impl Layout {
    pub(in crate::samplers) fn new(space: &Space) -> Self {
        let mut distances = 0;
        let mut codes = 0;
        let next = |counter: &mut usize| {
            *counter += 1;
            *counter - 1
        };
        let mut sources: Vec<Source> = Vec::new();
        for (position, dimension) in space.dimensions().iter().enumerate() {
            match &dimension.domain {
                Domain::Fixed(_) => {}
                Domain::Numeric(_) => sources.push(Source::Number {
                    position,
                    feature: next(&mut distances),
                }),
                Domain::Categorical { categories, .. } => {
                    let place = line(categories).map(|places| (next(&mut distances), places));
                    sources.push(Source::Category {
                        position,
                        code: next(&mut codes),
                        place,
                    });
                }
            }
        }
        for group in space.groups() {
            let position = group.members[0];
            let shown = group
                .members
                .iter()
                .any(|member| matches!(space.dimensions()[*member].domain, Domain::Categorical { .. }));
            // A category that is absent differs from every category already.
            if is_conditional(&space.dimensions()[position]) && !shown {
                sources.push(Source::Activity {
                    position,
                    feature: next(&mut codes),
                });
            }
        }
        for source in &mut sources {
            match source {
                Source::Category { code: feature, .. } | Source::Activity { feature, .. } => *feature += distances,
                Source::Number { .. } => {}
            }
        }
        Self {
            sources,
            distances,
            features: distances + codes,
            shared: false,
            graded: false,
        }
    }

    /// The same with one more feature, compared by distance: how far a point was trained. Rows say as far as any, unless
    /// [`lower`](Self::lower) changes that.
    pub(super) fn graded(mut self, graded: bool) -> Self {
        if graded && !self.graded {
            for source in &mut self.sources {
                match source {
                    Source::Category { code: feature, .. } | Source::Activity { feature, .. } => *feature += 1,
                    Source::Number { .. } => {}
                }
            }
            self.distances += 1;
            self.features += 1;
            self.graded = true;
        }
        self
    }

    /// Whether rows say how far a point was trained.
    pub(super) fn is_graded(&self) -> bool {
        self.graded
    }

    /// Features by which points are near to each other, however far they were trained: the first so many.
    pub(super) fn places(&self) -> usize {
        self.distances - usize::from(self.graded)
    }

    /// Makes a row that of a point which was trained as far as `height` says.
    pub(super) fn lower(&self, row: &mut [f64], height: f64) {
        row[self.places()] = height;
    }

    /// The same with one more code, not counted in `features`, at the end of each row: which search the point belongs to.
    pub(super) fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Position and feature of every numeric dimension.
    pub(in crate::samplers) fn numbers(&self) -> impl Iterator<Item = (usize, usize)> {
        self.sources.iter().filter_map(|source| match source {
            Source::Number { position, feature } => Some((*position, *feature)),
            Source::Category { .. } | Source::Activity { .. } => None,
        })
    }

    /// The largest of `values`, one for each feature, over the features of every one of `dimensions` dimensions; 0 for constants.
    pub(in crate::samplers) fn by_dimension(&self, values: &[f64], dimensions: usize) -> Vec<f64> {
        let mut largest: Vec<f64> = vec![0.0; dimensions];
        let mut raise = |position: usize, feature: usize| largest[position] = largest[position].max(values[feature]);
        for source in &self.sources {
            match source {
                Source::Number { position, feature } | Source::Activity { position, feature } => {
                    raise(*position, *feature);
                }
                Source::Category { position, code, place } => {
                    raise(*position, *code);
                    if let Some((feature, _)) = place {
                        raise(*position, *feature);
                    }
                }
            }
        }
        largest
    }

    /// The row of a point.
    pub(in crate::samplers) fn row(&self, coordinates: &[Option<Coordinate>]) -> Vec<f64> {
        let mut row = vec![0.0; self.features + usize::from(self.shared)];
        if self.graded {
            self.lower(&mut row, 1.0);
        }
        for source in &self.sources {
            Self::fill(source, coordinates, &mut row);
        }
        row
    }

    /// Writes the features of one source.
    fn fill(source: &Source, coordinates: &[Option<Coordinate>], row: &mut [f64]) {
        match source {
            Source::Number { position, feature } => {
                row[*feature] = coordinates[*position].and_then(Coordinate::t).unwrap_or(MIDDLE);
            }
            Source::Category { position, code, place } => {
                let category = match coordinates[*position] {
                    Some(Coordinate::Category(category)) => Some(category),
                    _ => None,
                };
                row[*code] = category.map_or(INACTIVE, |category| category as f64);
                if let Some((feature, places)) = place {
                    row[*feature] = category.map_or(MIDDLE, |category| places[category]);
                }
            }
            Source::Activity { position, feature } => row[*feature] = f64::from(coordinates[*position].is_some()),
        }
    }
}

/// Whether the dimension exists only under a condition.
pub(in crate::samplers) fn is_conditional(dimension: &Dimension) -> bool {
    !dimension.conditions.is_empty()
}

/// The places of the categories between 0 and 1 if they are three or more numbers in rising or falling order, on the scale, linear
/// or logarithmic, on which they are spaced more evenly.
fn line(categories: &[PointValue]) -> Option<Vec<f64>> {
    let numbers: Vec<f64> = categories.iter().map(PointValue::as_f64).collect::<Option<_>>()?;
    let rising = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    let falling = numbers.windows(2).all(|pair| pair[0] > pair[1]);
    if numbers.len() < 3 || !(rising || falling) {
        return None;
    }
    let spaced = |values: Vec<f64>| {
        let (first, last) = (values[0], values[values.len() - 1]);
        let places: Vec<f64> = values.iter().map(|value| (value - first) / (last - first)).collect();
        let unevenness: f64 = places
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) * (pair[1] - pair[0]))
            .sum();
        (unevenness, places)
    };
    let linear = spaced(numbers.clone());
    if numbers.iter().all(|number| *number > 0.0) {
        let logarithmic = spaced(numbers.iter().map(|number| libm::log(*number)).collect());
        if logarithmic.0 < linear.0 {
            return Some(logarithmic.1);
        }
    }
    linear.1.iter().all(|place| place.is_finite()).then_some(linear.1)
}

#[cfg(test)]
mod tests {
    use protocol::Point;
    use protocol::search_space::SearchSpace;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn sorted_numbers_lie_on_the_scale_that_spaces_them_evenly() {
        let places = line(&[16, 32, 64].map(PointValue::from)).unwrap();
        assert!((places[1] - 0.5).abs() < 1e-15);
        let places = line(&[0.1, 0.2, 0.3].map(PointValue::from)).unwrap();
        assert!((places[1] - 0.5).abs() < 1e-15);
        for other in [
            vec![1.into(), 2.into()],
            vec![1.into(), 3.into(), 2.into()],
            vec!["a".into(), 1.into(), 2.into()],
        ] {
            let other: Vec<PointValue> = other;
            assert!(line(&other).is_none());
        }
    }

    #[test]
    fn inactive_dimensions_differ_from_all_values_by_their_activity() {
        let space = Space::new(
            &SearchSpace::from_value(&json!({
                "kind": {"method": "categorical", "dimension": {"categories": ["a", "b"]}},
                "x": {"method": "uniform", "dimension": {"low": 0, "high": 1}, "if": {"kind": ["a"]}},
                "size": {"method": "categorical", "dimension": {"categories": [1, 2, 4]}},
                "constant": {"method": "fixed", "dimension": {"value": 3}}
            }))
            .unwrap(),
        )
        .unwrap();
        let layout = Layout::new(&space);
        assert_eq!((layout.distances, layout.features), (2, 5));
        let row = |point: Value| layout.row(&space.encode(&Point::from(point.as_object().unwrap().clone())));
        assert_eq!(
            row(json!({"kind": "a", "x": 0.25, "size": 4, "constant": 3})),
            [0.25, 1.0, 0.0, 2.0, 1.0]
        );
        assert_eq!(
            row(json!({"kind": "b", "size": 2, "constant": 3})),
            [0.5, 0.5, 1.0, 1.0, 0.0]
        );
    }
}
