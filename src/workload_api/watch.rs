//! Follows what one procedure offers: calls, waits, and calls again when a call ends.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::client::{Client, OpenCall, Received};
use super::connect::Connecting;
use super::failure::{Failure, Remedy};
use super::procedure::Procedure;
use crate::backoff::Backoff;
use crate::wait::Waiter;

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
pub enum Event<Offered> {
    /// A response, not yet checked.
    Offered(Offered),
    /// A response that cannot be decoded.
    Undecodable(String),
    /// The call failed, or ended. The next one is made after `retry_in`.
    Failed {
        /// Why.
        failure: Failure,
        /// How long until the next call.
        retry_in: Duration,
        /// The call had delivered before it ended.
        delivered: bool,
    },
}

/// One procedure of one endpoint, called without end.
pub struct Watch<'a, P: Procedure> {
    waiter: &'a Waiter,
    client: Client,
    procedure: P,
    call: Call<'a, P>,
    endpoint_backoff: Backoff,
    call_backoff: Backoff,
}

enum Call<'a, P: Procedure> {
    /// To be made at this time, or when [`Watch::call_at`] says so.
    Due(Option<Instant>),
    Connecting(Connecting<'a>),
    Open {
        call: OpenCall<P>,
        since: Instant,
        delivered: bool,
    },
}

impl<'a, P: Procedure> Watch<'a, P> {
    /// The first call is due, and made by the first poll.
    pub fn new(waiter: &'a Waiter, client: Client, procedure: P) -> Self {
        Self {
            waiter,
            client,
            procedure,
            call: Call::Due(Some(Instant::now())),
            endpoint_backoff: AWAIT_ENDPOINT,
            call_backoff: BACK_OFF,
        }
    }

    /// When the open call was made, and whether it has delivered; `None` between two calls.
    pub fn open_call(&self) -> Option<(Instant, bool)> {
        match self.call {
            Call::Due(_) | Call::Connecting(_) => None,
            Call::Open { since, delivered, .. } => Some((since, delivered)),
        }
    }

    /// Whether there is no call, and none to come until [`Self::call_at`] says so: after the
    /// response of a procedure with single responses.
    pub fn is_idle(&self) -> bool {
        matches!(self.call, Call::Due(None))
    }

    /// What it is that nothing has been heard of, for people: a call, or a connection.
    pub fn silence(&self) -> String {
        let endpoint = self.client.endpoint();
        match self.call {
            Call::Open { .. } => {
                format!("{endpoint} accepted the call and said nothing (is the agent stopped or overloaded?)")
            }
            _ => format!("{endpoint} did not accept a connection in time"),
        }
    }

    /// Drops an open call, and makes the next one at this time.
    pub fn call_at(&mut self, time: Instant) {
        self.call = Call::Due(Some(time));
    }

    /// After a response that is of no use: calls again as after a refusal. For a procedure with
    /// single responses; a stream just goes on.
    pub fn back_off(&mut self) -> Duration {
        let retry_in = self.call_backoff.advance_with_jitter();
        self.call_at(Instant::now() + retry_in);
        retry_in
    }

    /// When to poll again even if nothing is ready.
    pub fn wake_at(&self) -> Option<Instant> {
        match &self.call {
            Call::Due(at) => *at,
            Call::Connecting(connecting) => Some(connecting.give_up_at()),
            Call::Open { .. } => None,
        }
    }

    /// What comes next: calls when a call is due, and listens on the open one.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event<P::Offered>> {
        loop {
            match &mut self.call {
                Call::Due(at) if at.is_none_or(|at| at > Instant::now()) => return Poll::Pending,
                Call::Due(_) => match Connecting::to(self.client.endpoint(), self.waiter) {
                    Ok(connecting) => self.call = Call::Connecting(connecting),
                    Err(errno) => return Poll::Ready(self.unreachable(errno)),
                },
                Call::Connecting(connecting) => match ready!(connecting.poll()) {
                    Ok(socket) => {
                        self.endpoint_backoff.reset();
                        match self.client.call(&self.procedure, socket) {
                            Ok(call) => {
                                self.call = Call::Open { call, since: Instant::now(), delivered: false };
                            }
                            Err(failure) => return Poll::Ready(self.failed(failure)),
                        }
                    }
                    Err(errno) => return Poll::Ready(self.unreachable(errno)),
                },
                Call::Open { call, delivered, .. } => {
                    return Poll::Ready(match ready!(call.poll(context)) {
                        Received::Response(offered) => {
                            *delivered = true;
                            self.close_if_single();
                            Event::Offered(offered)
                        }
                        Received::Undecodable(cause) => {
                            self.close_if_single();
                            Event::Undecodable(cause)
                        }
                        Received::End(failure) => self.failed(failure),
                    });
                }
            }
        }
    }

    /// When to call next is for the caller to say, who knows how long a response is good for.
    fn close_if_single(&mut self) {
        if !P::STREAMS {
            self.call = Call::Due(None);
        }
    }

    /// The response was good: what went wrong before does not count any more.
    pub fn settle(&mut self) {
        self.call_backoff.reset();
    }

    fn unreachable(&mut self, errno: nix::errno::Errno) -> Event<P::Offered> {
        self.failed(Failure::unreachable(self.client.endpoint(), errno))
    }

    fn failed(&mut self, failure: Failure) -> Event<P::Offered> {
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
        self.call_at(Instant::now() + retry_in);
        Event::Failed { failure, retry_in, delivered }
    }
}
