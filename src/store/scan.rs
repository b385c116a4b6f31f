//! The first pass over a local file: read once from disk, hashed, and what a store can use of it kept.
//!
//! Not responsible for where the bytes go afterwards, nor for whether they are still the same then: a store checks that.

use std::io::{self, ErrorKind, Read};
use std::num::NonZero;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::parts::{PartHasher, SINGLE_MAX, part_size};
use crate::model::{Hasher, Sha256, StoreUri, StoreUris};

/// Bytes that are read at once: few enough to be hashed while they are in a core's cache.
const CHUNK: usize = 256 << 10;

/// Chunks that may be between the thread that reads and the one that hashes parts.
const CHUNKS: usize = 8;

/// What one reading of a file told.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The sha256 of all its bytes.
    pub sha256: Sha256,
    /// How many bytes it had.
    pub size: u64,
    content: Content,
}

/// What is known of the bytes besides their digest.
#[derive(Debug, Clone)]
enum Content {
    Nothing,
    /// All of them.
    Bytes(Bytes),
    /// The sha256 of each part of so many bytes.
    Parts(u64, Vec<Sha256>),
}

impl Scan {
    /// Reads everything. What is at most 64 MiB is kept; of more, the digests of its parts where they are of use.
    ///
    /// `expected` is the size in bytes, where it is known before. `progress` is called with the number of bytes that were
    /// read since the last call, `also` with the bytes. Blocks. Takes 64 MiB of memory at most, and about 2 MiB for larger files.
    ///
    /// # Errors
    /// What reading or `also` failed with.
    pub fn read(
        mut from: impl Read,
        expected: Option<u64>,
        are_parts_of_use: bool,
        progress: &dyn Fn(u64),
        also: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let is_large = expected.map(|size| size > SINGLE_MAX);
        // A size that grew meanwhile costs a second allocation, no more.
        let room = expected.and_then(|size| size.try_into().ok()).unwrap_or(0);
        let mut kept = (is_large != Some(true)).then(|| Vec::with_capacity(room));
        let parts = if are_parts_of_use && is_large != Some(false) {
            Some(PartThread::start(part_size(expected.unwrap_or(0)))?)
        } else {
            None
        };
        let mut own = vec![0; CHUNK];
        let (mut hasher, mut size) = (Hasher::default(), 0);
        loop {
            let mut buffer = match &parts {
                Some(parts) => parts.spare.recv().map_err(io::Error::other)?,
                None => std::mem::take(&mut own),
            };
            let length = read_some(&mut from, &mut buffer)?;
            if length == 0 {
                break;
            }
            let bytes = &buffer[..length];
            hasher.update(bytes);
            also(bytes)?;
            size += length as u64;
            match &mut kept {
                Some(kept) if size <= SINGLE_MAX => kept.extend_from_slice(bytes),
                _ => kept = None,
            }
            progress(length as u64);
            match &parts {
                Some(parts) => parts.full.send((buffer, length)).map_err(io::Error::other)?,
                None => own = buffer,
            }
        }
        let content = match (kept, parts) {
            (Some(kept), _) => Content::Bytes(kept.into()),
            (None, Some(parts)) => Content::Parts(parts.size, parts.finish()?),
            (None, None) => Content::Nothing,
        };
        Ok(Self { sha256: hasher.finish(), size, content })
    }

