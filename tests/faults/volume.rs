//! What a reader finds in a volume.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::calls::is_generation;

/// Bytes of files, by name. A file that cannot be opened is not in it.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What a reader sees, at one moment.
pub struct Seen {
    pub by_name: Files,
    pub through_data: Files,
    /// Whether there is a set behind `..data`.
    pub has_data: bool,
}

impl Seen {
    /// Opens these names; again when `..data` is replaced meanwhile.
    pub fn look(volume: &Path, names: &[&str]) -> Self {
        let data = || fs::read_link(volume.join("..data")).ok();
        let read = |directory: &Path| -> Files {
            let read = |name: &&str| Some(((*name).to_owned(), fs::read(directory.join(name)).ok()?));
            names.iter().filter_map(read).collect()
        };
        loop {
            let before = data();
            let by_name = read(volume);
            let through_data = before.as_ref().map(|set| read(&volume.join(set))).unwrap_or_default();
            if data() == before {
                return Self { by_name, through_data, has_data: before.is_some() };
            }
        }
    }
}

/// Paths, each with the mode (octal), the owner and the group of what is there.
pub type Listing = BTreeMap<String, Vec<String>>;

/// Everything in a volume: the volume itself is `.`, and all hidden directories have one name. Links are
/// followed; `-` is the mode of one that leads nowhere.
pub fn listing(volume: &Path) -> Listing {
    let mut found = Listing::new();
    let mut directories = vec![(volume.to_owned(), ".".to_owned())];
    while let Some((path, shown)) = directories.pop() {
        found.entry(shown.clone()).or_default().push(attributes(&path));
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let name = if is_generation(&name) { "GENERATION".to_owned() } else { name };
            let shown = format!("{shown}/{name}");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push((path, shown));
            } else {
                found.entry(shown).or_default().push(attributes(&path));
            }
        }
    }
    found
}

fn attributes(path: &Path) -> String {
    let attributes = |found: fs::Metadata| {
        format!("{:04o} {}:{}", found.permissions().mode() & 0o7777, found.uid(), found.gid())
    };
    fs::metadata(path).map_or("-".to_owned(), attributes)
}
