//! For whom and for how long an SVID is valid.

use std::time::{Duration, SystemTime};

use super::spiffe_id::SpiffeId;

/// What there is to know of an SVID once it is published: nothing secret, nothing to wipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The identity; it has a path.
    pub id: SpiffeId,
    /// The leaf's serial number in lowercase hexadecimal; a JWT-SVID has none.
    pub serial: Option<String>,
    /// The first moment of its validity.
    pub not_before: SystemTime,
    /// The last moment of its validity.
    pub not_after: SystemTime,
}

impl Term {
    /// Which form of SVID it is of, for people.
    pub fn kind(&self) -> &'static str {
        if self.serial.is_some() { "X.509-SVID" } else { "JWT-SVID" }
    }

    /// Whether its validity is over.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }

    /// When half of its life is over: time to renew.
    pub fn half_life_at(&self) -> SystemTime {
        self.not_before + self.life() / 2
    }

    /// Whether two thirds of its life are over.
    pub fn is_overdue(&self, now: SystemTime) -> bool {
        now >= self.overdue_at()
    }

    /// When two thirds of its life are over. Who renews does so at half.
    pub fn overdue_at(&self) -> SystemTime {
        self.not_before + self.life() * 2 / 3
    }

    fn life(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or(Duration::ZERO)
    }
}

/// How long until a date; nothing if it has passed.
pub fn time_left(date: SystemTime) -> Duration {
    date.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
}
