//! Whether the published set is still as it was, without reading a byte of it.

use std::path::{Path, PathBuf};

use nix::sys::stat::stat;

use super::directory::DATA;

/// The files of a set as they were found, by name and through `..data`.
#[derive(Default)]
pub(super) struct Snapshot(Vec<(PathBuf, Option<Stamp>)>);

/// The facts that change when a file is replaced or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: i64,
    modified: (i64, i64),
    mode: u32,
    owner: (u32, u32),
}

impl Snapshot {
    /// Looks at the files of these names in a directory.
    pub(super) fn take<'a>(directory: &Path, names: impl IntoIterator<Item = &'a str>) -> Self {
        let paths =
            names.into_iter().flat_map(|name| [directory.join(name), directory.join(DATA).join(name)]);
        Self(
            paths
                .map(|path| {
                    let stamp = Stamp::of(&path);
                    (path, stamp)
                })
                .collect(),
        )
    }

    /// Whether every file is there, and is what it was.
    pub(super) fn is_unchanged(&self) -> bool {
        self.0.iter().all(|(path, stamp)| stamp.is_some() && Stamp::of(path) == *stamp)
    }
}

impl Stamp {
    /// Links are followed, as an application does.
    fn of(path: &Path) -> Option<Self> {
        let stat = stat(path).ok()?;
        Some(Self {
            file: (stat.st_dev, stat.st_ino),
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
        })
    }
}
