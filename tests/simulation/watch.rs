//! What must hold after each turn.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::agent::Rpc;
use super::lines;
use super::record::{Count, Version, kinds_of};
use super::trouble::{GRACE, HOUR, Trouble};
use super::world::{KEYS, WIT, WIT_KEY, WIT_KEYS, World};
use crate::identity::svid_info::SvidInfo;
use crate::material::ChangeKinds;
use crate::mode::check;
use crate::store::simulated::{DISK, Disk};
use crate::time::timing::{
    AFTER_RETURN, BETWEEN_TOKENS, BLOCKED_LOOK, CALL_AGAIN, DEBOUNCE, DENIAL_IS_WITHDRAWAL, LONGEST_SLEEP,
    MOST_BLOCKED_LOOKS, OVERDUE, REMINDER, SIGNAL_AGAIN, WRITE_AGAIN,
};
/// Of turns without a reason, each so manieth is followed by a check of the files.
const SAMPLE: u64 = 4096;
/// How often one token may be served while another waits.
const PASSED_OVER: u32 = 3;
/// Turns in a minute: looks at a process that blocks the signal, and attempts to connect.
const TURNS: usize = 1500;

impl World<'_> {
    /// Looks whether all promises are kept.
    pub(super) fn look(&mut self) {
        if let Some(trouble) = self.trouble {
            self.disturb_by_trouble(trouble);
        }
        if self.is_disk_away {
            self.disturb_by_disk();
        }
        self.disturb_by_full_disk();
        if !self.agent.0.borrow().newest().is_good(self.now.time) {
            self.disturb(Rpc::X509, GRACE);
        }
        if !self.agent.0.borrow().newest_pair().is_good(self.now.time) {
            self.disturb(Rpc::Wit, GRACE);
        }
        let broken = self.children.0.borrow_mut().broken.take();
        if let Some(promise) = broken {
            self.fail(&promise);
        }
        self.look_at_manners();
        self.look_at_log();
        // It publishes nothing any more.
        if self.stopping.is_some() {
            return;
        }
        let published = self.published();
        self.excuse_deaf_streams(&published);
        if std::mem::take(&mut self.watch.has_died) {
            // It may have removed all.
            if self.watch.disk_fault_until.is_none() {
                self.watch.known.clear();
            }
            self.watch.known.extend((*published).clone());
        }
        let changed = self.look_at_publication(&published);
        let has_steps = DISK.get().has_steps;
        DISK.set(Disk { has_steps: false, ..DISK.get() });
        if self.watch.is_new || has_steps || changed.is_some() {
            self.look_at_leftovers();
        }
        self.look_at_notifications(changed.as_ref(), &published);
        let is_ready = self.look_at_verdict();
        self.look_at_hook(changed.as_ref(), &published);
        self.look_at_application(changed.as_ref(), is_ready);
        self.look_at_files(&published, is_ready);
        self.look_at_keys(&published);
        self.watch.is_new = false;
    }

    /// An agent may forget a stream, and keep it open: it is asked again when the SVID is overdue.
    fn excuse_deaf_streams(&mut self, published: &BTreeMap<String, Version>) {
        let is_overdue =
            |svid: &SvidInfo| has_passed(svid.overdue_at(), OVERDUE.longest() + GRACE, self.now.time);
        let svid = published.get("svid.pem").and_then(|version| version.svid.as_ref());
        let wit = published.get(WIT).and_then(|version| version.svid.as_ref());
        let [x509, wit] = [svid, wit].map(|svid| svid.is_some_and(|svid| !is_overdue(svid)));
        let has_time = [x509, false, true, wit, true];
        for rpc in [Rpc::X509, Rpc::Keys, Rpc::Wit, Rpc::WitKeys] {
            if has_time[rpc as usize] && self.agent.0.borrow().is_deaf(rpc) {
                self.disturb(rpc, LONGEST_SLEEP + GRACE);
            }
        }
    }

    fn published(&mut self) -> Rc<BTreeMap<String, Version>> {
        let count = self.helper.as_ref().unwrap().items.publisher.publications.count;
        let is_new = self.watch.is_new || self.watch.publications != count;
        if is_new {
            self.read_files();
        }
        let facts = || {
            let published = self.helper.as_ref().unwrap().items.published();
            published.map(|(part, facts)| (part.file(), facts))
        };
        let seen = self.watch.published_facts.iter().map(|(file, facts)| (file.as_str(), facts));
        if is_new || !facts().eq(seen) {
            let contents = |file: &str| self.watch.contents.get(file).copied().unwrap_or_default();
            let versions = facts().map(|(file, facts)| (file.to_owned(), Version::of(facts, contents(file))));
            self.watch.published = versions.collect::<BTreeMap<_, _>>().into();
            let facts = facts().map(|(file, facts)| (file.to_owned(), facts.clone()));
            self.watch.published_facts = facts.collect();
        }
        self.watch.published.clone()
    }

    /// Takes note of the files whose facts do not show all. Token and key are always one pair.
    fn read_files(&mut self) {
        let data = self.volume.join("svid/..data");
        for file in ["one.jwt", "two.jwt", WIT] {
            if let Ok(text) = fs::read(data.join(file)) {
                self.watch.contents.insert(file.to_owned(), digest(text));
            }
        }
        for file in [KEYS, WIT_KEYS] {
            if let Ok(text) = fs::read(data.join(file)) {
                let document: serde_json::Value = serde_json::from_slice(&text).unwrap();
                let keys = document["keys"].as_array().unwrap().iter();
                let mut ids: Vec<_> = keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
                ids.sort();
                self.watch.contents.insert(file.to_owned(), digest(ids));
            }
        }
        let pair = [WIT, WIT_KEY].map(|file| fs::read_to_string(data.join(file)).ok());
        if let [Some(token), Some(key)] = pair
            && !self.agent.0.borrow().pairs.iter().rev().any(|pair| pair.token == token && pair.key == key)
        {
            self.fail("token and key of the WIT-SVID are no pair");
        }
    }

    /// What a publication has changed, if there was one. Each has a reason, and one that removes files removes all.
    fn look_at_publication(&mut self, published: &BTreeMap<String, Version>) -> Option<ChangeKinds> {
        let now = self.now.instant;
        let count = self.helper.as_ref().unwrap().items.publisher.publications.count;
        let watch = &mut self.watch;
        let is_published = count > watch.publications;
        self.tally.add(Count::Publications, count - watch.publications);
        watch.publications_of_hour.add(count - watch.publications, now);
        watch.is_event |= is_published && count.is_multiple_of(32);
        watch.publications = count;
        if !is_published {
            return None;
        }
        let changes = |(file, version): (&String, &Version)| version.changes(file, watch.known.get(file));
        let changed: ChangeKinds = published.iter().flat_map(changes).collect();
        let is_removal = published.is_empty();
        let lacks_some = watch.known.keys().any(|file| !published.contains_key(file));
        if is_removal {
            watch.known.clear();
        }
        watch.known.extend(published.clone());
        let is_damaged = watch.disk_fault_until.is_some();
        if is_removal {
            if !self.may_remove() {
                self.fail("files are removed, and no identity is withdrawn");
            }
            let left = self.check.parts.iter().find(|part| self.check.svid_path.join(part.file()).exists());
            if let Some(part) = left {
                self.fail(&format!("the identity is withdrawn, and {} is left", part.file()));
            }
        } else if !is_damaged && changed.is_empty() {
            // The order of keys in files of an earlier process is not known.
            self.watch.needless += 1;
            if self.watch.needless > 2 {
                self.fail("a publication of nothing new");
            }
        } else if !is_damaged && lacks_some {
            self.fail("a part of the files is gone");
        }
        Some(changed)
    }

    /// A publication that concerns the process is told it, and nothing else is.
    fn look_at_notifications(
        &mut self,
        changed: Option<&ChangeKinds>,
        published: &BTreeMap<String, Version>,
    ) {
        if self.on_renewal().is_some() {
            return;
        }
        let now = self.now.instant;
        let watch = &mut self.watch;
        let is_concerned = |kinds: &ChangeKinds| !watch.kinds.common(kinds).is_empty();
        let has_news = changed.is_some_and(is_concerned);
        // What stood at the start is told.
        let is_found = now == watch.started && published.keys().any(|file| is_concerned(&kinds_of(file)));
        watch.news += u64::from(has_news);
        if has_news || is_found {
            watch.untold_since.get_or_insert(now);
        }
        let signals = self.children.0.borrow().signals;
        if signals > watch.signals {
            watch.signals = signals;
            watch.untold_since = None;
        }
        let watch = &self.watch;
        if signals > watch.news + watch.starts {
            self.fail("a signal without a publication");
        }
        if let (Some(untold), Some(can_take)) = (watch.untold_since, self.can_take_since)
            && now > untold.max(can_take) + self.patience()
        {
            self.fail(&format!("untold for {:?}", now - untold));
        }
    }

    /// How long a process that can take its signal waits for it at most.
    pub(super) fn patience(&self) -> Duration {
        let looks = if self.process_waits { BLOCKED_LOOK * MOST_BLOCKED_LOOKS } else { Duration::ZERO };
        self.splay + DEBOUNCE + SIGNAL_AGAIN.longest() + looks + GRACE
    }

    pub(super) fn may_remove(&self) -> bool {
        self.removes() && self.trouble.is_some_and(Trouble::withdraws)
    }

    /// There is one verdict, and it is true. Returns whether it is good.
    fn look_at_verdict(&mut self) -> bool {
        let fault = self.helper.as_ref().unwrap().items.fault(self.now);
        let is_good = fault.is_none();
        if let Some(until) = self.watch.disk_fault_until
            && self.now.instant > until
            && is_good
        {
            self.watch.disk_fault_until = None;
        }
        let is_reason =
            is_good != self.watch.good_since.is_some() || std::mem::take(&mut self.watch.is_event);
        let since = self.watch.good_since.unwrap_or(self.now.instant);
        self.watch.good_since = is_good.then_some(since);
        if self.watch.disk_fault_until.is_some()
            || !is_reason && !self.tally.of(Count::Turns).is_multiple_of(SAMPLE)
        {
            return is_good;
        }
        self.tally.add(Count::Checks, 1);
        let checked = check::run(&self.check, self.now);
        if checked.is_ok() != is_good {
            let checked = checked.map_err(|error| error.to_string());
            self.fail(&format!("two verdicts: the loop has {fault:?}, check has {checked:?}"));
        }
        is_good
    }

    /// While the agent serves and the disk works, the files are the newest ones, and good.
    fn look_at_files(&mut self, published: &BTreeMap<String, Version>, is_ready: bool) {
        let agent = self.agent.clone();
        let agent = agent.0.borrow();
        let (now, newest) = (self.now, agent.newest());
        let is_due = |rpc: Rpc| now.instant > self.watch.fresh_by[rpc as usize];
        let svid = published.get("svid.pem").and_then(|version| version.svid.as_ref());
        let leaf = svid.map(|svid| agent.leaf(svid.serial().unwrap()));
        if let Some(leaf) = leaf {
            if leaf.is_bad || is_ready && !leaf.is_good(now.time) {
                self.fail(&format!("not good, and published as good: {leaf:?}"));
            }
            if leaf.serial < self.watch.serial {
                self.fail("an older SVID after a newer one");
            }
            self.watch.serial = leaf.serial;
        }
        if is_due(Rpc::X509) && leaf.map(|leaf| leaf.serial) != Some(newest.serial) {
            self.fail(&format!("published is {leaf:?}, and not {newest:?}"));
        }
        let bundle = published.get("svid.pem").map_or(0, Version::authorities);
        if is_due(Rpc::X509) && bundle != agent.authorities() {
            self.fail(&format!("{bundle} CAs are published, and not {}", agent.authorities()));
        }
        let mut is_early = false;
        let tokens = ["one.jwt", "two.jwt"].into_iter().filter(|file| self.wants(file));
        for file in tokens.filter(|_| is_due(Rpc::Token)) {
            let Some(version) = published.get(file) else { self.fail(&format!("no {file}")) };
            let svid = version.svid.as_ref().unwrap();
            is_early |= svid.dates().not_before > now.time;
            if has_passed(svid.renew_by(), BETWEEN_TOKENS + GRACE, now.time) {
                self.fail(&format!("{file} is not renewed: {svid:?}"));
            }
            if is_due(Rpc::Keys) && self.watch.revoked.contains(version) {
                self.fail(&format!("{file} is of a withdrawn key: {svid:?}"));
            }
        }
        let is_all_due = [Rpc::X509, Rpc::Token, Rpc::Keys, Rpc::Wit, Rpc::WitKeys].into_iter().all(is_due);
        if is_all_due && !is_ready && !is_early {
            self.fail("not ready, though all is well");
        }
        if agent.passed_over.iter().flatten().any(|times| *times > PASSED_OVER) {
            self.fail("a token starves");
        }
    }

    /// The WIT-SVID and the keys are the agent's newest ones, and nothing is left of a withdrawn identity.
    fn look_at_keys(&mut self, published: &BTreeMap<String, Version>) {
        let now = self.now.instant;
        let expected = {
            let agent = self.agent.0.borrow();
            let keys = digest(agent.key_ids());
            [
                (Rpc::Wit, WIT, digest(agent.newest_pair().token.as_bytes())),
                (Rpc::Keys, KEYS, keys),
                (Rpc::WitKeys, WIT_KEYS, keys),
            ]
        };
        for (rpc, file, contents) in expected {
            let is_newest = published.get(file).is_some_and(|version| version.contents == contents);
            if self.wants(file) && !is_newest && now > self.watch.fresh_by[rpc as usize] {
                self.fail(&format!("{file} is not the newest one"));
            }
        }
        let since = self.watch.trouble.map_or(now, |(_, since)| since).max(self.watch.started);
        let patience =
            DENIAL_IS_WITHDRAWAL + AFTER_RETURN + 2 * CALL_AGAIN.longest() + WRITE_AGAIN.longest() + GRACE;
        if self.may_remove()
            && self.watch.disk_fault_until.is_none()
            && !published.is_empty()
            && now > since + patience
        {
            self.fail("the identity is withdrawn, and its files stay");
        }
        let calls = self.agent.0.borrow().counts[Rpc::Wit as usize];
        let (before, starts) = self.watch.before_off;
        if self.trouble == Some(Trouble::Off) && calls > before + 2 * (1 + self.watch.starts - starts) {
            self.fail("a profile that is off is asked for again");
        }
    }

    /// A lasting state is told once a minute, and nothing turns without end.
    fn look_at_log(&mut self) {
        let now = self.now.instant;
        let (severe, all) = lines::take_counts();
        self.tally.add(Count::Lines, all);
        let watch = &mut self.watch;
        watch.severe.add(severe, now);
        watch.lines.add(all, now);
        watch.turns.add(1, now);
        // One reminder of the agent, the disk and the files, one of the signal, and one of the hook or the application.
        let reminders = 3 * HOUR.div_duration_f64(REMINDER) as usize;
        let events = watch.events_of_hour.count(now) + 2;
        let publications = watch.publications_of_hour.count(now);
        let (severe, all, turns) = (watch.severe.count(now), watch.lines.count(now), watch.turns.count(now));
        if severe > reminders + 20 * events {
            self.fail(&format!("{severe} warnings in an hour with {events} events"));
        }
        // Each token that the agent cannot renew is asked for once a minute, and is the same.
        if all > 2 * reminders + 30 * events + 8 * publications {
            self.fail(&format!("{all} lines in an hour with {events} events, {publications} publications"));
        }
        if turns > TURNS {
            self.fail(&format!("{turns} turns in a minute"));
        }
    }
}

fn digest(value: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

/// Whether so long has passed since a date.
fn has_passed(date: SystemTime, span: Duration, now: SystemTime) -> bool {
    date + span < now
}
