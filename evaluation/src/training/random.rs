//! Random numbers that are a function of seed, purpose, index and position: Philox 4×32 with ten rounds (Salmon,
//! Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! Nothing is carried from one stream to another, so a resumed training draws what an uninterrupted one would have
//! drawn, on every platform.

#![expect(
    clippy::inline_always,
    reason = "the instructions are those of the caller, which alone knows the processor"
)]

use crate::vectors::vectorized;

/// What a stream is for; streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Initial weights, indexed by tensor.
    Weights = 1,
    /// The order of rows, indexed by epoch.
    Order = 2,
    /// Dropout masks, indexed by step and layer.
    Dropout = 3,
}

/// A sequence of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    /// What the counters from [`Self::counter`] less [`BLOCKS`] on give.
    drawn: [u32; 4 * BLOCKS],
    used: usize,
}

/// Counters that are turned into numbers at once, as many as the widest vectors hold.
const BLOCKS: usize = 16;

impl Stream {
    pub(crate) fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, purpose as u32, index as u32, (index >> 32) as u32],
            drawn: [0; 4 * BLOCKS],
            used: 4 * BLOCKS,
        }
    }

    #[inline]
    pub(crate) fn next_u32(&mut self) -> u32 {
        if self.used == self.drawn.len() {
            self.draw();
        }
        self.used += 1;
        self.drawn[self.used - 1]
    }

    fn draw(&mut self) {
        let (counter, key) = (self.counter, self.key);
        vectorized(
            #[inline(always)]
            || philox(counter, key, &mut self.drawn),
        );
        self.counter[0] = counter[0].wrapping_add(BLOCKS as u32);
        self.used = 0;
    }

    #[inline]
    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | (u64::from(self.next_u32()) << 32)
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        unit(self.next_u64())
    }

    /// So many numbers, uniform in `[-bound, bound)`: each is what [`Self::unit`] gives, stretched.
    pub(crate) fn uniform(&mut self, bound: f64, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        let fresh = if self.used == self.drawn.len() { count } else { 0 };
        let (at_once, rest) = values.split_at_mut(fresh / (2 * BLOCKS) * (2 * BLOCKS));
        vectorized(
            #[inline(always)]
            || {
                for part in at_once.as_chunks_mut::<{ 2 * BLOCKS }>().0 {
                    philox(self.counter, self.key, &mut self.drawn);
                    self.counter[0] = self.counter[0].wrapping_add(BLOCKS as u32);
                    for (value, [low, high]) in part.iter_mut().zip(self.drawn.as_chunks::<2>().0) {
                        *value = stretched(unit(u64::from(*low) | (u64::from(*high) << 32)), bound);
                    }
                }
            },
        );
        for value in rest {
            *value = stretched(self.unit(), bound);
        }
        values
    }

    /// Standard normal (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    /// Uniform in `0..bound`, without bias (Lemire 2019).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Fisher–Yates.
    pub(crate) fn shuffle(&mut self, items: &mut [i64]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// Fills a dropout mask: 0 with probability `rate`, else `1 / (1 - rate)`.
    pub(crate) fn dropout_mask(&mut self, mask: &mut [f32], rate: f64) {
        let threshold = (rate * 4_294_967_296.0) as u32;
        let kept = (1.0 / (1.0 - rate)) as f32;
        for value in mask {
            *value = if self.next_u32() < threshold { 0.0 } else { kept };
        }
    }
}

#[inline(always)]
fn unit(bits: u64) -> f64 {
    /// 2⁻⁵³
    const SPACING: f64 = f64::EPSILON / 2.0;
    (bits >> 11) as f64 * SPACING
}

#[inline(always)]
fn stretched(unit: f64, bound: f64) -> f32 {
    (bound * (2.0 * unit - 1.0)) as f32
}

/// The numbers of as many counters as fit, which follow each other in their first word.
#[inline(always)]
fn philox(counter: [u32; 4], mut key: [u32; 2], numbers: &mut [u32; 4 * BLOCKS]) {
    let mut words = counter.map(|word| [word; BLOCKS]);
    for (at, word) in (0..).zip(&mut words[0]) {
        *word = word.wrapping_add(at);
    }
    for _ in 0..10 {
        let [a, b, c, d] = &mut words;
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            let first = u64::from(*a) * 0xD251_1F53;
            let second = u64::from(*c) * 0xCD9E_8D57;
            *a = (second >> 32) as u32 ^ *b ^ key[0];
            *b = second as u32;
            *c = (first >> 32) as u32 ^ *d ^ key[1];
            *d = first as u32;
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    for (at, block) in numbers.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        for (number, word) in block.iter_mut().zip(&words) {
            *number = word[at];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_test_vectors() {
        let first = |counter, key| {
            let mut numbers = [0; 4 * BLOCKS];
            philox(counter, key, &mut numbers);
            (numbers[..4].to_vec(), numbers[4..8].to_vec())
        };
        assert_eq!(
            first([0; 4], [0; 2]).0,
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            first([u32::MAX; 4], [u32::MAX; 2]).0,
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        // The next counter follows, with a first word that wraps around.
        assert_eq!(
            first([u32::MAX; 4], [7; 2]).1,
            first([0, u32::MAX, u32::MAX, u32::MAX], [7; 2]).0
        );
    }

    #[test]
    fn a_stream_goes_on_from_counter_to_counter() {
        let mut stream = Stream::new(3, Purpose::Order, 1);
        let drawn: Vec<u32> = (0..12 * BLOCKS).map(|_| stream.next_u32()).collect();
        let mut expected = vec![0; 12 * BLOCKS];
        for (at, part) in (0..).zip(expected.as_chunks_mut::<{ 4 * BLOCKS }>().0) {
            philox([at * BLOCKS as u32, Purpose::Order as u32, 1, 0], [3, 0], part);
        }
        assert_eq!(drawn, expected);
    }

    #[test]
    fn many_numbers_are_those_that_are_drawn_one_by_one() {
        for before in [0, 1, 2 * BLOCKS] {
            let mut streams = [0, 1].map(|_| Stream::new(9, Purpose::Weights, 4));
            for stream in &mut streams {
                for _ in 0..before {
                    stream.next_u32();
                }
            }
            let [mut at_once, mut single] = streams;
            for count in [5 * BLOCKS + 3, 70] {
                let expected: Vec<f32> = (0..count).map(|_| (0.3 * (2.0 * single.unit() - 1.0)) as f32).collect();
                assert_eq!(at_once.uniform(0.3, count), expected);
            }
        }
    }

    #[test]
    fn a_shuffle_is_a_permutation_that_depends_on_the_index() {
        let order = |index| {
            let mut items: Vec<i64> = (0..100).collect();
            Stream::new(5, Purpose::Order, index).shuffle(&mut items);
            items
        };
        let mut sorted = order(0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<i64>>());
        assert_eq!(order(1), order(1));
        assert_ne!(order(0), order(1));
    }

    #[test]
    fn a_dropout_mask_keeps_the_mean() {
        let mut mask = vec![0.0; 20_000];
        Stream::new(1, Purpose::Dropout, 0).dropout_mask(&mut mask, 0.25);
        let mean = mask.iter().map(|value| f64::from(*value)).sum::<f64>() / 20_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
