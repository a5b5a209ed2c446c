//! The directory that files are published into: opened once, locked, and looked at. Every name is relative to
//! it, so that a path that is moved meanwhile cannot lead elsewhere. What would be in the way of a publication
//! is found before anything has moved.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, getegid, geteuid, unlinkat};

use super::error::StoreError;
use super::file::{FileMode, file_type};
use super::locks::{is_no_room, lock};
use super::notices::{Notice, Notices};
use super::owner::Owner;
use super::permissions::{DIRECTORY, finish, is_unfinished, make, sync};
use crate::process::facts::{has_fowner, maps_user};
use crate::words::{Flaw, flaw};

/// The name that leads to the published set; its replacement is the moment of publication.
pub(super) const DATA: &str = "..data";
/// The file that is locked during a publication.
const LOCK: &str = "..lock";

/// What to do if the directory is missing.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Absent {
    Create,
    Ignore,
    /// As `Ignore`; and go on without a lock file for which there is no room. A withdrawal makes room, and must not
    /// wait for it.
    DoWithout,
}

/// The directory, while we hold its lock.
pub(super) struct Directory<'a> {
    pub(super) fd: OwnedFd,
    pub(super) path: &'a Path,
    /// The owner to give published files to.
    pub(super) owner: Option<Owner>,
    pub(super) notices: &'a Notices,
    pub(super) is_told_to_end: fn() -> bool,
    /// The owner of what we make here: a network's file system may map ours to another.
    uid: u32,
    /// The group of what we make here.
    gid: u32,
    /// Whether links of ours here are not followed for other users: a sticky directory that anybody
    /// may write to and that belongs to another user (Linux: `fs.protected_symlinks`).
    pub(super) is_shared: bool,
    has_lock_file: bool,
    /// None where there are no locks.
    _lock: Option<File>,
}

/// What `..data` is.
#[derive(PartialEq)]
pub(super) enum Data {
    Absent,
    /// A link to a hidden directory whose name has the form of ours.
    Link(String),
    /// The set itself, where there are no symbolic links.
    Directory,
}

impl<'a> Directory<'a> {
    /// Opens a directory and takes its lock; `None` if it is not there and is not to be made.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] when another process holds the lock.
    pub(super) fn lock(
        path: &'a Path,
        owner: Option<Owner>,
        absent: Absent,
        is_told_to_end: fn() -> bool,
        notices: &'a Notices,
    ) -> Result<Option<Self>, StoreError> {
        let fail = |action| move |cause| StoreError::write(action, path, cause);
        let open = || nix::fcntl::open(path, DIRECTORY, Mode::empty());
        let mut is_new = false;
        let fd = match (open(), absent) {
            (Err(Errno::ENOENT), Absent::Create) => {
                is_new = make(path)?;
                open()
            }
            (Err(Errno::ENOENT), Absent::Ignore | Absent::DoWithout) => return Ok(None),
            (opened, _) => opened,
        };
        let fd = fd.map_err(fail("open the directory"))?;
        if is_new {
            finish(&fd, path, owner, notices)?;
        }
        let mut has_lock_file = true;
        let (lock, uid, gid) = match lock(&fd, LOCK) {
            Ok(Some((lock, stat))) => {
                if lock.is_none() {
                    notices.warn_once(
                        Notice::NoLocks,
                        format_args!(
                            "the file system of {} has no locks: publishing without a lock; run no second helper there",
                            path.display()
                        ),
                    );
                }
                (lock, stat.st_uid, stat.st_gid)
            }
            Ok(None) => return Err(StoreError::Busy(path.to_owned())),
            Err(cause) if is_no_room(cause) && absent == Absent::DoWithout && is_of_user(&fd, owner) => {
                has_lock_file = false;
                (None, geteuid().as_raw(), getegid().as_raw())
            }
            Err(cause) => return Err(lock_error(&fd, path, LOCK, cause)),
        };
        let is_shared = false;
        let mut directory = Self {
            fd,
            path,
            owner,
            notices,
            is_told_to_end,
            uid,
            gid,
            is_shared,
            has_lock_file,
            _lock: lock,
        };
        let own = fstat(&directory.fd).map_err(fail("look at"))?;
        if directory.owns(&own) && is_unfinished(&own) {
            finish(&directory.fd, path, owner, notices)?;
        }
        let shared = (Mode::S_ISVTX | Mode::S_IWOTH).bits();
        directory.is_shared = own.st_mode & shared == shared && own.st_uid != directory.target_uid();
        Ok(Some(directory))
    }

