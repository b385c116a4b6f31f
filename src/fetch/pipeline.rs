//! Hashing and writing beside the executor: one blocking thread per transfer, fed through a bounded queue.
//!
//! Not responsible for where bytes come from, nor for the file's name: the thread only ever
//! sees an open file.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::Artifact;
use super::transfer::corrupt;
use crate::error::Result;
use crate::model::{Hasher, Sha256};

/// How many bytes may wait for the thread: enough to keep it busy over a slow moment of the network, little enough that
/// several transfers side by side stay below 32 MiB.
const QUEUE_BYTES: u32 = 2 << 20;

/// Most that one read of an existing file takes.
const READ_BYTES: usize = 1 << 20;

struct Piece {
    bytes: Bytes,
    /// Given back when the piece was hashed and written.
    _room: OwnedSemaphorePermit,
}

/// What came out of a pipeline: not to be trusted before it was compared.
pub(super) struct Outcome<W> {
    sha256: Sha256,
    sink: W,
}

/// Bytes whose digest was compared. Only [`Outcome::verify`] makes one, and nothing gets a final name without it.
pub(super) struct Verified<W>(W);

impl<W> Outcome<W> {
    /// Compares the digest.
    ///
    /// # Errors
    /// `Corrupt` when it is another than the artifact's.
    pub(super) fn verify(self, artifact: &Artifact) -> Result<Verified<W>> {
        if self.sha256 == artifact.sha256 {
            return Ok(Verified(self.sink));
        }
        Err(corrupt(artifact, format!("the blob's bytes have sha256 {}", self.sha256)))
    }
}

impl<W> Verified<W> {
    /// Where the bytes are.
    pub(super) fn sink(&self) -> &W {
        &self.0
    }
}

/// A thread that hashes and writes. Dropping this lets it end after the piece in its hands.
pub(super) struct Pipeline<W> {
    queue: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
    thread: JoinHandle<io::Result<Outcome<W>>>,
}

/// The thread gave up; [`Pipeline::finish`] has its error.
pub(super) struct Stopped;

impl<W: io::Write + Send + 'static> Pipeline<W> {
    /// Starts the thread; it writes to `sink`.
    pub(super) fn start(sink: W) -> Self {
        // The semaphore is the bound: it counts bytes, since the size of a piece is the store's choice.
        let (queue, pieces) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
        let thread = tokio::task::spawn_blocking(move || consume(pieces, sink));
        Self { queue, room, thread }
    }

    /// Hands on the next bytes; waits while too many are queued.
    pub(super) async fn push(&self, bytes: Bytes) -> Result<(), Stopped> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(QUEUE_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(length).await.map_err(|_| Stopped)?;
        self.queue.send(Piece { bytes, _room: room }).map_err(|_| Stopped)
    }

    /// Waits until everything was hashed and written.
    pub(super) async fn finish(self) -> io::Result<Outcome<W>> {
        drop(self.queue);
        self.thread.await.map_err(io::Error::other)?
    }
}

fn consume<W: io::Write>(mut pieces: mpsc::UnboundedReceiver<Piece>, mut sink: W) -> io::Result<Outcome<W>> {
    let mut hasher = Hasher::default();
    while let Some(piece) = pieces.blocking_recv() {
        hasher.update(&piece.bytes);
        sink.write_all(&piece.bytes)?;
    }
    Ok(Outcome { sha256: hasher.finish(), sink })
}

/// The digest of an open file, from its current position. Dropping the future ends it within one block.
pub(super) async fn hash_file(file: File) -> io::Result<Sha256> {
    let mut state = (file, Hasher::default(), Vec::with_capacity(READ_BYTES));
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let (file, hasher, buffer) = &mut state;
            buffer.clear();
            file.take(READ_BYTES as u64).read_to_end(buffer)?;
            hasher.update(buffer);
            Ok::<_, io::Error>(state)
        });
        state = read.await.map_err(io::Error::other)??;
        if state.2.is_empty() {
            return Ok(state.1.finish());
        }
    }
}
