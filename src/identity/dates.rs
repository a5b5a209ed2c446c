//! When a certificate, a token or an SVID is valid.

use std::time::SystemTime;

use crate::time::timestamp::rfc3339;

/// The first and the last moment of a validity. Both belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dates {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Dates {
    /// The validity at a moment. One that ends before it begins is expired.
    pub(crate) fn validity(self, now: SystemTime) -> Validity {
        if now > self.not_after || self.not_before > self.not_after {
            Validity::Expired
        } else if now < self.not_before {
            Validity::NotYet
        } else {
            Validity::Valid
        }
    }

    /// Why it is not valid at a moment: the rest of a sentence.
    pub(crate) fn fault(self, now: SystemTime) -> Option<String> {
        let [begin, end] = [self.not_before, self.not_after].map(|at| move || rfc3339(at, 0));
        Some(match self.validity(now) {
            Validity::Expired if self.not_before > self.not_after => {
                format!("ends at {}, before it begins at {}", end(), begin())
            }
            Validity::Expired => format!("expired at {}", end()),
            Validity::NotYet => format!("is not valid until {} (is a clock wrong?)", begin()),
            Validity::Valid => return None,
        })
    }
}

/// A validity at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Its first moment is still to come; or a clock is wrong.
    NotYet,
    Valid,
    Expired,
}
