//! Manners towards the agent: no call for nothing, nobody starves, and what lasts is said once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use grpcio::RpcStatusCode;
use pod_svid_helper::for_tests::workload::{JWTBundlesResponse, JWTSVIDRequest, X509SVIDResponse};
use workload_api_server::authority::{Recipe, jwt_response};
use workload_api_server::raw::{RawPeer, say_at_once};
use workload_api_server::server::{Reply, WorkloadApiServer};

use crate::http::{ANY_PORT, Probe};
use crate::pod::{ID, Pod, offer, wait_until};

const LIFE: Duration = Duration::from_secs(300);

/// Options for so many tokens, each for an audience of its own.
fn tokens(number: usize) -> Vec<String> {
    (0..number).map(|number| format!("--jwt-svid={number}.jwt=audience-{number}")).collect()
}

/// Lets the agent issue at most one token in this time, as SPIRE does with a rate limit. Gives how many tokens
/// each audience has got.
fn issue_at_most_one_in(
    pod: &Pod,
    agent: &WorkloadApiServer,
    interval: Duration,
) -> Arc<Mutex<BTreeMap<String, u32>>> {
    let (authority, served) = (pod.authority.clone(), Arc::new(Mutex::new(BTreeMap::new())));
    let (last, counts) = (Mutex::new(None::<Instant>), served.clone());
    agent.issue_jwt(move |request: &JWTSVIDRequest| {
        let mut last = last.lock().expect("no panic");
        if last.is_some_and(|last| last.elapsed() < interval) {
            return Reply::Refuse(RpcStatusCode::UNAVAILABLE, "rate limit".to_owned());
        }
        *last = Some(Instant::now());
        *counts.lock().expect("no panic").entry(request.audience.join(",")).or_insert(0) += 1;
        Reply::offer(&jwt_response([authority.mint_jwt(ID, &request.audience, LIFE)]))
    });
    served
}

#[test]
fn an_agent_that_limits_calls_serves_each_token_once() {
    let (pod, agent) = Pod::with_agent();
    let served = issue_at_most_one_in(&pod, &agent, Duration::from_secs(1));
    let options = tokens(3);
    let options: Vec<_> = options.iter().map(String::as_str).chain(["--init-timeout=100s"]).collect();
    pod.init(&options).succeeded();
    let served = served.lock().expect("no panic");
    assert!(served.len() == 3 && served.values().all(|times| *times == 1), "{served:?}");
}

#[test]
fn ten_tokens_cost_ten_calls_when_an_agent_appears() {
    let pod = Pod::new();
    let options = tokens(10);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let mut refresh = pod.refresh(&options);
    refresh.wait_for_log(&["cannot connect"]);
    let agent = pod.agent_with_jwt(offer([pod.mint()]), LIFE);
    (0..10).for_each(|number| drop(pod.wait_for_file(&format!("{number}.jwt"), |_| true)));
    // Whatever was called for nothing is called by then.
    pod.rotate(&agent);
    assert_eq!(agent.jwt_calls(), 10);
    refresh.stop();
}

/// It stays expired: only the agent can bring another one.
#[test]
fn an_svid_that_has_expired_is_not_asked_for_again() {
    let pod = Pod::new();
    let expired = pod.authority.mint(&Recipe::for_id(ID).expired_for(Duration::from_secs(5)));
    let mut of_expired_ca = pod.mint();
    of_expired_ca.bundle = pod.authority.root_until(SystemTime::now() - Duration::from_secs(3600));
    for bad in [expired, of_expired_ca] {
        let pod = Pod::new();
        let agent = pod.agent(offer([bad]));
        let mut refresh = pod.refresh(&[]);
        refresh.wait_for_log(&["ERROR", "expired at"]);
        agent.reply(offer([pod.mint()]));
        refresh.wait_for_log(&["published"]);
        assert_eq!(agent.calls(), 1);
        refresh.stop();
    }
}

#[test]
fn init_asks_once_for_an_svid_that_has_expired() {
    let pod = Pod::new();
    let expired = pod.authority.mint(&Recipe::for_id(ID).expired_for(Duration::from_secs(5)));
    let agent = pod.agent(offer([expired]));
    pod.init_fails_with(&["expired at"]);
    assert!(agent.calls() <= 3, "an attempt of one second, and of a longer one: {} calls", agent.calls());
}

#[test]
fn a_silent_agent_is_named_within_seconds() {
    let pod = Pod::new();
    let _agent = pod.agent(Reply::Silence);
    let start = Instant::now();
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["WARN", "agent.sock", "sent nothing", "is the agent stopped or overloaded?"]);
    // It was a minute.
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
    refresh.stop();
}

