//! What the program holds: memory, descriptors, threads, and entries of its volume.

use std::fmt;
use std::fs::{read_dir, read_to_string};
use std::path::Path;

use nix::unistd::Pid;

/// How much more memory the program may hold at the end than after the first steps, KiB: some pages of an
/// allocator. A leak of 100 bytes a rotation is twice as much after 10,000.
const MORE_MEMORY: u64 = 512;

/// How many more threads gRPC may have: its executor starts up to two for each core, and an event engine ends
/// while the next one begins.
pub fn more_threads() -> u64 {
    let cores = std::thread::available_parallelism().expect("cores").get();
    2 * cores as u64 + 2
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Anonymous memory, KiB.
    pub memory: u64,
    pub descriptors: u64,
    pub threads: u64,
    pub entries: u64,
}

impl Figures {
    pub fn of(process: Pid, volume: &Path) -> Self {
        let count = |path: &Path| read_dir(path).expect("a directory").count() as u64;
        let figure = |file: &str, name: &str| -> u64 {
            let text = read_to_string(format!("/proc/{process}/{file}")).expect("a running helper");
            let line = text.lines().find(|line| line.starts_with(name)).expect("a known figure");
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
        };
        Self {
            memory: figure("smaps_rollup", "Anonymous:"),
            descriptors: count(Path::new(&format!("/proc/{process}/fd"))),
            threads: figure("status", "Threads:"),
            entries: count(volume),
        }
    }

    /// The larger of each.
    pub fn max(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            entries: self.entries.max(other.entries),
        }
    }

    pub fn has_grown_since(self, earlier: Self) -> bool {
        self.memory > earlier.memory + MORE_MEMORY
            || self.descriptors > earlier.descriptors
            || self.threads > earlier.threads + more_threads()
            || self.entries > earlier.entries
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, descriptors, threads, entries } = self;
        write!(out, "{memory} KiB, {descriptors} descriptors, {threads} threads, {entries} entries")
    }
}