    /// Whether we have made it, or have given it to the owner that the options name.
    pub(super) fn owns(&self, stat: &FileStat) -> bool {
        [self.uid, self.target_uid()].contains(&stat.st_uid)
    }

    /// Whether it is a regular file, with the permissions, the owner and the group that a new file
    /// of this mode would have. Without chmod, these permissions may be fewer.
    pub(super) fn is_as_new(&self, stat: &FileStat, mode: FileMode) -> bool {
        let gid = self.owner.and_then(|owner| owner.gid).map_or(self.gid, |gid| gid.as_raw());
        let found = stat.st_mode & 0o7777;
        let is_narrower = found & !mode.bits() == 0 && self.notices.is_given(Notice::NarrowerMode);
        file_type(stat) == SFlag::S_IFREG
            && (found == mode.bits() || is_narrower)
            && stat.st_uid == self.target_uid()
            && stat.st_gid == gid
    }

    fn target_uid(&self) -> u32 {
        self.owner.map_or(self.uid, |owner| owner.uid.as_raw())
    }

    /// What `..data` is.
    ///
    /// # Errors
    ///
    /// [`StoreError::OthersData`] if it is nothing that we have made.
    pub(super) fn data(&self) -> Result<Data, StoreError> {
        let path = || self.path.join(DATA);
        match readlinkat(&self.fd, DATA).map(|target| target.into_string().unwrap_or_default()) {
            Ok(target) if is_generation_name(&target) => Ok(Data::Link(target)),
            Err(Errno::ENOENT) => Ok(Data::Absent),
            Err(Errno::EINVAL) if self.open_ours(DATA)?.is_some() => Ok(Data::Directory),
            Ok(_) | Err(Errno::EINVAL) => Err(StoreError::OthersData(path())),
            Err(cause) => Err(StoreError::write("look at", &path(), cause)),
        }
    }

    /// Opens the published set, if it is ours.
    pub(super) fn open_set(&self, data: &Data) -> Result<Option<OwnedFd>, StoreError> {
        match data {
            Data::Absent => Ok(None),
            Data::Link(name) => self.open_ours(name),
            Data::Directory => self.open_ours(DATA),
        }
    }

    /// Opens a directory that we own and that nobody else may write to; `None` if it is none.
    ///
    /// # Errors
    ///
    /// Whether it is one cannot be known now: what it holds must not be taken for nobody's.
    pub(super) fn open_ours(&self, name: &str) -> Result<Option<OwnedFd>, StoreError> {
        let others = (Mode::S_IWGRP | Mode::S_IWOTH).bits();
        let owned = self.open_owned(name)?;
        Ok(owned.filter(|(_, stat)| stat.st_mode & others == 0).map(|(fd, _)| fd))
    }

    /// Opens a directory that we own, though others may write to it: a pod's fsGroup lets its group in.
    pub(super) fn open_owned(&self, name: &str) -> Result<Option<(OwnedFd, FileStat)>, StoreError> {
        let fd = match self.open_directory(name) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => return Ok(None),
            opened => opened.map_err(|cause| self.error("open", name, cause))?,
        };
        let stat = fstat(&fd).map_err(|cause| self.error("look at", name, cause))?;
        Ok(self.owns(&stat).then_some((fd, stat)))
    }

    pub(super) fn open_directory(&self, name: &str) -> nix::Result<OwnedFd> {
        openat(&self.fd, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
    }

    /// The file under a name, links not followed.
    pub(super) fn look_at(&self, name: &str) -> Result<Option<FileStat>, StoreError> {
        self.look_in(&self.fd, name)
    }

    /// The same in a directory of this one.
    pub(super) fn look_in(&self, set: &OwnedFd, name: &str) -> Result<Option<FileStat>, StoreError> {
        match fstatat(set, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(cause) => Err(self.error("look at", name, cause)),
        }
    }

    /// Whether a name is our link through `..data`. Another user's link with the same text is not.
    pub(super) fn is_our_link(&self, name: &str) -> Result<bool, StoreError> {
        match readlinkat(&self.fd, name) {
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(false),
            Err(cause) => Err(self.error("look at", name, cause)),
            Ok(target) if target != *through_data(name) => Ok(false),
            Ok(_) => Ok(self.look_at(name)?.is_some_and(|stat| self.owns(&stat))),
        }
    }

    pub(super) fn leads_nowhere(&self, name: &str) -> bool {
        matches!(
            fstatat(&self.fd, name, AtFlags::empty()),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR)
        )
    }

    pub(super) fn unlink(&self, name: &str) -> Result<(), StoreError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Err(cause) if cause != Errno::ENOENT => Err(self.error("remove", name, cause)),
            _ => Ok(()),
        }
    }

    /// Fails if the program is told to end: thousands of files, each of them synced, take seconds.
    pub(super) fn fail_if_told_to_end(&self) -> Result<(), StoreError> {
        if (self.is_told_to_end)() { Err(StoreError::ToldToEnd(self.path.to_owned())) } else { Ok(()) }
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync(&self.fd).map_err(|cause| StoreError::write("sync", self.path, cause))
    }

    pub(super) fn error(&self, action: &'static str, name: &str, cause: Errno) -> StoreError {
        in_the_way(&self.fd, self.path, name, cause)
            .unwrap_or_else(|| StoreError::write(action, &self.path.join(name), cause))
    }
}

