//! `inspect`: what the agent offers, for people and for programs.

use std::time::{Duration, SystemTime};

use grpcio::RpcStatusCode;
use pod_svid_helper::for_tests::workload::X509SVIDResponse;

use crate::pod::{Finished, Helper, ID, Pod, names, offer, serial};
use crate::workload_api_server::authority::{Authority, KeyType, Recipe};
use crate::workload_api_server::server::{Reply, WorkloadApiServer};

fn inspect(pod: &Pod, arguments: &[&str]) -> Finished {
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    Helper::new().argument("--mode=inspect").argument(socket).arguments(arguments).finish()
}

const EXPIRED_ID: &str = "spiffe://example.org/expired";

/// Offers two SVIDs that differ in everything, and a federated trust domain.
fn agent(pod: &Pod) -> (WorkloadApiServer, X509SVIDResponse) {
    let authority = Authority::new("example.org").with_intermediate();
    let first = Recipe::for_id(ID).hint("internal").key_type(KeyType::Rsa2048).ttl(Duration::from_secs(7300));
    let second = Recipe::for_id(EXPIRED_ID).expired_for(Duration::from_secs(100_000));
    let mut response = authority.response([&first, &second]);
    response.federated_bundles.insert(pod.federated.id(), pod.federated.bundle().repeat(3));
    (pod.agent(Reply::offer(&response)), response)
}

#[test]
fn inspect_prints_a_block_for_each_svid_and_the_federated_trust_domains() {
    let pod = Pod::new();
    let (_agent, response) = agent(&pod);
    let finished = inspect(&pod, &[]).succeeded();
    assert_eq!(finished.log, "");
    let blocks: Vec<_> = finished.stdout.split("\n\n").collect();
    let [first, second, federated] = blocks.as_slice() else { panic!("{}", finished.stdout) };
    for (block, lines) in [
        (
            first,
            [
                "SVID 1 of 2, the default identity",
                &format!("  SPIFFE ID   {ID}"),
                "  hint        internal",
                &format!("  serial      {}", serial(&response.svids[0])),
                "  key         RSA 2048",
                "  chain       the leaf and 1 intermediate",
                "  bundle      1 CA certificate",
            ],
        ),
        (
            second,
            [
                "SVID 2 of 2",
                &format!("  SPIFFE ID   {EXPIRED_ID}"),
                "  hint        (none)",
                &format!("  serial      {}", serial(&response.svids[1])),
                "  key         P-256",
                "  chain       the leaf and 1 intermediate",
                "  bundle      1 CA certificate",
            ],
        ),
    ] {
        lines.iter().for_each(|line| assert!(block.lines().any(|found| found == *line), "{line:?}: {block}"));
    }
    assert!(first.contains("  valid to    2") && first.contains(" (2 hours"), "{first}");
    assert!(second.contains("(expired 1 day 3 hours ago)"), "{second}");
    assert!(first.contains("    CN=example.org root (until "), "{first}");
    let federated: Vec<_> = federated.lines().collect();
    assert_eq!(federated[..2], ["Federated trust domains", "  bundle      other.org: 3 CA certificates"]);
    assert_eq!(federated.len(), 5, "a line for each CA");
}

#[test]
fn inspect_prints_json_for_programs() {
    let pod = Pod::new();
    let (_agent, response) = agent(&pod);
    let finished = inspect(&pod, &["--output=json"]).succeeded();
    let json: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let svid = &json["svids"][0];
    assert_eq!(svid["spiffe_id"], ID);
    assert_eq!(svid["hint"], "internal");
    assert_eq!(svid["serial_number"], serial(&response.svids[0]));
    assert_eq!(svid["key_type"], "RSA 2048");
    assert_eq!(svid["chain_certificates"], 2);
    assert_eq!(svid["bundle_certificates"], 1);
    assert_eq!(svid["bundle"][0]["subject"], "CN=example.org root");
    for date in ["not_before", "not_after"] {
        assert!(svid["bundle"][0][date].as_str().is_some_and(|time| time.ends_with('Z')), "{svid}");
    }
    assert!(svid["seconds_left"].as_u64().is_some_and(|left| (6000..=7300).contains(&left)), "{svid}");
    assert!(svid["not_before"].as_str().is_some_and(|time| time.ends_with('Z')), "{svid}");
    assert!(svid["not_after"].as_str().is_some_and(|time| time.ends_with('Z')), "{svid}");
    assert_eq!(json["svids"][1]["seconds_left"], 0);
    assert_eq!(json["federated_trust_domains"]["other.org"]["bundle_certificates"], 3);
    assert_eq!(json["crls"], 0);
}

