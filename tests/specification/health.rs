//! The gRPC health protocol, as Kubernetes probes it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use futures_executor::block_on;
use futures_util::StreamExt;
use grpcio::{CallOption, ChannelBuilder, ClientSStreamReceiver, EnvBuilder, Error, RpcStatusCode};
use grpcio_health::HealthClient;
use grpcio_health::proto::{HealthCheckRequest, HealthCheckResponse, ServingStatus};
use nix::unistd::Pid;

use crate::pod::{ID, PATIENCE, Pod, Running, offer, wait_until};
use crate::workload_api_server::authority::Recipe;
use crate::workload_api_server::server::Reply;

pub const ANY_PORT: &str = "--health-address=127.0.0.1:0";
pub const READINESS: &str = "readiness";
pub const LIVENESS: &str = "liveness";
const BOTH: &str = "";

/// Longer than a running helper needs to publish it.
const SHORT: Duration = Duration::from_secs(4);

/// Asks a helper how it is.
pub struct Probe(HealthClient);

impl Probe {
    /// Waits until the helper serves.
    pub fn of(helper: &mut Running) -> Self {
        Self::on(port_in(&helper.wait_for_log(&["INFO", "serving health on 127.0.0.1:"])))
    }

    pub fn on(port: u16) -> Self {
        let environment = Arc::new(EnvBuilder::new().cq_count(1).build());
        let channel = ChannelBuilder::new(environment).enable_http_proxy(false);
        Self(HealthClient::new(channel.connect(&format!("127.0.0.1:{port}"))))
    }

    pub fn ask(&self, service: &str) -> Result<ServingStatus, RpcStatusCode> {
        let options = CallOption::default().wait_for_ready(true).timeout(PATIENCE);
        match self.0.check_opt(&request(service), options) {
            Ok(response) => Ok(response.status()),
            Err(Error::RpcFailure(status)) => Err(status.code()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Readiness, liveness, and both.
    fn ask_all(&self) -> [Result<ServingStatus, RpcStatusCode>; 3] {
        [READINESS, LIVENESS, BOTH].map(|service| self.ask(service))
    }

    /// Waits until readiness and liveness are so, and the empty name what follows from them.
    pub fn wait_for(&self, is_ready: bool, is_live: bool) {
        let status = |is_well| Ok(if is_well { ServingStatus::Serving } else { ServingStatus::NotServing });
        let expected = [is_ready, is_live, is_ready && is_live].map(status);
        wait_until(&format!("readiness, liveness and both are {expected:?}"), || self.ask_all() == expected);
    }

    fn watch(&self, service: &str) -> ClientSStreamReceiver<HealthCheckResponse> {
        let options = CallOption::default().wait_for_ready(true).timeout(PATIENCE);
        self.0.watch_opt(&request(service), options).expect("a call")
    }
}

fn request(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// The port at the end of a line.
fn port_in(line: &str) -> u16 {
    line.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

fn next(watch: &mut ClientSStreamReceiver<HealthCheckResponse>) -> ServingStatus {
    block_on(watch.next()).expect("a message").expect("a message").status()
}

#[test]
fn before_anything_is_published_it_lives_and_is_not_ready() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    // No agent is there, and so it stays.
    let (yes, no) = (Ok(ServingStatus::Serving), Ok(ServingStatus::NotServing));
    assert_eq!(probe.ask_all(), [no, yes, no]);
    refresh.stop();
}

#[test]
fn it_is_ready_when_the_set_is_published() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_for(false, true);
    agent.reply(offer([pod.mint()]));
    probe.wait_for(true, true);
    let log = refresh.stop();
    for parts in [
        ["INFO", "readiness is NOT_SERVING", "X.509-SVID is not published"],
        ["INFO", "readiness is SERVING", ""],
    ] {
        assert!(log.iter().any(|line| parts.iter().all(|part| line.contains(part))), "{log:?}");
    }
}

#[test]
fn the_address_may_come_from_a_variable() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let helper = pod.helper(&["--mode=refresh"]).variable("HELPER_HEALTH_ADDRESS", "127.0.0.1:0");
    let mut refresh = helper.start();
    Probe::of(&mut refresh).wait_for(true, true);
    refresh.stop();
}

#[test]
fn another_service_is_not_found() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    assert_eq!(Probe::of(&mut refresh).ask("another"), Err(RpcStatusCode::NOT_FOUND));
    refresh.stop();
}

#[test]
fn an_svid_that_has_expired_is_neither_live_nor_ready_until_the_next_one_comes() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    agent.reply(offer([pod.authority.mint(&Recipe::for_id(ID).ttl(SHORT))]));
    probe.wait_for(true, true);
    probe.wait_for(false, false);
    for service in [READINESS, LIVENESS] {
        refresh.wait_for_log(&["WARN", service, "NOT_SERVING", ID, "expired at"]);
    }
    agent.reply(offer([pod.mint()]));
    probe.wait_for(true, true);
    refresh.stop();
}

