//! Whatever speaks on the agent's socket: the helper lives on, stays small, is at rest again, and takes
//! what a good agent says next.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pod_svid_helper::for_tests::workload::X509SVID;

use crate::pod::{PATIENCE, Pod, Running, offer, wait_until};
use crate::workload_api_server::raw::{
    ACK, Behaviour, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE,
    RST_STREAM, RawPeer, SETTINGS, WINDOW_UPDATE, frame, good_head, greeting, head, header_block, message,
    pass_on, say, say_and_hang_up, say_at_once,
};
use crate::workload_api_server::server::WorkloadApiServer;

/// How much more memory a helper may hold than one that is idle, KiB.
const MORE_MEMORY: u64 = 16 << 10;

/// A helper that has published a first SVID, whose agent is gone.
struct Trial {
    name: String,
    pod: Pod,
    refresh: Running,
    idle: u64,
}

impl Trial {
    fn begin(name: impl Into<String>) -> Self {
        let (name, pod) = (name.into(), Pod::new());
        let first = pod.mint();
        let _agent = pod.agent(offer([first.clone()]));
        let refresh = pod.refresh(&["--log-level=info"]);
        pod.wait_for(&first);
        let idle = resident(&refresh, "VmRSS:");
        Self { name, pod, refresh, idle }
    }

    /// Lets a peer behave like this until it has served so many connections; then comes a good agent.
    fn meets(self, behaviour: Arc<Behaviour>, connections: usize) {
        let peer = RawPeer::on_socket(&self.pod.socket(), behaviour);
        peer.wait_for(connections, PATIENCE);
        self.is_at_rest();
        drop(peer);
        let last = self.pod.mint();
        let _agent = self.pod.agent(offer([last.clone()]));
        self.ends_well(&last);
    }

    /// The good agent's SVID is published, and the helper is as it was at first.
    fn ends_well(self, last: &X509SVID) -> Vec<String> {
        let start = Instant::now();
        self.pod.wait_for(last);
        let served = start.elapsed();
        self.is_at_rest();
        let peak = resident(&self.refresh, "VmHWM:");
        let more = peak.saturating_sub(self.idle);
        println!("{}: a good agent was served after {served:.1?}; at most {more} KiB more memory", self.name);
        assert!(more <= MORE_MEMORY, "{}: {peak} KiB, and {} when idle", self.name, self.idle);
        self.refresh.stop()
    }

    /// Waits until the helper runs for less than half of a short while.
    fn is_at_rest(&self) {
        wait_until(&format!("the helper is at rest: {}", self.name), || {
            let (start, before) = (Instant::now(), processor_time(&self.refresh));
            std::thread::sleep(Duration::from_millis(100));
            processor_time(&self.refresh) - before < start.elapsed() / 2
        });
    }
}

/// A figure of `/proc/PID/status`, KiB.
fn resident(helper: &Running, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", helper.pid())).expect("a running helper");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// What all threads have used, in user mode and in the kernel (proc_pid_stat(5), fields 14 and 15).
fn processor_time(helper: &Running) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", helper.pid())).expect("a running helper");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks =
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
    // USER_HZ is 100 everywhere.
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Each trial beside the others.
fn all<'a>(trials: impl IntoIterator<Item = Box<dyn FnOnce() + Send + 'a>>) {
    std::thread::scope(|scope| trials.into_iter().for_each(|trial| drop(scope.spawn(trial))));
}

fn concat(parts: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    parts.into_iter().flatten().collect()
}

/// After the greeting.
fn greeted(bytes: Vec<u8>) -> Vec<u8> {
    concat([greeting(), bytes])
}

/// The good head, and then this.
fn answered(bytes: Vec<u8>) -> Vec<u8> {
    greeted(concat([good_head(), bytes]))
}

fn with_content_type(content_type: &str) -> Vec<u8> {
    let answer = head(0, &[(":status", "200"), ("content-type", content_type)]);
    greeted(concat([answer, frame(DATA, END_STREAM, 1, b"<html>hello</html>")]))
}

fn with_status(status: &str) -> Vec<u8> {
    greeted(head(END_STREAM, &[(":status", status), ("content-type", "text/html")]))
}

fn with_encoding(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-encoding", encoding)];
    greeted(concat([head(0, &fields), message(true, bytes)]))
}

/// A header block that does not end, in as many frames of 16 KiB.
fn endless_metadata(frames: usize) -> Vec<u8> {
    let fields = header_block(&[("x-more", &"m".repeat(100))]);
    let block: Vec<u8> = fields.iter().copied().cycle().take(16384).collect();
    let mut bytes = frame(HEADERS, 0, 1, &block);
    for _ in 1..frames {
        bytes.extend(frame(CONTINUATION, 0, 1, &block));
    }
    bytes
}

