//! `refresh`: follows every rotation, and never gives up.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use grpcio::RpcStatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use workload_api_server::authority::Recipe;
use workload_api_server::fault::Fault;
use workload_api_server::server::Reply;

use crate::pod::{ID, PATIENCE, Pod, clear, names, offer, wait_until};

#[test]
fn refresh_publishes_every_rotation() {
    let pod = Pod::new();
    let first = pod.mint();
    let agent = pod.agent(offer([first.clone()]));
    let refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    for _ in 0..5 {
        pod.rotate(&agent);
    }
    assert_eq!(agent.calls(), 1);
    refresh.stop();
}

#[test]
fn a_new_ca_comes_with_its_first_svid() {
    let pod = Pod::new();
    let (first, other) = (pod.mint(), Pod::new().mint());
    let agent = pod.agent(offer([first.clone()]));
    let refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    pod.rotate_to(&agent, &other);
    refresh.stop();
}

#[test]
fn the_same_response_again_writes_nothing() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    let directory = std::fs::read_link(pod.volume().join("..data")).expect("a link");
    agent.reply(offer([first.clone()]));
    refresh.wait_for_log(&["nothing written"]);
    assert_eq!(std::fs::read_link(pod.volume().join("..data")).expect("a link"), directory);
    pod.rotate_to(&agent, &second);
    refresh.stop();
}

#[test]
fn refresh_takes_over_the_files_of_init_without_writing() {
    let (pod, _agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    let before = names(&pod.volume());
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["nothing written"]);
    refresh.stop();
    assert_eq!(names(&pod.volume()), before);
}

#[test]
fn refresh_restores_files_that_others_have_changed() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    let refresh = pod.refresh(&[]);
    pod.wait_for(&svid);
    std::fs::remove_file(pod.volume().join("svid.pem")).expect("a link");
    pod.rotate_to(&agent, &svid);
    refresh.stop();
}

#[test]
fn files_that_others_remove_come_back_with_the_next_publication() {
    let pod = Pod::new();
    let (svid, next) = (pod.mint(), pod.mint());
    let agent = pod.agent_with_jwt(offer([svid.clone()]), Duration::from_secs(300));
    let options = ["--jwt-svid=token.jwt=one", "--jwt-bundle-file-name=jwks.json", "--log-level=trace"];
    let mut refresh = pod.refresh(&options);
    pod.wait_for(&svid);
    pod.wait_for_file("token.jwt", |_| true);
    pod.wait_for_file("jwks.json", |_| true);
    clear(&pod.volume());
    agent.reply(offer([next.clone()]));
    refresh.wait_for_log(&["WARN", "removed or changed", "fetching them again"]);
    pod.wait_for(&next);
    pod.wait_for_file("token.jwt", |_| true);
    pod.wait_for_file("jwks.json", |_| true);
    refresh.stop();
}

fn comes_back_after(reply: Reply, times: usize) {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    (0..times).for_each(|_| agent.reply_once(reply.clone()));
    let refresh = pod.refresh(&[]);
    pod.wait_for(&svid);
    refresh.stop();
}

#[test]
fn refresh_comes_back_after_unavailable() {
    comes_back_after(Reply::refuse(RpcStatusCode::UNAVAILABLE), 1);
    comes_back_after(Reply::refuse(RpcStatusCode::UNAVAILABLE), 3);
}

#[test]
fn refresh_comes_back_after_permission_denied() {
    comes_back_after(Reply::refuse(RpcStatusCode::PERMISSION_DENIED), 1);
    comes_back_after(Reply::refuse(RpcStatusCode::PERMISSION_DENIED), 3);
}

#[test]
fn refresh_comes_back_after_streams_that_are_closed() {
    comes_back_after(Reply::Close, 3);
}

/// The standard says not to retry; a sidecar that lives for months does, but not soon.
#[test]
fn an_agent_that_answers_invalid_argument_or_unimplemented_is_left_alone_for_a_minute() {
    for code in [RpcStatusCode::INVALID_ARGUMENT, RpcStatusCode::UNIMPLEMENTED] {
        let pod = Pod::new();
        let _agent = pod.agent(Reply::refuse(code));
        let mut refresh = pod.refresh(&[]);
        refresh.wait_for_log(&["ERROR", "answered", "retrying in 60s"]);
        refresh.stop();
    }
}

#[test]
fn unavailable_and_permission_denied_for_ever_are_tried_again_for_ever() {
    for code in [RpcStatusCode::UNAVAILABLE, RpcStatusCode::PERMISSION_DENIED] {
        let pod = Pod::new();
        let agent = pod.agent(Reply::refuse(code));
        let refresh = pod.refresh(&[]);
        agent.wait_for_calls(5, PATIENCE);
        refresh.stop();
    }
}

