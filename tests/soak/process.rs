//! The program, and its log in a file: it may be long, and stays there to be looked at.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pod::{Helper, wait_until};

/// How many bytes of the log a failure shows.
const SHOWN: u64 = 4000;

/// A running helper; killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Lines before this place have been passed.
    passed: u64,
}

impl Process {
    pub fn start(helper: Helper, log: &Path) -> Self {
        let child = helper.start_with_stderr(File::create(log).expect("a log"));
        Self { child, log: log.to_owned(), passed: 0 }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a PID"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a running helper");
    }

    /// Passes all lines that are there.
    pub fn pass_log(&mut self) {
        self.passed = self.length();
    }

    /// Waits for a text in lines that have not been passed.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the log says {text:?}"), || self.log_from(self.passed).contains(text));
    }

    /// Waits until its main thread waits for events.
    pub fn wait_until_it_waits(&self) {
        // The number of epoll_wait; the clock, too, is for x86-64 alone.
        let waits = || {
            let call = std::fs::read_to_string(format!("/proc/{}/syscall", self.pid()));
            call.is_ok_and(|call| call.starts_with("232 "))
        };
        wait_until("the helper waits for events", waits);
    }

    /// Tells it to stop, and asserts that it does so with success.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.child.wait().expect("a child").code(), Some(0));
    }

    /// What each thread does: its name, its state, the system call with its arguments.
    fn threads(&self) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let lines = tasks.map(|task| {
            let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let state =
                read("status").lines().find(|line| line.starts_with("State:")).unwrap_or("").to_owned();
            format!("{} {state} {}", read("comm").trim(), read("syscall").trim())
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What waits in each socket, where `ss` is there: bytes that it has not read.
    fn sockets(&self) -> String {
        let own = format!("pid={},", self.pid());
        let listed = std::process::Command::new("ss").args(["-xnp", "state", "connected"]).output();
        let listed = listed.map(|ss| String::from_utf8_lossy(&ss.stdout).into_owned()).unwrap_or_default();
        listed.lines().filter(|line| line.contains(&own)).collect::<Vec<_>>().join("\n")
    }

    fn length(&self) -> u64 {
        self.log.metadata().expect("a log").len()
    }

    fn log_from(&self, place: u64) -> String {
        let (mut file, mut text) = (File::open(&self.log).expect("a log"), Vec::new());
        file.seek(SeekFrom::Start(place)).expect("a file");
        file.read_to_end(&mut text).expect("a file");
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("its threads:\n{}\nits sockets:\n{}", self.threads(), self.sockets());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the end of the log:\n{}", self.log_from(self.length().saturating_sub(SHOWN)));
        }
    }
}
