//! `run`: signals to the helper are the application's, and its end is ours.

use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};
use workload_api_server::server::Reply;

use crate::http::{ANY_PORT, Probe};
use crate::pod::{Pod, Running, offer, wait_until};
use crate::process::{children, is_zombie, position, process_in, start_as_process_one};

/// Writes down its start and each signal; at SIGTERM and SIGQUIT, it waits for the file `end`, and ends.
const APPLICATION: &str = r#"
    for signal in HUP INT USR1 USR2 ALRM WINCH 37; do
        trap "echo $signal >>\"\$0/runs\"" $signal
    done
    drain() { echo $1 >>"$0/runs"; until [ -e "$0/end" ]; do sleep 0.02; done; exit 7; }
    trap 'drain TERM' TERM
    trap 'drain QUIT' QUIT
    echo start >>"$0/runs"
    while :; do sleep 0.02; done
"#;

fn run(pod: &Pod, options: &[&str]) -> Running {
    let run = pod.helper(&["--mode=run"]).arguments(options).command(&pod.script(APPLICATION)).start();
    pod.wait_for_runs("start\n");
    run
}

#[test]
fn signals_that_do_not_end_it_go_through_to_the_application() {
    let (pod, _agent) = Pod::with_agent();
    let mut run = run(&pod, &[]);
    let mut runs = "start\n".to_owned();
    for (signal, name) in
        [(1, "HUP"), (10, "USR1"), (12, "USR2"), (28, "WINCH"), (14, "ALRM"), (2, "INT"), (37, "37")]
    {
        let pid = run.pid().to_string();
        let sent =
            std::process::Command::new("/bin/sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
        assert!(sent.expect("a shell").success());
        runs += &format!("{name}\n");
        pod.wait_for_runs(&runs);
    }
    pod.let_end();
    run.signal(Signal::SIGTERM);
    let log = run.finish(7);
    assert!(position(&log, &["INFO", "passed SIGHUP on to /bin/sh"]).is_some(), "{log:?}");
}

/// As in a container, where the kubelet or podman tells process 1 to end: with SIGTERM, or with the
/// image's STOPSIGNAL.
#[test]
fn as_process_one_the_application_drains_and_its_code_is_ours() {
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGQUIT, "QUIT")] {
        let (pod, _agent) = Pod::with_agent();
        let helper = pod.helper(&["--mode=run"]).command(&pod.script(APPLICATION));
        let (mut unshare, helper) = start_as_process_one(helper);
        pod.wait_for_runs("start\n");
        kill(helper, signal).expect("a running helper");
        pod.wait_for_runs(&format!("start\n{name}\n"));
        kill(helper, None).expect("the helper waits");
        pod.let_end();
        unshare.finish(7);
    }
}

#[test]
fn a_crash_of_the_application_is_the_end_of_process_one() {
    let (pod, _agent) = Pod::with_agent();
    let helper = pod.helper(&["--mode=run"]).command(&pod.script("kill -SEGV $$"));
    start_as_process_one(helper).0.finish(128 + Signal::SIGSEGV as i32);
}

#[test]
fn files_stay_fresh_while_the_application_drains_and_it_is_not_signalled_for_them() {
    let (pod, agent) = Pod::with_agent();
    let mut run = run(&pod, &[]);
    run.signal(Signal::SIGTERM);
    pod.wait_for_runs("start\nTERM\n");
    pod.rotate(&agent);
    pod.let_end();
    let log = run.finish(7);
    assert_eq!(position(&log, &["sent SIGHUP"]), None, "{log:?}");
    assert_eq!(pod.runs(), "start\nTERM\n");
}

#[test]
fn a_signal_to_stop_during_a_restart_is_the_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let (pod, agent) = Pod::with_agent();
        let mut run = run(&pod, &["--on-renewal=restart"]);
        agent.reply(offer([pod.mint()]));
        run.wait_for_log(&["sent SIGTERM to /bin/sh", "to restart it"]);
        pod.wait_for_runs("start\nTERM\n");
        run.signal(signal);
        run.wait_for_log(&["passed", "on to /bin/sh"]);
        pod.let_end();
        run.finish(7);
        assert_eq!(pod.runs().matches("start").count(), 1);
    }
}

