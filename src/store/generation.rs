//! A hidden directory of ours, with the time in its name: a set of files, or files on their way to their names.
//! `..data` leads to the published one.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use super::directory::{DATA, Data, Directory, entries, is_generation_name, through_data};
use super::error::StoreError;
use super::file::{Contents, File, FileMode, LARGEST_FILE, errno, file_type, read_regular};
use super::notices::Notice;
use super::permissions::{directory_mode, give, give_to_group, set_mode, sync};
use crate::time::timestamp::rfc3339;

/// `..data` on its way to its name. No file of a set can have this name.
const NEW_DATA: &str = "..link";
/// How many names are tried for a directory.
const NAMES: u32 = 10_000;

/// A hidden directory of ours, not published yet.
pub(super) struct Generation<'a> {
    pub(super) name: String,
    pub(super) fd: OwnedFd,
    directory: &'a Directory<'a>,
}

impl<'a> Generation<'a> {
    /// Makes one. Its name is the time, and differs from the published one's even if the clock stops or
    /// goes back.
    pub(super) fn new(directory: &'a Directory<'a>, now: SystemTime) -> Result<Self, StoreError> {
        // Named by the directory it is in: an error that lasts must read the same each time.
        let fail = |cause| StoreError::write("create a directory in", directory.path, cause);
        let mut name = generation_name(now);
        if let Ok(Data::Link(published)) = directory.data()
            && published >= name
        {
            name = successor(&published);
        }
        let mut made = Err(Errno::EEXIST);
        for _ in 0..NAMES {
            made = mkdirat(&directory.fd, name.as_str(), Mode::from_bits_truncate(0o755));
            if made != Err(Errno::EEXIST) {
                break;
            }
            name = successor(&name);
        }
        made.map_err(fail)?;
        let open = || {
            let fd = directory.open_directory(&name).map_err(fail)?;
            let stat = fstat(&fd).map_err(fail)?;
            // Another writer may have put its own in the place of ours.
            if !directory.owns(&stat) {
                return Err(fail(Errno::EPERM));
            }
            set_mode(&fd, directory.path, directory_mode(&stat), directory.notices)?;
            Ok(fd)
        };
        let fd = open().inspect_err(|_| {
            unlinkat(&directory.fd, name.as_str(), UnlinkatFlags::RemoveDir).ok();
        })?;
        Ok(Self { name, fd, directory })
    }

    /// Writes files, each with its mode and owner, and syncs them.
    pub(super) fn write(&self, files: &[&File]) -> Result<(), StoreError> {
        files.iter().try_for_each(|file| {
            self.directory.fail_if_told_to_end()?;
            self.write_file(file.name.as_str(), file.mode, &file.contents)
        })
    }

    /// Takes over files of the published set: by a hard link if mode and owner are right, else as a copy.
    pub(super) fn keep(&self, set: Option<&OwnedFd>, kept: &[(String, FileMode)]) -> Result<(), StoreError> {
        let Some(set) = set else { return Ok(()) };
        for (name, mode) in kept {
            self.directory.fail_if_told_to_end()?;
            match self.link_from(set, name)? {
                Some(stat) if self.directory.is_as_new(&stat, *mode) => continue,
                Some(_) => self.unlink("keep", name)?,
                None => {}
            }
            self.copy_from(set, name, *mode)?;
        }
        Ok(())
    }

