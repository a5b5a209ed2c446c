//! The files in every kind of directory: the promises to readers, and the obstacles that are refused
//! before anything has moved.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use grpcio::RpcStatusCode;
use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::authority::Recipe;
use workload_api_server::server::Reply;

use crate::mounts::{Attribute, BindMount, ProtectedSymlinks, Tmpfs};
use crate::pod::{
    BRIEFLY, Helper, ID, NOBODY, OTHER_ID, Pod, Published, is_root, mode_of, names, offer, wait_until,
};

/// The users of the pod: the helper's, with the pod's fsGroup, and the application's.
const HELPER: u32 = 65532;
const FS_GROUP: u32 = 65532;
const APPLICATION: u32 = 101;

const PUBLIC_OR_GROUP: &str = "--key-file-mode=0440";

/// The pod's in-memory emptyDir: root's, and writable by all.
fn in_memory_volume(pod: &Pod) -> Tmpfs {
    let volume = Tmpfs::mount(&pod.volume(), "size=1m,mode=3777");
    chown(pod.volume(), None, Some(FS_GROUP)).expect("its group");
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o3777)).expect("its permissions");
    volume
}

fn refresh_as_helper(pod: &Pod) -> Helper {
    pod.helper(&["--mode=refresh", PUBLIC_OR_GROUP]).run_by(HELPER, FS_GROUP)
}

/// What the application reads under a path of the volume.
fn read_as_application(pod: &Pod, names: &[&str]) -> Result<String, String> {
    let mut command = Command::new("cat");
    command.args(names).current_dir(pod.volume()).uid(APPLICATION).gid(FS_GROUP);
    let output = command.output().expect("cat runs");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("UTF-8"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn in_a_pods_in_memory_volume_another_user_reads_every_set() {
    const ROTATIONS: usize = 50;
    if !is_root() {
        return crate::pod::skip("only root can mount a tmpfs and become other users");
    }
    let pod = Pod::new();
    let _volume = in_memory_volume(&pod);
    let Some(_setting) = ProtectedSymlinks::set() else {
        return crate::pod::skip("fs.protected_symlinks cannot be set here");
    };
    let svids: Vec<_> = (0..=ROTATIONS).map(|_| pod.mint()).collect();
    let agent = pod.agent(offer([svids[0].clone()]));
    let mut refresh = refresh_as_helper(&pod).start();
    refresh.wait_for_log(&["WARN", "shared by all users", "subdirectory", "--svid-path"]);
    let stop = pod.path().join("stop");
    let script = "until [ -e \"$0\" ]; do cat svid.pem svid-key.pem bundle.pem || exit 1; done";
    for svid in &svids {
        pod.rotate_to(&agent, svid);
        let by_name = read_as_application(&pod, &["svid.pem", "svid-key.pem", "bundle.pem"]);
        let as_one =
            read_as_application(&pod, &["..data/svid.pem", "..data/svid-key.pem", "..data/bundle.pem"]);
        assert_eq!(by_name, as_one);
        assert!(by_name.is_ok(), "{by_name:?}");
    }
    // No moment in which a name is not there.
    let mut reader = Command::new("/bin/sh");
    reader.args(["-c", script]).arg(&stop).current_dir(pod.volume()).uid(APPLICATION).gid(FS_GROUP);
    let mut reader = reader.stdout(std::process::Stdio::null()).spawn().expect("a shell");
    for svid in &svids {
        pod.rotate_to(&agent, svid);
    }
    let check = Helper::new().argument("--mode=check").argument("--svid-path").argument(pod.volume());
    check.run_by(APPLICATION, FS_GROUP).finish().succeeded();
    std::fs::write(&stop, "").expect("a file");
    assert!(reader.wait().expect("a shell").success());
    refresh.stop();
    pod.holds_one_set();
    for name in ["svid.pem", "svid-key.pem", "bundle.pem"] {
        assert!(std::fs::symlink_metadata(pod.volume().join(name)).expect("a file").is_file());
    }
}

#[test]
fn in_a_shared_directory_check_never_fails_while_one_set_follows_another() {
    if !is_root() {
        return crate::pod::skip("only root can mount a tmpfs and become other users");
    }
    let pod = Pod::new();
    let _volume = in_memory_volume(&pod);
    crate::check::check_while_it_rotates(&pod, refresh_as_helper(&pod));
}

#[test]
fn in_a_shared_directory_a_crash_between_two_names_is_repaired_at_the_next_start() {
    if !is_root() {
        return crate::pod::skip("only root can mount a tmpfs and become other users");
    }
    let pod = Pod::new();
    let _volume = in_memory_volume(&pod);
    let (first, svid) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first]));
    let init = || pod.helper(&["--mode=init", PUBLIC_OR_GROUP]).run_by(HELPER, FS_GROUP).finish();
    init().succeeded();
    let first_key = pod.read("svid-key.pem");
    agent.reply(offer([svid.clone()]));
    init().succeeded();
    // The set before, and a name that still leads to it.
    let old = pod.volume().join("..2026-01-01T00-00-00.000000000Z");
    std::fs::create_dir(&old).expect("a directory");
    let key = old.join("svid-key.pem");
    std::fs::write(&key, first_key).expect("a file");
    chown(&key, Some(HELPER), Some(FS_GROUP)).expect("its owner");
    chown(&old, Some(HELPER), None).expect("its owner");
    std::fs::remove_file(pod.volume().join("svid-key.pem")).expect("the name");
    std::fs::hard_link(&key, pod.volume().join("svid-key.pem")).expect("a link");
    agent.reply(Reply::refuse(RpcStatusCode::UNAVAILABLE));
    let refresh = refresh_as_helper(&pod).start();
    pod.wait_for(&svid);
    refresh.stop();
    pod.holds_one_set();
}

