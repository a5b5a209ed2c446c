//! JWT-SVIDs and JWT bundles in files.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grpcio::RpcStatusCode;
use nix::sys::signal::Signal;
use pod_svid_helper::for_tests::workload::JWTSVID;
use workload_api_server::authority::{Authority, Recipe, jwt_response};
use workload_api_server::server::{Reply, WorkloadApiServer};

use crate::pod::{ID, Pod, claims, jwt_bundles, mode_of, names, offer, wait_until};

const LONG: Duration = Duration::from_secs(300);
const JWT_ALONE: &str = "--x509=false";
const TOKEN: &str = "--jwt-svid=token.jwt=one,two";

#[test]
fn init_writes_a_token_for_the_audience_beside_the_pem_files() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent_with_jwt(offer([svid.clone()]), LONG);
    let log = pod.init(&[TOKEN]).succeeded().log;
    pod.wait_for(&svid);
    let token = pod.read("token.jwt");
    assert_eq!(claims(&token)["sub"], ID);
    assert_eq!(claims(&token)["aud"], serde_json::json!(["one", "two"]));
    assert!(!token.ends_with('\n'));
    assert!(log.contains(&format!("published the JWT-SVID of {ID} for one, two (valid until 2")), "{log}");
    pod.holds_one_set();
}

#[test]
fn only_the_owner_reads_a_token_unless_its_mode_is_set() {
    let pod = Pod::new();
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    pod.init(&[TOKEN]).succeeded();
    assert_eq!(mode_of(&pod.volume().join("token.jwt")), 0o600);
    pod.init(&[TOKEN, "--jwt-file-mode=0640"]).succeeded();
    assert_eq!(mode_of(&pod.volume().join("token.jwt")), 0o640);
}

#[test]
fn several_tokens_are_named_by_several_flags_or_by_lines_of_the_variable() {
    let flags = ["--jwt-svid=a.jwt=one", "--jwt-svid=b.jwt=spiffe://example.org/two"];
    let by_flags = |pod: &Pod| pod.helper(&flags);
    let by_variable = |pod: &Pod| {
        pod.helper(&[]).variable("HELPER_JWT_SVID", "a.jwt=one\nb.jwt=spiffe://example.org/two\n")
    };
    for helper in [&by_flags as &dyn Fn(&Pod) -> crate::pod::Helper, &by_variable] {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
        helper(&pod).finish().succeeded();
        assert_eq!(claims(&pod.read("a.jwt"))["aud"], serde_json::json!(["one"]));
        assert_eq!(claims(&pod.read("b.jwt"))["aud"], serde_json::json!(["spiffe://example.org/two"]));
    }
}

#[test]
fn the_token_has_the_id_of_pod_spiffe_id() {
    let pod = Pod::new();
    let wanted = "spiffe://example.org/wanted";
    let _agent = pod.agent_with_jwt(Reply::refuse(RpcStatusCode::UNAVAILABLE), LONG);
    pod.init(&[JWT_ALONE, TOKEN, &format!("--pod-spiffe-id={wanted}")]).succeeded();
    assert_eq!(claims(&pod.read("token.jwt"))["sub"], wanted);
}

/// A token of this ID, with this hint.
fn token(pod: &Pod, id: &str, hint: &str) -> JWTSVID {
    let audience = ["one".to_owned(), "two".to_owned()];
    JWTSVID { hint: hint.to_owned(), ..pod.authority.mint_jwt(id, &audience, LONG) }
}

#[test]
fn the_token_has_the_hint_that_was_asked_for() {
    let (pod, agent) = Pod::with_agent();
    let tokens = [token(&pod, "spiffe://example.org/other", "external"), token(&pod, ID, "internal")];
    agent.issue_jwt(move |_| Reply::offer(&jwt_response(tokens.clone())));
    pod.init(&[JWT_ALONE, TOKEN, "--hint=internal"]).succeeded();
    assert_eq!(claims(&pod.read("token.jwt"))["sub"], ID);
}

#[test]
fn jwt_alone_writes_no_pem_file() {
    let pod = Pod::new();
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    pod.init(&[JWT_ALONE, TOKEN, "--jwt-bundle-file-name=jwks.json"]).succeeded();
    assert_eq!(names(&pod.volume().join("..data")), ["jwks.json", "token.jwt"]);
    pod.holds_one_set();
}

