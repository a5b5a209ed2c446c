//! When to call again after a call has failed.

use std::time::{Duration, Instant};

use super::call_error::RetryRule;
use crate::time::backoff::{Backoff, random_fraction};
use crate::time::timing::{AWAIT_ENDPOINT, BETWEEN_STREAMS, CALL_AGAIN, CALL_RARELY, SPREAD_OF_STREAMS};

/// An open call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    /// When it was made.
    pub(crate) since: Instant,
    /// Whether it has brought anything, decodable or not.
    pub(crate) spoke: bool,
    /// Whether it has brought a response.
    pub(crate) delivered: bool,
    /// Whether the newest response that keeps to the standard offers what the call is for.
    pub(crate) offers: bool,
}

impl Stream {
    /// Nothing has come yet.
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, spoke: false, delivered: false, offers: false }
    }
}

/// The delays before the next call.
pub(crate) struct Delays {
    /// While nothing listens.
    pub(crate) connecting: Backoff,
    /// While the agent says no, or what it sends is unusable.
    pub(crate) calling: Backoff,
}

impl Delays {
    /// Nothing has failed yet.
    pub(crate) fn new() -> Self {
        Self { connecting: AWAIT_ENDPOINT, calling: CALL_AGAIN }
    }

    /// The delay before the next call, when `stream` has failed, or when there was no connection.
    pub(crate) fn after(&mut self, remedy: RetryRule, stream: Option<Stream>, now: Instant) -> Duration {
        match (remedy, stream) {
            (RetryRule::Rarely, _) => CALL_RARELY,
            (RetryRule::AwaitEndpoint, _) => {
                self.calling.reset();
                self.connecting.advance_with_jitter()
            }
            (RetryRule::BackOff, Some(Stream { since, delivered: true, .. })) => {
                self.calling.reset();
                let rest = BETWEEN_STREAMS.saturating_sub(now.duration_since(since));
                rest + SPREAD_OF_STREAMS.mul_f64(random_fraction())
            }
            (RetryRule::BackOff, _) => self.calling.advance_with_jitter(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::backoff::CHANCE;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The most moments of these, in milliseconds, that lie within a twentieth of a second.
    fn most_at_once(moments: &[u128]) -> usize {
        let at_once = |from: &u128| moments.iter().filter(|at| (*from..*from + 50).contains(at)).count();
        moments.iter().map(at_once).max().unwrap()
    }

    #[test]
    fn while_nothing_listens_the_delay_doubles_up_to_less_than_a_second_and_is_never_under_half_its_step() {
        let mut retry = Delays::new();
        let mut delay = || retry.after(RetryRule::AwaitEndpoint, None, Instant::now());
        for step in [100, 200, 400, 800, 800, 800].map(Duration::from_millis) {
            let delay = delay();
            assert!(step / 2 <= delay && delay <= step, "{delay:?} of {step:?}");
        }
        retry.connecting.reset();
        assert!(retry.after(RetryRule::AwaitEndpoint, None, Instant::now()) <= Duration::from_millis(100));
    }

    #[test]
    fn the_helpers_of_a_node_find_an_agent_that_is_back_one_after_the_other_and_within_a_second() {
        CHANCE.set(Some(1));
        // Each has its own delays; all have lost the agent at one moment, and it is back after so long.
        for away in [2, 10, 60].map(Duration::from_secs) {
            let found = [(); 100].map(|()| {
                let (mut retry, mut since) = (Delays::new(), Duration::ZERO);
                while since < away {
                    since += retry.after(RetryRule::AwaitEndpoint, None, Instant::now());
                }
                (since - away).as_millis()
            });
            assert!(most_at_once(&found) <= 20, "{found:?}");
            assert!(found.iter().all(|after| *after <= 800), "{found:?}");
        }
    }

    #[test]
    fn streams_that_end_at_one_moment_are_replaced_one_after_the_other() {
        CHANCE.set(Some(1));
        let now = Instant::now() + HOUR;
        let stream = Some(Stream { delivered: true, ..Stream::new(now - HOUR) });
        let called = [(); 100].map(|()| Delays::new().after(RetryRule::BackOff, stream, now).as_millis());
        assert!(most_at_once(&called) <= 70, "{called:?}");
    }

    #[test]
    fn while_the_agent_answers_with_an_error_the_delay_grows_to_five_seconds_and_is_never_under_half_its_step()
     {
        let mut retry = Delays::new();
        let now = Instant::now();
        let stream = Some(Stream::new(now));
        for step in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000].map(Duration::from_millis) {
            let delay = retry.after(RetryRule::BackOff, stream, now);
            assert!(step / 2 <= delay && delay <= step, "{delay:?} of {step:?}");
        }
        retry.calling.reset();
        assert!(retry.after(RetryRule::BackOff, stream, now) <= Duration::from_millis(100));
    }

    #[test]
    fn a_call_that_must_not_be_retried_is_made_again_after_a_minute_each_time() {
        let mut retry = Delays::new();
        for _ in 0..3 {
            assert_eq!(retry.after(RetryRule::Rarely, None, Instant::now()), Duration::from_secs(60));
        }
    }

    #[test]
    fn a_stream_that_delivered_is_replaced_within_a_tenth_of_a_second_but_not_within_a_second_of_its_start() {
        let mut retry = Delays::new();
        let now = Instant::now() + HOUR;
        let mut after = |age| {
            retry
                .after(RetryRule::BackOff, Some(Stream { delivered: true, ..Stream::new(now - age) }), now)
                .as_millis()
        };
        assert!((0..=100).contains(&after(HOUR)));
        assert!((700..=800).contains(&after(Duration::from_millis(300))));
        assert!((1000..=1100).contains(&after(Duration::ZERO)));
    }
}
