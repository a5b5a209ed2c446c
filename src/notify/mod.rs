//! Notifies other processes of new files: signals them, runs a hook. Of the files, it knows the kinds.
//!
//! The caller hands in the time, and the children that have ended. Publications within
//! [`DEBOUNCE`](crate::time::timing::DEBOUNCE) cause one notification, which is owed until it succeeds. Failures are
//! in the log, in [`Notifier::outcome`] and in the counts; none ends the program.

mod hook;
mod owed;
mod policy;
mod schedule;
mod signaller;
mod target;

use std::time::{Duration, Instant};

use nix::unistd::Pid;

pub(crate) use owed::{Outcomes, Owed};
pub(crate) use policy::Policy;
pub(crate) use target::{Look, ProcessName, Target, TargetError, is_older, parse_pid, renewal_signal};

use crate::material::ChangeKinds;
use crate::process::child::{ExitStatus, Program};
use crate::process::environment::Variables;
use crate::process::signal::SignalNumber;
use crate::words::{Flaw, flaw};
use hook::Hook;
use signaller::Signaller;

/// What to notify, and how.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) targets: Vec<Target>,
    pub(crate) signal: SignalNumber,
    pub(crate) hook: Option<Program>,
    /// Whether a hook that fails is run again, with a backoff, until it succeeds.
    pub(crate) retries: bool,
    pub(crate) policy: Policy,
}

/// What there is to tell of a publication.
#[derive(Debug, Clone)]
pub(crate) struct News {
    /// What it has changed: nothing, if the application knows the files already.
    pub(crate) changed: ChangeKinds,
    /// All that there are files of.
    pub(crate) there: ChangeKinds,
    /// When it is told at the latest: then an earlier SVID should have been renewed.
    pub(crate) at_latest: Option<Instant>,
    /// The variables that describe it to a hook, which gets the changes too: `SVID_CHANGED`.
    pub(crate) environment: Variables,
}

/// The processes to signal, the hook to run, and the state of each.
pub(crate) struct Notifier {
    signallers: Vec<Signaller>,
    signals: Outcomes,
    hook: Option<Hook>,
    policy: Policy,
    /// Whether any publication was one to notify of.
    has_begun: bool,
}

impl Notifier {
    /// Does nothing before the first publication.
    pub(crate) fn new(settings: &Settings) -> Self {
        let targets = settings.targets.iter().cloned();
        let signallers = targets.map(|target| Signaller::new(target, settings.signal)).collect();
        let hook = settings.hook.clone().map(|program| Hook::new(program, settings.retries));
        let policy = settings.policy.clone();
        Self { signallers, signals: Outcomes::default(), hook, policy, has_begun: false }
    }

    /// There was a publication, of new files or of files that stood already: if it concerns them, every target
    /// will be signalled, and the hook run.
    ///
    /// The first notification tells everything, at once. An earlier helper may have died before it told anybody of
    /// these files, and an application that starts waits for it.
    pub(crate) fn published(&mut self, news: News, now: Instant) {
        if self.signallers.is_empty() && self.hook.is_none() {
            return;
        }
        let changed = if self.has_begun { news.changed } else { news.there };
        let from = self.policy.concerns(&changed).then(|| match self.has_begun {
            true => self.policy.begin(news.at_latest, now),
            false => now,
        });
        if let Some(from) = from {
            self.has_begun = true;
            self.signallers.iter_mut().for_each(|signaller| signaller.published(from));
        }
        if let Some(hook) = &mut self.hook {
            hook.published(news.environment, changed, from);
        }
    }

    /// When there is something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let signallers = self.signallers.iter().filter_map(Signaller::next_deadline);
        signallers.chain(self.hook.as_ref().and_then(Hook::next_deadline)).min()
    }

    /// Does what is due.
    pub(crate) fn run_due(&mut self, now: Instant) {
        self.signallers.iter_mut().for_each(|signaller| signaller.run_due(now, &mut self.signals));
        if let Some(hook) = &mut self.hook {
            hook.run_due(now);
        }
    }

    /// Takes the end of a child; returns whether it was the hook.
    pub(crate) fn child_ended(&mut self, pid: Pid, status: ExitStatus, now: Instant) -> bool {
        self.hook.as_mut().is_some_and(|hook| hook.child_ended(pid, status, now))
    }

    /// Sends pending signals at once, and SIGTERM to a running hook. Nothing more is started; the caller
    /// waits until [`is_done`](Self::is_done).
    pub(crate) fn begin_stop(&mut self) {
        self.signallers.iter_mut().for_each(|signaller| signaller.flush(&mut self.signals));
        if let Some(hook) = &mut self.hook {
            hook.begin_stop();
        }
    }

    /// Whether nothing is due, and no hook runs.
    pub(crate) fn is_done(&self) -> bool {
        self.signallers.iter().all(|signaller| signaller.next_deadline().is_none())
            && self.hook.as_ref().is_none_or(Hook::is_done)
    }

    /// Fails with the first reason why the newest publication was not notified. The hook's comes first: those
    /// of signals are in the log already.
    pub(crate) fn outcome(&self) -> Result<(), Flaw> {
        let hook = self.hook.as_ref().map_or(Ok(()), Hook::outcome);
        hook.map_err(|flaw| flaw!("{flaw}; the next init runs it again"))?;
        self.signallers.iter().try_for_each(Signaller::outcome)
    }

    /// How many signals succeeded, or were not needed, and how many failed. One that is late counts as failed, and when it succeeds, as that
    /// too.
    pub(crate) fn signals(&self) -> Outcomes {
        self.signals
    }

    /// For how long the hook has been running; zero if none runs.
    pub(crate) fn hook_running_for(&self, now: Instant) -> Duration {
        self.hook.as_ref().map_or(Duration::ZERO, |hook| hook.running_for(now))
    }

    /// How many runs of the hook succeeded and failed. A run that was stopped does not count.
    pub(crate) fn hook_runs(&self) -> Outcomes {
        self.hook.as_ref().map_or(Outcomes::default(), |hook| hook.runs)
    }
}
