//! `check`: are the published files good? The exec probe of an image without a shell.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use workload_api_server::authority::{Authority, Recipe};

use crate::check_trust::written_by_hand;
use crate::http::{ANY_PORT, Probe};
use crate::pod::{EVERYTHING, Helper, ID, OTHER_ID, Pod, SetWhenDropped, offer, serial};

/// A pod with published files, and no agent any more.
fn pod_with(arguments: &[&str]) -> Pod {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(pod.offer_everything(&pod.mint()), Duration::from_secs(300));
    pod.init(arguments).succeeded();
    drop(agent);
    pod
}

/// Puts other bytes into a published file.
fn overwrite(pod: &Pod, name: &str, contents: &str) {
    let path = pod.volume().join(name);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its permissions");
    std::fs::write(&path, contents).expect("a file");
}

#[test]
fn check_says_in_one_line_what_is_there_and_needs_no_agent() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    drop(agent);
    let finished = pod.check(&[]).succeeded();
    assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.stdout);
    let (serial, path) = (serial(&svid), pod.volume().display().to_string());
    for part in ["ok: ", ID, &format!("serial {serial}"), "valid until 2", "59 minutes", " left", &path] {
        assert!(finished.stdout.contains(part), "{part:?} is not in {}", finished.stdout);
    }
    assert_eq!(finished.log, "");
}

#[test]
fn check_fails_before_anything_is_published() {
    Pod::new().check(&[]).failed_with(&["cannot read", "svid-key.pem", "No such file", "its log says why"]);
}

/// Kubernetes counts equal messages of an exec probe as one event; what collects JSON lines wants a time.
#[test]
fn the_log_of_check_has_the_time_as_json_alone() {
    let pod = Pod::new();
    let time = |log: &str| serde_json::from_str::<serde_json::Value>(log).expect("JSON")["time"].clone();
    let json = pod.check(&["--log-format=json"]);
    assert!(time(&json.log).as_str().is_some_and(|time| time.ends_with('Z')), "{}", json.log);
    assert!(pod.check(&[]).log.starts_with("ERROR "));
}

#[test]
fn check_fails_without_a_directory() {
    let pod = Pod::new();
    std::fs::remove_dir(pod.volume()).expect("an empty volume");
    pod.check(&[]).failed_with(&[pod.volume().to_str().expect("UTF-8"), "No such file"]);
}

#[test]
fn check_fails_when_any_of_the_files_is_missing() {
    let optional = ["other.org.bundle.pem", "other.org.jwks.json"];
    let names = crate::pod::names(&pod_with(&EVERYTHING).volume().join("..data"));
    let mandatory = names.iter().filter(|name| !optional.contains(&name.as_str()));
    for name in mandatory.filter(|name| !name.starts_with("other.org.")) {
        let pod = pod_with(&EVERYTHING);
        pod.check(&EVERYTHING).succeeded();
        std::fs::remove_file(pod.volume().join("..data").join(name)).expect("a file");
        pod.check(&EVERYTHING).failed_with(&[name, "No such file"]);
    }
}

#[test]
fn check_fails_when_any_of_the_files_cannot_be_read_as_what_it_should_be() {
    for name in crate::pod::names(&pod_with(&EVERYTHING).volume().join("..data")) {
        let pod = pod_with(&EVERYTHING);
        overwrite(&pod, &name, "garbage");
        pod.check(&EVERYTHING).failed_with(&[&name]);
    }
}

#[test]
fn check_fails_when_the_key_is_another_certificates() {
    let (pod, other) = (pod_with(&[]), pod_with(&[]));
    overwrite(&pod, "svid-key.pem", &other.read("svid-key.pem"));
    pod.check(&[]).failed_with(&["svid-key.pem: not the key of the leaf certificate"]);
}

#[test]
fn check_fails_for_a_token_of_another_identity_and_a_new_helper_is_not_ready_with_it() {
    const TOKEN: &str = "--jwt-svid=token.jwt=one";
    let pod = pod_with(&[TOKEN]);
    pod.check(&[TOKEN]).succeeded();
    let token = pod.authority.mint_jwt(OTHER_ID, &["one".to_owned()], Duration::from_secs(300));
    overwrite(&pod, "token.jwt", &token.svid);
    let parts = [format!("token.jwt: it is the SVID of {OTHER_ID}"), format!("svid.pem is that of {ID}")];
    pod.check(&[TOKEN]).failed_with(&parts.each_ref().map(String::as_str));
    let mut refresh = pod.refresh(&[TOKEN, ANY_PORT]);
    let reason = Probe::of(&mut refresh).wait_until_ready_is(503);
    assert!(reason.starts_with("no JWT-SVID token.jwt yet"), "{reason}");
    refresh.stop();
}

#[test]
fn check_fails_when_two_files_hold_different_svids() {
    let combined = ["--combined-file-name=combined.pem"];
    let pod = pod_with(&combined);
    let first = pod.read("combined.pem");
    let _agent = pod.agent(offer([pod.mint()]));
    pod.init(&combined).succeeded();
    overwrite(&pod, "combined.pem", &first);
    pod.check(&combined).failed_with(&["svid.pem and combined.pem hold different certificates"]);
}

