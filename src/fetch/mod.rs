//! Verified download: from a store's blob to a file (or a stream) that holds exactly the recorded bytes.
//!
//! A store is not trusted. Bytes are hashed while they arrive and land under a temporary name in the target's own
//! directory; the final name is absent, or the old file, or the verified new one, whatever happens. Not responsible for
//! resolving a spec (the ledger's part), nor for what a caller says about it.

mod pipeline;
mod place;
mod target;
mod temporary;
mod transfer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use self::pipeline::Pipeline;
use self::place::Place;
use self::temporary::Temporary;
use self::transfer::Transfer;
use crate::error::{Error, Meaning, Result, io_reason};
use crate::model::{PinnedSpec, Sha256, VersionRecord, safe_mode};
use crate::store::{Progress, Store};

pub use target::Target;

/// What to fetch, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// What messages call it: `<package>@<version>`.
    pub label: String,
    /// The digest that the bytes must have.
    pub sha256: Sha256,
    /// The size in bytes that they must have, if it was recorded.
    pub size: Option<u64>,
    /// The recorded file name: somebody's input, checked before use.
    pub basename: Option<String>,
    /// The recorded `st_mode`: somebody's input, see [`crate::model::safe_mode`].
    pub mode: Option<u32>,
}

impl From<&VersionRecord> for Artifact {
    fn from(record: &VersionRecord) -> Self {
        Self {
            label: format!("{}@{}", record.package, record.version),
            sha256: record.sha256,
            size: record.size,
            basename: Some(record.basename.clone()),
            mode: Some(record.mode),
        }
    }
}

impl From<&PinnedSpec> for Artifact {
    fn from(pinned: &PinnedSpec) -> Self {
        Self {
            label: format!("{}@{}", pinned.package, pinned.version),
            sha256: pinned.sha256,
            size: None,
            basename: None,
            mode: None,
        }
    }
}

/// A file that holds what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The digest that was checked.
    pub sha256: Sha256,
    /// The file was there already, with the right bytes and mode; the store was not asked.
    pub already_there: bool,
}

/// How long a transfer bears with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The longest time without a byte.
    pub stall: Duration,
    /// How often in a row a broken or stalled stream is taken up again where it broke.
    pub retries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stall: Duration::from_secs(20), retries: 4 }
    }
}

