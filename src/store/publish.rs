//! Publishes a set of files as one: a reader sees the old set or the new one, never a mixture, and
//! a crash leaves one of the two.
//!
//! The algorithm is the kubelet's for Secret volumes. The files live in a hidden directory; `..data`
//! points to it; the names that readers open point through `..data`:
//!
//! ```text
//! svid.pem   -> ..data/svid.pem
//! ..data     -> ..2026-11-23T16-40-05.123456789Z
//! ..2026-11-23T16-40-05.123456789Z/svid.pem
//! ```
//!
//! Not every directory allows this. In one that all users share, the system follows a link only for
//! its owner: there the names are hard links to the files, moved into place one by one right
//! after `..data`. Where there are no hard links, the names are copies; where there are no symbolic
//! links, `..data` is the directory itself.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::directory::{Absent, DATA, Data, Directory, check_replaceable, entries, is_generation_name};
use super::error::StoreError;
use super::file::{File, FileMode, is_regular_with};
use super::generation::{Generation, is_acceptable, remove_after};
use super::leftovers::{file_names, remove_all, remove_leftovers, remove_name_of};
use super::names::{Naming, Staged, adopt_plain_files, is_file_of};
use super::notices::Notice;
use super::permissions::open_to_readers;
use super::{Publication, Store};
use crate::time::clock::Now;

impl Store {
    /// Makes `files` the published set, together with those files of the set before it to whose
    /// names `kept_mode` gives a mode; they are kept with that mode, and with the owner of all others.
    ///
    /// 1. Open the directory (made if its parent exists) and lock it, so that two writers cannot
    ///    interleave.
    /// 2. Claim the names and the `identity`, so that no helper with others publishes here while we live.
    /// 3. Find the files to keep: regular files that we own, in a set that we own. Withdraw an empty
    ///    set; write nothing if the same set is published already.
    /// 4. Check that every name and `..data` can be replaced. These cannot:
    ///    a. a directory that is immutable or append-only itself,
    ///    b. the published set, or a file of it, that is a mount point, immutable or append-only,
    ///    c. a name that is one of these, d. a directory in place of a name,
    ///    e. another user's file in a sticky directory; and, in step 3, another program's `..data`. But where a
    ///    set of ours is or was, that `..data` is moved aside.
    /// 5. Make a new hidden directory, named by the time.
    /// 6. Take over the files to keep.
    /// 7. Write each file into it, with its mode from the start and its owner, and sync it.
    /// 8. Make the link for `..data`; sync the hidden directory.
    /// 9. Put plain files of these names, from before the helper, behind `..data`, as a set of their
    ///    own, so that even they are replaced as one.
    /// 10. Make the names that are not right yet, aside; move to their places those that nothing has
    ///     (they lead nowhere for a moment longer); sync.
    /// 11. Replace `..data`, and sync: the moment of publication.
    /// 12. Move the other names to their places, one by one, and sync.
    /// 13. Remove our names that are not in the set, and our older hidden directories.
    ///
    /// When the set is empty, `..data` is removed, and with it all names at one moment.
    ///
    /// # Errors
    ///
    /// Up to the rename of step 11, the old set stays as it was, and the new files are removed again. After it, the
    /// next call finishes what this one has begun.
    /// [`StoreError::Busy`] when another process holds the lock: try again.
    pub(crate) fn publish(
        &self,
        files: &[&File],
        kept_mode: impl Fn(&str) -> Option<FileMode>,
        identity: Option<&str>,
        now: Now,
    ) -> Result<Publication, StoreError> {
        // 1.
        let absent = if files.is_empty() { Absent::DoWithout } else { Absent::Create };
        let Some(directory) = self.lock(absent)? else { return Ok(Publication::Unchanged) };
        // 2.
        self.claim(&directory, identity)?;
        // 3.
        let data = self.data(&directory, now)?;
        warn_of_foreign_set(&directory, &data);
        let kept = kept(&directory, &data, files, kept_mode, now)?;
        if files.is_empty() && kept.is_empty() {
            self.snapshot.take();
            return withdraw(&directory, &data);
        }
        let names: Vec<&str> = files
            .iter()
            .map(|file| file.name.as_str())
            .chain(kept.iter().map(|(name, _)| name.as_str()))
            .collect();
        if is_published_already(&directory, &data, files, &kept) {
            // A crash or another program may have left its directory closed to readers.
            if let Some(set) = directory.open_set(&data)? {
                open_to_readers(&set, &self.path, &self.notices)?;
            }
            if !self.is_unfinished.get() {
                let is_known = self.snapshot.borrow().is_of_this_set();
                self.remember(names);
                return Ok(if is_known { Publication::Unchanged } else { Publication::Found });
            }
            directory.sync()?;
        } else {
            // 4.
            check_replaceable(&directory, &data, &names)?;
            // 5. to 11.
            let swapped = swap(&directory, &data, files, &kept, &names, now.time);
            let staged = swapped.inspect_err(|_| drop(remove_leftovers(&directory)))?;
            // From here on there is no way back. The old set stays until the disk is known to have the new one.
            self.is_unfinished.set(true);
            directory.sync()?;
            // 12.
            if !staged.names.is_empty() {
                staged.place().inspect_err(|_| remove_unused(&directory))?;
                directory.sync()?;
            }
        }
        self.is_unfinished.set(false);
        // 13. A leftover does no harm: the next publication tries to remove it again.
        match remove_leftovers(&directory) {
            Ok(()) => self.notices.end(Notice::NotRemoved),
            Err(error) => {
                let message = format!("{error}; the new files are published nevertheless");
                self.notices.warn(Notice::NotRemoved, &message, now.instant);
            }
        }
        self.is_ours.set(true);
        self.remember(names);
        Ok(Publication::Replaced)
    }
}

