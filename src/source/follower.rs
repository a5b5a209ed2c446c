//! Follows one RPC for a source: its responses, its failures, and their log lines.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use log::Level;

use super::call_counts::CallCounts;
use super::response_error::ResponseError;
use super::trouble::Trouble;
use super::update::{Until, Update};
use crate::clock::Now;
use crate::logging::{Share, retrying_in};
use crate::timing::DENIED_FOR_GOOD;
use crate::wait::Waiter;
use crate::workload_api::call_error::{CallError, Remedy};
use crate::workload_api::caller::{Caller, Event};
use crate::workload_api::client::Client;
use crate::workload_api::endpoint::Endpoint;
use crate::workload_api::rpc::Rpc;

/// The next step after an unusable response of a stream.
const AWAITING: &str = "; waiting for the agent's next response";

/// The agent, and how long to follow it.
#[derive(Clone)]
pub(crate) struct Agent<'a> {
    pub(crate) client: &'a Client,
    pub(crate) waiter: &'a Waiter,
    pub(crate) until: Until,
    /// Of the reminders of all its troubles.
    pub(crate) share: Share,
}

/// An RPC that is followed, with its failures.
pub(crate) struct Follower<'a, R: Rpc> {
    pub(crate) caller: Caller<'a, R>,
    pub(crate) trouble: Trouble,
    endpoint: Endpoint,
    until: Until,
    calls: CallCounts,
    denial: Denial,
    /// Whether another source's stream offers the identity: then a denial does not withdraw it.
    pub(crate) is_identity_offered: bool,
}

/// Whether the agent answers that this process has no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Denial {
    /// The last answer was not a denial.
    No,
    /// Every answer since then.
    Since(Instant),
    /// For so long that the identity counts as withdrawn.
    ForGood,
}

impl Denial {
    /// Takes a denial; returns whether it withdraws the identity.
    fn denied(&mut self, now: Instant) -> bool {
        match *self {
            Self::No => *self = Self::Since(now),
            Self::Since(since) if now.duration_since(since) >= DENIED_FOR_GOOD => {
                *self = Self::ForGood;
                return true;
            }
            Self::Since(_) | Self::ForGood => {}
        }
        false
    }
}

impl<'a, R: Rpc> Follower<'a, R> {
    /// The first poll makes the first call. `label` precedes its messages in the log, which are at most
    /// as severe as `loudest`.
    pub(crate) fn new(label: String, loudest: Level, rpc: R, agent: &Agent<'a>, now: Now) -> Self {
        Self {
            caller: Caller::new(agent.waiter, agent.client.clone(), rpc, now.instant),
            trouble: Trouble::new(label, loudest, agent.share.clone()),
            endpoint: agent.client.endpoint().clone(),
            until: agent.until,
            calls: CallCounts::new(R::NAME),
            denial: Denial::No,
            is_identity_offered: false,
        }
    }

    /// How the calls went, since the start.
    pub(crate) fn calls(&self) -> &CallCounts {
        &self.calls
    }

    /// The next response, or the update that a failure causes.
    pub(crate) fn poll(&mut self, now: Now, context: &mut Context<'_>) -> Poll<Result<R::Raw, Update>> {
        loop {
            return Poll::Ready(match ready!(self.caller.poll(now.instant, context)) {
                Event::Response(raw) => {
                    self.calls.responded();
                    self.denial = Denial::No;
                    Ok(raw)
                }
                Event::Undecodable(cause) => {
                    self.calls.responded();
                    Err(self.unusable(&ResponseError::Undecodable { message: R::RESPONSE, cause }, now))
                }
                Event::Failed { error, retry_in, delivered } => {
                    self.calls.failed(error.code());
                    let next = retrying_in(retry_in);
                    match self.failed(&error, &next, delivered, now) {
                        Some(update) => Err(update),
                        None => continue,
                    }
                }
            });
        }
    }

    /// Takes the end of a call.
    fn failed(&mut self, error: &CallError, next: &str, delivered: bool, now: Now) -> Option<Update> {
        let remedy = error.remedy();
        if self.until == Until::FirstSuccess && remedy == Remedy::Rarely {
            return Some(Update::Refused(self.trouble.labelled(error)));
        }
        let is_denied = error.is_permission_denied();
        if !is_denied && remedy != Remedy::Rarely {
            self.trouble.agent_is_away(now.instant);
        }
        if !is_denied || self.is_identity_offered {
            self.denial = Denial::No;
        } else if self.until == Until::Stopped && (self.denial.denied(now.instant) || delivered) {
            return Some(Update::Withdrawn { cause: error.to_string(), next: next.to_owned() });
        }
        // A restarting agent ends its streams: this is a failure only if the next call fails too.
        if remedy == Remedy::BackOff && delivered {
            log::debug!("{}{next}", self.trouble.labelled(error));
            return None;
        }
        let level = if remedy == Remedy::Rarely { Level::Error } else { Level::Warn };
        Some(Update::Trouble(self.trouble.log(level, error, next, now.instant)))
    }

    /// A response is unusable: waits for the next one, or calls again later.
    pub(crate) fn unusable(&mut self, error: &ResponseError, now: Now) -> Update {
        self.calls.rejected();
        let next = if R::STREAMS {
            AWAITING.to_owned()
        } else {
            retrying_in(self.caller.retry_later(error.wait(now), now.instant))
        };
        Update::Trouble(self.trouble.log(Level::Error, error, &next, now.instant))
    }

    /// The response was good.
    pub(crate) fn served(&mut self, now: Now) {
        self.trouble.over(&self.endpoint, now.instant);
    }

    /// Replaces the open stream, if there is one, by a new call at once.
    pub(crate) fn call_now(&mut self, now: Now) {
        self.caller.call_at(now.instant);
    }

    /// Replaces a silent stream by a new call; `message` says what is missing.
    pub(crate) fn replace(&mut self, message: &str, now: Now) -> Update {
        self.trouble.agent_is_away(now.instant);
        self.call_now(now);
        let next = "; calling the agent again";
        Update::Trouble(self.trouble.log(Level::Warn, message, next, now.instant))
    }
}

/// The agent no longer offers the SVID that it has offered before.
pub(crate) fn no_longer_offered(error: &ResponseError) -> Update {
    Update::Withdrawn { cause: error.to_string(), next: AWAITING.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn thirty_seconds_of_denials_alone_withdraw_the_identity_once() {
        let (now, mut denial) = (Instant::now(), Denial::No);
        let withdrawn = (0..120).map(|second| denial.denied(now + second * SECOND));
        let at: Vec<_> = withdrawn.enumerate().filter(|(_, is_withdrawn)| *is_withdrawn).collect();
        assert_eq!(at, [(30, true)]);
    }
}
