//! What happens in a simulation, and the clock.

use std::collections::VecDeque;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use grpcio::Environment;
use nix::sys::signal::Signal;

use super::agent::{AUDIENCES, Agent, ID, RPCS, Rpc};
use super::children::{APPLICATION, Children, HOOK};
use super::lines;
use super::record::{Count, Tally, Watch};
use super::trouble::{DAY, Event, GRACE, HOUR, MINUTE, SECOND, Trouble, below, between};
use crate::identity::selection::Selection;
use crate::identity::token::Profile;
use crate::material::{ChangeKinds, JwksPart, JwtSvidPart, KeyFormat, Part, PemFiles, WitSvidPart, X509Part};
use crate::mode::check;
use crate::mode::items::OnRevoked;
use crate::mode::main_loop::{End, Ended, MainLoop, Settings};
use crate::notify::{self, Policy, Target};
use crate::process::child::Program;
use crate::process::signal::SignalNumber;
use crate::process::simulated::PROCESSES;
use crate::store::simulated::{DISK, Disk};
use crate::supervise::{self, OnRenewal};
use crate::time::backoff::CHANCE;
use crate::time::clock::Now;
use crate::time::timing::{FIRST_SET, LONGEST_SLEEP};
use crate::wait::Waiter;
use crate::workload_api::client::{Client, start_grpc};
use crate::workload_api::endpoint::Endpoint;

/// The names of files.
pub(super) const KEYS: &str = "keys.json";
pub(super) const WIT: &str = "wit.jwt";
pub(super) const WIT_KEY: &str = "wit.jwk";
pub(super) const WIT_KEYS: &str = "wit-keys.json";
/// From world to world: one in which something happens several times an hour, one in which weeks are quiet, and two
/// between.
const CALM: [u32; 4] = [64, 1, 16, 4];
/// Of looks at files that nobody touches, and of sleeps after which nothing is due, one in so many is made.
const SPARED: u32 = 16;
/// How many turns there may be at one moment.
const MOST_TURNS: u32 = 12;

pub(super) struct World<'a> {
    seed: u64,
    pub(super) start: Instant,
    pub(super) now: Now,
    pub(super) agent: Rc<Agent>,
    pub(super) socket: PathBuf,
    pub(super) listener: Option<UnixListener>,
    /// How many calls' connections were accepted.
    accepted: u64,
    /// The directory that holds that of the files; it may be away.
    pub(super) volume: PathBuf,
    pub(super) is_disk_away: bool,
    /// When the helper has looked at its files, and how long it would have waited for the next look.
    looked: Option<(Instant, Duration)>,
    /// When it looks again.
    look_at: Option<Instant>,
    /// The ways to run the helper, and which it is.
    settings: &'a [Settings],
    way: usize,
    pub(super) check: check::Settings,
    client: &'a Client,
    waiter: &'a Waiter,
    pub(super) helper: Option<MainLoop<'a>>,
    /// The signal that has asked the helper to end, which a hook holds up.
    pub(super) stopping: Option<SignalNumber>,
    pub(super) children: Rc<Children>,
    pub(super) pid_file: PathBuf,
    /// Whether the process blocks the signal, and waits for it.
    pub(super) process_waits: bool,
    /// Since when the process can take a signal.
    pub(super) can_take_since: Option<Instant>,
    pub(super) splay: Duration,
    pub(super) plans: Vec<(Instant, Event)>,
    /// How many times as rare disturbances are as in the wildest world.
    pub(super) calm: u32,
    pub(super) trouble: Option<Trouble>,
    pub(super) history: VecDeque<String>,
    pub(super) watch: Watch,
    pub(super) tally: Tally,
}

fn environment() -> Arc<Environment> {
    static ENVIRONMENT: OnceLock<Arc<Environment>> = OnceLock::new();
    ENVIRONMENT.get_or_init(start_grpc).clone()
}

