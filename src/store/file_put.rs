//! How blobs come into a directory: in one pass over the file where that is of use.
//!
//! All file work happens off the executor, a step at a time, so that a dropped future drops the unfinished file with it.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytes::Bytes;

use super::blocking::blocking;
use super::file::{FileStore, UNFINISHED, failed, modified};
use super::file_incoming::{Copied, Copying, Incoming, sync};
use super::parts::SINGLE_MAX;
use super::source::Promise;
use super::timing::Timing;
use super::{BlobFile, Progress, PutOutcome, Scan, Store as _, file_collect};
use crate::crash_point::crash_point_at;
use crate::error::Result;
use crate::files;

/// Names that are looked at before a file is copied whose digest is not known. Tens of milliseconds on a local disk; hashing
/// the file first, which a blob of its size makes likely to suffice, is ten times that.
const LOOKED_AT: usize = 10_000;

/// Whether a blob of this size is there that collection leaves alone for long enough. Makes it durable: whoever wrote it may
/// not have come that far.
fn suffices(path: &Path, size: u64, timing: Timing) -> Result<bool> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(false) };
    if !metadata.is_file() || metadata.len() != size {
        return Ok(false);
    }
    let root = path.parent().unwrap_or(path);
    if !timing.is_fresh(modified(&metadata), file_collect::now(root).ok()) {
        return Ok(false);
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| failed("sync", path, error))?;
    path.parent().map_or(Ok(()), sync)?;
    crash_point_at("store.file.confirmed", path);
    Ok(true)
}

/// Whether a blob of just this size is there: most likely the one that is about to be added. Looks at some of the blobs only,
/// where there are very many.
fn has_blob_of(root: &Path, size: u64) -> bool {
    let Ok(entries) = fs::read_dir(root) else { return false };
    let mut sizes = entries.take(LOOKED_AT).flatten().filter_map(|entry| entry.metadata().ok());
    sizes.any(|metadata| metadata.is_file() && metadata.len() == size)
}

/// Removes what killed processes left in the store. Looked for once per store that is opened.
fn sweep(root: &Path) {
    if let Ok(directory) = File::open(root) {
        files::sweep(&directory, |name| name.as_bytes().starts_with(UNFINISHED.as_bytes()));
    }
}

