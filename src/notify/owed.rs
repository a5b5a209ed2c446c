//! A signal after a publication is owed until a process has it: a process may start late, write its PID file
//! late, or catch signals late. A restart is owed in the same way.

use std::time::{Duration, Instant};

use log::Level;
use nix::unistd::Pid;

use super::target::{Look, Target, TargetError};
use crate::logging::{Repetition, retrying_in};
use crate::process::facts::ticks_since_boot;
use crate::process::signal::SignalNumber;
use crate::time::backoff::Backoff;
use crate::time::timing::{
    BLOCKED_LOOK, BLOCKED_LOOKS, DEBOUNCE, MOST_BLOCKED_LOOKS, SIGNAL_AGAIN, SIGNAL_QUIET,
};
use crate::words::{Flaw, flaw};

/// How often something has succeeded and failed since the start, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outcomes {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

impl Outcomes {
    /// Counts one more.
    pub(crate) fn count(&mut self, is_success: bool) {
        let count = if is_success { &mut self.succeeded } else { &mut self.failed };
        *count += 1;
    }
}

/// A signal, or a restart, that is still to be told.
#[derive(Debug)]
pub(crate) struct Owed {
    /// When the newest files were published, in ticks since the system started.
    published: u64,
    /// Since when it is owed.
    since: Instant,
    /// When the process is looked at next.
    at: Instant,
    backoff: Backoff,
    /// Before, a process has had what it was owed.
    was_told: bool,
    /// The process that has blocked the signal in so many looks in a row.
    blocked: Option<(Pid, u32)>,
    /// The number of such looks that shows that it waits for the signal.
    needed: u32,
    cause: Option<TargetError>,
    trouble: Repetition,
    /// The newest publication counts as failed.
    has_failed: bool,
}

impl Owed {
    /// Owed from a moment on, for a publication. `was_told`: a process has had an earlier signal.
    pub(crate) fn new(was_told: bool, from: Instant) -> Self {
        Self {
            published: ticks_since_boot(),
            since: from,
            at: from + DEBOUNCE,
            backoff: SIGNAL_AGAIN,
            was_told,
            blocked: None,
            needed: BLOCKED_LOOKS,
            cause: None,
            trouble: Repetition::default(),
            has_failed: false,
        }
    }

    /// There is a newer publication, to be told from a moment on: one signal covers both.
    pub(crate) fn renewed(&mut self, from: Instant) {
        self.published = ticks_since_boot();
        // Never later: in a flood of publications, there would be no look.
        self.at = self.at.min(from + DEBOUNCE);
        self.backoff.reset();
        self.has_failed = false;
    }

    /// When it is due.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Looks for the process, and sends the signal if the process can take it.
    pub(crate) fn look(&self, target: &mut Target, signal: SignalNumber) -> Result<Look, TargetError> {
        let waits = self.blocked.filter(|(_, looks)| *looks >= self.needed).map(|(pid, _)| pid);
        target.signal(signal, self.published, waits)
    }

    /// Takes what the look at `now` has shown. Says whether nothing is owed any more.
    pub(crate) fn take(
        &mut self,
        look: Result<Look, TargetError>,
        outcomes: &mut Outcomes,
        now: Instant,
    ) -> bool {
        match look {
            Ok(Look::Told) => {
                outcomes.count(true);
                return true;
            }
            Ok(Look::Blocked(pid)) => {
                let looks = self.blocked.filter(|(known, _)| *known == pid).map_or(0, |(_, looks)| looks);
                self.blocked = Some((pid, looks + 1));
                self.at = now + BLOCKED_LOOK;
            }
            Err(error) => {
                // The process blocks it for moments alone: the next run of looks has to be longer.
                if self.blocked.take().is_some() {
                    self.needed = (self.needed * 2).min(MOST_BLOCKED_LOOKS);
                }
                let delay = self.backoff.advance();
                self.at = now + delay;
                self.report(&error, delay, outcomes, now);
                self.cause = Some(error);
            }
        }
        false
    }

    /// Logs a failure, and counts the first one of a publication that is not to be expected.
    fn report(&mut self, error: &TargetError, delay: Duration, outcomes: &mut Outcomes, now: Instant) {
        let level = match error {
            TargetError::Absent(_) | TargetError::WouldEnd(_)
                if now.saturating_duration_since(self.since) < SIGNAL_QUIET =>
            {
                Level::Debug
            }
            TargetError::Absent(_) | TargetError::WouldEnd(_) => Level::Warn,
            TargetError::Failed(_) if matches!(self.cause, Some(TargetError::Failed(_))) => Level::Error,
            // It may be over at the next look: a PID file is half written, for example.
            TargetError::Failed(_) => Level::Debug,
        };
        let message = not_notified(error).to_string();
        self.trouble.log(level, &message, &retrying_in(delay), now);
        // Before the application's first start, there is none to tell.
        let is_failure = level < Level::Debug && (self.was_told || !matches!(error, TargetError::Absent(_)));
        if is_failure && !std::mem::replace(&mut self.has_failed, true) {
            outcomes.count(false);
        }
    }

    /// Why it is still owed.
    pub(crate) fn error(&self, target: &Target, signal: SignalNumber) -> Flaw {
        let unsent = || flaw!("{signal} was not sent to {target}");
        self.cause.as_ref().map_or_else(unsent, not_notified)
    }
}