/// After the greeting, and behind an acknowledgement of the helper's settings: their limit of 16 KiB of
/// metadata is in force from then on. Before, it is HTTP/2's to say, and C-core takes 16 MiB.
fn acknowledged(bytes: Vec<u8>) -> Vec<u8> {
    greeted(concat([frame(SETTINGS, ACK, 0, &[]), bytes]))
}

/// An entry of the dynamic table, mentioned again and again: a block of 16 KiB that stands for 64 MiB.
fn expanding_metadata() -> Vec<u8> {
    // RFC 7541, sections 6.2.1 and 6.1: an integer of 4096 - 38 - 1 takes three bytes.
    let value = 4000u16 - 127;
    let entry = [&[0x40, 1, b'x', 0x7f, value as u8 & 0x7f | 0x80, (value >> 7) as u8], &[b'y'; 4000][..]];
    let mut block = entry.concat();
    block.resize(16384, 0x80 | 62);
    greeted(frame(HEADERS, END_HEADERS, 1, &block))
}

const GARBAGE: [u8; 4096] = [0xa5; 4096];

#[test]
fn a_peer_that_says_nonsense_does_no_harm() {
    let repeated = |frame: Vec<u8>| greeted(frame.repeat(10_000));
    let trailers =
        |status| [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)];
    let goaway = |code: u8| frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, code]);
    // What it says; and after how many connections the good agent comes: more than one where the
    // helper is to hang up, or the peer ends the call.
    let speeches: Vec<(&str, usize, Arc<Behaviour>)> = vec![
        ("silence", 1, say_at_once(Vec::new())),
        ("silence after the greeting", 1, say(greeting())),
        ("silence after the head", 1, say(answered(Vec::new()))),
        ("garbage", 3, say_at_once(GARBAGE.to_vec())),
        ("zeros", 3, say_at_once(vec![0; 4096])),
        ("HTTP/1.1", 3, say_at_once(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec())),
        ("garbage after the greeting", 3, say(greeted(GARBAGE.to_vec()))),
        ("garbage after the head", 3, say(answered(GARBAGE.to_vec()))),
        ("no greeting", 3, say_and_hang_up(good_head())),
        ("HTML", 3, say(with_content_type("text/html"))),
        ("no content type", 3, say(with_content_type(""))),
        ("HTTP 503", 3, say(with_status("503"))),
        ("HTTP 200 that ends", 3, say(with_status("200"))),
        ("trailers only, OK", 3, say(greeted(head(END_STREAM, &trailers("0"))))),
        ("trailers only, Internal", 3, say(greeted(head(END_STREAM, &trailers("13"))))),
        ("trailers only, a status that is none", 3, say(greeted(head(END_STREAM, &trailers("4294967296"))))),
        ("GOAWAY before the answer", 3, say_and_hang_up(greeted(goaway(0)))),
        ("GOAWAY ENHANCE_YOUR_CALM", 3, say_and_hang_up(answered(goaway(11)))),
        ("RST_STREAM before the answer", 3, say(greeted(frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])))),
        ("RST_STREAM NO_ERROR", 3, say(answered(frame(RST_STREAM, 0, 1, &[0, 0, 0, 0])))),
        ("RST_STREAM REFUSED_STREAM", 3, say(greeted(frame(RST_STREAM, 0, 1, &[0, 0, 0, 7])))),
        ("a push", 1, say(greeted(frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])))),
        ("a window that overflows", 1, say(answered(frame(WINDOW_UPDATE, 0, 1, &[127, 255, 255, 255])))),
        ("a frame too long", 3, say(answered(frame(DATA, 0, 1, &[0; 1 << 20])))),
        (
            "a message of 4 GiB that does not come",
            1,
            say(answered(frame(DATA, 0, 1, &[0, 255, 255, 255, 255]))),
        ),
        (
            "a message of 8 MiB that does not come",
            1,
            say(answered(frame(DATA, 0, 1, &[0, 0, 127, 255, 255]))),
        ),
        ("a message that is cut", 3, say_and_hang_up(answered(frame(DATA, 0, 1, &[0, 0, 0, 1, 0, 10])))),
        ("a flag that is none", 1, say(answered(frame(DATA, 0, 1, &[7, 0, 0, 0, 0])))),
        ("a thousand empty messages", 1, say(answered(frame(DATA, 0, 1, &[0; 5]).repeat(1000)))),
        ("ten thousand empty frames", 1, say(answered(frame(DATA, 0, 1, &[]).repeat(10_000)))),
        ("ten thousand pings", 1, say(repeated(frame(PING, 0, 0, &[0; 8])))),
        ("ten thousand settings", 1, say(repeated(frame(SETTINGS, 0, 0, &[])))),
        ("ten thousand frames of an unknown type", 1, say(repeated(frame(99, 0, 0, &[0; 8])))),
        ("metadata of 4 MiB", 1, say(greeted(endless_metadata(256)))),
        ("metadata of 64 MiB, settings acknowledged", 3, say(acknowledged(endless_metadata(4096)))),
        ("metadata that expands", 1, say(expanding_metadata())),
    ];
    all(speeches.into_iter().map(|(name, connections, behaviour)| -> Box<dyn FnOnce() + Send> {
        Box::new(move || Trial::begin(name).meets(behaviour, connections))
    }));
}

