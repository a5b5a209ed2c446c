//! Facts about a process, from `/proc`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::signal::SignalNumber;

/// The kernel keeps no more of a process's name.
const LONGEST_NAME: usize = 15;

/// The unit of start times in `/proc`, in ticks a second: part of the kernel's interface.
const USER_HZ: u64 = 100;

/// PF_FORKNOEXEC of the kernel: a bit of the flags in `/proc/PID/stat`.
const FORKED: u64 = 0x40;

/// CAP_FOWNER of capabilities(7): a bit of CapEff in `/proc/PID/status`.
const FOWNER: u64 = 1 << 3;

/// The user whose files those of users outside a user namespace seem to be.
const UNMAPPED: u32 = 65534;

/// A live process, by its `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// What the kernel calls it: the beginning of its program's file name.
    pub(crate) name: String,
    pub(crate) parent: Pid,
    /// Its process group.
    pub(crate) group: Pid,
    /// When it began, in ticks since the system started.
    pub(crate) start_ticks: u64,
    /// It has forked, and runs on without an exec: what its parent had read, it has too.
    pub(crate) is_fork: bool,
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
        // From the 3rd field on: the state, the parent, the group; the 9th is the flags, the 22nd starttime.
        let pid = |index: usize| Some(Pid::from_raw(fields.get(index)?.parse().ok()?));
        let (parent, group) = (pid(1)?, pid(2)?);
        let is_fork = fields.get(6)?.parse::<u64>().ok()? & FORKED != 0;
        let start_ticks = fields.get(19)?.parse().ok()?;
        is_alive.then(|| Self { name: name.to_owned(), parent, group, start_ticks, is_fork })
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
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    match program(&command_line) {
        Some(program) if program == name => true,
        Some(program) if is_cut && program.starts_with(found) && !is_title(&program, name) => false,
        _ => found == name || is_cut && name.starts_with(found),
    }
}

/// Whether a command line's first word is this name, perhaps with more behind it, as in `name: worker`.
fn is_title(word: &str, name: &str) -> bool {
    let goes_on = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.');
    word.strip_prefix(name).is_some_and(|rest| !rest.starts_with(goes_on))
}

/// The file name of a program, by its command line.
pub(crate) fn program(command_line: &[u8]) -> Option<String> {
    let program = String::from_utf8(command_line.split(|byte| *byte == 0).next()?.to_vec()).ok()?;
    Path::new(&program).file_name().and_then(OsStr::to_str).map(str::to_owned)
}

/// What a process does with a signal, as far as `/proc` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// It catches or ignores it, or waits for it, or runs on by the default action.
    Handles,
    /// All its threads block it: to read it from a descriptor, or for the moment in which one forks or starts a thread.
    Blocks,
    /// It ends.
    Ends,
    /// It may end: `/proc` does not show it.
    Hidden,
    /// Nothing: it has ended.
    Gone,
}

impl Reaction {
    pub(crate) fn of(pid: Pid, signal: SignalNumber) -> Self {
        #[cfg(test)]
        if let Some(processes) = super::simulated::simulated() {
            return Self::parse(&processes.status(pid), signal);
        }
        let process = PathBuf::from(format!("/proc/{pid}"));
        let Ok(status) = std::fs::read_to_string(process.join("status")) else {
            // Mounted with `hidepid`, `/proc` has no processes of other users. A signal that cannot be sent says why.
            let is_hidden = signal.ends_by_default() && kill(pid, None).is_ok();
            return if is_hidden { Self::Hidden } else { Self::Handles };
        };
        match Self::parse(&status, signal) {
            Self::Ends if waits_for_signals(&process) => Self::Handles,
            // The first thread's mask is its own. Another thread gets a signal that the first one blocks.
            Self::Blocks => of_threads(&process, signal),
            reaction => reaction,
        }
    }

    /// By the text of `/proc/PID/status`.
    pub(crate) fn parse(status: &str, signal: SignalNumber) -> Self {
        let bit: u64 = 1 << (signal.number() - 1);
        let is_in = |name| mask(status, name).unwrap_or_default() & bit != 0;
        let is_zombie = field(status, "State:").is_some_and(|state| state.starts_with(['Z', 'X']));
        // Others may run on without the first thread.
        if is_zombie && field(status, "Threads:").is_none_or(|number| ["0", "1"].contains(&number)) {
            Self::Gone
        } else if !signal.ends_by_default() || is_in("SigCgt:") {
            Self::Handles
        } else if is_in("SigBlk:") {
            // HAProxy's master ignores it, too, while it starts itself again: what comes then is lost.
            Self::Blocks
        } else if is_in("SigIgn:") {
            Self::Handles
        } else {
            Self::Ends
        }
    }
}

