//! A ledger or a store in a local directory.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::parts::{Parts, Use, grace, shown_grace, write_query};
use crate::error::Result;

/// `file:///<absolute path>`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileLocation {
    /// The directory.
    pub path: PathBuf,
    /// Stores only: how long an unreferenced blob is left alone, if not as long as usual. All writers of a store and its
    /// garbage collection must agree on it, so it is part of where the store is.
    pub grace: Option<Duration>,
}

impl FileLocation {
    /// A directory, with the usual settings.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), grace: None }
    }
}

pub(super) fn parse(mut parts: Parts<'_>, purpose: Use) -> Result<FileLocation> {
    if !parts.authority.is_empty() || parts.path.is_empty() {
        return Err(parts.broken("it must be file:///<absolute path>"));
    }
    let components = parts.components()?;
    let path = PathBuf::from(format!("/{}", components.join("/")));
    let grace = grace(&mut parts, purpose)?;
    parts.finish(FileLocation { path, grace }, if purpose == Use::Store { "grace" } else { "none" })
}

impl fmt::Display for FileLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.path.display())?;
        write_query(f, &[("grace", shown_grace(self.grace).as_deref())])
    }
}
