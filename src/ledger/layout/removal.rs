//! Removing a version: mark, fence, tombstone ([`super::plan`]).
//!
//! Not responsible for the blob, which stays until it is collected.

use std::collections::{BTreeMap, HashMap};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::plan::{self, Fence, Found, Remove};
use super::records::StoredVersion;
use super::tags::Pointer;
use super::{ObjectLedger, READS, keys, records};
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::{ConditionalObjects, Precondition, Put, Removed, Revision};
use crate::model::{PackageName, Removal, TagName, Version, time};

const OPERATION: &str = "remove a version";

impl StoredVersion {
    pub(super) fn found(&self) -> Found<'_> {
        let fence = self.fence.as_deref();
        if self.record.is_removed() {
            Found::Removed { by: fence }
        } else if let (true, Some(mark)) = (self.removing, fence) {
            Found::Marked { mark }
        } else {
            Found::Live
        }
    }
}

/// The removal as a tombstone's user metadata says it, for 2015 readers: they know neither the key nor the zeros.
fn told(removal: &Removal) -> BTreeMap<String, String> {
    let reason = removal.reason.iter().map(|reason| ("removed_reason".to_owned(), reason.clone()));
    BTreeMap::from([
        ("removed_at".to_owned(), time::format(removal.at)),
        ("removed_by".to_owned(), removal.by.clone()),
    ])
    .into_iter()
    .chain(reason)
    .collect()
}

/// Pointers as they were read before the version was marked: their revision is good enough for a first attempt.
type Pointers = HashMap<TagName, Pointer>;

impl<O: ConditionalObjects> ObjectLedger<O> {
    pub(super) async fn remove(
        &self,
        package: &PackageName,
        version: Version,
        removal: &Removal,
    ) -> Result<Removed> {
        let id = uuid::Uuid::new_v4().to_string();
        let removal = Removal { at: time::to_milliseconds(removal.at), ..removal.clone() };
        let mut backoff = self.backoff();
        let mut pointers = Pointers::new();
        // The marked record that a tombstone of ours may yet replace.
        let mut in_doubt: Option<Revision> = None;
        loop {
            let step = self.remove_step(package, version, &removal, &id, &mut pointers, &mut in_doubt).await;
            let failure = match step {
                Ok(Some(removed)) => {
                    self.settle_hint(package).await;
                    return Ok(removed);
                }
                Ok(None) => {
                    Error::new(Meaning::Throttled, OPERATION).with_key(keys::version(package, version))
                }
                Err(error) => error,
            };
            if failure.is_transient() && backoff.pause().await {
                continue;
            }
            return Err(if in_doubt.is_some() { failure.in_doubt(&id) } else { failure });
        }
    }

    /// One look at the version, and what follows from it. Nothing: look again.
    async fn remove_step(
        &self,
        package: &PackageName,
        version: Version,
        removal: &Removal,
        id: &str,
        pointers: &mut Pointers,
        in_doubt: &mut Option<Revision>,
    ) -> Result<Option<Removed>> {
        let stored = self.stored_version(package, version).await?;
        let found = stored.as_ref().map_or(Found::Nothing, StoredVersion::found);
        let step = plan::remove(found, id);
        let Some(stored) = &stored else { return Err(self.missing_version(package, version).await) };
        if in_doubt.as_ref().is_some_and(|revision| *revision != stored.object.revision) {
            // Whatever of ours is still under way can have no effect any more, or has had it.
            *in_doubt = None;
        }
        match (step, found) {
            (Remove::Done(is_new), _) => Ok(Some(Removed { record: stored.record.clone(), is_new })),
            (Remove::Fence, Found::Marked { mark }) => {
                let tagged = self.fence_all(package, version, mark, std::mem::take(pointers)).await?;
                if !tagged.is_empty() {
                    // Cleared, so that nothing of ours can replace the record later. Not cleared: look again.
                    let cleared = self.set_mark(package, version, stored, false).await?;
                    if cleared {
                        *in_doubt = None;
                    }
                    return if cleared { Err(tags_there(package, version, &tagged)) } else { Ok(None) };
                }
                let key = keys::version(package, version);
                let body = records::encode_tombstone(&key, stored, removal, id)?;
                records::check_tombstone_size(&body)?;
                let revision = stored.object.revision.clone();
                let expected = Precondition::Revision(revision.clone());
                match self.objects.put(&key, body.clone(), expected, &told(removal)).await {
                    Ok(Put::Written(revision)) => {
                        let object = crate::ledger::Object { bytes: body, revision, metadata: told(removal) };
                        let record = records::decode_version(package, version, &key, &object)?;
                        Ok(Some(Removed { record, is_new: true }))
                    }
                    Ok(Put::Refused) => Ok(None),
                    Err(error) => {
                        *in_doubt = in_doubt.take().or(error.is_transient().then_some(revision));
                        Err(error)
                    }
                }
            }
            _ => {
                *pointers = self.all_pointers(package).await?;
                let points = |(tag, pointer): (&TagName, &Pointer)| {
                    (pointer.version() == Some(version)).then(|| tag.clone())
                };
                let tagged: Vec<TagName> = pointers.iter().filter_map(points).collect();
                if !tagged.is_empty() {
                    return Err(tags_there(package, version, &tagged));
                }
                self.set_mark(package, version, stored, true).await.map(|_| None)
            }
        }
    }

