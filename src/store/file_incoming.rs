//! A blob on its way into a directory: an unfinished file, until all its bytes are on disk and it gets its name.
//!
//! Not responsible for whether the bytes are those of the name: whoever finishes it knows their digest.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use bytes::Bytes;
use rustix::fs::{Advice, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use tempfile::NamedTempFile;

use super::file::{UNFINISHED, create, failed};
use super::{PutOutcome, file_collect};
use crate::crash_point::crash_point_at;
use crate::error::{Error, Result};
use crate::files;
use crate::model::{Hasher, Sha256};
use crate::page_buffer::PageBuffer;

/// Bytes that are copied while those before them are hashed: enough to be worth a thread, and still in a cache then.
const CHUNK: usize = 4 << 20;

/// Bytes that are hashed at a time: they should still be in the core's cache then.
const REREAD: usize = 256 << 10;

/// Bytes of one write. The kernel takes more at once in large folios, which a virtual machine may have to get from its host
/// first: writes of 4 MiB were six times as slow as of 256 KiB on one, smaller ones no faster.
const WRITE: usize = 256 << 10;

/// Makes the names in `directory` durable.
pub(super) fn sync(directory: &Path) -> Result<()> {
    files::sync_directory(directory).map_err(|error| failed("sync", directory, error))
}

/// An unfinished blob.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Removed when dropped before it has its name.
    file: NamedTempFile,
    /// Bytes.
    written: u64,
}

impl Incoming {
    /// An empty one, in a directory that is made where it is missing.
    pub(super) fn create(root: &Path) -> Result<Self> {
        create(root)?;
        let file =
            files::temporary(root, UNFINISHED, 0o644).map_err(|error| failed("write to", root, error))?;
        Ok(Self { file, written: 0 })
    }

    /// Sets the space for `size` bytes aside.
    ///
    /// # Errors
    /// When there is not that much of it.
    pub(super) fn reserve(&self, size: u64) -> Result<()> {
        files::reserve(self.file.as_file(), size).map_err(|error| failed("write", self.file.path(), error))
    }

    /// Writes the next bytes.
    pub(super) fn write(mut self, bytes: &Bytes) -> Result<Self> {
        for chunk in bytes.chunks(CHUNK) {
            self.let_disk_begin();
            let written = chunk.chunks(WRITE).try_for_each(|bytes| self.file.as_file().write_all(bytes));
            self.advance(written.map(|()| chunk.len() as u64))?;
        }
        Ok(self)
    }

    /// The disk begins to write the newest chunk: that makes the wait at the end short. Where that is not possible it waits.
    fn let_disk_begin(&self) {
        if let Some(before) = self.written.checked_sub(CHUNK as u64) {
            let chunk = NonZeroU64::new(CHUNK as u64);
            let _ = rustix::fs::fadvise(self.file.as_file(), before, chunk, Advice::DontNeed);
        }
    }

    fn advance(&mut self, written: io::Result<u64>) -> Result<u64> {
        let length = written.map_err(|error| failed("write", self.file.path(), error))?;
        self.written += length;
        crash_point_at("store.file.copied", self.file.path());
        Ok(length)
    }

    /// Whether it is in this directory.
    pub(super) fn is_in(&self, root: &Path) -> bool {
        self.file.path().parent() == Some(root)
    }

    /// Gives the finished blob its name. What is there already is replaced: it is the same bytes and too old, or it cannot
    /// be right.
    pub(super) fn finish(self, path: &Path) -> Result<PutOutcome> {
        // Its age counts from now on, however long ago its last byte was written.
        let now = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        rustix::fs::futimens(self.file.as_file(), &now)
            .map_err(|error| failed("write", path, error.into()))?;
        self.file.as_file().sync_all().map_err(|error| failed("write", path, error))?;
        crash_point_at("store.file.synced", self.file.path());
        match self.file.persist_noclobber(path) {
            Ok(_) => crash_point_at("store.file.named", path),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                // Collection must not delete by this name between its last look and ours.
                let root = path.parent().unwrap_or(path);
                let _lock = file_collect::lock_for_writing(root)?;
                error.file.persist(path).map_err(|error| failed("write", path, error.error))?;
                crash_point_at("store.file.replaced", path);
            }
            Err(error) => return Err(failed("write", path, error.error)),
        }
        if let Some(directory) = path.parent() {
            sync(directory)?;
            crash_point_at("store.file.durable", directory);
        }
        Ok(PutOutcome::Uploaded)
    }
}

/// A local file that is copied in one pass: the kernel copies, and another core hashes what was copied before, as the copy
/// has it.
#[derive(Debug)]
pub(super) struct Copying {
    from: File,
    path: PathBuf,
    to: Incoming,
    hasher: Hasher,
    /// Bytes.
    hashed: u64,
    buffer: PageBuffer,
}

