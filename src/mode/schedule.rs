//! When the next attempt to publish is due.
//!
//! An update after a quiet time is published at once. Updates that come faster than they can be
//! published, or faster for long than anything is renewed for a reason, are a flood: of these, the
//! newest is published five times a second. The last one waits no longer than that.

use std::time::{Duration, Instant};

use crate::time::backoff::Backoff;
use crate::time::timing::{
    FIRST_SET, FLOOD_OVER, FLOOD_PACE, LOCK_AGAIN, UPDATE_COST, UPDATE_CREDIT, WRITE_AGAIN,
};

/// When the next attempt to publish is due.
pub(crate) struct Schedule {
    /// `None` while there is nothing to publish.
    pub(super) due_at: Option<Instant>,
    /// When the last attempt was made. The first one waits for sources that have brought nothing yet.
    attempted_at: Option<Instant>,
    /// The time that the updates so far have used up, each [`UPDATE_COST`].
    paid_until: Option<Instant>,
    /// When the flood is over, if no further update comes.
    flood_until: Option<Instant>,
    backoff: Backoff,
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Self { due_at: None, attempted_at: None, paid_until: None, flood_until: None, backoff: WRITE_AGAIN }
    }

    /// An item has changed.
    pub(crate) fn changed(&mut self, now: Instant) {
        self.backoff.reset();
        let is_flood = self.is_flood(now);
        let at = match self.attempted_at {
            None => now + FIRST_SET,
            Some(attempt) if is_flood => now.max(attempt + FLOOD_PACE),
            Some(_) => now,
        };
        self.due_at = Some(self.due_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Counts an update; returns whether it is one of a flood: the credit is used up, and updates have
    /// come without a pause since.
    fn is_flood(&mut self, now: Instant) -> bool {
        let paid_until = self.paid_until.map_or(now, |at| at.max(now)) + UPDATE_COST;
        let limit = now + UPDATE_CREDIT;
        self.paid_until = Some(paid_until.min(limit));
        let is_flood = paid_until > limit || self.flood_until.is_some_and(|until| now < until);
        self.flood_until = is_flood.then_some(now + FLOOD_OVER);
        is_flood
    }

    /// Waits for all sources again, as before the first attempt.
    pub(crate) fn restart(&mut self, has_changes: bool, now: Instant) {
        *self = Self::new();
        if has_changes {
            self.changed(now);
        }
    }

    /// Stops waiting for sources that have brought nothing.
    pub(crate) fn stop_waiting(&mut self, now: Instant) {
        if self.attempted_at.is_none() {
            self.due_at = self.due_at.map(|at| at.min(now));
        }
    }

    /// Whether an attempt is due. If another update may be ready (`is_busy`), it is taken first, for it would
    /// replace this one at once; but not for longer than the pace.
    pub(crate) fn is_due(&self, is_busy: bool, now: Instant) -> bool {
        let is_recent = self.attempted_at.is_some_and(|at| now < at + FLOOD_PACE);
        !(is_busy && is_recent) && self.due_at.is_some_and(|at| at <= now)
    }

    /// The same; the caller then makes the attempt.
    pub(crate) fn take_due(&mut self, is_busy: bool, now: Instant) -> bool {
        let is_due = self.is_due(is_busy, now);
        if is_due {
            (self.due_at, self.attempted_at) = (None, Some(now));
        }
        is_due
    }

    /// The attempt has failed; returns the delay before the next. A locked directory is free again
    /// soon.
    pub(crate) fn failed(&mut self, is_locked: bool, now: Instant) -> Duration {
        let delay = if is_locked { LOCK_AGAIN } else { self.backoff.advance() };
        self.due_at = Some(now + delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_set_waits_half_a_second_for_all_sources() {
        let (now, mut schedule) = (Instant::now(), Schedule::new());
        schedule.changed(now);
        schedule.changed(now + 100 * MILLISECOND);
        assert!(!schedule.take_due(false, now + 499 * MILLISECOND));
        assert!(schedule.take_due(false, now + 500 * MILLISECOND));
    }

    #[test]
    fn the_first_set_waits_no_longer_when_all_sources_have_spoken() {
        let (now, mut schedule) = (Instant::now(), Schedule::new());
        schedule.changed(now);
        schedule.stop_waiting(now);
        assert!(schedule.take_due(false, now));
    }

    #[test]
    fn every_later_set_is_published_at_once() {
        let (now, mut schedule) = (Instant::now(), Schedule::new());
        schedule.changed(now);
        schedule.stop_waiting(now);
        assert!(schedule.take_due(false, now));
        assert!(!schedule.take_due(false, now), "nothing is new");
        schedule.changed(now);
        assert!(schedule.take_due(false, now));
    }

    #[test]
    fn a_failed_attempt_is_made_again_ever_more_rarely_and_news_is_tried_at_once() {
        let (now, mut schedule) = (Instant::now(), Schedule::new());
        schedule.changed(now);
        schedule.stop_waiting(now);
        assert!(schedule.take_due(false, now));
        let delays = [(); 8].map(|()| schedule.failed(false, now).as_millis());
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(schedule.due_at, Some(now + 10_000 * MILLISECOND));
        schedule.changed(now);
        assert!(schedule.take_due(false, now));
    }

    #[test]
    fn while_another_helper_writes_the_next_attempt_is_soon() {
        let (now, mut schedule) = (Instant::now(), Schedule::new());
        let delays = [(); 3].map(|()| schedule.failed(true, now).as_millis());
        assert_eq!(delays, [100, 100, 100]);
    }

    /// A schedule whose first set is published.
    fn after_the_first_set(now: Instant) -> Schedule {
        let mut schedule = Schedule::new();
        schedule.changed(now);
        schedule.stop_waiting(now);
        assert!(schedule.take_due(false, now));
        schedule
    }

    /// When sets are published, if updates come in this interval and each is taken by itself.
    fn publications(
        schedule: &mut Schedule,
        from: Instant,
        updates: u32,
        interval: Duration,
    ) -> Vec<Instant> {
        let mut publications = Vec::new();
        let mut look = |schedule: &mut Schedule, now| {
            if schedule.take_due(false, now) {
                publications.push(now);
            }
        };
        for update in 0..updates {
            let now = from + update * interval;
            while let Some(at) = schedule.due_at.filter(|at| *at < now) {
                look(schedule, at);
            }
            schedule.changed(now);
            look(schedule, now);
        }
        if let Some(at) = schedule.due_at {
            look(schedule, at);
        }
        publications
    }

    #[test]
    fn a_thousand_updates_that_come_one_by_one_are_published_each_at_once() {
        let now = Instant::now();
        let mut schedule = after_the_first_set(now);
        assert_eq!(publications(&mut schedule, now, 1000, UPDATE_COST).len(), 1000);
    }

    #[test]
    fn nine_updates_in_a_row_are_no_flood_however_fast() {
        let now = Instant::now();
        let mut schedule = after_the_first_set(now);
        assert_eq!(publications(&mut schedule, now, 9, MILLISECOND / 100).len(), 9);
    }

    #[test]
    fn while_a_flood_lasts_the_newest_set_is_published_every_fifth_of_a_second() {
        let now = Instant::now();
        let mut schedule = after_the_first_set(now);
        let at_first = publications(&mut schedule, now, 100, MILLISECOND).len();
        assert!(at_first <= 20, "{at_first}");
        let from = now + 100 * MILLISECOND;
        let published = publications(&mut schedule, from, 10_000, MILLISECOND);
        assert!((50..=51).contains(&published.len()), "{}", published.len());
        assert!(published.windows(2).all(|pair| pair[1] - pair[0] == FLOOD_PACE));
        let end = from + 9_999 * MILLISECOND;
        let last = published.last().expect("a publication");
        assert!(end <= *last && *last <= end + FLOOD_PACE);
    }

    #[test]
    fn a_flood_that_falters_is_a_flood_still() {
        let now = Instant::now();
        let mut schedule = after_the_first_set(now);
        publications(&mut schedule, now, 100, MILLISECOND);
        let from = now + 100 * MILLISECOND;
        assert!(publications(&mut schedule, from, 100, 99 * MILLISECOND).len() <= 51);
    }

    #[test]
    fn who_waits_for_each_set_before_the_next_update_is_held_up_now_and_then_at_most() {
        let (mut now, mut held_up) = (Instant::now(), 0);
        let mut schedule = after_the_first_set(now);
        for _ in 0..1000 {
            now += 4 * MILLISECOND;
            schedule.changed(now);
            let due_at = schedule.due_at.expect("an update");
            held_up += u32::from(due_at > now);
            now = now.max(due_at);
            assert!(schedule.take_due(false, now));
        }
        assert!(held_up <= 25, "{held_up}");
    }

    #[test]
    fn after_a_flood_a_single_update_is_published_at_once() {
        let now = Instant::now();
        let mut schedule = after_the_first_set(now);
        let last = *publications(&mut schedule, now, 10_000, MILLISECOND).last().expect("a publication");
        schedule.changed(last + FLOOD_PACE);
        assert!(schedule.take_due(false, last + FLOOD_PACE));
    }

    #[test]
    fn what_is_about_to_be_superseded_is_not_published_for_a_fifth_of_a_second() {
        let now = Instant::now();
        let mut schedule = after_the_first_set(now);
        schedule.changed(now);
        assert!(!schedule.take_due(true, now + 199 * MILLISECOND));
        assert!(schedule.take_due(true, now + FLOOD_PACE));
        schedule.changed(now + FLOOD_PACE);
        assert!(schedule.take_due(false, now + FLOOD_PACE), "no more is at hand");
    }

    #[test]
    fn after_a_quiet_time_an_update_is_published_before_the_next_is_taken() {
        let now = Instant::now();
        let mut schedule = after_the_first_set(now);
        schedule.changed(now + FLOOD_PACE);
        assert!(schedule.take_due(true, now + FLOOD_PACE));
    }
}
