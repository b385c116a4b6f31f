//! The rows of both tables, in and out. Reads everything the 2015 client wrote; writes what it can read.
//!
//! Pure: no request is made here. A row that cannot be right is `Corrupt`, with the table and the key it was found under.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::{
    Event, NewVersion, PackageName, Removal, Sha256, TagName, TagState, Version, VersionRecord, time,
};

/// A row as the service hands it out.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The names of the attributes. Those down to `METADATA` are the wire contract with the 2015 client.
pub(super) mod attribute {
    pub(in super::super) const PACKAGE: &str = "package_name";
    pub(in super::super) const VERSION: &str = "version";
    pub(in super::super) const TAG: &str = "tag";
    pub(in super::super) const BASENAME: &str = "basename";
    pub(in super::super) const SHA: &str = "sha";
    pub(in super::super) const MODE: &str = "mode";
    pub(in super::super) const METADATA: &str = "metadata";

    pub(in super::super) const SIZE: &str = "size";
    pub(in super::super) const ADDED_AT: &str = "added_at";
    pub(in super::super) const ADDED_BY: &str = "added_by";
    pub(in super::super) const ADD_ID: &str = "add_id";
    pub(in super::super) const REMOVAL: &str = "removal";
    /// The id of the call that wrote a tombstone: whose reply was lost finds its own by it.
    pub(in super::super) const REMOVAL_ID: &str = "removal_id";
    /// Counts the tag moves to a version, so that removing it can notice one.
    pub(in super::super) const TAG_REV: &str = "tag_rev";
    pub(in super::super) const SEQ: &str = "seq";
    pub(in super::super) const EVENT: &str = "event";
}

/// What the service stores per item is 400 KB in all; the rest of a record is far below the difference.
const METADATA_MAX: usize = 380 * 1024;

/// What a removal may add to that.
const ROOM: usize = 8 * 1024;

/// Packages with this prefix are sacker's own rows. No client ever created such a package.
pub(super) const OWN_PREFIX: &str = "sacker:";

/// The limits of key attributes, in bytes: a name beyond them cannot be in any table.
const HASH_KEY_MAX: usize = 2048;
const RANGE_KEY_MAX: usize = 1024;

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(format!("{value}"))
}

/// Whether a table could hold rows of this package at all. Asking for others would be refused by the service, or would
/// show sacker's own rows.
pub(super) fn can_be_package(package: &PackageName) -> bool {
    let name = package.as_str();
    !name.is_empty() && name.len() <= HASH_KEY_MAX && !name.starts_with(OWN_PREFIX)
}

/// Whether the tags table could hold a row of this tag at all.
pub(super) fn can_be_tag(tag: &TagName) -> bool {
    !tag.as_str().is_empty() && tag.as_str().len() <= RANGE_KEY_MAX
}

/// The key of a version.
pub(super) fn version_key(package: &PackageName, version: Version) -> Item {
    HashMap::from([
        (attribute::PACKAGE.to_owned(), text(package.as_str())),
        (attribute::VERSION.to_owned(), number(version)),
    ])
}

/// The key of a tag's row.
pub(super) fn tag_key(package: &PackageName, tag: &TagName) -> Item {
    HashMap::from([
        (attribute::PACKAGE.to_owned(), text(package.as_str())),
        (attribute::TAG.to_owned(), text(tag.as_str())),
    ])
}

/// The hash key of all history rows of a package: 2015 clients query by package and never see them.
pub(super) fn history_partition(package: &PackageName) -> String {
    format!("{OWN_PREFIX}history:{}", package.as_str())
}

/// The range key of an event; twelve digits, so that text sorts as numbers do.
pub(super) fn history_range(tag: &TagName, seq: u64) -> String {
    // Tags that 2015 clients wrote may contain `#`. Escaped, no tag's rows lie between those of another.
    let escaped = tag.as_str().replace('%', "%25").replace('#', "%23");
    format!("{escaped}#{seq:012}")
}

/// The tag whose event has this range key.
fn tag_of_range(range: &str) -> Option<TagName> {
    let (escaped, _) = range.rsplit_once('#')?;
    Some(TagName::existing(escaped.replace("%23", "#").replace("%25", "%")))
}

