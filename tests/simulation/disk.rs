//! What happens to the disk, and what must be there all the same.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::panic::resume_unwind;

use super::agent::RPCS;
use super::record::Count;
use super::trouble::{DAY, Event, GRACE, HOUR, MINUTE, SECOND, below, between};
use super::world::{WIT_KEY, World};
use crate::material::read_published;
use crate::store::Store;
use crate::store::simulated::{DISK, Death, Disk};
use crate::time::timing::{FIRST_SET, LOOK_AT_FILES, WRITE_AGAIN};

/// In the wildest world, the helper may die in one of so many turns.
const DEATHS: u64 = 32;
/// How many steps a publication has, about.
const MOST_STEPS: u64 = 40;

/// What an application finds, by its names.
pub(super) type OnDisk = BTreeMap<String, Vec<u8>>;

impl World<'_> {
    pub(super) fn break_disk(&mut self) -> String {
        let kind = below(8);
        if kind >= 5 {
            DISK.set(Disk { is_full: true, ..DISK.get() });
            self.tally.add(Count::FullVolumes, 1);
            // Long ones cost time.
            let most = if below(8) == 0 { 6 * HOUR } else { 20 * MINUTE };
            self.plan(Event::DiskMended, between(MINUTE, most));
            return " no room".to_owned();
        }
        self.disturb_by_disk();
        let svid = self.volume.join("svid");
        match kind {
            0 => {
                fs::rename(&self.volume, self.volume.with_extension("away")).unwrap();
                self.is_disk_away = true;
                self.plan(Event::DiskMended, between(SECOND / 10, HOUR));
                return " directory away".to_owned();
            }
            1 => drop(fs::remove_file(svid.join("svid-key.pem"))),
            2 => drop(fs::remove_file(svid.join("..data/one.jwt"))),
            3 => drop(fs::remove_file(svid.join("..data").join(WIT_KEY))),
            _ => {
                if let Ok(text) = fs::read(svid.join("svid.pem")) {
                    let _ = fs::write(svid.join("..data/svid.pem"), [&text[..], b"\n"].concat());
                }
            }
        }
        self.plan_disturbance(Event::DiskFault, between(MINUTE, 4 * DAY));
        format!(" {kind}")
    }

    /// The directory is there again, if it was away; or there is room again, if there was none.
    pub(super) fn mend_disk(&mut self) {
        let is_back = std::mem::take(&mut self.is_disk_away);
        if !is_back && !DISK.get().is_full {
            return;
        }
        self.plans.retain(|(_, event)| *event != Event::DiskMended);
        self.plan_disturbance(Event::DiskFault, between(MINUTE, 4 * DAY));
        DISK.set(Disk { is_full: false, ..DISK.get() });
        if is_back {
            fs::rename(self.volume.with_extension("away"), &self.volume).unwrap();
            self.disturb_by_disk();
        }
    }

    pub(super) fn disturb_by_disk(&mut self) {
        self.spare_no_look();
        let span = LOOK_AT_FILES + WRITE_AGAIN.longest() + FIRST_SET + GRACE;
        RPCS.into_iter().for_each(|rpc| self.disturb(rpc, span));
        self.watch.disk_fault_until = Some(self.now.instant + span);
    }

    /// While there is no room, files may be old.
    pub(super) fn disturb_by_full_disk(&mut self) {
        if DISK.get().is_full {
            let span = WRITE_AGAIN.longest() + FIRST_SET + GRACE;
            RPCS.into_iter().for_each(|rpc| self.disturb(rpc, span));
        }
    }

    /// Now and then, the helper dies in what it does next, if that changes the disk. Returns what is on disk before.
    pub(super) fn may_die(&self) -> Option<OnDisk> {
        let dies_after = (below(DEATHS * u64::from(self.calm)) == 0).then(|| below(MOST_STEPS));
        DISK.set(Disk { dies_after, ..DISK.get() });
        dies_after.map(|_| self.on_disk())
    }

    fn on_disk(&self) -> OnDisk {
        let path = &self.check.svid_path;
        let names = fs::read_dir(path).into_iter().flatten();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files = names.filter_map(|name| {
            let contents = fs::read(path.join(&name)).ok().filter(|_| !name.starts_with(".."))?;
            Some((name, contents))
        });
        files.collect()
    }

    /// The helper has died, and nothing has cleaned up. It leaves the old set or the new one, whole.
    pub(super) fn bury(&mut self, end: Box<dyn Any + Send>, before: Option<OnDisk>) {
        let Some(before) = before.filter(|_| end.is::<Death>()) else { resume_unwind(end) };
        self.end_helper();
        self.tally.add(Count::Deaths, 1);
        let date = self.now.instant - self.start;
        self.history.push_back(format!("{date:?}: a death"));
        self.watch.happened(Event::Restart, self.now.instant);
        self.watch.has_died = true;
        let after = self.on_disk();
        if self.watch.disk_fault_until.is_some() || after == before || after.is_empty() && self.may_remove() {
            return;
        }
        if let Some(name) = before.keys().find(|name| !after.contains_key(*name)) {
            self.fail(&format!("a death has left no {name}"));
        }
        let store = Store::new(self.check.svid_path.clone());
        let found = read_published(&self.check.parts, &store, self.now.time);
        for (part, found) in self.check.parts.iter().zip(found) {
            let [was, is] = [&before, &after].map(|files| files.get(part.file()));
            if let (Err(error), true) = (found, is != was) {
                self.fail(&format!("a death has left {} that is not whole: {error}", part.file()));
            }
        }
    }

    /// No set is left beside the published one, and no name leads nowhere.
    pub(super) fn look_at_leftovers(&self) {
        let path = &self.check.svid_path;
        let published = fs::read_link(path.join("..data")).ok();
        for entry in fs::read_dir(path).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_set = name.starts_with("..2");
            let is_left = match is_set {
                true => published.as_ref().is_none_or(|published| *published != *name),
                false => self.watch.disk_fault_until.is_none() && fs::metadata(path.join(&name)).is_err(),
            };
            if is_left {
                self.fail(&format!("{name} is left"));
            }
        }
    }
}
