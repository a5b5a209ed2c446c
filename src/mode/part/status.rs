//! How far a part is, what goes wrong with it, and how the log says so.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use log::Level;
use thiserror::Error;

use crate::identity::selection::{NotOffered, Selection};
use crate::identity::spiffe_id::TrustDomain;
use crate::identity::term::{Term, time_left};
use crate::logging::{Repetition, retrying_in};
use crate::options::value::OnRevoked;
use crate::store::layout::File;
use crate::timestamp::rfc3339;
use crate::workload_api::failure::{Failure, Remedy};

/// How a source is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pursuit {
    /// Until it has brought something good, or answers what the standard says not to retry.
    Once,
    /// Without end.
    Forever,
}

/// What a part wants done to its files.
pub enum Change {
    /// These files in place of its earlier ones. Keys among them are held until they are written.
    Write(Vec<File>),
    /// No files any more.
    Remove,
}

/// What the published set has of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing good.
    Nothing,
    /// Its files; with an SVID among them, its term.
    Good(Option<Term>),
}

/// What all parts have: how far they are, and what goes wrong.
pub struct Status {
    /// Precedes what is said of the source's troubles.
    label: String,
    pursuit: Pursuit,
    on_revoked: OnRevoked,
    change: Option<Change>,
    is_news: bool,
    standing: Standing,
    /// Of the newest good SVID, published or about to be.
    newest: Option<Term>,
    trouble: Repetition,
    problem: Option<String>,
    refusal: Option<Failure>,
    is_revoked: bool,
    expiry: Repetition,
}

impl Status {
    pub(super) fn new(label: String, pursuit: Pursuit, on_revoked: OnRevoked) -> Self {
        Self {
            label,
            pursuit,
            on_revoked,
            change: None,
            is_news: false,
            standing: Standing::Nothing,
            newest: None,
            trouble: Repetition::default(),
            problem: None,
            refusal: None,
            is_revoked: false,
            expiry: Repetition::default(),
        }
    }

    /// What is to be done to its files.
    pub fn change(&self) -> Option<&Change> {
        self.change.as_ref()
    }

    /// Whether there is a change that this has not told of yet.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// Whether the identity was withdrawn since this was asked last.
    pub(super) fn take_revocation(&mut self) -> bool {
        std::mem::take(&mut self.is_revoked)
    }

    /// The change is done.
    pub fn written(&mut self) {
        self.standing = match self.change.take() {
            Some(Change::Write(_)) => Standing::Good(self.newest.clone()),
            Some(Change::Remove) => Standing::Nothing,
            None => return,
        };
    }

    /// What the published set has of it.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// An earlier process has left this.
    pub fn found(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// Of the newest good SVID.
    pub fn newest(&self) -> Option<&Term> {
        self.newest.as_ref()
    }

    /// What went wrong last, and has not been mended since.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// An answer that ends a pursuit that is not for ever.
    pub fn refusal(&self) -> Option<&Failure> {
        self.refusal.as_ref()
    }

    /// Good files have come.
    pub(super) fn offer(&mut self, files: Vec<File>, term: Option<Term>) {
        self.newest = term;
        self.problem = None;
        self.change = Some(Change::Write(files));
        self.is_news = true;
    }

    /// What it is, for the log, whatever is known of it.
    pub fn name(&self) -> &str {
        match self.label.trim_end_matches(": ") {
            "" => "the X.509-SVID",
            name => name,
        }
    }

    /// A message about this part, as the log has it.
    pub fn labelled(&self, message: &str) -> String {
        format!("{}{message}", self.label)
    }

    pub(super) fn complain(&mut self, level: Level, message: &str, next: &str) {
        let message = self.labelled(message);
        self.trouble.log(level, &message, next);
        self.problem = Some(message);
    }

    /// The trouble with the source is over.
    pub(super) fn recovered(&mut self, endpoint: impl fmt::Display) {
        if let Some(lasted) = self.trouble.end() {
            log::info!("{}{endpoint} serves again, after {}s", self.label, lasted.as_secs());
        }
    }

    /// A call has failed, or ended.
    pub(super) fn failed(&mut self, failure: &Failure, retry_in: Duration, delivered: bool) {
        let next = retrying_in(retry_in);
        if self.pursuit == Pursuit::Once && failure.remedy() == Remedy::GiveUp {
            self.refusal = Some(failure.clone());
            return;
        }
        if self.pursuit == Pursuit::Forever && delivered && failure.is_permission_denied() {
            return self.revoked(&failure.to_string(), &next);
        }
        match failure.remedy() {
            // Agents restart, and end their streams; it is a trouble only if the next call fails.
            Remedy::BackOff if delivered => log::debug!("{}{failure}{next}", self.label),
            Remedy::GiveUp => self.complain(Level::Error, &failure.to_string(), &next),
            _ => self.complain(Level::Warn, &failure.to_string(), &next),
        }
    }

    /// The agent has taken the identity back (SPIFFE Workload API standard, section 5.2.1).
    pub(super) fn revoked(&mut self, cause: &str, next: &str) {
        self.is_revoked = true;
        let files = match self.on_revoked {
            OnRevoked::Keep => "the files stay (--on-revoked=remove would remove them)",
            OnRevoked::Remove => "removing the files",
        };
        self.withdraw();
        self.complain(Level::Error, &format!("the agent has withdrawn the identity; {files}: {cause}"), next);
    }

    /// Has the files removed, if that is what is wanted.
    pub(super) fn withdraw(&mut self) {
        if self.on_revoked == OnRevoked::Remove {
            self.newest = None;
            self.change = Some(Change::Remove);
            self.is_news = true;
        }
    }

    /// When the newest SVID's validity ends, if that is still to come.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        let left = time_left(self.newest.as_ref()?.not_after);
        (!left.is_zero()).then(|| Instant::now() + left)
    }

    pub(super) fn report_expiry(&mut self) {
        let Some(term) = self.newest.as_ref().filter(|term| term.is_expired(SystemTime::now())) else {
            self.expiry.end();
            return;
        };
        let (id, expired) = (&term.id, rfc3339(term.not_after, 0));
        let label = &self.label;
        let message =
            format!("{label}the SVID of {id} expired at {expired}, and the agent has sent no newer one");
        self.expiry.log(Level::Error, &message, "");
    }
}

/// Why a response gives nothing to publish.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Unusable {
    #[error("discarded a response that is no {0}: {1}")]
    Undecodable(&'static str, String),
    #[error("discarded a response that is not good: {0}")]
    Rejected(String),
    #[error("{0} (is {1} right, and does an entry for it match this pod?)")]
    NotOffered(NotOffered, &'static str),
    #[error(
        "the agent offers {} with an SVID that expired at {} (is the server behind the agent down, or this clock wrong?)",
        .0.id, rfc3339(.0.not_after, 0)
    )]
    Expired(Term),
    #[error(
        "the agent offers {0} with a bundle whose certificates have all expired, and --omit-expired leaves none"
    )]
    ExpiredBundle(TrustDomain),
}

impl Unusable {
    pub(super) fn not_offered(error: NotOffered, selection: &Selection) -> Self {
        Self::NotOffered(
            error,
            match (&selection.id, &selection.hint) {
                (Some(_), Some(_)) => "the pair of --pod-spiffe-id and --hint",
                (None, Some(_)) => "--hint",
                _ => "--pod-spiffe-id",
            },
        )
    }
}