fn parts() -> Vec<Rc<dyn Part>> {
    let name = |name: &str| name.parse().unwrap();
    let x509 = X509Part {
        pem: Some(PemFiles {
            certificate: name("svid.pem"),
            key: name("svid-key.pem"),
            bundle: name("bundle.pem"),
            intermediates_in_bundle: false,
            federated_in_bundle: false,
            federated_files: false,
        }),
        spiffe: false,
        combined: None,
        keystore: None,
        alias: "svid".parse().unwrap(),
        truststore: None,
        bundle_map: None,
        crls: None,
        password: Default::default(),
        omit_expired: false,
        certificate_mode: "0644".parse().unwrap(),
        key_mode: "0400".parse().unwrap(),
    };
    let token = |audience: &str| {
        let file = format!("{audience}.jwt={audience}").parse().unwrap();
        Rc::new(JwtSvidPart { file, mode: "0600".parse().unwrap() }) as Rc<dyn Part>
    };
    let keys = |file: &str, profile| {
        Rc::new(JwksPart { profile, name: name(file), federated_files: true, mode: "0644".parse().unwrap() })
            as Rc<dyn Part>
    };
    let tokens = AUDIENCES.into_iter().take([0, 1, 2, 2][below(4) as usize]).map(token);
    let mut parts: Vec<_> = [Rc::new(x509) as Rc<dyn Part>].into_iter().chain(tokens).collect();
    if below(2) == 0 {
        parts.push(keys(KEYS, Profile::Jwt));
    }
    if below(2) == 0 {
        let wit = WitSvidPart {
            token: name(WIT),
            key: name(WIT_KEY),
            key_format: KeyFormat::Jwk,
            token_mode: "0644".parse().unwrap(),
            key_mode: "0400".parse().unwrap(),
        };
        parts.extend([Rc::new(wit) as Rc<dyn Part>, keys(WIT_KEYS, Profile::Wit)]);
    }
    parts
}

/// The ways to run the helper: with and without a hook, and with an application.
fn ways(refresh: Settings, policy: &Policy) -> Vec<Settings> {
    let program = |name: &str| Program::from_words(&[name.into()], Vec::new()).unwrap();
    let hook = Some(program(HOOK));
    let with_hook =
        Settings { notify: notify::Settings { hook, ..refresh.notify.clone() }, ..refresh.clone() };
    let run = |on_renewal| {
        let (program, signal) = (program(APPLICATION), Signal::SIGHUP.into());
        let application = supervise::Settings { program, on_renewal, signal, policy: policy.clone() };
        let notify = notify::Settings { targets: Vec::new(), ..refresh.notify.clone() };
        Settings { end: End::ApplicationEnded(application), notify, ..refresh.clone() }
    };
    let application = [OnRenewal::Signal, OnRenewal::Restart, OnRenewal::Nothing].map(run);
    [refresh.clone(), with_hook].into_iter().chain(application).collect()
}

