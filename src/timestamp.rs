//! Times as people and programs read them: RFC 3339, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::DateTime;

/// `2026-11-23T16:40:05Z`, or with as many digits of a second's fraction as asked for (up to 9).
pub fn rfc3339(time: SystemTime, digits: usize) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let date = DateTime::from_unix_duration(since_epoch).unwrap_or(DateTime::INFINITY).to_string();
    let fraction = format!("{:09}", since_epoch.subsec_nanos());
    match digits {
        0 => date,
        _ => format!("{}.{}Z", date.trim_end_matches('Z'), &fraction[..digits.min(9)]),
    }
}

/// A time span as people say it, in its two largest units: `3 days 4 hours`, `12 seconds`.
pub fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [
        (seconds / 86_400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let first = units.iter().position(|(number, _)| *number > 0).unwrap_or(3);
    let words = units[first..].iter().take(2).filter(|(number, _)| *number > 0);
    let words: Vec<_> = words
        .map(|(number, unit)| format!("{number} {unit}{}", if *number == 1 { "" } else { "s" }))
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
    fn a_span_is_told_in_its_two_largest_units() {
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
