//! Follows one RPC: calls, waits, and calls again when a call ends.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::call_error::CallError;
use super::client::{Client, OpenCall, Received};
use super::connect::Connecting;
use super::retry::{Retry, Stream};
use super::rpc::Rpc;
use crate::timing::SINGLE_RESPONSE;
use crate::wait::Waiter;

/// What a caller returns.
pub(crate) enum Event<Raw> {
    /// A response, not yet checked.
    Response(Raw),
    /// A response that cannot be decoded.
    Undecodable(String),
    /// The call failed, or ended.
    Failed {
        /// Why.
        error: CallError,
        /// How long until the next call.
        retry_in: Duration,
        /// Whether the call had brought a response.
        delivered: bool,
    },
}

/// One RPC of one endpoint, called without end.
pub(crate) struct Caller<'a, R: Rpc> {
    waiter: &'a Waiter,
    client: Client,
    rpc: R,
    state: State<'a, R>,
    retry: Retry,
}

enum State<'a, R: Rpc> {
    /// No call is open or due: [`Caller::call_at`] makes the next one.
    Idle,
    /// The next call is made at this time.
    Due(Instant),
    Connecting(Connecting<'a>),
    Open(OpenCall<R>, Stream),
}

impl<'a, R: Rpc> Caller<'a, R> {
    /// The first poll makes the first call.
    pub(crate) fn new(waiter: &'a Waiter, client: Client, rpc: R, now: Instant) -> Self {
        Self { waiter, client, rpc, state: State::Due(now), retry: Retry::new() }
    }

    /// The open call, if there is one.
    pub(crate) fn stream(&self) -> Option<Stream> {
        match self.state {
            State::Open(_, stream) => Some(stream),
            _ => None,
        }
    }

    /// Whether no call is open or due, as after the response of an RPC with a single response:
    /// [`call_at`](Self::call_at) makes the next one.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Says what the caller waits for, for the log.
    pub(crate) fn describe_wait(&self) -> String {
        let endpoint = self.client.endpoint();
        match self.state {
            State::Open(..) => {
                format!("{endpoint} accepted the call and sent nothing (is the agent stopped or overloaded?)")
            }
            _ => format!("{endpoint} did not accept a connection in time"),
        }
    }

    /// Drops an open call, and makes the next one at this time.
    pub(crate) fn call_at(&mut self, time: Instant) {
        self.state = State::Due(time);
    }

    /// Makes a postponed call at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if matches!(self.state, State::Due(_)) {
            self.call_at(now);
        }
    }

    /// Makes the agent send again what it has sent before.
    pub(crate) fn fetch_again(&mut self, now: Instant) {
        if matches!(self.state, State::Idle | State::Due(_)) || R::STREAMS {
            self.call_at(now);
        }
    }

    /// Calls again later, after an unusable response; returns the delay, which is at least `wait`. For an
    /// RPC with a single response: a stream just goes on.
    pub(crate) fn retry_later(&mut self, wait: Duration, now: Instant) -> Duration {
        let retry_in = self.retry.after_unusable_response().max(wait);
        self.call_at(now + retry_in);
        retry_in
    }

    /// The response was good: earlier failures no longer count.
    pub(crate) fn succeeded(&mut self) {
        self.retry.succeeded();
    }

    /// Changes the parameters of the calls to come; an open call goes on.
    pub(crate) fn rpc_mut(&mut self) -> &mut R {
        &mut self.rpc
    }

    /// When to poll again even if nothing is ready.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Due(at) => Some(*at),
            State::Connecting(connecting) => Some(connecting.give_up_at()),
            State::Open(_, stream) if !R::STREAMS => Some(stream.since + SINGLE_RESPONSE),
            State::Idle | State::Open(..) => None,
        }
    }

    /// Calls when a call is due, and returns the next event of the open one.
    pub(crate) fn poll(&mut self, now: Instant, context: &mut Context<'_>) -> Poll<Event<R::Raw>> {
        loop {
            match &mut self.state {
                State::Idle => return Poll::Pending,
                State::Due(at) if *at > now => return Poll::Pending,
                State::Due(_) => match Connecting::to(self.client.endpoint(), self.waiter, now) {
                    Ok(connecting) => self.state = State::Connecting(connecting),
                    Err(errno) => return Poll::Ready(self.unreachable(errno, now)),
                },
                State::Connecting(connecting) => match ready!(connecting.poll(now)) {
                    Ok(socket) => {
                        self.retry.connected();
                        match self.client.call(&self.rpc, socket) {
                            Ok(call) => {
                                self.state = State::Open(call, Stream { since: now, delivered: false });
                            }
                            Err(error) => return Poll::Ready(self.failed(error, now)),
                        }
                    }
                    Err(errno) => return Poll::Ready(self.unreachable(errno, now)),
                },
                State::Open(call, stream) => {
                    let Poll::Ready(received) = call.poll(context) else {
                        // One clock decides all deadlines: ours.
                        if self.next_deadline().is_none_or(|at| at > now) {
                            return Poll::Pending;
                        }
                        let endpoint = self.client.endpoint().clone();
                        let error = CallError::NoAnswer { endpoint, within: SINGLE_RESPONSE };
                        return Poll::Ready(self.failed(error, now));
                    };
                    return Poll::Ready(match received {
                        Received::Response(raw) => {
                            stream.delivered = true;
                            self.close_if_single();
                            Event::Response(raw)
                        }
                        Received::Undecodable(cause) => {
                            self.close_if_single();
                            Event::Undecodable(cause)
                        }
                        Received::End(error) => self.failed(error, now),
                    });
                }
            }
        }
    }

    /// After its single response, the source decides when to call next.
    fn close_if_single(&mut self) {
        if !R::STREAMS {
            self.state = State::Idle;
        }
    }

    fn unreachable(&mut self, errno: Errno, now: Instant) -> Event<R::Raw> {
        self.failed(CallError::unreachable(self.client.endpoint(), errno), now)
    }

    fn failed(&mut self, error: CallError, now: Instant) -> Event<R::Raw> {
        let stream = self.stream();
        let retry_in = self.retry.after(error.remedy(), stream, now);
        self.call_at(now + retry_in);
        Event::Failed { error, retry_in, delivered: stream.is_some_and(|stream| stream.delivered) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::workload_api::client::start_grpc;
    use crate::workload_api::endpoint::Endpoint;
    use crate::workload_api::rpc::FetchJwtSvid;

    #[test]
    fn a_call_without_an_answer_ends_by_the_callers_own_clock_and_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        // It accepts connections, and never speaks.
        let _agent = UnixListener::bind(&socket).unwrap();
        let waiter = Waiter::new().unwrap();
        let client = Client::new(Endpoint::Unix(socket), start_grpc());
        let rpc = FetchJwtSvid { audience: vec!["one".to_owned()], id: None };
        let start = Instant::now();
        let mut caller = Caller::new(&waiter, client, rpc, start);
        let end = start + SINGLE_RESPONSE;
        for now in [start, end - Duration::from_millis(1)] {
            assert!(caller.poll(now, &mut waiter.context()).is_pending());
            assert_eq!(caller.next_deadline(), Some(end));
        }
        let Poll::Ready(Event::Failed { error, retry_in, delivered: false }) =
            caller.poll(end, &mut waiter.context())
        else {
            panic!("it waits on")
        };
        assert!(error.to_string().contains("did not answer within 45s"), "{error}");
        assert_eq!(caller.next_deadline(), Some(end + retry_in));
    }
}
