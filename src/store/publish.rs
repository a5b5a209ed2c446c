//! Publishes a set of files as one: a reader sees the old set or the new one, never a mixture, and
//! a crash leaves one of the two.
//!
//! The way is the kubelet's for Secret volumes. The files live in a hidden directory; `..data`
//! points to it; the names that readers open point through `..data`:
//!
//! ```text
//! svid.pem   -> ..data/svid.pem
//! ..data     -> ..2026-11-23T16-40-05.123456789Z
//! ..2026-11-23T16-40-05.123456789Z/svid.pem
//! ```

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat, stat};
use nix::unistd::{UnlinkatFlags, fsync, geteuid, linkat, symlinkat, unlinkat};
use thiserror::Error;
use zeroize::Zeroizing;

use super::layout::File;
use crate::timestamp::rfc3339;

/// The link whose replacement is the moment of publication.
const DATA: &str = "..data";
/// A link on its way to its name. No file of the set can have this name.
const NEW_LINK: &str = "..link";

/// What is tried with another writer's link, which is refused.
const TAKE_OVER: &str = "take over";
/// What a reader tries, as an error says it; its hints are not a writer's.
const READ: &str = "read";

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// A directory into which sets of files are published.
pub struct Store {
    path: PathBuf,
}

/// What becomes of a file of the published set that is not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It goes.
    No,
    /// It stays, unless this process may not read it.
    IfPossible,
    /// It stays, or nothing is published.
    Must,
}

/// What a publication did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// The set replaced what was there.
    Replaced,
    /// The very same set was there already; nothing was written.
    Unchanged,
    /// The set is empty: there is nothing any more.
    Removed,
}

impl Store {
    /// Touches nothing yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anybody may make files here and our links are not followed by others: a sticky
    /// directory like `/tmp` that belongs to another user (Linux: `fs.protected_symlinks`).
    pub fn is_shared(&self) -> bool {
        let shared = (Mode::S_ISVTX | Mode::S_IWOTH).bits();
        stat(&self.path).is_ok_and(|stat| stat.st_mode & shared == shared && !owns(&stat))
    }

    /// Makes `files` the published set, together with those files of the set before it for whose
    /// names `keeps` says so:
    ///
    /// 1. lock the directory (created if its parent exists), so that two writers cannot interleave;
    /// 2. make a new hidden directory;
    /// 3. write each file into it, with its mode from the start, and sync it, then the directory;
    /// 4. replace `..data` by a link to the new directory, and sync: the moment of publication;
    /// 5. make the names that are missing;
    /// 6. remove our names that are not in the set, and our older hidden directories.
    ///
    /// Plain files of these names, from before the helper, are put behind `..data` first, as a set
    /// of their own, so that even they are replaced as one. When the set is empty, `..data` is
    /// removed, and with it all names at one moment.
    ///
    /// # Errors
    ///
    /// Up to step 4, the old set stands as it was. [`StoreError::Busy`] when another process holds
    /// the lock: try again.
    pub fn publish(&self, files: &[&File], keeps: impl Fn(&str) -> Keep) -> Result<Publication, StoreError> {
        // 1.
        let directory = match self.lock(if files.is_empty() { Absent::Fail } else { Absent::Create }) {
            Err(StoreError::Failed { cause: Errno::ENOENT, .. }) if files.is_empty() => {
                return Ok(Publication::Unchanged);
            }
            locked => locked?,
        };
        let kept = directory.kept(files, &keeps)?;
        if files.is_empty() && kept.is_empty() {
            return directory.withdraw();
        }
        if directory.holds(files, &kept) {
            return Ok(Publication::Unchanged);
        }
        let names: Vec<&str> =
            files.iter().map(|file| file.name.as_str()).chain(kept.iter().map(String::as_str)).collect();
        directory.check_names(&names)?;
        // 2. and 3.
        let new = directory.new_generation()?;
        let published = new.keep(&kept, &keeps).and_then(|()| new.write(files)).and_then(|()| {
            directory.adopt_plain_files(&names);
            // 4.
            new.link(DATA, &new.name)
        });
        if let Err(error) = published {
            new.remove().ok();
            return Err(error);
        }
        // 5. From here on there is no way back, only forward.
        let linked = directory.sync().and_then(|()| new.link_names(&names)).and_then(|()| directory.sync());
        // 6. What cannot be removed now does no harm, and is tried again next time.
        if let Err(error) = directory.remove_leftovers() {
            log::warn!("{error}; the new files are published all the same");
        }
        linked.map(|()| Publication::Replaced)
    }

