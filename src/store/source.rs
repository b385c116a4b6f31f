//! The bytes that a `put` stores: in order, once, and compared with what was promised.
//!
//! Either from the local file, hashed on the way, or from memory, where they were hashed before. Not responsible for where the
//! bytes go. Whoever takes them asks [`Source::check`] before making anything visible.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::thread;

use bytes::Bytes;

use super::{BlobFile, Scan};
use crate::error::{Error, Meaning, Result};
use crate::model::{Hasher, Sha256};
use crate::page_buffer::{PageBuffer, read_bytes};

/// Bytes that are read again at a time: they should still be in the core's cache when they are hashed.
const REREAD: usize = 256 << 10;

/// Bytes of one write. The kernel takes more at once in large folios, which a virtual machine may have to get from its host
/// first: writes of 4 MiB were six times as slow as of 256 KiB on one, smaller ones no faster.
const WRITE: usize = 256 << 10;

/// Bytes being read.
#[derive(Debug)]
pub(super) struct Source {
    from: Origin,
    promise: Promise,
    /// Nothing where the bytes were hashed before.
    hasher: Option<Hasher>,
    /// Bytes that were handed out.
    read: u64,
    /// Of [`Source::copy_to`]: bytes that were hashed.
    hashed: u64,
    /// Of [`Source::copy_to`], once there is something to hash.
    buffer: Option<PageBuffer>,
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
                hashed: 0,
                buffer: None,
            });
        }
        blocking(move || {
            let file =
                File::open(&promise.path).map_err(|error| Error::local("read", &promise.path, error))?;
            let hasher = Some(Hasher::default());
            Ok(Self { from: Origin::File(file), promise, hasher, read: 0, hashed: 0, buffer: None })
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

    /// Copies the next `most` bytes to `to`. From a file the kernel does it; meanwhile another core hashes what the calls before
    /// copied, as `to` has it now. Returns how many bytes were copied, none at the end, when all are hashed; or else what
    /// `to` failed with.
    ///
    /// # Errors
    /// As [`Source::next`].
    pub(super) fn copy_to(&mut self, to: &File, most: usize) -> Result<io::Result<u64>> {
        let copied = match &mut self.from {
            Origin::Memory(bytes) => {
                let bytes = bytes.split_to(most.min(bytes.len()));
                let written = bytes.chunks(WRITE).try_for_each(|bytes| (&*to).write_all(bytes));
                written.map(|()| bytes.len() as u64)
            }
            Origin::File(file) => {
                let (hasher, buffer, left) = (&mut self.hasher, &mut self.buffer, self.hashed..self.read);
                let mut hashed = Ok(());
                // Ends with the scope; a panic in it is one here.
                let copied = thread::scope(|scope| {
                    if let Some(hasher) = hasher {
                        let buffer = buffer.get_or_insert_with(|| PageBuffer::new(REREAD));
                        scope.spawn(|| hashed = hash(hasher, to, left, buffer));
                    }
                    io::copy(&mut (&*file).take(most as u64), &mut &*to)
                });
                self.hashed = self.read;
                if copied.is_err()
                    && let Some(error) = file.read(&mut [0]).err()
                {
                    return Err(Error::local("read", &self.promise.path, error));
                }
                hashed.and(copied)
            }
        };
        self.read += copied.as_ref().copied().unwrap_or(0);
        if self.read > self.promise.size { Err(self.promise.broken()) } else { Ok(copied) }
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

/// Hashes a range of what was copied.
fn hash(hasher: &mut Hasher, file: &File, mut left: Range<u64>, buffer: &mut PageBuffer) -> io::Result<()> {
    while !left.is_empty() {
        let most = usize::try_from(left.end - left.start).unwrap_or(REREAD).min(REREAD);
        let piece = buffer.first(most);
        file.read_exact_at(piece, left.start)?;
        hasher.update(piece);
        left.start += most as u64;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    async fn source(path: &Path, bytes: &[u8]) -> Source {
        let blob = BlobFile { path, sha256: Sha256::of(bytes), size: bytes.len() as u64, scan: None };
        Source::open(blob).await.expect("it is opened")
    }

    fn copy_all(source: &mut Source, to: &File) {
        while source.copy_to(to, 4).expect("read").expect("written") > 0 {}
    }

    #[tokio::test]
    async fn what_is_hashed_is_the_copy() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, bytes) = (directory.path().join("file"), b"ten bytes.");
        std::fs::write(&path, bytes).expect("written");
        let to = tempfile::tempfile().expect("a file");
        let mut good = source(&path, bytes).await;
        copy_all(&mut good, &to);
        good.check().expect("all of it is right");
        let mut copy = [0; 10];
        to.read_exact_at(&mut copy, 0).expect("ten bytes");
        assert_eq!(&copy, bytes);

        let to = tempfile::tempfile().expect("a file");
        let mut damaged = source(&path, bytes).await;
        assert_eq!(damaged.copy_to(&to, 4).expect("read").expect("written"), 4);
        to.write_all_at(b"x", 1).expect("written");
        copy_all(&mut damaged, &to);
        damaged.check().expect_err("the copy is another");

        std::fs::write(&path, b"eleven byte").expect("written");
        let mut longer = source(&path, bytes).await;
        let to = tempfile::tempfile().expect("a file");
        longer.copy_to(&to, 20).expect_err("it became longer");
    }

    #[tokio::test]
    async fn whose_failure_it_was_is_told() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        std::fs::write(&path, b"bytes").expect("written");
        let full = File::options().read(true).write(true).open("/dev/full").expect("a full device");
        let failure = source(&path, b"bytes").await.copy_to(&full, 4).expect("the file can be read");
        assert_eq!(failure.expect_err("no space").kind(), io::ErrorKind::StorageFull);
        let to = tempfile::tempfile().expect("a file");
        source(directory.path(), b"bytes").await.copy_to(&to, 4).expect_err("a directory has no bytes");
    }
}
