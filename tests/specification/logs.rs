//! The form and the content of the log.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Instant;

use grpcio::RpcStatusCode;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::server::Reply;

use crate::pod::{
    Helper, ID, PATIENCE, Pod, STOP, offer, program_under_test, serial, stop_on_a_busy_machine, wait_until,
};

#[test]
fn a_text_line_has_a_utc_time_a_level_and_a_message() {
    let (pod, _agent) = Pod::with_agent();
    let log = pod.init(&[]).succeeded().log;
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').expect("a time");
        assert_eq!(
            (time.len(), &time[10..11], &time[23..]),
            ("2026-11-23T16:40:05.123Z".len(), "T", "Z"),
            "{line}"
        );
        assert!(
            ["ERROR ", "WARN  ", "INFO  ", "DEBUG "].iter().any(|level| rest.starts_with(level)),
            "{line}"
        );
    }
}

#[test]
fn a_json_line_is_an_object_with_time_level_message_and_fields() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let log = pod.init(&["--log-format=json"]).succeeded().log;
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let published =
        lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.starts_with("published")));
    let published = published.expect("a line about the publication");
    assert_eq!(published["level"], "info");
    assert!(published["time"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert_eq!(published["spiffe_id"], ID);
    assert_eq!(published["serial"], serial(&svid));
    assert_eq!(published["path"], pod.volume().to_str().unwrap());
    assert!(published["not_after"].as_str().is_some_and(|time| time.ends_with('Z')));
}

#[test]
fn a_lasting_state_is_one_warning_and_single_attempts_are_for_trace() {
    for (level, attempts) in [("debug", false), ("trace", true)] {
        let pod = Pod::new();
        let agent = pod.agent(Reply::refuse(RpcStatusCode::UNAVAILABLE));
        let mut refresh = pod.refresh(&[&format!("--log-level={level}")]);
        refresh.wait_for_log(&["WARN", "Unavailable", "retrying in"]);
        agent.wait_for_calls(4, PATIENCE);
        let log = refresh.stop();
        let lines =
            |level| log.iter().filter(|line| line.contains(level) && line.contains("Unavailable")).count();
        assert_eq!((lines("WARN"), lines("TRACE") >= 2), (1, attempts), "{}", log.join("\n"));
    }
}

#[test]
fn the_level_leaves_out_what_is_less_important() {
    let (pod, _agent) = Pod::with_agent();
    assert_eq!(pod.init(&["--log-level=warn"]).succeeded().log, "");
}

/// The forms in which bytes of the key could be in a log.
fn forms(svid: &X509SVID, pem: &str) -> Vec<String> {
    let middle = &svid.x509_svid_key[40..56];
    let hexadecimal =
        |between: &str| middle.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between);
    let base64 = pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_lowercase);
    let decimal = format!("{middle:?}");
    let others = [hexadecimal(""), hexadecimal(" "), decimal.trim_matches(['[', ']']).to_owned()];
    base64.chain(others).collect()
}

/// Asserts that nothing of the key is in a log.
fn is_discreet(log: &str, svid: &X509SVID, pem: &str, situation: &str) {
    let log = log.to_lowercase();
    for form in forms(svid, pem) {
        assert!(!log.contains(&form), "{form:?} {situation}: {log}");
    }
}

/// Asserts that all lines are the helper's own: gRPC's are not for operators.
fn is_our_own(log: &str) {
    let is_ours = |line: &str| {
        ["ERROR ", "WARN ", "INFO ", "DEBUG ", "TRACE "].iter().any(|level| line.contains(level))
    };
    assert!(log.lines().all(is_ours) && !log.contains("grpc_"), "{log}");
}

/// Told to trace everything. Each of these variables needs the others to have an effect.
fn tracing(helper: Helper) -> Helper {
    helper
        .variable("GRPC_TRACE", "all")
        .variable("GRPC_VERBOSITY", "DEBUG")
        .variable("GRPC_STACKTRACE_MINLOGLEVEL", "DEBUG")
}

#[test]
fn nothing_of_the_key_is_logged_at_any_level() {
    for level in ["off", "error", "warn", "info", "debug", "trace"] {
        let pod = Pod::new();
        let (svid, next) = (pod.mint(), pod.mint());
        let agent = pod.agent(offer([svid.clone()]));
        let helper = pod.helper(&["--mode=refresh", "--keystore-file-name=svid.p12"]);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let child = tracing(helper.argument(format!("--log-level={level}"))).start_with_stderr(writer);
        for svid in [&svid, &next] {
            pod.rotate_to(&agent, svid);
        }
        let pem = pod.read("svid-key.pem");
        stop(child);
        let log = std::io::read_to_string(reader).expect("UTF-8");
        assert_eq!(log.is_empty(), ["off", "error", "warn"].contains(&level), "{log}");
        is_discreet(&log, &next, &pem, level);
        is_our_own(&log);
    }
}

