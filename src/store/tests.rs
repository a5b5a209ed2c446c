//! Behaviour that cannot be seen from outside, on real directories.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::{Uid, geteuid, setfsuid};
use tempfile::TempDir;

use super::*;
use crate::store::file::{Contents, File, FileMode};

const ANOTHER: u32 = 65532;

fn volume() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn mode(text: &str) -> FileMode {
    text.parse().expect("a mode")
}

fn file(name: &str, contents: &str) -> File {
    let bytes = contents.to_owned().into_bytes();
    let contents = Contents::new(move |out| out.write_all(&bytes));
    File { name: name.parse().expect("a name"), mode: mode("0400"), contents }
}

/// This moment, by a wall clock that may be wrong.
fn at(time: SystemTime) -> Now {
    Now { time, ..Now::look() }
}

fn publish(store: &Store, contents: &str, now: SystemTime) -> Result<Publication, StoreError> {
    store.publish(&[&file("key", contents), &file("chain", contents)], |_| None, None, at(now))
}

fn root_or_skipped() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        let _ = writeln!(std::io::stderr(), "SKIPPED: only root can give files away");
    }
    is_root
}

/// The owner and group of all that is in a directory, one level down.
fn owners(directory: &Path) -> Vec<(u32, u32)> {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
    let owners = entries.flat_map(|entry| {
        let own = entry.path().symlink_metadata().expect("an entry");
        let within = if own.is_dir() { owners(&entry.path()) } else { Vec::new() };
        [vec![(own.uid(), own.gid())], within].concat()
    });
    owners.collect()
}

#[test]
fn no_two_sets_have_the_same_name_whatever_the_clock_says() {
    let moments = [
        UNIX_EPOCH - Duration::from_secs(1),
        UNIX_EPOCH + Duration::from_secs(5),
        UNIX_EPOCH + Duration::from_secs(1 << 40),
        UNIX_EPOCH + Duration::from_secs(5),
    ];
    let volume = volume();
    let store = Store::new(volume.path().to_owned());
    let mut seen: Vec<PathBuf> = Vec::new();
    for (number, now) in moments.into_iter().flat_map(|moment| [moment; 3]).enumerate() {
        assert_eq!(publish(&store, &number.to_string(), now), Ok(Publication::Replaced));
        let target = std::fs::read_link(volume.path().join("..data")).expect("a link");
        assert!(!seen.contains(&target), "{target:?} in {seen:?}");
        seen.push(target);
        assert_eq!(std::fs::read_dir(volume.path()).expect("a directory").count(), 4);
    }
}

#[test]
fn a_set_is_intact_until_something_of_it_is_changed_by_name_or_behind_it() {
    let changes: [fn(&Path); 8] = [
        |path| std::fs::remove_file(path.join("key")).expect("a name"),
        |path| std::fs::remove_file(path.join("..data/key")).expect("a file"),
        |path| std::fs::rename(path.join("..data/key"), path.join("key")).expect("a file in place of a name"),
        |path| std::fs::remove_file(path.join("..data")).expect("a link"),
        |path| std::fs::remove_dir_all(path).expect("a directory"),
        |path| std::fs::set_permissions(path.join("key"), PermissionsExt::from_mode(0o444)).expect("a mode"),
        |path| {
            std::fs::remove_file(path.join("key")).expect("a name");
            std::fs::write(path.join("key"), "1").expect("a file");
        },
        |path| {
            let key = path.join("..data/key");
            std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("a mode");
            std::fs::write(&key, "2").expect("a file");
            std::fs::set_permissions(&key, PermissionsExt::from_mode(0o400)).expect("a mode");
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let volume = volume();
        let path = volume.path().join("svids");
        let store = Store::new(path.clone());
        assert!(store.is_intact(), "nothing is expected yet");
        publish(&store, "1", SystemTime::now()).expect("a publication");
        assert!(store.is_intact());
        let next = Store::new(path.clone());
        next.start(Now::look()).expect("a good directory");
        change(&path);
        assert!(!store.is_intact(), "change {number}");
        assert!(!next.is_intact(), "change {number}, found at the start");
        assert_eq!(publish(&store, "1", SystemTime::now()), Ok(Publication::Replaced), "change {number}");
        assert!(store.is_intact());
        assert_eq!(store.publish(&[], |_| None, None, Now::look()), Ok(Publication::Removed));
        assert!(store.is_intact(), "nothing is expected any more");
    }
}

#[test]
fn names_of_a_whole_set_are_put_back_while_nobody_else_writes() {
    let volume = volume();
    let store = Store::new(volume.path().to_owned());
    assert!(store.put_names_back(Now::look()), "nothing is expected yet");
    publish(&store, "1", SystemTime::now()).expect("a publication");
    std::fs::remove_file(volume.path().join("key")).expect("a name");
    let lock = std::fs::File::create(volume.path().join("..lock")).expect("a file");
    lock.lock().expect("another helper's lock");
    assert!(!store.put_names_back(Now::look()));
    drop(lock);
    assert!(store.put_names_back(Now::look()));
    assert_eq!(std::fs::read_to_string(volume.path().join("key")).expect("a file"), "1");
    assert_eq!(std::fs::read_dir(volume.path()).expect("a directory").count(), 4, "nothing is left over");
    std::fs::remove_file(volume.path().join("..data/key")).expect("a file");
    assert!(!store.put_names_back(Now::look()), "the file itself is gone");
}

#[test]
fn a_set_whose_directory_is_closed_to_readers_is_not_intact_and_is_opened_again() {
    let volume = volume();
    let store = Store::new(volume.path().to_owned());
    publish(&store, "1", SystemTime::now()).expect("a publication");
    let data = volume.path().join("..data");
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).expect("a mode");
    assert!(!store.is_intact());
    assert_eq!(publish(&store, "1", SystemTime::now()), Ok(Publication::Unchanged));
    assert_eq!(std::fs::metadata(data).expect("a directory").mode() & 0o777, 0o755);
    assert!(store.is_intact());
}

