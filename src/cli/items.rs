//! What commands answer with: the documented shapes of JSON and YAML, and their columns in tables and plain lines.
//!
//! Every key is always there, null where nothing is known, so that a script can rely on it (`docs/cli.md`). A ledger knows
//! all of them; the cluster, which [`super::cluster`] asks, does not.

use std::collections::BTreeMap;

use indicatif::BinaryBytes;
use jiff::Timestamp;
use serde::Serialize;

use super::output::Item;
use crate::model::{
    Event, Hold, PackageName, Removal, Sha256, TagName, TagState, Version, VersionRecord, time,
};

/// Stands for nothing in tables and plain lines, so that columns keep their places.
const NOTHING: &str = "-";

pub(super) fn or_nothing(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

/// A time for people: seconds are enough.
fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

pub(super) fn joined(tags: &[TagName]) -> String {
    if tags.is_empty() {
        return NOTHING.to_owned();
    }
    tags.iter().map(TagName::as_str).collect::<Vec<_>>().join(",")
}

/// A package, for `list`.
#[derive(Debug, Serialize)]
pub(super) struct PackageItem {
    pub(super) package: PackageName,
}

impl Item for PackageItem {
    const HEADERS: &'static [&'static str] = &["PACKAGE"];

    fn cells(&self) -> Vec<String> {
        self.plain()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name()]
    }

    fn name(&self) -> String {
        self.package.as_str().to_owned()
    }
}

/// A version, for `versions`, `info` and `add`.
#[derive(Debug, Serialize)]
pub(super) struct VersionItem {
    pub(super) package: PackageName,
    pub(super) version: Version,
    pub(super) sha256: Option<Sha256>,
    pub(super) size: Option<u64>,
    pub(super) basename: Option<String>,
    pub(super) mode: Option<u32>,
    pub(super) metadata: Option<BTreeMap<String, String>>,
    #[serde(with = "time::option")]
    pub(super) added_at: Option<Timestamp>,
    pub(super) added_by: Option<String>,
    pub(super) add_id: Option<String>,
    pub(super) tags: Vec<TagName>,
    pub(super) removed: Option<Removal>,
    /// `<package>@<version>+sha256:<hex>`; null for a removed version.
    pub(super) pinned: Option<String>,
}

impl VersionItem {
    /// A version and the tags that point to it, out of all tags of its package.
    pub(super) fn new(record: VersionRecord, tags: &[TagState]) -> Self {
        let here = |state: &&TagState| state.version == Some(record.version);
        let gone = record.is_removed();
        Self {
            tags: tags.iter().filter(here).map(|state| state.tag.clone()).collect(),
            pinned: (!gone).then(|| record.pinned().to_string()),
            sha256: (!gone).then_some(record.sha256),
            package: record.package,
            version: record.version,
            size: record.size,
            basename: Some(record.basename),
            mode: Some(record.mode),
            metadata: Some(record.metadata),
            added_at: record.added_at,
            added_by: record.added_by,
            add_id: record.add_id,
            removed: record.removal,
        }
    }

    /// What `info -o name` prints.
    pub(super) fn pinned(&self) -> String {
        self.pinned.clone().unwrap_or_else(|| self.version.to_string())
    }

    /// The fields of `info`, named as in JSON.
    pub(super) fn fields(&self, for_people: bool) -> Vec<(String, String)> {
        let size = match self.size {
            Some(size) if for_people && size >= 1024 => format!("{} ({size} bytes)", BinaryBytes(size)),
            size => or_nothing(size),
        };
        let mut fields: Vec<(String, String)> = [
            ("package", self.package.as_str().to_owned()),
            ("version", self.version.to_string()),
            ("sha256", or_nothing(self.sha256)),
            ("size", size),
            ("basename", or_nothing(self.basename.as_ref())),
            ("mode", or_nothing(self.mode.map(|mode| format!("{mode:06o}")))),
            ("tags", joined(&self.tags)),
            ("added_at", or_nothing(self.added_at.map(time::format))),
            ("added_by", or_nothing(self.added_by.as_ref())),
            ("pinned", or_nothing(self.pinned.as_ref())),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        fields.extend(
            self.metadata.iter().flatten().map(|(key, value)| (format!("metadata.{key}"), value.clone())),
        );
        fields
    }
}

impl Item for VersionItem {
    const HEADERS: &'static [&'static str] = &["VERSION", "TAGS", "SIZE", "SHA256", "ADDED", "BY", "FILE"];
    const WRAPPED: &'static [&'static str] = &["TAGS", "FILE"];

    fn cells(&self) -> Vec<String> {
        let sha256 = match &self.removed {
            None => or_nothing(self.sha256.map(|sha256| sha256.short())),
            Some(_) => "removed".to_owned(),
        };
        vec![
            self.version.to_string(),
            joined(&self.tags),
            or_nothing(self.size.map(BinaryBytes)),
            sha256,
            or_nothing(self.added_at.map(seconds)),
            or_nothing(self.added_by.as_ref()),
            or_nothing(self.basename.as_ref()),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name()]
    }

    fn name(&self) -> String {
        self.version.to_string()
    }
}