#[test]
fn the_renewal_of_a_token_does_not_touch_the_pem_files() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent_with_jwt(offer([svid.clone()]), Duration::from_secs(2));
    let refresh = pod.refresh(&[TOKEN]);
    pod.wait_for(&svid);
    let inode = || std::fs::metadata(pod.volume().join("svid-key.pem")).expect("a key").ino();
    let (first, key) = (pod.wait_for_file("token.jwt", |_| true), inode());
    pod.wait_for_file("token.jwt", |token| token != first);
    pod.wait_for(&svid);
    assert_eq!(inode(), key);
    refresh.stop();
    pod.holds_one_set();
}

#[test]
fn the_rotation_of_an_svid_does_not_touch_the_token() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent_with_jwt(offer([first.clone()]), LONG);
    let refresh = pod.refresh(&[TOKEN]);
    pod.wait_for(&first);
    let token = pod.wait_for_file("token.jwt", |_| true);
    pod.rotate_to(&agent, &second);
    assert_eq!(pod.read("token.jwt"), token);
    refresh.stop();
}

#[test]
fn a_jwt_fault_does_not_hold_up_x509() {
    let faults: [fn() -> Reply; 4] = [
        || Reply::refuse(RpcStatusCode::PERMISSION_DENIED),
        || Reply::refuse(RpcStatusCode::UNIMPLEMENTED),
        || Reply::Silence,
        || Reply::Send(vec![0xff; 16]),
    ];
    for fault in faults {
        let pod = Pod::new();
        let (first, second) = (pod.mint(), pod.mint());
        let agent = pod.agent(offer([first.clone()]));
        agent.issue_jwt(move |_| fault());
        agent.reply_with_jwt_bundles(fault());
        let refresh = pod.refresh(&[TOKEN, "--jwt-bundle-file-name=jwks.json"]);
        pod.wait_for(&first);
        pod.rotate_to(&agent, &second);
        refresh.stop();
    }
}

#[test]
fn an_x509_fault_does_not_hold_up_jwt() {
    for fault in [RpcStatusCode::PERMISSION_DENIED, RpcStatusCode::UNIMPLEMENTED] {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(Reply::refuse(fault), Duration::from_secs(2));
        let refresh = pod.refresh(&[TOKEN]);
        let first = pod.wait_for_file("token.jwt", |_| true);
        pod.wait_for_file("token.jwt", |token| token != first);
        refresh.stop();
    }
}

#[test]
fn init_publishes_the_parts_that_arrive_and_fails_for_the_others() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNIMPLEMENTED));
    let finished = pod.init(&[TOKEN, "--init-timeout=1h"]);
    finished.failed_with(&["not everything arrived", "JWT-SVID token.jwt", "Unimplemented"]);
    pod.wait_for(&svid);
}

#[test]
fn init_does_not_hold_up_x509_for_a_token_that_does_not_come() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    agent.issue_jwt(|_| Reply::Silence);
    let mut init = pod.helper(&[TOKEN, "--init-timeout=1h"]).start();
    pod.wait_for(&svid);
    drop(agent);
    let agent = pod.agent(offer([svid]));
    pod.issue_jwt(&agent, LONG);
    pod.wait_for_file("token.jwt", |_| true);
    init.finish(0);
}

/// A token that is not good is discarded with a reason; the one before it stays, and the next good
/// one is taken.
fn is_discarded(claims: serde_json::Value, parts: &[&str]) {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(2));
    let mut refresh = pod.refresh(&[TOKEN]);
    pod.wait_for_file("token.jwt", |_| true);
    let bad = pod.authority.sign_jwt(ID, &claims);
    let text = bad.svid.clone();
    agent.issue_jwt(move |_| Reply::offer(&jwt_response([bad.clone()])));
    refresh.wait_for_log(&[&["ERROR", "JWT-SVID token.jwt"], parts].concat());
    let kept = pod.read("token.jwt");
    assert_ne!(kept, text);
    pod.issue_jwt(&agent, LONG);
    pod.wait_for_file("token.jwt", |token| token != kept && token != text);
    refresh.stop();
}

#[test]
fn a_token_of_another_subject_is_discarded() {
    let other = "spiffe://example.org/other";
    let claims = serde_json::json!({ "sub": other, "aud": ["one", "two"], "exp": 9_999_999_999u64 });
    is_discarded(claims, &["svids[0]", "its subject is", other]);
}

