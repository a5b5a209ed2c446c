//! The files: one atomic set, in any kind of directory.

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grpcio::RpcStatusCode;
use nix::fcntl::{Flock, FlockArg};
use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::authority::Recipe;
use workload_api_server::server::{Reply, WorkloadApiServer};

use crate::http::{ANY_PORT, Probe, SHORT};
use crate::mounts::Tmpfs;
use crate::pod::{
    BRIEFLY, EVERYTHING, ID, NOBODY, PATIENCE, Pod, Published, Running, SetWhenDropped, is_root, mode_of,
    names, offer, remove, wait_until,
};

#[test]
fn the_names_lead_through_data_to_one_hidden_directory() {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    let target = std::fs::read_link(pod.volume().join("..data")).expect("a link");
    let target = target.to_str().expect("UTF-8");
    assert!(target.starts_with("..2") && target.ends_with('Z'), "{target}");
    assert_eq!(names(&pod.volume()), [target, "..data", "bundle.pem", "svid-key.pem", "svid.pem"]);
    for name in ["bundle.pem", "svid-key.pem", "svid.pem"] {
        assert_eq!(
            std::fs::read_link(pod.volume().join(name)).expect("a link"),
            Path::new("..data").join(name)
        );
    }
}

/// Reads the set as one, again and again, meanwhile; fails on a key beside another key's certificate.
pub fn while_reading(pod: &Pod, svids: &[X509SVID], meanwhile: impl FnOnce()) {
    let keys: HashMap<_, _> = svids.iter().map(|svid| (&svid.x509_svid, &svid.x509_svid_key)).collect();
    let done = AtomicBool::new(false);
    let read_all = || {
        let mut reads = 0;
        while !done.load(Ordering::Relaxed) {
            let set = Published::as_one(&pod.volume()).expect("a complete set");
            assert_eq!(keys.get(&set.chain()), Some(&&set.key()));
            reads += 1;
        }
        assert!(reads > 0);
    };
    std::thread::scope(|scope| {
        let done = SetWhenDropped(&done);
        let readers = [scope.spawn(read_all), scope.spawn(read_all)];
        meanwhile();
        drop(done);
        for reader in readers {
            reader.join().expect("a reader without a mismatch");
        }
    });
}

/// The contents of a set, for tests that must pass with any contents.
#[derive(Clone, Copy)]
enum Set {
    ThreeFiles,
    /// With JWT-SVIDs that are renewed all the time.
    Everything,
}

impl Set {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::ThreeFiles => &["--log-level=info"],
            Self::Everything => &EVERYTHING,
        }
    }

    fn reply(self, pod: &Pod, svid: &X509SVID) -> Reply {
        match self {
            Self::ThreeFiles => offer([svid.clone()]),
            Self::Everything => pod.offer_everything(svid),
        }
    }

    fn agent(self, pod: &Pod, svid: &X509SVID) -> WorkloadApiServer {
        pod.agent_with_jwt(self.reply(pod, svid), Duration::from_secs(2))
    }
}

fn a_reader_finds_no_mismatch(set: Set) {
    const ROTATIONS: usize = 200;
    let pod = Pod::new();
    let svids: Vec<_> = (0..=ROTATIONS).map(|_| pod.mint()).collect();
    let agent = set.agent(&pod, &svids[0]);
    let refresh = pod.refresh(set.arguments());
    pod.wait_for(&svids[0]);
    while_reading(&pod, &svids, || {
        for svid in &svids[1..] {
            agent.reply(set.reply(&pod, svid));
            pod.wait_for(svid);
        }
    });
    refresh.stop();
    pod.holds_one_set();
}

#[test]
fn a_reader_never_finds_a_key_beside_another_keys_certificate() {
    a_reader_finds_no_mismatch(Set::ThreeFiles);
}

#[test]
fn a_reader_of_everything_never_finds_a_key_beside_another_keys_certificate() {
    a_reader_finds_no_mismatch(Set::Everything);
}

fn two_helpers_do_not_mix(set: Set) {
    const ROTATIONS: usize = 100;
    let pod = Pod::new();
    let svids: Vec<_> = (0..=ROTATIONS).map(|_| pod.mint()).collect();
    let agent = set.agent(&pod, &svids[0]);
    let helpers = [(); 2].map(|()| pod.refresh(set.arguments()));
    pod.wait_for(&svids[0]);
    while_reading(&pod, &svids, || {
        for svid in &svids[1..] {
            agent.reply(set.reply(&pod, svid));
            pod.wait_for(svid);
        }
    });
    helpers.into_iter().for_each(|helper| drop(helper.stop()));
}

