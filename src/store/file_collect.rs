//! What garbage collection does in a directory: list, delete under a lock what was seen and nothing newer, find what
//! killed writers left.
//!
//! A writer that replaces a blob holds the lock shared, a deletion holds it alone: nothing gets a name between the look at
//! it and its removal. The clock is the file system's own, which on a network is the server's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;

use super::blocking::blocking;
use super::collect::{
    Collect, Deletion, Listed, MANIFEST, StoredBlob, StoredManifest, Unfinished, digest, taken,
};
use super::file::{FileStore, UNFINISHED, create, failed, modified};
use super::timing::Timing;
use crate::error::{Error, Result};
use crate::files;
use crate::model::Sha256;

/// Where collection keeps its own files: the first part of [`MANIFEST`].
const OWN: &str = "_sacker";

/// Its lock. Made by the first who needs it, never removed: a lock on a removed file locks nothing.
const LOCK: &str = "_sacker/gc.lock";

/// The time by the file system that holds the store: the time of a file that is written now.
pub(super) fn now(root: &Path) -> io::Result<Timestamp> {
    let mut file = files::temporary(root, UNFINISHED, 0o600)?;
    // Creating a file is enough locally; on a network only a write surely gets the server's time.
    file.write_all(b"now")?;
    let metadata = file.as_file().metadata()?;
    modified(&metadata).ok_or_else(|| io::Error::other("the file system keeps no times"))
}

fn lock_file(root: &Path) -> Result<File> {
    create(&root.join(OWN))?;
    let path = root.join(LOCK);
    let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    // Another user's file can be locked without being written to, except on a network.
    opened.or_else(|error| File::open(&path).map_err(|_| error)).map_err(|error| failed("open", &path, error))
}

/// Keeps deletions out while a blob is replaced. Nothing where there are no locks: there collection refuses to delete.
#[cfg(feature = "cli")]
pub(super) fn lock_for_writing(root: &Path) -> Result<Option<File>> {
    let file = lock_file(root)?;
    Ok(file.lock_shared().is_ok().then_some(file))
}

fn lock_for_deletion(root: &Path) -> Result<File> {
    let file = lock_file(root)?;
    let path = root.join(LOCK);
    file.lock().map_err(|error| failed("lock", &path, error))?;
    Ok(file)
}

fn revision(metadata: &fs::Metadata) -> String {
    format!("{} {}.{:09}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

fn stored(path: &Path, sha256: Sha256) -> Result<Option<StoredBlob>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            let Some(modified) = modified(&metadata) else { return Ok(None) };
            let (size, revision) = (metadata.len(), revision(&metadata));
            Ok(Some(StoredBlob { sha256, size, modified, revision }))
        }
        // A link or a directory is nobody's blob of ours.
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look for", path, error)),
    }
}

fn list(root: &Path) -> Result<Vec<Listed>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let missing = crate::error::Missing::Backend(format!("directory '{}'", root.display()));
            return Err(Error::new(crate::error::Meaning::NotFound(missing), "list the blobs")
                .with_hint("create it with 'sacker init'"));
        }
        Err(error) => return Err(failed("list", root, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| failed("list", root, error))?.file_name();
        let name = name.to_string_lossy();
        if name == OWN || name.starts_with(UNFINISHED) {
            continue;
        }
        let blob = match digest(&name) {
            Some(sha256) => stored(&root.join(&*name), sha256)?,
            None => None,
        };
        found.push(blob.map_or_else(|| Listed::Foreign(name.into_owned()), Listed::Blob));
    }
    Ok(found)
}

fn delete(root: &Path, blob: &StoredBlob) -> Result<Deletion> {
    let path = root.join(blob.sha256.to_string());
    let _lock = lock_for_deletion(root)?;
    let Some(found) = stored(&path, blob.sha256)? else { return Ok(Deletion::Absent) };
    if found.revision != blob.revision || found.size != blob.size {
        return Ok(Deletion::Changed);
    }
    fs::remove_file(&path).map_err(|error| failed("delete", &path, error))?;
    Ok(Deletion::Done)
}

fn unfinished(root: &Path) -> Result<Vec<Unfinished>> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(root) else { return Ok(found) };
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", root, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Gone again, or not ours to look at: nothing to tell.
        let Ok(metadata) = entry.metadata() else { continue };
        if !name.starts_with(UNFINISHED) || !metadata.is_file() {
            continue;
        }
        let Some(since) = modified(&metadata) else { continue };
        let abandoned = files::is_abandoned(&entry.path());
        found.push(Unfinished { name, since, size: Some(metadata.len()), abandoned });
    }
    Ok(found)
}

#[async_trait]
impl Collect for FileStore {
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
        let root = self.root.clone();
        blocking(move || now(&root).map_err(|error| failed("write to", &root, error))).await
    }

    fn list(&self) -> BoxStream<'_, Result<Listed>> {
        let root = self.root.clone();
        let found = stream::once(blocking(move || list(&root)));
        let each = found.flat_map(|found| match found {
            Ok(found) => stream::iter(found).map(Ok).left_stream(),
            Err(error) => stream::once(async { Err(error) }).right_stream(),
        });
        each.boxed()
    }

    async fn delete(&self, blob: &StoredBlob) -> Result<Deletion> {
        let (root, blob) = (self.root.clone(), blob.clone());
        blocking(move || delete(&root, &blob)).await
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
        let root = self.root.clone();
        blocking(move || unfinished(&root)).await
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<bool> {
        let (root, name) = (self.root.clone(), unfinished.name.clone());
        blocking(move || {
            let directory = File::open(&*root).map_err(|error| failed("open", &root, error))?;
            files::remove_if_abandoned(&directory, name.as_ref());
            Ok(!root.join(name).exists())
        })
        .await
    }

    async fn read_manifest(&self) -> Result<Option<StoredManifest>> {
        let path = self.root.join(MANIFEST);
        blocking(move || read_manifest(&path)).await
    }

    async fn write_manifest(&self, bytes: Bytes, seen: Option<&str>) -> Result<String> {
        let (root, seen) = (self.root.clone(), seen.map(str::to_owned));
        blocking(move || write_manifest(&root, &bytes, seen.as_deref())).await
    }
}

fn without_versions() -> Error {
    Error::invalid("a directory keeps no versions of a file")
}

fn read_manifest(path: &Path) -> Result<Option<StoredManifest>> {
    match fs::read(path) {
        Ok(bytes) => {
            let revision = Sha256::of(&bytes).to_string();
            Ok(Some(StoredManifest { bytes: bytes.into(), revision }))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

fn write_manifest(root: &Path, bytes: &[u8], seen: Option<&str>) -> Result<String> {
    let path = root.join(MANIFEST);
    let _lock = lock_for_deletion(root)?;
    let there = read_manifest(&path)?;
    if there.as_ref().map(|there| there.revision.as_str()) != seen {
        return Err(taken(&path.display().to_string()));
    }
    let own = root.join(OWN);
    let write = || {
        files::sweep(&File::open(&own)?, |name| name.to_string_lossy().starts_with(UNFINISHED));
        let mut file = files::temporary(&own, UNFINISHED, 0o644)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        files::sync_directory(&own)
    };
    write().map_err(|error| failed("write", &path, error))?;
    Ok(Sha256::of(bytes).to_string())
}
