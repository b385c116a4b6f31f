//! How a blob and the version that refers to it come into the world, so that a visible version always has its blob.
//!
//! The blob is durable in every store before the ledger hears of it; the ledger hears of it soon enough that garbage
//! collection cannot have condemned the blob meanwhile; and after the ledger knows, one more look finds what slipped
//! through. The times, and why they suffice, are in `docs/adr/0009`. Not responsible for what a version says, nor for
//! hashing the file.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::Result;
use crate::ledger::Ledger;
use crate::model::{NewVersion, PackageName, VersionRecord};
use crate::store::{BlobFile, Progress, PutOutcome, Store};

/// Where versions are published.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    /// The ledger.
    pub ledger: &'a dyn Ledger,
    /// The store, or several as one.
    pub store: &'a dyn Store,
    /// Measures the time between blob and version.
    pub clock: &'a Arc<dyn Clock>,
}

/// A blob that is in the store and stays there for [`crate::store::Timing::publish_within`].
#[derive(Debug, Clone, Copy)]
pub struct Ensured {
    /// Whether its bytes were sent.
    pub outcome: PutOutcome,
    /// When that began to hold, by the monotonic clock.
    since: Duration,
}

/// A published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its record.
    pub record: VersionRecord,
    /// Whether its blob had gone after all, and was stored again.
    pub restored: bool,
}

impl Publisher<'_> {
    /// Makes sure that the blob is in every store.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn ensure(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<Ensured> {
        let before = self.clock.monotonic();
        let outcome = self.store.put(blob, progress).await?;
        let now = self.clock.monotonic();
        let limit = self.store.timing().publish_within();
        if !self.store.parts().is_empty() && now.saturating_sub(before) >= limit {
            // One after the other: what the first store had has aged while the last was sent. Looked at once more.
            self.store.put(blob, &|_| {}).await?;
            return Ok(Ensured { outcome, since: now });
        }
        let since = match outcome {
            // Bytes that were sent are as young as their arrival.
            PutOutcome::Uploaded => self.clock.monotonic(),
            PutOutcome::AlreadyThere => before,
        };
        Ok(Ensured { outcome, since })
    }

    /// Adds the version of a blob that was ensured. If that is too long ago (the machine slept), it is ensured again first.
    ///
    /// # Errors
    /// As [`Ledger::add`] and [`Store::put`]: nothing was added then. `Unavailable` with the id of the add when the version
    /// stands and its blob, found gone, could not be stored again.
    pub async fn record(
        &self,
        package: &PackageName,
        new: &NewVersion,
        blob: BlobFile<'_>,
        ensured: Ensured,
    ) -> Result<Published> {
        // Once: bytes that take longer than that to be sent again are as young as can be.
        if self.clock.monotonic().saturating_sub(ensured.since) >= self.store.timing().publish_within() {
            self.ensure(blob, &|_| {}).await?;
        }
        let record = match self.ledger.add(package, new).await {
            Err(error) if error.unsettled().is_some() => {
                // The version may stand.
                if let Err(gone) = self.look_again(blob).await {
                    tracing::warn!(
                        "whether a version of '{package}' was added is not known, and its blob is gone: {gone}"
                    );
                }
                return Err(error);
            }
            added => added?,
        };
        let restored = self.look_again(blob).await.map_err(|error| {
            tracing::warn!("version {} of '{package}' was added, but its blob is gone: {error}", record.version);
            let hint = format!(
                "version {} was added and its blob was deleted meanwhile; adding the same file again restores it",
                record.version
            );
            error.in_doubt(&new.add_id).with_hint(hint)
        })?;
        Ok(Published { record, restored })
    }

    /// Both, in one.
    ///
    /// # Errors
    /// As [`Publisher::ensure`] and [`Publisher::record`].
    pub async fn publish(
        &self,
        package: &PackageName,
        new: &NewVersion,
        blob: BlobFile<'_>,
    ) -> Result<Published> {
        let ensured = self.ensure(blob, &|_| {}).await?;
        self.record(package, new, blob, ensured).await
    }

    /// Looks for the blob once more and stores it again where it is gone. A writer that may not look, or a store that does
    /// not answer now, changes nothing about a version that was added.
    async fn look_again(&self, blob: BlobFile<'_>) -> Result<bool> {
        let mut restored = false;
        let parts = self.store.parts();
        let each: Vec<&dyn Store> =
            if parts.is_empty() { vec![self.store] } else { parts.iter().map(|part| &**part).collect() };
        for store in each {
            match store.head(&blob.sha256).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    store.put(blob, &|_| {}).await?;
                    restored = true;
                }
                Err(error) => tracing::debug!("could not look for the blob again: {error}"),
            }
        }
        Ok(restored)
    }
}
