//! The two shapes in which the source writes a moment.
//!
//! Promises:
//! - epoch seconds (v2.1), also fractional, and ISO 8601 text (v3) give the same milliseconds;
//! - text without an offset is taken for UTC, a date alone for its midnight;
//! - what cannot be a moment is an error, never a wrong one.
//!
//! Knows nothing of: fields, events.

use std::fmt;

use jiff::{civil, tz::TimeZone};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::ids::Timestamp;

/// A moment as the source writes it.
pub(super) struct Moment(pub(super) Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MomentVisitor)
    }
}

struct MomentVisitor;

impl Visitor<'_> for MomentVisitor {
    type Value = Moment;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("seconds since 1970 or ISO 8601 text")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Moment, E> {
        let millis = seconds.checked_mul(1000);
        millis.map(|millis| Moment(Timestamp(millis))).ok_or_else(|| E::custom("out of range"))
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Moment, E> {
        self.visit_i64(i64::try_from(seconds).map_err(|_| E::custom("out of range"))?)
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Moment, E> {
        let millis = (seconds * 1000.0).round();
        // 2^53: up to here every whole number is exact.
        if millis.abs() <= 9_007_199_254_740_992.0 {
            Ok(Moment(Timestamp(millis as i64)))
        } else {
            Err(E::custom("out of range"))
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
        iso(text).map(Moment).ok_or_else(|| E::custom("not ISO 8601"))
    }
}

fn iso(text: &str) -> Option<Timestamp> {
    let moment = match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment,
        Err(_) => {
            let there = text.parse::<civil::DateTime>().ok()?;
            there.to_zoned(TimeZone::UTC).ok()?.timestamp()
        }
    };
    Some(Timestamp(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<i64> {
        serde_json::from_str::<Moment>(json).ok().map(|moment| moment.0.0)
    }

    #[test]
    fn both_shapes_give_the_same_milliseconds() {
        for same in [
            "1527761001",
            "1527761001.0",
            "1.527761001e9",
            r#""2018-05-31T10:03:21Z""#,
            r#""2018-05-31T12:03:21+02:00""#,
            r#""2018-05-31T12:03:21+0200""#,
            r#""2018-05-31T10:03:21""#,
            r#""2018-05-31 10:03:21Z""#,
        ] {
            assert_eq!(read(same), Some(1_527_761_001_000), "{same}");
        }
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("-1.5"), Some(-1_500));
        assert_eq!(read("1527761001.25"), Some(1_527_761_001_250));
        assert_eq!(read(r#""2018-05-31T10:03:21.2509Z""#), Some(1_527_761_001_250));
        assert_eq!(read(r#""2018-05-31""#), Some(1_527_724_800_000));
    }

    #[test]
    fn what_cannot_be_a_moment_is_an_error() {
        for wrong in
            ["1e300", "18446744073709551615", "9223372036854775807", r#""""#, r#""soon""#, "true"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