impl World<'_> {
    /// Lets a world be that is drawn from a seed.
    pub(super) fn simulate(seed: u64, live: impl FnOnce(&mut World<'_>)) -> Tally {
        CHANCE.set(Some(seed));
        DISK.set(Disk::default());
        lines::listen();
        let memory = PathBuf::from("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let (socket, volume) = (directory.path().join("agent.sock"), directory.path().join("volume"));
        fs::create_dir(&volume).unwrap();
        let pid_file = directory.path().join("app.pid");
        let kinds = ["svid,bundle", "svid,bundle,token", "svid,bundle,token,keys,wit"][below(3) as usize];
        let kinds: ChangeKinds = kinds.parse().unwrap();
        let splay = if below(2) == 0 { Duration::ZERO } else { between(SECOND, HOUR) };
        let parts = parts();
        let policy = Policy::new(kinds.clone(), splay);
        let refresh = Settings {
            end: End::Stopped,
            endpoint: Endpoint::Unix(socket.clone()),
            selection: Selection { id: (below(2) == 0).then(|| ID.parse().unwrap()), ..Selection::default() },
            parts: parts.clone(),
            svid_path: volume.join("svid"),
            owner: None,
            on_revoked: if below(2) == 0 { OnRevoked::Keep } else { OnRevoked::Remove },
            notify: notify::Settings {
                targets: vec![Target::pid_file(pid_file.clone())],
                signal: Signal::SIGHUP.into(),
                hook: None,
                retries: true,
                policy: policy.clone(),
            },
            http_address: None,
        };
        let settings = ways(refresh, &policy);
        let start = Now { instant: Instant::now(), time: UNIX_EPOCH + Duration::from_secs(1_800_000_000) };
        let agent = Rc::new(Agent::new(start, HOUR, 5 * MINUTE));
        let children = Rc::new(Children::new(start.instant));
        PROCESSES.set(Some(children.clone()));
        let waiter = Waiter::new().unwrap();
        let client = Client::new(Endpoint::Unix(socket.clone()), environment()).simulated(agent.clone());
        let mut world = World {
            seed,
            start: start.instant,
            now: start,
            agent,
            socket,
            listener: None,
            accepted: 0,
            is_disk_away: false,
            looked: None,
            look_at: None,
            check: check::Settings { svid_path: volume.join("svid"), parts, id: None, min_ttl: None },
            volume,
            settings: &settings,
            way: 0,
            client: &client,
            waiter: &waiter,
            helper: None,
            stopping: None,
            children,
            pid_file,
            // Each signal takes 50 looks then, or 500.
            process_waits: below(32) == 0,
            can_take_since: None,
            splay,
            plans: Vec::new(),
            calm: CALM[seed as usize % CALM.len()],
            trouble: None,
            history: VecDeque::new(),
            watch: Watch::new(start.instant, kinds),
            tally: Tally::default(),
        };
        live(&mut world);
        world.end_helper();
        CHANCE.set(None);
        PROCESSES.set(None);
        world.sum_up()
    }

    /// How much there was so far.
    fn sum_up(&self) -> Tally {
        let mut tally = self.tally.clone();
        tally.days = (self.now.instant - self.start).div_duration_f64(DAY);
        tally.add(Count::Calls, self.agent.0.borrow().counts.iter().sum());
        let children = self.children.0.borrow();
        tally.add(Count::Signals, children.signals + children.renewals);
        tally.add(Count::Applications, children.starts);
        tally
    }

    /// Starts the helper, and simulates this time.
    pub(super) fn pass(&mut self, time: Duration, until: Option<Instant>) {
        self.listen();
        let mut deadline = self.start_helper();
        let end = self.start + time;
        while self.now.instant < end && until.is_none_or(|until| Instant::now() < until) {
            let first = self.plans.iter().enumerate().min_by_key(|(_, (at, _))| *at);
            let first = first.map(|(index, (at, _))| (index, *at)).filter(|(_, at)| *at < deadline);
            let next = first.map_or(deadline, |(_, at)| at).max(self.now.instant);
            let end_of_child = self.children.0.borrow().next_end();
            if let Some(at) = end_of_child.filter(|at| *at <= next) {
                self.advance(at.saturating_duration_since(self.now.instant));
                deadline = self.end_children();
                continue;
            }
            self.advance(next - self.now.instant);
            let wakes = first.is_none_or(|(index, _)| {
                let (_, event) = self.plans.swap_remove(index);
                self.happens(event)
            });
            deadline = match wakes {
                true => self.turn(),
                false => deadline.min(self.look_at.unwrap_or(deadline)).min(self.now.instant + LONGEST_SLEEP),
            };
        }
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
        self.agent.0.borrow_mut().now = self.now;
        self.children.0.borrow_mut().now = self.now.instant;
    }

    /// Children end, and the loop reaps them. Returns its deadline.
    pub(super) fn end_children(&mut self) -> Instant {
        self.children.0.borrow_mut().end_due();
        self.helper.as_mut().unwrap().reap(self.now.instant);
        self.turn()
    }

    /// How the loop is to end now.
    fn expected_end(&self) -> Option<Ended> {
        let children = self.children.0.borrow();
        let stopped = self.stopping.filter(|_| children.hook.is_none()).map(Ended::Stopped);
        children.exit_code.map(Ended::Application).or(stopped)
    }

    /// Whether there is to be a file of this name.
    pub(super) fn wants(&self, file: &str) -> bool {
        self.check.parts.iter().any(|part| part.file() == file)
    }

    /// What a rotation does to the application of `run`.
    pub(super) fn on_renewal(&self) -> Option<OnRenewal> {
        match &self.settings[self.way].end {
            End::ApplicationEnded(settings) => Some(settings.on_renewal),
            _ => None,
        }
    }

    /// Whether the helper's options name its identity.
    pub(super) fn has_id(&self) -> bool {
        self.settings[self.way].selection.id.is_some()
    }

    pub(super) fn has_hook(&self) -> bool {
        self.settings[self.way].notify.hook.is_some()
    }

    /// Whether the files of a withdrawn identity are removed.
    pub(super) fn removes(&self) -> bool {
        self.settings[self.way].on_revoked == OnRevoked::Remove
    }

    pub(super) fn plan(&mut self, event: Event, after: Duration) {
        self.plans.push((self.now.instant + after, event));
    }

    /// Plans what disturbs the helper, after so long in the wildest world.
    pub(super) fn plan_disturbance(&mut self, event: Event, after: Duration) {
        self.plan(event, after * self.calm);
    }

    /// Turns the loop until it has nothing to do. Returns its deadline.
    pub(super) fn turn(&mut self) -> Instant {
        for _ in 0..MOST_TURNS {
            lines::listen();
            self.tally.add(Count::Turns, 1);
            let expected = self.expected_end();
            let before = self.may_die();
            let turn = AssertUnwindSafe(|| self.helper.as_mut().unwrap().turn(self.now));
            let turned = match catch_unwind(turn) {
                Ok(turned) => turned,
                Err(death) => {
                    self.bury(death, before);
                    return self.start_helper();
                }
            };
            let deadline = match turned {
                ControlFlow::Continue(deadline) if expected.is_none() => deadline,
                ControlFlow::Break(Ok(end)) if expected == Some(end) => {
                    self.mend_disk();
                    return self.start_helper();
                }
                end => self.fail(&format!("the loop has ended: {end:?}, and not {expected:?}")),
            };
            let calls = self.agent.0.borrow().counts.iter().sum();
            if calls != std::mem::replace(&mut self.accepted, calls) {
                while self.listener.as_ref().is_some_and(|listener| listener.accept().is_ok()) {}
            }
            self.look();
            self.spare_looks();
            if deadline > self.now.instant {
                return self.spare_sleeps(deadline);
            }
        }
        self.fail("the loop spins")
    }

    /// A new helper, with the files of the one before.
    pub(super) fn start_helper(&mut self) -> Instant {
        self.end_helper();
        self.children.0.borrow_mut().end_all();
        self.stopping = None;
        self.plans.retain(|(_, event)| *event != Event::Application);
        self.way = [0, 0, 1, 1, 2, 3, 3, 4][below(8) as usize];
        let begun = loop {
            let before = self.may_die();
            let (settings, client, waiter) = (&self.settings[self.way], self.client, self.waiter);
            let begin = AssertUnwindSafe(|| MainLoop::new(settings, client, waiter, self.now));
            match catch_unwind(begin) {
                Ok(begun) => break begun,
                Err(death) => self.bury(death, before),
            }
        };
        let mut helper = begun.unwrap_or_else(|error| self.fail(&format!("it does not start: {error}")));
        helper.begin(self.now);
        self.helper = Some(helper);
        (self.looked, self.look_at) = (None, None);
        self.watch.started(self.now.instant);
        RPCS.into_iter().for_each(|rpc| self.disturb(rpc, 2 * FIRST_SET + GRACE));
        self.now.instant
    }

    /// The end of its process.
    pub(super) fn end_helper(&mut self) {
        if let Some(helper) = self.helper.take() {
            helper.items.end_calls();
        }
        DISK.set(Disk { is_dead: false, ..DISK.get() });
    }

    /// From now on for so long, files of an RPC may be old.
    pub(super) fn disturb(&mut self, rpc: Rpc, span: Duration) {
        let by = &mut self.watch.fresh_by[rpc as usize];
        *by = (*by).max(self.now.instant + span);
    }

    pub(super) fn disturb_by_trouble(&mut self, trouble: Trouble) {
        for rpc in RPCS.into_iter().filter(|rpc| trouble.concerns(*rpc)) {
            self.disturb(rpc, trouble.recovery(rpc));
        }
    }

    /// While all is well, the loop sleeps on where it would wake up and have nothing to do. Returns its deadline then.
    fn spare_sleeps(&self, deadline: Instant) -> Instant {
        let is_deaf = RPCS.into_iter().any(|rpc| self.agent.0.borrow().is_deaf(rpc));
        let is_well = self.watch.good_since.is_some()
            && self.watch.disk_fault_until.is_none()
            && self.trouble.is_none()
            && !is_deaf;
        if !is_well || deadline != self.now.instant + LONGEST_SLEEP {
            return deadline;
        }
        let due = self.helper.as_ref().unwrap().next_due(self.now);
        due.into_iter().fold(self.now.instant + LONGEST_SLEEP * SPARED, Instant::min)
    }

    /// After a look at files that nobody touches, many are spared: they would be a third of all work.
    fn spare_looks(&mut self) {
        let look_at = &mut self.helper.as_mut().unwrap().items.publisher.look_at;
        if *look_at != self.look_at
            && let Some(at) = look_at
        {
            let pause = *at - self.now.instant;
            self.looked = Some((self.now.instant, pause));
            if self.watch.disk_fault_until.is_none() {
                *at = self.now.instant + pause * SPARED;
            }
        }
        self.look_at = *look_at;
    }

    /// The next look comes when it would come, had none been spared.
    pub(super) fn spare_no_look(&mut self) {
        if let (Some(helper), Some((looked, pause))) = (&mut self.helper, self.looked) {
            let passed = (self.now.instant - looked).div_duration_f64(pause) as u32;
            self.look_at = Some(looked + pause * (passed + 1));
            helper.items.publisher.look_at = self.look_at;
        }
    }

    pub(super) fn listen(&mut self) {
        let _ = fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.listener = Some(listener);
    }

    /// A promise is broken.
    pub(super) fn fail(&self, message: &str) -> ! {
        let (day, time) = ((self.now.instant - self.start).div_duration_f64(DAY), self.now.time);
        let history = self.history.iter().fold(String::new(), |text, event| text + "\n  " + event);
        let time = crate::time::timestamp::rfc3339(time, 3);
        let at = self.now.instant - self.start;
        panic!(
            "{message}\nSIMULATE_SEED={} day {day:.3} ({at:?}, {time})\n{}\nevents:{history}\nlog:{}",
            self.seed,
            self.sum_up(),
            lines::last()
        );
    }
}
