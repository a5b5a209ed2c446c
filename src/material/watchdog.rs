//! When a silent stream is replaced by a new call.
//!
//! An agent that hangs keeps its socket open. An agent without its server keeps its streams silent past
//! the SVID's end. Only a new call finds out.

use std::time::Instant;

use crate::identity::svid_info::SvidInfo;
use crate::time::backoff::Backoff;
use crate::time::clock::Now;
use crate::time::timestamp::rfc3339;
use crate::time::timing::{OVERDUE, SILENT_STREAM};
use crate::workload_api::retry::Stream;

/// Watches the streams of one SVID.
pub(crate) struct Watchdog {
    overdue: Backoff,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        Self { overdue: OVERDUE }
    }

    /// When to replace the stream, if nothing comes until then.
    ///
    /// A stream without a message has a minute. After a message, silence is fine until the SVID is overdue; from then
    /// on, each new stream has a little longer to bring the next SVID.
    pub(crate) fn replace_at(&self, stream: Stream, svid: Option<&SvidInfo>, now: Now) -> Instant {
        let silent_at = stream.since + SILENT_STREAM;
        let Some(svid) = svid else { return silent_at };
        let patient_until = stream.since + self.overdue.current();
        let overdue_at = now.instant_of(svid.overdue_at());
        if svid.is_overdue(now.time) {
            patient_until
        } else if stream.delivered {
            overdue_at
        } else {
            overdue_at.max(patient_until).min(silent_at)
        }
    }

    /// The stream is replaced, for a reason that is given; `None` if it never delivered.
    pub(crate) fn replaced_because(
        &mut self,
        stream: Stream,
        svid: Option<&SvidInfo>,
        now: Now,
    ) -> Option<String> {
        let Some(svid) = svid.filter(|svid| svid.is_overdue(now.time)) else {
            return stream
                .delivered
                .then(|| "the agent has sent nothing usable on its open stream".to_owned());
        };
        // The next stream gets more time only if this one was opened while the SVID was overdue: an older one did
        // not wait for a renewal.
        let overdue_for = now.time.duration_since(svid.overdue_at()).unwrap_or_default();
        if now.instant.duration_since(stream.since) < overdue_for {
            self.overdue.advance();
        }
        let (id, end) = (&svid.id, rfc3339(svid.not_after, 0));
        Some(format!(
            "the SVID of {id} (valid until {end}) is due for renewal, and the agent has sent no newer one"
        ))
    }

    /// A new SVID has come.
    pub(crate) fn renewed(&mut self) {
        self.overdue.reset();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::svid_info::Kind;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Valid for an hour from `now` on: overdue after 40 minutes.
    fn svid(now: Now) -> SvidInfo {
        SvidInfo {
            id: "spiffe://example.org/a".parse().unwrap(),
            kind: Kind::X509 { serial: "1".into() },
            issued_at: now.time,
            not_before: Some(now.time),
            not_after: now.time + 60 * MINUTE,
        }
    }

    #[test]
    fn a_stream_that_brings_nothing_is_replaced_after_a_minute() {
        let now = Now::look();
        let stream = Stream::new(now.instant);
        assert_eq!(Watchdog::new().replace_at(stream, None, now), now.instant + MINUTE);
        assert_eq!(Watchdog::new().replace_at(stream, Some(&svid(now)), now), now.instant + MINUTE);
    }

    #[test]
    fn a_stream_that_delivered_may_be_silent_until_two_thirds_of_the_life_are_over() {
        let now = Now::look();
        let stream = Stream { delivered: true, ..Stream::new(now.instant) };
        let replace_at = Watchdog::new().replace_at(stream, Some(&svid(now)), now + 10 * MINUTE);
        assert_eq!(replace_at, now.instant + 40 * MINUTE);
    }

    #[test]
    fn while_the_svid_is_overdue_each_new_stream_has_a_little_longer() {
        let start = Now::look();
        let (svid, mut watchdog) = (svid(start), Watchdog::new());
        let mut now = start + 40 * MINUTE + Duration::from_secs(1);
        // The first was opened long ago.
        watchdog.replaced_because(Stream { delivered: true, ..Stream::new(start.instant) }, Some(&svid), now);
        let patience = [(); 6].map(|()| {
            let stream = Stream::new(now.instant);
            let replace_at = watchdog.replace_at(stream, Some(&svid), now);
            let patience = replace_at - now.instant;
            now = now + patience + Duration::from_secs(1);
            watchdog.replaced_because(stream, Some(&svid), now);
            patience.as_secs()
        });
        assert_eq!(patience, [5, 10, 20, 40, 60, 60]);
        watchdog.renewed();
        let stream = Stream::new(now.instant);
        assert_eq!(watchdog.replace_at(stream, Some(&svid), now) - now.instant, Duration::from_secs(5));
    }
}