#[test]
fn damage_is_noticed_after_a_start_that_could_not_finish() {
    let volume = volume();
    publish(&Store::new(volume.path().to_owned()), "1", SystemTime::now()).expect("a publication");
    // It looks like ours, and holds what is not.
    let stuck = volume.path().join("..2026-01-01T00-00-00.000000000Z/theirs");
    std::fs::create_dir_all(stuck).expect("a directory");
    let stores = [(); 2].map(|()| Store::new(volume.path().to_owned()));
    stores[0].start(Now::look()).expect_err("the leftover cannot be removed");
    let lock = std::fs::File::create(volume.path().join("..lock")).expect("a file");
    lock.lock().expect("another helper's lock");
    stores[1].start(Now::look()).expect("the other helper prepares the directory");
    assert!(stores.iter().all(Store::is_intact));
    std::fs::remove_file(volume.path().join("key")).expect("a name");
    assert!(!stores.iter().any(Store::is_intact));
}

#[test]
fn a_set_that_another_helper_has_published_is_told_from_our_own() {
    let volume = volume();
    let [ours, others] = [(); 2].map(|()| Store::new(volume.path().to_owned()));
    let publish = |store, contents| publish(store, contents, SystemTime::now());
    assert_eq!(publish(&others, "1"), Ok(Publication::Replaced));
    assert_eq!(publish(&ours, "1"), Ok(Publication::Found), "the first set");
    assert_eq!(publish(&ours, "1"), Ok(Publication::Unchanged));
    assert_eq!(publish(&others, "2"), Ok(Publication::Replaced));
    assert_eq!(publish(&ours, "2"), Ok(Publication::Found), "the next set");
    assert_eq!(publish(&ours, "2"), Ok(Publication::Unchanged));
    let next = Store::new(volume.path().to_owned());
    next.start(Now::look()).expect("a good directory");
    assert_eq!(publish(&next, "2"), Ok(Publication::Unchanged), "found at the start");
}

#[test]
fn a_signal_that_ends_the_program_stops_a_publication_and_says_so() {
    let volume = volume();
    let store = || Store::new(volume.path().to_owned());
    publish(&store(), "1", SystemTime::now()).expect("a publication");
    let error = publish(&store().stopped_by(|| true), "2", SystemTime::now()).expect_err("it stops");
    let sentence =
        format!("stopped by a signal before the files in {} were published", volume.path().display());
    assert_eq!(error.to_string(), sentence);
    assert_eq!(std::fs::read(volume.path().join("key")).expect("the old file"), b"1");
    assert_eq!(std::fs::read_dir(volume.path()).expect("a directory").count(), 4);
}

