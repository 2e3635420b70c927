//! The encoded search space: what samplers see of a search-space document.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | u | quantile of a dimension under its prior, in [0, 1]: uniform u give points distributed as the document asks |
//! | t | the quantile of the value of a numeric dimension, which models take for its coordinate |
//! | cell | interval of t that is rounded to one value of a discrete dimension |
//!
//! So t is linear in a uniform value, linear in the logarithm of a log-uniform one, and crowds the tails of a normal together: a
//! model then believes in the prior as much as the user does.

mod condition;
mod count;
mod dimension;
mod document;
mod numeric;
mod validity;
mod walk;

use std::sync::Arc;

use protocol::Point;
use protocol::PointValue;

pub(crate) use dimension::pick;
pub use dimension::{Coordinate, Dimension, Domain};
pub use numeric::{Numeric, Spread};
pub(crate) use walk::Walk;

use condition::Condition;
pub(crate) use condition::same;

/// A search space, ready for sampling.
#[derive(Debug, Clone)]
pub struct Space {
    dimensions: Vec<Dimension>,
    /// Positions of the dimensions, parents before children.
    order: Vec<usize>,
    groups: Vec<Group>,
}

/// Dimensions that are active under exactly the same condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Positions of the dimensions, rising.
    pub members: Vec<usize>,
}

/// What a point is made of while it is being made: one value per active dimension, by position.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment(Vec<Option<PointValue>>);

impl Space {
    /// The dimensions in the order of the document.
    #[must_use]
    pub fn dimensions(&self) -> &[Dimension] {
        &self.dimensions
    }

    /// The groups, such that the condition of a group only looks at groups before it.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Positions of the dimensions, parents before children.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Number of distinct points, saturating; `None` when there is a continuum.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        count::size(self)
    }

    /// An assignment in which nothing has a value yet.
    #[must_use]
    pub fn blank(&self) -> Assignment {
        Assignment(vec![None; self.dimensions.len()])
    }

    /// Whether the dimension at `position` is part of a point whose parents are as `assignment` says.
    #[must_use]
    pub fn is_active(&self, position: usize, assignment: &Assignment) -> bool {
        self.dimensions[position]
            .conditions
            .iter()
            .all(|condition| condition.holds(assignment.get(condition.parent)))
    }

    /// The same with one more dimension, last and never inactive: a number in [0, 1].
    pub(crate) fn with_unit(&self, name: &str) -> Self {
        let mut dimensions = self.dimensions.clone();
        dimensions.push(Dimension {
            name: name.to_owned(),
            domain: Domain::Numeric(Numeric::bounded(0.0, 1.0, false)),
            levels: None,
            conditions: Vec::new(),
            is_parent: false,
        });
        arrange(dimensions).expect("no condition is added")
    }

    /// The point at the quantiles `u`, one per dimension; those of inactive dimensions are not used.
    #[must_use]
    pub fn at_quantiles(&self, mut u: impl FnMut(usize) -> f64) -> Point {
        let mut assignment = self.blank();
        for &position in &self.order {
            if self.is_active(position, &assignment) {
                let value = self.dimensions[position].at_quantile(u(position));
                assignment.set(position, value);
            }
        }
        self.point(assignment)
    }

    /// The point made of an assignment, keys in the order of the document.
    #[must_use]
    pub fn point(&self, assignment: Assignment) -> Point {
        let keys = self.dimensions.iter().map(|dimension| &dimension.name);
        keys.zip(assignment.0)
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }

    /// The point with these coordinates.
    ///
    /// # Panics
    /// If a coordinate is of another kind of dimension.
    #[must_use]
    pub fn decode(&self, coordinates: &[Option<Coordinate>]) -> Point {
        let mut assignment = self.blank();
        for (position, coordinate) in coordinates.iter().enumerate() {
            if let Some(coordinate) = coordinate {
                assignment.set(position, self.dimensions[position].decode(*coordinate));
            }
        }
        self.point(assignment)
    }

    /// What a point says about each dimension: `None` where it is inactive or the point has no acceptable value for it.
    #[must_use]
    pub fn encode(&self, point: &Point) -> Vec<Option<Coordinate>> {
        self.encode_by(point, Dimension::encode)
    }

    /// The same of a point of another space: a number that the dimension does not have counts as the nearest one that it has.
    /// Also says whether there was any.
    pub(crate) fn encode_nearest(&self, point: &Point) -> (Vec<Option<Coordinate>>, bool) {
        let mut moved = false;
        let coordinates = self.encode_by(point, |dimension, value| {
            dimension.encode(value).or_else(|| {
                let nearest = dimension.nearest(value);
                moved |= nearest.is_some();
                nearest
            })
        });
        (coordinates, moved)
    }

    fn encode_by(
        &self,
        point: &Point,
        mut encode: impl FnMut(&Dimension, &PointValue) -> Option<Coordinate>,
    ) -> Vec<Option<Coordinate>> {
        let values = self.values(point);
        let mut assignment = self.parents();
        let mut coordinates = vec![None; self.dimensions.len()];
        for &position in &self.order {
            let dimension = &self.dimensions[position];
            let Some(value) = values[position] else { continue };
            if self.is_active(position, &assignment)
                && let Some(coordinate) = encode(dimension, value)
            {
                coordinates[position] = Some(coordinate);
                if dimension.is_parent {
                    // A parent decides by its value as this space spells it, not as the wire does.
                    assignment.set(position, dimension.decode(coordinate));
                }
            }
        }
        coordinates
    }

    /// The key under which equal points are found: one number per dimension, or nothing for a point that is not of this space.
    #[must_use]
    pub fn fingerprint(&self, coordinates: &[Option<Coordinate>]) -> Option<Arc<[u64]>> {
        let mut assignment = self.parents();
        let mut key = Vec::with_capacity(self.dimensions.len());
        for &position in &self.order {
            match coordinates[position] {
                Some(coordinate) => {
                    key.push(coordinate.bits());
                    if self.dimensions[position].is_parent {
                        assignment.set(position, self.dimensions[position].decode(coordinate));
                    }
                }
                None if self.is_active(position, &assignment) => return None,
                None => key.push(u64::MAX),
            }
        }
        Some(key.into())
    }

    /// What a point has for each dimension. Points list their keys as the space does, or nearly so: few have to be looked up.
    fn values<'a>(&self, point: &'a Point) -> Vec<Option<&'a PointValue>> {
        let mut entries = point.hyperparameters().peekable();
        let value = |dimension: &Dimension| match entries.next_if(|(key, _)| *key == dimension.name) {
            Some((_, value)) => Some(value),
            None => point.get(&dimension.name),
        };
        self.dimensions.iter().map(value).collect()
    }

    /// An assignment with room for what conditions look at.
    fn parents(&self) -> Assignment {
        if self.dimensions.iter().any(|dimension| dimension.is_parent) {
            self.blank()
        } else {
            Assignment(Vec::new())
        }
    }
}

