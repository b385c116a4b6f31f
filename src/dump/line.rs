//! The lines of an export, in and out (`docs/formats.md`).
//!
//! There is one spelling of each line: what would be written differently is refused, so that nothing is lost unseen (a key
//! of a later sacker, a key twice). Not responsible for the order of lines ([`super::Reader`]).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ledger::{Pointer, TagDump};
use crate::model::{Event, Numbering, PackageName, Removal, Sha256, TagName, Version, VersionRecord, time};

/// The longest line, in bytes, without its end: a record of a ledger has 1 MiB at most, a line adds the names around it.
pub const LINE_MAX: usize = (1 << 20) + (64 << 10);

/// The first line. No time and no host: equal ledgers give equal files.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    format: String,
    revision: u32,
    pub(super) versions: Numbering,
}

const FORMAT: &str = "sacker-export";

/// Raised when an older sacker would misread the lines.
const REVISION: u32 = 1;

impl Header {
    pub(super) fn new(versions: Numbering) -> Self {
        Self { format: FORMAT.to_owned(), revision: REVISION, versions }
    }

    /// Reads the first line of a file.
    ///
    /// # Errors
    /// `Invalid` when it is no export, or one of a later sacker.
    pub(super) fn decode(line: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Any {
            format: String,
            revision: u64,
        }
        let any: Option<Any> = serde_json::from_slice(line).ok();
        match any {
            Some(any) if any.format == FORMAT && any.revision == u64::from(REVISION) => {}
            Some(any) if any.format == FORMAT => {
                let rule = format!("the export has revision {}, this sacker reads {REVISION}", any.revision);
                return Err(Error::invalid(rule).with_hint("use the sacker that wrote it, or a later one"));
            }
            _ => {
                return Err(Error::invalid("this is no export of sacker: its first line is another")
                    .with_hint("an export is what 'sacker export' wrote"));
            }
        }
        serde_json::from_slice(line).map_err(|error| Error::invalid(format!("its first line: {error}")))
    }
}

/// A line after the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// A version of a package.
    Version(VersionLine),
    /// A tag of a package; its events follow.
    Tag(TagLine),
    /// An event of the tag before it, as the ledger has it.
    Event(Event),
    /// The last line.
    End(EndLine),
}

/// A version record. Keys without a value are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionLine {
    package: PackageName,
    version: Version,
    sha256: Sha256,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    basename: String,
    mode: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    added_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    added_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    add_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removal: Option<Removal>,
}

impl From<VersionRecord> for VersionLine {
    fn from(record: VersionRecord) -> Self {
        Self {
            package: record.package,
            version: record.version,
            sha256: record.sha256,
            size: record.size,
            basename: record.basename,
            mode: record.mode,
            metadata: record.metadata,
            added_at: record.added_at,
            added_by: record.added_by,
            add_id: record.add_id,
            removal: record.removal,
        }
    }
}

impl From<VersionLine> for VersionRecord {
    fn from(line: VersionLine) -> Self {
        Self {
            package: line.package,
            version: line.version,
            sha256: line.sha256,
            size: line.size,
            basename: line.basename,
            mode: line.mode,
            metadata: line.metadata,
            added_at: line.added_at,
            added_by: line.added_by,
            add_id: line.add_id,
            removal: line.removal,
        }
    }
}

/// A tag, and how many events follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagLine {
    pub(super) package: PackageName,
    pub(super) tag: TagName,
    pointer: PointerKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    pub(super) events: u64,
}

/// [`Pointer`] as a line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PointerKind {
    Event,
    Legacy,
    Deleted,
}

impl TagLine {
    pub(super) fn new(package: PackageName, dump: &TagDump) -> Self {
        let pointer = match dump.pointer {
            Pointer::Event => PointerKind::Event,
            Pointer::Legacy(_) => PointerKind::Legacy,
            Pointer::Deleted => PointerKind::Deleted,
        };
        let (tag, events) = (dump.tag.clone(), dump.events.len() as u64);
        Self { package, tag, pointer, version: dump.version(), events }
    }