#[test]
fn two_helpers_in_one_directory_do_not_mix_their_sets() {
    two_helpers_do_not_mix(Set::ThreeFiles);
}

#[test]
fn two_helpers_in_one_directory_do_not_mix_their_sets_of_everything() {
    two_helpers_do_not_mix(Set::Everything);
}

fn killed_at_any_moment(set: Set) {
    const KILLS: u64 = 40;
    let pod = Pod::new();
    let svids: Vec<_> = (0..=KILLS).map(|_| pod.mint()).collect();
    let agent = set.agent(&pod, &svids[0]);
    pod.init(set.arguments()).succeeded();
    while_reading(&pod, &svids, || {
        for kill in 1..=KILLS {
            agent.reply(set.reply(&pod, &svids[kill as usize]));
            let refresh = pod.refresh(set.arguments());
            agent.wait_for_calls(kill + 1, PATIENCE);
            // A different moment of the publication each time.
            std::thread::sleep(Duration::from_micros(kill * 100));
            drop(refresh);
        }
    });
    pod.init(set.arguments()).succeeded();
    pod.holds_one_set();
}

#[test]
fn a_helper_that_is_killed_at_any_moment_leaves_a_complete_set() {
    killed_at_any_moment(Set::ThreeFiles);
}

#[test]
fn a_helper_that_is_killed_at_any_moment_leaves_a_complete_set_of_everything() {
    killed_at_any_moment(Set::Everything);
}

#[test]
fn a_missing_directory_is_created_if_its_parent_exists() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    std::fs::remove_dir(pod.volume()).expect("an empty volume");
    pod.init(&[]).succeeded();
    pod.wait_for(&svid);
    assert_eq!(mode_of(&pod.volume()), 0o755);
}

#[test]
fn a_directory_without_a_parent_is_refused_by_name() {
    let (pod, _agent) = Pod::with_agent();
    let path = pod.volume().join("a/b");
    let finished = pod.helper_at(pod.socket().display(), &path).argument(BRIEFLY).finish();
    finished.failed_with(&["create the directory", path.to_str().unwrap(), "parent"]);
}

#[test]
fn a_file_in_place_of_the_directory_is_refused_by_name_and_stays() {
    let (pod, _agent) = Pod::with_agent();
    let path = pod.volume().join("file");
    std::fs::write(&path, "content").expect("a file");
    let finished = pod.helper_at(pod.socket().display(), &path).argument(BRIEFLY).finish();
    finished.failed_with(&[path.to_str().unwrap(), "Not a directory", "--svid-path"]);
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "content");
}

#[test]
fn a_directory_in_place_of_a_file_is_refused_before_anything_is_written() {
    let (pod, _agent) = Pod::with_agent();
    std::fs::create_dir(pod.volume().join("svid-key.pem")).expect("a directory");
    pod.init(&[BRIEFLY]).failed_with(&["svid-key.pem", "it is a directory"]);
    assert_eq!(names(&pod.volume()), ["svid-key.pem"]);
}

#[test]
fn plain_files_of_the_same_names_are_replaced_as_one() {
    let pod = Pod::new();
    let (old, new) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([old.clone()]));
    pod.init(&[]).succeeded();
    let set = ["svid.pem", "svid-key.pem", "bundle.pem"];
    let contents = set.map(|name| std::fs::read(pod.volume().join(name)).expect("a file"));
    std::fs::remove_dir_all(pod.volume()).expect("the volume");
    std::fs::create_dir(pod.volume()).expect("a volume");
    for (name, contents) in set.iter().zip(&contents) {
        std::fs::write(pod.volume().join(name), contents).expect("a file");
    }
    agent.reply(offer([new.clone()]));
    pod.init(&[]).succeeded();
    pod.wait_for(&new);
    pod.holds_one_set();
}

#[test]
fn a_changed_mode_alone_is_a_new_set() {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    pod.init(&["--key-file-mode=0440"]).succeeded();
    assert_eq!(mode_of(&pod.volume().join("svid-key.pem")), 0o440);
}

#[test]
fn another_writers_data_link_is_refused_and_stays() {
    let (pod, _agent) = Pod::with_agent();
    let theirs = Path::new("..2026_11_23_16_40_05.123456789");
    std::fs::create_dir(pod.volume().join(theirs)).expect("a directory");
    symlink(theirs, pod.volume().join("..data")).expect("a link");
    pod.init(&[BRIEFLY]).failed_with(&["cannot take over", "..data", "own"]);
    assert_eq!(names(&pod.volume()), [theirs.to_str().unwrap(), "..data"]);
}