    /// Opens the published set for reading, or else the directory itself, with files that are not
    /// the helper's own.
    pub fn published(&self) -> Result<PublishedSet<'_>, StoreError> {
        let open = |path: &Path| nix::fcntl::open(path, DIRECTORY, Mode::empty());
        let opened = match open(&self.path.join(DATA)) {
            Err(Errno::ENOENT) => open(&self.path),
            opened => opened,
        };
        let fd = opened.map_err(|cause| StoreError::new("open the directory", &self.path, cause))?;
        Ok(PublishedSet { fd, path: &self.path })
    }

    /// Removes what a crash may have left: hidden directories of ours that are not published, and
    /// names that lead nowhere. There may be no directory yet.
    pub fn clean(&self) -> Result<(), StoreError> {
        match self.lock(Absent::Fail) {
            Err(StoreError::Failed { cause: Errno::ENOENT, .. } | StoreError::Busy { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(directory) => directory.remove_leftovers(),
        }
    }

    fn lock(&self, absent: Absent) -> Result<Locked<'_>, StoreError> {
        let open = || nix::fcntl::open(&self.path, DIRECTORY, Mode::empty());
        let fd = match open() {
            Err(Errno::ENOENT) if absent == Absent::Create => {
                self.create()?;
                open()
            }
            opened => opened,
        };
        let fd = fd.map_err(|cause| StoreError::new("open the directory", &self.path, cause))?;
        match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
            Ok(fd) => Ok(Locked { fd, path: &self.path }),
            Err((_, Errno::EWOULDBLOCK)) => Err(StoreError::Busy { path: self.path.clone() }),
            Err((_, cause)) => Err(StoreError::new("lock the directory", &self.path, cause)),
        }
    }

    fn create(&self) -> Result<(), StoreError> {
        let created = match nix::unistd::mkdir(&self.path, Mode::S_IRWXU) {
            Err(Errno::EEXIST) => Ok(()),
            created => created
                .and_then(|()| nix::fcntl::open(&self.path, DIRECTORY, Mode::empty()))
                .and_then(open_to_readers),
        };
        created.map_err(|cause| StoreError::new("create the directory", &self.path, cause))
    }
}

/// A published set, held open: what is read from it belongs together, whatever is published
/// meanwhile.
pub struct PublishedSet<'a> {
    fd: OwnedFd,
    path: &'a Path,
}

impl PublishedSet<'_> {
    /// The bytes of one file, wiped from memory when dropped.
    pub fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        read_file(&self.fd, name).map_err(|cause| StoreError::new(READ, &self.path.join(name), cause))
    }

    /// Whether no other set has been published meanwhile. The files of an earlier set are removed.
    pub fn is_current(&self) -> bool {
        let identity = |stat: FileStat| (stat.st_dev, stat.st_ino);
        match (fstat(&self.fd), stat(&self.path.join(DATA))) {
            (Ok(own), Ok(current)) => identity(own) == identity(current),
            _ => true,
        }
    }

    /// The names of all files.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        entries(&self.fd).map_err(|cause| StoreError::new("list", self.path, cause))
    }
}

#[derive(PartialEq)]
enum Absent {
    Create,
    Fail,
}

/// The directory, while we hold its lock. Every name is taken relative to it, so that a path that
/// is moved meanwhile cannot lead elsewhere.
struct Locked<'a> {
    fd: Flock<OwnedFd>,
    path: &'a Path,
}

