//! The ledger: package names, versions and tags, and the history of every tag.
//!
//! [`Ledger`] is the one interface; every backend passes one conformance suite (`tests/it/ledgers`). Not responsible
//! for blobs (see [`crate::store`]), nor for who may call it from a cluster ([`crate::model::check_access`]).

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::connect::Connect;
use crate::error::{Error, Meaning, Missing, Result};
#[cfg(feature = "cli")]
use crate::inspection::Finding;
use crate::model::{
    Event, LedgerUri, NewVersion, Numbering, PackageName, PackageView, Removal, Resolved, Spec, TagChange,
    TagName, TagState, Version, VersionRecord,
};
use crate::server_clock::ServerTime;

#[cfg(feature = "ledger-dynamo")]
pub(crate) mod dynamo;
mod file;
#[cfg(feature = "ledger-git")]
mod git;
mod known;
pub(crate) mod layout;
mod memory;
mod objects;
mod probe;
mod restore;
#[cfg(feature = "ledger-s3")]
mod s3;
#[cfg(feature = "ledger-zk")]
mod zookeeper;

#[cfg(feature = "ledger-dynamo")]
pub use dynamo::DynamoLedger;
#[cfg(feature = "ledger-git")]
pub use git::GitObjects;
pub use known::ViewCache;
pub use layout::ObjectLedger;
#[doc(hidden)]
pub use layout::plan;
pub use memory::MemoryObjects;
pub use objects::{Children, Companion, ConditionalObjects, Entry, Object, Precondition, Put, Revision};
pub use probe::{Check, ProbeOptions, ProbeReport, Verdict};
pub use restore::{Contradiction, MissingParts, Pointer, Restored, TagDump};
#[cfg(feature = "ledger-s3")]
pub use s3::S3Objects;
#[cfg(feature = "ledger-zk")]
pub use zookeeper::ZooKeeperObjects;

/// What `init` sets up. Each setting names what a new ledger gets; an existing one is not changed without `upgrade`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct InitOptions {
    /// How versions are numbered, where the backend has a choice.
    pub numbering: Option<Numbering>,
    /// Continuous backups, where the backend has them.
    pub point_in_time_recovery: bool,
    /// Protection against deletion by accident, where the backend has it.
    pub deletion_protection: bool,
    /// Bring an existing ledger to these settings.
    pub upgrade: bool,
    /// Probe the server's conditional writes where its maker does not promise them, keep the verdict in the ledger, and
    /// refuse a server whose conditional writes are broken. Costs about a thousand small requests.
    pub probe: bool,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            numbering: None,
            point_in_time_recovery: true,
            deletion_protection: true,
            upgrade: false,
            probe: false,
        }
    }
}

/// The newest versions of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Newest {
    /// Not removed, newest first.
    pub records: Vec<VersionRecord>,
    /// How many versions were ever added, removed ones included.
    pub version_count: u64,
}

/// What the ledger says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerState {
    /// Whether `init` was run here. Without it an S3 ledger is one of 2015.
    pub is_set_up: bool,
    /// How versions are numbered.
    pub numbering: Numbering,
    /// What the last probe found, where one was kept.
    pub verdict: Option<Verdict>,
    /// Whether the URI says that there is one writer at a time.
    pub is_single_writer: bool,
}

/// What is odd in a package and harms no reader of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The hint for 2015 readers does not name the newest version: what it names, in words.
    pub lagging_hint: Option<String>,
    /// Versions that are times, but not those at which they were written, and how far they are ahead of these.
    pub misplaced: Vec<(Version, jiff::SignedDuration)>,
}

/// What a change of a tag came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagOutcome {
    /// The tag after it.
    pub state: TagState,
    /// The event that was written; nothing when the tag already was as asked.
    pub event: Option<Event>,
    /// Where the tag pointed before.
    pub previous: Option<Version>,
    /// The change stands, but its copy in the history could not be written yet; the next reader will do it.
    pub archive_pending: bool,
}