/// The tag of a row of the history; nothing for a row that is no such thing.
pub(super) fn tag_of_history(item: &Item) -> Option<TagName> {
    tag_of_range(item.get(attribute::TAG)?.as_s().ok()?)
}

/// The key of an event.
pub(super) fn event_key(package: &PackageName, tag: &TagName, seq: u64) -> Item {
    HashMap::from([
        (attribute::PACKAGE.to_owned(), text(history_partition(package))),
        (attribute::TAG.to_owned(), text(history_range(tag, seq))),
    ])
}

/// Whether events of any tag of the package fit under a key.
pub(super) fn can_have_histories(package: &PackageName) -> bool {
    history_partition(package).len() <= HASH_KEY_MAX
}

/// Whether events of this tag fit under a key. The longest names of 2015 leave no room.
pub(super) fn can_have_history(package: &PackageName, tag: &TagName) -> bool {
    can_have_histories(package) && history_range(tag, 1).len() <= RANGE_KEY_MAX
}

/// The first and last range key that an event of this tag can have.
pub(super) fn history_bounds(tag: &TagName) -> (String, String) {
    (history_range(tag, 1), history_range(tag, 999_999_999_999))
}

/// A row as messages name it. `key` is the row or its key.
pub(super) fn row_name(table: &str, key: &Item) -> String {
    let shown = |name: &str| match key.get(name) {
        Some(AttributeValue::S(text)) => text.escape_debug().to_string(),
        Some(AttributeValue::N(number)) => number.clone(),
        _ => "?".to_owned(),
    };
    let range = if key.contains_key(attribute::TAG) { attribute::TAG } else { attribute::VERSION };
    format!("table '{table}', row '{}' / '{}'", shown(attribute::PACKAGE), shown(range))
}

/// The row of a new version.
///
/// # Errors
/// `Invalid` when the metadata does not fit into an item.
pub(super) fn encode_version(
    package: &PackageName,
    version: Version,
    new: &NewVersion,
    at: Timestamp,
) -> Result<Item> {
    let metadata = serde_json::to_value(&new.metadata).unwrap_or_default().to_string();
    check_metadata(&metadata)?;
    let mut item = version_key(package, version);
    let mut set = |name: &str, value| item.insert(name.to_owned(), value);
    set(attribute::BASENAME, text(new.basename.as_str()));
    set(attribute::SHA, text(new.sha256.to_string()));
    set(attribute::MODE, number(new.mode));
    set(attribute::METADATA, text(metadata));
    set(attribute::SIZE, number(new.size));
    set(attribute::ADDED_AT, text(time::format(time::to_milliseconds(at))));
    set(attribute::ADDED_BY, text(new.added_by.as_str()));
    set(attribute::ADD_ID, text(new.add_id.as_str()));
    Ok(item)
}

/// The row of a version of another ledger: what its record has, and without what it has not.
///
/// # Errors
/// `Invalid` when the metadata does not fit into an item.
#[cfg(feature = "cli")]
pub(super) fn encode_record(record: &VersionRecord) -> Result<Item> {
    let metadata = serde_json::to_value(&record.metadata).unwrap_or_default().to_string();
    check_metadata(&metadata)?;
    let mut item = version_key(&record.package, record.version);
    let mut set = |name: &str, value: Option<AttributeValue>| {
        item.extend(value.map(|value| (name.to_owned(), value)));
    };
    set(attribute::BASENAME, Some(text(record.basename.as_str())));
    set(attribute::SHA, Some(text(record.sha256.to_string())));
    set(attribute::MODE, Some(number(record.mode)));
    set(attribute::METADATA, Some(text(metadata)));
    set(attribute::SIZE, record.size.map(number));
    set(attribute::ADDED_AT, record.added_at.map(|at| text(time::format(at))));
    set(attribute::ADDED_BY, record.added_by.as_deref().map(text));
    set(attribute::ADD_ID, record.add_id.as_deref().map(text));
    let removal = |removal: &Removal| text(serde_json::to_value(removal).unwrap_or_default().to_string());
    set(attribute::REMOVAL, record.removal.as_ref().map(removal));
    Ok(item)
}