/// All that was copied.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) incoming: Incoming,
    pub(super) sha256: Sha256,
    /// Bytes.
    pub(super) size: u64,
}

impl Copying {
    /// Nothing of the file yet.
    ///
    /// # Errors
    /// `Local` when the file cannot be opened.
    pub(super) fn begin(path: PathBuf, to: Incoming) -> Result<Self> {
        let from = File::open(&path).map_err(|error| Error::local("read", &path, error))?;
        Ok(Self { from, path, to, hasher: Hasher::default(), hashed: 0, buffer: PageBuffer::new(REREAD) })
    }

    /// Copies a chunk; the number of its bytes is 0 at the end, when all are hashed. Blocks.
    ///
    /// # Errors
    /// `Local` for what the file that is read failed with; what the directory failed with by its meaning.
    pub(super) fn step(mut self) -> Result<(u64, Self)> {
        let (from, incoming, left) = (&self.from, &self.to, self.hashed..self.to.written);
        let to = incoming.file.as_file();
        self.hashed = left.end;
        let (hasher, buffer) = (&mut self.hasher, &mut self.buffer);
        let mut hashed = Ok(());
        // Ends with the scope; a panic in it is one here.
        let copied = thread::scope(|scope| {
            scope.spawn(|| hashed = hash(hasher, to, left, buffer));
            // Takes as long as half of the copying, on the core that does not hash.
            incoming.let_disk_begin();
            io::copy(&mut from.take(CHUNK as u64), &mut &*to)
        });
        if copied.is_err()
            && let Some(error) = self.from.read(&mut [0]).err()
        {
            return Err(Error::local("read", &self.path, error));
        }
        let mut ended = hashed.and(copied);
        if matches!(ended, Ok(0)) {
            // The file may have become shorter than what was set aside for it.
            ended = to.set_len(self.hashed).map(|()| 0);
        }
        let length = self.to.advance(ended)?;
        Ok((length, self))
    }

    /// How many bytes were copied.
    pub(super) fn copied(&self) -> u64 {
        self.to.written
    }

    /// The digest is of all that was copied only after the last step.
    pub(super) fn finish(self) -> Copied {
        let size = self.to.written;
        Copied { incoming: self.to, sha256: self.hasher.finish(), size }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn begin(path: &Path, root: &Path) -> Copying {
        Copying::begin(path.to_owned(), Incoming::create(root).expect("made")).expect("opened")
    }

    fn copy_all(mut copying: Copying) -> Copied {
        loop {
            let (length, rest) = copying.step().expect("copied");
            copying = rest;
            if length == 0 {
                return copying.finish();
            }
        }
    }

    #[test]
    fn what_is_hashed_is_the_copy() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, root) = (directory.path().join("file"), directory.path().join("store"));
        let bytes = vec![7; CHUNK + 3];
        std::fs::write(&path, &bytes).expect("written");
        let good = copy_all(begin(&path, &root));
        assert_eq!((good.sha256, good.size), (Sha256::of(&bytes), bytes.len() as u64));
        let blob = root.join(good.sha256.to_string());
        assert_eq!(good.incoming.finish(&blob).expect("named"), PutOutcome::Uploaded);
        assert_eq!(std::fs::read(&blob).expect("read"), bytes);

        let (length, damaged) = begin(&path, &root).step().expect("copied");
        assert_eq!(length, CHUNK as u64);
        damaged.to.file.as_file().write_all_at(b"x", 1).expect("written");
        assert_ne!(copy_all(damaged).sha256, good.sha256);
        assert_eq!(std::fs::read_dir(&root).expect("read").count(), 1, "what was not finished is gone");
    }

    #[test]
    fn what_was_set_aside_and_not_used_is_given_back() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a temporary directory");
        let path = directory.path().join("file");
        std::fs::write(&path, b"bytes").expect("written");
        let copying = begin(&path, directory.path());
        copying.to.reserve(1 << 20).expect("a mebibyte is free");
        let copied = copy_all(copying);
        let found = copied.incoming.file.as_file().metadata().expect("looked");
        assert_eq!((copied.size, found.len()), (5, 5));
        assert!(found.blocks() < 2048, "{} blocks of 512 bytes", found.blocks());
    }

    #[test]
    fn whose_failure_it_was_is_told() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        std::fs::write(&path, b"bytes").expect("written");
        let mut copying = begin(&path, directory.path());
        *copying.to.file.as_file_mut() =
            File::options().read(true).write(true).open("/dev/full").expect("a full device");
        let error = copying.step().expect_err("no space");
        assert!(error.to_string().contains("write"), "{error}");
        let error = begin(directory.path(), directory.path()).step().expect_err("a directory has no bytes");
        assert!(error.to_string().contains("read"), "{error}");
    }
}
