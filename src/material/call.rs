//! One RPC that is repeated: a stream when it has ended, a single call when its source asks for it. Its responses, its
//! failures, and their log lines.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use log::Level;
use nix::errno::Errno;

use super::call_counts::CallCounts;
use super::denials::Denials;
use super::failure_log::FailureLog;
use super::part::{Agent, Call, Until, Update};
use super::profile_off::ProfileOff;
use super::rejection::Rejection;
use crate::logging::retrying_in;
use crate::time::clock::Now;
use crate::time::timing::{SILENT_CALL, SINGLE_RESPONSE};
use crate::workload_api::call_error::{CallError, RetryRule};
use crate::workload_api::client::{OpenCall, Received};
use crate::workload_api::connect::Connecting;
use crate::workload_api::retry::{Delays, Stream};
use crate::workload_api::rpc::Rpc;

/// The next step after an unusable response of a stream.
const AWAITING: &str = "; waiting for the agent's next response";

/// An RPC, and its calls one after the other.
pub(super) struct RetriedCall<'a, R: Rpc> {
    agent: Agent<'a>,
    /// The RPC with its parameters. Other parameters apply from the next call on: an open one goes on.
    pub(super) rpc: R,
    state: State<'a, R>,
    delays: Delays,
    pub(super) failures: FailureLog,
    counts: CallCounts,
    denials: Denials,
    /// Since when nothing good has come, though it was asked for.
    waits_since: Option<Instant>,
    /// The beginning of the call whose silence is in the log.
    silence_told: Option<Instant>,
}

enum State<'a, R: Rpc> {
    /// No call is open or due: [`RetriedCall::call_at`] makes the next one.
    Idle,
    /// The next call is made at this time.
    Due(Instant),
    Connecting(Connecting<'a>),
    Open(OpenCall<R>, Stream),
    /// The agent has the RPC's profile turned off, as the message says.
    Off(ProfileOff, String),
}

impl<R: Rpc> Call for RetriedCall<'_, R> {
    fn describe_wait(&self) -> String {
        let endpoint = self.agent.client.endpoint();
        match self.state {
            State::Open(_, stream) if stream.spoke => format!("{endpoint} has sent nothing usable"),
            State::Open(..) => {
                format!("{endpoint} accepted the call and sent nothing (is the agent stopped or overloaded?)")
            }
            _ => format!("{endpoint} is not connected yet"),
        }
    }

    fn counts(&self) -> &CallCounts {
        &self.counts
    }

    fn waits_since(&self) -> Option<Instant> {
        self.waits_since
    }

    fn retry_now(&mut self, now: Instant) {
        if self.waits_since.is_some() && matches!(self.state, State::Due(_)) {
            self.call_at(now);
        }
    }

    fn ask_again(&mut self, now: Instant) {
        if self.is_postponed() || !R::STREAMS && self.stream().is_some() {
            self.call_at(now);
        }
    }

    fn fetch_again(&mut self, now: Instant) {
        if self.is_postponed() || R::STREAMS && !self.is_off() {
            self.call_at(now);
        }
    }

    fn agent_is_new(&mut self, now: Instant) {
        if self.is_off() {
            self.call_at(now);
        }
    }

    fn is_off(&self) -> bool {
        matches!(self.state, State::Off(..))
    }
}

impl<'a, R: Rpc> RetriedCall<'a, R> {
    /// The first poll makes the first call. `label` precedes its messages in the log, which are at most as
    /// severe as `max_level`.
    pub(super) fn new(label: String, max_level: Level, rpc: R, agent: &Agent<'a>, now: Now) -> Self {
        Self {
            agent: agent.clone(),
            rpc,
            state: State::Due(now.instant),
            delays: Delays::new(),
            failures: FailureLog::new(label, max_level, agent.share.clone()),
            counts: CallCounts::new(R::NAME),
            denials: Denials::default(),
            waits_since: None,
            silence_told: None,
        }
    }

    /// The open call, if there is one.
    pub(super) fn stream(&self) -> Option<Stream> {
        match self.state {
            State::Open(_, stream) => Some(stream),
            _ => None,
        }
    }

    /// Whether no call is open or due, as after the response of an RPC with a single response:
    /// [`call_at`](Self::call_at) makes the next one.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether the open call offers what it is for.
    pub(super) fn offers(&self) -> bool {
        self.stream().is_some_and(|stream| stream.offers)
    }

    /// Whether no call is open or being made.
    fn is_postponed(&self) -> bool {
        matches!(self.state, State::Idle | State::Due(_))
    }

    /// Drops an open call, and makes the next one at this time.
    pub(super) fn call_at(&mut self, time: Instant) {
        self.counts.is_connected &= !R::STREAMS;
        self.state = State::Due(time);
    }

