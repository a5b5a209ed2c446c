//! The publications that are disturbed, and what is there before and after each.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grpcio::RpcStatusCode;
use nix::unistd::{getegid, geteuid};
use pod_svid_helper::for_tests::workload::X509SVID;
use workload_api_server::authority::{Authority, Recipe, jwt_response};
use workload_api_server::server::{Reply, WorkloadApiServer};

use super::calls::{self, Call};
use super::strace;
use super::volume::{Files, Listing, Seen, listing};
use crate::mounts::{ProtectedSymlinks, Tmpfs};
use crate::pod::{Helper, ID, Pod, Published, is_root, jwt_bundles, names, offer, serial, skip, wait_until};

/// How often a good run is recorded at most, until one is as the one before: a token may come late.
const RECORDS: usize = 10;

/// The helper's user in a pod, and the pod's fsGroup.
const HELPER: u32 = 65532;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Into a directory that the helper makes, with umask 077.
    First,
    Replacement,
    /// Over files that something else has left under the names.
    PlainFiles,
    /// A replacement with a token and JWT bundles in the set, given to another owner.
    Tokens,
    /// A replacement where one file has another name than before.
    Names,
    /// A replacement in a pod's in-memory volume: root's, and writable by all, as `fs.protected_symlinks`
    /// is set on ordinary nodes.
    Sticky,
}

impl Scenario {
    const ALL: [Self; 6] =
        [Self::First, Self::Replacement, Self::PlainFiles, Self::Tokens, Self::Names, Self::Sticky];

    pub fn title(self) -> &'static str {
        match self {
            Self::First => "first publication",
            Self::Replacement => "replacement",
            Self::PlainFiles => "over plain files",
            Self::Tokens => "with tokens, another owner",
            Self::Names => "with another name",
            Self::Sticky => "in a sticky directory",
        }
    }

    /// The files of each part. A part is whole, whatever happens; parts come from different calls of the
    /// Workload API.
    pub fn parts(self) -> Vec<Vec<&'static str>> {
        let x509 = vec!["svid.pem", "svid-key.pem", "bundle.pem"];
        match self {
            Self::Tokens => vec![x509, vec!["token.jwt"], vec!["jwks.json"]],
            Self::Names => vec![[x509, vec!["old.pem", "new.pem"]].concat()],
            _ => vec![x509],
        }
    }

    fn arguments(self, agent: Agent) -> &'static [&'static str] {
        match self {
            Self::Names if agent == Agent::Old => &["--combined-file-name=old.pem"],
            Self::Names => &["--combined-file-name=new.pem"],
            Self::Tokens if is_root() => {
                &["--jwt-svid=token.jwt=one", "--jwt-bundle-file-name=jwks.json", "--file-owner=101:102"]
            }
            Self::Tokens => &["--jwt-svid=token.jwt=one", "--jwt-bundle-file-name=jwks.json"],
            _ => &[],
        }
    }

    fn needs_root(self) -> bool {
        self == Self::Sticky
    }
}

/// The agents, and a place for the volumes.
pub struct Stage {
    old: X509SVID,
    new: X509SVID,
    /// gRPC's servers are used by one thread at a time.
    agents: Mutex<[WorkloadApiServer; 2]>,
    _memory: Option<Tmpfs>,
    /// Is removed when nothing is mounted on it any more.
    pod: Pod,
    _protected_symlinks: Option<ProtectedSymlinks>,
    volumes: AtomicUsize,
}

/// Which agent is asked.
#[derive(Clone, Copy, PartialEq)]
pub enum Agent {
    Old,
    New,
}

impl Stage {
    pub fn new() -> Self {
        let pod = Pod::new();
        // Thousands of volumes wear out no disk.
        let memory = is_root().then(|| Tmpfs::mount(pod.path(), "size=2g,mode=0777"));
        // Two CAs of one trust domain, so that every file differs.
        let agent = |name: &str, authority: Authority| {
            let svid = authority.mint(&Recipe::for_id(ID));
            let agent = WorkloadApiServer::on_socket(&pod.path().join(name), offer([svid.clone()]));
            // The same token at each call.
            let token = authority.mint_jwt(ID, &["one".to_owned()], Duration::from_secs(3600));
            agent.issue_jwt(move |_| Reply::offer(&jwt_response([token.clone()])));
            agent.reply_with_jwt_bundles(jwt_bundles([&Arc::new(authority)]));
            (svid, agent)
        };
        let [(old, old_agent), (new, new_agent)] =
            ["old.sock", "new.sock"].map(|name| agent(name, Authority::new("example.org")));
        let agents = Mutex::new([old_agent, new_agent]);
        let volumes = AtomicUsize::new(0);
        let protected = ProtectedSymlinks::set();
        Self { pod, old, new, agents, _memory: memory, _protected_symlinks: protected, volumes }
    }

