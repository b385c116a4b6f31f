//! What garbage collection does in HDFS: list by directories, delete what was seen and nothing newer, find what dead
//! writers left.
//!
//! The clock is the NameNode's. Which deletions and manifests are safe is in the files named after them.

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};
use hdfs_native::client::FileStatus;
use jiff::Timestamp;

use super::condemned::revision;
use super::{HdfsStore, OWN, condemned, modified, unfinished};
use crate::error::{Error, Result};
use crate::store::collect::{Collect, Deletion, Listed, StoredBlob, StoredManifest, Unfinished, digest};
use crate::store::timing::Timing;

const LIST: &str = "list the blobs";
const DISCARD: &str = "remove an unfinished file";

/// The last part of a path.
fn name(status: &FileStatus) -> &str {
    status.path.rsplit('/').next().unwrap_or_default()
}

/// Whether this is the name of a directory of blobs.
fn is_digits(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn listed(status: &FileStatus, directory: &str) -> Listed {
    let name = name(status);
    let sha256 = digest(name).filter(|_| !status.isdir && name.starts_with(directory));
    match (sha256, modified(status)) {
        (Some(sha256), Some(modified)) => {
            let (size, revision) = (status.length as u64, revision(status));
            Listed::Blob(StoredBlob { sha256, size, modified, revision })
        }
        _ => Listed::Foreign(format!("{directory}/{name}")),
    }
}

impl HdfsStore {
    /// What is in a directory of the store's own.
    async fn own(&self, directory: &str) -> Result<Vec<FileStatus>> {
        self.cluster.list(LIST, self.path(directory)).try_collect().await
    }

    async fn top(&self) -> Result<Vec<FileStatus>> {
        // Told apart from an empty one.
        self.directory(LIST).await?;
        self.cluster.list(LIST, self.location.path.clone()).try_collect().await
    }

    /// What is below one entry of the store's directory.
    fn below(&self, entry: &FileStatus) -> BoxStream<'_, Result<Listed>> {
        let name = name(entry).to_owned();
        if name == OWN {
            return stream::empty().boxed();
        }
        if !entry.isdir || !is_digits(&name) {
            return stream::once(async { Ok(Listed::Foreign(name)) }).boxed();
        }
        let entries = self.cluster.list(LIST, entry.path.clone());
        entries.map_ok(move |entry| listed(&entry, &name)).boxed()
    }
}

#[async_trait]
impl Collect for HdfsStore {
    fn place(&self) -> String {
        self.location.to_string()
    }

    fn timing(&self) -> Timing {
        Timing::new(self.location.grace)
    }

    fn is_create_only(&self) -> bool {
        false
    }

    async fn is_versioned(&self) -> Result<bool> {
        Ok(false)
    }

    async fn now(&self) -> Result<Timestamp> {
        self.time("ask for the time").await
    }

    fn list(&self) -> BoxStream<'_, Result<Listed>> {
        let top = stream::once(self.top()).map_ok(|top| stream::iter(top.into_iter().map(Ok::<_, Error>)));
        top.try_flatten().map_ok(|entry| self.below(&entry)).try_flatten().boxed()
    }

    async fn delete(&self, blob: &StoredBlob) -> Result<Deletion> {
        self.delete_what_was_seen(blob).await
    }

    async fn hide(&self, _blob: &StoredBlob) -> Result<Deletion> {
        Err(without_versions())
    }

    async fn restore(&self, _blob: &StoredBlob) -> Result<()> {
        Err(without_versions())
    }

    async fn purge(&self, _blob: &StoredBlob) -> Result<()> {
        Err(without_versions())
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>> {
        let mut found = Vec::new();
        // What is condemned waits for nobody: whoever finds it ends it.
        for (directory, abandoned) in [(unfinished::directory(), false), (condemned::directory(), true)] {
            for status in self.own(&directory).await?.iter().filter(|status| !status.isdir) {
                let Some(since) = modified(status) else { continue };
                let name = format!("{directory}/{}", name(status));
                found.push(Unfinished { name, since, size: Some(status.length as u64), abandoned });
            }
        }
        Ok(found)
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<bool> {
        let Some((directory, name)) = unfinished.name.rsplit_once('/') else { return Ok(false) };
        if directory == condemned::directory() {
            return Ok(self.settle_condemned(name).await?.is_some());
        }
        // A writer that lives after all meets an error at its next request, and its blob gets no name.
        self.cluster.delete(DISCARD, &self.path(&unfinished.name)).await
    }

    async fn read_manifest(&self) -> Result<Option<StoredManifest>> {
        self.read_newest_manifest().await
    }

    async fn write_manifest(&self, bytes: Bytes, seen: Option<&str>) -> Result<String> {
        self.write_next_manifest(bytes, seen).await
    }
}

fn without_versions() -> Error {
    Error::invalid("HDFS keeps no versions of a file")
}
