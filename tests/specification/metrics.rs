//! `/metrics`: each metric moves when its event happens.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grpcio::RpcStatusCode;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use workload_api_server::authority::Recipe;
use workload_api_server::server::Reply;

use crate::http::{ANY_PORT, Probe, port_in};
use crate::logs::{fill, stop};
use crate::pod::{App, EVERYTHING, ID, OTHER_ID, Pod, Running, offer, serial, wait_until};
use crate::refresh::AgentProcess;

/// A helper with options, when it is ready.
fn ready(pod: &Pod, options: &[&str]) -> (Running, Probe) {
    let mut refresh = pod.helper(&["--mode=refresh", ANY_PORT]).arguments(options).start();
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    (refresh, probe)
}

impl Probe {
    fn wait_for_metric(&self, series: &str, value: f64) {
        wait_until(&format!("{series} is {value}"), || self.metric(series) == Some(value));
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs_f64()
}

#[test]
fn a_published_svid_has_its_dates_and_its_serial_number() {
    let pod = Pod::new();
    let svid = pod.authority.mint(&Recipe::for_id(ID).ttl(Duration::from_secs(3600)));
    let agent = pod.agent(offer([svid.clone()]));
    let (refresh, probe) = ready(&pod, &[]);
    let labels = format!("{{file=\"svid.pem\",spiffe_id=\"{ID}\"");
    let not_after = probe.metric(&format!("svid_not_after_timestamp_seconds{labels}}}")).expect("a date");
    let not_before = probe.metric(&format!("svid_not_before_timestamp_seconds{labels}}}")).expect("a date");
    assert!((now() + 3500.0..now() + 3700.0).contains(&not_after), "{not_after}");
    assert!((now() - 3600.0..=now()).contains(&not_before), "{not_before}");
    let serial_of = |svid| format!("svid_serial_info{labels},serial=\"{}\"}}", serial(svid));
    assert_eq!(probe.metric(&serial_of(&svid)), Some(1.0));
    let next = pod.mint();
    agent.reply(offer([next.clone()]));
    probe.wait_for_metric(&serial_of(&next), 1.0);
    assert_eq!(probe.metric(&serial_of(&svid)), None);
    refresh.stop();
}

#[test]
fn a_token_has_its_dates_and_each_bundle_its_earliest_expiry() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent_with_jwt(pod.offer_everything(&svid), Duration::from_secs(300));
    let (refresh, probe) = ready(&pod, &EVERYTHING);
    let token = format!("svid_not_after_timestamp_seconds{{file=\"token.jwt\",spiffe_id=\"{ID}\"}}");
    let not_after = probe.metric(&token).expect("a date");
    assert!((now() + 200.0..now() + 310.0).contains(&not_after), "{not_after}");
    for trust_domain in ["example.org", "other.org"] {
        let bundle = format!("bundle_earliest_expiry_timestamp_seconds{{trust_domain=\"{trust_domain}\"}}");
        assert!(probe.metric(&bundle).is_some_and(|expiry| expiry > now()), "{trust_domain}");
    }
    refresh.stop();
}

#[test]
fn a_withdrawn_identity_has_no_series() {
    let (pod, agent) = Pod::with_agent();
    let (refresh, probe) = ready(&pod, &["--on-revoked=remove"]);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    probe.wait_until_ready_is(503);
    assert!(!probe.get("/metrics").1.contains("svid_not_after"));
    refresh.stop();
}

#[test]
fn publications_are_counted_and_dated() {
    let pod = Pod::new();
    let before = now();
    let agent = pod.agent(offer([pod.mint()]));
    let (refresh, probe) = ready(&pod, &[]);
    assert_eq!(probe.metric("publications_total"), Some(1.0));
    let first = probe.metric("last_publication_timestamp_seconds").expect("a date");
    assert!((before - 0.001..=now()).contains(&first), "{first}");
    agent.reply(offer([pod.mint()]));
    probe.wait_for_metric("publications_total", 2.0);
    assert!(probe.metric("last_publication_timestamp_seconds").is_some_and(|date| date >= first));
    refresh.stop();
}