    /// Makes a hard link to a regular file that we own; `None` where that cannot be. It is looked at
    /// under its new name, where nobody else can change it.
    pub(super) fn link_from(&self, from: &OwnedFd, name: &str) -> Result<Option<FileStat>, StoreError> {
        if linkat(from, name, &self.fd, name, AtFlags::empty()).is_err() {
            return Ok(None);
        }
        let stat = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|cause| self.directory.error("look at", name, cause))?;
        if is_acceptable(self.directory, &stat) {
            return Ok(Some(stat));
        }
        self.unlink("remove", name)?;
        Ok(None)
    }

    fn unlink(&self, action: &'static str, name: &str) -> Result<(), StoreError> {
        unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)
            .map_err(|cause| self.directory.error(action, name, cause))
    }

    /// Copies a regular file that we own.
    pub(super) fn copy_from(&self, from: &OwnedFd, name: &str, mode: FileMode) -> Result<(), StoreError> {
        let (_, bytes) = read_regular(from, name, OFlag::O_NOFOLLOW, |stat| self.directory.owns(stat))
            .map_err(|cause| self.directory.error("keep", name, cause))?;
        self.write_file(name, mode, &Contents::new(move |out| out.write_all(&bytes)))
    }

    /// The file never has more than the owner's read permission until it has its own mode.
    fn write_file(&self, name: &str, mode: FileMode, contents: &Contents) -> Result<(), StoreError> {
        let fail = |cause| self.directory.error("write", name, cause);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let first = if mode.is_world_readable() { mode.bits() } else { 0o400 };
        let fd = openat(&self.fd, name, flags, Mode::from_bits_truncate(first)).map_err(fail)?;
        let mut file = fs::File::from(fd);
        #[cfg(test)]
        super::simulated::write_part(&mut file).map_err(fail)?;
        contents.write_to(&mut file).map_err(|error| fail(errno(error)))?;
        give_to_group(&file, self.directory.path, self.directory.owner)?;
        set_mode(&file, &self.directory.path.join(name), mode.bits(), self.directory.notices)?;
        give(&file, self.directory.path, self.directory.owner)?;
        sync(&file).map_err(fail)
    }

    /// Makes a link to `..data/NAME`, owned as all that we publish.
    pub(super) fn link_through_data(&self, name: &str) -> Result<(), StoreError> {
        self.symlink(&through_data(name), name).map_err(|cause| self.directory.error("link", name, cause))
    }

    /// Prepares the link for `..data`; returns false on a file system without symbolic links.
    pub(super) fn prepare_data(&self) -> Result<bool, StoreError> {
        match self.symlink(&self.name, NEW_DATA) {
            Ok(()) => Ok(true),
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                self.directory.notices.warn_once(
                    Notice::NoSymbolicLinks,
                    format_args!(
                        "the file system of {} has no symbolic links: the files are replaced one by one, not as one set",
                        self.directory.path.display()
                    ),
                );
                Ok(false)
            }
            Err(cause) => Err(self.directory.error("link", DATA, cause)),
        }
    }

    fn symlink(&self, target: &str, name: &str) -> nix::Result<()> {
        symlinkat(target, &self.fd, name)?;
        let Some(owner) = self.directory.owner else { return Ok(()) };
        fchownat(&self.fd, name, Some(owner.uid), owner.gid, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// Completes it: gives it to its owner, and syncs it.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        give(&self.fd, self.directory.path, self.directory.owner)?;
        sync(&self.fd).map_err(|cause| StoreError::write("sync the files in", self.directory.path, cause))
    }

    /// Makes this the published set: by the link that is prepared, in one step; where there are no
    /// links, by itself, in two steps between which there is no `..data`.
    pub(super) fn swap(&self, is_link: bool, now: SystemTime) -> Result<(), StoreError> {
        let directory = self.directory;
        let rename = |from: &str, to: &str| {
            let renamed = renameat(&directory.fd, from, &directory.fd, to);
            renamed.map_err(|cause| directory.error("rename", from, cause))
        };
        match directory.data()? {
            Data::Directory => rename(DATA, &Generation::new(directory, now)?.name)?,
            Data::Link(_) if !is_link => directory.unlink(DATA)?,
            Data::Link(_) | Data::Absent => {}
        }
        if is_link {
            renameat(&self.fd, NEW_DATA, &directory.fd, DATA)
                .map_err(|cause| self.directory.error("link", DATA, cause))
        } else {
            rename(&self.name, DATA)
        }
    }

    /// Moves an entry out, to its name.
    pub(super) fn place(&self, name: &str) -> Result<(), StoreError> {
        #[cfg(test)]
        super::simulated::step();
        renameat(&self.fd, name, &self.directory.fd, name)
            .map_err(|cause| self.directory.error("link", name, cause))
    }
}

/// How many files are removed even if the program is told to end.
const REMOVED_AT_THE_END: usize = 100;

/// Whether a file may be kept: a regular one that we own, not larger than what we read.
pub(super) fn is_acceptable(directory: &Directory<'_>, stat: &FileStat) -> bool {
    file_type(stat) == SFlag::S_IFREG
        && directory.owns(stat)
        && u64::try_from(stat.st_size).is_ok_and(|size| size <= LARGEST_FILE)
}