/// Steps 5 to 11, except the last sync; returns the names that are still to be moved to their places.
fn swap<'a>(
    directory: &'a Directory<'a>,
    data: &Data,
    files: &[&File],
    kept: &[(String, FileMode)],
    names: &[&str],
    now: SystemTime,
) -> Result<Staged<'a>, StoreError> {
    // 5.
    let new = Generation::new(directory, now)?;
    // 6.
    new.keep(directory.open_set(data)?.as_ref(), kept)?;
    // 7.
    new.write(files)?;
    // 8.
    let is_link = new.prepare_data()?;
    let naming = Naming::new(directory, is_link);
    new.finish()?;
    // 9.
    if naming == Naming::Links
        && let Err(error) = adopt_plain_files(directory, data, names, now)
    {
        log::debug!("{error}; the file is replaced on its own");
    }
    // 10.
    let mut staged = Staged::new(directory, &new.fd, names, naming, now)?;
    if naming == Naming::Links {
        staged.place_missing(directory)?;
    }
    directory.sync()?;
    // 11.
    new.swap(is_link, now)?;
    Ok(staged)
}

/// Removes hidden directories that are not published. Of those, a file that is still under its name stays: by it, a
/// withdrawal knows the name as ours.
fn remove_unused(directory: &Directory<'_>) {
    let Ok(data) = directory.data() else { return };
    let (Ok(Some(published)), Ok(names)) = (directory.open_set(&data), entries(&directory.fd)) else {
        return;
    };
    for name in names.iter().filter(|name| is_generation_name(name) && data != Data::Link((*name).clone())) {
        let keep_named = |set: &OwnedFd, file: &str| {
            let is_needed = is_file_of(directory, set, file)? && !is_file_of(directory, &published, file)?;
            if is_needed { Err(directory.error("remove", file, Errno::EBUSY)) } else { Ok(()) }
        };
        // The next publication tries again.
        remove_after(directory, name, keep_named).ok();
    }
}

