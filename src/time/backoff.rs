//! Delays between attempts.

#[cfg(test)]
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Delays that double with each attempt, from `first` up to `longest`.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first`.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next delay, without advancing.
    pub(crate) fn current(&self) -> Duration {
        self.next
    }

    /// The next delay; the one after it is twice as long.
    pub(crate) fn advance(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.longest);
        delay
    }

    /// As [`advance`](Self::advance), with equal jitter: anything from half of the delay to all of
    /// it, so that the pods of a node do not call a returning agent in step, nor at once.
    pub(crate) fn advance_with_jitter(&mut self) -> Duration {
        let half = self.advance() / 2;
        half + half.mul_f64(random_fraction())
    }

    /// The longest delay.
    #[cfg(test)]
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// Starts again at `first`.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Evenly spread over 0..1. The standard library's hasher seeds are random enough to spread calls and notifications.
pub(crate) fn random_fraction() -> f64 {
    let random = RandomState::new().hash_one(());
    #[cfg(test)]
    let random = CHANCE.get().map_or(random, |_| chance());
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
thread_local! {
    /// The state of a simulation's chance. The same seed makes the same numbers, and delays.
    pub(crate) static CHANCE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The simulation's next number (SplitMix64).
#[cfg(test)]
pub(crate) fn chance() -> u64 {
    let state = CHANCE.get().unwrap_or_default().wrapping_add(0x9e37_79b9_7f4a_7c15);
    CHANCE.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
