//! What each kind of material gives: its files ([`Part`]), and what fetches it ([`Source`], with one [`Call`]). And what
//! goes between them and the items: a wish, what was learned, an update.

use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use super::call_counts::CallCounts;
use super::changes::ChangeKinds;
use super::facts::Facts;
use crate::identity::jwt_bundle::JwtBundles;
use crate::identity::raw::Field;
use crate::identity::selection::Selection;
use crate::identity::spiffe_id::SpiffeId;
use crate::identity::svid_info::SvidInfo;
use crate::layout::GivenName;
use crate::logging::SharedReminder;
use crate::store::StoreError;
use crate::store::file::{File, FileMode};
use crate::store::read::PublishedSet;
use crate::time::clock::Now;
use crate::wait::Waiter;
use crate::workload_api::client::Client;

/// A part of the files that is fetched, and changes, on its own.
pub(crate) trait Part: fmt::Debug {
    /// Its name in a sentence, such as "the X.509-SVID".
    fn name(&self) -> String;

    /// Its name with what identifies this SVID, for the line about its publication.
    fn describe(&self, _svid: &SvidInfo) -> String {
        self.name()
    }

    /// The name of one of its files: the one that holds the SVID, if there is one.
    fn file(&self) -> &str;

    /// The name of the file that holds this field of an X.509-SVID.
    fn file_of(&self, _field: Field) -> &str {
        self.file()
    }

    /// The names of its files, each with the option that sets it.
    fn given_names(&self) -> Vec<GivenName>;

    /// The permissions of a file of the published set; `None` if it belongs to another part. The first part is asked
    /// last, and may take what no other one has claimed.
    fn mode_of(&self, name: &str) -> Option<FileMode>;

    /// The kinds of change that its files can bring.
    fn kinds(&self) -> ChangeKinds;

    /// The kinds that differ between the published facts and newer ones, as far as facts show that.
    fn changes(&self, _before: &Facts, _after: &Facts) -> ChangeKinds {
        self.kinds()
    }

    /// Whether its SVID decides whose the other parts are.
    fn decides_identity(&self) -> bool {
        false
    }

    /// Reads it back from a published set. A token without a date of issue counts as issued at `now`.
    ///
    /// # Errors
    ///
    /// The file that is missing, or cannot be read, or does not belong to the others. Dates are the
    /// business of [`fault`](super::fault).
    fn read(&self, set: &PublishedSet<'_>, now: SystemTime) -> Result<Facts, StoreError>;

    /// What fetches it. It calls when it is polled first.
    fn source<'a>(&'a self, wish: &Wish<'a>) -> Box<dyn Source + 'a>;

    /// Whether its source brings the keys that verify tokens.
    fn brings_keys(&self) -> bool {
        false
    }

    /// What watches the keys that verify it, where nothing else fetches them.
    fn key_watch<'a>(&self, _wish: &Wish<'a>) -> Option<Box<dyn Source + 'a>> {
        None
    }
}

/// What fetches one part from the agent, and checks it.
pub(crate) trait Source {
    /// What it has learned. `is_offered`: another source's open stream offers the identity.
    fn poll(&mut self, is_offered: bool, now: Now, context: &mut Context<'_>) -> Poll<Update>;

    /// When to poll again even if nothing is ready.
    fn next_deadline(&self, now: Now) -> Option<Instant>;

    /// Its RPC.
    fn call(&self) -> &dyn Call;

    /// Its RPC.
    fn call_mut(&mut self) -> &mut dyn Call;

    /// Says what it waits for, for the log.
    fn describe_wait(&self) -> String {
        self.call().describe_wait()
    }

    /// Whether its open stream offers the identity: the agent has not withdrawn it.
    fn offers_identity(&self) -> bool {
        false
    }

    /// The identity is withdrawn and its files are removed: what was delivered no longer counts.
    fn forget(&mut self);

    /// The agent serves another source again: makes a postponed call at once, if something is missing.
    fn retry_now(&mut self, now: Instant) {
        self.call_mut().retry_now(now);
    }

    /// Takes what another source has brought. If its own files turn out to be another identity's, it fetches others.
    fn learn(&mut self, _learned: Learned<'_>, _now: Now) {}
}

/// What a source learns from others.
#[derive(Clone, Copy)]
pub(crate) enum Learned<'a> {
    /// The workload's own identity.
    Identity(&'a SpiffeId),
    /// The keys that verify tokens.
    JwtKeys(&'a Rc<JwtBundles>),
}

/// What a source has learned.
pub(crate) enum Update {
    /// Good files, in place of the source's earlier ones, and the facts about them. Keys among them are
    /// wiped when they are dropped.
    Files(Vec<File>, Box<Facts>),
    /// The keys that verify tokens, for the other sources.
    JwtKeys(Rc<JwtBundles>),
    /// The agent has withdrawn the identity (SPIFFE Workload API standard, sections 5.2.1 and 7.2.1).
    /// `next` says what the source does now, for the end of a log line.
    Withdrawn { cause: String, next: String },
    /// Something went wrong, and is logged; the source goes on.
    Trouble(String),
    /// The source gives up: the answer must not be retried, or no retry is allowed.
    GaveUp(String),
}

/// For how long the sources are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until each has good files, or an answer that must not be retried.
    FirstSuccess,
    /// Until the first answer or failure, good or not.
    FirstAnswer,
    /// Until the process stops.
    Stopped,
}

/// The agent, and how long to follow it.
#[derive(Clone)]
pub(crate) struct Agent<'a> {
    pub(crate) client: &'a Client,
    pub(crate) waiter: &'a Waiter,
    pub(crate) until: Until,
    /// All its troubles share one reminder a minute.
    pub(crate) share: SharedReminder,
}

/// What a source is to fetch, and from where.
pub(crate) struct Wish<'a> {
    pub(crate) agent: Agent<'a>,
    pub(crate) selection: &'a Selection,
    /// Whether another part decides the identity.
    pub(crate) follows_identity: bool,
    /// When it begins.
    pub(crate) now: Now,
}

/// What others do with a call, whatever its RPC.
pub(crate) trait Call {
    /// Says what it waits for, for the log.
    fn describe_wait(&self) -> String;

    /// How the calls went, since the start.
    fn counts(&self) -> &CallCounts;

    /// Since when something that was asked for has not come; `None` if nothing is missing.
    fn waits_since(&self) -> Option<Instant>;

    /// Makes a postponed call at once, if something is missing.
    fn retry_now(&mut self, now: Instant);

    /// Makes the next call at once, unless a stream is open. What an open call with a single response brings would be
    /// old.
    fn ask_again(&mut self, now: Instant);

    /// Makes the agent send again what it has sent before.
    fn fetch_again(&mut self, now: Instant);

    /// Another agent may be there now: asks it for what the one before had turned off.
    fn agent_is_new(&mut self, now: Instant);

    /// Whether the agent has the RPC's profile turned off: no call follows.
    fn is_off(&self) -> bool;
}
