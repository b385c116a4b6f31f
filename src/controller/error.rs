//! What a failure means to a controller: its class decides about trying again, its reason is what people see.

use std::fmt;
use std::time::Duration;

use crate::api::Reason;
use crate::api::conditions::clean;
use crate::error::{Error, Meaning, Missing};

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing: somebody must change something first.
    Stalled,
    /// Wait: it comes by itself, or somebody mends it where no watch can see it.
    Waiting,
    /// Try again, with growing pauses.
    Transient,
}

/// The class and reason of an error from a ledger. Without a wildcard: a new meaning does not compile until it has its
/// place.
pub fn place(meaning: &Meaning) -> (Class, Reason) {
    match meaning {
        Meaning::NotFound(missing) => match missing {
            Missing::Package(_) => (Class::Waiting, Reason::PackageNotFound),
            Missing::Version(..) | Missing::Removed(..) | Missing::Earlier(..) | Missing::Blob(_) => {
                (Class::Waiting, Reason::VersionNotFound)
            }
            Missing::Tag(..) => (Class::Waiting, Reason::FollowedTagNotFound),
            Missing::Backend(_) => (Class::Waiting, Reason::BackendNotFound),
            // No ledger says so: it is about a look into a cluster.
            Missing::Shown { .. } => (Class::Waiting, Reason::Internal),
        },
        // Lost races: the driver has already read again, so by now it is a busy tag.
        Meaning::AlreadyExists { .. } | Meaning::Conflict { .. } => (Class::Transient, Reason::Progressing),
        Meaning::Held(_) => (Class::Waiting, Reason::Held),
        Meaning::Owned { .. } => (Class::Stalled, Reason::Owned),
        Meaning::Denied { .. } => (Class::Waiting, Reason::Denied),
        // Local: a full or broken disk under a file ledger.
        Meaning::Throttled | Meaning::Unavailable | Meaning::Local { .. } => {
            (Class::Transient, Reason::LedgerUnavailable)
        }
        Meaning::Invalid { .. } => (Class::Stalled, Reason::InvalidSpec),
        Meaning::Corrupt { .. } => (Class::Stalled, Reason::Corrupt),
        Meaning::Interrupted | Meaning::Other => (Class::Transient, Reason::Internal),
    }
}

/// Why a pass did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// The ledger failed, in a way that is already in the object's status.
    Ledger(Error),
    /// The Kubernetes API failed.
    Api {
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// The Kubernetes API did not answer in time while this was being done.
    TimedOut(&'static str),
    /// This process may not write any more: another one leads.
    NotLeading,
    /// Not a failure, but not the end either: the object's deletion waits, and is looked at again after this long.
    Waiting(Duration),
    /// The code panicked, with this message.
    Panicked(String),
}

impl Failure {
    /// A failure of the Kubernetes API.
    pub fn api(operation: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { operation, source: Box::new(source) }
    }

    /// The reason for the metric label.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Ledger(error) => place(error.meaning()).1,
            Self::Api { .. } | Self::TimedOut(_) => Reason::ApiUnavailable,
            Self::NotLeading => Reason::Progressing,
            Self::Waiting(_) => Reason::Deleting,
            Self::Panicked(_) => Reason::Internal,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(error) => error.fmt(f),
            Self::Api { operation, source } => match source.as_ref() {
                // Its Debug form has the whole answer, several times.
                kube::Error::Api(status) => {
                    write!(f, "cannot {operation}: {} ({})", clean(&status.message), status.code)
                }
                other => write!(f, "cannot {operation}: {}", clean(&other.to_string())),
            },
            Self::TimedOut(operation) => {
                write!(f, "cannot {operation}: the API server did not answer in time")
            }
            Self::NotLeading => f.write_str("another replica leads"),
            Self::Waiting(pause) => write!(f, "waiting {pause:?}"),
            Self::Panicked(message) => write!(f, "panic: {message}"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Ledger(error) => Some(error),
            Self::Api { source, .. } => Some(source),
            Self::TimedOut(_) | Self::NotLeading | Self::Waiting(_) | Self::Panicked(_) => None,
        }
    }
}

/// Whether the API server's answer was this status.
pub fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
