//! At the limits: the largest response, compressed messages, few threads, little memory.

use std::fs::{DirEntry, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pod_svid_helper::for_tests::workload::{JWTBundlesResponse, X509SVID, X509SVIDResponse};
use pod_svid_helper::for_tests::{MAX_BUNDLE, MAX_MESSAGE_MIB, MAX_SVIDS};
use protobuf::{CodedOutputStream, Message};
use workload_api_server::server::{Reply, WorkloadApiServer};

use crate::pod::{
    EVERYTHING, Helper, PATIENCE, Pod, Published, Running, STOP, is_emulated, is_root, names, offer, skip,
    stop_on_a_busy_machine, wait_until,
};
use crate::process::has_in_mask;

/// The longest message.
const ROOM: usize = (MAX_MESSAGE_MIB as usize) << 20;

/// What the manifests give a helper, in KiB.
const MEMORY_LIMIT: u64 = 32 << 10;

/// A user without a process.
const LONELY: u32 = 65531;

/// A compressed message is small until it is unpacked: 1 MiB can become 1 GiB.
#[test]
fn a_compressed_message_is_refused_before_it_is_unpacked() {
    let pod = Pod::new();
    let mut response = X509SVIDResponse { svids: vec![pod.mint()], ..Default::default() };
    // gRPC sends a message as it is if it would not become smaller.
    response.crl.push(vec![0; 1 << 20]);
    let _agent = WorkloadApiServer::compressing(&pod.socket(), Reply::offer(&response));
    pod.init(&["--init-timeout=5s"]).failed_with(&["'gzip' is disabled", "accepts no compression"]);
}

/// The most that is accepted: a full bundle, and federated bundles in all the room that is left.
fn largest_response(pod: &Pod) -> X509SVIDResponse {
    let mut svid = pod.mint();
    svid.bundle = svid.bundle.repeat(MAX_BUNDLE);
    let mut response = X509SVIDResponse { svids: vec![svid], ..Default::default() };
    let room = ROOM as u64;
    let bundle = pod.federated.bundle().repeat(500);
    let left = room - response.compute_size();
    for number in 0..left / (bundle.len() as u64 + 64) {
        response.federated_bundles.insert(format!("spiffe://domain-{number}.org"), bundle.clone());
    }
    assert!((room - room / 20..=room).contains(&response.compute_size()), "{}", response.compute_size());
    response
}

#[test]
fn a_response_larger_than_8_mib_is_refused_with_the_limit() {
    let pod = Pod::new();
    let mut response = largest_response(&pod);
    response.crl.push(vec![0; 1 << 20]);
    let _agent = pod.agent(Reply::offer(&response));
    pod.init_fails_with(&["ResourceExhausted", "at most 8 MiB"]);
}

#[test]
fn a_response_of_exactly_8_mib_is_accepted_and_one_byte_more_is_not() {
    let pod = Pod::new();
    let mut response =
        X509SVIDResponse { svids: vec![pod.mint()], crl: vec![Vec::new()], ..Default::default() };
    // The length of the list takes three bytes more than that of none.
    response.crl[0] = vec![0; ROOM - response.compute_size() as usize - 3];
    assert_eq!(response.compute_size() as usize, ROOM);
    let agent = pod.agent(Reply::offer(&response));
    pod.init(&[]).succeeded();
    response.crl[0].push(0);
    agent.offer(&response);
    pod.init_fails_with(&["ResourceExhausted", "at most 8 MiB"]);
}

/// Parts and fields of two to four bytes each, which would take dozens or hundreds of bytes if they were kept.
#[test]
fn a_response_of_millions_of_small_parts_is_refused_before_it_is_decoded() {
    if is_emulated("memory") {
        return;
    }
    const SIZE: usize = 4 << 20;
    // Known by its number, and not by the type of its value, which is no text.
    let ids_that_are_numbers = {
        let fields = [0x08, 0].repeat(3_900_000);
        let mut svid = vec![0x0a];
        CodedOutputStream::vec(&mut svid).write_bytes_no_tag(&fields).expect("in memory");
        svid
    };
    let empty_svids = [0x0a, 0];
    let svids_of_an_unknown_field = [0x0a, 2, 0x78, 1];
    let empty_lists = [0x12, 0];
    let unknown_fields = [0x38, 1];
    let (parts, fields) = ("more than 65536 parts", "more than 8192 unknown fields");
    let cases: [(&[u8], &str); 5] = [
        (&ids_that_are_numbers, fields),
        (&empty_svids, parts),
        (&svids_of_an_unknown_field, fields),
        (&empty_lists, parts),
        (&unknown_fields, fields),
    ];
    for (part, excess) in cases {
        let (pod, agent) = Pod::with_agent();
        let mut refresh = pod.refresh(&[]);
        refresh.wait_for_log(&["published"]);
        agent.reply(Reply::Send(part.repeat((SIZE / part.len()).max(1))));
        refresh.wait_for_log(&["ERROR", excess, "waiting for the agent's next response"]);
        fits_into_the_memory(&refresh);
        pod.rotate(&agent);
        refresh.stop();
    }
}

#[test]
fn a_response_with_more_than_1024_svids_is_refused_with_the_limit() {
    let pod = Pod::new();
    let response = X509SVIDResponse { svids: vec![pod.mint(); MAX_SVIDS + 1], ..Default::default() };
    let _agent = pod.agent(Reply::offer(&response));
    pod.init_fails_with(&["there are 1025", "at most 1024"]);
}

/// A helper that has published the largest response in every kind of file, twice: the second time, there
/// is a set to compare with. The federated CAs are in files of their own, in the bundle and in the trust store.
fn publish_the_largest_response(pod: &Pod, wrap: impl FnOnce(Helper) -> Helper) -> Running {
    let response = largest_response(pod);
    let svid = response.svids[0].clone();
    let agent = pod.agent_with_jwt(Reply::offer(&response), Duration::from_secs(300));
    let keystores = ["--keystore-file-name=svid.p12", "--truststore-file-name=trust.p12"];
    let helper = pod.helper(&["--mode=refresh", "--merge-federated-bundles"]).arguments(&EVERYTHING);
    let helper = helper.arguments(&keystores);
    let refresh = wrap(helper).start();
    let wait_for = |svid: &X509SVID| {
        wait_until("the SVID is published", || {
            Published::by_name(&pod.volume()).is_ok_and(|set| set.chain() == svid.x509_svid)
        });
    };
    wait_for(&svid);
    let mut next = response;
    let rotated = pod.mint();
    (next.svids[0].x509_svid, next.svids[0].x509_svid_key) = (rotated.x509_svid, rotated.x509_svid_key);
    agent.offer(&next);
    wait_for(&next.svids[0]);
    refresh
}

/// The most keys that are accepted.
fn largest_jwt_bundles(pod: &Pod) -> JWTBundlesResponse {
    let key = format!(r#"{{"kty":"EC","use":"jwt-svid","kid":"{}"}}"#, "k".repeat(200));
    let document = format!(r#"{{"keys":[{}]}}"#, vec![key.as_str(); MAX_BUNDLE].join(","));
    let own = (pod.authority.id(), pod.authority.jwks());
    let documents = (ROOM - 4096) / (document.len() + 64);
    let others =
        (0..documents).map(|number| (format!("spiffe://domain-{number}.org"), document.clone().into()));
    JWTBundlesResponse { bundles: others.chain([own]).collect(), ..Default::default() }
}

#[test]
fn the_largest_response_in_every_kind_of_file_fits_into_the_memory_of_the_manifests() {
    if is_emulated("memory") {
        return;
    }
    let pod = Pod::new();
    fits_into_the_memory(&publish_the_largest_response(&pod, |helper| helper));
}

#[test]
fn the_largest_jwt_bundles_fit_into_the_memory_of_the_manifests() {
    if is_emulated("memory") {
        return;
    }
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(pod.offer_everything(&pod.mint()), Duration::from_secs(300));
    agent.reply_with_jwt_bundles(Reply::offer(&largest_jwt_bundles(&pod)));
    let refresh = pod.refresh(&EVERYTHING);
    pod.wait_for_file("domain-0.org.jwks.json", |_| true);
    fits_into_the_memory(&refresh);
    refresh.stop();
}

#[test]
fn tens_of_thousands_of_malformed_jwt_bundles_are_refused_in_little_memory() {
    if is_emulated("memory") {
        return;
    }
    let pod = Pod::new();
    let agent = pod.agent_with_jwt(offer([pod.mint()]), Duration::from_secs(300));
    let malformed = (0..65_000).map(|number| (format!("{number:0100}"), b"x".to_vec()));
    let own = (pod.authority.id(), pod.authority.jwks());
    let response = JWTBundlesResponse { bundles: malformed.chain([own]).collect(), ..Default::default() };
    agent.reply_with_jwt_bundles(Reply::offer(&response));
    let mut refresh = pod.refresh(&["--include-federated-bundles", "--jwt-bundle-file-name=jwks.json"]);
    refresh.wait_for_log(&["ERROR", "bundles: there are 65001 (at most 4097 are accepted)"]);
    fits_into_the_memory(&refresh);
    refresh.stop();
}

fn fits_into_the_memory(refresh: &Running) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", refresh.pid())).expect("a status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: u64 = peak.trim_end_matches("kB").trim().parse().expect("a number");
    println!("at most {peak} KiB");
    assert!(peak <= MEMORY_LIMIT, "{peak} KiB");
}

/// A control group with the memory of the manifests. Removed when dropped, once its helper has ended.
struct Group(PathBuf);

impl Group {
    /// `None` where this test may make none.
    fn new() -> Option<Self> {
        let name = format!("pod-svid-helper-{}", std::process::id());
        let limit = (MEMORY_LIMIT << 10).to_string();
        // cgroups 1 and 2.
        let groups = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        groups.iter().find_map(|(root, file)| {
            let path = Path::new(root).join(&name);
            std::fs::create_dir(&path).ok()?;
            let group = Self(path);
            // In a directory of another kind of group, or of none, the file is not there.
            OpenOptions::new().write(true).open(group.0.join(file)).ok()?.write_all(limit.as_bytes()).ok()?;
            Some(group)
        })
    }

    /// The same helper, in this group.
    fn holds(&self, helper: Helper) -> Helper {
        let enter = r#"echo $$ >"$0/cgroup.procs" && exec "$@""#;
        helper.through("/bin/sh", &["-c", enter, self.0.to_str().expect("UTF-8")])
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_container_with_the_memory_of_the_manifests_is_enough_for_the_largest_response() {
    if is_emulated("memory") {
        return;
    }
    let pod = Pod::new();
    let Some(group) = Group::new() else { return skip("no control group can be made here") };
    publish_the_largest_response(&pod, |helper| group.holds(helper)).stop();
}

/// Federated trust domains, a file each.
const MANY: usize = 1500;

/// The pause between the end of a helper that publishes thousands of files and the signal that came when
/// the volume had this many entries. `None` if it had published by then.
fn end_while_publishing(entries: usize) -> Option<Duration> {
    let pod = Pod::new();
    let mut response = X509SVIDResponse { svids: vec![pod.mint()], ..Default::default() };
    for number in 0..MANY {
        let name = format!("spiffe://domain-{number}.org");
        response.federated_bundles.insert(name, pod.federated.bundle());
    }
    let _agent = pod.agent(Reply::offer(&response));
    let mut refresh = pod.refresh(&["--include-federated-bundles"]);
    wait_until("the helper writes", || count(&pod.volume()) >= entries);
    let start = Instant::now();
    refresh.signal(Signal::SIGTERM);
    refresh.finish(0);
    let took = start.elapsed();
    let has_published = pod.volume().join("..data").exists();
    let patience = format!("--init-timeout={}s", PATIENCE.as_secs());
    pod.init(&["--include-federated-bundles", &patience]).succeeded();
    // Nothing is left over: three files and one of each trust domain, their names, `..data` and one set.
    assert_eq!(count(&pod.volume()), 2 * (3 + MANY) + 2 + claims(&pod.volume()));
    (!has_published).then_some(took)
}

/// How many files and directories there are below a directory that changes meanwhile.
fn count(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let count_of = |entry: DirEntry| {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        1 + if is_directory { count(&entry.path()) } else { 0 }
    };
    entries.map_while(Result::ok).map(count_of).sum()
}

fn claims(volume: &Path) -> usize {
    ["..names", "..identity"].into_iter().filter(|name| volume.join(name).exists()).count()
}

#[test]
fn a_signal_ends_refresh_at_once_while_it_publishes_thousands_of_files() {
    // In the first file, among the files, and among the names.
    for entries in [2, MANY / 2, MANY - 10, MANY + MANY / 3] {
        let took = (0..10)
            .find_map(|_| end_while_publishing(entries).filter(|took| *took < stop_on_a_busy_machine()));
        assert!(
            took.is_some(),
            "ten times, at {entries} entries, it took longer than {STOP:?} for each program"
        );
    }
}

/// The SVIDs are far too many, and each response is refused as soon as it is read.
#[test]
fn a_signal_ends_refresh_at_once_while_responses_of_thousands_of_svids_arrive() {
    let takes = |_| {
        let pod = Pod::new();
        let response = X509SVIDResponse { svids: vec![pod.mint(); 7_000], ..Default::default() };
        let agent = pod.agent(Reply::offer(&response));
        let mut refresh = pod.refresh(&[]);
        refresh.wait_for_log(&["svids: there are 7000"]);
        (0..20).for_each(|_| agent.offer(&response));
        let start = Instant::now();
        refresh.stop();
        start.elapsed()
    };
    // The machine may be busy with other tests, ten times hardly.
    let in_time = (0..10).map(takes).any(|took| took < stop_on_a_busy_machine());
    assert!(in_time, "ten times, it took longer than {STOP:?} for each program that wants a core");
}

/// Init does its work or says in one line why not, and never hangs or aborts.
fn ends_within(limit: &str) {
    let pod = Pod::new();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(pod.volume(), everybody).expect("its permissions");
    let _agent = pod.agent(offer([pod.mint()]));
    let volume = pod.volume().join("svid");
    let start = Instant::now();
    let (code, log) = Helper::new()
        .argument("--mode=init")
        .argument("--init-timeout=2s")
        .argument(format!("--workload-api-socket={}", pod.socket().display()))
        .argument(format!("--svid-path={}", volume.display()))
        .through("prlimit", &[limit])
        .run_by(LONELY, LONELY)
        .start()
        .end();
    let took = start.elapsed();
    let last = log.last().map(String::as_str).unwrap_or_default();
    // Where a later thread cannot be started, C-core has a line of its own before ours.
    let is_reason = |line: &&String| {
        line.contains("check the limits")
            || line.contains(" ERROR ") && !line.contains("pthread_create failed")
    };
    match code {
        Some(0) => assert_eq!(names(&volume.join("..data/.")).len(), 3, "{limit}: {log:?}"),
        Some(1) => {
            assert!(is_reason(&&last.to_owned()), "{limit}: {log:?}");
            assert_eq!(log.iter().filter(is_reason).count(), 1, "{limit}: {log:?}");
            assert!(!volume.join("..data").exists(), "{limit}: it fails although the files stand: {log:?}");
        }
        _ => panic!("{limit}: {code:?} {log:?}"),
    }
    // Its time, the alarm's grace, and a busy machine.
    assert!(took < Duration::from_secs(20), "{limit}: {took:?} {log:?}");
}

#[test]
fn init_ends_with_few_threads() {
    if is_emulated("threads") {
        return;
    }
    if !is_root() {
        return skip("only root can become a user without a process");
    }
    // Where few are too few, each run is another.
    for threads in (1..=8).chain([5, 6].repeat(5)) {
        ends_within(&format!("--nproc={threads}"));
    }
}

#[test]
fn init_ends_in_little_address_space() {
    if is_emulated("address space") {
        return;
    }
    if !is_root() {
        return skip("only root can become another user");
    }
    (24..=64).step_by(4).for_each(|mib: u64| ends_within(&format!("--as={}", mib << 20)));
}

/// How often gRPC's timer threads have woken up. `None` before both are there.
fn wakeups_of_timer_threads(refresh: &Running) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", refresh.pid())).expect("its threads");
    let status = |thread: DirEntry| std::fs::read_to_string(thread.path().join("status")).ok();
    let statuses = threads.map_while(Result::ok).filter_map(status);
    let is_timer = |status: &String| {
        ["grpc_global_tim", "timer_manager"]
            .iter()
            .any(|name| status.starts_with(&format!("Name:\t{name}\n")))
    };
    let wakeups: Vec<u64> = statuses.filter(is_timer).filter_map(|status| wakeups(&status)).collect();
    (wakeups.len() == 2).then(|| wakeups.iter().sum())
}

fn wakeups(status: &str) -> Option<u64> {
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    count.trim().parse().ok()
}

/// By itself, each of them wakes up once a second.
#[test]
fn grpcs_timer_threads_sleep() {
    let pod = Pod::new();
    let svid = pod.mint();
    let _agent = pod.agent(offer([svid.clone()]));
    let refresh = pod.refresh(&[]);
    pod.wait_for(&svid);
    let (mut last, mut since) = (None, Instant::now());
    wait_until("gRPC's timer threads sleep for five seconds", || {
        let wakeups = wakeups_of_timer_threads(&refresh);
        if wakeups != last {
            (last, since) = (wakeups, Instant::now());
        }
        last.is_some() && since.elapsed() > Duration::from_secs(5)
    });
    refresh.stop();
}

/// The last line of an init that is stopped until long after its deadline, as if a call had hung.
fn last_line_after_the_alarm(options: &[&str]) -> String {
    let pod = Pod::new();
    let mut init = pod.helper(&["--mode=init", "--init-timeout=1s"]).arguments(options).start();
    init.wait_for_log(&["cannot connect"]);
    init.signal(Signal::SIGSTOP);
    wait_until("the alarm has come", || has_in_mask(init.pid(), "ShdPnd:", Signal::SIGALRM));
    init.signal(Signal::SIGCONT);
    init.finish(1).pop().expect("a line")
}

#[test]
fn an_init_that_hangs_ends_by_its_alarm() {
    let last = last_line_after_the_alarm(&[]);
    assert!(last.contains("still running after --init-timeout: a gRPC or file-system call hangs"), "{last}");
}

/// Asserts that the last line of a log is an error, as JSON, whose message begins like this.
fn is_json_error(line: &str, start: &str) {
    let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(json["level"], "error");
    assert!(json["message"].as_str().is_some_and(|message| message.starts_with(start)), "{line}");
}

#[test]
fn an_init_that_hangs_ends_by_its_alarm_with_a_line_of_json() {
    is_json_error(&last_line_after_the_alarm(&["--log-format=json"]), "still running after --init-timeout");
}

/// systemd's watchdog sends one.
#[test]
fn a_sigabrt_of_another_process_is_named_in_the_form_of_the_log() {
    for format in ["text", "json"] {
        let pod = Pod::new();
        let mut refresh = pod.refresh(&[&format!("--log-format={format}")]);
        refresh.wait_for_log(&["cannot connect"]);
        refresh.signal(Signal::SIGABRT);
        let last = refresh.finish(1).pop().expect("a line");
        match format {
            "text" => {
                assert!(last.starts_with("pod-svid-helper: ended by a SIGABRT of another process"), "{last}")
            }
            _ => is_json_error(&last, "ended by a SIGABRT of another process: systemd"),
        }
    }
}
