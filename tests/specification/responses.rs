//! What counts as a good response: anything else is named in the log, discarded, and changes
//! nothing; the next good response is taken.

use std::process::Command;
use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding};
use pod_svid_helper::for_tests::{MAX_BUNDLE, MAX_CHAIN, MAX_SVIDS};

use pod_svid_helper::for_tests::workload::{JWTBundlesResponse, JWTSVID, X509SVID, X509SVIDResponse};
use protobuf::Message;
use workload_api_server::authority::{KeyType, Recipe, jwt_response};
use workload_api_server::fault::Fault;
use workload_api_server::server::Reply;

use crate::pod::{BRIEFLY, Helper, ID, OTHER_ID, Pod, ders, names, offer, skip};

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
    pod.rotate_to(&agent, &second);
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
    bytes_that_are_no_message_are_discarded: "undecodable" => ["ERROR", "is no X509SVIDResponse"];
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
    a_chain_over_the_limit_is_discarded: "long-chain" => ["x509_svid: holds more than 32 certificates"];
    a_leaf_with_an_extension_twice_is_discarded: "extension-twice" => ["x509_svid", "2.5.29.1 is there twice"];
    a_leaf_with_two_uris_is_discarded: "two-uris" => ["x509_svid: the leaf has 2 URI SANs", "exactly one"];
    a_leaf_without_uri_is_discarded: "no-uri" => ["x509_svid: the leaf has 0 URI SANs"];
    a_leaf_with_a_foreign_uri_is_discarded: "foreign-uri" => ["\"https://example.org/workload\" is not the SVID's SPIFFE ID"];
    a_leaf_with_another_id_is_discarded: "other-uri" => ["-other\" is not the SVID's SPIFFE ID"];
    a_leaf_that_is_a_ca_is_discarded: "leaf-is-ca" => ["the leaf is a CA certificate"];
    a_leaf_without_key_usage_is_discarded: "no-key-usage" => ["keyUsage is missing"];
    a_leaf_that_may_not_sign_is_discarded: "no-digital-signature" => ["keyUsage lacks digitalSignature"];
    a_leaf_that_may_sign_certificates_is_discarded: "key-cert-sign" => ["keyUsage has keyCertSign"];
    a_leaf_that_may_sign_crls_is_discarded: "crl-sign" => ["keyUsage has cRLSign"];
    a_leaf_in_place_of_an_intermediate_is_discarded: "leaf-as-intermediate" => ["certificate 1 is not a CA with keyCertSign"];
    an_expired_svid_is_not_published: "expired" => [ID, "expired at", "server behind the agent"];
    the_key_of_another_certificate_is_discarded: "other-key" => ["x509_svid_key: not the key of the leaf"];
    the_p384_key_of_another_certificate_is_discarded: "other-key-p384" => ["x509_svid_key: not the key of the leaf"];
    the_rsa_key_of_another_certificate_is_discarded: "other-key-rsa" => ["x509_svid_key: not the key of the leaf"];
    the_ed25519_key_of_another_certificate_is_discarded: "other-key-ed25519" => ["x509_svid_key: not the key of the leaf"];
    a_key_of_another_type_is_discarded: "other-key-type" => ["x509_svid_key: not the key of the leaf"];
    an_rsa_key_made_of_two_keys_is_discarded: "rsa-key-of-two-keys" => ["x509_svid_key: an RSA key whose numbers do not belong together"];
    a_key_that_is_not_pkcs8_is_discarded: "key-not-pkcs8" => ["x509_svid_key: not an unencrypted PKCS#8 key"];
    a_random_key_is_discarded: "random-key" => ["x509_svid_key: not an unencrypted PKCS#8 key"];
    a_truncated_bundle_is_discarded: "truncated-bundle" => ["bundle: certificate 0 is not a DER certificate"];
    a_random_bundle_is_discarded: "random-bundle" => ["bundle: certificate 0 is not a DER certificate"];
    a_bundle_over_the_limit_is_discarded: "huge-bundle" => ["bundle: holds more than 4096 certificates"];
    a_mandatory_field_that_is_empty_makes_the_response_bad_for_every_svid: "second-svid-bad" => ["svids[1]", "bundle: the mandatory field is empty"];
    a_response_with_too_many_svids_is_discarded: "too-many-svids" => ["svids: there are 1025", "at most 1024"];
    a_message_over_the_limit_is_refused: "too-large" => ["ResourceExhausted", "at most 8 MiB"];
}

