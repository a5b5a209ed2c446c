//! `check` reads what an application opens, and whether chain and bundle belong together.

use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use der::Reader;
use pod_svid_helper::for_tests::MAX_BUNDLE;
use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::authority::{Authority, Recipe};
use workload_api_server::server::Reply;

use crate::http::{ANY_PORT, Probe, SHORT};
use crate::pod::{BRIEFLY, ID, PATIENCE, Pod, names, offer};

/// A pod whose files are published, and good.
fn published() -> Pod {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    pod.check(&[]).succeeded();
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
    pod.check(&[]).failed_with(&["svid-key.pem", "No such file"]);
}

#[test]
fn check_fails_when_the_keys_name_alone_is_gone() {
    let pod = published();
    std::fs::remove_file(pod.volume().join("svid-key.pem")).expect("a name");
    pod.check(&[]).failed_with(&["svid-key.pem", "No such file"]);
}

#[test]
fn check_fails_when_the_keys_name_leads_elsewhere() {
    let (pod, other) = (published(), published());
    let name = pod.volume().join("svid-key.pem");
    std::fs::remove_file(&name).expect("a name");
    symlink(other.volume().join("svid-key.pem"), &name).expect("a link");
    pod.check(&[]).failed_with(&["svid-key.pem"]);
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
        published_from(offer([svid])).check(&[]).succeeded();
    }
}

#[test]
fn check_passes_with_an_expired_ca_of_the_same_name_and_key() {
    let authority = Authority::new("example.org");
    let mut svid = authority.mint(&Recipe::for_id(ID));
    svid.bundle = [authority.root_until(an_hour_ago()), svid.bundle].concat();
    published_from(offer([svid])).check(&[]).succeeded();
}

/// That of a company's PKI, for example.
#[test]
fn a_ca_with_a_uri_that_is_no_spiffe_id_is_one_of_the_trust_domain() {
    let authority = Authority::new("example.org");
    let mut svid = authority.mint(&Recipe::for_id(ID));
    svid.bundle = authority.root_with_uri("https://pki.example.com/root");
    published_from(offer([svid])).check(&[]).succeeded();
}

fn an_hour_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(3600)
}

#[test]
fn check_passes_with_an_intermediate_that_is_valid() {
    let authority = Authority::new("example.org").with_intermediate();
    published_from(offer([authority.mint(&Recipe::for_id(ID))])).check(&[]).succeeded();
}

/// Such an SVID is never published, and files that hold it all the same are good neither for `check` nor for
/// `/ready`.
fn is_refused_by_all(svid: &X509SVID, file: &str, sentence: &[&str]) {
    let pod = Pod::new();
    let agent = pod.agent(offer([svid.clone()]));
    let refused = pod.init(&[BRIEFLY]);
    refused.failed_with(&[&["rejected the agent's response"], sentence].concat());
    assert!(names(&pod.volume()).is_empty(), "it is published");
    drop(agent);

    let pod = written_by_hand(svid);
    pod.check(&[]).failed_with(&[&[file], sentence].concat());
    let mut refresh = pod.refresh(&[ANY_PORT]);
    Probe::of(&mut refresh).wait_until_ready_is(503);
    refresh.stop();
}

#[test]
fn an_intermediate_that_has_expired_is_refused() {
    let authority = Authority::new("example.org").with_intermediate_until(an_hour_ago());
    let svid = authority.mint(&Recipe::for_id(ID));
    is_refused_by_all(&svid, "svid.pem", &["certificate 1 expired at"]);
}

#[test]
fn an_issuing_ca_that_has_expired_is_refused_though_another_ca_is_valid() {
    let authority = Authority::new("example.org");
    let mut svid = authority.mint(&Recipe::for_id(ID));
    let other = Authority::named("example.org", "new").bundle();
    svid.bundle = [authority.root_until(an_hour_ago()), other].concat();
    is_refused_by_all(&svid, "bundle.pem", &["certificate 0 expired at"]);
}

#[test]
fn an_svid_that_no_ca_of_its_bundle_has_issued_is_refused() {
    let mut svid = Pod::new().mint();
    svid.bundle = Authority::named("example.org", "other").bundle();
    is_refused_by_all(&svid, "bundle.pem", &["no CA that has issued", "CN=example.org root"]);
}

#[test]
fn the_bundle_of_another_trust_domain_is_refused() {
    let mut svid = Pod::new().mint();
    svid.bundle = Authority::new("evil.test").bundle();
    is_refused_by_all(&svid, "bundle.pem", &["of the trust domain evil.test", "not of example.org"]);
}

#[test]
fn a_bundle_that_is_a_leaf_is_refused() {
    let mut svid = Pod::new().mint();
    svid.bundle = svid.x509_svid.clone();
    is_refused_by_all(&svid, "bundle.pem", &["certificate 0 is not a CA"]);
}

#[test]
fn a_ca_of_another_key_but_the_same_name_is_good_where_it_is_the_only_one() {
    // The key identifiers of some CAs are their own invention: only among several of a name do they choose.
    let mut svid = Pod::new().mint();
    svid.bundle = Authority::new("example.org").bundle();
    published_from(offer([svid])).check(&[]).succeeded();
}

#[test]
fn when_every_ca_has_expired_ready_and_check_say_so() {
    let authority = Authority::new("example.org");
    let mut svid = authority.mint(&Recipe::for_id(ID));
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    agent.wait_for_calls(1, PATIENCE);
    svid.bundle = authority.root_until(SystemTime::now() + SHORT);
    agent.reply(offer([svid]));
    probe.wait_until_ready_is(200);
    let reason = probe.wait_until_ready_is(503);
    assert!(reason.starts_with("bundle.pem: certificate 0 expired at 2"), "{reason}");
    pod.check(&[]).failed_with(&[reason.trim_end()]);
    refresh.wait_for_log(&["ERROR", "bundle.pem: certificate 0 expired at", "nothing newer"]);
    refresh.stop();
}

