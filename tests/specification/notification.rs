//! Telling the application of new files: by a signal, by a command.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::pod::{App, Finished, Helper, ID, NOBODY, Pod, Published, Running, is_root, offer};
use crate::workload_api_server::authority::Recipe;
use crate::workload_api_server::server::Reply;

/// A name for processes of this test alone: at most 15 letters, if `suffix` has at most 6.
fn own_name(pod: &Pod, suffix: &str) -> String {
    let directory = pod.path().file_name().and_then(|name| name.to_str()).expect("a name");
    format!("{directory}{suffix}")
}

fn refresh(pod: &Pod, options: &[&str], command: &[impl AsRef<OsStr>]) -> Running {
    pod.helper(&["--mode=refresh"]).arguments(options).command(command).start()
}

fn init(pod: &Pod, options: &[&str], command: &[impl AsRef<OsStr>]) -> Finished {
    pod.helper(&["--mode=init"]).arguments(options).command(command).finish()
}

/// A script that writes down its start and each SIGHUP, and ends when the helper does.
const LASTING: &str = r#"
    trap 'echo HUP >>"$0/runs"' HUP
    echo started >>"$0/runs"
    while kill -0 $PPID; do sleep 0.05; done
"#;

/// The number in "(process 12)".
fn process_in(line: &str) -> Pid {
    let number = line.split("(process ").nth(1).and_then(|rest| rest.split(')').next());
    Pid::from_raw(number.and_then(|number| number.parse().ok()).expect("a process"))
}

/// The position of the first line that says all of these.
fn position(log: &[String], parts: &[&str]) -> Option<usize> {
    log.iter().position(|line| parts.iter().all(|part| line.contains(part)))
}

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
    for signal in ["SIGUSR1", "usr1", "10"] {
        let pod = Pod::new();
        let app = App::start(&pod, "app");
        let _agent = pod.agent(offer([pod.mint()]));
        let refresh = pod.refresh(&[&pod.pid_file(app.pid()), &format!("--renew-signal={signal}")]);
        app.wait_for_signals(&["USR1"]);
        refresh.stop();
    }
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
    refresh.wait_for_log(&["app.pid", "trying again"]);
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
fn a_pid_file_that_stays_missing_is_an_error_and_refresh_goes_on() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let missing = pod.path().join("missing.pid");
    let mut refresh = pod.refresh(&[&format!("--pid-file={}", missing.display())]);
    refresh.wait_for_log(&["ERROR", "does not know of the new files", "missing.pid", "is it mounted here?"]);
    let next = pod.mint();
    agent.reply(offer([next.clone()]));
    pod.wait_for(&next);
    refresh.stop();
}

#[test]
fn a_pid_file_that_names_no_process_is_an_error_and_refresh_goes_on() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[&pod.pid_file("")]);
    let no_number = "is no process's number";
    for (text, reason) in [
        ("", no_number),
        ("garbage", no_number),
        ("0", no_number),
        // A whole process group, or every process there is.
        ("-1", no_number),
        ("99999999999", no_number),
        // More than the kernel's highest PID.
        ("2147483647", "No such process (the number is stale, or from another PID namespace"),
    ] {
        pod.pid_file(text);
        let svid = pod.mint();
        agent.reply(offer([svid.clone()]));
        pod.wait_for(&svid);
        refresh.wait_for_log(&["ERROR", "does not know of the new files", "app.pid", text, reason]);
    }
    refresh.stop();
}

#[test]
fn a_pid_file_with_the_helpers_own_number_is_an_error_and_refresh_goes_on() {
    let pod = Pod::new();
    let agent = pod.agent(Reply::Silence);
    let mut refresh = pod.refresh(&[&pod.pid_file("")]);
    pod.pid_file(refresh.pid());
    for _ in 0..2 {
        let svid = pod.mint();
        agent.reply(offer([svid.clone()]));
        pod.wait_for(&svid);
        refresh.wait_for_log(&["ERROR", "app.pid", "would be this very process", "shareProcessNamespace"]);
    }
    refresh.stop();
}

