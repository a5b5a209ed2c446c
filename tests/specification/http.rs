//! The answers of the HTTP endpoint to probes and to other clients. Metrics: see `metrics`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use grpcio::RpcStatusCode;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use workload_api_server::authority::Recipe;
use workload_api_server::server::Reply;

use crate::pod::{EVERYTHING, Helper, ID, NOBODY, PATIENCE, Pod, Running, is_root, offer, wait_until};

pub const ANY_PORT: &str = "--http-address=127.0.0.1:0";

/// A life that ends within a test: longer than a helper on a busy machine needs to publish what has come.
pub const SHORT: Duration = Duration::from_secs(10);

/// Asks a helper how it is.
pub struct Probe(SocketAddr);

impl Probe {
    /// Waits until the helper serves.
    pub fn of(helper: &mut Running) -> Self {
        Self::on(port_in(&helper.wait_for_log(&["INFO", "serving /live, /ready and /metrics on "])))
    }

    pub fn on(port: u16) -> Self {
        Self((Ipv4Addr::LOCALHOST, port).into())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.0).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// All that comes back for these bytes until the helper closes; nothing if it resets.
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may answer and close before it has read everything.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => String::from_utf8(answer).expect("UTF-8"),
        }
    }

    /// The status and the body of an answer to GET.
    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.send(format!("GET {path} HTTP/1.1\r\nHost: helper\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        (status(head), body.to_owned())
    }

    /// Waits until /ready answers with this status. Whatever it is, /live answers 200.
    pub fn wait_until_ready_is(&self, status: u16) -> String {
        let mut body = String::new();
        wait_until(&format!("/ready answers {status}"), || {
            assert_eq!(self.get("/live"), (200, "200 OK\n".to_owned()));
            let answer = self.get("/ready");
            body = answer.1;
            answer.0 == status
        });
        body
    }

    /// The value of a metric, with its labels as they are in the text.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let line =
            text.lines().find_map(|line| line.strip_prefix("pod_svid_helper_")?.strip_prefix(series))?;
        Some(line.trim().parse().expect("a number"))
    }
}

fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {answer:?}"))
}

/// The port at the end of a line.
pub fn port_in(line: &str) -> u16 {
    line.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn before_anything_is_published_it_lives_and_is_not_ready() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    // No agent is there, and so it stays.
    let probe = Probe::of(&mut refresh);
    let reason = probe.wait_until_ready_is(503);
    assert!(reason.starts_with("no X.509-SVID yet: cannot connect to unix://"), "{reason}");
    wait_until("the reason says for how long", || {
        probe.get("/ready").1.ends_with("mounted here?), for 1s\n")
    });
    refresh.stop();
}

#[test]
fn it_is_ready_when_the_set_is_published() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(503);
    refresh.wait_for_log(&["INFO", "/ready answers 503", "no X.509-SVID yet", "sent nothing"]);
    agent.reply(offer([pod.mint()]));
    probe.wait_until_ready_is(200);
    refresh.wait_for_log(&["INFO", "/ready answers 200"]);
    refresh.stop();
}

#[test]
fn the_address_may_come_from_a_variable() {
    let (pod, _agent) = Pod::with_agent();
    let helper = pod.helper(&["--mode=refresh"]).variable("HELPER_HTTP_ADDRESS", "127.0.0.1:0");
    let mut refresh = helper.start();
    Probe::of(&mut refresh).wait_until_ready_is(200);
    refresh.stop();
}

#[test]
fn the_address_may_be_every_address_of_both_families() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        crate::pod::skip("IPv6 is off here");
        return;
    }
    let pod = Pod::new();
    let mut refresh = pod.refresh(&["--http-address=[::]:0"]);
    let port = port_in(&refresh.wait_for_log(&["serving", "[::]"]));
    for address in [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()] {
        Probe(address).wait_until_ready_is(503);
    }
    refresh.stop();
}

#[test]
fn an_svid_that_has_expired_is_not_ready_until_the_next_one_comes() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    agent.wait_for_calls(1, PATIENCE);
    agent.reply(offer([pod.authority.mint(&Recipe::for_id(ID).ttl(SHORT))]));
    probe.wait_until_ready_is(200);
    let reason = probe.wait_until_ready_is(503);
    assert!(reason.starts_with(&format!("the X.509-SVID of {ID} expired at ")), "{reason}");
    refresh.wait_for_log(&["WARN", "/ready answers 503", ID, "expired at"]);
    agent.reply(offer([pod.mint()]));
    probe.wait_until_ready_is(200);
    refresh.stop();
}

