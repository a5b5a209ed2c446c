//! File systems that lack something, and power that fails: made with strace, which lets system calls
//! fail and shows their order.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use grpcio::RpcStatusCode;
use nix::sys::signal::{Signal, kill};
use workload_api_server::server::Reply;

use crate::pod::{Finished, Helper, NOBODY, Pod, Running, is_root, mode_of, names, offer, wait_until};
use crate::process::children;

/// Whether strace is here and may trace; says aloud if not.
fn can_trace() -> bool {
    let run = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let can = run.is_ok_and(|output| output.status.success());
    if !can {
        crate::pod::skip("strace is missing or may not trace");
    }
    can
}

/// A helper under strace, with a system call of its main thread that goes wrong in this way.
fn with_fault(helper: Helper, inject: &str) -> Helper {
    let inject = format!("inject={inject}");
    helper.through("strace", &["-qq", "-o", "/dev/null", "-e", "signal=none", "-e", &inject])
}

/// strace ends with the helper, and not the other way round.
fn end(mut strace: Running) {
    kill(children(strace.pid())[0], Signal::SIGTERM).expect("a running helper");
    strace.finish(0);
}

/// `init` under strace, with a system call that goes wrong in this way.
fn init_with(pod: &Pod, inject: &str, arguments: &[&str]) -> Helper {
    with_fault(pod.helper(&["--mode=init"]).arguments(arguments), inject)
}

/// Publishes twice, and asserts one warning each time and a whole set.
fn succeeds_twice(inject: &str, arguments: &[&str], warning: Option<&str>) {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    for svid in [&first, &second] {
        agent.reply(offer([svid.clone()]));
        let Finished { log, .. } = init_with(&pod, inject, arguments).finish().succeeded();
        let warnings = log.lines().filter(|line| warning.is_some_and(|warning| line.contains(warning)));
        assert_eq!(warnings.count(), usize::from(warning.is_some()), "{log}");
        pod.wait_for(svid);
        let found = names(&pod.volume());
        let hidden = found.iter().filter(|name| name.starts_with("..")).count();
        assert!(hidden <= 2 && found.len() - hidden == 3, "{found:?}");
    }
    // And back on a good file system.
    let third = pod.mint();
    agent.reply(offer([third.clone()]));
    pod.init(&[]).succeeded();
    pod.wait_for(&third);
    pod.holds_one_set();
}

