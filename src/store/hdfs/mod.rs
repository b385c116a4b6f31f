//! Blobs as files in HDFS: `<path>/<first two digits>/<sha256>`, so that no directory grows without bounds.
//!
//! A blob gets its name by one rename, when all its bytes are on the DataNodes and had the right digest; until then they
//! are below `_sacker/unfinished`, under a name that is used once. Not responsible for verifying what it hands out.

use std::ops::Range;

use async_trait::async_trait;
use hdfs_native::client::FileStatus;
use tokio_util::task::TaskTracker;

use self::cluster::Cluster;
use self::error::Refused;
use super::timing::Timing;
#[cfg(feature = "cli")]
use super::{BlobFile, Progress, PutOutcome};
use super::{BlobInfo, BlobReader, Store};
use crate::connect::Connect;
use crate::crash_point::around;
use crate::error::{Error, Meaning, Missing, Result};
use crate::model::{HdfsLocation, Sha256};

mod cluster;
mod collect;
mod condemned;
mod error;
#[cfg(feature = "cli")]
mod inspect;
mod manifest;
#[cfg(feature = "cli")]
mod put;
mod read;
mod unfinished;

/// What is not there yet while a blob is written, is below this: the first part of no digest.
const OWN: &str = "_sacker";

/// The mode of a store that nobody made before.
const MODE: u16 = 0o755;

const LOOK: &str = "look for the blob";
const READ: &str = "read the blob";

/// Blobs in one directory of HDFS.
#[derive(Debug)]
pub(super) struct HdfsStore {
    location: HdfsLocation,
    cluster: Cluster,
    /// Who this client is to the cluster.
    #[cfg(feature = "cli")]
    environment: crate::environment::Environment,
    /// Unfinished files that are being removed.
    giving_up: TaskTracker,
}

impl HdfsStore {
    /// Makes no request.
    ///
    /// # Errors
    /// `Invalid` when the Hadoop configuration cannot be used.
    pub(super) fn open(location: &HdfsLocation, connect: &Connect) -> Result<Self> {
        let cluster = Cluster::open(location, connect)?;
        Ok(Self {
            location: location.clone(),
            cluster,
            #[cfg(feature = "cli")]
            environment: connect.environment.clone(),
            giving_up: TaskTracker::new(),
        })
    }

    /// Where something of the store is: a path relative to its directory.
    fn path(&self, relative: &str) -> String {
        format!("{}/{relative}", self.location.path)
    }

    fn blob_path(&self, sha256: &Sha256) -> String {
        let digits = sha256.to_string();
        self.path(&format!("{}/{digits}", &digits[..2]))
    }

    /// The store's own directory; `NotFound(Backend)` if there is none.
    async fn directory(&self, operation: &'static str) -> Result<FileStatus> {
        let found = self.cluster.look(operation, &self.location.path).await?;
        found.filter(|status| status.isdir).ok_or_else(|| {
            let missing = Missing::Backend(format!("directory '{}'", self.cluster.uri(&self.location.path)));
            Error::new(Meaning::NotFound(missing), operation).with_hint("create it with 'sacker init'")
        })
    }

    /// Makes a directory of the store, with the mode of the store's own: whoever may write there may write here.
    async fn make_directory(&self, operation: &'static str, path: &str) -> Result<()> {
        let mode = self.directory(operation).await?.permission;
        let made = self.cluster.make_directory(operation, path, mode);
        around("store.hdfs.directory", made).await.map_err(Error::from)
    }

    /// Renames into a directory that may not be there yet. Knows its own work again when the reply was lost.
    async fn rename(
        &self,
        operation: &'static str,
        from: &str,
        to: &str,
        replace: bool,
    ) -> Result<(), Refused> {
        let mut backoff = self.cluster.backoff();
        let mut in_doubt = false;
        let mut made = false;
        loop {
            let refused = match self.cluster.rename(operation, from, to, replace).await {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            // Nobody else gives this file another name, and nobody removes it while it is young.
            let is_done = async || -> Result<bool, Refused> {
                let left = self.cluster.look(operation, from).await.map_err(Refused::Otherwise)?;
                Ok(left.is_none())
            };
            match refused {
                _ if in_doubt && !refused.is_transient() && is_done().await? => return Ok(()),
                Refused::Absent(_) if !made => {
                    made = true;
                    let parent = to.rsplit_once('/').map_or("/", |(parent, _)| parent);
                    self.make_directory(operation, parent).await.map_err(Refused::Otherwise)?;
                }
                _ if refused.is_transient() => {
                    in_doubt = true;
                    if !backoff.pause().await {
                        return Err(refused);
                    }
                }
                _ => return Err(refused),
            }
        }
    }
}

fn info(status: &FileStatus) -> BlobInfo {
    BlobInfo { size: status.length as u64, modified: modified(status) }
}

/// When a file was closed, by the NameNode's clock. A rename changes nothing about that.
fn modified(status: &FileStatus) -> Option<jiff::Timestamp> {
    let milliseconds = status.modification_time.try_into().ok()?;
    jiff::Timestamp::from_millisecond(milliseconds).ok()
}

#[async_trait]
impl Store for HdfsStore {
    fn place(&self) -> String {
        self.location.to_string()
    }

    fn timing(&self) -> Timing {
        Timing::new(self.location.grace)
    }

    #[cfg(feature = "cli")]
    async fn inspect_credentials(&self) -> Option<crate::inspection::Finding> {
        Some(inspect::credentials(&self.environment))
    }

    #[cfg(feature = "cli")]
    async fn settle(&self) {
        self.giving_up.close();
        self.giving_up.wait().await;
        self.giving_up.reopen();
    }

    async fn init(&self) -> Result<Vec<String>> {
        const CREATE: &str = "create the store";
        let path = &self.location.path;
        match self.cluster.look(CREATE, path).await? {
            Some(status) if status.isdir => return Ok(Vec::new()),
            Some(_) => {
                let rule = format!("'{}' is a file, not a directory", self.cluster.uri(path));
                return Err(Error::invalid(rule));
            }
            None => {}
        }
        around("store.hdfs.init", self.cluster.make_directory(CREATE, path, MODE)).await?;
        Ok(vec![format!("created directory '{}'", self.cluster.uri(path))])
    }

    #[cfg(feature = "cli")]
    async fn put(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<PutOutcome> {
        Box::pin(self.store(blob, progress)).await
    }

    async fn head(&self, sha256: &Sha256) -> Result<Option<BlobInfo>> {
        let path = self.blob_path(sha256);
        match self.cluster.look(LOOK, &path).await? {
            Some(status) if status.isdir => {
                Err(Error::corrupt(self.cluster.uri(&path), "it is no regular file"))
            }
            Some(status) => Ok(Some(info(&status))),
            None => self.directory(LOOK).await.map(|_| None),
        }
    }

    async fn open(&self, sha256: &Sha256, range: Range<u64>) -> Result<BlobReader> {
        read::open(self, sha256, range).await
    }
}
