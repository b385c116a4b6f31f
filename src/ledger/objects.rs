//! Conditional objects: the small interface under the object ledger. S3, files, ZooKeeper,
//! git and memory implement it.
//!
//! Keys are `/`-separated text, ordered by their bytes. Every write says what it expects to overwrite; an
//! unconditional write exists only for the hint that 2015 readers use. There is no delete but for the keys of a probe:
//! nothing on a tag's path is ever deleted.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use super::InitOptions;
use crate::error::Result;
#[cfg(feature = "cli")]
use crate::inspection::Finding;
use crate::model::Numbering;
use crate::server_clock::ServerTime;

/// No record of a ledger is larger than this, in bytes: writers refuse it, readers call it corrupt.
pub(super) const OBJECT_MAX: usize = 1 << 20;

/// What an object's content is told apart by: an ETag on S3, a digest on files, a count of writes on
/// ZooKeeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision(pub String);

/// An object's bytes and revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub bytes: Bytes,
    /// Its revision.
    pub revision: Revision,
    /// The object's user metadata (S3 only; the 2015 client keeps a version's metadata there).
    pub metadata: std::collections::BTreeMap<String, String>,
}

/// One row of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// The revision, where a listing gives it without reading each object.
    pub revision: Option<Revision>,
}

/// What a write expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing is there.
    Absent,
    /// The object is there with this revision.
    Revision(Revision),
    /// Whatever is there. Only for hints: never on a version, a pointer or an event.
    None,
}

/// The outcome of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is written; this is its revision.
    Written(Revision),
    /// The precondition does not hold; nothing was written by this attempt. A retry below this interface may have met
    /// its own earlier write: compare ids before reporting.
    Refused,
}

/// A write that belongs to another one and is not needed for it: the copy of an event beside its pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Its key.
    pub key: String,
    /// Its content.
    pub bytes: Bytes,
    /// What it expects to find, apart from what the other expects.
    pub precondition: Precondition,
}

/// The names right below a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children {
    /// Names that have something below them, without the slash. Never an empty directory.
    pub directories: Vec<String>,
    /// Where to go on; nothing at the end.
    pub next: Option<String>,
}

/// A place that keeps objects and decides conditional writes one at a time per key.
///
/// # Errors
/// `Denied`, `Throttled`, `Unavailable`, `NotFound(Backend)`, `Local`, `Corrupt` (an object over the size limit). A
/// failed precondition is no error but [`Put::Refused`]. `Unavailable` after a write may hide a write that happened.
#[async_trait]
pub trait ConditionalObjects: Send + Sync + Debug + 'static {
    /// The object at `key`; nothing if there is none.
    async fn get(&self, key: &str) -> Result<Option<Object>>;

    /// Up to `limit` (at most 1,000) objects whose keys begin with `prefix` and are greater than `start_after`, in key
    /// order. Fewer than `limit` means the end.
    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>>;

    /// Whether [`Self::list`] gives revisions, so that what did not change need not be read again.
    fn lists_revisions(&self) -> bool {
        true
    }

    /// The names right below `prefix` (empty, or ending in `/`), in order; a page at a time. `start_after` is the `next` of
    /// the page before, which only the same backend understands.
    async fn children(&self, prefix: &str, start_after: Option<&str>) -> Result<Children>;

    /// All names right below each of these prefixes.
    async fn children_of_each(&self, prefixes: Vec<String>) -> Result<Vec<(String, Vec<String>)>> {
        let mut found = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            let mut names = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let page = self.children(&prefix, after.as_deref()).await?;
                names.extend(page.directories);
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            found.push((prefix, names));
        }
        Ok(found)
    }

    /// How many prefixes [`Self::children_of_each`] should get: more than one where the call costs more than a listing.
    fn listings_at_once(&self) -> usize {
        1
    }

    /// Writes an object if `precondition` holds. Durable when it returns.
    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        metadata: &std::collections::BTreeMap<String, String>,
    ) -> Result<Put>;

    /// Writes an object as [`Self::put`] does, and its `companion` in the same atomic step where the backend has such steps.
    /// Returns whether the companion is written too, which never is so where the first was refused. If not, the
    /// companion is the caller's business: it was not tried, or its own precondition does not hold.
    async fn put_with(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        metadata: &std::collections::BTreeMap<String, String>,
        _companion: Companion,
    ) -> Result<(Put, bool)> {
        self.put(key, bytes, precondition, metadata).await.map(|put| (put, false))
    }

    /// All keys below `prefix` with the time by the server's clock at which each was last written. Nothing where that is not
    /// known.
    async fn written(&self, _prefix: &str) -> Result<Vec<(String, jiff::Timestamp)>> {
        Ok(Vec::new())
    }

    /// Creates an object by an upload in parts whose last step has the precondition [`Precondition::Absent`]; nothing where
    /// there is no such thing. For probes: no record is written so.
    async fn create_in_parts(&self, _key: &str, _bytes: Bytes) -> Result<Option<Put>> {
        Ok(None)
    }

    /// Deletes a key below `_sacker/probe/`, and refuses any other. One that is not there is no error.
    async fn delete_probe(&self, key: &str) -> Result<()>;

    /// Where the object of a key is, as its backend names it: for messages.
    fn place(&self, key: &str) -> String {
        key.to_owned()
    }

    /// As [`crate::ledger::Ledger::inspect_credentials`].
    #[cfg(feature = "cli")]
    async fn inspect_credentials(&self) -> Option<Finding> {
        None
    }

    /// As [`crate::ledger::Ledger::inspect`].
    #[cfg(feature = "cli")]
    async fn inspect(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Whether this server's conditional writes are worth a doubt: not where its maker promises them, as AWS does.
    fn wants_probe(&self) -> bool {
        false
    }

    /// The time by the clock of the server, which all writers share, as of its last answer. Nothing where there is no server,
    /// and before its first answer: the writer's own clock is all there is then.
    fn server_time(&self) -> Option<ServerTime> {
        None
    }

    /// The same, asked for where no answer tells it by the way: by the clock of the file system, say.
    async fn time(&self) -> Option<ServerTime> {
        self.server_time()
    }

    /// How versions are numbered where the ledger's own record does not say.
    fn default_numbering(&self) -> Numbering;

    /// Creates the place itself (bucket, directory) if it is not there. Returns a line per thing done.
    async fn init(&self, options: &InitOptions) -> Result<Vec<String>>;
}