#[test]
fn in_a_shared_directory_names_that_are_no_longer_in_the_set_disappear() {
    if !is_root() {
        return crate::pod::skip("only root can mount a tmpfs and become other users");
    }
    let pod = Pod::new();
    let _volume = in_memory_volume(&pod);
    let _agent = pod.agent(offer([pod.mint()]));
    let init = |name: &str| pod.helper(&["--mode=init", name]).run_by(HELPER, FS_GROUP).finish();
    let app = pod.volume().join("app.conf");
    std::fs::write(&app, "").expect("a file");
    chown(&app, Some(HELPER), None).expect("its owner");
    init("--svid-file-name=tls.crt").succeeded();
    assert!(names(&pod.volume()).contains(&"tls.crt".to_owned()));
    init("--svid-file-name=svid.pem").succeeded();
    let found = names(&pod.volume());
    assert!(!found.contains(&"tls.crt".to_owned()) && found.contains(&"app.conf".to_owned()), "{found:?}");
}

/// Publishes, puts an obstacle in the way, and asserts that a rotation is refused with these words
/// while the old set stays untouched; and that it succeeds once the obstacle is gone.
fn is_refused<T>(pod: &Pod, obstacle: impl FnOnce() -> T, complaint: &[&str]) {
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    pod.init(&[]).succeeded();
    let target = std::fs::read_link(pod.volume().join("..data")).expect("a link");
    let obstacle = obstacle();
    let before = names(&pod.volume());
    agent.reply(offer([second.clone()]));
    pod.init(&[BRIEFLY]).failed_with(complaint);
    assert_eq!(names(&pod.volume()), before);
    assert_eq!(std::fs::read_link(pod.volume().join("..data")).expect("a link"), target);
    assert_eq!(Published::by_name(&pod.volume()).expect("a set").chain(), first.x509_svid);
    drop(obstacle);
    pod.init(&[]).succeeded();
    pod.wait_for(&second);
    pod.holds_one_set();
}

/// Puts a plain file in place of a name.
fn make_plain(path: &Path) {
    let contents = std::fs::read(path).expect("a file");
    std::fs::remove_file(path).expect("a name");
    std::fs::write(path, contents).expect("a file");
}

#[test]
fn a_name_that_is_a_mount_point_is_refused_before_anything_moves() {
    if !is_root() {
        return crate::pod::skip("only root can mount");
    }
    let pod = Pod::new();
    let key = pod.volume().join("svid-key.pem");
    let other = pod.path().join("other");
    std::fs::write(&other, "other").expect("a file of the same file system");
    let mount = || {
        make_plain(&key);
        BindMount::mount(&other, &key)
    };
    is_refused(&pod, mount, &["svid-key.pem", "mount point", "subPath"]);
}

#[test]
fn a_published_file_that_is_a_mount_point_is_refused_before_anything_moves() {
    if !is_root() {
        return crate::pod::skip("only root can mount");
    }
    let pod = Pod::new();
    let key = pod.volume().join("svid-key.pem");
    let other = pod.path().join("other");
    std::fs::write(&other, "other").expect("a file");
    is_refused(&pod, || BindMount::mount(&other, &key), &["..data/svid-key.pem", "mount point"]);
}

