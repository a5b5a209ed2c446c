//! `run`: the application is the helper's child.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use workload_api_server::authority::Recipe;
use workload_api_server::server::Reply;

use crate::http::{ANY_PORT, Probe};
use crate::pod::{ID, PATIENCE, Pod, Running, is_emulated, is_root, names, offer, skip, wait_until};
use crate::process::{children, has_in_mask, position, process_in, signals_in_mask, start_as_process_one};

fn run(pod: &Pod, options: &[&str], application: &[impl AsRef<OsStr>]) -> Running {
    pod.helper(&["--mode=run"]).arguments(options).command(application).start()
}

/// Writes down its start, its process, each signal, and its end, which comes when it gets SIGTERM and the
/// file `end` is there.
const APPLICATION: &str = r#"
    for signal in HUP INT QUIT USR1 USR2 ALRM WINCH 37; do
        trap "echo $signal >>\"\$0/runs\"" $signal
    done
    trap 'echo TERM >>"$0/runs"; until [ -e "$0/end" ]; do sleep 0.02; done; exit 7' TERM
    echo start >>"$0/runs"
    while :; do sleep 0.02; done
"#;

#[test]
fn the_application_starts_when_everything_is_published() {
    let (pod, agent) = Pod::with_agent();
    agent.issue_jwt(|_| Reply::refuse(grpcio::RpcStatusCode::UNAVAILABLE));
    let text =
        r#"cat "$0/svids/svid.pem" "$0/svids/svid-key.pem" "$0/svids/token.jwt" && echo all >>"$0/runs""#;
    let mut run = run(&pod, &["--jwt-svid=token.jwt=one"], &pod.script(text));
    run.wait_for_log(&["published"]);
    pod.issue_jwt(&agent, Duration::from_secs(300));
    pod.wait_for_runs("all\n");
    let log = run.finish(0);
    assert!(position(&log, &["published the JWT-SVID"]) < position(&log, &["started /bin/sh"]), "{log:?}");
}

