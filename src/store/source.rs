//! The local file that a `put` stores: read once, in order, hashed on the way.
//!
//! Not responsible for where the bytes go. Whoever takes them asks [`Source::check`] before making anything visible.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use bytes::Bytes;

use super::BlobFile;
use crate::error::{Error, Meaning, Result};
use crate::model::{Hasher, Sha256};

/// A file being read.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    read: u64,
    size: u64,
    sha256: Sha256,
}

impl Source {
    /// Opens the file of `blob`. Blocks.
    pub(super) fn open(path: PathBuf, sha256: Sha256, size: u64) -> Result<Self> {
        let file = File::open(&path).map_err(|error| Error::local("read", &path, error))?;
        Ok(Self { file, path, hasher: Hasher::default(), read: 0, size, sha256 })
    }

    /// [`Source::open`], off the executor.
    pub(super) async fn open_blob(blob: BlobFile<'_>) -> Result<Self> {
        let (path, sha256, size) = (blob.path.to_owned(), blob.sha256, blob.size);
        blocking(move || Self::open(path, sha256, size)).await
    }

    /// Bytes that the file is expected to have.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The digest that the file is expected to have.
    #[cfg(feature = "store-s3")]
    pub(super) fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// The next `most` bytes; fewer only at the end, none after it. Blocks.
    ///
    /// # Errors
    /// `Corrupt` when the file is longer than expected, `Local` when it cannot be read.
    pub(super) fn next(&mut self, most: usize) -> Result<Bytes> {
        let mut bytes = Vec::with_capacity(most);
        let mut limited = (&self.file).take(most as u64);
        limited.read_to_end(&mut bytes).map_err(|error| Error::local("read", &self.path, error))?;
        self.hasher.update(&bytes);
        self.read += bytes.len() as u64;
        if self.read > self.size { Err(self.changed()) } else { Ok(bytes.into()) }
    }

    /// [`Source::next`], off the executor.
    #[cfg(feature = "store-s3")]
    pub(super) async fn next_off_executor(mut self, most: usize) -> Result<(Bytes, Self)> {
        blocking(move || self.next(most).map(|bytes| (bytes, self))).await
    }

    /// Whether all that was read is what was promised. To be asked at the end of the file.
    ///
    /// # Errors
    /// `Corrupt` when size or digest differ.
    pub(super) fn check(&self) -> Result<()> {
        if self.read == self.size && self.hasher.clone().finish() == self.sha256 {
            return Ok(());
        }
        Err(self.changed())
    }

    fn changed(&self) -> Error {
        let why =
            format!("the file is not {} bytes with sha256 {}; it changed meanwhile", self.size, self.sha256);
        Error::new(Meaning::Corrupt { why }, "store the file")
            .with_key(self.path.display().to_string())
            .with_hint("run the command again when nothing writes to the file")
    }
}

/// Runs blocking work off the executor.
pub(super) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(Meaning::Other, "use the disk").with_source(error)),
    }
}
