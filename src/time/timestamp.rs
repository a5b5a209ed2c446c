//! Times in RFC 3339, in UTC, and time spans in words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::DateTime;

/// `2026-11-23T16:40:05Z`, with `digits` (up to 9) of a second's fraction.
///
/// A time before 1970 or after 9999, which RFC 3339 does not have, is written as the first or the last second between.
pub(crate) fn rfc3339(time: SystemTime, digits: usize) -> String {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (date, nanoseconds) = match DateTime::from_unix_duration(since_1970) {
        Ok(date) => (date, since_1970.subsec_nanos()),
        Err(_) => (DateTime::INFINITY, 0),
    };
    let fraction = format!(".{nanoseconds:09}");
    let fraction = if digits == 0 { "" } else { &fraction[..=digits.min(9)] };
    format!("{}{fraction}Z", date.to_string().trim_end_matches('Z'))
}

/// A time span in words, in its two largest units: `3 days 4 hours`, `12 seconds`.
pub(crate) fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [
        (seconds / 86_400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let largest = units.into_iter().skip_while(|(number, _)| *number == 0).take(2);
    let words: Vec<_> = largest
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number} {unit}{}", if number == 1 { "" } else { "s" }))
        .collect();
    if words.is_empty() { "less than a second".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc_with_the_digits_asked_for() {
        let time = UNIX_EPOCH + Duration::new(1_795_452_005, 123_456_789);
        assert_eq!(rfc3339(time, 0), "2026-11-23T16:40:05Z");
        assert_eq!(rfc3339(time, 3), "2026-11-23T16:40:05.123Z");
        assert_eq!(rfc3339(time, 9), "2026-11-23T16:40:05.123456789Z");
    }

    #[test]
    fn a_time_outside_the_years_1970_to_9999_is_written_as_the_nearest_one_inside() {
        let last = Duration::from_secs(253_402_300_799);
        for after_1970 in [last, last + Duration::from_secs(1), Duration::from_secs(i64::MAX as u64)] {
            assert_eq!(rfc3339(UNIX_EPOCH + after_1970, 3), "9999-12-31T23:59:59.000Z");
        }
        for before_1970 in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(i64::MAX as u64)] {
            assert_eq!(rfc3339(UNIX_EPOCH - before_1970, 3), "1970-01-01T00:00:00.000Z");
        }
    }

    #[test]
    fn a_span_is_written_in_its_two_largest_units() {
        for (seconds, words) in [
            (0, "less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (3599, "59 minutes 59 seconds"),
            (3601, "1 hour"),
            (90_000, "1 day 1 hour"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
