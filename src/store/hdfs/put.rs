//! How a blob comes into HDFS: read and hashed in one pass, and named when it is closed.

use super::super::blocking::blocking;
use super::super::source::Source;
use super::super::{BlobFile, Progress, PutOutcome, Store};
use super::error::Refused;
use super::{HdfsStore, LOOK, info};
use crate::crash_point::around;
use crate::error::Result;

const WRITE: &str = "store the blob";

/// Bytes that are handed to the library at once. It keeps up to some two hundred packets of 64 KiB until the DataNodes have
/// acknowledged them.
const CHUNK: usize = 1 << 20;

impl HdfsStore {
    /// [`Store::put`].
    pub(super) async fn store(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<PutOutcome> {
        let path = self.blob_path(&blob.sha256);
        self.directory(WRITE).await?;
        if self.suffices(&path, blob.size).await? {
            return Ok(PutOutcome::AlreadyThere);
        }
        let mut source = Source::open(blob).await?;
        let mut unfinished = self.begin(WRITE, &blob.sha256.to_string()).await?;
        loop {
            let (bytes, rest) = blocking(move || source.next(CHUNK).map(|bytes| (bytes, source))).await?;
            source = rest;
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len() as u64;
            around("store.hdfs.send", unfinished.write(bytes)).await?;
            progress(length);
        }
        source.check()?;
        around("store.hdfs.close", unfinished.close()).await?;
        self.name(unfinished.path(), &path).await?;
        unfinished.keep();
        Ok(PutOutcome::Uploaded)
    }

    /// Whether a blob of this size is there that collection leaves alone for long enough.
    async fn suffices(&self, path: &str, size: u64) -> Result<bool> {
        let Some(status) = self.cluster.look(LOOK, path).await? else { return Ok(false) };
        let info = info(&status);
        if status.isdir || info.size != size {
            return Ok(false);
        }
        // A clock that cannot be read is the writing's trouble, not the look's.
        let now = self.time(LOOK).await.ok();
        Ok(self.timing().is_fresh(info.modified, now))
    }

    /// Gives a finished blob its name. What is there already is replaced: it is the same bytes and too old, or it cannot be
    /// right.
    async fn name(&self, unfinished: &str, path: &str) -> Result<()> {
        match around("store.hdfs.name", self.rename(WRITE, unfinished, path, false)).await {
            Err(Refused::Exists(_)) => {
                around("store.hdfs.replace", self.rename(WRITE, unfinished, path, true)).await?;
            }
            other => other?,
        }
        Ok(())
    }
}