impl Assignment {
    /// The value of the dimension at `position`, if it has one.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<&PointValue> {
        self.0[position].as_ref()
    }

    /// Gives the dimension at `position` a value.
    pub fn set(&mut self, position: usize, value: PointValue) {
        self.0[position] = Some(value);
    }

    /// Takes the value of the dimension at `position` away.
    pub fn clear(&mut self, position: usize) {
        self.0[position] = None;
    }
}

/// Puts the dimensions in an order with parents first, and groups those with the same condition.
///
/// # Errors
/// Positions of dimensions that depend on themselves.
fn arrange(mut dimensions: Vec<Dimension>) -> Result<Space, Vec<usize>> {
    let mut depth: Vec<Option<usize>> = vec![None; dimensions.len()];
    let mut order = Vec::with_capacity(dimensions.len());
    while order.len() < dimensions.len() {
        let before = order.len();
        for (position, dimension) in dimensions.iter().enumerate() {
            if depth[position].is_some() {
                continue;
            }
            let parents: Option<Vec<usize>> = dimension
                .conditions
                .iter()
                .map(|condition| depth[condition.parent])
                .collect();
            if let Some(parents) = parents {
                depth[position] = Some(parents.iter().max().map_or(0, |deepest| deepest + 1));
                order.push(position);
            }
        }
        if order.len() == before {
            return Err((0..dimensions.len())
                .filter(|position| depth[*position].is_none())
                .collect());
        }
    }
    let mut groups: Vec<(usize, Vec<Condition>, Group)> = Vec::new();
    for (position, dimension) in dimensions.iter().enumerate() {
        match groups
            .iter_mut()
            .find(|(_, conditions, _)| *conditions == dimension.conditions)
        {
            Some((_, _, group)) => group.members.push(position),
            None => groups.push((
                depth[position].unwrap_or_default(),
                dimension.conditions.clone(),
                Group {
                    members: vec![position],
                },
            )),
        }
    }
    groups.sort_by_key(|(depth, _, _)| *depth);
    let groups = groups.into_iter().map(|(_, _, group)| group).collect();
    let parents: Vec<usize> = dimensions
        .iter()
        .flat_map(|dimension| dimension.conditions.iter().map(|c| c.parent))
        .collect();
    for parent in parents {
        dimensions[parent].is_parent = true;
    }
    Ok(Space {
        dimensions,
        order,
        groups,
    })
}