/// The time since the system started, in the unit of [`Stat::start_ticks`]. Nobody can set this clock.
pub(crate) fn ticks_since_boot() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[allow(unsafe_code, reason = "nix has no clocks without another feature")]
    // SAFETY: `clock_gettime` writes the time into the structure that it is given, and nothing else.
    unsafe {
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time)
    };
    let (seconds, ticks) = (time.tv_sec as u64, time.tv_nsec as u64 / (1_000_000_000 / USER_HZ));
    seconds.saturating_mul(USER_HZ).saturating_add(ticks)
}

/// Whether a process may treat other users' files as its own (`CAP_FOWNER`); `None` if the kernel does not say.
pub(crate) fn has_fowner(status: &str) -> Option<bool> {
    mask(status, "CapEff:").map(|capabilities| capabilities & FOWNER != 0)
}

/// Whether the user namespace with this `/proc/PID/uid_map` has the user of a file.
pub(crate) fn maps_user(map: &str, uid: u32) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let &[first, _, count] = &numbers[..] else { return false };
        // Files of users that it does not have are shown as this one's.
        let is_certain = uid != UNMAPPED || count == u32::MAX;
        is_certain && uid.checked_sub(first).is_some_and(|offset| offset < count)
    })
}

/// A mask in the text of `/proc/PID/status`.
fn mask(status: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(field(status, name)?, 16).ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// What a process does of which some thread blocks a signal that it does not catch: one thread that neither blocks it
/// nor waits for it ends the process. One that has ended meanwhile does not count.
fn of_threads(process: &Path, signal: SignalNumber) -> Reaction {
    let Ok(threads) = std::fs::read_dir(process.join("task")) else { return Reaction::Hidden };
    let mut reaction = Reaction::Blocks;
    for thread in threads.flatten().map(|thread| thread.path()) {
        let read = |name| std::fs::read_to_string(thread.join(name));
        let Ok(status) = read("status") else { continue };
        match of_thread(&status, || read("wchan").unwrap_or_default(), signal) {
            Reaction::Ends => return Reaction::Ends,
            Reaction::Hidden => reaction = Reaction::Hidden,
            _ => {}
        }
    }
    reaction
}

/// What one thread does, by its status, and the place in the kernel where it sleeps.
fn of_thread(status: &str, place: impl FnOnce() -> String, signal: SignalNumber) -> Reaction {
    let reaction = Reaction::parse(status, signal);
    if reaction != Reaction::Ends {
        return reaction;
    }
    let sleeps = field(status, "State:").is_some_and(|state| state.starts_with('S'));
    match place().as_str() {
        place if is_sigwait(place) => Reaction::Blocks,
        // The place is not shown to every user.
        "0" if sleeps => Reaction::Hidden,
        _ => Reaction::Ends,
    }
}

/// Whether a process is in `sigwait`.
fn waits_for_signals(process: &Path) -> bool {
    std::fs::read_to_string(process.join("wchan")).is_ok_and(|place| is_sigwait(&place))
}

/// `sigwait` unblocks for its time the signals that it waits for.
fn is_sigwait(place: &str) -> bool {
    place.contains("sigtimedwait")
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{SigSet, Signal};
    use nix::unistd::gettid;

    use super::*;

    #[test]
    fn a_name_may_have_parentheses_and_spaces() {
        let rest = "S 1 ".to_owned() + &"0 ".repeat(17) + "4711 0";
        let stat = Stat::parse(&format!("12 (a) b (c) {rest}")).unwrap();
        let (parent, group) = (Pid::from_raw(1), Pid::from_raw(0));
        assert_eq!(
            stat,
            Stat { name: "a) b (c".to_owned(), parent, group, start_ticks: 4711, is_fork: false }
        );
        assert_eq!(Stat::parse(&format!("12 (a) {}", rest.replace('S', "Z"))), None);
    }

    #[test]
    fn a_command_line_may_have_more_behind_a_name_but_not_a_longer_name() {
        for (word, is_it) in
            [("payments-app-a: worker", true), ("payments-app-a", true), ("payments-app-ab", false)]
        {
            assert_eq!(is_title(word, "payments-app-a"), is_it, "{word}");
        }
        assert!(!is_title("payments", "payments-app-a"));
    }

    #[test]
    fn this_process_started_in_the_past() {
        let started = Stat::of(Pid::this()).unwrap().started().unwrap();
        assert!(started <= SystemTime::now() && started > UNIX_EPOCH);
    }

    #[test]
    fn a_process_of_now_started_at_the_time_of_now_in_ticks() {
        let before = ticks_since_boot();
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let started = Stat::of(Pid::from_raw(child.id() as i32)).unwrap().start_ticks;
        assert!(before <= started && started <= ticks_since_boot());
        child.kill().and_then(|()| child.wait()).unwrap();
    }

    #[test]
    fn a_signal_that_is_blocked_and_ignored_may_be_caught_soon() {
        let status = "SigBlk:\t0000000000000001\nSigIgn:\t0000000000000001\n";
        assert_eq!(Reaction::parse(status, Signal::SIGHUP.into()), Reaction::Blocks);
    }

    #[test]
    fn a_signal_is_handled_if_it_is_caught_or_ignored_and_may_be_waited_for_if_it_is_blocked() {
        for (name, reaction) in
            [("SigCgt", Reaction::Handles), ("SigIgn", Reaction::Handles), ("SigBlk", Reaction::Blocks)]
        {
            let status = format!("{name}:\t0000000000000001\n");
            assert_eq!(Reaction::parse(&status, Signal::SIGHUP.into()), reaction, "{name}");
            assert_eq!(Reaction::parse(&status, Signal::SIGUSR1.into()), Reaction::Ends, "{name}");
        }
    }

    /// The first thread of the tests blocks nothing.
    #[test]
    fn a_process_blocks_a_signal_if_all_its_threads_do() {
        let mask = SigSet::from_iter([Signal::SIGVTALRM]);
        let thread = std::thread::spawn(move || {
            mask.thread_block().unwrap();
            let thread = std::fs::read_to_string(format!("/proc/{}/status", gettid())).unwrap();
            let own = Reaction::parse(&thread, Signal::SIGVTALRM.into());
            // The kernel takes the number of any thread for its process.
            (own, Reaction::of(gettid(), Signal::SIGVTALRM.into()))
        });
        assert_eq!(thread.join().unwrap(), (Reaction::Blocks, Reaction::Ends));
    }

    /// As the one thread of a program that handles its signals.
    #[test]
    fn a_thread_that_waits_for_a_signal_counts_as_one_that_blocks_it() {
        let mask = SigSet::from_iter([Signal::SIGPROF]);
        let (say, hear) = std::sync::mpsc::channel();
        // It waits until the tests end.
        std::thread::spawn(move || {
            mask.thread_block().unwrap();
            say.send(gettid()).unwrap();
            mask.wait()
        });
        let task = PathBuf::from(format!("/proc/self/task/{}", hear.recv().unwrap()));
        while !waits_for_signals(&task) {
            std::thread::yield_now();
        }
        let read = |name| std::fs::read_to_string(task.join(name)).unwrap();
        let (status, signal) = (read("status"), Signal::SIGPROF.into());
        assert_eq!(Reaction::parse(&status, signal), Reaction::Ends);
        assert_eq!(of_thread(&status, || read("wchan"), signal), Reaction::Blocks);
    }

    #[test]
    fn a_thread_that_sleeps_at_a_place_that_is_not_shown_may_wait_for_the_signal_or_end() {
        for (state, place, reaction) in [
            ("S (sleeping)", "do_sigtimedwait.isra.0", Reaction::Blocks),
            ("S (sleeping)", "0", Reaction::Hidden),
            ("S (sleeping)", "futex_wait_queue", Reaction::Ends),
            ("R (running)", "0", Reaction::Ends),
        ] {
            let status = format!("State:\t{state}\nSigBlk:\t0\n");
            let found = of_thread(&status, || place.to_owned(), Signal::SIGHUP.into());
            assert_eq!(found, reaction, "{state}, {place}");
        }
    }

    #[test]
    fn a_zombie_handles_no_signal_unless_it_has_threads_that_run_on() {
        for (state, threads, reaction) in [
            ("Z (zombie)", 1, Reaction::Gone),
            ("X (dead)", 0, Reaction::Gone),
            ("Z (zombie)", 2, Reaction::Handles),
            ("S (sleeping)", 1, Reaction::Handles),
        ] {
            let status = format!("Name:\tapp\nState:\t{state}\nThreads:\t{threads}\nSigCgt:\t1\n");
            assert_eq!(Reaction::parse(&status, Signal::SIGHUP.into()), reaction, "{state}, {threads}");
        }
    }

    #[test]
    fn a_user_namespace_has_the_users_of_its_map() {
        let initial = "         0          0 4294967295\n";
        for uid in [0, 1000, UNMAPPED, u32::MAX - 1] {
            assert!(maps_user(initial, uid), "{uid}");
        }
        let pod = "         0     100000      65536\n     70000       1000          1\n";
        for (uid, is_there) in [(0, true), (65535, true), (65536, false), (70000, true), (70001, false)] {
            assert_eq!(maps_user(pod, uid), is_there, "{uid}");
        }
        assert!(!maps_user(pod, UNMAPPED), "it may be any other one");
        assert!(!maps_user("", 0));
    }
}
