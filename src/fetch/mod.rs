//! Verified download: from a store's blob to a file (or a stream) that holds exactly the recorded bytes.
//!
//! A store is not trusted. Bytes are hashed while they arrive and land under a temporary name in the target's own
//! directory; the final name is absent, or the old file, or the verified new one, whatever happens. Not responsible for
//! resolving a spec (the ledger's part), nor for what a caller says about it.

mod target;

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::error::{Error, Result};
use crate::model::{PinnedSpec, Sha256, VersionRecord};
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
#[expect(clippy::unused_async, reason = "the interface comes first")]
pub async fn fetch_with(
    _store: &dyn Store,
    artifact: &Artifact,
    target: &Target,
    _patience: Patience,
    _progress: Progress<'_>,
) -> Result<Fetched> {
    target.path_for(artifact)?;
    Err(Error::invalid("this build cannot fetch"))
}

/// Copies a blob to `writer`, and returns its size in bytes. Nothing can be taken back from a stream: a reader that must
/// not act on wrong bytes has to wait for the success of this call.
///
/// # Errors
/// As [`fetch`]; `Corrupt` comes after the last byte. A failing `writer` is `Local`, with its `std::io::Error` as source.
#[expect(clippy::unused_async, reason = "the interface comes first")]
pub async fn copy(
    _store: &dyn Store,
    _artifact: &Artifact,
    _writer: impl AsyncWrite + Unpin,
    _progress: Progress<'_>,
) -> Result<u64> {
    Err(Error::invalid("this build cannot copy"))
}
