//! Looking for what is odd in a package and harms nobody by itself: numbers that are not the time of their writing, and a
//! hint for 2015 readers that lags.

use jiff::{SignedDuration, Timestamp};

use super::{ObjectLedger, keys};
use crate::error::Result;
use crate::ledger::{ConditionalObjects, Findings};
use crate::model::{Numbering, PackageName, Version, VersionRecord};

/// A number that is further than this from the time of its writing was not given by the server's clock.
const MISPLACED: SignedDuration = SignedDuration::from_mins(5);

/// How far the time that a version says is ahead of the time at which its object was written.
fn ahead(version: Version, written: Timestamp) -> Option<SignedDuration> {
    let said = Timestamp::from_millisecond(version.get()).ok()?;
    Some(said.duration_since(written))
}

/// Whether an object that was written long after the time in its number was rewritten or copied since: its record says
/// the same time, or is a tombstone.
fn was_rewritten(record: &VersionRecord, version: Version) -> bool {
    let close = |at: Timestamp| ahead(version, at).is_some_and(|ahead| ahead.abs() <= MISPLACED);
    record.is_removed() || record.added_at.is_some_and(close)
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    pub(super) async fn findings(&self, package: &PackageName) -> Result<Findings> {
        let hint = self.lagging_hint(package).await?;
        let shown = |version: Option<Version>| {
            version.map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"))
        };
        let lagging_hint =
            hint.map(|(says, newest)| format!("it names {}, the newest is {}", shown(says), shown(newest)));
        let mut findings = Findings { lagging_hint, misplaced: Vec::new() };
        if self.known_numbering().await? != Numbering::Timestamp {
            return Ok(findings);
        }
        let prefix = keys::versions(package);
        for (key, written) in self.objects.written(&prefix).await? {
            let Ok(version) = key[prefix.len()..].parse::<Version>() else { continue };
            let Some(ahead) = ahead(version, written).filter(|ahead| ahead.abs() > MISPLACED) else {
                continue;
            };
            let rewritten = ahead.is_negative()
                && self
                    .any_version(package, version)
                    .await?
                    .is_none_or(|record| was_rewritten(&record, version));
            if !rewritten {
                findings.misplaced.push((version, ahead));
            }
        }
        Ok(findings)
    }
}