impl Drop for Directory<'_> {
    fn drop(&mut self) {
        // While it is still locked: the next writer makes a new one.
        if self.has_lock_file {
            unlinkat(&self.fd, LOCK, UnlinkatFlags::NoRemoveDir).ok();
        }
    }
}

/// Whether the published set is this user's, or its owner's, whom a network's file system maps to no other then.
fn is_of_user(fd: &OwnedFd, owner: Option<Owner>) -> bool {
    let set = fstatat(fd, DATA, AtFlags::empty());
    set.is_ok_and(|set| set.st_uid == owner.map_or(geteuid(), |owner| owner.uid).as_raw())
}

/// The obstacle that made a step fail, if it is one of the name or of the directory itself.
fn in_the_way(fd: &OwnedFd, path: &Path, name: &str, cause: Errno) -> Option<StoreError> {
    if !matches!(cause, Errno::EPERM | Errno::EBUSY) {
        return None;
    }
    let of_name = obstacle(fd, name).map(|obstacle| StoreError::in_the_way(&path.join(name), obstacle));
    of_name.or_else(|| Some(StoreError::in_the_way(path, obstacle(fd, "")?)))
}

/// Why a lock file could not be made: something else may have its name, or the directory may be another user's.
pub(super) fn lock_error(fd: &OwnedFd, path: &Path, name: &str, cause: Errno) -> StoreError {
    let found = fstatat(fd, name, AtFlags::AT_SYMLINK_NOFOLLOW);
    let obstacle = found.ok().and_then(|stat| match cause {
        Errno::EISDIR => Some(Flaw::new(A_DIRECTORY)),
        Errno::EPERM if stat.st_uid != geteuid().as_raw() => Some(of_other_user(stat.st_uid)),
        _ => None,
    });
    match obstacle {
        Some(obstacle) => StoreError::in_the_way(&path.join(name), obstacle),
        None => in_the_way(fd, path, name, cause)
            .or_else(|| made_by_other_user(fd, path, cause))
            .unwrap_or_else(|| StoreError::write("create a lock file in", path, cause)),
    }
}

/// Why no file can be made in another user's directory that came to be on a volume with a pod's fsGroup, whose set-group-ID
/// bit new directories inherit.
fn made_by_other_user(fd: &OwnedFd, path: &Path, cause: Errno) -> Option<StoreError> {
    let stat = fstat(fd).ok()?;
    let has_fs_group = stat.st_mode & Mode::S_ISGID.bits() != 0;
    if cause != Errno::EACCES || stat.st_uid == geteuid().as_raw() || !has_fs_group {
        return None;
    }
    let (path, user, cause) = (path.display(), stat.st_uid, cause.desc());
    Some(flaw!("cannot create a lock file in {path}: {cause} (user {user} made it: run both helpers as one user, or remove it)").into())
}

/// The target of the link under a published name.
pub(super) fn through_data(name: &str) -> String {
    format!("{DATA}/{name}")
}

/// Whether `name` has exactly the form of a generation's: other names are not ours.
pub(super) fn is_generation_name(name: &str) -> bool {
    let form = "..dddd-dd-ddTdd-dd-dd.dddddddddZ";
    name.len() == form.len()
        && name.bytes().zip(form.bytes()).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            literal => byte == literal,
        })
}

