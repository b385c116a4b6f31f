//! The JSON of the object ledger, in and out. Reads everything the 2015 client wrote; writes what it can read.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::ledger::objects::OBJECT_MAX;
use crate::ledger::{Object, Verdict};
use crate::model::{
    Event, NewVersion, Numbering, PackageName, Removal, Sha256, TagName, TagState, Version, VersionRecord,
    time,
};

/// A version object. The 2015 client writes and reads `sha`, `basename` and `mode`; the rest is ours.
#[derive(Serialize, Deserialize)]
struct VersionBody {
    sha: Sha256,
    basename: String,
    #[serde(deserialize_with = "number_or_text")]
    mode: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<BTreeMap<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    added_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    added_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    add_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removal: Option<Removal>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removing: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<String>,
}

/// A version object as it was read.
#[derive(Debug, Clone)]
pub(super) struct StoredVersion {
    pub(super) record: VersionRecord,
    /// A removal is under way: see [`super::plan`].
    pub(super) removing: bool,
    /// The id of whoever wrote the object last, after it was created.
    pub(super) fence: Option<String>,
    pub(super) object: Object,
}

fn number_or_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u32),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// A value of old metadata as text: JSON strings as they are, anything else as its JSON.
fn value_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

pub(super) fn encode_version(new: &NewVersion, at: Timestamp) -> Bytes {
    let metadata =
        new.metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    to_bytes(&VersionBody {
        sha: new.sha256,
        basename: new.basename.clone(),
        mode: new.mode,
        size: Some(new.size),
        metadata: Some(metadata),
        added_at: Some(time::to_milliseconds(at)),
        added_by: Some(new.added_by.clone()),
        add_id: Some(new.add_id.clone()),
        removal: None,
        removing: false,
        fence: None,
    })
}

/// A record of another ledger, with what it has and without what it has not.
#[cfg(feature = "cli")]
pub(super) fn encode_record(record: &VersionRecord) -> Bytes {
    let text = |(key, value): (&String, &String)| (key.clone(), Value::from(value.as_str()));
    let metadata: BTreeMap<String, Value> = record.metadata.iter().map(text).collect();
    to_bytes(&VersionBody {
        sha: record.sha256,
        basename: record.basename.clone(),
        mode: record.mode,
        size: record.size,
        // Beside the body of a tombstone stands what it tells 2015 readers, and no metadata.
        metadata: (!metadata.is_empty() || record.is_removed()).then_some(metadata),
        added_at: record.added_at,
        added_by: record.added_by.clone(),
        add_id: record.add_id.clone(),
        removal: record.removal.clone(),
        removing: false,
        fence: None,
    })
}

pub(super) fn decode_version(
    package: &PackageName,
    version: Version,
    key: &str,
    object: &Object,
) -> Result<VersionRecord> {
    decode_stored_version(package, version, key, object.clone()).map(|stored| stored.record)
}

pub(super) fn decode_stored_version(
    package: &PackageName,
    version: Version,
    key: &str,
    object: Object,
) -> Result<StoredVersion> {
    let body: VersionBody = parse(key, &object.bytes)?;
    // Old records keep their metadata in the object's user metadata only.
    let metadata = match body.metadata {
        Some(metadata) => metadata.into_iter().map(|(key, value)| (key, value_text(value))).collect(),
        None => object.metadata.clone(),
    };
    let record = VersionRecord {
        package: package.clone(),
        version,
        sha256: body.sha,
        size: body.size,
        basename: body.basename,
        mode: body.mode,
        metadata,
        added_at: body.added_at,
        added_by: body.added_by,
        add_id: body.add_id,
        removal: body.removal,
    };
    Ok(StoredVersion { record, removing: body.removing, fence: body.fence, object })
}

/// The same object with other values of some keys (without a value: without the key). Keys of a later sacker are kept.
fn edited<const N: usize>(key: &str, bytes: &[u8], values: [(&str, Option<Value>); N]) -> Result<Bytes> {
    let mut body: serde_json::Map<String, Value> = parse(key, bytes)?;
    for (name, value) in values {
        match value {
            Some(value) => body.insert(name.to_owned(), value),
            None => body.remove(name),
        };
    }
    Ok(to_bytes(&body))
}

/// The record with the mark that its removal is under way, or without. `fence` makes it unlike any other writing.
pub(super) fn encode_removing(key: &str, bytes: &[u8], removing: bool, fence: &str) -> Result<Bytes> {
    let mark = removing.then_some(Value::Bool(true));
    edited(key, bytes, [("removing", mark), ("fence", Some(Value::from(fence)))])
}

/// The tombstone of a version. It stays a record that a 2015 client can read, and keeps what is known of the version:
/// also the `add_id`, by which an `add` whose reply was lost finds its own.
pub(super) fn encode_tombstone(
    key: &str,
    stored: &StoredVersion,
    removal: &Removal,
    fence: &str,
) -> Result<Bytes> {
    let value = |value: serde_json::Result<Value>| {
        Some(value.expect("these types have string keys and no failing serializers"))
    };
    edited(
        key,
        &stored.object.bytes,
        [
            ("sha", Some(Value::from(Sha256::ZERO.to_string()))),
            // An old record has it beside the body only, where the tombstone says something else.
            ("metadata", value(serde_json::to_value(&stored.record.metadata))),
            ("removal", value(serde_json::to_value(removal))),
            ("removing", None),
            ("fence", Some(Value::from(fence))),
        ],
    )
}

