//! A part of a blob from a store, in order, as one stream that survives broken connections.
//!
//! Resumes where a stream broke, notices stalls, refuses more bytes than were asked for. Not responsible for whether the
//! bytes are the right ones (`pipeline.rs` hashes them), nor for where they go.

use std::mem;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{Artifact, Patience};
use crate::error::{Error, Meaning, Missing, Result};
use crate::store::{BlobReader, Store};

/// A resumed stream that brought at least this much has proved that the store is alive: the count of failures starts
/// again. Less must not reset it, or a server that breaks after each byte would be asked for ever.
const PROOF_OF_LIFE: u64 = 1 << 20;

/// The longest pause before a stream is taken up again.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// One part of a blob on its way in.
pub(super) struct Transfer<'a> {
    store: &'a dyn Store,
    artifact: &'a Artifact,
    patience: Patience,
    /// Bytes that the whole blob has.
    size: u64,
    /// Up to where bytes were handed on.
    offset: u64,
    /// Where the part ends.
    end: u64,
    /// Nothing after a failure, until it is taken up again.
    stream: Option<BoxStream<'static, Result<Bytes>>>,
    /// Received bytes beyond what was wanted at the last call.
    kept: Bytes,
    /// Failures in a row.
    failures: u32,
    /// Where the stream was last taken up.
    resumed_at: u64,
}

impl<'a> Transfer<'a> {
    /// Asks the store for a range of the blob, or as much of it as there is. Says how many bytes the whole has.
    ///
    /// # Errors
    /// The store's own; `Corrupt` when the store's blob has another size than was recorded.
    pub(super) async fn first(
        store: &'a dyn Store,
        artifact: &'a Artifact,
        patience: Patience,
        range: Range<u64>,
    ) -> Result<Self> {
        let BlobReader { size, stream } = ask(store, artifact, range.clone()).await?;
        if let Some(recorded) = artifact.size
            && recorded != size
        {
            let why = format!("the blob has {size} bytes, {recorded} were recorded");
            return Err(corrupt(artifact, why));
        }
        let mut part = Self::part(store, artifact, patience, size, range.start..range.end.min(size));
        part.stream = Some(stream);
        Ok(part)
    }

    /// A part of a blob of `size` bytes; nothing is asked for before the first [`Transfer::next`].
    pub(super) fn part(
        store: &'a dyn Store,
        artifact: &'a Artifact,
        patience: Patience,
        size: u64,
        range: Range<u64>,
    ) -> Self {
        Self {
            store,
            artifact,
            patience,
            size,
            offset: range.start,
            end: range.end,
            stream: None,
            kept: Bytes::new(),
            failures: 0,
            resumed_at: range.start,
        }
    }

    /// The blob's size in bytes, as the record and the store say.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Where the next bytes belong.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether there are more bytes to come.
    pub(super) fn has_more(&self) -> bool {
        self.offset < self.end
    }

    /// The next bytes before `until`, never empty; nothing after the last of them.
    ///
    /// # Errors
    /// `Corrupt` as soon as there are more bytes than belong to the part; `Unavailable` when the stream broke or stalled
    /// too often; what the store says otherwise.
    pub(super) async fn next_before(&mut self, until: u64) -> Result<Option<Bytes>> {
        let wanted = until.saturating_sub(self.offset);
        if wanted == 0 && self.has_more() {
            return Ok(None);
        }
        let bytes = if self.kept.is_empty() { self.next().await? } else { Some(mem::take(&mut self.kept)) };
        Ok(bytes.map(|mut bytes| {
            // One byte more than there should be was refused before.
            let length = usize::try_from(wanted).unwrap_or(usize::MAX).min(bytes.len());
            self.kept = bytes.split_off(length);
            self.offset += length as u64;
            bytes
        }))
    }