#[test]
fn a_stream_that_ends_after_a_message_is_called_again() {
    for end in [Reply::Close, Reply::refuse(RpcStatusCode::UNAVAILABLE)] {
        let pod = Pod::new();
        let (first, second) = (pod.mint(), pod.mint());
        let agent = pod.agent(offer([first.clone()]));
        let refresh = pod.refresh(&[]);
        pod.wait_for(&first);
        agent.reply(end);
        agent.wait_for_calls(2, PATIENCE);
        pod.rotate_to(&agent, &second);
        refresh.stop();
    }
}

#[test]
fn refresh_finds_an_agent_that_restarts_on_the_same_path() {
    let pod = Pod::new();
    let first = pod.mint();
    let mut agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    for _ in 0..3 {
        drop(agent);
        refresh.wait_for_log(&["cannot connect", "No such file"]);
        let next = pod.mint();
        agent = pod.agent(offer([next.clone()]));
        pod.wait_for(&next);
        refresh.wait_for_log(&["serves again"]);
    }
    refresh.stop();
}

#[test]
fn twenty_helpers_that_have_lost_their_agent_at_one_moment_do_not_call_its_successor_at_one_moment() {
    const SECOND: Duration = Duration::from_secs(1);
    let pod = Pod::new();
    let pods: Vec<_> = (0..20).map(|_| Pod::new()).collect();
    let start = |other: &Pod| {
        let helper = pod.helper_at(pod.socket().display(), &other.volume());
        helper.arguments(&["--mode=refresh", "--log-level=trace"]).start()
    };
    let mut all: Vec<_> = pods.iter().map(start).collect();
    let rounds = (0..5).map(|_| {
        let svid = pod.mint();
        let agent = pod.agent(offer([svid.clone()]));
        pods.iter().for_each(|other| other.wait_for(&svid));
        let mut calls = agent.called_at();
        calls.sort();
        let [first, .., last] = calls[..] else { panic!("{calls:?}") };
        wait_until("each stream is so old that it is replaced at once", || last.elapsed() > SECOND);
        drop(agent);
        // Each finds five times that there is none, and then waits for up to 0.8 s.
        for refresh in &mut all {
            (0..5).for_each(|_| drop(refresh.wait_for_log(&["cannot connect"])));
        }
        last - first
    });
    // In step, they would call within a few milliseconds. On a busy machine, they may wait for each other.
    assert!(rounds.skip(1).any(|span| span > SECOND / 4));
    all.into_iter().for_each(|refresh| drop(refresh.stop()));
}

#[test]
fn the_first_contact_with_an_agent_is_not_logged_as_a_return() {
    let pod = Pod::new();
    let svid = pod.mint();
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["cannot connect"]);
    let _agent = pod.agent(offer([svid.clone()]));
    pod.wait_for(&svid);
    let log = refresh.stop();
    assert!(!log.iter().any(|line| line.contains("serves again")), "{}", log.join("\n"));
}

#[test]
fn an_agent_that_was_never_away_does_not_return_after_a_withdrawal() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    agent.reply(withdrawn());
    refresh.wait_for_log(&["withdrawn the identity"]);
    refresh.wait_for_log(&["WARN", NO_IDENTITY]);
    pod.rotate_to(&agent, &second);
    let log = refresh.stop();
    assert!(!log.iter().any(|line| line.contains("serves again")), "{}", log.join("\n"));
}

#[test]
fn refresh_finds_an_agent_that_was_away_for_twenty_seconds() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    // Single attempts are for trace.
    let mut refresh = pod.refresh(&["--log-level=trace"]);
    pod.wait_for(&first);
    drop(agent);
    // By its own account it has waited for so long, and never for more than a second.
    let mut waited = 0;
    while waited < 20_000 {
        let line = refresh.wait_for_log(&["cannot connect", "retrying in"]);
        let delay = line.split("retrying in ").nth(1).and_then(|rest| rest.split("ms").next());
        let delay: u32 = delay.and_then(|delay| delay.parse().ok()).expect("a delay");
        assert!(delay < 1000, "{line}");
        waited += delay;
    }
    let _agent = pod.agent(offer([second.clone()]));
    pod.wait_for(&second);
    refresh.stop();
}

/// An agent in a process of its own, which can be stopped.
pub struct AgentProcess(Child);

