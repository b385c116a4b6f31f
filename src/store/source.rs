//! The bytes that a `put` stores: in order, once, and compared with what was promised.
//!
//! Either from the local file, hashed on the way, or from memory, where they were hashed before. Not responsible for where the
//! bytes go. Whoever takes them asks [`Source::check`] before making anything visible.

use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;

use super::blocking::blocking;
use super::{BlobFile, Scan};
use crate::error::{Error, Meaning, Result};
use crate::model::{Hasher, Sha256};
use crate::page_buffer::read_bytes;

/// Bytes being read.
#[derive(Debug)]
pub(super) struct Source {
    from: Origin,
    promise: Promise,
    /// Nothing where the bytes were hashed before.
    hasher: Option<Hasher>,
    /// Bytes that were handed out.
    read: u64,
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
    /// What is said of `blob`.
    pub(super) fn of(blob: BlobFile<'_>) -> Self {
        Self { path: blob.path.to_owned(), sha256: blob.sha256, size: blob.size }
    }

    /// That it is not kept.
    pub(super) fn broken(&self) -> Error {
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
        let promise = Promise::of(blob);
        if let Some(bytes) = blob.known().and_then(Scan::bytes) {
            // These very bytes were hashed; nobody can have changed them.
            return Ok(Self { from: Origin::Memory(bytes.clone()), promise, hasher: None, read: 0 });
        }
        blocking(move || {
            let file =
                File::open(&promise.path).map_err(|error| Error::local("read", &promise.path, error))?;
            let hasher = Some(Hasher::default());
            Ok(Self { from: Origin::File(file), promise, hasher, read: 0 })
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
        let bytes = match &mut self.from {
            Origin::Memory(bytes) => bytes.split_to(most.min(bytes.len())),
            Origin::File(file) => {
                read_bytes(file, most).map_err(|error| Error::local("read", &self.promise.path, error))?
            }
        };
        self.read += bytes.len() as u64;
        if self.read > self.promise.size {
            return Err(self.promise.broken());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        Ok(bytes)
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
