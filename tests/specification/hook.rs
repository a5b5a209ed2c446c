//! The hook of refresh: a command that is run to completion after each publication.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgid};
use pod_svid_helper::for_tests::workload::{JWTBundlesResponse, X509SVID};
use workload_api_server::authority::{Authority, Recipe};
use workload_api_server::server::{Reply, WorkloadApiServer};
use workload_api_server::wit::{WitRecipe, wit_response};

use crate::pod::{App, ID, Pod, Running, is_root, jwt_bundles, offer, skip};
use crate::process::{children, position, process_in, signals_in_mask, start_as_process_one};

fn refresh(pod: &Pod, hook: &[impl AsRef<OsStr>]) -> Running {
    pod.helper(&["--mode=refresh"]).command(hook).start()
}

/// Writes down its start and its end, and runs until the file `end` is there. It would write down a
/// SIGHUP too.
const LASTING: &str = r#"
    trap 'echo HUP >>"$0/runs"' HUP
    echo start >>"$0/runs"
    until [ -e "$0/end" ]; do sleep 0.05; done
    echo end >>"$0/runs"
"#;

#[test]
fn a_hook_learns_the_directory_the_id_and_the_end_of_the_svid() {
    let pod = Pod::new();
    let not_after = UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    let svid = pod.authority.mint(&Recipe { not_after, ..Recipe::for_id(ID) });
    let _agent = pod.agent(offer([svid]));
    let text = r#"echo "$SVID_PATH $SVID_SPIFFE_ID $SVID_NOT_AFTER" >>"$0/runs""#;
    let refresh = refresh(&pod, &pod.script(text));
    pod.wait_for_runs(&format!("{} {ID} 2100-01-01T00:00:00Z\n", pod.volume().display()));
    refresh.stop();
}

#[test]
fn a_hook_learns_no_svid_where_none_is_published() {
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

/// The own trust domain's CA with another one: SPIRE's next, say.
fn with_another_ca(pod: &Pod, svid: &X509SVID) -> X509SVID {
    let bundle = [pod.authority.bundle(), Authority::new("example.org").bundle()].concat();
    X509SVID { bundle, ..svid.clone() }
}

/// Writes down what has changed, and fails until the file `end` is there.
const CHANGED: &str = r#"echo "$SVID_CHANGED" >>"$0/runs"; [ -e "$0/end" ]"#;

#[test]
fn a_hook_learns_what_a_publication_has_changed() {
    let pod = Pod::new();
    let first = pod.mint();
    let agent = pod.agent_with_jwt(offer([first]), Duration::from_secs(300));
    pod.let_end();
    let options = ["--mode=refresh", "--jwt-svid=token.jwt=one", "--jwt-bundle-file-name=jwks.json"];
    let helper = pod.helper(&options).variable("SVID_CHANGED", "stale");
    let refresh = helper.command(&pod.script(CHANGED)).start();
    pod.wait_for_runs("svid,bundle,token,keys\n");
    let second = pod.mint();
    agent.reply(offer([second.clone()]));
    pod.wait_for_runs("svid,bundle,token,keys\nsvid\n");
    agent.reply(offer([with_another_ca(&pod, &second)]));
    pod.wait_for_runs("svid,bundle,token,keys\nsvid\nbundle\n");
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("svid,bundle,token,keys\nsvid\nbundle\nsvid,bundle\n");
    refresh.stop();
}

#[test]
fn a_hook_learns_of_renewed_tokens_and_of_new_jwt_keys() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(Reply::Silence, Duration::from_secs(4));
    pod.let_end();
    let tokens = pod.helper(&["--mode=refresh", "--x509=false", "--jwt-svid=token.jwt=one"]);
    let refresh = tokens.command(&pod.script(CHANGED)).start();
    pod.wait_for_runs("token\ntoken\n");
    refresh.stop();
    std::fs::remove_file(pod.path().join("runs")).expect("a file");
    let id = format!("--pod-spiffe-id={ID}");
    let keys = pod.helper(&["--mode=refresh", "--x509=false", "--jwt-bundle-file-name=jwks.json", &id]);
    let refresh = keys.command(&pod.script(CHANGED)).start();
    pod.wait_for_runs("keys\n");
    agent.reply_with_jwt_bundles(jwt_bundles([&Arc::new(Authority::new("example.org"))]));
    pod.wait_for_runs("keys\nkeys\n");
    refresh.stop();
}