impl Locked<'_> {
    /// The names in the published set that are not among `files` and are to be kept.
    fn kept(&self, files: &[&File], keeps: impl Fn(&str) -> Keep) -> Result<Vec<String>, StoreError> {
        if self.published()?.is_none() {
            return Ok(Vec::new());
        }
        let list = || entries(self.open_directory(DATA, OFlag::empty())?);
        let mut names = match list() {
            // It leads nowhere: there is nothing to keep.
            Err(Errno::ENOENT) => Vec::new(),
            names => names.map_err(|cause| self.error("list", DATA, cause))?,
        };
        names.retain(|name| keeps(name) != Keep::No && files.iter().all(|file| file.name.as_str() != name));
        Ok(names)
    }

    /// Whether the published set is exactly `files` (names, modes and bytes) and what is kept.
    fn holds(&self, files: &[&File], kept: &[String]) -> bool {
        let Ok(data) = self.open_directory(DATA, OFlag::empty()) else { return false };
        let count = entries(&data).map(|names| names.len());
        count == Ok(files.len() + kept.len())
            && kept.iter().all(|name| self.is_our_link(name))
            && files.iter().all(|file| self.is_our_link(file.name.as_str()) && holds_file(&data, file))
    }

    /// Removes the published set, all of it at one moment.
    fn withdraw(&self) -> Result<Publication, StoreError> {
        let published = self.published()?.is_some();
        if published {
            self.unlink(DATA)?;
        }
        self.remove_leftovers()?;
        self.sync()?;
        Ok(if published { Publication::Removed } else { Publication::Unchanged })
    }

    /// Fails, while nothing has been changed yet, if something stands where a link must go and
    /// cannot be replaced, or is not ours to replace.
    fn check_names(&self, names: &[&str]) -> Result<(), StoreError> {
        // In another user's sticky directory, only root may replace what is not its own.
        let sticky = |stat: &FileStat| stat.st_mode & Mode::S_ISVTX.bits() != 0 && !owns(stat);
        let bound = !geteuid().is_root() && fstat(&*self.fd).is_ok_and(|stat| sticky(&stat));
        for name in names.iter().copied().chain([DATA]) {
            let Some(found) = self.look_at(name)? else { continue };
            let refused = match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFDIR => Some(Errno::EISDIR),
                _ if bound && !owns(&found) => Some(Errno::EPERM),
                _ => None,
            };
            if let Some(cause) = refused {
                return Err(self.error("replace", name, cause));
            }
        }
        self.published().map(|_| ())
    }

    /// What `..data` points to, if there is one.
    ///
    /// # Errors
    ///
    /// EEXIST if it is not ours: other writers of volumes use the same name.
    fn published(&self) -> Result<Option<String>, StoreError> {
        match readlinkat(&*self.fd, DATA).map(|target| target.into_string().unwrap_or_default()) {
            Ok(target) if is_generation_name(&target) => Ok(Some(target)),
            Err(Errno::ENOENT) => Ok(None),
            Ok(_) | Err(Errno::EINVAL) => Err(self.error(TAKE_OVER, DATA, Errno::EEXIST)),
            Err(cause) => Err(self.error("look at", DATA, cause)),
        }
    }

    /// Makes a hidden directory for one set.
    fn new_generation(&self) -> Result<Generation<'_>, StoreError> {
        let name = generation_name(SystemTime::now());
        // Named by the directory it is in: an error that lasts must read the same each time.
        let fail = |cause| StoreError::new("create a directory in", self.path, cause);
        mkdirat(&*self.fd, name.as_str(), Mode::S_IRWXU).map_err(fail)?;
        let opened = self.open_directory(&name, OFlag::O_NOFOLLOW);
        let fd = opened.and_then(|fd| open_to_readers(&fd).map(|()| fd)).map_err(fail)?;
        Ok(Generation { name, fd, directory: self })
    }

    /// Puts what stands under the names now, if plain files are among it, behind `..data`: readers
    /// see no change, and from then on all names change as one.
    ///
    /// A file that is not ours to link to (Linux: `fs.protected_hardlinks`) is left, and replaced
    /// by itself.
    fn adopt_plain_files(&self, names: &[&str]) {
        let plain = |name: &str| {
            let found = self.look_at(name).ok().flatten();
            found
                .is_some_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG)
        };
        if !names.iter().any(|name| plain(name)) {
            return;
        }
        let adopt = || {
            let old = self.new_generation()?;
            for &name in names {
                match linkat(&*self.fd, name, &old.fd, name, AtFlags::AT_SYMLINK_FOLLOW) {
                    Err(cause) if cause != Errno::ENOENT => return Err(self.error("keep", name, cause)),
                    _ => {}
                }
            }
            old.link(DATA, &old.name)?;
            old.link_names(names)
        };
        if let Err(error) = adopt() {
            log::debug!("{error}; it is replaced by itself");
        }
    }

    fn open_directory(&self, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        openat(&*self.fd, name, flags | DIRECTORY, Mode::empty())
    }

    /// What stands under a name, links not followed.
    fn look_at(&self, name: &str) -> Result<Option<FileStat>, StoreError> {
        match fstatat(&*self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(cause) => Err(self.error("look at", name, cause)),
        }
    }

    /// Whether a name is our link through `..data`. Another user's link with the same text is not:
    /// its owner could point it elsewhere.
    fn is_our_link(&self, name: &str) -> bool {
        readlinkat(&*self.fd, name).is_ok_and(|target| target == *through_data(name))
            && self.look_at(name).is_ok_and(|found| found.is_some_and(|stat| owns(&stat)))
    }

    fn unlink(&self, name: &str) -> Result<(), StoreError> {
        match unlinkat(&*self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Err(cause) if cause != Errno::ENOENT => Err(self.error("remove", name, cause)),
            _ => Ok(()),
        }
    }

    /// Removes what is ours and not in use: links through `..data` that lead nowhere, and hidden
    /// directories that are not published. Goes on after a failure, and returns the first.
    fn remove_leftovers(&self) -> Result<(), StoreError> {
        let published = self.published()?;
        let names = entries(&*self.fd).map_err(|cause| StoreError::new("list", self.path, cause))?;
        let mut outcome = Ok(());
        for name in names {
            let removed = if is_generation_name(&name) && published.as_ref() != Some(&name) {
                remove_generation(self, &name)
            } else if self.is_our_link(&name) && self.leads_nowhere(&name) {
                log::info!("removing {}, which is no longer in the set", self.path.join(&name).display());
                self.unlink(&name)
            } else {
                Ok(())
            };
            outcome = outcome.and(removed);
        }
        outcome
    }

    fn leads_nowhere(&self, name: &str) -> bool {
        matches!(fstatat(&*self.fd, name, AtFlags::empty()), Err(Errno::ENOENT))
    }

    fn sync(&self) -> Result<(), StoreError> {
        sync(&*self.fd).map_err(|cause| StoreError::new("sync", self.path, cause))
    }

    fn error(&self, action: &'static str, name: &str, cause: Errno) -> StoreError {
        StoreError::new(action, &self.path.join(name), cause)
    }
}

