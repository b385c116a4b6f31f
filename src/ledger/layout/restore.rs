//! Putting versions and tags of another ledger back: create-only at the numbers they have.
//!
//! What is written is known beforehand to the byte, so a write whose reply was lost needs no id: whoever finds the same
//! content knows that nothing is missing. Not responsible for what may be put back ([`TagDump::missing_from`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::removal::told;
use super::{ObjectLedger, READS, keys, records};
use crate::error::{Error, Meaning, Result};
use crate::ledger::{ConditionalObjects, Pointer, Precondition, Put, Restored, TagDump};
use crate::model::{Event, PackageName, VersionRecord};
use crate::retry::Backoff;

const OPERATION: &str = "put it back";

impl<O: ConditionalObjects> ObjectLedger<O> {
    pub(super) async fn put_version_back(&self, record: &VersionRecord) -> Result<Restored> {
        let (package, version) = (&record.package, record.version);
        check_package(package)?;
        let key = keys::version(package, version);
        let body = records::encode_record(record);
        records::check_tombstone_size(&body)?;
        let beside = record.removal.as_ref().map_or_else(|| record.metadata.clone(), told);
        if self.create(&key, body, &beside).await? {
            return Ok(Restored::Written);
        }
        match self.any_version(package, version).await? {
            Some(there) if there.says_the_same(record) => Ok(Restored::AlreadyThere),
            _ => Err(Error::new(
                Meaning::Conflict {
                    expected: format!("version {version} of package '{package}' as it is put back"),
                    found: "another record".to_owned(),
                },
                OPERATION,
            )
            .with_key(key)),
        }
    }

    pub(super) async fn put_tag_back(&self, package: &PackageName, dump: &TagDump) -> Result<Restored> {
        check_package(package)?;
        dump.tag.check_stored()?;
        let tag = &dump.tag;
        let key = keys::tag(package, tag);
        // It may have stood there before: see `plan`.
        let fence = uuid::Uuid::new_v4().to_string();
        let pointer = match (dump.pointer, dump.events.last()) {
            (Pointer::Event, Some(event)) => records::encode_pointer(event, Some(fence)),
            (Pointer::Legacy(version), _) => records::encode_legacy_pointer(version, fence),
            (Pointer::Deleted, Some(_)) => Bytes::new(),
            (Pointer::Event | Pointer::Deleted, None) => {
                return Err(Error::invalid(format!("tag '{tag}' has neither a version nor a history")));
            }
        };
        records::check_tombstone_size(&pointer)?;
        let mut backoff = self.backoff();
        let mut outcome = Restored::AlreadyThere;
        loop {
            let there = self.pointer(package, tag).await?;
            let events = match self.all_events(package, tag).await {
                Err(error) if error.is_not_found() => Vec::new(),
                events => events?,
            };
            let state = there.as_ref().and_then(|there| there.state());
            let found = TagDump::of(tag.clone(), state, events).map(|(found, _)| found);
            let mut revision = there.as_ref().map(|there| there.revision.clone());
            let missing = dump.missing_from(found.as_ref()).map_err(|contradiction| {
                let (expected, found) = (contradiction.expected, contradiction.found);
                Error::new(Meaning::Conflict { expected, found }, OPERATION).with_key(&key)
            })?;
            if missing.is_empty() {
                return Ok(outcome);
            }
            outcome = Restored::Written;
            let create = |position: usize| {
                let event: &Event = &dump.events[position];
                let row = keys::event(package, tag, event.seq);
                let body = records::encode_event(event);
                async move { self.create(&row, body, &BTreeMap::new()).await }
            };
            // A row that somebody else created meanwhile is looked at in the next round.
            let created = stream::iter(missing.events).map(create).buffered(READS).try_collect::<Vec<bool>>();
            let all_created = created.await?.into_iter().all(|created| created);
            if all_created && !missing.pointer {
                return Ok(outcome);
            }
            let mut may_write = all_created;
            if let (true, Some(version)) = (all_created, dump.version())
                && let Some(target) = self.stored_version(package, version).await?
                && !target.record.is_removed()
            {
                let way = self.make_way(package, tag, &target, revision, &mut backoff).await?;
                may_write = way.is_some();
                revision = way;
            }
            if may_write {
                let precondition = revision.map_or(Precondition::Absent, Precondition::Revision);
                match self.objects.put(&key, pointer.clone(), precondition, &BTreeMap::new()).await {
                    Ok(Put::Written(_)) => return Ok(outcome),
                    Ok(Put::Refused) => {}
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(error),
                }
            }
            if !backoff.pause().await {
                return Err(Error::new(Meaning::Unavailable, OPERATION).with_key(key));
            }
        }
    }

    /// Creates an object; false if the key was taken, be it by an earlier attempt of this call.
    async fn create(&self, key: &str, body: Bytes, metadata: &BTreeMap<String, String>) -> Result<bool> {
        let mut backoff: Backoff = self.backoff();
        loop {
            match self.objects.put(key, body.clone(), Precondition::Absent, metadata).await {
                Ok(Put::Written(_)) => return Ok(true),
                Ok(Put::Refused) => return Ok(false),
                Err(error) if error.is_transient() && backoff.pause().await => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Names of 2015 are kept as they are; only those cannot be that no listing would ever find.
fn check_package(package: &PackageName) -> Result<()> {
    let mut parts = package.as_str().split('/');
    let own = parts.clone().next() == Some(keys::OWN);
    if own || package.as_str().is_empty() || parts.any(|part| keys::RESERVED.contains(&part)) {
        // Every such name breaks a rule for new ones, which says it best.
        package.check_new()?;
    }
    Ok(())
}