/// Who may write the PID file must not be able to stop the rotation.
#[test]
fn a_pid_file_that_is_a_pipe_is_an_error_and_refresh_goes_on() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let pipe = pod.path().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    let mut refresh = pod.refresh(&[&format!("--pid-file={}", pipe.display())]);
    refresh.wait_for_log(&["published"]);
    let next = pod.mint();
    agent.reply(offer([next.clone()]));
    pod.wait_for(&next);
    refresh.wait_for_log(&["ERROR", "does not know of the new files", "pipe"]);
    refresh.stop();
}

#[test]
fn an_application_of_another_user_is_an_error_that_says_what_is_missing() {
    // Only root can start both.
    if !is_root() {
        return;
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

#[test]
fn the_oldest_process_of_a_name_is_signalled_and_no_other() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let (older, younger) = (App::start(&pod, &name), App::start(&pod, &name));
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&format!("--signal-process={name}")]);
    older.wait_for_signals(&["HUP"]);
    let line = refresh.wait_for_log(&["INFO", "sent SIGHUP", &name]);
    assert_eq!(process_in(&line), older.pid());
    agent.reply(offer([pod.mint()]));
    older.wait_for_signals(&["HUP", "HUP"]);
    younger.has_got(&[]);
    refresh.stop();
}

#[test]
fn a_process_that_is_dead_is_not_the_oldest() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let (mut older, younger) = (App::start(&pod, &name), App::start(&pod, &name));
    older.kill();
    let _agent = pod.agent(offer([pod.mint()]));
    let refresh = pod.refresh(&[&format!("--signal-process={name}")]);
    younger.wait_for_signals(&["HUP"]);
    refresh.stop();
}

/// Runs refresh with this name, and asserts that the first of these processes gets the signal, and
/// no other does.
fn signals_the_first(pod: &Pod, name: &str, apps: &[App]) {
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&format!("--signal-process={name}")]);
    let line = refresh.wait_for_log(&["sent SIGHUP"]);
    let (found, others) = apps.split_first().expect("a process");
    assert_eq!(process_in(&line), found.pid());
    found.wait_for_signals(&["HUP"]);
    others.iter().for_each(|other| other.has_got(&[]));
    refresh.stop();
}

#[test]
fn a_process_is_found_by_what_it_was_told_of_its_name_too() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    signals_the_first(&pod, &name, &[App::start_as(&pod, "sh", &format!("/usr/sbin/{name}"))]);
}

/// The kernel keeps 15 letters.
#[test]
fn a_name_of_more_than_fifteen_letters_is_found() {
    let pod = Pod::new();
    let name = own_name(&pod, "-long-application");
    signals_the_first(&pod, &name, &[App::start(&pod, &name), App::start(&pod, &name)]);
}

/// So it is with scripts: the process is told that it is its interpreter.
#[test]
fn a_name_of_more_than_fifteen_letters_is_found_where_the_kernel_alone_knows_it() {
    let pod = Pod::new();
    let name = own_name(&pod, "-long-application");
    signals_the_first(&pod, &name, &[App::start_as(&pod, &name, "sh")]);
}

#[test]
fn an_older_process_whose_name_only_begins_like_the_wanted_one_is_left_alone() {
    for other in ["-long", "-long-apprentice"] {
        let pod = Pod::new();
        let name = own_name(&pod, "-long-application");
        let older = App::start(&pod, &own_name(&pod, other));
        signals_the_first(&pod, &name, &[App::start(&pod, &name), older]);
    }
}

/// It may have been started just now, and catch the signal in a moment.
#[test]
fn a_process_that_the_signal_would_end_is_given_time() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let program = pod.path().join(&name);
    std::os::unix::fs::symlink("/bin/sleep", &program).expect("a link");
    let mut app = std::process::Command::new(&program).arg("1000").spawn().expect("a process");
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&format!("--signal-process={name}")]);
    refresh.wait_for_log(&["DEBUG", &name, "does not expect SIGHUP", "trying again"]);
    refresh.wait_for_log(&["INFO", "sent SIGHUP", &name]);
    let status = app.wait().expect("a child");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGHUP as i32));
    refresh.stop();
}

