//! Removing a version: mark, fence, tombstone ([`super::plan`]).
//!
//! Not responsible for the blob, which stays until it is collected.

use std::collections::{BTreeMap, HashMap};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::plan::{self, Fence, Found, Remove};
use super::records::StoredVersion;
use super::tags::Pointer;
use super::{ObjectLedger, READS, keys, records};
use crate::crash_point::around;
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::{ConditionalObjects, Object, Precondition, Put, Removed, Revision};
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
pub(super) fn told(removal: &Removal) -> BTreeMap<String, String> {
    let reason = removal.reason.iter().map(|reason| ("removed_reason".to_owned(), reason.clone()));
    BTreeMap::from([
        ("removed_at".to_owned(), time::format(removal.at)),
        ("removed_by".to_owned(), removal.by.clone()),
    ])
    .into_iter()
    .chain(reason)
    .collect()
}

/// One call of `remove`.
struct Burial<'a> {
    package: &'a PackageName,
    version: Version,
    removal: &'a Removal,
    /// Of the call; the tombstone carries it.
    id: String,
    /// The marked record that a tombstone of ours may yet replace. Once the record is another, whatever of ours is still
    /// under way can have no effect any more, or has had it.
    in_doubt: Option<Revision>,
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
        let removal = Removal { at: time::to_milliseconds(removal.at), ..removal.clone() };
        let id = uuid::Uuid::new_v4().to_string();
        let mut burial = Burial { package, version, removal: &removal, id, in_doubt: None };
        let mut backoff = self.backoff();
        loop {
            let failure = match self.remove_step(&mut burial).await {
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
            let is_open = burial.in_doubt.is_some();
            return Err(if is_open { failure.in_doubt(&burial.id) } else { failure });
        }
    }

    /// One look at the version, and what follows from it. Nothing: look again.
    async fn remove_step(&self, burial: &mut Burial<'_>) -> Result<Option<Removed>> {
        let Burial { package, version, .. } = *burial;
        let stored = self.stored_version(package, version).await?;
        let found = stored.as_ref().map_or(Found::Nothing, StoredVersion::found);
        let step = plan::remove(found, &burial.id);
        let Some(stored) = stored else { return Err(self.missing_version(package, version).await) };
        burial.in_doubt.take_if(|revision| *revision != stored.object.revision);
        match step {
            Remove::Refuse => Err(self.missing_version(package, version).await),
            Remove::Done(is_new) => Ok(Some(Removed { record: stored.record, is_new })),
            Remove::Fence => self.bury(burial, &stored, Pointers::new()).await,
            Remove::Mark => {
                let pointers = self.all_pointers(package).await?;
                let points = |(tag, pointer): (&TagName, &Pointer)| {
                    (pointer.version() == Some(version)).then(|| tag.clone())
                };
                let tagged: Vec<TagName> = pointers.iter().filter_map(points).collect();
                if !tagged.is_empty() {
                    return Err(tags_there(package, version, &tagged));
                }
                match self.set_mark(package, version, &stored, true).await? {
                    Some(marked) => self.bury(burial, &marked, pointers).await,
                    None => Ok(None),
                }
            }
        }
    }

    /// Fences every pointer, then writes the tombstone over the marked record. Nothing: look again.
    async fn bury(
        &self,
        burial: &mut Burial<'_>,
        marked: &StoredVersion,
        known: Pointers,
    ) -> Result<Option<Removed>> {
        let Burial { package, version, removal, .. } = *burial;
        let tagged = self.fence_all(package, version, marked, known).await?;
        if !tagged.is_empty() {
            // Cleared, so that nothing of ours can replace the record later. Not cleared: look again.
            let cleared = self.set_mark(package, version, marked, false).await?;
            burial.in_doubt.take_if(|_| cleared.is_some());
            return cleared.map_or(Ok(None), |_| Err(tags_there(package, version, &tagged)));
        }
        let key = keys::version(package, version);
        let bytes = records::encode_tombstone(&key, marked, removal, &burial.id)?;
        records::check_tombstone_size(&bytes)?;
        let mark = marked.object.revision.clone();
        let (expected, metadata) = (Precondition::Revision(mark.clone()), told(removal));
        let put = self.objects.put(&key, bytes.clone(), expected, &metadata);
        match around("ledger.tombstone", put).await {
            Ok(Put::Written(revision)) => {
                let object = Object { bytes, revision, metadata };
                let record = records::decode_version(package, version, &key, &object)?;
                Ok(Some(Removed { record, is_new: true }))
            }
            Ok(Put::Refused) => Ok(None),
            Err(error) => {
                if error.is_transient() {
                    burial.in_doubt = Some(mark);
                }
                Err(error)
            }
        }
    }

    /// Marks a version, or clears its mark; nothing when the record changed since it was read.
    pub(super) async fn set_mark(
        &self,
        package: &PackageName,
        version: Version,
        stored: &StoredVersion,
        removing: bool,
    ) -> Result<Option<StoredVersion>> {
        let key = keys::version(package, version);
        let fence = uuid::Uuid::new_v4().to_string();
        let bytes = records::encode_removing(&key, &stored.object.bytes, removing, &fence)?;
        let expected = Precondition::Revision(stored.object.revision.clone());
        let metadata = stored.object.metadata.clone();
        let put = self.objects.put(&key, bytes.clone(), expected, &metadata);
        match around("ledger.mark", put).await? {
            Put::Written(revision) => {
                let object = Object { bytes, revision, metadata };
                records::decode_stored_version(package, version, &key, object).map(Some)
            }
            Put::Refused => Ok(None),
        }
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
        marked: &StoredVersion,
        mut known: Pointers,
    ) -> Result<Vec<TagName>> {
        let Found::Marked { mark } = marked.found() else {
            return Err(Error::invalid("only under a mark do fences protect anything"));
        };
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
            let put = around("ledger.fence", self.objects.put(&key, body, expected, &BTreeMap::new())).await;
            let failure = match put {
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