    /// Marks a version, or clears its mark; false when the record changed since it was read.
    pub(super) async fn set_mark(
        &self,
        package: &PackageName,
        version: Version,
        stored: &StoredVersion,
        removing: bool,
    ) -> Result<bool> {
        let key = keys::version(package, version);
        let fence = uuid::Uuid::new_v4().to_string();
        let body = records::encode_removing(&key, &stored.object.bytes, removing, &fence)?;
        let expected = Precondition::Revision(stored.object.revision.clone());
        let put = self.objects.put(&key, body, expected, &stored.object.metadata).await?;
        Ok(matches!(put, Put::Written(_)))
    }

    async fn all_pointers(&self, package: &PackageName) -> Result<Pointers> {
        let read = |tag: TagName| async move {
            let pointer = self.pointer(package, &tag).await?;
            Ok::<_, Error>(pointer.map(|pointer| (tag, pointer)))
        };
        let tags = self.pointer_names(package).await?;
        let pointers: Vec<_> = stream::iter(tags).map(read).buffered(READS).try_collect().await?;
        Ok(pointers.into_iter().flatten().collect())
    }

    /// Gives every pointer of the package a new revision. Returns the tags that point to the version.
    async fn fence_all(
        &self,
        package: &PackageName,
        version: Version,
        mark: &str,
        mut known: Pointers,
    ) -> Result<Vec<TagName>> {
        // Listed anew: a pointer that is not there now will be created after the mark.
        let tags = self.pointer_names(package).await?;
        let tags: Vec<_> = tags.into_iter().map(|tag| (known.remove(&tag), tag)).collect();
        let fence = |(known, tag): (Option<Pointer>, TagName)| async move {
            let tagged = self.fence(package, &tag, version, mark, known).await?;
            Ok::<_, Error>(tagged.then_some(tag))
        };
        let tagged: Vec<_> = stream::iter(tags).map(fence).buffered(READS).try_collect().await?;
        Ok(tagged.into_iter().flatten().collect())
    }

    /// Gives one pointer a new revision; true if it points to the version instead.
    async fn fence(
        &self,
        package: &PackageName,
        tag: &TagName,
        version: Version,
        mark: &str,
        mut known: Option<Pointer>,
    ) -> Result<bool> {
        let key = keys::tag(package, tag);
        let mut backoff = self.backoff();
        loop {
            let pointer = match known.take() {
                Some(pointer) => pointer,
                None => match self.pointer(package, tag).await? {
                    Some(pointer) => pointer,
                    // A 2015 client deleted it: what was read of it before can be exchanged no more.
                    None => return Ok(false),
                },
            };
            match plan::fence(pointer.version(), pointer.fence.as_deref(), version, mark) {
                Fence::Tagged => return Ok(true),
                Fence::Fenced => return Ok(false),
                Fence::Write => {}
            }
            let body = records::encode_fenced(&key, &pointer.bytes, mark)?;
            let expected = Precondition::Revision(pointer.revision);
            let failure = match self.objects.put(&key, body, expected, &BTreeMap::new()).await {
                Ok(Put::Written(_)) => return Ok(false),
                Ok(Put::Refused) => Error::new(Meaning::Throttled, OPERATION).with_key(&key),
                Err(error) => error,
            };
            if !failure.is_transient() || !backoff.pause().await {
                return Err(failure);
            }
        }
    }
}

fn tags_there(package: &PackageName, version: Version, tags: &[TagName]) -> Error {
    let mut names: Vec<&str> = tags.iter().map(TagName::as_str).collect();
    names.sort_unstable();
    crate::ledger::still_tagged(package, version, &names).with_key(keys::version(package, version))
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    /// Says which of the two is missing, package or version.
    pub(super) async fn missing_version(&self, package: &PackageName, version: Version) -> Error {
        match self.has_versions(package).await {
            Ok(true) => Error::not_found(Missing::Version(package.clone(), version)),
            Ok(false) => Error::not_found(Missing::Package(package.clone())),
            Err(error) => error,
        }
    }
}
