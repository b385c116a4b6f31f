//! Blobs as files in one directory: the name is the sha256, nothing else.
//!
//! A blob gets its name when all its bytes are on disk and had the right digest; a power cut leaves either the whole
//! blob or none. All file work happens off the executor. Not responsible for verifying what it hands out.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;

use super::blocking::blocking;
use super::timing::Timing;
#[cfg(feature = "cli")]
use super::{BlobFile, Progress, PutOutcome, Scan};
use super::{BlobInfo, BlobReader, Store};
use crate::error::{Error, Meaning, Missing, Result};
use crate::files;
#[cfg(feature = "cli")]
use crate::inspection::Finding;
use crate::model::{FileLocation, Sha256};
use crate::page_buffer::read_bytes;

/// Bytes that are handed out at once: small enough to be hashed while they are in a core's cache, and for several
/// readings side by side in an init container's memory.
const PIECE: usize = 256 << 10;

/// Pieces that are read ahead of whoever takes them.
const READ_AHEAD: usize = 4;

/// What the names of unfinished blobs begin with; no digest does.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// The name of the look at the disk.
#[cfg(feature = "cli")]
const DISK: &str = "disk";

/// A disk with fewer bytes than this has no room for many blobs.
#[cfg(feature = "cli")]
const ROOM: u64 = 1 << 30;

/// Blobs in one directory.
#[derive(Debug)]
pub(super) struct FileStore {
    pub(super) location: FileLocation,
    pub(super) root: Arc<Path>,
    /// Whether this store was looked through for what killed processes left.
    #[cfg(feature = "cli")]
    pub(super) swept: Arc<std::sync::Once>,
}

impl FileStore {
    pub(super) fn new(location: &FileLocation) -> Self {
        Self {
            location: location.clone(),
            root: Arc::from(location.path.as_path()),
            #[cfg(feature = "cli")]
            swept: Arc::new(std::sync::Once::new()),
        }
    }

    pub(super) fn path(&self, sha256: &Sha256) -> PathBuf {
        self.root.join(sha256.to_string())
    }
}

/// An I/O error by meaning.
pub(super) fn failed(operation: &'static str, path: &Path, error: io::Error) -> Error {
    if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) {
        let resource = path.display().to_string();
        let meaning = Meaning::Denied { action: operation.to_owned(), resource };
        return Error::new(meaning, operation).with_source(error);
    }
    Error::local(operation, path, error)
}

pub(super) fn create(directory: &Path) -> Result<bool> {
    files::create_directories(directory).map_err(|error| failed("create", directory, error))
}

pub(super) fn modified(metadata: &fs::Metadata) -> Option<jiff::Timestamp> {
    metadata.modified().ok().and_then(|time| jiff::Timestamp::try_from(time).ok())
}

fn look(root: &Path, path: &Path) -> Result<Option<BlobInfo>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            Ok(Some(BlobInfo { size: metadata.len(), modified: modified(&metadata) }))
        }
        Ok(_) => Err(Error::corrupt(path.display().to_string(), "it is no regular file")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if root.is_dir() {
                return Ok(None);
            }
            let missing = Missing::Backend(format!("directory '{}'", root.display()));
            Err(Error::new(Meaning::NotFound(missing), "look for the blob")
                .with_hint("create it with 'sacker init'"))
        }
        Err(error) => Err(failed("look for", path, error)),
    }
}

/// Reads `left` bytes and sends them in chunks, until nobody takes them any more.
fn read_ahead(mut file: File, path: &Path, mut left: u64, chunks: &mpsc::Sender<Result<Bytes>>) {
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let chunk = match read_bytes(&mut file, most) {
            Ok(bytes) if bytes.is_empty() => {
                Err(Error::corrupt(path.display().to_string(), "it became shorter while it was read"))
            }
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(failed("read", path, error)),
        };
        left -= chunk.as_ref().map_or(left, |bytes| bytes.len() as u64);
        if chunks.blocking_send(chunk).is_err() {
            return;
        }
    }
}

/// How much room the disk has for blobs.
#[cfg(feature = "cli")]
fn room(root: &Path) -> Result<Finding> {
    let found =
        rustix::fs::statvfs(root).map_err(|error| failed("look at the disk of", root, error.into()))?;
    if found.f_blocks == 0 {
        let text = format!("the file system of '{}' does not say how much is free", root.display());
        return Ok(Finding::fine(DISK, text));
    }
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} MiB are free for '{}'", free >> 20, root.display());
    Ok(if free < ROOM {
        Finding::odd(DISK, text).with_hint("remove what is not needed: sacker prune, then sacker gc")
    } else {
        Finding::fine(DISK, text)
    })
}

#[async_trait]
impl Store for FileStore {
    fn place(&self) -> String {
        self.location.to_string()
    }

    fn timing(&self) -> Timing {
        Timing::new(self.location.grace)
    }

    #[cfg(feature = "cli")]
    async fn inspect(&self) -> Vec<Finding> {
        let root = self.root.clone();
        match blocking(move || room(&root)).await {
            Ok(finding) => vec![finding],
            Err(error) => vec![Finding::unknown(DISK, &error)],
        }
    }

    async fn init(&self) -> Result<Vec<String>> {
        let root = self.root.clone();
        blocking(move || {
            let created = create(&root)?;
            Ok(created.then(|| format!("created directory '{}'", root.display())).into_iter().collect())
        })
        .await
    }

    #[cfg(feature = "cli")]
    async fn put(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<PutOutcome> {
        self.store(blob, progress).await
    }

    #[cfg(feature = "cli")]
    async fn draft(&self, path: &Path, size: u64, progress: Progress<'_>) -> Result<Option<Scan>> {
        self.copy_unknown(path, size, progress).await
    }

    async fn head(&self, sha256: &Sha256) -> Result<Option<BlobInfo>> {
        let (root, path) = (self.root.clone(), self.path(sha256));
        blocking(move || look(&root, &path)).await
    }

    async fn open(&self, sha256: &Sha256, range: Range<u64>) -> Result<BlobReader> {
        let (root, path, sha256) = (self.root.clone(), self.path(sha256), *sha256);
        let (file, path, size, left) = blocking(move || {
            let Some(info) = look(&root, &path)? else {
                return Err(Error::new(Meaning::NotFound(Missing::Blob(sha256)), "read the blob")
                    .with_key(path.display().to_string()));
            };
            if range.start > info.size {
                return Err(Error::invalid(format!("blob {sha256} has no byte {}", range.start)));
            }
            let mut file = File::open(&path).map_err(|error| failed("read", &path, error))?;
            file.seek(SeekFrom::Start(range.start)).map_err(|error| failed("read", &path, error))?;
            let left = range.end.min(info.size).saturating_sub(range.start);
            Ok((file, path, info.size, left))
        })
        .await?;
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        tokio::task::spawn_blocking(move || read_ahead(file, &path, left, &sender));
        let stream = stream::unfold(receiver, |mut receiver| async move {
            let chunk = receiver.recv().await?;
            Some((chunk, receiver))
        });
        Ok(BlobReader { size, stream: stream.boxed() })
    }
}