#[test]
fn a_token_whose_claims_cannot_be_read_is_discarded() {
    is_discarded(serde_json::json!("what"), &["svids[0]", "claims cannot be read"]);
}

#[test]
fn a_token_for_another_audience_is_discarded() {
    let claims = serde_json::json!({ "sub": ID, "aud": ["one"], "exp": 9_999_999_999u64 });
    is_discarded(claims, &["svids[0]", "audience \"two\""]);
}

#[test]
fn a_token_that_has_expired_is_discarded() {
    let claims = serde_json::json!({ "sub": ID, "aud": ["one", "two"], "exp": 1 });
    is_discarded(claims, &["expired at 1970-01-01T00:00:01Z", "server behind the agent"]);
}

#[test]
fn a_token_that_is_not_valid_yet_is_published_when_its_time_comes() {
    let (pod, agent) = Pod::with_agent();
    let (first, too_early) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
    let (authority, first_call, counter) = (pod.authority.clone(), first.clone(), too_early.clone());
    agent.issue_jwt(move |_| {
        // However slow the machine, the first call is too early.
        let begins = *first_call.get_or_init(|| SystemTime::now() + Duration::from_secs(10));
        counter.fetch_add(usize::from(SystemTime::now() < begins), Ordering::Relaxed);
        let seconds = begins.duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let claims =
            serde_json::json!({ "sub": ID, "aud": ["one", "two"], "nbf": seconds, "exp": 9_999_999_999u64 });
        Reply::offer(&jwt_response([authority.sign_jwt(ID, &claims)]))
    });
    let mut refresh = pod.refresh(&[JWT_ALONE, TOKEN]);
    refresh.wait_for_log(&["ERROR", "JWT-SVID", ID, "is not valid until", "clock", "retrying in"]);
    pod.wait_for_file("token.jwt", |_| true);
    let is_valid = first.get().is_some_and(|begins| SystemTime::now() >= *begins);
    assert!(is_valid, "it was published before its time");
    assert_eq!(too_early.load(Ordering::Relaxed), 1, "calls before its time");
    refresh.stop();
}

#[test]
fn a_token_with_dates_before_1970_and_after_9999_is_published() {
    let (pod, agent) = Pod::with_agent();
    let claims = serde_json::json!({
        "sub": ID, "aud": ["one", "two"], "iat": -1, "nbf": -1e18, "exp": 1e18
    });
    let token = pod.authority.sign_jwt(ID, &claims);
    let text = token.svid.clone();
    agent.issue_jwt(move |_| Reply::offer(&jwt_response([token.clone()])));
    let refresh = pod.refresh(&[JWT_ALONE, TOKEN]);
    assert_eq!(pod.wait_for_file("token.jwt", |_| true), text);
    let check = pod.check(&[JWT_ALONE, TOKEN]).succeeded();
    assert!(check.stdout.contains("9999-12-31"), "{}", check.stdout);
    refresh.stop();
}

#[test]
fn a_response_without_tokens_is_discarded() {
    let (pod, agent) = Pod::with_agent();
    agent.issue_jwt(|_| Reply::offer(&jwt_response([])));
    let mut refresh = pod.refresh(&[TOKEN]);
    refresh.wait_for_log(&["ERROR", "JWT-SVID token.jwt", "svids: the mandatory field is empty", "retrying"]);
    refresh.stop();
}

#[test]
fn the_end_of_a_token_that_is_not_renewed_is_an_error() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(3));
    let mut refresh = pod.refresh(&[TOKEN]);
    pod.wait_for_file("token.jwt", |_| true);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNAVAILABLE));
    refresh.wait_for_log(&["ERROR", "JWT-SVID token.jwt", ID, "expired at"]);
    pod.read("token.jwt");
    refresh.stop();
}

#[test]
fn an_old_token_that_the_agent_keeps_handing_out_is_not_asked_for_in_a_loop() {
    let (pod, agent) = Pod::with_agent();
    // Issued long ago, and good for a while yet.
    let claims = serde_json::json!({ "sub": ID, "aud": ["one", "two"], "iat": 1, "exp": 2_000_000_000 });
    let overdue = pod.authority.sign_jwt(ID, &claims);
    agent.issue_jwt(move |_| Reply::offer(&jwt_response([overdue.clone()])));
    let refresh = pod.refresh(&[JWT_ALONE, TOKEN]);
    wait_until("it is asked for again", || agent.jwt_calls() == 2);
    // By then, five seconds have passed.
    refresh.stop();
    assert_eq!(agent.jwt_calls(), 2);
}

