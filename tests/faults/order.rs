//! The order of writing, syncing and renaming, from the calls of a good run.

use std::collections::BTreeSet;

use super::calls::Call;

/// The directory of the files.
const VOLUME: &str = "DIRECTORY/svids";
/// They are of no use after a crash of the machine.
pub const FLEETING: [&str; 3] = ["..lock", "..names", "..identity"];

/// What a call does to files, as far as it matters here.
enum Effect {
    /// A file has other contents, or another mode.
    File(String),
    /// A directory has another entry; or one less.
    Entry(String),
    /// The published set is replaced by the one in this directory.
    Publication(String),
    Removal,
    Sync(String),
    None,
}

impl Effect {
    fn of(call: &Call) -> Self {
        let text = |index: usize| call.about.get(index).cloned().unwrap_or_default();
        let is_fleeting = call.about.iter().any(|text| FLEETING.iter().any(|name| text.ends_with(name)));
        if !call.has_succeeded() || is_fleeting {
            return Self::None;
        }
        match call.name.as_str() {
            "openat" if call.line.contains("O_CREAT") => Self::File(format!("{}/{}", text(0), text(1))),
            "write" | "fchmod" | "fchown" | "ftruncate" => Self::File(text(0)),
            "renameat" if text(3) == "..data" => Self::Publication(text(0)),
            "renameat" => Self::Entry(text(2)),
            "mkdir" => Self::Entry("DIRECTORY".to_owned()),
            "mkdirat" => Self::Entry(text(0)),
            "linkat" => Self::Entry(text(2)),
            "symlinkat" => Self::Entry(text(1)),
            "unlinkat" => Self::Removal,
            "fsync" => Self::Sync(text(0)),
            _ => Self::None,
        }
    }
}

/// Where the order is wrong, a line each:
///
/// - before `..data` moves to a set, each of its files is synced, then its directory, and the directory
///   in which the set and the names are made;
/// - after that, the move is synced before anything else changes there, and before anything is removed;
/// - in the end, everything that was not removed is synced.
pub fn faults(calls: &[Call]) -> Vec<String> {
    let mut unsynced = BTreeSet::new();
    let mut is_moved = false;
    let mut faults = Vec::new();
    for call in calls {
        match Effect::of(call) {
            Effect::Sync(path) => {
                is_moved &= path != VOLUME;
                unsynced.remove(&path);
            }
            Effect::File(path) => _ = unsynced.insert(path),
            Effect::Entry(path) => {
                if is_moved && path == VOLUME {
                    faults.push(format!("..data has moved, and is not synced: {}", call.line));
                }
                unsynced.insert(path);
            }
            Effect::Publication(set) => {
                let concerns = |path: &&String| **path == VOLUME || path.starts_with(set.as_str());
                for path in unsynced.iter().filter(concerns) {
                    faults.push(format!("{path} is not synced: {}", call.line));
                }
                is_moved = true;
                unsynced.insert(VOLUME.to_owned());
            }
            Effect::Removal if is_moved => {
                faults.push(format!("..data has moved, and is not synced: {}", call.line));
            }
            Effect::Removal | Effect::None => {}
        }
    }
    // A directory for names that are on their way is removed in the end, and has no need of it.
    let is_left = |path: &&String| *path == VOLUME || *path == "DIRECTORY";
    faults.extend(unsynced.iter().filter(is_left).map(|path| format!("{path} is not synced in the end")));
    faults
}

/// How many files were written, and synced after that.
pub fn files_written(calls: &[Call]) -> usize {
    let mut written = BTreeSet::new();
    for call in calls {
        if let ("openat", Effect::File(path)) = (call.name.as_str(), Effect::of(call)) {
            written.insert(path);
        }
    }
    written.retain(|path| {
        calls.iter().any(|call| matches!(Effect::of(call), Effect::Sync(synced) if synced == *path))
    });
    written.len()
}
