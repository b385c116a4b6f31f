//! Verified download: from a store's blob to a file (or a stream) that holds exactly the recorded bytes.
//!
//! A store is not trusted. Parts arrive side by side and are hashed in order while they do, in bounded memory, and land under
//! a temporary name in the target's own directory; the final name is absent, or the old file, or the verified new one,
//! whatever happens. Not responsible for
//! resolving a spec (the ledger's part), nor for what a caller says about it.

mod assembly;
mod budget;
#[cfg(feature = "init")]
mod cache;
mod heap;
mod leftovers;
mod partial;
mod pipeline;
mod place;
mod plan;
mod reception;
mod target;
mod temporary;
mod transfer;
#[cfg(feature = "init")]
mod unpack;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use self::partial::{Left, PartialFile, Stream};
use self::pipeline::{Outcome, Verified};
use self::place::Place;
use self::plan::Sizes;
use self::reception::Source;
use self::temporary::Temporary;
#[cfg(feature = "init")]
use crate::error::Missing;
use crate::error::{Error, Meaning, Result, io_reason};
use crate::model::{PinnedSpec, Sha256, VersionRecord, safe_mode};
use crate::store::{Progress, Store};

pub use budget::Budget;
#[cfg(feature = "init")]
pub use cache::Cache;
pub use leftovers::Leftovers;
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
    /// How long a part is watched before it can be called slow, and is asked for a second time.
    pub slow: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stall: Duration::from_secs(20), retries: 4, slow: Duration::from_millis(400) }
    }
}

/// What becomes of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// A file.
    #[default]
    File,
    /// The files in it, since it is an archive: tar, tar.gz or tar.zst. The target is the directory that they go into.
    #[cfg(feature = "init")]
    Unpacked,
}

/// How a blob is fetched.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the transfer bears with the store.
    pub patience: Patience,
    /// Memory that this transfer shares with others.
    pub budget: Budget,
    /// Whether the file is on disk, and not only in the page cache, when the fetch returns.
    pub durable: bool,
    /// Whether the parts of a fetch that is cancelled stay for the next one. Those of one that fails because the store is away
    /// do in any case.
    pub keep_when_cancelled: bool,
    /// What earlier processes left, shared by all fetches of this one.
    pub leftovers: Arc<Leftovers>,
    /// What becomes of it.
    pub form: Form,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: Patience::default(),
            budget: Budget::default(),
            durable: true,
            keep_when_cancelled: false,
            leftovers: Arc::default(),
            form: Form::File,
        }
    }
}

/// Bytes of a part: enough that a request costs little beside it (at 85 MB/s and 20 ms to the first byte a fifth, and a tenth
/// for large blobs), little enough that a few fit in memory.
const PART: u64 = 8 << 20;

/// Blobs from this size on come in parts of twice the size.
const LARGE: u64 = 1 << 30;

/// Bytes of a part of a stream, whose parts wait in memory for those before them.
const STREAM_PART: u64 = 4 << 20;

/// How far parts of a stream may be ahead. That is memory, too, and for nothing else than the stream.
const STREAM_AHEAD: u64 = 3 * STREAM_PART;

/// How far parts of a file may be ahead. They wait in the page cache, which a pod's memory limit counts.
const FILE_AHEAD: u64 = 64 << 20;

/// Most connections for one blob; see [`connections`].
const MOST_CONNECTIONS: usize = 16;

/// Fetches a blob into a file, with the usual [`Options`]; see [`fetch_with`].
pub async fn fetch(
    store: &dyn Store,
    artifact: &Artifact,
    target: &Target,
    progress: Progress<'_>,
) -> Result<Fetched> {
    fetch_with(store, artifact, target, &Options::default(), progress).await
}

