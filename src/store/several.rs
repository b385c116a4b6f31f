//! Several stores as one: writes go to all in their order, reads to the first that has the blob.
//!
//! A store that does not answer, refuses (S3 says 403 for an absent key where listing is not granted) or lacks the blob is
//! passed over. Not responsible for a store that hands out wrong bytes: nobody knows before they are hashed, see
//! [`crate::fetch`].

use std::ops::Range;
use std::sync::Arc;
#[cfg(feature = "cli")]
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::timing::{Timing, strictest};
#[cfg(feature = "cli")]
use super::{BlobFile, Progress, PutOutcome};
use super::{BlobInfo, BlobReader, Store};
use crate::error::{Error, Meaning, Missing, Result};
use crate::model::Sha256;

/// At least two stores.
#[derive(Debug)]
pub(super) struct Several(Vec<Arc<dyn Store>>);

impl Several {
    pub(super) fn new(stores: Vec<Arc<dyn Store>>) -> Self {
        Self(stores)
    }
}

/// Whether another store may have what this one does not give.
fn is_passed_over(error: &Error) -> bool {
    matches!(
        error.meaning(),
        Meaning::NotFound(_) | Meaning::Unavailable | Meaning::Throttled | Meaning::Denied { .. }
    )
}

/// How much the meaning of one store's error says about all of them: a store that may yet have the blob outweighs one that
/// does not.
fn weight(error: &Error) -> u8 {
    match error.meaning() {
        Meaning::Unavailable | Meaning::Throttled => 3,
        Meaning::Denied { .. } => 2,
        Meaning::NotFound(Missing::Backend(_)) => 1,
        _ => 0,
    }
}

/// What no store gave: the weightiest reason, and what each of them said.
fn all_failed(errors: Vec<(String, Error)>, operation: &'static str) -> Error {
    let each: Vec<String> = errors.iter().map(|(place, error)| format!("{place}: {error}")).collect();
    let weightiest = errors
        .into_iter()
        .map(|(_, error)| error)
        .reduce(|first, next| if weight(&next) > weight(&first) { next } else { first });
    let Some(weightiest) = weightiest else { return Error::new(Meaning::Other, operation) };
    let each = each.join("; ");
    let hint = match weightiest.hint() {
        Some(hint) => format!("{hint} (no store gave it: {each})"),
        None => format!("no store gave it: {each}"),
    };
    let error = Error::new(weightiest.meaning().clone(), operation).with_hint(hint);
    match weightiest.key().map(str::to_owned) {
        Some(key) => error.with_key(key).with_source(weightiest),
        None => error.with_source(weightiest),
    }
}

#[async_trait]
impl Store for Several {
    fn place(&self) -> String {
        self.0.iter().map(|store| store.place()).collect::<Vec<_>>().join(" ")
    }

    fn timing(&self) -> Timing {
        strictest(self.0.iter().map(|store| store.timing()))
    }

    fn parts(&self) -> &[Arc<dyn Store>] {
        &self.0
    }

    async fn init(&self) -> Result<Vec<String>> {
        let mut done = Vec::new();
        for store in &self.0 {
            done.extend(store.init().await?);
        }
        Ok(done)
    }

    /// Ends at the first store that fails: what the ones before it have is of use to the next try.
    #[cfg(feature = "cli")]
    async fn put(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<PutOutcome> {
        // The sum over all stores would be more than the file: what counts is how far the first copy is.
        let reported = AtomicU64::new(0);
        let mut outcome = PutOutcome::AlreadyThere;
        for store in &self.0 {
            let moved = AtomicU64::new(0);
            let advance = |bytes| {
                let reached = moved.fetch_add(bytes, Ordering::Relaxed) + bytes;
                let before = reported.fetch_max(reached, Ordering::Relaxed);
                if reached > before {
                    progress(reached - before);
                }
            };
            if store.put(blob, &advance).await? == PutOutcome::Uploaded {
                outcome = PutOutcome::Uploaded;
            }
        }
        Ok(outcome)
    }

    async fn head(&self, sha256: &Sha256) -> Result<Option<BlobInfo>> {
        let mut errors = Vec::new();
        for store in &self.0 {
            match store.head(sha256).await {
                Ok(Some(info)) => return Ok(Some(info)),
                Ok(None) => {}
                Err(error) if is_passed_over(&error) => errors.push((store.place(), error)),
                Err(error) => return Err(error),
            }
        }
        if errors.is_empty() { Ok(None) } else { Err(all_failed(errors, "look for the blob")) }
    }

    #[cfg(feature = "cli")]
    async fn settle(&self) {
        for store in &self.0 {
            store.settle().await;
        }
    }

    /// A URL cannot go on to the next store, so it is of the first that has the blob and can sign.
    #[cfg(feature = "cli")]
    async fn presign(&self, sha256: &Sha256, expires: std::time::Duration, filename: &str) -> Result<String> {
        let mut errors = Vec::new();
        for store in &self.0 {
            let signed = match store.head(sha256).await {
                Ok(Some(_)) => store.presign(sha256, expires, filename).await,
                Ok(None) => Err(Error::not_found(Missing::Blob(*sha256))),
                Err(error) => Err(error),
            };
            match signed {
                Ok(url) => return Ok(url),
                Err(error) => errors.push((store.place(), error)),
            }
        }
        Err(all_failed(errors, "sign a URL of the blob"))
    }

    async fn open(&self, sha256: &Sha256, range: Range<u64>) -> Result<BlobReader> {
        let mut errors = Vec::new();
        for store in &self.0 {
            match store.open(sha256, range.clone()).await {
                Ok(reader) => return Ok(reader),
                Err(error) if is_passed_over(&error) => {
                    tracing::debug!("{} does not give blob {sha256}: {error}", store.place());
                    errors.push((store.place(), error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(all_failed(errors, "read the blob"))
    }
}
