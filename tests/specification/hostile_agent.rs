//! Whatever speaks on the agent's socket: the helper lives on, stays small, is at rest again, and takes
//! what a good agent says next.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::raw::{
    ACK, Behaviour, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE,
    RST_STREAM, RawPeer, SETTINGS, WINDOW_UPDATE, frame, good_head, greeting, head, header_block, message,
    pass_on, say, say_and_hang_up, say_at_once,
};
use workload_api_server::server::WorkloadApiServer;

use crate::pod::{App, PATIENCE, Pod, Running, is_emulated, offer, wait_until};

/// How much more memory a helper may hold than one that is idle, MiB.
const MORE_MEMORY: u64 = 16;

/// The helper is at rest if, in a window, its threads run and wait for a core for no longer than this.
const WINDOW: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_millis(5);

/// How soon a good agent is served, once the helper has found that nothing listens. It is let try again,
/// for the machine may be busy.
const SERVED: Duration = Duration::from_secs(1);
const TRIES: usize = 10;

/// So many attempts to connect in vain, and the pause before the next is the longest: 0.4 to 0.8 s.
const ATTEMPTS: usize = 5;
const HALF_OF_THE_PAUSE: Duration = Duration::from_millis(400);

/// How soon the helper calls again once its peer is gone: five seconds, and what a busy machine may add.
const CALLED_AGAIN: Duration = Duration::from_secs(15);

/// A helper that has published a first SVID, whose agent is gone.
struct Trial {
    name: String,
    pod: Pod,
    refresh: Running,
    /// KiB.
    idle: u64,
    more_memory: u64,
}

impl Trial {
    fn begin(name: impl Into<String>) -> Self {
        // Each attempt to connect is logged.
        Self::begin_in(Pod::new(), name, &["--log-level=trace"])
    }

    fn begin_in(pod: Pod, name: impl Into<String>, options: &[&str]) -> Self {
        let first = pod.mint();
        let _agent = pod.agent(offer([first.clone()]));
        let refresh = pod.refresh(options);
        pod.wait_for(&first);
        let idle = resident(&refresh, "VmRSS:");
        Self { name: name.into(), pod, refresh, idle, more_memory: MORE_MEMORY << 10 }
    }

    /// Lets it hold so many MiB more than an idle one.
    fn more_memory(self, mebibytes: u64) -> Self {
        Self { more_memory: mebibytes << 10, ..self }
    }

    /// Lets a peer behave like this until it has served so many connections; then comes a good agent.
    /// Gives the log.
    fn meets(mut self, behaviour: &Arc<Behaviour>, connections: usize) -> Vec<String> {
        let in_time = (0..TRIES).any(|_| self.meets_once(behaviour, connections) <= SERVED);
        assert!(in_time, "{}: no good agent of {TRIES} was served within {SERVED:?}", self.name);
        self.end()
    }

    /// Lets a peer behave like this, which is an error.
    fn refuses(mut self, behaviour: &Arc<Behaviour>) {
        let _peer = RawPeer::on_socket(&self.pod.socket(), behaviour.clone());
        self.refresh.wait_for_log(&["ERROR"]);
        self.end();
    }

    /// Asserts that the helper is at rest, and has stayed small; gives the log.
    fn end(self) -> Vec<String> {
        self.is_at_rest();
        let peak = resident(&self.refresh, "VmHWM:");
        let more = peak.saturating_sub(self.idle);
        println!("{}: at most {more} KiB more memory", self.name);
        assert!(more <= self.more_memory, "{}: {peak} KiB, and {} when idle", self.name, self.idle);
        self.refresh.stop()
    }