#[test]
fn an_immutable_name_is_refused_before_anything_moves() {
    if !is_root() {
        return crate::pod::skip("only root can make a file immutable");
    }
    let pod = Pod::new();
    let key = pod.volume().join("svid-key.pem");
    std::fs::write(&key, "").expect("a file");
    if Attribute::set(&key, 'i').is_none() {
        return crate::pod::skip("the file system has no attributes");
    }
    std::fs::remove_file(&key).expect("the file");
    let immutable = || {
        make_plain(&key);
        Attribute::set(&key, 'i').expect("an attribute")
    };
    is_refused(&pod, immutable, &["svid-key.pem", "immutable", "chattr -i"]);
}

#[test]
fn an_append_only_directory_is_refused_before_anything_is_written() {
    a_directory_with_an_attribute_is_refused("", 'a');
}

#[test]
fn an_immutable_directory_is_refused_before_anything_is_written() {
    a_directory_with_an_attribute_is_refused("", 'i');
}

#[test]
fn an_immutable_set_is_refused_before_anything_is_written() {
    a_directory_with_an_attribute_is_refused("..data", 'i');
}

fn a_directory_with_an_attribute_is_refused(name: &str, attribute: char) {
    if !is_root() {
        return crate::pod::skip("only root can give a directory attributes");
    }
    let pod = Pod::new();
    if Attribute::set(&pod.volume(), attribute).is_none() {
        return crate::pod::skip("the file system has no attributes");
    }
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    pod.init(&[]).succeeded();
    let sets = || names(&pod.volume()).into_iter().filter(|name| name.ends_with('Z')).collect::<Vec<_>>();
    let before = sets();
    let directory = pod.volume().join(name).canonicalize().expect("a directory");
    let set = Attribute::set(&directory, attribute).expect("an attribute");
    agent.reply(offer([second.clone()]));
    pod.init(&[BRIEFLY]).failed_with(&["cannot replace", &format!("chattr -{attribute}")]);
    pod.wait_for(&first);
    assert_eq!(sets(), before);
    drop(set);
    pod.init(&[]).succeeded();
    pod.wait_for(&second);
    pod.holds_one_set();
}

#[test]
fn in_a_user_namespace_a_file_of_a_user_that_is_not_mapped_is_refused_before_anything_moves() {
    if !is_root() {
        return crate::pod::skip("only root can give files away");
    }
    let root = ["--user", "--map-root-user"];
    if !Command::new("unshare").args(root).arg("true").output().is_ok_and(|run| run.status.success()) {
        return crate::pod::skip("no user namespaces here");
    }
    let (pod, _agent) = Pod::with_agent();
    let key = pod.volume().join("svid-key.pem");
    std::fs::write(&key, "").expect("a file");
    chown(&key, Some(NOBODY), None).expect("its owner");
    chown(pod.volume(), Some(HELPER), None).expect("its owner");
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o1777)).expect("its permissions");
    let helper = pod.helper(&["--mode=init", BRIEFLY]).through("unshare", &root);
    helper.finish().failed_with(&["svid-key.pem", "belongs to user", "sticky"]);
    assert_eq!(names(&pod.volume()), ["svid-key.pem"]);
}

#[test]
fn a_missing_parent_is_an_error_at_the_start() {
    let pod = Pod::new();
    let path = pod.volume().join("a/b");
    let mut refresh = pod.helper_at(pod.socket().display(), &path).argument("--mode=refresh").start();
    refresh.wait_for_log(&["ERROR", path.to_str().expect("UTF-8"), "parent directory does not exist"]);
    refresh.finish(1);
}

#[test]
fn a_second_helper_with_other_names_is_refused_while_the_first_one_lives() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["published", "svids"]);
    let before = names(&pod.volume());
    assert_eq!(mode_of(&pod.volume().join("..names")), 0o600, "no reader can lock it");
    let other = ["--svid-file-name=tls.crt"];
    let refused = ["another helper that is running", "svid.pem", "a directory of its own"];
    pod.init(&other).failed_with(&refused);
    assert_eq!(names(&pod.volume()), before);
    pod.init(&[]).succeeded();
    refresh.stop();
    pod.init(&other).succeeded();
    let left: Vec<_> = std::fs::read_dir(pod.volume()).expect("a directory").collect();
    assert_eq!(left.len(), 3 + 2, "nothing is left of the claims");
}

/// SVIDs of [`ID`] and of [`OTHER_ID`].
fn of_two_identities(pod: &Pod) -> [X509SVID; 2] {
    [ID, OTHER_ID].map(|id| pod.authority.mint(&Recipe::for_id(id)))
}