/// Files that this helper would not have written.
pub fn written_by_hand(svid: &X509SVID) -> Pod {
    let pod = published();
    let pem = |label, der: &[u8]| {
        let block =
            |der: Vec<u8>| der::pem::encode_string(label, der::pem::LineEnding::LF, &der).expect("PEM");
        ders_in(der).into_iter().map(block).collect::<String>()
    };
    for (name, label, der) in [
        ("svid.pem", "CERTIFICATE", &svid.x509_svid),
        ("svid-key.pem", "PRIVATE KEY", &svid.x509_svid_key),
        ("bundle.pem", "CERTIFICATE", &svid.bundle),
    ] {
        let path = pod.volume().join("..data").join(name);
        std::fs::remove_file(&path).expect("a file");
        std::fs::write(&path, pem(label, der)).expect("a file");
    }
    pod
}

/// What an earlier helper may have left before the clock was set back.
fn published_too_early() -> Pod {
    let mut recipe = Recipe::for_id(ID);
    recipe.not_before = SystemTime::now() + Duration::from_secs(3600);
    recipe.not_after = recipe.not_before + Duration::from_secs(3600);
    written_by_hand(&Pod::new().authority.mint(&recipe))
}

#[test]
fn check_fails_when_the_svid_is_not_valid_yet() {
    published_too_early().check(&[]).failed_with(&[ID, "not valid until"]);
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
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    let mut recipe = Recipe::for_id(ID);
    recipe.not_before = SystemTime::now() + SHORT;
    recipe.not_after = recipe.not_before + Duration::from_secs(3600);
    let next = pod.authority.mint(&recipe);
    agent.reply(offer([next.clone()]));
    refresh.wait_for_log(&["ERROR", ID, "is not valid until", "clock"]);
    pod.wait_for(&first);
    pod.wait_for(&next);
    assert!(SystemTime::now() >= recipe.not_before - Duration::from_secs(1), "it was published in time");
    refresh.stop();
}

/// The parts of concatenated DER: certificates, or one key.
fn ders_in(der: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = der::SliceReader::new(der).expect("DER");
    let mut all = Vec::new();
    while !rest.is_finished() {
        all.push(rest.tlv_bytes().expect("DER").to_vec());
    }
    all
}

#[test]
fn an_intermediate_in_the_bundle_is_trusted_as_it_is_whoever_has_put_it_there() {
    let authority = Authority::new("example.org").with_intermediate();
    let root = authority.root_until(an_hour_ago());
    let both = authority.mint(&Recipe::for_id(ID));
    let [leaf, intermediate] = ders_in(&both.x509_svid).try_into().expect("a leaf and its CA");
    let by_agent =
        X509SVID { x509_svid: leaf, bundle: [root.clone(), intermediate].concat(), ..both.clone() };
    let by_option = X509SVID { bundle: root, ..both };
    let stores = ["--truststore-file-name=trust.p12", "--keystore-file-name=key.p12"];
    for (svid, more) in [
        (by_agent, &[][..]),
        (by_option.clone(), &[]),
        (by_option.clone(), &stores[..1]),
        (by_option, &stores),
    ] {
        for omits in [&[][..], &["--omit-expired"]] {
            let pod = Pod::new();
            let _agent = pod.agent(offer([svid.clone()]));
            let options = [&["--add-intermediates-to-bundle"], more, omits].concat();
            pod.init(&options).succeeded();
            pod.check(&options).succeeded();
            let mut refresh = pod.refresh(&[&options[..], &[ANY_PORT]].concat());
            Probe::of(&mut refresh).wait_until_ready_is(200);
            refresh.stop();
        }
    }
}

#[test]
fn a_credential_folder_has_no_intermediates_in_its_bundle_and_needs_a_ca_that_is_valid() {
    let pod = Pod::new();
    let authority = Authority::new("example.org").with_intermediate();
    let root = authority.root_until(an_hour_ago());
    let svid = X509SVID { bundle: root, ..authority.mint(&Recipe::for_id(ID)) };
    let _agent = pod.agent(offer([svid]));
    let options = ["--add-intermediates-to-bundle", "--layout=pem,spiffe", "--init-timeout=2s"];
    pod.init(&options).failed_with(&["certificate 0 expired"]);
    pod.init(&options[..1]).succeeded();
}

#[test]
fn a_bundle_of_as_many_cas_as_there_may_be_has_room_for_intermediates() {
    let pod = Pod::new();
    let authority = Authority::new("example.org").with_intermediate();
    let svid = authority.mint(&Recipe::for_id(ID));
    let svid = X509SVID { bundle: svid.bundle.repeat(MAX_BUNDLE), ..svid };
    let _agent = pod.agent(offer([svid]));
    pod.init(&["--add-intermediates-to-bundle"]).succeeded();
    pod.check(&["--add-intermediates-to-bundle"]).succeeded();
}

#[test]
fn a_leaf_without_an_identity_is_named_as_such() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    pod.init(&[]).succeeded();
    let path = pod.volume().join("..data/svid.pem");
    std::fs::remove_file(&path).expect("a file");
    let other = rcgen::generate_simple_self_signed(["app.example.org".to_owned()]).expect("a certificate");
    std::fs::write(path, other.cert.pem()).expect("a file");
    pod.check(&[]).failed_with(&["svid.pem: the leaf has 0 URI SANs"]);
}
