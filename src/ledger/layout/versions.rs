//! Versions: adding one, finding the newest, reading them all.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::records::StoredVersion;
use super::{ObjectLedger, PAGE, READS, keys, records};
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::{ConditionalObjects, Newest, Precondition, Put, Revision};
use crate::model::{NewVersion, Numbering, PackageName, TagName, Version, VersionRecord, check_basename};

/// The number to try after `version` was found taken, for the `taken`th time. In a sequence it is the next one: a taken
/// number proves that it exists, so no gap arises. Timestamps step ahead by a random number from a doubling window, since
/// many writers that share one clock and walk by 1 would meet again and again (quadratic).
fn following(version: Version, numbering: Numbering, taken: u32) -> Option<Version> {
    let step = match numbering {
        Numbering::Sequence => 1,
        Numbering::Timestamp if taken <= 3 => 1,
        Numbering::Timestamp => fastrand::i64(1..=1 << (taken - 3).min(16)),
    };
    version.get().checked_add(step).and_then(Version::new)
}

/// Whose a version number is, after a write that was not confirmed.
enum Taken {
    Ours,
    Other,
    Not,
}

/// The hint object as it was read.
struct Hint {
    version: Option<Version>,
    revision: Option<Revision>,
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    /// The record of a version, removed or not; nothing if it was never added.
    async fn any_version(&self, package: &PackageName, version: Version) -> Result<Option<VersionRecord>> {
        Ok(self.stored_version(package, version).await?.map(|stored| stored.record))
    }

    /// The same with what only writers look at.
    pub(super) async fn stored_version(
        &self,
        package: &PackageName,
        version: Version,
    ) -> Result<Option<StoredVersion>> {
        let key = keys::version(package, version);
        let object = self.objects.get(&key).await?;
        object.map(|object| records::decode_stored_version(package, version, &key, object)).transpose()
    }

    /// Whether the package has any version, removed ones included.
    pub(super) async fn has_versions(&self, package: &PackageName) -> Result<bool> {
        let prefix = keys::versions(package);
        Ok(!self.objects.list(&prefix, &prefix, 1).await?.is_empty())
    }

    pub(super) async fn live_version(
        &self,
        package: &PackageName,
        version: Version,
    ) -> Result<VersionRecord> {
        match self.any_version(package, version).await? {
            Some(record) if record.is_removed() => {
                Err(Error::not_found(Missing::Removed(package.clone(), version)))
            }
            Some(record) => Ok(record),
            None => Err(Error::not_found(Missing::Version(package.clone(), version))),
        }
    }

    async fn hint(&self, package: &PackageName) -> Result<Hint> {
        let key = keys::latest_hint(package);
        let Some(object) = self.objects.get(&key).await? else {
            return Ok(Hint { version: None, revision: None });
        };
        // Whatever stands there is only a hint, also when it makes no sense.
        let stored = records::decode_pointer(&TagName::existing(keys::LATEST), &key, &object.bytes);
        let version = stored.ok().and_then(|stored| stored.state?.version);
        Ok(Hint { version, revision: Some(object.revision) })
    }

    /// Raises the hint to `version`, unless it is there or beyond already. Best effort: every reader of ours finds the
    /// newest version without it.
    async fn raise_hint(&self, package: &PackageName, version: Version, mut hint: Hint) {
        let key = keys::latest_hint(package);
        for _ in 0..3 {
            if hint.version.is_some_and(|there| there >= version) {
                return;
            }
            let precondition = hint.revision.map_or(Precondition::Absent, Precondition::Revision);
            let body = records::encode_hint(Some(version));
            match self.objects.put(&key, body, precondition, &BTreeMap::new()).await {
                Ok(Put::Written(_)) => return,
                Ok(Put::Refused) => match self.hint(package).await {
                    Ok(again) => hint = again,
                    Err(_) => return,
                },
                Err(error) => {
                    tracing::debug!(%package, %error, "the hint for 2015 readers was not updated");
                    return;
                }
            }
        }
    }