/// Removes a hidden directory of ours and our files in it.
pub(super) fn remove(directory: &Directory<'_>, name: &str) -> Result<(), StoreError> {
    remove_after(directory, name, |_, _| Ok(()))
}

/// The same, after something is done for each file. A file for which it fails stays.
pub(super) fn remove_after(
    directory: &Directory<'_>,
    name: &str,
    before: impl Fn(&OwnedFd, &str) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let Some((fd, _)) = directory.open_owned(name)? else { return Ok(()) };
    let fail = |cause| directory.error("remove", name, cause);
    let remove_file = |entry: &str| {
        let stat = fstatat(&fd, entry, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(fail)?;
        if !directory.owns(&stat) || file_type(&stat) == SFlag::S_IFDIR {
            return Ok(());
        }
        before(&fd, entry)?;
        #[cfg(test)]
        super::simulated::step();
        unlinkat(&fd, entry, UnlinkatFlags::NoRemoveDir).map_err(fail)
    };
    let mut outcome = Ok(());
    for (index, entry) in entries(&fd).map_err(fail)?.into_iter().enumerate() {
        if index > REMOVED_AT_THE_END && (directory.is_told_to_end)() {
            // The next start removes the rest.
            return Ok(());
        }
        // A file that stays keeps no other one: the next may be the key.
        outcome = outcome.and(remove_file(&entry));
    }
    outcome?;
    unlinkat(&directory.fd, name, UnlinkatFlags::RemoveDir).map_err(fail)
}

/// Whether a hidden directory of ours is there.
pub(super) fn is_one_in(directory: &Directory<'_>) -> Result<bool, StoreError> {
    let names = entries(&directory.fd).map_err(|cause| StoreError::write("list", directory.path, cause))?;
    for name in names.iter().filter(|name| is_generation_name(name)) {
        if directory.open_ours(name)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives another program's `..data` a name that nobody takes for a set, and returns that. It is not ours to remove.
pub(super) fn move_data_aside(directory: &Directory<'_>, now: SystemTime) -> Result<String, StoreError> {
    let mut time = generation_name(now);
    let aside = loop {
        let name = format!("..foreign-{}", time.trim_start_matches('.'));
        if directory.look_at(&name)?.is_none() {
            break name;
        }
        time = successor(&time);
    };
    renameat(&directory.fd, DATA, &directory.fd, aside.as_str())
        .map_err(|cause| directory.error("move aside", DATA, cause))?;
    Ok(aside)
}

/// `..2026-11-23T16-40-05.123456789Z`: no colons, which some tools take for a separator.
fn generation_name(time: SystemTime) -> String {
    format!("..{}", rfc3339(time, 9).replace(':', "-"))
}

/// The name a nanosecond later, within the same second.
fn successor(name: &str) -> String {
    let (second, fraction) = name.trim_end_matches('Z').rsplit_once('.').unwrap_or_default();
    let fraction: u32 = fraction.parse().unwrap_or_default();
    format!("{second}.{:09}Z", (fraction + 1) % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn only_names_of_exactly_our_form_count_as_ours() {
        let years_from_9999 = UNIX_EPOCH + Duration::from_secs(1 << 40);
        for time in [SystemTime::now(), UNIX_EPOCH - Duration::from_secs(1), years_from_9999] {
            let name = generation_name(time);
            assert!(is_generation_name(&name), "{name}");
            assert!(is_generation_name(&successor(&name)), "{name}");
        }
        for other in ["..data", "..2026_11_23_16_40_05.123456789", "2026-11-23T16-40-05.123456789Z", "..", ""]
        {
            assert!(!is_generation_name(other), "{other}");
        }
    }

    #[test]
    fn the_next_name_is_another_one_at_the_end_of_a_second_too() {
        let name = generation_name(UNIX_EPOCH + Duration::new(5, 999_999_998));
        assert_eq!(successor(&name), "..1970-01-01T00-00-05.999999999Z");
        assert_eq!(successor(&successor(&name)), "..1970-01-01T00-00-05.000000000Z");
    }
}
