//! A version number: positive, and within what DynamoDB, JSON readers and Kubernetes can carry.

use std::fmt;
use std::num::NonZeroI64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::error::Error;

/// A package version, from 1 to `i64::MAX`. Versions of one package only increase and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Version(NonZeroI64);

impl Version {
    /// The first version of a package whose versions are numbered 1, 2, 3, ...
    pub const FIRST: Self = Self(NonZeroI64::new(1).expect("1 is not zero"));

    /// A version from a number; `None` unless it is positive.
    pub const fn new(number: i64) -> Option<Self> {
        match NonZeroI64::new(number) {
            Some(number) if number.get() > 0 => Some(Self(number)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0.get()
    }

    /// The version after this one; `None` at the end of the range.
    pub fn next(self) -> Option<Self> {
        self.get().checked_add(1).and_then(Self::new)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Reads `^[1-9][0-9]*$`, the one spelling of a version everywhere.
    fn from_str(text: &str) -> Result<Self, Error> {
        let plain =
            !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        plain
            .then(|| text.parse().ok().and_then(Self::new))
            .flatten()
            .ok_or_else(|| Error::invalid(format!("version '{text}' is not a number from 1 to {}", i64::MAX)))
    }
}

impl<'de> Deserialize<'de> for Version {
    /// Reads a number, or a string of digits: the 2015 client's `tag` command wrote strings.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Self::new(number)
                .ok_or_else(|| de::Error::custom(format!("version {number} is not positive"))),
            Either::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_digits_without_a_leading_zero() {
        for (text, number) in
            [("1", 1), ("42", 42), ("1795223159828", 1_795_223_159_828), ("9223372036854775807", i64::MAX)]
        {
            assert_eq!(text.parse::<Version>().expect(text).get(), number);
        }
        for text in ["", "0", "01", "-1", "+1", "1.0", "1_0", " 1", "١", "9223372036854775808"] {
            text.parse::<Version>().expect_err(text);
        }
    }

    #[test]
    fn json_is_a_number_or_the_text_of_the_2015_client() {
        for (json, number) in [("7", 7), ("\"1795223159828\"", 1_795_223_159_828)] {
            assert_eq!(serde_json::from_str::<Version>(json).expect(json).get(), number);
        }
        for json in ["0", "-1", "1.5", "\"latest\"", "\"\"", "null", "9223372036854775808"] {
            serde_json::from_str::<Version>(json).expect_err(json);
        }
        assert_eq!(serde_json::to_string(&Version::FIRST).expect("json"), "1");
    }
}
