//! The object ledger: the whole ledger over [`ConditionalObjects`], written once for S3, files,
//! ZooKeeper, git and memory.
//!
//! The pointer of a tag is the commit point: it carries its own event, so a move without its history row cannot exist,
//! and one conditional write decides every race. Versions are create-only, except that a
//! removal replaces one by its tombstone. Nothing is ever deleted.
//!
//! Not responsible for how an object is written conditionally (the adapters), nor for whether a change of a tag is
//! allowed ([`crate::model::next_event`]).

mod archived;
mod examine;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod history;
mod keys;
mod newest;
mod own;
mod packages;
#[doc(hidden)]
pub mod plan;
mod probe;
mod records;
mod removal;
#[cfg(feature = "cli")]
mod restore;
mod tags;
#[cfg(test)]
mod tests;
mod versions;
mod views;

pub(super) use probe::check_is_probe;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, Once};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::OnceCell;

use archived::Archived;
use records::LedgerBody;

use super::{
    Companion, ConditionalObjects, Entry, Findings, InitOptions, Ledger, LedgerState, Newest, Precondition,
    ProbeOptions, ProbeReport, Put, Removed, TagOutcome, ViewCache,
};
#[cfg(feature = "cli")]
use super::{Restored, TagDump};
use crate::connect::Connect;
use crate::error::{Error, Result};
#[cfg(feature = "cli")]
use crate::inspection::Finding;
use crate::model::{
    Event, LedgerUri, NewVersion, PackageName, PackageView, Removal, TagChange, TagName, TagState, Version,
    VersionRecord,
};
use crate::retry::Backoff;
use crate::server_clock::ServerTime;

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
    own: OnceCell<LedgerBody>,
    /// The newest version that this client added to each package without being allowed to read it.
    added_blindly: Mutex<HashMap<PackageName, Version>>,
    /// A clock that is off is worth one warning, not one per version.
    warned_of_skew: Once,
    archived: Archived,
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    /// The ledger that `objects` hold. Makes no request.
    pub fn new(uri: LedgerUri, objects: O, connect: Connect) -> Self {
        Self {
            uri,
            objects,
            connect,
            own: OnceCell::new(),
            added_blindly: Mutex::default(),
            warned_of_skew: Once::new(),
            archived: Archived::default(),
        }
    }

    /// All objects whose keys begin with `prefix` and come after `start`, over as many pages as there are.
    async fn list_all(&self, prefix: &str, start: &str) -> Result<Vec<Entry>> {
        let mut entries = self.objects.list(prefix, start, PAGE).await?;
        let mut is_full = entries.len() == PAGE;
        while is_full && let Some(last) = entries.last().map(|entry| entry.key.clone()) {
            let page = self.objects.list(prefix, &last, PAGE).await?;
            is_full = page.len() == PAGE;
            entries.extend(page);
        }
        Ok(entries)
    }

    /// A write with its companion, where there is one; whether that is written too.
    async fn put_both(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        metadata: &BTreeMap<String, String>,
        companion: Option<Companion>,
    ) -> Result<(Put, bool)> {
        match companion {
            Some(companion) => self.objects.put_with(key, bytes, precondition, metadata, companion).await,
            None => self.objects.put(key, bytes, precondition, metadata).await.map(|put| (put, false)),
        }
    }

    /// A record that was read, or why it could not be, with the place where its backend keeps it.
    fn placed<T>(&self, key: &str, decoded: Result<T>) -> Result<T> {
        decoded.map_err(|error| error.with_key(self.objects.place(key)))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.connect.clock.clone(), self.connect.deadline)
    }
}

/// What a write came to, as [`plan`] sees it, and its failure.
fn sent(put: Result<Put>) -> (plan::Sent, Option<Error>) {
    match put {
        Ok(Put::Written(_)) => (plan::Sent::Written, None),
        Ok(Put::Refused) => (plan::Sent::Refused, None),
        Err(error) if error.is_transient() => (plan::Sent::Lost, Some(error)),
        Err(error) => (plan::Sent::Failed, Some(error)),
    }
}

#[async_trait]
impl<O: ConditionalObjects> Ledger for ObjectLedger<O> {
    fn uri(&self) -> &LedgerUri {
        &self.uri
    }

    async fn init(&self, options: &InitOptions) -> Result<Vec<String>> {
        self.set_up(options).await
    }

    async fn state(&self) -> Result<LedgerState> {
        self.own_state().await
    }

    #[cfg(feature = "cli")]
    async fn inspect_credentials(&self) -> Option<Finding> {
        self.objects.inspect_credentials().await
    }

    #[cfg(feature = "cli")]
    async fn inspect(&self) -> Vec<Finding> {
        self.objects.inspect().await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.objects.server_time()
    }

    async fn time(&self) -> Option<ServerTime> {
        self.objects.time().await
    }

    async fn examine(&self, package: &PackageName) -> Result<Findings> {
        self.findings(package).await
    }

    async fn probe(&self, options: &ProbeOptions) -> Result<ProbeReport> {
        self.run_probe(options).await
    }

    fn packages(&self) -> BoxStream<'_, Result<PackageName>> {
        self.walk_packages(false)
    }

    fn all_packages(&self) -> BoxStream<'_, Result<PackageName>> {
        self.walk_packages(true)
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
        self.check_writable().await?;
        self.commit_change(package, tag, change).await
    }

    async fn remove_version(
        &self,
        package: &PackageName,
        version: Version,
        removal: &Removal,
    ) -> Result<Removed> {
        self.check_writable().await?;
        self.remove(package, version, removal).await
    }

    async fn repair(&self, package: &PackageName) -> Result<Option<String>> {
        self.check_writable().await?;
        let shown = |version: Option<Version>| {
            version.map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"))
        };
        let repaired = self.repair_hint(package).await?;
        Ok(repaired.map(|(before, now)| {
            format!("package '{package}': tags/latest named {}, names {} now", shown(before), shown(now))
        }))
    }

    async fn history(&self, package: &PackageName, tag: &TagName) -> Result<Vec<Event>> {
        self.all_events(package, tag).await
    }

    async fn views(
        &self,
        packages: &[PackageName],
        known: &ViewCache,
    ) -> Vec<(PackageName, Result<PackageView>)> {
        self.many_views(packages, known).await
    }

    #[cfg(feature = "cli")]
    async fn numbering(&self) -> Result<crate::model::Numbering> {
        self.known_numbering().await
    }

    #[cfg(feature = "cli")]
    async fn restore_version(&self, record: &VersionRecord) -> Result<Restored> {
        self.check_writable().await?;
        self.put_version_back(record).await
    }

    #[cfg(feature = "cli")]
    async fn restore_tag(&self, package: &PackageName, dump: &TagDump) -> Result<Restored> {
        self.check_writable().await?;
        self.put_tag_back(package, dump).await
    }

    #[cfg(feature = "cli")]
    async fn finish_restore(&self, package: &PackageName) -> Result<()> {
        self.repair_hint(package).await.map(|_| ())
    }
}
