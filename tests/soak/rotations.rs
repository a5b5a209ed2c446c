//! The world of a soak: an agent, the program, an application, a hook, and readers.

use std::cell::Cell;
use std::fs::{self, File, read_to_string};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::{Duration, Instant};

use grpcio::RpcStatusCode;
use nix::sys::signal::Signal;
use workload_api_server::raw::RawPeer;
use workload_api_server::server::{Reply, WorkloadApiServer};
use workload_api_server::wit::wit_response;

use super::clock::Clock;
use super::growth::Figures;
use super::ledger::{Ledger, Set, Shown};
use super::peers::random_peers;
use super::plan::{Away, KINDS, Random, Step};
use super::process::Process;
use super::readers::{Counts, Reader};
use super::summary::{Events, Summary};
use crate::mounts::Tmpfs;
use crate::pod::{App, Pod, SetWhenDropped, is_root, names, offer, skip, wait_until};

/// The longest pause between two steps, ms.
const PAUSE: u64 = 16;
/// After how many steps the run says how far it is.
const PROGRESS: usize = 1000;

/// The files beside the usual three.
const FILES: [&str; 3] =
    ["--combined-file-name=combined.pem", "--wit-svid-file-name=wit.jwt", "--wit-key-file-name=wit.jwk"];

/// Writes down that it runs, what it sees, and whether it runs twice; fails while there is a file `fail`.
const HOOK: &str = r#"
    [ ! -e "$0/running" ] || echo twice >>"$0/overlaps"
    : >"$0/running"
    cat "$SVID_PATH/svid.pem" >"$0/seen"
    echo run >>"$0/runs"
    rm "$0/running"
    [ ! -e "$0/fail" ]
"#;

/// Says how to repeat a run that fails.
pub struct Soak {
    seed: u64,
    rotations: usize,
    step: Cell<(usize, Step)>,
}

impl Soak {
    pub fn new(seed: u64, rotations: usize) -> Self {
        // Each kind of step comes once before growth is measured.
        let rotations = rotations.max(KINDS as usize + 1);
        eprintln!("soak: make soak SEED={seed} ROTATIONS={rotations}");
        Self { seed, rotations, step: Cell::new((0, Step::Plain)) }
    }

    pub fn run(self) {
        let (start, ledger, done) = (Instant::now(), Ledger::new(), AtomicBool::new(false));
        let mut random = Random::new(self.seed);
        let mut world = World::new(&ledger);
        let volume = world.pod.volume();
        let warm_up = (self.rotations / 10).max(KINDS as usize);
        let mut first = Figures::default();
        let counts = std::thread::scope(|scope| {
            let done = SetWhenDropped(&done);
            let readers = Reader::ALL.map(|reader| {
                let (volume, ledger, done) = (&volume, &ledger, done.0);
                let random = Random::new(random.below(u64::MAX));
                scope.spawn(move || reader.run(volume, ledger, random, done))
            });
            for number in 0..self.rotations {
                // A reader that has ended has met a fault.
                if readers.iter().any(|reader| reader.is_finished()) {
                    break;
                }
                let step = Step::draw(number, &mut random);
                self.step.set((number, step));
                if number > 0 && number % PROGRESS == 0 {
                    eprintln!("soak: {number} of {} rotations; {}", self.rotations, world.figures());
                }
                if number == warm_up {
                    first = world.rest();
                }
                world.take(step);
                sleep(random.milliseconds(PAUSE));
            }
            drop(done);
            readers.map(|reader| reader.join().expect("a reader").unwrap_or_else(|fault| panic!("{fault}")))
        });
        let last = world.finish(first);
        let skipped = world.skipped();
        let (events, most) = world.stop();
        assert_eq!(events.missing(), skipped, "what has not happened, and what was skipped");
        let Self { seed, rotations, .. } = self;
        for (reader, Counts { readings, gone, .. }) in Reader::ALL.iter().zip(counts) {
            assert!(readings - gone >= rotations as u64, "{reader:?}: {readings} readings, {gone} gone");
        }
        let (seconds, sets) = (start.elapsed().as_secs(), ledger.len());
        eprint!("{}", Summary { seed, rotations, seconds, sets, counts, events, skipped, first, last, most });
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (number, step) = self.step.get();
            let Self { seed, rotations, .. } = self;
            eprintln!("soak: failed at step {number}, {step:?}: make soak SEED={seed} ROTATIONS={rotations}");
        }
    }
}

