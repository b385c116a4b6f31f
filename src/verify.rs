//! Checks what a ledger holds against itself, and the blobs against the ledger: every history is one chain, every tag points
//! where its last event says and to a version that exists, every record can be read, every blob has its digest and size.
//!
//! Reads only. Not responsible for repairing anything, nor for how bytes are verified ([`crate::fetch`]).

use std::collections::BTreeMap;

use crate::error::{Error, Meaning, Missing, Result};
use crate::fetch::{self, Artifact};
use crate::ledger::Ledger;
use crate::model::{
    Event, Numbering, PackageName, Sha256, TagName, TagState, Version, VersionRecord, verify_chain,
};
use crate::store::{Progress, Store};

/// How often a tag is looked at again that moves while it is checked.
const LOOKS: usize = 5;

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The package.
    pub package: PackageName,
    /// What it is about: a version, a tag, or a key of the backend.
    pub key: String,
    /// What is the matter.
    pub why: String,
    /// False for what only deserves to be known: a client of 2015 wrote past the history.
    pub is_wrong: bool,
}

/// What was checked, and what was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// What was found, in the order of the checks.
    pub findings: Vec<Finding>,
    /// The versions whose records could be read, removed ones included.
    pub versions: Vec<VersionRecord>,
    /// How many tags were looked at, removed ones included.
    pub tags: u64,
    /// How many events.
    pub events: u64,
}

/// One package while it is checked.
struct Check<'a> {
    ledger: &'a dyn Ledger,
    package: &'a PackageName,
    checked: Checked,
}

/// Checks the records of a package, or of one of its tags.
///
/// # Errors
/// `NotFound` when the package, or the named tag, does not exist; what the ledger says, except `Corrupt`, which is a finding.
pub async fn verify_package(
    ledger: &dyn Ledger,
    package: &PackageName,
    tag: Option<&TagName>,
) -> Result<Checked> {
    let mut check = Check { ledger, package, checked: Checked::default() };
    if let Some(tag) = tag {
        check.tag(tag, true).await?;
    } else {
        check.versions().await?;
        let tags = ledger.tags_ever(package).await;
        for tag in check.readable(tags)?.unwrap_or_default() {
            check.tag(&tag, false).await?;
        }
    }
    Ok(check.checked)
}

