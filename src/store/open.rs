//! The first step: opens a directory and the files that are locked in it, and makes what is missing, with its
//! mode and its owner.
//!
//! The lock files are ours and have mode 0600, so that a reader of the directory cannot lock them. A helper
//! holds `..lock` during a publication, and `..names` and `..identity` as long as it runs.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, fchown, fsync, ftruncate, geteuid, unlinkat};

use super::error::{Notice, Notices, StoreError};
use super::file::{errno, kind};
use super::owner::Owner;
use crate::words::flaw;

pub(super) const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The permissions of directories: other containers' users read the certificates.
const OPEN_TO_READERS: u32 = 0o755;
/// Marks a directory as made by us and not finished.
const UNFINISHED: u32 = Mode::S_ISVTX.bits();

/// Makes the directory, marked as unfinished: a process that is killed now leaves the mark, and the
/// next one goes on with [`finish`].
pub(super) fn make(path: &Path) -> Result<(), StoreError> {
    let fail = |cause| StoreError::write("create the directory", path, cause);
    match nix::unistd::mkdir(path, Mode::from_bits_truncate(OPEN_TO_READERS | UNFINISHED)) {
        Err(Errno::ENOENT) => Err(StoreError::Unfit(flaw!(
            "cannot create the directory {}: its parent directory does not exist (is the volume mounted here?)",
            path.display()
        ))),
        Err(Errno::EEXIST) => Ok(()),
        Err(cause) => Err(fail(cause)),
        Ok(()) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = nix::fcntl::open(parent.unwrap_or(Path::new(".")), DIRECTORY, Mode::empty());
            // A process that may not read the parent may not sync it either.
            parent.map_or(Ok(()), sync).map_err(fail)
        }
    }
}

/// Gives a directory that [`make`] has made its owner and its mode.
pub(super) fn finish(
    fd: &OwnedFd,
    path: &Path,
    owner: Option<Owner>,
    notices: &Notices,
) -> Result<(), StoreError> {
    let stat = fstat(fd).map_err(|cause| StoreError::write("look at", path, cause))?;
    let others = (Mode::S_IWGRP | Mode::S_IWOTH).bits();
    let is_ours = [Some(geteuid()), owner.map(Owner::uid)].contains(&Some(stat.st_uid.into()));
    // A sticky directory that only its owner may write to has no other use.
    if !is_ours || stat.st_mode & (UNFINISHED | others) != UNFINISHED {
        return Ok(());
    }
    give(fd, path, owner)?;
    set_mode(fd, path, directory_mode(&stat), notices)
}

pub(super) fn give(fd: impl AsFd, path: &Path, owner: Option<Owner>) -> Result<(), StoreError> {
    let Some(owner) = owner else { return Ok(()) };
    fchown(fd, Some(owner.uid()), owner.gid()).map_err(|cause| {
        StoreError::Unfit(flaw!(
            "cannot give files in {} to {owner} (--file-owner): {} (this takes root, or the capabilities CHOWN, FOWNER and DAC_OVERRIDE)",
            path.display(),
            cause.desc()
        ))
    })
}

/// Sets a mode. A file system without chmod may refuse or ignore that: an error only if the mode that
/// the file then has lets more users in.
pub(super) fn set_mode(fd: impl AsFd, path: &Path, mode: u32, notices: &Notices) -> Result<(), StoreError> {
    let fail = |cause| StoreError::write("set the mode of", path, cause);
    let current = || fstat(&fd).map(|stat| stat.st_mode & 0o7777).map_err(fail);
    if current()? == mode {
        return Ok(());
    }
    match fchmod(&fd, Mode::from_bits_truncate(mode)) {
        Ok(()) | Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS | Errno::EOPNOTSUPP) => {}
        Err(cause) => return Err(fail(cause)),
    }
    let found = current()? & 0o777;
    let mode = mode & 0o777;
    if found & !mode != 0 {
        let wider = flaw!(
            "{} would have mode {found:04o} instead of {mode:04o}, and its file system does not allow chmod: choose another volume, or mount this one so that its files have mode {mode:04o}",
            path.display()
        );
        return Err(wider.into());
    }
    if found != mode {
        notices.warn_once(
            Notice::NarrowerMode,
            format_args!(
                "the file system does not allow chmod: {} has mode {found:04o} instead of {mode:04o}, which may keep readers out",
                path.display()
            ),
        );
    }
    Ok(())
}

/// Gives a directory of ours its permissions, if it has others.
pub(super) fn open_to_readers(fd: impl AsFd, path: &Path, notices: &Notices) -> Result<(), StoreError> {
    let stat = fstat(&fd).map_err(|cause| StoreError::write("look at", path, cause))?;
    set_mode(fd, path, directory_mode(&stat), notices)
}

/// The permissions of a directory of ours, whatever the umask. A setgid bit stays: it is how a pod's
/// fsGroup reaches the files.
pub(super) fn directory_mode(inherited: &FileStat) -> u32 {
    OPEN_TO_READERS | inherited.st_mode & Mode::S_ISGID.bits()
}

/// Syncs. Some file systems cannot sync a directory, and answer EINVAL: nothing more can be done there.
pub(super) fn sync(fd: impl AsFd) -> nix::Result<()> {
    match fsync(fd) {
        Err(Errno::EINVAL) => Ok(()),
        done => done,
    }
}

/// How often to open a file again that others remove meanwhile.
const ATTEMPTS: u32 = 100;
/// The longest claim that is read.
const LONGEST_CLAIM: u64 = 1 << 20;

