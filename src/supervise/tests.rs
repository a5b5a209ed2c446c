//! The application's life, on a clock of the test's own.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::lifecycle::{Lifecycle, OnRenewal};
use crate::notify::Outcomes;
use crate::time::timing::{DEBOUNCE, HOLD_AFTER_SIGINT, LONGEST_HOLD};
use crate::words::flaw;

const PID: Pid = Pid::from_raw(12);
const AGAIN: Pid = Pid::from_raw(13);

fn running(on_renewal: OnRenewal) -> (Lifecycle, Instant) {
    let mut lifecycle = Lifecycle::new(on_renewal);
    lifecycle.started(PID);
    (lifecycle, Instant::now())
}

/// It is told what is due; returns the process.
fn tell(lifecycle: &mut Lifecycle, now: Instant) -> Option<Pid> {
    let (pid, _) = lifecycle.take_due(now)?;
    lifecycle.told(now);
    Some(pid)
}

#[test]
fn rotations_at_nearly_the_same_time_are_one_signal() {
    let (mut lifecycle, start) = running(OnRenewal::Signal);
    lifecycle.renewed(start, None);
    lifecycle.renewed(start + DEBOUNCE / 2, None);
    assert!(lifecycle.take_due(start).is_none());
    assert_eq!(tell(&mut lifecycle, start + DEBOUNCE), Some(PID));
    assert_eq!((lifecycle.restarting(), lifecycle.next_deadline()), (None, None));
}

#[test]
fn a_signal_that_cannot_be_sent_yet_is_owed_until_the_application_ends() {
    let (mut lifecycle, start) = running(OnRenewal::Signal);
    lifecycle.renewed(start, None);
    for _ in 0..100 {
        let now = lifecycle.next_deadline().expect("a time for the next look");
        let Some((PID, owed)) = lifecycle.take_due(now) else { panic!("nothing is due") };
        lifecycle.postpone(owed);
    }
    assert_eq!((lifecycle.child_ended(PID, 0), lifecycle.exit_code()), (true, Some(0)));
    assert_eq!(lifecycle.next_deadline(), None);
}

#[test]
fn a_restart_is_an_end_and_a_start() {
    let (mut lifecycle, start) = running(OnRenewal::Restart);
    lifecycle.renewed(start, None);
    let asked = start + DEBOUNCE;
    assert_eq!((tell(&mut lifecycle, asked), lifecycle.restarting()), (Some(PID), Some((PID, asked))));
    // It will read the newest files when it starts.
    lifecycle.renewed(start + DEBOUNCE, None);
    assert_eq!(lifecycle.next_deadline(), None);
    assert!(lifecycle.child_ended(PID, 143) && lifecycle.is_not_started());
    lifecycle.started(AGAIN);
    assert_eq!((lifecycle.child_ended(AGAIN, 3), lifecycle.exit_code()), (true, Some(3)));
}

#[test]
fn with_on_renewal_nothing_a_rotation_does_nothing() {
    let (mut lifecycle, start) = running(OnRenewal::Nothing);
    lifecycle.renewed(start, None);
    assert_eq!(lifecycle.next_deadline(), None);
}

#[test]
fn after_sigterm_there_is_no_rotation_and_no_new_start() {
    for on_renewal in [OnRenewal::Signal, OnRenewal::Restart] {
        let (mut lifecycle, start) = running(on_renewal);
        lifecycle.renewed(start, None);
        assert_eq!(lifecycle.signalled(Signal::SIGTERM.into(), start), Some(PID));
        assert_eq!(lifecycle.next_deadline(), None);
        assert_eq!((lifecycle.child_ended(PID, 0), lifecycle.exit_code()), (true, Some(0)));
    }
}

#[test]
fn each_signal_to_stop_ends_a_restart() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let (mut lifecycle, start) = running(OnRenewal::Restart);
        lifecycle.renewed(start, None);
        tell(&mut lifecycle, start + DEBOUNCE);
        assert_eq!(lifecycle.signalled(signal.into(), start), Some(PID));
        assert_eq!((lifecycle.child_ended(PID, 0), lifecycle.exit_code()), (true, Some(0)));
    }
}

#[test]
fn a_rotation_while_the_application_ends_by_sigint_or_sigquit_does_not_restart_it() {
    for (signal, is_first) in [(Signal::SIGINT, true), (Signal::SIGQUIT, false)] {
        let (mut lifecycle, start) = running(OnRenewal::Restart);
        if is_first {
            lifecycle.signalled(signal.into(), start);
            lifecycle.renewed(start, None);
        } else {
            lifecycle.renewed(start, None);
            lifecycle.signalled(signal.into(), start);
        }
        assert!(lifecycle.take_due(start + DEBOUNCE).is_none());
        assert_eq!((lifecycle.child_ended(PID, 0), lifecycle.exit_code()), (true, Some(0)));
    }
}