/// The row of a tag as a 2015 client writes it. What names no version is the one word that it is known to write.
#[cfg(feature = "cli")]
pub(super) fn encode_legacy_tag(package: &PackageName, tag: &TagName, version: Option<Version>) -> Item {
    let mut item = tag_key(package, tag);
    let version = version.map_or_else(|| text("latest"), number);
    item.insert(attribute::VERSION.to_owned(), version);
    item
}

fn check_metadata(json: &str) -> Result<()> {
    if json.len() <= METADATA_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the metadata has {} bytes; a version in a DynamoDB ledger holds {METADATA_MAX}",
        json.len()
    )))
}

/// What a tombstone's metadata says of the removal, for 2015 clients: they know neither `removal` nor the zeros.
const TOLD: [&str; 3] = ["removed_at", "removed_by", "removed_reason"];

/// The tombstone of a version's row. It stays a row that a 2015 client can read, and keeps what is known of the version:
/// also the `add_id`, by which an `add` whose reply was lost finds its own.
///
/// # Errors
/// `Corrupt`; `Invalid` when the reason does not fit into an item.
pub(super) fn encode_tombstone(table: &str, item: &Item, removal: &Removal, id: &str) -> Result<Item> {
    let mut metadata = decode_metadata(&Row::new(table, item))?;
    let told = [Some(time::format(removal.at)), Some(removal.by.clone()), removal.reason.clone()];
    let told = TOLD.into_iter().zip(told).filter_map(|(key, value)| Some((key.to_owned(), value?)));
    metadata.extend(told);
    let metadata = serde_json::to_value(&metadata).unwrap_or_default().to_string();
    let removal = serde_json::to_value(removal).unwrap_or_default().to_string();
    let length = metadata.len() + removal.len();
    if length > METADATA_MAX + ROOM {
        return Err(Error::invalid(format!(
            "metadata and removal have {length} bytes; a DynamoDB ledger holds {}; use a shorter reason",
            METADATA_MAX + ROOM
        )));
    }
    let mut tombstone = item.clone();
    let mut set = |name: &str, value: String| tombstone.insert(name.to_owned(), text(value));
    set(attribute::SHA, Sha256::ZERO.to_string());
    set(attribute::METADATA, metadata);
    set(attribute::REMOVAL, removal);
    set(attribute::REMOVAL_ID, id.to_owned());
    Ok(tombstone)
}

/// The id of the call that wrote this tombstone.
pub(super) fn removal_id(item: &Item) -> Option<&str> {
    item.get(attribute::REMOVAL_ID)?.as_s().ok().map(String::as_str)
}

/// How often tags moved to this version; nothing for never.
pub(super) fn tag_rev(item: &Item) -> Option<&AttributeValue> {
    item.get(attribute::TAG_REV)
}

/// A row under its name for messages.
struct Row<'a> {
    item: &'a Item,
    key: String,
}

impl<'a> Row<'a> {
    fn new(table: &str, item: &'a Item) -> Self {
        Self { item, key: row_name(table, item) }
    }

    fn corrupt(&self, why: impl Into<String>) -> Error {
        Error::corrupt(self.key.as_str(), why)
    }

    /// The attribute; an explicit NULL counts as none.
    fn get(&self, name: &str) -> Option<&'a AttributeValue> {
        self.item.get(name).filter(|value| !value.is_null())
    }

    fn optional_text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(self.corrupt(format!("'{name}' is not text"))),
        }
    }

    fn text(&self, name: &str) -> Result<&'a str> {
        self.optional_text(name)?.ok_or_else(|| self.corrupt(format!("it has no '{name}'")))
    }

    /// A number, or the same digits as text: the 2015 client's commands passed on what was typed.
    fn optional_number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        match self.get(name) {
            None => Ok(None),
            Some(AttributeValue::N(digits) | AttributeValue::S(digits)) => match digits.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.corrupt(format!("'{name}' is not a number in its range"))),
            },
            Some(_) => Err(self.corrupt(format!("'{name}' is not a number"))),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        self.optional_number(name)?.ok_or_else(|| self.corrupt(format!("it has no '{name}'")))
    }
}