/// Fetches a blob into a file. The file appears, or replaces an older regular file, in one step and after its bytes were
/// verified and, if [`Options::durable`], made durable; its mode is the recorded one made safe. `progress` hears of bytes
/// that came from the store, or that an earlier fetch left.
///
/// A file at the destination that already has the bytes and the mode, and that nobody else can write through another
/// owner or link, is kept: repeating a fetch is cheap and needs no store.
///
/// Parts that a fetch of the same blob into the same directory left, because it was killed or its store went away, are not
/// asked for again. They are hashed like all others; when the digest then is wrong, everything is fetched anew.
///
/// # Errors
/// `Corrupt` when the bytes are not what was recorded, or the recorded name is not harmless; `Local` when the directory
/// is missing, full or not writable, and when something that is not a regular file is at the destination; `Invalid` when
/// no file name is known; `NotFound(Blob)`, `Denied`, `Throttled` and `Unavailable` from the store, the last also when a
/// stream breaks or stalls more than [`Patience::retries`] times in a row.
///
/// # Cancellation
/// Dropping the future removes the temporary file, unless [`Options::keep_when_cancelled`] says otherwise. A process that is
/// killed leaves one behind, which the next fetch into the same directory goes on with or removes.
///
/// Of several stores, one that hands out wrong bytes is passed over like one that lacks the blob: each is then asked alone.
/// `progress` then hears of more bytes than the blob has.
pub async fn fetch_with(
    store: &dyn Store,
    artifact: &Artifact,
    target: &Target,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Fetched> {
    let first = match fetch_from(store, artifact, target, options, progress).await {
        Err(error) if is_corrupt(&error) => error,
        outcome => return outcome,
    };
    for part in store.parts() {
        tracing::warn!("{first}; asking {} alone", part.place());
        match fetch_from(&**part, artifact, target, options, progress).await {
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
    options: &Options,
    progress: Progress<'_>,
) -> Result<Fetched> {
    let mode = safe_mode(artifact.mode.unwrap_or(0));
    let destination = match options.form {
        Form::File => target.destination(artifact)?,
        #[cfg(feature = "init")]
        Form::Unpacked => target.beneath(unpack::RECORD),
    };
    let path = destination.path();
    let (leftovers, form) = (Arc::clone(&options.leftovers), options.form);
    let Artifact { sha256, size: recorded, .. } = *artifact;
    let looked = blocking(move || {
        #[cfg(feature = "init")]
        if form == Form::Unpacked {
            unpack::make_directory(&destination.directory);
        }
        let place = Place::open(destination)?;
        // Also when the file can stay: nobody else would ever remove what killed processes left.
        leftovers.sweep(&place, &sha256);
        let candidate = match form {
            Form::File => place.open_candidate(recorded, mode)?,
            // What became of the files since is not known.
            #[cfg(feature = "init")]
            Form::Unpacked => None,
        };
        Ok((Arc::new(place), candidate))
    });
    let (place, candidate) = looked.await?;
    let done = |size, already_there| Fetched { path, size, sha256, already_there };
    // A file that cannot be read is replaced like one with other bytes.
    if let Some((file, size)) = candidate
        && pipeline::hash_file(file).await.is_ok_and(|found| found == sha256)
    {
        let leftovers = Arc::clone(&options.leftovers);
        let remove = move || {
            leftovers.remove(&place, &sha256);
            Ok(())
        };
        blocking(remove).await?;
        return Ok(done(size, true));
    }
    let source = Source { store, artifact, patience: options.patience };
    let mut is_resumed = true;
    let (temporary, verified, size) = loop {
        let attempt = Attempt { source, place: &place, options, progress };
        match attempt.run(&mut is_resumed).await {
            Ok(arrived) => break arrived,
            // What an earlier process left may be at fault; the store gave only a part.
            Err(error) if is_resumed && is_corrupt(&error) => {
                tracing::warn!("{error}; what an earlier download left is dropped, starting again");
                is_resumed = false;
            }
            Err(error) => return Err(error),
        }
    };
    // `temporary` stays here, so that it goes also when this future is dropped meanwhile.
    let (name, durable) = (temporary.name().to_owned(), options.durable);
    #[cfg(feature = "init")]
    if options.form == Form::Unpacked {
        let label = artifact.label.clone();
        blocking(move || unpack::unpack(&place, &verified, &label)).await?;
        return Ok(done(size, false));
    }
    blocking(move || place.install(&name, &verified, mode, durable)).await?;
    Ok(done(size, false))
}

fn is_corrupt(error: &Error) -> bool {
    matches!(error.meaning(), Meaning::Corrupt { .. })
}

/// Whether a store does not have the blob.
#[cfg(feature = "init")]
pub(crate) fn is_absent_blob(error: &Error) -> bool {
    matches!(error.meaning(), Meaning::NotFound(Missing::Blob(_)))
}

/// One try to bring a blob into a temporary file beside its place.
struct Attempt<'a> {
    source: Source<'a>,
    place: &'a Arc<Place>,
    options: &'a Options,
    progress: Progress<'a>,
}

impl Attempt<'_> {
    /// The blob in its temporary file, and its size in bytes. `is_resumed` says whether to go on with what is there, and
    /// afterwards whether that happened.
    async fn run(&self, is_resumed: &mut bool) -> Result<(Temporary, Verified<PartialFile>, u64)> {
        let Artifact { sha256, size: recorded, .. } = *self.source.artifact;
        let (place, may_resume) = (Arc::clone(self.place), *is_resumed);
        let opened = blocking(move || {
            let needed = recorded.unwrap_or(0);
            let (temporary, file) =
                Temporary::open(&place, &sha256).map_err(|error| place.write_failure(needed, error))?;
            let left = Left::read(&file, &sha256).filter(|left| {
                may_resume && left.bytes() > 0 && recorded.is_none_or(|recorded| recorded == left.size)
            });
            place.check_space(needed.saturating_sub(left.as_ref().map_or(0, Left::bytes)))?;
            // Not where it is empty: ext4 has what was once cut to nothing written to the disk before it is closed, and
            // the container waits for that (`auto_da_alloc` in ext4(5)).
            let is_empty = file.metadata().is_ok_and(|found| found.len() == 0);
            if left.is_none() && !is_empty {
                file.set_len(0).map_err(|error| place.write_failure(needed, error))?;
            }
            Ok((temporary, file, left))
        });
        let (temporary, file, left) = opened.await?;
        *is_resumed = left.is_some();
        let outcome = self.receive(&temporary, file, left).await;
        let (size, outcome) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                temporary.leave(error.is_transient());
                return Err(error);
            }
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                temporary.leave(false);
                // First of all, so that the free space in the message is what somebody who looks there finds.
                drop(temporary);
                return Err(self.place.write_failure(size, error));
            }
        };
        temporary.leave(false);
        let verified = outcome.verify(self.source.artifact)?;
        Ok((temporary, verified, size))
    }

    /// The blob's size, and what came of writing it.
    async fn receive(
        &self,
        temporary: &Temporary,
        file: std::fs::File,
        left: Option<Left>,
    ) -> Result<(u64, io::Result<Outcome<PartialFile>>)> {
        let Artifact { sha256, size: recorded, .. } = *self.source.artifact;
        let kept = temporary.kept();
        let (left, first, output) = if let Some(left) = left {
            tracing::info!(
                "{}: going on with {} of {} bytes that an earlier download left",
                self.source.artifact.label,
                left.bytes(),
                left.size,
            );
            (self.progress)(left.bytes());
            let output = PartialFile::resume(file, &left, kept);
            (left, None, output)
        } else {
            // A pinned spec has no size: the first answer tells it.
            let first = self.source.first(first_range(recorded, recorded.map_or(PART, part_size))).await?;
            let left = Left::nothing(first.size(), part_size(first.size()));
            let output = if left.here.len() == 1 {
                PartialFile::in_one_part(file, &left)
            } else {
                let (place, beginning) = (Arc::clone(self.place), left.clone());
                let begin = move || {
                    place.check_space(beginning.size)?;
                    PartialFile::begin(file, &beginning, &sha256, kept)
                        .map_err(|error| place.write_failure(beginning.size, error))
                };
                blocking(begin).await?
            };
            (left, Some(first), output)
        };
        temporary.leave(self.options.keep_when_cancelled);
        let sizes = Sizes { part: left.part, ahead: FILE_AHEAD, connections: connections() };
        let outcome = self.source.receive(left, sizes, first, output, &self.options.budget, self.progress);
        outcome.await
    }
}

