//! What takes half a minute by the helper's own clock. (First in the alphabet, so that it runs beside
//! all other tests.)

use std::sync::Arc;
use std::time::{Duration, Instant};

use grpcio::RpcStatusCode;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use pod_svid_helper::for_tests::workload::{JWTBundlesResponse, X509SVIDResponse};
use workload_api_server::authority::{Authority, Recipe, jwt_response};
use workload_api_server::server::Reply;
use workload_api_server::wit::{WitRecipe, wit_response};

use crate::pod::{
    Helper, ID, OTHER_ID, Pod, Running, claims, is_emulated, jwt_bundles, names, offer, wait_until,
};
use crate::process::cpu_time;

#[test]
fn a_denied_token_withdraws_nothing_that_the_stream_of_svids_offers() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    let mut refresh = pod.refresh(&["--on-revoked=remove", "--jwt-svid=token.jwt=one"]);
    pod.wait_for(&svid);
    let first = agent.jwt_calls();
    let denied_for = Instant::now();
    // Two more calls after half a minute: the second one is a withdrawal if any is.
    wait_until("half a minute is over", || denied_for.elapsed() > Duration::from_secs(31));
    let calls = agent.jwt_calls();
    assert!(calls > first, "it was denied {calls} times");
    wait_until("it was denied twice more", || agent.jwt_calls() >= calls + 2);
    refresh.wait_for_log(&["JWT-SVID token.jwt", "PermissionDenied"]);
    pod.wait_for(&svid);
    let log = refresh.stop();
    assert!(!log.iter().any(|line| line.contains("withdrawn the identity")), "{log:#?}");
}

/// An agent whose server is away answers from its cache then.
#[test]
fn a_token_that_comes_after_half_a_minute_is_in_time_for_init() {
    if is_emulated("times") {
        return;
    }
    let (pod, agent) = Pod::with_agent();
    let authority = pod.authority.clone();
    agent.issue_jwt(move |request| {
        std::thread::sleep(Duration::from_secs(31));
        Reply::offer(&jwt_response([authority.mint_jwt(ID, &request.audience, Duration::from_secs(300))]))
    });
    pod.init(&["--jwt-svid=token.jwt=one", "--init-timeout=60s"]).succeeded();
    pod.read("token.jwt");
    assert_eq!(agent.jwt_calls(), 1);
}

/// The agent was replaced by one that does not know the workload.
#[test]
fn half_a_minute_of_denials_alone_is_a_withdrawal() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    let mut refresh = pod.refresh(&["--on-revoked=remove"]);
    pod.wait_for(&svid);
    drop(agent);
    let start = Instant::now();
    let agent = pod.agent(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "removes the files"]);
    assert!(start.elapsed() >= Duration::from_secs(29), "{:?}", start.elapsed());
    wait_until("nothing is left", || names(&pod.volume()).is_empty());
    pod.rotate_to(&agent, &svid);
    let log = refresh.stop();
    assert_eq!(log.iter().filter(|line| line.contains("withdrawn the identity")).count(), 1, "{log:#?}");
}

/// The entry was deleted while the agent was away.
#[test]
fn half_a_minute_of_a_new_stream_without_the_identity_is_a_withdrawal() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    let mut refresh = pod.refresh(&["--on-revoked=remove", &format!("--pod-spiffe-id={ID}")]);
    pod.wait_for(&svid);
    drop(agent);
    let start = Instant::now();
    let agent = pod.agent(offer([pod.authority.mint(&Recipe::for_id(OTHER_ID))]));
    withdraws_after_half_a_minute(&pod, &mut refresh, start);
    pod.rotate_to(&agent, &svid);
    refresh.stop();
}

#[test]
fn half_a_minute_of_a_new_stream_without_the_wit_svid_is_a_withdrawal() {
    let pod = Pod::new();
    let offers = |id| {
        let response = wit_response([WitRecipe::for_id(id).mint(&pod.authority)]);
        pod.agent_after(Reply::Silence, |agent| agent.reply_with_wit(response))
    };
    let agent = offers(ID);
    let (token, key) = ("--wit-svid-file-name=wit.jwt", "--wit-key-file-name=wit.jwk");
    let id = format!("--pod-spiffe-id={ID}");
    let mut refresh = pod.refresh(&["--x509=false", token, key, "--on-revoked=remove", &id]);
    pod.wait_for_file("wit.jwt", |_| true);
    drop(agent);
    let start = Instant::now();
    let _agent = offers(OTHER_ID);
    withdraws_after_half_a_minute(&pod, &mut refresh, start);
    refresh.stop();
}

