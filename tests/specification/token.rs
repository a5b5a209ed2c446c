//! `token`: a JWT-SVID on stdout, once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grpcio::RpcStatusCode;
use nix::sys::signal::Signal;
use pod_svid_helper::for_tests::workload::JWTSVID;
use serde_json::{Value, json};
use workload_api_server::authority::jwt_response;
use workload_api_server::server::{Reply, WorkloadApiServer};

use crate::pod::{BRIEFLY, Finished, Helper, ID, PATIENCE, Pod, claims, names};

const LONG: Duration = Duration::from_secs(300);

fn helper(pod: &Pod, arguments: &[&str]) -> Helper {
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    Helper::new().arguments(&["--mode=token", "--audience=one,two", &socket]).arguments(arguments)
}

fn token(pod: &Pod, arguments: &[&str]) -> Finished {
    helper(pod, arguments).finish()
}

/// An agent that issues JWT-SVIDs, and refuses X.509-SVIDs.
fn agent(pod: &Pod) -> WorkloadApiServer {
    pod.agent_with_jwt(Reply::refuse(RpcStatusCode::UNAVAILABLE), LONG)
}

/// An agent that issues this token.
fn agent_with(pod: &Pod, token: JWTSVID) -> WorkloadApiServer {
    let agent = agent(pod);
    agent.issue_jwt(move |_| Reply::offer(&jwt_response([token.clone()])));
    agent
}

/// It says why in one line on stderr, and nothing on stdout.
fn fails_in_one_line(pod: &Pod, arguments: &[&str], parts: &[&str]) {
    let finished = token(pod, arguments).failed_with(parts);
    assert_eq!(finished.log.lines().count(), 1, "{}", finished.log);
    assert_eq!(finished.stdout, "");
}

/// The end of a token's life by its claims, to the second.
fn end(token: &str) -> u64 {
    claims(token)["exp"].as_f64().expect("a time") as u64
}

fn seconds(rfc3339: &Value) -> u64 {
    let date: der::DateTime = rfc3339.as_str().expect("a time").parse().expect("RFC 3339");
    date.unix_duration().as_secs()
}

#[test]
fn token_prints_a_token_for_the_audience_and_a_line_break_and_nothing_else() {
    let pod = Pod::new();
    let agent = agent(&pod);
    let finished = token(&pod, &[]).succeeded();
    let token = finished.stdout.strip_suffix('\n').expect("a line break");
    assert!(!token.contains(char::is_whitespace), "{token:?}");
    assert_eq!(claims(token)["sub"], ID);
    assert_eq!(claims(token)["aud"], json!(["one", "two"]));
    assert_eq!(finished.log, "");
    assert_eq!((agent.jwt_calls(), agent.calls()), (1, 0));
    assert_eq!(names(&pod.volume()), [""; 0], "it writes no file");
}

#[test]
fn token_prints_json_for_programs() {
    let pod = Pod::new();
    let _agent = agent(&pod);
    let json: Value =
        serde_json::from_str(&token(&pod, &["--output=json"]).succeeded().stdout).expect("JSON");
    let token = json["token"].as_str().expect("a token");
    assert_eq!(json["spiffe_id"], ID);
    assert_eq!(json["audience"], json!(["one", "two"]));
    assert_eq!(seconds(&json["expires_at"]), end(token));
    assert_eq!(json.as_object().map(|object| object.len()), Some(4));
}