#[test]
fn files_that_are_not_ours_are_left_alone() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    std::fs::write(pod.volume().join("app.conf"), "theirs").expect("a file");
    std::fs::create_dir(pod.volume().join("..2026_11_23_16_40_05.123456789")).expect("a directory");
    symlink("app.conf", pod.volume().join("link")).expect("a link");
    let refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    pod.rotate_to(&agent, &second);
    refresh.stop();
    let found = names(&pod.volume());
    for name in ["app.conf", "..2026_11_23_16_40_05.123456789", "link"] {
        assert!(found.iter().any(|found| found == name), "{found:?}");
    }
}

#[test]
fn what_cannot_be_removed_is_one_warning_and_not_one_for_each_rotation() {
    let pod = Pod::new();
    let mut svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    // It looks like ours, and holds what is not.
    let inside = pod.volume().join("..2026-01-01T00-00-00.000000000Z/theirs");
    std::fs::create_dir_all(&inside).expect("a directory");
    let refresh = pod.refresh(&[]);
    for _ in 0..3 {
        pod.wait_for(&svid);
        svid = pod.mint();
        agent.reply(offer([svid.clone()]));
    }
    pod.wait_for(&svid);
    let log = refresh.stop();
    let is_warning = |line: &&String| line.contains("WARN") && line.contains("published nevertheless");
    assert_eq!(log.iter().filter(is_warning).count(), 1, "{log:?}");
    assert!(inside.exists());
}

#[test]
fn names_that_are_no_longer_in_the_set_disappear() {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&["--svid-file-name=tls.crt"]).succeeded();
    assert!(names(&pod.volume()).contains(&"tls.crt".to_owned()));
    pod.init(&[]).succeeded();
    assert!(!names(&pod.volume()).contains(&"tls.crt".to_owned()));
}

#[test]
fn leftovers_of_a_crash_are_removed_at_the_start() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    let leftover = pod.volume().join("..2026-01-01T00-00-00.000000000Z");
    std::fs::create_dir(&leftover).expect("a directory");
    std::fs::write(leftover.join("svid-key.pem"), "half a ke").expect("a file");
    symlink("..data/tls.crt", pod.volume().join("tls.crt")).expect("a link");
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["nothing written"]);
    refresh.stop();
    pod.holds_one_set();
    pod.wait_for(&svid);
}

/// At the start of a pod, fsGroup lets its group into everything on a volume.
#[test]
fn a_set_that_a_pods_fs_group_may_write_to_is_replaced_and_removed() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first]));
    pod.init(&[]).succeeded();
    let set = std::fs::canonicalize(pod.volume().join("..data")).expect("a set");
    for name in names(&set) {
        std::fs::set_permissions(set.join(name), PermissionsExt::from_mode(0o660)).expect("its permissions");
    }
    std::fs::set_permissions(&set, PermissionsExt::from_mode(0o2775)).expect("its permissions");
    agent.reply(offer([second.clone()]));
    pod.init(&[]).succeeded();
    pod.wait_for(&second);
    pod.holds_one_set();
}

#[test]
fn files_inherit_the_group_of_a_setgid_volume() {
    if !is_root() {
        crate::pod::skip("no other group to give the volume to");
        return;
    }
    let (pod, _agent) = Pod::with_agent();
    std::os::unix::fs::chown(pod.volume(), None, Some(NOBODY)).expect("its group");
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o2775)).expect("its permissions");
    pod.init(&["--key-file-mode=0440"]).succeeded();
    assert_eq!(std::fs::metadata(pod.volume().join("svid-key.pem")).expect("a key").gid(), NOBODY);
}

#[test]
fn a_helper_waits_for_another_one_that_publishes() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let file = std::fs::File::create(pod.volume().join("..lock")).expect("a file");
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("the lock");
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["another process holds the lock", "retrying"]);
    assert_eq!(names(&pod.volume()), ["..lock"]);
    drop(lock);
    pod.wait_for(&svid);
    refresh.stop();
}

#[test]
fn a_readers_lock_on_the_directory_stops_nothing() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let directory = std::fs::File::open(pod.volume()).expect("a directory");
    let lock = Flock::lock(directory, FlockArg::LockShared).map_err(|(_, errno)| errno).expect("the lock");
    pod.init(&[]).succeeded();
    drop(lock);
    pod.wait_for(&svid);
}

#[test]
fn a_directory_that_is_removed_while_refresh_runs_is_made_again() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    remove(&pod.volume());
    pod.rotate_to(&agent, &second);
    refresh.stop();
}