    /// When to poll again even if nothing is ready.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Idle => None,
            State::Due(at) => Some(*at),
            State::Connecting(connecting) => Some(connecting.give_up_at),
            State::Open(_, stream) if stream.delivered => self.denials.ask_at(),
            State::Open(_, stream) if !stream.spoke && self.silence_told != Some(stream.since) => {
                Some(stream.since + SILENT_CALL)
            }
            State::Open(_, stream) => (!R::STREAMS).then_some(stream.since + SINGLE_RESPONSE),
            State::Off(off, _) => Some(off.look_at),
        }
    }

    /// The next response, not yet checked, or the update that a failure causes. `is_offered`: the open stream
    /// of another RPC offers the identity, so that a denial here does not withdraw it.
    pub(super) fn poll(
        &mut self,
        is_offered: bool,
        now: Now,
        context: &mut Context<'_>,
    ) -> Poll<Result<R::Raw, Update>> {
        loop {
            let Poll::Ready(received) = self.advance(now.instant, context) else {
                return self
                    .tell_silence(now.instant)
                    .map_or(Poll::Pending, |update| Poll::Ready(Err(update)));
            };
            self.counts.is_connected |= !matches!(received, Received::End(_));
            let update = match received {
                Received::Response(raw) => return Poll::Ready(Ok(raw)),
                Received::Undecodable(cause) => {
                    self.denials.interrupted();
                    let rejection = Rejection::Undecodable { rpc: R::NAME, cause };
                    Some(self.unusable(&rejection, now))
                }
                Received::End(error) => self.failed(&error, is_offered, now.instant),
            };
            if let Some(update) = update {
                return Poll::Ready(Err(update));
            }
        }
    }

    /// Calls when a call is due, and returns what comes next.
    fn advance(&mut self, now: Instant, context: &mut Context<'_>) -> Poll<Received<R::Raw>> {
        loop {
            let endpoint = self.agent.client.endpoint();
            let unreachable = |errno: Errno| Received::End(CallError::unreachable(endpoint, errno));
            match &mut self.state {
                State::Idle => return Poll::Pending,
                State::Due(at) if *at > now => return Poll::Pending,
                State::Off(off, _) if now < off.look_at => return Poll::Pending,
                State::Off(off, message) => {
                    self.failures.remind(Level::Error, message, now);
                    if off.look_for_new_socket(endpoint, now) {
                        self.state = State::Due(now);
                    }
                }
                State::Due(_) => {
                    self.waits_since.get_or_insert(now);
                    match Connecting::to(endpoint, self.agent.waiter, now) {
                        Ok(connecting) => self.state = State::Connecting(connecting),
                        Err(errno) => return Poll::Ready(unreachable(errno)),
                    }
                }
                State::Connecting(connecting) => match ready!(connecting.poll(now)) {
                    Ok(socket) => {
                        self.delays.connecting.reset();
                        match self.agent.client.call(&self.rpc, socket) {
                            Ok(call) => {
                                self.state = State::Open(call, Stream::new(now));
                            }
                            Err(error) => return Poll::Ready(Received::End(error)),
                        }
                    }
                    Err(errno) => return Poll::Ready(unreachable(errno)),
                },
                State::Open(call, stream) => {
                    let received = match call.poll(context) {
                        Poll::Ready(received) => received,
                        // Before the identity counts as withdrawn, the agent is asked once more.
                        Poll::Pending
                            if stream.delivered && self.denials.ask_at().is_some_and(|at| at <= now) =>
                        {
                            self.call_at(now);
                            continue;
                        }
                        // One clock decides all deadlines: ours.
                        Poll::Pending if R::STREAMS || now < stream.since + SINGLE_RESPONSE => {
                            return Poll::Pending;
                        }
                        Poll::Pending => Received::End(CallError::NoAnswer { endpoint: endpoint.clone() }),
                    };
                    let is_message = !matches!(received, Received::End(_));
                    stream.spoke |= is_message;
                    stream.delivered |= matches!(received, Received::Response(_));
                    if !R::STREAMS && is_message {
                        // After its single response, the source decides when to call next.
                        self.state = State::Idle;
                    }
                    return Poll::Ready(received);
                }
            }
        }
    }

    /// Logs a call that the agent has accepted and not answered, once for each call.
    fn tell_silence(&mut self, now: Instant) -> Option<Update> {
        let stream = self.stream().filter(|stream| !stream.spoke && now >= stream.since + SILENT_CALL)?;
        if self.silence_told.replace(stream.since) == Some(stream.since) {
            return None;
        }
        let message = self.describe_wait();
        Some(Update::Trouble(self.failures.log(Level::Warn, message, "; waiting", now)))
    }

    /// Takes the end of a call.
    fn failed(&mut self, error: &CallError, is_offered: bool, now: Instant) -> Option<Update> {
        if let Some(meaning) = R::IF_OFF
            && error.is_of_absent_rpc()
        {
            return Some(self.turned_off(&format!("{meaning}: {}", error.without_hint()), error, now));
        }
        let (stream, rule, offered) = (self.stream(), error.retry_rule(), self.offers());
        let delivered = stream.is_some_and(|stream| stream.delivered);
        if rule == RetryRule::AwaitEndpoint || delivered {
            self.counts.ended += 1;
        }
        let retry_in = self.delays.after(rule, stream, now);
        self.counts.failed(error.code());
        if self.agent.until == Until::FirstAnswer {
            // The call stays as it is: to drop it, gRPC may need threads that it could not start.
            return Some(Update::GaveUp(self.failures.labelled(error)));
        }
        self.call_at(now + retry_in);
        let next = retrying_in(retry_in);
        if self.agent.until == Until::FirstSuccess && rule == RetryRule::Rarely {
            return Some(Update::GaveUp(self.failures.labelled(error)));
        }
        let is_denied = error.is_permission_denied();
        // The end of a stream is no absence: that is what the next call finds.
        if !is_denied && (!delivered || rule == RetryRule::Rarely) {
            self.denials.interrupted();
        }
        if !is_denied && rule != RetryRule::Rarely {
            self.failures.agent_is_away(now);
        }
        if is_denied && self.withdraws(offered, is_offered, now) {
            return Some(Update::Withdrawn { cause: error.to_string(), next });
        }
        // A restarting agent ends its streams: this is a failure only if the next call fails too.
        if rule == RetryRule::BackOff && delivered {
            log::debug!("{}{next}", self.failures.labelled(error));
            return None;
        }
        let level = if rule == RetryRule::Rarely { Level::Error } else { Level::Warn };
        Some(Update::Trouble(self.failures.log(level, error, &next, now)))
    }

    /// The agent has the RPC's profile turned off. Nothing that was delivered before is withdrawn by that.
    fn turned_off(&mut self, message: &str, error: &CallError, now: Instant) -> Update {
        self.counts.failed(error.code());
        self.denials.interrupted();
        let off = ProfileOff::new(self.agent.client.endpoint(), now);
        let next = off.next_step();
        self.state = State::Off(off, message.to_owned());
        match self.agent.until {
            Until::FirstAnswer | Until::FirstSuccess => Update::GaveUp(self.failures.labelled(message)),
            Until::Stopped => Update::Trouble(self.failures.log(Level::Error, message, next, now)),
        }
    }

    /// The agent denies the identity. Returns whether it withdraws it: at once if the same call has offered it, or
    /// else if that has lasted. What another source's stream offers is not withdrawn: the agent may be between two
    /// updates, and is asked again later.
    fn withdraws(&mut self, offered: bool, is_offered: bool, now: Instant) -> bool {
        if is_offered {
            self.denials.denied_beside_an_offer(offered, now);
        }
        !is_offered && self.agent.until == Until::Stopped && self.denials.denied(offered, now)
    }

    /// A response is unusable: waits for the next one, or calls again later.
    pub(super) fn unusable(&mut self, rejection: &Rejection, now: Now) -> Update {
        let next = self.after_unusable(rejection, now);
        if self.agent.until == Until::FirstAnswer {
            return Update::GaveUp(self.failures.labelled(rejection));
        }
        Update::Trouble(self.failures.log(Level::Error, rejection, &next, now.instant))
    }

    /// What comes after an unusable response, for the end of its log line.
    fn after_unusable(&mut self, rejection: &Rejection, now: Now) -> String {
        self.counts.rejected += 1;
        if R::STREAMS {
            return AWAITING.to_owned();
        }
        let retry_in = self.delays.calling.advance_with_jitter().max(rejection.wait(now));
        self.call_at(now.instant + retry_in);
        retrying_in(retry_in)
    }

    /// What a response comes to, which its source has taken, or the update that its rejection causes. One without the
    /// identity is a denial.
    pub(super) fn settle<Good>(
        &mut self,
        taken: Result<Good, Rejection>,
        is_offered: bool,
        now: Now,
    ) -> Result<Good, Update> {
        let offered = self.offers();
        let lacks_identity = matches!(taken, Err(Rejection::NotOffered(..)));
        if let State::Open(_, stream) = &mut self.state {
            stream.offers = match &taken {
                Err(Rejection::Flawed(_) | Rejection::Undecodable { .. }) => offered,
                _ => !lacks_identity,
            };
        }
        if lacks_identity {
            self.counts.is_connected = false;
        } else {
            self.denials = Denials::default();
        }
        taken.map_err(|rejection| {
            if lacks_identity && self.withdraws(offered, is_offered, now.instant) {
                let next = self.after_unusable(&rejection, now);
                return Update::Withdrawn { cause: rejection.to_string(), next };
            }
            self.unusable(&rejection, now)
        })
    }

    /// The response was good: earlier failures no longer count.
    pub(super) fn served(&mut self, now: Now) {
        self.failures.over(self.agent.client.endpoint(), now.instant);
        self.succeeded();
    }

    /// The response can be used, and yet something about it is logged as a failure.
    pub(super) fn succeeded(&mut self) {
        self.waits_since = None;
        self.delays.calling.reset();
    }

    /// Replaces the open stream, if there is one, by a new call at once; but an agent that has the profile turned
    /// off is not asked again.
    pub(super) fn call_now(&mut self, now: Now) {
        if !self.is_off() {
            self.call_at(now.instant);
        }
    }

    /// Replaces a silent stream by a new call; `message` says what is missing.
    pub(super) fn replace(&mut self, message: &str, now: Now) -> Update {
        self.failures.agent_is_away(now.instant);
        if self.stream().is_some_and(|stream| !stream.delivered) {
            self.denials.interrupted();
        }
        self.call_now(now);
        let next = "; calling the agent again";
        Update::Trouble(self.failures.log(Level::Warn, message, next, now.instant))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::rc::Rc;
    use std::time::Duration;

    use futures_util::StreamExt;
    use futures_util::stream::{iter, pending};

    use super::*;
    use crate::wait::Waiter;
    use crate::workload_api::client::{Client, SimulatedAgent, start_grpc};
    use crate::workload_api::endpoint::Endpoint;
    use crate::workload_api::rpc::{FetchJwtSvid, FetchX509Svid, Messages};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_call_without_an_answer_is_told_after_5_seconds_and_ends_by_its_own_clock_and_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        // It accepts connections, and never speaks.
        let _agent = UnixListener::bind(&socket).unwrap();
        let waiter = Waiter::new().unwrap();
        let client = Client::new(Endpoint::Unix(socket), start_grpc());
        let rpc = FetchJwtSvid { audience: vec!["one".to_owned()], id: None };
        let agent =
            Agent { client: &client, waiter: &waiter, until: Until::Stopped, share: Default::default() };
        let start = Now::look();
        let mut call = RetriedCall::new("JWT-SVID a: ".to_owned(), Level::Error, rpc, &agent, start);
        let end = start.instant + SINGLE_RESPONSE;
        for second in 0..45 {
            let now = start + second * SECOND;
            match call.poll(false, now, &mut waiter.context()) {
                Poll::Pending => assert_ne!(second, 5),
                Poll::Ready(Err(Update::Trouble(message))) => {
                    assert_eq!(second, 5);
                    assert!(message.starts_with("JWT-SVID a: unix:") && message.contains("sent nothing"));
                }
                Poll::Ready(_) => panic!("it has an answer"),
            }
        }
        assert_eq!(call.next_deadline(), Some(end));
        let now = start + SINGLE_RESPONSE;
        let Poll::Ready(Err(Update::Trouble(message))) = call.poll(false, now, &mut waiter.context()) else {
            panic!("it waits on")
        };
        assert!(message.contains("did not answer within 45s"), "{message}");
        assert!(call.next_deadline().is_some_and(|at| at > end));
    }

    /// It sends what is no response, and is silent then.
    struct Garbled;

    impl SimulatedAgent for Garbled {
        fn call(&self, _rpc: &'static str, _request: &[u8]) -> Messages<Vec<u8>> {
            Box::new(iter([Ok(vec![0])]).chain(pending()))
        }
    }

    #[test]
    fn an_agent_that_has_sent_something_undecodable_has_not_sent_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let waiter = Waiter::new().unwrap();
        let client = Client::new(Endpoint::Unix(socket), start_grpc()).simulated(Rc::new(Garbled));
        let agent =
            Agent { client: &client, waiter: &waiter, until: Until::Stopped, share: Default::default() };
        let start = Now::look();
        let mut call = RetriedCall::new(String::new(), Level::Error, FetchX509Svid, &agent, start);
        let Poll::Ready(Err(Update::Trouble(message))) = call.poll(false, start, &mut waiter.context())
        else {
            panic!("it takes it")
        };
        assert!(message.contains("is no X509SVIDResponse"), "{message}");
        assert!(!call.stream().unwrap().delivered);
        assert_eq!(call.next_deadline(), None);
        assert!(call.poll(false, start + 10 * SECOND, &mut waiter.context()).is_pending());
    }
}