#[test]
fn an_application_that_runs_on_after_sigquit_is_notified_of_rotations_a_minute_later() {
    let (mut lifecycle, start) = running(OnRenewal::Signal);
    assert_eq!(lifecycle.signalled(Signal::SIGQUIT.into(), start), Some(PID));
    lifecycle.renewed(start, None);
    assert_eq!(lifecycle.next_deadline(), Some(start + HOLD_AFTER_SIGINT));
    assert_eq!(tell(&mut lifecycle, start + HOLD_AFTER_SIGINT), Some(PID));
    assert_eq!(lifecycle.restarting(), None);
}

/// It drains, for as long as the old SVID allows.
#[test]
fn after_sigint_or_sigquit_a_rotation_waits_until_its_latest_moment() {
    for (signal, is_first) in [(Signal::SIGINT, true), (Signal::SIGQUIT, false)] {
        let (mut lifecycle, start) = running(OnRenewal::Restart);
        let latest = start + 10 * HOLD_AFTER_SIGINT;
        if is_first {
            lifecycle.signalled(signal.into(), start);
            lifecycle.renewed(start, Some(latest));
        } else {
            lifecycle.renewed(start, Some(latest));
            lifecycle.signalled(signal.into(), start);
        }
        // The next rotation of an SVID that the application does not have yet.
        lifecycle.renewed(start + 2 * HOLD_AFTER_SIGINT, Some(latest + 2 * HOLD_AFTER_SIGINT));
        assert_eq!(lifecycle.next_deadline(), Some(latest));
        assert!(lifecycle.take_due(latest - DEBOUNCE).is_none());
        assert_eq!((tell(&mut lifecycle, latest), lifecycle.restarting()), (Some(PID), Some((PID, latest))));
        assert!(lifecycle.child_ended(PID, 0) && lifecycle.is_not_started());
    }
}

#[test]
fn a_hold_is_no_shorter_than_a_minute_though_the_old_svid_is_old() {
    let (mut lifecycle, start) = running(OnRenewal::Restart);
    lifecycle.signalled(Signal::SIGQUIT.into(), start);
    lifecycle.renewed(start, Some(start));
    assert_eq!(lifecycle.next_deadline(), Some(start + HOLD_AFTER_SIGINT));
}

/// A JVM prints its threads at each SIGQUIT.
#[test]
fn sigquit_again_and_again_does_not_hold_up_rotations_for_ever() {
    for on_renewal in [OnRenewal::Signal, OnRenewal::Restart] {
        let (mut lifecycle, start) = running(on_renewal);
        for second in 0..60 {
            lifecycle.signalled(Signal::SIGQUIT.into(), start + Duration::from_secs(second));
        }
        lifecycle.renewed(start, None);
        assert_eq!(lifecycle.next_deadline(), Some(start + HOLD_AFTER_SIGINT));
        assert_eq!(tell(&mut lifecycle, start + HOLD_AFTER_SIGINT), Some(PID));
    }
}

#[test]
fn each_signal_to_stop_holds_a_rotation_up_for_a_minute_however_many_came_long_before() {
    let (mut lifecycle, start) = running(OnRenewal::Restart);
    let stop = start + Duration::from_secs(3600);
    lifecycle.signalled(Signal::SIGQUIT.into(), start);
    lifecycle.signalled(Signal::SIGINT.into(), stop);
    lifecycle.renewed(stop, None);
    assert_eq!(lifecycle.next_deadline(), Some(stop + HOLD_AFTER_SIGINT));
}

#[test]
fn a_hold_is_over_after_an_hour_though_the_old_svid_lives_for_days() {
    let (mut lifecycle, start) = running(OnRenewal::Signal);
    let day = Duration::from_secs(24 * 3600);
    lifecycle.signalled(Signal::SIGQUIT.into(), start);
    lifecycle.renewed(start, Some(start + day));
    // A JVM prints its threads now and then.
    lifecycle.signalled(Signal::SIGQUIT.into(), start + LONGEST_HOLD / 2);
    assert_eq!(lifecycle.next_deadline(), Some(start + LONGEST_HOLD));
    tell(&mut lifecycle, start + LONGEST_HOLD);
    lifecycle.signalled(Signal::SIGQUIT.into(), start + day);
    lifecycle.renewed(start + 2 * day, Some(start + 9 * day));
    assert_eq!(lifecycle.next_deadline(), Some(start + 2 * day + DEBOUNCE), "the signal was long ago");
}