/// The version in the key of a row of the main table.
///
/// # Errors
/// `Corrupt` for a number that is no version.
pub(super) fn decode_version_key(table: &str, item: &Item) -> Result<Version> {
    Row::new(table, item).number(attribute::VERSION)
}

/// The id of the `add` that wrote this row; nothing for a row of a 2015 client.
pub(super) fn add_id(item: &Item) -> Option<&str> {
    item.get(attribute::ADD_ID)?.as_s().ok().map(String::as_str)
}

/// The record in a row of the main table, removed or not.
///
/// # Errors
/// `Corrupt`.
pub(super) fn decode_version(table: &str, item: &Item) -> Result<VersionRecord> {
    let row = Row::new(table, item);
    let sha256: Sha256 = row
        .text(attribute::SHA)?
        .parse()
        .map_err(|_| row.corrupt(format!("'{}' is not a sha256 of 64 hexadecimal digits", attribute::SHA)))?;
    let removal: Option<Removal> = match row.optional_text(attribute::REMOVAL)? {
        None => None,
        Some(json) => {
            let broken = |error| row.corrupt(format!("'{}' cannot be read: {error}", attribute::REMOVAL));
            Some(serde_json::from_str(json).map_err(broken)?)
        }
    };
    let added_at = match row.optional_text(attribute::ADDED_AT)? {
        None => None,
        Some(at) => {
            let broken = |_| row.corrupt(format!("'{}' is not an RFC 3339 time", attribute::ADDED_AT));
            Some(time::parse_stored(at).map_err(broken)?)
        }
    };
    let mut metadata = decode_metadata(&row)?;
    if removal.is_some() {
        metadata.retain(|key, _| !TOLD.contains(&key.as_str()));
    }
    Ok(VersionRecord {
        package: PackageName::existing(row.text(attribute::PACKAGE)?),
        version: row.number(attribute::VERSION)?,
        sha256,
        size: row.optional_number(attribute::SIZE)?,
        basename: row.text(attribute::BASENAME)?.to_owned(),
        mode: row.number(attribute::MODE)?,
        metadata,
        added_at,
        added_by: row.optional_text(attribute::ADDED_BY)?.map(str::to_owned),
        add_id: row.optional_text(attribute::ADD_ID)?.map(str::to_owned),
        removal,
    })
}

/// Metadata is a JSON object as text. The 2015 client writes `null` for none, and whatever values a script passed it;
/// values that are not text are kept as their JSON.
fn decode_metadata(row: &Row<'_>) -> Result<BTreeMap<String, String>> {
    let Some(json) = row.optional_text(attribute::METADATA)? else { return Ok(BTreeMap::new()) };
    if json.is_empty() {
        return Ok(BTreeMap::new());
    }
    match serde_json::from_str(json) {
        Ok(Value::Null) => Ok(BTreeMap::new()),
        Ok(Value::Object(pairs)) => Ok(pairs
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(text) => (key, text),
                other => (key, other.to_string()),
            })
            .collect()),
        Ok(_) => Err(row.corrupt(format!("'{}' is not a JSON object", attribute::METADATA))),
        Err(error) => Err(row.corrupt(format!("'{}' is not JSON: {error}", attribute::METADATA))),
    }
}

/// The row of a tag after `event`, which moved it to `version`.
pub(super) fn encode_tag(package: &PackageName, tag: &TagName, version: Version, event: &Event) -> Item {
    let mut item = tag_key(package, tag);
    item.insert(attribute::VERSION.to_owned(), number(version));
    item.insert(attribute::SEQ.to_owned(), number(event.seq));
    item.insert(attribute::EVENT.to_owned(), text(event.canonical()));
    item
}

/// A tag's row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TagRow {
    /// What a reader sees. Without an event if a 2015 client wrote it; without a version too if what that client wrote
    /// names none (`tag <package> latest live` stores a word).
    pub(super) state: TagState,
    /// The `version` attribute as it stands there: the condition of a compare-and-swap must repeat also its type.
    pub(super) raw_version: Option<AttributeValue>,
}