/// The stream of keys shows what the token's own calls would show at its renewal.
#[test]
fn half_a_minute_after_the_keys_are_denied_a_token_alone_is_withdrawn() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(Reply::Silence, Duration::from_secs(3600));
    let mut refresh = pod.refresh(&["--x509=false", "--jwt-svid=token.jwt=one", "--on-revoked=remove"]);
    pod.wait_for_file("token.jwt", |_| true);
    wait_until("the keys are watched", || agent.jwt_bundle_calls() > 0);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    agent.reply_with_jwt_bundles(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "removes the files"]);
    wait_until("nothing is left", || names(&pod.volume()).is_empty());
    refresh.stop();
}

fn withdraws_after_half_a_minute(pod: &Pod, refresh: &mut Running, start: Instant) {
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "removes the files", "does not offer"]);
    assert!(start.elapsed() >= Duration::from_secs(29), "{:?}", start.elapsed());
    wait_until("nothing is left", || names(&pod.volume()).is_empty());
}

/// A proxy between agent and helper ends each stream, for example.
#[test]
fn denials_on_streams_that_end_again_and_again_add_up_to_a_withdrawal() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    let mut refresh = pod.refresh(&["--on-revoked=remove", &format!("--pod-spiffe-id={ID}")]);
    pod.wait_for(&svid);
    let start = Instant::now();
    wait_until("the identity is withdrawn", || {
        agent.reply(Reply::Close);
        agent.reply(offer([pod.authority.mint(&Recipe::for_id(OTHER_ID))]));
        std::thread::sleep(Duration::from_secs(5));
        names(&pod.volume()).is_empty()
    });
    assert!(start.elapsed() >= Duration::from_secs(29), "{:?}", start.elapsed());
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "does not offer"]);
    refresh.stop();
}

#[test]
fn an_identity_that_was_never_there_is_not_withdrawn_and_the_keys_stay_and_are_renewed() {
    let (pod, agent) = Pod::with_agent();
    agent.reply_with_jwt_bundles(jwt_bundles([&pod.authority]));
    let id = format!("--pod-spiffe-id={OTHER_ID}");
    let keys = "--jwt-bundle-file-name=jwks.json";
    // The second one finds the keys of the first one.
    for key_id in ["first", "second"] {
        let calls = agent.calls();
        let mut refresh = pod.refresh(&["--on-revoked=remove", keys, &id, "--log-level=debug"]);
        pod.wait_for_file("jwks.json", |_| true);
        // After half a minute, the agent is asked once more: its answer is a withdrawal if any is.
        wait_until("the agent is asked again", || agent.calls() >= calls + 2);
        refresh.wait_for_log(&["DEBUG", "does not offer", OTHER_ID]);
        let renewed = Arc::new(Authority::with_jwt_key_id("example.org", key_id));
        agent.reply_with_jwt_bundles(jwt_bundles([&renewed]));
        pod.wait_for_file("jwks.json", |text| text.as_bytes() == renewed.jwks());
        let log = refresh.stop();
        assert!(!log.iter().any(|line| line.contains("withdrawn the identity")), "{log:#?}");
    }
}

/// The files of its predecessor, which had other options, do not read back whole.
#[test]
fn half_a_minute_of_denials_removes_files_of_an_earlier_helper_with_other_options() {
    let (pod, agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    let mut refresh = pod.refresh(&["--on-revoked=remove", "--combined-file-name=all.pem"]);
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "removes the files"]);
    wait_until("nothing is left", || names(&pod.volume()).is_empty());
    refresh.stop();
}

/// It looks at its files once a minute, while there are any.
#[test]
fn a_minute_after_its_files_were_removed_refresh_is_at_rest() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    let mut refresh = pod.refresh(&["--on-revoked=remove"]);
    pod.wait_for(&svid);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "removes the files"]);
    rest_around_a_minute_after(Instant::now(), refresh.pid());
    pod.rotate_to(&agent, &svid);
    refresh.stop();
}

/// The time of the helper's CPU in the seconds around the look at the files, a minute after a moment.
fn rest_around_a_minute_after(start: Instant, pid: Pid) {
    let wait_for = |seconds| wait_until("a time is over", || start.elapsed() > Duration::from_secs(seconds));
    wait_for(55);
    let before = cpu_time(pid);
    wait_for(65);
    let took = cpu_time(pid) - before;
    assert!(took < Duration::from_millis(500), "{took:?} in 10 s");
}

/// A hook that does not end when it is asked to, but with the pod.
const STUBBORN: &str = r#"trap '' TERM; while [ -d "$0" ]; do sleep 1; done"#;

#[test]
fn a_helper_that_waits_for_its_hook_to_end_is_at_rest() {
    let (pod, _agent) = Pod::with_agent();
    let hook = pod.script(STUBBORN);
    let mut refresh = pod.helper(&["--mode=refresh"]).command(&hook).start();
    refresh.wait_for_log(&["running /bin/sh"]);
    let start = Instant::now();
    refresh.signal(Signal::SIGTERM);
    refresh.wait_for_log(&["waiting for it to end"]);
    rest_around_a_minute_after(start, refresh.pid());
}

