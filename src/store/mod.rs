//! The store: blobs, addressed only by the sha256 of their bytes.
//!
//! Not responsible for what a blob is called or who may have it (the ledger's business), nor for verifying what it
//! hands out: a store is not trusted, [`crate::fetch`] checks every byte.

use std::fmt::Debug;
use std::ops::Range;
#[cfg(feature = "cli")]
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::connect::Connect;
use crate::error::Result;
#[cfg(feature = "cli")]
use crate::inspection::Finding;
use crate::model::{Sha256, StoreUri, StoreUris};

mod blocking;
mod collect;
mod file;
mod file_collect;
#[cfg(feature = "cli")]
mod file_incoming;
#[cfg(feature = "cli")]
mod file_put;
#[cfg(feature = "store-hdfs")]
mod hdfs;
#[cfg(all(feature = "store-s3", feature = "cli"))]
mod multipart;
#[cfg(feature = "cli")]
mod parts;
#[cfg(feature = "store-s3")]
mod s3;
#[cfg(feature = "store-s3")]
mod s3_collect;
#[cfg(all(feature = "store-s3", feature = "cli"))]
mod s3_put;
#[cfg(feature = "cli")]
mod scan;
#[cfg(all(feature = "store-s3", feature = "cli"))]
mod sending;
mod several;
#[cfg(all(feature = "store-s3", feature = "cli"))]
mod signed;
#[cfg(feature = "cli")]
mod source;
mod timing;

pub use collect::{Collect, Deletion, Listed, StoredBlob, StoredManifest, Unfinished, open_for_collection};
#[cfg(feature = "cli")]
pub use scan::Scan;
pub use timing::{RESOLUTION, Timing};

/// What is known of a blob without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: Option<jiff::Timestamp>,
}

/// A blob being read. The bytes are not verified.
pub struct BlobReader {
    /// The whole blob's size in bytes, whatever part is read.
    pub size: u64,
    /// The bytes, in order. Ends early only with an error.
    pub stream: BoxStream<'static, Result<Bytes>>,
}

impl Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader").field("size", &self.size).finish_non_exhaustive()
    }
}

/// A local file about to be stored, with what it is expected to hold.
#[cfg(feature = "cli")]
#[derive(Debug, Clone, Copy)]
pub struct BlobFile<'a> {
    /// The file.
    pub path: &'a Path,
    /// The sha256 of its bytes.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// What it told when it was read, where it was read before: saves reading or hashing it again.
    pub scan: Option<&'a Scan>,
}

#[cfg(feature = "cli")]
impl<'a> BlobFile<'a> {
    /// What is known of the bytes that are expected; nothing of any others.
    fn known(&self) -> Option<&'a Scan> {
        self.scan.filter(|scan| scan.sha256 == self.sha256 && scan.size == self.size)
    }
}

/// What `put` did.
#[cfg(feature = "cli")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The bytes were sent, and count as new from now on.
    Uploaded,
    /// The store already had them, and nothing can collect them before [`Timing::publish_within`] is over.
    AlreadyThere,
}

/// The range of a whole blob, whatever its size.
pub const WHOLE: Range<u64> = 0..u64::MAX;

