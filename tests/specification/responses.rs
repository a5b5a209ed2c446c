//! What counts as a good response: anything else is named in the log, discarded, and changes
//! nothing; the next good response is taken.

use pod_svid_helper::identity::bundle::MAX_BUNDLE;
use pod_svid_helper::identity::x509_svid::MAX_CHAIN;

use crate::pod::{ID, Pod, offer};
use crate::workload_api_server::authority::Recipe;
use crate::workload_api_server::fault::Fault;
use crate::workload_api_server::server::Reply;

fn discarded(fault: &str, parts: &[&str]) {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    let bad = Fault::named(fault).expect("a known fault");
    agent.reply(bad.reply(&pod.authority, &Recipe::for_id(ID)));
    refresh.wait_for_log(parts);
    pod.wait_for(&first);
    agent.reply(offer([second.clone()]));
    pod.wait_for(&second);
    // Between the two, nothing was published.
    let log = refresh.stop();
    assert_eq!(log.iter().filter(|line| line.contains(" published ")).count(), 2, "{}", log.join("\n"));
}

macro_rules! discards {
    ($($name:ident: $fault:literal => $parts:expr;)+) => {$(
        #[test]
        fn $name() {
            discarded($fault, &$parts);
        }
    )+};
}

discards! {
    bytes_that_are_no_message_are_discarded: "undecodable" => ["ERROR", "no X509SVIDResponse"];
    a_response_without_svids_is_discarded: "no-svids" => ["ERROR", "svids: the mandatory field is empty"];
    an_empty_spiffe_id_is_discarded: "empty-id" => ["svids[0]", "spiffe_id: the mandatory field is empty"];
    an_empty_chain_is_discarded: "empty-chain" => ["svids[0]", "x509_svid: the mandatory field is empty"];
    an_empty_key_is_discarded: "empty-key" => ["svids[0]", "x509_svid_key: the mandatory field is empty"];
    an_empty_bundle_is_discarded: "empty-bundle" => ["svids[0]", "bundle: the mandatory field is empty"];
    a_malformed_spiffe_id_is_discarded: "malformed-id" => ["spiffe_id: not a SPIFFE ID", "trust domain"];
    the_id_of_a_trust_domain_is_discarded: "trust-domain-id" => ["spiffe_id", "has a path"];
    a_truncated_chain_is_discarded: "truncated-chain" => ["x509_svid: certificate 0 is not a DER certificate"];
    trailing_bytes_are_discarded: "trailing-bytes" => ["x509_svid: certificate 1 is not a DER certificate"];
    a_random_chain_is_discarded: "random-chain" => ["x509_svid: certificate 0 is not a DER certificate"];
    a_chain_over_the_limit_is_discarded: "long-chain" => ["x509_svid: it holds more than 32 certificates"];
    a_leaf_with_two_uris_is_discarded: "two-uris" => ["x509_svid: the leaf has 2 URIs", "exactly one"];
    a_leaf_without_uri_is_discarded: "no-uri" => ["x509_svid: the leaf has 0 URIs"];
    a_leaf_with_a_foreign_uri_is_discarded: "foreign-uri" => ["\"https://example.org/workload\" is not the SVID's SPIFFE ID"];
    a_leaf_with_another_id_is_discarded: "other-uri" => ["-other\" is not the SVID's SPIFFE ID"];
    a_leaf_that_is_a_ca_is_discarded: "leaf-is-ca" => ["the leaf is a CA certificate"];
    a_leaf_without_key_usage_is_discarded: "no-key-usage" => ["keyUsage is missing"];
    a_leaf_that_may_not_sign_is_discarded: "no-digital-signature" => ["keyUsage lacks digitalSignature"];
    a_leaf_that_may_sign_certificates_is_discarded: "key-cert-sign" => ["keyUsage has keyCertSign"];
    a_leaf_that_may_sign_crls_is_discarded: "crl-sign" => ["keyUsage has cRLSign"];
    a_leaf_in_place_of_an_intermediate_is_discarded: "leaf-as-intermediate" => ["certificate 1 is no CA"];
    an_expired_svid_is_not_published: "expired" => [ID, "expired at", "server behind the agent"];
    the_key_of_another_certificate_is_discarded: "other-key" => ["x509_svid_key: it is not the key of the leaf"];
    the_p384_key_of_another_certificate_is_discarded: "other-key-p384" => ["x509_svid_key: it is not the key of the leaf"];
    the_rsa_key_of_another_certificate_is_discarded: "other-key-rsa" => ["x509_svid_key: it is not the key of the leaf"];
    the_ed25519_key_of_another_certificate_is_discarded: "other-key-ed25519" => ["x509_svid_key: it is not the key of the leaf"];
    a_key_of_another_type_is_discarded: "other-key-type" => ["x509_svid_key: it is not the key of the leaf"];
    a_key_that_is_not_pkcs8_is_discarded: "key-not-pkcs8" => ["x509_svid_key: it is not an unencrypted PKCS#8 key"];
    a_random_key_is_discarded: "random-key" => ["x509_svid_key: it is not an unencrypted PKCS#8 key"];
    a_truncated_bundle_is_discarded: "truncated-bundle" => ["bundle: certificate 0 is not a DER certificate"];
    a_random_bundle_is_discarded: "random-bundle" => ["bundle: certificate 0 is not a DER certificate"];
    a_bundle_over_the_limit_is_discarded: "huge-bundle" => ["bundle: it holds more than 4096 certificates"];
    a_bad_svid_beside_a_good_one_makes_the_response_bad: "second-svid-bad" => ["svids[1]", "bundle: the mandatory field is empty"];
    a_broken_federated_bundle_makes_the_response_bad: "federated-bundle-broken" => ["federated_bundles[\"spiffe://other.org\"]"];
    a_federated_bundle_keyed_by_a_workload_makes_the_response_bad: "federated-bundle-of-workload" => ["federated_bundles[\"spiffe://other.org/workload\"]", "not a trust domain's"];
    a_broken_revocation_list_makes_the_response_bad: "broken-crl" => ["crl[0]", "not a DER certificate revocation list"];
    a_message_over_the_limit_is_refused: "too-large" => ["ResourceExhausted", "at most 64 MiB"];
}

#[test]
fn a_fresh_svid_beside_an_expired_one_is_published() {
    use std::time::Duration;
    let pod = Pod::new();
    let fresh = pod.mint();
    let expired =
        pod.authority.mint(&Recipe::for_id("spiffe://example.org/other").expired_for(Duration::from_secs(5)));
    let _agent = pod.agent(offer([expired, fresh.clone()]));
    pod.init(&[&format!("--pod-spiffe-id={ID}")]).succeeded();
    pod.wait_for(&fresh);
}

#[test]
fn the_longest_chain_and_the_largest_bundle_are_published() {
    let pod = Pod::new();
    let mut svid = pod.mint();
    svid.x509_svid.extend(svid.bundle.repeat(MAX_CHAIN - 1));
    svid.bundle = svid.bundle.repeat(MAX_BUNDLE);
    let _agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    pod.wait_for(&svid);
}

#[test]
fn a_federated_trust_domain_without_a_bundle_is_no_fault() {
    let pod = Pod::new();
    let mut response = pod.authority.response([&Recipe::for_id(ID)]);
    response.federated_bundles.insert("spiffe://jwt-only.org".to_owned(), Vec::new());
    let _agent = pod.agent(Reply::offer(&response));
    pod.init(&[]).succeeded();
    pod.wait_for(&response.svids[0]);
}
