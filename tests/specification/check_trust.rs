//! `check` reads what an application opens, and whether chain and bundle belong together.

use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use crate::pod::{Finished, Helper, ID, Pod, offer};
use crate::workload_api_server::authority::{Authority, Recipe};
use crate::workload_api_server::server::Reply;

fn check(pod: &Pod) -> Finished {
    let volume = format!("--svid-path={}", pod.volume().display());
    Helper::new().arguments(&["--mode=check", &volume]).finish()
}

/// A pod whose files are published, and good.
fn published() -> Pod {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    pod.init(&[]).succeeded();
    check(&pod).succeeded();
    pod
}

/// A pod whose files are published from a reply.
fn published_from(reply: Reply) -> Pod {
    let pod = Pod::new();
    let _agent = pod.agent(reply);
    pod.init(&[]).succeeded();
    pod
}

#[test]
fn check_fails_when_the_names_are_gone() {
    let pod = published();
    for name in ["svid.pem", "svid-key.pem", "bundle.pem"] {
        std::fs::remove_file(pod.volume().join(name)).expect("a name");
    }
    check(&pod).failed_with(&["svid-key.pem", "No such file"]);
}

#[test]
fn check_fails_when_the_keys_name_alone_is_gone() {
    let pod = published();
    std::fs::remove_file(pod.volume().join("svid-key.pem")).expect("a name");
    check(&pod).failed_with(&["svid-key.pem", "No such file"]);
}

#[test]
fn check_fails_when_the_keys_name_leads_elsewhere() {
    let (pod, other) = (published(), published());
    let name = pod.volume().join("svid-key.pem");
    std::fs::remove_file(&name).expect("a name");
    symlink(other.volume().join("svid-key.pem"), &name).expect("a link");
    check(&pod).failed_with(&["svid-key.pem"]);
}

#[test]
fn check_passes_with_an_expired_ca_beside_the_one_that_has_issued_the_svid() {
    // SPIRE keeps an expired CA in the bundle for a day: every cluster older than that has one.
    for expired_first in [true, false] {
        let pod = Pod::new();
        let mut svid = pod.mint();
        let expired = pod.authority.expired_root();
        svid.bundle = match expired_first {
            true => [expired, svid.bundle].concat(),
            false => [svid.bundle, expired].concat(),
        };
        check(&published_from(offer([svid]))).succeeded();
    }
}

#[test]
fn check_passes_with_an_expired_ca_of_the_same_name_and_key() {
    let authority = Authority::new("example.org");
    let mut svid = authority.mint(&Recipe::for_id(ID));
    svid.bundle = [authority.root_until(an_hour_ago()), svid.bundle].concat();
    check(&published_from(offer([svid]))).succeeded();
}

#[test]
fn check_fails_when_the_ca_that_has_issued_the_svid_has_expired_and_another_one_has_not() {
    let authority = Authority::new("example.org");
    let mut svid = authority.mint(&Recipe::for_id(ID));
    svid.bundle =
        [authority.root_until(an_hour_ago()), Authority::named("example.org", "new").bundle()].concat();
    check(&published_from(offer([svid]))).failed_with(&["bundle.pem", "certificate 0 expired at"]);
}

fn an_hour_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(3600)
}

#[test]
fn check_fails_when_an_intermediate_has_expired() {
    let authority = Authority::new("example.org").with_intermediate_until(an_hour_ago());
    let pod = published_from(offer([authority.mint(&Recipe::for_id(ID))]));
    check(&pod).failed_with(&["svid.pem", "certificate 1 expired at"]);
}

#[test]
fn check_passes_with_an_intermediate_that_is_valid() {
    let authority = Authority::new("example.org").with_intermediate();
    check(&published_from(offer([authority.mint(&Recipe::for_id(ID))]))).succeeded();
}

/// The SVID, with another bundle beside it.
fn with_bundle(bundle: Vec<u8>) -> Finished {
    let mut svid = Pod::new().mint();
    svid.bundle = bundle;
    check(&published_from(offer([svid])))
}

