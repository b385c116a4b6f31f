//! How a command can end before its end.

use crate::error::Error;
use crate::exit::Exit;

/// The result of a command, and of everything inside it that prints.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command stopped.
#[derive(Debug)]
pub(super) enum Failure {
    /// It failed.
    Error(Error),
    /// It failed, and the user was told already.
    Reported(Exit),
    /// Whoever reads the answer has enough of it (`sacker list | head -1`). Not a failure of ours.
    ClosedPipe,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