/// The last one comes after the switch: the next attempt finds the new files there already.
#[test]
fn a_rotation_is_told_whichever_of_its_syncs_fails_once() {
    if !can_trace() {
        return;
    }
    let rotates = |number: u32| {
        let (pod, agent) = Pod::with_agent();
        pod.init(&[]).succeeded();
        let hook = pod.script(r#"echo "$SVID_CHANGED" >>"$0/runs""#);
        let refresh = pod.helper(&["--mode=refresh"]).command(&hook);
        let refresh = with_fault(refresh, &format!("fsync:error=EIO:when={number}")).start();
        pod.wait_for_runs("svid,bundle\n");
        let rotated = pod.mint();
        agent.reply(offer([rotated.clone()]));
        pod.wait_for_runs("svid,bundle\nsvid\n");
        pod.wait_for(&rotated);
        pod.holds_one_set();
        end(refresh);
    };
    std::thread::scope(|scope| {
        for number in 1..=9 {
            scope.spawn(move || rotates(number));
        }
    });
}

#[test]
fn without_locks_the_set_is_published_all_the_same() {
    if can_trace() {
        for error in ["ENOLCK", "ENOSYS", "EOPNOTSUPP"] {
            succeeds_twice(&format!("flock:error={error}"), &[], Some("has no locks"));
        }
    }
}

#[test]
fn without_chmod_a_mode_that_is_no_wider_than_asked_for_is_accepted() {
    if can_trace() {
        let narrower = Some("does not allow chmod");
        succeeds_twice("fchmod:error=EPERM", &[], None);
        succeeds_twice("fchmod:error=EPERM", &["--key-file-mode=0440"], narrower);
    }
}

#[test]
fn without_chmod_an_unchanged_set_is_not_told_again() {
    if !can_trace() {
        return;
    }
    let pod = Pod::new();
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    let hook = pod.script(r#"echo "$SVID_CHANGED" >>"$0/runs""#);
    let refresh = pod.helper(&["--mode=refresh", "--key-file-mode=0440"]).command(&hook);
    let mut refresh = with_fault(refresh, "fchmod:error=EPERM").start();
    pod.wait_for_runs("svid,bundle\n");
    drop(agent);
    let agent = pod.agent(offer([svid]));
    refresh.wait_for_log(&["nothing written"]);
    let rotated = pod.mint();
    agent.reply(offer([rotated.clone()]));
    pod.wait_for(&rotated);
    pod.wait_for_runs("svid,bundle\nsvid\n");
    end(refresh);
}

#[test]
fn a_withdrawal_removes_the_key_though_nothing_can_be_synced() {
    if !can_trace() {
        return;
    }
    let (pod, agent) = Pod::with_agent();
    pod.init(&[]).succeeded();
    // The first one is that of the start.
    let refresh = pod.helper(&["--mode=refresh", "--on-revoked=remove"]);
    let mut refresh = with_fault(refresh, "fsync:error=EIO:when=2+").start();
    refresh.wait_for_log(&["nothing written"]);
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["ERROR", "cannot sync", "retrying"]);
    assert_eq!(names(&pod.volume()), [""; 0]);
    end(refresh);
}

#[test]
fn names_that_cannot_be_replaced_leave_no_set_at_each_attempt_and_a_withdrawal_removes_them() {
    if !can_trace() {
        return;
    }
    if !is_root() {
        return crate::pod::skip("only root can become another user");
    }
    let pod = Pod::new();
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o1777)).expect("its permissions");
    let agent = pod.agent(offer([pod.mint()]));
    pod.helper(&["--mode=init"]).run_by(NOBODY, NOBODY).finish().succeeded();
    let refresh = pod.helper(&["--mode=refresh", "--on-revoked=remove"]);
    // The set is put in its place, and the first name is not.
    let refresh = with_fault(refresh, "renameat:error=EIO:when=2+2").run_by(NOBODY, NOBODY);
    let mut refresh = refresh.start();
    refresh.wait_for_log(&["nothing written"]);
    agent.reply(offer([pod.mint()]));
    for _ in 0..4 {
        let target = || std::fs::read_link(pod.volume().join("..data")).expect("a link");
        let before = target();
        wait_until("the set is another one", || target() != before);
    }
    let sets = names(&pod.volume()).into_iter().filter(|name| name.ends_with('Z')).count();
    // The first, which has the names, the published one, and those of an attempt.
    assert!(sets <= 5, "{sets}");
    agent.reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
    wait_until("all files are removed", || names(&pod.volume()).is_empty());
    end(refresh);
}

/// The owner can set a mode without a privilege, and the group may read the file as soon as it has its mode.
#[test]
fn a_new_file_gets_its_group_then_its_mode_then_its_user() {
    if !can_trace() {
        return;
    }
    if !is_root() {
        return crate::pod::skip("only root can give files away");
    }
    let (pod, _agent) = Pod::with_agent();
    let trace = pod.path().join("trace");
    let filter = ["-f", "-qq", "-y", "-o", trace.to_str().expect("UTF-8"), "-e", "trace=fchown,fchmod"];
    let helper = pod.helper(&["--mode=init", "--key-file-mode=0440", "--file-owner=12345:54321"]);
    helper.through("strace", &filter).finish().succeeded();
    let text = std::fs::read_to_string(trace).expect("a trace");
    let of_key = text.lines().filter(|line| line.contains("svid-key.pem>"));
    let arguments: Vec<_> = of_key.filter_map(|line| line.split(">, ").nth(1)?.split(')').next()).collect();
    assert_eq!(arguments, ["-1, 54321", "0440", "12345, 54321"], "{text}");
}

#[test]
fn without_symbolic_links_the_files_are_replaced_one_by_one() {
    if can_trace() {
        for error in ["EPERM", "EOPNOTSUPP", "ENOSYS"] {
            succeeds_twice(&format!("symlinkat:error={error}"), &[], Some("has no symbolic links"));
            succeeds_twice(&format!("symlinkat,linkat:error={error}"), &[], Some("has no symbolic links"));
        }
    }
}