    /// The next bytes of the stream; nothing after the last.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        // All bytes are here; how the connection ends does not matter.
        while self.offset < self.end || self.stream.is_some() {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => match self.reopen().await {
                    Ok(stream) => self.stream.insert(stream),
                    // A store that is away for a while breaks the stream first, and then the attempts to take it up.
                    Err(error) if error.is_transient() => {
                        self.bear(error).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            let failure = match tokio::time::timeout(self.patience.stall, next_filled(stream)).await {
                Ok(Some(Ok(bytes))) => return self.accept(bytes).map(Some),
                Ok(None) if self.offset == self.end => return Ok(None),
                Ok(None) => self.broken(&format!("it ended after {} of {} bytes", self.offset, self.size)),
                Ok(Some(Err(error))) if error.is_transient() => error,
                Ok(Some(Err(error))) => return Err(error),
                Err(_) => self.broken(&format!("no byte came for {:?}", self.patience.stall)),
            };
            if self.offset == self.end {
                return Ok(None);
            }
            self.bear(failure).await?;
        }
        Ok(None)
    }

    fn accept(&mut self, bytes: Bytes) -> Result<Bytes> {
        let offset = self.offset + bytes.len() as u64;
        if offset > self.end {
            let why = format!("the store gave more than the {} bytes that there should be", self.end);
            return Err(corrupt(self.artifact, why));
        }
        if offset - self.resumed_at >= PROOF_OF_LIFE {
            self.failures = 0;
        }
        Ok(bytes)
    }

    async fn reopen(&self) -> Result<BoxStream<'static, Result<Bytes>>> {
        let BlobReader { size, stream } = ask(self.store, self.artifact, self.offset..self.end).await?;
        if size != self.size {
            let why = format!("the blob changed from {} to {size} bytes while it was read", self.size);
            return Err(corrupt(self.artifact, why));
        }
        Ok(stream)
    }

    /// Drops the stream and waits, or gives up with `failure`.
    async fn bear(&mut self, failure: Error) -> Result<()> {
        self.stream = None;
        self.resumed_at = self.offset;
        self.failures += 1;
        if self.failures > self.patience.retries {
            return Err(failure);
        }
        tracing::warn!(
            "{}: {failure}; going on at byte {} of {}, try {} of {}",
            self.artifact.label,
            self.offset,
            self.size,
            self.failures,
            self.patience.retries,
        );
        tokio::time::sleep(pause(self.failures)).await;
        Ok(())
    }

    fn broken(&self, how: &str) -> Error {
        Error::new(Meaning::Unavailable, "read the blob").with_key(format!(
            "{} from {}: {how}",
            self.artifact.label,
            self.store.place()
        ))
    }
}

/// Opens the blob. An absent one is told by the name that the caller knows it by.
async fn ask(store: &dyn Store, artifact: &Artifact, range: Range<u64>) -> Result<BlobReader> {
    store.open(&artifact.sha256, range).await.map_err(|error| {
        if !matches!(error.meaning(), Meaning::NotFound(Missing::Blob(_))) {
            return error;
        }
        let named = Error::new(error.meaning().clone(), "fetch the blob").with_key(format!(
            "{} from {}",
            artifact.label,
            store.place()
        ));
        match error.hint() {
            Some(hint) => named.with_hint(hint),
            None => named,
        }
    })
}

/// The next bytes that are any; empty ones are no sign of life.
async fn next_filled(stream: &mut BoxStream<'static, Result<Bytes>>) -> Option<Result<Bytes>> {
    loop {
        match stream.next().await {
            Some(Ok(bytes)) if bytes.is_empty() => {}
            other => return other,
        }
    }
}

/// Full jitter below a doubling limit: the pods of a large rollout must not come back together.
fn pause(failures: u32) -> Duration {
    let limit = Duration::from_millis(250).saturating_mul(1 << failures.min(8)).min(PAUSE_MAX);
    limit.mul_f64(fastrand::f64())
}

/// The blob is not what was recorded.
pub(super) fn corrupt(artifact: &Artifact, why: impl Into<String>) -> Error {
    Error::new(Meaning::Corrupt { why: why.into() }, "fetch the blob")
        .with_key(format!("{}, sha256 {}", artifact.label, artifact.sha256))
}
