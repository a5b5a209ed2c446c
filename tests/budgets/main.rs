//! Measures the release binary against the test server, and prints each figure beside its budget.
//!
//! Times are of this machine, at this moment; nothing here fails.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use workload_api_server::authority::{Authority, Recipe};
use workload_api_server::server::{Reply, WorkloadApiServer};

#[path = "../workload_api_server/mod.rs"]
mod workload_api_server;

const BINARY: &str = env!("CARGO_BIN_EXE_pod-svid-helper");
const MIB: f64 = 1024.0 * 1024.0;

const INITS: usize = 20;
const IDLE: Duration = Duration::from_secs(30);
const UPDATES: usize = 200;
/// After a start, until the state that is measured.
const SETTLING: Duration = Duration::from_secs(1);
const AWAY: Duration = Duration::from_secs(10);

fn main() {
    println!("{:<44} {:>12} {:>12}", "", "measured", "budget");
    report("binary, MiB", std::fs::metadata(BINARY).expect("the binary").len() as f64 / MIB, Some(5.0));
    let pod = Pod::new();
    let agent = pod.agent();
    report(
        "init, start to exit, ms (median of 20)",
        median((0..INITS).map(|_| pod.init()).collect()),
        Some(5.0),
    );
    report(
        "check, start to exit, ms (median of 20)",
        median((0..INITS).map(|_| pod.check()).collect()),
        Some(10.0),
    );
    let refresh = pod.refresh();
    let resident = idle(&refresh);
    updates("update sent to set published, ms (p99)", 2.0, &pod, &agent, || pod.response());
    drop(refresh);
    let refresh = pod.refresh_with(&["--include-federated-bundles"]);
    agent.reply(pod.many());
    std::thread::sleep(SETTLING);
    report("10 SVIDs, 100 bundles of 3: MiB more", refresh.resident() - resident, Some(2.0));
    updates("the same: sent to published, ms (p99)", 10.0, &pod, &agent, || pod.many());
    drop(refresh);
    agent.reply(pod.response());
    let refresh = pod.refresh();
    std::thread::sleep(SETTLING);
    report("SIGTERM to exit, in a stream, ms", refresh.stop(), Some(100.0));
    let refresh = pod.refresh();
    std::thread::sleep(SETTLING);
    std::fs::remove_dir_all(pod.volume()).expect("the volume");
    report("SIGTERM to exit, directory gone, ms", refresh.stop(), Some(100.0));
    drop(agent);
    let refresh = pod.refresh();
    report("agent back after 10 s to new files, ms", recovery(&pod), Some(1000.0));
    drop(refresh);
    let refresh = pod.refresh();
    std::thread::sleep(SETTLING);
    report("SIGTERM to exit, in backoff, ms", refresh.stop(), Some(100.0));
    let _silent = UnixListener::bind(pod.socket()).expect("a socket");
    let refresh = pod.refresh();
    std::thread::sleep(SETTLING);
    report("SIGTERM to exit, in connection set-up, ms", refresh.stop(), Some(100.0));
}

fn report(what: &str, measured: f64, budget: Option<f64>) {
    let (budget, verdict) = match budget {
        None => (String::new(), ""),
        Some(budget) => (format!("<= {budget}"), if measured <= budget { "met" } else { "not met" }),
    };
    println!("{what:<44} {measured:>12.2} {budget:>12}  {verdict}");
}

/// Returns the resident memory, MiB.
fn idle(refresh: &Refresh) -> f64 {
    std::thread::sleep(SETTLING);
    let before = refresh.context_switches();
    std::thread::sleep(IDLE);
    let per_second = (refresh.context_switches() - before) as f64 / IDLE.as_secs_f64();
    let resident = refresh.resident();
    report("refresh, idle: resident memory, MiB", resident, Some(5.0));
    report("refresh, idle: threads", refresh.status("Threads:") as f64, None);
    report("refresh, idle: context switches a second", per_second, Some(3.0));
    resident
}