#[test]
fn init_is_at_rest_while_its_hook_runs() {
    let (pod, _agent) = Pod::with_agent();
    let hook = pod.script(STUBBORN);
    let mut init = pod.helper(&["--mode=init", "--init-timeout=1h"]).command(&hook).start();
    init.wait_for_log(&["running /bin/sh"]);
    rest_around_a_minute_after(Instant::now(), init.pid());
}

/// The agent sends each once.
#[test]
fn federated_bundles_that_stay_broken_are_a_warning_again_after_a_minute() {
    let (x509, jwt) = (Pod::new(), Pod::new());
    let mut response = X509SVIDResponse { svids: vec![x509.mint()], ..Default::default() };
    response.federated_bundles.insert(x509.federated.id(), b"broken".to_vec());
    let _x509_agent = x509.agent(Reply::offer(&response));
    let mut response = JWTBundlesResponse::new();
    response.bundles.insert(jwt.authority.id(), jwt.authority.jwks());
    response.bundles.insert(jwt.federated.id(), b"broken".to_vec());
    let _jwt_agent = jwt.agent_after(offer([jwt.mint()]), |agent| {
        agent.reply_with_jwt_bundles(Reply::offer(&response));
    });
    const OPTIONS: [&str; 2] = ["--include-federated-bundles", "--jwt-bundle-file-name=jwks.json"];
    let helpers = [(x509.refresh(&OPTIONS[..1]), "federated bundle"), (jwt.refresh(&OPTIONS), "JWT bundle")];
    for (mut refresh, what) in helpers {
        refresh.wait_for_log(&["WARN", "left out a federated ", what, "spiffe://other.org"]);
        refresh.wait_for_log(&["WARN", "left out a federated ", what, "spiffe://other.org", " now)"]);
        refresh.stop();
    }
}

/// The agent is away meanwhile: the keystores keep the old password, and `check` expects the new one.
#[test]
fn a_password_of_keystores_that_changes_is_told_within_a_minute() {
    let (pod, agent) = Pod::with_agent();
    let path = pod.path().join("password");
    std::fs::write(&path, "the first").expect("a file");
    let options = ["--keystore-file-name=svid.p12", &format!("--keystore-password-file={}", path.display())];
    let mut refresh = pod.refresh(&options);
    refresh.wait_for_log(&["INFO", "published"]);
    drop(agent);
    std::fs::write(&path, "the second").expect("a file");
    let told =
        "the password of the keystores has changed; asking the agent for the SVID again, to make new ones";
    refresh.wait_for_log(&["INFO", told]);
    let volume = format!("--svid-path={}", pod.volume().display());
    let check = || Helper::new().arguments(&["--mode=check", &volume]).arguments(&options).finish();
    check().failed_with(&["svid.p12", "password"]);
    let _agent = pod.agent(offer([pod.mint()]));
    refresh.wait_for_log(&["INFO", "published"]);
    check().succeeded();
    refresh.stop();
}

/// The second error is the reminder of a minute.
#[test]
fn a_pid_file_with_the_helpers_own_number_is_an_error_and_refresh_goes_on() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[&pod.pid_file("")]);
    pod.pid_file(refresh.pid());
    for _ in 0..2 {
        pod.rotate(&agent);
        refresh.wait_for_log(&["ERROR", "app.pid", "is this process itself", "shareProcessNamespace"]);
    }
    refresh.stop();
}

#[test]
fn refresh_renews_a_token_at_55_to_60_percent_of_its_life() {
    let pod = Pod::new();
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(60));
    let refresh = pod.refresh(&["--jwt-svid=token.jwt=one"]);
    let first = pod.wait_for_file("token.jwt", |_| true);
    let second = pod.wait_for_file("token.jwt", |token| token != first);
    let issued = |token: &str| claims(token)["iat"].as_f64().expect("a time");
    let age = issued(&second) - issued(&first);
    // Not before, and long before the first one's end, however slow the machine.
    assert!((33.0..60.0).contains(&age), "{age}");
    refresh.stop();
}

#[test]
fn a_hook_that_does_not_end_is_a_warning_after_a_minute() {
    let (pod, _agent) = Pod::with_agent();
    let hook = ["/bin/sleep", "1000"];
    let mut refresh = pod.helper(&["--mode=refresh"]).command(&hook).start();
    refresh.wait_for_log(&["running /bin/sleep"]);
    let began = Instant::now();
    refresh.wait_for_log(&["WARN", "/bin/sleep", "has been running for more than a minute"]);
    assert!(began.elapsed() > Duration::from_secs(58), "{:?}", began.elapsed());
    refresh.stop();
}
