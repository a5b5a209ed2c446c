//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Delays that double with each attempt, from `first` up to `longest`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The delay of the coming attempt, without counting one.
    pub fn current(&self) -> Duration {
        self.next
    }

    /// The delay before the coming attempt; the one after waits twice as long.
    pub fn advance(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.longest);
        delay
    }

    /// As [`advance`](Self::advance), but with full jitter: anything from nothing to the whole
    /// delay, so that the pods of a node do not call a returning agent in step.
    pub fn advance_with_jitter(&mut self) -> Duration {
        self.advance().mul_f64(random_fraction())
    }

    /// Starts again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Evenly spread over 0..1. The standard library's hasher seeds are random enough to spread calls.
fn random_fraction() -> f64 {
    let random = RandomState::new().hash_one(());
    (random >> 11) as f64 / (1u64 << 53) as f64
}
