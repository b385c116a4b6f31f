//! What garbage collection needs of a store, beside what everybody does with it.
//!
//! Apart from [`super::Store`], so that what only reads (the init container) does not even contain a deletion. Not
//! responsible for which blobs go: [`crate::upkeep::gc`] decides.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

use super::timing::Timing;
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};
use crate::model::{Sha256, StoreUri};

/// The name of the record that garbage collection keeps in the store: no digest, and below the directory that no package
/// can have.
pub(super) const MANIFEST: &str = "_sacker/gc.json";

/// One blob as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its address.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: Timestamp,
    /// Which writing of it this is: another one after every [`super::Store::put`] that sent the bytes.
    pub revision: String,
}

/// What a listing meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// A blob.
    Blob(StoredBlob),
    /// Something whose name is no digest. Never touched.
    Foreign(String),
}

/// What an upload that did not end left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The file, or the key and the id of the upload.
    pub name: String,
    /// When it began (S3) or was last written to (files), by the store's clock.
    pub since: Timestamp,
    /// Bytes, where the store tells.
    pub size: Option<u64>,
    /// Whether it is known that nobody works on it any more. Where nobody can know, only age tells.
    pub abandoned: bool,
}

/// What a deletion came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// It was written again since it was seen, and stays.
    Changed,
    /// Somebody else was quicker.
    Absent,
}

/// The manifest of garbage collection, and which writing of it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// Its bytes.
    pub bytes: Bytes,
    /// For the next [`Collect::write_manifest`].
    pub revision: String,
}

/// A store whose garbage is collected.
///
/// # Errors
/// As [`super::Store`]. `Conflict` of [`Collect::write_manifest`] when somebody else wrote the manifest meanwhile.
#[async_trait]
pub trait Collect: Send + Sync + Debug {
    /// Where it is, for messages.
    fn place(&self) -> String;

    /// The times that its writers keep.
    fn timing(&self) -> Timing;

    /// Whether a blob that is there is never written again, so that its age tells nothing about who wants it.
    fn is_create_only(&self) -> bool;

    /// Whether the store keeps old versions of an object, so that a deletion can name the one that was seen.
    async fn is_versioned(&self) -> Result<bool>;

    /// The store's own clock.
    async fn now(&self) -> Result<Timestamp>;

    /// Everything directly in the store, in no promised order.
    fn list(&self) -> BoxStream<'_, Result<Listed>>;

    /// Deletes a blob for good, if it is still the one that was seen.
    async fn delete(&self, blob: &StoredBlob) -> Result<Deletion>;

    /// Makes a blob absent for readers and writers, if it is still the one that was seen; [`Collect::restore`] and
    /// [`Collect::purge`] end that. Only for versioned stores.
    async fn hide(&self, blob: &StoredBlob) -> Result<Deletion>;

    /// Shows a hidden blob again. No effect on one that was written again meanwhile.
    async fn restore(&self, blob: &StoredBlob) -> Result<()>;

    /// Deletes a hidden blob for good. One that was written again meanwhile stays.
    async fn purge(&self, blob: &StoredBlob) -> Result<()>;

    /// What uploads left that did not end.
    async fn unfinished(&self) -> Result<Vec<Unfinished>>;

    /// Removes what an upload left. False when somebody works on it after all, or it is gone.
    async fn discard(&self, unfinished: &Unfinished) -> Result<bool>;

    /// The manifest of garbage collection; nothing before the first.
    async fn read_manifest(&self) -> Result<Option<StoredManifest>>;

    /// Writes the manifest if it is still the one with the revision `seen` (or still absent); gives its new revision.
    async fn write_manifest(&self, bytes: Bytes, seen: Option<&str>) -> Result<String>;
}

/// Opens the store at `uri` for garbage collection. Makes no request.
///
/// # Errors
/// As [`super::open`].
#[cfg_attr(not(feature = "store-s3"), expect(clippy::unused_async, reason = "loading AWS settings waits"))]
pub async fn open_for_collection(uri: &StoreUri, connect: &Connect) -> Result<Arc<dyn Collect>> {
    match uri {
        StoreUri::File(location) => Ok(Arc::new(super::file::FileStore::new(location))),
        #[cfg(feature = "store-s3")]
        StoreUri::S3(location) => Ok(Arc::new(super::s3::S3Store::open(location, connect).await?)),
        #[cfg(feature = "store-hdfs")]
        StoreUri::Hdfs(location) => Ok(Arc::new(super::hdfs::HdfsStore::open(location, connect)?)),
        #[cfg(not(all(feature = "store-s3", feature = "store-hdfs")))]
        other => {
            let _ = connect;
            Err(crate::error::Error::invalid(format!("this build has no store for {other}")))
        }
    }
}

/// The digest that `name` is, if it is one as stores write it.
pub(super) fn digest(name: &str) -> Option<Sha256> {
    let sha256: Sha256 = name.parse().ok()?;
    (sha256.to_string() == name).then_some(sha256)
}

/// Somebody else collects at the same time.
pub(super) fn taken(key: &str) -> Error {
    let expected = "the manifest of garbage collection as it was read".to_owned();
    let found = "one that somebody else wrote meanwhile".to_owned();
    Error::new(Meaning::Conflict { expected, found }, "write what is condemned")
        .with_key(key)
        .with_hint("another 'sacker gc' is at work on this store; run this one again when it is done")
}
