//! The processes of a simulation: the one of the PID file, the hook's runs, the application.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::trouble::{HOUR, MINUTE, SECOND, below, between};
use crate::process::child::ExitStatus;
use crate::process::environment::Variables;
use crate::process::facts::Reaction;
use crate::process::signal::SignalNumber;
use crate::process::simulated::Processes;

/// The names of the two programs that are started.
pub(super) const HOOK: &str = "hook";
pub(super) const APPLICATION: &str = "application";
/// No process has such a number: the kernel's end before.
const FIRST_PID: i32 = 10_000_000;

/// A process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) pid: Pid,
    /// What it does with the renewal signal; `None`: it is not there.
    pub(super) reaction: Option<Reaction>,
    pub(super) began: Instant,
    /// When it ends, and how.
    pub(super) end: Option<(Instant, ExitStatus)>,
    /// Whether it was sent SIGTERM.
    pub(super) is_told_to_end: bool,
    /// Whether that was for a new start.
    is_restarted: bool,
}

/// What has happened to a run of the hook.
#[derive(Debug, Clone)]
pub(super) enum HookEvent {
    Began { changed: String, not_after: Option<OsString> },
    CouldNotBegin,
    Ended { is_success: bool },
}

pub(super) struct State {
    pub(super) now: Instant,
    pids: i32,
    /// The process of the PID file, and how many signals it has had.
    pub(super) target: Process,
    pub(super) signals: u64,
    pub(super) hook: Option<Process>,
    pub(super) hook_events: Vec<HookEvent>,
    /// Until then, each run of the hook fails.
    fails_until: Instant,
    pub(super) application: Option<Process>,
    /// How many times an application was started, and a start failed.
    pub(super) starts: u64,
    pub(super) start_failed_at: Option<Instant>,
    /// Rotations told to the application, by the signal and by SIGTERM.
    pub(super) renewals: u64,
    pub(super) restarts: u64,
    /// Whether a signal that the helper gets is passed on now, and what the application has got of it.
    pub(super) is_passing_on: bool,
    pub(super) passed_on: Option<SignalNumber>,
    ended: VecDeque<(Pid, ExitStatus)>,
    /// The application has ended for good: the loop's exit code.
    pub(super) exit_code: Option<u8>,
    /// The promise that is broken.
    pub(super) broken: Option<String>,
}

/// The kernel; the helper's calls reach it through [`Processes`].
pub(super) struct Children(pub(super) RefCell<State>);

impl Children {
    pub(super) fn new(now: Instant) -> Self {
        Self(RefCell::new(State {
            now,
            pids: FIRST_PID,
            target: Process::new(Pid::from_raw(FIRST_PID), None, now),
            signals: 0,
            hook: None,
            hook_events: Vec::new(),
            fails_until: now,
            application: None,
            starts: 0,
            start_failed_at: None,
            renewals: 0,
            restarts: 0,
            is_passing_on: false,
            passed_on: None,
            ended: VecDeque::new(),
            exit_code: None,
            broken: None,
        }))
    }
}

impl Process {
    fn new(pid: Pid, reaction: Option<Reaction>, began: Instant) -> Self {
        Self { pid, reaction, began, end: None, is_told_to_end: false, is_restarted: false }
    }
}

impl State {
    pub(super) fn next_pid(&mut self) -> Pid {
        self.pids += 1;
        Pid::from_raw(self.pids)
    }