#[test]
fn the_application_starts_with_files_that_are_still_good_while_no_agent_is_there() {
    let (pod, agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    drop(agent);
    run(&pod, &[], &pod.script(r#"echo start >>"$0/runs""#)).finish(0);
    assert_eq!(pod.runs(), "start\n");
}

#[test]
fn the_application_has_our_stdin_and_stdout() {
    let (pod, _agent) = Pod::with_agent();
    let application = pod.script(r#"read line && echo "[$line]""#);
    let helper = pod.helper(&["--mode=run"]).command(&application);
    let finished = helper.through("sh", &["-c", r#"echo hello | "$0" "$@""#]).finish().succeeded();
    assert_eq!(finished.stdout, "[hello]\n");
}

#[test]
fn the_application_has_no_signal_blocked_or_ignored() {
    let (pod, _agent) = Pod::with_agent();
    let mut run = run(&pod, &[], &["/bin/sleep", "60"]);
    let process = process_in(&run.wait_for_log(&["started /bin/sleep"]));
    assert_eq!(signals_in_mask(process, "SigBlk:"), 0);
    assert_eq!(signals_in_mask(process, "SigIgn:"), 0);
    kill(process, Signal::SIGKILL).expect("a running application");
    run.finish(137);
}

#[test]
fn the_exit_code_of_the_application_is_ours() {
    for (end, code) in
        [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -HUP $$", 129), ("exec /no/such", 127)]
    {
        let (pod, _agent) = Pod::with_agent();
        let log = run(&pod, &[], &pod.script(end)).finish(code);
        let level = if code == 0 { "INFO" } else { "ERROR" };
        assert!(position(&log, &[level, "/bin/sh", "ended"]).is_some(), "{log:?}");
    }
}

#[test]
fn an_application_that_cannot_be_started_ends_us_with_the_code_of_a_shell() {
    for (application, code, cause) in [
        ("no-such-program", 127, "is it in this image, and in PATH?"),
        ("/etc/passwd", 126, "Permission denied"),
    ] {
        let (pod, _agent) = Pod::with_agent();
        let log = run(&pod, &[], &[application]).finish(code);
        assert!(position(&log, &["ERROR", "cannot run", application, cause]).is_some(), "{log:?}");
    }
}

#[test]
fn at_a_rotation_the_application_gets_the_renewal_signal() {
    for (option, got) in
        [("--on-renewal=signal", "HUP"), ("--renew-signal=USR1", "USR1"), ("--renew-signal=RTMIN+3", "37")]
    {
        // An emulator has numbers of its own for them.
        if got == "37" && is_emulated("real-time signals") {
            continue;
        }
        let (pod, agent) = Pod::with_agent();
        let mut run = run(&pod, &[option], &pod.script(APPLICATION));
        let process = process_in(&run.wait_for_log(&["started /bin/sh"]));
        pod.wait_for_runs("start\n");
        for times in 1..=2 {
            agent.reply(offer([pod.mint()]));
            assert_eq!(process_in(&run.wait_for_log(&["INFO", "sent SIG"])), process);
            pod.wait_for_runs(&("start\n".to_owned() + &format!("{got}\n").repeat(times)));
        }
        pod.let_end();
        run.signal(Signal::SIGTERM);
        run.finish(7);
    }
}

#[test]
fn a_signal_that_would_end_the_application_is_not_sent() {
    let (pod, agent) = Pod::with_agent();
    let mut run = run(&pod, &[], &["/bin/sleep", "1000"]);
    let process = process_in(&run.wait_for_log(&["started /bin/sleep"]));
    agent.reply(offer([pod.mint()]));
    run.wait_for_log(&["DEBUG", "neither catches nor ignores SIGHUP", "retrying in"]);
    let says = ["WARN", "neither catches nor ignores SIGHUP", "--on-renewal=restart", "--on-renewal=nothing"];
    run.wait_for_log(&says);
    assert_eq!(children(run.pid()), [process]);
    run.signal(Signal::SIGTERM);
    run.finish(143);
}

#[test]
fn at_a_rotation_the_application_is_restarted() {
    let (pod, agent) = Pod::with_agent();
    let mut run = run(&pod, &["--on-renewal=restart"], &pod.script(APPLICATION));
    let first = process_in(&run.wait_for_log(&["started /bin/sh"]));
    pod.wait_for_runs("start\n");
    agent.reply(offer([pod.mint()]));
    // It takes as long as it needs.
    pod.wait_for_runs("start\nTERM\n");
    assert_eq!(children(run.pid()), [first]);
    pod.let_end();
    run.wait_for_log(&["INFO", "/bin/sh", "ended with code 7"]);
    let second = process_in(&run.wait_for_log(&["started /bin/sh"]));
    assert_ne!(first, second);
    pod.wait_for_runs("start\nTERM\nstart\n");
    run.signal(Signal::SIGTERM);
    run.finish(7);
}

#[test]
fn an_application_that_watches_the_files_is_left_alone() {
    let (pod, agent) = Pod::with_agent();
    let mut run = run(&pod, &["--on-renewal=nothing"], &pod.script(APPLICATION));
    pod.wait_for_runs("start\n");
    pod.rotate(&agent);
    // What would come at all comes before the end.
    pod.let_end();
    run.signal(Signal::SIGTERM);
    let log = run.finish(7);
    assert_eq!(pod.runs(), "start\nTERM\n");
    assert_eq!(position(&log, &["sent SIG"]), None, "{log:?}");
}

#[test]
fn orphans_of_the_application_leave_no_zombie() {
    let (pod, _agent) = Pod::with_agent();
    let text = "(sleep 0.1 &); while :; do sleep 0.02; done";
    let (mut unshare, helper) = start_as_process_one(pod.helper(&["--mode=run"]).command(&pod.script(text)));
    unshare.wait_for_log(&["started /bin/sh"]);
    unshare.wait_for_log(&["reaped orphan process"]);
    assert_eq!(children(helper).len(), 1);
}

#[test]
fn an_application_that_goes_to_the_background_is_told_to_stay() {
    let hint = ["INFO", "ended with code 0", "keep it in the foreground"];
    let (pod, _agent) = Pod::with_agent();
    let in_group = pod.script(r#"while [ -d "$0" ]; do sleep 0.05; done >/dev/null 2>&1 & exit 0"#);
    let log = run(&pod, &[], &in_group).finish(0);
    assert!(position(&log, &hint).is_some(), "{log:?}");
    // A daemon of its own session is found by process 1.
    let text =
        r#"setsid sh -c ': >"$0/there"; sleep 60' "$0" & until [ -e "$0/there" ]; do sleep 0.02; done"#;
    let (mut unshare, _) = start_as_process_one(pod.helper(&["--mode=run"]).command(&pod.script(text)));
    let log = unshare.finish(0);
    assert!(position(&log, &hint).is_some(), "{log:?}");
    // A zombie is no process that runs on.
    let ended_first = pod.script("/bin/true & exec sleep 0.2");
    for command in [&["/bin/true".to_owned()][..], &ended_first] {
        let log = run(&pod, &[], command).finish(0);
        assert_eq!(position(&log, &["foreground"]), None, "{log:?}");
    }
}

#[test]
fn without_an_application_run_is_refused() {
    let run = Pod::new().helper(&["--mode=run"]).finish();
    run.refused_with(&["--mode=run needs an application after --"]);
}

#[test]
fn options_that_do_nothing_in_run_or_elsewhere_are_refused() {
    for (options, parts) in [
        (
            ["--mode=refresh", "--on-renewal=restart"],
            ["--on-renewal has no meaning in --mode=refresh", "run"],
        ),
        (["--mode=init", "--on-renewal=nothing"], ["--on-renewal has no meaning in --mode=init", "run"]),
        (["--mode=run", "--pid-file=/x"], ["--pid-file has no meaning in --mode=run", "init and refresh"]),
        (["--mode=run", "--on-renewal=never"], ["--on-renewal takes", "signal, restart or nothing"]),
    ] {
        Pod::new().helper(&options).command(&["true"]).finish().refused_with(&parts);
    }
    for action in ["restart", "nothing"] {
        let action = format!("--on-renewal={action}");
        let run = Pod::new().helper(&["--mode=run", "--renew-signal=HUP", &action]).command(&["true"]);
        run.finish().refused_with(&["--renew-signal has no meaning with", &action]);
    }
}

#[test]
fn an_application_is_not_started_before_its_files_are_there() {
    let pod = Pod::new();
    let _agent = pod.agent(Reply::refuse(grpcio::RpcStatusCode::PERMISSION_DENIED));
    let mut run = run(&pod, &[], &pod.script(r#"echo start >>"$0/runs""#));
    run.wait_for_log(&["retrying"]);
    run.signal(Signal::SIGTERM);
    // A job that was stopped before its work has not succeeded.
    let log = run.finish(143);
    assert_eq!(pod.runs(), "");
    assert!(position(&log, &["received SIGTERM before /bin/sh was started"]).is_some(), "{log:?}");
}

/// Scripts inherit what a shell ignores.
#[test]
fn a_signal_that_the_helper_was_started_with_ignored_is_not_ignored_in_the_application() {
    let (pod, _agent) = Pod::with_agent();
    let helper = pod.helper(&["--mode=run"]).command(&["/bin/sleep", "60"]);
    let mut run = helper.through("sh", &["-c", r#"trap '' USR1 PIPE; exec "$0" "$@""#]).start();
    let process = process_in(&run.wait_for_log(&["started /bin/sleep"]));
    for signal in [Signal::SIGUSR1, Signal::SIGPIPE] {
        assert!(!has_in_mask(process, "SigIgn:", signal), "{signal}");
    }
    run.signal(Signal::SIGTERM);
    run.finish(143);
}

/// The kernel would keep the ends of children to itself.
#[test]
fn the_end_of_the_application_is_noticed_although_sigchld_was_ignored_before_us() {
    let (pod, _agent) = Pod::with_agent();
    let helper = pod.helper(&["--mode=run"]).command(&["/bin/sh", "-c", "exit 7"]);
    helper.through("sh", &["-c", r#"trap '' CHLD; exec "$0" "$@""#]).start().finish(7);
}

#[test]
fn an_application_is_not_started_again_before_its_files_are_there() {
    let (pod, agent) = Pod::with_agent();
    let options = ["--on-renewal=restart", "--on-revoked=remove"];
    let text = APPLICATION.replace("echo start", r#"cat "$0/svids/svid.pem" >/dev/null && echo start"#);
    let mut run = run(&pod, &options, &pod.script(&text));
    pod.wait_for_runs("start\n");
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("start\nTERM\n");
    agent.reply(Reply::refuse(grpcio::RpcStatusCode::PERMISSION_DENIED));
    run.wait_for_log(&["removes the files"]);
    wait_until("nothing is left", || names(&pod.volume()).is_empty());
    pod.let_end();
    run.wait_for_log(&["INFO", "/bin/sh", "ended with code 7"]);
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("start\nTERM\nstart\n");
    run.signal(Signal::SIGTERM);
    let log = run.finish(7);
    let published = log.iter().rposition(|line| line.contains("published "));
    assert!(published < log.iter().rposition(|line| line.contains("started /bin/sh")), "{log:#?}");
}

/// As programs in Go and in a JVM do.
#[test]
fn an_application_that_catches_the_renewal_signal_and_ends_by_it_is_an_error_with_the_cure() {
    let (pod, agent) = Pod::with_agent();
    let text = r#"trap 'exit 129' HUP; echo start >>"$0/runs"; while :; do sleep 0.02; done"#;
    let mut run = run(&pod, &[], &pod.script(text));
    pod.wait_for_runs("start\n");
    agent.reply(offer([pod.mint()]));
    let log = run.finish(129);
    assert!(position(&log, &["ERROR", "code 129", "--on-renewal=restart"]).is_some(), "{log:#?}");
}

#[test]
fn an_application_that_is_stopped_is_restarted_too() {
    let (pod, agent) = Pod::with_agent();
    pod.let_end();
    let mut run = run(&pod, &["--on-renewal=restart"], &pod.script(APPLICATION));
    let process = process_in(&run.wait_for_log(&["started /bin/sh"]));
    pod.wait_for_runs("start\n");
    kill(process, Signal::SIGSTOP).expect("a process");
    agent.reply(offer([pod.mint()]));
    run.wait_for_log(&["ended with code 7"]);
    run.wait_for_log(&["started /bin/sh"]);
    run.signal(Signal::SIGTERM);
    run.end();
}

#[test]
fn a_process_that_a_variable_names_is_not_signalled_in_run() {
    let (pod, agent) = Pod::with_agent();
    let helper = pod.helper(&["--mode=run", "--on-renewal=nothing"]).command(&pod.script(APPLICATION));
    let helper = helper.variable("HELPER_PID_FILE", pod.path().join("no.pid"));
    let mut run = helper.variable("HELPER_SIGNAL_PROCESS", "nothing-of-this-name").start();
    pod.wait_for_runs("start\n");
    pod.rotate(&agent);
    pod.let_end();
    run.signal(Signal::SIGTERM);
    let log = run.finish(7);
    assert_eq!(position(&log, &["ERROR"]), None, "{log:#?}");
}

/// Some values would make C-core abort.
#[test]
fn variables_of_grpc_are_for_the_application_alone() {
    for strategy in ["none", "epollex", "epollsig", ""] {
        let (pod, _agent) = Pod::with_agent();
        let text = r#"echo "[$GRPC_POLL_STRATEGY] [$GRPC_VERBOSITY] ${GRPC_TRACE-none}" >>"$0/runs""#;
        let helper = pod.helper(&["--mode=run"]).command(&pod.script(text));
        let helper = helper.variable("GRPC_POLL_STRATEGY", strategy).variable("GRPC_VERBOSITY", "debug");
        helper.start().finish(0);
        assert_eq!(pod.runs(), format!("[{strategy}] [debug] none\n"));
    }
}

#[test]
fn an_empty_command_is_refused() {
    for mode in ["--mode=run", "--mode=refresh", "--mode=init"] {
        let helper = Pod::new().helper(&[mode]).command(&["", "argument"]);
        helper.finish().refused_with(&["the command after -- is empty"]);
    }
}

#[test]
fn a_command_line_that_was_given_as_one_word_is_named_as_such() {
    let (pod, _agent) = Pod::with_agent();
    let log = run(&pod, &[], &["sleep 3"]).finish(127);
    let says = ["ERROR", r#"cannot run "sleep 3" (one word): no such program"#, "no shell is used here"];
    assert!(position(&log, &says).is_some(), "{log:?}");
}

/// A user without another process.
const ALONE: u32 = 65529;

#[test]
fn an_application_that_the_limit_on_processes_keeps_from_its_restart_is_started_later() {
    if !is_root() {
        return skip("only root can become a user without a process");
    }
    let pod = Pod::new();
    for directory in [pod.path().to_owned(), pod.volume()] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).expect("its permissions");
    }
    let agent = pod.agent(offer([pod.mint()]));
    let address = format!("unix://{}", pod.socket().display());
    let helper = pod.helper_at(address, &pod.volume().join("svid"));
    let helper = helper.arguments(&["--mode=run", "--on-renewal=restart", ANY_PORT]);
    let mut run = helper.command(&pod.script(APPLICATION)).run_by(ALONE, ALONE).start();
    let probe = Probe::of(&mut run);
    pod.wait_for_runs("start\n");
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("start\nTERM\n");
    let pid = run.pid().to_string();
    let limit_processes = |limit: &str| {
        let arguments = ["--pid", &pid, &format!("--nproc={limit}:")];
        let status = Command::new("prlimit").args(arguments).uid(ALONE).gid(ALONE).status();
        assert!(status.expect("prlimit").success());
    };
    limit_processes("1");
    pod.let_end();
    run.wait_for_log(&["ERROR", "cannot run /bin/sh", "pids.max", "retrying in 250ms"]);
    assert!(probe.wait_until_ready_is(503).contains("/bin/sh could not be started yet"));
    limit_processes("100");
    run.wait_for_log(&["started /bin/sh"]);
    pod.wait_for_runs("start\nTERM\nstart\n");
    run.signal(Signal::SIGTERM);
    run.finish(7);
}

#[test]
fn an_application_that_is_just_being_installed_is_started_later() {
    let (pod, _agent) = Pod::with_agent();
    let program = pod.path().join("application");
    std::fs::copy("/bin/sh", &program).expect("a program");
    let being_written = std::fs::OpenOptions::new().append(true).open(&program).expect("a program");
    let mut run = run(&pod, &[], &[program.as_os_str(), "-c".as_ref(), "exit 7".as_ref()]);
    run.wait_for_log(&["ERROR", "cannot run", "application", "retrying in 250ms"]);
    drop(being_written);
    run.finish(7);
}

/// Whoever asks /ready would send it requests.
#[test]
fn it_is_not_ready_while_the_application_restarts() {
    let (pod, agent) = Pod::with_agent();
    let mut run = run(&pod, &["--on-renewal=restart", ANY_PORT], &pod.script(APPLICATION));
    let probe = Probe::of(&mut run);
    pod.wait_for_runs("start\n");
    probe.wait_until_ready_is(200);
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("start\nTERM\n");
    let (status, reason) = probe.get("/ready");
    assert_eq!(status, 503);
    assert!(reason.contains("/bin/sh was sent SIGTERM, and is started again"), "{reason}");
    pod.let_end();
    pod.wait_for_runs("start\nTERM\nstart\n");
    assert_eq!(probe.get("/ready").0, 200);
    run.signal(Signal::SIGTERM);
    run.finish(7);
}

#[test]
fn systemd_learns_that_the_application_restarts() {
    let pod = Pod::new();
    let systemd = UnixDatagram::bind(pod.path().join("systemd")).expect("a socket");
    systemd.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let wait_for = |part: &str| {
        let mut buffer = [0; 4096];
        while {
            let length = systemd.recv(&mut buffer).expect("a message");
            !String::from_utf8_lossy(&buffer[..length]).contains(part)
        } {}
    };
    let agent = pod.agent(offer([pod.mint()]));
    let helper = pod.helper(&["--mode=run", "--on-renewal=restart"]).command(&pod.script(APPLICATION));
    let mut run = helper.variable("NOTIFY_SOCKET", pod.path().join("systemd")).start();
    wait_for("READY=1");
    pod.wait_for_runs("start\n");
    agent.reply(offer([pod.mint()]));
    wait_for("STATUS=/bin/sh was sent SIGTERM, and is started again");
    pod.let_end();
    wait_for("STATUS=");
    pod.wait_for_runs("start\nTERM\nstart\n");
    run.signal(Signal::SIGTERM);
    run.finish(7);
}

#[test]
fn renewals_of_tokens_alone_do_not_restart_the_application() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(4));
    let options = ["--on-renewal=restart", "--jwt-svid=token.jwt=one"];
    pod.let_end();
    let mut run = run(&pod, &options, &pod.script(APPLICATION));
    pod.wait_for_runs("start\n");
    for _ in 0..3 {
        run.wait_for_log(&["published the JWT-SVID", "renewed"]);
        run.wait_for_log(&["no notification of token: only svid,bundle notify (--notify-for)"]);
    }
    assert_eq!(pod.runs(), "start\n");
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("start\nTERM\nstart\n");
    run.signal(Signal::SIGTERM);
    run.finish(7);
}

#[test]
fn renewals_of_tokens_restart_an_application_that_has_nothing_else_or_asks_for_them() {
    for options in [&["--x509=false"][..], &["--notify-for=token"]] {
        let pod = Pod::new();
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(4));
        pod.let_end();
        let helper = pod.helper(&["--mode=run", "--on-renewal=restart", "--jwt-svid=token.jwt=one"]);
        let mut run = helper.arguments(options).command(&pod.script(APPLICATION)).start();
        pod.wait_for_runs("start\nTERM\nstart\n");
        run.signal(Signal::SIGTERM);
        run.finish(7);
    }
}

#[test]
fn a_restart_waits_at_random_after_a_rotation_but_not_in_the_last_third_of_the_old_svid() {
    let pod = Pod::new();
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let begun = |ago| Recipe { not_before: now - ago, not_after: now + hour, ..Recipe::for_id(ID) };
    let [halfway, late] = [begun(hour), begun(24 * hour)].map(|recipe| pod.authority.mint(&recipe));
    let agent = pod.agent(offer([halfway]));
    let options = ["--on-renewal=restart", "--notify-splay=1000h"];
    pod.let_end();
    let mut run = run(&pod, &options, &pod.script(APPLICATION));
    pod.wait_for_runs("start\n");
    agent.reply(offer([late]));
    let line = run.wait_for_log(&["INFO", "notifying in", "(--notify-splay)"]);
    assert!(["19 minutes", "20 minutes"].iter().any(|minutes| line.contains(minutes)), "{line}");
    assert_eq!(pod.runs(), "start\n");
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("start\nTERM\nstart\n");
    run.signal(Signal::SIGTERM);
    run.finish(7);
}

#[test]
fn the_application_finds_the_credential_folder_of_the_spiffe_layout() {
    for (layout, folder) in [("spiffe", "svids"), ("pem,spiffe", "svids"), ("pem", "none")] {
        let (pod, _agent) = Pod::with_agent();
        let text = r#"echo "${SPIFFE_CREDENTIAL_FOLDER-$0/none}" >>"$0/runs""#;
        run(&pod, &[&format!("--layout={layout}")], &pod.script(text)).finish(0);
        assert_eq!(pod.runs(), format!("{}\n", pod.path().join(folder).display()));
    }
}