fn with_id(id: &str) -> String {
    format!("--pod-spiffe-id={id}")
}

/// What the log of a helper says that may not publish because of the other.
const IDENTITY_HELD: [&str; 3] = ["another helper that is running publishes", ID, "a directory of its own"];

#[test]
fn a_second_helper_with_another_identity_is_refused_while_the_first_one_lives() {
    let pod = Pod::new();
    let [svid, other] = of_two_identities(&pod);
    let _agent = pod.agent(offer([svid.clone(), other.clone()]));
    // The first SVID that the agent offers.
    for arguments in [&[][..], &[&*with_id(ID)]] {
        let mut refresh = pod.refresh(arguments);
        refresh.wait_for_log(&["published", "svids"]);
        assert_eq!(mode_of(&pod.volume().join("..identity")), 0o600, "no reader can lock it");
        let refused = pod.init(&[&with_id(OTHER_ID)]).failed_with(&IDENTITY_HELD);
        assert!(!refused.log.contains("retrying"), "{}", refused.log);
        pod.refresh(&[&with_id(OTHER_ID)]).finish(1);
        pod.wait_for(&svid);
        // An init container beside a sidecar of the same identity.
        pod.init(&[&with_id(ID)]).succeeded();
        pod.init(&[]).succeeded();
        refresh.stop();
        pod.init(&[&with_id(OTHER_ID)]).succeeded();
        pod.wait_for(&other);
        let left: Vec<_> = std::fs::read_dir(pod.volume()).expect("a directory").collect();
        assert_eq!(left.len(), 3 + 2, "nothing is left of the claims");
    }
}

#[test]
fn a_publication_of_another_identity_waits_until_the_first_helper_has_ended() {
    let pod = Pod::new();
    let [svid, other] = of_two_identities(&pod);
    let agent = pod.agent(offer([svid.clone()]));
    let mut first = pod.refresh(&[&with_id(ID)]);
    first.wait_for_log(&["published", "svids"]);
    agent.reply(offer([other.clone()]));
    let mut second = pod.refresh(&[]);
    second.wait_for_log(&["ERROR", IDENTITY_HELD[0], IDENTITY_HELD[1], IDENTITY_HELD[2], "retrying"]);
    pod.wait_for(&svid);
    first.stop();
    pod.wait_for(&other);
    second.stop();
    pod.holds_one_set();
}

#[test]
fn two_helpers_whose_identity_changes_work_together_under_the_new_one() {
    let pod = Pod::new();
    let [svid, other] = of_two_identities(&pod);
    let agent = pod.agent(offer([svid]));
    let mut helpers = [(); 2].map(|()| pod.refresh(&[]));
    let volume = pod.volume().display().to_string();
    // Each of them has published it, or found it there.
    let mut wait_for_id =
        |id| helpers.iter_mut().for_each(|helper| drop(helper.wait_for_log(&[id, &volume])));
    wait_for_id(ID);
    agent.reply(offer([other.clone()]));
    wait_for_id(OTHER_ID);
    pod.init(&[&with_id(ID)]).failed_with(&[IDENTITY_HELD[0], OTHER_ID]);
    pod.wait_for(&other);
    helpers.into_iter().for_each(|helper| drop(helper.stop()));
    pod.holds_one_set();
}

#[test]
fn a_helper_that_was_killed_holds_no_identity() {
    let pod = Pod::new();
    let [svid, other] = of_two_identities(&pod);
    let _agent = pod.agent(offer([svid.clone(), other.clone()]));
    let refresh = pod.refresh(&[&with_id(ID)]);
    pod.wait_for(&svid);
    pod.init(&[&with_id(OTHER_ID)]).failed_with(&IDENTITY_HELD);
    drop(refresh);
    pod.init(&[&with_id(OTHER_ID)]).succeeded();
    pod.wait_for(&other);
    pod.holds_one_set();
}

#[test]
fn a_helper_that_was_killed_holds_no_names() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let refresh = pod.refresh(&[]);
    pod.wait_for(&svid);
    drop(refresh);
    pod.init(&["--svid-file-name=tls.crt"]).succeeded();
    pod.holds_one_set();
}