#[test]
fn a_name_that_no_process_has_is_an_error_and_refresh_goes_on() {
    let pod = Pod::new();
    let name = own_name(&pod, "-none");
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&format!("--signal-process={name}")]);
    refresh.wait_for_log(&["ERROR", "does not know of the new files", &name, "shareProcessNamespace: true"]);
    let next = pod.mint();
    agent.reply(offer([next.clone()]));
    pod.wait_for(&next);
    refresh.stop();
}

#[test]
fn the_same_response_again_tells_nobody() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let first = pod.mint();
    let agent = pod.agent(offer([first.clone()]));
    let mut refresh = refresh(&pod, &[&pod.pid_file(app.pid())], &pod.script(LASTING));
    app.wait_for_signals(&["HUP"]);
    pod.wait_for_runs("started\n");
    agent.reply(offer([first]));
    refresh.wait_for_log(&["nothing written"]);
    app.has_got(&["HUP"]);
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("started\nHUP\n");
    refresh.stop();
}

#[test]
fn a_renewed_jwt_svid_is_told_of_too() {
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
fn a_command_is_told_of_the_directory_the_id_and_the_end_of_the_svid() {
    let pod = Pod::new();
    let not_after = UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    let svid = pod.authority.mint(&Recipe { not_after, ..Recipe::for_id(ID) });
    let _agent = pod.agent(offer([svid]));
    let text = r#"echo "$SVID_PATH $SVID_SPIFFE_ID $SVID_NOT_AFTER" >>"$0/runs""#;
    let refresh = refresh(&pod, &[], &pod.script(text));
    pod.wait_for_runs(&format!("{} {ID} 2100-01-01T00:00:00Z\n", pod.volume().display()));
    refresh.stop();
}

#[test]
fn a_command_is_told_of_no_svid_where_none_is_published() {
    let pod = Pod::new();
    let _agent = pod.agent_with_jwt(Reply::Silence, Duration::from_secs(300));
    let wanted = format!("--pod-spiffe-id={ID}");
    let keys_alone = ["--mode=refresh", "--x509=false", "--jwt-bundle-file-name=jwks.json", &wanted];
    let text = r#"echo "${SVID_SPIFFE_ID-none} ${SVID_NOT_AFTER-none}" >>"$0/runs""#;
    let helper = pod.helper(&keys_alone).command(&pod.script(text));
    let refresh = helper.variable("SVID_SPIFFE_ID", "stale").variable("SVID_NOT_AFTER", "stale").start();
    pod.wait_for_runs("none none\n");
    refresh.stop();
}

#[test]
fn a_command_has_the_helpers_own_environment_too() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let text = r#"echo "$GREETING" >>"$0/runs""#;
    let helper = pod.helper(&["--mode=refresh"]).command(&pod.script(text));
    let refresh = helper.variable("GREETING", "good morning").start();
    pod.wait_for_runs("good morning\n");
    refresh.stop();
}

#[test]
fn a_commands_arguments_reach_it_as_they_are() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let arguments = ["two words", "$HOME", "*", "", "\"quoted\"", "a;b", "--mode=init", "--"];
    let text = r#"for argument; do echo "[$argument]" >>"$0/runs"; done"#;
    let command = [pod.script(text), arguments.map(str::to_owned).to_vec()].concat();
    let refresh = refresh(&pod, &[], &command);
    pod.wait_for_runs(&arguments.map(|argument| format!("[{argument}]\n")).concat());
    refresh.stop();
}

#[test]
fn a_command_is_found_in_the_path() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    std::os::unix::fs::symlink("/bin/sh", pod.path().join("reload")).expect("a link");
    let command = ["reload", "-c", r#"echo run >>"$0/runs""#, pod.path().to_str().expect("UTF-8")];
    let helper = pod.helper(&["--mode=refresh"]).command(&command);
    let refresh = helper.variable("PATH", pod.path()).start();
    pod.wait_for_runs("run\n");
    refresh.stop();
}

