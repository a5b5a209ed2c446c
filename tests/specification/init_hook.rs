//! The hook of init: init succeeds only if it does.

use std::ffi::OsStr;

use nix::sys::signal::Signal;
use workload_api_server::server::Reply;

use crate::pod::{Finished, Pod, offer, wait_until};
use crate::process::{is_zombie, position, process_in};

fn init(pod: &Pod, options: &[&str], hook: &[impl AsRef<OsStr>]) -> Finished {
    pod.helper(&["--mode=init"]).arguments(options).command(hook).finish()
}

/// Runs until it is asked to end.
const ENDLESS: &str = r#"echo start >>"$0/runs"; while :; do sleep 0.05; done"#;

#[test]
fn init_runs_the_hook_and_waits_for_its_end() {
    let (pod, _agent) = Pod::with_agent();
    let text = r#"until [ -e "$0/end" ]; do sleep 0.05; done; echo "$SVID_PATH" >>"$0/runs""#;
    let mut init = pod.helper(&["--mode=init"]).command(&pod.script(text)).start();
    init.wait_for_log(&["running /bin/sh"]);
    pod.let_end();
    let log = init.finish(0);
    assert_eq!(pod.runs(), format!("{}\n", pod.volume().display()));
    assert!(position(&log, &["INFO", "/bin/sh", "ended with code 0"]).is_some(), "{log:?}");
}

#[test]
fn init_runs_the_hook_when_the_set_stands_already() {
    let (pod, _agent) = Pod::with_agent();
    for times in 1..=2 {
        init(&pod, &[], &pod.script(r#"echo run >>"$0/runs""#)).succeeded();
        assert_eq!(pod.runs(), "run\n".repeat(times));
    }
}

#[test]
fn init_fails_when_the_hook_fails() {
    let pod = Pod::new();
    let killed = pod.script("kill -KILL $$");
    let missing = ["no-such-program".to_owned()];
    let cases: [(&[String], &str); 4] = [
        (&["/bin/false".to_owned()], "ended with code 1"),
        (&killed, "was ended by SIGKILL"),
        (&missing, "is it in this image, and in PATH?"),
        (&["/etc/passwd".to_owned()], "Permission denied"),
    ];
    for (hook, cause) in cases {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        let finished = init(&pod, &[], hook);
        finished.failed_with(&["the files are published, but", &hook[0], cause]);
        pod.wait_for(&svid);
    }
}

#[test]
fn a_failed_hook_is_reported_once_with_the_next_step() {
    for hook in ["/bin/false", "no-such-program"] {
        let (pod, _agent) = Pod::with_agent();
        let finished = init(&pod, &[], &[hook]).failed_with(&[hook, "the next init runs it again"]);
        assert_eq!(finished.log.lines().filter(|line| line.contains("ERROR")).count(), 1, "{}", finished.log);
    }
}

/// What is missing is the reason that init gives last.
#[test]
fn a_failed_hook_is_reported_though_something_else_is_missing() {
    let (pod, agent) = Pod::with_agent();
    agent.issue_jwt(|_| Reply::Silence);
    let finished = init(&pod, &["--init-timeout=3s", "--jwt-svid=token.jwt=one"], &["/bin/false"]);
    let finished = finished.failed_with(&["not everything arrived", "JWT-SVID token.jwt"]);
    let of_hook = |line: &&str| line.contains("ERROR") && line.contains("/bin/false");
    assert_eq!(finished.log.lines().filter(of_hook).count(), 1, "{}", finished.log);
}

/// The failed signal is in the log, too.
#[test]
fn a_failed_hook_is_reported_beside_a_failed_signal() {
    let (pod, _agent) = Pod::with_agent();
    let arguments = ["--signal-process=no-such-process", "--init-timeout=3s"];
    let finished = init(&pod, &arguments, &["/bin/false"]);
    let finished = finished.failed_with(&["/bin/false", "ended with code 1"]);
    assert!(finished.log.contains("no-such-process"), "{}", finished.log);
}

#[test]
fn init_ends_a_hook_that_outlasts_the_timeout_and_fails() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let finished = init(&pod, &["--init-timeout=3s"], &pod.script(ENDLESS));
    assert!(finished.log.contains("sent SIGTERM to /bin/sh"), "{}", finished.log);
    finished.failed_with(&["the files are published, but", "/bin/sh", "still runs"]);
    pod.wait_for(&svid);
}

/// The kubelet must not wait for ever.
#[test]
fn a_hook_that_ignores_its_end_does_not_hold_up_inits() {
    let (pod, _agent) = Pod::with_agent();
    // It ends with the test, which reads our log to its end.
    let text = r#"exec >&- 2>&-; trap '' TERM; while [ -d "$0" ]; do sleep 0.05; done"#;
    init(&pod, &["--init-timeout=3s"], &pod.script(text)).failed_with(&["/bin/sh", "still runs"]);
}

#[test]
fn init_fails_when_a_signal_ends_it_while_the_hook_runs() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let mut init = pod.helper(&["--mode=init", "--init-timeout=1h"]).command(&pod.script(ENDLESS)).start();
    pod.wait_for_runs("start\n");
    init.signal(Signal::SIGTERM);
    let log = init.finish(1);
    assert!(position(&log, &["sent SIGTERM to /bin/sh"]).is_some(), "{log:?}");
    assert!(log.last().is_some_and(|line| line.contains("was stopped before it was done")), "{log:?}");
    pod.wait_for(&svid);
}

/// The helper is stopped, and wakes up to both at once.
#[test]
fn init_succeeds_when_the_hook_has_ended_well_just_before_a_signal() {
    let (pod, _agent) = Pod::with_agent();
    let text = r#"until [ -e "$0/end" ]; do sleep 0.05; done"#;
    let mut init = pod.helper(&["--mode=init"]).command(&pod.script(text)).start();
    let hook = process_in(&init.wait_for_log(&["running /bin/sh"]));
    init.signal(Signal::SIGSTOP);
    pod.let_end();
    wait_until("the hook has ended", || is_zombie(hook));
    init.signal(Signal::SIGTERM);
    init.signal(Signal::SIGCONT);
    let log = init.finish(0);
    assert!(position(&log, &["INFO", "/bin/sh", "ended with code 0"]).is_some(), "{log:?}");
}

#[test]
fn init_gives_the_hook_time_though_its_own_was_used_up() {
    let (pod, agent) = Pod::with_agent();
    agent.issue_jwt(|_| Reply::Silence);
    let options = ["--init-timeout=3s", "--jwt-svid=token.jwt=one"];
    let finished = init(&pod, &options, &pod.script(r#"sleep 0.1; echo ended >>"$0/runs""#));
    finished.failed_with(&["not everything arrived", "JWT-SVID token.jwt"]);
    assert_eq!(pod.runs(), "ended\n");
}