#[test]
fn an_application_that_was_told_of_a_rotation_after_sigquit_is_told_of_the_next_one_at_once() {
    let (mut lifecycle, start) = running(OnRenewal::Signal);
    lifecycle.signalled(Signal::SIGQUIT.into(), start);
    lifecycle.renewed(start, Some(start));
    tell(&mut lifecycle, start + HOLD_AFTER_SIGINT);
    let next = start + 2 * HOLD_AFTER_SIGINT;
    lifecycle.renewed(next, Some(next + HOLD_AFTER_SIGINT));
    assert_eq!(lifecycle.next_deadline(), Some(next + DEBOUNCE));
}

#[test]
fn an_application_that_cannot_be_asked_to_end_runs_on_and_is_asked_again() {
    let (mut lifecycle, start) = running(OnRenewal::Restart);
    lifecycle.renewed(start, None);
    let mut now = start + DEBOUNCE;
    for _ in 0..3 {
        let Some((PID, mut owed)) = lifecycle.take_due(now) else { panic!("it is not asked") };
        assert!(!owed.take(Err(flaw!("cannot send SIGTERM").into()), &mut Outcomes::default(), now));
        lifecycle.postpone(owed);
        assert_eq!(lifecycle.fault(), None);
        assert!(lifecycle.take_due(now).is_none());
        now = lifecycle.next_deadline().expect("it is asked again");
    }
    assert_eq!((lifecycle.child_ended(PID, 3), lifecycle.exit_code()), (true, Some(3)));
}

#[test]
fn a_signal_to_stop_before_the_start_is_the_end() {
    let mut lifecycle = Lifecycle::new(OnRenewal::Signal);
    let now = Instant::now();
    assert_eq!(lifecycle.signalled(Signal::SIGHUP.into(), now), None);
    assert_eq!(lifecycle.exit_code(), None);
    assert_eq!(lifecycle.signalled(Signal::SIGTERM.into(), now), None);
    assert_eq!(lifecycle.exit_code(), Some(143));
}

#[test]
fn a_start_that_the_machine_has_no_room_for_is_attempted_again_after_longer_and_longer_pauses() {
    let (mut lifecycle, mut now) = (Lifecycle::new(OnRenewal::Signal), Instant::now());
    let mut delays = Vec::new();
    for _ in 0..8 {
        let delay = lifecycle.postpone_start(now);
        assert_eq!(lifecycle.next_deadline(), Some(now + delay));
        assert!(lifecycle.take_due(now).is_none() && !lifecycle.is_not_started());
        now += delay;
        assert!(lifecycle.take_due(now).is_none() && lifecycle.is_not_started());
        // Nothing is due while its files are not there.
        assert_eq!(lifecycle.next_deadline(), None);
        delays.push(delay.as_millis());
    }
    assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
}

#[test]
fn a_signal_to_stop_before_the_next_attempt_to_start_is_the_end() {
    let (mut lifecycle, now) = (Lifecycle::new(OnRenewal::Signal), Instant::now());
    lifecycle.postpone_start(now);
    assert_eq!(lifecycle.signalled(Signal::SIGTERM.into(), now), None);
    assert_eq!(lifecycle.exit_code(), Some(143));
}

#[test]
fn there_is_no_fault_only_while_it_runs_and_was_not_asked_to_end() {
    let mut lifecycle = Lifecycle::new(OnRenewal::Restart);
    let now = Instant::now();
    assert_eq!(lifecycle.fault(), Some("is not started yet"));
    lifecycle.started(PID);
    assert_eq!(lifecycle.fault(), None);
    lifecycle.renewed(now, None);
    tell(&mut lifecycle, now + DEBOUNCE);
    assert!(lifecycle.fault().is_some_and(|fault| fault.contains("started again with the new files")));
    lifecycle.child_ended(PID, 0);
    assert_eq!(lifecycle.fault(), Some("is not started yet"));
    lifecycle.postpone_start(now);
    assert_eq!(lifecycle.fault(), Some("could not be started yet"));
    lifecycle.started(AGAIN);
    lifecycle.signalled(Signal::SIGTERM.into(), now);
    assert_eq!(lifecycle.fault(), Some("was asked to end"));
}

#[test]
fn another_child_is_not_the_application() {
    let (mut lifecycle, _) = running(OnRenewal::Signal);
    assert!(!lifecycle.child_ended(AGAIN, 1));
    assert_eq!(lifecycle.exit_code(), None);
}