/// X.509 is good for an hour, and the agent is away.
#[test]
fn a_jwt_svid_that_has_expired_is_not_ready() {
    let (pod, agent) = Pod::with_agent();
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNAVAILABLE));
    let mut refresh = pod.refresh(&[ANY_PORT, "--jwt-svid=token.jwt=one"]);
    let probe = Probe::of(&mut refresh);
    wait_until("the token alone is missing", || {
        let (status, reason) = probe.get("/ready");
        status == 503 && reason.starts_with("no JWT-SVID token.jwt yet: the Workload API at ")
    });
    pod.issue_jwt(&agent, SHORT);
    probe.wait_until_ready_is(200);
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::UNAVAILABLE));
    probe.wait_until_ready_is(503);
    refresh.stop();
}

#[test]
fn files_of_init_are_ready_while_the_agent_is_away() {
    let (pod, agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    drop(agent);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    refresh.wait_for_log(&["INFO", "found", ID, "valid until"]);
    refresh.wait_for_log(&["cannot connect"]);
    let probe = Probe::of(&mut refresh);
    assert_eq!(probe.get("/ready").0, 200);
    refresh.stop();
}

#[test]
fn a_directory_that_cannot_be_written_is_named_and_not_the_agent() {
    let pod = Pod::new();
    std::fs::remove_dir(pod.volume()).expect("an empty volume");
    std::fs::write(pod.volume(), "").expect("a file in its place");
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    for (material, name) in [(&[][..], "X.509-SVID"), (&["--x509=false", "--jwt-svid=a=b"], "JWT-SVID a")] {
        let mut refresh = pod.refresh(&[&[ANY_PORT], material].concat());
        let probe = Probe::of(&mut refresh);
        refresh.wait_for_log(&["ERROR", "Not a directory", "retrying"]);
        let reason = probe.wait_until_ready_is(503);
        assert!(
            reason.starts_with(&format!("no {name} yet: one has come, and could not be written")),
            "{reason}"
        );
        assert!(reason.contains("Not a directory"), "{reason}");
        refresh.stop();
    }
    drop(agent);
}

/// A publication of the token alone drops them.
#[test]
fn names_that_others_remove_come_back_at_the_next_probe_while_the_agent_is_away() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    drop(agent);
    for name in ["bundle.pem", "svid-key.pem"] {
        let name = pod.volume().join(name);
        std::fs::remove_file(&name).expect("a link");
        wait_until("the name is back", || {
            probe.get("/ready");
            name.exists()
        });
        refresh.wait_for_log(&["WARN", "were removed", "restored them from the published set"]);
        probe.wait_until_ready_is(200);
        pod.holds_one_set();
        Helper::new()
            .argument("--mode=check")
            .argument("--svid-path")
            .argument(pod.volume())
            .finish()
            .succeeded();
    }
    pod.wait_for(&svid);
    refresh.stop();
}

#[test]
fn files_that_no_publication_keeps_are_not_ready() {
    let plain: fn(&Pod) = |pod| {
        let set = ["svid.pem", "svid-key.pem", "bundle.pem"].map(|name| (name, pod.read(name)));
        std::fs::remove_dir_all(pod.volume()).expect("the volume");
        std::fs::create_dir(pod.volume()).expect("a volume");
        set.iter().for_each(|(name, text)| std::fs::write(pod.volume().join(name), text).expect("a file"));
    };
    let another_users: fn(&Pod) = |pod| {
        let key = pod.volume().join("..data/svid-key.pem");
        std::os::unix::fs::chown(key, Some(NOBODY), None).expect("its owner");
    };
    for change in [plain].into_iter().chain(is_root().then_some(another_users)) {
        let pod = Pod::new();
        let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
        pod.init(&[]).succeeded();
        change(&pod);
        agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
        let id = format!("--pod-spiffe-id={ID}");
        let mut refresh = pod.refresh(&["--jwt-svid=token.jwt=one", &id, ANY_PORT]);
        let probe = Probe::of(&mut refresh);
        pod.wait_for_file("token.jwt", |text| !text.is_empty());
        let (status, reason) = probe.get("/ready");
        assert_eq!(status, 503);
        assert!(reason.starts_with("no X.509-SVID yet: "), "{reason}");
        refresh.stop();
    }
}

#[test]
fn files_that_are_not_good_are_not_ready() {
    let (pod, agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    let (other, _other_agent) = Pod::with_agent();
    other.init(&[]).succeeded();
    // Another SVID's key.
    let key = pod.volume().join("..data").join("svid-key.pem");
    std::fs::remove_file(&key).expect("a key");
    std::fs::copy(other.volume().join("svid-key.pem"), key).expect("a key");
    drop(agent);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    Probe::of(&mut refresh).wait_until_ready_is(503);
    refresh.stop();
}

/// The agent is silent: only the date itself makes them expire. After a minute, the helper would look by
/// chance.
#[test]
fn files_of_init_that_expire_are_not_ready_from_then_on() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut init = pod.helper(&["--init-timeout=1h"]).start();
    agent.wait_for_calls(1, PATIENCE);
    agent.reply(offer([pod.authority.mint(&Recipe::for_id(ID).ttl(SHORT))]));
    init.finish(0);
    agent.reply(Reply::Silence);
    let mut refresh = pod.refresh(&[ANY_PORT]);
    Probe::of(&mut refresh).wait_until_ready_is(503);
    let log = refresh.stop();
    assert!(!log.iter().any(|line| line.contains("nothing usable for 60s")), "{log:?}");
}

