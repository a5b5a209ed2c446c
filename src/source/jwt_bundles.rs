//! The JWT bundles: follows the stream of updates. They are wanted as files, or else as the keys that tell
//! whether a token is still good.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use log::Level;

use super::follower::{Agent, Follower};
use super::response_error::ResponseError;
use super::update::Update;
use crate::clock::Now;
use crate::identity::jwt_bundle::JwtBundles;
use crate::identity::raw::RawJwtBundles;
use crate::identity::selection::Selection;
use crate::identity::spiffe_id::{SpiffeId, TrustDomain};
use crate::layout::{JwtBundleLayout, encode};
use crate::timing::{QUIET_BUNDLES, SILENT_STREAM};
use crate::workload_api::rpc::FetchJwtBundles;

pub(super) struct JwtBundlesSource<'a> {
    /// `None` if no files are wanted: then a failure is nobody's trouble.
    layout: Option<&'a JwtBundleLayout>,
    pub(super) follower: Follower<'a, FetchJwtBundles>,
    /// Our own trust domain, from --pod-spiffe-id or the newest SVID.
    own: Option<TrustDomain>,
    /// The newest bundles.
    bundles: Option<JwtBundles>,
    /// Whether the files of `bundles`, and of `own`, have been returned.
    is_laid_out: bool,
    /// Whether the keys of `bundles` have been handed out.
    are_keys_known: bool,
}

impl<'a> JwtBundlesSource<'a> {
    pub(super) fn new(
        layout: Option<&'a JwtBundleLayout>,
        selection: &Selection,
        agent: &Agent<'a>,
        now: Now,
    ) -> Self {
        let loudest = if layout.is_some() { Level::Error } else { Level::Debug };
        let follower = Follower::new("JWT bundles: ".to_owned(), loudest, FetchJwtBundles, agent, now);
        let own = selection.id.as_ref().map(|id| id.trust_domain());
        Self { layout, follower, own, bundles: None, is_laid_out: false, are_keys_known: false }
    }

    fn take(&mut self, raw: RawJwtBundles, now: Now) -> Result<JwtBundles, ResponseError> {
        let bundles = JwtBundles::parse(raw)?;
        self.follower.served(now);
        Ok(bundles)
    }

    /// The files of new bundles, if our own trust domain is known.
    fn lay_out(&mut self, now: Now) -> Option<Update> {
        if self.is_laid_out {
            return None;
        }
        let (layout, own, bundles) = (self.layout?, self.own.as_ref()?, self.bundles.as_ref()?);
        self.is_laid_out = true;
        Some(match encode::jwt_bundles(layout, bundles, own) {
            Ok(files) => Update::Files(files, None, Vec::new()),
            Err(error) => self.follower.unusable(&error.into(), now),
        })
    }

    fn replace_at(&self) -> Option<Instant> {
        let stream = self.follower.caller.stream()?;
        Some(stream.since + if stream.delivered { QUIET_BUNDLES } else { SILENT_STREAM })
    }

    /// Replaces a stream that has been silent for too long. That is a failure only if the stream never
    /// delivered.
    fn watch(&mut self, now: Now) -> Option<Update> {
        let stream = self.follower.caller.stream()?;
        if self.replace_at()? > now.instant {
            return None;
        }
        if stream.delivered {
            self.follower.call_now(now);
            return None;
        }
        let message = self.follower.caller.describe_wait();
        Some(self.follower.replace(&message, now))
    }

    /// Without files, there is never an update.
    pub(super) fn poll(&mut self, now: Now, context: &mut Context<'_>) -> Poll<Update> {
        loop {
            let update = ready!(self.poll_any(now, context));
            if self.has_files() {
                return Poll::Ready(update);
            }
        }
    }

    fn poll_any(&mut self, now: Now, context: &mut Context<'_>) -> Poll<Update> {
        loop {
            if let Some(update) = self.watch(now).or_else(|| self.lay_out(now)) {
                return Poll::Ready(update);
            }
            match ready!(self.follower.poll(now, context)).map(|raw| self.take(raw, now)) {
                Ok(Ok(bundles)) => {
                    self.bundles = Some(bundles);
                    self.is_laid_out = false;
                    self.are_keys_known = false;
                }
                Ok(Err(error)) => return Poll::Ready(self.follower.unusable(&error, now)),
                Err(update) => return Poll::Ready(update),
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.follower.caller.next_deadline(), self.replace_at()].into_iter().flatten().min()
    }

    pub(super) fn describe_wait(&self) -> String {
        match self.bundles {
            Some(_) => "received, but the trust domain is unknown until an SVID arrives".to_owned(),
            None => self.follower.caller.describe_wait(),
        }
    }

    /// Whether they are a part of the layout.
    pub(super) fn has_files(&self) -> bool {
        self.layout.is_some()
    }

    /// The keys that verify tokens, once for each response.
    pub(super) fn new_keys(&mut self) -> Option<&JwtBundles> {
        let are_known = std::mem::replace(&mut self.are_keys_known, true);
        self.bundles.as_ref().filter(|_| !are_known)
    }

    /// The agent has changed its mind: makes a postponed call at once, and asks again for what was forgotten.
    pub(super) fn hurry(&mut self, now: Now) {
        match self.bundles {
            Some(_) => self.follower.caller.hurry(now.instant),
            None => self.follower.caller.fetch_again(now.instant),
        }
    }

    /// The files are removed with those of the identity.
    pub(super) fn forget(&mut self) {
        self.bundles = None;
    }

    /// Learns the workload's own trust domain from an SVID.
    pub(super) fn learn(&mut self, own: &SpiffeId) {
        let own = own.trust_domain();
        if self.own.as_ref() != Some(&own) {
            self.own = Some(own);
            self.is_laid_out = false;
        }
    }
}
