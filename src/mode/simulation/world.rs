//! What happens in a simulation, and the clock.

use std::collections::VecDeque;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use grpcio::Environment;
use nix::unistd::Pid;

use super::agent::{AUDIENCES, Agent, ID, RPCS, Rpc};
use super::lines;
use super::record::{Count, Tally, Watch};
use super::trouble::{DAY, Event, GRACE, HOUR, MINUTE, SECOND, Trouble, below, between};
use crate::identity::selection::Selection;
use crate::material::{ChangeKinds, JwtSvidPart, Part, PemFiles, X509Part};
use crate::mode::check;
use crate::mode::items::OnRevoked;
use crate::mode::main_loop::{End, MainLoop, Settings};
use crate::notify::{self, HookRetry, Policy, SimulatedProcess, Target};
use crate::time::backoff::CHANCE;
use crate::time::clock::Now;
use crate::time::timing::{FIRST_SET, LOOK_AT_FILES, WRITE_AGAIN};
use crate::wait::Waiter;
use crate::workload_api::client::{Client, start_grpc};
use crate::workload_api::endpoint::Endpoint;

/// How many turns there may be at one moment.
const MOST_TURNS: u32 = 12;
pub(super) struct World<'a> {
    seed: u64,
    pub(super) start: Instant,
    pub(super) now: Now,
    pub(super) agent: Rc<Agent>,
    pub(super) socket: PathBuf,
    pub(super) listener: Option<UnixListener>,
    /// The directory that holds that of the files; it may be away.
    pub(super) volume: PathBuf,
    pub(super) is_disk_away: bool,
    settings: &'a Settings,
    pub(super) check: check::Settings,
    client: &'a Client,
    waiter: &'a Waiter,
    pub(super) helper: Option<MainLoop<'a>>,
    pub(super) process: Rc<SimulatedProcess>,
    /// Whether the process blocks the signal, and waits for it.
    pub(super) process_waits: bool,
    /// Since when the process can take a signal.
    pub(super) can_take_since: Option<Instant>,
    pub(super) splay: Duration,
    pub(super) plans: Vec<(Instant, Event)>,
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
    [Rc::new(x509) as Rc<dyn Part>].into_iter().chain(AUDIENCES.map(token)).collect()
}

impl World<'_> {
    /// Lets a world be that is drawn from a seed.
    pub(super) fn simulate(seed: u64, live: impl FnOnce(&mut World<'_>)) -> Tally {
        CHANCE.set(Some(seed));
        lines::listen();
        let memory = PathBuf::from("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let (socket, volume) = (directory.path().join("agent.sock"), directory.path().join("volume"));
        fs::create_dir(&volume).unwrap();
        let process = Rc::new(SimulatedProcess {
            pid: Pid::from_raw(10_000_000).into(),
            reaction: None.into(),
            signals: 0.into(),
        });
        let kinds: ChangeKinds =
            if below(3) == 0 { "svid,bundle" } else { "svid,bundle,token" }.parse().unwrap();
        let splay = if below(2) == 0 { Duration::ZERO } else { between(SECOND, HOUR) };
        let parts = parts();
        let settings = Settings {
            end: End::Stopped,
            endpoint: Endpoint::Unix(socket.clone()),
            selection: Selection { id: (below(2) == 0).then(|| ID.parse().unwrap()), ..Selection::default() },
            parts: parts.clone(),
            svid_path: volume.join("svid"),
            owner: None,
            on_revoked: if below(2) == 0 { OnRevoked::Keep } else { OnRevoked::Remove },
            notify: notify::Settings {
                targets: vec![Target::Simulated(process.clone())],
                signal: Default::default(),
                hook: None,
                retry: HookRetry::UntilSuccess,
                policy: Policy::new(kinds.clone(), splay),
            },
            http_address: None,
        };
        let start = Now { instant: Instant::now(), time: UNIX_EPOCH + Duration::from_secs(1_800_000_000) };
        let agent = Rc::new(Agent::new(start, HOUR, 5 * MINUTE));
        let waiter = Waiter::new().unwrap();
        let client = Client::new(settings.endpoint.clone(), environment()).simulated(agent.clone());
        let tells_of_tokens = kinds.to_string().contains("token");
        let mut world = World {
            seed,
            start: start.instant,
            now: start,
            agent,
            socket,
            listener: None,
            volume,
            is_disk_away: false,
            check: check::Settings { svid_path: settings.svid_path.clone(), parts, id: None, min_ttl: None },
            settings: &settings,
            client: &client,
            waiter: &waiter,
            helper: None,
            process,
            process_waits: below(4) == 0,
            can_take_since: None,
            splay,
            plans: Vec::new(),
            trouble: None,
            history: VecDeque::new(),
            watch: Watch::new(start.instant, tells_of_tokens),
            tally: Tally::default(),
        };
        live(&mut world);
        world.helper.take().unwrap().items.end_calls();
        CHANCE.set(None);
        world.tally
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
            self.advance(next - self.now.instant);
            if first.is_none_or(|(index, _)| {
                let (_, event) = self.plans.swap_remove(index);
                self.happens(event)
            }) {
                deadline = self.turn();
            }
        }
        self.tally.days = (self.now.instant - self.start).div_duration_f64(DAY);
        self.tally.add(Count::Calls, self.agent.0.borrow().counts.iter().sum());
        self.tally.add(Count::Signals, self.process.signals.get());
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
        self.agent.0.borrow_mut().now = self.now;
    }

    pub(super) fn plan(&mut self, event: Event, after: Duration) {
        self.plans.push((self.now.instant + after, event));
    }

    /// Turns the loop until it has nothing to do. Returns its deadline.
    pub(super) fn turn(&mut self) -> Instant {
        for _ in 0..MOST_TURNS {
            lines::listen();
            self.tally.add(Count::Turns, 1);
            let deadline = match self.helper.as_mut().unwrap().turn(self.now) {
                ControlFlow::Continue(deadline) => deadline,
                ControlFlow::Break(end) => self.fail(&format!("the loop has ended: {end:?}")),
            };
            while self.listener.as_ref().is_some_and(|listener| listener.accept().is_ok()) {}
            self.look();
            if deadline > self.now.instant {
                return deadline;
            }
        }
        self.fail("the loop spins")
    }

    /// A new helper, with the files of the one before.
    pub(super) fn start_helper(&mut self) -> Instant {
        if let Some(helper) = self.helper.take() {
            helper.items.end_calls();
        }
        let helper = MainLoop::new(self.settings, self.client, self.waiter, self.now);
        let mut helper = helper.unwrap_or_else(|error| self.fail(&format!("it does not start: {error}")));
        helper.begin(self.now);
        self.helper = Some(helper);
        self.watch.started(self.now.instant);
        RPCS.into_iter().for_each(|rpc| self.disturb(rpc, 2 * FIRST_SET + GRACE));
        self.now.instant
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

    pub(super) fn disturb_by_disk(&mut self) {
        let span = LOOK_AT_FILES + WRITE_AGAIN.longest() + FIRST_SET + GRACE;
        RPCS.into_iter().for_each(|rpc| self.disturb(rpc, span));
        self.watch.disk_fault_until = Some(self.now.instant + span);
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
            self.tally,
            lines::last()
        );
    }
}