/// The selected SVID of the fault's response is published, and the log has a warning with these parts.
fn published_in_spite_of(fault: &str, parts: &[&str]) {
    let pod = Pod::new();
    let bad = Fault::named(fault).expect("a known fault");
    let Reply::Send(response) = bad.reply(&pod.authority, &Recipe::for_id(ID)) else { panic!("no response") };
    let response = X509SVIDResponse::parse_from_bytes(&response).expect("a response");
    let _agent = pod.agent(Reply::offer(&response));
    // Without a file, nobody asks for the federated bundles.
    let log = pod.init(&[]).succeeded().log;
    assert!(!log.contains("WARN"), "{log}");
    let log = pod.init(&["--include-federated-bundles"]).succeeded().log;
    pod.wait_for(&response.svids[0]);
    let says_so = |line: &str| line.contains("WARN") && parts.iter().all(|part| line.contains(part));
    assert!(parts.is_empty() || log.lines().any(says_so), "{log}");
}

macro_rules! publishes_in_spite_of {
    ($($name:ident: $fault:literal => $parts:expr;)+) => {$(
        #[test]
        fn $name() {
            published_in_spite_of($fault, &$parts);
        }
    )+};
}

publishes_in_spite_of! {
    the_broken_chain_of_another_svid_holds_nothing_up: "second-chain-broken" => [];
    the_broken_key_of_another_svid_holds_nothing_up: "second-key-broken" => [];
    the_broken_bundle_of_another_svid_holds_nothing_up: "second-bundle-broken" => [];
    the_malformed_id_of_another_svid_holds_nothing_up: "second-id-malformed" => [];
    a_broken_federated_bundle_is_left_out_with_a_warning: "federated-bundle-broken" => ["federated_bundles[\"spiffe://other.org\"]", "certificate 0 is not a DER certificate"];
    a_federated_bundle_of_a_workload_is_left_out_with_a_warning: "federated-bundle-of-workload" => ["federated_bundles[\"spiffe://other.org/workload\"]", "not a trust domain's"];
    a_federated_bundle_of_an_upper_case_trust_domain_is_left_out_with_a_warning: "federated-bundle-upper-case" => ["federated_bundles[\"spiffe://Other.org\"]", "lowercase"];
    a_broken_revocation_list_holds_nothing_up: "broken-crl" => [];
}

#[test]
fn more_federated_trust_domains_than_are_written_hold_nothing_up() {
    let pod = Pod::new();
    let mut response = X509SVIDResponse { svids: vec![pod.mint()], ..Default::default() };
    for index in 0..4097 {
        response.federated_bundles.insert(format!("spiffe://d{index}.org"), pod.federated.bundle());
    }
    let _agent = pod.agent(Reply::offer(&response));
    let log = pod.init(&[]).succeeded().log;
    assert!(!log.contains("WARN"), "{log}");
    let log = pod.init(&["--merge-federated-bundles"]).succeeded().log;
    assert!(log.contains("there are 4097 federated trust domains; only the first 4096"), "{log}");
    let certificates = pod.read("bundle.pem").matches("BEGIN CERTIFICATE").count();
    assert_eq!(certificates, 1 + 4096);
}

#[test]
fn a_broken_selected_svid_is_discarded_although_another_is_good() {
    let pod = Pod::new();
    let (good, mut broken) = (pod.mint(), pod.authority.mint(&Recipe::for_id(OTHER_ID)));
    broken.bundle.pop();
    let _agent = pod.agent(offer([good, broken]));
    let wanted = [&format!("--pod-spiffe-id={OTHER_ID}"), "--init-timeout=1s"];
    pod.init(&wanted).failed_with(&["svids[1]", OTHER_ID, "bundle: certificate 0 is not a DER certificate"]);
}

#[test]
fn a_good_federated_bundle_beside_a_broken_one_is_written() {
    let pod = Pod::new();
    let mut response = pod.authority.response([&Recipe::for_id(ID)]);
    response.federated_bundles.insert(pod.federated.id(), pod.federated.bundle());
    response.federated_bundles.insert("spiffe://broken.org".to_owned(), vec![0x5a; 64]);
    let _agent = pod.agent(Reply::offer(&response));
    pod.init(&["--include-federated-bundles"]).succeeded();
    pod.wait_for(&response.svids[0]);
    assert_eq!(ders(&pod.read("other.org.bundle.pem"), "CERTIFICATE"), pod.federated.bundle());
}

