//! The Sobol sequence with nested uniform (Owen) scrambling.
//!
//! I. M. Sobol', *USSR Comput. Math. Math. Phys.* 7 (1967) 86; direction numbers of S. Joe and F. Y. Kuo, *SIAM J. Sci. Comput.*
//! 30 (2008) 2635; scrambling of A. B. Owen, *J. Complexity* 14 (1998) 466.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | s | degree of the primitive polynomial of a dimension |
//! | mⱼ | initial direction numbers, odd, below 2ʲ |
//! | vⱼ | direction numbers as 32-bit fractions |

use crate::rng::{Key, Stream};

/// Bits of a coordinate.
const BITS: usize = 32;
/// Dimensions for which there are direction numbers. Further ones get independent uniform numbers, which costs them their even
/// spread but nothing else; a search space has at most 1,000 keys.
pub(crate) const DIMENSIONS: usize = 1_111;

static DIRECTIONS: &str = include_str!("../../data/sobol_directions.txt");

/// The first dimensions of the sequence.
#[derive(Debug, Clone)]
pub(crate) struct Sobol {
    directions: Vec<[u32; BITS]>,
}

impl Sobol {
    /// The sequence in `dimensions` dimensions, at most [`DIMENSIONS`] of them.
    pub(crate) fn new(dimensions: usize) -> Self {
        let mut directions = vec![std::array::from_fn(|bit| 1 << (BITS - 1 - bit))];
        directions.extend(DIRECTIONS.lines().take(dimensions.saturating_sub(1)).map(expand));
        directions.truncate(dimensions);
        Self { directions }
    }

    /// Number of dimensions.
    pub(crate) fn dimensions(&self) -> usize {
        self.directions.len()
    }

    /// Coordinate `dimension` of the point `index`, as a 32-bit fraction, in the order of Gray codes.
    pub(crate) fn coordinate(&self, index: u32, dimension: usize) -> u32 {
        let gray = index ^ (index >> 1);
        let directions = &self.directions[dimension];
        (0..BITS)
            .filter(|bit| gray >> bit & 1 == 1)
            .fold(0, |sum, bit| sum ^ directions[bit])
    }

    /// The same after Owen's scrambling: each bit is flipped by a random bit that depends on all bits before it. Returned in the
    /// middle of its cell, hence strictly inside (0, 1).
    pub(crate) fn scrambled(&self, key: Key, index: u32, dimension: usize) -> f64 {
        let plain = self.coordinate(index, dimension);
        let mut flips = 0;
        for bit in 0..BITS {
            let prefix = if bit == 0 { 0 } else { plain >> (BITS - bit) };
            // A leading one marks the length, so that prefixes of different length never share a random bit.
            let place = (1_u64 << bit) | u64::from(prefix);
            let random = key.words(
                Stream::Scrambling,
                [dimension as u32, place as u32, (place >> 32) as u32],
            )[0] & 1;
            flips |= random << (BITS - 1 - bit);
        }
        (f64::from(plain ^ flips) + 0.5) / 4_294_967_296.0
    }
}

/// Direction numbers from one line of the table, by the recurrence of the polynomial.
fn expand(line: &str) -> [u32; BITS] {
    let mut numbers = line
        .split_ascii_whitespace()
        .map(|word| word.parse::<u32>().expect("the table holds numbers"));
    let polynomial = numbers.next().expect("a line begins with its polynomial");
    let degree = polynomial.ilog2() as usize;
    let mut directions = [0; BITS];
    for (bit, initial) in numbers.enumerate() {
        directions[bit] = initial << (BITS - 1 - bit);
    }
    for bit in degree..BITS {
        let mut next = directions[bit - degree] ^ (directions[bit - degree] >> degree);
        for term in 1..degree {
            if polynomial >> (degree - term) & 1 == 1 {
                next ^= directions[bit - term];
            }
        }
        directions[bit] = next;
    }
    directions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_points_are_those_of_joe_and_kuo() {
        let sobol = Sobol::new(3);
        let expected = [
            [0.0, 0.0, 0.0],
            [0.5, 0.5, 0.5],
            [0.75, 0.25, 0.25],
            [0.25, 0.75, 0.75],
            [0.375, 0.375, 0.625],
            [0.875, 0.875, 0.125],
            [0.625, 0.125, 0.875],
            [0.125, 0.625, 0.375],
        ];
        for (index, point) in expected.iter().enumerate() {
            for (dimension, x) in point.iter().enumerate() {
                let found = f64::from(sobol.coordinate(index as u32, dimension)) / 4_294_967_296.0;
                assert!(
                    (found - x).abs() < 1e-12,
                    "point {index}, dimension {dimension}: {found}"
                );
            }
        }
    }

    #[test]
    fn every_dimension_is_a_permutation_of_the_cells_before_and_after_scrambling() {
        let sobol = Sobol::new(DIMENSIONS);
        assert_eq!(sobol.dimensions(), DIMENSIONS);
        let key = Key::new(7, "", None, "sobol");
        for dimension in (0..DIMENSIONS).step_by(37).chain([DIMENSIONS - 1]) {
            let mut cells: Vec<usize> = (0..64)
                .map(|index| (sobol.scrambled(key, index, dimension) * 64.0) as usize)
                .collect();
            cells.sort_unstable();
            assert_eq!(cells, (0..64).collect::<Vec<_>>(), "dimension {dimension}");
        }
    }

    #[test]
    fn scrambling_depends_on_key_and_dimension() {
        let sobol = Sobol::new(2);
        let at = |seed, dimension| sobol.scrambled(Key::new(seed, "", None, "sobol"), 0, dimension);
        assert!((at(1, 0) - at(2, 0)).abs() > 1e-9);
        assert!((at(1, 0) - at(1, 1)).abs() > 1e-9);
    }
}
