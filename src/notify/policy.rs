//! Which publications are told to others, and when: replicas that all get a new CA at one moment must not all
//! restart at that moment.

use std::time::{Duration, Instant};

use crate::material::ChangeKinds;
use crate::time::backoff::random_fraction;
use crate::time::timestamp::in_words;
use crate::time::timing::DEBOUNCE;

/// Which changes notify, and how long a notification may wait.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    kinds: ChangeKinds,
    /// The longest wait.
    splay: Duration,
    /// The end of the wait that is going on, or of the last one.
    until: Option<Instant>,
}

impl Policy {
    /// Changes of these kinds notify, after a random wait up to `splay`.
    pub(crate) fn new(kinds: ChangeKinds, splay: Duration) -> Self {
        Self { kinds, splay, until: None }
    }

    /// Whether one of these changes notifies.
    pub(crate) fn concerns(&self, changed: &ChangeKinds) -> bool {
        let is_concerned = !self.kinds.common(changed).is_empty();
        if !is_concerned && !changed.is_empty() {
            log::debug!("no notification of {changed}: only {} notify (--notify-for)", self.kinds);
        }
        is_concerned
    }

    /// From when on a publication at `now` notifies; `at_latest`, if that is to come. A publication during a wait
    /// does not change its end: with many of them, the shortest of many waits would be no wait.
    pub(crate) fn begin(&mut self, at_latest: Option<Instant>, now: Instant) -> Instant {
        let latest = at_latest.and_then(|latest| latest.checked_sub(DEBOUNCE));
        let capped = |from: Instant| latest.map_or(from, |latest| from.min(latest)).max(now);
        if let Some(until) = self.until.filter(|until| *until > now) {
            return capped(until);
        }
        let from = capped(now + self.splay.mul_f64(random_fraction()));
        self.until = Some(from);
        if from > now {
            log::info!("notifying in {} (--notify-splay)", in_words(from - now));
        }
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn policy(splay: Duration) -> (Policy, Instant) {
        (Policy::new("svid".parse().unwrap(), splay), Instant::now())
    }

    #[test]
    fn a_change_of_one_of_its_kinds_notifies() {
        let policy = Policy::new("svid,bundle".parse().unwrap(), Duration::ZERO);
        for (changed, is_told) in [("bundle,token", true), ("svid", true), ("token,keys", false)] {
            assert_eq!(policy.concerns(&changed.parse().unwrap()), is_told, "{changed}");
        }
        assert!(!policy.concerns(&ChangeKinds::default()));
    }

    #[test]
    fn replicas_notify_at_moments_that_are_spread_over_the_whole_splay() {
        let now = Instant::now();
        let waits: Vec<_> = (0..1000).map(|_| policy(MINUTE).0.begin(None, now) - now).collect();
        for tenth in 0..10 {
            let (from, to) = (MINUTE * tenth / 10, MINUTE * (tenth + 1) / 10);
            let count = waits.iter().filter(|wait| (from..to).contains(*wait)).count();
            assert!((40..250).contains(&count), "{count} of 1000 between {from:?} and {to:?}");
        }
    }

    #[test]
    fn without_a_splay_there_is_no_wait() {
        let (mut policy, now) = policy(Duration::ZERO);
        assert_eq!(policy.begin(None, now), now);
    }

    #[test]
    fn no_wait_goes_past_the_latest_moment() {
        let latest = Duration::from_secs(10);
        for _ in 0..1000 {
            let (mut policy, now) = policy(MINUTE);
            let at = policy.begin(Some(now + latest), now) + DEBOUNCE;
            assert!(at <= now + latest, "{:?}", at - now);
        }
        let (mut policy, now) = policy(MINUTE);
        assert_eq!(policy.begin(Some(now), now), now);
        assert_eq!(policy.begin(Some(now - MINUTE), now), now);
    }

    #[test]
    fn publications_during_a_wait_do_not_change_its_end() {
        let (mut policy, now) = policy(MINUTE);
        let from = policy.begin(None, now);
        for _ in 0..1000 {
            assert_eq!(policy.begin(None, now), from);
        }
        let later = now + 2 * MINUTE;
        assert!(policy.begin(None, later) >= later);
    }
}
