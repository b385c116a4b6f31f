//! Work that waits for a disk, off the executor.

use crate::error::{Error, Meaning, Result};

/// Runs it on a thread that may wait.
///
/// # Errors
/// The work's own.
pub(super) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(Meaning::Other, "use the disk").with_source(error)),
    }
}