#[test]
fn an_identity_that_is_withdrawn_and_removed_is_not_ready() {
    let (pod, agent) = Pod::with_agent();
    let mut refresh = pod.refresh(&[ANY_PORT, "--on-revoked=remove"]);
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    probe.wait_until_ready_is(503);
    refresh.stop();
}

#[test]
fn an_identity_that_is_withdrawn_and_kept_stays_ready() {
    let (pod, agent) = Pod::with_agent();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["withdrawn", "the files stay"]);
    assert!(agent.calls() <= 2, "the end of the live stream is enough");
    assert_eq!(probe.get("/ready").0, 200);
    refresh.stop();
}

#[test]
fn a_taken_port_is_an_error_and_http_is_served_when_it_is_free() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut refresh = pod.refresh(&[&format!("--http-address={address}")]);
    refresh.wait_for_log(&[
        "ERROR",
        "cannot serve HTTP on",
        &address.to_string(),
        "another process has this port",
    ]);
    pod.wait_for(&svid);
    drop(listener);
    let line = refresh.wait_for_log(&["INFO", "serving /live, /ready and /metrics on 127.0.0.1:"]);
    assert_eq!(port_in(&line), address.port());
    Probe::on(address.port()).wait_until_ready_is(200);
    refresh.stop();
}

/// Else, each of them would answer half of the probes.
#[test]
fn two_helpers_do_not_share_a_port() {
    let pods = [Pod::new(), Pod::new()];
    let mut first = pods[0].refresh(&[ANY_PORT]);
    let port = port_in(&first.wait_for_log(&["serving /live, /ready and /metrics on 127.0.0.1:"]));
    let mut second = pods[1].refresh(&[&format!("--http-address=127.0.0.1:{port}")]);
    second.wait_for_log(&["ERROR", "cannot serve HTTP on", &port.to_string()]);
    // A closed connection of a moment ago must not hold up the second.
    Probe::on(port).get("/live");
    first.stop();
    second.wait_for_log(&["INFO", "serving", &port.to_string()]);
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
    Probe::of(&mut refresh);
    assert_eq!(listening_sockets(refresh.pid()), 1);
    refresh.stop();
}

#[test]
fn other_requests_are_refused() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    let long_head = format!("GET /live HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(9000));
    for (request, expected) in [
        (b"GET / HTTP/1.1\r\n\r\n".as_slice(), 404),
        (b"POST /live HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (&[0xff; 10_000], 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 505),
        (long_head.as_bytes(), 431),
    ] {
        let answer = probe.send(request);
        assert_eq!(status(&answer), expected, "{}", String::from_utf8_lossy(request));
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
    assert_eq!(probe.get("/live").0, 200);
    refresh.stop();
}

#[test]
fn head_is_answered_without_a_body() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    let answer = probe.send(b"HEAD /live HTTP/1.1\r\nHost: helper\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("\r\nContent-Length: 7\r\n"), "{answer}");
    refresh.stop();
}

#[test]
fn of_pipelined_requests_the_first_is_answered() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    let answer = probe.send(&b"GET /live HTTP/1.1\r\nHost: helper\r\n\r\n".repeat(1000));
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    refresh.stop();
}

#[test]
fn a_head_that_comes_byte_by_byte_is_answered() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let mut stream = Probe::of(&mut refresh).connect();
    stream.set_nodelay(true).expect("an option");
    for byte in b"GET /live HTTP/1.1\r\nHost: helper\r\n\r\n" {
        stream.write_all(&[*byte]).expect("it listens still");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(status(&answer), 200);
    refresh.stop();
}

/// Until its time is over: 5 seconds for a connection.
#[test]
fn a_connection_that_sends_nothing_half_a_head_or_no_end_is_closed() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    for bytes in [b"".as_slice(), b"GET /live HTTP/1.1\r\nHost:", b"GET /live HTTP/1.1\r\n\r\n"] {
        let mut stream = probe.connect();
        stream.write_all(bytes).expect("it listens");
        // Its side stays open: the end of this loop is that the helper ends it.
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the end");
        wait_until("the helper has closed it", || stream.write_all(b"more").is_err());
    }
    refresh.stop();
}