/// A restarted agent knows no workload for some seconds.
#[test]
fn a_refused_renewal_withdraws_no_token() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent_with_jwt(offer([svid.clone()]), Duration::from_secs(2));
    let mut refresh = pod.refresh(&[TOKEN, "--on-revoked=remove"]);
    pod.wait_for(&svid);
    let token = pod.wait_for_file("token.jwt", |_| true);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["WARN", "JWT-SVID token.jwt", "PermissionDenied", "retrying in"]);
    pod.read("token.jwt");
    pod.issue_jwt(&agent, LONG);
    pod.wait_for_file("token.jwt", |new| new != token);
    refresh.stop();
}

#[test]
fn a_withdrawn_identity_keeps_its_token_by_default() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    let mut refresh = pod.refresh(&[TOKEN]);
    let token = pod.wait_for_file("token.jwt", |_| true);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "the files stay"]);
    refresh.wait_for_log(&["WARN", "JWT-SVID token.jwt", "PermissionDenied"]);
    assert_eq!(pod.read("token.jwt"), token);
    refresh.stop();
}

#[test]
fn an_identity_that_is_withdrawn_takes_its_token_along() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent_with_jwt(offer([svid.clone()]), LONG);
    let refresh = pod.refresh(&[TOKEN, "--on-revoked=remove"]);
    pod.wait_for(&svid);
    pod.wait_for_file("token.jwt", |_| true);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    wait_until("nothing is left", || names(&pod.volume()).is_empty());
    refresh.stop();
}

/// Some agents send the keys to anybody.
#[test]
fn keys_come_back_with_a_withdrawn_identity_and_not_before() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    agent.reply_with_jwt_bundles(jwt_bundles([&pod.authority]));
    let mut refresh = pod.refresh(&["--jwt-bundle-file-name=jwks.json", "--on-revoked=remove"]);
    pod.wait_for(&svid);
    pod.wait_for_file("jwks.json", |text| text.as_bytes() == pod.authority.jwks());
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "removes the files"]);
    let renewed = Arc::new(Authority::with_jwt_key_id("example.org", "renewed"));
    let calls = agent.calls();
    agent.reply_with_jwt_bundles(jwt_bundles([&renewed]));
    wait_until("it was denied twice more", || agent.calls() >= calls + 2);
    assert_eq!(names(&pod.volume()), [""; 0]);
    pod.rotate_to(&agent, &svid);
    pod.wait_for_file("jwks.json", |text| text.as_bytes() == renewed.jwks());
    let log = refresh.stop();
    assert_eq!(log.iter().filter(|line| line.contains("withdrawn the identity")).count(), 1, "{log:#?}");
}

#[test]
fn a_token_that_comes_after_the_withdrawal_is_not_written() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent_with_jwt(offer([svid.clone()]), LONG);
    let (answer, answers) = std::sync::mpsc::channel::<()>();
    let (authority, answers) = (pod.authority.clone(), std::sync::Mutex::new(answers));
    agent.issue_jwt(move |request| {
        let _ = answers.lock().expect("no panic in a call").recv();
        Reply::offer(&jwt_response([authority.mint_jwt(ID, &request.audience, LONG)]))
    });
    let mut refresh = pod.refresh(&[TOKEN, "--on-revoked=remove"]);
    pod.wait_for(&svid);
    wait_until("a token is asked for", || agent.jwt_calls() > 0);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["ERROR", "withdrawn the identity", "removes the files"]);
    drop(answer);
    wait_until("a token was refused twice", || agent.jwt_calls() > 2);
    assert_eq!(names(&pod.volume()), [""; 0]);
    refresh.stop();
}

#[test]
fn refresh_keeps_the_token_of_init_while_the_agent_has_none() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent_with_jwt(offer([first.clone()]), LONG);
    pod.init(&[TOKEN]).succeeded();
    let token = pod.read("token.jwt");
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNAVAILABLE));
    agent.reply(offer([second.clone()]));
    let refresh = pod.refresh(&[TOKEN]);
    pod.wait_for(&second);
    assert_eq!(pod.read("token.jwt"), token);
    refresh.stop();
}