#[test]
fn an_unchanged_set_is_not_a_publication() {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    let (mut refresh, probe) = ready(&pod, &[]);
    refresh.wait_for_log(&["nothing written"]);
    assert_eq!(probe.metric("publications_total"), Some(0.0));
    assert_eq!(probe.metric("last_publication_timestamp_seconds"), None);
    refresh.stop();
}

#[test]
fn rejected_responses_are_counted_by_procedure() {
    let (pod, agent) = Pod::with_agent();
    let (refresh, probe) = ready(&pod, &[]);
    let series = "rejected_responses_total{procedure=\"FetchX509SVID\"}";
    assert_eq!(probe.metric(series), Some(0.0));
    agent.reply(offer([]));
    probe.wait_for_metric(series, 1.0);
    agent.reply(Reply::Send(vec![0xff]));
    probe.wait_for_metric(series, 2.0);
    refresh.stop();
}

#[test]
fn failed_calls_are_counted_by_code_and_the_agent_is_away_meanwhile() {
    let (pod, agent) = Pod::with_agent();
    let (refresh, probe) = ready(&pod, &[]);
    let failed = |code: &str| {
        probe.metric(&format!("failed_calls_total{{procedure=\"FetchX509SVID\",code=\"{code}\"}}"))
    };
    assert_eq!(probe.metric("agent_connected"), Some(1.0));
    for code in ["Unavailable", "Unreachable", "PermissionDenied"] {
        assert_eq!(failed(code), Some(0.0), "{code}");
    }
    agent.reply(Reply::refuse(RpcStatusCode::UNAVAILABLE));
    wait_until("calls have failed", || failed("Unavailable").is_some_and(|count| count >= 2.0));
    assert_eq!(probe.metric("agent_connected"), Some(0.0));
    drop(agent);
    wait_until("no connection is there", || failed("Unreachable").is_some_and(|count| count >= 2.0));
    let _agent = pod.agent(offer([pod.mint()]));
    probe.wait_for_metric("agent_connected", 1.0);
    refresh.stop();
}

#[test]
fn an_agent_that_accepts_calls_and_says_nothing_is_not_connected() {
    let pod = Pod::new();
    // It rotates each second, so that however slow the machine, one SVID comes in time.
    let agent = AgentProcess::start(&pod.socket(), &["--ttl=12", "--rotate=1"]);
    let (refresh, probe) = ready(&pod, &[]);
    assert_eq!(probe.metric("agent_connected"), Some(1.0));
    agent.signal(Signal::SIGSTOP);
    probe.wait_for_metric("agent_connected", 0.0);
    probe.wait_for_metric("ready", 0.0);
    refresh.stop();
}

#[test]
fn an_agent_that_offers_another_identity_alone_is_not_connected() {
    let (pod, agent) = Pod::with_agent();
    let (refresh, probe) = ready(&pod, &[&format!("--pod-spiffe-id={ID}")]);
    agent.reply(offer([pod.authority.mint(&Recipe::for_id(OTHER_ID))]));
    probe.wait_for_metric("agent_connected", 0.0);
    assert_eq!(probe.metric("ready"), Some(1.0), "the files are good");
    agent.reply(offer([pod.mint()]));
    probe.wait_for_metric("agent_connected", 1.0);
    refresh.stop();
}

/// Its token stays as the last call's response, which says nothing of now.
#[test]
fn an_agent_that_is_away_is_not_connected_though_it_has_answered_a_call_for_a_token() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    let (refresh, probe) = ready(&pod, &["--jwt-svid=token.jwt=one"]);
    assert_eq!((probe.metric("agent_connected"), probe.metric("ready")), (Some(1.0), Some(1.0)));
    drop(agent);
    probe.wait_for_metric("agent_connected", 0.0);
    assert_eq!(probe.metric("ready"), Some(1.0), "the files are good");
    refresh.stop();
}

