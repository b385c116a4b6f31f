//! The one error type below the user interfaces: what went wrong *by meaning*.
//!
//! A backend turns its own errors (HTTP statuses, SDK types, errno) into a [`Meaning`] once, where they arise.
//! Above the `Ledger` and `Store` traits nobody looks at anything else. Messages are stable (no times, no
//! request ids) and never carry a credential or a signed URL.

use std::borrow::Cow;
use std::fmt;

use crate::model::{Hold, PackageName, Sha256, TagName, Version};

/// The result of everything that can fail with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The thing that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// No version was ever added under this name.
    Package(PackageName),
    /// The package exists, this version does not.
    Version(PackageName, Version),
    /// The version existed and was removed; its number is never used again.
    Removed(PackageName, Version),
    /// The package exists, this tag does not.
    Tag(PackageName, TagName),
    /// The tag exists, and never pointed to another version that is still there.
    Earlier(PackageName, TagName),
    /// The store has no such blob.
    Blob(Sha256),
    /// The table, bucket or directory behind a URI does not exist.
    Backend(String),
    /// No object of a cluster shows it. The ledger may have it all the same.
    Shown {
        /// What is not shown.
        what: String,
        /// Where was looked, such as `namespace 'web'`.
        place: String,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(package) => write!(f, "no package '{package}'"),
            Self::Version(package, version) => write!(f, "package '{package}' has no version {version}"),
            Self::Removed(package, version) => {
                write!(f, "version {version} of package '{package}' was removed")
            }
            Self::Tag(package, tag) => write!(f, "package '{package}' has no tag '{tag}'"),
            Self::Earlier(package, tag) => {
                write!(f, "no earlier version of tag '{tag}' of package '{package}'")
            }
            Self::Blob(sha256) => write!(f, "no blob {sha256}"),
            Self::Backend(what) => write!(f, "{what} does not exist"),
            Self::Shown { what, place } => write!(f, "no object in {place} shows {what}"),
        }
    }
}

/// What an error means to its caller. Matched without a wildcard where a decision hangs on it, so that a new
/// meaning does not compile until it is placed everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// It does not exist (and the backend said so with authority: never a 403 in disguise).
    NotFound(Missing),
    /// A create-only write met something that is already there.
    AlreadyExists {
        /// What is there.
        what: String,
    },
    /// A compare-and-swap lost: the state is not what the caller expected.
    Conflict {
        /// What the caller expected.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The tag is held; only `release` ends that.
    Held(Hold),
    /// The tag belongs to somebody else.
    Owned {
        /// The owner, such as `k8s:<cluster>/<namespace>/<name>`.
        owner: String,
    },
    /// The backend, or an access rule, refused.
    Denied {
        /// The action that was refused, in the backend's words.
        action: String,
        /// What it was refused on.
        resource: String,
    },
    /// The backend asked for less load, until the deadline.
    Throttled,
    /// The backend could not be reached or did not answer, until the deadline.
    Unavailable,
    /// The input breaks a rule; trying again cannot help.
    Invalid {
        /// The rule, in words.
        rule: Cow<'static, str>,
    },
    /// A record or a blob is not what it must be. Never overwritten.
    Corrupt {
        /// Why it cannot be right.
        why: String,
    },
    /// A local file or disk failed.
    Local {
        /// What failed, in words.
        why: String,
    },
    /// A signal ended it.
    Interrupted,
    /// None of the above: a bug, or an answer nobody expected.
    Other,
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(missing) => missing.fmt(f),
            Self::AlreadyExists { what } => write!(f, "{what} already exists"),
            Self::Conflict { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Held(hold) => write!(f, "the tag is held by {hold}"),
            Self::Owned { owner } => write!(f, "the tag is owned by '{owner}'"),
            Self::Denied { action, resource } => write!(f, "access denied: {action} on {resource}"),
            Self::Throttled => f.write_str("the backend asks for less load"),
            Self::Unavailable => f.write_str("the backend is unavailable"),
            Self::Invalid { rule } => f.write_str(rule),
            Self::Corrupt { why } => write!(f, "corrupt: {why}"),
            Self::Local { why } => f.write_str(why),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Other => f.write_str("unexpected failure"),
        }
    }
}

/// A failure with its meaning, what was being done, and the key, table or path it was about.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    meaning: Meaning,
    operation: &'static str,
    key: Option<String>,
    hint: Option<String>,
    unsettled: Option<String>,
    source: Option<Source>,
}

impl Error {
    /// An error met while doing `operation` (a verb phrase such as `read the tag`).
    pub fn new(meaning: Meaning, operation: &'static str) -> Self {
        Self(Box::new(Inner { meaning, operation, key: None, hint: None, unsettled: None, source: None }))
    }