#[test]
fn refresh_keeps_the_pem_files_of_init_while_the_agent_has_none() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent_with_jwt(offer([svid.clone()]), LONG);
    pod.init(&[TOKEN]).succeeded();
    let token = pod.read("token.jwt");
    agent.reply(Reply::refuse(RpcStatusCode::UNAVAILABLE));
    let refresh = pod.refresh(&[TOKEN]);
    pod.wait_for_file("token.jwt", |new| new != token);
    pod.wait_for(&svid);
    refresh.stop();
}

#[test]
fn a_token_of_init_that_another_user_owns_does_not_hold_up_x509() {
    if !crate::pod::is_root() {
        crate::pod::skip("not root: no other user to become");
        return;
    }
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent_with_jwt(offer([first.clone()]), LONG);
    std::fs::set_permissions(pod.volume(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("its permissions");
    pod.init(&[TOKEN]).succeeded();
    agent.issue_jwt(|_| Reply::Silence);
    agent.reply(offer([second.clone()]));
    let mut refresh = pod.helper(&["--mode=refresh", TOKEN]).run_by_nobody().start();
    refresh.wait_for_log(&["published", ID]);
    pod.wait_for_file("svid.pem", |text| crate::pod::ders(text, "CERTIFICATE") == second.x509_svid);
    refresh.stop();
}

#[test]
fn a_token_that_is_no_longer_asked_for_disappears() {
    let pod = Pod::new();
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    pod.init(&[TOKEN]).succeeded();
    pod.init(&[]).succeeded();
    assert_eq!(names(&pod.volume().join("..data")), ["bundle.pem", "svid-key.pem", "svid.pem"]);
}

const BUNDLE: &str = "--jwt-bundle-file-name=jwks.json";

#[test]
fn the_own_trust_domains_keys_are_written_as_they_came() {
    let pod = Pod::new();
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    pod.init(&[BUNDLE]).succeeded();
    assert_eq!(pod.read("jwks.json").as_bytes(), pod.authority.jwks());
    assert_eq!(mode_of(&pod.volume().join("jwks.json")), 0o644);
    assert!(!names(&pod.volume()).contains(&"other.org.jwks.json".to_owned()));
}

#[test]
fn federated_trust_domains_keys_have_files_of_their_own_and_go_with_the_federation() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    let refresh = pod.refresh(&[BUNDLE, "--include-federated-bundles"]);
    pod.wait_for_file("other.org.jwks.json", |text| text.as_bytes() == pod.federated.jwks());
    agent.reply_with_jwt_bundles(jwt_bundles([&pod.authority]));
    wait_until("it is gone", || !names(&pod.volume()).contains(&"other.org.jwks.json".to_owned()));
    refresh.stop();
    pod.holds_one_set();
}

#[test]
fn new_keys_are_published() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    let refresh = pod.refresh(&[BUNDLE]);
    pod.wait_for_file("jwks.json", |text| text.as_bytes() == pod.authority.jwks());
    let renewed = Arc::new(Authority::new("example.org"));
    agent.reply_with_jwt_bundles(jwt_bundles([&renewed]));
    pod.wait_for_file("jwks.json", |text| text.as_bytes() == renewed.jwks());
    refresh.stop();
}

#[test]
fn keys_that_are_all_gone_are_gone_from_the_file() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    let refresh = pod.refresh(&[BUNDLE]);
    pod.wait_for_file("jwks.json", |text| text.as_bytes() == pod.authority.jwks());
    // SPIRE writes the second.
    for none in [r#"{"keys":[]}"#, r#"{"keys":null}"#] {
        agent.reply_with_jwt_bundles(one_bundle(&pod.authority.id(), none.as_bytes()));
        pod.wait_for_file("jwks.json", |text| text == none);
    }
    refresh.stop();
}

/// An SVID or --pod-spiffe-id names our own trust domain.
#[test]
fn keys_wait_for_our_own_trust_domain_to_be_known() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(Reply::refuse(RpcStatusCode::UNAVAILABLE), LONG);
    let mut refresh = pod.refresh(&[BUNDLE]);
    refresh.wait_for_log(&["Unavailable"]);
    assert_eq!(names(&pod.volume()), [""; 0]);
    agent.reply(offer([pod.mint()]));
    pod.wait_for_file("jwks.json", |text| text.as_bytes() == pod.authority.jwks());
    refresh.stop();
    let alone = Pod::new();
    let _agent = alone.agent_with_jwt(Reply::refuse(RpcStatusCode::UNAVAILABLE), LONG);
    alone.init(&[JWT_ALONE, BUNDLE, &format!("--pod-spiffe-id={ID}")]).succeeded();
    assert_eq!(alone.read("jwks.json").as_bytes(), alone.authority.jwks());
}

