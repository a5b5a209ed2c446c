//! Facts about a process, from `/proc`.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::Pid;

use super::signal::SignalNumber;

/// The kernel keeps no more of a process's name.
const LONGEST_NAME: usize = 15;

/// The unit of start times in `/proc`, in ticks a second: part of the kernel's interface.
const USER_HZ: u64 = 100;

/// CAP_FOWNER of capabilities(7): a bit of CapEff in `/proc/PID/status`.
const FOWNER: u64 = 1 << 3;

/// A live process, by its `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// What the kernel calls it: the beginning of its program's file name.
    pub(crate) name: String,
    /// When it began, in ticks since the system started.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// `None` for a process that is gone, or a zombie.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&stat))
    }

    pub(crate) fn parse(stat: &str) -> Option<Self> {
        // `12 (name) S 1 ...`: a name may have spaces and parentheses of its own.
        let (before, after) = stat.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let is_alive = !matches!(fields.first()?, &"Z" | &"X");
        // starttime is the 22nd field; the 3rd is the first here.
        let start_ticks = fields.get(19)?.parse().ok()?;
        is_alive.then(|| Self { name: name.to_owned(), start_ticks })
    }

    /// When it began, by today's wall clock, up to a second early. `None` if the kernel does not say
    /// when the system started.
    pub(crate) fn started(&self) -> Option<SystemTime> {
        self.started_by(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The same, by this text of `/proc/stat`.
    pub(crate) fn started_by(&self, stat: &str) -> Option<SystemTime> {
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let since_boot = Duration::from_millis(self.start_ticks.checked_mul(1000 / USER_HZ)?);
        UNIX_EPOCH.checked_add(Duration::from_secs(boot))?.checked_add(since_boot)
    }
}

/// Every process that can be seen.
pub(crate) fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
}

/// Whether a process is called `name`, which the kernel calls `found`.
///
/// The kernel keeps only the beginning of a longer name, which other names may share. The command line
/// goes on where the kernel's name ends, unless it is an interpreter's.
pub(crate) fn has_name(pid: Pid, found: &str, name: &str) -> bool {
    let is_cut = found.len() >= LONGEST_NAME;
    match program_of(pid) {
        Some(program) if program == name => true,
        Some(program) if is_cut && program.starts_with(found) && !program.starts_with(name) => false,
        _ => found == name || is_cut && name.starts_with(found),
    }
}

/// The file name of its program.
fn program_of(pid: Pid) -> Option<String> {
    program(&std::fs::read(format!("/proc/{pid}/cmdline")).ok()?)
}

/// The file name of a program, by its command line.
pub(crate) fn program(command_line: &[u8]) -> Option<String> {
    let program = String::from_utf8(command_line.split(|byte| *byte == 0).next()?.to_vec()).ok()?;
    Path::new(&program).file_name().and_then(OsStr::to_str).map(str::to_owned)
}

/// Whether the signal would end the process, as far as `/proc` shows: its action is the default one,
/// and nothing waits for it.
pub(crate) fn would_end(pid: Pid, signal: SignalNumber) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let is_expected = status.map_or(true, |status| is_expected(&status, signal));
    signal.ends_by_default() && !is_expected && !waits_for_signals(pid)
}

/// Whether a signal is caught, ignored, or blocked to be read from a descriptor.
pub(crate) fn is_expected(status: &str, signal: SignalNumber) -> bool {
    let masks = ["SigCgt:", "SigIgn:", "SigBlk:"].map(|name| mask(status, name).unwrap_or_default());
    masks.into_iter().any(|mask| mask & signal.bit() != 0)
}

/// Whether a process may treat other users' files as its own (`CAP_FOWNER`); `None` if the kernel does not say.
pub(crate) fn has_fowner(status: &str) -> Option<bool> {
    mask(status, "CapEff:").map(|capabilities| capabilities & FOWNER != 0)
}

/// A mask in the text of `/proc/PID/status`.
fn mask(status: &str, name: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

/// Whether it is in `sigwait`, which unblocks for its time the signals that it waits for.
fn waits_for_signals(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place.contains("sigtimedwait"))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn a_name_may_have_parentheses_and_spaces() {
        let rest = "S 1 ".to_owned() + &"0 ".repeat(17) + "4711 0";
        let stat = Stat::parse(&format!("12 (a) b (c) {rest}")).unwrap();
        assert_eq!(stat, Stat { name: "a) b (c".to_owned(), start_ticks: 4711 });
        assert_eq!(Stat::parse(&format!("12 (a) {}", rest.replace('S', "Z"))), None);
    }

    #[test]
    fn this_process_started_in_the_past() {
        let started = Stat::of(Pid::this()).unwrap().started().unwrap();
        assert!(started <= SystemTime::now() && started > UNIX_EPOCH);
    }

    #[test]
    fn a_signal_is_expected_if_it_is_caught_ignored_or_blocked() {
        for name in ["SigCgt", "SigIgn", "SigBlk"] {
            let status = format!("{name}:\t0000000000000001\n");
            assert!(is_expected(&status, Signal::SIGHUP.into()), "{name}");
            assert!(!is_expected(&status, Signal::SIGUSR1.into()), "{name}");
        }
    }
}