#[test]
fn a_hook_that_has_failed_learns_of_all_publications_since_its_last_success() {
    let (pod, agent) = Pod::with_agent();
    let end = pod.path().join("end");
    pod.let_end();
    let mut refresh = refresh(&pod, &pod.script(CHANGED));
    refresh.wait_for_log(&["ended with code 0"]);
    std::fs::remove_file(&end).expect("a file");
    let second = pod.mint();
    agent.reply(offer([second.clone()]));
    refresh.wait_for_log(&["ended with code 1"]);
    agent.reply(offer([with_another_ca(&pod, &second)]));
    refresh.wait_for_log(&["published", "CA added"]);
    refresh.wait_for_log(&["ended with code 1"]);
    pod.let_end();
    refresh.wait_for_log(&["ended with code 0"]);
    let runs = pod.runs();
    assert!(runs.starts_with("svid,bundle\nsvid\n") && runs.ends_with("\nsvid,bundle\n"), "{runs}");
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["ended with code 0"]);
    assert_eq!(pod.runs().lines().last(), Some("svid,bundle"), "the CA is gone again");
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["ended with code 0"]);
    assert_eq!(pod.runs().lines().last(), Some("svid"));
    refresh.stop();
}

#[test]
fn a_hook_is_run_for_the_kinds_in_notify_for_and_learns_of_the_others_too() {
    let (pod, agent) = Pod::with_agent();
    pod.let_end();
    let helper = pod.helper(&["--mode=refresh", "--notify-for=bundle"]).command(&pod.script(CHANGED));
    let mut refresh = helper.start();
    pod.wait_for_runs("svid,bundle\n");
    let second = pod.mint();
    agent.reply(offer([second.clone()]));
    refresh.wait_for_log(&["DEBUG", "no notification of svid: only bundle notify (--notify-for)"]);
    agent.reply(offer([with_another_ca(&pod, &second)]));
    pod.wait_for_runs("svid,bundle\nsvid,bundle\n");
    agent.reply(offer([second]));
    pod.wait_for_runs("svid,bundle\nsvid,bundle\nbundle\n");
    refresh.stop();
}

/// An earlier helper may have died before it ran the hook.
#[test]
fn a_hook_learns_of_all_that_stands_already_when_the_helper_starts() {
    let pod = Pod::new();
    let _agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    pod.init(&["--jwt-bundle-file-name=jwks.json"]).succeeded();
    pod.let_end();
    let helper = pod.helper(&["--mode=refresh", "--jwt-bundle-file-name=jwks.json"]);
    let mut refresh = helper.command(&pod.script(CHANGED)).start();
    refresh.wait_for_log(&["nothing written"]);
    pod.wait_for_runs("svid,bundle,keys\n");
    refresh.stop();
}