/// What the removal of a version came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The tombstone: who removed the version, when and why.
    pub record: VersionRecord,
    /// False when it was removed before.
    pub is_new: bool,
}

/// One ledger. Shared by many tasks; every method may be called at any time.
///
/// # Errors
/// By [meaning](crate::error::Meaning): reads of absent things are `NotFound`; `Throttled` and `Unavailable` only after
/// retries up to [`Connect::deadline`]. A write whose reply was lost is looked up by its id before anything is reported;
/// if that cannot be done until the deadline, the error is `Unavailable` and [`Error::unsettled`] has the id.
///
/// # Cancellation
/// Dropping a future leaves each record either written whole or not at all. Within one call every retry recognises its
/// own earlier attempt by the id (`NewVersion::add_id`, `TagChange::id`). A second call of `change_tag` with the same id
/// recognises the first while that is still the tag's newest event; a second call of `add` is a second version.
#[async_trait]
pub trait Ledger: Send + Sync + Debug {
    /// Where it is, for messages.
    fn uri(&self) -> &LedgerUri;

    /// Creates what the ledger needs (tables, bucket, directory). Idempotent. Returns a line per thing done.
    async fn init(&self, options: &InitOptions) -> Result<Vec<String>>;

    /// What the ledger says about itself, read anew.
    ///
    /// # Errors
    /// `NotFound(Backend)` when it does not exist.
    async fn state(&self) -> Result<LedgerState>;

    /// Whose credentials are in force, and until when. Nothing where there are none to speak of.
    #[cfg(feature = "cli")]
    async fn inspect_credentials(&self) -> Option<Finding> {
        None
    }

    /// How the place is set up where the ledger lives, beyond what [`Ledger::state`] says. Changes nothing, and never fails:
    /// what cannot be found out is a finding, too.
    #[cfg(feature = "cli")]
    async fn inspect(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// The time by the clock of the server as of its last answer, where there is one that tells.
    fn server_time(&self) -> Option<ServerTime> {
        None
    }

    /// The time by the ledger's own clock, for what must not depend on this machine's. Nothing where the ledger has none.
    async fn time(&self) -> Option<ServerTime> {
        self.server_time()
    }

    /// Looks for what is odd in a package.
    async fn examine(&self, _package: &PackageName) -> Result<Findings> {
        Ok(Findings::default())
    }

    /// Checks that the backend keeps the promises that the ledger rests on, with writes of its own that it removes.
    ///
    /// # Errors
    /// What says nothing about the promises: `Denied`, `Unavailable`, `Throttled`, `NotFound(Backend)`.
    async fn probe(&self, options: &ProbeOptions) -> Result<ProbeReport>;

    /// All packages, in no promised order across directories, each once.
    fn packages(&self) -> BoxStream<'_, Result<PackageName>>;

    /// As [`Ledger::packages`], for those who must miss nothing: also packages of 2015 with a component that the layout uses
    /// itself (`a/versions/b`). Costs more listings, and may name a package that has no version.
    fn all_packages(&self) -> BoxStream<'_, Result<PackageName>> {
        self.packages()
    }

    /// All versions of a package, oldest first, removed ones included.
    async fn versions(&self, package: &PackageName) -> Result<Vec<VersionRecord>>;

    /// The newest `count` versions that were not removed, newest first, and how many there ever were.
    async fn newest(&self, package: &PackageName, count: usize) -> Result<Newest>;

    /// The record of one version. A removed one is `NotFound(Removed)`; an absent one `NotFound(Version)`, also when the
    /// whole package is absent (telling that apart costs another request: see [`Ledger::resolve`]).
    async fn version(&self, package: &PackageName, version: Version) -> Result<VersionRecord>;

    /// All tags of a package by name, removed ones left out. `NotFound(Package)` when it has no version either.
    async fn tags(&self, package: &PackageName) -> Result<Vec<TagState>>;

