//! One RPC that is repeated: a stream when it has ended, a single call when its source asks for it. Its responses, its
//! failures, and their log lines.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use log::Level;
use nix::errno::Errno;

use super::call_counts::CallCounts;
use super::failure_log::FailureLog;
use super::part::{Agent, Call, Until, Update};
use super::profile_off::ProfileOff;
use super::rejection::Rejection;
use crate::logging::retrying_in;
use crate::time::clock::Now;
use crate::time::timing::{AFTER_RETURN, DENIAL_IS_WITHDRAWAL, SILENT_CALL, SINGLE_RESPONSE};
use crate::workload_api::call_error::{CallError, RetryRule};
use crate::workload_api::client::{OpenCall, Received};
use crate::workload_api::connect::Connecting;
use crate::workload_api::retry::{Delays, Stream};
use crate::workload_api::rpc::Rpc;

/// The next step while the agent has the RPC's profile turned off.
const AFTER_RESTART: &str = "; asking again after the agent has restarted";
/// The next step after an unusable response of a stream.
const AWAITING: &str = "; waiting for the agent's next response";

/// An RPC, and its calls one after the other.
pub(super) struct RetriedCall<'a, R: Rpc> {
    agent: Agent<'a>,
    /// Its parameters are those of the calls to come; an open call goes on.
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
        if matches!(self.state, State::Idle | State::Due(_)) {
            self.call_at(now);
        }
    }

    fn fetch_again(&mut self, now: Instant) {
        if R::STREAMS && !matches!(self.state, State::Off(..)) {
            self.call_at(now);
        }
        self.ask_again(now);
    }

    fn agent_is_new(&mut self, now: Instant) {
        if matches!(self.state, State::Off(..)) {
            self.call_at(now);
        }
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

    /// Whether the agent has the RPC's profile turned off.
    pub(super) fn is_off(&self) -> bool {
        matches!(self.state, State::Off(..))
    }

    /// Drops an open call, and makes the next one at this time.
    pub(super) fn call_at(&mut self, time: Instant) {
        self.state = State::Due(time);
    }

    /// When to poll again even if nothing is ready.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Idle => None,
            State::Due(at) => Some(*at),
            State::Connecting(connecting) => Some(connecting.give_up_at()),
            State::Open(_, stream) if stream.delivered => None,
            State::Open(_, stream) if self.silence_told != Some(stream.since) => {
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
            let update = match received {
                Received::Response(raw) => {
                    self.counts.is_connected = true;
                    self.denials = Denials::default();
                    return Poll::Ready(Ok(raw));
                }
                Received::Undecodable(cause) => {
                    self.counts.is_connected = true;
                    let rejection = Rejection::Undecodable { message: R::RESPONSE, cause };
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
                    if off.is_over(endpoint, now) {
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
                        self.delays.connected();
                        match self.agent.client.call(&self.rpc, socket) {
                            Ok(call) => {
                                self.state = State::Open(call, Stream { since: now, delivered: false });
                            }
                            Err(error) => return Poll::Ready(Received::End(error)),
                        }
                    }
                    Err(errno) => return Poll::Ready(unreachable(errno)),
                },
                State::Open(call, stream) => {
                    let received = match call.poll(context) {
                        Poll::Ready(received) => received,
                        // One clock decides all deadlines: ours.
                        Poll::Pending if R::STREAMS || now < stream.since + SINGLE_RESPONSE => {
                            return Poll::Pending;
                        }
                        Poll::Pending => Received::End(CallError::NoAnswer { endpoint: endpoint.clone() }),
                    };
                    stream.delivered |= matches!(received, Received::Response(_));
                    if !R::STREAMS && !matches!(received, Received::End(_)) {
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
        let stream = self.stream().filter(|stream| !stream.delivered && now >= stream.since + SILENT_CALL)?;
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
        let (stream, rule) = (self.stream(), error.retry_rule());
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
        if !is_denied {
            self.denials.interrupted();
        }
        if !is_denied && rule != RetryRule::Rarely {
            self.failures.agent_is_away(now);
        }
        if is_offered {
            self.denials = Denials::default();
        } else if is_denied && self.agent.until == Until::Stopped && (self.denials.denied(now) || delivered) {
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
        self.state = State::Off(ProfileOff::new(self.agent.client.endpoint(), now), message.to_owned());
        match self.agent.until {
            Until::FirstAnswer | Until::FirstSuccess => Update::GaveUp(self.failures.labelled(message)),
            Until::Stopped => Update::Trouble(self.failures.log(Level::Error, message, AFTER_RESTART, now)),
        }
    }

    /// A response is unusable: waits for the next one, or calls again later.
    pub(super) fn unusable(&mut self, rejection: &Rejection, now: Now) -> Update {
        self.counts.rejected += 1;
        if self.agent.until == Until::FirstAnswer {
            return Update::GaveUp(self.failures.labelled(rejection));
        }
        let next = if R::STREAMS {
            AWAITING.to_owned()
        } else {
            let retry_in = self.delays.after_unusable_response().max(rejection.wait(now));
            self.call_at(now.instant + retry_in);
            retrying_in(retry_in)
        };
        Update::Trouble(self.failures.log(Level::Error, rejection, &next, now.instant))
    }

    /// The update that a response comes to, which its source has taken. `was_offered`: this call's responses have
    /// offered the SVID before, so that one without it withdraws the identity.
    pub(super) fn settle(&mut self, taken: Result<Update, Rejection>, was_offered: bool, now: Now) -> Update {
        match taken {
            Ok(update) => update,
            Err(rejection @ Rejection::NotOffered(..)) if was_offered => {
                Update::Withdrawn { cause: rejection.to_string(), next: AWAITING.to_owned() }
            }
            Err(rejection) => self.unusable(&rejection, now),
        }
    }

    /// The response was good: earlier failures no longer count.
    pub(super) fn served(&mut self, now: Now) {
        self.failures.over(self.agent.client.endpoint(), now.instant);
        self.succeeded();
    }

    /// The response can be used, and yet something about it is logged as a failure.
    pub(super) fn succeeded(&mut self) {
        self.waits_since = None;
        self.delays.succeeded();
    }

    /// Replaces the open stream, if there is one, by a new call at once; but an agent that has the profile turned
    /// off is not asked again.
    pub(super) fn call_now(&mut self, now: Now) {
        if !matches!(self.state, State::Off(..)) {
            self.call_at(now.instant);
        }
    }

    /// Replaces a silent stream by a new call; `message` says what is missing.
    pub(super) fn replace(&mut self, message: &str, now: Now) -> Update {
        self.failures.agent_is_away(now.instant);
        self.call_now(now);
        let next = "; calling the agent again";
        Update::Trouble(self.failures.log(Level::Warn, message, next, now.instant))
    }
}

/// For how long the agent has answered that this process has no identity. A restarted agent says so, too, until
/// it knows its entries.
#[derive(Debug, Default)]
struct Denials {
    /// The time between answers that were denials, one after the other.
    lasted: Duration,
    /// The last answer, if it was one.
    last: Option<Instant>,
    /// When the agent was back, or answered first.
    back_at: Option<Instant>,
    is_withdrawn: bool,
}

impl Denials {
    /// Takes a denial; returns whether it withdraws the identity.
    fn denied(&mut self, now: Instant) -> bool {
        let since = self.last.replace(now).unwrap_or(now);
        self.lasted += now.duration_since(since);
        let back_at = *self.back_at.get_or_insert(now);
        let withdraws = self.lasted >= DENIAL_IS_WITHDRAWAL && now >= back_at + AFTER_RETURN;
        withdraws && !std::mem::replace(&mut self.is_withdrawn, true)
    }

    /// The agent was away, or failed otherwise: that time does not count.
    fn interrupted(&mut self) {
        self.last = None;
        self.back_at = None;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::wait::Waiter;
    use crate::workload_api::client::{Client, start_grpc};
    use crate::workload_api::endpoint::Endpoint;
    use crate::workload_api::rpc::FetchJwtSvid;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn thirty_seconds_of_denials_alone_withdraw_the_identity_once() {
        let (now, mut denials) = (Instant::now(), Denials::default());
        let withdrawn = (0..120).map(|second| denials.denied(now + second * SECOND));
        let at: Vec<_> = withdrawn.enumerate().filter(|(_, is_withdrawn)| *is_withdrawn).collect();
        assert_eq!(at, [(30, true)]);
    }

    #[test]
    fn denials_add_up_over_restarts_of_the_agent_and_none_withdraws_in_its_first_ten_seconds() {
        let (start, mut denials) = (Instant::now(), Denials::default());
        // Eight seconds of denials, and then two without an agent, again and again.
        for restart in 0..20 {
            for second in 0..=8 {
                assert!(!denials.denied(start + (restart * 10 + second) * SECOND), "{restart} {second}");
            }
            denials.interrupted();
        }
        let back = start + 200 * SECOND;
        let withdrawn = (0..60).position(|second| denials.denied(back + second * SECOND));
        assert_eq!(withdrawn, Some(10));
    }

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
}
