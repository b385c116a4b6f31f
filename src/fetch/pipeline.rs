//! Writing and hashing beside the executor: a blocking thread for each, per blob, fed through one bounded queue. The first
//! touch of a file's pages costs a core twice as much as the hash, so neither waits for the other. A small blob is written and
//! hashed in one go when all of it is there, since waking a thread takes longer than either.
//!
//! Not responsible for where bytes come from, nor for the file's name: the threads only ever see an [`Output`].

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::Artifact;
use super::assembly::{Assembly, Next, Output, Writer};
use super::heap;
use super::transfer::corrupt;
use crate::error::Result;
use crate::model::{Hasher, Sha256};
use crate::page_buffer::PageBuffer;

/// How many bytes may wait for the thread: enough to keep it busy over a slow moment of the network, little enough that
/// several transfers side by side stay below 32 MiB.
pub(super) const QUEUE_BYTES: u32 = 4 << 20;

/// Up to this size in bytes all of a blob waits in the queue: half a millisecond of hashing, a quarter of [`QUEUE_BYTES`].
const SMALL: u64 = 1 << 20;

/// Most that one read of an existing file takes.
const READ_BYTES: usize = 1 << 20;

struct Piece {
    offset: u64,
    bytes: Bytes,
    /// Given back when the piece was written and taken in.
    _room: OwnedSemaphorePermit,
}

/// What came out of a pipeline: not to be trusted before it was compared.
pub(super) struct Outcome<O> {
    sha256: Sha256,
    output: O,
}

/// Bytes whose digest was compared. Only [`Outcome::verify`] makes one, and nothing gets a final name without it.
pub(super) struct Verified<O>(O);

impl<O> Outcome<O> {
    /// Compares the digest.
    ///
    /// # Errors
    /// `Corrupt` when it is another than the artifact's.
    pub(super) fn verify(self, artifact: &Artifact) -> Result<Verified<O>> {
        if self.sha256 == artifact.sha256 {
            return Ok(Verified(self.output));
        }
        Err(corrupt(artifact, format!("the blob's bytes have sha256 {}", self.sha256)))
    }
}

impl<O> Verified<O> {
    /// Where the bytes are.
    pub(super) fn output(&self) -> &O {
        &self.0
    }

    /// Where the bytes are.
    pub(super) fn into_output(self) -> O {
        self.0
    }
}

/// How far the thread is.
#[derive(Debug, Default)]
struct Head {
    hashed: AtomicU64,
    moved: Notify,
    is_dropped: AtomicBool,
}

/// Tells the thread that nobody waits for it any more.
struct Wanted(Arc<Head>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.is_dropped.store(true, Ordering::Relaxed);
    }
}

/// A thread that hashes and writes. Dropping this lets it end after the piece in its hands.
pub(super) struct Pipeline<O> {
    queue: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
    head: Wanted,
    writer: Option<JoinHandle<io::Result<()>>>,
    hash: Hash<O>,
}

/// Who hashes.
enum Hash<O> {
    /// A thread, while pieces come.
    Meanwhile(JoinHandle<io::Result<Outcome<O>>>),
    /// This, once all of them are there.
    Afterwards(Box<dyn FnOnce() -> io::Result<Outcome<O>> + Send>),
}

/// A thread gave up; [`Pipeline::finish`] has its error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopped;

/// Room for a piece in the queue.
pub(super) struct Room(OwnedSemaphorePermit);

impl<O: Output> Pipeline<O> {
    /// Starts the threads, where the blob is large enough to have any.
    pub(super) fn start(assembly: Assembly<O>) -> Self {
        // The semaphore is the bound: it counts bytes, since the size of a piece is the store's choice.
        let (queue, pieces) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
        let head = Arc::new(Head::default());
        let is_small = assembly.size() <= SMALL;
        if !is_small {
            heap::keep_what_is_freed();
        }
        let (pieces, writer, own_write) = match assembly.writer() {
            Some(write) if !is_small => {
                let (written, pieces_written) = mpsc::unbounded_channel();
                let thread = tokio::task::spawn_blocking(move || write_all(pieces, &written, write));
                (pieces_written, Some(thread), None)
            }
            own_write => (pieces, None, own_write),
        };
        let consume = {
            let head = Arc::clone(&head);
            move || consume(pieces, assembly, own_write, &head)
        };
        let hash = if is_small {
            Hash::Afterwards(Box::new(consume))
        } else {
            Hash::Meanwhile(tokio::task::spawn_blocking(consume))
        };
        Self { queue, room, head: Wanted(head), writer, hash }
    }

