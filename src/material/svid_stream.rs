//! The stream that brings one SVID: its call, its newest SVID, and the new calls that dates and silence ask for.

use std::time::{Instant, SystemTime};

use super::call::RetriedCall;
use super::part::{Call, Update};
use super::watchdog::Watchdog;
use crate::identity::svid_info::SvidInfo;
use crate::time::clock::Now;
use crate::workload_api::rpc::Rpc;

/// An RPC whose stream brings an SVID and its renewals.
pub(super) struct SvidStream<'a, R: Rpc> {
    pub(super) call: RetriedCall<'a, R>,
    watchdog: Watchdog,
    /// The newest good SVID.
    pub(super) svid: Option<SvidInfo>,
    /// When to call again though the stream is open: an SVID that arrived too early becomes valid, or a CA
    /// that is then to be left out expires.
    pub(super) call_again_at: Option<SystemTime>,
}

impl<'a, R: Rpc> SvidStream<'a, R> {
    pub(super) fn new(call: RetriedCall<'a, R>) -> Self {
        Self { call, watchdog: Watchdog::new(), svid: None, call_again_at: None }
    }

    /// A good SVID has come. The same one again is no success while it is due for renewal.
    pub(super) fn brought(&mut self, svid: SvidInfo, now: Now) {
        let is_new = self.svid.as_ref() != Some(&svid);
        if is_new {
            self.watchdog.renewed();
        }
        if is_new || !svid.is_overdue(now.time) {
            self.call.served(now);
        }
        self.svid = Some(svid);
    }

    /// Makes the call that a date asks for, and replaces a stream that has been silent for too long.
    pub(super) fn run_due(&mut self, now: Now) -> Option<Update> {
        if self.call_again_at.take_if(|at| *at <= now.time).is_some() {
            self.call.call_now(now);
        }
        if self.replace_at(now)? > now.instant {
            return None;
        }
        let message = self.watchdog.replaced_because(self.call.stream()?, self.svid.as_ref(), now);
        let message = message.unwrap_or_else(|| self.call.describe_wait());
        Some(self.call.replace(&message, now))
    }

    /// When [`SvidStream::run_due`] or the call has something to do, if nothing comes before.
    pub(super) fn next_deadline(&self, now: Now) -> Option<Instant> {
        let call_again_at = self.call_again_at.map(|date| now.instant_of(date));
        [self.call.next_deadline(), self.replace_at(now), call_again_at].into_iter().flatten().min()
    }

    fn replace_at(&self, now: Now) -> Option<Instant> {
        Some(self.watchdog.replace_at(self.call.stream()?, self.svid.as_ref(), now))
    }
}