/// The names of the variables that gRPC asks for, and more: all such words in the program.
fn variables_of_grpc() -> HashSet<String> {
    let program = std::fs::read(program_under_test()).expect("the program");
    let words = program.split(|byte| !byte.is_ascii_uppercase() && *byte != b'_');
    let of_grpc = words.filter(|word| word.starts_with(b"GRPC_"));
    of_grpc.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[test]
fn nothing_of_the_key_is_logged_whichever_variable_of_grpc_is_set() {
    let variables = variables_of_grpc();
    assert!(variables.contains("GRPC_TRACE") && variables.contains("GRPC_POLL_STRATEGY"), "{variables:?}");
    assert!(variables.len() > 12, "{variables:?}");
    for variable in &variables {
        for value in ["all", "tcp,http,api", "1", "INFO"] {
            let pod = Pod::new();
            let svid = pod.mint();
            let _agent = pod.agent(offer([svid.clone()]));
            let helper = tracing(pod.helper(&["--log-level=trace"])).variable(variable, value);
            let log = helper.finish().succeeded().log;
            let pem = std::fs::read_to_string(pod.volume().join("svid-key.pem")).expect("a key");
            is_discreet(&log, &svid, &pem, &format!("{variable}={value}"));
        }
    }
}

#[test]
fn the_result_of_a_probe_has_no_time_in_front_so_that_equal_ones_add_up() {
    let pod = Pod::new();
    let check = || pod.check(&[]).failed_with(&["svid"]).log;
    assert_eq!(check(), check());
    assert!(check().starts_with("ERROR "), "{}", check());
}

/// Leaves no room in a pipe.
pub fn fill(mut writer: &PipeWriter) {
    let flags = fcntl(writer, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate).expect("its flags");
    fcntl(writer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).expect("an option");
    while writer.write(b"\n").is_ok() {}
    fcntl(writer, FcntlArg::F_SETFL(flags)).expect("an option");
}

fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    fill(&writer);
    (reader, writer)
}

/// The end of a process that was told to end.
pub fn stop(mut helper: Child) {
    kill(Pid::from_raw(helper.id() as i32), Signal::SIGTERM).expect("a running helper");
    wait_until("the helper has ended", || helper.try_wait().expect("a child").is_some());
    assert_eq!(helper.wait().expect("a child").code(), Some(0));
}

#[test]
fn rotations_are_published_while_nobody_reads_stderr() {
    const ROTATIONS: u32 = 200;
    let (pod, agent) = Pod::with_agent();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // Room for a few lines.
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a small pipe");
    let helper = pod.helper(&["--mode=refresh"]).start_with_stderr(writer);
    for _ in 0..ROTATIONS {
        pod.rotate(&agent);
    }
    // Now the test reads.
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    let mut dropped = 0;
    while dropped < ROTATIONS / 2 {
        let line = lines.find(|line| line.contains("dropped")).expect("a line");
        let (_, count) = line.split_once("WARN  dropped ").expect("a count");
        let (count, cause) = count.split_once(' ').expect("a count");
        assert!(
            cause.starts_with("log line") && cause.ends_with("the reader of stderr was too slow"),
            "{line}"
        );
        dropped += count.parse::<u32>().expect("a count");
    }
    assert!(dropped <= 2 * ROTATIONS, "{dropped}");
    stop(helper);
    // Every line is a whole one.
    assert!(lines.all(|line| line.starts_with("20") && line.contains("Z ")));
}

#[test]
fn a_signal_ends_the_helper_at_once_while_nobody_reads_stderr() {
    let takes = |_| {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        let (_reader, writer) = full_pipe();
        let helper = pod.helper(&["--mode=refresh", "--log-level=trace"]).start_with_stderr(writer);
        pod.wait_for(&svid);
        let start = Instant::now();
        stop(helper);
        start.elapsed()
    };
    // The machine may be busy with other tests, ten times hardly.
    let in_time = (0..10).map(takes).any(|took| took < stop_on_a_busy_machine());
    assert!(in_time, "ten times, it took longer than {STOP:?} for each program that wants a core");
}

#[test]
fn stderr_that_is_closed_full_or_without_a_reader_stops_nothing() {
    let full = File::options().write(true).open("/dev/full").expect("a device");
    let (_, without_reader) = std::io::pipe().expect("a pipe");
    for stderr in [Stdio::from(full), without_reader.into(), Stdio::null()] {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        let helper = pod.helper(&["--mode=refresh"]).start_with_stderr(stderr);
        pod.wait_for(&svid);
        stop(helper);
    }
}

/// As journald gives it.
#[test]
fn stderr_may_be_a_socket_that_nobody_reads() {
    let (pod, agent) = Pod::with_agent();
    let (reader, writer) = UnixStream::pair().expect("a pair of sockets");
    let helper = pod.helper(&["--mode=refresh"]).start_with_stderr(OwnedFd::from(writer));
    let mut rotations = 0;
    // More than such a socket holds.
    while rotations < 1500 {
        rotations += 1;
        let svid = pod.mint();
        agent.reply(offer([svid.clone()]));
        if rotations % 100 == 0 {
            pod.wait_for(&svid);
        }
    }
    stop(helper);
    drop(reader);
}

#[test]
fn the_mode_of_a_shared_stderr_stays_as_it_is() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let flags = || fcntl(&writer, FcntlArg::F_GETFL).expect("its flags");
    let before = flags();
    let helper = pod.helper(&["--mode=refresh"]).start_with_stderr(writer.try_clone().expect("a descriptor"));
    pod.wait_for(&svid);
    assert_eq!(flags(), before);
    stop(helper);
}
