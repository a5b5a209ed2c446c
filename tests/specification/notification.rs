//! Signals to other processes, after each publication: by a PID file; in init and refresh.

use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::authority::Authority;
use workload_api_server::server::Reply;

use crate::pod::{App, BRIEFLY, NOBODY, Pod, Published, Running, is_emulated, is_root, offer, skip};
use crate::process::{position, process_in};
use crate::process_name::own_name;

#[test]
fn the_process_of_the_pid_file_gets_a_sighup_after_each_publication() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[&pod.pid_file(app.pid())]);
    let chain = || Published::as_one(&pod.volume()).expect("a set").chain();
    app.wait_for_signals(&["HUP"]);
    assert_eq!(chain(), first.x509_svid);
    agent.reply(offer([second.clone()]));
    app.wait_for_signals(&["HUP", "HUP"]);
    assert_eq!(chain(), second.x509_svid);
    let line = refresh.wait_for_log(&["INFO", "sent SIGHUP", "app.pid"]);
    assert_eq!(process_in(&line), app.pid());
    refresh.stop();
}

#[test]
fn the_signal_is_chosen_by_name_or_number() {
    for (signal, got) in
        [("SIGUSR1", "USR1"), ("usr1", "USR1"), ("10", "USR1"), ("rtmin+3", "37"), ("37", "37")]
    {
        // An emulator has numbers of its own for them.
        if got == "37" && is_emulated("real-time signals") {
            continue;
        }
        let pod = Pod::new();
        let app = App::start(&pod, "app");
        let _agent = pod.agent(offer([pod.mint()]));
        let refresh = pod.refresh(&[&pod.pid_file(app.pid()), &format!("--renew-signal={signal}")]);
        app.wait_for_signals(&[got]);
        refresh.stop();
    }
}

#[test]
fn a_signal_with_another_meaning_is_refused() {
    for (signal, reason) in [
        ("KILL", "no program can catch SIGKILL"),
        ("19", "no program can catch SIGSTOP"),
        ("TSTP", "SIGTSTP stops a program"),
        ("SEGV", "SIGSEGV reports a fault"),
        ("CHLD", "SIGCHLD has another meaning"),
        ("32", "a signal's name or number"),
        ("65", "a signal's name or number"),
    ] {
        let options = ["--mode=refresh", "--pid-file=/x", &format!("--renew-signal={signal}")];
        Pod::new().helper(&options).finish().refused_with(&["--renew-signal", reason]);
    }
}

/// Lets a file look an hour old, as if a clock had been set forward since it was written.
fn make_old(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).expect("a PID file");
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).expect("its time");
}

/// Its number may be another process's by now.
#[test]
fn a_process_that_is_younger_than_the_pid_file_and_does_not_handle_the_signal_is_not_signalled() {
    for options in [&["--renew-signal=HUP"], &["--renew-signal=TERM"]] {
        let pod = Pod::new();
        let (mut app, pid) = sleeper("/bin/sleep".as_ref());
        let _agent = pod.agent(offer([pod.mint()]));
        let option = pod.pid_file(pid);
        make_old(&pod.path().join("app.pid"));
        let mut refresh = pod.helper(&["--mode=refresh", &option]).arguments(options).start();
        refresh.wait_for_log(&[
            "WARN",
            "could not notify",
            "app.pid is older than process",
            &pid.to_string(),
        ]);
        assert!(app.try_wait().expect("a child").is_none());
        refresh.stop();
        app.kill().and_then(|()| app.wait()).expect("a child");
    }
}