#[test]
fn a_hook_learns_nothing_of_a_wit_svid_and_of_reordered_keys_that_an_earlier_helper_has_published() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    let wit = WitRecipe::for_id(ID).mint(&pod.authority);
    agent.reply_with_wit(wit_response([wit]));
    let bundles = |document: &str| {
        let bundles = [(pod.authority.id(), document.as_bytes().to_vec())].into_iter().collect();
        Reply::offer(&JWTBundlesResponse { bundles, ..Default::default() })
    };
    agent.reply_with_jwt_bundles(bundles(r#"{"keys":[{"kid":"a"},{"kid":"b"}]}"#));
    let files =
        ["--jwt-bundle-file-name=jwks.json", "--wit-svid-file-name=wit.jwt", "--wit-key-file-name=wit.jwk"];
    pod.init(&files).succeeded();
    agent.reply_with_jwt_bundles(bundles(r#"{"keys":[{"kid":"b"},{"kid":"a"}]}"#));
    agent.reply(Reply::Silence);
    pod.let_end();
    let mut refresh = pod.helper(&["--mode=refresh"]).arguments(&files).command(&pod.script(CHANGED)).start();
    refresh.wait_for_log(&["published the JWT bundles as jwks.json"]);
    pod.wait_for_runs("svid,bundle,keys,wit\n");
    // Behind them comes a change.
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("svid,bundle,keys,wit\nsvid\n");
    refresh.stop();
}

#[test]
fn two_helpers_in_one_directory_tell_of_each_rotation_whichever_writes_it() {
    let (pod, agent) = Pod::with_agent();
    let app = App::start(&pod, "app");
    let signaller = pod.refresh(&[&pod.pid_file(app.pid())]);
    app.wait_for_signals(&["HUP"]);
    pod.let_end();
    let runner = refresh(&pod, &pod.script(CHANGED));
    pod.wait_for_runs("svid,bundle\n");
    for rotation in 1..=5 {
        agent.reply(offer([pod.mint()]));
        app.wait_for_signals(&vec!["HUP"; 1 + rotation]);
        pod.wait_for_runs(&format!("svid,bundle\n{}", "svid\n".repeat(rotation)));
    }
    signaller.stop();
    runner.stop();
}

/// Each of them looks at the files before a publication that keeps some.
#[test]
fn two_helpers_in_one_directory_take_no_rotation_of_the_other_for_damage() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    let mut helpers = [(); 2].map(|()| pod.refresh(&["--jwt-svid=token.jwt=one", "--log-level=debug"]));
    let volume = pod.volume().display().to_string();
    helpers.iter_mut().for_each(|helper| drop(helper.wait_for_log(&["INFO", ID, &volume])));
    for _ in 0..20 {
        agent.reply(offer([pod.mint()]));
        helpers.iter_mut().for_each(|helper| drop(helper.wait_for_log(&["INFO", ID, "rotated"])));
    }
    for helper in helpers {
        let log = helper.stop();
        assert!(!log.iter().any(|line| line.contains("removed or changed")), "{log:#?}");
    }
}

#[test]
fn a_hook_learns_of_an_svid_that_another_helper_has_written_a_moment_before() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first]));
    pod.let_end();
    let mut refresh = refresh(&pod, &pod.script(CHANGED));
    pod.wait_for_runs("svid,bundle\n");
    // The agent of the other one is ahead.
    let socket = pod.path().join("other.sock");
    let _other = WorkloadApiServer::on_socket(&socket, offer([second.clone()]));
    pod.helper_at(socket.display(), &pod.volume()).finish().succeeded();
    agent.reply(offer([second]));
    refresh.wait_for_log(&["INFO", "another helper has put", ID, "rotated"]);
    pod.wait_for_runs("svid,bundle\nsvid\n");
    refresh.stop();
}

#[test]
fn a_hook_learns_nothing_of_files_that_were_only_touched() {
    let pod = Pod::new();
    let (first, second) = (pod.mint(), pod.mint());
    let agent = pod.agent(offer([first.clone()]));
    pod.let_end();
    let helper = pod.helper(&["--mode=refresh", "--log-level=debug"]).command(&pod.script(CHANGED));
    let mut refresh = helper.start();
    pod.wait_for_runs("svid,bundle\n");
    let file = std::fs::File::open(pod.volume().join("svid.pem")).expect("a file");
    file.set_modified(UNIX_EPOCH).expect("another time");
    agent.reply(offer([first]));
    refresh.wait_for_log(&["DEBUG", ID, "is already in", "nothing written"]);
    agent.reply(offer([second]));
    pod.wait_for_runs("svid,bundle\nsvid\n");
    refresh.stop();
}

#[test]
fn a_hook_finds_the_credential_folder_of_the_spiffe_layout() {
    for mode in ["--mode=init", "--mode=refresh"] {
        for (layout, folder) in [("spiffe", "svids"), ("pem,spiffe", "svids"), ("pem", "none")] {
            let (pod, _agent) = Pod::with_agent();
            let text = r#"echo "${SPIFFE_CREDENTIAL_FOLDER-$0/none}" >>"$0/runs""#;
            let helper = pod.helper(&[mode, &format!("--layout={layout}")]).command(&pod.script(text));
            let mut helper = helper.start();
            helper.wait_for_log(&["/bin/sh", "ended with code 0"]);
            assert_eq!(pod.runs(), format!("{}\n", pod.path().join(folder).display()));
        }
    }
}