    /// The names of all tags that have a history or are set, by name: also of removed ones, which [`Ledger::tags`] leaves
    /// out. `NotFound(Package)` when there are none and it has no version either.
    async fn tags_ever(&self, package: &PackageName) -> Result<Vec<TagName>>;

    /// One tag: nothing if it was never set; without a version if it was removed.
    async fn tag(&self, package: &PackageName, tag: &TagName) -> Result<Option<TagState>>;

    /// Adds a version. The blob must be durable in the store already.
    async fn add(&self, package: &PackageName, new: &NewVersion) -> Result<VersionRecord>;

    /// Changes a tag by compare-and-swap, with its event in the same atomic step. A lost race is decided again from what
    /// is there then; what cannot hold any more is the error ([`crate::model::next_event`]).
    async fn change_tag(
        &self,
        package: &PackageName,
        tag: &TagName,
        change: &TagChange,
    ) -> Result<TagOutcome>;

    /// Replaces a version by a tombstone: its number stays taken for good, its bytes may be collected. A version that was
    /// removed before is left as it is. `Conflict` naming the tags while any tag points to it; `NotFound(Version)` or
    /// `(Package)` when it was never added. No tag can come to point to it meanwhile.
    async fn remove_version(
        &self,
        package: &PackageName,
        version: Version,
        removal: &Removal,
    ) -> Result<Removed>;

    /// Sets right what readers of 2015 go by and no reader of ours: the hint at the newest version. Returns what was done;
    /// nothing where all is well, or where there is no such thing.
    async fn repair(&self, _package: &PackageName) -> Result<Option<String>> {
        Ok(None)
    }

    /// All events of a tag, oldest first, also of a removed tag. `NotFound(Tag)` when there never was one.
    async fn history(&self, package: &PackageName, tag: &TagName) -> Result<Vec<Event>>;

    /// How versions are numbered here.
    #[cfg(feature = "cli")]
    async fn numbering(&self) -> Result<Numbering>;

    /// Puts a version of another ledger back at exactly its number, removed or not. Whoever calls it for a ledger that
    /// numbers 1, 2, 3, ... does so in that order and leaves no gap. Repeating it does no harm.
    ///
    /// # Errors
    /// `Conflict` when the number has another record; `Invalid` for a name that this ledger cannot keep.
    #[cfg(feature = "cli")]
    async fn restore_version(&self, record: &VersionRecord) -> Result<Restored>;

    /// Puts a tag of another ledger back with its history, event by event as they are. The history comes first and the
    /// pointer last; what an interrupted call left out is written by the next.
    ///
    /// # Errors
    /// `Conflict` when what is there is not an earlier state of this tag ([`TagDump::missing_from`]); `Invalid` for a name
    /// that this ledger cannot keep.
    #[cfg(feature = "cli")]
    async fn restore_tag(&self, package: &PackageName, dump: &TagDump) -> Result<Restored>;

    /// Called when versions of a package were put back: brings what readers of 2015 look at up to date.
    #[cfg(feature = "cli")]
    async fn finish_restore(&self, _package: &PackageName) -> Result<()> {
        Ok(())
    }

    /// The newest version that was not removed.
    async fn latest(&self, package: &PackageName) -> Result<VersionRecord> {
        let newest = self.newest(package, 1).await?;
        let none = || Error::not_found(Missing::Package(package.clone()));
        newest.records.into_iter().next().ok_or_else(none)
    }

    /// The record that a spec names, and the tag it went through.
    async fn resolve(&self, package: &PackageName, spec: &Spec) -> Result<Resolved> {
        let found = match spec {
            Spec::Latest => return self.latest(package).await.map(|record| Resolved { record, tag: None }),
            Spec::Version(version) => {
                self.version(package, *version).await.map(|record| Resolved { record, tag: None })
            }
            Spec::Tag(tag) => match self.tag(package, tag).await? {
                Some(state @ TagState { version: Some(version), .. }) => {
                    let record = self.version(package, version).await?;
                    return Ok(Resolved { record, tag: Some(state) });
                }
                Some(TagState { version: None, .. }) | None => {
                    Err(Error::not_found(Missing::Tag(package.clone(), tag.clone())))
                }
            },
        };
        match found {
            // Say which of the two is missing. The extra request is spent on the way to an error only.
            Err(error) if error.is_not_found() => match self.newest(package, 1).await {
                Err(missing) if missing.is_not_found() => Err(missing),
                _ => Err(error),
            },
            other => other,
        }
    }