#[test]
fn a_failed_publication_is_retried_without_a_new_response() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    std::fs::remove_dir(pod.volume()).expect("an empty volume");
    std::fs::write(pod.volume(), "").expect("a file in its place");
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["ERROR", "Not a directory", "retrying"]);
    std::fs::remove_file(pod.volume()).expect("the file");
    pod.wait_for(&svid);
    refresh.stop();
}

/// Publishes, breaks the volume, rotates, and asserts that the old set stays until it is repaired.
fn stays_until_repaired(break_it: impl Fn(&Tmpfs), repair: impl Fn(&Tmpfs), complaint: &[&str]) {
    if !is_root() {
        crate::pod::skip("nothing can be mounted");
        return;
    }
    let pod = Pod::new();
    let tmpfs = Tmpfs::mount(&pod.volume(), "size=256k,mode=0755");
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh: Running = pod.refresh(&[]);
    refresh.wait_for_log(&["published"]);
    let before = names(&pod.volume());
    break_it(&tmpfs);
    agent.reply(offer([second.clone()]));
    let mut parts = vec!["ERROR", "retrying"];
    parts.extend(complaint);
    refresh.wait_for_log(&parts);
    pod.wait_for(&first);
    let complaints = names(&pod.volume());
    assert!(before.iter().all(|name| complaints.contains(name)), "{complaints:?}");
    repair(&tmpfs);
    pod.wait_for(&second);
    refresh.stop();
    pod.holds_one_set();
}

fn filler(tmpfs: &Tmpfs) -> PathBuf {
    tmpfs.0.join("filler")
}

fn fill(tmpfs: &Tmpfs) {
    let mut file = std::fs::File::create(filler(tmpfs)).expect("a file");
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
}

#[test]
fn an_svid_that_ends_on_a_full_volume_is_told_with_the_volume_as_the_cause() {
    if !is_root() {
        crate::pod::skip("nothing can be mounted");
        return;
    }
    let pod = Pod::new();
    let tmpfs = Tmpfs::mount(&pod.volume(), "size=256k,mode=0755");
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    agent.wait_for_calls(1, PATIENCE);
    agent.reply(offer([pod.authority.mint(&Recipe::for_id(ID).ttl(SHORT))]));
    probe.wait_until_ready_is(200);
    fill(&tmpfs);
    agent.reply(offer([pod.mint()]));
    let parts =
        ["expired at", "and a newer one has come, and could not be written", "No space left on device"];
    let reason = probe.wait_until_ready_is(503);
    assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
    refresh.wait_for_log(&[&["ERROR"], &parts[..]].concat());
    refresh.stop();
}

#[test]
fn on_a_full_volume_the_old_set_stays_until_there_is_room() {
    let empty = |tmpfs: &Tmpfs| std::fs::remove_file(filler(tmpfs)).expect("the filler");
    stays_until_repaired(fill, empty, &["No space left on device", "sizeLimit"]);
}

/// Withdraws the identity while the volume is full, of a helper that starts on it and says this of the set.
fn is_removed_though_full(options: &str, fill: impl Fn(&Path), says: &[&str]) {
    if !is_root() {
        return crate::pod::skip("only root can mount a tmpfs");
    }
    let pod = Pod::new();
    let _tmpfs = Tmpfs::mount(&pod.volume(), options);
    let agent = pod.agent(offer([pod.mint()]));
    pod.init(&[]).succeeded();
    fill(&pod.volume());
    let mut refresh = pod.refresh(&["--on-revoked=remove"]);
    refresh.wait_for_log(says);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    let is_filler = |name: &String| name.starts_with("filler");
    wait_until("all files are removed", || names(&pod.volume()).iter().all(is_filler));
    refresh.stop();
    let left = std::fs::read_dir(pod.volume()).expect("a directory").map(|entry| entry.expect("an entry"));
    let left: Vec<_> = left.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    assert!(left.iter().all(is_filler), "{left:?}");
}

#[test]
fn on_a_volume_without_room_for_a_lock_file_a_withdrawal_removes_all_files() {
    let fill = |volume: &Path| {
        let mut fillers = (0..).map(|number| volume.join(format!("filler{number}")));
        while fillers.next().is_some_and(|filler| std::fs::File::create(filler).is_ok()) {}
    };
    is_removed_though_full("size=1m,nr_inodes=64", fill, &["ERROR", "cannot create a lock file"]);
}