fn bundles_are_discarded(reply: impl FnOnce(&Pod) -> Reply, parts: &[&str]) {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    let mut refresh = pod.refresh(&[BUNDLE]);
    pod.wait_for_file("jwks.json", |_| true);
    agent.reply_with_jwt_bundles(reply(&pod));
    refresh.wait_for_log(&[&["ERROR", "JWT bundles"], parts].concat());
    assert_eq!(pod.read("jwks.json").as_bytes(), pod.authority.jwks());
    let renewed = Arc::new(Authority::new("example.org"));
    agent.reply_with_jwt_bundles(jwt_bundles([&renewed]));
    pod.wait_for_file("jwks.json", |text| text.as_bytes() == renewed.jwks());
    refresh.stop();
}

fn one_bundle(key: &str, document: &[u8]) -> Reply {
    let mut response = pod_svid_helper::for_tests::workload::JWTBundlesResponse::new();
    response.bundles.insert(key.to_owned(), document.to_vec());
    Reply::offer(&response)
}

#[test]
fn while_federated_keys_are_broken_the_last_good_ones_of_their_trust_domain_stay() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    agent.reply_with_jwt_bundles(jwt_bundles([&pod.authority, &pod.federated]));
    let mut refresh = pod.refresh(&[BUNDLE, "--include-federated-bundles"]);
    pod.wait_for_file("other.org.jwks.json", |text| text.as_bytes() == pod.federated.jwks());
    for key_id in ["2", "3"] {
        let renewed = Authority::with_jwt_key_id("example.org", key_id).jwks();
        let mut response = pod_svid_helper::for_tests::workload::JWTBundlesResponse::new();
        response.bundles.insert(pod.authority.id(), renewed.clone());
        response.bundles.insert(pod.federated.id(), b"what".to_vec());
        agent.reply_with_jwt_bundles(Reply::offer(&response));
        pod.wait_for_file("jwks.json", |text| text.as_bytes() == renewed);
        assert_eq!(pod.read("other.org.jwks.json").as_bytes(), pod.federated.jwks());
    }
    refresh.wait_for_log(&[
        "WARN",
        "left out a federated JWT bundle: bundles[\"spiffe://other.org\"]",
        "the last good one stays",
    ]);
    agent.reply_with_jwt_bundles(jwt_bundles([&pod.authority]));
    wait_until("they go", || !names(&pod.volume()).contains(&"other.org.jwks.json".to_owned()));
    refresh.stop();
}

#[test]
fn keys_without_the_own_trust_domains_are_discarded() {
    bundles_are_discarded(|pod| jwt_bundles([&pod.federated]), &["no bundle of example.org"]);
}

#[test]
fn keys_that_are_no_jwks_document_are_discarded() {
    let own = "spiffe://example.org";
    bundles_are_discarded(|_| one_bundle(own, b"what"), &["bundles[\"spiffe://example.org\"]", "not JSON"]);
    bundles_are_discarded(|_| one_bundle(own, b"{\"key\":[]}"), &["no list \"keys\""]);
}

#[test]
fn keys_of_something_that_is_no_trust_domain_are_discarded() {
    bundles_are_discarded(|pod| one_bundle(ID, &pod.authority.jwks()), &["no bundle of example.org"]);
}

#[test]
fn no_keys_at_all_are_discarded() {
    bundles_are_discarded(|_| jwt_bundles([]), &["the mandatory field is empty"]);
}

#[test]
fn without_id_and_hint_a_token_is_that_of_the_x509_svids_identity() {
    let pod = Pod::new();
    let svid = pod.authority.mint(&Recipe::for_id("spiffe://example.org/x509"));
    let agent = pod.agent(offer([svid.clone()]));
    // An agent whose first token is another identity's.
    let authority = pod.authority.clone();
    agent.issue_jwt(move |request| {
        let others = ["spiffe://example.org/other", "spiffe://example.org/x509"];
        let fits = |id: &&str| request.spiffe_id.is_empty() || request.spiffe_id == *id;
        let tokens = others.into_iter().filter(fits);
        Reply::offer(&jwt_response(tokens.map(|id| authority.mint_jwt(id, &request.audience, LONG))))
    });
    pod.init(&[TOKEN]).succeeded();
    assert_eq!(claims(&pod.read("token.jwt"))["sub"], "spiffe://example.org/x509");
}

