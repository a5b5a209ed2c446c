//! Another writer of the volume, trusted less than the helper: its files are not taken over, and do not
//! stop a publication.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use grpcio::RpcStatusCode;
use workload_api_server::server::Reply;

use crate::pod::{BRIEFLY, NOBODY, Pod, is_root, names, offer};

const OTHER_SET: &str = "..2026-01-01T00-00-00.000000000Z";

/// Makes `..data` lead to a directory of the neighbour's.
fn point_data_at(volume: &Path, name: &str) {
    let link = volume.join("..neighbour");
    symlink(name, &link).expect("a link");
    std::fs::rename(link, volume.join("..data")).expect("a new ..data");
}

/// Publishes an X.509-SVID without a token, over a set in which the neighbour has planted `token.jwt`; returns
/// whether the token is in the published set.
fn is_taken_over(plant: impl FnOnce(&Path)) -> bool {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::INVALID_ARGUMENT));
    plant(&pod.volume().join(OTHER_SET));
    point_data_at(&pod.volume(), OTHER_SET);
    pod.init(&["--jwt-svid=token.jwt=one"]).failed_with(&["token.jwt", "the rest is published"]);
    pod.wait_for(&svid);
    let found = names(&pod.volume().join("..data")).contains(&"token.jwt".to_owned());
    assert_eq!(names(&pod.volume()).contains(&"token.jwt".to_owned()), found);
    found
}

fn make_set(set: &Path) {
    std::fs::create_dir(set).expect("a directory");
    std::fs::write(set.join("token.jwt"), "loot").expect("a file");
}

#[test]
fn a_file_of_the_helpers_own_user_is_taken_over() {
    assert!(is_taken_over(make_set));
}

#[test]
fn a_file_behind_a_link_in_place_of_a_set_is_not_taken_over() {
    assert!(!is_taken_over(|set| {
        let elsewhere = set.with_file_name("elsewhere");
        make_set(&elsewhere);
        symlink(elsewhere, set).expect("a link");
    }));
}

#[test]
fn a_link_to_a_file_or_a_device_is_not_taken_over() {
    for target in ["/etc/passwd", "/dev/zero"] {
        assert!(!is_taken_over(|set| {
            std::fs::create_dir(set).expect("a directory");
            symlink(target, set.join("token.jwt")).expect("a link");
        }));
    }
}

#[test]
fn a_file_of_more_than_16_mib_is_not_taken_over() {
    assert!(!is_taken_over(|set| {
        make_set(set);
        let file = std::fs::File::options().write(true).open(set.join("token.jwt")).expect("a file");
        file.set_len((16 << 20) + 1).expect("a hole");
    }));
}

#[test]
fn a_file_in_a_set_that_others_may_write_to_is_not_taken_over() {
    assert!(!is_taken_over(|set| {
        make_set(set);
        std::fs::set_permissions(set, PermissionsExt::from_mode(0o777)).expect("its permissions");
    }));
}

#[test]
fn another_users_file_or_set_is_not_taken_over() {
    if !is_root() {
        return crate::pod::skip("only root can make another user's files");
    }
    for name in ["token.jwt", ""] {
        assert!(!is_taken_over(|set| {
            make_set(set);
            chown(set.join(name), Some(NOBODY), Some(NOBODY)).expect("its owner");
        }));
    }
}

#[test]
fn a_data_link_that_leads_to_no_directory_is_replaced() {
    let plants: [fn(&Path); 3] = [
        |path| std::fs::write(path, "a file").expect("a file"),
        |path| symlink(OTHER_SET, path).expect("a loop"),
        |_| {},
    ];
    for plant in plants {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        plant(&pod.volume().join(OTHER_SET));
        point_data_at(&pod.volume(), OTHER_SET);
        pod.init(&[]).succeeded();
        pod.wait_for(&svid);
    }
}