#[test]
fn on_a_volume_without_room_for_a_claim_a_withdrawal_removes_all_files() {
    let fill = |volume: &Path| {
        let mut filler = std::fs::File::create(volume.join("filler")).expect("a file");
        while std::io::Write::write_all(&mut filler, &[0; 512]).is_ok() {}
    };
    is_removed_though_full("size=1m", fill, &["nothing written"]);
}

#[test]
fn on_a_read_only_volume_the_old_set_stays_until_it_is_writable() {
    stays_until_repaired(
        |tmpfs| tmpfs.remount("ro"),
        |tmpfs| tmpfs.remount("rw"),
        &["Read-only file system", "readOnly"],
    );
}

#[test]
fn a_volume_that_the_user_cannot_write_is_refused_with_what_to_set() {
    if !is_root() {
        crate::pod::skip("no other user to become");
        return;
    }
    let (pod, _agent) = Pod::with_agent();
    let finished = pod.helper(&[BRIEFLY]).run_by_nobody().finish();
    finished.failed_with(&["Permission denied", pod.volume().to_str().unwrap(), "fsGroup"]);
    assert_eq!(names(&pod.volume()), [""; 0]);
}

/// In a pod with an fsGroup, which is set already.
#[test]
fn a_directory_that_the_init_of_another_user_has_made_is_refused_with_that_user() {
    if !is_root() {
        crate::pod::skip("no other user to become");
        return;
    }
    let (pod, _agent) = Pod::with_agent();
    std::os::unix::fs::chown(pod.volume(), None, Some(NOBODY)).expect("its group");
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o2777)).expect("its permissions");
    let svid = pod.volume().join("svid");
    let helper = || pod.helper_at(pod.socket().display(), &svid).argument(BRIEFLY);
    helper().finish().succeeded();
    let refused = helper().run_by_nobody().finish().failed_with(&[
        "cannot create a lock file in",
        svid.to_str().expect("a path"),
        "Permission denied (user 0 made it: run both helpers as one user, or remove it)",
    ]);
    assert!(!refused.log.contains("fsGroup"), "{}", refused.log);
}

#[test]
fn in_another_users_sticky_directory_a_foreign_file_is_refused_before_anything_is_written() {
    if !is_root() {
        crate::pod::skip("no other user to become");
        return;
    }
    let (pod, _agent) = Pod::with_agent();
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o1777)).expect("its permissions");
    std::fs::write(pod.volume().join("bundle.pem"), "root's").expect("a file");
    let finished = pod.helper(&[BRIEFLY]).run_by_nobody().finish();
    finished.failed_with(&["bundle.pem", "belongs to user"]);
    assert_eq!(names(&pod.volume()), ["bundle.pem"]);
}

#[test]
fn in_a_shared_sticky_directory_the_log_warns_and_others_names_do_no_harm() {
    if !is_root() {
        crate::pod::skip("no other user to become");
        return;
    }
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o1777)).expect("its permissions");
    // A name that looks like ours, and a directory that does.
    symlink("..data/foo", pod.volume().join("foo")).expect("a link");
    std::fs::create_dir(pod.volume().join("..2026-01-01T00-00-00.000000000Z")).expect("a directory");
    let mut refresh = pod.helper(&["--mode=refresh"]).run_by_nobody().start();
    refresh.wait_for_log(&["WARN", "shared by all users"]);
    pod.wait_for(&first);
    pod.rotate_to(&agent, &second);
    refresh.stop();
    assert_eq!(names(&pod.volume()).len(), 3 + 2 + 2, "the set and the names of others");
}

/// As README says of watches.
#[test]
fn a_watch_on_the_directory_sees_the_rename_of_the_link_and_one_on_a_name_sees_nothing() {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let (pod, agent) = Pod::with_agent();
    let refresh = pod.refresh(&[]);
    wait_until("it is published", || pod.volume().join("svid.pem").exists());
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK).expect("inotify");
    inotify.add_watch(&pod.volume(), AddWatchFlags::IN_ALL_EVENTS).expect("a watch");
    let mut events = Vec::new();
    for rotation in 1..=2 {
        agent.reply(offer([pod.mint()]));
        wait_until("the link was renamed", || {
            events.extend(inotify.read_events().unwrap_or_default());
            let renames = events.iter().filter(|event| {
                event.mask.contains(AddWatchFlags::IN_MOVED_TO)
                    && event.name.as_deref() == Some("..data".as_ref())
            });
            renames.count() == rotation
        });
    }
    refresh.stop();
    assert!(events.iter().all(|event| event.name.as_deref() != Some("svid.pem".as_ref())), "{events:?}");
}
