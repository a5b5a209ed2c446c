//! A JWT-SVID: fetched, and fetched again when it is due for renewal.

use std::task::{Context, Poll};
use std::time::Instant;

use log::Level;

use super::follower::{Agent, Follower};
use super::response_error::ResponseError;
use super::update::Update;
use crate::backoff::Backoff;
use crate::clock::Now;
use crate::identity::jwt_bundle::JwtBundles;
use crate::identity::jwt_svid::JwtSvid;
use crate::identity::raw::RawJwtSvid;
use crate::identity::selection::Selection;
use crate::identity::spiffe_id::SpiffeId;
use crate::identity::svid_info::{SvidInfo, Validity};
use crate::layout::{JwtSvidLayout, encode};
use crate::logging::retrying_in;
use crate::timestamp::rfc3339;
use crate::timing::{BETWEEN_TOKENS, FIRST_SET, OVERDUE};
use crate::workload_api::rpc::FetchJwtSvid;

pub(super) struct JwtSvidSource<'a> {
    layout: &'a JwtSvidLayout,
    /// With neither ID nor hint, the ID is that of the X.509-SVID, once it is known.
    selection: Selection,
    pub(super) follower: Follower<'a, FetchJwtSvid>,
    renewal: Renewal,
    /// The newest good token.
    svid: Option<SvidInfo>,
    /// The `kid` of the key that signed it, if its header names one.
    key_id: Option<String>,
    /// Whether that key has left the trust domain's keys: verifiers refuse the token.
    is_revoked: bool,
    /// Whether the token follows the identity of the X.509-SVID.
    follows_x509: bool,
}

impl<'a> JwtSvidSource<'a> {
    pub(super) fn new(
        layout: &'a JwtSvidLayout,
        selection: &'a Selection,
        agent: &Agent<'a>,
        now: Now,
    ) -> Self {
        let rpc = FetchJwtSvid { audience: layout.file.audience.clone(), id: selection.id.clone() };
        let label = format!("JWT-SVID {}: ", layout.file.name);
        let follower = Follower::new(label, Level::Error, rpc, agent, now);
        Self {
            layout,
            selection: selection.clone(),
            follower,
            renewal: Renewal::new(now.instant),
            svid: None,
            key_id: None,
            is_revoked: false,
            follows_x509: false,
        }
    }

    /// Makes the token follow the identity of the X.509-SVID, which gets a moment to arrive first.
    pub(super) fn following_x509(mut self, now: Now) -> Self {
        self.follows_x509 = self.selection == Selection::default();
        if self.follows_x509 {
            self.follower.caller.call_at(now.instant + FIRST_SET);
        }
        self
    }

    fn take(&mut self, raw: Vec<RawJwtSvid>, now: Now) -> Result<Update, ResponseError> {
        let svid = JwtSvid::select(raw, &self.selection, &self.layout.file.audience, now.time)
            .map_err(|error| ResponseError::jwt_svids(error, &self.selection))?;
        let info = svid.info().clone();
        match info.validity(now.time) {
            Validity::Valid => {}
            Validity::Expired => return Err(ResponseError::Expired(info)),
            Validity::NotYet => return Err(ResponseError::NotValidYet(info)),
        }
        let key_id = svid.key_id().map(str::to_owned);
        // The agent may hand out the same token once more.
        let is_revoked = std::mem::take(&mut self.is_revoked) && key_id == self.key_id;
        self.key_id = key_id;
        if self.renewal.received(&info, is_revoked, now) {
            self.follower.served(now);
        } else {
            // Without its server, the agent answers from its cache.
            let (id, end) = (&info.id, rfc3339(info.not_after, 0));
            let message =
                format!("the agent sent a token of {id} (valid until {end}) that is already due for renewal");
            let next = retrying_in(self.renewal.earliest_call.duration_since(now.instant));
            self.follower.trouble.log(Level::Warn, message, &next, now.instant);
        }
        self.follower.caller.succeeded();
        self.svid = Some(info.clone());
        Ok(Update::Files(vec![encode::jwt_svid(self.layout, &svid)], Some(info), Vec::new()))
    }

    /// When to call for the next token, if no call is open.
    fn renew_at(&self, now: Now) -> Option<Instant> {
        if !self.follower.caller.is_idle() {
            return None;
        }
        let Some(svid) = &self.svid else { return Some(now.instant) };
        Some(if self.is_revoked { self.renewal.earliest_call } else { self.renewal.renew_at(svid, now) })
    }