/// Fetches a blob into a file, with the usual [`Patience`]; see [`fetch_with`].
pub async fn fetch(
    store: &dyn Store,
    artifact: &Artifact,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Fetched> {
    fetch_with(store, artifact, target, Patience::default(), progress).await
}

/// Fetches a blob into a file. The file appears, or replaces an older regular file, in one step and after its bytes were
/// verified and made durable; its mode is the recorded one made safe. `progress` hears of bytes that came from the store.
///
/// A file at the destination that already has the bytes and the mode, and that nobody else can write through another
/// owner or link, is kept: repeating a fetch is cheap and needs no store.
///
/// # Errors
/// `Corrupt` when the bytes are not what was recorded, or the recorded name is not harmless; `Local` when the directory
/// is missing, full or not writable, and when something that is not a regular file is at the destination; `Invalid` when
/// no file name is known; `NotFound(Blob)`, `Denied`, `Throttled` and `Unavailable` from the store, the last also when a
/// stream breaks or stalls more than [`Patience::retries`] times in a row.
///
/// # Cancellation
/// Dropping the future removes the temporary file. A process that is killed leaves one behind, which the next fetch into
/// the same directory removes.
///
/// Of several stores, one that hands out wrong bytes is passed over like one that lacks the blob: each is then asked alone.
/// `progress` then hears of more bytes than the blob has.
pub async fn fetch_with(
    store: &dyn Store,
    artifact: &Artifact,
    target: &Target,
    patience: Patience,
    progress: Progress<'_>,
) -> Result<Fetched> {
    let first = match fetch_from(store, artifact, target, patience, progress).await {
        Err(error) if matches!(error.meaning(), Meaning::Corrupt { .. }) => error,
        outcome => return outcome,
    };
    for part in store.parts() {
        tracing::warn!("{first}; asking {} alone", part.place());
        match fetch_from(&**part, artifact, target, patience, progress).await {
            Ok(fetched) => return Ok(fetched),
            // Where the file goes is broken, whatever the store.
            Err(error) if matches!(error.meaning(), Meaning::Local { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    Err(first)
}

async fn fetch_from(
    store: &dyn Store,
    artifact: &Artifact,
    target: &Target,
    patience: Patience,
    progress: Progress<'_>,
) -> Result<Fetched> {
    let mode = safe_mode(artifact.mode.unwrap_or(0));
    let destination = target.destination(artifact)?;
    let path = destination.path();
    // What killed processes left goes also when the file can stay: nobody else would ever remove it.
    let place = blocking(move || {
        let place = Place::open(destination)?;
        temporary::sweep(&place);
        Ok(place)
    });
    let place = Arc::new(place.await?);
    if let Some(size) = keep(&place, artifact, mode).await? {
        return Ok(Fetched { path, size, sha256: artifact.sha256, already_there: true });
    }

    let looking = Arc::clone(&place);
    let recorded = artifact.size.unwrap_or(0);
    blocking(move || looking.check_space(recorded)).await?;
    let mut transfer = Transfer::open(store, artifact, patience).await?;
    let size = transfer.size();
    let making = Arc::clone(&place);
    let (temporary, file) = blocking(move || {
        making.check_space(size)?;
        Temporary::create(&making).map_err(|error| making.write_failure(size, error))
    })
    .await?;

    let pipeline = Pipeline::start(file);
    while let Some(bytes) = transfer.next().await? {
        let arrived = bytes.len() as u64;
        if pipeline.push(bytes).await.is_err() {
            break;
        }
        progress(arrived);
    }
    let outcome = match pipeline.finish().await {
        Ok(outcome) => outcome,
        Err(error) => {
            // First of all, so that the free space in the message is what somebody who looks there finds.
            drop(temporary);
            return Err(place.write_failure(size, error));
        }
    };
    let verified = outcome.verify(artifact)?;
    // `temporary` stays here, so that it goes also when this future is dropped meanwhile.
    let name = temporary.name().to_owned();
    let installing = Arc::clone(&place);
    blocking(move || installing.install(&name, &verified, mode)).await?;
    Ok(Fetched { path, size, sha256: artifact.sha256, already_there: false })
}

/// The size of the file at the destination, if it is the one that is asked for and can stay.
async fn keep(place: &Arc<Place>, artifact: &Artifact, mode: u32) -> Result<Option<u64>> {
    let (looking, size) = (Arc::clone(place), artifact.size);
    let Some((file, size)) = blocking(move || looking.open_candidate(size, mode)).await? else {
        return Ok(None);
    };
    // A file that cannot be read is replaced like one with other bytes.
    let same = pipeline::hash_file(file).await.is_ok_and(|found| found == artifact.sha256);
    Ok(same.then_some(size))
}

/// Runs blocking file operations beside the executor.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Error::new(Meaning::Other, "use the file system").with_source(error))?
}

/// Copies a blob to `writer`, and returns its size in bytes. Nothing can be taken back from a stream: a reader that must
/// not act on wrong bytes has to wait for the success of this call.
///
/// # Errors
/// As [`fetch`]; `Corrupt` comes after the last byte. A failing `writer` is `Local`, with its `std::io::Error` as source.
pub async fn copy(
    store: &dyn Store,
    artifact: &Artifact,
    mut writer: impl AsyncWrite + Unpin,
    progress: Progress<'_>,
) -> Result<u64> {
    let mut transfer = Transfer::open(store, artifact, Patience::default()).await?;
    let pipeline = Pipeline::start(io::sink());
    while let Some(bytes) = transfer.next().await? {
        let arrived = bytes.len() as u64;
        // Hashing into nowhere does not fail.
        let _ = pipeline.push(bytes.clone()).await;
        writer.write_all(&bytes).await.map_err(output_failure)?;
        progress(arrived);
    }
    writer.flush().await.map_err(output_failure)?;
    pipeline.finish().await.map_err(output_failure)?.verify(artifact)?;
    Ok(transfer.size())
}

fn output_failure(error: io::Error) -> Error {
    let why = format!("cannot write the output: {}", io_reason(&error));
    Error::new(Meaning::Local { why }, "write the output").with_source(error)
}