#[test]
fn a_jwt_svid_that_has_expired_is_neither_live_nor_ready() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNAVAILABLE));
    let mut refresh = pod.refresh(&[ANY_PORT, "--jwt-svid=token.jwt=one"]);
    let probe = Probe::of(&mut refresh);
    probe.wait_for(false, true);
    pod.issue_jwt(&agent, SHORT);
    probe.wait_for(true, true);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNAVAILABLE));
    probe.wait_for(false, false);
    refresh.stop();
}

#[test]
fn files_of_init_are_ready_while_the_agent_is_away() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    pod.init(&[]).succeeded();
    drop(agent);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    refresh.wait_for_log(&["cannot connect"]);
    assert_eq!(probe.ask_all(), [Ok(ServingStatus::Serving); 3]);
    refresh.stop();
}

#[test]
fn files_that_are_not_good_are_not_ready() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    pod.init(&[]).succeeded();
    let other = Pod::new();
    let _other_agent = other.agent(offer([other.mint()]));
    other.init(&[]).succeeded();
    // Another SVID's key.
    let key = pod.volume().join("..data").join("svid-key.pem");
    std::fs::remove_file(&key).expect("a key");
    std::fs::copy(other.volume().join("svid-key.pem"), key).expect("a key");
    drop(agent);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    Probe::of(&mut refresh).wait_for(false, true);
    refresh.stop();
}

/// The agent is silent, so that nothing else than the date itself can tell of it. After a minute,
/// the helper would look by chance.
#[test]
fn files_of_init_that_expire_are_neither_live_nor_ready_from_then_on() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut init = pod.helper(&["--init-timeout=1h"]).start();
    agent.wait_for_calls(1, PATIENCE);
    agent.reply(offer([pod.authority.mint(&Recipe::for_id(ID).ttl(SHORT))]));
    init.finish(0);
    agent.reply(Reply::Silence);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_for(false, false);
    let log = refresh.stop();
    assert!(!log.iter().any(|line| line.contains("nothing usable for 60s")), "{log:?}");
}

#[test]
fn an_identity_that_is_withdrawn_and_removed_is_not_ready() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[ANY_PORT, "--on-revoked=remove"]);
    let probe = Probe::of(&mut refresh);
    probe.wait_for(true, true);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    probe.wait_for(false, true);
    refresh.stop();
}

#[test]
fn an_identity_that_is_withdrawn_and_kept_stays_ready() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_for(true, true);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["withdrawn", "the files stay"]);
    assert_eq!(probe.ask_all(), [Ok(ServingStatus::Serving); 3]);
    refresh.stop();
}

