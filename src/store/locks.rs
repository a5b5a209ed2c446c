//! The files of a directory that are locked: `..lock` during a publication, `..names` and `..identity` as long as a
//! helper runs. They are ours and have mode 0600, so that a reader of the directory cannot lock them.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, ftruncate, geteuid, unlinkat};

use super::file::{errno, file_id, file_type};

/// How often to open a file again that others remove meanwhile.
const ATTEMPTS: u32 = 100;
/// Is made to see its owner, and removed at once.
const PROBE: &str = "..owner";
/// The longest claim that is read.
const LONGEST_CLAIM: u64 = 1 << 20;

/// Opens or makes the file that is locked during a publication, and locks it; `None` if another process holds the lock.
///
/// Returns the lock, if the file system has locks. Any new file in this directory has the owner and the group that the
/// metadata shows.
///
/// # Errors
///
/// The file cannot be opened or locked. EWOULDBLOCK: another process has a lease on the file.
pub(super) fn lock(directory: impl AsFd, name: &str) -> nix::Result<Option<(Option<File>, FileStat)>> {
    for _ in 0..ATTEMPTS {
        let (fd, stat) = match open_private(&directory, name) {
            // Another helper looks whether the file is its own.
            Err(Errno::EWOULDBLOCK) => return Ok(None),
            opened => opened?,
        };
        match try_lock(fd.into(), File::try_lock) {
            // The holder before us may have removed it.
            Ok(Some(_)) if !is_still(&directory, name, &stat) => {}
            Ok(lock) => return Ok(Some((lock, stat))),
            Err(Errno::EWOULDBLOCK) => return Ok(None),
            Err(cause) => return Err(cause),
        }
    }
    Ok(None)
}

/// Locks a file until what it returns is dropped; `None` where the file system has no locks.
///
/// The lock ends with the last descriptor: to unlock by a call of its own may fail on a network's file system.
///
/// # Errors
///
/// EWOULDBLOCK when another process has it locked, and only then.
fn try_lock(file: File, how: fn(&File) -> Result<(), TryLockError>) -> nix::Result<Option<File>> {
    match how(&file) {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Errno::EWOULDBLOCK),
        Err(TryLockError::Error(error)) => match errno(error) {
            Errno::ENOLCK | Errno::ENOSYS | Errno::EOPNOTSUPP => Ok(None),
            cause => Err(cause),
        },
    }
}

/// The claim of live helpers to what they publish; helpers that claim the same share it. Only used while
/// the directory is locked.
pub(super) struct Claim {
    text: String,
    file: File,
    stat: FileStat,
}

/// An attempt to claim.
pub(super) enum Claimed {
    /// We hold the claim. `None`: the file system has no locks, or no room.
    Yes(Option<Claim>),
    /// A live helper has claimed this instead.
    Others(String),
}

impl Claim {
    /// Claims what the lines of the text say, in a file of this name.
    pub(super) fn take(directory: impl AsFd, name: &str, text: &str) -> nix::Result<Claimed> {
        let (fd, stat) = match open_private(&directory, name) {
            // Nobody else has a claim. Without room, only a withdrawal goes any further.
            Err(cause) if is_no_room(cause) => return Ok(Claimed::Yes(None)),
            opened => opened?,
        };
        let mut file = File::from(fd.try_clone().map_err(errno)?);
        match try_lock(fd.into(), File::try_lock) {
            Ok(None) => {
                unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir).ok();
                return Ok(Claimed::Yes(None));
            }
            Err(Errno::EWOULDBLOCK) => {
                let mut found = String::new();
                (&file).take(LONGEST_CLAIM).read_to_string(&mut found).map_err(errno)?;
                if found != text {
                    return Ok(Claimed::Others(found.lines().collect::<Vec<_>>().join(", ")));
                }
            }
            // No live helper holds it.
            Ok(Some(_)) => {
                ftruncate(&file, 0)?;
                match file.rewind().and_then(|()| file.write_all(text.as_bytes())).map_err(errno) {
                    Err(cause) if is_no_room(cause) => {
                        unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir).ok();
                        return Ok(Claimed::Yes(None));
                    }
                    written => written?,
                }
            }
            Err(cause) => return Err(cause),
        }
        drop(file);
        // A file that is open for writing would keep an operator from making the volume read-only.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let reader = openat(&directory, name, flags, Mode::empty())?;
        let lock = try_lock(reader.into(), File::try_lock_shared)?;
        Ok(Claimed::Yes(lock.map(|file| Self { text: text.to_owned(), file, stat })))
    }

    /// Whether it is a claim to this, and its name still leads to it.
    pub(super) fn holds(&self, directory: impl AsFd, name: &str, text: &str) -> bool {
        self.text == text && is_still(directory, name, &self.stat)
    }

    /// Gives it up; the last one removes the file.
    pub(super) fn release(self, directory: impl AsFd, name: &str) {
        let is_there = is_still(&directory, name, &self.stat);
        drop(self.file);
        if is_there
            && let Ok((fd, _)) = open_private(&directory, name)
            && let Ok(Some(_)) = try_lock(fd.into(), File::try_lock)
        {
            unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir).ok();
        }
    }
}

/// Whether the volume is full, or the user's share of it.
pub(super) fn is_no_room(cause: Errno) -> bool {
    matches!(cause, Errno::ENOSPC | Errno::EDQUOT)
}

fn is_still(directory: impl AsFd, name: &str, stat: &FileStat) -> bool {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|found| file_id(&found) == file_id(stat))
}

/// Opens a regular file of ours. Removes anything else under its name.
fn open_private(directory: impl AsFd, name: &str) -> nix::Result<(OwnedFd, FileStat)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    for _ in 0..ATTEMPTS {
        match openat(&directory, name, flags, Mode::empty()) {
            Ok(fd) => {
                let stat = fstat(&fd)?;
                if file_type(&stat) == SFlag::S_IFREG && is_ours(&directory, &stat)? {
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

/// Whether it is of the owner that a file has which we make here: a network's file system may map our user to another.
fn is_ours(directory: impl AsFd, stat: &FileStat) -> nix::Result<bool> {
    if stat.st_uid == geteuid().as_raw() {
        return Ok(true);
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let remove = || unlinkat(&directory, PROBE, UnlinkatFlags::NoRemoveDir);
    // What a killed helper has left.
    remove().ok();
    match openat(&directory, PROBE, flags, Mode::S_IRUSR) {
        Ok(made) => {
            remove().ok();
            Ok(fstat(made)?.st_uid == stat.st_uid)
        }
        // Another helper looks just now.
        Err(Errno::EEXIST) => Err(Errno::EWOULDBLOCK),
        Err(cause) => Err(cause),
    }
}