    /// When a child ends next.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let children = [&self.hook, &self.application].into_iter().flatten();
        children.filter_map(|child| child.end).map(|(at, _)| at).min()
    }

    /// Ends the children whose time has come; returns whether there are any.
    pub(super) fn end_due(&mut self) -> bool {
        let now = self.now;
        let is_over = |child: &mut Process| child.end.is_some_and(|(at, _)| at <= now);
        if let Some(Process { pid, end: Some((_, status)), .. }) = self.hook.take_if(is_over) {
            self.hook_events.push(HookEvent::Ended { is_success: status == ExitStatus::Code(0) });
            self.ended.push_back((pid, status));
        }
        let application = self.application.take_if(is_over);
        if let Some(Process { pid, end: Some((_, status)), is_restarted, .. }) = application {
            self.exit_code = (!is_restarted).then_some(status.exit_code());
            self.ended.push_back((pid, status));
        }
        !self.ended.is_empty()
    }

    /// The helper has died, and its children with it.
    pub(super) fn end_all(&mut self) {
        (self.hook, self.application, self.exit_code) = (None, None, None);
        self.start_failed_at = None;
        self.ended.clear();
        self.hook_events.clear();
    }

    fn breaks(&mut self, promise: &str) {
        self.broken.get_or_insert(promise.to_owned());
    }

    fn start_hook(&mut self, variables: &Variables) -> nix::Result<Pid> {
        if self.hook.is_some() {
            self.breaks("the hook is started while it runs");
        }
        if below(40) == 0 {
            self.hook_events.push(HookEvent::CouldNotBegin);
            return Err(Errno::EAGAIN);
        }
        let value = |wanted: &str| variables.iter().find(|(name, _)| *name == wanted)?.1.clone();
        let changed = value("SVID_CHANGED").unwrap_or_default().into_string().unwrap();
        self.hook_events.push(HookEvent::Began { changed, not_after: value("SVID_NOT_AFTER") });
        if below(15) == 0 {
            self.fails_until = self.now + between(MINUTE, 2 * HOUR);
        }
        let (most, status) = match below(20) {
            _ if self.now < self.fails_until => (MINUTE, ExitStatus::Code(1)),
            0 => (10 * MINUTE, ExitStatus::Code(0)),
            1 => (MINUTE, ExitStatus::Code(2)),
            // It never ends by itself.
            2 => (6 * HOUR, ExitStatus::Signal(9)),
            _ => (SECOND, ExitStatus::Code(0)),
        };
        let pid = self.next_pid();
        let mut hook = Process::new(pid, Some(Reaction::Ends), self.now);
        hook.end = Some((self.now + between(SECOND / 100, most), status));
        self.hook = Some(hook);
        Ok(pid)
    }

    fn start_application(&mut self) -> nix::Result<Pid> {
        if self.application.is_some() {
            self.breaks("the application is started while it runs");
        }
        if below(20) == 0 {
            self.start_failed_at = Some(self.now);
            return Err(Errno::EAGAIN);
        }
        self.starts += 1;
        self.start_failed_at = None;
        let pid = self.next_pid();
        self.application = Some(Process::new(pid, Some(Reaction::Ends), self.now));
        Ok(pid)
    }

    /// The end of a child that was asked to end, sooner or later.
    fn ask_to_end(now: Instant, child: &mut Process, status: ExitStatus) {
        child.is_told_to_end = true;
        let most = if below(10) == 0 { 10 * MINUTE } else { 5 * SECOND };
        let at = now + between(SECOND / 100, most);
        let is_sooner = child.end.is_none_or(|(end, _)| at < end);
        if is_sooner {
            child.end = Some((at, status));
        }
    }

    fn send_to_application(&mut self, signal: SignalNumber) {
        let (now, is_passing_on) = (self.now, self.is_passing_on);
        let Some(application) = &mut self.application else { return };
        // None is stopped.
        if signal == Signal::SIGCONT.into() {
            return;
        }
        let is_ready = application.reaction != Some(Reaction::Ends);
        match signal.standard() {
            Some(Signal::SIGTERM) if !is_passing_on => application.is_restarted = true,
            _ if signal.asks_to_end() => application.is_restarted = false,
            _ => {}
        }
        let code = if below(2) == 0 { ExitStatus::Code(0) } else { ExitStatus::Signal(signal.number()) };
        match signal.standard() {
            Some(Signal::SIGTERM) if !is_ready => {
                application.is_told_to_end = true;
                application.end = Some((now, ExitStatus::Signal(signal.number())));
            }
            Some(Signal::SIGTERM) => Self::ask_to_end(now, application, code),
            // Or it prints its threads, and runs on.
            Some(Signal::SIGINT) if below(2) == 0 => Self::ask_to_end(now, application, code),
            Some(Signal::SIGHUP) if !is_ready => self.breaks("the renewal signal ends the application"),
            _ => {}
        }
        match signal.standard() {
            _ if is_passing_on => self.passed_on = Some(signal),
            Some(Signal::SIGTERM) => self.restarts += 1,
            Some(Signal::SIGHUP) => self.renewals += 1,
            _ => self.breaks("the application gets a signal that nobody has sent"),
        }
    }
}

impl Processes for Children {
    fn spawn(&self, program: &str, variables: &Variables) -> nix::Result<Pid> {
        let mut state = self.0.borrow_mut();
        match program {
            HOOK => state.start_hook(variables),
            APPLICATION => state.start_application(),
            other => panic!("{other} is started"),
        }
    }

    fn reap(&self) -> Option<(Pid, i32)> {
        let (pid, status) = self.0.borrow_mut().ended.pop_front()?;
        Some(match status {
            ExitStatus::Code(code) => (pid, i32::from(code) << 8),
            ExitStatus::Signal(number) => (pid, number),
        })
    }

    fn send(&self, pid: Pid, signal: i32) -> nix::Result<()> {
        let mut state = self.0.borrow_mut();
        let (now, signal) = (state.now, SignalNumber::new(signal).unwrap());
        let is = |process: &Option<Process>| process.as_ref().is_some_and(|process| process.pid == pid);
        if is(&state.application) {
            state.send_to_application(signal);
        } else if is(&state.hook) {
            if let Some(hook) = state.hook.as_mut().filter(|_| signal == Signal::SIGTERM.into()) {
                State::ask_to_end(now, hook, ExitStatus::Signal(signal.number()));
            }
        } else if state.target.pid == pid && state.target.reaction.is_some() {
            state.signals += 1;
            if state.target.reaction == Some(Reaction::Ends) {
                state.breaks("the renewal signal ends the process of the PID file");
            }
        } else {
            return Err(Errno::ESRCH);
        }
        Ok(())
    }

    /// SIGHUP is the first bit.
    fn status(&self, pid: Pid) -> String {
        let state = self.0.borrow();
        let known = [state.application.as_ref(), Some(&state.target)];
        let known = known.into_iter().flatten().find(|process| process.pid == pid);
        match known.and_then(|process| process.reaction) {
            Some(Reaction::Ends) => "SigCgt:\t0\n",
            Some(Reaction::Blocks) => "SigBlk:\t1\n",
            _ => "SigCgt:\t1\n",
        }
        .to_owned()
    }
}
