//! When to call again after a call has failed.

use std::time::{Duration, Instant};

use super::call_error::RetryRule;
use crate::time::backoff::Backoff;
use crate::time::timing::{AWAIT_ENDPOINT, BETWEEN_STREAMS, CALL_AGAIN, CALL_RARELY};

/// An open call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    /// When it was made.
    pub(crate) since: Instant,
    /// Whether it has brought a response.
    pub(crate) delivered: bool,
}

/// The delays before the next call.
pub(crate) struct Delays {
    connecting: Backoff,
    calling: Backoff,
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
                self.connecting.advance()
            }
            (RetryRule::BackOff, Some(Stream { since, delivered: true })) => {
                self.calling.reset();
                BETWEEN_STREAMS.saturating_sub(now.duration_since(since))
            }
            (RetryRule::BackOff, _) => self.calling.advance_with_jitter(),
        }
    }

    /// The delay after an unusable response.
    pub(crate) fn after_unusable_response(&mut self) -> Duration {
        self.calling.advance_with_jitter()
    }

    /// Something listens.
    pub(crate) fn connected(&mut self) {
        self.connecting.reset();
    }

    /// A response was good.
    pub(crate) fn succeeded(&mut self) {
        self.calling.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn while_nothing_listens_the_delay_doubles_up_to_less_than_a_second() {
        let mut retry = Delays::new();
        let delays =
            [(); 6].map(|()| retry.after(RetryRule::AwaitEndpoint, None, Instant::now()).as_millis());
        assert_eq!(delays, [100, 200, 400, 800, 800, 800]);
        retry.connected();
        assert_eq!(retry.after(RetryRule::AwaitEndpoint, None, Instant::now()).as_millis(), 100);
    }

    #[test]
    fn while_the_agent_answers_with_an_error_the_delay_grows_to_five_seconds_and_is_never_under_half_its_step()
     {
        let mut retry = Delays::new();
        let now = Instant::now();
        let stream = Some(Stream { since: now, delivered: false });
        for step in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000].map(Duration::from_millis) {
            let delay = retry.after(RetryRule::BackOff, stream, now);
            assert!(step / 2 <= delay && delay <= step, "{delay:?} of {step:?}");
        }
        retry.succeeded();
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
    fn a_stream_that_delivered_is_replaced_at_once_but_not_sooner_than_a_second_after_its_start() {
        let mut retry = Delays::new();
        let now = Instant::now() + HOUR;
        let mut after = |age| {
            retry
                .after(RetryRule::BackOff, Some(Stream { since: now - age, delivered: true }), now)
                .as_millis()
        };
        assert_eq!(after(HOUR), 0);
        assert_eq!(after(Duration::from_millis(300)), 700);
        assert_eq!(after(Duration::ZERO), 1000);
    }
}
