//! What is measured: this program, and perhaps a peer.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pod::Pod;
use crate::table::milliseconds;

const OURS: &str = "--mode={mode} --workload-api-socket={socket} --svid-path={directory} {options}";
/// A word of a command: where it is, a row adds options of this program.
const OPTIONS: &str = "{options}";
pub const MIB: f64 = 1024.0 * 1024.0;

pub struct Subject {
    pub name: String,
    program: String,
    /// With places to fill in.
    arguments: Vec<String>,
}

impl Subject {
    /// This program, and the one that `PEER` names.
    pub fn all() -> Vec<Self> {
        let ours = Self::new("ours", &format!("{} {OURS}", env!("CARGO_BIN_EXE_pod-svid-helper")));
        let peer = std::env::var("PEER").ok().filter(|peer| !peer.is_empty()).map(|peer| {
            let (name, command) = peer.split_once('=').expect("PEER is NAME=COMMAND");
            Self::new(name, command)
        });
        [ours].into_iter().chain(peer).collect()
    }

    fn new(name: &str, command: &str) -> Self {
        let mut words = command.split_whitespace().map(str::to_owned);
        let program = words.next().expect("a command");
        Self { name: name.to_owned(), program, arguments: words.collect() }
    }

    /// MiB.
    pub fn size(&self) -> f64 {
        std::fs::metadata(&self.program).map_or(f64::NAN, |file| file.len() as f64 / MIB)
    }

    /// Whether it can be told to end by itself.
    pub fn has_modes(&self) -> bool {
        self.arguments.iter().any(|word| word.contains("{mode}"))
    }

    /// Whether it takes the options of this program.
    pub fn has_options(&self) -> bool {
        self.arguments.iter().any(|word| word == OPTIONS)
    }

    fn command(&self, pod: &Pod, mode: &str, options: &[&str]) -> Command {
        let fill_in = |word: &String| {
            word.replace("{mode}", mode)
                .replace("{socket}", &pod.socket().display().to_string())
                .replace("{directory}", &pod.volume().display().to_string())
        };
        // check asks no agent.
        let words = self.arguments.iter().filter(|word| mode != "check" || !word.contains("{socket}"));
        let words = words.filter(|word| *word != OPTIONS);
        let mut command = Command::new(&self.program);
        command.env_clear().args(words.map(fill_in)).stdout(Stdio::null()).stderr(Stdio::null());
        if self.has_options() {
            command.args(options);
        }
        command
    }

    /// Start to exit, ms.
    pub fn time(&self, pod: &Pod, mode: &str, options: &[&str]) -> f64 {
        let mut command = self.command(pod, mode, options);
        let start = Instant::now();
        assert!(command.status().expect("it runs").success(), "{} --mode={mode} failed", self.name);
        milliseconds(start)
    }

    pub fn refresh(&self, pod: &Pod, options: &[&str]) -> Running {
        Running(self.command(pod, "refresh", options).spawn().expect("it starts"))
    }

    /// The same, with its log in a file.
    pub fn refresh_with_log(&self, pod: &Pod, options: &[&str], log: std::fs::File) -> Running {
        Running(self.command(pod, "refresh", options).stderr(log).spawn().expect("it starts"))
    }
}

/// Killed when dropped.
pub struct Running(Child);

impl Running {
    /// SIGTERM to exit, ms.
    pub fn stop(mut self) -> f64 {
        let start = Instant::now();
        kill(Pid::from_raw(self.0.id().try_into().expect("a PID")), Signal::SIGTERM).expect("it runs");
        assert!(self.0.wait().expect("a child").success());
        milliseconds(start)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Of all threads; memory in MiB.
pub struct Figures {
    pub resident: f64,
    pub peak: f64,
    pub proportional: f64,
    pub anonymous: f64,
    pub threads: f64,
    /// Context switches, voluntary or not.
    pub switches: f64,
    /// ms.
    pub cpu: f64,
}

impl Figures {
    pub fn of(running: &Running) -> Self {
        let process = format!("/proc/{}", running.0.id());
        let status = |name: &str| figure(&Path::new(&process).join("status"), name);
        let memory = |name: &str| figure(&Path::new(&process).join("smaps_rollup"), name);
        let tasks = std::fs::read_dir(format!("{process}/task")).expect("it runs");
        let (mut switches, mut cpu) = (0.0, 0.0);
        for task in tasks.map(|task| task.expect("a thread").path()) {
            switches += figure(&task.join("status"), "voluntary_ctxt_switches:");
            switches += figure(&task.join("status"), "nonvoluntary_ctxt_switches:");
            let schedstat = std::fs::read_to_string(task.join("schedstat")).expect("it runs");
            let nanoseconds = schedstat.split(' ').next().and_then(|text| text.parse::<f64>().ok());
            cpu += nanoseconds.expect("nanoseconds") / 1e6;
        }
        Self {
            resident: status("VmRSS:") / 1024.0,
            peak: status("VmHWM:") / 1024.0,
            proportional: memory("Pss:") / 1024.0,
            anonymous: memory("Anonymous:") / 1024.0,
            threads: status("Threads:"),
            switches,
            cpu,
        }
    }
}

fn figure(file: &Path, name: &str) -> f64 {
    let text = std::fs::read_to_string(file).expect("it runs");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a known figure");
    line.split_whitespace().nth(1).and_then(|figure| figure.parse().ok()).expect("a number")
}