#[test]
fn files_that_another_user_has_published_do_not_hold_up_a_token() {
    if !is_root() {
        return crate::pod::skip("only root can become another user");
    }
    let (pod, agent) = Pod::with_agent();
    pod.issue_jwt(&agent, Duration::from_secs(300));
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o777)).expect("its permissions");
    pod.init(&[]).succeeded();
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    let id = format!("--pod-spiffe-id={}", crate::pod::ID);
    let mut refresh =
        pod.helper(&["--mode=refresh", "--jwt-svid=token.jwt=one", &id]).run_by_nobody().start();
    refresh.wait_for_log(&["WARN", "user 0 has published", "--file-owner"]);
    pod.wait_for_file("token.jwt", |text| !text.is_empty());
    let log = refresh.stop();
    assert_eq!(log.iter().filter(|line| line.contains("user 0 has published")).count(), 1, "{log:?}");
    assert_eq!(std::fs::metadata(pod.volume().join("token.jwt")).expect("a token").uid(), NOBODY);
}

#[test]
fn a_file_that_is_kept_gets_the_mode_that_the_options_ask_for() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    pod.init(&["--jwt-svid=token.jwt=one"]).succeeded();
    agent.reply(Reply::refuse(RpcStatusCode::UNAVAILABLE));
    let id = format!("--pod-spiffe-id={}", crate::pod::ID);
    let refresh = pod.refresh(&["--jwt-svid=token.jwt=one", &id, PUBLIC_OR_GROUP]);
    wait_until("the key has its new mode", || mode_of(&pod.volume().join("svid-key.pem")) == 0o440);
    refresh.stop();
}

#[test]
fn a_key_that_is_kept_stays_its_owners_though_its_name_ends_as_that_of_a_bundle() {
    for name in ["key.bundle.pem", "key.spiffe-trust-bundle.x509.pem"] {
        let pod = Pod::new();
        let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
        let key = format!("--svid-key-file-name={name}");
        pod.init(&["--jwt-svid=token.jwt=one", &key]).succeeded();
        let token = || std::fs::read(pod.volume().join("token.jwt")).expect("a token");
        let before = token();
        agent.reply(Reply::refuse(RpcStatusCode::UNAVAILABLE));
        let id = format!("--pod-spiffe-id={}", crate::pod::ID);
        let refresh = pod.refresh(&["--jwt-svid=token.jwt=one", &id, &key]);
        wait_until("the token is another one", || token() != before);
        assert_eq!(mode_of(&pod.volume().join(name)), 0o400, "{name}");
        refresh.stop();
    }
}

#[test]
fn generations_are_told_apart_when_the_clock_is_set_back() {
    let (pod, agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    let target = || std::fs::read_link(pod.volume().join("..data")).expect("a link");
    let future = "..9999-12-31T23-59-59.999999999Z";
    std::fs::rename(pod.volume().join(target()), pod.volume().join(future)).expect("a directory");
    std::fs::remove_file(pod.volume().join("..data")).expect("a link");
    std::os::unix::fs::symlink(future, pod.volume().join("..data")).expect("a link");
    assert!(SystemTime::now() < SystemTime::UNIX_EPOCH + Duration::from_secs(8000 * 31_536_000));
    let (mut seen, mut svid) = (vec![target()], pod.mint());
    for _ in 0..3 {
        agent.reply(offer([svid.clone()]));
        pod.init(&[]).succeeded();
        pod.wait_for(&svid);
        assert!(!seen.contains(&target()), "{seen:?}");
        seen.push(target());
        svid = pod.mint();
    }
    pod.holds_one_set();
}

#[test]
fn a_set_whose_directory_was_closed_to_readers_is_opened_again() {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    let set = std::fs::canonicalize(pod.volume().join("..data")).expect("a set");
    std::fs::set_permissions(&set, PermissionsExt::from_mode(0o700)).expect("its permissions");
    pod.init(&[]).succeeded();
    assert_eq!(crate::pod::mode_of(&set), 0o755);
}

#[test]
fn an_owner_that_needs_a_privilege_is_refused_at_the_start_without_it() {
    if !is_root() {
        return crate::pod::skip("only root can become another user");
    }
    let pod = Pod::new();
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o777)).expect("its permissions");
    let helper = pod.helper(&["--file-owner=12345"]).run_by_nobody();
    helper.finish().failed_with(&["12345", "--file-owner"]);
}

#[test]
fn all_files_belong_to_the_owner_that_is_asked_for() {
    if !is_root() {
        return crate::pod::skip("only root can give files away");
    }
    let (pod, _agent) = Pod::with_agent();
    pod.init(&["--file-owner=12345:54321"]).succeeded();
    let metadata = std::fs::metadata(pod.volume().join("svid-key.pem")).expect("a key");
    assert_eq!((metadata.uid(), metadata.gid()), (12345, 54321));
}