/// Names in a directory, without `.` and `..`. Names that are not UTF-8 are not ours.
pub(super) fn entries(directory: impl AsFd) -> nix::Result<Vec<String>> {
    let mut listing = Dir::openat(directory, ".", DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        match entry?.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => names.push(name.to_owned()),
        }
    }
    Ok(names)
}

/// Fails if a name, or `..data`, cannot be replaced:
///
/// a. the directory itself is immutable or append-only;
/// b. the published set, or a file of it, is a mount point, or immutable or append-only: that set could
///    not be removed, and the file is meant to stay;
/// c. the name is a mount point, or immutable or append-only;
/// d. a directory has the name;
/// e. it belongs to another user, in a sticky directory that is not ours either.
pub(super) fn check_replaceable(
    directory: &Directory<'_>,
    data: &Data,
    names: &[&str],
) -> Result<(), StoreError> {
    // a.
    if let Some(obstacle) = obstacle(&directory.fd, "") {
        return Err(StoreError::in_the_way(directory.path, obstacle));
    }
    let of_directory = fstat(&directory.fd).map_err(|cause| directory.error("look at", "", cause))?;
    let is_sticky = of_directory.st_mode & Mode::S_ISVTX.bits() != 0 && !directory.owns(&of_directory);
    if let Some(set) = directory.open_set(data)? {
        // b.
        for name in names.iter().copied().chain([""]) {
            if let Some(obstacle) = obstacle(&set, name) {
                return Err(StoreError::in_the_way(&directory.path.join(DATA).join(name), obstacle));
            }
        }
    }
    for name in names.iter().copied().chain([DATA]) {
        let Some(stat) = directory.look_at(name)? else { continue };
        let is_set = name == DATA && *data == Data::Directory;
        let found = match obstacle(&directory.fd, name) {
            // c.
            Some(obstacle) => obstacle,
            // d.
            None if file_type(&stat) == SFlag::S_IFDIR && !is_set => Flaw::new(A_DIRECTORY),
            // e.
            None if is_sticky && !directory.owns(&stat) && !overrides(stat.st_uid) => {
                of_other_user(stat.st_uid)
            }
            None => continue,
        };
        return Err(StoreError::in_the_way(&directory.path.join(name), found));
    }
    Ok(())
}

/// Whether this process may replace another user's files in a sticky directory: root may lack the
/// capability, and in a user namespace it counts only for the users there.
fn overrides(uid: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // A kernel without user namespaces has no map.
    let is_mapped = std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| maps_user(&map, uid));
    is_mapped && has_fowner(&status).unwrap_or_else(|| geteuid().is_root())
}

const A_DIRECTORY: &str = "it is a directory (remove it, or choose another file name)";

/// It is in that user's or a third one's sticky directory.
fn of_other_user(uid: u32) -> Flaw {
    flaw!("it belongs to user {uid}, and the directory is sticky (remove it, or use a subdirectory)")
}

/// The attribute by which a name cannot be renamed or replaced, if it has one; `None` on a kernel
/// before 5.8, which does not report them. `name` is relative to `directory`, and not followed if it is a
/// link; an empty one means the directory itself.
fn obstacle(directory: impl AsFd, name: &str) -> Option<Flaw> {
    let attributes = attributes(directory, name)?;
    let has = |bit: libc::c_int| u64::try_from(bit).is_ok_and(|bit| attributes & bit != 0);
    if !name.is_empty() && has(libc::STATX_ATTR_MOUNT_ROOT) {
        Some(flaw!(
            "it is a mount point (mount the whole directory, without subPath and not a single file; or choose another file name)"
        ))
    } else if has(libc::STATX_ATTR_IMMUTABLE) {
        Some(flaw!("it is immutable (chattr -i makes it changeable)"))
    } else if has(libc::STATX_ATTR_APPEND) {
        Some(flaw!("it can only be appended to (chattr -a makes it changeable)"))
    } else {
        None
    }
}

fn attributes(directory: impl AsFd, name: &str) -> Option<u64> {
    let name = CString::new(name).ok()?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH;
    let directory = directory.as_fd().as_raw_fd();
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the name ends with NUL; the buffer is a statx, of integers alone, so that zeroes are
    // one too.
    #[allow(unsafe_code, reason = "nix has no statx")]
    let (result, found) = unsafe {
        let result = libc::statx(directory, name.as_ptr(), flags, 0, found.as_mut_ptr());
        (result, found.assume_init())
    };
    (result == 0).then_some(found.stx_attributes & found.stx_attributes_mask)
}
