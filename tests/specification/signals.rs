//! SIGTERM, SIGINT and SIGQUIT end refresh at any moment, with success. Other signals do not end it.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use grpcio::RpcStatusCode;
use nix::sys::signal::{Signal, kill};
use workload_api_server::server::Reply;

use crate::pod::{EVERYTHING, Pod, is_emulated, offer, remove, wait_until};
use crate::process::start_as_process_one;

const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

#[test]
fn each_ends_refresh_while_it_waits_in_a_stream() {
    for signal in ENDING {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        let mut refresh = pod.refresh(&[]);
        pod.wait_for(&svid);
        refresh.signal(signal);
        let log = refresh.finish(0);
        assert!(log.last().is_some_and(|line| line.contains(&format!("stopped by {signal}"))), "{log:?}");
        pod.wait_for(&svid);
    }
}

#[test]
fn each_ends_refresh_of_everything_while_it_waits_in_all_its_calls() {
    for signal in ENDING {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent_with_jwt(pod.offer_everything(&svid), Duration::from_secs(300));
        let mut refresh =
            pod.helper(&["--mode=refresh", "--http-address=127.0.0.1:0"]).arguments(&EVERYTHING).start();
        pod.wait_for(&svid);
        pod.wait_for_file("token.jwt", |_| true);
        pod.wait_for_file("jwks.json", |_| true);
        refresh.signal(signal);
        refresh.finish(0);
        pod.holds_one_set();
    }
}

#[test]
fn a_signal_ends_refresh_while_no_agent_is_there() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["cannot connect"]);
    refresh.stop();
}

#[test]
fn a_signal_ends_refresh_in_a_backoff_of_a_minute() {
    let pod = Pod::new();
    let _agent = pod.agent(Reply::refuse(RpcStatusCode::UNIMPLEMENTED));
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["retrying in 60s"]);
    refresh.stop();
}

#[test]
fn a_signal_ends_refresh_while_a_connected_peer_is_silent() {
    let pod = Pod::new();
    let listener = UnixListener::bind(pod.socket()).expect("a socket");
    let refresh = pod.refresh(&[]);
    let _connection = listener.accept().expect("a connection");
    refresh.stop();
}

#[test]
fn a_signal_ends_refresh_while_a_tcp_connection_is_set_up() {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket,
    };
    use std::os::fd::AsRawFd;
    // A queue of one that is full: the next connection stays half open.
    let queue =
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(queue.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a port");
    listen(&queue, Backlog::new(0).expect("a backlog")).expect("a listener");
    let address: SockaddrIn = getsockname(queue.as_raw_fd()).expect("an address");
    let _first =
        std::net::TcpStream::connect(("127.0.0.1", address.port())).expect("the one place in the queue");
    let pod = Pod::new();
    let refresh = pod.helper_at(format_args!("tcp://127.0.0.1:{}", address.port()), &pod.volume());
    let refresh = refresh.argument("--mode=refresh").start();
    wait_until("a connection is half open", || half_open_connections_to(address.port()) > 0);
    refresh.stop();
}

/// TCP connections in state SYN_SENT (02 in the kernel's table).
fn half_open_connections_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let to_port = format!(":{port:04X}");
    let half_open = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|remote| remote.ends_with(&to_port)) && fields.next() == Some("02")
    };
    table.lines().filter(half_open).count()
}

#[test]
fn a_signal_ends_refresh_when_its_directory_is_gone() {
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    let volume = pod.volume().join("deeper");
    std::fs::create_dir(&volume).expect("a directory");
    let refresh = pod.helper_at(pod.socket().display(), &volume);
    let mut refresh = refresh.argument("--mode=refresh").start();
    refresh.wait_for_log(&["published"]);
    remove(&pod.volume());
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["ERROR", "deeper", "retrying"]);
    refresh.stop();
}

#[test]
fn a_signal_ends_refresh_as_process_one() {
    for signal in ENDING {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        let (mut unshare, helper) = start_as_process_one(pod.helper(&["--mode=refresh"]));
        pod.wait_for(&svid);
        kill(helper, signal).expect("a running helper");
        let log = unshare.finish(0);
        assert!(log.last().is_some_and(|line| line.contains(&format!("stopped by {signal}"))), "{log:?}");
    }
}

#[test]
fn other_signals_do_not_end_refresh() {
    let (pod, agent) = Pod::with_agent();
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["published"]);
    for signal in [
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGWINCH,
        Signal::SIGIO,
        Signal::SIGXFSZ,
    ] {
        refresh.signal(signal);
        refresh.wait_for_log(&["DEBUG", &format!("ignored {signal}")]);
    }
    // A real-time signal, which nix has no name for. An emulator has numbers of its own for them.
    if !is_emulated("real-time signals") {
        let command = ["-c".to_owned(), format!("kill -37 {}", refresh.pid())];
        assert!(std::process::Command::new("/bin/sh").args(command).status().expect("a shell").success());
        refresh.wait_for_log(&["DEBUG", "ignored SIGRTMIN+3"]);
    }
    pod.rotate(&agent);
    refresh.stop();
}

#[test]
fn a_crash_would_leave_no_core() {
    let pod = Pod::new();
    let mut refresh = pod.refresh(&[]);
    refresh.wait_for_log(&["cannot connect"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", refresh.pid())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    refresh.stop();
}
