//! All that a ledger knows of one package, read so that it fits together.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::ledger::{Ledger, TagDump};
use crate::model::{PackageName, TagName, TagState, VersionRecord};

/// How often tags are looked at again that moved between two looks. One that still does not settle is a 2015 client's.
const LOOKS: usize = 5;

/// One package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageDump {
    /// All versions in ascending order, removed ones as tombstones.
    pub versions: Vec<VersionRecord>,
    /// All tags by name, removed ones too.
    pub tags: Vec<TagDump>,
}

impl PackageDump {
    /// Reads a package. Each tag is as it was at one moment, and the versions that it points to are there; the tags of a
    /// package that is being worked on are not all of the same moment.
    ///
    /// # Errors
    /// `NotFound(Package)` when there is nothing of it; what the ledger says otherwise.
    pub async fn read(ledger: &dyn Ledger, package: &PackageName) -> Result<Self> {
        // Tags before versions: versions are only ever added, so what a tag points to is read after it.
        let tags = Self::read_tags(ledger, package).await;
        let mut versions = match ledger.versions(package).await {
            // A client of 2015 tags without looking, also a package that has no version.
            Err(error) if error.is_not_found() && tags.as_ref().is_ok_and(|tags| !tags.is_empty()) => {
                Vec::new()
            }
            versions => versions?,
        };
        let tags = match tags {
            Err(error) if error.is_not_found() => Vec::new(),
            tags => tags?,
        };
        versions.sort_by_key(|record| record.version);
        Ok(Self { versions, tags })
    }

    /// The same, empty for a package that is not there.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn read_if_there(ledger: &dyn Ledger, package: &PackageName) -> Result<Self> {
        match Self::read(ledger, package).await {
            Err(error) if is_absent(&error) => Ok(Self::default()),
            read => read,
        }
    }

    async fn read_tags(ledger: &dyn Ledger, package: &PackageName) -> Result<Vec<TagDump>> {
        let mut states = set_tags(ledger, package).await?;
        let mut open: Vec<TagName> = ledger.tags_ever(package).await?;
        open.extend(states.keys().cloned());
        open.sort();
        open.dedup();
        let mut found = BTreeMap::new();
        for look in 1..=LOOKS {
            let mut uncertain = Vec::new();
            for tag in open {
                let events = match ledger.history(package, &tag).await {
                    Err(error) if error.is_not_found() => Vec::new(),
                    events => events?,
                };
                let state = states.get(&tag);
                if let Some((dump, certain)) = TagDump::of(tag.clone(), state, events) {
                    // The same twice: a 2015 client's doing, and no tag that moves.
                    let same = found.insert(tag.clone(), dump.clone()).is_some_and(|before| before == dump);
                    if !certain && !same {
                        uncertain.push(tag);
                    }
                }
            }
            if uncertain.is_empty() || look == LOOKS {
                break;
            }
            open = uncertain;
            states = set_tags(ledger, package).await?;
        }
        Ok(found.into_values().collect())
    }
}

async fn set_tags(ledger: &dyn Ledger, package: &PackageName) -> Result<BTreeMap<TagName, TagState>> {
    let tags = ledger.tags(package).await?;
    Ok(tags.into_iter().map(|state| (state.tag.clone(), state)).collect())
}

/// Whether the package is not there; unlike a ledger that is not there.
fn is_absent(error: &Error) -> bool {
    use crate::error::{Meaning, Missing};
    matches!(error.meaning(), Meaning::NotFound(Missing::Package(_)))
}
