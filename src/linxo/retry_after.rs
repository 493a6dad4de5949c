//! How long a `Retry-After` header asks to wait.
//!
//! Promises:
//! - seconds and HTTP dates are both understood (RFC 9110, 10.2.3), a date against the answer's own
//!   `Date` where it has one, so that clock skew does not count;
//! - never longer than [`LONGEST`], as a queue must be asked before it dies.
//!
//! Knows nothing of: HTTP.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use crate::ids::Timestamp;

/// The longest wait that is taken from the source.
pub(super) const LONGEST: Duration = Duration::from_secs(600);

/// The wait a `Retry-After` asks for; none when it cannot be read.
pub(super) fn wait(value: &[u8], date: Option<&[u8]>, now: Timestamp) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a number of seconds: a long one.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)).min(LONGEST));
    }
    let until = moment(text.as_bytes())?;
    let from = date.and_then(moment).unwrap_or(now);
    Some(until.since(from).min(LONGEST))
}

fn moment(text: &[u8]) -> Option<Timestamp> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    Some(Timestamp(PARSER.parse_timestamp(text).ok()?.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT

    #[test]
    fn seconds_and_dates_are_understood() {
        assert_eq!(wait(b"7", None, NOW), Some(Duration::from_secs(7)));
        assert_eq!(wait(b" 0 ", None, NOW), Some(Duration::ZERO));
        let date = b"Sun, 06 Nov 1994 08:50:07 GMT";
        assert_eq!(wait(date, None, NOW), Some(Duration::from_secs(30)));
        let skewed = b"Sun, 06 Nov 1994 08:50:02 GMT";
        assert_eq!(wait(date, Some(skewed), NOW), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_wait_is_bounded_and_never_negative() {
        assert_eq!(wait(b"86400", None, NOW), Some(LONGEST));
        assert_eq!(wait(b"99999999999999999999999", None, NOW), Some(LONGEST));
        assert_eq!(wait(b"Sun, 06 Nov 1994 08:00:00 GMT", None, NOW), Some(Duration::ZERO));
        assert_eq!(wait(b"Sun, 06 Nov 2044 08:00:00 GMT", None, NOW), Some(LONGEST));
    }

    #[test]
    fn nonsense_asks_for_no_wait() {
        for text in ["", "soon", "-5", "1.5"] {
            assert_eq!(wait(text.as_bytes(), None, NOW), None, "{text}");
        }
    }
}
