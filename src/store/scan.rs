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

/// Chunks that may be between the thread that reads and the one that hashes parts: 32 MiB, about 20 ms of hashing. Longer than
/// a scheduler keeps a thread waiting that has a core to itself most of the time.
const CHUNKS: usize = 128;

/// Whether a reading also hashes the parts of what is too large for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartDigests {
    /// No.
    No,
    /// As long as nobody has to wait for them.
    Beside,
    /// In any case.
    Always,
}

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
    /// Reads everything. What is at most 64 MiB is kept; of more, the digests of its parts as told.
    ///
    /// `expected` is the size in bytes, where it is known before. `progress` is called with the number of bytes that were
    /// read since the last call, `also` with the bytes. Blocks. Takes 64 MiB of memory for bytes that are kept and 32 MiB for parts.
    ///
    /// # Errors
    /// What reading or `also` failed with.
    pub fn read(
        mut from: impl Read,
        expected: Option<u64>,
        part_digests: PartDigests,
        progress: &dyn Fn(u64),
        also: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let is_large = expected.map(|size| size > SINGLE_MAX);
        // A size that grew meanwhile costs a second allocation, no more.
        let room = expected.and_then(|size| size.try_into().ok()).unwrap_or(0);
        let mut kept = (is_large != Some(true)).then(|| Vec::with_capacity(room));
        let mut parts = if part_digests != PartDigests::No && is_large != Some(false) {
            Some(PartThread::start(part_size(expected.unwrap_or(0)))?)
        } else {
            None
        };
        let mut own = Vec::new();
        let (mut hasher, mut size) = (Hasher::default(), 0);
        loop {
            let lent = parts.as_mut().and_then(|parts| parts.chunk(part_digests == PartDigests::Always));
            if lent.is_none() {
                // The other cores have something else to do: what is sent is hashed then.
                parts = None;
            }
            let mut buffer = lent.unwrap_or_else(|| std::mem::take(&mut own));
            buffer.resize(CHUNK, 0);
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

/// Whether the parts of a file that goes to these stores are hashed when it is read.
///
/// S3 servers compare each part with its digest, so that nothing is hashed while parts are sent; the other stores have nobody
/// who compares. They cannot be put off until it is known that the blob is absent: its digest has to be known for that, and then
/// another reading would have to be believed to be of the same bytes. So they are made beside the digest of the whole, on
/// another core, and only while that one has the time: a file that turns out to be there already would else take longer than
/// its hash. What is not known of parts is hashed while they are sent, which costs the same and not more.
pub fn part_digests(stores: &StoreUris) -> PartDigests {
    let has_other_core = thread::available_parallelism().is_ok_and(|cores| cores > NonZero::<usize>::MIN);
    if has_other_core && stores.iter().any(|uri| matches!(uri, StoreUri::S3(_))) {
        PartDigests::Beside
    } else {
        PartDigests::No
    }
}

fn read_some(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// A thread that hashes parts. Chunks go round between it and the reader, and are never more than [`CHUNKS`].
struct PartThread {
    /// Bytes of a part.
    size: u64,
    full: Sender<(Vec<u8>, usize)>,
    spare: Receiver<Vec<u8>>,
    /// How many chunks there are.
    chunks: usize,
    thread: JoinHandle<Vec<Sha256>>,
}

impl PartThread {
    fn start(size: u64) -> io::Result<Self> {
        let (full, chunks) = mpsc::channel::<(Vec<u8>, usize)>();
        let (back, spare) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || {
            let mut hasher = PartHasher::new(size);
            for (buffer, length) in chunks {
                hasher.update(&buffer[..length]);
                // Nobody takes it at the end.
                let _ = back.send(buffer);
            }
            hasher.finish()
        })?;
        Ok(Self { size, full, spare, chunks: 0, thread })
    }

    /// A chunk to read into: one that came back, still in the cache, before a new one. Nothing when all of them are full,
    /// unless that is waited for.
    fn chunk(&mut self, waits: bool) -> Option<Vec<u8>> {
        if let Ok(chunk) = self.spare.try_recv() {
            return Some(chunk);
        }
        if self.chunks < CHUNKS {
            self.chunks += 1;
            return Some(Vec::new());
        }
        if waits { self.spare.recv().ok() } else { None }
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

    fn scan(bytes: &[u8], expected: Option<u64>, part_digests: PartDigests) -> Scan {
        let (seen, passed) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let progress = |bytes| seen.set(seen.get() + bytes);
        let mut also = |bytes: &[u8]| {
            passed.set(passed.get() + bytes.len());
            Ok(())
        };
        let scan =
            Scan::read(bytes, expected, part_digests, &progress, &mut also).expect("memory can be read");
        assert_eq!((scan.sha256, scan.size), (Sha256::of(bytes), bytes.len() as u64));
        assert_eq!((seen.get(), passed.get()), (bytes.len() as u64, bytes.len()));
        scan
    }

    #[test]
    fn a_small_file_is_kept_whether_or_not_its_size_is_known() {
        let bytes = vec![7; CHUNK + 3];
        for expected in [None, Some(bytes.len() as u64), Some(0)] {
            let scan = scan(&bytes, expected, PartDigests::Always);
            assert_eq!(scan.bytes(), Some(&Bytes::from(bytes.clone())));
        }
        assert_eq!(scan(b"", Some(0), PartDigests::Always).bytes(), Some(&Bytes::new()));
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
            let scan = scan(&bytes, expected, PartDigests::Always);
            assert_eq!((scan.bytes(), scan.part_digests(size)), (None, Some(&digests[..])));
            assert_eq!(scan.part_digests(size + 1), None, "of other parts nothing is known");
        }
        // It grew since somebody looked at its size.
        let grown = scan(&bytes, Some(5), PartDigests::Always);
        assert_eq!((grown.bytes(), grown.part_digests(size)), (None, None));
        let not_asked = scan(&bytes, Some(LARGE as u64), PartDigests::No);
        assert_eq!((not_asked.bytes(), not_asked.part_digests(size)), (None, None));
    }

    /// Who hashes beside may be too slow, and then nothing of the parts is known; never something wrong.
    #[test]
    #[cfg(feature = "store-s3")]
    fn digests_beside_are_those_or_none() {
        let bytes = vec![7; LARGE];
        let size = part_size(LARGE as u64);
        let always = scan(&bytes, Some(LARGE as u64), PartDigests::Always);
        let beside = scan(&bytes, Some(LARGE as u64), PartDigests::Beside);
        assert!(beside.part_digests(size).is_none_or(|some| Some(some) == always.part_digests(size)));
    }

    #[test]
    fn only_s3_has_a_use_for_parts() {
        let of = |uris: &str| part_digests(&uris.parse().expect("stores"));
        assert_eq!(of("file:///a"), PartDigests::No);
        assert_eq!(of("file:///a hdfs://namenode/b"), PartDigests::No);
        let has_other_core = thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        assert_eq!(of("file:///a s3://bucket") == PartDigests::Beside, has_other_core);
    }
}