/// Moves `..data` away, and lets the neighbour put something in its place.
fn replace_data(volume: &Path, plant: fn(&Path)) {
    let data = volume.join("..data");
    std::fs::rename(&data, volume.join("zz")).expect("a link");
    plant(&data);
}

/// What the neighbour has planted, under the name that the helper has given it.
fn moved_aside(volume: &Path) -> Vec<PathBuf> {
    let found = names(volume).into_iter().filter(|name| name.starts_with("..foreign-"));
    found.map(|name| volume.join(name)).collect()
}

#[test]
fn another_program_that_replaces_data_stops_no_rotation_and_loses_nothing() {
    let directory: fn(&Path) = |path| {
        std::fs::create_dir(path).expect("a directory");
        std::fs::write(path.join("svid.pem"), "theirs").expect("a file");
        chown(path, Some(NOBODY), Some(NOBODY)).expect("its owner");
    };
    let file: fn(&Path) = |path| std::fs::write(path, "theirs").expect("a file");
    let link: fn(&Path) = |path| symlink("/etc", path).expect("a link");
    let plants = [file, link].into_iter().chain(is_root().then_some(directory));
    for plant in plants {
        let pod = Pod::new();
        let svids = [pod.mint(), pod.mint(), pod.mint()];
        let agent = pod.agent(offer([svids[0].clone()]));
        std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o777)).expect("its permissions");
        let mut refresh = pod.refresh(&[]);
        refresh.wait_for_log(&["published", "svids"]);
        replace_data(&pod.volume(), plant);
        agent.reply(offer([svids[1].clone()]));
        refresh.wait_for_log(&["WARN", "..data", "..foreign-", "let no other user write"]);
        pod.wait_for(&svids[1]);
        refresh.stop();
        assert_eq!(moved_aside(&pod.volume()).len(), 1);
        // The next helper knows the directory by the set that is still there.
        replace_data(&pod.volume(), plant);
        agent.reply(offer([svids[2].clone()]));
        pod.init(&[]).succeeded();
        pod.wait_for(&svids[2]);
        let moved = moved_aside(&pod.volume());
        assert_eq!(moved.len(), 2);
        for moved in moved {
            let meta = moved.symlink_metadata().expect("what was planted");
            let inside = if meta.is_dir() { moved.join("svid.pem") } else { moved };
            let is_theirs = |text: String| text == "theirs";
            assert!(meta.is_symlink() || std::fs::read_to_string(inside).is_ok_and(is_theirs));
        }
    }
}

#[test]
fn a_link_that_a_kill_left_in_the_set_blocks_no_publication() {
    let pod = Pod::new();
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(2));
    pod.init(&["--jwt-svid=token.jwt=one"]).succeeded();
    symlink("..data/svid.pem", pod.volume().join("..data/..link")).expect("a link");
    let token = pod.read("token.jwt");
    let refresh = pod.refresh(&["--jwt-svid=token.jwt=one"]);
    pod.wait_for_file("token.jwt", |text| text != token);
    refresh.stop();
    pod.holds_one_set();
}

#[test]
fn anything_in_place_of_the_lock_is_replaced_and_not_followed() {
    let (pod, _agent) = Pod::with_agent();
    let target = pod.path().join("target");
    for name in ["..lock", "..names", "..identity"] {
        symlink(&target, pod.volume().join(name)).expect("a link");
    }
    pod.init(&[]).succeeded();
    assert!(!target.exists());
    pod.holds_one_set();
}

#[test]
fn another_users_lock_file_in_a_shared_directory_is_named_in_the_error() {
    if !is_root() {
        return crate::pod::skip("only root can become another user");
    }
    let (pod, _agent) = Pod::with_agent();
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o1777)).expect("its permissions");
    std::fs::write(pod.volume().join("..lock"), "").expect("a file");
    let finished = pod.helper(&[BRIEFLY]).run_by_nobody().finish();
    finished.failed_with(&["..lock", "belongs to user 0", "subdirectory"]);
}