    pub(super) fn poll(&mut self, now: Now, context: &mut Context<'_>) -> Poll<Update> {
        if self.renew_at(now).is_some_and(|at| at <= now.instant) {
            self.follower.call_now(now);
        }
        self.follower.poll(now, context).map(|heard| match heard.map(|raw| self.take(raw, now)) {
            Ok(Ok(update)) | Err(update) => update,
            Ok(Err(error)) => self.follower.unusable(&error, now),
        })
    }

    pub(super) fn next_deadline(&self, now: Now) -> Option<Instant> {
        [self.follower.caller.next_deadline(), self.renew_at(now)].into_iter().flatten().min()
    }

    /// The identity is withdrawn and its files are removed: what was delivered no longer counts.
    pub(super) fn forget(&mut self) {
        self.svid = None;
    }

    /// Looks whether the token's key is still among the keys, which are new.
    pub(super) fn check_key(&mut self, keys: &JwtBundles) {
        let (Some(svid), Some(key_id)) = (&self.svid, &self.key_id) else { return };
        let trust_domain = svid.id.trust_domain();
        self.is_revoked = keys.of(&trust_domain).is_ok() && !keys.has_key(&trust_domain, key_id);
    }

    /// Learns the workload's own identity from an SVID. Returns whether the newest token is another's.
    pub(super) fn learn(&mut self, own: &SpiffeId, now: Now) -> bool {
        if !self.follows_x509 || self.selection.id.as_ref() == Some(own) {
            return false;
        }
        self.selection.id = Some(own.clone());
        self.follower.caller.rpc_mut().id = Some(own.clone());
        let is_anothers = self.svid.take_if(|svid| svid.id != *own).is_some();
        if self.svid.is_none() {
            self.follower.call_now(now);
        }
        is_anothers
    }
}

/// When a token is renewed.
struct Renewal {
    /// No call before this, even if it is time to renew.
    earliest_call: Instant,
    overdue: Backoff,
}

impl Renewal {
    fn new(now: Instant) -> Self {
        Self { earliest_call: now, overdue: OVERDUE }
    }

    /// When to call for the token after `svid`.
    fn renew_at(&self, svid: &SvidInfo, now: Now) -> Instant {
        now.instant_of(svid.renew_at()).max(self.earliest_call)
    }

    /// Takes a good token, or one whose key is revoked; returns whether it is fresh.
    fn received(&mut self, svid: &SvidInfo, is_revoked: bool, now: Now) -> bool {
        let is_fresh = svid.renew_at() > now.time && !is_revoked;
        let wait = if is_fresh {
            self.overdue.reset();
            BETWEEN_TOKENS
        } else {
            self.overdue.advance()
        };
        self.earliest_call = now.instant + wait;
        is_fresh
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::svid_info::Kind;

    fn token(now: Now, seconds: u64) -> SvidInfo {
        SvidInfo {
            id: "spiffe://example.org/a".parse().unwrap(),
            kind: Kind::Jwt,
            issued_at: now.time,
            not_before: now.time,
            not_after: now.time + Duration::from_secs(seconds),
        }
    }

    #[test]
    fn a_token_is_renewed_at_55_percent_of_its_life() {
        let now = Now::look();
        let (token, mut renewal) = (token(now, 300), Renewal::new(now.instant));
        assert!(renewal.received(&token, false, now));
        assert_eq!(renewal.renew_at(&token, now), now.instant + Duration::from_secs(165));
    }

    #[test]
    fn however_short_a_tokens_life_there_is_a_second_between_two_calls() {
        let now = Now::look();
        let (token, mut renewal) = (token(now, 1), Renewal::new(now.instant));
        assert!(renewal.received(&token, false, now));
        assert_eq!(renewal.renew_at(&token, now), now.instant + Duration::from_secs(1));
    }

    #[test]
    fn a_token_that_is_due_when_it_arrives_is_asked_for_again_with_a_backoff() {
        let start = Now::look();
        let (token, mut renewal) = (token(start, 300), Renewal::new(start.instant));
        let now = start + Duration::from_secs(200);
        let waits = [(); 5].map(|()| {
            assert!(!renewal.received(&token, false, now));
            (renewal.renew_at(&token, now) - now.instant).as_secs()
        });
        assert_eq!(waits, [5, 10, 20, 40, 60]);
    }
}