/// The file may come from an image, or a clock was set.
#[test]
fn a_process_that_is_younger_than_the_pid_file_and_handles_the_signal_is_signalled_with_a_warning() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let agent = pod.agent(offer([pod.mint()]));
    let option = pod.pid_file(app.pid());
    make_old(&pod.path().join("app.pid"));
    let refresh = pod.refresh(&[&option]);
    app.wait_for_signals(&["HUP"]);
    agent.reply(offer([pod.mint()]));
    app.wait_for_signals(&["HUP", "HUP"]);
    let log = refresh.stop();
    let warnings = log.iter().filter(|line| line.contains("WARN") && line.contains("has a clock been set?"));
    assert_eq!(warnings.count(), 1, "{log:?}");
    assert_eq!(position(&log, &["ERROR"]), None, "{log:?}");
}

#[test]
fn a_process_that_was_once_found_to_be_the_pid_files_stays_so_when_the_clock_is_set_forward() {
    let pod = Pod::new();
    let (mut app, pid) = sleeper("/bin/sleep".as_ref());
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&pod.pid_file(pid)]);
    refresh.wait_for_log(&["DEBUG", "neither catches nor ignores SIGHUP"]);
    make_old(&pod.path().join("app.pid"));
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["WARN", "neither catches nor ignores SIGHUP"]);
    let log = refresh.stop();
    assert_eq!(position(&log, &["is older than process"]), None, "{log:?}");
    app.kill().and_then(|()| app.wait()).expect("a child");
}

/// Another user may set it, on a tmpfs.
#[test]
fn a_pid_file_with_the_last_date_that_there_is_is_none_of_an_earlier_process() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent(offer([pod.mint()]));
    let memory = tempfile::tempdir_in("/dev/shm").expect("a tmpfs");
    let path = memory.path().join("app.pid");
    std::fs::write(&path, app.pid().to_string()).expect("a PID file");
    let touched =
        std::process::Command::new("touch").args(["-d", "@9223372036854775807"]).arg(&path).status();
    assert!(touched.expect("touch").success());
    let refresh = pod.refresh(&[&format!("--pid-file={}", path.display())]);
    app.wait_for_signals(&["HUP"]);
    refresh.stop();
}

#[test]
fn the_pid_file_is_read_anew_each_time() {
    let pod = Pod::new();
    let (before, after) = (App::start(&pod, "app"), App::start(&pod, "app"));
    let agent = pod.agent(offer([pod.mint()]));
    let refresh = pod.refresh(&[&pod.pid_file(before.pid())]);
    before.wait_for_signals(&["HUP"]);
    pod.pid_file(after.pid());
    agent.reply(offer([pod.mint()]));
    after.wait_for_signals(&["HUP"]);
    before.has_got(&["HUP"]);
    refresh.stop();
}

#[test]
fn a_pid_file_that_appears_a_moment_later_is_found() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let option = pod.pid_file("");
    std::fs::remove_file(pod.path().join("app.pid")).expect("a PID file");
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&option]);
    refresh.wait_for_log(&["app.pid", "retrying in"]);
    pod.pid_file(app.pid());
    app.wait_for_signals(&["HUP"]);
    let log = refresh.stop();
    assert_eq!(position(&log, &["ERROR"]), None, "{log:?}");
}

/// As a daemon has it that makes the file, and then writes it.
#[test]
fn a_pid_file_that_is_empty_for_a_moment_is_no_error() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let option = pod.pid_file("");
    let path = pod.path().join("app.pid");
    std::fs::remove_file(&path).expect("a PID file");
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&option]);
    refresh.wait_for_log(&["no PID file at"]);
    std::fs::write(&path, "").expect("a PID file");
    refresh.wait_for_log(&["is not a process ID"]);
    pod.pid_file(app.pid());
    app.wait_for_signals(&["HUP"]);
    let log = refresh.stop();
    assert_eq!(position(&log, &["ERROR"]), None, "{log:?}");
}

#[test]
fn the_number_may_be_followed_by_more_lines() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent(offer([pod.mint()]));
    // As PostgreSQL writes its postmaster.pid.
    let text = format!("{}\n/var/lib/postgresql/data\n1764000000\n5432\n/tmp", app.pid());
    let refresh = pod.refresh(&[&pod.pid_file(text)]);
    app.wait_for_signals(&["HUP"]);
    refresh.stop();
}

