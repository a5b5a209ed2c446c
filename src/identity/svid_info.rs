//! The identity and the dates of an SVID.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::dates::Dates;
use super::spiffe_id::SpiffeId;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The public facts of an SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SvidInfo {
    /// The identity; it has a path.
    pub(crate) id: SpiffeId,
    /// Its form.
    pub(crate) kind: Kind,
    /// The moment its life is counted from: a leaf's notBefore, a token's `iat`. Never after
    /// `not_after`.
    pub(crate) issued_at: SystemTime,
    /// The first moment of its validity: a leaf's notBefore, a token's `nbf`, if it has one.
    pub(crate) not_before: Option<SystemTime>,
    /// The last moment of its validity: a leaf's notAfter, a token's `exp`.
    pub(crate) not_after: SystemTime,
}

/// The form of an SVID, and what only this form has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    X509 {
        /// The leaf's serial number in lowercase hexadecimal.
        serial: Box<str>,
    },
    Jwt,
    Wit,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X509 { .. } => "X.509-SVID",
            Self::Jwt => "JWT-SVID",
            Self::Wit => "WIT-SVID",
        })
    }
}

impl SvidInfo {
    /// The serial number in lowercase hexadecimal; `None` for a token.
    pub(crate) fn serial(&self) -> Option<&str> {
        match &self.kind {
            Kind::X509 { serial } => Some(serial),
            Kind::Jwt | Kind::Wit => None,
        }
    }

    /// When it is valid.
    pub(crate) fn dates(&self) -> Dates {
        Dates { not_before: self.not_before.unwrap_or(UNIX_EPOCH), not_after: self.not_after }
    }

    /// When its validity begins; if a token does not say, when it was issued.
    pub(crate) fn begins_at(&self) -> SystemTime {
        self.not_before.unwrap_or(self.issued_at)
    }

    /// When 55 % of its life are over: time to fetch a token anew. An agent's own cache renews at
    /// half, more or less, and would hand out the old token at half.
    pub(crate) fn renew_at(&self) -> SystemTime {
        self.issued_at + self.life() * 11 / 20
    }

    /// When 60 % of its life are over. Dates are whole seconds, and many tokens have the same: each is fetched
    /// anew at a moment of its own between the two.
    pub(crate) fn renew_by(&self) -> SystemTime {
        self.issued_at + self.life() * 3 / 5
    }

    /// When two thirds of its life are over: an agent renews well before. Of a life of more than three days, when its
    /// last day begins: SPIRE's `availability_target` is a day or more.
    pub(crate) fn overdue_at(&self) -> SystemTime {
        self.issued_at + (self.life() * 2 / 3).max(self.life().saturating_sub(DAY))
    }

    /// Whether it should have been renewed.
    pub(crate) fn is_overdue(&self, now: SystemTime) -> bool {
        now >= self.overdue_at()
    }

    fn life(&self) -> Duration {
        self.not_after.duration_since(self.issued_at).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dates::Validity;
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn info(issued_at: u64, not_before: u64, not_after: u64) -> SvidInfo {
        SvidInfo {
            id: "spiffe://example.org/a".parse().unwrap(),
            kind: Kind::Jwt,
            issued_at: at(issued_at),
            not_before: Some(at(not_before)),
            not_after: at(not_after),
        }
    }

    #[test]
    fn an_svid_is_valid_from_its_first_to_its_last_moment() {
        use Validity::*;
        let info = info(100, 100, 200);
        for (seconds, validity) in [(99, NotYet), (100, Valid), (200, Valid), (201, Expired)] {
            assert_eq!(info.dates().validity(at(seconds)), validity, "{seconds}");
        }
    }

    #[test]
    fn an_svid_that_ends_before_it_begins_has_expired_at_any_time() {
        let info = info(100, 200, 150);
        for seconds in [99, 170, 250] {
            let fault = info.dates().fault(at(seconds)).unwrap();
            assert_eq!(fault, "ends at 1970-01-01T00:02:30Z, before it begins at 1970-01-01T00:03:20Z");
        }
        assert_eq!([99, 170, 250].map(|seconds| info.dates().validity(at(seconds))), [Validity::Expired; 3]);
    }

    #[test]
    fn a_token_is_renewed_at_55_to_60_percent_and_overdue_at_two_thirds_of_its_life() {
        let info = info(100, 130, 400);
        assert_eq!((info.renew_at(), info.renew_by()), (at(265), at(280)));
        assert_eq!(info.overdue_at(), at(300));
        assert!(!info.is_overdue(at(299)) && info.is_overdue(at(300)));
    }

    #[test]
    fn an_svid_of_a_week_is_overdue_in_its_last_day() {
        let day = DAY.as_secs();
        assert_eq!(info(0, 0, 7 * day).overdue_at(), at(6 * day));
        assert_eq!(info(0, 0, 3 * day).overdue_at(), at(2 * day));
    }

    #[test]
    fn an_svid_that_was_issued_after_its_end_is_renewed_without_a_panic() {
        let info = info(400, 0, 100);
        assert_eq!(info.renew_at(), at(400));
        assert_eq!(info.dates().validity(at(100)), Validity::Valid);
    }
}
