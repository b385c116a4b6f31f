//! The object ledger: the whole ledger over [`ConditionalObjects`], written once for S3, files and memory.
//!
//! The pointer of a tag is the commit point: it carries its own event, so a move without its history row cannot exist,
//! and one conditional write decides every race. Versions are create-only, except that a
//! removal replaces one by its tombstone. Nothing is ever deleted.
//!
//! Not responsible for how an object is written conditionally (the adapters), nor for whether a change of a tag is
//! allowed ([`crate::model::next_event`]).

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod keys;
mod packages;
#[doc(hidden)]
pub mod plan;
mod records;
mod removal;
mod tags;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::OnceCell;

use super::{ConditionalObjects, InitOptions, Ledger, Newest, Precondition, Put, Removed, TagOutcome};
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};
use crate::model::{
    Event, LedgerUri, NewVersion, Numbering, PackageName, Removal, S3Location, TagChange, TagName, TagState,
    Version, VersionRecord,
};
use crate::retry::Backoff;

/// How many small objects are read at a time.
const READS: usize = 16;

/// The page size of every listing: what S3 allows at most.
const PAGE: usize = 1000;

/// Numbers from here on are Unix milliseconds (since 2001), not a count of versions.
const FIRST_TIMESTAMP: i64 = 1_000_000_000_000;

/// A ledger over conditional objects.
#[derive(Debug)]
pub struct ObjectLedger<O> {
    uri: LedgerUri,
    objects: O,
    connect: Connect,
    numbering: OnceCell<Numbering>,
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    /// The ledger that `objects` hold. Makes no request.
    pub fn new(uri: LedgerUri, objects: O, connect: Connect) -> Self {
        Self { uri, objects, connect, numbering: OnceCell::new() }
    }

    /// How this ledger numbers versions. Read once: a ledger never changes it.
    async fn numbering(&self) -> Result<Numbering> {
        let read = || async {
            match self.objects.get(keys::LEDGER).await {
                Ok(Some(object)) => records::decode_ledger(keys::LEDGER, &object.bytes),
                Ok(None) => Ok(self.objects.default_numbering()),
                // Guessing would put timestamps into a sequence, for good.
                Err(error) if matches!(error.meaning(), Meaning::Denied { .. }) => match &self.uri {
                    LedgerUri::S3(S3Location { versions: Some(versions), .. }) => Ok(*versions),
                    _ => Err(error.with_hint(
                        "let it be read (s3:GetObject, and s3:ListBucket), or say ?versions=timestamp",
                    )),
                },
                Err(error) => Err(error),
            }
        };
        self.numbering.get_or_try_init(read).await.copied()
    }

    /// A place that 2015 clients used already cannot become a sequence: their numbers are far above any sequence.
    async fn check_no_timestamps(&self) -> Result<()> {
        let Some(package) = self.walk_packages().try_next().await? else { return Ok(()) };
        match self.highest_listed(&package).await? {
            Some(version) if version.get() >= FIRST_TIMESTAMP => {
                let meaning = Meaning::Conflict {
                    expected: "no package yet, or versions numbered by sequence".to_owned(),
                    found: format!("version {version} of package '{package}'"),
                };
                Err(Error::new(meaning, "set up the ledger")
                    .with_key(self.uri.to_string())
                    .with_hint("keep versions=timestamp here, or use another prefix for a sequence"))
            }
            _ => Ok(()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.connect.clock.clone(), self.connect.deadline)
    }
}

#[async_trait]
impl<O: ConditionalObjects> Ledger for ObjectLedger<O> {
    fn uri(&self) -> &LedgerUri {
        &self.uri
    }

    async fn init(&self, options: &InitOptions) -> Result<Vec<String>> {
        let mut done = self.objects.init(options).await?;
        let wanted = options.numbering.unwrap_or_else(|| self.objects.default_numbering());
        if wanted == Numbering::Sequence && self.objects.get(keys::LEDGER).await?.is_none() {
            self.check_no_timestamps().await?;
        }
        let body = records::encode_ledger(wanted);
        match self.objects.put(keys::LEDGER, body, Precondition::Absent, &BTreeMap::new()).await? {
            Put::Written(_) => done.push(format!("versions are numbered by {}", wanted.as_str())),
            Put::Refused => {
                let object = self.objects.get(keys::LEDGER).await?;
                let found =
                    object.map(|object| records::decode_ledger(keys::LEDGER, &object.bytes)).transpose()?;
                if let (Some(found), Some(asked)) = (found, options.numbering)
                    && found != asked
                {
                    let meaning = Meaning::Conflict {
                        expected: format!("versions numbered by {}", asked.as_str()),
                        found: format!("versions numbered by {}", found.as_str()),
                    };
                    return Err(Error::new(meaning, "set up the ledger")
                        .with_key(self.uri.to_string())
                        .with_hint("the numbering of a ledger is chosen once; use another prefix for another numbering"));
                }
            }
        }
        Ok(done)
    }

    fn packages(&self) -> BoxStream<'_, Result<PackageName>> {
        self.walk_packages()
    }

    async fn versions(&self, package: &PackageName) -> Result<Vec<VersionRecord>> {
        self.all_versions(package).await
    }

    async fn newest(&self, package: &PackageName, count: usize) -> Result<Newest> {
        self.newest_versions(package, count).await
    }

    async fn latest(&self, package: &PackageName) -> Result<VersionRecord> {
        self.latest_version(package).await
    }

    async fn version(&self, package: &PackageName, version: Version) -> Result<VersionRecord> {
        self.live_version(package, version).await
    }

    async fn tags(&self, package: &PackageName) -> Result<Vec<TagState>> {
        self.all_tags(package).await
    }

    async fn tags_ever(&self, package: &PackageName) -> Result<Vec<TagName>> {
        self.all_tags_ever(package).await
    }

    async fn tag(&self, package: &PackageName, tag: &TagName) -> Result<Option<TagState>> {
        self.one_tag(package, tag).await
    }

    async fn add(&self, package: &PackageName, new: &NewVersion) -> Result<VersionRecord> {
        self.add_version(package, new).await
    }

    async fn change_tag(
        &self,
        package: &PackageName,
        tag: &TagName,
        change: &TagChange,
    ) -> Result<TagOutcome> {
        self.commit_change(package, tag, change).await
    }

    async fn remove_version(
        &self,
        package: &PackageName,
        version: Version,
        removal: &Removal,
    ) -> Result<Removed> {
        self.remove(package, version, removal).await
    }

    async fn history(&self, package: &PackageName, tag: &TagName) -> Result<Vec<Event>> {
        self.all_events(package, tag).await
    }
}