#[test]
fn a_pid_file_that_stays_missing_is_a_warning_and_refresh_goes_on() {
    let (pod, agent) = Pod::with_agent();
    let missing = pod.path().join("missing.pid");
    let mut refresh = pod.refresh(&[&format!("--pid-file={}", missing.display())]);
    refresh.wait_for_log(&[
        "WARN",
        "could not notify the application: no PID file at",
        "missing.pid",
        "is it mounted here?",
    ]);
    pod.rotate(&agent);
    refresh.stop();
}

#[test]
fn a_pid_file_that_names_no_process_is_an_error_and_refresh_goes_on() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[&pod.pid_file("")]);
    let no_number = "is not a process ID";
    for (level, text, reason) in [
        ("ERROR", "", no_number),
        ("ERROR", "garbage", no_number),
        ("ERROR", "0", no_number),
        // A whole process group, or every process there is.
        ("ERROR", "-1", no_number),
        ("ERROR", "99999999999", no_number),
        // More than the kernel's highest PID. The application may not have written its own yet.
        ("WARN", "2147483647", "no process has this PID here"),
    ] {
        pod.pid_file(text);
        pod.rotate(&agent);
        refresh.wait_for_log(&[level, "could not notify the application", "app.pid", text, reason]);
    }
    refresh.stop();
}

/// A writer of the PID file must not be able to stop the rotation.
#[test]
fn a_pid_file_that_is_a_pipe_is_an_error_and_refresh_goes_on() {
    let (pod, agent) = Pod::with_agent();
    let pipe = pod.path().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    let mut refresh = pod.refresh(&[&format!("--pid-file={}", pipe.display())]);
    refresh.wait_for_log(&["published"]);
    pod.rotate(&agent);
    refresh.wait_for_log(&["ERROR", "could not notify the application", "pipe"]);
    refresh.stop();
}

/// Without a shared PID namespace, a low number that is meant for the application may be a thread's.
#[test]
fn a_thread_of_the_helpers_own_is_not_signalled() {
    let (pod, agent) = Pod::with_agent();
    let path = pod.path().join("app.pid");
    let mut refresh = pod.refresh(&[&format!("--pid-file={}", path.display())]);
    refresh.wait_for_log(&["published"]);
    let threads = std::fs::read_dir(format!("/proc/{}/task", refresh.pid())).expect("a running helper");
    let threads =
        threads.map(|thread| thread.expect("a thread").file_name().into_string().expect("a number"));
    let other = threads.into_iter().find(|thread| *thread != refresh.pid().to_string()).expect("gRPC's");
    pod.pid_file(other);
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["ERROR", "this process itself", "shareProcessNamespace"]);
    refresh.stop();
}

#[test]
fn an_application_of_another_user_is_an_error_that_says_what_is_missing() {
    // Only root can start both.
    if !is_root() {
        return skip("it needs root");
    }
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    std::os::unix::fs::chown(pod.volume(), Some(NOBODY), Some(NOBODY)).expect("an owner");
    let _agent = pod.agent(offer([pod.mint()]));
    let helper = pod.helper(&["--mode=refresh", &pod.pid_file(app.pid())]);
    let mut refresh = helper.run_by_nobody().start();
    refresh.wait_for_log(&["ERROR", "cannot send SIGHUP", "Operation not permitted", "capability KILL"]);
    refresh.stop();
}

/// A process that has no handler yet, and is not a child of the helper.
pub fn sleeper(program: &Path) -> (std::process::Child, Pid) {
    let child = std::process::Command::new(program).arg("1000").spawn().expect("a process");
    let pid = Pid::from_raw(child.id().try_into().expect("a PID"));
    (child, pid)
}

