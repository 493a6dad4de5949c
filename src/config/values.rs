//! Durations and sizes as people write them: `500ms`, `1m30s`, `64MiB`.
//!
//! Promises:
//! - a number without a unit is refused: nobody has to know which one was meant;
//! - what is written reads back as the same value.
//!
//! Knows nothing of: settings.

use std::time::Duration;

/// Milliseconds per unit, largest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes per unit, largest first.
const SIZE_UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

/// What a duration looks like, for faults.
pub(super) const DURATION_FORM: &str =
    r#"a duration with its unit, such as "500ms", "20s", "5m" or "1h30m""#;

/// What a size looks like, for faults.
pub(super) const SIZE_FORM: &str = r#"a size with its unit, such as "512KiB", "64MiB" or "1GiB""#;

/// What a filter of log lines looks like, for faults.
pub const LOG_FILTER_FORM: &str = "a level (\"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"), or target=level with commas between";

/// Whether each part of a filter of log lines ends with a level, behind a target or without one.
pub fn is_log_filter(text: &str) -> bool {
    text.split(',').all(|directive| {
        let (target, level) = directive.rsplit_once('=').unwrap_or(("target", directive));
        let is_target = !target.trim().is_empty() && !target.contains('=');
        let level = level.trim();
        // nothing at all would be read as `error`
        let is_level = level.parse::<tracing::level_filters::LevelFilter>().is_ok();
        is_target && !level.is_empty() && is_level
    })
}

/// Reads a duration: whole numbers with a unit, one or several, without spaces between.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (number, unit_and_more) = leading_number(rest)?;
        let end = unit_and_more.find(|c: char| c.is_ascii_digit()).unwrap_or(unit_and_more.len());
        let (unit, more) = unit_and_more.split_at(end);
        let milliseconds = scale_of(&DURATION_UNITS, unit)?;
        // Each unit is smaller than the one before: "5s1m" is more likely a slip than a wish.
        if milliseconds >= smallest {
            return None;
        }
        smallest = milliseconds;
        total = total.checked_add(number.checked_mul(milliseconds)?)?;
        rest = more;
    }
    Some(Duration::from_millis(total))
}

/// Writes a duration so that [`duration`] reads it back, down to milliseconds.
pub fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, milliseconds) in DURATION_UNITS {
        let count = rest / milliseconds;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            rest %= milliseconds;
        }
    }
    text
}

/// Reads a size in bytes: one whole number with a unit.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text.trim())?;
    let unit = unit.trim_start();
    let bytes = if unit == "B" { 1 } else { scale_of(&SIZE_UNITS, unit)? };
    number.checked_mul(bytes)
}

/// Writes a size so that [`size`] reads it back.
pub(super) fn size_text(bytes: u64) -> String {
    for (unit, scale) in SIZE_UNITS {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    format!("{bytes}B")
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn scale_of(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("20s", 20_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("0s", 0),
            ("1s500ms", 1_500),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn durations_without_unit_or_out_of_order_are_refused() {
        for text in
            ["", "5", "5 m", "m", "5min", "-5s", "1.5s", "5s1m", "1m1m", "99999999999999999d"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("512 KiB", 512 << 10),
            ("10MB", 10_000_000),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "64M", "64mib", "1.5GiB", "-1B", "99999999999TiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for milliseconds in [0, 1, 999, 1_000, 61_001, 300_000, 86_400_000, 93_784_005] {
            let value = Duration::from_millis(milliseconds);
            assert_eq!(duration(&duration_text(value)), Some(value));
        }
        for bytes in [0, 1, 1_000, 1_024, 1_500, 64 << 20, (1 << 30) + 1, 5_000_000] {
            assert_eq!(size(&size_text(bytes)), Some(bytes));
        }
        assert_eq!(duration_text(Duration::from_secs(300)), "5m");
        assert_eq!(size_text(64 << 20), "64MiB");
    }
}
