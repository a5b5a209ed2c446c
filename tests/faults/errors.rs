//! An error is no answer: a file that cannot be opened or looked at just now is neither nobody's nor gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grpcio::RpcStatusCode;
use workload_api_server::server::Reply;

use super::strace;
use super::{WITHOUT_STRACE, WORKERS};
use crate::pod::{NOBODY, Pod, is_root, names, offer, skip, wait_until};

const TOKEN: &str = "--jwt-svid=token.jwt=one";

/// Rotates the X.509-SVID while the agent issues no token, and the call of this name and number fails;
/// returns whether there was such a call. The token of the set before it must be there still.
fn is_kept(call: &str, number: usize) -> bool {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(3600));
    pod.init(&[TOKEN]).succeeded();
    let token = pod.read("token.jwt");
    agent.issue_jwt(|_| Reply::refuse(RpcStatusCode::INVALID_ARGUMENT));
    agent.reply(offer([pod.mint()]));
    let (log, fault) = (pod.path().join("log"), format!("{call}:error=EMFILE:when={number}"));
    let run = strace::around(pod.helper(&["--mode=init", "--init-timeout=2s", TOKEN]), &log, Some(&fault));
    let run = run.finish();
    let log = std::fs::read_to_string(log).expect("a log");
    let hit = log.lines().find(|line| line.ends_with("(INJECTED)"));
    let found = std::fs::read_to_string(pod.volume().join("token.jwt"));
    assert_eq!(found.ok(), Some(token), "{hit:?}\n{}", run.log);
    hit.is_some()
}

/// Withdraws an identity from a volume that all users share, where each name is removed by itself, while the
/// call of this name and number fails; returns whether there was such a call. Nothing of it may be left.
fn is_removed(call: &str, number: usize) -> bool {
    let pod = Pod::new();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(pod.volume(), everybody).expect("its permissions");
    let agent = pod.agent(offer([pod.mint()]));
    let (log, fault) = (pod.path().join("log"), format!("{call}:error=EIO:when={number}"));
    std::fs::File::create(&log).expect("a log");
    std::os::unix::fs::chown(&log, Some(NOBODY), None).expect("its owner");
    let helper = pod.helper(&["--mode=refresh", "--on-revoked=remove"]);
    let refresh = strace::beside(helper, &log, Some(&fault)).run_by_nobody().start();
    wait_until("it is published", || pod.volume().join("svid.pem").exists());
    // A look at the files that fails makes the helper call again. A refusal of that call would not count for
    // half a minute; that of an open stream does at once.
    let calls = || std::fs::metadata(&log).map(|log| log.len()).ok();
    wait_until("the helper is at rest", || calls() == after(Duration::from_millis(30), calls));
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    wait_until(&format!("nothing is left with {fault}"), || names(&pod.volume()).is_empty());
    refresh.stop();
    // strace writes the line of a call before the helper goes on.
    let log = std::fs::read_to_string(log).expect("a log");
    log.lines().any(|line| line.ends_with("(INJECTED)"))
}

fn after<T>(pause: Duration, look: impl Fn() -> T) -> T {
    std::thread::sleep(pause);
    look()
}

/// Tries the first call, the second, and so on, until there is none any more.
fn each(call: &str, attempt: impl Fn(&str, usize) -> bool + Sync) {
    let next = AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| while attempt(call, next.fetch_add(1, Ordering::Relaxed)) {});
        }
    });
    assert!(next.into_inner() > 10 + WORKERS, "there were few calls of {call}");
}

#[test]
fn a_withdrawn_identity_is_removed_whichever_call_fails() {
    if !strace::works() || !is_root() {
        return skip(&format!("{WITHOUT_STRACE}; or this is not root"));
    }
    ["openat", "newfstatat", "readlinkat"].into_iter().for_each(|call| each(call, is_removed));
}

#[test]
fn a_token_that_is_not_renewed_is_kept_whichever_call_fails() {
    if !strace::works() {
        return skip(WITHOUT_STRACE);
    }
    ["openat", "newfstatat", "readlinkat"].into_iter().for_each(|call| each(call, is_kept));
}
