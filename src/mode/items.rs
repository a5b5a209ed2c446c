//! The items: what the agent has sent of each, what is to be published, and what is published.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use log::Level;

use super::announce;
use super::item::{Change, Item};
use super::publisher::Publisher;
use crate::http::NotReady;
use crate::identity::selection::Selection;
use crate::identity::spiffe_id::SpiffeId;
use crate::identity::svid_info::SvidInfo;
use crate::logging::Repetition;
use crate::material::{
    Agent, CallCounts, ChangeKind, ChangeKinds, Facts, Learned, Part, Source, Update, Wish, read_published,
};
use crate::store::file::File;
use crate::store::{Publication, StoreError};
use crate::time::clock::Now;
use crate::words::words;

words! {
    /// What happens to the files when the agent withdraws the identity.
    OnRevoked {
        Keep = "keep",
        Remove = "remove",
    }
}

/// What an attempt to publish has done.
pub(super) struct Effect {
    pub(super) publication: Publication,
    /// What is new.
    pub(super) changed: ChangeKinds,
    /// When the first of the SVIDs that were replaced should have been renewed at the latest.
    pub(super) renewal_due: Option<SystemTime>,
}

/// All items of one directory.
pub(super) struct Items<'a> {
    all: Vec<Item<'a>>,
    /// Fetches the keys of tokens, where no item does. Never dropped, as the items' sources.
    key_watch: Option<std::mem::ManuallyDrop<Box<dyn Source + 'a>>>,
    /// Whether no SVID is wanted, so that keys alone show that the agent serves us.
    has_keys_alone: bool,
    on_revoked: OnRevoked,
    /// The hint that chooses the identity, if one does.
    hint: Option<&'a str>,
    pub(super) publisher: Publisher,
    /// Whether an earlier helper has left more than keys. They may not read back whole: it had other options, for
    /// example.
    found_set: bool,
    /// Whether the found files were read. Files without facts could not be read then.
    has_read: bool,
    is_withdrawn: bool,
    /// Logs that, until the agent offers an identity again.
    withdrawal: Repetition,
    /// How many calls the agent has ended.
    ended: u64,
}

impl<'a> Items<'a> {
    /// One item for each part. The first polls make the first calls.
    pub(super) fn new(
        parts: &'a [Rc<dyn Part>],
        selection: &'a Selection,
        agent: &Agent<'a>,
        publisher: Publisher,
        on_revoked: OnRevoked,
        now: Now,
    ) -> Self {
        let decides = |part: &Rc<dyn Part>| part.decides_identity();
        let follows_identity = parts.iter().any(decides);
        let wish = |part| Wish {
            agent: agent.clone(),
            selection,
            follows_identity: follows_identity && !decides(part),
            now,
        };
        let item =
            |part: &'a Rc<dyn Part>| Item::new(part.as_ref(), part.source(&wish(part)), agent.share.clone());
        let has_keys = parts.iter().any(|part| part.brings_keys());
        let key_watch = parts.iter().filter(|_| !has_keys).find_map(|part| part.key_watch(&wish(part)));
        Self {
            all: parts.iter().map(item).collect(),
            key_watch: key_watch.map(std::mem::ManuallyDrop::new),
            has_keys_alone: parts.iter().all(has_keys_alone),
            on_revoked,
            hint: selection.hint.as_deref(),
            publisher,
            found_set: false,
            has_read: false,
            is_withdrawn: false,
            withdrawal: Repetition::sharing(agent.share.clone()),
            ended: 0,
        }
    }