/// An attempt to lock a file.
pub(super) enum Locked {
    /// It is locked, until this is dropped.
    Yes(File),
    /// Another process has it locked.
    Busy,
    /// The file system has no locks.
    Unsupported,
}

/// Opens or makes the file that is locked during a publication, and locks it. Returns its metadata too:
/// any new file in this directory has the same owner and group.
pub(super) fn lock(directory: impl AsFd, name: &str) -> nix::Result<(Locked, FileStat)> {
    for _ in 0..ATTEMPTS {
        let (fd, stat) = open_private(&directory, name)?;
        match try_lock(fd.into(), File::try_lock)? {
            // The holder before us has removed it.
            Locked::Yes(_) if !is_still(&directory, name, &stat) => {}
            locked => return Ok((locked, stat)),
        }
    }
    Ok((Locked::Busy, fstat(&directory)?))
}

/// The lock ends with the last descriptor: to unlock by a call of its own may fail on a network's file system.
fn try_lock(file: File, how: fn(&File) -> Result<(), TryLockError>) -> nix::Result<Locked> {
    match how(&file) {
        Ok(()) => Ok(Locked::Yes(file)),
        Err(TryLockError::WouldBlock) => Ok(Locked::Busy),
        Err(TryLockError::Error(error)) => match errno(&error) {
            Errno::ENOLCK | Errno::ENOSYS | Errno::EOPNOTSUPP => Ok(Locked::Unsupported),
            cause => Err(cause),
        },
    }
}

/// The claim of live helpers to what they publish; helpers that claim the same share it. Only used while
/// the directory is locked.
pub(super) struct Claim {
    name: &'static str,
    text: String,
    file: File,
    stat: FileStat,
}

/// An attempt to claim.
pub(super) enum Claimed {
    Yes(Claim),
    /// A live helper has claimed this instead.
    Others(String),
    /// The file system has no locks.
    Unsupported,
}

impl Claim {
    /// Claims what the lines of the text say, in a file of this name.
    pub(super) fn take(directory: impl AsFd, name: &'static str, text: &str) -> nix::Result<Claimed> {
        let (fd, stat) = open_private(&directory, name)?;
        let mut file = File::from(fd.try_clone().map_err(|error| errno(&error))?);
        match try_lock(fd.into(), File::try_lock)? {
            Locked::Unsupported => {
                unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir).ok();
                return Ok(Claimed::Unsupported);
            }
            Locked::Busy => {
                let mut found = String::new();
                let read = (&file).take(LONGEST_CLAIM).read_to_string(&mut found);
                read.map_err(|error| errno(&error))?;
                if found != text {
                    return Ok(Claimed::Others(found.lines().collect::<Vec<_>>().join(", ")));
                }
            }
            // No live helper holds it.
            Locked::Yes(_) => {
                ftruncate(&file, 0)?;
                file.rewind()
                    .and_then(|()| file.write_all(text.as_bytes()))
                    .map_err(|error| errno(&error))?;
            }
        }
        drop(file);
        // A file that is open for writing would keep an operator from making the volume read-only.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let reader = openat(&directory, name, flags, Mode::empty())?;
        match try_lock(reader.into(), File::try_lock_shared)? {
            Locked::Yes(file) => Ok(Claimed::Yes(Self { name, text: text.to_owned(), file, stat })),
            Locked::Busy => Err(Errno::EWOULDBLOCK),
            Locked::Unsupported => Ok(Claimed::Unsupported),
        }
    }

    /// Whether it is a claim to this, and its name still leads to it.
    pub(super) fn holds(&self, directory: impl AsFd, text: &str) -> bool {
        self.text == text && is_still(directory, self.name, &self.stat)
    }

    /// Gives it up; the last one removes the file.
    pub(super) fn release(self, directory: impl AsFd) {
        let name = self.name;
        let is_there = is_still(&directory, name, &self.stat);
        drop(self.file);
        if is_there
            && let Ok((fd, _)) = open_private(&directory, name)
            && let Ok(Locked::Yes(_)) = try_lock(fd.into(), File::try_lock)
        {
            unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir).ok();
        }
    }
}

fn is_still(directory: impl AsFd, name: &str, stat: &FileStat) -> bool {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
}

/// Opens a regular file of ours. Removes anything else under its name.
fn open_private(directory: impl AsFd, name: &str) -> nix::Result<(OwnedFd, FileStat)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    for _ in 0..ATTEMPTS {
        match openat(&directory, name, flags, Mode::empty()) {
            Ok(fd) => {
                let stat = fstat(&fd)?;
                if kind(&stat) == SFlag::S_IFREG && stat.st_uid == geteuid().as_raw() {
                    return Ok((fd, stat));
                }
            }
            Err(Errno::ENOENT) => {
                let create = flags | OFlag::O_CREAT | OFlag::O_EXCL;
                match openat(&directory, name, create, Mode::S_IRUSR | Mode::S_IWUSR) {
                    Err(Errno::EEXIST) => continue,
                    opened => return opened.and_then(|fd| fstat(&fd).map(|stat| (fd, stat))),
                }
            }
            // A link, another user's file, a directory, a device.
            Err(Errno::ELOOP | Errno::EACCES | Errno::EISDIR | Errno::ENXIO | Errno::ENODEV) => {}
            Err(cause) => return Err(cause),
        }
        match unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(cause) => return Err(cause),
        }
    }
    Err(Errno::EBUSY)
}
