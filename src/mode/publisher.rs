//! Publishes into the directory: knows when, logs what fails, and looks whether the files are still there.

use std::time::Instant;

use log::Level;

use super::schedule::Schedule;
use crate::logging::{Repetition, SharedReminder, retrying_in};
use crate::metrics::Publications;
use crate::store::file::{File, FileMode};
use crate::store::{Publication, Store, StoreError};
use crate::time::clock::Now;
use crate::time::timing::{LOOK_AT_FILES, LOOK_FOR_PROBES};

/// The directory, and how the publications into it go.
pub(super) struct Publisher {
    pub(super) store: Store,
    pub(super) schedule: Schedule,
    trouble: Repetition,
    /// Why the last attempt failed, if it did.
    pub(super) error: Option<StoreError>,
    /// How many have changed the directory, and when the last did.
    pub(super) publications: Publications,
    /// When the published files are looked at again.
    pub(super) look_at: Option<Instant>,
    /// When a probe's look at them was, and whether it found damage.
    probed: Option<(Instant, bool)>,
}

impl Publisher {
    pub(super) fn new(store: Store, share: SharedReminder) -> Self {
        Self {
            store,
            schedule: Schedule::new(),
            trouble: Repetition::sharing(share),
            error: None,
            publications: Publications::default(),
            look_at: None,
            probed: None,
        }
    }

    /// Whether the published files must be fetched again: other programs have removed, changed or replaced them. Names
    /// alone are put back. Looks once a minute, and before a publication that keeps some of the files (`keeps_some`).
    pub(super) fn look_each_minute(&mut self, keeps_some: bool, now: Now) -> bool {
        if !keeps_some && self.look_at.is_some_and(|at| at > now.instant) {
            return false;
        }
        self.look_at = Some(now.instant + LOOK_AT_FILES);
        if self.store.is_intact() {
            return false;
        }
        let path = self.store.path().display();
        let is_replaced = self.store.is_replaced();
        if !is_replaced && self.store.put_names_back(now) {
            log::warn!("files in {path} were removed; restored them from the published set");
            self.probed = None;
            return false;
        }
        let (level, what) = match is_replaced {
            true => (Level::Debug, "were replaced by another helper's"),
            false => (Level::Warn, "were removed or changed"),
        };
        log::log!(level, "files in {path} {what}; fetching them again");
        true
    }

    /// Looks at the published files for a probe, now and then, and says what is wrong. They are repaired at the
    /// next turn.
    pub(super) fn look_for_probe(&mut self, now: Instant) -> Option<String> {
        let recent = self.probed.filter(|(at, _)| now < *at + LOOK_FOR_PROBES);
        let (_, is_damaged) = recent.unwrap_or_else(|| (now, !self.store.is_intact()));
        if recent.is_none() {
            self.probed = Some((now, is_damaged));
            self.look_at = self.look_at.map(|at| if is_damaged { now } else { at });
        }
        is_damaged.then(|| format!("files in {} were removed or changed", self.store.path().display()))
    }

    /// When there is something to do. Where nothing is published, there is nothing to look at.
    pub(super) fn next_deadline(&self, has_published: bool) -> Option<Instant> {
        let look_at = self.look_at.filter(|_| has_published);
        self.schedule.due_at.into_iter().chain(look_at).min()
    }

    /// Publishes `files` of this identity, all at one moment. A failure is logged, and the next attempt is scheduled.
    pub(super) fn publish(
        &mut self,
        files: &[&File],
        keeps: impl Fn(&str) -> Option<FileMode>,
        identity: Option<&str>,
        now: Now,
    ) -> Option<Publication> {
        match self.store.publish(files, keeps, identity, now) {
            Ok(publication) => {
                self.trouble.end();
                self.error = None;
                self.probed = None;
                if matches!(publication, Publication::Replaced | Publication::Removed) {
                    self.publications.count += 1;
                    self.publications.last = Some(now.time);
                }
                Some(publication)
            }
            Err(error) => {
                let is_locked = matches!(error, StoreError::Busy(_));
                let next = retrying_in(self.schedule.failed(is_locked, now.instant));
                let is_end = matches!(error, StoreError::ToldToEnd(_));
                let level = if is_end { Level::Debug } else { Level::Error };
                self.trouble.log(level, &error.to_string(), &next, now.instant);
                self.error = Some(error);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::file::Contents;

    #[test]
    fn the_published_files_are_looked_at_once_a_minute() {
        let (volume, now) = (tempfile::tempdir().unwrap(), Now::look());
        let mut publisher = Publisher::new(Store::new(volume.path().to_owned()), SharedReminder::default());
        let (name, mode) = ("svid.pem".parse().unwrap(), "0644".parse().unwrap());
        let file = File { name, mode, contents: Contents::new(|out| out.write_all(b"leaf")) };
        assert_eq!(publisher.publish(&[&file], |_| None, None, now), Some(Publication::Replaced));
        let after = |seconds| Now { instant: now.instant + Duration::from_secs(seconds), ..now };
        assert!(!publisher.look_each_minute(false, after(0)));
        assert_eq!(publisher.next_deadline(true), Some(after(60).instant));
        assert_eq!(publisher.next_deadline(false), None, "nothing is published");
        std::fs::remove_file(volume.path().join("..data/svid.pem")).unwrap();
        assert!(!publisher.look_each_minute(false, after(59)));
        assert!(publisher.look_each_minute(false, after(60)));
    }
}