impl Check<'_> {
    fn found(&mut self, key: impl Into<String>, why: impl Into<String>, is_wrong: bool) {
        let package = self.package.clone();
        self.checked.findings.push(Finding { package, key: key.into(), why: why.into(), is_wrong });
    }

    /// What was read; nothing, and a finding, where a record is broken.
    fn readable<T>(&mut self, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) => match error.meaning() {
                Meaning::Corrupt { why } => {
                    self.found(error.key().unwrap_or("a record"), why.as_str(), true);
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    async fn versions(&mut self) -> Result<()> {
        let read = match self.ledger.versions(self.package).await {
            // A client of 2015 tags without looking: there may be tags all the same, and if not, they say so.
            Err(error) if error.is_not_found() && self.ledger.tags(self.package).await.is_ok() => {
                Ok(Vec::new())
            }
            read => read,
        };
        let Some(records) = self.readable(read)? else {
            self.found("versions", "the other versions were not looked at: one cannot be read", true);
            return Ok(());
        };
        if self.ledger.numbering().await? == Numbering::Sequence {
            let mut expected = Some(Version::FIRST);
            for record in &records {
                if expected != Some(record.version) {
                    let why = "the numbers before it have a gap: a record is missing";
                    self.found(format!("version {}", record.version), why, true);
                }
                expected = record.version.next();
            }
        }
        for record in &records {
            let version = record.version;
            if record.is_removed() != (record.sha256 == Sha256::ZERO) {
                self.found(format!("version {version}"), "it is removed, and still has a digest", true);
            }
        }
        self.checked.versions = records;
        Ok(())
    }

    async fn tag(&mut self, tag: &TagName, must_exist: bool) -> Result<()> {
        let key = format!("tag '{tag}'");
        self.checked.tags += 1;
        for look in 1.. {
            // The tag before its history: what the history has then is never older.
            let state = self.ledger.tag(self.package, tag).await;
            let Some(state) = self.readable(state)? else { return Ok(()) };
            let events = match self.ledger.history(self.package, tag).await {
                Err(error) if error.is_not_found() && !must_exist => Ok(Vec::new()),
                events => events,
            };
            let Some(events) = self.readable(events)? else { return Ok(()) };
            let disagreement = disagreement(state.as_ref(), &events);
            if disagreement.as_ref().is_some_and(|found| found.may_be_a_move) && look < LOOKS {
                continue;
            }
            self.checked.events += events.len() as u64;
            if let Err(link) = verify_chain(&events) {
                self.found(format!("history of {key}"), link.to_string(), true);
            }
            if let Some(found) = disagreement {
                self.found(key.as_str(), found.why, found.is_wrong);
            }
            if let Some(version) = state.and_then(|state| state.version) {
                self.target(&key, version).await?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// Whether the version that a tag points to is there.
    async fn target(&mut self, key: &str, version: Version) -> Result<()> {
        let live = |record: &VersionRecord| record.version == version && !record.is_removed();
        if self.checked.versions.iter().any(live) {
            return Ok(());
        }
        match self.ledger.version(self.package, version).await {
            Ok(_) => {}
            Err(error) => match error.meaning() {
                Meaning::NotFound(Missing::Removed(..)) => {
                    self.found(key, format!("it points to version {version}, which was removed"), true);
                }
                Meaning::NotFound(_) => {
                    self.found(key, format!("it points to version {version}, which does not exist"), true);
                }
                _ => {
                    self.readable(Err::<(), _>(error))?;
                }
            },
        }
        Ok(())
    }
}

/// What does not fit between a tag and its history.
struct Disagreement {
    why: String,
    is_wrong: bool,
    /// The tag may have moved between the two looks.
    may_be_a_move: bool,
}

fn disagreement(state: Option<&TagState>, events: &[Event]) -> Option<Disagreement> {
    let last = events.last();
    let pointer = state.and_then(|state| state.event.as_ref());
    if let Some(event) = pointer {
        let recorded = events.iter().find(|recorded| recorded.seq == event.seq);
        let (why, may_be_a_move) = match recorded {
            None => (format!("it points where event {} moved it, which the history lacks", event.seq), false),
            Some(recorded) if recorded.canonical() != event.canonical() => {
                (format!("its event {} is another than in the history", event.seq), false)
            }
            Some(_) => match last.filter(|last| last.seq > event.seq) {
                None => return None,
                Some(last) => (
                    format!("it points where event {} moved it, but {} is the last", event.seq, last.seq),
                    true,
                ),
            },
        };
        return Some(Disagreement { why, is_wrong: true, may_be_a_move });
    }
    let written = state.and_then(|state| state.version);
    let why = match (written, last) {
        (Some(version), _) => {
            format!("a 2015 client pointed it to version {version}; its history does not say so")
        }
        (None, Some(last)) if last.to.is_some() => {
            "a 2015 client removed it; its history does not say so".to_owned()
        }
        (None, None) if state.is_some_and(TagState::is_there) => {
            "a 2015 client wrote a word where a version belongs".to_owned()
        }
        (None, _) => return None,
    };
    Some(Disagreement { why, is_wrong: false, may_be_a_move: true })
}

/// The blobs that were read already, with their sizes in bytes: versions share them.
#[derive(Debug, Default)]
pub struct Blobs {
    seen: BTreeMap<Sha256, Option<u64>>,
}

impl Blobs {
    /// How many different blobs were read.
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// Reads the blob of a version whole and compares digest and size; each blob once.
    ///
    /// # Errors
    /// What the store says, except `Corrupt` and `NotFound(Blob)`, which are the finding.
    pub async fn verify(
        &mut self,
        store: &dyn Store,
        record: &VersionRecord,
        progress: Progress<'_>,
    ) -> Result<Option<Finding>> {
        if record.is_removed() {
            return Ok(None);
        }
        let wrong = |why: String| {
            let key = format!("version {}, blob {}", record.version, record.sha256);
            Ok(Some(Finding { package: record.package.clone(), key, why, is_wrong: true }))
        };
        match self.seen.get(&record.sha256) {
            Some(Some(size)) if record.size.is_none_or(|recorded| recorded == *size) => return Ok(None),
            Some(Some(size)) => {
                let recorded = record.size.unwrap_or_default();
                return wrong(format!("the blob has {size} bytes, {recorded} were recorded"));
            }
            // It was broken for another version: each of them is named.
            Some(None) | None => {}
        }
        let outcome = fetch::copy(store, &Artifact::from(record), std::io::sink(), progress).await;
        match outcome {
            Ok(size) => {
                self.seen.insert(record.sha256, Some(size));
                Ok(None)
            }
            Err(error) => {
                self.seen.insert(record.sha256, None);
                match error.meaning() {
                    Meaning::Corrupt { why } => wrong(why.clone()),
                    Meaning::NotFound(Missing::Blob(_)) => wrong("the store does not have it".to_owned()),
                    _ => Err(error),
                }
            }
        }
    }
}

/// The error that ends a check with findings.
pub fn summary(wrong: usize) -> Error {
    let why = if wrong == 1 { "1 thing is wrong".to_owned() } else { format!("{wrong} things are wrong") };
    Error::new(Meaning::Corrupt { why }, "vouch for the ledger")
}