    /// Waits until there is room for `bytes`.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room, Stopped> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(QUEUE_BYTES);
        tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(bytes) => room.map(Room).map_err(|_| Stopped),
            // A thread that gave up gives no room back.
            () = self.queue.closed() => Err(Stopped),
        }
    }

    /// Whether pieces come faster than they are taken in.
    pub(super) fn is_held_up(&self) -> bool {
        self.room.available_permits() < QUEUE_BYTES as usize / 2
    }

    /// Hands on bytes of a part, in order within the part.
    pub(super) fn push(&self, Room(room): Room, offset: u64, bytes: Bytes) -> Result<(), Stopped> {
        self.queue.send(Piece { offset, bytes, _room: room }).map_err(|_| Stopped)
    }

    /// How many bytes were hashed.
    pub(super) fn hashed(&self) -> u64 {
        self.head.0.hashed.load(Ordering::Relaxed)
    }

    /// Whether a thread gave up.
    pub(super) fn is_stopped(&self) -> bool {
        self.queue.is_closed() || matches!(&self.hash, Hash::Meanwhile(thread) if thread.is_finished())
    }

    /// Waits until the head came to another part than at the last call.
    pub(super) async fn moved(&self) {
        self.head.0.moved.notified().await;
    }

    /// Waits until what was handed on is written, and gives up the rest.
    pub(super) async fn abandon(self) {
        drop((self.queue, self.head));
        if let Some(writer) = self.writer {
            // Whatever became of it: there is another error already.
            let _ = writer.await;
        }
    }

    /// Waits until everything was hashed and written.
    pub(super) async fn finish(self) -> io::Result<Outcome<O>> {
        drop(self.queue);
        let _until_then = self.head;
        if let Some(writer) = self.writer {
            writer.await.map_err(io::Error::other)??;
        }
        let thread = match self.hash {
            Hash::Meanwhile(thread) => thread,
            Hash::Afterwards(consume) => tokio::task::spawn_blocking(consume),
        };
        thread.await.map_err(io::Error::other)?
    }
}

/// Writes pieces and passes them on to the hash. Also those that nobody hashes any more: the next run goes on with them.
fn write_all(
    mut pieces: mpsc::UnboundedReceiver<Piece>,
    written: &mpsc::UnboundedSender<Piece>,
    mut write: Writer,
) -> io::Result<()> {
    while let Some(piece) = pieces.blocking_recv() {
        write(piece.offset, &piece.bytes)?;
        let _ = written.send(piece);
    }
    Ok(())
}

/// Takes pieces in, after `write` where no other thread did that.
fn consume<O: Output>(
    mut pieces: mpsc::UnboundedReceiver<Piece>,
    mut assembly: Assembly<O>,
    mut write: Option<Writer>,
    head: &Head,
) -> io::Result<Outcome<O>> {
    loop {
        let piece = match assembly.next() {
            // First, while it may still be in a cache.
            Next::Held => None,
            // What arrives need not be read again if it is taken before.
            Next::Kept => pieces.try_recv().ok(),
            Next::Nothing => match pieces.blocking_recv() {
                Some(piece) => Some(piece),
                None => break,
            },
        };
        match piece {
            Some(piece) => {
                if let Some(write) = &mut write {
                    write(piece.offset, &piece.bytes)?;
                }
                assembly.take(piece.offset, piece.bytes)?;
            }
            None => assembly.step()?,
        }
        if head.is_dropped.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let before = head.hashed.swap(assembly.hashed(), Ordering::Relaxed);
        if assembly.is_in_another_part_than(before) {
            head.moved.notify_one();
        }
    }
    match assembly.finish() {
        Some((sha256, output)) => Ok(Outcome { sha256, output }),
        None => Err(io::Error::other("not all bytes came")),
    }
}

/// The digest of an open file, from its current position. Dropping the future ends it within one block.
pub(super) async fn hash_file(file: File) -> io::Result<Sha256> {
    let mut state = (file, Hasher::default(), PageBuffer::new(READ_BYTES));
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let (file, hasher, buffer) = &mut state;
            let bytes = buffer.read(file)?;
            hasher.update(bytes);
            Ok::<_, io::Error>((bytes.is_empty(), state))
        });
        let is_end;
        (is_end, state) = read.await.map_err(io::Error::other)??;
        if is_end {
            return Ok(state.1.finish());
        }
    }
}