#[test]
fn a_process_that_the_signal_would_end_is_not_signalled() {
    let pod = Pod::new();
    let (mut app, pid) = sleeper("/bin/sleep".as_ref());
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&pod.pid_file(pid)]);
    refresh.wait_for_log(&["DEBUG", "neither catches nor ignores SIGHUP", "retrying in"]);
    refresh.wait_for_log(&["WARN", "could not notify", "neither catches nor ignores SIGHUP"]);
    assert!(app.try_wait().expect("a child").is_none());
    refresh.stop();
    app.kill().and_then(|()| app.wait()).expect("a child");
}

#[test]
fn a_zombie_is_no_process_to_signal() {
    for signal in ["HUP", "TERM"] {
        let pod = Pod::new();
        let mut app = App::start(&pod, "app");
        app.kill();
        let _agent = pod.agent(offer([pod.mint()]));
        let options = [&pod.pid_file(app.pid()), &format!("--renew-signal={signal}")];
        let mut refresh = pod.refresh(&options.map(String::as_str));
        refresh.wait_for_log(&["WARN", "could not notify", "app.pid", "no process has this PID here"]);
        let log = refresh.stop();
        assert_eq!(position(&log, &["INFO", "sent SIG"]), None, "{log:?}");
    }
}

/// Starts a helper whose `/proc` hides other users' processes, though it may signal them: a process that runs on
/// only if it gets no signal, and then the helper. The PID of the process is in `app.pid`.
fn start_with_hidepid(pod: &Pod, options: &[&str]) -> Running {
    let owner = |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("an owner");
    owner(pod.path());
    owner(&pod.volume());
    // The mount is gone with the namespace. A /proc of this namespace alone can have options of its own.
    let text = r#"
        mount -t proc -o hidepid=2 proc /proc
        /bin/sleep 1000 &
        echo $! >"$DIRECTORY/app.pid"
        exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+kill --ambient-caps=+kill --pdeathsig=KILL \
            -- "$0" "$@"
    "#;
    let text = text.replace("$DIRECTORY", pod.path().to_str().expect("UTF-8"));
    let pid_file = format!("--pid-file={}", pod.path().join("app.pid").display());
    let helper = pod.helper(&["--mode=refresh", &pid_file]).arguments(options);
    let helper = helper.through("sh", &["-c", &text]);
    helper.through("unshare", &["--mount", "--pid", "--fork", "--kill-child"]).start()
}

#[test]
fn a_process_that_proc_hides_is_not_signalled() {
    if !is_root() {
        return skip("only root can mount /proc");
    }
    let (pod, _agent) = Pod::with_agent();
    let mut unshare = start_with_hidepid(&pod, &["--signal-process=sleep"]);
    let says =
        ["WARN", "could not notify", "catches SIGHUP, which might end it", "hidepid", "gid=", "ProtectProc"];
    unshare.wait_for_log(&says);
    unshare.signal(Signal::SIGKILL);
    let (_, log) = unshare.end();
    assert!(position(&log, &["no process is called sleep", "hidepid"]).is_some(), "{log:?}");
    assert_eq!(position(&log, &["INFO", "sent SIG"]), None, "{log:?}");
}

#[test]
fn a_process_that_proc_hides_gets_a_signal_that_ends_none() {
    if !is_root() {
        return skip("only root can mount /proc");
    }
    let (pod, _agent) = Pod::with_agent();
    let mut unshare = start_with_hidepid(&pod, &["--renew-signal=WINCH"]);
    unshare.wait_for_log(&["INFO", "sent SIGWINCH", "app.pid"]);
}

/// Nobody knows whether it started after the PID file was written: its number may be another process's by now.
#[test]
fn a_process_that_proc_hides_is_not_ended() {
    if !is_root() {
        return skip("only root can mount /proc");
    }
    let (pod, _agent) = Pod::with_agent();
    let mut unshare = start_with_hidepid(&pod, &["--renew-signal=TERM"]);
    let says = ["WARN", "could not notify", "is still the process of", "SIGTERM would end it", "hidepid"];
    unshare.wait_for_log(&says);
    unshare.signal(Signal::SIGKILL);
    let (_, log) = unshare.end();
    assert_eq!(position(&log, &["INFO", "sent SIG"]), None, "{log:?}");
}