struct World<'a> {
    ledger: &'a Ledger,
    /// Dropped before its agent, whose end would move on what is stuck: a failure shows its threads.
    refresh: Process,
    agent: Option<WorkloadApiServer>,
    app: App,
    /// Where the volume's size can be limited.
    memory: Option<Tmpfs>,
    clock: Option<Clock>,
    /// How wrong the clock is, seconds.
    offset: i64,
    /// What was published last.
    published: Shown,
    events: Events,
    most: Figures,
    /// Dropped last: all others are in it.
    pod: Pod,
}

impl<'a> World<'a> {
    /// With a first set published.
    fn new(ledger: &'a Ledger) -> Self {
        let pod = Pod::new();
        let memory = is_root().then(|| Tmpfs::mount(&pod.volume(), "size=512k,mode=0755"));
        if memory.is_none() {
            skip("full disks: only root can mount a small tmpfs");
        }
        let app = App::start(&pod, "app");
        let Set { svid, wit, shown } = ledger.mint();
        let agent = agent(&pod, offer([svid]), wit_response([wit]));
        let options = [&["--mode=refresh", "--log-level=info"], &FILES[..]].concat();
        let helper = pod.helper(&options).argument(pod.pid_file(app.pid())).command(&pod.script(HOOK));
        let refresh = Process::start(helper, &pod.path().join("log"));
        let mut world = Self {
            ledger,
            agent: Some(agent),
            app,
            memory,
            clock: None,
            refresh,
            offset: 0,
            published: Shown::default(),
            events: Events::default(),
            most: Figures::default(),
            pod,
        };
        world.wait_for(shown);
        let clock = Clock::of(world.refresh.pid()).map_err(|why| skip(&format!("clock steps: {why}")));
        world.clock = clock.ok();
        world
    }