#[test]
fn a_command_that_has_ended_is_run_again_after_the_next_publication() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = refresh(&pod, &[], &pod.script(r#"echo run >>"$0/runs""#));
    for times in 1..=3 {
        refresh.wait_for_log(&["INFO", "running /bin/sh"]);
        refresh.wait_for_log(&["INFO", "/bin/sh", "ended with code 0"]);
        assert_eq!(pod.runs(), "run\n".repeat(times));
        agent.reply(offer([pod.mint()]));
    }
    refresh.stop();
}

#[test]
fn a_command_that_still_runs_gets_the_signal_instead_of_a_twin() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = refresh(&pod, &[], &pod.script(LASTING));
    let process = process_in(&refresh.wait_for_log(&["running /bin/sh"]));
    pod.wait_for_runs("started\n");
    for times in 1..=2 {
        agent.reply(offer([pod.mint()]));
        pod.wait_for_runs(&("started\n".to_owned() + &"HUP\n".repeat(times)));
        assert_eq!(process_in(&refresh.wait_for_log(&["INFO", "sent SIGHUP", "still runs"])), process);
    }
    refresh.stop();
}

#[test]
fn a_command_that_still_runs_gets_the_chosen_signal() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let text = LASTING.replace("HUP", "USR1");
    let refresh = refresh(&pod, &["--renew-signal=USR1"], &pod.script(&text));
    pod.wait_for_runs("started\n");
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("started\nUSR1\n");
    refresh.stop();
}

#[test]
fn how_a_command_has_ended_is_logged_and_refresh_goes_on() {
    for (text, ends) in [
        ("exit 0", ["INFO", "ended with code 0"]),
        ("exit 3", ["ERROR", "ended with code 3"]),
        ("kill -KILL $$", ["ERROR", "ended by SIGKILL"]),
    ] {
        let pod = Pod::new();
        let agent = pod.agent(offer([pod.mint()]));
        let mut refresh = refresh(&pod, &[], &pod.script(text));
        for _ in 0..2 {
            let process = process_in(&refresh.wait_for_log(&["running /bin/sh"]));
            assert_eq!(process_in(&refresh.wait_for_log(&ends)), process);
            let next = pod.mint();
            agent.reply(offer([next.clone()]));
            pod.wait_for(&next);
        }
        refresh.stop();
    }
}

/// The children of a process, zombies among them.
fn children(process: Pid) -> String {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("threads");
    let children =
        threads.map(|thread| std::fs::read_to_string(thread.expect("a thread").path().join("children")));
    children.map(|children| children.expect("children")).collect()
}

#[test]
fn a_command_that_has_ended_leaves_no_zombie() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    // It ends when it is told to, for its being a child has to be seen first.
    let text = r#"until [ -e "$0/end" ]; do sleep 0.05; done"#;
    let mut refresh = refresh(&pod, &[], &pod.script(text));
    let process = process_in(&refresh.wait_for_log(&["running"]));
    assert_eq!(children(refresh.pid()).trim(), process.to_string());
    std::fs::write(pod.path().join("end"), "").expect("a file");
    refresh.wait_for_log(&["ended with code 0"]);
    assert_eq!(children(refresh.pid()), "");
    refresh.stop();
}

#[test]
fn what_a_command_leaves_to_process_one_leaves_no_zombie() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let mut namespace = vec!["--pid", "--fork", "--kill-child"];
    if !is_root() {
        namespace.push("--map-root-user");
    }
    let helper = pod.helper(&["--mode=refresh"]).command(&pod.script("sleep 0.1 & exit 0"));
    let mut unshare = helper.through("unshare", &namespace).start();
    unshare.wait_for_log(&["/bin/sh", "ended with code 0"]);
    unshare.wait_for_log(&["left to this one has ended"]);
    let helper: i32 = children(unshare.pid()).trim().parse().expect("one child");
    assert_eq!(children(Pid::from_raw(helper)), "");
}

#[test]
fn a_command_that_cannot_be_run_is_an_error_and_refresh_goes_on() {
    for (command, reason) in [
        ("no-such-program", "is it in this image, and in PATH?"),
        ("/no/such/program", "is it in this image, and in PATH?"),
        ("/etc/passwd", "Permission denied"),
    ] {
        let pod = Pod::new();
        let agent = pod.agent(offer([pod.mint()]));
        let mut refresh = refresh(&pod, &[], &[command]);
        for _ in 0..2 {
            refresh.wait_for_log(&["ERROR", "cannot run", command, reason]);
            let next = pod.mint();
            agent.reply(offer([next.clone()]));
            pod.wait_for(&next);
        }
        refresh.stop();
    }
}