    /// What a mirror of the package shows.
    async fn view(&self, package: &PackageName) -> Result<PackageView> {
        let mut views = self.views(std::slice::from_ref(package), &ViewCache::default()).await;
        views.pop().map_or_else(|| Err(Error::not_found(Missing::Package(package.clone()))), |(_, view)| view)
    }

    /// What mirrors of many packages show, in the order asked for, with as few requests as the backend allows. What
    /// `known` has from an earlier call is not fetched again unless it changed; what this call saw is there afterwards.
    ///
    /// Each package has a result of its own, and the time of one operation ([`Connect::deadline`]) to come by it. Each view
    /// is as the ledger was at moments during the call; it is no snapshot over its tags and versions, nor over packages.
    async fn views(
        &self,
        packages: &[PackageName],
        known: &ViewCache,
    ) -> Vec<(PackageName, Result<PackageView>)>;
}

/// The refusal to remove a version while these tags point to it.
fn still_tagged(package: &PackageName, version: Version, tags: &[&str]) -> Error {
    let named = tags.iter().map(|tag| format!("'{tag}'")).collect::<Vec<_>>().join(", ");
    let meaning = Meaning::Conflict {
        expected: format!("no tag on version {version} of package '{package}'"),
        found: format!("{} {named}", if tags.len() == 1 { "tag" } else { "tags" }),
    };
    let first = tags.first().copied().unwrap_or_default();
    Error::new(meaning, "remove a version")
        .with_hint(format!("move the tag first, or remove it: sacker untag {package} {first}"))
}

/// Opens the ledger at `uri`. Makes no request.
///
/// # Errors
/// `Invalid` when this build has no such backend, or its settings are broken.
#[cfg_attr(
    not(any(feature = "ledger-s3", feature = "ledger-dynamo")),
    expect(clippy::unused_async, reason = "loading AWS settings waits")
)]
pub async fn open(uri: &LedgerUri, connect: &Connect) -> Result<Arc<dyn Ledger>> {
    match uri {
        LedgerUri::File(location) => {
            let objects = file::FileObjects::new(location, connect.clock.clone());
            Ok(Arc::new(ObjectLedger::new(uri.clone(), objects, connect.clone())))
        }
        #[cfg(feature = "ledger-s3")]
        LedgerUri::S3(location) => {
            let objects = s3::S3Objects::open(location, connect).await?;
            Ok(Arc::new(ObjectLedger::new(uri.clone(), objects, connect.clone())))
        }
        #[cfg(feature = "ledger-dynamo")]
        LedgerUri::Dynamo(location) => Ok(Arc::new(DynamoLedger::open(location, connect).await?)),
        #[cfg(feature = "ledger-zk")]
        LedgerUri::ZooKeeper(location) => {
            let objects = zookeeper::ZooKeeperObjects::open(location, connect)?;
            Ok(Arc::new(ObjectLedger::new(uri.clone(), objects, connect.clone())))
        }
        #[cfg(feature = "ledger-git")]
        LedgerUri::Git(location) => {
            let objects = git::GitObjects::open(location, connect)?;
            Ok(Arc::new(ObjectLedger::new(uri.clone(), objects, connect.clone())))
        }
        #[cfg(not(all(
            feature = "ledger-s3",
            feature = "ledger-dynamo",
            feature = "ledger-zk",
            feature = "ledger-git"
        )))]
        other => Err(Error::invalid(format!("this build has no {}:// ledger", other.scheme()))),
    }
}