#[test]
fn a_file_is_read_only_if_its_name_leads_into_the_set() {
    let volume = volume();
    let store = Store::new(volume.path().to_owned());
    publish(&store, "1", SystemTime::now()).expect("a publication");
    let read = || store.published().expect("a set").read("key");
    assert_eq!(read().expect("a file").as_slice(), b"1");
    let key = volume.path().join("key");
    std::fs::remove_file(&key).expect("a name");
    assert!(matches!(read(), Err(StoreError::Failed(_))));
    std::fs::write(&key, "other").expect("a file");
    assert!(matches!(read(), Err(StoreError::NotOfTheSet(_))));
    std::fs::remove_file(&key).expect("a name");
    std::os::unix::fs::symlink("/dev/zero", &key).expect("a link");
    assert!(matches!(read(), Err(StoreError::Failed(_))));
}

#[test]
fn all_that_is_published_belongs_to_the_owner_and_is_kept_by_him() {
    if !root_or_skipped() {
        return;
    }
    let volume = volume();
    let path = volume.path().join("svids");
    let store = || Store::new(path.clone()).owned_by("65532:65533".parse().ok());
    store().start(Now::look()).expect("root may");
    publish(&store(), "1", SystemTime::now()).expect("a publication");
    assert_eq!(owners(volume.path()), vec![(ANOTHER, 65533); 1 + 1 + 1 + 2 + 2]);
    let keeps = |name: &str| (name == "chain").then(|| mode("0440"));
    store().publish(&[&file("key", "2")], keeps, None, Now::look()).expect("a publication");
    assert_eq!(owners(volume.path()), vec![(ANOTHER, 65533); 1 + 1 + 1 + 2 + 2]);
    let chain = std::fs::metadata(path.join("chain")).expect("a file");
    assert_eq!(chain.mode() & 0o7777, 0o440);
    // A file that a helper without an owner has left is given away when it is kept.
    let other = Store::new(path.clone());
    publish(&other, "3", SystemTime::now()).expect("a publication");
    store().publish(&[&file("key", "4")], keeps, None, Now::look()).expect("a publication");
    for name in ["key", "chain"] {
        let file = std::fs::metadata(path.join(name)).expect("a file");
        assert_eq!((file.uid(), file.gid()), (ANOTHER, 65533), "{name}");
    }
}

/// Runs as root, but for the owner and the privileges of what it does in file systems.
fn as_another<T>(act: impl FnOnce() -> T) -> T {
    let root = setfsuid(Uid::from_raw(ANOTHER));
    let result = act();
    setfsuid(root);
    result
}

/// What is under the names of a directory, where these are files.
fn file_names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
    let names = entries.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn in_a_shared_directory_a_withdrawal_removes_all_names_though_the_set_was_lost() {
    if !root_or_skipped() {
        return;
    }
    let volume = volume();
    std::fs::set_permissions(volume.path(), PermissionsExt::from_mode(0o1777)).expect("its permissions");
    let store = Store::new(volume.path().to_owned()).owned_by(ANOTHER.to_string().parse().ok());
    publish(&store, "1", SystemTime::now()).expect("a publication");
    std::fs::remove_file(volume.path().join("..data")).expect("a link");
    store.publish(&[], |_| None, None, Now::look()).expect("a withdrawal");
    assert_eq!(std::fs::read_dir(volume.path()).expect("a directory").count(), 0);
}

#[test]
fn in_a_shared_directory_a_name_that_stays_keeps_no_other_one() {
    if !root_or_skipped() {
        return;
    }
    let volume = volume();
    std::fs::set_permissions(volume.path(), PermissionsExt::from_mode(0o1777)).expect("its permissions");
    let store = Store::new(volume.path().to_owned()).owned_by("12345".parse().ok());
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let files = names.map(|name| file(name, name));
    store.publish(&files.each_ref(), |_| None, None, Now::look()).expect("a publication");
    // Without a privilege, a user can remove only his own in a sticky directory.
    let (stuck, removable) = names.split_at(2);
    for name in removable {
        std::os::unix::fs::chown(volume.path().join(name), Some(ANOTHER), None).expect("its owner");
    }
    let withdrawn = as_another(|| store.publish(&[], |_| None, None, Now::look()));
    withdrawn.expect_err("two names stay");
    assert_eq!(file_names(volume.path()), stuck);
}

/// How many hidden directories there are.
fn sets(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
    entries.filter(|entry| entry.file_type().expect("a type").is_dir()).count()
}