/// An agent that lets the X.509-SVID in last, and whose first token is another identity's.
fn agent_with_two_identities(pod: &Pod) -> WorkloadApiServer {
    let agent = pod.agent(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    let authority = pod.authority.clone();
    agent.issue_jwt(move |request| {
        let id = if request.spiffe_id.is_empty() { "spiffe://example.org/other" } else { &request.spiffe_id };
        Reply::offer(&jwt_response([authority.mint_jwt(id, &request.audience, LONG)]))
    });
    agent
}

#[test]
fn a_token_of_another_identity_is_replaced_when_the_x509_svid_comes() {
    for mode in ["--mode=init", "--mode=refresh"] {
        let pod = Pod::new();
        let agent = agent_with_two_identities(&pod);
        let mut helper = pod.helper(&[mode, TOKEN]).variable("HELPER_INIT_TIMEOUT", "1h").start();
        pod.wait_for_file("token.jwt", |token| claims(token)["sub"] == "spiffe://example.org/other");
        pod.rotate(&agent);
        if mode == "--mode=refresh" {
            pod.wait_for_file("token.jwt", |token| claims(token)["sub"] == ID);
            helper.signal(Signal::SIGTERM);
        }
        helper.finish(0);
        assert_eq!(claims(&pod.read("token.jwt"))["sub"], ID);
    }
}

#[test]
fn a_token_is_of_the_identity_whose_files_stand() {
    let (pod, agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    drop(agent);
    let _agent = agent_with_two_identities(&pod);
    let refresh = pod.refresh(&[TOKEN]);
    let token = pod.wait_for_file("token.jwt", |_| true);
    assert_eq!(claims(&token)["sub"], ID);
    refresh.stop();
}

#[test]
fn files_of_keys_come_back_with_the_identity() {
    let pod = Pod::new();
    let svid = pod.mint();
    let other = pod.authority.mint(&Recipe::for_id("spiffe://example.org/other"));
    let agent = pod.agent_with_jwt(offer([svid.clone()]), LONG);
    let id = format!("--pod-spiffe-id={ID}");
    let mut refresh = pod.refresh(&[&id, "--on-revoked=remove", "--jwt-bundle-file-name=jwks.json"]);
    pod.wait_for(&svid);
    pod.wait_for_file("jwks.json", |_| true);
    agent.reply(offer([other]));
    refresh.wait_for_log(&["withdrawn the identity", "removes the files"]);
    wait_until("nothing is left", || names(&pod.volume()).is_empty());
    pod.rotate_to(&agent, &svid);
    pod.wait_for_file("jwks.json", |_| true);
    refresh.stop();
}

#[test]
fn the_own_trust_domains_keys_follow_the_svid() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.federated.mint(&Recipe::for_id("spiffe://other.org/workload")));
    let agent = pod.agent_with_jwt(offer([first.clone()]), LONG);
    let refresh = pod.refresh(&["--jwt-bundle-file-name=jwks.json"]);
    pod.wait_for(&first);
    let own = String::from_utf8(pod.authority.jwks()).expect("UTF-8");
    pod.wait_for_file("jwks.json", |text| text == own);
    pod.rotate_to(&agent, &second);
    let other = String::from_utf8(pod.federated.jwks()).expect("UTF-8");
    pod.wait_for_file("jwks.json", |text| text == other);
    refresh.stop();
}

#[test]
fn a_token_whose_key_has_left_the_trust_domains_keys_is_fetched_anew_at_once() {
    a_revoked_token_is_replaced(&[TOKEN], &["token.jwt"]);
}

#[test]
fn a_token_whose_key_has_left_the_published_keys_is_fetched_anew_at_once() {
    a_revoked_token_is_replaced(&[TOKEN, "--jwt-bundle-file-name=jwks.json"], &["token.jwt", "jwks.json"]);
}