    /// All scenarios that can be set up here, each with the record of a good run.
    pub fn scenes(&self) -> Vec<Scene<'_>> {
        let possible = |scenario: &Scenario| {
            if scenario.needs_root() && !is_root() {
                skip(&format!("{}: it needs root", scenario.title()));
                return false;
            }
            // One scenario alone, to look into a failure.
            std::env::var("FAULTS_SCENARIO").map_or(true, |wanted| scenario.title().contains(&wanted))
        };
        Scenario::ALL.into_iter().filter(possible).map(|scenario| Scene::new(self, scenario)).collect()
    }

    /// One that is not made yet.
    pub fn directory(&self) -> PathBuf {
        self.pod.path().join(self.volumes.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// A scenario that is set up.
pub struct Scene<'a> {
    pub scenario: Scenario,
    stage: &'a Stage,
    /// Is copied for each point.
    pub template: PathBuf,
    /// The names of all files.
    pub files: Vec<&'static str>,
    pub old: Files,
    pub new: Files,
    /// Everything that is there after a good run, with modes.
    pub listing: Listing,
    /// What a good run does.
    pub calls: Vec<Call>,
}

/// Who runs the program.
pub struct Runner {
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
}

/// A copy of the template, removed when dropped.
pub struct Place {
    pub directory: PathBuf,
    /// strace's.
    pub log: PathBuf,
}

impl Place {
    pub fn volume(&self) -> PathBuf {
        self.directory.join("svids")
    }

    pub fn calls(&self) -> Vec<Call> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        calls::parse(&log, &self.directory)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
        let _ = std::fs::remove_file(&self.log);
    }
}

impl<'a> Scene<'a> {
    pub fn new(stage: &'a Stage, scenario: Scenario) -> Self {
        let template = stage.directory();
        std::fs::create_dir(&template).expect("a directory");
        let files = scenario.parts().concat();
        let empty = Files::new();
        let mut scene = Self {
            scenario,
            stage,
            template,
            files,
            old: empty.clone(),
            new: empty,
            listing: Listing::new(),
            calls: Vec::new(),
        };
        scene.set_up();
        scene.old = Seen::look(&scene.template.join("svids"), &scene.files).by_name;
        for _ in 0..RECORDS {
            let before = std::mem::take(&mut scene.calls);
            scene.record();
            if deeds(&before) == deeds(&scene.calls) {
                return scene;
            }
        }
        panic!("{}: no two of {RECORDS} runs made the same calls", scenario.title());
    }

    /// Makes a good run, and takes note of what it does and leaves.
    fn record(&mut self) {
        let place = self.place();
        self.run(&place, None).finish().succeeded();
        assert_is(&place.volume(), &self.stage.new);
        self.new = Seen::look(&place.volume(), &self.files).by_name;
        let gone = if self.scenario == Scenario::Names { 1 } else { 0 };
        assert_eq!(self.new.len() + gone, self.files.len());
        self.listing = listing(&place.volume());
        self.calls = place.calls();
        assert!(self.calls.len() > 100, "{} calls", self.calls.len());
    }

    /// What refresh does when it publishes the set, and removes it as the agent withdraws the identity.
    pub fn withdrawal(&self) -> Vec<Call> {
        let place = self.place();
        let refresh = self.refresh(&place, None).start();
        self.withdraw(&place, || _ = refresh.stop());
        place.calls()
    }

    /// The program that publishes the set and removes it, with strace beside it.
    pub fn refresh(&self, place: &Place, inject: Option<&str>) -> Helper {
        let refresh = self.any_helper(Agent::New, &place.directory);
        let refresh = refresh.arguments(&["--mode=refresh", "--on-revoked=remove"]);
        self.as_user(strace::beside(refresh, &place.log, inject))
    }

    /// Lets the agent withdraw the identity once refresh has published it, until refresh has removed it and `stop`
    /// has stopped it.
    pub fn withdraw(&self, place: &Place, stop: impl FnOnce()) {
        let is_new = || Seen::look(&place.volume(), &self.files).by_name == self.new;
        wait_until("it is published", is_new);
        let agents = self.stage.agents.lock().expect("no panic");
        agents[1].reply(Reply::refuse(RpcStatusCode::PERMISSION_DENIED));
        wait_until("nothing is left", || names(&place.volume()).iter().all(|name| name.starts_with("..")));
        stop();
        agents[1].reply(offer([self.stage.new.clone()]));
    }