#[test]
fn a_command_that_runs_is_told_to_end_when_the_helper_is() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let pod = Pod::new();
        let _agent = pod.agent(offer([pod.mint()]));
        let text = r#"
            trap 'echo TERM >>"$0/runs"; exit' TERM
            echo started >>"$0/runs"
            while :; do sleep 0.05; done
        "#;
        let mut refresh = refresh(&pod, &[], &pod.script(text));
        pod.wait_for_runs("started\n");
        refresh.signal(signal);
        let log = refresh.finish(0);
        let told = position(&log, &["INFO", "sent SIGTERM to /bin/sh"]);
        assert!(told.is_some() && told < position(&log, &["stopped by"]), "{log:?}");
        pod.wait_for_runs("started\nTERM\n");
    }
}

#[test]
fn a_command_that_ignores_the_end_does_not_hold_up_the_helpers() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let text = format!("trap '' TERM\n{LASTING}");
    let mut refresh = refresh(&pod, &[], &pod.script(&text));
    let process = process_in(&refresh.wait_for_log(&["running"]));
    pod.wait_for_runs("started\n");
    refresh.signal(Signal::SIGTERM);
    // It runs for as long as the helper does, so one of them has to end before the other.
    let log = refresh.finish(0);
    assert!(position(&log, &["sent SIGTERM to /bin/sh"]).is_some(), "{log:?}");
    assert_eq!(position(&log, &[&format!("(process {process}) ended")]), None, "{log:?}");
}

#[test]
fn a_command_has_no_signal_blocked() {
    let pod = Pod::new();
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = refresh(&pod, &[], &["/bin/sleep", "60"]);
    let process = process_in(&refresh.wait_for_log(&["running /bin/sleep"]));
    let signals_of = |process: Pid, mask: &str| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix(mask)).expect("the mask").trim();
        u64::from_str_radix(line, 16).expect("hexadecimal")
    };
    let bit = |signal: Signal| 1u64 << (signal as i32 - 1);
    assert_eq!(signals_of(process, "SigBlk:"), 0);
    // A program that writes to a pipe relies on it.
    assert_eq!(signals_of(process, "SigIgn:") & bit(Signal::SIGPIPE), 0);
    refresh.stop();
}

/// The sockets that a process has open.
fn sockets(process: Pid) -> BTreeSet<PathBuf> {
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).expect("its descriptors");
    let links = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).collect()
}

/// The connection to the agent, above all, is the helper's alone.
#[test]
fn a_command_inherits_none_of_the_helpers_sockets() {
    let pod = Pod::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let option = format!("--health-address={}", taken.local_addr().expect("an address"));
    let mut refresh = refresh(&pod, &[&option], &["/bin/sleep", "60"]);
    // What it has got from whoever ran the tests is not its own: it can neither listen nor connect.
    refresh.wait_for_log(&["cannot serve health"]);
    let inherited = sockets(refresh.pid());
    drop(taken);
    refresh.wait_for_log(&["serving health on"]);
    let _agent = pod.agent(offer([pod.mint()]));
    let process = process_in(&refresh.wait_for_log(&["running /bin/sleep"]));
    let own = &sockets(refresh.pid()) - &inherited;
    assert!(own.len() >= 2, "{own:?}");
    assert_eq!(&own & &sockets(process), BTreeSet::new());
    refresh.stop();
}

#[test]
fn a_command_is_run_at_the_start_when_the_set_stands_already_and_nobody_is_signalled() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    let mut refresh = refresh(&pod, &[&pod.pid_file(app.pid())], &pod.script(LASTING));
    refresh.wait_for_log(&["nothing written"]);
    pod.wait_for_runs("started\n");
    app.has_got(&[]);
    // It has been run by now, and is not signalled for what it has.
    agent.reply(offer([svid]));
    refresh.wait_for_log(&["nothing written"]);
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("started\nHUP\n");
    refresh.stop();
}

