//! Follows the X.509-SVIDs of this process: calls, waits, and calls again when a call ends.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::client::{CallError, Client, Received, X509SvidStream};
use super::endpoint::Endpoint;
use super::failure::{Failure, Remedy};
use crate::identity::offered::OfferedX509Context;
use crate::wait::{Interrupt, Waiter};

/// While nothing listens. The longest delay leaves time for the call itself, so that new files are
/// there within a second of the agent's return.
const AWAIT_ENDPOINT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(800));
/// While an agent answers no; with full jitter.
const BACK_OFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// After an answer that the standard says not to retry.
const GIVEN_UP: Duration = Duration::from_secs(60);
/// A stream that delivered is replaced at once, but no sooner than this after it began: an agent
/// that hangs up after each message must not be called in a tight loop.
const BETWEEN_CALLS: Duration = Duration::from_secs(1);

/// What a watch brings.
pub enum Event {
    /// A message, not yet checked.
    Offered(OfferedX509Context),
    /// A message that cannot be decoded; the stream goes on.
    Undecodable(String),
    /// The call failed, or ended. The next one is made after `retry_in`.
    Failed {
        /// Why.
        failure: Failure,
        /// How long until the next call.
        retry_in: Duration,
        /// The stream had delivered before it ended.
        delivered: bool,
    },
    /// The wait was interrupted.
    Interrupted(Interrupt),
}

/// One endpoint, called without end.
pub struct Watch<'a> {
    waiter: &'a Waiter,
    client: Client,
    call: Call,
    endpoint_backoff: Backoff,
    call_backoff: Backoff,
}

enum Call {
    Due(Instant),
    Open { stream: Box<X509SvidStream>, since: Instant, delivered: bool },
}

impl<'a> Watch<'a> {
    /// Calls nobody yet.
    pub fn new(waiter: &'a Waiter, endpoint: Endpoint) -> Self {
        Self {
            waiter,
            client: Client::new(endpoint),
            call: Call::Due(Instant::now()),
            endpoint_backoff: AWAIT_ENDPOINT,
            call_backoff: BACK_OFF,
        }
    }

    /// When the open call was made, and whether it has delivered; `None` between two calls.
    pub fn open_call(&self) -> Option<(Instant, bool)> {
        match self.call {
            Call::Due(_) => None,
            Call::Open { since, delivered, .. } => Some((since, delivered)),
        }
    }

    /// Drops an open call, so that the next wait makes a new one at once.
    pub fn hang_up(&mut self) {
        self.call = Call::Due(Instant::now());
    }

    /// Waits for what comes next: calls when a call is due, and listens on the open one.
    pub fn next(&mut self, deadline: Instant) -> Event {
        loop {
            let event = match &mut self.call {
                Call::Due(at) if *at > Instant::now() => {
                    let at = *at;
                    match self.waiter.until(at.min(deadline)) {
                        Interrupt::Deadline if at <= deadline => continue,
                        interrupt => Event::Interrupted(interrupt),
                    }
                }
                Call::Due(_) => match self.client.fetch_x509_svid(self.waiter, deadline) {
                    Ok(stream) => {
                        self.endpoint_backoff.reset();
                        self.call =
                            Call::Open { stream: Box::new(stream), since: Instant::now(), delivered: false };
                        continue;
                    }
                    Err(CallError::Failed(failure)) => self.failed(failure),
                    Err(CallError::Interrupted(interrupt)) => Event::Interrupted(interrupt),
                },
                Call::Open { stream, delivered, .. } => match stream.next(self.waiter, deadline) {
                    Ok(Received::Message(offered)) => {
                        *delivered = true;
                        Event::Offered(offered)
                    }
                    Ok(Received::Undecodable(cause)) => Event::Undecodable(cause),
                    Ok(Received::End(failure)) => self.failed(failure),
                    Err(interrupt) => Event::Interrupted(interrupt),
                },
            };
            return event;
        }
    }

    fn failed(&mut self, failure: Failure) -> Event {
        let (since, delivered) = self.open_call().unwrap_or((Instant::now(), false));
        let retry_in = match failure.remedy() {
            Remedy::GiveUp => GIVEN_UP,
            Remedy::AwaitEndpoint => {
                self.call_backoff.reset();
                self.endpoint_backoff.advance()
            }
            Remedy::BackOff if delivered => {
                self.call_backoff.reset();
                BETWEEN_CALLS.saturating_sub(since.elapsed())
            }
            Remedy::BackOff => self.call_backoff.advance_with_jitter(),
        };
        self.call = Call::Due(Instant::now() + retry_in);
        Event::Failed { failure, retry_in, delivered }
    }
}