/// A hidden directory of ours, not published yet.
struct Generation<'a> {
    name: String,
    fd: OwnedFd,
    directory: &'a Locked<'a>,
}

impl Generation<'_> {
    fn write(&self, files: &[&File]) -> Result<(), StoreError> {
        for file in files {
            write_file(&self.fd, file.name.as_str(), file.mode.bits(), &file.contents)
                .map_err(|error| self.directory.error("write", file.name.as_str(), errno(&error)))?;
        }
        sync(&self.fd).map_err(|cause| StoreError::new("sync the files in", self.directory.path, cause))
    }

    /// Takes files of the published set over as they are.
    fn keep(&self, names: &[String], keeps: impl Fn(&str) -> Keep) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        let fail = |name: &str, cause| self.directory.error("keep", name, cause);
        let old = self.directory.open_directory(DATA, OFlag::empty()).map_err(|cause| fail(DATA, cause))?;
        for name in names {
            match linkat(&old, name.as_str(), &self.fd, name.as_str(), AtFlags::empty()) {
                Ok(()) => {}
                // Not every file system has hard links.
                Err(_) => match copy_file(&old, &self.fd, name).map_err(|cause| fail(name, cause)) {
                    Err(error) if keeps(name) == Keep::IfPossible => {
                        log::warn!("{error}; it is left out");
                        unlinkat(&self.fd, name.as_str(), UnlinkatFlags::NoRemoveDir).ok();
                    }
                    copied => copied?,
                },
            }
        }
        Ok(())
    }

    /// Makes `name` a link to `target` in one step, in place of what is there.
    ///
    /// The link is made in here, where nobody else has a name, and moved out.
    fn link(&self, name: &str, target: &str) -> Result<(), StoreError> {
        let moved = symlinkat(target, &self.fd, NEW_LINK)
            .and_then(|()| renameat(&self.fd, NEW_LINK, &*self.directory.fd, name));
        moved.map_err(|cause| self.directory.error("link", name, cause))
    }

    /// Makes every name that is not a link through `..data` yet into one.
    fn link_names(&self, names: &[&str]) -> Result<(), StoreError> {
        let missing = |name: &&&str| !self.directory.is_our_link(name);
        names.iter().filter(missing).try_for_each(|name| self.link(name, &through_data(name)))
    }

    fn remove(&self) -> Result<(), StoreError> {
        remove_generation(self.directory, &self.name)
    }
}

/// Removes a hidden directory and the files in it.
fn remove_generation(directory: &Locked<'_>, name: &str) -> Result<(), StoreError> {
    let remove = || {
        let fd = directory.open_directory(name, OFlag::O_NOFOLLOW)?;
        for file in entries(&fd)? {
            unlinkat(&fd, file.as_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        unlinkat(&*directory.fd, name, UnlinkatFlags::RemoveDir)
    };
    remove().map_err(|cause| directory.error("remove", name, cause))
}

fn owns(stat: &FileStat) -> bool {
    stat.st_uid == geteuid().as_raw()
}

/// Where the name of a published file points to.
fn through_data(name: &str) -> String {
    format!("{DATA}/{name}")
}

/// `..2026-11-23T16-40-05.123456789Z`: no colons, which some tools take for a separator.
fn generation_name(time: SystemTime) -> String {
    format!("..{}", rfc3339(time, 9).replace(':', "-"))
}

/// Whether `name` has the very form of [`generation_name`]: what has not is not ours.
fn is_generation_name(name: &str) -> bool {
    let form = "..dddd-dd-ddTdd-dd-dd.dddddddddZ";
    name.len() == form.len()
        && name.bytes().zip(form.bytes()).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            literal => byte == literal,
        })
}

