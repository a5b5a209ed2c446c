//! The set of files that should be on disk: what to publish, and what is published.

use std::path::Path;
use std::time::{Instant, SystemTime};

use super::announce;
use super::member::{Change, Member, Problem, Published};
use super::publisher::Publisher;
use crate::clock::Now;
use crate::http::metrics::{Publications, PublishedSvid};
use crate::identity::bundle::BundleInfo;
use crate::identity::selection::Selection;
use crate::identity::svid_info::{SvidInfo, Validity};
use crate::layout::{Layout, Part, decode};
use crate::logging::Share;
use crate::source::Update;
use crate::store::file::File;
use crate::store::{Publication, Store, StoreError};
use crate::words::words;

words! {
    /// What happens to the files when the agent withdraws the identity.
    OnRevoked {
        Keep = "keep",
        Remove = "remove",
    }
}

/// The set: one member for each part of the layout.
pub(crate) struct DesiredSet<'a> {
    layout: &'a Layout,
    on_revoked: OnRevoked,
    members: Vec<Member>,
    publisher: Publisher,
    is_withdrawn: bool,
}

/// What an update means for the other sources.
pub(crate) enum Effect {
    None,
    /// The agent serves this source again, or no longer: it may treat the others alike.
    ChangedMind,
    /// The files are being removed.
    Removing,
}

impl<'a> DesiredSet<'a> {
    /// Wants nothing yet.
    pub(crate) fn new(layout: &'a Layout, store: Store, on_revoked: OnRevoked, share: &Share) -> Self {
        let members = layout.parts().map(|_| Member::new(share.clone())).collect();
        Self {
            layout,
            on_revoked,
            members,
            publisher: Publisher::new(store, share.clone()),
            is_withdrawn: false,
        }
    }

    /// Looks at the directory, and repairs what a crash left.
    ///
    /// # Errors
    ///
    /// The options do not fit the directory.
    pub(crate) fn prepare(&self, now: SystemTime) -> Result<(), StoreError> {
        self.publisher.prepare(now)
    }

    /// Whether other programs have removed or changed published files. They then count as missing and
    /// must be fetched again, and the next publication waits for them.
    pub(crate) fn is_damaged(&mut self, now: Now) -> bool {
        let keeps_some = self.members.iter().any(|member| member.change.is_none());
        if !self.has_published() || !self.publisher.is_damaged(keeps_some, now.instant) {
            return false;
        }
        self.members.iter_mut().for_each(|member| member.published = Published::Nothing);
        // A publication waits for what is fetched again: it would drop the damaged files.
        let has_changes = self.members.iter().any(|member| member.change.is_some());
        self.publisher.schedule.restart(has_changes, now.instant);
        true
    }

    /// Adopts good files of an earlier process.
    pub(crate) fn adopt_existing(&mut self, selection: &Selection, now: SystemTime) {
        let found = decode::published(self.layout, self.publisher.store(), now);
        for (member, found) in self.members.iter_mut().zip(found) {
            let is_selected = |svid: &SvidInfo| selection.id.as_ref().is_none_or(|id| svid.id == *id);
            if let Ok(svid) = found
                && svid.as_ref().is_none_or(is_selected)
            {
                member.published = Published::Good(svid);
            }
        }
    }

    /// Takes an update of the part with this index.
    pub(crate) fn apply(&mut self, index: usize, update: Update, now: Now) -> Effect {
        let member = &mut self.members[index];
        match update {
            Update::Files(files, svid, bundles) => {
                let had_problem = member.problem.take().is_some();
                member.newest = svid;
                member.bundles = bundles;
                member.change = Some(Change::Write(files));
                self.is_withdrawn = false;
                self.publisher.schedule.changed(now.instant);
                if had_problem { Effect::ChangedMind } else { Effect::None }
            }
            Update::Withdrawn { cause, next } => self.withdraw(index, cause, &next, now),
            Update::Trouble(message) => {
                member.problem = Some(Problem::Trouble(message));
                Effect::None
            }
            Update::Refused(message) => {
                member.problem = Some(Problem::Refused(message));
                Effect::None
            }
        }
    }

    /// A withdrawal covers every form of the identity, and is one log line.
    fn withdraw(&mut self, index: usize, cause: String, next: &str, now: Now) -> Effect {
        let nothing = |member: &Member| member.newest.is_none() && !member.is_published();
        let had_nothing = self.members.iter().all(nothing);
        let was_withdrawn = std::mem::replace(&mut self.is_withdrawn, true);
        if had_nothing || was_withdrawn {
            log::debug!("{cause}{next}");
        } else {
            let consequence = match self.on_revoked {
                OnRevoked::Keep => "the files stay (--on-revoked=remove would remove them)",
                OnRevoked::Remove => "removing the files",
            };
            log::error!("the agent has withdrawn the identity; {consequence}: {cause}{next}");
        }
        self.members[index].problem = Some(Problem::Trouble(cause));
        if had_nothing || was_withdrawn {
            return Effect::None;
        }
        if self.on_revoked == OnRevoked::Keep {
            return Effect::ChangedMind;
        }
        for member in &mut self.members {
            member.newest = None;
            member.change = Some(Change::Remove);
        }
        self.publisher.schedule.changed(now.instant);
        Effect::Removing
    }

    /// The SVID that a publication is about: the X.509-SVID, or else the first JWT-SVID. It may be an
    /// earlier process's.
    pub(crate) fn identity(&self) -> Option<&SvidInfo> {
        self.members.iter().find_map(|member| member.newest.as_ref().or(member.svid()))
    }