    /// The tag with its events.
    ///
    /// # Errors
    /// In words, when the line and the events do not fit together.
    pub(super) fn with(self, events: Vec<Event>) -> Result<(PackageName, TagDump), String> {
        if events.windows(2).any(|pair| pair[0].seq >= pair[1].seq) {
            return Err("its events are not in order".to_owned());
        }
        let pointer = match self.pointer {
            PointerKind::Event => Pointer::Event,
            PointerKind::Legacy => Pointer::Legacy(self.version),
            PointerKind::Deleted => Pointer::Deleted,
        };
        if events.is_empty() && !matches!(pointer, Pointer::Legacy(_)) {
            return Err("it has neither a version nor a history".to_owned());
        }
        let dump = TagDump { tag: self.tag, pointer, events };
        if dump.version() != self.version {
            return Err("its version is not the one that its last event moved to".to_owned());
        }
        Ok((self.package, dump))
    }
}

/// What the lines before the last come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndLine {
    pub(super) packages: u64,
    pub(super) versions: u64,
    pub(super) tags: u64,
    pub(super) events: u64,
    /// Of all bytes before this line.
    pub(super) sha256: Sha256,
}

/// A line as it is written, without its end.
pub fn encode_line(line: &Line) -> String {
    match line {
        // The canonical JSON is what the next event's `prev` is the digest of.
        Line::Event(event) => format!("{{\"event\":{}}}", event.canonical()),
        other => to_json(other),
    }
}

pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have string keys and no failing serializers")
}

/// Reads a line after the first, without its end.
///
/// # Errors
/// `Corrupt` for anything that [`encode_line`] would not have written.
pub fn decode_line(text: &[u8]) -> Result<Line> {
    let broken = |why: String| Error::corrupt("a line of an export", why);
    let line: Line = serde_json::from_slice(text).map_err(|error| broken(error.to_string()))?;
    if encode_line(&line).as_bytes() != text {
        return Err(broken("it is not as sacker writes it".to_owned()));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = r#"{"version":{"package":"a/b","version":7,"sha256":"abababababababababababababababababababababababababababababababab","basename":"app.jar","mode":33188}}"#;
    const TAG: &str = r#"{"tag":{"package":"a/b","tag":"42","pointer":"legacy","version":7,"events":0}}"#;
    const EVENT: &str = r#"{"event":{"at":"2026-11-21T10:00:00.000Z","by":"ann","id":"x","kind":"move","later":{"a":1},"seq":1,"source":"cli","to":7}}"#;

    #[test]
    fn a_line_is_read_as_it_is_written() {
        for text in [VERSION, TAG, EVENT] {
            let line = decode_line(text.as_bytes()).expect(text);
            assert_eq!(encode_line(&line), text);
        }
    }

    #[test]
    fn another_spelling_is_refused() {
        let others = [
            VERSION.replace("\"mode\":33188", "\"mode\":33188,\"later\":1"),
            VERSION.replace("\"mode\":33188", "\"mode\":33188,\"size\":null"),
            VERSION.replace("\"version\":7", "\"version\":\"7\""),
            VERSION.replace("\"version\":7", "\"version\":7,\"version\":8"),
            VERSION.replace(":{", ": {"),
            VERSION.replace("abab", "ABAB"),
            TAG.replace("legacy", "other"),
            EVENT.replace("\"by\":\"ann\",", "").replace("{\"at\"", "{\"by\":\"ann\",\"at\""),
            EVENT.replace("10:00:00.000Z", "10:00:00Z"),
            EVENT.replace("\"seq\":1", "\"seq\":1.0"),
            r#"{"other":{}}"#.to_owned(),
            "{}".to_owned(),
            String::new(),
            format!("{TAG} "),
        ];
        for text in others {
            assert!(decode_line(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_line_says_what_the_file_is() {
        let header = Header::new(Numbering::Sequence);
        let text = r#"{"format":"sacker-export","revision":1,"versions":"sequence"}"#;
        assert_eq!(to_json(&header), text);
        assert_eq!(Header::decode(text.as_bytes()).expect("decode"), header);
        for (other, why) in [
            (text.replace(":1,", ":2,"), "revision 2"),
            (text.replace("sacker-", "other-"), "no export"),
            (text.replace("sequence", "random"), "first line"),
            ("{\"a\":1}".to_owned(), "no export"),
            (String::new(), "no export"),
        ] {
            let error = Header::decode(other.as_bytes()).expect_err(&other);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