/// Called with the number of bytes that were moved since the last call.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// One store.
///
/// # Errors
/// By [meaning](crate::error::Meaning). `NotFound(Blob)` for an absent blob; a 403 stays `Denied`, also where the server
/// gives it for an absent blob because listing is not granted. `Throttled` and `Unavailable` only after retries.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Where it is, for messages.
    fn place(&self) -> String;

    /// The times that its writers keep.
    fn timing(&self) -> Timing;

    /// The stores behind this one, where it is several; none otherwise.
    fn parts(&self) -> &[Arc<dyn Store>] {
        &[]
    }

    /// Whose credentials are in force, and until when. Nothing where there are none to speak of, and of several stores as one.
    #[cfg(feature = "cli")]
    async fn inspect_credentials(&self) -> Option<Finding> {
        None
    }

    /// How the place is set up where the blobs live. Changes nothing, and never fails: what cannot be found out is a finding,
    /// too. Nothing of several stores as one; ask each of [`Store::parts`].
    #[cfg(feature = "cli")]
    async fn inspect(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Creates what the store needs (bucket, directory). Idempotent. Returns a line per thing done.
    async fn init(&self) -> Result<Vec<String>>;

    /// Stores a file's bytes under their digest. Durable when it returns. Checks that the bytes it sent have that digest
    /// (`Corrupt` when the file changed meanwhile; nothing is stored then). A cancelled or failed `put` leaves nothing
    /// under the digest. A writer that may not read the store uploads without looking first.
    ///
    /// A blob that is there is sent again unless it is [fresh](Timing::is_fresh): garbage collection may be about to delete
    /// it, and only its age tells it not to. Nothing is sent again to a store that is create-only.
    #[cfg(feature = "cli")]
    async fn put(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<PutOutcome>;

    /// Reads a file whose digest is not known yet, of about `size` bytes, and keeps a copy where `put` only has to give it its
    /// name: one pass for both. Nothing is read, and nothing returned, where the store cannot, or where hashing the file is
    /// likely to suffice. The copy goes when it is dropped with the scan.
    #[cfg(feature = "cli")]
    async fn draft(&self, path: &Path, size: u64, progress: Progress<'_>) -> Result<Option<Scan>> {
        let _ = (path, size, progress);
        Ok(None)
    }

    /// What is known of a blob; nothing if it is absent.
    async fn head(&self, sha256: &Sha256) -> Result<Option<BlobInfo>>;

    /// Waits until what a dropped `put` left behind is cleaned up. Whoever ends the process after an interrupt gives it the
    /// chance, within limits.
    #[cfg(feature = "cli")]
    async fn settle(&self) {}

    /// A URL that gives the blob to whoever has it, for `expires`, without credentials; as `filename` where a browser
    /// fetches it. Makes no request but for credentials, so nobody looked whether the blob is there.
    ///
    /// `Invalid` where the store has no such URLs. For people only: what a pod need not do is not in its binary.
    #[cfg(feature = "cli")]
    async fn presign(&self, sha256: &Sha256, expires: std::time::Duration, filename: &str) -> Result<String> {
        let _ = (sha256, expires, filename);
        Err(crate::error::Error::invalid(format!("{} signs no URLs; only a store in S3 does", self.place()))
            .with_hint("fetch the file itself with: sacker download"))
    }

    /// Reads the bytes `range` of a blob, or as many of them as it has. `Invalid` when the range begins beyond its end.
    async fn open(&self, sha256: &Sha256, range: Range<u64>) -> Result<BlobReader>;
}

/// Opens the store at `uri`. Makes no request.
///
/// # Errors
/// `Invalid` when this build has no such backend, or its settings are broken.
#[cfg_attr(not(feature = "store-s3"), expect(clippy::unused_async, reason = "loading AWS settings waits"))]
pub async fn open(uri: &StoreUri, connect: &Connect) -> Result<Arc<dyn Store>> {
    match uri {
        StoreUri::File(location) => Ok(Arc::new(file::FileStore::new(location))),
        #[cfg(feature = "store-s3")]
        StoreUri::S3(location) => Ok(Arc::new(s3::S3Store::open(location, connect).await?)),
        #[cfg(feature = "store-hdfs")]
        StoreUri::Hdfs(location) => Ok(Arc::new(hdfs::HdfsStore::open(location, connect)?)),
        #[cfg(not(all(feature = "store-s3", feature = "store-hdfs")))]
        other => {
            let _ = connect;
            Err(crate::error::Error::invalid(format!("this build has no store for {other}")))
        }
    }
}

/// Opens one store, or several as one: writes go to all in their order, reads to the first that has the blob.
///
/// # Errors
/// As [`open`].
pub async fn open_all(uris: &StoreUris, connect: &Connect) -> Result<Arc<dyn Store>> {
    if let [uri] = &**uris {
        return open(uri, connect).await;
    }
    let mut stores = Vec::with_capacity(uris.len());
    for uri in uris.iter() {
        stores.push(open(uri, connect).await?);
    }
    Ok(Arc::new(several::Several::new(stores)))
}