#[test]
fn a_name_that_cannot_be_replaced_after_the_switch_leaves_no_set_but_the_new_one() {
    if !root_or_skipped() {
        return;
    }
    let volume = volume();
    std::fs::set_permissions(volume.path(), PermissionsExt::from_mode(0o1777)).expect("its permissions");
    std::fs::write(volume.path().join("key"), "root's").expect("a file");
    let store = Store::new(volume.path().to_owned());
    for contents in ["1", "2", "3"] {
        // The main thread of this process has the privilege, by which the check before the switch goes.
        let published = as_another(|| publish(&store, contents, SystemTime::now()));
        published.expect_err("the name stays");
        assert_eq!(sets(volume.path()), 1);
        assert_eq!(std::fs::read(volume.path().join("..data/key")).expect("a file"), contents.as_bytes());
    }
}

#[test]
fn where_our_user_is_mapped_to_another_a_live_helpers_claim_holds() {
    if !root_or_skipped() {
        return;
    }
    let volume = volume();
    std::os::unix::fs::chown(volume.path(), Some(ANOTHER), None).expect("its owner");
    let claiming = |name: &str| Store::new(volume.path().to_owned()).claiming([name.to_owned()], None);
    let (first, second) = (claiming("key"), claiming("other"));
    as_another(|| first.start(Now::look())).expect("a good directory");
    let error = as_another(|| second.start(Now::look())).expect_err("a refusal");
    assert!(error.to_string().starts_with("another helper that is running publishes key"), "{error}");
    as_another(|| first.start(Now::look())).expect("it is its own");
    as_another(|| drop(first));
    as_another(|| second.start(Now::look())).expect("the first one has ended");
    as_another(|| drop(second));
    assert_eq!(std::fs::read_dir(volume.path()).expect("a directory").count(), 0);
}

#[test]
fn where_our_user_is_mapped_to_another_a_new_directory_gets_its_mode() {
    if !root_or_skipped() {
        return;
    }
    let volume = volume();
    std::os::unix::fs::chown(volume.path(), Some(ANOTHER), None).expect("its owner");
    let path = volume.path().join("svids");
    as_another(|| Store::new(path.clone()).start(Now::look())).expect("a good directory");
    assert_eq!(std::fs::metadata(path).expect("a directory").mode() & 0o7777, 0o755);
}

#[test]
fn a_private_directory_with_the_sticky_bit_stays_as_it_is() {
    for mode in [0o1700, 0o1750] {
        let volume = volume();
        std::fs::set_permissions(volume.path(), PermissionsExt::from_mode(mode)).expect("its permissions");
        Store::new(volume.path().to_owned()).start(Now::look()).expect("a good directory");
        assert_eq!(std::fs::metadata(volume.path()).expect("a directory").mode() & 0o7777, mode);
    }
}

#[test]
fn without_the_privilege_an_owner_is_refused_at_the_start() {
    if !root_or_skipped() {
        return;
    }
    let volume = volume();
    std::os::unix::fs::chown(volume.path(), Some(ANOTHER), None).expect("its owner");
    let store = Store::new(volume.path().to_owned()).owned_by("0".parse().ok());
    let error = as_another(|| store.start(Now::look())).expect_err("a refusal");
    assert!(matches!(error, StoreError::Unfit(_)), "{error}");
    assert!(error.to_string().contains("(--file-owner)"), "{error}");
    assert_eq!(std::fs::read_dir(volume.path()).expect("a directory").count(), 0);
}

#[test]
fn a_mode_that_stays_wider_than_asked_for_is_an_error() {
    if !root_or_skipped() {
        return;
    }
    let volume = volume();
    let path = volume.path().join("key");
    let file = std::fs::File::create(&path).expect("a file");
    file.set_permissions(PermissionsExt::from_mode(0o644)).expect("a mode");
    let notices = Notices::default();
    let error = as_another(|| permissions::set_mode(&file, &path, 0o400, &notices)).expect_err("a refusal");
    let expected = format!("{} would have mode 0644 instead of 0400", path.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(!error.to_string().contains("fsGroup"), "{error}");
    as_another(|| permissions::set_mode(&file, &path, 0o664, &notices)).expect("a narrower one will do");
}

#[test]
fn a_published_set_holds_the_files_whose_bytes_it_has() {
    let (volume, now) = (volume(), Now::look());
    let store = Store::new(volume.path().to_owned());
    publish(&store, "one", now.time).unwrap();
    let set = store.published().unwrap();
    assert!(set.holds(&file("key", "one")));
    for other in [file("key", "two"), file("key", "on"), file("key", "ones"), file("other", "one")] {
        assert!(!set.holds(&other), "{}", other.name);
    }
}
