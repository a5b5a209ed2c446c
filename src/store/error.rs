//! What goes wrong with a directory, in sentences that say what to do: errors, and warnings that are not logged
//! at every publication.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Instant;

use log::Level;
use nix::errno::Errno;
use thiserror::Error;

use super::owner::Owner;
use crate::logging::Repetition;

/// Why a set could not be published, withdrawn or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum StoreError {
    /// Another process holds the directory's lock.
    #[error("another process holds the lock of {}: is a second helper writing there?", .path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A signal came that ends the program.
    #[error("stopped by a signal before the files in {} were published", .path.display())]
    ToldToEnd {
        /// The directory.
        path: PathBuf,
    },
    /// A helper that runs publishes other names or another identity there, and each would remove the other's.
    #[error(
        "another helper that is running publishes {claim} in {}: give each helper a directory of its own, or the same options",
        .path.display()
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// The other helper's names, or its identity.
        claim: String,
    },
    /// The directory is missing, and so is the one to create it in.
    #[error(
        "cannot create the directory {}: its parent directory does not exist (is the volume mounted here?)",
        .path.display()
    )]
    NoParent {
        /// The directory.
        path: PathBuf,
    },
    /// `..data` was made by another program: other writers of volumes use the same name.
    #[error(
        "cannot take over {}: another program publishes there (give the helper a directory of its own)",
        .path.display()
    )]
    OthersData {
        /// The path of `..data`.
        path: PathBuf,
    },
    /// A name cannot be replaced.
    #[error("cannot replace {}: {obstacle}", .path.display())]
    Obstacle {
        /// The name's path.
        path: PathBuf,
        /// Why not.
        obstacle: Obstacle,
    },
    /// The file system keeps a mode that lets more users in than the options do.
    #[error(
        "{} would have mode {found:04o} instead of {mode:04o}, and its file system does not allow chmod: choose another volume, or mount this one so that its files have mode {mode:04o}",
        .path.display()
    )]
    WiderMode {
        /// The file's path, or the directory's.
        path: PathBuf,
        /// The permissions that it has.
        found: u32,
        /// The permissions that it should have.
        mode: u32,
    },
    /// Files cannot be given to the owner that the options name.
    #[error(
        "cannot give files in {} to {owner} (--file-owner): {} (this takes root, or the capabilities CHOWN, FOWNER and DAC_OVERRIDE)",
        .path.display(), .cause.desc()
    )]
    NotGiven {
        /// The directory.
        path: PathBuf,
        /// The owner that the options name.
        owner: Owner,
        /// The system's answer.
        cause: Errno,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {}{}", .path.display(), .cause.desc(), reader_hint(*.cause))]
    Read {
        /// The file's path.
        path: PathBuf,
        /// The system's answer.
        cause: Errno,
    },
    /// A name does not lead to the file of the published set.
    #[error(
        "{} is not the published file ..data/{name}: an application that opens it gets another one",
        .path.display()
    )]
    NotOfTheSet {
        /// The name's path.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A step of a writer failed.
    #[error("cannot {action} {}: {}{}", .path.display(), .cause.desc(), writer_hint(*.cause))]
    Write {
        /// The step, for the message.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        cause: Errno,
    },
}

impl StoreError {
    pub(super) fn write(action: &'static str, path: &Path, cause: Errno) -> Self {
        Self::Write { action, path: path.to_owned(), cause }
    }

    pub(super) fn read(path: PathBuf, cause: Errno) -> Self {
        Self::Read { path, cause }
    }

    /// Whether the options do not fit the directory: a starting helper should end with this error. Any other
    /// error may pass: it is logged, and the publication is retried.
    pub(crate) fn forbids_start(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::NoParent { .. } | Self::NotGiven { .. })
    }
}

/// Why a name cannot be replaced, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Obstacle {
    /// A directory.
    #[error("it is a directory (remove it, or choose another file name)")]
    Directory,
    /// A file or directory is mounted there.
    #[error(
        "it is a mount point (mount the whole directory, without subPath and not a single file; or choose another file name)"
    )]
    MountPoint,
    /// It has the file attribute `i`.
    #[error("it is immutable (chattr -i makes it changeable)")]
    Immutable,
    /// It has the file attribute `a`.
    #[error("it can only be appended to (chattr -a makes it changeable)")]
    AppendOnly,
    /// It belongs to another user, in that or a third user's sticky directory.
    #[error("it belongs to user {0}, and the directory is sticky (remove it, or use a subdirectory)")]
    OtherUsers(u32),
}

/// A hint for the message of a reader.
fn reader_hint(cause: Errno) -> &'static str {
    match cause {
        Errno::ENOENT => {
            " (if the helper that writes here should have published it under this name, its log says why it has not)"
        }
        Errno::EACCES => " (may this process's user read it?)",
        Errno::EINVAL => " (only regular files are read)",
        _ => "",
    }
}

/// A hint for the message of a writer.
fn writer_hint(cause: Errno) -> &'static str {
    match cause {
        Errno::ENOENT => " (does its parent directory exist, and is the volume mounted here?)",
        Errno::EACCES | Errno::EPERM => {
            " (does this process's user own the directory, or its group have write permission? in a pod, set fsGroup)"
        }
        Errno::EROFS => " (is the volume mounted with readOnly: true?)",
        Errno::ENOSPC | Errno::EDQUOT => {
            " (make room, or raise the volume's sizeLimit and, in memory, the container's limits.memory)"
        }
        Errno::ENOTDIR => " (--svid-path must be a directory)",
        _ => "",
    }
}

/// The subject of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Notice {
    NoLocks,
    NoHardLinks,
    NoSymbolicLinks,
    NarrowerMode,
    SharedByAllUsers,
    ForeignSet,
    /// Another program puts its own `..data` in the place of ours.
    OthersData,
    /// A file of the set before cannot be kept.
    LeftOut,
    /// What is of no use any more cannot be removed.
    NotRemoved,
}

/// The notices that have been given.
#[derive(Default)]
pub(super) struct Notices(RefCell<BTreeMap<Notice, Repetition>>);

impl Notices {
    /// Logs a warning about what never changes, the first time.
    pub(super) fn warn_once(&self, notice: Notice, message: impl Display) {
        self.0.borrow_mut().entry(notice).or_insert_with(|| {
            log::warn!("{message}");
            Repetition::default()
        });
    }

    /// Logs a warning about a state that may last, and then a reminder each minute.
    pub(super) fn warn(&self, notice: Notice, message: &str, now: Instant) {
        self.0.borrow_mut().entry(notice).or_default().log_state(Level::Warn, message, now);
    }

    /// The state is over.
    pub(super) fn end(&self, notice: Notice, now: Instant) {
        self.0.borrow_mut().entry(notice).or_default().end(now);
    }
}
