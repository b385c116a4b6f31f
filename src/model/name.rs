//! Package and tag names. New names obey the rules; names that the 2015 client wrote stay readable.
//!
//! `new` checks the rules for writing, `existing` takes whatever a ledger holds. A backend calls
//! [`PackageName::check_new`] before it writes, so a lenient name never creates anything.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::Version;
use crate::error::{Error, Result};

/// Components that would collide with the object layout (`docs/formats.md`).
const RESERVED_COMPONENTS: [&str; 6] = [".", "..", "versions", "tags", "history", "generations"];

/// The longest package name, in bytes.
const PACKAGE_MAX: usize = 512;

/// The longest tag, in bytes.
const TAG_MAX: usize = 128;

/// The reserved tag that always resolves to the newest version and is never stored.
pub(crate) const LATEST: &str = "latest";

/// Unicode's explicit direction controls: they make one name look like another on a terminal.
fn is_direction_control(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The name of a package, such as `frontend-server` or `cluster/role/env/job`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PackageName(String);

impl PackageName {
    /// A name that obeys the rules for new packages.
    ///
    /// # Errors
    /// `Invalid`, naming the rule.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = Self(name.into());
        name.check_new()?;
        Ok(name)
    }

    /// A name found in a ledger, whatever it looks like.
    pub fn existing(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Checks the rules for new packages: UTF-8 of at most 512 bytes; components separated by `/`, none empty
    /// or reserved; no control characters; no leading `-`; not sacker's own namespaces.
    ///
    /// # Errors
    /// `Invalid`, naming the rule.
    pub fn check_new(&self) -> Result<()> {
        let name = self.0.as_str();
        let broken = if name.is_empty() {
            "it must not be empty".to_owned()
        } else if name.len() > PACKAGE_MAX {
            format!("it has {} bytes, {PACKAGE_MAX} are allowed", name.len())
        } else if name.chars().any(|letter| letter.is_control() || is_direction_control(letter)) {
            "it must not contain control characters".to_owned()
        } else if name.starts_with('-') {
            "it must not begin with '-'".to_owned()
        } else if name.starts_with("sacker:") || name.split('/').next() == Some("_sacker") {
            "names that begin with 'sacker:' or '_sacker/' are sacker's own".to_owned()
        } else if name.split('/').any(str::is_empty) {
            "it must not begin or end with '/' or contain '//'".to_owned()
        } else if let Some(part) = name.split('/').find(|part| RESERVED_COMPONENTS.contains(part)) {
            format!("the component '{part}' is reserved")
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("package name '{}' is not allowed: {broken}", shown(name))))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `name` as it may stand in a message: control characters escaped, cut at 100 characters.
fn shown(name: &str) -> String {
    let mut text: String = name
        .chars()
        .take(100)
        .flat_map(|letter| {
            let hidden = letter.is_control() || is_direction_control(letter);
            let (escaped, plain) =
                if hidden { (Some(letter.escape_unicode()), None) } else { (None, Some(letter)) };
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if name.chars().count() > 100 {
        text.push('…');
    }
    text
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_in_full(&self.0))
    }
}

/// Like [`shown`], never cut: what is printed must be what can be typed, where it can be typed at all.
pub(crate) fn shown_in_full(name: &str) -> std::borrow::Cow<'_, str> {
    if name.chars().any(|letter| letter.is_control() || is_direction_control(letter)) {
        let escape = |letter: char| {
            let hidden = letter.is_control() || is_direction_control(letter);
            if hidden { letter.escape_unicode().to_string() } else { letter.to_string() }
        };
        name.chars().map(escape).collect::<String>().into()
    } else {
        name.into()
    }
}

impl fmt::Debug for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for PackageName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl<'de> Deserialize<'de> for PackageName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::existing)
    }
}

/// A label on one version of a package, such as `live`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TagName(String);

impl TagName {
    /// A tag that obeys the rules for new tags.
    ///
    /// # Errors
    /// `Invalid`, naming the rule.
    pub fn new(tag: impl Into<String>) -> Result<Self> {
        let tag = Self(tag.into());
        tag.check_new()?;
        Ok(tag)
    }

    /// A tag found in a ledger, whatever it looks like.
    pub fn existing(tag: impl Into<String>) -> Self {
        Self(tag.into())
    }

