//! A signal is owed until a process has it: one that starts late, is slow, forks all the time, or outlives a
//! helper that was killed.

use std::process::{Child, Command};

use nix::sys::signal::{SigSet, Signal, kill};

use crate::notification::sleeper;
use crate::pod::{App, BRIEFLY, Pod, Running, offer, wait_until};
use crate::process::{children, has_in_mask, position, process_in};

/// At once it is a detail: the process may have been started just now. Seconds later, as with a slow JVM, it is a
/// warning.
#[test]
fn a_process_that_catches_the_signal_a_moment_or_seconds_later_gets_it_then() {
    for level in ["DEBUG", "WARN"] {
        let pod = Pod::new();
        let text = r#"
            until [ -e "$0/go" ]; do sleep 0.02; done
            trap 'echo HUP >>"$0/runs"' HUP
            while kill -0 $PPID; do sleep 0.05; done
        "#;
        let command = pod.script(text);
        let mut app = Command::new(&command[0]).args(&command[1..]).spawn().expect("a shell");
        let _agent = pod.agent(offer([pod.mint()]));
        let mut refresh = pod.refresh(&[&pod.pid_file(app.id())]);
        refresh.wait_for_log(&[level, "neither catches nor ignores SIGHUP", "retrying in"]);
        std::fs::write(pod.path().join("go"), "").expect("a file");
        pod.wait_for_runs("HUP\n");
        refresh.stop();
        app.kill().and_then(|()| app.wait()).expect("a child");
    }
}

#[test]
fn a_process_whose_pid_file_is_missing_for_seconds_at_a_rotation_is_signalled_then() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&pod.pid_file(app.pid())]);
    app.wait_for_signals(&["HUP"]);
    std::fs::remove_file(pod.path().join("app.pid")).expect("a PID file");
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["WARN", "no PID file at", "retrying in"]);
    pod.pid_file(app.pid());
    app.wait_for_signals(&["HUP", "HUP"]);
    refresh.stop();
}

#[test]
fn an_application_that_starts_after_the_publication_is_no_error_and_needs_no_signal() {
    let pod = Pod::new();
    let missing = format!("--pid-file={}", pod.path().join("app.pid").display());
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&missing]);
    refresh.wait_for_log(&["WARN", "no PID file at"]);
    let app = App::start(&pod, "app");
    pod.pid_file(app.pid());
    let line = refresh.wait_for_log(&["DEBUG", "needs no SIGHUP", "started after the publication"]);
    assert_eq!(process_in(&line), app.pid());
    app.has_got(&[]);
    let log = refresh.stop();
    assert_eq!(position(&log, &["ERROR"]), None, "{log:?}");
}

/// Its parent may have read the old files.
#[test]
fn a_daemon_that_forks_after_the_publication_gets_the_signal() {
    let pod = Pod::new();
    let text = r#"
        until [ -e "$0/go" ]; do sleep 0.02; done
        (
            trap 'echo HUP >>"$0/runs"' HUP
            read -r pid rest </proc/self/stat
            echo $pid >"$0/app.pid"
            while kill -0 $$; do sleep 0.05; done
        ) &
        wait
    "#;
    let command = pod.script(text);
    let mut parent = Command::new(&command[0]).args(&command[1..]).spawn().expect("a shell");
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&format!("--pid-file={}", pod.path().join("app.pid").display())]);
    refresh.wait_for_log(&["WARN", "no PID file at"]);
    std::fs::write(pod.path().join("go"), "").expect("a file");
    pod.wait_for_runs("HUP\n");
    refresh.stop();
    parent.kill().and_then(|()| parent.wait()).expect("a child");
}

#[test]
fn a_process_is_signalled_by_the_next_helper_when_the_first_was_killed_after_its_publication() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent(offer([pod.mint()]));
    let option = pod.pid_file(app.pid());
    let mut first = pod.refresh(&[&option]);
    first.wait_for_log(&["published"]);
    first.signal(Signal::SIGKILL);
    first.end();
    let mut second = pod.refresh(&[&option]);
    assert_eq!(process_in(&second.wait_for_log(&["sent SIGHUP"])), app.pid());
    second.stop();
}

