//! How many bytes may wait in memory, over all transfers of a process.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may wait until those before them were hashed: with what is on its way through a process, and the process
/// itself, 32 MiB in all.
const WINDOW: usize = 6 << 20;

/// A number of bytes that several transfers share.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self::new(WINDOW)
    }
}

/// A part of a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Of no budget.
    pub(super) fn none() -> Self {
        Self { _permit: None }
    }
}

impl Budget {
    /// `bytes` in all.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// `bytes` of it; nothing when so much is not left.
    pub(super) fn share(&self, bytes: usize) -> Option<Share> {
        let bytes = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()?;
        Some(Share { _permit: Some(permit) })
    }
}
