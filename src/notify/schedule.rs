//! When the hook runs: after each publication, never two at once, again while it fails. Starts no
//! process and reads no clock.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::time::backoff::Backoff;
use crate::time::timing::{DEBOUNCE, HOOK_AGAIN};

/// The state of the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no publication to run it for.
    Idle,
    /// It is to be run.
    Due(Instant),
    /// It runs for the newest publication.
    Running(Pid),
    /// It runs, and a publication has come since its start, for which it is to be run from that moment on.
    Outdated(Pid, Instant),
    /// It runs, and was asked to end.
    Stopping(Pid),
    /// It is not run any more.
    Stopped,
}

/// What follows a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// Another run, for a later publication.
    AtOnce,
    /// Another run, since this one has failed.
    After(Duration),
}

#[derive(Debug)]
pub(super) struct Schedule {
    state: State,
    /// Whether a run that fails is followed by another one.
    retries: bool,
    backoff: Backoff,
}

impl Schedule {
    pub(super) fn new(retries: bool) -> Self {
        Self { state: State::Idle, retries, backoff: HOOK_AGAIN }
    }

    /// Asks for a run from a moment on, for a publication.
    pub(super) fn request(&mut self, from: Instant) {
        let at = from + DEBOUNCE;
        self.backoff.reset();
        self.state = match self.state {
            State::Idle => State::Due(at),
            State::Due(earlier) => State::Due(earlier.min(at)),
            State::Running(pid) => State::Outdated(pid, from),
            State::Outdated(pid, earlier) => State::Outdated(pid, earlier.min(from)),
            State::Stopping(_) | State::Stopped => self.state,
        };
    }

    /// When the next run is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            _ => None,
        }
    }

    /// Whether nothing runs, and nothing will without a publication.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Idle | State::Stopped)
    }

    /// Whether a publication still needs a run.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self.state, State::Due(_) | State::Outdated(..))
    }

    /// The process that runs.
    pub(super) fn running(&self) -> Option<Pid> {
        match self.state {
            State::Running(pid) | State::Outdated(pid, _) | State::Stopping(pid) => Some(pid),
            State::Idle | State::Due(_) | State::Stopped => None,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping(_))
    }

    /// The run that was due has begun.
    pub(super) fn started(&mut self, pid: Pid) {
        self.state = State::Running(pid);
    }

    /// The run has ended at `now`, or could not begin.
    pub(super) fn ended(&mut self, is_success: bool, now: Instant) -> Next {
        if is_success {
            self.backoff.reset();
        }
        let again = (!is_success && self.retries).then(|| self.backoff.advance());
        let (state, next) = match (self.state, again) {
            (State::Stopping(_) | State::Stopped, _) => (State::Stopped, Next::Nothing),
            // What has failed does not wait for the time of the newer files.
            (State::Outdated(_, from), again) if again.is_none_or(|delay| from <= now + delay) => {
                (State::Due(from.max(now)), Next::AtOnce)
            }
            (_, Some(delay)) => (State::Due(now + delay), Next::After(delay)),
            (_, None) => (State::Idle, Next::Nothing),
        };
        self.state = state;
        next
    }

    /// No run begins from now on. Returns the running process, once: it is to be asked to end.
    pub(super) fn stop(&mut self) -> Option<Pid> {
        let process = self.running().filter(|_| !self.is_stopping());
        self.state = self.running().map_or(State::Stopped, State::Stopping);
        process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: Pid = Pid::from_raw(12);

    /// A schedule whose first run began at this time.
    fn running(retries: bool) -> (Schedule, Instant) {
        let start = Instant::now();
        let mut schedule = Schedule::new(retries);
        schedule.request(start);
        schedule.started(PID);
        (schedule, start)
    }

    #[test]
    fn publications_at_nearly_the_same_time_are_one_run() {
        let start = Instant::now();
        let mut schedule = Schedule::new(true);
        schedule.request(start);
        schedule.request(start + DEBOUNCE / 2);
        assert_eq!(schedule.next_deadline(), Some(start + DEBOUNCE));
    }

    #[test]
    fn publications_during_a_run_are_one_run_after_it() {
        let (mut schedule, start) = running(true);
        schedule.request(start);
        schedule.request(start);
        assert_eq!(schedule.next_deadline(), None);
        assert_eq!(schedule.ended(true, start), Next::AtOnce);
        schedule.started(PID);
        assert_eq!(schedule.ended(true, start), Next::Nothing);
        assert!(schedule.is_done());
    }

    #[test]
    fn a_publication_that_may_wait_is_waited_for_during_a_run_too() {
        let (mut schedule, start) = running(true);
        let (from, minute) = (start + Duration::from_secs(60), Duration::from_secs(60));
        schedule.request(from);
        schedule.request(from + minute);
        schedule.ended(true, start);
        assert_eq!(schedule.next_deadline(), Some(from));
        let (mut schedule, start) = running(true);
        schedule.request(from);
        schedule.ended(true, from + minute);
        assert_eq!(schedule.next_deadline(), Some(from + minute), "not before {start:?}");
    }

    #[test]
    fn a_run_that_fails_is_not_put_off_until_the_time_of_a_newer_publication() {
        let (mut schedule, start) = running(true);
        schedule.request(start + Duration::from_secs(60));
        let mut backoff = HOOK_AGAIN;
        let delay = backoff.advance();
        assert_eq!(schedule.ended(false, start), Next::After(delay));
        assert_eq!(schedule.next_deadline(), Some(start + delay));
    }

    #[test]
    fn a_run_that_fails_is_repeated_with_a_backoff_until_one_succeeds() {
        let (mut schedule, mut now) = running(true);
        let mut backoff = HOOK_AGAIN;
        for _ in 0..10 {
            let delay = backoff.advance();
            assert_eq!(schedule.ended(false, now), Next::After(delay));
            now += delay;
            assert_eq!(schedule.next_deadline(), Some(now));
            schedule.started(PID);
        }
        assert_eq!(schedule.ended(true, now), Next::Nothing);
        assert_eq!(schedule.next_deadline(), None);
    }

    #[test]
    fn a_run_that_cannot_begin_has_failed() {
        let start = Instant::now();
        let mut schedule = Schedule::new(true);
        schedule.request(start);
        assert!(matches!(schedule.ended(false, start), Next::After(_)));
    }

    #[test]
    fn a_publication_shortens_a_long_backoff() {
        let (mut schedule, now) = running(true);
        schedule.ended(false, now);
        schedule.request(now);
        assert_eq!(schedule.next_deadline(), Some(now + DEBOUNCE));
    }

    #[test]
    fn without_retry_a_run_that_fails_is_the_last() {
        let (mut schedule, now) = running(false);
        assert_eq!(schedule.ended(false, now), Next::Nothing);
        assert!(schedule.is_done());
    }

    #[test]
    fn a_stop_is_asked_for_once_and_waited_for_and_nothing_runs_after_it() {
        let (mut schedule, now) = running(true);
        assert_eq!((schedule.stop(), schedule.stop()), (Some(PID), None));
        assert!(!schedule.is_done());
        schedule.request(now);
        assert_eq!(schedule.ended(false, now), Next::Nothing);
        schedule.request(now);
        assert!(schedule.is_done() && schedule.next_deadline().is_none());
    }
}