#[cfg(test)]
mod tests {
    use protocol::search_space::SearchSpace;
    use serde_json::{Value, json};

    use super::*;

    pub(super) fn space(document: &Value) -> Space {
        Space::new(&SearchSpace::from_value(document).unwrap()).unwrap()
    }

    /// The conditional layers of a two-step search: each layer has a width of its own.
    fn layers() -> Space {
        let mut document = json!({"depth": {"method": "uniformint", "dimension": {"low": 1, "high": 4}}});
        for layer in 1..=4 {
            let depths: Vec<i32> = (layer..=4).collect();
            document[format!("width{layer}")] = json!({
                "method": "categorical", "dimension": {"categories": [32, 64, 128]}, "if": {"depth": depths}
            });
        }
        space(&document)
    }

    #[test]
    fn a_point_has_every_active_key_and_no_other() {
        let space = layers();
        for (u, keys) in [(0.1, 2), (0.3, 3), (0.6, 4), (0.9, 5)] {
            assert_eq!(space.at_quantiles(|_| u).len(), keys);
        }
        assert_eq!(space.groups().len(), 5);
    }

    #[test]
    fn the_size_counts_every_point_once_as_walking_does() {
        let space = layers();
        let points: Vec<Point> = Walk::all(&space).unwrap().collect();
        assert_eq!(points.len(), 3 + 9 + 27 + 81);
        assert_eq!(space.size(), Some(120));
        let mut keys: Vec<_> = points
            .iter()
            .map(|point| space.fingerprint(&space.encode(point)).unwrap())
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 120);
        assert!(points.iter().all(|point| space.problems(point).is_empty()));
    }

    #[test]
    fn a_child_may_stand_before_its_parent_and_chains_are_followed() {
        let space = space(&json!({
            "c": {"method": "categorical", "dimension": {"categories": [1, 2]}, "if": {"b": [true]}},
            "b": {"method": "categorical", "dimension": {"categories": [true, false]}, "if": {"a": ["x"]}},
            "a": {"method": "categorical", "dimension": {"categories": ["x", "y"]}}
        }));
        assert_eq!(space.size(), Some(4));
        let texts: Vec<String> = Walk::all(&space)
            .unwrap()
            .map(|point| serde_json::to_string(&point).unwrap())
            .collect();
        assert_eq!(
            texts,
            [
                r#"{"c":1,"b":true,"a":"x"}"#,
                r#"{"c":2,"b":true,"a":"x"}"#,
                r#"{"b":false,"a":"x"}"#,
                r#"{"a":"y"}"#
            ]
        );
    }

    #[test]
    fn a_huge_space_saturates_and_a_continuum_has_no_size() {
        let mut document = json!({});
        for key in 0..40 {
            document[format!("x{key}")] = json!({"method": "uniformint", "dimension": {"low": 1, "high": 100}});
        }
        assert_eq!(space(&document).size(), Some(u64::MAX));
        document["y"] = json!({"method": "uniform", "dimension": {"low": 0, "high": 1}});
        assert_eq!(space(&document).size(), None);
    }

    #[test]
    fn foreign_points_have_no_fingerprint_and_equal_points_the_same() {
        let space = layers();
        let key = |point: Value| space.fingerprint(&space.encode(&Point::from(point.as_object().unwrap().clone())));
        assert_eq!(key(json!({"depth": 2, "width1": 32})), None);
        assert_eq!(key(json!({"depth": 9, "width1": 32})), None);
        let plain = key(json!({"depth": 1, "width1": 32}));
        assert!(plain.is_some());
        assert_eq!(plain, key(json!({"width1": 32.0, "depth": 1.0, "hpo.n": 5})));
    }
}
