//! Kernels and container runtimes of years ago: what they lack or refuse.

use nix::errno::Errno;
use nix::libc;

use crate::pod::{Helper, Pod, Published, is_emulated, is_root, offer, skip};

/// The first system call that came after Linux 5.0; the numbers are those of every architecture since then. It and
/// those after it are not there, or are refused, in old kernels, in gVisor and by the profiles of old runtimes:
/// clone3, close_range, openat2, pidfd_open and others.
const FIRST_NEW_CALL: u32 = 424;

/// From now on, the kernel answers these system calls of this thread and its children with an error. False where it
/// cannot be told to.
fn refuse(first: u32, last: u32, error: Errno) -> bool {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 2, first),
        step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, last),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    #[allow(unsafe_code, reason = "nix has no seccomp")]
    // SAFETY: the program is there during the call.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    }
}

/// Does something in a thread whose children meet such a kernel.
fn with_refused(first: u32, last: u32, error: Errno, act: impl FnOnce() + Send) {
    if is_emulated("system calls") {
        return;
    }
    let is_set = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let is_set = refuse(first, last, error);
            if is_set {
                act();
            }
            is_set
        });
        thread.join().expect("no panic")
    });
    if !is_set {
        skip("no seccomp filter can be set here");
    }
}

#[test]
fn each_mode_works_on_a_kernel_without_the_system_calls_of_the_last_years() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first]));
    pod.issue_jwt(&agent, std::time::Duration::from_secs(300));
    with_refused(FIRST_NEW_CALL, u32::MAX, Errno::ENOSYS, move || {
        pod.init(&["--jwt-svid=token.jwt=one"]).succeeded();
        pod.check(&[]).succeeded();
        let hook = pod.script(r#"echo hook >>"$0/runs""#);
        let refresh = pod.helper(&["--mode=refresh"]).command(&hook).start();
        pod.wait_for_runs("hook\n");
        agent.reply(offer([second.clone()]));
        pod.wait_for_runs("hook\nhook\n");
        refresh.stop();
        assert_eq!(Published::as_one(&pod.volume()).expect("a set").chain(), second.x509_svid);
        pod.helper(&["--mode=run"]).command(&pod.script(r#"echo started >>"$0/runs""#)).start().finish(0);
        assert_eq!(pod.runs(), "hook\nhook\nstarted\n");
    });
}

#[test]
fn inspect_and_token_work_on_a_kernel_without_the_system_calls_of_the_last_years() {
    let (pod, agent) = Pod::with_agent();
    pod.issue_jwt(&agent, std::time::Duration::from_secs(300));
    let socket = format!("--workload-api-socket={}", pod.socket().display());
    with_refused(FIRST_NEW_CALL, u32::MAX, Errno::ENOSYS, || {
        for mode in [&["--mode=inspect"][..], &["--mode=token", "--audience=one"]] {
            Helper::new().argument(&socket).arguments(mode).finish().succeeded();
        }
    });
}

#[test]
fn a_seccomp_profile_that_refuses_clone3_is_named() {
    if !is_root() {
        return skip("only root has the helper started by fork");
    }
    let pod = Pod::new();
    let clone3 = libc::SYS_clone3 as u32;
    with_refused(clone3, clone3, Errno::EPERM, || {
        // With a user, the standard library needs no clone3 itself.
        let init = pod.helper(&["--mode=init", "--init-timeout=3s"]).run_by(0, 0).finish();
        assert_eq!(init.status.code(), Some(1), "{}", init.log);
        let last = init.log.lines().last().unwrap_or_default();
        assert!(last.contains("the container's seccomp profile refuses clone3"), "{}", init.log);
    });
}