/// The kubelet starts it again.
#[test]
fn a_process_is_ended_by_a_signal_that_asks_it_to_end() {
    let pod = Pod::new();
    let (mut app, pid) = sleeper("/bin/sleep".as_ref());
    let _agent = pod.agent(offer([pod.mint()]));
    let refresh = pod.refresh(&[&pod.pid_file(pid), "--renew-signal=TERM"]);
    let status = app.wait().expect("a child");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGTERM as i32));
    refresh.stop();
}

#[test]
fn the_same_response_again_signals_nobody() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let first = pod.mint();
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = pod.refresh(&[&pod.pid_file(app.pid())]);
    app.wait_for_signals(&["HUP"]);
    agent.reply(offer([first]));
    refresh.wait_for_log(&["nothing written"]);
    app.has_got(&["HUP"]);
    refresh.stop();
}

#[test]
fn a_renewed_jwt_svid_is_notified_too() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(2));
    let mut refresh = pod.refresh(&[&pod.pid_file(app.pid()), "--jwt-svid=token.jwt=one"]);
    for _ in 0..2 {
        refresh.wait_for_log(&["published the JWT-SVID"]);
        let line = refresh.wait_for_log(&["sent SIGHUP"]);
        assert_eq!(process_in(&line), app.pid());
    }
    refresh.stop();
}

#[test]
fn a_pending_signal_is_sent_before_the_helper_ends() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&pod.pid_file(app.pid())]);
    refresh.wait_for_log(&["published"]);
    refresh.stop();
    app.wait_for_signals(&["HUP"]);
}

#[test]
fn a_process_of_each_kind_and_a_hook_are_all_notified() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let (by_file, by_name) = (App::start(&pod, "app"), App::start(&pod, &name));
    let _agent = pod.agent(offer([pod.mint()]));
    let helper = pod.helper(&["--mode=refresh", &pod.pid_file(by_file.pid())]);
    let helper = helper.argument(format!("--signal-process={name}"));
    let refresh = helper.command(&pod.script(r#"echo run >>"$0/runs""#)).start();
    by_file.wait_for_signals(&["HUP"]);
    by_name.wait_for_signals(&["HUP"]);
    pod.wait_for_runs("run\n");
    refresh.stop();
}

#[test]
fn a_process_that_cannot_be_signalled_does_not_hold_up_the_others() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let app = App::start(&pod, &name);
    let agent = pod.agent(offer([pod.mint()]));
    let helper = pod.helper(&["--mode=refresh", &pod.pid_file("garbage")]);
    let helper = helper.argument(format!("--signal-process={name}"));
    let refresh = helper.command(&pod.script(r#"echo run >>"$0/runs""#)).start();
    app.wait_for_signals(&["HUP"]);
    pod.wait_for_runs("run\n");
    agent.reply(offer([pod.mint()]));
    app.wait_for_signals(&["HUP", "HUP"]);
    pod.wait_for_runs("run\nrun\n");
    refresh.stop();
}

#[test]
fn variables_set_the_target_and_the_signal() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let (by_file, by_name) = (App::start(&pod, "app"), App::start(&pod, &name));
    let _agent = pod.agent(offer([pod.mint()]));
    pod.pid_file(by_file.pid());
    let helper = pod
        .helper(&[])
        .variable("HELPER_MODE", "refresh")
        .variable("HELPER_PID_FILE", pod.path().join("app.pid"))
        .variable("HELPER_SIGNAL_PROCESS", &name)
        .variable("HELPER_RENEW_SIGNAL", "USR1");
    let refresh = helper.start();
    by_file.wait_for_signals(&["USR1"]);
    by_name.wait_for_signals(&["USR1"]);
    refresh.stop();
}

#[test]
fn init_signals_a_process_that_a_flag_names() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent(offer([pod.mint()]));
    pod.init(&[&pod.pid_file(app.pid())]).succeeded();
    app.wait_for_signals(&["HUP"]);
}

