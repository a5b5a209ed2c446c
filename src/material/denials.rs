//! When the agent's denials of the identity withdraw it.

use std::time::{Duration, Instant};

use crate::time::timing::{AFTER_RETURN, DENIAL_IS_WITHDRAWAL};

/// For how long the agent has answered that this process has no identity. A restarted agent says so, too, until
/// it knows its entries.
#[derive(Debug, Default)]
pub(super) struct Denials {
    /// The time between answers that were denials, one after the other.
    lasted: Duration,
    /// The last answer, if it was one.
    last: Option<Instant>,
    /// When the agent was back, or answered first.
    back_at: Option<Instant>,
    is_withdrawn: bool,
    /// When to ask again, while another source offers the identity.
    ask_at: Option<Instant>,
    /// The first of the denials beside an offer was one of what the same call had offered.
    was_offered: bool,
}

impl Denials {
    /// Takes a denial of what the same call has `offered`, or not; returns whether it withdraws the identity.
    pub(super) fn denied(&mut self, offered: bool, now: Instant) -> bool {
        self.ask_at = None;
        let since = self.last.replace(now).unwrap_or(now);
        self.lasted += now.duration_since(since);
        self.back_at.get_or_insert(now);
        let withdraws = offered || self.was_offered || self.withdraw_at().is_some_and(|at| at <= now);
        self.is_withdrawn |= withdraws;
        self.was_offered = false;
        withdraws
    }

    /// Takes a denial of what another source offers, and the same call has `offered`, or not: the agent may be between
    /// two updates, and withdraws nothing.
    pub(super) fn denied_beside_an_offer(&mut self, offered: bool, now: Instant) {
        let was_offered = offered || self.was_offered;
        *self = Self { ask_at: Some(now + DENIAL_IS_WITHDRAWAL), was_offered, ..Self::default() };
    }

    /// When to ask once more, if the last answer was a denial.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        self.ask_at.or_else(|| self.withdraw_at())
    }

    /// When a denial withdraws the identity.
    fn withdraw_at(&self) -> Option<Instant> {
        let (last, back_at) = self.last.zip(self.back_at).filter(|_| !self.is_withdrawn)?;
        Some((last + DENIAL_IS_WITHDRAWAL.saturating_sub(self.lasted)).max(back_at + AFTER_RETURN))
    }

    /// The agent was away, or failed otherwise: that time does not count.
    pub(super) fn interrupted(&mut self) {
        self.last = None;
        self.back_at = None;
        self.ask_at = None;
        self.was_offered = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn thirty_seconds_of_denials_alone_withdraw_the_identity_once() {
        let (now, mut denials) = (Instant::now(), Denials::default());
        let withdrawn = (0..120).map(|second| denials.denied(false, now + second * SECOND));
        let at: Vec<_> = withdrawn.enumerate().filter(|(_, is_withdrawn)| *is_withdrawn).collect();
        assert_eq!(at, [(30, true)]);
    }

    #[test]
    fn the_time_in_which_another_source_offers_the_identity_does_not_count() {
        let (now, mut denials) = (Instant::now(), Denials::default());
        denials.denied_beside_an_offer(false, now);
        assert_eq!(denials.ask_at(), Some(now + 30 * SECOND));
        let after = |second: u32| now + (30 + second) * SECOND;
        let withdrawn = (0..60).position(|second| denials.denied(false, after(second)));
        assert_eq!(withdrawn, Some(30));
    }

    #[test]
    fn what_a_call_had_offered_is_withdrawn_once_no_other_source_offers_it_any_more() {
        let (now, mut denials) = (Instant::now(), Denials::default());
        denials.denied_beside_an_offer(true, now);
        denials.denied_beside_an_offer(false, now + 30 * SECOND);
        assert!(denials.denied(false, now + 60 * SECOND));
        assert!(!denials.denied(false, now + 61 * SECOND), "it is withdrawn already");
    }

    #[test]
    fn what_a_call_had_offered_before_the_agent_was_away_is_withdrawn_no_sooner_than_another_identity() {
        let (now, mut denials) = (Instant::now(), Denials::default());
        denials.denied_beside_an_offer(true, now);
        denials.interrupted();
        let withdrawn = (0..60).position(|second| denials.denied(false, now + second * SECOND));
        assert_eq!(withdrawn, Some(30));
    }

    #[test]
    fn denials_add_up_over_restarts_of_the_agent_and_none_withdraws_in_its_first_ten_seconds() {
        let (start, mut denials) = (Instant::now(), Denials::default());
        // Eight seconds of denials, and then two without an agent, again and again.
        for restart in 0..20 {
            for second in 0..=8 {
                assert!(
                    !denials.denied(false, start + (restart * 10 + second) * SECOND),
                    "{restart} {second}"
                );
            }
            denials.interrupted();
        }
        let back = start + 200 * SECOND;
        let withdrawn = (0..60).position(|second| denials.denied(false, back + second * SECOND));
        assert_eq!(withdrawn, Some(10));
    }
}
