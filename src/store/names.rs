//! The names that applications open: links through `..data`, or files. Those that are missing or wrong are made
//! aside, and only have to be moved to their places.

use std::os::fd::OwnedFd;
use std::time::SystemTime;

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, SFlag, fstatat};

use super::directory::{Data, Directory};
use super::error::StoreError;
use super::file::{FileMode, file_id, file_type, read_regular};
use super::generation::{Generation, is_acceptable, remove};
use super::notices::Notice;

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// A link to `..data/NAME`: all names change as one.
    Links,
    /// The file itself, where links are not there or not followed: a hard link, or else a copy.
    Files,
}

impl Naming {
    /// What the names in a directory are to be, if `..data` is or can be a link.
    pub(super) fn new(directory: &Directory<'_>, is_link: bool) -> Self {
        if is_link && !directory.is_shared { Self::Links } else { Self::Files }
    }

    /// What the names of the published set are to be.
    pub(super) fn of(directory: &Directory<'_>, data: &Data) -> Self {
        Self::new(directory, *data != Data::Directory)
    }

    /// Whether a name is what it is to be, and leads into this set.
    ///
    /// # Errors
    ///
    /// It cannot be known now.
    pub(super) fn is_right(
        self,
        directory: &Directory<'_>,
        set: &OwnedFd,
        name: &str,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Links => directory.is_our_link(name),
            Self::Files => is_file_of(directory, set, name),
        }
    }
}

/// Whether a name is the file of a set, or a copy of it.
///
/// # Errors
///
/// It cannot be known now.
pub(super) fn is_file_of(directory: &Directory<'_>, set: &OwnedFd, name: &str) -> Result<bool, StoreError> {
    let look = |fd| {
        let stat = directory.look_in(fd, name)?;
        Ok::<_, StoreError>(stat.filter(|stat| is_acceptable(directory, stat)))
    };
    let (Some(found), Some(expected)) = (look(&directory.fd)?, look(set)?) else { return Ok(false) };
    if file_id(&found) == file_id(&expected) {
        return Ok(true);
    }
    let attributes = |stat: &FileStat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size);
    if attributes(&found) != attributes(&expected) {
        return Ok(false);
    }
    let read = |fd| {
        read_regular(fd, name, OFlag::O_NOFOLLOW, |stat| directory.owns(stat))
            .map_err(|cause| directory.error("read", name, cause))
    };
    Ok(*read(&directory.fd)?.1 == *read(set)?.1)
}

/// Names that are made, and only have to be moved to their places.
pub(super) struct Staged<'a> {
    /// Where they are; none if there are none.
    generation: Option<Generation<'a>>,
    pub(super) names: Vec<String>,
}

impl<'a> Staged<'a> {
    /// Makes those names for a set that are not right yet.
    pub(super) fn new(
        directory: &'a Directory<'a>,
        set: &OwnedFd,
        names: &[&str],
        naming: Naming,
        now: SystemTime,
    ) -> Result<Self, StoreError> {
        let mut wrong = Vec::new();
        for name in names {
            if !naming.is_right(directory, set, name)? {
                wrong.push((*name).to_owned());
            }
        }
        if wrong.is_empty() {
            return Ok(Self { generation: None, names: wrong });
        }
        let generation = Generation::new(directory, now)?;
        for name in &wrong {
            directory.fail_if_told_to_end()?;
            match naming {
                Naming::Links => generation.link_through_data(name)?,
                Naming::Files => link_or_copy(directory, &generation, set, name)?,
            }
        }
        Ok(Self { generation: Some(generation), names: wrong })
    }

    /// Moves those names to their places that nothing has yet.
    pub(super) fn place_missing(&mut self, directory: &Directory<'_>) -> Result<(), StoreError> {
        let Some(generation) = &self.generation else { return Ok(()) };
        for name in std::mem::take(&mut self.names) {
            directory.fail_if_told_to_end()?;
            match directory.look_at(&name)? {
                Some(_) => self.names.push(name),
                None => generation.place(&name)?,
            }
        }
        Ok(())
    }

    /// Moves the other names to their places.
    pub(super) fn place(&self) -> Result<(), StoreError> {
        let Some(generation) = &self.generation else { return Ok(()) };
        self.names.iter().try_for_each(|name| generation.place(name))
    }
}

fn link_or_copy(
    directory: &Directory<'_>,
    to: &Generation<'_>,
    set: &OwnedFd,
    name: &str,
) -> Result<(), StoreError> {
    if to.link_from(set, name)?.is_some() {
        return Ok(());
    }
    directory.notices.warn_once(
        Notice::NoHardLinks,
        format_args!(
            "cannot make hard links in {}: the names there are copies of the files",
            directory.path.display()
        ),
    );
    let stat = fstatat(set, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|cause| directory.error("look at", name, cause))?;
    to.copy_from(set, name, FileMode::of(&stat))
}

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
        has_plain |= directory.look_at(name)?.is_some_and(|stat| file_type(&stat) == SFlag::S_IFREG);
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
            return remove(directory, &adopted.name);
        }
        taken.push(*name);
    }
    if !adopted.prepare_data()? {
        return remove(directory, &adopted.name);
    }
    adopted.finish()?;
    let staged = Staged::new(directory, &adopted.fd, &taken, Naming::Links, now)?;
    directory.sync()?;
    adopted.swap(true, now)?;
    directory.sync()?;
    staged.place()?;
    directory.sync()
}