#[test]
fn it_is_not_ready_while_a_wanted_jwt_svid_is_missing() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNAVAILABLE));
    let mut refresh = pod.refresh(&[ANY_PORT, "--jwt-svid=token.jwt=one"]);
    let probe = Probe::of(&mut refresh);
    pod.wait_for(&svid);
    refresh.wait_for_log(&["WARN", "readiness is NOT_SERVING", "JWT-SVID token.jwt is not published"]);
    probe.wait_for(false, true);
    pod.issue_jwt(&agent, Duration::from_secs(300));
    probe.wait_for(true, true);
    refresh.stop();
}

#[test]
fn a_watch_tells_of_each_change() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[ANY_PORT, "--on-revoked=remove"]);
    let probe = Probe::of(&mut refresh);
    let mut watch = probe.watch(READINESS);
    assert_eq!(next(&mut watch), ServingStatus::NotServing);
    agent.reply(offer([pod.mint()]));
    assert_eq!(next(&mut watch), ServingStatus::Serving);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    assert_eq!(next(&mut watch), ServingStatus::NotServing);
    refresh.stop();
}

#[test]
fn a_rotation_is_no_change() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[ANY_PORT, "--on-revoked=remove"]);
    let probe = Probe::of(&mut refresh);
    probe.wait_for(true, true);
    let mut watch = probe.watch(READINESS);
    assert_eq!(next(&mut watch), ServingStatus::Serving);
    let svid = pod.mint();
    agent.reply(offer([svid.clone()]));
    pod.wait_for(&svid);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    assert_eq!(next(&mut watch), ServingStatus::NotServing);
    refresh.stop();
}

#[test]
fn a_taken_port_is_an_error_and_health_is_served_when_it_is_free() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut refresh = pod.refresh(&[&format!("--health-address={address}")]);
    refresh.wait_for_log(&["ERROR", "cannot serve health on", &address.to_string(), "is the port taken"]);
    pod.wait_for(&svid);
    drop(listener);
    let line = refresh.wait_for_log(&["INFO", "serving health on 127.0.0.1:"]);
    assert_eq!(port_in(&line), address.port());
    Probe::on(address.port()).wait_for(true, true);
    refresh.stop();
}

/// Else, each of them would answer half of the probes.
#[test]
fn two_helpers_do_not_share_a_port() {
    let pods = [Pod::new(), Pod::new()];
    let mut first = pods[0].refresh(&[ANY_PORT]);
    let port = port_in(&first.wait_for_log(&["serving health on 127.0.0.1:"]));
    let mut second = pods[1].refresh(&[&format!("--health-address=127.0.0.1:{port}")]);
    second.wait_for_log(&["ERROR", "cannot serve health on", &port.to_string()]);
    first.stop();
    second.wait_for_log(&["INFO", "serving health on", &port.to_string()]);
    second.stop();
}

/// How many TCP sockets of a process listen.
pub fn listening_sockets(process: Pid) -> usize {
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).expect("its descriptors");
    let links = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    let own: Vec<_> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let tables = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{process}/net/{name}")));
    let tables = tables.into_iter().flatten().collect::<String>();
    // The fourth field is the state, and 0A is LISTEN; the tenth is the inode.
    let is_own = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let inode = fields.get(9).map(|inode| format!("socket:[{inode}]"));
        fields.get(3) == Some(&"0A") && inode.is_some_and(|inode| own.contains(&inode))
    };
    tables.lines().filter(is_own).count()
}

#[test]
fn without_an_address_the_helper_listens_on_no_port() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let refresh = pod.refresh(&[]);
    pod.wait_for(&svid);
    assert_eq!(listening_sockets(refresh.pid()), 0);
    refresh.stop();
    // To show that one would be seen.
    let mut refresh = pod.refresh(&[ANY_PORT]);
    refresh.wait_for_log(&["serving health on"]);
    assert_eq!(listening_sockets(refresh.pid()), 1);
    refresh.stop();
}

#[test]
fn a_signal_ends_refresh_while_it_is_watched() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    let mut watches = [READINESS, LIVENESS, BOTH].map(|service| probe.watch(service));
    for watch in &mut watches {
        next(watch);
    }
    refresh.stop();
}
