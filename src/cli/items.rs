//! What commands answer with: the documented shapes of JSON and YAML, and their columns in tables and plain lines.
//!
//! Every key is always there, null where nothing is known, so that a script can rely on it (`docs/cli.md`).

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

fn or_nothing(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

/// A time for people: seconds are enough.
fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

fn joined(tags: &[TagName]) -> String {
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
    package: PackageName,
    version: Version,
    sha256: Option<Sha256>,
    size: Option<u64>,
    basename: String,
    mode: u32,
    metadata: BTreeMap<String, String>,
    #[serde(with = "time::option")]
    added_at: Option<Timestamp>,
    added_by: Option<String>,
    add_id: Option<String>,
    tags: Vec<TagName>,
    removed: Option<Removal>,
    /// `<package>@<version>+sha256:<hex>`; null for a removed version.
    pinned: Option<String>,
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
            basename: record.basename,
            mode: record.mode,
            metadata: record.metadata,
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
            ("basename", self.basename.clone()),
            ("mode", format!("{:06o}", self.mode)),
            ("tags", joined(&self.tags)),
            ("added_at", or_nothing(self.added_at.map(time::format))),
            ("added_by", or_nothing(self.added_by.as_ref())),
            ("pinned", or_nothing(self.pinned.as_ref())),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        fields.extend(self.metadata.iter().map(|(key, value)| (format!("metadata.{key}"), value.clone())));
        fields
    }
}

impl Item for VersionItem {
    const HEADERS: &'static [&'static str] = &["VERSION", "TAGS", "SIZE", "SHA256", "ADDED", "BY", "FILE"];
    const WRAPPED: &'static [&'static str] = &["TAGS", "FILE"];

    fn cells(&self) -> Vec<String> {
        let sha256 = match self.sha256 {
            Some(sha256) => sha256.short(),
            None => "removed".to_owned(),
        };
        vec![
            self.version.to_string(),
            joined(&self.tags),
            or_nothing(self.size.map(BinaryBytes)),
            sha256,
            or_nothing(self.added_at.map(seconds)),
            or_nothing(self.added_by.as_ref()),
            self.basename.clone(),
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
    package: PackageName,
    tag: TagName,
    version: Option<Version>,
    seq: u64,
    owner: Option<String>,
    hold: Option<Hold>,
    #[serde(with = "time::option")]
    changed_at: Option<Timestamp>,
    changed_by: Option<String>,
}

impl TagItem {
    pub(super) fn new(package: &PackageName, state: &TagState) -> Self {
        Self {
            package: package.clone(),
            tag: state.tag.clone(),
            version: state.version,
            seq: state.seq(),
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
    package: PackageName,
    tag: TagName,
    seq: u64,
    #[serde(with = "time")]
    at: Timestamp,
    kind: &'static str,
    from: Option<Version>,
    to: Option<Version>,
    by: String,
    source: &'static str,
    reason: Option<String>,
    owner: Option<String>,
    hold: Option<Hold>,
    id: String,
    prev: Option<Sha256>,
}

impl EventItem {
    pub(super) fn new(package: &PackageName, tag: &TagName, event: Event) -> Self {
        Self {
            package: package.clone(),
            tag: tag.clone(),
            seq: event.seq,
            at: event.at,
            kind: event.kind.as_str(),
            from: event.from,
            to: event.to,
            by: event.by,
            source: event.source.as_str(),
            reason: event.reason,
            owner: event.owner,
            hold: event.hold,
            id: event.id,
            prev: event.prev,
        }
    }

    fn columns(&self, at: String) -> Vec<String> {
        vec![
            self.tag.as_str().to_owned(),
            self.seq.to_string(),
            at,
            self.kind.to_owned(),
            or_nothing(self.from),
            or_nothing(self.to),
            self.by.clone(),
            self.source.to_owned(),
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
        self.id.clone()
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
