//! Which SVID a source selects when another part may decide the identity.

use std::time::Instant;

use super::call::RetriedCall;
use super::part::Wish;
use crate::identity::selection::Selection;
use crate::identity::spiffe_id::SpiffeId;
use crate::identity::svid_info::SvidInfo;
use crate::time::clock::Now;
use crate::time::timing::FIRST_SET;
use crate::workload_api::rpc::Rpc;

/// The ID and the hint of the SVID to select. Without an ID in the options, it is that of the part that decides the
/// identity, once it is known: the hint alone may be another identity's by now.
pub(super) struct FollowedSelection {
    pub(super) selection: Selection,
    /// Another part decides the identity. That it is not offered here withdraws nothing.
    pub(super) is_followed: bool,
}

impl FollowedSelection {
    pub(super) fn of(wish: &Wish<'_>) -> Self {
        let selection = wish.selection.clone();
        let is_followed = wish.follows_identity && selection.id.is_none();
        Self { selection, is_followed }
    }

    /// When to call first: the part that decides the identity gets a moment to arrive before.
    pub(super) fn first_call_at(&self, now: Instant) -> Instant {
        if self.is_followed { now + FIRST_SET } else { now }
    }

    /// The identity is `own`. Drops an SVID of another one, and calls for the right one.
    pub(super) fn learn<R: Rpc>(
        &mut self,
        own: &SpiffeId,
        svid: &mut Option<SvidInfo>,
        call: &mut RetriedCall<'_, R>,
        now: Now,
    ) {
        if !self.is_followed || self.selection.id.as_ref() == Some(own) {
            return;
        }
        self.selection.id = Some(own.clone());
        svid.take_if(|svid| svid.id != *own);
        if svid.is_none() {
            call.call_now(now);
        }
    }
}