/// Types Ctrl-C in a terminal whose program is the helper; the application must get it once.
fn gets_ctrl_c_once(application: &[&str]) {
    let (pod, _agent) = Pod::with_agent();
    std::fs::write(pod.path().join("app.sh"), APPLICATION).expect("a script");
    let script = pod.script(r#"echo $$ >"$0/pid"; . "$0/app.sh""#);
    let words: Vec<_> = application.iter().copied().chain(script.iter().map(String::as_str)).collect();
    let helper = pod.helper(&["--mode=run"]).command(&words);
    // `script` runs a command in a terminal of its own, and types there what it reads.
    let line = r#"
        { until [ -e "$DIRECTORY/type" ]; do sleep 0.02; done
          printf '\003'
          until [ -e "$DIRECTORY/end" ]; do sleep 0.02; done
        } | script --quiet --return --command "exec $(printf "'%s' " "$0" "$@")" /dev/null
    "#;
    let line = line.replace("$DIRECTORY", pod.path().to_str().expect("UTF-8"));
    let mut terminal = helper.through("sh", &["-c", &line]).start();
    pod.wait_for_runs("start\n");
    std::fs::write(pod.path().join("type"), "").expect("a file");
    pod.wait_for_runs("start\nINT\n");
    // A second one would be there before the next signal.
    let application = std::fs::read_to_string(pod.path().join("pid")).expect("a PID");
    let application = Pid::from_raw(application.trim().parse().expect("a PID"));
    kill(application, Signal::SIGUSR1).expect("a running application");
    pod.wait_for_runs("start\nINT\nUSR1\n");
    pod.let_end();
    kill(application, Signal::SIGTERM).expect("a running application");
    terminal.finish(7);
}

/// Ctrl-C reaches the whole process group: twice would make many programs end without care.
#[test]
fn a_signal_of_the_terminal_reaches_the_application_once() {
    gets_ctrl_c_once(&[]);
}

/// A program in a session of its own gets nothing from the terminal by itself.
#[test]
fn a_signal_of_the_terminal_reaches_an_application_of_another_session_too() {
    gets_ctrl_c_once(&["setsid"]);
}

#[test]
fn a_rotation_while_the_application_ends_by_sigquit_does_not_start_it_again() {
    let (pod, agent) = Pod::with_agent();
    let mut run = run(&pod, &["--on-renewal=restart"]);
    run.signal(Signal::SIGQUIT);
    pod.wait_for_runs("start\nQUIT\n");
    pod.rotate(&agent);
    // The old SVID has an hour.
    let line = run.wait_for_log(&["INFO", "may be ending; if not, it is notified in"]);
    assert!((30..=40).any(|minutes| line.contains(&format!(" {minutes} minutes"))), "{line}");
    pod.let_end();
    let log = run.finish(7);
    assert_eq!(pod.runs(), "start\nQUIT\n");
    assert_eq!(position(&log, &["to restart it"]), None, "{log:?}");
}

/// A debugger has stopped it, for example. A signal waits in a process that is stopped.
#[test]
fn an_application_that_is_stopped_wakes_up_for_a_signal_to_stop() {
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGQUIT, "QUIT")] {
        let (pod, _agent) = Pod::with_agent();
        let helper = pod.helper(&["--mode=run"]).command(&pod.script(APPLICATION));
        let mut run = helper.start();
        let application = process_in(&run.wait_for_log(&["started /bin/sh"]));
        pod.wait_for_runs("start\n");
        pod.let_end();
        kill(application, Signal::SIGSTOP).expect("a running application");
        run.signal(signal);
        run.finish(7);
        assert_eq!(pod.runs(), format!("start\n{name}\n"));
    }
}

/// As dumb-init, `tini -g`, `timeout` and systemd do.
#[test]
fn a_signal_to_the_helpers_process_group_reaches_the_application_once() {
    let (pod, _agent) = Pod::with_agent();
    let text = r#"
        trap 'echo TERM >>"$0/runs"' TERM
        trap 'exit 7' USR1
        echo start >>"$0/runs"
        while :; do sleep 0.02; done
    "#;
    let helper = pod.helper(&["--mode=run"]).command(&pod.script(text));
    let mut run = helper.through("setsid", &[]).start();
    let application = process_in(&run.wait_for_log(&["started /bin/sh"]));
    pod.wait_for_runs("start\n");
    // In one group, two signals at nearly the same time can look like one.
    assert_eq!(getpgid(Some(application)), Ok(application));
    let mut runs = "start\n".to_owned();
    for _ in 0..10 {
        killpg(run.pid(), Signal::SIGTERM).expect("a process group");
        run.wait_for_log(&["passed SIGTERM on to /bin/sh"]);
        runs += "TERM\n";
        pod.wait_for_runs(&runs);
    }
    run.signal(Signal::SIGUSR1);
    run.finish(7);
    assert_eq!(pod.runs(), runs);
}

/// `timeout -k`, or the kernel when memory is short. (As process 1, the helper takes all others with it.)
#[test]
fn the_application_gets_sigterm_when_the_helper_is_killed() {
    let (pod, _agent) = Pod::with_agent();
    let run = run(&pod, &[]);
    let application = children(run.pid())[0];
    run.signal(Signal::SIGKILL);
    pod.wait_for_runs("start\nTERM\n");
    pod.let_end();
    // It looks for a file that ends with the pod.
    wait_until("the application ends", || is_zombie(application) || kill(application, None).is_err());
}

/// The file is larger than this limit of the helper's: the kernel sends SIGXFSZ, which would end the
/// application.
#[test]
fn a_signal_of_the_kernel_about_the_helper_is_not_passed_on() {
    let (pod, agent) = Pod::with_agent();
    let mut run = run(&pod, &[]);
    let limit = ["--pid", &run.pid().to_string(), "--fsize=10:"];
    assert!(std::process::Command::new("prlimit").args(limit).status().expect("prlimit").success());
    agent.reply(offer([pod.mint()]));
    run.wait_for_log(&["DEBUG", "SIGXFSZ is not passed on to /bin/sh"]);
    pod.let_end();
    run.signal(Signal::SIGTERM);
    run.finish(7);
}

#[test]
fn an_application_is_not_ended_while_it_could_not_be_started_again() {
    let (pod, agent) = Pod::with_agent();
    pod.issue_jwt(&agent, Duration::from_secs(10));
    pod.let_end();
    let mut run = run(&pod, &["--on-renewal=restart", "--jwt-svid=token.jwt=one", ANY_PORT]);
    agent.issue_jwt(|_| Reply::refuse(grpcio::RpcStatusCode::UNAVAILABLE));
    let probe = Probe::of(&mut run);
    assert!(probe.wait_until_ready_is(503).contains("token.jwt"));
    agent.reply(offer([pod.mint()]));
    run.wait_for_log(&["could not notify the application", "runs on with the old files", "retrying in"]);
    assert_eq!(pod.runs(), "start\n");
    pod.issue_jwt(&agent, Duration::from_secs(300));
    pod.wait_for_runs("start\nTERM\nstart\n");
    run.signal(Signal::SIGTERM);
    run.finish(7);
}