    /// Gives how soon the good agent was served.
    fn meets_once(&mut self, behaviour: &Arc<Behaviour>, connections: usize) -> Duration {
        let peer = RawPeer::on_socket(&self.pod.socket(), behaviour.clone());
        peer.wait_for(connections, PATIENCE);
        self.is_at_rest();
        self.refresh.pass_log();
        drop(peer);
        let gone = Instant::now();
        let mut wait_for_attempt = || drop(self.refresh.wait_for_log(&["cannot connect"]));
        wait_for_attempt();
        let called_again = gone.elapsed();
        assert!(called_again <= CALLED_AGAIN, "{}: called again after {called_again:?}", self.name);
        (1..ATTEMPTS).for_each(|_| wait_for_attempt());
        let next = self.pod.mint();
        std::thread::sleep(HALF_OF_THE_PAUSE);
        let _agent = self.pod.agent(offer([next.clone()]));
        let start = Instant::now();
        self.pod.wait_for(&next);
        let served = start.elapsed();
        println!("{}: called again after {called_again:.1?}, served after {served:.1?}", self.name);
        served
    }

    /// Waits until the helper does nothing for a while.
    fn is_at_rest(&self) {
        wait_until(&format!("the helper is at rest: {}", self.name), || {
            let before = busy(&self.refresh);
            std::thread::sleep(WINDOW);
            // A thread that has ended meanwhile is missing.
            busy(&self.refresh).checked_sub(before).is_some_and(|busy| busy <= REST)
        });
    }
}

/// A figure of `/proc/PID/status`, KiB.
fn resident(helper: &Running, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", helper.pid())).expect("a running helper");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// How long all threads have run, and have waited for a core: a helper that others keep from running is not
/// at rest. (Nanoseconds, the first two fields of schedstat.)
fn busy(helper: &Running) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", helper.pid())).expect("a running helper");
    let schedstats = threads.filter_map(|thread| {
        // A thread may have ended.
        std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()
    });
    let figures = schedstats.map(|text| {
        text.split(' ').take(2).map(|figure| figure.parse::<u64>().expect("nanoseconds")).sum::<u64>()
    });
    Duration::from_nanos(figures.sum())
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
        ("metadata that expands", 1, say(expanding_metadata())),
    ];
    all(speeches.into_iter().map(|(name, connections, behaviour)| -> Box<dyn FnOnce() + Send> {
        Box::new(move || drop(Trial::begin(name).meets(&behaviour, connections)))
    }));
}

#[test]
fn metadata_that_does_not_end_is_given_up() {
    if is_emulated("memory") {
        return;
    }
    // Until the helper's settings are acknowledged, C-core takes up to 16 MiB, and needs several times as much:
    // more than the limit of 32 MiB in the manifests, beyond which the container is killed and starts again.
    // What it gives up, it reads in large pieces.
    let speeches = [
        ("metadata of 6 MiB", 1, 24, greeted(endless_metadata(384))),
        ("metadata of 64 MiB", 1, 192, greeted(endless_metadata(4096))),
        ("metadata of 64 MiB, settings acknowledged", 3, 64, acknowledged(endless_metadata(4096))),
    ];
    all(speeches.into_iter().map(|(name, connections, mebibytes, bytes)| -> Box<dyn FnOnce() + Send> {
        let trial = move || Trial::begin(name).more_memory(mebibytes);
        Box::new(move || drop(trial().meets(&say(bytes), connections)))
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
        Box::new(move || Trial::begin(name).refuses(&say(bytes)))
    }));
}

#[test]
fn what_grpc_says_of_each_attempt_is_logged_once() {
    let pod = Pod::new();
    let peer = RawPeer::on_socket(&pod.socket(), say(with_encoding("snappy", b"compressed")));
    let refresh = pod.refresh(&[]);
    peer.wait_for(4, PATIENCE);
    let log = refresh.stop();
    assert_eq!(log.iter().filter(|line| line.contains("grpc-encoding")).count(), 1, "{log:#?}");
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
    trial.meets(&pass_on(upstream, limit, pause), connections);
    drop(agent);
}

fn agent_at(path: &Path, pod: &Pod) -> WorkloadApiServer {
    WorkloadApiServer::on_socket(path, offer([pod.mint()]))
}

/// Bytes of a good conversation: settings, the head of the answer, and the beginning of the message.
const BYTES: usize = 240;

#[test]
fn a_connection_that_is_cut_after_any_byte_does_no_harm() {
    /// Few cuts for each, since the pause after each is longer.
    const HELPERS: usize = 48;
    const CUTS: usize = BYTES / HELPERS;
    all((0..HELPERS).map(|helper| -> Box<dyn FnOnce() + Send> {
        let limit = move |connection| 1 + helper + HELPERS * (connection % CUTS);
        Box::new(move || gets_part(format!("cuts, {helper}"), limit, Duration::ZERO, CUTS))
    }));
}

