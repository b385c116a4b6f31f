//! The first pass over a local file: read once from disk, hashed, and kept where it is small.
//!
//! Not responsible for where the bytes go afterwards, nor for whether they are still the same then: a store checks that.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::file_incoming::Incoming;
use super::parts::SINGLE_MAX;
use crate::model::{Hasher, Sha256};
use crate::page_buffer::PageBuffer;

/// Bytes that are read at once: few enough to be hashed while they are in a core's cache.
const CHUNK: usize = 256 << 10;

/// What one reading of a file told.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The sha256 of all its bytes.
    pub sha256: Sha256,
    /// How many bytes it had.
    pub size: u64,
    kept: Kept,
}

/// What was kept of the bytes that were read.
#[derive(Debug, Clone)]
enum Kept {
    Nothing,
    /// All of them, of a small file.
    Memory(Bytes),
    /// A copy in the directory where they are to be stored, until it is taken.
    Draft(Arc<Mutex<Option<Incoming>>>),
}

impl Scan {
    /// Reads everything, and keeps what is at most 64 MiB.
    ///
    /// `expected` is the size in bytes, where it is known before. `progress` is called with the number of bytes that were
    /// read since the last call, `also` with the bytes. Blocks. Takes 64 MiB of memory for bytes that are kept.
    ///
    /// # Errors
    /// What reading or `also` failed with.
    pub fn read(
        mut from: impl Read,
        expected: Option<u64>,
        progress: &dyn Fn(u64),
        also: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let is_large = expected.is_some_and(|size| size > SINGLE_MAX);
        // A size that grew meanwhile costs a second allocation, no more.
        let room = expected.and_then(|size| size.try_into().ok()).unwrap_or(0);
        let mut kept = (!is_large).then(|| Vec::with_capacity(room));
        let mut buffer = PageBuffer::new(CHUNK);
        let (mut hasher, mut size) = (Hasher::default(), 0);
        loop {
            let bytes = buffer.read(&mut from)?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            also(bytes)?;
            size += bytes.len() as u64;
            match &mut kept {
                Some(kept) if size <= SINGLE_MAX => kept.extend_from_slice(bytes),
                _ => kept = None,
            }
            progress(bytes.len() as u64);
        }
        let kept = kept.map_or(Kept::Nothing, |bytes| Kept::Memory(Bytes::from(bytes)));
        Ok(Self { sha256: hasher.finish(), size, kept })
    }

    /// Of a file that was copied while it was read.
    pub(super) fn with_draft(sha256: Sha256, size: u64, draft: Incoming) -> Self {
        Self { sha256, size, kept: Kept::Draft(Arc::new(Mutex::new(Some(draft)))) }
    }

    /// The bytes, where they were kept.
    pub(super) fn bytes(&self) -> Option<&Bytes> {
        match &self.kept {
            Kept::Memory(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The copy in the directory `root`, where there is one that nobody took yet.
    pub(super) fn take_draft(&self, root: &Path) -> Option<Incoming> {
        let Kept::Draft(draft) = &self.kept else { return None };
        let mut draft = draft.lock().unwrap_or_else(PoisonError::into_inner);
        draft.take_if(|draft| draft.is_in(root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8], expected: Option<u64>) -> Scan {
        let (seen, passed) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let progress = |bytes| seen.set(seen.get() + bytes);
        let mut also = |bytes: &[u8]| {
            passed.set(passed.get() + bytes.len());
            Ok(())
        };
        let scan = Scan::read(bytes, expected, &progress, &mut also).expect("memory can be read");
        assert_eq!((scan.sha256, scan.size), (Sha256::of(bytes), bytes.len() as u64));
        assert_eq!((seen.get(), passed.get()), (bytes.len() as u64, bytes.len()));
        scan
    }

    #[test]
    fn a_small_file_is_kept_whether_or_not_its_size_is_known() {
        let bytes = vec![7; CHUNK + 3];
        for expected in [None, Some(bytes.len() as u64), Some(0)] {
            assert_eq!(scan(&bytes, expected).bytes(), Some(&Bytes::from(bytes.clone())));
        }
        assert_eq!(scan(b"", Some(0)).bytes(), Some(&Bytes::new()));
    }

    /// The last: it grew since somebody looked at its size.
    #[test]
    fn a_large_file_is_not_kept() {
        let bytes = vec![7; (64 << 20) + 5];
        for expected in [None, Some(bytes.len() as u64), Some(5)] {
            assert_eq!(scan(&bytes, expected).bytes(), None);
        }
    }
}