    /// Makes what is there before.
    fn set_up(&self) {
        let volume = self.template.join("svids");
        match self.scenario {
            Scenario::First => return,
            Scenario::Sticky => {
                std::fs::create_dir(&volume).expect("a volume");
                chown(&volume, None, Some(HELPER)).expect("its group");
                std::fs::set_permissions(&volume, PermissionsExt::from_mode(0o3777)).expect("its mode");
            }
            Scenario::Replacement | Scenario::PlainFiles | Scenario::Tokens | Scenario::Names => {}
        }
        self.as_user(self.helper(Agent::Old, &self.template)).finish().succeeded();
        assert_is(&volume, &self.stage.old);
        if self.scenario == Scenario::PlainFiles {
            let old = Seen::look(&volume, &self.files).by_name;
            std::fs::remove_dir_all(&volume).expect("a volume");
            std::fs::create_dir(&volume).expect("a volume");
            for (name, contents) in old {
                std::fs::write(volume.join(&name), contents).expect("a file");
                let mode = if name == "svid-key.pem" { 0o400 } else { 0o644 };
                std::fs::set_permissions(volume.join(name), PermissionsExt::from_mode(mode))
                    .expect("its mode");
            }
        }
    }

    /// A copy of what is there before.
    pub fn place(&self) -> Place {
        let place = self.no_place();
        let copied = Command::new("cp").arg("-a").args([&self.template, &place.directory]).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp -a");
        place
    }

    /// One whose directory is not made yet.
    pub fn no_place(&self) -> Place {
        let directory = self.stage.directory();
        Place { log: directory.with_extension("log"), directory }
    }

    pub fn runner(&self) -> Runner {
        let status = std::fs::read_to_string("/proc/self/status").expect("this process's status");
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).expect("its umask").trim();
        let umask = u32::from_str_radix(umask, 8).expect("octal digits");
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        match self.scenario {
            Scenario::First => Runner { uid, gid, umask: 0o077 },
            Scenario::Sticky => Runner { uid: HELPER, gid: HELPER, umask },
            _ => Runner { uid, gid, umask },
        }
    }

    fn helper(&self, agent: Agent, directory: &Path) -> Helper {
        self.any_helper(agent, directory).argument("--mode=init")
    }

    fn any_helper(&self, agent: Agent, directory: &Path) -> Helper {
        let socket = if agent == Agent::Old { "old.sock" } else { "new.sock" };
        Helper::new()
            .argument(format!("--workload-api-socket={}", self.stage.pod.path().join(socket).display()))
            .argument(format!("--svid-path={}", directory.join("svids").display()))
            .arguments(self.scenario.arguments(agent))
    }

    /// The publication, under strace.
    pub fn run(&self, place: &Place, inject: Option<&str>) -> Helper {
        self.as_user(strace::around(self.helper(Agent::New, &place.directory), &place.log, inject))
    }

    /// The same with strace as the program's grandchild.
    pub fn run_beside(&self, place: &Place, inject: Option<&str>) -> Helper {
        self.as_user(strace::beside(self.helper(Agent::New, &place.directory), &place.log, inject))
    }

    /// The publication, undisturbed.
    pub fn run_freely(&self, place: &Place) -> Helper {
        self.as_user(self.helper(Agent::New, &place.directory))
    }

    fn as_user(&self, helper: Helper) -> Helper {
        match self.scenario {
            Scenario::First => helper.through("/bin/sh", &["-c", "umask 077; exec \"$0\" \"$@\""]),
            Scenario::Sticky => helper.run_by(HELPER, HELPER),
            Scenario::Replacement | Scenario::PlainFiles | Scenario::Tokens | Scenario::Names => helper,
        }
    }
}

/// What calls do, in no order.
fn deeds(calls: &[Call]) -> BTreeSet<(&str, Vec<String>, usize)> {
    calls.iter().map(Call::deed).collect()
}

/// Asserts that the volume holds this SVID, as the agent has offered it.
fn assert_is(volume: &Path, svid: &X509SVID) {
    let set = Published::by_name(volume).expect("three files");
    assert_eq!(
        (set.chain(), set.bundle()),
        (svid.x509_svid.clone(), svid.bundle.clone()),
        "{}",
        serial(svid)
    );
    let key =
        |der: &[u8]| pkcs8::PrivateKeyInfoRef::try_from(der).expect("PKCS#8").private_key.as_bytes().to_vec();
    assert_eq!(key(&set.key()), key(&svid.x509_svid_key), "the key of {}", serial(svid));
}