#[test]
fn inspect_shows_each_ca_with_its_end_and_counts_those_beyond_ten() {
    let pod = Pod::new();
    let mut svid = pod.mint();
    svid.bundle.extend(pod.authority.expired_root().repeat(11));
    let _agent = pod.agent(offer([svid]));
    let text = inspect(&pod, &[]).succeeded().stdout;
    assert_eq!(text.matches("    CN=example.org old root (expired 2").count(), 9, "{text}");
    assert!(text.contains("\n    and 2 more\n"), "{text}");
}

#[test]
fn inspect_says_from_when_on_an_svid_is_valid() {
    let pod = Pod::new();
    let mut recipe = Recipe::for_id(ID);
    recipe.not_before = SystemTime::now() + Duration::from_secs(3600);
    recipe.not_after = recipe.not_before + Duration::from_secs(3600);
    let _agent = pod.agent(offer([pod.authority.mint(&recipe)]));
    let text = inspect(&pod, &[]).succeeded().stdout;
    assert!(text.contains("(not valid until 2") && !text.contains("left"), "{text}");
    let json = inspect(&pod, &["--output=json"]).succeeded().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["svids"][0]["seconds_left"], 0);
}

#[test]
fn inspect_shows_the_first_date_of_1970_for_those_before_and_the_last_one_of_all() {
    let pod = Pod::new();
    let mut recipe = Recipe::for_id(ID);
    recipe.not_before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    recipe.not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let _agent = pod.agent(offer([pod.authority.mint(&recipe)]));
    let json = inspect(&pod, &["--output=json"]).succeeded().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["svids"][0]["not_before"], "1970-01-01T00:00:00Z");
    assert_eq!(json["svids"][0]["not_after"], "9999-12-31T23:59:59Z");
}

#[test]
fn inspect_never_shows_a_key_and_writes_nothing() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let key: String = svid.x509_svid_key[40..56].iter().map(|byte| format!("{byte:02x}")).collect();
    for arguments in [&["--log-level=trace"][..], &["--log-level=trace", "--output=json"]] {
        let finished = inspect(&pod, arguments).succeeded();
        for text in [finished.stdout, finished.log] {
            assert!(!text.contains("PRIVATE") && !text.contains(&key), "{text}");
        }
    }
    assert_eq!(names(&pod.volume()), [""; 0]);
}

#[test]
fn inspect_calls_once_and_reports_a_refusal() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    inspect(&pod, &[]).failed_with(&["PermissionDenied", "selectors"]);
    assert_eq!(agent.calls(), 1);
}

#[test]
fn inspect_without_an_agent_says_what_to_check() {
    inspect(&Pod::new(), &[]).failed_with(&["cannot connect", "is the agent running"]);
}

#[test]
fn inspect_waits_for_a_silent_agent_until_init_timeout() {
    let pod = Pod::new();
    let _agent = pod.agent(Reply::Silence);
    inspect(&pod, &["--init-timeout=300ms"]).failed_with(&["sent nothing", "within 300ms"]);
}

#[test]
fn inspect_shows_bad_svids_beside_good_ones() {
    let pod = Pod::new();
    let (good, mut bad) = (pod.mint(), pod.authority.mint(&Recipe::for_id(EXPIRED_ID).hint("\u{1b}[2J")));
    bad.bundle.pop();
    let mut response = X509SVIDResponse { svids: vec![bad, good], ..Default::default() };
    response.federated_bundles.insert(pod.federated.id(), vec![0x5a; 64]);
    let _agent = pod.agent(Reply::offer(&response));
    let text = inspect(&pod, &[]).succeeded().stdout;
    for line in [
        &format!("  SPIFFE ID   {EXPIRED_ID}"),
        "  hint        \\u{1b}[2J",
        "  not good    bundle: certificate 0 is not a DER certificate",
        &format!("  SPIFFE ID   {ID}"),
        "  key         P-256",
        "  not good    federated_bundles[\"spiffe://other.org\"]: certificate 0",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line:?}: {text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&inspect(&pod, &["--output=json"]).succeeded().stdout).expect("JSON");
    let error = |value: &serde_json::Value| value["error"].as_str().map(str::to_owned);
    assert!(error(&json["svids"][0]).is_some_and(|error| error.starts_with("bundle: ")), "{json}");
    assert_eq!(json["svids"][1]["spiffe_id"], ID);
    let federated = &json["federated_trust_domains"]["spiffe://other.org"];
    assert!(error(federated).is_some_and(|error| error.starts_with("certificate 0")), "{json}");
}

#[test]
fn inspect_fails_when_a_mandatory_field_is_empty() {
    let pod = Pod::new();
    let mut svid = pod.mint();
    svid.bundle.clear();
    let _agent = pod.agent(offer([svid]));
    inspect(&pod, &[]).failed_with(&["rejected", "svids[0]", "bundle: the mandatory field is empty"]);
}