#[test]
fn init_fails_again_or_tells_again_when_it_is_run_again() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent(offer([pod.mint()]));
    let missing = format!("--pid-file={}", pod.path().join("app.pid").display());
    for _ in 0..2 {
        pod.init(&[&missing, BRIEFLY]).failed_with(&["could not notify", "no PID file at"]);
    }
    pod.init(&[&pod.pid_file(app.pid())]).succeeded();
    app.wait_for_signals(&["HUP"]);
}

/// Starts programs all the time. A shell blocks all signals while it starts one.
const FORKING: &str = r#"while [ -d "$0" ]; do /bin/true; done"#;

/// Waits until the helper has looked for a while at a process after each of some rotations, and it still runs.
fn survives_rotations(pod: &Pod, mut helper: Running, is_alive: impl FnOnce() -> bool) {
    let agent = pod.agent(offer([pod.mint()]));
    for _ in 0..6 {
        for _ in 0..3 {
            helper.wait_for_log(&["neither catches nor ignores SIGHUP"]);
        }
        agent.reply(offer([pod.mint()]));
        helper.wait_for_log(&["published"]);
    }
    assert!(is_alive());
    helper.signal(Signal::SIGTERM);
    helper.end();
}

#[test]
fn a_process_that_forks_all_the_time_is_not_ended_by_the_signal() {
    let pod = Pod::new();
    let command = pod.script(FORKING);
    let mut app = Command::new(&command[0]).args(&command[1..]).spawn().expect("a shell");
    let refresh = pod.refresh(&[&pod.pid_file(app.id()), "--log-level=trace"]);
    survives_rotations(&pod, refresh, || app.try_wait().expect("a child").is_none());
    app.kill().and_then(|()| app.wait()).expect("a child");
}

#[test]
fn an_application_that_forks_all_the_time_is_not_ended_by_the_signal() {
    let pod = Pod::new();
    let run = pod.helper(&["--mode=run", "--log-level=trace"]).command(&pod.script(FORKING)).start();
    let helper = run.pid();
    let agent = pod.agent(offer([pod.mint()]));
    wait_until("the application runs", || !children(helper).is_empty());
    drop(agent);
    survives_rotations(&pod, run, || !children(helper).is_empty());
}

/// A process that blocks SIGHUP for good, as one does that reads signals with `sigwait` or `signalfd`.
fn blocker() -> Child {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGHUP);
    // A child inherits the mask of the thread that starts it.
    mask.thread_block().expect("a mask");
    let (child, pid) = sleeper("/bin/sleep".as_ref());
    mask.thread_unblock().expect("a mask");
    wait_until("sleep runs", || has_in_mask(pid, "SigBlk:", Signal::SIGHUP));
    child
}

#[test]
fn a_process_that_blocks_the_signal_for_good_gets_it() {
    let pod = Pod::new();
    let mut app = blocker();
    let pid = nix::unistd::Pid::from_raw(app.id().try_into().expect("a PID"));
    let _agent = pod.agent(offer([pod.mint()]));
    let refresh = pod.refresh(&[&pod.pid_file(pid)]);
    wait_until("the signal is pending", || has_in_mask(pid, "ShdPnd:", Signal::SIGHUP));
    kill(pid, None).expect("a running process");
    refresh.stop();
    app.kill().and_then(|()| app.wait()).expect("a child");
}

#[test]
fn files_of_a_helper_that_was_killed_are_told_though_no_agent_is_there() {
    let (pod, agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    drop(agent);
    let app = App::start(&pod, "app");
    let mut refresh = pod.refresh(&[&pod.pid_file(app.pid())]);
    refresh.wait_for_log(&["cannot connect"]);
    app.wait_for_signals(&["HUP"]);
    refresh.stop();
}