    /// The bytes, where they were kept.
    pub(super) fn bytes(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The digests of the parts of `part_size` bytes, where they are known.
    #[cfg(feature = "store-s3")]
    pub(super) fn part_digests(&self, part_size: u64) -> Option<&[Sha256]> {
        match &self.content {
            Content::Parts(size, digests) if *size == part_size => Some(digests),
            _ => None,
        }
    }
}

/// Whether it is worth while to hash parts when a file is read that goes to these stores.
///
/// S3 servers compare each part with its digest, so that nothing is hashed while parts are sent; the other stores have nobody
/// who compares. Beside the digest of the whole, on another core, they take no time. They are not put off until it is known
/// that the blob is absent: its digest has to be known for that, and then another reading would have to be believed to be of
/// the same bytes. On a single core they would double the time of adding what is there already, and only move what a hash
/// while sending costs.
pub fn are_parts_of_use(stores: &StoreUris) -> bool {
    let has_other_core = thread::available_parallelism().is_ok_and(|cores| cores > NonZero::<usize>::MIN);
    has_other_core && stores.iter().any(|uri| matches!(uri, StoreUri::S3(_)))
}

fn read_some(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// A thread that hashes parts. The chunks go round between it and the reader, so that they are never more than [`CHUNKS`].
struct PartThread {
    size: u64,
    full: Sender<(Vec<u8>, usize)>,
    spare: Receiver<Vec<u8>>,
    thread: JoinHandle<Vec<Sha256>>,
}

impl PartThread {
    fn start(size: u64) -> io::Result<Self> {
        let (full, chunks) = mpsc::channel::<(Vec<u8>, usize)>();
        let (back, spare) = mpsc::channel();
        for _ in 0..CHUNKS {
            // The receiver is alive: it is ours.
            let _ = back.send(vec![0; CHUNK]);
        }
        let thread = thread::Builder::new().spawn(move || {
            let mut hasher = PartHasher::new(size);
            for (buffer, length) in chunks {
                hasher.update(&buffer[..length]);
                // Nobody takes it at the end.
                let _ = back.send(buffer);
            }
            hasher.finish()
        })?;
        Ok(Self { size, full, spare, thread })
    }

    fn finish(self) -> io::Result<Vec<Sha256>> {
        drop(self.full);
        self.thread.join().map_err(|_panic| io::Error::other("the thread that hashes parts ended early"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = (64 << 20) + 5;

    fn scan(bytes: &[u8], expected: Option<u64>, are_parts_of_use: bool) -> Scan {
        let (seen, passed) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let progress = |bytes| seen.set(seen.get() + bytes);
        let mut also = |bytes: &[u8]| {
            passed.set(passed.get() + bytes.len());
            Ok(())
        };
        let scan =
            Scan::read(bytes, expected, are_parts_of_use, &progress, &mut also).expect("memory can be read");
        assert_eq!((scan.sha256, scan.size), (Sha256::of(bytes), bytes.len() as u64));
        assert_eq!((seen.get(), passed.get()), (bytes.len() as u64, bytes.len()));
        scan
    }

    #[test]
    fn a_small_file_is_kept_whether_or_not_its_size_is_known() {
        let bytes = vec![7; CHUNK + 3];
        for expected in [None, Some(bytes.len() as u64), Some(0)] {
            let scan = scan(&bytes, expected, true);
            assert_eq!(scan.bytes(), Some(&Bytes::from(bytes.clone())));
        }
        assert_eq!(scan(b"", Some(0), true).bytes(), Some(&Bytes::new()));
    }

    #[test]
    #[cfg(feature = "store-s3")]
    fn of_a_large_file_the_digests_of_its_parts_are_known() {
        let mut bytes = vec![7; LARGE];
        bytes[LARGE - 1] = 8;
        let size = part_size(LARGE as u64);
        let digests: Vec<Sha256> =
            bytes.chunks(usize::try_from(size).expect("a length")).map(Sha256::of).collect();
        for expected in [None, Some(LARGE as u64)] {
            let scan = scan(&bytes, expected, true);
            assert_eq!((scan.bytes(), scan.part_digests(size)), (None, Some(&digests[..])));
            assert_eq!(scan.part_digests(size + 1), None, "of other parts nothing is known");
        }
        // It grew since somebody looked at its size.
        let grown = scan(&bytes, Some(5), true);
        assert_eq!((grown.bytes(), grown.part_digests(size)), (None, None));
        let not_asked = scan(&bytes, Some(LARGE as u64), false);
        assert_eq!((not_asked.bytes(), not_asked.part_digests(size)), (None, None));
    }

    #[test]
    fn only_s3_has_a_use_for_parts() {
        let of = |uris: &str| are_parts_of_use(&uris.parse().expect("stores"));
        assert!(!of("file:///a"));
        assert!(!of("file:///a hdfs://namenode/b"));
        let has_other_core = thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        assert_eq!(of("file:///a s3://bucket"), has_other_core);
    }
}
