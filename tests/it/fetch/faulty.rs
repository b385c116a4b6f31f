//! A store that fails as it is told: one script entry per `open`, in order; the last one repeats.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use sacker::error::{Error, Meaning, Missing, Result};
use sacker::model::{Sha256, StoreUri};
use sacker::store::{BlobFile, BlobInfo, BlobReader, Progress, PutOutcome, Store, Timing};

/// What happens to one reading.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    None,
    /// The stream ends, without an error, before this byte of the blob.
    EndAt(usize),
    /// The stream fails with `Unavailable` before this byte of the blob.
    BreakAt(usize),
    /// Nothing comes any more before this byte of the blob.
    StallAt(usize),
    /// This byte of the blob is another.
    FlipAt(usize),
    /// So many more bytes come than the blob has.
    TooLong(usize),
    /// The blob is said to have so many bytes more, and has them.
    Grown(usize),
    /// The blob is said to have so many bytes fewer, and has them not.
    Shrunk(usize),
    /// `open` itself fails.
    Denied,
    /// `open` itself fails, and may succeed later.
    Away,
}

#[derive(Debug)]
pub(super) struct FaultyStore {
    uri: StoreUri,
    blobs: BTreeMap<Sha256, Bytes>,
    script: Mutex<Vec<Fault>>,
    opened: AtomicUsize,
    asked: AtomicUsize,
    chunk: usize,
}

impl FaultyStore {
    /// A store with these blobs, which plays `script` backwards from its end.
    pub(super) fn new(blobs: &[&Bytes], script: &[Fault]) -> Self {
        let mut script = script.to_vec();
        script.reverse();
        Self {
            uri: "file:///faulty".parse().expect("a store URI"),
            blobs: blobs.iter().map(|&blob| (Sha256::of(blob), blob.clone())).collect(),
            script: Mutex::new(script),
            opened: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            chunk: 10_000,
        }
    }

    pub(super) fn with_chunk(mut self, chunk: usize) -> Self {
        self.chunk = chunk;
        self
    }

    /// How often a blob was opened.
    pub(super) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// How many bytes were asked for.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn next_fault(&self) -> Fault {
        let mut script = self.script.lock().expect("no test panics here");
        if script.len() > 1 { script.pop() } else { script.last().copied() }.unwrap_or(Fault::None)
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn place(&self) -> String {
        self.uri.to_string()
    }

    fn timing(&self) -> Timing {
        Timing::new(None)
    }

    async fn init(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn put(&self, _: BlobFile<'_>, _: Progress<'_>) -> Result<PutOutcome> {
        Err(Error::new(Meaning::Other, "store a blob"))
    }

    async fn head(&self, _: &Sha256) -> Result<Option<BlobInfo>> {
        Err(Error::new(Meaning::Other, "look for a blob"))
    }

    async fn open(&self, sha256: &Sha256, range: Range<u64>) -> Result<BlobReader> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let Some(blob) = self.blobs.get(sha256) else {
            return Err(Error::not_found(Missing::Blob(*sha256)));
        };
        let offset = usize::try_from(range.start).expect("tests are small");
        // Beyond any blob of a test.
        let mut until = usize::try_from(range.end).unwrap_or(usize::MAX);
        self.asked.fetch_add(until.min(blob.len()).saturating_sub(offset), Ordering::SeqCst);
        let mut bytes = blob.to_vec();
        let mut size = bytes.len();
        let mut end = Ending::Quiet;
        match self.next_fault() {
            Fault::None => {}
            Fault::EndAt(at) => bytes.truncate(at.max(offset)),
            Fault::BreakAt(at) => {
                bytes.truncate(at.max(offset));
                end = Ending::Error;
            }
            Fault::StallAt(at) => {
                bytes.truncate(at.max(offset));
                end = Ending::Silence;
            }
            Fault::FlipAt(at) => bytes[at] ^= 1,
            Fault::TooLong(more) => {
                bytes.resize(size + more, 0);
                until = usize::MAX;
            }
            Fault::Grown(more) => {
                size += more;
                bytes.resize(size, 0);
            }
            Fault::Shrunk(less) => {
                size -= less;
                bytes.truncate(size);
            }
            Fault::Denied => {
                let (action, resource) = ("s3:GetObject".to_owned(), sha256.to_string());
                return Err(Error::new(Meaning::Denied { action, resource }, "open the blob"));
            }
            Fault::Away => return Err(Error::new(Meaning::Unavailable, "open the blob")),
        }
        let rest = Bytes::from(bytes);
        let rest = rest.slice(offset.min(rest.len())..until.min(rest.len()).max(offset.min(rest.len())));
        let chunk = self.chunk;
        let pieces = (0..rest.len()).step_by(chunk).map(move |start| {
            let piece = rest.slice(start..rest.len().min(start + chunk));
            Ok(piece)
        });
        let stream = stream::iter(pieces);
        let stream = match end {
            Ending::Quiet => stream.boxed(),
            Ending::Error => {
                let error = Error::new(Meaning::Unavailable, "read the blob").with_key("connection reset");
                stream.chain(stream::iter([Err(error)])).boxed()
            }
            Ending::Silence => stream.chain(stream::pending()).boxed(),
        };
        Ok(BlobReader { size: size as u64, stream })
    }
}

enum Ending {
    Quiet,
    Error,
    Silence,
}