/// A tag, for `tags`, `tag`, `hold` and `release`.
#[derive(Debug, Serialize)]
pub(super) struct TagItem {
    pub(super) package: PackageName,
    pub(super) tag: TagName,
    pub(super) version: Option<Version>,
    /// 0 for a tag that only 2015 clients wrote.
    pub(super) seq: Option<u64>,
    pub(super) owner: Option<String>,
    pub(super) hold: Option<Hold>,
    #[serde(with = "time::option")]
    pub(super) changed_at: Option<Timestamp>,
    pub(super) changed_by: Option<String>,
}

impl TagItem {
    pub(super) fn new(package: &PackageName, state: &TagState) -> Self {
        Self {
            package: package.clone(),
            tag: state.tag.clone(),
            version: state.version,
            seq: Some(state.seq()),
            owner: state.owner().map(str::to_owned),
            hold: state.hold().cloned(),
            changed_at: state.event.as_ref().map(|event| event.at),
            changed_by: state.event.as_ref().map(|event| event.by.clone()),
        }
    }
}

impl Item for TagItem {
    const HEADERS: &'static [&'static str] = &["TAG", "VERSION", "CHANGED", "BY", "OWNER", "HELD"];
    const WRAPPED: &'static [&'static str] = &["OWNER", "HELD"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name(),
            or_nothing(self.version),
            or_nothing(self.changed_at.map(seconds)),
            or_nothing(self.changed_by.as_ref()),
            or_nothing(self.owner.as_ref()),
            or_nothing(self.hold.as_ref().map(|hold| &hold.reason)),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name(), or_nothing(self.version)]
    }

    fn name(&self) -> String {
        self.tag.as_str().to_owned()
    }
}

/// An event, for `history`.
#[derive(Debug, Serialize)]
pub(super) struct EventItem {
    pub(super) package: PackageName,
    pub(super) tag: TagName,
    pub(super) seq: u64,
    #[serde(with = "time")]
    pub(super) at: Timestamp,
    pub(super) kind: String,
    pub(super) from: Option<Version>,
    pub(super) to: Option<Version>,
    pub(super) by: String,
    pub(super) source: String,
    pub(super) reason: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) hold: Option<Hold>,
    pub(super) id: Option<String>,
    pub(super) prev: Option<Sha256>,
}

impl EventItem {
    pub(super) fn new(package: &PackageName, tag: &TagName, event: Event) -> Self {
        Self {
            package: package.clone(),
            tag: tag.clone(),
            seq: event.seq,
            at: event.at,
            kind: event.kind.as_str().to_owned(),
            from: event.from,
            to: event.to,
            by: event.by,
            source: event.source.as_str().to_owned(),
            reason: event.reason,
            owner: event.owner,
            hold: event.hold,
            id: Some(event.id),
            prev: event.prev,
        }
    }

    fn columns(&self, at: String) -> Vec<String> {
        vec![
            self.tag.as_str().to_owned(),
            self.seq.to_string(),
            at,
            self.kind.clone(),
            or_nothing(self.from),
            or_nothing(self.to),
            self.by.clone(),
            self.source.clone(),
            or_nothing(self.reason.as_ref()),
        ]
    }
}

impl Item for EventItem {
    const HEADERS: &'static [&'static str] =
        &["TAG", "SEQ", "AT", "KIND", "FROM", "TO", "BY", "SOURCE", "REASON"];
    const WRAPPED: &'static [&'static str] = &["REASON"];

    fn cells(&self) -> Vec<String> {
        self.columns(seconds(self.at))
    }

    fn plain(&self) -> Vec<String> {
        self.columns(time::format(self.at))
    }

    fn name(&self) -> String {
        self.id.clone().unwrap_or_else(|| format!("{}/{}", self.tag, self.seq))
    }
}

/// A check, for `doctor`.
#[derive(Debug, Serialize)]
pub(super) struct CheckItem {
    /// `ok`, `warning` or `failed`.
    pub(super) verdict: &'static str,
    pub(super) check: String,
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl Item for CheckItem {
    const HEADERS: &'static [&'static str] = &["VERDICT", "CHECK", "TEXT", "HINT"];
    const WRAPPED: &'static [&'static str] = &["TEXT", "HINT"];

    fn cells(&self) -> Vec<String> {
        vec![self.verdict.to_owned(), self.check.clone(), self.text.clone(), or_nothing(self.hint.as_ref())]
    }

    fn plain(&self) -> Vec<String> {
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("; hint: {hint}"));
        vec![self.verdict.to_owned(), self.check.clone(), format!("{}{hint}", self.text)]
    }

    fn name(&self) -> String {
        self.check.clone()
    }
}
