//! What is referred to: a full read of every ledger, and what somebody asks to keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{StreamExt as _, TryStreamExt as _};

use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::Ledger;
use crate::model::Sha256;

/// How many packages are read at a time.
const SIDE_BY_SIDE: usize = 8;

/// Everything that keeps a blob.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// By digest, one of those that refer to it: `<package>@<version>`, or who keeps it.
    pub referrers: BTreeMap<Sha256, String>,
    /// Versions that were read and are not removed.
    pub versions: u64,
    /// The first ledger without a single one.
    pub empty: Option<String>,
}

impl Roots {
    /// Whether anything keeps the blob.
    pub fn contains(&self, sha256: &Sha256) -> bool {
        self.referrers.contains_key(sha256)
    }
}

/// Reads all versions of all packages of `ledgers`; those that are not removed keep their blobs, as do the digests in
/// `kept`. Nothing of it is ever taken from a cache.
///
/// # Errors
/// `Invalid` without a ledger; whatever a ledger says that cannot be read to its end, since a version that was not seen
/// would lose its blob.
pub async fn mark(ledgers: &[Arc<dyn Ledger>], kept: &BTreeMap<Sha256, String>) -> Result<Roots> {
    if ledgers.is_empty() {
        return Err(Error::invalid("no ledger says what is referred to"));
    }
    let mut roots = Roots { referrers: kept.clone(), versions: 0, empty: None };
    for ledger in ledgers {
        let before = roots.versions;
        let versions = ledger.all_packages().map_ok(|package| async move {
            match ledger.versions(&package).await {
                // What only looks like a package, such as the history of a tag called `versions`.
                Err(error) if matches!(error.meaning(), Meaning::NotFound(Missing::Package(_))) => {
                    Ok(Vec::new())
                }
                found => found,
            }
        });
        let mut versions = versions.try_buffer_unordered(SIDE_BY_SIDE);
        while let Some(records) = versions.next().await {
            for record in records?.into_iter().filter(|record| !record.is_removed()) {
                roots.versions += 1;
                let name = || format!("{}@{}", record.package, record.version);
                roots.referrers.entry(record.sha256).or_insert_with(name);
            }
        }
        if roots.versions == before {
            roots.empty.get_or_insert_with(|| ledger.uri().to_string());
        }
    }
    Ok(roots)
}