#[test]
fn a_stopped_loop_does_not_answer() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    refresh.signal(Signal::SIGSTOP);
    let mut stream = probe.connect();
    stream.write_all(b"GET /live HTTP/1.1\r\n\r\n").expect("the kernel takes it");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let error = stream.read(&mut [0]).expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    refresh.signal(Signal::SIGCONT);
    assert_eq!(probe.get("/live").0, 200);
    refresh.stop();
}

/// The descriptors of this process, for thousands of connections.
fn may_open(descriptors: u64) -> bool {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    if hard < descriptors {
        crate::pod::skip(&format!(
            "this process may open {hard} descriptors, and the test needs {descriptors}"
        ));
    }
    hard >= descriptors
}

/// 2,000 connections that stay, 100 more at each of 20 rotations, while the helper has few
/// descriptors and every source.
fn clients_delay_no_rotation(limit: u32, bytes: &[u8]) {
    // One flood at a time: all tests share this process's descriptors.
    static FLOOD: Mutex<()> = Mutex::new(());
    let _flood = FLOOD.lock().unwrap_or_else(PoisonError::into_inner);
    if !may_open(8000) {
        return;
    }
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent_with_jwt(pod.offer_everything(&svid), Duration::from_secs(300));
    let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
    let helper = pod.helper(&["--mode=refresh", ANY_PORT]).arguments(&EVERYTHING);
    let mut refresh = helper.through("/bin/sh", &["-c", &script]).start();
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    let publications = || probe.metric("publications_total").expect("a number");
    let first = publications();
    let connect = || {
        let mut stream = probe.connect();
        // The helper may have closed it already.
        let _ = stream.write_all(bytes);
        stream
    };
    let mut strangers: Vec<_> = (0..2000).map(|_| connect()).collect();
    for _ in 0..20 {
        strangers.extend((0..100).map(|_| connect()));
        let svid = pod.mint();
        agent.reply(pod.offer_everything(&svid));
        pod.wait_for(&svid);
    }
    assert_eq!(probe.get("/live").0, 200);
    assert_eq!(probe.get("/ready").0, 200);
    assert_eq!(publications(), first + 20.0);
    drop(strangers);
    let log = refresh.stop();
    assert!(!log.iter().any(|line| line.contains("ERROR") || line.contains("oo many open files")), "{log:?}");
}

macro_rules! strangers {
    ($($name:ident($limit:literal, $bytes:literal);)+) => {$(
        #[test]
        fn $name() {
            clients_delay_no_rotation($limit, $bytes);
        }
    )+};
}

strangers! {
    idle_connections_delay_no_rotation_with_64_descriptors(64, b"");
    idle_connections_delay_no_rotation_with_256_descriptors(256, b"");
    idle_connections_delay_no_rotation_with_1024_descriptors(1024, b"");
    half_sent_requests_delay_no_rotation_with_64_descriptors(64, b"GET /metrics HTTP/1.1\r\nHost: ");
    half_sent_requests_delay_no_rotation_with_256_descriptors(256, b"GET /metrics HTTP/1.1\r\nHost: ");
    half_sent_requests_delay_no_rotation_with_1024_descriptors(1024, b"GET /metrics HTTP/1.1\r\nHost: ");
    http_2_prefaces_delay_no_rotation_with_64_descriptors(64, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

/// No descriptor is left for any connection, and then there are some again.
#[test]
fn without_descriptors_connections_wait_and_rotations_go_on() {
    let (pod, agent) = Pod::with_agent();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let probe = Probe::of(&mut refresh);
    probe.wait_until_ready_is(200);
    let process = refresh.pid();
    let set_limit = |limit: &str| {
        let status = std::process::Command::new("prlimit")
            .args([format!("--pid={process}"), format!("--nofile={limit}:")])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "prlimit");
    };
    // One above the highest descriptor that is open: the store needs a few, and finds none either.
    set_limit("3");
    let mut waiting = probe.connect();
    waiting.write_all(b"GET /live HTTP/1.1\r\n\r\n").expect("the kernel takes it");
    refresh.wait_for_log(&["ERROR", "cannot accept connections on", "oo many open files", "retrying in 1s"]);
    set_limit("1024");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("an answer");
    assert_eq!(status(&answer), 200);
    pod.rotate(&agent);
    refresh.stop();
}

#[test]
fn a_client_that_closes_its_side_first_is_answered_all_the_same() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[ANY_PORT]);
    let mut stream = Probe::of(&mut refresh).connect();
    stream.write_all(b"GET /live HTTP/1.0\r\n\r\n").expect("it listens");
    stream.shutdown(Shutdown::Write).expect("an open socket");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(status(&answer), 200);
    refresh.stop();
}