/// The tag in a row of the tags table.
///
/// # Errors
/// `Corrupt`.
pub(super) fn decode_tag(table: &str, item: &Item) -> Result<TagRow> {
    let row = Row::new(table, item);
    let tag = TagName::existing(row.text(attribute::TAG)?);
    let raw_version = item.get(attribute::VERSION).cloned();
    // `seq`, not `event`, tells whose row it is: it is what the conditions of our writes look at.
    let Some(seq) = row.optional_number::<u64>(attribute::SEQ)? else {
        let version = match &raw_version {
            Some(AttributeValue::N(digits) | AttributeValue::S(digits)) => digits.parse().ok(),
            _ => None,
        };
        return Ok(TagRow { state: TagState { tag, version, event: None }, raw_version });
    };
    let version: Version = row.number(attribute::VERSION)?;
    let event = decode_event_attribute(&row)?;
    if event.seq != seq || event.to != Some(version) {
        return Err(row.corrupt("its version is not the one its event moved to"));
    }
    Ok(TagRow { state: TagState { tag, version: Some(version), event: Some(event) }, raw_version })
}

/// The row of an event in the history.
pub(super) fn encode_event(package: &PackageName, tag: &TagName, event: &Event) -> Item {
    let mut item = event_key(package, tag, event.seq);
    item.insert(attribute::EVENT.to_owned(), text(event.canonical()));
    item
}

/// The event in a row of the history.
///
/// # Errors
/// `Corrupt`.
pub(super) fn decode_event(table: &str, item: &Item) -> Result<Event> {
    let row = Row::new(table, item);
    let event = decode_event_attribute(&row)?;
    if !row.text(attribute::TAG)?.ends_with(&format!("#{:012}", event.seq)) {
        return Err(row.corrupt(format!("its event has number {}", event.seq)));
    }
    Ok(event)
}