impl AgentProcess {
    pub fn start(socket: &Path, arguments: &[&str]) -> Self {
        let server =
            Path::new(env!("CARGO_BIN_EXE_pod-svid-helper")).with_file_name("examples/workload-api-server");
        let mut command = Command::new(server);
        command.arg("--socket").arg(socket).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().expect("the server starts; cargo test builds it"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().expect("a PID")), signal).expect("a running server");
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_hung_agent_is_called_again_and_the_expiry_of_its_svid_is_an_error() {
    let pod = Pod::new();
    // It rotates each second, so that however slow the machine, one SVID comes in time. Two thirds of a
    // life are longer than the five seconds that a stream has, so the warning precedes the expiry.
    let agent = AgentProcess::start(&pod.socket(), &["--ttl=12", "--rotate=1"]);
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["published", ID]);
    agent.signal(Signal::SIGSTOP);
    refresh.wait_for_log(&["WARN", ID, "due for renewal", "calling the agent again"]);
    refresh.wait_for_log(&["ERROR", ID, "expired at"]);
    pod.holds_one_set();
    agent.signal(Signal::SIGCONT);
    refresh.wait_for_log(&["published", ID]);
    refresh.stop();
}

#[test]
fn a_killed_agent_leaves_a_dead_socket_and_the_next_agent_is_found() {
    let pod = Pod::new();
    let agent = AgentProcess::start(&pod.socket(), &[]);
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["published", ID]);
    agent.signal(Signal::SIGKILL);
    refresh.wait_for_log(&["no agent listens on it"]);
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    pod.wait_for(&svid);
    refresh.stop();
}

const NO_IDENTITY: &str = "no identity issued";

fn withdrawn() -> Reply {
    Reply::Refuse(RpcStatusCode::PERMISSION_DENIED, NO_IDENTITY.to_owned())
}

#[test]
fn a_withdrawn_identity_is_an_error_and_the_files_stay() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    agent.reply(withdrawn());
    refresh.wait_for_log(&["ERROR", "the agent has withdrawn the identity", NO_IDENTITY, "the files stay"]);
    pod.wait_for(&first);
    pod.rotate_to(&agent, &second);
    refresh.stop();
}

#[test]
fn a_withdrawn_identity_is_removed_with_on_revoked_remove() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&["--on-revoked=remove"]);
    pod.wait_for(&first);
    agent.reply(withdrawn());
    refresh.wait_for_log(&["ERROR", "the agent has withdrawn the identity", "removes the files"]);
    refresh.wait_for_log(&["removed the X.509-SVID from"]);
    assert_eq!(names(&pod.volume()), [""; 0]);
    pod.rotate_to(&agent, &second);
    refresh.stop();
}

#[test]
fn an_id_that_is_no_longer_offered_is_withdrawn() {
    let pod = Pod::new();
    let first = pod.mint();
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[&format!("--pod-spiffe-id={ID}"), "--on-revoked=remove"]);
    pod.wait_for(&first);
    agent.reply(Fault::named("other-id").expect("a known fault").reply(&pod.authority, &Recipe::for_id(ID)));
    refresh.wait_for_log(&["ERROR", "withdrawn", "does not offer", ID]);
    wait_until("removes the files", || names(&pod.volume()).is_empty());
    refresh.stop();
}

/// A restarted agent does not know all of its entries at once.
#[test]
fn a_new_stream_whose_first_message_lacks_the_identity_withdraws_nothing() {
    let pod = Pod::new();
    let first = pod.mint();
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[&format!("--pod-spiffe-id={ID}"), "--on-revoked=remove"]);
    pod.wait_for(&first);
    drop(agent);
    let agent = pod.agent(offer([pod.authority.mint(&Recipe::for_id("spiffe://example.org/other"))]));
    refresh.wait_for_log(&["ERROR", "does not offer", ID, "waiting for the agent's next response"]);
    pod.rotate(&agent);
    let log = refresh.stop();
    assert!(!log.iter().any(|line| line.contains("withdrawn")), "{}", log.join("\n"));
}

#[test]
fn an_agent_that_does_not_know_the_pod_yet_withdraws_nothing() {
    let pod = Pod::new();
    let first = pod.mint();
    let agent = pod.agent(offer([first.clone()]));
    pod.init(&[]).succeeded();
    agent.reply(withdrawn());
    let mut refresh = pod.refresh(&["--on-revoked=remove"]);
    refresh.wait_for_log(&["WARN", NO_IDENTITY, "retrying"]);
    pod.wait_for(&first);
    refresh.stop();
}

#[test]
fn an_svid_that_is_withdrawn_before_it_is_read_is_still_published() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[]);
    pod.wait_for(&first);
    refresh.signal(Signal::SIGSTOP);
    agent.reply(offer([second.clone()]));
    agent.reply(withdrawn());
    refresh.signal(Signal::SIGCONT);
    pod.wait_for(&second);
    refresh.wait_for_log(&["withdrawn"]);
    refresh.stop();
}
