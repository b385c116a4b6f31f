//! Versions: adding one, finding the newest, reading them all.

use std::collections::{BTreeMap, HashMap};
use std::sync::{MutexGuard, PoisonError};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use super::plan::{self, AfterLook, AfterSend, Whereabouts};
use super::records::StoredVersion;
use super::{ObjectLedger, READS, keys, records, sent};
use crate::crash_point::around;
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::{Companion, ConditionalObjects, Precondition, Put, Revision};
use crate::model::{NewVersion, Numbering, PackageName, TagName, Version, VersionRecord, check_basename};

fn is_denied(error: &Error) -> bool {
    matches!(error.meaning(), Meaning::Denied { .. })
}

/// The hint object as it was read.
pub(super) struct Hint {
    version: Option<Version>,
    revision: Option<Revision>,
}

/// The write that makes `hint` name `version`; nothing where it names that or a newer one.
fn raised_hint(package: &PackageName, version: Version, hint: &Hint) -> Option<Companion> {
    plan::raises(hint.version, version).then(|| Companion {
        key: keys::latest_hint(package),
        bytes: records::encode_hint(Some(version)),
        precondition: hint.revision.clone().map_or(Precondition::Absent, Precondition::Revision),
    })
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    /// The record of a version, removed or not; nothing if it was never added.
    pub(super) async fn any_version(
        &self,
        package: &PackageName,
        version: Version,
    ) -> Result<Option<VersionRecord>> {
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
        let decode =
            |object| self.placed(&key, records::decode_stored_version(package, version, &key, object));
        object.map(decode).transpose()
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

    pub(super) async fn hint(&self, package: &PackageName) -> Result<Hint> {
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
        for _ in 0..3 {
            let Some(raised) = raised_hint(package, version, &hint) else { return };
            let nothing = BTreeMap::new();
            let put = self.objects.put(&raised.key, raised.bytes, raised.precondition, &nothing);
            match around("ledger.hint", put).await {
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

    fn added_blindly(&self) -> MutexGuard<'_, HashMap<PackageName, Version>> {
        // Whoever panicked had inserted or not.
        self.added_blindly.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the hint without knowing what is there, as the 2015 client does: the only way for a client that may not read
    /// (`If-Match` needs the right to read, and creating it alone would leave 2015 readers at the first version for good).
    /// Of two such clients at the same moment the later reply wins; the next one that may read raises it again. One
    /// request, and whatever comes of it is fine: a policy may well refuse it.
    async fn set_hint_blindly(&self, package: &PackageName, version: Version) {
        let key = keys::latest_hint(package);
        let body = records::encode_hint(Some(version));
        let metadata = BTreeMap::new();
        let put = around("ledger.hint", self.objects.put(&key, body, Precondition::None, &metadata));
        if let Err(error) = put.await {
            tracing::debug!(%package, %error, "the hint for 2015 readers was not set");
        }
    }

    /// The time that a version added now gets, and is numbered by where versions are times.
    ///
    /// # Errors
    /// `Invalid` when versions are times and this machine's clock is plainly wrong, unless that was allowed.
    fn time_of_add(&self, numbering: Numbering) -> Result<Timestamp> {
        let Some(server) = self.objects.server_time() else { return Ok(self.connect.clock.now()) };
        if numbering == Numbering::Timestamp {
            if !self.connect.allow_skew {
                server.check()?;
            }
            if server.is_notable() {
                self.warned_of_skew.call_once(|| {
                    tracing::warn!(
                        "this machine's clock is {} the server's; versions are numbered by the server's clock",
                        server.words()
                    );
                });
            }
        }
        Ok(server.time)
    }

    /// What the hint names and what it should, where that differs.
    pub(super) async fn lagging_hint(
        &self,
        package: &PackageName,
    ) -> Result<Option<(Option<Version>, Option<Version>)>> {
        let hint = self.hint(package).await?;
        let newest = self.newest_after(package, &hint).await?.map(|record| record.version);
        Ok((hint.version != newest).then_some((hint.version, newest)))
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
            let put =
                around("ledger.hint", self.objects.put(&key, body, precondition, &BTreeMap::new())).await;
            match put? {
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
        let start = after.map_or(prefix, |version| keys::version(package, version));
        Ok(self.listed_versions(package, &start).await?.into_keys().collect())
    }

    /// The highest version number, removed versions included.
    pub(super) async fn highest(&self, package: &PackageName, hint: &Hint) -> Result<Option<Version>> {
        match self.known_numbering().await? {
            Numbering::Sequence => self.highest_in_sequence(package, hint.version).await,
            Numbering::Timestamp => {
                // List from the hint itself on, so that a hint that names a real version is never alone the answer.
                // Only among numbers of this length is the order of texts that of numbers: an import may bring others.
                let stamp = hint.version.filter(|version| version.get() >= super::FIRST_TIMESTAMP);
                let before = stamp.and_then(|version| Version::new(version.get() - 1));
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
    pub(super) async fn highest_in_sequence(
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
        // Where it was read already it costs nothing, also for a client that may not read the package.
        if hint.is_some() || self.own.initialized() {
            self.check_writable().await?;
        }
        let highest = match &hint {
            Some(hint) => self.highest(package, hint).await?,
            // All it knows. What is learned of the server's clock may set it back by a second; its versions must not go back.
            None => self.added_blindly().get(package).copied(),
        };
        if let Some(expected) = new.if_latest {
            self.check_latest(package, expected, highest, numbering).await?;
        }
        let open = |key: &str| Error::new(Meaning::Unavailable, "add a version").with_key(key);
        let full = || Error::invalid(format!("package '{package}' has no version number left"));
        let now = self.time_of_add(numbering)?;
        let mut version = plan::first_number(numbering, highest, now).ok_or_else(full)?;
        let body = records::encode_version(new, now);
        records::check_size(&body)?;
        let mut backoff = self.backoff();
        let mut taken = 0_u32;
        let mut in_doubt = false;
        let mut is_hinted;
        loop {
            let key = keys::version(package, version);
            let raised = hint.as_ref().and_then(|hint| raised_hint(package, version, hint));
            let put = self.put_both(&key, body.clone(), Precondition::Absent, &new.metadata, raised);
            let put = around("ledger.version", put).await;
            is_hinted = matches!(put, Ok((_, true)));
            let (sent, failure) = sent(put.map(|(put, _)| put));
            match plan::after_send(sent, in_doubt) {
                AfterSend::Committed => break,
                AfterSend::Fail => return Err(failure.unwrap_or_else(|| open(&key))),
                AfterSend::LookBack(doubt) => in_doubt = doubt,
            }
            let whereabouts = match self.whose(package, version, new, (hint.is_some(), in_doubt)).await {
                Err(error) if is_denied(&error) && hint.is_none() => {
                    let unseen = plan::unseen(sent);
                    if unseen == Whereabouts::Beaten {
                        tracing::warn!(
                            "version {version} of package '{package}' may be the same file: the reply to its write was lost, \
                             and this client may not look"
                        );
                    }
                    Ok(unseen)
                }
                whose => whose,
            };
            match whereabouts.map(|found| plan::after_add(found, sent)) {
                Ok(AfterLook::Committed) => break,
                Ok(AfterLook::Beaten) if new.if_latest.is_some() => {
                    let expected = new
                        .if_latest
                        .map_or_else(String::new, |version| format!("version {version} as the newest"));
                    let meaning = Meaning::Conflict { expected, found: format!("version {version}") };
                    return Err(Error::new(meaning, "add a version").with_key(key));
                }
                Ok(AfterLook::Beaten) => {
                    in_doubt = false;
                    taken += 1;
                    version = plan::following(version, numbering, taken).ok_or_else(full)?;
                }
                Ok(AfterLook::Again) if backoff.pause().await => {}
                Err(error) if error.is_transient() && backoff.pause().await => {}
                Ok(AfterLook::Again | AfterLook::Open) => {
                    return Err(failure.unwrap_or_else(|| open(&key)).in_doubt(&new.add_id));
                }
                Err(error) => return Err(failure.unwrap_or(error).in_doubt(&new.add_id)),
            }
        }
        if let Some(hint) = hint {
            if !is_hinted {
                self.raise_hint(package, version, hint).await;
            }
        } else {
            self.added_blindly().insert(package.clone(), version);
            self.set_hint_blindly(package, version).await;
        }
        let key = keys::version(package, version);
        let object = crate::ledger::Object {
            bytes: body,
            revision: Revision(String::new()),
            metadata: BTreeMap::new(),
        };
        records::decode_version(package, version, &key, &object)
    }

    /// Whose a version number is, after a write to it that was not confirmed. `in_doubt`: an earlier write of ours may
    /// have happened.
    async fn whose(
        &self,
        package: &PackageName,
        version: Version,
        new: &NewVersion,
        (may_read, in_doubt): (bool, bool),
    ) -> Result<Whereabouts> {
        if !may_read && !in_doubt {
            return Ok(Whereabouts::Beaten);
        }
        match self.any_version(package, version).await {
            // A refusal without any doubt is somebody else's version, whether or not this client may look at it.
            Err(error) if is_denied(&error) && !in_doubt => Ok(Whereabouts::Beaten),
            Err(error) => Err(error),
            Ok(found) => {
                let there = found.as_ref().map(|record| record.add_id.as_deref());
                Ok(plan::taken(there, &new.add_id))
            }
        }
    }

    /// How to number, and where to start looking. No hint: this client may not read the package, only write it, and its
    /// clock is all it has.
    async fn numbering_and_hint(&self, package: &PackageName) -> Result<(Numbering, Option<Hint>)> {
        match (self.known_numbering().await, self.hint(package).await) {
            (Ok(numbering), Ok(hint)) => Ok((numbering, Some(hint))),
            (Ok(Numbering::Timestamp), Err(error)) if is_denied(&error) => Ok((Numbering::Timestamp, None)),
            (Ok(Numbering::Sequence), Err(error)) if is_denied(&error) => Err(error
                .with_hint("the next number of a sequence is found by reading: allow this client to read")),
            (Err(unknown), Err(error)) if is_denied(&unknown) && is_denied(&error) => {
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