#[test]
fn signals_are_counted_by_outcome() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let agent = pod.agent(offer([pod.mint()]));
    let (refresh, probe) = ready(&pod, &[&pod.pid_file(app.pid())]);
    probe.wait_for_metric("notifications_total{outcome=\"success\"}", 1.0);
    assert_eq!(probe.metric("notifications_total{outcome=\"failure\"}"), Some(0.0));
    // There is no process with the highest number.
    pod.pid_file(Pid::from_raw(i32::MAX));
    agent.reply(offer([pod.mint()]));
    probe.wait_for_metric("notifications_total{outcome=\"failure\"}", 1.0);
    refresh.stop();
}

#[test]
fn hook_runs_are_counted_by_outcome() {
    let (pod, agent) = Pod::with_agent();
    let command = pod.script("test -e \"$0/good\"");
    let helper = pod.helper(&["--mode=refresh", ANY_PORT]).command(&command);
    let mut refresh = helper.start();
    let probe = Probe::of(&mut refresh);
    let failures = || probe.metric("hook_runs_total{outcome=\"failure\"}").expect("a count");
    wait_until("a run has failed", || failures() >= 1.0);
    assert_eq!(probe.metric("hook_runs_total{outcome=\"success\"}"), Some(0.0));
    std::fs::write(pod.path().join("good"), "").expect("a file");
    agent.reply(offer([pod.mint()]));
    wait_until("a run has succeeded", || {
        probe.metric("hook_runs_total{outcome=\"success\"}").is_some_and(|count| count >= 1.0)
    });
    refresh.stop();
}

#[test]
fn the_time_for_which_a_hook_has_been_running_is_told() {
    let (pod, _agent) = Pod::with_agent();
    let hook = pod.script(r#"until [ -e "$0/end" ]; do sleep 0.02; done"#);
    let mut refresh = pod.helper(&["--mode=refresh", ANY_PORT]).command(&hook).start();
    let probe = Probe::of(&mut refresh);
    let seconds = || probe.metric("hook_running_seconds").expect("a number");
    wait_until("the hook has been running for a second", || seconds() >= 1.0);
    pod.let_end();
    probe.wait_for_metric("hook_running_seconds", 0.0);
    assert_eq!(probe.metric("hook_runs_total{outcome=\"success\"}"), Some(1.0));
    refresh.stop();
}

#[test]
fn dropped_log_lines_are_counted() {
    let (pod, agent) = Pod::with_agent();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let ours = writer.try_clone().expect("a descriptor");
    let helper = pod.helper(&["--mode=refresh", ANY_PORT]).start_with_stderr(writer);
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    let probe = Probe::on(port_in(&lines.find(|line| line.contains("serving /live")).expect("a line")));
    probe.wait_until_ready_is(200);
    assert_eq!(probe.metric("dropped_log_lines_total"), Some(0.0));
    fill(&ours);
    agent.reply(offer([pod.mint()]));
    wait_until("a line is dropped", || {
        probe.metric("dropped_log_lines_total").is_some_and(|count| count >= 1.0)
    });
    stop(helper);
}

#[test]
fn the_version_is_there() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let series = concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    assert_eq!(Probe::of(&mut refresh).metric(series), Some(1.0));
    refresh.stop();
}

#[test]
fn promtool_accepts_the_metrics() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent_with_jwt(pod.offer_everything(&svid), Duration::from_secs(300));
    let (refresh, probe) = ready(&pod, &EVERYTHING);
    let (_, text) = probe.get("/metrics");
    refresh.stop();
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        crate::pod::skip("promtool is not installed (Debian package prometheus)");
        return;
    };
    promtool.stdin.take().expect("its stdin").write_all(text.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}
