//! One file for key and chain, and the credential folder of SPIFFE's draft.

use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::authority::{Authority, Recipe};

use crate::pod::{ID, Pod, ders, mode_of, names, offer};

const CREDENTIAL_BUNDLE: &str = "credential-bundle.private-key.x509.pem";

/// An SVID with an intermediate in its chain.
fn with_intermediate() -> X509SVID {
    Authority::new("example.org").with_intermediate().mint(&Recipe::for_id(ID))
}

/// The file holds the key first, then the chain, leaf first, and nothing else.
fn holds_key_and_chain(text: &str, svid: &X509SVID) {
    let (key, chain) = text.split_once("-----BEGIN CERTIFICATE-----").expect("a certificate");
    assert_eq!(ders(key, "PRIVATE KEY"), svid.x509_svid_key);
    let chain = format!("-----BEGIN CERTIFICATE-----{chain}");
    assert_eq!(ders(&chain, "CERTIFICATE"), svid.x509_svid);
}

#[test]
fn the_combined_file_holds_the_key_and_then_the_chain() {
    let pod = Pod::new();
    let svid = with_intermediate();
    let _agent = pod.agent(offer([svid.clone()]));
    pod.init(&["--combined-file-name=combined.pem"]).succeeded();
    pod.wait_for(&svid);
    holds_key_and_chain(&pod.read("combined.pem"), &svid);
    pod.holds_one_set();
}

#[test]
fn every_file_with_the_key_has_the_mode_of_the_key() {
    for (argument, mode) in [(&[][..], 0o400), (&["--key-file-mode=0440"], 0o440)] {
        let (pod, _agent) = Pod::with_agent();
        let both = ["--combined-file-name=combined.pem", "--layout=pem,spiffe"];
        pod.helper(&both).arguments(argument).finish().succeeded();
        for name in ["svid-key.pem", "combined.pem", CREDENTIAL_BUNDLE] {
            assert_eq!(mode_of(&pod.volume().join(name)), mode, "{name}");
        }
    }
}

#[test]
fn the_spiffe_layout_is_a_credential_folder_and_nothing_else() {
    let pod = Pod::new();
    let svid = with_intermediate();
    let _agent = pod.agent(pod.offer_everything(&svid));
    pod.init(&["--layout=spiffe"]).succeeded();
    let [own, other] =
        ["example.org", "other.org"].map(|domain| format!("{domain}.spiffe-trust-bundle.x509.pem"));
    assert_eq!(names(&pod.volume().join("..data")), [CREDENTIAL_BUNDLE, &own, &other]);
    pod.holds_one_set();
    holds_key_and_chain(&pod.read(CREDENTIAL_BUNDLE), &svid);
    assert_eq!(ders(&pod.read(&own), "CERTIFICATE"), svid.bundle);
    assert_eq!(ders(&pod.read(&other), "CERTIFICATE"), pod.federated.bundle());
    assert_eq!(mode_of(&pod.volume().join(own)), 0o644);
}

#[test]
fn merging_bundles_leaves_the_credential_folder_alone() {
    let pod = Pod::new();
    let svid = with_intermediate();
    let _agent = pod.agent(pod.offer_everything(&svid));
    let merging = ["--merge-federated-bundles", "--add-intermediates-to-bundle"];
    pod.helper(&["--layout=pem,spiffe"]).arguments(&merging).finish().succeeded();
    holds_key_and_chain(&pod.read(CREDENTIAL_BUNDLE), &svid);
    assert_eq!(ders(&pod.read("example.org.spiffe-trust-bundle.x509.pem"), "CERTIFICATE"), svid.bundle);
}

#[test]
fn both_layouts_are_one_set_that_is_replaced_at_once() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let refresh = pod.refresh(&["--layout=pem,spiffe"]);
    pod.wait_for(&first);
    let set = std::fs::read_link(pod.volume().join("..data")).expect("a link");
    pod.rotate_to(&agent, &second);
    assert_ne!(std::fs::read_link(pod.volume().join("..data")).expect("a link"), set);
    holds_key_and_chain(&pod.read(CREDENTIAL_BUNDLE), &second);
    refresh.stop();
    pod.holds_one_set();
}

#[test]
fn a_trust_domain_that_is_federated_with_itself_is_written_once() {
    let pod = Pod::new();
    let svid = pod.mint();
    let mut response = pod_svid_helper::for_tests::workload::X509SVIDResponse::new();
    response.svids.push(svid.clone());
    response.federated_bundles.insert(pod.authority.id(), pod.federated.bundle());
    let _agent = pod.agent(workload_api_server::server::Reply::offer(&response));
    pod.init(&["--layout=pem,spiffe", "--include-federated-bundles"]).succeeded();
    pod.wait_for(&svid);
    assert_eq!(ders(&pod.read("example.org.spiffe-trust-bundle.x509.pem"), "CERTIFICATE"), svid.bundle);
    assert!(!names(&pod.volume()).contains(&"example.org.bundle.pem".to_owned()));
}

#[test]
fn a_layout_that_is_no_longer_asked_for_disappears() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    pod.init(&["--layout=pem,spiffe", "--combined-file-name=combined.pem"]).succeeded();
    pod.init(&[]).succeeded();
    pod.wait_for(&svid);
    assert_eq!(names(&pod.volume().join("..data")), ["bundle.pem", "svid-key.pem", "svid.pem"]);
    pod.holds_one_set();
}