#[test]
fn without_hard_links_names_in_a_shared_directory_are_copies() {
    if !can_trace() {
        return;
    }
    if !is_root() {
        return crate::pod::skip("only root can become another user");
    }
    let pod = Pod::new();
    std::fs::set_permissions(pod.volume(), PermissionsExt::from_mode(0o1777)).expect("its permissions");
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    for svid in [first, second] {
        agent.reply(offer([svid.clone()]));
        let finished = init_with(&pod, "linkat:error=EPERM", &[]).run_by(NOBODY, NOBODY).finish().succeeded();
        let warnings = finished.log.lines().filter(|line| line.contains("cannot make hard links")).count();
        assert_eq!(warnings, 1, "{}", finished.log);
        pod.wait_for(&svid);
        pod.holds_one_set();
    }
}

#[test]
fn a_new_directory_has_its_mode_although_the_first_helper_was_killed_while_it_made_it() {
    if !can_trace() {
        return;
    }
    let (pod, _agent) = Pod::with_agent();
    std::fs::remove_dir(pod.volume()).expect("an empty volume");
    let killed = pod.helper(&["--mode=init"]).through(
        "/bin/sh",
        &[
            "-c",
            "umask 077; exec strace -f -qq -o /dev/null -e inject=fchmod:signal=KILL:when=1 \"$0\" \"$@\"",
        ],
    );
    assert!(!killed.finish().status.success());
    assert_ne!(mode_of(&pod.volume()), 0o755);
    pod.init(&[]).succeeded();
    assert_eq!(mode_of(&pod.volume()), 0o755);
    pod.holds_one_set();
}

#[test]
fn a_failed_publication_leaves_nothing_on_the_volume() {
    if !can_trace() {
        return;
    }
    for inject in ["fsync:error=EIO", "renameat:error=EIO", "fchmod:error=EIO", "mkdirat:error=ENOSPC"] {
        let (pod, _agent) = Pod::with_agent();
        let options = ["--key-file-mode=0440", "--init-timeout=2s"];
        init_with(&pod, inject, &options).finish().failed_with(&["could not publish the files"]);
        assert_eq!(names(&pod.volume()), [""; 0], "{inject}");
    }
}

/// The steps of a publication, in order: what is synced, and what is renamed to which name.
fn steps(pod: &Pod) -> Vec<String> {
    let trace = pod.path().join("trace");
    let trace = trace.to_str().expect("UTF-8");
    let filter = ["-f", "-qq", "-y", "-o", trace, "-e", "trace=fsync,renameat"];
    pod.helper(&["--mode=init"]).through("strace", &filter).finish().succeeded();
    let text = std::fs::read_to_string(trace).expect("a trace");
    let quoted = |line: &str| line.rsplit('"').nth(1).unwrap_or_default().to_owned();
    let volume = format!("{}>", pod.volume().display());
    let step = |line: &str| match line.contains("fsync(") {
        true if line.contains(&volume) => "sync".to_owned(),
        true => "sync within".to_owned(),
        false => quoted(line),
    };
    text.lines().map(step).collect()
}

#[test]
fn the_target_of_a_name_is_on_disk_before_the_name() {
    if !can_trace() {
        return;
    }
    let (pod, _agent) = Pod::with_agent();
    let files = ["sync within"; 4];
    // The names first, which lead nowhere for a moment; then all appear as one.
    let named = ["svid.pem", "svid-key.pem", "bundle.pem", "sync", "..data", "sync"];
    // What stands is synced before anything else, be it nothing.
    let first = [&["sync"], &files[..], &named].concat();
    assert_eq!(steps(&pod), first);
    for name in ["svid.pem", "svid-key.pem", "bundle.pem"] {
        let path = pod.volume().join(name);
        let contents = std::fs::read(&path).expect("a file");
        std::fs::remove_file(&path).expect("a name");
        std::fs::write(&path, contents).expect("a file");
    }
    // Plain files are put behind ..data first.
    let adopted = ["sync within", "sync", "..data", "sync", "svid.pem", "svid-key.pem", "bundle.pem", "sync"];
    let over_plain = [&["sync"], &files[..], &adopted, &["sync", "..data", "sync"]].concat();
    assert_eq!(steps(&pod), over_plain);
}
