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
    /// Counts the tag moves to a version, so that removing it can notice one.
    pub(in super::super) const TAG_REV: &str = "tag_rev";
    pub(in super::super) const SEQ: &str = "seq";
    pub(in super::super) const EVENT: &str = "event";
}

/// What the service stores per item is 400 KB in all; the rest of a record is far below the difference.
const METADATA_MAX: usize = 380 * 1024;

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

/// The key of an event.
pub(super) fn event_key(package: &PackageName, tag: &TagName, seq: u64) -> Item {
    HashMap::from([
        (attribute::PACKAGE.to_owned(), text(history_partition(package))),
        (attribute::TAG.to_owned(), text(history_range(tag, seq))),
    ])
}

/// Whether events of this tag fit under a key. The longest names of 2015 leave no room.
pub(super) fn can_have_history(package: &PackageName, tag: &TagName) -> bool {
    history_partition(package).len() <= HASH_KEY_MAX && history_range(tag, 1).len() <= RANGE_KEY_MAX
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
    if metadata.len() > METADATA_MAX {
        return Err(Error::invalid(format!(
            "the metadata has {} bytes; a version in a DynamoDB ledger holds {METADATA_MAX}",
            metadata.len()
        )));
    }
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
            Some(at.parse::<Timestamp>().map_err(broken)?)
        }
    };
    Ok(VersionRecord {
        package: PackageName::existing(row.text(attribute::PACKAGE)?),
        version: row.number(attribute::VERSION)?,
        sha256,
        size: row.optional_number(attribute::SIZE)?,
        basename: row.text(attribute::BASENAME)?.to_owned(),
        mode: row.number(attribute::MODE)?,
        metadata: decode_metadata(&row)?,
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