/// The variable may be meant for the sidecar of the same pod.
#[test]
fn init_signals_no_process_that_a_variable_names() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent(offer([pod.mint()]));
    pod.pid_file(app.pid());
    let helper = pod.helper(&["--mode=init"]).variable("HELPER_PID_FILE", pod.path().join("app.pid"));
    helper.finish().succeeded();
    app.has_got(&[]);
}

#[test]
fn init_fails_when_a_process_that_a_flag_names_cannot_be_signalled() {
    for (option, cause) in [
        ("--pid-file=/no/such.pid", "/no/such.pid"),
        ("--signal-process=no-such-process", "no process is called no-such-process"),
    ] {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        let finished = pod.init(&[option, BRIEFLY]);
        finished.failed_with(&["the files are published, but", "could not notify the application", cause]);
        pod.wait_for(&svid);
    }
}

#[test]
fn only_changes_of_the_kinds_in_notify_for_are_signalled() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&["--notify-for=token, bundle", &pod.pid_file(app.pid())]);
    app.wait_for_signals(&["HUP"]);
    let next = pod.mint();
    agent.reply(offer([next.clone()]));
    refresh.wait_for_log(&["DEBUG", "no notification of svid: only bundle notify (--notify-for)"]);
    let bundle = [pod.authority.bundle(), Authority::new("example.org").bundle()].concat();
    agent.reply(offer([X509SVID { bundle, ..next }]));
    app.wait_for_signals(&["HUP", "HUP"]);
    let log = refresh.stop();
    assert_eq!(log.iter().filter(|line| line.contains("sent SIGHUP")).count(), 2, "{log:#?}");
}

/// A process that waits for its first files is not kept waiting. At its end, the helper sends what it owes.
#[test]
fn a_signal_waits_at_random_after_a_rotation_but_not_after_the_first_publication() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&["--notify-splay=1000h", &pod.pid_file(app.pid())]);
    app.wait_for_signals(&["HUP"]);
    let next = pod.mint();
    agent.reply(offer([next.clone()]));
    // The old one has an hour.
    let line = refresh.wait_for_log(&["INFO", "notifying in", "minutes", "(--notify-splay)"]);
    assert!(["39 minutes", "40 minutes"].iter().any(|minutes| line.contains(minutes)), "{line}");
    pod.wait_for(&next);
    assert_eq!(app.signals(), ["HUP"]);
    refresh.stop();
    app.wait_for_signals(&["HUP", "HUP"]);
}

#[test]
fn a_choice_of_notifications_that_does_nothing_is_refused() {
    for (options, parts) in [
        (
            &["--notify-for=certificate", "--pid-file=/x"][..],
            &["--notify-for takes svid, bundle, token, keys, wit or crl"][..],
        ),
        (&["--notify-for=svid"], &["--notify-for has no meaning without a target"]),
        (&["--notify-splay=1m"], &["--notify-splay has no meaning without a target"]),
        (
            &["--notify-for=token,keys", "--pid-file=/x"],
            &["--notify-for=token,keys", "without files of such a kind"],
        ),
        (
            &["--mode=init", "--notify-splay=1m", "--pid-file=/x"],
            &["--notify-splay has no meaning in --mode=init"],
        ),
    ] {
        let mode = if options.contains(&"--mode=init") { &[][..] } else { &["--mode=refresh"] };
        Pod::new().helper(mode).arguments(options).finish().refused_with(parts);
    }
    for option in ["--notify-for=svid", "--notify-splay=1m"] {
        let run = Pod::new().helper(&["--mode=run", "--on-renewal=nothing", option]).command(&["true"]);
        run.finish().refused_with(&["has no meaning with --on-renewal=nothing"]);
    }
}
