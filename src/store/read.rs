//! Reads the published set as one, by the names that an application opens; and whether it is still as it was,
//! without reading a byte of it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, stat};
use zeroize::Zeroizing;

use super::directory::{DATA, entries};
use super::error::StoreError;
use super::file::{File, FileName, file_id, file_type, is_regular_with, read_regular};
use super::permissions::DIRECTORY;
use crate::words::flaw;

/// The published set's directory: with the dot, the link is not the last part of the path, and is
/// followed for every user even in a directory that all share.
const SET: &str = "..data/.";

/// A published set, held open: its files belong together, whatever is published meanwhile.
pub(crate) struct PublishedSet<'a> {
    fd: OwnedFd,
    path: &'a Path,
    is_behind_data: bool,
}

impl<'a> PublishedSet<'a> {
    /// Opens the set that is published in a directory, or else the directory itself, with files that are not the
    /// helper's own.
    pub(super) fn open(path: &'a Path) -> Result<Self, StoreError> {
        let open = |path: &Path| nix::fcntl::open(path, DIRECTORY, Mode::empty());
        let opened = match open(&path.join(SET)) {
            Err(Errno::ENOENT) => open(path).map(|fd| (fd, false)),
            opened => opened.map(|fd| (fd, true)),
        };
        let (fd, is_behind_data) = opened.map_err(|cause| {
            let hint = match cause {
                Errno::ENOENT => " (is the volume mounted here?)",
                Errno::EACCES => " (may this process's user read it?)",
                _ => "",
            };
            flaw!("cannot open the directory {}: {}{hint}", path.display(), cause.desc())
        })?;
        Ok(Self { fd, path, is_behind_data })
    }

    /// The bytes that an application gets by this name, wiped from memory when dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the name cannot be opened and read; [`StoreError::NotOfTheSet`] if it
    /// leads elsewhere than into this set. Both happen to a good set that is replaced meanwhile: see
    /// [`is_current`](Self::is_current).
    pub(crate) fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let path = self.path.join(name);
        let by_name = read_regular(AT_FDCWD, &path, OFlag::empty(), |_| true);
        let (stat, contents) = by_name.map_err(|cause| StoreError::read(&path, cause))?;
        if !self.is_behind_data {
            return Ok(contents);
        }
        let of_set = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|cause| StoreError::read(&self.path.join(DATA).join(name), cause))?;
        let is_copy = || {
            let found = read_regular(&self.fd, name, OFlag::O_NOFOLLOW, |_| true);
            found.is_ok_and(|(_, found)| *found == *contents)
        };
        if file_id(&stat) != file_id(&of_set) && !is_copy() {
            return Err(StoreError::NotOfTheSet(flaw!(
                "{} is not the published file ..data/{name}: an application that opens it gets another one",
                path.display()
            )));
        }
        Ok(contents)
    }

    /// Whether it has a file of this name with these bytes.
    pub(crate) fn holds(&self, file: &File) -> bool {
        is_regular_with(&self.fd, file.name.as_str(), &file.contents, |_| true)
    }

    /// Whether no other set has been published meanwhile. The files of an earlier set are removed.
    pub(crate) fn is_current(&self) -> bool {
        match (fstat(&self.fd), stat(&self.path.join(SET))) {
            (Ok(own), Ok(current)) => file_id(&own) == file_id(&current),
            _ => true,
        }
    }

    /// The names of its files; none if it is no set, but the directory itself.
    pub(crate) fn names_of_set(&self) -> Result<Vec<String>, StoreError> {
        if self.is_behind_data { self.names_ending_with("") } else { Ok(Vec::new()) }
    }

    /// The names of all files that end like this.
    pub(crate) fn names_ending_with(&self, suffix: &str) -> Result<Vec<String>, StoreError> {
        let mut names = entries(&self.fd).map_err(|cause| StoreError::read(self.path, cause))?;
        names.retain(|name| name.ends_with(suffix) && name.parse::<FileName>().is_ok());
        Ok(names)
    }
}

/// A set as it was found: its directory, and each file by its name, and through `..data` if the name leads to another
/// one. A name that leads to the set's file shows what becomes of it; the directory shows whether it is still there.
#[derive(Default)]
pub(super) struct Snapshot {
    /// `..data`, and where it leads to, if it is a link: each publication has another place.
    link: PathBuf,
    target: Option<PathBuf>,
    looked_at: Vec<(Option<Stamp>, PathBuf)>,
}

/// What changes when a file is replaced or changed, or a directory's entries are.
#[derive(PartialEq)]
struct Stamp {
    file_id: (u64, u64),
    size: i64,
    /// Its modification time, in seconds and nanoseconds.
    modified: (i64, i64),
    mode: u32,
    /// User and group.
    owner: (u32, u32),
}

impl Snapshot {
    /// Looks at the set with the files of these names in a directory.
    pub(super) fn take<'a>(directory: &Path, names: impl IntoIterator<Item = &'a str>) -> Self {
        let look = |path: PathBuf| (stamp(&path), path);
        let files = names.into_iter().flat_map(|name| {
            let by_name = look(directory.join(name));
            let of_set = Some(look(directory.join(DATA).join(name))).filter(|file| file.0 != by_name.0);
            of_set.into_iter().chain([by_name])
        });
        let looked_at = files.chain([look(directory.join(SET))]).collect();
        let link = directory.join(DATA);
        Self { target: std::fs::read_link(&link).ok(), link, looked_at }
    }

    /// Whether this is the set that is there, whatever others have done to its files.
    pub(super) fn is_of_this_set(&self) -> bool {
        match &self.target {
            Some(target) => std::fs::read_link(&self.link).is_ok_and(|link| link == *target),
            None => !self.looked_at.is_empty() && self.is_unchanged(),
        }
    }

    /// Whether another set is published behind `..data`.
    pub(super) fn is_replaced(&self) -> bool {
        self.target.is_some() && !self.is_of_this_set()
    }

    /// Whether all is there, and is what it was.
    pub(super) fn is_unchanged(&self) -> bool {
        self.looked_at.iter().all(|(before, path)| before.is_some() && stamp(path) == *before)
    }
}

/// Links are followed, as an application does.
fn stamp(path: &Path) -> Option<Stamp> {
    let found = stat(path).ok()?;
    let (size, mode) = (found.st_size, found.st_mode);
    // A directory's number may change on overlayfs.
    let is_directory = file_type(&found) == SFlag::S_IFDIR;
    let file_id = if is_directory { (0, 0) } else { file_id(&found) };
    let (modified, owner) = ((found.st_mtime, found.st_mtime_nsec), (found.st_uid, found.st_gid));
    Some(Stamp { file_id, size, modified, mode, owner })
}