/// A token that is written in spite of a broken one of another identity, and a JWKS document in spite
/// of a broken one of another trust domain.
#[test]
fn the_broken_token_and_keys_of_others_hold_nothing_up() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    let wanted = pod.authority.mint_jwt(ID, &["one".to_owned()], Duration::from_secs(300));
    let broken = JWTSVID { spiffe_id: OTHER_ID.to_owned(), svid: "broken".to_owned(), ..Default::default() };
    let tokens = jwt_response([broken, wanted.clone()]);
    agent.issue_jwt(move |_| Reply::offer(&tokens));
    let mut bundles = JWTBundlesResponse::new();
    bundles.bundles.insert(pod.authority.id(), pod.authority.jwks());
    bundles.bundles.insert("spiffe://broken.org".to_owned(), b"what".to_vec());
    agent.reply_with_jwt_bundles(Reply::offer(&bundles));
    let arguments =
        ["--jwt-svid=token.jwt=one", "--jwt-bundle-file-name=jwks.json", "--include-federated-bundles"];
    let log = pod.init(&[&arguments[..], &[&format!("--pod-spiffe-id={ID}")]].concat()).succeeded().log;
    assert_eq!(pod.read("token.jwt"), wanted.svid);
    assert_eq!(pod.read("jwks.json").as_bytes(), pod.authority.jwks());
    assert!(log.contains("WARN") && log.contains("bundles[\"spiffe://broken.org\"]: not JSON"), "{log}");
}

/// Init gets this token, names these parts of the reason and writes nothing.
fn token_is_refused(spoil: impl FnOnce(&str) -> String, parts: &[&str]) {
    let (pod, agent) = Pod::with_agent();
    let good = pod.authority.mint_jwt(ID, &["one".to_owned()], Duration::from_secs(300));
    let response = jwt_response([JWTSVID { svid: spoil(&good.svid), ..good }]);
    agent.issue_jwt(move |_| Reply::offer(&response));
    let arguments = ["--x509=false", "--jwt-svid=token.jwt=one", BRIEFLY];
    pod.init(&arguments).failed_with(&[&["svids[0]", ID], parts].concat());
    assert_eq!(names(&pod.volume()), [""; 0]);
}

fn with_header(token: &str, header: &str) -> String {
    let (_, rest) = token.split_once('.').expect("a token");
    format!("{}.{rest}", Base64UrlUnpadded::encode_string(header.as_bytes()))
}

#[test]
fn a_token_with_anything_behind_its_signature_is_refused() {
    token_is_refused(|good| format!("{good}\r\nX-Admin: true"), &["compact serialization"]);
}

#[test]
fn a_token_of_another_type_is_refused() {
    let header = r#"{"alg":"ES256","typ":"at+jwt"}"#;
    token_is_refused(|good| with_header(good, header), &["typ is \"at+jwt\"", "JWT or JOSE"]);
}

