//! The sources: each follows one RPC, checks what comes, and returns what it has learned.
//!
//! A source returns an [`Update`] and nothing else. Its failures, and the log lines about them, stay
//! in the source. No source holds up another.

mod call_counts;
mod follower;
mod jwt_bundles;
mod jwt_svid;
mod response_error;
mod trouble;
mod update;
mod watchdog;
mod x509;

use std::task::{Context, Poll};
use std::time::Instant;

use crate::clock::Now;
use crate::identity::selection::Selection;
use crate::identity::spiffe_id::SpiffeId;
use crate::layout::Layout;
pub(crate) use call_counts::CallCounts;
pub(crate) use follower::Agent;
use jwt_bundles::JwtBundlesSource;
use jwt_svid::JwtSvidSource;
pub(crate) use update::{Until, Update};
use x509::X509Source;

/// The sources: one for each part of the layout, in the same order.
pub(crate) struct Sources<'a> {
    x509: Option<X509Source<'a>>,
    jwt_svids: Vec<JwtSvidSource<'a>>,
    /// Also there, without a part, for the keys of tokens that are renewed.
    jwt_bundles: Option<JwtBundlesSource<'a>>,
}

impl<'a> Sources<'a> {
    /// They call when they are polled first.
    pub(crate) fn new(layout: &'a Layout, selection: &'a Selection, agent: &Agent<'a>, now: Now) -> Self {
        let jwt_svid = |of| {
            let source = JwtSvidSource::new(of, selection, agent, now);
            if layout.x509.is_some() { source.following_x509(now) } else { source }
        };
        let renews_tokens = agent.until == Until::Stopped && !layout.jwt_svids.is_empty();
        let wants_bundles = layout.jwt_bundles.is_some() || renews_tokens;
        let jwt_bundles = || JwtBundlesSource::new(layout.jwt_bundles.as_ref(), selection, agent, now);
        Self {
            x509: layout.x509.as_ref().map(|of| X509Source::new(of, selection, agent, now)),
            jwt_svids: layout.jwt_svids.iter().map(jwt_svid).collect(),
            jwt_bundles: wants_bundles.then(jwt_bundles),
        }
    }

    /// What the sources have learned, with the index of each: at most one update of each, so that
    /// none starves another.
    pub(crate) fn poll(&mut self, now: Now, context: &mut Context<'_>) -> Vec<(usize, Update)> {
        let mut polled = Vec::new();
        polled.extend(self.x509.iter_mut().map(|source| source.poll(now, context)));
        // A denial elsewhere withdraws nothing that this stream still offers.
        let is_offered = self.x509.as_ref().is_some_and(X509Source::is_offered);
        let jwt_bundles = self.jwt_bundles.as_mut().map(|source| {
            source.follower.is_identity_offered = is_offered;
            source.poll(now, context)
        });
        if let Some(keys) = self.jwt_bundles.as_mut().and_then(JwtBundlesSource::new_keys) {
            self.jwt_svids.iter_mut().for_each(|source| source.check_key(keys));
        }
        polled.extend(self.jwt_svids.iter_mut().map(|source| {
            source.follower.is_identity_offered = is_offered;
            source.poll(now, context)
        }));
        polled.extend(jwt_bundles);
        let ready = polled.into_iter().enumerate().filter_map(|(index, update)| match update {
            Poll::Ready(update) => Some((index, update)),
            Poll::Pending => None,
        });
        ready.collect()
    }

    /// When to poll again even if nothing is ready.
    pub(crate) fn next_deadline(&self, now: Now) -> Option<Instant> {
        let x509 = self.x509.iter().map(|source| source.next_deadline(now));
        let jwt_svids = self.jwt_svids.iter().map(|source| source.next_deadline(now));
        let jwt_bundles = self.jwt_bundles.iter().map(JwtBundlesSource::next_deadline);
        x509.chain(jwt_svids).chain(jwt_bundles).flatten().min()
    }

    /// What a source waits for, as a sentence for the log.
    pub(crate) fn describe_wait(&self, index: usize) -> String {
        let x509 = self.x509.iter().map(|source| source.follower.caller.describe_wait());
        let jwt_svids = self.jwt_svids.iter().map(|source| source.follower.caller.describe_wait());
        let jwt_bundles = self.jwt_bundles.iter().map(JwtBundlesSource::describe_wait);
        x509.chain(jwt_svids).chain(jwt_bundles).nth(index).unwrap_or_default()
    }

    /// How the calls of each part's source went, since the start.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &CallCounts> {
        let x509 = self.x509.iter().map(|source| source.follower.calls());
        let jwt_svids = self.jwt_svids.iter().map(|source| source.follower.calls());
        let jwt_bundles = self.jwt_bundles.iter().filter(|source| source.has_files());
        x509.chain(jwt_svids).chain(jwt_bundles.map(|source| source.follower.calls()))
    }

    /// Makes postponed calls at once: the agent has changed its mind. It may have withdrawn the tokens, too,
    /// so they are asked for again.
    pub(crate) fn hurry(&mut self, now: Now) {
        self.x509.iter_mut().for_each(|source| source.follower.caller.hurry(now.instant));
        self.jwt_svids.iter_mut().for_each(|source| source.follower.caller.fetch_again(now.instant));
        self.jwt_bundles.iter_mut().for_each(|source| source.hurry(now));
    }

    /// The identity is withdrawn and its files are removed: what was delivered no longer counts. Each
    /// source asks the agent again, which may still offer an SVID of another form.
    pub(crate) fn forget(&mut self, now: Now) {
        self.hurry(now);
        self.x509.iter_mut().for_each(X509Source::forget);
        self.jwt_svids.iter_mut().for_each(JwtSvidSource::forget);
        self.jwt_bundles.iter_mut().for_each(JwtBundlesSource::forget);
    }

    /// The files are gone: makes the agent send them again.
    pub(crate) fn fetch_again(&mut self, now: Now) {
        self.x509.iter_mut().for_each(|source| source.follower.caller.fetch_again(now.instant));
        self.jwt_svids.iter_mut().for_each(|source| source.follower.caller.fetch_again(now.instant));
        self.jwt_bundles.iter_mut().for_each(|source| source.follower.caller.fetch_again(now.instant));
    }

    /// Names the workload's own identity, that of the published SVID, to the sources. Returns the index of each
    /// whose files are another identity's; it fetches others.
    pub(crate) fn learn(&mut self, own: &SpiffeId, now: Now) -> Vec<usize> {
        self.jwt_bundles.iter_mut().for_each(|source| source.learn(own));
        let first = usize::from(self.x509.is_some());
        let jwt_svids = self.jwt_svids.iter_mut().enumerate();
        jwt_svids.filter_map(|(index, source)| source.learn(own, now).then_some(first + index)).collect()
    }
}