#[test]
fn an_agent_that_says_a_byte_at_a_time_does_no_harm() {
    // Later connections are cut at once: the helper is at rest between them.
    let limit = |connection| if connection == 0 { BYTES } else { 0 };
    gets_part("a byte at a time".to_owned(), limit, Duration::from_millis(50), 1);
}

/// By how much an update is older than the next.
const INTERVAL: Duration = Duration::from_millis(1);
/// How often a set is published, and the application signalled, while a flood lasts.
const PACE: Duration = Duration::from_millis(200);
/// How many sets are published before it is a flood.
const AT_FIRST: usize = 20;
/// How soon the newest is published: on a busy machine, not at the first try.
const NEWEST: Duration = Duration::from_secs(1);

/// What a flood has come to.
#[derive(Debug)]
struct Flood {
    /// From the first update to the newest set, and from the moment at which the agent says the last update.
    took: Duration,
    late: Duration,
    published: usize,
    signals: usize,
}

impl Flood {
    /// All these updates, a thousand a second, `last` behind them.
    fn of(name: &str, updates: &[X509SVID], last: &X509SVID) -> Self {
        let pod = Pod::new();
        let app = App::start(&pod, "app");
        let pid_file = pod.pid_file(app.pid());
        let trial = Trial::begin_in(pod, name, &["--log-level=info", &pid_file]);
        let agent = trial.pod.agent(offer([updates[0].clone()]));
        trial.pod.wait_for(&updates[0]);
        let replies: Vec<_> = updates[1..].iter().chain([last]).map(|svid| offer([svid.clone()])).collect();
        let start = Instant::now();
        for (number, reply) in (0..).zip(replies) {
            std::thread::sleep((start + number * INTERVAL).saturating_duration_since(Instant::now()));
            agent.reply(reply);
        }
        agent.wait_for_last_reply(PATIENCE);
        let sent = start.elapsed();
        trial.pod.wait_for(last);
        let took = start.elapsed();
        wait_until("the application has got a signal", || !app.signals().is_empty());
        trial.is_at_rest();
        let signals = app.signals().len();
        let log = trial.end();
        let published = log.iter().filter(|line| line.contains("INFO  published ")).count();
        let flood = Self { took, late: took - sent, published, signals };
        println!("{name}: {flood:.1?}");
        flood
    }

    /// How often something may happen in this interval.
    fn times(&self, interval: Duration) -> usize {
        (self.took.as_millis() / interval.as_millis()) as usize
    }

    /// How many sets may be published. An agent that a busy machine holds up makes pauses, each of which ends the
    /// flood: half is superseded still.
    fn most(&self, updates: usize) -> usize {
        let without_pauses = INTERVAL * updates as u32 * 5 / 4;
        if self.took <= without_pauses { AT_FIRST + self.times(PACE) } else { updates / 2 }
    }
}

#[test]
fn a_flood_of_updates_is_published_at_a_slow_pace_and_the_newest_at_the_end() {
    const UPDATES: usize = 1000;
    all(["identical updates", "different updates"].map(|name| -> Box<dyn FnOnce() + Send> {
        Box::new(move || {
            let pod = Pod::new();
            let (first, last, is_same) = (pod.mint(), pod.mint(), name.starts_with("identical"));
            let next = |_| if is_same { first.clone() } else { pod.mint() };
            let updates: Vec<_> = (0..UPDATES).map(next).collect();
            let is_in_time = |_| {
                let flood = Flood::of(name, &updates, &last);
                let most = if is_same { 3 } else { flood.most(UPDATES) };
                assert!(flood.published <= most, "{flood:?}");
                // Those that were published at first are one signal.
                assert!(flood.signals <= 3 + flood.times(PACE), "{flood:?}");
                flood.late <= NEWEST
            };
            assert!((0..TRIES).any(is_in_time), "{name}: the newest set was late {TRIES} times");
        })
    }));
}