#[test]
fn check_fails_when_the_id_is_another() {
    let pod = pod_with(&[]);
    pod.check(&[&format!("--pod-spiffe-id={ID}")]).succeeded();
    let other = "spiffe://example.org/other";
    pod.check(&[&format!("--pod-spiffe-id={other}")]).failed_with(&[
        "svid.pem",
        ID,
        other,
        "--pod-spiffe-id",
    ]);
}

#[test]
fn check_fails_when_the_svid_has_expired() {
    let expired = Recipe::for_id(ID).expired_for(Duration::from_secs(1));
    let pod = written_by_hand(&Authority::new("example.org").mint(&expired));
    pod.check(&[]).failed_with(&[ID, "expired at"]);
}

#[test]
fn check_fails_when_less_than_the_least_time_is_left() {
    let pod = pod_with(&[]);
    pod.check(&["--min-ttl=30m"]).succeeded();
    pod.check(&["--min-ttl=2h"]).failed_with(&[ID, "sooner than in 2 hours (--min-ttl)"]);
}

#[test]
fn check_honours_names_and_layouts() {
    for arguments in [
        &["--svid-file-name=tls.crt", "--svid-key-file-name=tls.key", "--bundle-file-name=ca.crt"][..],
        &["--layout=spiffe"],
        &["--layout=pem,spiffe", "--combined-file-name=both.pem"],
        &["--add-intermediates-to-bundle", "--merge-federated-bundles"],
    ] {
        let pod = pod_with(arguments);
        pod.check(arguments).succeeded();
    }
    pod_with(&["--layout=spiffe"]).check(&[]).failed_with(&["svid-key.pem", "No such file"]);
}

#[test]
fn check_reads_files_that_the_helper_did_not_write() {
    let pod = pod_with(&[]);
    let plain = pod.path().join("plain");
    std::fs::create_dir(&plain).expect("a directory");
    for name in ["svid.pem", "svid-key.pem", "bundle.pem"] {
        std::fs::write(plain.join(name), pod.read(name)).expect("a file");
    }
    let path = format!("--svid-path={}", plain.display());
    Helper::new().arguments(&["--mode=check", &path]).finish().succeeded();
}

#[test]
fn check_never_fails_while_one_set_follows_another() {
    let pod = Pod::new();
    check_while_it_rotates(&pod, pod.helper(&["--mode=refresh", "--log-level=info"]));
}

/// Checks without pause while the helper publishes two hundred sets.
pub fn check_while_it_rotates(pod: &Pod, refresh: Helper) {
    let svids: Vec<_> = (0..200).map(|_| pod.mint()).collect();
    let agent = pod.agent(offer([svids[0].clone()]));
    let refresh = refresh.start();
    pod.wait_for(&svids[0]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let checks = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                pod.check(&[]).succeeded();
            }
        });
        let _done = SetWhenDropped(&done);
        for svid in svids.iter().take_while(|_| !checks.is_finished()) {
            pod.rotate_to(&agent, svid);
        }
    });
    refresh.stop();
}

const JWT_ALONE: [&str; 2] = ["--x509=false", "--jwt-svid=token.jwt=one,two"];

#[test]
fn check_of_jwt_alone_says_whose_token_it_is() {
    let pod = pod_with(&JWT_ALONE);
    let finished = pod.check(&JWT_ALONE).succeeded();
    assert!(finished.stdout.starts_with(&format!("ok: {ID} (valid until 2")), "{}", finished.stdout);
    pod.check(&["--x509=false", "--jwt-svid=token.jwt=three"]).failed_with(&["token.jwt", "\"three\""]);
    pod.check(&["--x509=false", "--jwt-svid=token.jwt=one", "--min-ttl=10m"]).failed_with(&[ID, "--min-ttl"]);
}

#[test]
fn check_fails_when_a_jwt_svid_has_expired() {
    let pod = pod_with(&JWT_ALONE);
    let claims = serde_json::json!({ "sub": ID, "aud": ["one", "two"], "exp": 1 });
    overwrite(&pod, "token.jwt", &pod.authority.sign_jwt(ID, &claims).svid);
    pod.check(&JWT_ALONE).failed_with(&["JWT-SVID", ID, "expired at 1970-01-01T00:00:01Z"]);
}

#[test]
fn check_fails_when_a_jwt_svid_is_not_valid_yet() {
    let pod = pod_with(&JWT_ALONE);
    let claims = serde_json::json!({
        "sub": ID, "aud": ["one", "two"], "nbf": 9_999_999_998u64, "exp": 9_999_999_999u64
    });
    overwrite(&pod, "token.jwt", &pod.authority.sign_jwt(ID, &claims).svid);
    pod.check(&JWT_ALONE).failed_with(&["JWT-SVID", ID, "not valid until 2286-11-20T17:46:38Z"]);
}

#[test]
fn the_least_time_is_the_x509_svids_when_there_is_one() {
    let arguments = ["--jwt-svid=token.jwt=one"];
    let pod = pod_with(&arguments);
    pod.check(&["--jwt-svid=token.jwt=one", "--min-ttl=30m"]).succeeded();
}
