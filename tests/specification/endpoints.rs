//! Where the Workload API may be.

use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener};

use workload_api_server::server::WorkloadApiServer;

use crate::pod::{Finished, Helper, Pod, is_root, offer};

fn refused(address: &str, part: &str) {
    let argument = format!("--workload-api-socket={address}");
    Helper::new().argument(argument).finish().refused_with(&["--workload-api-socket takes", part]);
}

#[test]
fn an_empty_address_is_refused() {
    let argument = "--workload-api-socket=";
    Helper::new()
        .argument(argument)
        .finish()
        .refused_with(&["--workload-api-socket needs a value", "absolute"]);
}

macro_rules! refuses {
    ($($name:ident: $address:expr => $part:expr;)+) => {$(
        #[test]
        fn $name() {
            refused($address, $part);
        }
    )+};
}

refuses! {
    a_relative_path_is_refused: "run/agent.sock" => "absolute";
    a_unix_uri_with_a_relative_path_is_refused: "unix:agent.sock" => "absolute";
    a_unix_uri_without_a_path_is_refused: "unix:" => "absolute";
    a_unix_uri_with_an_authority_is_refused: "unix://host/agent.sock" => "authority";
    a_unix_uri_with_two_slashes_is_refused: "unix://agent.sock" => "authority";
    a_unix_uri_with_a_query_is_refused: "unix:///agent.sock?a=b" => "query";
    a_unix_uri_with_a_fragment_is_refused: "unix:///agent.sock#a" => "fragment";
    a_unix_uri_with_percent_encoding_is_refused: "unix:///agent%20.sock" => "percent";
    a_directory_root_is_refused: "unix:///" => "names no file";
    another_scheme_is_refused: "http://127.0.0.1:80" => "scheme";
    an_abstract_socket_is_refused: "unix-abstract:agent" => "scheme";
    a_tcp_uri_with_a_host_name_is_refused: "tcp://localhost:8081" => "IP address";
    a_tcp_uri_without_a_port_is_refused: "tcp://127.0.0.1" => "port";
    a_tcp_uri_with_port_zero_is_refused: "tcp://127.0.0.1:0" => "port";
    a_tcp_uri_with_a_port_too_large_is_refused: "tcp://127.0.0.1:65536" => "port";
    a_tcp_uri_with_a_path_is_refused: "tcp://127.0.0.1:8081/api" => "path";
    a_tcp_uri_with_a_closing_slash_is_refused: "tcp://127.0.0.1:8081/" => "path";
    a_tcp_uri_with_a_user_is_refused: "tcp://user@127.0.0.1:8081" => "IP address";
    a_tcp_uri_with_a_query_is_refused: "tcp://127.0.0.1:8081?a=b" => "query";
    a_tcp_uri_without_slashes_is_refused: "tcp:127.0.0.1:8081" => "IP address";
}

#[test]
fn a_path_too_long_for_a_unix_socket_is_refused() {
    refused(&format!("/{}", "a".repeat(107)), "108 bytes");
}

#[test]
fn every_form_of_a_unix_address_reaches_the_agent() {
    let (pod, _agent) = Pod::with_agent();
    let path = pod.socket();
    let path = path.display();
    for address in
        [format!("{path}"), format!("unix:{path}"), format!("unix://{path}"), format!("UNIX://{path}")]
    {
        pod.helper_at(address, &pod.volume()).finish().succeeded();
    }
}

#[test]
fn a_path_that_no_uri_can_hold_is_used_and_shown_as_it_is() {
    let pod = Pod::new();
    let path = pod.path().join("a?b#c%20.sock");
    let _agent = pod.agent(offer([pod.mint()]));
    std::os::unix::fs::symlink(pod.socket(), &path).expect("a link");
    let finished = pod.helper_at(path.display(), &pod.volume()).finish().succeeded();
    assert!(finished.log.contains(&format!("init from {} to", path.display())), "{}", finished.log);
}

#[test]
fn a_tcp_address_reaches_the_agent() {
    let pod = Pod::new();
    let agent = WorkloadApiServer::on_loopback(offer([pod.mint()]));
    pod.helper_at(format_args!("tcp://127.0.0.1:{}", agent.port()), &pod.volume()).finish().succeeded();
}

/// For an init that cannot succeed.
const AT_ONCE: &str = "--init-timeout=300ms";

fn hopeless_init(pod: &Pod, arguments: &[&str]) -> Finished {
    pod.helper(&[AT_ONCE]).arguments(arguments).finish()
}

#[test]
fn a_missing_socket_is_named_with_what_to_check() {
    let pod = Pod::new();
    let socket = pod.socket();
    hopeless_init(&pod, &[]).failed_with(&[
        "no SVID within 300ms",
        socket.to_str().unwrap(),
        "No such file",
        "mounted",
    ]);
}

#[test]
fn a_socket_on_which_nobody_listens_is_named_as_that() {
    let pod = Pod::new();
    drop(UnixListener::bind(pod.socket()).expect("a socket"));
    hopeless_init(&pod, &[]).failed_with(&["Connection refused", "no agent listens"]);
}

#[test]
fn a_file_that_is_no_socket_is_named_as_that() {
    let pod = Pod::new();
    std::fs::write(pod.socket(), "").expect("a file");
    hopeless_init(&pod, &[]).failed_with(&["this is a file, not a socket"]);
}

#[test]
fn a_directory_in_place_of_the_socket_is_named_as_that() {
    let pod = Pod::new();
    std::fs::create_dir(pod.socket()).expect("a directory");
    hopeless_init(&pod, &[]).failed_with(&["this is a directory, not a socket"]);
}

#[test]
fn a_datagram_socket_is_no_agent() {
    let pod = Pod::new();
    let _socket = UnixDatagram::bind(pod.socket()).expect("a socket");
    hopeless_init(&pod, &[]).failed_with(&["cannot connect"]);
}

#[test]
fn a_socket_without_permission_is_named_as_that() {
    use std::os::unix::fs::PermissionsExt;
    let pod = Pod::new();
    let _listener = UnixListener::bind(pod.socket()).expect("a socket");
    std::fs::set_permissions(pod.socket(), PermissionsExt::from_mode(0o000)).expect("its permissions");
    let helper = pod.helper(&["--init-timeout=300ms"]);
    // Root may do everything; anybody else is refused as they are.
    let helper = if is_root() { helper.run_by_nobody() } else { helper };
    helper.finish().failed_with(&["Permission denied", "write permission on the socket"]);
}

#[test]
fn a_peer_that_speaks_http1_is_no_agent() {
    use std::io::Write;
    let pod = Pod::new();
    let listener = UnixListener::bind(pod.socket()).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let mut init = pod.helper(&["--init-timeout=1h"]).start();
    init.wait_for_log(&["answered Unavailable", "not a Workload API"]);
}

#[test]
fn a_peer_that_accepts_and_says_nothing_is_named_as_that() {
    let pod = Pod::new();
    let _listener = UnixListener::bind(pod.socket()).expect("a socket");
    hopeless_init(&pod, &[]).failed_with(&["sent nothing", "stopped or overloaded"]);
}

#[test]
fn a_tcp_port_on_which_nobody_listens_is_named() {
    let pod = Pod::new();
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let address = format!("tcp://127.0.0.1:{port}");
    let init = pod.helper_at(&address, &pod.volume()).argument(AT_ONCE);
    init.finish().failed_with(&[&address, "Connection refused"]);
}