/// Gives a new directory mode 0755, whatever the umask: other containers' users read the
/// certificates. A setgid bit stays: it is how a pod's fsGroup reaches the files.
fn open_to_readers(directory: impl AsFd) -> nix::Result<()> {
    let setgid = Mode::from_bits_truncate(fstat(&directory)?.st_mode) & Mode::S_ISGID;
    fchmod(directory, Mode::from_bits_truncate(0o755) | setgid)
}

/// The file never has more than the owner's read permission until it has its own mode.
fn write_file(directory: &OwnedFd, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(directory, name, flags, Mode::S_IRUSR)?;
    let mut out = std::fs::File::from(fd);
    out.write_all(contents)?;
    fchmod(&out, Mode::from_bits_truncate(mode))?;
    Ok(sync(&out)?)
}

/// Opens a file to read it, whatever it is: a pipe does not hold us up.
fn open_file(directory: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    openat(directory, name, flags, Mode::empty())
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &str) -> nix::Result<()> {
    let mode = fstat(open_file(from, name)?)?.st_mode & 0o7777;
    write_file(to, name, mode, &read_file(from, name)?).map_err(|error| errno(&error))
}

fn read_file(directory: &OwnedFd, name: &str) -> nix::Result<Zeroizing<Vec<u8>>> {
    let fd = open_file(directory, name)?;
    let length = usize::try_from(fstat(&fd)?.st_size).unwrap_or_default();
    // One byte of room more than is expected, so that the buffer never grows and leaves a copy.
    let mut contents = Zeroizing::new(Vec::with_capacity(length + 1));
    std::fs::File::from(fd).read_to_end(&mut contents).map_err(|error| errno(&error))?;
    Ok(contents)
}

fn holds_file(directory: &OwnedFd, file: &File) -> bool {
    let same_shape = |stat: FileStat| {
        stat.st_mode == SFlag::S_IFREG.bits() | file.mode.bits()
            && u64::try_from(stat.st_size) == Ok(file.contents.len() as u64)
    };
    let name = file.name.as_str();
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(same_shape)
        && read_file(directory, name).is_ok_and(|found| *found == *file.contents)
}

/// Names in a directory, without `.` and `..`. Names that are not UTF-8 are not ours.
fn entries(directory: impl AsFd) -> nix::Result<Vec<String>> {
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

/// Some file systems cannot sync a directory, and say EINVAL; there is nothing more to do there.
fn sync(fd: impl AsFd) -> nix::Result<()> {
    match fsync(fd) {
        Err(Errno::EINVAL) => Ok(()),
        done => done,
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Why a set could not be published or withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Another process holds the directory's lock.
    #[error("another process holds the lock of {}: is a second helper writing there?", .path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused a step.
    #[error("cannot {action} {}: {}{}", .path.display(), .cause.desc(), hint(action, *.cause))]
    Failed {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        cause: Errno,
    },
}

impl StoreError {
    fn new(action: &'static str, path: &Path, cause: Errno) -> Self {
        Self::Failed { action, path: path.to_owned(), cause }
    }
}

/// What to look at, as an addition to the message.
fn hint(action: &str, cause: Errno) -> &'static str {
    match cause {
        Errno::ENOENT if action == READ => " (is it published yet, under this name?)",
        Errno::EACCES if action == READ => " (may this process's user read it?)",
        Errno::ENOENT => " (does its parent directory exist, and is the volume mounted here?)",
        Errno::EACCES | Errno::EPERM => {
            " (does this process's user own the directory, or its group have write permission? in a pod, set fsGroup)"
        }
        Errno::EROFS => " (is the volume mounted with readOnly: true?)",
        Errno::ENOSPC | Errno::EDQUOT => " (make room, or raise the volume's sizeLimit)",
        Errno::EEXIST if action == TAKE_OVER => {
            " (another program publishes there: give the helper a directory of its own)"
        }
        Errno::ENOTDIR => " (--svid-path must be a directory)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_in_the_very_form_of_ours_count_as_ours() {
        assert!(is_generation_name(&generation_name(SystemTime::now())));
        for other in ["..data", "..2026_11_23_16_40_05.123456789", "2026-11-23T16-40-05.123456789Z", "..", ""]
        {
            assert!(!is_generation_name(other), "{other}");
        }
    }
}