#[test]
fn an_audience_with_quotes_is_printed_as_json() {
    let pod = Pod::new();
    let _agent = agent(&pod);
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    let arguments = ["--mode=token", "--output=json", r#"--audience=a"b\"#, &socket];
    let json = Helper::new().arguments(&arguments).finish().succeeded().stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["audience"], json!([r#"a"b\"#]));
}

/// What it prints for a client that asks so.
fn exec_credential(exec_info: &str) -> Finished {
    let pod = Pod::new();
    let _agent = agent(&pod);
    helper(&pod, &["--output=exec-credential"]).variable("KUBERNETES_EXEC_INFO", exec_info).finish()
}

fn info(version: &str) -> String {
    json!({ "kind": "ExecCredential", "apiVersion": version, "spec": { "interactive": false } }).to_string()
}

#[test]
fn an_exec_credential_has_the_version_that_kubectl_asks_for() {
    let (v1, v1beta1) = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1");
    for (asked, version) in [(String::new(), v1), (info(v1), v1), (info(v1beta1), v1beta1)] {
        let finished = exec_credential(&asked).succeeded();
        assert_eq!(finished.log, "");
        let json: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        assert_eq!(json["apiVersion"], version);
        assert_eq!(json["kind"], "ExecCredential");
        let token = json["status"]["token"].as_str().expect("a token");
        assert_eq!(claims(token)["sub"], ID);
        assert_eq!(seconds(&json["status"]["expirationTimestamp"]), end(token));
    }
}

#[test]
fn an_exec_credential_of_another_version_is_refused_by_its_name() {
    for (asked, parts) in [
        (
            info("client.authentication.k8s.io/v2"),
            ["KUBERNETES_EXEC_INFO", "\"client.authentication.k8s.io/v2\""],
        ),
        (info(""), ["KUBERNETES_EXEC_INFO", "\"\""]),
        ("what".to_owned(), ["KUBERNETES_EXEC_INFO", "no apiVersion in \"what\""]),
        ("{}".to_owned(), ["KUBERNETES_EXEC_INFO", "no apiVersion in \"{}\""]),
    ] {
        let finished = exec_credential(&asked).failed_with(&parts);
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn the_version_that_kubectl_asks_for_concerns_exec_credentials_alone() {
    let pod = Pod::new();
    let _agent = agent(&pod);
    helper(&pod, &[]).variable("KUBERNETES_EXEC_INFO", "what").finish().succeeded();
}

#[test]
fn the_token_is_of_the_id_and_the_hint_that_were_asked_for() {
    let pod = Pod::new();
    let agent = agent(&pod);
    let wanted = "spiffe://example.org/wanted";
    let printed = token(&pod, &[&format!("--pod-spiffe-id={wanted}")]).succeeded().stdout;
    assert_eq!(claims(&printed)["sub"], wanted);
    let audience = ["one".to_owned(), "two".to_owned()];
    let hinted =
        |id, hint: &str| JWTSVID { hint: hint.to_owned(), ..pod.authority.mint_jwt(id, &audience, LONG) };
    let tokens = [hinted(ID, "external"), hinted(wanted, "internal")];
    agent.issue_jwt(move |_| Reply::offer(&jwt_response(tokens.clone())));
    let printed = token(&pod, &["--hint=internal"]).succeeded().stdout;
    assert_eq!(claims(&printed)["sub"], wanted);
}

#[test]
fn token_waits_for_an_agent_that_is_not_there_yet_and_says_nothing() {
    let pod = Pod::new();
    let mut running = helper(&pod, &["--log-level=info"]).start();
    running.wait_for_log(&["INFO", "cannot connect", "retrying in"]);
    let _agent = agent(&pod);
    let log = running.finish(0);
    assert!(!log.iter().any(|line| line.contains("WARN") || line.contains("ERROR")), "{log:?}");
}

#[test]
fn token_asks_again_while_the_agent_does_not_know_the_pod_yet() {
    let pod = Pod::new();
    let agent = agent(&pod);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    let mut running = helper(&pod, &["--log-level=info"]).start();
    running.wait_for_log(&["INFO", "PermissionDenied", "retrying in"]);
    pod.issue_jwt(&agent, LONG);
    running.finish(0);
}

#[test]
fn token_says_the_last_cause_when_its_time_is_over() {
    let pod = Pod::new();
    let in_time = [BRIEFLY];
    fails_in_one_line(
        &pod,
        &in_time,
        &["no JWT-SVID", "within 3s", "cannot connect", "is the agent running"],
    );
    let agent = agent(&pod);
    agent.issue_jwt(|_| Reply::Silence);
    fails_in_one_line(&pod, &in_time, &["no JWT-SVID", "within 3s", "sent nothing"]);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    fails_in_one_line(&pod, &in_time, &["no JWT-SVID", "within 3s", "PermissionDenied"]);
}

#[test]
fn an_answer_that_must_not_be_retried_ends_token_at_once() {
    for (code, name) in [
        (RpcStatusCode::INVALID_ARGUMENT, "InvalidArgument"),
        (RpcStatusCode::UNIMPLEMENTED, "Unimplemented"),
    ] {
        let pod = Pod::new();
        let agent = agent(&pod);
        agent.issue_jwt(move |_| Reply::refuse(code));
        // Longer than a test may take.
        let timeout = format!("--init-timeout={}s", 10 * PATIENCE.as_secs());
        fails_in_one_line(&pod, &[&timeout], &["no JWT-SVID", name]);
        assert_eq!(agent.jwt_calls(), 1);
    }
}

/// A token with these dates beside its `exp`, which is so many seconds from now.
fn dated(pod: &Pod, begin: i64, end: i64) -> JWTSVID {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let claims = json!({ "sub": ID, "aud": ["one", "two"], "nbf": now + begin, "exp": now + end });
    pod.authority.sign_jwt(ID, &claims)
}

#[test]
fn a_token_that_is_expired_or_not_valid_yet_is_not_printed() {
    for (begin, end, part) in [(-600, -300, "expired at"), (300, 600, "is not valid until")] {
        let pod = Pod::new();
        let _agent = agent_with(&pod, dated(&pod, begin, end));
        fails_in_one_line(&pod, &[BRIEFLY], &["no JWT-SVID", ID, part]);
    }
}

#[test]
fn a_token_that_is_for_another_audience_or_identity_is_not_printed() {
    let pod = Pod::new();
    let one = pod.authority.mint_jwt(ID, &["one".to_owned()], LONG);
    let _agent = agent_with(&pod, one);
    let in_time = BRIEFLY;
    fails_in_one_line(&pod, &[in_time], &["its claim aud lacks the audience \"two\""]);
    let other = ["--pod-spiffe-id=spiffe://example.org/other", in_time];
    fails_in_one_line(&pod, &other, &["spiffe://example.org/other", "is --pod-spiffe-id right"]);
}

#[test]
fn a_token_that_could_write_to_the_terminal_is_not_printed() {
    let pod = Pod::new();
    let good = pod.authority.mint_jwt(ID, &["one".to_owned(), "two".to_owned()], LONG);
    let _agent = agent_with(&pod, JWTSVID { svid: format!("{}\u{1b}[2J", good.svid), ..good });
    fails_in_one_line(&pod, &[BRIEFLY], &["compact serialization"]);
}

#[test]
fn the_log_of_token_never_has_the_token() {
    let pod = Pod::new();
    let good = pod.authority.mint_jwt(ID, &["one".to_owned(), "two".to_owned()], LONG);
    let signature = good.svid.rsplit('.').next().expect("a signature").to_owned();
    let _agent = agent_with(&pod, good);
    let finished = token(&pod, &["--log-level=trace"]).succeeded();
    assert!(finished.stdout.contains(&signature) && !finished.log.contains(&signature), "{}", finished.log);
}

#[test]
fn the_variable_of_the_log_level_counts_in_token_as_well() {
    let pod = Pod::new();
    let log = |level| {
        let helper = helper(&pod, &["--init-timeout=200ms"]).variable("HELPER_LOG_LEVEL", level);
        helper.finish().log
    };
    assert!(log("info").contains("INFO"));
    assert_eq!(log("off"), "");
}

#[test]
fn a_signal_ends_token_while_it_waits() {
    let pod = Pod::new();
    let mut running = helper(&pod, &["--log-level=info"]).start();
    running.wait_for_log(&["cannot connect"]);
    running.signal(Signal::SIGTERM);
    let log = running.finish(1);
    assert!(log.last().is_some_and(|line| line.contains("stopped by SIGTERM")), "{log:?}");
}

#[test]
fn two_signals_at_once_end_token_as_one_does() {
    let pod = Pod::new();
    let mut running = helper(&pod, &["--log-level=info"]).start();
    running.wait_for_log(&["cannot connect"]);
    // It sees both when it goes on.
    for signal in [Signal::SIGSTOP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGCONT] {
        running.signal(signal);
    }
    let log = running.finish(1);
    assert!(log.last().is_some_and(|line| line.contains("stopped by SIG")), "{log:?}");
}

#[test]
fn a_token_that_does_not_fit_on_a_full_disk_is_a_failure() {
    let pod = Pod::new();
    let _agent = agent_with(&pod, pod.authority.mint_jwt(ID, &["one".to_owned(), "two".to_owned()], LONG));
    let finished = helper(&pod, &[]).into_full_device(true).finish();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.log);
    assert!(finished.log.contains("cannot write to stdout"), "{}", finished.log);
}

#[test]
fn options_of_other_modes_are_refused_as_flags_and_ignored_as_variables() {
    let pod = Pod::new();
    let _agent = agent(&pod);
    for flag in
        ["--svid-path=/x", "--jwt-svid=a=b", "--min-ttl=1h", "--on-revoked=keep", "--http-address=[::1]:1"]
    {
        let (name, _) = flag.split_once('=').expect("a value");
        token(&pod, &[flag]).refused_with(&[name, "has no meaning in --mode=token"]);
    }
    let variables = [("HELPER_KEYSTORE_FILE_NAME", "a"), ("HELPER_KEYSTORE_PASSWORD_FILE", "/nowhere")];
    let with = variables.iter().fold(helper(&pod, &[]), |helper, (name, value)| helper.variable(name, value));
    with.finish().succeeded();
}

#[test]
fn a_variable_can_name_the_audience() {
    let pod = Pod::new();
    let _agent = agent(&pod);
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    let helper = Helper::new().arguments(&["--mode=token", &socket]).variable("HELPER_AUDIENCE", "three");
    assert_eq!(claims(&helper.finish().succeeded().stdout)["aud"], json!(["three"]));
}
