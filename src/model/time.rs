//! How times are written: RFC 3339, UTC, always three digits of milliseconds, so that equal times are equal text.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serializer, de};

/// Cuts `time` to whole milliseconds, the resolution of every record.
pub fn to_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// `time` as text, such as `2026-11-21T10:00:00.000Z`.
pub fn format(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Writes a time in the one format; for `#[serde(with = "crate::model::time")]`.
pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// Reads any RFC 3339 time; for `#[serde(with = "crate::model::time")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
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
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}
