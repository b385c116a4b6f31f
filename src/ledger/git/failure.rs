//! What can fail within the adapter: an error for the caller, or a clone in the cache that must be made anew.

use crate::error::Error;

/// A failure.
#[derive(Debug)]
pub(super) enum Failure {
    /// The caller's business.
    Error(Error),
    /// The clone is damaged, or gone: what git said. Nothing that it holds is needed.
    Broken(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Failure {
    /// The same for another of those whom one step served.
    pub(super) fn alike(&self) -> Self {
        match self {
            Self::Error(error) => Self::Error(error.alike()),
            Self::Broken(said) => Self::Broken(said.clone()),
        }
    }
}
