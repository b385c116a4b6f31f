//! How people name a version: `23`, `latest` or a tag; and the pinned form that names exact bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::name::LATEST;
use super::{PackageName, Sha256, TagName, Version};
use crate::error::{Error, Result};

/// A version number, `latest`, or a tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Spec {
    /// This version.
    Version(Version),
    /// The newest version.
    Latest,
    /// The version that this tag points to.
    Tag(TagName),
}

impl FromStr for Spec {
    type Err = Error;

    /// `^[1-9][0-9]*$` is a version, `latest` is the newest, anything else a tag, which may be an old one outside the
    /// rules for new tags.
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid("the spec is empty: give a version, a tag or 'latest'"));
        }
        if text == LATEST {
            return Ok(Self::Latest);
        }
        if !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Version);
        }
        let tag = TagName::existing(text);
        // Nothing that any client could have stored: it needs no look into a ledger.
        if text.chars().any(char::is_control) || text.len() > 1024 {
            tag.check_new()?;
        }
        Ok(Self::Tag(tag))
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(f),
            Self::Latest => f.write_str(LATEST),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

/// `<package>@<version>+sha256:<64 hex>`: names exactly these bytes, needs no ledger to resolve.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PinnedSpec {
    /// The package.
    pub package: PackageName,
    /// The version.
    pub version: Version,
    /// The blob's digest.
    pub sha256: Sha256,
}

impl fmt::Display for PinnedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}+sha256:{}", self.package.as_str(), self.version, self.sha256)
    }
}

impl FromStr for PinnedSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let broken = || {
            Error::invalid(format!(
                "'{text}' is not a pinned spec: '<package>@<version>+sha256:<64 hex digits>' is needed"
            ))
        };
        // From the right: a package name may contain '@'.
        let (package, rest) = text.rsplit_once('@').ok_or_else(broken)?;
        let (version, sha256) = rest.split_once("+sha256:").ok_or_else(broken)?;
        if package.is_empty() {
            return Err(broken());
        }
        Ok(Self {
            package: PackageName::existing(package),
            version: version.parse()?,
            sha256: sha256.parse()?,
        })
    }
}

impl Serialize for PinnedSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PinnedSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_a_version_latest_or_a_tag() {
        for (text, expected) in [
            ("23", Spec::Version(Version::new(23).expect("positive"))),
            ("latest", Spec::Latest),
            ("live", Spec::Tag(TagName::existing("live"))),
            ("Latest", Spec::Tag(TagName::existing("Latest"))),
            ("0", Spec::Tag(TagName::existing("0"))),
            ("007", Spec::Tag(TagName::existing("007"))),
            ("v1", Spec::Tag(TagName::existing("v1"))),
        ] {
            assert_eq!(text.parse::<Spec>().expect(text), expected);
            assert_eq!(expected.to_string(), text);
        }
        for text in ["", "a\nb", "99999999999999999999"] {
            text.parse::<Spec>().expect_err(text);
        }
    }

    #[test]
    fn a_pinned_spec_is_read_from_the_right() {
        let sha256 = Sha256::of(b"x");
        for package in ["frontend", "a/b/c", "user@host", "a@1+sha256:b"] {
            let text = format!("{package}@23+sha256:{sha256}");
            let pinned: PinnedSpec = text.parse().expect(&text);
            assert_eq!((pinned.package.as_str(), pinned.version.get(), pinned.sha256), (package, 23, sha256));
            assert_eq!(pinned.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_pinned_spec_is_refused() {
        let sha256 = Sha256::of(b"x");
        for text in [
            String::new(),
            "frontend@live".into(),
            format!("@1+sha256:{sha256}"),
            format!("frontend@0+sha256:{sha256}"),
            format!("frontend@1+sha256:{}", &sha256.to_string()[1..]),
            format!("frontend@1+sha256:{sha256}0"),
            format!("frontend@1+md5:{sha256}"),
            format!("frontend@1 +sha256:{sha256}"),
        ] {
            text.parse::<PinnedSpec>().expect_err(&text);
        }
    }
}
