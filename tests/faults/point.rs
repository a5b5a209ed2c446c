//! One point: one system call, and what becomes of it.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;

use super::calls::Call;
use super::check::State;
use super::scenario::{Place, Scene};

/// How often a call is aimed at. In each run gRPC makes a few calls more or less, of those that have nothing to
/// do with the volume, and a busy machine adds to them.
const TRIES: usize = 24;

/// How long the program tries while an error lasts.
const LASTS: &str = "2s";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Killed before the call does anything.
    Kill,
    /// The call does nothing, and fails with this error.
    Error(&'static str),
    /// It fails, and so does every later call of its name.
    Lasting(&'static str),
    /// The call writes nothing, and says so.
    NothingWritten,
}

/// The calls that change something, beside openat(2) with O_CREAT. (Without write(2), the log could not
/// tell of it.)
pub const CHANGES: [&str; 9] =
    ["mkdir", "mkdirat", "fchmod", "fchown", "fsync", "linkat", "symlinkat", "renameat", "unlinkat"];

pub fn is_change(call: &Call) -> bool {
    CHANGES.contains(&call.name.as_str()) || call.line.contains("O_CREAT")
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::Error("ENOSPC"),
        Self::Error("EIO"),
        Self::Error("EROFS"),
        Self::Error("EACCES"),
        Self::Error("EMFILE"),
        Self::Error("EINTR"),
        Self::Error("EDQUOT"),
        Self::Error("ENOMEM"),
        Self::Lasting("ENOSPC"),
        Self::Lasting("EROFS"),
        Self::NothingWritten,
    ];

    /// Whether it can happen to this call.
    fn fits(self, call: &Call) -> bool {
        match self {
            Self::Kill => true,
            // Linux closes even then; strace would leave it open, and what is locked locked.
            // fchmod(2) with EACCES is a file system without modes, which is accepted.
            Self::Error(error) => call.name != "close" && (call.name.as_str(), error) != ("fchmod", "EACCES"),
            Self::Lasting(_) => is_change(call),
            Self::NothingWritten => call.name == "write",
        }
    }
}

pub struct Point<'a> {
    pub scene: &'a Scene<'a>,
    pub call: &'a Call,
    pub fault: Fault,
}

/// What a point has led to; the next run has put everything right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub state: State,
    /// Whether the program went on, and ended with success.
    pub has_succeeded: bool,
}

impl<'a> Point<'a> {
    /// All points of a scene.
    pub fn all(scene: &'a Scene<'a>) -> impl Iterator<Item = Self> {
        scene.calls.iter().flat_map(move |call| {
            let faults = Fault::ALL.into_iter().filter(|fault| fault.fits(call));
            faults.map(move |fault| Self { scene, call, fault })
        })
    }

    /// Runs the publication with the fault, and then once more without.
    ///
    /// # Errors
    ///
    /// What is wrong, with the log.
    pub fn attempt(&self) -> Result<Outcome, String> {
        let mut number = self.call.number;
        for _ in 0..TRIES {
            let place = self.scene.place();
            let run = self.run(&place, number);
            let calls = place.calls();
            if self.is_hit(&calls) {
                return run.and_then(|outcome| self.scene.next_run(&place).map(|()| outcome));
            }
            // Where it was in this run, it is likely to be in the next; if it was not reached, it comes later.
            let found = calls.iter().find(|call| call.is_like(self.call));
            number = found.map_or(number + 1, |call| call.number);
        }
        Err("other calls had its number, time after time".to_owned())
    }

    fn run(&self, place: &Place, number: usize) -> Result<Outcome, String> {
        let (stderr, writer) = std::io::pipe().map_err(|error| error.to_string())?;
        let helper = self.scene.run(place, Some(&self.injection(number)));
        let helper = match self.fault {
            Fault::Lasting(_) => helper.variable("HELPER_INIT_TIMEOUT", LASTS),
            _ => helper,
        };
        let mut child = helper.start_with_stderr(writer);
        let mut log = String::new();
        let mut seen_at_error = Ok(State::Old);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Between the failure and the next attempt, the volume is what readers have.
            if line.contains(" ERROR ") && seen_at_error.is_ok() {
                seen_at_error = self.scene.look(&place.volume());
            }
            log.push_str(&line);
            log.push('\n');
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        let wrong = |what: &str| format!("{what} ({status})\n{log}");
        seen_at_error.map_err(|what| wrong(&format!("when the error was logged: {what}")))?;
        let state = self.scene.look(&place.volume()).map_err(|what| wrong(&what))?;
        match (self.fault, status.code()) {
            (Fault::Kill, None) if status.signal() == Some(9) => {}
            (Fault::Kill, _) => return Err(wrong("it is not killed")),
            (_, Some(0)) if state == State::New => {}
            (_, Some(1)) if log.contains(" ERROR ") => {}
            _ => return Err(wrong(&format!("the end is not as it should be, with the set {state:?}"))),
        }
        Ok(Outcome { state, has_succeeded: status.success() })
    }

    /// As strace(1) has it.
    fn injection(&self, number: usize) -> String {
        let name = &self.call.name;
        match self.fault {
            Fault::Kill => format!("{name}:signal=KILL:when={number}"),
            Fault::Error(error) => format!("{name}:error={error}:when={number}"),
            Fault::Lasting(error) => format!("{name}:error={error}:when={number}+"),
            Fault::NothingWritten => format!("{name}:retval=0:when={number}"),
        }
    }

    /// Whether the fault has met its call.
    fn is_hit(&self, calls: &[Call]) -> bool {
        let call = match self.fault {
            // It has no result.
            Fault::Kill => calls.last().filter(|call| call.line.ends_with("= ?")),
            _ => calls.iter().find(|call| call.was_injected()),
        };
        call.is_some_and(|call| call.is_like(self.call))
    }
}

impl fmt::Display for Point<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: strace -e inject={}: {}",
            self.scene.scenario.title(),
            self.injection(self.call.number),
            self.call.line
        )
    }
}