    /// Adopts good files of an earlier process, if the next publication keeps them. It replaces the set of a single
    /// part, and keeps nothing of it.
    pub(super) fn adopt_existing(&mut self, parts: &[Rc<dyn Part>], selection: &Selection, now: SystemTime) {
        let store = &self.publisher.store;
        let names = store.names_of_set();
        let is_of_keys =
            |name: &String| parts.iter().any(|part| has_keys_alone(part) && part.mode_of(name).is_some());
        self.found_set = store.has_set() && (self.has_keys_alone || !names.iter().all(is_of_keys));
        if store.drops_found() && (self.all.len() > 1 || names.is_empty()) {
            return;
        }
        let found = read_published(parts, &self.publisher.store, now);
        self.has_read = true;
        for (item, found) in self.all.iter_mut().zip(found) {
            let is_selected = |svid: &SvidInfo| selection.id.as_ref().is_none_or(|id| svid.id == *id);
            item.published = found.ok().filter(|facts| facts.svid.as_ref().is_none_or(is_selected));
            announce::found(item, self.publisher.store.path());
        }
    }

    /// Ends all calls, as the end of the process does.
    #[cfg(test)]
    pub(super) fn end_calls(self) {
        let sources = self.all.into_iter().map(|item| item.source).chain(self.key_watch);
        sources.for_each(|source| drop(std::mem::ManuallyDrop::into_inner(source)));
    }

