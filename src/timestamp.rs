//! Times in RFC 3339, in UTC, and time spans in words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first second of the year 0, in seconds since 1970.
pub(crate) const YEAR_0: i64 = -62_167_219_200;
/// The last second of the year 9999, in seconds since 1970.
pub(crate) const YEAR_9999: i64 = 253_402_300_799;
const DAY: i64 = 86_400;

/// `2026-11-23T16:40:05Z`, with `digits` (up to 9) of a second's fraction.
///
/// RFC 3339 has the years 0 to 9999: a time beyond is written as the first or the last second.
pub(crate) fn rfc3339(time: SystemTime, digits: usize) -> String {
    let (seconds, nanoseconds) = since_1970(time);
    let second_of_day = seconds.rem_euclid(DAY);
    let (year, month, day) = date(seconds.div_euclid(DAY));
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let fraction = format!(".{nanoseconds:09}");
    let fraction = if digits == 0 { "" } else { &fraction[..=digits.min(9)] };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Whole seconds, negative before 1970, and the nanoseconds that follow them.
fn since_1970(time: SystemTime) -> (i64, u32) {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (seconds(after), after.subsec_nanos()),
        Err(error) => match (seconds(error.duration()), error.duration().subsec_nanos()) {
            (before, 0) => (-before, 0),
            (before, nanoseconds) => (-before - 1, 1_000_000_000 - nanoseconds),
        },
    };
    match seconds {
        ..YEAR_0 => (YEAR_0, 0),
        YEAR_0..=YEAR_9999 => (seconds, nanoseconds),
        _ => (YEAR_9999, 0),
    }
}

/// Year, month and day of the Gregorian calendar, of a day counted from 1970-01-01. The year is
/// counted from March, so that the leap day is its last; 400 years have 146,097 days.
fn date(day: i64) -> (i64, i64, i64) {
    // From 0000-03-01 on.
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
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

    /// Compared with the calendar of `der`, which begins with 1970. It repeats itself after 400 years.
    #[test]
    fn every_day_has_its_date() {
        for day in (0..=146_097).chain([(YEAR_9999 / DAY) as u64]) {
            let since_1970 = Duration::from_secs(day * DAY as u64);
            let known = der::DateTime::from_unix_duration(since_1970).unwrap().to_string();
            assert_eq!(rfc3339(UNIX_EPOCH + since_1970, 0), known);
        }
    }

    #[test]
    fn a_time_before_1970_is_written_like_any_other() {
        for (before_1970, text) in [
            (Duration::from_nanos(1), "1969-12-31T23:59:59.999999999Z"),
            (Duration::from_secs(1), "1969-12-31T23:59:59.000000000Z"),
            // 1904-02-29 was a leap day, and 1900 no leap year.
            (Duration::from_secs(24_048 * 86_400), "1904-02-29T00:00:00.000000000Z"),
            (Duration::from_secs(25_509 * 86_400), "1900-02-28T00:00:00.000000000Z"),
            (Duration::from_secs(25_508 * 86_400), "1900-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH - before_1970, 9), text);
        }
    }

    #[test]
    fn a_time_beyond_the_years_of_the_standard_is_written_as_the_nearest_one_in_it() {
        for (seconds, text) in
            [(YEAR_9999 as u64 + 1, "9999-12-31T23:59:59Z"), (i64::MAX as u64, "9999-12-31T23:59:59Z")]
        {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds), 0), text);
        }
        for seconds in [YEAR_0.unsigned_abs(), YEAR_0.unsigned_abs() + 1, i64::MAX as u64] {
            assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(seconds), 0), "0000-01-01T00:00:00Z");
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
