//! Random numbers that are a function of seed, purpose, index and position: Philox 4×32 with ten rounds (Salmon,
//! Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! Nothing is carried from one stream to another, so a resumed training draws what an uninterrupted one would have
//! drawn, on every platform.

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
    block: [u32; 4],
    used: usize,
}

impl Stream {
    pub(crate) fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, purpose as u32, index as u32, (index >> 32) as u32],
            block: [0; 4],
            used: 4,
        }
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | (u64::from(self.next_u32()) << 32)
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (0.5_f64).powi(53)
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

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xD251_1F53;
        let second = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_test_vectors() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
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