fn decode_event_attribute(row: &Row<'_>) -> Result<Event> {
    let broken = |error| row.corrupt(format!("'{}' cannot be read: {error}", attribute::EVENT));
    serde_json::from_str(row.text(attribute::EVENT)?).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Meaning;
    use crate::model::{Actor, Change, Current, EventSource, Next, TagChange, next_event};

    fn row(pairs: &[(&str, AttributeValue)]) -> Item {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    /// As the 2015 client writes it.
    fn old_version() -> Item {
        row(&[
            ("package_name", text("frontend")),
            ("version", number(7)),
            ("basename", text("app.jar")),
            ("sha", text("ab".repeat(32))),
            ("mode", number(33188)),
            ("metadata", text("null")),
        ])
    }

    fn with(mut item: Item, name: &str, value: Option<AttributeValue>) -> Item {
        match value {
            Some(value) => item.insert(name.to_owned(), value),
            None => item.remove(name),
        };
        item
    }

    fn new() -> NewVersion {
        NewVersion {
            sha256: Sha256::of(b"content"),
            size: 7,
            basename: "app.jar".into(),
            mode: 0o100_644,
            metadata: BTreeMap::from([("commit".into(), "abc".into())]),
            added_by: "ci".into(),
            if_latest: None,
            add_id: "the-id".into(),
        }
    }

    fn package() -> PackageName {
        PackageName::existing("frontend")
    }

    fn version(number: i64) -> Version {
        Version::new(number).expect("positive")
    }

    fn event(to: i64, by: &str) -> Event {
        let actor = Actor { by: by.into(), reason: Some("why".into()), source: EventSource::Cli };
        let change = TagChange::new(Change::Move { to: version(to), hold: None }, actor);
        match next_event(&Current::default(), &change, Timestamp::UNIX_EPOCH).expect("allowed") {
            Next::Commit(event) => *event,
            Next::Unchanged => panic!("a first move is a change"),
        }
    }

    fn why(error: &Error) -> String {
        match error.meaning() {
            Meaning::Corrupt { why } => why.clone(),
            other => panic!("not corrupt: {other:?}"),
        }
    }

    #[test]
    fn what_we_write_is_what_the_2015_client_reads() {
        let at: Timestamp = "2026-11-21T10:00:00.123456Z".parse().expect("a time");
        let item = encode_version(&package(), version(7), &new(), at).expect("encode");
        let expected = row(&[
            ("package_name", text("frontend")),
            ("version", number(7)),
            ("basename", text("app.jar")),
            ("sha", text(Sha256::of(b"content").to_string())),
            ("mode", number(33188)),
            ("metadata", text(r#"{"commit":"abc"}"#)),
            ("size", number(7)),
            ("added_at", text("2026-11-21T10:00:00.123Z")),
            ("added_by", text("ci")),
            ("add_id", text("the-id")),
        ]);
        assert_eq!(item, expected);
        let record = decode_version("t", &item).expect("decode");
        assert_eq!((record.size, record.add_id.as_deref()), (Some(7), Some("the-id")));
        assert_eq!(record.metadata, new().metadata);
        assert_eq!(add_id(&item), Some("the-id"));

        let none = NewVersion { metadata: BTreeMap::new(), ..new() };
        let item = encode_version(&package(), version(7), &none, at).expect("encode");
        assert_eq!(item["metadata"], text("{}"));
    }

    #[test]
    fn what_the_2015_client_wrote_is_read() {
        let record = decode_version("t", &old_version()).expect("decode");
        assert_eq!(record.package, package());
        assert_eq!(record.version, version(7));
        assert_eq!(record.mode, 0o100_644);
        assert_eq!(record.metadata, BTreeMap::new());
        assert!(!record.is_removed());
        assert_eq!((record.size, record.added_at, record.added_by, record.add_id), (None, None, None, None));
    }

    #[test]
    fn metadata_of_any_kind_is_read() {
        let read = |value: Option<AttributeValue>| {
            decode_version("t", &with(old_version(), "metadata", value)).map(|record| record.metadata)
        };
        for none in
            [None, Some(text("null")), Some(text("")), Some(text("{}")), Some(AttributeValue::Null(true))]
        {
            assert_eq!(read(none).expect("read"), BTreeMap::new());
        }
        let mixed = r#"{"a": "x", "b": 1, "c": null, "d": [1, "y"], "e": true, "f": {"g": 2}}"#;
        let pairs =
            [("a", "x"), ("b", "1"), ("c", "null"), ("d", r#"[1,"y"]"#), ("e", "true"), ("f", r#"{"g":2}"#)];
        let expected: BTreeMap<_, _> =
            pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        assert_eq!(read(Some(text(mixed))).expect("read"), expected);
        for (broken, reason) in
            [("[1]", "not a JSON object"), ("{", "not JSON"), ("\"x\"", "not a JSON object")]
        {
            let error = read(Some(text(broken))).expect_err(broken);
            assert!(why(&error).contains(reason), "{error}");
        }
        why(&read(Some(number(1))).expect_err("a number"));
    }

    #[test]
    fn a_row_that_cannot_be_right_is_corrupt_under_its_key() {
        for (name, value, reason) in [
            ("sha", None, "it has no 'sha'"),
            ("sha", Some(text("ab")), "'sha' is not a sha256"),
            ("sha", Some(number(1)), "'sha' is not text"),
            ("basename", None, "it has no 'basename'"),
            ("mode", None, "it has no 'mode'"),
            ("mode", Some(number(-1)), "'mode' is not a number in its range"),
            ("mode", Some(AttributeValue::Bool(true)), "'mode' is not a number"),
            ("size", Some(number("1.5")), "'size' is not a number in its range"),
            ("added_at", Some(text("yesterday")), "'added_at' is not an RFC 3339 time"),
            ("removal", Some(text("{}")), "'removal' cannot be read"),
        ] {
            let error = decode_version("t", &with(old_version(), name, value)).expect_err(reason);
            assert!(why(&error).contains(reason), "{error}");
            assert_eq!(error.key(), Some("table 't', row 'frontend' / '7'"));
        }
        for key in ["0", "-1", "1.5", "99999999999999999999"] {
            let item = with(old_version(), "version", Some(number(key)));
            why(&decode_version("t", &item).expect_err(key));
            why(&decode_version_key("t", &item).expect_err(key));
        }
    }

    #[test]
    fn a_tombstone_is_a_removed_version() {
        let removal = r#"{"at":"2026-11-21T10:00:00.000Z","by":"alice","reason":"leak"}"#;
        let item = with(old_version(), "sha", Some(text("0".repeat(64))));
        assert!(decode_version("t", &item).expect("zeros alone are enough").is_removed());
        let record = decode_version("t", &with(item, "removal", Some(text(removal)))).expect("decode");
        assert_eq!(record.removal.map(|removal| removal.by).as_deref(), Some("alice"));
    }

    #[test]
    fn metadata_beyond_an_item_is_refused() {
        let big = NewVersion { metadata: BTreeMap::from([("a".into(), "x".repeat(METADATA_MAX))]), ..new() };
        let error = encode_version(&package(), version(1), &big, Timestamp::UNIX_EPOCH).expect_err("too big");
        assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error}");
    }

    #[test]
    fn a_tag_row_carries_its_event() {
        let (tag, event) = (TagName::existing("live"), event(3, "alice"));
        let item = encode_tag(&package(), &tag, version(3), &event);
        assert_eq!(item["version"], number(3));
        assert_eq!(item["seq"], number(1));
        let read = decode_tag("t", &item).expect("decode");
        assert_eq!(read.state, TagState { tag, version: Some(version(3)), event: Some(event) });
        let moved = with(item, "version", Some(number(4)));
        assert!(why(&decode_tag("t", &moved).expect_err("edited")).contains("its event moved to"));
    }

    #[test]
    fn a_tag_row_of_2015_has_no_event() {
        for (raw, expected) in [
            (Some(number(3)), Some(version(3))),
            (Some(text("3")), Some(version(3))),
            (Some(text("latest")), None),
            (Some(number(0)), None),
            (None, None),
        ] {
            let item = row(&[("package_name", text("frontend")), ("tag", text("42"))]);
            let item = with(item, "version", raw.clone());
            let read = decode_tag("t", &item).expect("decode");
            assert_eq!((read.state.version, read.state.event), (expected, None));
            assert_eq!(read.raw_version, raw, "the type is kept for the condition");
        }
    }

    #[test]
    fn events_are_found_under_their_number() {
        let (tag, event) = (TagName::existing("live"), event(3, "alice"));
        let item = encode_event(&package(), &tag, &event);
        assert_eq!(item["package_name"], text("sacker:history:frontend"));
        assert_eq!(item["tag"], text("live#000000000001"));
        assert_eq!(decode_event("t", &item).expect("decode"), event);
        let elsewhere = with(item, "tag", Some(text("live#000000000002")));
        assert!(why(&decode_event("t", &elsewhere).expect_err("moved")).contains("number 1"));
    }

    #[test]
    fn no_history_lies_between_the_rows_of_another() {
        let names = ["live", "live#", "live#000000000001", "live%23", "live-eu", "liv", "live%", "live$"];
        for name in names {
            let (first, last) = history_bounds(&TagName::existing(name));
            for other in names.into_iter().filter(|other| *other != name) {
                for seq in [1, 42, 999_999_999_999] {
                    let range = history_range(&TagName::existing(other), seq);
                    assert!(range < first || range > last, "'{other}' in '{name}'");
                }
            }
        }
        assert_eq!(history_range(&TagName::existing("live"), 7), "live#000000000007");
        for name in ["live", "a#b", "a%23b", "%", "#", "a#000000000007"] {
            let tag = TagName::existing(name);
            assert_eq!(tag_of_range(&history_range(&tag, 7)), Some(tag), "{name}");
        }
    }

    #[test]
    fn rows_of_our_own_are_no_packages() {
        for name in ["", "sacker:history:frontend", &"x".repeat(2049)] {
            assert!(!can_be_package(&PackageName::existing(name)), "{name}");
        }
        assert!(can_be_package(&PackageName::existing("a/versions/b")));
        assert!(!can_have_history(&package(), &TagName::existing("x".repeat(1012))));
        assert!(can_have_history(&package(), &TagName::existing("x".repeat(1011))));
    }
}