/// The sentence for a process that was not signalled.
pub(super) fn not_notified(cause: &TargetError) -> Flaw {
    flaw!("could not notify the application: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: Pid = Pid::from_raw(12);

    fn owed(was_told: bool) -> (Owed, Instant, Outcomes) {
        let start = Instant::now();
        (Owed::new(was_told, start), start, Outcomes::default())
    }

    fn absent() -> Result<Look, TargetError> {
        Err(TargetError::Absent(flaw!("no process is called app")))
    }

    fn would_end() -> Result<Look, TargetError> {
        Err(TargetError::WouldEnd(flaw!("it would end")))
    }

    #[test]
    fn publications_at_nearly_the_same_time_are_one_signal() {
        let (mut owed, start, _) = owed(true);
        owed.renewed(start + DEBOUNCE / 2);
        assert_eq!(owed.at(), start + DEBOUNCE);
    }

    #[test]
    fn a_signal_is_owed_for_days_with_looks_from_100_ms_to_10_s_apart() {
        let (mut owed, start, mut outcomes) = owed(true);
        let mut delays = Vec::new();
        while owed.at() < start + Duration::from_secs(2 * 86_400) {
            let now = owed.at();
            assert!(!owed.take(absent(), &mut outcomes, now));
            delays.push(owed.at() - now);
        }
        let milliseconds: Vec<_> = delays.iter().take(8).map(Duration::as_millis).collect();
        assert_eq!(milliseconds, [100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
        assert_eq!(delays.iter().max(), Some(&Duration::from_secs(10)));
        let now = owed.at();
        assert!(owed.take(Ok(Look::Told), &mut outcomes, now));
        assert_eq!(outcomes, Outcomes { succeeded: 1, failed: 1 });
    }

    #[test]
    fn a_publication_shortens_a_long_backoff_and_a_flood_of_them_does_not_put_off_the_look() {
        let (mut owed, start, mut outcomes) = owed(true);
        for _ in 0..9 {
            let now = owed.at();
            owed.take(absent(), &mut outcomes, now);
        }
        let (now, before) = (owed.at() - Duration::from_secs(5), owed.at());
        assert!(now > start);
        owed.renewed(now);
        assert_eq!(owed.at(), now + DEBOUNCE);
        owed.renewed(now + DEBOUNCE / 2);
        assert_eq!(owed.at(), now + DEBOUNCE);
        assert!(owed.at() < before);
    }

    #[test]
    fn before_the_first_process_was_told_its_absence_is_no_failure() {
        for (was_told, failed) in [(false, 0), (true, 1)] {
            let (mut owed, start, mut outcomes) = owed(was_told);
            for seconds in 0..120 {
                owed.take(absent(), &mut outcomes, start + Duration::from_secs(seconds));
            }
            assert_eq!(outcomes, Outcomes { succeeded: 0, failed });
        }
    }

    #[test]
    fn a_process_without_a_handler_is_no_failure_for_three_seconds() {
        let (mut owed, start, mut outcomes) = owed(true);
        let failed_after = |seconds| {
            owed.take(would_end(), &mut outcomes, start + Duration::from_secs(seconds));
            outcomes.failed
        };
        assert_eq!([0, 2, 3, 60].map(failed_after), [0, 0, 1, 1]);
    }

    /// A daemon makes its PID file, and writes it in the next moment.
    #[test]
    fn an_error_that_is_over_at_the_next_look_is_no_failure_though_the_process_was_absent_before() {
        let (mut owed, start, mut outcomes) = owed(true);
        let mut failed_after = |look| {
            owed.take(look, &mut outcomes, start);
            outcomes.failed
        };
        let empty = || Err(flaw!("the PID file is empty").into());
        assert_eq!([absent(), empty(), absent(), empty(), empty()].map(&mut failed_after), [0, 0, 0, 0, 1]);
    }

    /// It waits in `sigwait`, or reads a `signalfd`, for example.
    #[test]
    fn a_process_that_blocks_the_signal_in_all_of_many_looks_waits_for_it() {
        let (mut owed, start, mut outcomes) = owed(true);
        for look in 0..BLOCKED_LOOKS {
            assert!(owed.blocked.is_none_or(|(_, looks)| looks < owed.needed));
            assert!(!owed.take(Ok(Look::Blocked(PID)), &mut outcomes, start + BLOCKED_LOOK * look));
            assert_eq!(owed.at(), start + BLOCKED_LOOK * (look + 1));
        }
        assert_eq!((owed.blocked, owed.needed), (Some((PID, BLOCKED_LOOKS)), BLOCKED_LOOKS));
    }

    /// It forks, or starts threads.
    #[test]
    fn a_process_that_does_not_block_the_signal_in_one_look_blocks_it_for_moments_alone() {
        let (mut owed, start, mut outcomes) = owed(true);
        for _ in 0..20 {
            for _ in 1..owed.needed {
                assert!(!owed.take(Ok(Look::Blocked(PID)), &mut outcomes, start));
            }
            assert!(!owed.take(would_end(), &mut outcomes, start));
            assert_eq!(owed.blocked, None);
        }
        assert_eq!(owed.needed, MOST_BLOCKED_LOOKS);
    }

    #[test]
    fn looks_at_another_process_count_anew() {
        let (mut owed, start, mut outcomes) = owed(true);
        let other = Pid::from_raw(13);
        for (pid, looks) in [(PID, 1), (PID, 2), (other, 1)] {
            owed.take(Ok(Look::Blocked(pid)), &mut outcomes, start);
            assert_eq!(owed.blocked, Some((pid, looks)));
        }
    }
}
