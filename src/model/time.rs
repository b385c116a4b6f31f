//! How times are written: RFC 3339, UTC, always three digits of milliseconds, so that equal times are equal text.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serializer, de};

use crate::error::{Error, Result};

/// Cuts `time` to whole milliseconds, the resolution of every record.
pub fn to_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// `time` as text, such as `2026-11-21T10:00:00.000Z`.
pub fn format(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// `span` as a person writes it, such as `1h 30m`.
pub fn format_span(span: Duration) -> String {
    jiff::SignedDuration::try_from(span).map_or_else(|_| format!("{span:?}"), |span| format!("{span:#}"))
}

/// The time that a person means: RFC 3339 (`2026-11-21T10:00:00Z`, with any offset), a date (its first moment in UTC), or how
/// long before `now`, in weeks, days of 24 hours, hours, minutes and seconds (`3d`, `1h30m`).
///
/// # Errors
/// `Invalid` for anything else, and for a time after `now`.
pub fn parse_past(text: &str, now: Timestamp) -> Result<Timestamp> {
    let by_date = || text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10);
    let midnight = |date: jiff::civil::Date| date.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let time = match parse_span(text) {
        Some(span) => now.checked_sub(span).ok(),
        None => by_date().and_then(midnight).map(|zoned| zoned.timestamp()).or_else(|| text.parse().ok()),
    };
    let Some(time) = time else {
        return Err(Error::invalid(format!("'{text}' is no time"))
            .with_hint("a time is such as 2026-11-21T10:00:00Z, 2026-11-21, or 3d for three days ago"));
    };
    if time > now {
        return Err(Error::invalid(format!("'{text}' is in the future")));
    }
    Ok(time)
}

/// Reads `3d`, `1h30m`: numbers with units, each greater than the next.
fn parse_span(text: &str) -> Option<Duration> {
    const UNITS: [(char, u64); 5] = [('w', 7 * 86_400), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
    let mut left = text;
    let mut units = UNITS.as_slice();
    let mut span = Duration::ZERO;
    while !left.is_empty() {
        let end = left.find(|letter: char| !letter.is_ascii_digit())?;
        let (digits, rest) = left.split_at(end);
        let position = units.iter().position(|(unit, _)| rest.starts_with(*unit))?;
        let seconds = digits.parse::<u64>().ok()?.checked_mul(units[position].1)?;
        span = span.checked_add(Duration::from_secs(seconds))?;
        units = &units[position + 1..];
        left = &rest[1..];
    }
    (!text.is_empty()).then_some(span)
}

/// Writes a time in the one format; for `#[serde(with = "crate::model::time")]`.
pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// The time of a record: any RFC 3339 time, cut to the resolution in which it would be written again, so that what was read
/// is what is hashed and exported.
///
/// # Errors
/// What is wrong with it, for a text that is no time.
pub fn parse_stored(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse().map(to_milliseconds)
}

/// Reads the time of a record; for `#[serde(with = "crate::model::time")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_stored(&text).map_err(de::Error::custom)
}

/// The same for a time that may be absent.
pub mod option {
    use super::{Deserialize, Deserializer, Serializer, Timestamp, de};

    /// Writes a time in the one format, or null.
    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads any RFC 3339 time, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse_stored(&text).map_err(de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_time_is_read_as_it_is_written_again() {
        for text in
            ["2026-11-21T10:00:01.0002Z", "2026-11-21T11:00:01.9999999+01:00", "1969-12-31T23:59:59.9995Z"]
        {
            let time = parse_stored(text).expect(text);
            assert_eq!(parse_stored(&format(time)).expect(text), time, "{text}");
        }
    }

    #[test]
    fn times_as_people_write_them() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("2026-11-21T09:00:00Z", "2026-11-21T09:00:00Z"),
            ("2026-11-21T10:00:00+02:00", "2026-11-21T08:00:00Z"),
            ("2026-11-21", "2026-11-21T00:00:00Z"),
            ("2h", "2026-11-21T08:00:00Z"),
            ("3d", "2026-11-18T10:00:00Z"),
            ("1w1d1h1m1s", "2026-11-13T08:58:59Z"),
            ("0s", "2026-11-21T10:00:00Z"),
        ] {
            let expected: Timestamp = expected.parse().expect("a time");
            assert_eq!(parse_past(text, now).expect(text), expected, "{text}");
        }
        for text in ["", "2026-11-22", "h", "2", "2x", "1m2h", "-2h", "now", "10:00", "99999999999999999999d"]
        {
            parse_past(text, now).expect_err(text);
        }
    }
}