#[test]
fn a_process_of_each_kind_and_a_command_are_all_told() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let (by_file, by_name) = (App::start(&pod, "app"), App::start(&pod, &name));
    let _agent = pod.agent(offer([pod.mint()]));
    let targets = [&pod.pid_file(by_file.pid()), &*format!("--signal-process={name}")];
    let refresh = refresh(&pod, &targets, &pod.script(LASTING));
    by_file.wait_for_signals(&["HUP"]);
    by_name.wait_for_signals(&["HUP"]);
    pod.wait_for_runs("started\n");
    refresh.stop();
}

#[test]
fn a_process_that_cannot_be_told_does_not_hold_up_the_others() {
    let pod = Pod::new();
    let app = App::start(&pod, &own_name(&pod, "-app"));
    let agent = pod.agent(offer([pod.mint()]));
    let targets = [&pod.pid_file("garbage"), &*format!("--signal-process={}", own_name(&pod, "-app"))];
    let refresh = refresh(&pod, &targets, &pod.script(LASTING));
    app.wait_for_signals(&["HUP"]);
    pod.wait_for_runs("started\n");
    agent.reply(offer([pod.mint()]));
    app.wait_for_signals(&["HUP", "HUP"]);
    pod.wait_for_runs("started\nHUP\n");
    refresh.stop();
}

#[test]
fn variables_name_whom_to_tell_and_how() {
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
fn init_signals_nobody_and_runs_nothing() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let finished = init(&pod, &[&pod.pid_file(app.pid())], &pod.script(LASTING)).succeeded();
    pod.wait_for(&svid);
    assert!(!finished.log.contains("running"), "{}", finished.log);
    assert_eq!(pod.runs(), "");
    app.has_got(&[]);
}

#[test]
fn init_signals_the_process_of_the_pid_file_when_told_to_notify() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent(offer([pod.mint()]));
    pod.init(&["--init-notify", &pod.pid_file(app.pid())]).succeeded();
    app.wait_for_signals(&["HUP"]);
}

#[test]
fn init_tries_to_signal_a_process_for_a_while_and_then_succeeds_all_the_same() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let log = pod.init(&["--init-notify", &pod.pid_file("garbage")]).succeeded().log;
    pod.wait_for(&svid);
    assert!(log.contains("trying again") && log.contains("ERROR the application does not know"), "{log}");
}

#[test]
fn init_runs_the_command_and_waits_for_its_end_when_told_to_notify() {
    let by_flag: fn(&Pod) -> Helper = |pod| pod.helper(&["--init-notify"]);
    let by_variable: fn(&Pod) -> Helper = |pod| pod.helper(&[]).variable("HELPER_INIT_NOTIFY", "true");
    for helper in [by_flag, by_variable] {
        let pod = Pod::new();
        let _agent = pod.agent(offer([pod.mint()]));
        let text = r#"until [ -e "$0/end" ]; do sleep 0.05; done; echo "$SVID_PATH" >>"$0/runs""#;
        let mut init = helper(&pod).command(&pod.script(text)).start();
        init.wait_for_log(&["running /bin/sh"]);
        std::fs::write(pod.path().join("end"), "").expect("a file");
        let log = init.finish(0);
        assert_eq!(pod.runs(), format!("{}\n", pod.volume().display()));
        assert!(position(&log, &["INFO", "/bin/sh", "ended with code 0"]).is_some(), "{log:?}");
    }
}

#[test]
fn init_succeeds_though_the_command_fails() {
    for (command, reason) in [("/bin/false", "ended with code 1"), ("no-such-program", "cannot run")] {
        let pod = Pod::new();
        let svid = pod.mint();
        let _agent = pod.agent(offer([svid.clone()]));
        let log = init(&pod, &["--init-notify"], &[command]).succeeded().log;
        pod.wait_for(&svid);
        let says_why = |line: &str| line.contains("ERROR") && line.contains(command) && line.contains(reason);
        assert!(log.lines().any(says_why), "{log}");
    }
}

#[test]
fn init_ends_a_command_that_outlasts_the_timeout_and_succeeds() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let options = ["--init-notify", "--init-timeout=5s"];
    let log = init(&pod, &options, &pod.script(LASTING)).succeeded().log;
    pod.wait_for(&svid);
    assert!(log.contains("ERROR --init-timeout is over"), "{log}");
    assert!(log.contains("sent SIGTERM to /bin/sh"), "{log}");
}

