//! How often the helper calls the agent.

use std::time::{Duration, Instant};

use grpcio::RpcStatusCode;

use super::agent::{Mood, RPCS, Rpc};
use super::trouble::{GRACE, MINUTE, Trouble};
use super::world::World;
use crate::time::timing::{
    AWAIT_ENDPOINT, BETWEEN_TOKENS, CALL_AGAIN, CALL_RARELY, OVERDUE, SILENT_BUNDLES, SINGLE_RESPONSE,
};

/// How many calls of each source an event may cause: the one that it is about, and the shorter delays after it.
const AFTER_AN_EVENT: f64 = 8.0;
/// How many calls of each source may be saved up.
const MOST: f64 = 32.0;

/// How many calls each source of an RPC may make.
#[derive(Debug)]
pub(super) struct Allowance {
    left: f64,
    made: u64,
    since: Instant,
    /// The shortest time from one call to the next.
    pause: Duration,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: AFTER_AN_EVENT, made: 0, since: now, pause: SILENT_BUNDLES }
    }

    /// Something has happened.
    pub(super) fn happened(&mut self) {
        self.left = (self.left + AFTER_AN_EVENT).min(MOST);
    }

    /// Takes the number of calls so far, of so many sources, which may make one in each pause now. Returns whether they
    /// were allowed.
    fn take(&mut self, made: u64, sources: usize, pause: Duration, now: Instant) -> bool {
        let passed = now - std::mem::replace(&mut self.since, now);
        let shortest = pause.min(std::mem::replace(&mut self.pause, pause));
        let new = made - std::mem::replace(&mut self.made, made);
        self.left = (self.left + passed.div_duration_f64(shortest)).min(MOST);
        self.left -= new as f64 / sources.max(1) as f64;
        self.left >= 0.0
    }
}

impl World<'_> {
    /// Calls are neither too many nor too few.
    pub(super) fn look_at_manners(&mut self) {
        let now = self.now.instant;
        let events = self.watch.events.count(now);
        let is_away = self.listener.is_none() || events > 0;
        // Half of the longest delays, and the shorter delays before.
        let steady = MINUTE.div_duration_f64(CALL_AGAIN.longest() / 2) as usize + 8;
        let connecting = MINUTE.div_duration_f64(AWAIT_ENDPOINT.longest() / 2) as usize + 4;
        let most = if is_away { connecting } else { steady } + 10 * events;
        let failed: Vec<u64> =
            self.helper.as_ref().unwrap().items.calls().map(|counts| counts.failed.values().sum()).collect();
        for (index, total) in failed.into_iter().enumerate() {
            let (before, recent) = &mut self.watch.failed[index];
            recent.add(total - std::mem::replace(before, total), now);
            let count = recent.count(now);
            if count > most {
                self.fail(&format!("source {index}: {count} failures in a minute, {most} are allowed"));
            }
        }
        self.look_at_calls();
        let longest = match self.trouble {
            Some(Trouble::Away) => AWAIT_ENDPOINT.longest(),
            Some(Trouble::Mood(Mood::Refuses(RpcStatusCode::INVALID_ARGUMENT), _)) => CALL_RARELY,
            // On an open stream, it waits.
            Some(Trouble::Restarted) if self.agent.0.borrow().mood(Rpc::X509) == Mood::Partial => return,
            Some(Trouble::Mood(Mood::Refuses(_), _) | Trouble::Restarted) => CALL_AGAIN.longest(),
            _ => return,
        };
        let since = self.watch.trouble.map_or(now, |(_, since)| since).max(self.watch.started);
        let last = self.watch.failed[0].1.moments.back().map_or(since, |last| since.max(*last));
        if self.trouble.is_some_and(|trouble| trouble.concerns(Rpc::X509)) && now > last + longest + GRACE {
            self.fail(&format!("no call for {:?}", now - last));
        }
    }

    /// No RPC is called more often than a good neighbour calls it.
    fn look_at_calls(&mut self) {
        let counts = self.agent.0.borrow().counts;
        for rpc in RPCS {
            let sources = if rpc == Rpc::Token { self.tokens().count() } else { 1 };
            let (pause, now) = (self.pause(rpc), self.now.instant);
            if !self.watch.calls[rpc as usize].take(counts[rpc as usize], sources, pause, now) {
                self.fail(&format!("{rpc:?}: more than a call in {pause:?}"));
            }
        }
    }

    /// The shortest time between two calls of one source. The first calls after an event may follow each other sooner.
    fn pause(&self, rpc: Rpc) -> Duration {
        let (now, is_token) = (self.now.instant, rpc == Rpc::Token);
        let is_old = |rpc: Rpc| now <= self.watch.fresh_by[rpc as usize];
        // With its jitter, a delay is at least half of its step.
        let again = CALL_AGAIN.longest() / 2;
        match self.trouble.filter(|trouble| trouble.concerns(rpc)) {
            Some(Trouble::Mood(Mood::Refuses(RpcStatusCode::INVALID_ARGUMENT), _)) => CALL_RARELY,
            Some(Trouble::Mood(Mood::Silent, _)) if is_token => SINGLE_RESPONSE,
            Some(Trouble::Stale) if is_token => self.pause_between_old_tokens().unwrap_or(again),
            // A stream stays open.
            Some(Trouble::Stale | Trouble::Mood(Mood::Silent | Mood::Bad(_), _)) if !is_token => {
                OVERDUE.longest()
            }
            Some(_) => again,
            None if is_old(rpc) => again,
            // The keys that the helper knows may lack the token's.
            None if is_token && is_old(Rpc::Keys) => OVERDUE.current(),
            None if is_token => (self.agent.0.borrow().token_life / 2).max(BETWEEN_TOKENS),
            None => SILENT_BUNDLES,
        }
    }

    /// The files of the tokens that are wanted.
    fn tokens(&self) -> impl Iterator<Item = &'static str> {
        ["one.jwt", "two.jwt"].into_iter().filter(|file| self.wants(file))
    }

    /// The nearer the end of a token that the agent cannot renew, the sooner it is asked for again. `None`: one has
    /// ended, or is missing.
    fn pause_between_old_tokens(&self) -> Option<Duration> {
        let left = self.tokens().map(|file| {
            let end = self.watch.published.get(file)?.svid.as_ref()?.not_after;
            Some(self.now.until(end)).filter(|left| !left.is_zero())
        });
        let left = left.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        Some((left / 4).clamp(OVERDUE.current(), OVERDUE.longest()))
    }
}
