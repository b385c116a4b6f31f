//! Exit codes, one contract for all three binaries. Scripts depend on them; they never change meaning.

use crate::error::{Error, Meaning};

/// Why a process ended. The number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// A failure that none of the others names.
    Other = 1,
    /// The command line, a name, a URI or the configuration is wrong; nothing was tried.
    Usage = 2,
    /// A package, version, tag or blob does not exist.
    NotFound = 3,
    /// The ledger holds something else than was expected: conflict, held or owned.
    Conflict = 4,
    /// Bytes or records are not what was recorded.
    Integrity = 5,
    /// Refused by the backend, or no credentials.
    Denied = 6,
    /// The backend stayed unavailable until the deadline.
    Unavailable = 7,
    /// The local disk or file system failed.
    LocalIo = 8,
    /// Interrupted by a signal.
    Interrupted = 130,
}

/// Every code with the sentence that help and documentation print for it.
pub const EXIT_CODES: &[(Exit, &str)] = &[
    (Exit::Ok, "done"),
    (Exit::Other, "a failure that no other code names"),
    (Exit::Usage, "wrong command line, name, URI or configuration; nothing was tried"),
    (Exit::NotFound, "no such package, version, tag or blob"),
    (Exit::Conflict, "the tag moved meanwhile, is held, or is owned by someone else"),
    (Exit::Integrity, "bytes or records are not what was recorded"),
    (Exit::Denied, "access denied, or no credentials"),
    (Exit::Unavailable, "the backend stayed unavailable until the deadline"),
    (Exit::LocalIo, "a local file or disk failed"),
    (Exit::Interrupted, "interrupted"),
];

impl Exit {
    /// The process exit code.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        // Whatever else went wrong: the write may exist, and every other code denies that.
        if error.unsettled().is_some() {
            return Self::Unavailable;
        }
        match error.meaning() {
            Meaning::NotFound(_) => Self::NotFound,
            Meaning::AlreadyExists { .. }
            | Meaning::Conflict { .. }
            | Meaning::Held { .. }
            | Meaning::Owned { .. } => Self::Conflict,
            Meaning::Denied { .. } => Self::Denied,
            Meaning::Throttled | Meaning::Unavailable => Self::Unavailable,
            Meaning::Invalid { .. } => Self::Usage,
            Meaning::Corrupt { .. } => Self::Integrity,
            Meaning::Local { .. } => Self::LocalIo,
            Meaning::Interrupted => Self::Interrupted,
            Meaning::Other => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_outcome_is_always_unavailable() {
        for meaning in [
            Meaning::Denied { action: String::new(), resource: String::new() },
            Meaning::Conflict { expected: String::new(), found: String::new() },
            Meaning::Corrupt { why: String::new() },
            Meaning::Interrupted,
            Meaning::Other,
        ] {
            let error = Error::new(meaning, "write a record").with_unsettled("id");
            assert_eq!(Exit::from(&error), Exit::Unavailable, "{error:?}");
        }
    }
}