#[test]
fn a_signal_ends_init_while_it_waits_for_the_command() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let helper = pod.helper(&["--init-notify", "--init-timeout=1h"]);
    let mut init = helper.command(&pod.script(LASTING)).start();
    pod.wait_for_runs("started\n");
    init.signal(Signal::SIGTERM);
    let log = init.finish(0);
    assert!(position(&log, &["sent SIGTERM to /bin/sh"]).is_some(), "{log:?}");
    pod.wait_for(&svid);
}

/// SIGHUP ends whoever does not expect it: a program that converts the files, say.
#[test]
fn a_command_that_the_signal_ends_is_run_again_for_nobody_has_looked_at_the_files() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = refresh(&pod, &[], &["/bin/sleep", "60"]);
    let first = process_in(&refresh.wait_for_log(&["running /bin/sleep"]));
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["sent SIGHUP to /bin/sleep"]);
    refresh.wait_for_log(&["ERROR", "/bin/sleep", &first.to_string(), "ended by SIGHUP"]);
    let second = process_in(&refresh.wait_for_log(&["running /bin/sleep"]));
    assert_ne!(first, second);
    kill(second, None).expect("a running command");
    refresh.stop();
}

#[test]
fn of_what_is_published_at_nearly_the_same_time_the_command_is_told_once() {
    let pod = Pod::new();
    // The helper is there first, so that everything has failed once, and comes back by itself.
    let arguments = ["--jwt-svid=a.jwt=one", "--jwt-svid=b.jwt=one", "--jwt-bundle-file-name=jwks.json"];
    let mut refresh = refresh(&pod, &arguments, &pod.script(LASTING));
    refresh.wait_for_log(&["cannot connect"]);
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    for name in ["svid.pem", "a.jwt", "b.jwt", "jwks.json"] {
        pod.wait_for_file(name, |_| true);
    }
    pod.wait_for_runs("started\n");
    refresh.stop();
}

/// Without a shared PID namespace, a low number that is meant for the application may be a thread's.
#[test]
fn a_thread_of_the_helpers_own_is_not_signalled() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    let path = pod.path().join("app.pid");
    let mut refresh = pod.refresh(&[&format!("--pid-file={}", path.display())]);
    refresh.wait_for_log(&["published"]);
    let threads = std::fs::read_dir(format!("/proc/{}/task", refresh.pid())).expect("a running helper");
    let threads =
        threads.map(|thread| thread.expect("a thread").file_name().into_string().expect("a number"));
    let other = threads.into_iter().find(|thread| *thread != refresh.pid().to_string()).expect("gRPC's");
    pod.pid_file(other);
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["ERROR", "this very process", "shareProcessNamespace"]);
    refresh.stop();
}

#[test]
fn a_signal_that_waits_for_more_news_is_sent_before_the_helper_ends() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&pod.pid_file(app.pid())]);
    refresh.wait_for_log(&["published"]);
    refresh.stop();
    app.wait_for_signals(&["HUP"]);
}

#[test]
fn a_removal_is_not_told_of_though_something_stays() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    let arguments = ["--on-revoked=remove", "--jwt-bundle-file-name=jwks.json"];
    let mut refresh = refresh(&pod, &arguments, &pod.script(LASTING));
    pod.wait_for_runs("started\n");
    pod.wait_for_file("jwks.json", |_| true);
    agent.reply(Reply::refuse(grpcio::RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["removed the files"]);
    let log = refresh.stop();
    assert_eq!(position(&log, &["sent SIGHUP"]), None, "{log:?}");
}

#[test]
fn init_gives_the_command_time_though_its_own_was_used_up() {
    let pod = Pod::new();
    let agent = pod.agent(offer([pod.mint()]));
    agent.issue_jwt(|_| Reply::Silence);
    let options = ["--init-notify", "--init-timeout=3s", "--jwt-svid=token.jwt=one"];
    let finished = init(&pod, &options, &pod.script(r#"sleep 0.1; echo ended >>"$0/runs""#));
    finished.failed_with(&["not everything came", "JWT-SVID token.jwt"]);
    assert_eq!(pod.runs(), "ended\n");
}