#[test]
fn a_hook_has_the_helpers_own_environment_too() {
    let (pod, _agent) = Pod::with_agent();
    let text = r#"echo "$GREETING" >>"$0/runs""#;
    let helper = pod.helper(&["--mode=refresh"]).command(&pod.script(text));
    let refresh = helper.variable("GREETING", "good morning").start();
    pod.wait_for_runs("good morning\n");
    refresh.stop();
}

#[test]
fn a_hooks_arguments_reach_it_as_they_are() {
    let (pod, _agent) = Pod::with_agent();
    let arguments = ["two words", "$HOME", "*", "", "\"quoted\"", "a;b", "--mode=init", "--"];
    let text = r#"for argument; do echo "[$argument]" >>"$0/runs"; done"#;
    let hook = [pod.script(text), arguments.map(str::to_owned).to_vec()].concat();
    let refresh = refresh(&pod, &hook);
    pod.wait_for_runs(&arguments.map(|argument| format!("[{argument}]\n")).concat());
    refresh.stop();
}

#[test]
fn a_hook_is_found_in_the_path() {
    let (pod, _agent) = Pod::with_agent();
    std::os::unix::fs::symlink("/bin/sh", pod.path().join("reload")).expect("a link");
    let command = ["reload", "-c", r#"echo run >>"$0/runs""#, pod.path().to_str().expect("UTF-8")];
    let helper = pod.helper(&["--mode=refresh"]).command(&command);
    let refresh = helper.variable("PATH", pod.path()).start();
    pod.wait_for_runs("run\n");
    refresh.stop();
}

#[test]
fn a_hook_that_has_ended_is_run_again_after_the_next_publication() {
    let (pod, agent) = Pod::with_agent();
    let mut refresh = refresh(&pod, &pod.script(r#"echo run >>"$0/runs""#));
    for times in 1..=3 {
        refresh.wait_for_log(&["INFO", "running /bin/sh"]);
        refresh.wait_for_log(&["INFO", "/bin/sh", "ended with code 0"]);
        assert_eq!(pod.runs(), "run\n".repeat(times));
        agent.reply(offer([pod.mint()]));
    }
    refresh.stop();
}

#[test]
fn a_hook_that_still_runs_is_left_alone_and_runs_once_more_for_all_later_publications() {
    let (pod, agent) = Pod::with_agent();
    let mut refresh = refresh(&pod, &pod.script(LASTING));
    pod.wait_for_runs("start\n");
    for _ in 0..2 {
        agent.reply(offer([pod.mint()]));
        refresh.wait_for_log(&[
            "INFO",
            "/bin/sh",
            "still runs",
            "will run again when it has ended",
            "--mode=run",
        ]);
    }
    pod.let_end();
    for _ in 0..2 {
        refresh.wait_for_log(&["ended with code 0"]);
    }
    assert_eq!(pod.runs(), "start\nend\n".repeat(2));
    // The next run is the next publication's.
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["ended with code 0"]);
    assert_eq!(pod.runs(), "start\nend\n".repeat(3));
    refresh.stop();
}

#[test]
fn the_run_after_a_long_one_sees_the_newest_files() {
    let (pod, agent) = Pod::with_agent();
    let text = r#"
        until [ -e "$0/end" ]; do sleep 0.05; done
        cksum <"$SVID_PATH/svid.pem" >>"$0/runs"
        cksum <"$SVID_PATH/svid.pem" >"$0/last"
    "#;
    let mut refresh = refresh(&pod, &pod.script(text));
    refresh.wait_for_log(&["running /bin/sh"]);
    pod.rotate(&agent);
    refresh.wait_for_log(&["still runs"]);
    pod.let_end();
    for _ in 0..2 {
        refresh.wait_for_log(&["ended with code 0"]);
    }
    let file = std::fs::File::open(pod.volume().join("svid.pem")).expect("a file");
    let sum = std::process::Command::new("cksum").stdin(file).output().expect("cksum").stdout;
    assert_eq!(std::fs::read(pod.path().join("last")).expect("a sum"), sum);
    refresh.stop();
}

#[test]
fn a_hook_that_fails_is_run_again_until_it_succeeds() {
    for (end, says) in [("exit 3", "ended with code 3"), ("kill -KILL $$", "was ended by SIGKILL")] {
        let (pod, agent) = Pod::with_agent();
        let text = format!(r#"echo run >>"$0/runs"; [ -e "$0/end" ] || {end}"#);
        let mut refresh = refresh(&pod, &pod.script(&text));
        let process = process_in(&refresh.wait_for_log(&["running /bin/sh"]));
        let line = refresh.wait_for_log(&["ERROR", "/bin/sh", says, "retrying in 1s"]);
        assert_eq!(process_in(&line), process);
        pod.let_end();
        refresh.wait_for_log(&["INFO", "ended with code 0"]);
        assert_eq!(pod.runs(), "run\n".repeat(2));
        agent.reply(offer([pod.mint()]));
        refresh.wait_for_log(&["INFO", "ended with code 0"]);
        assert_eq!(pod.runs(), "run\n".repeat(3));
        refresh.stop();
    }
}

#[test]
fn a_hook_that_cannot_be_run_is_an_error_and_refresh_goes_on() {
    for (command, reason) in [
        ("no-such-program", "is it in this image, and in PATH?"),
        ("/no/such/program", "is it in this image, and in PATH?"),
        ("/etc/passwd", "Permission denied"),
    ] {
        let (pod, agent) = Pod::with_agent();
        let mut refresh = refresh(&pod, &[command]);
        for _ in 0..2 {
            refresh.wait_for_log(&["ERROR", "cannot run", command, reason, "retrying in"]);
            pod.rotate(&agent);
        }
        refresh.stop();
    }
}

#[test]
fn a_hook_is_run_and_a_process_signalled_once_at_the_start_when_the_set_stands_already() {
    let pod = Pod::new();
    let app = App::start(&pod, "app");
    let svid = pod.mint();
    let agent = pod.agent(offer([svid.clone()]));
    pod.init(&[]).succeeded();
    let helper = pod.helper(&["--mode=refresh", &pod.pid_file(app.pid())]);
    let mut refresh = helper.command(&pod.script(r#"echo run >>"$0/runs""#)).start();
    refresh.wait_for_log(&["ended with code 0"]);
    app.wait_for_signals(&["HUP"]);
    // It has been run by now.
    agent.reply(offer([svid]));
    refresh.wait_for_log(&["nothing written"]);
    agent.reply(offer([pod.mint()]));
    refresh.wait_for_log(&["ended with code 0"]);
    assert_eq!(pod.runs(), "run\nrun\n");
    app.wait_for_signals(&["HUP", "HUP"]);
    refresh.stop();
}

#[test]
fn publications_at_nearly_the_same_time_cause_one_run() {
    /// On a busy machine, some may come later than the others.
    const TRIES: usize = 5;
    let runs = || {
        let pod = Pod::new();
        // The helper is there first, so that everything has failed once, and comes back by itself.
        let helper = pod.helper(&["--mode=refresh", "--jwt-svid=a.jwt=one", "--jwt-svid=b.jwt=one"]);
        let helper = helper.argument("--jwt-bundle-file-name=jwks.json");
        let mut refresh = helper.command(&pod.script(r#"echo run >>"$0/runs""#)).start();
        refresh.wait_for_log(&["cannot connect"]);
        let _agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
        for name in ["svid.pem", "a.jwt", "b.jwt", "jwks.json"] {
            pod.wait_for_file(name, |_| true);
        }
        refresh.wait_for_log(&["ended with code 0"]);
        refresh.stop();
        pod.runs()
    };
    assert!((0..TRIES).any(|_| runs() == "run\n"));
}

#[test]
fn a_removal_causes_no_run_though_something_stays() {
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    let helper = pod.helper(&["--mode=refresh", "--on-revoked=remove", "--jwt-bundle-file-name=jwks.json"]);
    let mut refresh = helper.command(&pod.script(r#"echo run >>"$0/runs""#)).start();
    refresh.wait_for_log(&["ended with code 0"]);
    pod.wait_for_file("jwks.json", |_| true);
    agent.reply(Reply::refuse(grpcio::RpcStatusCode::PERMISSION_DENIED));
    refresh.wait_for_log(&["removed the X.509-SVID from"]);
    let log = refresh.stop();
    assert_eq!(log.iter().filter(|line| line.contains("running /bin/sh")).count(), 1, "{log:?}");
    assert_eq!(position(&log, &["was not run"]), None, "{log:?}");
}

#[test]
fn a_hook_that_runs_is_told_to_end_with_the_helper_and_waited_for() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let (pod, _agent) = Pod::with_agent();
        let text = r#"
            trap 'echo TERM >>"$0/runs"; until [ -e "$0/end" ]; do sleep 0.05; done; exit 1' TERM
            echo start >>"$0/runs"
            while :; do sleep 0.05; done
        "#;
        let mut refresh = refresh(&pod, &pod.script(text));
        let process = process_in(&refresh.wait_for_log(&["running"]));
        pod.wait_for_runs("start\n");
        refresh.signal(signal);
        refresh.wait_for_log(&["INFO", "sent SIGTERM to /bin/sh", "waiting for it to end"]);
        pod.wait_for_runs("start\nTERM\n");
        assert_eq!(children(refresh.pid()), [process]);
        pod.let_end();
        let log = refresh.finish(0);
        let ended = position(&log, &["INFO", "/bin/sh", "ended with code 1"]);
        assert!(ended.is_some() && ended < position(&log, &["stopped by"]), "{log:?}");
    }
}

/// The next start runs it.
#[test]
fn a_hook_that_fails_is_not_run_again_when_the_helper_ends() {
    let (pod, _agent) = Pod::with_agent();
    let mut refresh = refresh(&pod, &["/bin/false"]);
    refresh.wait_for_log(&["/bin/false", "retrying in"]);
    let log = refresh.stop();
    assert!(position(&log, &["WARN", "/bin/false was not run for the newest files"]).is_some(), "{log:?}");
}

#[test]
fn a_hook_needs_no_dev_null_and_reads_nothing() {
    if !is_root() {
        return skip("it needs root");
    }
    let (pod, _agent) = Pod::with_agent();
    let text = r#"{ [ -e /dev/null ] && echo null; read line || echo nothing; } >>"$0/runs""#;
    let without_dev = r#"mount -t tmpfs none /dev && exec "$0" "$@""#;
    let helper = pod.helper(&["--mode=refresh"]).command(&pod.script(text));
    let refresh = helper.through("unshare", &["--mount", "sh", "-c", without_dev]).start();
    pod.wait_for_runs("nothing\n");
    refresh.stop();
}

#[test]
fn a_hook_has_no_signal_blocked_or_ignored() {
    let (pod, _agent) = Pod::with_agent();
    let mut refresh = refresh(&pod, &["/bin/sleep", "60"]);
    let process = process_in(&refresh.wait_for_log(&["running /bin/sleep"]));
    assert_eq!(signals_in_mask(process, "SigBlk:"), 0);
    assert_eq!(signals_in_mask(process, "SigIgn:"), 0);
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
fn a_hook_inherits_none_of_the_helpers_sockets() {
    let pod = Pod::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let option = format!("--http-address={}", taken.local_addr().expect("an address"));
    let helper = pod.helper(&["--mode=refresh", &option]).command(&["/bin/sleep", "60"]);
    let mut refresh = helper.start();
    // Sockets inherited from the caller of the tests do not count: the helper did not open them.
    refresh.wait_for_log(&["cannot serve HTTP"]);
    let inherited = sockets(refresh.pid());
    drop(taken);
    refresh.wait_for_log(&["serving /live, /ready and /metrics on"]);
    let _agent = pod.agent(offer([pod.mint()]));
    let process = process_in(&refresh.wait_for_log(&["running /bin/sleep"]));
    let own = &sockets(refresh.pid()) - &inherited;
    assert!(own.len() >= 2, "{own:?}");
    assert_eq!(&own & &sockets(process), BTreeSet::new());
    refresh.stop();
}

#[test]
fn a_hook_that_has_ended_leaves_no_zombie() {
    let (pod, _agent) = Pod::with_agent();
    let mut refresh = refresh(&pod, &pod.script(LASTING));
    let process = process_in(&refresh.wait_for_log(&["running"]));
    assert_eq!(children(refresh.pid()), [process]);
    pod.let_end();
    refresh.wait_for_log(&["ended with code 0"]);
    assert_eq!(children(refresh.pid()), []);
    refresh.stop();
}

#[test]
fn orphans_of_a_hook_leave_no_zombie() {
    let (pod, _agent) = Pod::with_agent();
    let hook = pod.script("sleep 0.1 & exit 0");
    let (mut unshare, helper) = start_as_process_one(pod.helper(&["--mode=refresh"]).command(&hook));
    unshare.wait_for_log(&["/bin/sh", "ended with code 0"]);
    unshare.wait_for_log(&["reaped orphan process"]);
    assert_eq!(children(helper), []);
}

/// As README says.
#[test]
fn a_hook_that_daemonizes_leaves_one_more_daemon_behind_each_time() {
    let (pod, agent) = Pod::with_agent();
    let daemon = r#"(setsid sh -c 'echo run >>"$0/runs"; until [ -e "$0/end" ]; do sleep 0.02; done; echo end >>"$0/runs"' "$0" &)"#;
    let refresh = refresh(&pod, &pod.script(daemon));
    pod.wait_for_runs("run\n");
    agent.reply(offer([pod.mint()]));
    pod.wait_for_runs("run\nrun\n");
    pod.let_end();
    pod.wait_for_runs("run\nrun\nend\nend\n");
    refresh.stop();
}

#[test]
fn a_hook_that_is_stopped_does_not_hold_up_the_end() {
    let (pod, _agent) = Pod::with_agent();
    let refresh = refresh(&pod, &pod.script(r#"echo run >>"$0/runs"; kill -STOP $$; sleep 60"#));
    pod.wait_for_runs("run\n");
    refresh.stop();
}

/// The hook gets it from the helper.
#[test]
fn a_signal_to_the_helpers_process_group_reaches_a_hook_once() {
    let (pod, _agent) = Pod::with_agent();
    let text = r#"
        trap 'echo TERM >>"$0/runs"' TERM
        echo start >>"$0/runs"
        until [ -e "$0/end" ]; do sleep 0.02; done
    "#;
    let helper = pod.helper(&["--mode=refresh"]).command(&pod.script(text));
    let mut refresh = helper.through("setsid", &[]).start();
    let process = process_in(&refresh.wait_for_log(&["running /bin/sh"]));
    pod.wait_for_runs("start\n");
    assert_eq!(getpgid(Some(process)), Ok(process));
    killpg(refresh.pid(), Signal::SIGTERM).expect("a process group");
    refresh.wait_for_log(&["sent SIGTERM to /bin/sh"]);
    pod.wait_for_runs("start\nTERM\n");
    pod.let_end();
    refresh.finish(0);
    assert_eq!(pod.runs(), "start\nTERM\n");
}

#[test]
fn a_hook_gets_sigterm_when_the_helper_is_killed() {
    let (pod, _agent) = Pod::with_agent();
    let text = r#"
        trap 'echo TERM >>"$0/runs"; exit' TERM
        echo start >>"$0/runs"
        while :; do sleep 0.02; done
    "#;
    let refresh = refresh(&pod, &pod.script(text));
    pod.wait_for_runs("start\n");
    refresh.signal(Signal::SIGKILL);
    pod.wait_for_runs("start\nTERM\n");
}

/// It is for another machine, say. A shell would run it as a script.
#[test]
fn a_file_that_the_kernel_cannot_run_is_not_handed_to_a_shell() {
    let (pod, _agent) = Pod::with_agent();
    let program = pod.path().join("program");
    std::fs::write(&program, "echo run >>runs\n").expect("a file");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("its permissions");
    let mut refresh = refresh(&pod, &[&program]);
    refresh.wait_for_log(&["ERROR", "cannot run", "Exec format error"]);
    refresh.stop();
}
