//! Makes the directory, and gives it and what is in it their owner and their modes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, umask};
use nix::unistd::{Uid, fchown, fsync};

use super::error::StoreError;
use super::notices::{Notice, Notices};
use super::owner::Owner;
use crate::words::flaw;

pub(super) const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The permissions of directories: other containers' users read the certificates.
const OPEN_TO_READERS: u32 = 0o755;
/// Marks a directory as made by us and not finished.
const UNFINISHED: u32 = Mode::S_ISVTX.bits();

/// Makes the directory, marked as unfinished: a process that is killed now leaves the mark, and the
/// next one goes on with [`finish`]. Returns false if it is there already.
pub(super) fn make(path: &Path) -> Result<bool, StoreError> {
    let fail = |cause| StoreError::write("create the directory", path, cause);
    // The mark has one form, whatever the umask of either process. No other thread makes files.
    let own_umask = umask(Mode::empty());
    let made = nix::unistd::mkdir(path, Mode::from_bits_truncate(OPEN_TO_READERS | UNFINISHED));
    umask(own_umask);
    match made {
        Err(Errno::ENOENT) => Err(StoreError::Unfit(flaw!(
            "cannot create the directory {}: its parent directory does not exist (is the volume mounted here?)",
            path.display()
        ))),
        Err(Errno::EEXIST) => Ok(false),
        Err(cause) => Err(fail(cause)),
        Ok(()) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = nix::fcntl::open(parent.unwrap_or(Path::new(".")), DIRECTORY, Mode::empty());
            // A process that may not read the parent may not sync it either.
            parent.map_or(Ok(()), sync).map_err(fail)?;
            Ok(true)
        }
    }
}

/// Whether a directory of ours is as [`make`] leaves it, and no private one. (The ACL of its parent may take permissions
/// from a new one.)
pub(super) fn is_unfinished(stat: &FileStat) -> bool {
    stat.st_mode & 0o7777 & !Mode::S_ISGID.bits() == UNFINISHED | OPEN_TO_READERS
}

/// Gives a directory that [`make`] has made its owner and its mode.
pub(super) fn finish(
    fd: &OwnedFd,
    path: &Path,
    owner: Option<Owner>,
    notices: &Notices,
) -> Result<(), StoreError> {
    let made = fstat(fd).map_err(|cause| StoreError::write("look at", path, cause))?;
    give(fd, path, owner)?;
    set_mode(fd, path, directory_mode(&made), notices)
}

/// Gives it to the group of its owner alone. Before it has its mode, so that no other group may read it for a moment;
/// the user comes after that, since only the owner may set a mode.
pub(super) fn give_to_group(fd: impl AsFd, path: &Path, owner: Option<Owner>) -> Result<(), StoreError> {
    owner.map_or(Ok(()), |owner| chown(fd, path, owner, None))
}

pub(super) fn give(fd: impl AsFd, path: &Path, owner: Option<Owner>) -> Result<(), StoreError> {
    owner.map_or(Ok(()), |owner| chown(fd, path, owner, Some(owner.uid)))
}

fn chown(fd: impl AsFd, path: &Path, owner: Owner, uid: Option<Uid>) -> Result<(), StoreError> {
    fchown(fd, uid, owner.gid).map_err(|cause| {
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
    #[cfg(test)]
    super::simulated::step();
    match fsync(fd) {
        Err(Errno::EINVAL) => Ok(()),
        done => done,
    }
}
