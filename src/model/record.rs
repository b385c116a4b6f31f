//! The record of one version, and the checks on the parts of it that are somebody's input: file name and mode.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{PackageName, PinnedSpec, Sha256, Version};
use crate::error::{Error, Result};

/// Who removed a version, when and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Removal {
    /// When.
    #[serde(with = "super::time")]
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One version of one package. Fields that the 2015 client does not write are optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// The package.
    pub package: PackageName,
    /// The version.
    pub version: Version,
    /// The blob's digest and address; [`Sha256::ZERO`] once the version was removed.
    pub sha256: Sha256,
    /// The blob's size in bytes.
    pub size: Option<u64>,
    /// The file's name when it was added. Somebody's input: see [`check_basename`].
    pub basename: String,
    /// The file's full `st_mode`, type bits included. Somebody's input: see [`safe_mode`].
    pub mode: u32,
    /// Free key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// When it was added, by the writer's clock.
    pub added_at: Option<Timestamp>,
    /// Who added it.
    pub added_by: Option<String>,
    /// The id of the `add`: a writer whose reply was lost finds its own record by it.
    pub add_id: Option<String>,
    /// Set once the version was removed.
    pub removal: Option<Removal>,
}

impl VersionRecord {
    /// A version of a file with these bytes about which nothing else is known.
    #[cfg(test)]
    pub(crate) fn example(package: &str, number: i64, bytes: &[u8]) -> Self {
        Self {
            package: PackageName::existing(package),
            version: Version::new(number).expect("positive"),
            sha256: Sha256::of(bytes),
            size: None,
            basename: "app.jar".into(),
            mode: 0o100_644,
            metadata: BTreeMap::new(),
            added_at: None,
            added_by: None,
            add_id: None,
            removal: None,
        }
    }

    /// Whether the version was removed: its number stays taken, its bytes are gone.
    pub fn is_removed(&self) -> bool {
        self.removal.is_some() || self.sha256 == Sha256::ZERO
    }

    /// Whether two records say the same. Times count in milliseconds, the resolution in which they are written.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let cut = |record: &Self| {
            let mut record = record.clone();
            record.added_at = record.added_at.map(super::time::to_milliseconds);
            if let Some(removal) = &mut record.removal {
                removal.at = super::time::to_milliseconds(removal.at);
            }
            record
        };
        cut(self) == cut(other)
    }

    /// The spec that names exactly these bytes.
    pub fn pinned(&self) -> PinnedSpec {
        PinnedSpec { package: self.package.clone(), version: self.version, sha256: self.sha256 }
    }
}

/// What `add` records. The id is fresh per `add` and stays the same over its retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The blob's digest; the blob must be durable in the store already.
    pub sha256: Sha256,
    /// The blob's size in bytes.
    pub size: u64,
    /// The file's name: one path component.
    pub basename: String,
    /// The file's full `st_mode`.
    pub mode: u32,
    /// Free key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// Who adds it.
    pub added_by: String,
    /// Only if the newest version is this one; for scripts that must not race.
    pub if_latest: Option<Version>,
    /// The id of this `add`.
    pub add_id: String,
}

/// The longest file name that Linux file systems take, in bytes.
const BASENAME_MAX: usize = 255;

/// Checks that a file name is one harmless path component: not empty, not `.` or `..`, no `/`, no control
/// characters (a newline in a name forges log lines), at most 255 bytes.
///
/// # Errors
/// `Invalid`, naming the rule.
pub fn check_basename(basename: &str) -> Result<()> {
    let broken = if basename.is_empty() || basename == "." || basename == ".." {
        "it must name a file"
    } else if basename.contains('/') {
        "it must not contain '/'"
    } else if basename.chars().any(char::is_control) {
        "it must not contain control characters"
    } else if basename.len() > BASENAME_MAX {
        "it has more than 255 bytes"
    } else {
        return Ok(());
    };
    let shown: String = basename.chars().take(100).flat_map(char::escape_debug).collect();
    Err(Error::invalid(format!("file name '{shown}' is not allowed: {broken}")))
}

/// The permission bits that a downloaded file gets: what was recorded, without set-user-id, set-group-id, sticky and
/// write for group and others; a record without any permission bit gives `0o644`.
pub const fn safe_mode(mode: u32) -> u32 {
    match mode & 0o755 {
        0 => 0o644,
        safe => safe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_lose_what_is_dangerous() {
        for (recorded, given) in [
            (0o100_644, 0o644),
            (0o100_755, 0o755),
            (0o104_755, 0o755),
            (0o102_755, 0o755),
            (0o100_666, 0o644),
            (0o100_777, 0o755),
            (0o100_600, 0o600),
            (0o100_000, 0o644),
            (0, 0o644),
        ] {
            assert_eq!(safe_mode(recorded), given, "{recorded:o}");
        }
    }
}
