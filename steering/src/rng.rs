//! Random numbers without state: Philox4x32-10, a counter-based generator.
//!
//! J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC11 (2011), section 4.3.
//!
//! A draw is a function of a key and a counter. The key is a hash of everything that makes two searches different (seed, task,
//! segment, algorithm); the counter is the ordinal of the point being made, a [`Stream`] and the number of the draw. So the
//! numbers for any point can be made alone, in any process, on any machine, and asking for two points at once draws the same
//! numbers as asking for one twice.

use std::convert::Infallible;

use rand::rand_core::TryRng;
use sha2::{Digest, Sha256};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The Philox4x32-10 bijection: four random words for a counter under a key.
#[must_use]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let first = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let second = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// What a sequence of draws is for. Two purposes never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Points drawn from the prior.
    Startup,
    /// Starting points of the search for the best of an acquisition.
    Acquisition,
    /// Candidates drawn from a fitted density.
    Density,
    /// Choices among equals, and the last resort when draws keep repeating points.
    Tie,
    /// Latent coordinates of an evolution strategy.
    Latent,
    /// Changes of the hyperparameters of a member of a population; by member and generation, not by point.
    Exploration,
    /// Scrambling of a quasi-random sequence; one per search, not per point.
    Scrambling,
    /// Draws of the parameters of a model; by the number of points that it learns from, not by the point that is made.
    Parameters,
    /// Weights of objectives against each other.
    Weights,
}

impl Stream {
    fn number(self) -> u32 {
        match self {
            Self::Startup => 0,
            Self::Acquisition => 1,
            Self::Density => 2,
            Self::Tie => 3,
            Self::Latent => 4,
            Self::Exploration => 5,
            Self::Scrambling => 6,
            Self::Parameters => 7,
            Self::Weights => 12,
        }
    }
}

/// The key of one search under one algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u32; 2]);

impl Key {
    /// Hashes what tells this search from others.
    #[must_use]
    pub fn new(seed: u64, task: &str, segment: Option<u32>, algorithm: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        for text in [task, algorithm] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(segment.map_or(0, |id| u64::from(id) + 1).to_le_bytes());
        let digest = hash.finalize();
        let word = |at: usize| u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]]);
        Self([word(0), word(4)])
    }

    /// The generator for the point `ordinal` and the purpose `stream`, at its first draw.
    #[must_use]
    pub fn generator(self, ordinal: u64, stream: Stream) -> Generator {
        let counter = [0, stream.number(), ordinal as u32, (ordinal >> 32) as u32];
        Generator {
            key: self,
            counter,
            block: [0; 4],
            used: 4,
        }
    }

    /// Four random words at an explicit position, for purposes that need random access.
    #[must_use]
    pub fn words(self, stream: Stream, place: [u32; 3]) -> [u32; 4] {
        philox([place[0], stream.number(), place[1], place[2]], self.0)
    }
}

/// Successive draws for one point and one purpose; implements the traits of `rand`.
#[derive(Debug, Clone)]
pub struct Generator {
    key: Key,
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Generator {
    /// A number in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (u64::from(self.word()), u64::from(self.word()));
        let bits = ((high << 32) | low) >> 11;
        bits as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// A number in 0..`count`; every number equally likely up to 2⁻⁶⁴.
    ///
    /// # Panics
    /// If `count` is zero.
    pub fn below(&mut self, count: usize) -> usize {
        assert!(count > 0, "nothing to choose from");
        let (high, low) = (u128::from(self.word()), u128::from(self.word()));
        ((((high << 32) | low) * count as u128) >> 64) as usize
    }

    fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key.0);
            self.counter[0] = self.counter[0]
                .checked_add(1)
                .expect("no point needs 2^32 blocks of random numbers");
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }
}

impl TryRng for Generator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.word());
        Ok(u64::from(self.word()) << 32 | low)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::seq::SliceRandom;

    use super::*;

    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn keys_differ_in_every_part() {
        let key = Key::new(1, "task", Some(0), "tpe");
        for other in [
            Key::new(2, "task", Some(0), "tpe"),
            Key::new(1, "tas", Some(0), "ktpe"),
            Key::new(1, "task", Some(1), "tpe"),
            Key::new(1, "task", None, "tpe"),
            Key::new(1, "task", Some(0), "random"),
        ] {
            assert_ne!(key, other);
        }
    }

    #[test]
    fn uniform_draws_fill_the_unit_interval_evenly() {
        let mut generator = Key::new(3, "", None, "").generator(5, Stream::Startup);
        let draws: Vec<f64> = (0..10_000).map(|_| generator.uniform()).collect();
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mut counts = [0; 7];
        (0..7_000).for_each(|_| counts[generator.below(7)] += 1);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn it_serves_the_shuffling_of_rand() {
        let shuffled = |ordinal| {
            let mut items: Vec<u32> = (0..20).collect();
            items.shuffle(&mut Key::new(0, "", None, "").generator(ordinal, Stream::Tie));
            items
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
    }

    #[test]
    fn bytes_are_the_words_in_little_endian_order() {
        let start = Key::new(9, "", None, "").generator(0, Stream::Tie);
        let mut bytes = [0; 6];
        start.clone().try_fill_bytes(&mut bytes).unwrap();
        assert_eq!(bytes[..4], start.clone().try_next_u32().unwrap().to_le_bytes());
    }
}