#[test]
fn a_token_without_an_algorithm_of_the_standard_is_refused() {
    token_is_refused(|good| with_header(good, r#"{"typ":"JWT"}"#), &["no alg"]);
    token_is_refused(|good| with_header(good, r#"{"alg":"none"}"#), &["\"none\" is not allowed"]);
}

#[test]
fn a_fresh_svid_beside_an_expired_one_is_published() {
    let pod = Pod::new();
    let fresh = pod.mint();
    let expired = pod.authority.mint(&Recipe::for_id(OTHER_ID).expired_for(Duration::from_secs(5)));
    let _agent = pod.agent(offer([expired, fresh.clone()]));
    pod.init(&[&format!("--pod-spiffe-id={ID}")]).succeeded();
    pod.wait_for(&fresh);
}

/// What the agent sends, OpenSSL 3.0 cannot load: a PKCS#8 version 2 key.
#[test]
fn an_ed25519_key_with_its_public_half_is_written_as_openssl_loads_it() {
    let pod = Pod::new();
    let svid = pod.authority.mint(&Recipe::for_id(ID).key_type(KeyType::Ed25519));
    let _agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    let written = ders(&pod.read("svid-key.pem"), "PRIVATE KEY");
    // SEQUENCE { INTEGER version, ... }.
    assert_eq!((svid.x509_svid_key[4], written[4]), (1, 0), "the version of the key");
    let path = pod.volume().join("svid-key.pem");
    match Command::new("openssl").args(["pkey", "-noout", "-in"]).arg(path).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => skip(&format!("no openssl to load the key with ({error})")),
    }
}

#[test]
fn as_many_svids_as_are_accepted_hold_nothing_up() {
    let pod = Pod::new();
    let (wanted, other) = (pod.mint(), pod.authority.mint(&Recipe::for_id(OTHER_ID)));
    let others = std::iter::repeat_n(other, MAX_SVIDS - 1);
    let _agent = pod.agent(offer(others.chain([wanted.clone()])));
    pod.init(&[&format!("--pod-spiffe-id={ID}")]).succeeded();
    pod.wait_for(&wanted);
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

/// A device whose clock begins in 1970 may make a CA that is valid since ten seconds before.
#[test]
fn certificates_with_dates_before_1970_are_published_as_they_are() {
    // In seconds: the last ten, a day that 1970 does not have, and two centuries.
    for early in [10, 3594 * 86400, 200 * 365 * 86400] {
        let pod = Pod::new();
        let before_1970 = |id: &str| {
            let mut recipe = Recipe::for_id(id);
            recipe.not_before = SystemTime::UNIX_EPOCH - Duration::from_secs(early);
            recipe
        };
        let mut authority = before_1970("spiffe://example.org");
        authority.is_ca = true;
        authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let mut svid = pod.authority.mint(&before_1970(ID));
        svid.bundle.extend(pod.authority.mint(&authority).x509_svid);
        let _agent = pod.agent(offer([svid.clone()]));
        pod.init(&["--keystore-file-name=svid.p12", "--truststore-file-name=trust.p12"]).succeeded();
        assert_eq!(ders(&pod.read("svid.pem"), "CERTIFICATE"), svid.x509_svid);
        assert_eq!(ders(&pod.read("bundle.pem"), "CERTIFICATE"), svid.bundle);
    }
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

/// An SVID whose key is of a type that the helper does not know: an RSA key whose OID is replaced, in leaf and key,
/// by that of ML-DSA-44. No signature is verified.
fn of_tomorrow(pod: &Pod) -> X509SVID {
    let mut svid = pod.authority.mint(&Recipe::for_id(ID).key_type(KeyType::Rsa2048));
    with_oid(&mut svid.x509_svid, RSA, ML_DSA_44);
    with_oid(&mut svid.x509_svid_key, RSA, ML_DSA_44);
    svid
}

/// `rsaEncryption`, with NULL as its parameters.
const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
const ML_DSA_44: &[u8] = &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17, 5, 0];
const ML_DSA_65: &[u8] = &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 18, 5, 0];
/// The same with an OCTET STRING in the place of NULL.
const ML_DSA_44_OTHERWISE: &[u8] = &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17, 4, 0];

fn with_oid(der: &mut [u8], old: &[u8], new: &[u8]) {
    let at = der.windows(old.len()).position(|window| window == old).expect("the algorithm");
    der[at..at + new.len()].copy_from_slice(new);
}

/// The warning about a key that cannot be checked.
const UNCHECKED: &str = "cannot be checked against its certificate: its type is 2.16.840.1.101.3.4.3.17 (not known to this helper)";

#[test]
fn a_key_of_an_unknown_type_is_published_with_a_warning_and_check_says_the_same_and_passes() {
    let pod = Pod::new();
    let svid = of_tomorrow(&pod);
    let _agent = pod.agent(offer([svid.clone()]));
    let log = pod.init(&[]).succeeded().log;
    pod.wait_for(&svid);
    let says_so = |line: &&str| line.contains("WARN") && line.contains(UNCHECKED);
    assert_eq!(log.lines().filter(says_so).count(), 1, "{log}");
    let checked = pod.check(&[]).succeeded();
    assert_eq!(checked.log.lines().filter(says_so).count(), 1, "{}", checked.log);
    assert!(checked.stdout.starts_with(&format!("ok: {ID}")), "{}", checked.stdout);
}

#[test]
fn that_keys_are_of_an_unknown_type_is_in_the_log_once_for_many_of_them() {
    let pod = Pod::new();
    let (first, second) = (of_tomorrow(&pod), of_tomorrow(&pod));
    let agent = pod.agent(offer([first.clone()]));
    let refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    pod.rotate_to(&agent, &second);
    let log = refresh.stop();
    assert_eq!(log.iter().filter(|line| line.contains(UNCHECKED)).count(), 1, "{}", log.join("\n"));
}

#[test]
fn a_key_of_an_unknown_type_with_another_algorithm_or_other_parameters_is_discarded() {
    for other in [RSA, ML_DSA_65, ML_DSA_44_OTHERWISE] {
        let pod = Pod::new();
        let (good, mut bad) = (pod.mint(), of_tomorrow(&pod));
        with_oid(&mut bad.x509_svid_key, ML_DSA_44, other);
        let agent = pod.agent(offer([bad]));
        let mut refresh = pod.refresh(&[]);
        refresh.wait_for_log(&["ERROR", "x509_svid_key: not the key of the leaf"]);
        assert_eq!(names(&pod.volume()), [""; 0]);
        pod.rotate_to(&agent, &good);
    }
}

#[test]
fn keystores_hold_a_key_of_an_unknown_type() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([of_tomorrow(&pod)]));
    let stores = ["--layout=spiffe", "--keystore-file-name=svid.p12", "--truststore-file-name=trust.p12"];
    pod.init(&stores).succeeded();
    pod.check(&stores).succeeded();
}

#[test]
fn inspect_shows_the_oid_of_a_key_of_an_unknown_type() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([of_tomorrow(&pod)]));
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    let text = Helper::new().arguments(&["--mode=inspect", &socket]).finish().succeeded().stdout;
    let line = "  key         2.16.840.1.101.3.4.3.17 (not known to this helper)";
    assert!(text.lines().any(|found| found == line), "{text}");
}
