//! Throttles the log lines of libraries: gRPC says the same of each attempt.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::time::timing::REMINDER;

/// How many lines there are at most within the time of a reminder.
const MOST: usize = 8;

/// What libraries have said, and when.
#[derive(Debug, Default)]
pub(super) struct LibraryLines(Mutex<Vec<(String, Instant)>>);

impl LibraryLines {
    /// Whether a line is to be logged: it says something else than the last ones.
    pub(super) fn is_news(&self, message: String, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|(_, at)| now.saturating_duration_since(*at) < REMINDER);
        let is_news = said.len() < MOST && said.iter().all(|(other, _)| *other != message);
        if is_news {
            said.push((message, now));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_library_says_the_same_once_a_minute() {
        let (lines, start) = (LibraryLines::default(), Instant::now());
        let is_news = |seconds| lines.is_news("it fails".to_owned(), start + Duration::from_secs(seconds));
        let news: Vec<u64> = (0..150).filter(|seconds| is_news(*seconds)).collect();
        assert_eq!(news, [0, 60, 120]);
    }

    #[test]
    fn a_library_that_always_says_something_else_has_eight_lines_a_minute() {
        let (lines, start) = (LibraryLines::default(), Instant::now());
        let is_news = |number: &u64| lines.is_news(number.to_string(), start + Duration::from_secs(*number));
        assert_eq!((0..60).filter(is_news).count(), 8);
        assert_eq!((60..120).filter(is_news).count(), 8);
    }
}