    /// Takes what the sources have learned: at most one update of each, so that none starves another. The one
    /// that waits longest goes first. Returns whether there may be more.
    pub(super) fn poll(&mut self, now: Now, context: &mut Context<'_>) -> bool {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_unstable_by_key(|index| {
            let since = self.all.get(*index).and_then(|item| item.source.call().waits_since());
            (since.is_none(), since, *index)
        });
        let mut is_busy = false;
        let is_offered = self.is_offered_beside(None);
        if let Some(key_watch) = &mut self.key_watch
            && let Poll::Ready(update) = key_watch.poll(is_offered, now, context)
        {
            is_busy = true;
            match update {
                Update::JwtKeys(keys) => self.tell(Learned::JwtKeys(&keys), now),
                // The tokens' own calls show whether it is so.
                Update::Withdrawn { .. } => {
                    self.all.iter_mut().for_each(|item| item.source.call_mut().ask_again(now.instant));
                }
                // Its failures are nobody's trouble.
                _ => {}
            }
        }
        for index in order {
            let is_offered = self.is_offered_beside(Some(index));
            let Some(item) = self.all.get_mut(index) else { continue };
            if let Poll::Ready(update) = item.source.poll(is_offered, now, context) {
                is_busy = true;
                self.apply(index, update, now);
            }
        }
        self.tell_of_new_agent(now.instant);
        if is_busy {
            self.tell_identity(now);
        }
        is_busy
    }

    /// After the end of a source's call, the agent may be another one, with other profiles.
    fn tell_of_new_agent(&mut self, now: Instant) {
        let ended = self.sources().map(|source| source.call().counts().ended).sum();
        if std::mem::replace(&mut self.ended, ended) != ended {
            self.sources().for_each(|source| source.call_mut().agent_is_new(now));
        }
    }

    /// Whether the open stream of another item than this one offers the identity.
    fn is_offered_beside(&self, index: Option<usize>) -> bool {
        let others = self.all.iter().enumerate().filter(|(other, _)| Some(*other) != index);
        others.map(|(_, item)| item).any(|item| item.source.offers_identity())
    }

    fn apply(&mut self, index: usize, update: Update, now: Now) {
        let Some(item) = self.all.get_mut(index) else { return };
        match update {
            Update::Files(files, facts) => {
                if facts.svid.is_some() || self.has_keys_alone {
                    self.is_withdrawn = false;
                    self.withdrawal.end();
                }
                if self.is_withdrawn && self.on_revoked == OnRevoked::Remove {
                    // Keys come back with the identity.
                    return item.source.forget();
                }
                let had_problem = item.accept(files, *facts);
                let has_changed = item.change.is_some();
                if has_changed {
                    self.publisher.schedule.changed(now.instant);
                }
                if had_problem {
                    // The agent serves again: it may serve the others, too.
                    self.sources().for_each(|source| source.retry_now(now.instant));
                }
            }
            Update::JwtKeys(keys) => self.tell(Learned::JwtKeys(&keys), now),
            Update::Withdrawn { cause, next } => self.withdraw(index, cause, &next, now),
            Update::Trouble(message) => item.record_failure(message, false, now.instant),
            Update::GaveUp(message) => item.record_failure(message, true, now.instant),
        }
    }

    /// Names the workload's own identity to the sources. Where one of the parts decides it, an item that turns out to
    /// be another identity's is not published, its files do not count and go with the next publication, which gives
    /// its source a moment to bring another.
    pub(super) fn tell_identity(&mut self, now: Now) {
        let Some(own) = self.identity().map(|svid| svid.id.clone()) else { return };
        self.tell(Learned::Identity(&own), now);
        let is_decided = self.is_decided();
        let mut has_dropped = false;
        for item in self.all.iter_mut().filter(|item| is_decided && item.is_anothers(&own)) {
            (item.newest, item.published) = (None, None);
            item.change = Some(Change::Remove);
            // What comes of the new call is another trouble.
            item.problem.take_if(|_| !item.source.call().is_off());
            has_dropped = true;
        }
        if has_dropped {
            self.publisher.schedule.restart(self.has_changes(), now.instant);
        }
    }

    fn tell(&mut self, learned: Learned<'_>, now: Now) {
        self.all.iter_mut().for_each(|item| item.source.learn(learned, now));
    }

    /// A withdrawal covers every form of the identity, and is one log line.
    fn withdraw(&mut self, index: usize, cause: String, next: &str, now: Now) {
        let is_of_identity = |facts: &Facts| facts.svid.is_some() || self.has_keys_alone;
        let has_some = |item: &Item<'_>| item.newest.iter().chain(&item.published).any(is_of_identity);
        let had_nothing = !self.found_set && !self.all.iter().any(has_some);
        let is_news = !had_nothing && !std::mem::replace(&mut self.is_withdrawn, true);
        if is_news {
            let consequence = match self.on_revoked {
                OnRevoked::Keep => "the files stay (--on-revoked=remove would remove them)",
                OnRevoked::Remove => "--on-revoked=remove removes the files",
            };
            let message = format!("the agent has withdrawn the identity; {consequence}: {cause}");
            self.withdrawal.log(Level::Error, &message, next, now.instant);
        } else {
            log::debug!("{cause}{next}");
        }
        if let Some(item) = self.all.get_mut(index) {
            item.record_failure(cause, false, now.instant);
        }
        if !is_news {
            return;
        }
        // The agent may still offer an SVID of another form, or not even that.
        let others = self.all.iter_mut().enumerate().filter(|(other, _)| *other != index);
        others.for_each(|(_, item)| item.source.call_mut().ask_again(now.instant));
        if self.on_revoked == OnRevoked::Remove {
            self.sources().for_each(|source| source.forget());
            for item in &mut self.all {
                item.newest = None;
                item.change = Some(Change::Remove);
            }
            self.publisher.schedule.changed(now.instant);
        }
    }

    fn sources(&mut self) -> impl Iterator<Item = &mut Box<dyn Source + 'a>> {
        let all = self.all.iter_mut().map(|item| &mut *item.source);
        all.chain(self.key_watch.iter_mut().map(|source| &mut **source))
    }

    /// Looks whether other programs have removed or changed published files. Files that cannot be put back count as
    /// missing and are fetched again, and the next publication waits for them.
    pub(super) fn fetch_damaged(&mut self, is_busy: bool, now: Now) {
        let keeps_some = self.all.iter().any(|item| item.change.is_none());
        let keeps_some = keeps_some && self.publisher.schedule.is_due(is_busy, now.instant);
        if !self.has_published() || !self.publisher.look_each_minute(keeps_some, now) {
            return;
        }
        for item in &mut self.all {
            // What is lost already is still to be restored.
            item.lost = item.published.take().or(item.lost.take());
        }
        // A publication waits for what is fetched again: it would drop the damaged files.
        self.publisher.schedule.restart(self.has_changes(), now.instant);
        self.sources().for_each(|source| source.call_mut().fetch_again(now.instant));
    }

    /// Whether one of the parts decides the identity.
    fn is_decided(&self) -> bool {
        self.all.iter().any(|item| item.part.decides_identity())
    }

    fn has_changes(&self) -> bool {
        self.all.iter().any(|item| item.change.is_some())
    }

    /// The SVID that a publication is about: the X.509-SVID, or else the first token. It may be an
    /// earlier process's.
    pub(super) fn identity(&self) -> Option<&SvidInfo> {
        let facts = self.all.iter().flat_map(|item| [&item.newest, &item.published]);
        facts.flatten().find_map(|facts| facts.svid.as_ref())
    }

    /// When there is something to do. `looks`: the files are looked at each minute.
    pub(super) fn next_deadline(&self, looks: bool, now: Now) -> Option<Instant> {
        let sources = self.all.iter().map(|item| &item.source).chain(&self.key_watch);
        let sources = sources.filter_map(|source| source.next_deadline(now));
        let facts = self.all.iter().flat_map(|item| item.newest.iter().chain(&item.published));
        let changes = facts.flat_map(Facts::verdict_times).filter(|change| *change > now.time).min();
        let changes = changes.map(|change| now.instant_of(change));
        sources.chain(self.publisher.next_deadline(looks && self.has_published())).chain(changes).min()
    }

    /// Publishes what has changed, all of it at one moment, if that is due. `is_busy`: another update
    /// may be ready. A failure is logged and retried.
    pub(super) fn publish_due(&mut self, is_busy: bool, now: Now) -> Option<Effect> {
        let has_spoken = |item: &Item<'_>| match item.change {
            Some(Change::Write(_)) => true,
            // An item that was another identity's may bring another one.
            Some(Change::Remove) => self.is_withdrawn || item.problem.is_some(),
            None => item.problem.is_some(),
        };
        if self.all.iter().all(has_spoken) {
            self.stop_waiting(now.instant);
        }
        if !self.publisher.schedule.take_due(is_busy, now.instant) {
            return None;
        }
        self.find_unchanged();
        let identity = self.identity().map(|svid| svid.id.clone());
        let own = identity.as_ref().filter(|_| self.is_decided());
        let Self { all, publisher, has_read, .. } = self;
        let files: Vec<&File> = all.iter().flat_map(Item::files).collect();
        let keeps = |name: &str| {
            // The first part owns what no other one claims.
            let (item, mode) = all.iter().rev().find_map(|item| Some((item, item.part.mode_of(name)?)))?;
            let is_kept = item.change.is_none() && own.is_none_or(|own| item.may_be_of(own, *has_read));
            is_kept.then_some(mode)
        };
        let publication =
            match publisher.publish(&files, keeps, identity.as_ref().map(SpiffeId::as_str), now)? {
                // The other files are as they were.
                _ if files.is_empty() => Publication::Removed,
                publication => publication,
            };
        Some(self.record(publication))
    }

    /// The next publication does not wait for the sources that have brought nothing.
    pub(super) fn stop_waiting(&mut self, now: Instant) {
        self.publisher.schedule.stop_waiting(now);
    }

    /// Why the last attempt to publish failed, if it did.
    pub(super) fn store_error(&self) -> Option<&StoreError> {
        self.publisher.error.as_ref()
    }

    /// Finds the items whose files are there as they were last published or found, beside those whose are not: they
    /// change nothing.
    fn find_unchanged(&mut self) {
        let set = self.publisher.store.published().ok();
        for item in &mut self.all {
            let holds = |file| set.as_ref().is_some_and(|set| set.holds(file));
            let is_written = item.published.is_some() && !item.files().is_empty();
            item.is_there = is_written && item.files().iter().all(holds);
        }
        // If all are there, something else is new, for all of them: a mode, for example. Looked at last: what another
        // helper publishes meanwhile is news.
        let are_all_there = self.all.iter().all(|item| item.is_there || item.files().is_empty());
        let is_any_there = self.all.iter().any(|item| item.is_there);
        if is_any_there && (are_all_there || !self.publisher.store.is_intact()) {
            self.all.iter_mut().for_each(|item| item.is_there = false);
        }
    }

    /// The changes are done. Nobody needs to know of files that are known.
    fn record(&mut self, publication: Publication) -> Effect {
        let path = self.publisher.store.path();
        let (mut changed, mut written) = (ChangeKinds::default(), ChangeKinds::default());
        let mut renewal_due: Option<SystemTime> = None;
        for item in &mut self.all {
            match item.change.take() {
                Some(Change::Write(_)) => {
                    announce::written(item, publication, path, self.hint);
                    if !item.is_known(publication) {
                        changed.add(item.changes());
                        written.add(item.part.kinds());
                    }
                    let newest = item.newest.as_ref().and_then(|facts| facts.svid.as_ref());
                    let earlier = item.before().and_then(|facts| facts.svid.as_ref());
                    let earlier = earlier.filter(|svid| Some(*svid) != newest);
                    renewal_due = renewal_due.into_iter().chain(earlier.map(SvidInfo::overdue_at)).min();
                    item.lost = None;
                    item.published = item.newest.clone();
                }
                Some(Change::Remove) => {
                    let was_there = item.published.take().or(item.lost.take()).is_some();
                    if was_there {
                        log::info!("removed {} from {}", item.part.name(), path.display());
                    }
                }
                None => {}
            }
        }
        // Facts do not show all: the files have other names, for example.
        let changed = if changed.is_empty() { written } else { changed };
        Effect { publication, changed, renewal_due }
    }

    /// Logs a withdrawn identity, and each SVID that has ended without a newer one on disk: once, and then as a reminder.
    pub(super) fn report_lasting(&mut self, now: Now) {
        self.withdrawal.remind(now.instant);
        let error = self.publisher.error.as_ref();
        self.all.iter_mut().for_each(|item| item.report_expired(error, now));
    }

    /// As [`fault`](Self::fault), after a look at the disk. Damage is repaired at the next turn.
    pub(super) fn fault_on_disk(&mut self, now: Now) -> Option<NotReady> {
        let damage = |cause| NotReady { cause, lasts: None };
        self.fault(now).or_else(|| self.publisher.look_for_probe(now.instant).map(damage))
    }

    /// The first reason why not every file is there and good now.
    pub(super) fn fault(&self, now: Now) -> Option<NotReady> {
        self.all.iter().find_map(|item| item.fault(self.store_error(), now))
    }

    /// The facts of the published parts.
    pub(super) fn published(&self) -> impl Iterator<Item = (&'a dyn Part, &Facts)> {
        self.all.iter().filter_map(|item| Some((item.part, item.published.as_ref()?)))
    }

    /// The kinds of what the published files hold.
    pub(super) fn kinds(&self) -> ChangeKinds {
        self.published().flat_map(|(part, _)| part.kinds()).collect()
    }

    /// How the calls of each item's source went, since the start.
    pub(super) fn calls(&self) -> impl Iterator<Item = &CallCounts> {
        self.all.iter().map(|item| item.source.call().counts())
    }

    /// Whether every item is published, or never will be.
    pub(super) fn is_settled(&self) -> bool {
        let is_settled = |item: &Item<'_>| {
            item.published.is_some() || item.problem.as_ref().is_some_and(|problem| problem.is_final)
        };
        self.all.iter().all(is_settled)
    }

    /// Whether any item is published.
    pub(super) fn has_published(&self) -> bool {
        self.all.iter().any(|item| item.published.is_some())
    }

    /// The items that are not published.
    pub(super) fn missing(&self) -> impl Iterator<Item = &Item<'a>> {
        self.all.iter().filter(|item| item.published.is_none())
    }

    /// The parts whose newest change is not on disk.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = &'a dyn Part> {
        self.all.iter().filter(|item| item.change.is_some()).map(|item| item.part)
    }
}

/// Whether a part's files are of no identity.
fn has_keys_alone(part: &Rc<dyn Part>) -> bool {
    part.kinds().into_iter().all(|kind| kind == ChangeKind::Keys)
}