/// Bytes of a part of a blob of `size` bytes.
const fn part_size(size: u64) -> u64 {
    if size >= LARGE { 2 * PART } else { PART }
}

/// What is asked for first. Without a range where all will come at once, so that an empty blob is nothing special.
fn first_range(recorded: Option<u64>, part: u64) -> Range<u64> {
    if recorded.is_some_and(|size| size <= part) { 0..u64::MAX } else { 0..part }
}

/// Most connections for one blob: what a core can take from several of them, and what one store gives to each, differ by no
/// more than that.
fn connections() -> usize {
    // Asked once: the answer takes the reading of several files.
    static MOST: LazyLock<usize> = LazyLock::new(|| {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        (2 * cores).clamp(4, MOST_CONNECTIONS)
    });
    *MOST
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
    writer: impl io::Write + Send + 'static,
    progress: Progress<'_>,
) -> Result<u64> {
    let source = Source { store, artifact, patience: Patience::default() };
    let first = source.first(first_range(artifact.size, STREAM_PART)).await?;
    let left = Left::nothing(first.size(), STREAM_PART);
    let sizes = Sizes { part: STREAM_PART, ahead: STREAM_AHEAD, connections: connections() };
    let budget = Budget::default();
    let received = source.receive(left, sizes, Some(first), Stream(writer), &budget, progress);
    let (size, outcome) = received.await?;
    let verified = outcome.map_err(output_failure)?.verify(artifact)?;
    blocking(move || verified.into_output().0.flush().map_err(output_failure)).await?;
    Ok(size)
}

fn output_failure(error: io::Error) -> Error {
    let why = format!("cannot write the output: {}", io_reason(&error));
    Error::new(Meaning::Local { why }, "write the output").with_source(error)
}