#[test]
fn an_http_1_server_is_named_as_one() {
    let pod = Pod::new();
    let speech = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec();
    let _peer = RawPeer::on_socket(&pod.socket(), say_at_once(speech));
    // If its end comes before its words, gRPC has not read them: it is called again.
    let mut refresh = pod.refresh(&["--log-level=trace"]);
    refresh.wait_for_log(&["an HTTP/1 server listens there", "workload socket"]);
    refresh.stop();
}

/// The keys in another order.
fn reordered(jwks: &[u8]) -> Vec<u8> {
    let mut document: serde_json::Value = serde_json::from_slice(jwks).expect("JSON");
    document["keys"].as_array_mut().expect("keys").reverse();
    document.to_string().into_bytes()
}

#[test]
fn keys_in_another_order_are_no_change() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), LIFE);
    let one: serde_json::Value = serde_json::from_slice(&pod.authority.jwks()).expect("JSON");
    let two: serde_json::Value = serde_json::from_slice(&pod.federated.jwks()).expect("JSON");
    let keys = [one["keys"][0].clone(), two["keys"][0].clone()];
    let jwks = serde_json::json!({ "keys": keys }).to_string().into_bytes();
    let bundles = |document: &[u8]| {
        let bundles = [(pod.authority.id(), document.to_vec())].into_iter().collect();
        Reply::offer(&JWTBundlesResponse { bundles, ..Default::default() })
    };
    agent.reply_with_jwt_bundles(bundles(&jwks));
    let hook = pod.script("echo \"$SVID_PATH\" >>$0/runs");
    let mut refresh =
        pod.helper(&["--mode=refresh", "--jwt-bundle-file-name=jwks.json", ANY_PORT]).command(&hook).start();
    let probe = Probe::of(&mut refresh);
    pod.wait_for_file("jwks.json", |text| text.as_bytes() == jwks);
    wait_until("the hook has run", || pod.runs().lines().count() == 1);
    let publications = || probe.metric("publications_total");
    let before = publications();
    agent.reply_with_jwt_bundles(bundles(&reordered(&jwks)));
    agent.reply_with_jwt_bundles(bundles(&jwks));
    agent.reply_with_jwt_bundles(bundles(&reordered(&jwks)));
    // Behind them comes a change.
    agent.reply_with_jwt_bundles(bundles(&pod.federated.jwks()));
    refresh.wait_for_log(&["published the JWT bundles as jwks.json", ": keys changed"]);
    assert_eq!(publications(), before.map(|number| number + 1.0));
    refresh.stop();
}

#[test]
fn a_bad_federated_bundle_in_every_response_is_one_warning() {
    let pod = Pod::new();
    let response = || {
        let mut response = X509SVIDResponse { svids: vec![pod.mint()], ..Default::default() };
        response.federated_bundles.insert("spiffe://bad.test".to_owned(), b"garbage".to_vec());
        response
    };
    let agent = pod.agent(Reply::offer(&response()));
    let refresh = pod.refresh(&["--include-federated-bundles"]);
    for _ in 0..10 {
        let response = response();
        agent.offer(&response);
        pod.wait_for(&response.svids[0]);
    }
    let log = refresh.stop();
    let warnings: Vec<_> = log.iter().filter(|line| line.contains("left out a federated bundle")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("WARN"), "{warnings:?}");
}

#[test]
fn a_first_identity_that_changes_is_a_warning_with_both_ids() {
    const OTHER: &str = "spiffe://example.org/other";
    let (pod, agent) = Pod::with_agent();
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["INFO", "published", ID]);
    agent.reply(offer([pod.authority.mint(&Recipe::for_id(OTHER)), pod.mint()]));
    refresh.wait_for_log(&["WARN", "published", OTHER, &format!("identity was {ID}"), "--pod-spiffe-id"]);
    refresh.stop();
}

#[test]
fn damage_that_a_probe_finds_is_repaired_at_once_and_notifies_nobody() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let hook = pod.script("echo run >>$0/runs");
    let mut refresh = pod.helper(&["--mode=refresh", ANY_PORT]).command(&hook).start();
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    pod.wait_for_runs("run\n");
    std::fs::remove_file(pod.volume().join("..data/bundle.pem")).expect("a file");
    let start = Instant::now();
    probe.wait_until_ready_is(503);
    probe.wait_until_ready_is(200);
    // The files are looked at each minute, and at once when a probe finds damage.
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
    refresh.wait_for_log(&["INFO", "published", ": files restored"]);
    refresh.stop();
    assert_eq!(pod.runs(), "run\n");
}