fn updates(what: &str, budget: f64, pod: &Pod, agent: &WorkloadApiServer, response: impl Fn() -> Reply) {
    let mut times: Vec<f64> = (0..UPDATES)
        .map(|_| {
            let (svid, old) = (response(), pod.data());
            let start = Instant::now();
            agent.reply(svid);
            while pod.data() == old {
                std::thread::sleep(Duration::from_micros(50));
            }
            milliseconds(start)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    report(what, times[UPDATES * 99 / 100], Some(budget));
}

fn recovery(pod: &Pod) -> f64 {
    std::thread::sleep(AWAY);
    let old = pod.data();
    let response = pod.response();
    let start = Instant::now();
    let _agent = WorkloadApiServer::on_socket(&pod.socket(), response);
    while pod.data() == old {
        std::thread::sleep(Duration::from_micros(100));
    }
    milliseconds(start)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// A socket and a volume in memory.
struct Pod {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Pod {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let directory = tempfile::tempdir_in(parent).expect("a directory");
        Self { directory, authority: Authority::new("example.org") }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    fn volume(&self) -> PathBuf {
        self.directory.path().join("svids")
    }

    fn response(&self) -> Reply {
        Reply::offer(&self.authority.response([&Recipe::for_id("spiffe://example.org/workload")]))
    }

    /// Ten SVIDs, and the bundles of a hundred federated trust domains with three CAs each.
    fn many(&self) -> Reply {
        let ids = (0..10).map(|number| Recipe::for_id(&format!("spiffe://example.org/workload/{number}")));
        let mut response = self.authority.response(&ids.collect::<Vec<_>>());
        for number in 0..100 {
            let key = format!("spiffe://{number}.example.org");
            response.federated_bundles.insert(key, self.authority.bundle().repeat(3));
        }
        Reply::offer(&response)
    }

    fn agent(&self) -> WorkloadApiServer {
        WorkloadApiServer::on_socket(&self.socket(), self.response())
    }

    /// What is published: the directory behind `..data`.
    fn data(&self) -> Option<PathBuf> {
        std::fs::read_link(self.volume().join("..data")).ok()
    }

    fn helper(&self, mode: &str) -> Command {
        let mut command = Command::new(BINARY);
        command
            .env_clear()
            .arg(format!("--mode={mode}"))
            .arg(format!("--workload-api-socket={}", self.socket().display()))
            .arg(format!("--svid-path={}", self.volume().display()))
            .stderr(Stdio::null());
        command
    }

    fn init(&self) -> f64 {
        let start = Instant::now();
        assert!(self.helper("init").status().expect("the helper runs").success());
        milliseconds(start)
    }

    fn check(&self) -> f64 {
        let mut command = Command::new(BINARY);
        command.env_clear().arg("--mode=check").arg(format!("--svid-path={}", self.volume().display()));
        let start = Instant::now();
        assert!(command.stdout(Stdio::null()).status().expect("the helper runs").success());
        milliseconds(start)
    }

    fn refresh(&self) -> Refresh {
        self.refresh_with(&[])
    }

    fn refresh_with(&self, arguments: &[&str]) -> Refresh {
        Refresh(self.helper("refresh").args(arguments).spawn().expect("the helper starts"))
    }
}

struct Refresh(Child);

impl Refresh {
    /// A figure of `/proc/PID/status`.
    fn status(&self, name: &str) -> u64 {
        figure(Path::new(&format!("/proc/{}/status", self.0.id())), name)
    }

    /// MiB.
    fn resident(&self) -> f64 {
        self.status("VmRSS:") as f64 / 1024.0
    }

    /// Of all threads, voluntary or not.
    fn context_switches(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("a running helper");
        let of_task = |task: PathBuf| {
            let status = task.join("status");
            figure(&status, "voluntary_ctxt_switches:") + figure(&status, "nonvoluntary_ctxt_switches:")
        };
        tasks.map(|task| of_task(task.expect("a thread").path())).sum()
    }

    fn stop(mut self) -> f64 {
        let start = Instant::now();
        kill(Pid::from_raw(self.0.id().try_into().expect("a PID")), Signal::SIGTERM)
            .expect("a running helper");
        assert!(self.0.wait().expect("a child").success());
        milliseconds(start)
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn figure(status: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(status).expect("a running helper");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a known figure");
    line.split_whitespace().nth(1).and_then(|figure| figure.parse().ok()).expect("a number")
}