    /// The part with this index turns out to be another identity's: it is not published, what is published of
    /// it does not count, and the next publication gives its source a moment to bring another.
    pub(crate) fn disown(&mut self, index: usize, now: Now) {
        let member = &mut self.members[index];
        member.newest = None;
        member.change = None;
        member.published = Published::Nothing;
        let has_changes = self.members.iter().any(|member| member.change.is_some());
        self.publisher.schedule.restart(has_changes, now.instant);
    }

    pub(crate) fn next_deadline(&self, now: Now) -> Option<Instant> {
        let ends = self.members.iter().flat_map(Member::ends).filter(|end| *end > now.time);
        let end = ends.min().map(|end| now.instant_of(end));
        self.publisher.schedule.next_deadline().into_iter().chain(end).min()
    }

    /// Stops waiting for parts that have brought nothing.
    pub(crate) fn flush(&mut self, now: Now) {
        self.publisher.schedule.flush(now.instant);
    }

    /// Publishes what has changed, all of it at one moment, if that is due. `is_busy`: another update
    /// may be ready. A failure is logged and retried.
    pub(crate) fn publish_due(&mut self, is_busy: bool, now: Now) -> Option<Publication> {
        if self.members.iter().all(Member::has_outcome) {
            self.flush(now);
        }
        if !self.publisher.schedule.take_due(is_busy, now.instant) {
            return None;
        }
        let Self { layout, members, publisher, .. } = self;
        let files: Vec<&File> = members.iter().flat_map(Member::files).collect();
        let keeps = |name: &str| {
            let (index, mode) = layout.owner(name)?;
            members[index].change.is_none().then_some(mode)
        };
        let publication = match publisher.publish(&files, keeps, now)? {
            // The other files are as they were.
            Publication::Replaced if files.is_empty() => Publication::Removed,
            publication => publication,
        };
        self.record(publication);
        Some(publication)
    }

    /// The changes are done.
    fn record(&mut self, publication: Publication) {
        let path = self.publisher.path();
        for (part, member) in self.layout.parts().zip(&mut self.members) {
            match member.change.take() {
                Some(Change::Write(_)) => {
                    let change = member.publish();
                    announce::written(part, member.newest.as_ref(), publication, change.as_deref(), path);
                }
                Some(Change::Remove) => {
                    announce::removed(part, path);
                    member.published = Published::Nothing;
                }
                None => {}
            }
        }
    }

    /// Logs each SVID that has expired without a newer one, once and then as a reminder.
    pub(crate) fn report_expired(&mut self, now: Now) {
        let all = self.layout.parts().zip(&mut self.members);
        all.for_each(|(part, member)| member.report_expired(part, now));
    }

    /// As [`fault`](Self::fault), after a look at the disk.
    pub(crate) fn fault_on_disk(&self, now: SystemTime) -> Option<String> {
        let path = self.publisher.path().display();
        let damage = || format!("files in {path} were removed or changed");
        self.fault(now).or_else(|| (!self.publisher.store().is_intact()).then(damage))
    }

    /// The first reason why not every file is there and valid now.
    pub(crate) fn fault(&self, now: SystemTime) -> Option<String> {
        let missing =
            self.missing().next().map(|(_, part, _)| format!("{} not published", announce::is(part)));
        missing.or_else(|| {
            self.svids().find_map(|(part, svid)| match svid.validity(now) {
                Validity::Valid => None,
                Validity::NotYet => Some(announce::not_valid_yet(part, svid)),
                Validity::Expired => Some(announce::expired(part, svid)),
            })
        })
    }

    /// The published SVIDs, each with the name of its file.
    pub(crate) fn published_files(&self) -> impl Iterator<Item = PublishedSvid<'_>> {
        self.svids().map(|(part, info)| PublishedSvid { file: part.file(), info })
    }

    /// The published X.509 bundles.
    pub(crate) fn published_bundles(&self) -> impl Iterator<Item = &BundleInfo> {
        self.members
            .iter()
            .filter(|member| member.is_published())
            .flat_map(|member| &member.published_bundles)
    }

    fn svids(&self) -> impl Iterator<Item = (Part<'a>, &SvidInfo)> {
        let all = self.layout.parts().zip(&self.members);
        all.filter_map(|(part, member)| Some((part, member.svid()?)))
    }

    pub(crate) fn publications(&self) -> Publications {
        self.publisher.publications()
    }

    /// Whether every part is published, or never will be.
    pub(crate) fn is_settled(&self) -> bool {
        self.members.iter().all(Member::is_settled)
    }

    /// Whether any part is published.
    pub(crate) fn has_published(&self) -> bool {
        self.members.iter().any(Member::is_published)
    }

    /// The parts that are not published: the index of each, and what went wrong.
    pub(super) fn missing(&self) -> impl Iterator<Item = (usize, Part<'a>, Option<&Problem>)> {
        let all = self.layout.parts().zip(&self.members).enumerate();
        all.filter(|(_, (_, member))| !member.is_published())
            .map(|(index, (part, member))| (index, part, member.problem.as_ref()))
    }

    /// The parts whose newest change is not on disk.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = Part<'a>> {
        let all = self.layout.parts().zip(&self.members);
        all.filter(|(_, member)| member.change.is_some()).map(|(part, _)| part)
    }

    /// Why the last attempt to publish failed, if it did.
    pub(crate) fn write_error(&self) -> Option<&StoreError> {
        self.publisher.error()
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.publisher.path()
    }
}