/// Zeros as gzip has them, which is a thousandth.
fn compressed_zeros(mebibytes: u32) -> Vec<u8> {
    let script = format!("head -c {mebibytes}M /dev/zero | gzip -9");
    let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().expect("gzip");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_compressed_message_is_refused_and_never_expanded() {
    let speeches = [
        ("snappy", with_encoding("snappy", b"compressed")),
        ("a compressed message without encoding", answered(message(true, b"compressed"))),
        ("gzip that is none", with_encoding("gzip", b"compressed")),
        // More would not fit into the first window of 64 KiB (RFC 9113, section 6.9.2).
        ("56 MiB of zeros as gzip", with_encoding("gzip", &compressed_zeros(56))),
    ];
    all(speeches.into_iter().map(|(name, bytes)| -> Box<dyn FnOnce() + Send> {
        Box::new(move || {
            let mut trial = Trial::begin(name);
            let peer = RawPeer::on_socket(&trial.pod.socket(), say(bytes));
            peer.wait_for(1, PATIENCE);
            println!("{name}: {}", trial.refresh.wait_for_log(&["ERROR"]));
            trial.is_at_rest();
            let peak = resident(&trial.refresh, "VmHWM:");
            assert!(peak <= trial.idle + MORE_MEMORY, "{name}: {peak} KiB, and {} when idle", trial.idle);
            trial.refresh.stop();
        })
    }));
}

/// What a good agent says to a call of its own, and what the helper gets of it.
fn gets_part(
    name: String,
    limit: impl Fn(usize) -> usize + Send + Sync + 'static,
    pause: Duration,
    connections: usize,
) {
    let trial = Trial::begin(name);
    let upstream = trial.pod.path().join("upstream.sock");
    let agent = agent_at(&upstream, &trial.pod);
    trial.meets(pass_on(upstream, limit, pause), connections);
    drop(agent);
}

fn agent_at(path: &Path, pod: &Pod) -> WorkloadApiServer {
    WorkloadApiServer::on_socket(path, offer([pod.mint()]))
}

#[test]
fn a_connection_that_is_cut_after_any_byte_does_no_harm() {
    /// Bytes of a good conversation: settings, the head of the answer, and the beginning of the message.
    const BYTES: usize = 240;
    /// Few cuts for each, since the pause after each is longer.
    const HELPERS: usize = 48;
    all((0..HELPERS).map(|helper| -> Box<dyn FnOnce() + Send> {
        let limit = move |connection| 1 + helper + HELPERS * connection;
        Box::new(move || gets_part(format!("cuts, {helper}"), limit, Duration::ZERO, BYTES / HELPERS))
    }));
}

#[test]
fn an_agent_that_says_a_byte_a_second_does_no_harm() {
    gets_part("one byte a second".to_owned(), |_| 4, Duration::from_secs(1), 1);
}

/// All these updates in a burst, `last` behind them; gives how many sets were published.
fn flood(name: &str, updates: &[X509SVID], last: &X509SVID) -> usize {
    let trial = Trial::begin(name);
    let agent = trial.pod.agent(offer([updates[0].clone()]));
    trial.pod.wait_for(&updates[0]);
    let start = Instant::now();
    updates[1..].iter().chain([last]).for_each(|svid| agent.reply(offer([svid.clone()])));
    trial.pod.wait_for(last);
    let took = start.elapsed();
    let log = trial.ends_well(last);
    let published = log.iter().filter(|line| line.contains("INFO  published ")).count();
    // The first ones, and then one each 0.2 s; or one each 5 ms if the agent is no faster.
    let most = 20 + (took.as_millis() / 5) as usize;
    println!("{name}: {published} publications in {took:.1?}");
    assert!(published <= most, "{name}: {published} publications in {took:?}");
    published
}

#[test]
fn a_flood_of_updates_is_published_at_a_slow_pace_and_the_newest_at_the_end() {
    const UPDATES: usize = 1000;
    all([true, false].map(|is_same| -> Box<dyn FnOnce() + Send> {
        Box::new(move || {
            let pod = Pod::new();
            let last = pod.mint();
            if is_same {
                let updates = vec![pod.mint(); UPDATES];
                assert!(flood("identical updates", &updates, &last) <= 3);
            } else {
                let updates: Vec<_> = (0..UPDATES).map(|_| pod.mint()).collect();
                flood("different updates", &updates, &last);
            }
        })
    }));
}