    /// What this machine does not allow.
    fn skipped(&self) -> Vec<&'static str> {
        let all = [("full disks", self.memory.is_some()), ("clock steps", self.clock.is_some())];
        all.into_iter().filter(|(_, can)| !can).map(|(what, _)| what).collect()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Burst(updates) => (1..updates).for_each(|_| drop(self.offer())),
            Step::AgentAway(away, pause) => self.agent_away(away, pause),
            Step::Stopped { after, lasting } => return self.stopped(after, lasting),
            Step::FullDisk if self.memory.is_some() => return self.full_disk(),
            Step::Clock(offset) => self.set_clock(offset),
            Step::WrongClock(offset) if self.clock.is_some() => self.wrong_clock(offset),
            Step::HookFails => return self.hook_fails(),
            Step::OtherApplication => self.other_application(),
            Step::Plain | Step::FullDisk | Step::WrongClock(_) => {}
        }
        let shown = self.offer();
        self.wait_for(shown);
    }

    /// Lets the agent offer a new set; gives what shows it.
    fn offer(&mut self) -> Shown {
        let Set { svid, wit, shown } = self.ledger.mint();
        let (x509, wit) = (offer([svid]), wit_response([wit]));
        match &self.agent {
            Some(agent) => {
                agent.reply(x509);
                agent.reply_with_wit(wit);
            }
            None => self.agent = Some(agent(&self.pod, x509, wit)),
        }
        shown
    }

    fn wait_for(&mut self, shown: Shown) {
        wait_until("the new set is published", || stands(&self.pod) == shown);
        self.published = shown;
        self.most = self.most.max(self.figures());
    }

    fn old_set_stands(&self) {
        assert_eq!(stands(&self.pod), self.published, "another set was published");
    }

    fn figures(&self) -> Figures {
        Figures::of(self.refresh.pid(), &self.pod.volume())
    }

    fn agent_away(&mut self, away: Away, pause: Duration) {
        self.agent = None;
        match away {
            Away::Nothing => sleep(pause),
            Away::Silence => {
                let _listener = UnixListener::bind(self.pod.socket()).expect("a socket");
                sleep(pause);
                fs::remove_file(self.pod.socket()).expect("a socket");
            }
            Away::Denial => {
                let denial =
                    || Reply::Refuse(RpcStatusCode::PERMISSION_DENIED, "no identity issued".to_owned());
                self.agent = Some(agent(&self.pod, denial(), denial()));
                sleep(pause);
            }
            Away::Nonsense(seed) => {
                let _peer = RawPeer::on_socket(&self.pod.socket(), random_peers(seed));
                sleep(pause);
            }
        }
        self.events.restarts += 1;
    }

    fn stopped(&mut self, after: Duration, lasting: Duration) {
        let shown = self.offer();
        sleep(after);
        self.refresh.signal(Signal::SIGSTOP);
        sleep(lasting);
        self.refresh.signal(Signal::SIGCONT);
        self.events.stops += 1;
        self.wait_for(shown);
    }

    fn full_disk(&mut self) {
        // What the last publication still removes would make room again.
        wait_until("older sets are gone", || is_one_set(&self.pod));
        self.refresh.pass_log();
        let filler = self.pod.volume().join("filler");
        let mut file = File::create(&filler).expect("a file");
        while file.write_all(&[0; 4096]).is_ok() {}
        // An open file would hold its room.
        drop(file);
        let shown = self.offer();
        self.refresh.wait_for_log("No space left on device");
        self.old_set_stands();
        fs::remove_file(&filler).expect("a file");
        self.events.full_disks += 1;
        self.wait_for(shown);
    }

    fn set_clock(&mut self, offset: i64) {
        if let Some(clock) = &self.clock {
            clock.set(offset);
            self.offset = offset;
            self.events.clock_steps += 1;
        }
    }

    fn wrong_clock(&mut self, offset: i64) {
        let right = self.offset;
        self.refresh.pass_log();
        self.set_clock(offset);
        self.offer();
        self.refresh.wait_for_log(if offset > 0 { "expired at" } else { "is not valid until" });
        self.old_set_stands();
        self.set_clock(right);
        // What it does now, it does by the time of its last look at the clock.
        self.refresh.wait_until_it_waits();
    }

    fn hook_fails(&mut self) {
        self.refresh.pass_log();
        let fail = self.pod.path().join("fail");
        fs::write(&fail, "").expect("a file");
        let shown = self.offer();
        self.wait_for(shown);
        self.refresh.wait_for_log("ended with code 1");
        fs::remove_file(&fail).expect("a file");
        self.events.hook_failures += 1;
    }

    fn other_application(&mut self) {
        self.app = App::start(&self.pod, "app");
        self.pod.pid_file(self.app.pid());
        self.events.applications += 1;
    }

    /// Waits until nothing is left to do for the published set.
    fn rest(&self) -> Figures {
        let file = |name| self.pod.path().join(name);
        let has_seen = || read_to_string(file("seen")).is_ok_and(|seen| seen == self.published.chain);
        wait_until("the hook has seen the last set", || has_seen() && !file("running").exists());
        wait_until("older sets are gone", || is_one_set(&self.pod));
        self.figures()
    }

    /// One more rotation, which the application and the hook learn of. Then the program holds no more
    /// than it did at `first`.
    fn finish(&mut self, first: Figures) -> Figures {
        self.set_clock(0);
        self.rest();
        let before = signals(&self.pod);
        self.take(Step::Plain);
        wait_until("the application is signalled", || signals(&self.pod) > before);
        let mut last = self.rest();
        wait_until(&format!("the program holds no more than {first} (now: {last})"), || {
            last = self.rest();
            !last.has_grown_since(first)
        });
        self.most = self.most.max(last);
        last
    }

    /// Ends the program, and looks at what it leaves.
    fn stop(mut self) -> (Events, Figures) {
        self.pod.check(&FILES).succeeded();
        assert!(!self.pod.path().join("overlaps").exists(), "two hooks ran at once");
        (self.events.hooks, self.events.signals) = (self.pod.runs().lines().count(), signals(&self.pod));
        self.refresh.stop();
        assert_eq!(stands(&self.pod), self.published, "another set than the last one stands");
        self.pod.holds_one_set();
        (self.events, self.most)
    }
}

/// An agent that has both from its first moment on: a helper that asks earlier takes its WIT-SVID profile for
/// turned off.
fn agent(pod: &Pod, x509: Reply, wit: Reply) -> WorkloadApiServer {
    pod.agent_after(x509, |agent| agent.reply_with_wit(wit))
}

/// What a reader finds.
fn stands(pod: &Pod) -> Shown {
    let read = |name| read_to_string(pod.volume().join(name)).unwrap_or_default();
    Shown { chain: read("svid.pem"), token: read("wit.jwt") }
}

/// Whether there is one hidden directory.
fn is_one_set(pod: &Pod) -> bool {
    names(&pod.volume()).iter().filter(|name| name.starts_with("..2")).count() == 1
}

/// How many signals all applications have got.
fn signals(pod: &Pod) -> usize {
    let lists = names(pod.path()).into_iter().filter(|name| name.starts_with("signals-"));
    lists.map(|name| read_to_string(pod.path().join(name)).expect("a list").lines().count()).sum()
}