    /// Makes the hint name the newest version that was not removed. Returns what it named before and names now, if it
    /// had to be changed.
    pub(super) async fn repair_hint(
        &self,
        package: &PackageName,
    ) -> Result<Option<(Option<Version>, Option<Version>)>> {
        let key = keys::latest_hint(package);
        let mut backoff = self.backoff();
        loop {
            let hint = self.hint(package).await?;
            let newest = self.newest_after(package, &hint).await?.map(|record| record.version);
            if hint.version == newest {
                return Ok(None);
            }
            let precondition = hint.revision.map_or(Precondition::Absent, Precondition::Revision);
            let body = records::encode_hint(newest);
            match self.objects.put(&key, body, precondition, &BTreeMap::new()).await? {
                Put::Written(_) => return Ok(Some((hint.version, newest))),
                Put::Refused if backoff.pause().await => {}
                Put::Refused => {
                    return Err(Error::new(Meaning::Throttled, "repair the hint").with_key(key));
                }
            }
        }
    }

    /// The same, best effort: every reader of ours finds the newest version without it.
    pub(super) async fn settle_hint(&self, package: &PackageName) {
        if let Err(error) = self.repair_hint(package).await {
            tracing::debug!(%package, %error, "the hint for 2015 readers was not updated");
        }
    }