/// A pointer object. The 2015 client reads and writes `version` alone; a pointer without `event` is its work.
#[derive(Serialize, Deserialize)]
struct PointerBody {
    version: Value,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Event>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<String>,
}

/// What a pointer object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredPointer {
    /// The tag; nothing when only its name is reserved, by a writer that was about to set it: as if there were no pointer.
    pub(super) state: Option<TagState>,
    /// The removal that wrote the pointer last, or any other id that makes it unlike an earlier one.
    pub(super) fence: Option<String>,
}

/// The pointer after `event`. A removed tag says version 0, for which a 2015 reader answers "does not exist".
///
/// `fence` is needed where the same event was in the pointer before: a revision must never come again.
pub(super) fn encode_pointer(event: &Event, fence: Option<String>) -> Bytes {
    to_bytes(&PointerBody {
        version: Value::from(event.to.map_or(0, Version::get)),
        removed: event.to.is_none(),
        event: Some(event.clone()),
        fence,
    })
}

/// The pointer of a tag that is about to be set for the first time; to a 2015 reader it "does not exist".
pub(super) fn encode_reservation(fence: String) -> Bytes {
    to_bytes(&PointerBody { version: Value::from(0), removed: true, event: None, fence: Some(fence) })
}

/// The same pointer with another revision.
pub(super) fn encode_fenced(key: &str, bytes: &[u8], fence: &str) -> Result<Bytes> {
    edited(key, bytes, [("fence", Some(Value::from(fence)))])
}

pub(super) fn decode_pointer(tag: &TagName, key: &str, bytes: &[u8]) -> Result<StoredPointer> {
    let body: PointerBody = parse(key, bytes)?;
    // A number, digits as text (the old `tag` command), 0 for a removed tag, or a word that names no version.
    let version = match &body.version {
        Value::Number(number) => number.as_i64().and_then(Version::new),
        Value::String(text) => text.parse().ok(),
        _ => return Err(Error::corrupt(key, "its version is neither a number nor text")),
    };
    if let Some(event) = &body.event
        && event.to != version
    {
        return Err(Error::corrupt(key, "its version is not the one its event moved to"));
    }
    let reserved = body.removed && body.event.is_none();
    let state = (!reserved).then(|| TagState { tag: tag.clone(), version, event: body.event });
    Ok(StoredPointer { state, fence: body.fence })
}

/// What a 2015 reader takes for the newest version; to it, a package without any "does not exist".
pub(super) fn encode_hint(version: Option<Version>) -> Bytes {
    to_bytes(&PointerBody {
        version: Value::from(version.map_or(0, Version::get)),
        removed: version.is_none(),
        event: None,
        fence: None,
    })
}

/// The pointer as a 2015 client writes it. What names no version is the one word that it is known to write.
#[cfg(feature = "cli")]
pub(super) fn encode_legacy_pointer(version: Option<Version>, fence: String) -> Bytes {
    let version = version.map_or_else(|| Value::from("latest"), |version| Value::from(version.get()));
    to_bytes(&PointerBody { version, removed: false, event: None, fence: Some(fence) })
}

pub(super) fn encode_event(event: &Event) -> Bytes {
    Bytes::from(event.canonical())
}

pub(super) fn decode_event(key: &str, bytes: &[u8]) -> Result<Event> {
    parse(key, bytes)
}

/// The ledger's own record.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct LedgerBody {
    /// How versions are numbered.
    pub(super) versions: Numbering,
    /// What the last probe found, where one was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) probe: Option<Verdict>,
}

impl LedgerBody {
    /// Versions are numbered so, and nothing was probed.
    pub(super) const fn numbered(versions: Numbering) -> Self {
        Self { versions, probe: None }
    }
}

pub(super) fn encode_ledger(body: &LedgerBody) -> Bytes {
    to_bytes(body)
}

pub(super) fn decode_ledger(key: &str, bytes: &[u8]) -> Result<LedgerBody> {
    parse(key, bytes)
}

/// What a removal may add to a record or a pointer later, in bytes.
const ROOM: usize = 4096;

/// Refuses what no reader would take back, or what would leave no room for a removal.
pub(super) fn check_size(body: &Bytes) -> Result<()> {
    check_at_most(body, OBJECT_MAX - ROOM)
}

/// Refuses a tombstone that no reader would take back.
pub(super) fn check_tombstone_size(body: &Bytes) -> Result<()> {
    check_at_most(body, OBJECT_MAX)
}

fn check_at_most(body: &Bytes, most: usize) -> Result<()> {
    if body.len() <= most {
        return Ok(());
    }
    let length = body.len();
    let rule =
        format!("the record has {length} bytes, {most} are allowed; use less metadata or a shorter reason");
    Err(Error::invalid(rule))
}

fn to_bytes<T: Serialize>(body: &T) -> Bytes {
    Bytes::from(serde_json::to_vec(body).expect("these types have string keys and no failing serializers"))
}

fn parse<'a, T: Deserialize<'a>>(key: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(key, error.to_string()))
}
