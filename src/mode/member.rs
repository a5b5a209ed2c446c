//! One part of the layout: its next files, and its published ones.

use std::time::SystemTime;

use log::Level;

use super::announce;
use super::changes::{self, Contents};
use crate::clock::Now;
use crate::identity::bundle::BundleInfo;
use crate::identity::svid_info::SvidInfo;
use crate::layout::Part;
use crate::logging::{Repetition, Share};
use crate::store::file::File;

/// What is known of one part.
pub(super) struct Member {
    /// What the next publication does to its files.
    pub(super) change: Option<Change>,
    /// The newest good SVID, published or about to be.
    pub(super) newest: Option<SvidInfo>,
    /// The X.509 bundles that came with it.
    pub(super) bundles: Vec<BundleInfo>,
    /// The X.509 bundles in the published files; empty for files of an earlier process.
    pub(super) published_bundles: Vec<BundleInfo>,
    pub(super) published: Published,
    /// The last failure, until something good comes.
    pub(super) problem: Option<Problem>,
    /// That `newest` has expired, for the log.
    expiry: Repetition,
}

/// What a publication does to a part's files.
pub(super) enum Change {
    /// Writes these files in place of the earlier ones.
    Write(Vec<File>),
    Remove,
}

/// What the published set has of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Published {
    Nothing,
    /// Good files, and the SVID in them, if there is one.
    Good(Option<SvidInfo>),
}

/// Why there is nothing good of a part.
#[derive(Debug, Clone)]
pub(super) enum Problem {
    /// It may still come.
    Trouble(String),
    /// The agent's answer must not be retried.
    Refused(String),
}

impl Member {
    /// Nothing is known yet. Members that `share` their reminders are all of one set.
    pub(super) fn new(share: Share) -> Self {
        Self {
            change: None,
            newest: None,
            bundles: Vec::new(),
            published_bundles: Vec::new(),
            published: Published::Nothing,
            problem: None,
            expiry: Repetition::sharing(share),
        }
    }

    pub(super) fn is_published(&self) -> bool {
        self.published != Published::Nothing
    }

    /// Whether the source has brought a change or a problem.
    pub(super) fn has_outcome(&self) -> bool {
        self.change.is_some() || self.problem.is_some()
    }

    /// Whether the part is published, or never will be.
    pub(super) fn is_settled(&self) -> bool {
        self.is_published() || matches!(self.problem, Some(Problem::Refused(_)))
    }

    /// The published SVID.
    pub(super) fn svid(&self) -> Option<&SvidInfo> {
        match &self.published {
            Published::Good(svid) => svid.as_ref(),
            Published::Nothing => None,
        }
    }

    /// The newest files are published. Returns what changed, if files were there before.
    pub(super) fn publish(&mut self) -> Option<String> {
        let before = Contents { svid: self.svid(), bundles: &self.published_bundles };
        let after = Contents { svid: self.newest.as_ref(), bundles: &self.bundles };
        let change = self.is_published().then(|| changes::describe(before, after));
        self.published = Published::Good(self.newest.clone());
        self.published_bundles = self.bundles.clone();
        change
    }

    /// The new files, if there are any.
    pub(super) fn files(&self) -> &[File] {
        match &self.change {
            Some(Change::Write(files)) => files,
            Some(Change::Remove) | None => &[],
        }
    }

    /// Logs that the newest SVID has expired: at once, and then now and again.
    pub(super) fn report_expired(&mut self, part: Part<'_>, now: Now) {
        match self.newest.as_ref().filter(|svid| svid.is_expired(now.time)) {
            Some(svid) => {
                let message =
                    format!("{}, and the agent has sent no newer one", announce::expired(part, svid));
                self.expiry.log_state(Level::Error, &message, now.instant);
            }
            None => {
                self.expiry.end(now.instant);
            }
        }
    }

    /// Beginning and end of the newest SVID, and of the published one, which an earlier process may have left.
    pub(super) fn ends(&self) -> impl Iterator<Item = SystemTime> {
        self.newest.iter().chain(self.svid()).flat_map(|svid| [svid.not_before, svid.not_after])
    }
}
