//! Plain files from before the helper, put behind `..data`.

use std::os::fd::OwnedFd;
use std::time::SystemTime;

use nix::sys::stat::SFlag;

use super::directory::{Data, Directory};
use super::error::StoreError;
use super::file::kind;
use super::generation::Generation;
use super::names::{Naming, Staged};

/// If plain files are under the names, puts all files of these names behind `..data`, as a set of their
/// own: readers see no change, and from then on all names change as one. The set is on disk before a
/// name leads to it.
///
/// Does nothing if a file is not ours: the publication then replaces each file on its own.
pub(super) fn adopt_plain_files(
    directory: &Directory<'_>,
    data: &Data,
    names: &[&str],
    now: SystemTime,
) -> Result<(), StoreError> {
    let mut has_plain = false;
    for name in names {
        has_plain |= directory.look_at(name)?.is_some_and(|stat| kind(&stat) == SFlag::S_IFREG);
    }
    if !has_plain {
        return Ok(());
    }
    let set = directory.open_set(data)?;
    let adopted = Generation::new(directory, now)?;
    let mut taken = Vec::new();
    for name in names {
        let from: Option<&OwnedFd> =
            if directory.is_our_link(name)? { set.as_ref() } else { Some(&directory.fd) };
        let is_there = directory.look_at(name)?.is_some() && !directory.leads_nowhere(name);
        let Some(from) = from.filter(|_| is_there) else { continue };
        if adopted.link_from(from, name)?.is_none() {
            return adopted.remove();
        }
        taken.push(*name);
    }
    if !adopted.prepare_data()? {
        return adopted.remove();
    }
    adopted.finish()?;
    let staged = Staged::new(directory, &adopted.fd, &taken, Naming::Links, now)?;
    directory.sync()?;
    adopted.swap(true, now)?;
    directory.sync()?;
    staged.place()?;
    directory.sync()
}
