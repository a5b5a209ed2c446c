//! The time, handed in: code that decides by time takes a [`Now`], so that a test can hand in any
//! moment.

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime};

/// One look at both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// The clock that only runs forward: for delays and deadlines.
    pub(crate) instant: Instant,
    /// The wall clock, which may be set: for the dates of SVIDs.
    pub(crate) time: SystemTime,
}

impl Now {
    /// Looks at the clocks.
    pub(crate) fn look() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }

    /// How long until a date; zero if it has passed.
    pub(crate) fn until(self, date: SystemTime) -> Duration {
        date.duration_since(self.time).unwrap_or(Duration::ZERO)
    }

    /// The instant at which the wall clock will show a date, if nobody sets it; now if the date has
    /// passed.
    pub(crate) fn instant_of(self, date: SystemTime) -> Instant {
        self.instant + self.until(date)
    }
}

impl Add<Duration> for Now {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self { instant: self.instant + span, time: self.time + span }
    }
}

/// How long this thread has run on a processor, whatever else the machine does.
#[cfg(test)]
pub(crate) fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    // A hundred ticks a second, on every architecture.
    Duration::from_millis(fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}