    /// All version numbers above `after`, in ascending order, removed ones included.
    async fn numbers(&self, package: &PackageName, after: Option<Version>) -> Result<Vec<Version>> {
        let prefix = keys::versions(package);
        let mut start = after.map_or_else(|| prefix.clone(), |version| keys::version(package, version));
        let mut numbers = Vec::new();
        loop {
            let page = self.objects.list(&prefix, &start, PAGE).await?;
            // Other keys there belong to a package of 2015 whose name contains `/versions/`.
            numbers.extend(page.iter().filter_map(|entry| entry.key[prefix.len()..].parse::<Version>().ok()));
            match page.last() {
                Some(last) if page.len() == PAGE => start.clone_from(&last.key),
                _ => break,
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The highest version number, removed versions included.
    async fn highest(&self, package: &PackageName, hint: &Hint) -> Result<Option<Version>> {
        match self.numbering().await? {
            Numbering::Sequence => self.highest_in_sequence(package, hint.version).await,
            Numbering::Timestamp => {
                // List from the hint itself on, so that a hint that names a real version is never alone the answer.
                let before = hint.version.and_then(|version| Version::new(version.get() - 1));
                let mut numbers = self.numbers(package, before).await?;
                if numbers.is_empty() && before.is_some() {
                    numbers = self.numbers(package, None).await?;
                }
                Ok(numbers.pop())
            }
        }
    }

    /// Sequence numbers have no gap, so the highest is found by doubling steps from the hint and halving back: a few
    /// reads whatever the number of versions, where listing text keys would mean reading them all.
    async fn highest_in_sequence(
        &self,
        package: &PackageName,
        hint: Option<Version>,
    ) -> Result<Option<Version>> {
        let exists = async |number: i64| match Version::new(number) {
            Some(version) => {
                self.objects.get(&keys::version(package, version)).await.map(|object| object.is_some())
            }
            None => Ok(false),
        };
        let mut low = hint.map_or(0, Version::get);
        // A hint that a 2015 client set by hand may name no version at all.
        if low > 0 && !exists(low).await? {
            low = 0;
        }
        let mut step = 1_i64;
        while exists(low.saturating_add(step)).await? && low < i64::MAX {
            low = low.saturating_add(step);
            step = step.saturating_mul(2);
        }
        let mut high = low.saturating_add(step);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if exists(middle).await? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Version::new(low))
    }

    pub(super) async fn latest_version(&self, package: &PackageName) -> Result<VersionRecord> {
        let hint = self.hint(package).await?;
        let none = || Error::not_found(Missing::Package(package.clone()));
        self.newest_after(package, &hint).await?.ok_or_else(none)
    }

    /// The newest version that was not removed; nothing if there is none.
    async fn newest_after(&self, package: &PackageName, hint: &Hint) -> Result<Option<VersionRecord>> {
        let Some(highest) = self.highest(package, hint).await? else { return Ok(None) };
        match self.any_version(package, highest).await? {
            Some(record) if !record.is_removed() => Ok(Some(record)),
            // The newest was removed: rare, so the general way is good enough.
            _ => Ok(self.newest_versions(package, 1).await?.records.into_iter().next()),
        }
    }

    /// The highest number by listing them all.
    pub(super) async fn highest_listed(&self, package: &PackageName) -> Result<Option<Version>> {
        Ok(self.numbers(package, None).await?.pop())
    }

    pub(super) async fn newest_versions(&self, package: &PackageName, count: usize) -> Result<Newest> {
        if self.numbering().await? == Numbering::Sequence {
            let hint = self.hint(package).await?;
            let highest = self.highest(package, &hint).await?.map_or(0, Version::get);
            let downwards = (1..=highest).rev().filter_map(Version::new);
            if let Some(records) = self.newest_of(package, downwards, count).await?
                && highest > 0
            {
                return Ok(Newest { records, version_count: highest.unsigned_abs() });
            }
            // A sequence with a hole is none: a client that numbers otherwise wrote here. Only a listing knows.
        }
        let numbers = self.numbers(package, None).await?;
        if numbers.is_empty() {
            return Err(Error::not_found(Missing::Package(package.clone())));
        }
        let records = self.newest_of(package, numbers.iter().rev().copied(), count).await?;
        Ok(Newest { records: records.unwrap_or_default(), version_count: numbers.len() as u64 })
    }

    /// The first `count` records of `versions` that were not removed; nothing if one of them does not exist.
    async fn newest_of(
        &self,
        package: &PackageName,
        versions: impl Iterator<Item = Version> + Send,
        count: usize,
    ) -> Result<Option<Vec<VersionRecord>>> {
        let read = |version: Version| self.any_version(package, version);
        let mut found = stream::iter(versions).map(read).buffered(count.clamp(1, READS));
        let mut records = Vec::new();
        while records.len() < count
            && let Some(record) = found.try_next().await?
        {
            match record {
                None => return Ok(None),
                Some(record) if record.is_removed() => {}
                Some(record) => records.push(record),
            }
        }
        Ok(Some(records))
    }

    pub(super) async fn all_versions(&self, package: &PackageName) -> Result<Vec<VersionRecord>> {
        let numbers = self.numbers(package, None).await?;
        if numbers.is_empty() {
            return Err(Error::not_found(Missing::Package(package.clone())));
        }
        let read = |version: Version| self.any_version(package, version);
        let records: Vec<_> = stream::iter(numbers).map(read).buffered(READS).try_collect().await?;
        Ok(records.into_iter().flatten().collect())
    }

    /// Adds a version: create-only at the next number, walking on while others are faster.
    ///
    /// While the outcome of a write is not known, the same key is tried again and no other: the late write and the
    /// repeated one then meet at one create-only key, and one `add` cannot become two versions.
    pub(super) async fn add_version(&self, package: &PackageName, new: &NewVersion) -> Result<VersionRecord> {
        package.check_new()?;
        check_basename(&new.basename)?;
        let (numbering, hint) = self.numbering_and_hint(package).await?;
        let highest = match &hint {
            Some(hint) => self.highest(package, hint).await?,
            None => None,
        };
        if let Some(expected) = new.if_latest {
            self.check_latest(package, expected, highest, numbering).await?;
        }
        let full = || Error::invalid(format!("package '{package}' has no version number left"));
        let after = highest.map_or(Some(Version::FIRST), Version::next).ok_or_else(full)?;
        let now = self.connect.clock.now();
        let mut version = match numbering {
            Numbering::Sequence => after,
            Numbering::Timestamp => {
                Version::new(now.as_millisecond()).map_or(after, |stamp| stamp.max(after))
            }
        };
        let body = records::encode_version(new, now);
        records::check_size(&body)?;
        let mut backoff = self.backoff();
        let mut taken = 0_u32;
        let mut in_doubt = false;
        loop {
            let key = keys::version(package, version);
            let put = self.objects.put(&key, body.clone(), Precondition::Absent, &new.metadata).await;
            let failure = match put {
                Ok(Put::Written(_)) => break,
                Ok(Put::Refused) => None,
                Err(error) if !error.is_transient() && !in_doubt => return Err(error),
                Err(error) => Some(error),
            };
            in_doubt |= failure.is_some();
            let found = match self.any_version(package, version).await {
                // A refusal without any doubt is somebody else's version, whether or not this client may look at it.
                Err(error) if !in_doubt && matches!(error.meaning(), Meaning::Denied { .. }) => {
                    Ok(Taken::Other)
                }
                Err(error) => Err(error),
                Ok(Some(record)) if record.add_id.as_ref() == Some(&new.add_id) => Ok(Taken::Ours),
                Ok(Some(_)) => Ok(Taken::Other),
                Ok(None) => Ok(Taken::Not),
            };
            match found {
                Ok(Taken::Ours) => break,
                Ok(Taken::Other) if new.if_latest.is_some() => {
                    let expected = new
                        .if_latest
                        .map_or_else(String::new, |version| format!("version {version} as the newest"));
                    let meaning = Meaning::Conflict { expected, found: format!("version {version}") };
                    return Err(Error::new(meaning, "add a version").with_key(key));
                }
                // Create-only: whatever of ours is still under way to this key can have no effect any more.
                Ok(Taken::Other) => {
                    in_doubt = false;
                    taken += 1;
                    version = following(version, numbering, taken).ok_or_else(full)?;
                }
                Ok(Taken::Not)
                    if failure.as_ref().is_none_or(Error::is_transient) && backoff.pause().await => {}
                Err(error) if error.is_transient() && backoff.pause().await => {}
                Ok(Taken::Not) => {
                    let failure = failure
                        .unwrap_or_else(|| Error::new(Meaning::Unavailable, "add a version").with_key(key));
                    return Err(failure.in_doubt(&new.add_id));
                }
                Err(error) => return Err(failure.unwrap_or(error).in_doubt(&new.add_id)),
            }
        }
        if let Some(hint) = hint {
            self.raise_hint(package, version, hint).await;
        }
        let key = keys::version(package, version);
        let object = crate::ledger::Object {
            bytes: body,
            revision: Revision(String::new()),
            metadata: BTreeMap::new(),
        };
        records::decode_version(package, version, &key, &object)
    }

    /// How to number, and where to start looking. No hint: this client may not read the package, only write it, and its
    /// clock is all it has.
    async fn numbering_and_hint(&self, package: &PackageName) -> Result<(Numbering, Option<Hint>)> {
        let denied = |error: &Error| matches!(error.meaning(), Meaning::Denied { .. });
        match (self.numbering().await, self.hint(package).await) {
            (Ok(numbering), Ok(hint)) => Ok((numbering, Some(hint))),
            (Ok(Numbering::Timestamp), Err(error)) if denied(&error) => Ok((Numbering::Timestamp, None)),
            (Err(unknown), Err(error)) if denied(&unknown) && denied(&error) => {
                Ok((Numbering::Timestamp, None))
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Checks `--if-version`. Only sequence numbers can promise it: there, the next number is one key that one writer
    /// gets; with timestamps two writers take two keys.
    async fn check_latest(
        &self,
        package: &PackageName,
        expected: Version,
        highest: Option<Version>,
        numbering: Numbering,
    ) -> Result<()> {
        if numbering == Numbering::Timestamp {
            return Err(Error::invalid(
                "a ledger with timestamp versions cannot add on condition of the newest version",
            ));
        }
        if highest == Some(expected) {
            return Ok(());
        }
        let found = match self.latest_version(package).await {
            Ok(record) if record.version == expected => return Ok(()),
            Ok(record) => format!("version {}", record.version),
            Err(error) if error.is_not_found() => "no version".to_owned(),
            Err(error) => return Err(error),
        };
        let expected = format!("version {expected} as the newest");
        let meaning = Meaning::Conflict { expected, found };
        Err(Error::new(meaning, "add a version").with_key(keys::versions(package)))
    }
}
