//! The X.509-SVID with its bundles: follows the stream of updates.

use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use log::Level;

use super::follower::{Agent, Follower, no_longer_offered};
use super::response_error::ResponseError;
use super::update::Update;
use super::watchdog::Watchdog;
use crate::clock::Now;
use crate::identity::context::X509Context;
use crate::identity::raw::RawX509Context;
use crate::identity::selection::Selection;
use crate::identity::svid_info::{SvidInfo, Validity};
use crate::layout::{X509Layout, encode};
use crate::timestamp::rfc3339;
use crate::timing::SILENT_STREAM;
use crate::workload_api::rpc::FetchX509Svid;

pub(super) struct X509Source<'a> {
    layout: &'a X509Layout,
    selection: &'a Selection,
    pub(super) follower: Follower<'a, FetchX509Svid>,
    watchdog: Watchdog,
    /// The newest good SVID.
    svid: Option<SvidInfo>,
    /// When an SVID that arrived too early becomes valid: time to call again.
    valid_at: Option<SystemTime>,
}

impl<'a> X509Source<'a> {
    pub(super) fn new(layout: &'a X509Layout, selection: &'a Selection, agent: &Agent<'a>, now: Now) -> Self {
        let follower = Follower::new(String::new(), Level::Error, FetchX509Svid, agent, now);
        Self { layout, selection, follower, watchdog: Watchdog::new(), svid: None, valid_at: None }
    }

    fn take(&mut self, raw: RawX509Context, now: Now) -> Result<Update, ResponseError> {
        let context = X509Context::parse(raw, self.selection)
            .map_err(|error| ResponseError::x509(error, self.selection))?;
        let info = context.svid.info().clone();
        match info.validity(now.time) {
            Validity::Valid => {}
            Validity::Expired => return Err(ResponseError::Expired(info)),
            Validity::NotYet => {
                self.valid_at = Some(info.not_before);
                return Err(ResponseError::NotValidYet(info));
            }
        }
        let (files, bundles) = encode::x509(self.layout, context, now.time)?;
        self.valid_at = None;
        let is_new = self.svid.as_ref() != Some(&info);
        if is_new {
            self.watchdog.renewed();
        }
        if is_new || !info.is_overdue(now.time) {
            self.follower.served(now);
        }
        self.svid = Some(info.clone());
        Ok(Update::Files(files, Some(info), bundles))
    }

    fn replace_at(&self, now: Now) -> Option<Instant> {
        let stream = self.follower.caller.stream()?;
        Some(self.watchdog.replace_at(stream, self.svid.as_ref(), now))
    }

    /// Replaces a stream that has been silent for too long.
    fn watch(&mut self, now: Now) -> Option<Update> {
        let stream = self.follower.caller.stream()?;
        if self.watchdog.replace_at(stream, self.svid.as_ref(), now) > now.instant {
            return None;
        }
        let message = match &self.svid {
            Some(svid) if svid.is_overdue(now.time) => {
                self.watchdog.replaced(stream, svid, now);
                let (id, end) = (&svid.id, rfc3339(svid.not_after, 0));
                format!(
                    "the SVID of {id} (valid until {end}) is due for renewal, and the agent has sent no newer one"
                )
            }
            _ => format!("the agent has sent nothing usable for {}s", SILENT_STREAM.as_secs()),
        };
        Some(self.follower.replace(&message, now))
    }

    pub(super) fn poll(&mut self, now: Now, context: &mut Context<'_>) -> Poll<Update> {
        if self.valid_at.take_if(|at| *at <= now.time).is_some() {
            self.follower.call_now(now);
        }
        if let Some(update) = self.watch(now) {
            return Poll::Ready(update);
        }
        self.follower.poll(now, context).map(|heard| {
            let taken = heard.map(|raw| self.take(raw, now));
            match taken {
                Ok(Ok(update)) | Err(update) => update,
                Ok(Err(error @ ResponseError::NotOffered(..))) if self.svid.is_some() => {
                    no_longer_offered(&error)
                }
                Ok(Err(error)) => self.follower.unusable(&error, now),
            }
        })
    }

    pub(super) fn next_deadline(&self, now: Now) -> Option<Instant> {
        let valid_at = self.valid_at.map(|date| now.instant_of(date));
        [self.follower.caller.next_deadline(), self.replace_at(now), valid_at].into_iter().flatten().min()
    }

    /// Whether an open stream has brought the SVID: the agent has not withdrawn it.
    pub(super) fn is_offered(&self) -> bool {
        self.svid.is_some() && self.follower.caller.stream().is_some_and(|stream| stream.delivered)
    }

    /// The identity is withdrawn and its files are removed: what was delivered no longer counts.
    pub(super) fn forget(&mut self) {
        self.svid = None;
    }
}