fn a_revoked_token_is_replaced(options: &[&str], files: &[&str]) {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent_with_jwt(offer([svid.clone()]), LONG);
    let refresh = pod.refresh(options);
    files.iter().for_each(|name| drop(pod.wait_for_file(name, |_| true)));
    let first = pod.wait_for_file("token.jwt", |_| true);
    // The authority is revoked, and its key with it. The token has minutes to live.
    let other = Arc::new(Authority::with_jwt_key_id("example.org", "2"));
    let issuer = other.clone();
    agent.issue_jwt(move |request| {
        Reply::offer(&jwt_response([issuer.mint_jwt(ID, &request.audience, LONG)]))
    });
    agent.reply_with_jwt_bundles(jwt_bundles([&other]));
    let start = Instant::now();
    pod.wait_for_file("token.jwt", |token| token != first);
    // Its renewal would be due after minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    refresh.stop();
}

#[test]
fn a_token_that_the_agent_sends_with_a_withdrawn_key_is_named_as_one_and_soon_asked_for_again() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
    let mut refresh = pod.refresh(&[TOKEN]);
    pod.wait_for_file("token.jwt", |_| true);
    // The agent goes on to hand out what the old key has signed.
    let other = Arc::new(Authority::with_jwt_key_id("example.org", "2"));
    agent.reply_with_jwt_bundles(jwt_bundles([&other]));
    refresh.wait_for_log(&[
        "WARN",
        "JWT-SVID token.jwt",
        "signed with a key that is none of the trust domain's",
    ]);
    let token = pod.read("token.jwt");
    agent
        .issue_jwt(move |request| Reply::offer(&jwt_response([other.mint_jwt(ID, &request.audience, LONG)])));
    pod.wait_for_file("token.jwt", |newest| newest != token);
    refresh.stop();
}

#[test]
fn a_token_whose_key_has_left_before_it_comes_is_soon_asked_for_again() {
    let pod = Pod::new();
    let other = Arc::new(Authority::with_jwt_key_id("example.org", "2"));
    let (answer, answers) = std::sync::mpsc::channel::<()>();
    let (authority, answers) = (pod.authority.clone(), std::sync::Mutex::new(answers));
    let agent = pod.agent_after(offer([pod.mint()]), |agent| {
        agent.reply_with_jwt_bundles(jwt_bundles([&other]));
        agent.issue_jwt(move |request| {
            let _ = answers.lock().expect("no panic in a call").recv();
            Reply::offer(&jwt_response([authority.mint_jwt(ID, &request.audience, LONG)]))
        });
    });
    let mut refresh = pod.refresh(&[TOKEN, BUNDLE]);
    pod.wait_for_file("jwks.json", |text| text.as_bytes() == other.jwks());
    drop(answer);
    refresh.wait_for_log(&[
        "WARN",
        "JWT-SVID token.jwt",
        "signed with a key that is none of the trust domain's",
    ]);
    let token = pod.wait_for_file("token.jwt", |_| true);
    agent
        .issue_jwt(move |request| Reply::offer(&jwt_response([other.mint_jwt(ID, &request.audience, LONG)])));
    pod.wait_for_file("token.jwt", |newest| newest != token);
    refresh.stop();
}

#[test]
fn keys_that_the_agent_keeps_to_itself_are_no_trouble_if_no_file_holds_them() {
    for code in [RpcStatusCode::UNIMPLEMENTED, RpcStatusCode::PERMISSION_DENIED, RpcStatusCode::UNAVAILABLE] {
        let pod = Pod::new();
        let agent = pod.agent_with_jwt(offer([pod.mint()]), LONG);
        agent.reply_with_jwt_bundles(Reply::refuse(code));
        let mut refresh = pod.refresh(&[TOKEN, "--on-revoked=remove"]);
        refresh.wait_for_log(&["DEBUG", "JWT bundles: ", "answered"]);
        pod.wait_for_file("token.jwt", |_| true);
        let log = refresh.stop();
        let is_loud = |line: &&String| line.contains(" WARN ") || line.contains(" ERROR ");
        assert_eq!(log.iter().filter(is_loud).count(), 0, "{log:#?}");
    }
}

#[test]
fn when_the_agent_lets_one_call_in_again_the_others_follow_at_once() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNIMPLEMENTED));
    let mut refresh = pod.refresh(&[TOKEN]);
    refresh.wait_for_log(&["JWT-SVID token.jwt", "Unimplemented", "retrying in 60s"]);
    let svid = pod.mint();
    pod.issue_jwt(&agent, LONG);
    pod.rotate_to(&agent, &svid);
    let start = Instant::now();
    pod.wait_for_file("token.jwt", |_| true);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    refresh.stop();
}
