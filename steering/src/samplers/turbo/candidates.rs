//! Points of the trust region.
//!
//! A candidate differs from the centre in some twenty dimensions (Eriksson and others 2019, section 2, after R. Regis, C.
//! Shoemaker, *Combining radial basis function surrogates and dynamic coordinate search in high-dimensional expensive black-box
//! optimization*, 2013): one that differs in all of a hundred is far from everything known.

use super::super::gp::candidates::{Candidate, Source};
use super::local::Local;
use super::region::{LARGEST, grain};
use crate::history::History;
use crate::rng::{Generator, Key, Stream};
use crate::space::{Coordinate, Domain};

/// Dimensions that a candidate changes on average.
const CHANGED: f64 = 20.0;

/// `count` unused candidates, fewer if draws repeat.
pub(super) fn inside(source: &Source<'_>, history: &History, local: &Local, count: usize, key: Key) -> Vec<Candidate> {
    let ordinal = history.next_ordinal();
    let mut generator = key.generator(ordinal, Stream::Acquisition);
    let fill = source.spread(1, key, ordinal).remove(0).genes;
    let centre = source.known(&local.centre, &fill);
    let varying: Vec<usize> = (0..centre.genes.len())
        .filter(|position| centre.coordinates[*position].is_some_and(|present| present != Coordinate::Fixed))
        .filter(|position| source.space.dimensions()[*position].size() != Some(1))
        .collect();
    if varying.is_empty() {
        return Vec::new();
    }
    let total: f64 = varying.iter().map(|position| local.relevance[*position]).sum();
    let even = CHANGED / varying.len() as f64;
    (0..count)
        .map(|index| {
            let mut genes = centre.genes.clone();
            let share = |position: usize| {
                if index % 2 == 0 {
                    even
                } else {
                    (CHANGED * local.relevance[position] / total).max(0.1 * even)
                }
            };
            let forced = varying[generator.below(varying.len())];
            for &position in &varying {
                if generator.uniform() < share(position) || position == forced {
                    genes[position] = moved(
                        source,
                        position,
                        genes[position],
                        local.length,
                        position == forced,
                        &mut generator,
                    );
                }
            }
            source.express(genes)
        })
        .filter(|candidate| !history.is_taken(source.space, &candidate.coordinates))
        .collect()
}

/// Another value within half of `length`. Categories have no distance: fewer of them change the smaller the region is.
fn moved(
    source: &Source<'_>,
    position: usize,
    present: Coordinate,
    length: f64,
    forced: bool,
    generator: &mut Generator,
) -> Coordinate {
    match (&source.space.dimensions()[position].domain, present) {
        (Domain::Categorical { categories, .. }, Coordinate::Category(category)) => {
            if !forced && generator.uniform() * LARGEST > length {
                return present;
            }
            let other = generator.below(categories.len() - 1);
            Coordinate::Category(other + usize::from(other >= category))
        }
        (Domain::Numeric(numeric), present) => {
            let t = present.t().unwrap_or(0.5);
            let (low, high) = Source::range(numeric);
            let half = (0.5 * length).max(grain(numeric, present));
            let (low, high) = ((t - half).max(low), (t + half).min(high));
            numeric.at(low + generator.uniform() * (high - low))
        }
        _ => present,
    }
}
