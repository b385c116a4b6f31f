//! The first pass over a local file: read once from disk, hashed, and kept where it is small.
//!
//! Not responsible for where the bytes go afterwards, nor for whether they are still the same then: a store checks that.

use std::io::{self, Read};

use bytes::Bytes;

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
    /// All of them, of a small one.
    bytes: Option<Bytes>,
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
        Ok(Self { sha256: hasher.finish(), size, bytes: kept.map(Bytes::from) })
    }

    /// The bytes, where they were kept.
    pub(super) fn bytes(&self) -> Option<&Bytes> {
        self.bytes.as_ref()
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