impl FileStore {
    /// [`super::Store::put`].
    pub(super) async fn store(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<PutOutcome> {
        let (path, size) = (self.path(&blob.sha256), blob.size);
        let there = {
            let (path, timing) = (path.clone(), self.timing());
            // A store that is not there yet has no blob; the directory is made on the way.
            blocking(move || suffices(&path, size, timing))
        };
        if there.await? {
            return Ok(PutOutcome::AlreadyThere);
        }
        let incoming = match blob.known().and_then(Scan::bytes) {
            Some(bytes) => self.write(bytes.clone(), progress).await?,
            None => match blob.known().and_then(|scan| scan.take_draft(&self.root)) {
                Some(draft) => {
                    progress(size);
                    draft
                }
                None => self.copy_expected(blob, progress).await?,
            },
        };
        blocking(move || incoming.finish(&path)).await
    }

    /// [`super::Store::draft`].
    pub(super) async fn copy_unknown(
        &self,
        path: &Path,
        size: u64,
        progress: Progress<'_>,
    ) -> Result<Option<Scan>> {
        let root = self.root.clone();
        if size <= SINGLE_MAX || blocking(move || Ok(has_blob_of(&root, size))).await? {
            return Ok(None);
        }
        let Copied { incoming, sha256, size } = self.copy(path, size, u64::MAX, progress).await?;
        Ok(Some(Scan::with_draft(sha256, size, incoming)))
    }

    /// An empty unfinished blob.
    async fn begin(&self) -> Result<Incoming> {
        let (root, swept) = (self.root.clone(), self.swept.clone());
        blocking(move || {
            swept.call_once(|| sweep(&root));
            Incoming::create(&root)
        })
        .await
    }

    /// Writes bytes that were hashed before; nobody can have changed them since.
    async fn write(&self, bytes: Bytes, progress: Progress<'_>) -> Result<Incoming> {
        let (incoming, length) = (self.begin().await?, bytes.len() as u64);
        let incoming = blocking(move || incoming.write(&bytes)).await?;
        progress(length);
        Ok(incoming)
    }

    /// Copies a file, which should have `size` bytes, and hashes the copy, in one pass. Ends soon after `most` bytes.
    async fn copy(&self, path: &Path, size: u64, most: u64, progress: Progress<'_>) -> Result<Copied> {
        let (incoming, path) = (self.begin().await?, path.to_owned());
        let begin = move || {
            incoming.reserve(size)?;
            Copying::begin(path, incoming)
        };
        let mut copying = blocking(begin).await?;
        // A step at a time, so that a dropped future drops the unfinished file with it.
        loop {
            let (length, rest) = blocking(move || copying.step()).await?;
            copying = rest;
            if length == 0 || copying.copied() > most {
                return Ok(copying.finish());
            }
            progress(length);
        }
    }

    /// The same for a file whose digest and size are known.
    async fn copy_expected(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<Incoming> {
        let copied = self.copy(blob.path, blob.size, blob.size, progress).await?;
        if (copied.sha256, copied.size) == (blob.sha256, blob.size) {
            Ok(copied.incoming)
        } else {
            Err(Promise::of(blob).broken())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Meaning;
    use crate::model::{Sha256, StoreUri};

    fn store(root: &Path) -> FileStore {
        let uri = format!("file://{}", root.display());
        match uri.parse().expect("a URI") {
            StoreUri::File(location) => FileStore::new(&location),
            other => panic!("{other}"),
        }
    }

    fn count(root: &Path) -> usize {
        fs::read_dir(root).expect("read").count()
    }

    #[tokio::test]
    async fn a_draft_is_named_without_the_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, root) = (directory.path().join("file"), directory.path().join("store"));
        let bytes = vec![7; usize::try_from(SINGLE_MAX).expect("small") + 1];
        let size = bytes.len() as u64;
        fs::write(&path, &bytes).expect("written");
        let store = store(&root);
        drop(store.draft(&path, size, &|_| {}).await.expect("read").expect("a draft"));
        assert_eq!(count(&root), 0, "it went with the scan");

        let scan = store.draft(&path, size, &|_| {}).await.expect("read").expect("a draft");
        assert_eq!((scan.sha256, scan.size), (Sha256::of(&bytes), size));
        fs::rename(&path, directory.path().join("elsewhere")).expect("renamed");
        let blob = BlobFile { path: &path, sha256: scan.sha256, size, scan: Some(&scan) };
        assert_eq!(store.put(blob, &|_| {}).await.expect("stored"), PutOutcome::Uploaded);
        assert!(fs::read(store.path(&scan.sha256)).expect("read") == bytes);

        let path = directory.path().join("elsewhere");
        let again = store.draft(&path, size, &|_| {}).await.expect("looked");
        assert!(again.is_none(), "a blob of this size is there");
        assert!(store.draft(&path, SINGLE_MAX, &|_| {}).await.expect("looked").is_none(), "it is small");
        assert_eq!(count(&root), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_longer_by_one_byte_than_a_chunk_is_not_stored() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, root) = (directory.path().join("file"), directory.path().join("store"));
        let bytes = vec![7; (4 << 20) + 1];
        fs::write(&path, &bytes).expect("written");
        let (_, promised) = bytes.split_last().expect("bytes");
        let size = promised.len() as u64;
        let blob = BlobFile { path: &path, sha256: Sha256::of(promised), size, scan: None };
        let error = store(&root).put(blob, &|_| {}).await.expect_err("it changed");
        assert!(matches!(error.meaning(), Meaning::Corrupt { .. }), "{error}");
        assert_eq!(count(&root), 0);
    }
}
