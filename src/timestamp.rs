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
}
