//! The bytes that a `put` stores: in order, once, and compared with what was promised.
//!
//! Either from the local file, hashed on the way, or from memory, where they were hashed before. Not responsible for where the
//! bytes go. Whoever takes them asks [`Source::check`] before making anything visible.

use std::fs::File;
use std::io::Read as _;
use std::mem;
use std::path::PathBuf;
use std::thread;

use bytes::Bytes;

use super::{BlobFile, Scan};
use crate::error::{Error, Meaning, Result};
use crate::model::{Hasher, Sha256};

/// Bytes being read.
#[derive(Debug)]
pub(super) struct Source {
    from: Origin,
    promise: Promise,
    /// Nothing where the bytes were hashed before.
    hasher: Option<Hasher>,
    read: u64,
    /// For [`Source::next_beside`]: memory that is new for each piece costs more to be touched than to be filled.
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Origin {
    File(File),
    /// The rest of what was kept when the file was hashed.
    Memory(Bytes),
}

/// What a file is expected to hold.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    path: PathBuf,
    pub(super) sha256: Sha256,
    /// Bytes.
    pub(super) size: u64,
}

impl Promise {
    /// That it is not kept.
    fn broken(&self) -> Error {
        let why =
            format!("the file is not {} bytes with sha256 {}; it changed meanwhile", self.size, self.sha256);
        Error::new(Meaning::Corrupt { why }, "store the file")
            .with_key(self.path.display().to_string())
            .with_hint("run the command again when nothing writes to the file")
    }
}

impl Source {
    /// The bytes of `blob`: those that were kept when it was read before, else those of its file.
    ///
    /// # Errors
    /// `Local` when the file cannot be opened.
    pub(super) async fn open(blob: BlobFile<'_>) -> Result<Self> {
        let promise = Promise { path: blob.path.to_owned(), sha256: blob.sha256, size: blob.size };
        if let Some(bytes) = blob.known().and_then(Scan::bytes) {
            // These very bytes were hashed; nobody can have changed them.
            return Ok(Self {
                from: Origin::Memory(bytes.clone()),
                promise,
                hasher: None,
                read: 0,
                buffer: Vec::new(),
            });
        }
        blocking(move || {
            let file =
                File::open(&promise.path).map_err(|error| Error::local("read", &promise.path, error))?;
            let hasher = Some(Hasher::default());
            Ok(Self { from: Origin::File(file), promise, hasher, read: 0, buffer: Vec::new() })
        })
        .await
    }

    /// What the file is expected to hold.
    #[cfg(feature = "store-s3")]
    pub(super) fn promise(&self) -> &Promise {
        &self.promise
    }

    /// The next `most` bytes; fewer only at the end, none after it. Blocks.
    ///
    /// # Errors
    /// `Corrupt` when the file is longer than expected, `Local` when it cannot be read.
    pub(super) fn next(&mut self, most: usize) -> Result<Bytes> {
        let mut buffer = Vec::new();
        let bytes = self.take(most, &mut buffer)?.unwrap_or_else(|| buffer.into());
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        Ok(bytes)
    }

    /// Does something with the next `most` bytes while they are hashed on another core. Returns how many there were.
    ///
    /// # Errors
    /// As [`Source::next`], and what `work` fails with.
    pub(super) fn next_beside(
        &mut self,
        most: usize,
        work: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut buffer = mem::take(&mut self.buffer);
        let kept = self.take(most, &mut buffer)?;
        let bytes = kept.as_deref().unwrap_or(&buffer);
        match &mut self.hasher {
            None => work(bytes)?,
            // Ends with the scope; a panic in it is one here.
            Some(hasher) => thread::scope(|scope| {
                scope.spawn(|| hasher.update(bytes));
                work(bytes)
            })?,
        }
        let length = bytes.len();
        self.buffer = buffer;
        Ok(length)
    }

    /// The next bytes: returned where they are in memory already, else read into `buffer`, which then holds nothing else.
    fn take(&mut self, most: usize, buffer: &mut Vec<u8>) -> Result<Option<Bytes>> {
        let kept = match &mut self.from {
            Origin::Memory(bytes) => Some(bytes.split_to(most.min(bytes.len()))),
            Origin::File(file) => {
                buffer.clear();
                buffer.reserve_exact(most);
                let read = file.take(most as u64).read_to_end(buffer);
                read.map_err(|error| Error::local("read", &self.promise.path, error))?;
                None
            }
        };
        self.read += kept.as_ref().map_or(buffer.len(), Bytes::len) as u64;
        if self.read > self.promise.size { Err(self.promise.broken()) } else { Ok(kept) }
    }

    /// [`Source::next`], off the executor.
    #[cfg(feature = "store-s3")]
    pub(super) async fn next_off_executor(mut self, most: usize) -> Result<(Bytes, Self)> {
        blocking(move || self.next(most).map(|bytes| (bytes, self))).await
    }

    /// Whether all that was read is what was promised. To be asked at the end of the bytes.
    ///
    /// # Errors
    /// `Corrupt` when size or digest differ.
    pub(super) fn check(&self) -> Result<()> {
        let is_same =
            self.hasher.as_ref().is_none_or(|hasher| hasher.clone().finish() == self.promise.sha256);
        if self.read == self.promise.size && is_same { Ok(()) } else { Err(self.promise.broken()) }
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
