//! What goes wrong with a directory, in sentences that say what to do.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use thiserror::Error;

use crate::words::{Flaw, flaw};

/// Why a set could not be published, withdrawn or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum StoreError {
    /// Another process holds the directory's lock.
    #[error("another process holds the lock of {}: is a second helper writing there?", .0.display())]
    Busy(PathBuf),
    /// A signal came that ends the program.
    #[error("stopped by a signal before the files in {} were published", .0.display())]
    ToldToEnd(PathBuf),
    /// `..data`, at this path, was made by another program: other writers of volumes use the same name.
    #[error(
        "cannot take over {}: another program publishes there (give the helper a directory of its own)",
        .0.display()
    )]
    OthersData(PathBuf),
    /// A name does not lead to the file of the published set.
    #[error(transparent)]
    NotOfTheSet(Flaw),
    /// The options do not fit the directory: a starting helper should end with this error.
    #[error(transparent)]
    Unfit(Flaw),
    /// Anything else may pass: it is logged, and the publication is retried.
    #[error(transparent)]
    Failed(#[from] Flaw),
}

impl StoreError {
    /// A step of a writer failed. `action` names it.
    pub(super) fn write(action: &str, path: &Path, cause: Errno) -> Self {
        flaw!("cannot {action} {}: {}{}", path.display(), cause.desc(), writer_hint(cause)).into()
    }

    pub(super) fn read(path: &Path, cause: Errno) -> Self {
        flaw!("cannot read {}: {}{}", path.display(), cause.desc(), reader_hint(cause)).into()
    }

    /// A name, at this path, cannot be replaced.
    pub(super) fn in_the_way(path: &Path, obstacle: Flaw) -> Self {
        flaw!("cannot replace {}: {obstacle}", path.display()).into()
    }
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