    /// Checks the rules for new tags: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`, never `latest` in any case, never
    /// anything that reads as a number.
    ///
    /// # Errors
    /// `Invalid`, naming the rule.
    pub fn check_new(&self) -> Result<()> {
        let tag = self.0.as_str();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let broken = if tag.is_empty() {
            "it must not be empty".to_owned()
        } else if tag.eq_ignore_ascii_case(LATEST) {
            "'latest' is reserved: it always is the newest version".to_owned()
        } else if reads_as_number(tag) {
            "it reads as a version number".to_owned()
        } else if tag.len() > TAG_MAX {
            format!("it has {} bytes, {TAG_MAX} are allowed", tag.len())
        } else if !tag.as_bytes()[0].is_ascii_alphanumeric() || !tag.bytes().all(allowed) {
            "it must be letters, digits, '.', '_' and '-', beginning with a letter or digit".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("tag '{}' is not allowed: {broken}", shown(tag))))
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that a tag of this name can be stored at all, under today's rules or those of 2015.
    ///
    /// # Errors
    /// `Invalid` for `latest`, which always is the newest version.
    pub fn check_stored(&self) -> Result<()> {
        if self.0 == LATEST {
            return Err(Error::invalid("'latest' is not a stored tag: it always is the newest version"));
        }
        Ok(())
    }

    /// The version that somebody meant who wrote this as a tag, such as `v42` or `042`.
    pub(crate) fn meant_version(&self) -> Option<Version> {
        let digits = self.0.strip_prefix(['v', 'V', '+']).unwrap_or(&self.0);
        let plain = digits.trim_start_matches('0');
        reads_as_number(&self.0).then(|| plain.parse().ok()).flatten()
    }
}

/// Whether people or parsers could take `tag` for a version: `42`, `v42`, `+1`, `-1`, `1_0`, `1.0`.
fn reads_as_number(tag: &str) -> bool {
    let digits = tag.strip_prefix(['v', 'V', '+', '-']).unwrap_or(tag);
    digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_in_full(&self.0))
    }
}

impl fmt::Debug for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for TagName {
    type Err = Error;

    fn from_str(tag: &str) -> Result<Self> {
        Self::new(tag)
    }
}

impl<'de> Deserialize<'de> for TagName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::existing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_that_are_allowed() {
        for name in [
            "a",
            "frontend-server",
            "cluster/role/env/job",
            "größe",
            "a.b_c",
            "x".repeat(512).as_str(),
            "a@b",
        ] {
            assert!(PackageName::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn package_names_that_are_refused_name_the_rule() {
        for (name, rule) in [
            ("", "must not be empty"),
            ("/a", "must not begin or end with '/'"),
            ("a/", "must not begin or end with '/'"),
            ("a//b", "must not begin or end with '/'"),
            ("a/../b", "'..' is reserved"),
            (".", "'.' is reserved"),
            ("a/versions/b", "'versions' is reserved"),
            ("tags", "'tags' is reserved"),
            ("history/x", "'history' is reserved"),
            ("generations", "'generations' is reserved"),
            ("a\nb", "control characters"),
            ("a\0b", "control characters"),
            ("a\u{202e}b", "control characters"),
            ("-a", "must not begin with '-'"),
            ("sacker:history:a", "sacker's own"),
            ("_sacker/probe", "sacker's own"),
            ("x".repeat(513).as_str(), "512 are allowed"),
        ] {
            let error = PackageName::new(name).expect_err(name).to_string();
            assert!(error.contains(rule), "{name}: {error}");
        }
    }

    #[test]
    fn tags_that_are_allowed() {
        for tag in ["live", "v1.2.3", "1.0", "2026-11-21", "a", "rc_1", "x".repeat(128).as_str()] {
            assert!(TagName::new(tag).is_ok(), "{tag}");
        }
    }

    #[test]
    fn tags_that_are_refused_name_the_rule() {
        for (tag, rule) in [
            ("", "must not be empty"),
            ("latest", "is reserved"),
            ("LaTeSt", "is reserved"),
            ("42", "version number"),
            ("v42", "version number"),
            ("+1", "version number"),
            ("-1", "version number"),
            ("1_0", "version number"),
            ("-live", "beginning with a letter"),
            (".live", "beginning with a letter"),
            ("li/ve", "letters, digits"),
            ("lïve", "letters, digits"),
            ("a b", "letters, digits"),
            ("x".repeat(129).as_str(), "128 are allowed"),
        ] {
            let error = TagName::new(tag).expect_err(tag).to_string();
            assert!(error.contains(rule), "{tag}: {error}");
        }
    }
}
