//! Random streams that are a pure function of the seed: xoshiro256** seeded by splitmix64.
//!
//! Invariants
//! - A fork never yields the numbers of its parent, and drawing from one stream never moves another.
//!
//! Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators" (2021).

use std::cell::Cell;
use std::ops::Range;
use world::Duration;

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// A deterministic stream of random numbers.
#[derive(Debug)]
pub struct SimRng {
    state: Cell<[u64; 4]>,
}

impl SimRng {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut word = seed;
        let state = std::array::from_fn(|_| splitmix(&mut word));
        Self {
            state: Cell::new(state),
        }
    }

    /// The stream that belongs to `seed` and `name`: independent of what else was created before it.
    #[must_use]
    pub fn named(seed: u64, name: &str) -> Self {
        Self::new(seed ^ xxhash_rust::xxh3::xxh3_64(name.as_bytes()))
    }

    /// 64 uniformly random bits.
    pub fn next_u64(&self) -> u64 {
        let mut state = self.state.get();
        let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        self.state.set(state);
        result
    }

    /// A new stream, independent of what is drawn from this one later.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.next_u64())
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        // Multiply-shift: its bias is below 2^-32 for every bound a simulation uses.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// An index below `count`; 0 when `count` is 0.
    pub fn index(&self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// A number within `range`; its start when it is empty.
    pub fn range(&self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// A duration within `range`; its start when it is empty.
    pub fn duration(&self, range: Range<Duration>) -> Duration {
        Duration::from_nanos(self.range(nanos(range.start)..nanos(range.end)))
    }

    /// True with this probability. Draws nothing for probabilities of 0 and less.
    pub fn chance(&self, probability: f64) -> bool {
        probability > 0.0 && (self.next_u64() >> 11) as f64 / ((1_u64 << 53) as f64) < probability
    }

    /// One of `items`.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> &'a T {
        assert!(!items.is_empty(), "cannot pick from nothing");
        &items[self.index(items.len())]
    }

    /// Brings `items` into a random order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// Fills `bytes` with random bits.
    pub fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

impl world::Rng for SimRng {
    fn next_u64(&self) -> u64 {
        SimRng::next_u64(self)
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_by_seed_and_forks_differ() {
        let (one, two) = (SimRng::new(7), SimRng::new(7));
        assert_eq!(one.next_u64(), two.next_u64());
        let fork = one.fork();
        assert_ne!(fork.next_u64(), one.next_u64());
        assert_ne!(
            SimRng::named(7, "a").next_u64(),
            SimRng::named(7, "b").next_u64()
        );
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let rng = SimRng::new(1);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[rng.index(5)] = true;
            assert!((10..20).contains(&rng.range(10..20)));
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.range(3..3), 3);
        assert!(rng.chance(1.0));
        assert!(!rng.chance(0.0));
        let mut items: Vec<u32> = (0..50).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