#[test]
fn check_fails_when_no_ca_of_the_bundle_has_the_name_of_the_issuer() {
    with_bundle(Authority::named("example.org", "other").bundle()).failed_with(&[
        "bundle.pem",
        "no CA that has issued",
        "CN=example.org root",
    ]);
}

#[test]
fn check_fails_when_the_bundle_is_another_trust_domains() {
    let parts = ["bundle.pem", "spiffe://evil.test", "example.org"];
    with_bundle(Authority::new("evil.test").bundle()).failed_with(&parts);
}

#[test]
fn check_fails_when_the_bundle_is_a_leaf() {
    with_bundle(Pod::new().mint().x509_svid).failed_with(&["bundle.pem", "certificate 0 is not a CA"]);
}

/// What an earlier helper may have left before the clock was set back.
fn published_too_early() -> Pod {
    let pod = published();
    let key = pod.read("svid-key.pem");
    // The test server cannot sign for a key that it has not made: all three are written by hand.
    let mut recipe = Recipe::for_id(ID);
    recipe.not_before = SystemTime::now() + Duration::from_secs(3600);
    recipe.not_after = recipe.not_before + Duration::from_secs(3600);
    let svid = pod.authority.mint(&recipe);
    let pem = |label, der: &[u8]| der::pem::encode_string(label, der::pem::LineEnding::LF, der).expect("PEM");
    for (name, label, der) in [
        ("svid.pem", "CERTIFICATE", &svid.x509_svid),
        ("svid-key.pem", "PRIVATE KEY", &svid.x509_svid_key),
        ("bundle.pem", "CERTIFICATE", &svid.bundle),
    ] {
        let path = pod.volume().join("..data").join(name);
        std::fs::remove_file(&path).expect("a file");
        std::fs::write(&path, pem(label, der)).expect("a file");
    }
    assert_ne!(pod.read("svid-key.pem"), key);
    pod
}

#[test]
fn check_fails_when_the_svid_is_not_valid_yet() {
    check(&published_too_early()).failed_with(&[ID, "not valid until"]);
}

#[test]
fn an_application_does_not_start_with_an_svid_that_is_not_valid_yet() {
    let pod = published_too_early();
    let script = pod.script("echo started >>$0/runs");
    let arguments = ["--mode=run", "--log-level=info"];
    let mut run = pod.helper(&arguments).command(&script).start();
    run.wait_for_log(&["cannot connect"]);
    assert_eq!(pod.runs(), "", "it has started");
    let _agent = pod.agent(offer([pod.mint()]));
    run.finish(0);
    assert_eq!(pod.runs(), "started\n");
}

#[test]
fn init_waits_until_an_svid_is_valid() {
    let pod = Pod::new();
    let mut recipe = Recipe::for_id(ID);
    recipe.not_before = SystemTime::now() + Duration::from_secs(4);
    recipe.not_after = recipe.not_before + Duration::from_secs(3600);
    let svid = pod.authority.mint(&recipe);
    let _agent = pod.agent(offer([svid.clone()]));
    pod.init(&["--init-timeout=60s"]).succeeded();
    pod.wait_for(&svid);
}

#[test]
fn an_svid_that_is_not_valid_yet_is_not_published_before_its_time() {
    let pod = Pod::new();
    let first = pod.mint();
    let mut recipe = Recipe::for_id(ID);
    recipe.not_before = SystemTime::now() + Duration::from_secs(6);
    recipe.not_after = recipe.not_before + Duration::from_secs(3600);
    let next = pod.authority.mint(&recipe);
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    agent.reply(offer([next.clone()]));
    refresh.wait_for_log(&["ERROR", ID, "is not valid until", "clock"]);
    pod.wait_for(&first);
    pod.wait_for(&next);
    assert!(SystemTime::now() >= recipe.not_before - Duration::from_secs(1), "it was published in time");
    refresh.stop();
}