    /// A broken rule of the input.
    pub fn invalid(rule: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Meaning::Invalid { rule: rule.into() }, "check the input")
    }

    /// Something does not exist.
    pub fn not_found(missing: Missing) -> Self {
        Self::new(Meaning::NotFound(missing), "look it up")
    }

    /// A record or blob at `key` is not what it must be.
    pub fn corrupt(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Meaning::Corrupt { why: why.into() }, "read a record").with_key(key)
    }

    /// A local file or directory at `path` failed with `source`.
    pub fn local(operation: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        let why = format!("cannot {operation} '{}': {}", path.display(), crate::error::io_reason(&source));
        Self::new(Meaning::Local { why }, operation).with_source(source)
    }

    /// Names the key, table or path that the error is about.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.0.key = Some(key.into());
        self
    }

    /// Says what to do about it: one line that can be typed or followed.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the error underneath, for logs and `--verbose`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Marks a write whose outcome is not known: the backend stayed away until the deadline. The id is the one
    /// in the record, so that the next run can tell.
    #[must_use]
    pub fn with_unsettled(mut self, id: impl Into<String>) -> Self {
        self.0.unsettled = Some(id.into());
        self
    }

    /// The error of a write that may have happened: `Unavailable`, since every other meaning says that it did not. Keeps
    /// what was being done and to what; this error becomes its source.
    #[must_use]
    pub fn in_doubt(self, id: &str) -> Self {
        let mut open = Self::new(Meaning::Unavailable, self.0.operation).with_unsettled(id);
        open.0.key.clone_from(&self.0.key);
        open.with_source(self)
    }

    /// The same error without what is underneath, for another of those whom one failed request served.
    #[must_use]
    pub fn alike(&self) -> Self {
        let Inner { meaning, operation, key, hint, unsettled, source: _ } = &*self.0;
        Self(Box::new(Inner {
            meaning: meaning.clone(),
            operation,
            key: key.clone(),
            hint: hint.clone(),
            unsettled: unsettled.clone(),
            source: None,
        }))
    }

    /// What it means.
    pub fn meaning(&self) -> &Meaning {
        &self.0.meaning
    }

    /// What was being done, as a verb phrase.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The key, table or path it was about.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The id of a write whose outcome is unknown.
    pub fn unsettled(&self) -> Option<&str> {
        self.0.unsettled.as_deref()
    }

    /// Whether the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self.meaning(), Meaning::NotFound(_))
    }

    /// The rule that a name breaks, where something "does not exist" because no ledger could hold it. Names are looked up
    /// before they are judged, since older clients wrote names that are refused today.
    #[must_use]
    pub fn or_broken_rule(self) -> Self {
        let broken = match self.meaning() {
            Meaning::NotFound(Missing::Package(package)) => package.check_new().err(),
            Meaning::NotFound(Missing::Tag(_, tag)) => {
                tag.check_new().err().map(|error| match tag.meant_version() {
                    Some(version) => error.with_hint(format!("versions are plain numbers: {version}")),
                    None => error,
                })
            }
            _ => None,
        };
        broken.unwrap_or(self)
    }

    /// Whether trying again later may help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self.meaning(), Meaning::Throttled | Meaning::Unavailable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.meaning.fmt(f)?;
        match &self.0.meaning {
            // These name their subject themselves.
            Meaning::NotFound(
                Missing::Package(_)
                | Missing::Version(..)
                | Missing::Removed(..)
                | Missing::Tag(..)
                | Missing::Shown { .. },
            )
            | Meaning::Invalid { .. }
            | Meaning::Local { .. }
            | Meaning::Interrupted => Ok(()),
            _ => {
                write!(f, " (cannot {}", self.0.operation)?;
                if let Some(key) = &self.0.key {
                    write!(f, ": {key}")?;
                }
                f.write_str(")")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The reason of an I/O error in words, without Rust's `(os error N)`.
pub fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_write_in_doubt_is_never_denied() {
        let denied = Meaning::Denied { action: "s3:PutObject".to_owned(), resource: "bucket 'b'".to_owned() };
        let error = Error::new(denied, "write a record").with_key("s3://b/k").in_doubt("id-1");
        assert_eq!(*error.meaning(), Meaning::Unavailable);
        assert_eq!(error.unsettled(), Some("id-1"));
        assert_eq!(error.to_string(), "the backend is unavailable (cannot write a record: s3://b/k)");
        let source = error.source().expect("the first error is kept").to_string();
        assert!(source.contains("access denied"), "{source}");
    }
}