/// The names in the published set that are not among `files` and are to be kept, with their modes.
fn kept(
    directory: &Directory<'_>,
    data: &Data,
    files: &[&File],
    kept_mode: impl Fn(&str) -> Option<FileMode>,
    now: Now,
) -> Result<Vec<(String, FileMode)>, StoreError> {
    let Some(set) = directory.open_set(data)? else { return Ok(Vec::new()) };
    let new: HashSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let (mut kept, mut is_complete) = (Vec::new(), true);
    let names = file_names(directory, &set)?;
    for name in names.into_iter().filter(|name| !new.contains(name.as_str())) {
        let Some(mode) = kept_mode(&name) else { continue };
        if may_be_kept(directory, &set, &name)? {
            kept.push((name, mode));
        } else {
            is_complete = false;
            let path = directory.path.join(DATA).join(&name);
            let message =
                format!("{} is not a regular file of this process's user: leaving it out", path.display());
            directory.notices.warn(Notice::LeftOut, &message, now.instant);
        }
    }
    if is_complete {
        directory.notices.end(Notice::LeftOut);
    }
    Ok(kept)
}

/// Whether all that is published may be kept. Without a set, it may not: plain files are not kept.
pub(super) fn keeps_all(directory: &Directory<'_>, data: &Data) -> Result<bool, StoreError> {
    let Some(set) = directory.open_set(data)? else { return Ok(false) };
    for name in file_names(directory, &set)? {
        if !may_be_kept(directory, &set, &name)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn may_be_kept(directory: &Directory<'_>, set: &OwnedFd, name: &str) -> Result<bool, StoreError> {
    Ok(directory.look_in(set, name)?.is_some_and(|stat| is_acceptable(directory, &stat)))
}

fn warn_of_foreign_set(directory: &Directory<'_>, data: &Data) {
    let Data::Link(name) = data else { return };
    let Ok(Some(stat)) = directory.look_at(name) else { return };
    if !directory.owns(&stat) {
        directory.notices.warn_once(
            Notice::ForeignSet,
            format_args!(
                "user {1} has published the files in {0}: they are not kept (run both helpers as the same user, or the first one with --file-owner)",
                directory.path.display(),
                stat.st_uid
            ),
        );
    }
}

/// Whether the published set is exactly `files` (names, modes, owners and bytes) and what is kept,
/// and all names are right.
fn is_published_already(
    directory: &Directory<'_>,
    data: &Data,
    files: &[&File],
    kept: &[(String, FileMode)],
) -> bool {
    let Ok(Some(set)) = directory.open_set(data) else { return false };
    let naming = Naming::of(directory, data);
    let is_right = |name: &str, mode: FileMode| {
        naming.is_right(directory, &set, name).unwrap_or(false)
            && fstatat(&set, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| directory.is_as_new(&stat, mode))
    };
    let holds_file = |file: &&File| {
        let name = file.name.as_str();
        is_right(name, file.mode) && is_regular_with(&set, name, &file.contents, |stat| directory.owns(stat))
    };
    entries(&set).is_ok_and(|names| names.len() == files.len() + kept.len())
        && kept.iter().all(|(name, mode)| is_right(name, *mode))
        && files.iter().all(holds_file)
}

/// Removes the published set, all of it at one moment, unless its names are files. What cannot be removed, or synced,
/// keeps nothing else: it is the error in the end.
fn withdraw(directory: &Directory<'_>, data: &Data) -> Result<Publication, StoreError> {
    let mut outcome = Ok(());
    // Before their set: after a crash between them, nobody would know the names as ours.
    if let (Data::Link(_), Some(set)) = (data, directory.open_set(data)?) {
        for name in file_names(directory, &set)? {
            outcome = outcome.and(remove_name_of(directory, &set, &name));
        }
    }
    outcome = outcome.and(match data {
        Data::Absent => Ok(()),
        Data::Link(_) => directory.unlink(DATA),
        Data::Directory => remove_after(directory, DATA, |set, name| remove_name_of(directory, set, name)),
    });
    // A loss of power must not bring back a set whose files are removed here.
    outcome = outcome.and(directory.sync());
    outcome = outcome.and(remove_all(directory));
    outcome.and(directory.sync())?;
    Ok(if *data == Data::Absent { Publication::Unchanged } else { Publication::Removed })
}
