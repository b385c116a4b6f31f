//! Tags: the pointer object, its compare-and-swap, and the archived events.
//!
//! The order of writes is: archive event n, put the pointer with event n+1 (the commit), archive event n+1; the last two are
//! one step where the backend can do that. The first
//! makes sure that no event is overwritten before it is in the history; the last that a 2015 client's blind overwrite of
//! the pointer cannot lose a move that was acknowledged. Where that client interferes, the create-only rows of the history
//! decide which event has a number; what is not in the history was never acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::history::history_row;
use super::plan::{self, AfterLook, AfterSend, Approach, Settlement, Whereabouts};
use super::records::StoredVersion;
use super::{ObjectLedger, READS, keys, records, sent};
use crate::crash_point::around;
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::{ConditionalObjects, Precondition, Put, Revision, TagOutcome};
use crate::model::{
    Change, Current, Event, Expected, Next, PackageName, TagChange, TagName, TagState, Version,
    check_expected, next_event,
};
use crate::retry::Backoff;

/// A pointer object as it was read.
pub(super) struct Pointer {
    /// Nothing where the name is only reserved: as if there were no pointer, except that it can be exchanged.
    pub(super) state: Option<TagState>,
    pub(super) fence: Option<String>,
    pub(super) revision: Revision,
    pub(super) bytes: Bytes,
}

impl Pointer {
    /// Where the tag points.
    pub(super) fn version(&self) -> Option<Version> {
        self.state.as_ref()?.version
    }

    pub(super) fn state(&self) -> Option<&TagState> {
        self.state.as_ref()
    }

    fn event(&self) -> Option<&Event> {
        self.state.as_ref()?.event.as_ref()
    }
}

/// A tag as a writer finds it.
struct Seen {
    /// The pointer's revision; nothing if there is no pointer.
    revision: Option<Revision>,
    /// What readers are shown: the pointer's version and its event.
    shown: Current,
    /// The event that the next one follows.
    last: Option<Event>,
    /// Whether pointer and history agree. If not, a 2015 client wrote or deleted the pointer, and what it did must enter
    /// the history first.
    settled: bool,
}

/// What one write of a pointer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Committed,
    /// Somebody else's write was there first: read and decide again.
    Beaten,
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    pub(super) async fn pointer(&self, package: &PackageName, tag: &TagName) -> Result<Option<Pointer>> {
        let key = keys::tag(package, tag);
        let Some(object) = self.objects.get(&key).await? else { return Ok(None) };
        let stored = self.placed(&key, records::decode_pointer(tag, &key, &object.bytes))?;
        let (state, fence) = (stored.state, stored.fence);
        Ok(Some(Pointer { state, fence, revision: object.revision, bytes: object.bytes }))
    }

    pub(super) async fn one_tag(&self, package: &PackageName, tag: &TagName) -> Result<Option<TagState>> {
        if tag.as_str() == keys::LATEST {
            return Ok(None);
        }
        Ok(self.pointer(package, tag).await?.and_then(|pointer| pointer.state))
    }

    /// The tags that have a pointer, be it of a removed tag or reserved.
    pub(super) async fn pointer_names(&self, package: &PackageName) -> Result<Vec<TagName>> {
        let prefix = keys::tags(package);
        let listed = self.list_all(&prefix, &prefix).await?;
        let names = listed.into_iter().map(|entry| entry.key[prefix.len()..].to_owned());
        Ok(names.filter(|name| name != keys::LATEST).map(TagName::existing).collect())
    }

    pub(super) async fn all_tags(&self, package: &PackageName) -> Result<Vec<TagState>> {
        let tags = self.pointer_names(package).await?;
        let read = |tag: TagName| async move { self.one_tag(package, &tag).await };
        let states: Vec<_> = stream::iter(tags).map(read).buffered(READS).try_collect().await?;
        let states: Vec<TagState> = states.into_iter().flatten().filter(TagState::is_there).collect();
        // An empty answer is only right for a package that exists.
        if states.is_empty() && !self.has_versions(package).await? {
            return Err(Error::not_found(Missing::Package(package.clone())));
        }
        Ok(states)
    }

    /// Removed tags leave a pointer without version, and all have a history, which also survives a 2015 client's
    /// deletion of the pointer.
    pub(super) async fn all_tags_ever(&self, package: &PackageName) -> Result<Vec<TagName>> {
        let set = self.all_tags(package).await?;
        let listed = self.objects.children_of_each(vec![keys::histories(package)]).await?;
        let had = listed.into_iter().flat_map(|(_, names)| names);
        let had = had.filter(|name| name != keys::LATEST).map(TagName::existing);
        let names: BTreeSet<TagName> = had.chain(set.into_iter().map(|state| state.tag)).collect();
        Ok(names.into_iter().collect())
    }

    /// The tag as a writer finds it.
    async fn look(&self, package: &PackageName, tag: &TagName, backoff: &mut Backoff) -> Result<Seen> {
        let mut pointer = self.pointer(package, tag).await?;
        loop {
            let event = pointer.as_ref().and_then(Pointer::event).cloned();
            let archived = match &event {
                Some(event) => self.ensure_archived(package, tag, event).await?,
                None => false,
            };
            let mut settled = plan::pointer_is_last(event.as_ref(), archived);
            let last = if settled { event } else { self.last_archived(package, tag).await? };
            settled = settled || plan::agrees(pointer.as_ref().and_then(Pointer::state), last.as_ref());
            if !settled {
                // That history may be younger than the pointer: an event is archived after its pointer was written. Only a
                // pointer that still is as it was is a 2015 client's work, and not one of ours that moved meanwhile.
                let again = self.pointer(package, tag).await?;
                let revision =
                    |pointer: &Option<Pointer>| pointer.as_ref().map(|found| found.revision.clone());
                if revision(&again) != revision(&pointer) {
                    if !backoff.pause().await {
                        let key = keys::tag(package, tag);
                        return Err(Error::new(Meaning::Throttled, "win the race for the tag").with_key(key));
                    }
                    pointer = again;
                    continue;
                }
            }
            let revision = pointer.as_ref().map(|pointer| pointer.revision.clone());
            let shown = match pointer.and_then(|pointer| pointer.state) {
                Some(state) => Current { version: state.version, last: state.event },
                None => Current::default(),
            };
            return Ok(Seen { revision, shown, last, settled });
        }
    }

    /// Takes what a 2015 client did to the pointer into the history, then makes the pointer say so. The history decides
    /// first, so that two writers who see the same cannot number it twice.
    async fn settle(
        &self,
        package: &PackageName,
        tag: &TagName,
        seen: &Seen,
        backoff: &mut Backoff,
    ) -> Result<Option<Event>> {
        let id = || uuid::Uuid::new_v4().to_string();
        let now = self.connect.clock.now();
        let (event, fence) = match plan::settlement(seen.last.as_ref(), seen.shown.version, now, id()) {
            Settlement::Restore(event) => (event, Some(id())),
            Settlement::Adopt(event) => {
                if !self.archive(package, tag, &event).await? {
                    return Ok(None);
                }
                (event, None)
            }
        };
        let body = records::encode_pointer(&event, fence);
        let attempt = self.exchange(package, tag, &event, body, seen.revision.clone(), backoff).await?;
        Ok((attempt == Attempt::Committed).then_some(event))
    }

    pub(super) async fn commit_change(
        &self,
        package: &PackageName,
        tag: &TagName,
        change: &TagChange,
    ) -> Result<TagOutcome> {
        // What is stored under `latest` is a hint for readers of 2015, not a tag.
        tag.check_stored()?;
        let target = match change.change {
            Change::Move { to, .. } => Some(to),
            Change::Untag | Change::Hold { .. } | Change::Release | Change::Adopt | Change::Disown => None,
        };
        if target.is_some() {
            package.check_new()?;
            tag.check_new()?;
        }
        let key = keys::tag(package, tag);
        let mut backoff = self.backoff();
        let mut wanted = change.clone();
        loop {
            let seen = self.look(package, tag, &mut backoff).await?;
            if seen.settled
                && let Some(event) = seen.last.as_ref().filter(|event| event.id == change.id)
            {
                // A repeated request: the first one was carried out.
                return Ok(outcome(tag, event.clone(), false));
            }
            // After the pointer, never before it: see `plan`.
            let target = match target {
                Some(to) => Some(self.target(package, to).await?),
                None => None,
            };
            if !seen.settled {
                // What cannot hold must not leave a trace.
                check_expected(&seen.shown, wanted.expected)
                    .map_err(|meaning| explain(meaning, package, tag, seen.shown.version))?;
                let settled = self.settle(package, tag, &seen, &mut backoff).await?;
                if let (Some(event), Expected::Seq(_)) = (&settled, wanted.expected) {
                    wanted.expected = Expected::Seq(event.seq);
                }
                if settled.is_none() && !backoff.pause().await {
                    return Err(Error::new(Meaning::Throttled, "win the race for the tag").with_key(key));
                }
                continue;
            }
            let current = Current { version: seen.shown.version, last: seen.last };
            let next = next_event(&current, &wanted, self.connect.clock.now())
                .map_err(|meaning| explain(meaning, package, tag, current.version))?;
            let event = match next {
                Next::Unchanged => {
                    let previous = current.version;
                    let state = TagState { tag: tag.clone(), version: current.version, event: current.last };
                    return Ok(TagOutcome { state, event: None, previous, archive_pending: false });
                }
                Next::Commit(event) => *event,
            };
            let body = records::encode_pointer(&event, None);
            records::check_size(&body)?;
            let revision = match &target {
                Some(target) => {
                    match self.make_way(package, tag, target, seen.revision, &mut backoff).await? {
                        Some(revision) => Some(revision),
                        None if backoff.pause().await => continue,
                        None => {
                            let lost = Error::new(Meaning::Throttled, "win the race for the tag");
                            return Err(lost.with_key(key));
                        }
                    }
                }
                None => seen.revision,
            };
            if self.exchange(package, tag, &event, body, revision, &mut backoff).await? == Attempt::Committed
            {
                match self.archive(package, tag, &event).await {
                    Ok(true) => return Ok(outcome(tag, event, false)),
                    // A 2015 client overwrote the pointer, and that has our number now: nothing of ours is visible.
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(%package, %tag, %error, "the event stands, its copy in the history is pending");
                        return Ok(outcome(tag, event, true));
                    }
                }
            }
            if !backoff.pause().await {
                return Err(Error::new(Meaning::Throttled, "win the race for the tag").with_key(key));
            }
        }
    }

    /// The version that a tag is to move to.
    async fn target(&self, package: &PackageName, to: Version) -> Result<StoredVersion> {
        match self.stored_version(package, to).await? {
            Some(stored) if !stored.record.is_removed() => Ok(stored),
            Some(_) => Err(Error::not_found(Missing::Removed(package.clone(), to))),
            None => Err(self.missing_version(package, to).await),
        }
    }

    /// Does what must be done before a pointer can be exchanged for one to `target`. Returns the revision to exchange;
    /// nothing when somebody else was faster.
    pub(super) async fn make_way(
        &self,
        package: &PackageName,
        tag: &TagName,
        target: &StoredVersion,
        mut revision: Option<Revision>,
        backoff: &mut Backoff,
    ) -> Result<Option<Revision>> {
        let version = target.record.version;
        let mut again = None;
        loop {
            let target = again.as_ref().unwrap_or(target);
            match plan::approach(target.found(), revision.is_some()) {
                Approach::Exchange => return Ok(revision),
                Approach::Reserve => {
                    let Some(reserved) = self.reserve(package, tag, backoff).await? else { return Ok(None) };
                    revision = Some(reserved);
                    again = Some(self.target(package, version).await?);
                }
                Approach::Clear => {
                    let cleared = self.set_mark(package, version, target, false).await;
                    return match cleared {
                        Ok(Some(_)) => Ok(revision),
                        Ok(None) => Ok(None),
                        Err(error) if error.is_transient() => Ok(None),
                        Err(error) => Err(error),
                    };
                }
                Approach::Refuse => {
                    return Err(Error::not_found(Missing::Removed(package.clone(), version)));
                }
            }
        }
    }

    /// Creates the pointer of a tag that has none, without a version; nothing when there is one now.
    async fn reserve(
        &self,
        package: &PackageName,
        tag: &TagName,
        backoff: &mut Backoff,
    ) -> Result<Option<Revision>> {
        let key = keys::tag(package, tag);
        let body = records::encode_reservation(uuid::Uuid::new_v4().to_string());
        loop {
            let none = BTreeMap::new();
            let put = self.objects.put(&key, body.clone(), Precondition::Absent, &none);
            match around("ledger.reservation", put).await {
                Ok(Put::Written(revision)) => return Ok(Some(revision)),
                Ok(Put::Refused) => return Ok(None),
                Err(error) if error.is_transient() && backoff.pause().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the pointer with `event` (`body`), on condition that it is still at `revision`.
    ///
    /// When a reply is lost, the event's id tells whether the write arrived; while that is open, the very same bytes are
    /// sent again on the same condition, so that the late write and the repeated one cannot both count.
    async fn exchange(
        &self,
        package: &PackageName,
        tag: &TagName,
        event: &Event,
        body: Bytes,
        revision: Option<Revision>,
        backoff: &mut Backoff,
    ) -> Result<Attempt> {
        let key = keys::tag(package, tag);
        let precondition = revision.clone().map_or(Precondition::Absent, Precondition::Revision);
        let mut in_doubt = false;
        loop {
            let row = (!self.archived.has(package, tag, event)).then(|| history_row(package, tag, event));
            let nothing = BTreeMap::new();
            let put = self.put_both(&key, body.clone(), precondition.clone(), &nothing, row);
            let put = around("ledger.pointer", put).await;
            if matches!(put, Ok((_, true))) {
                self.archived.remember(package, tag, event);
            }
            let (sent, failure) = sent(put.map(|(put, _)| put));
            let open = || Error::new(Meaning::Unavailable, "change the tag").with_key(&key);
            match plan::after_send(sent, in_doubt) {
                AfterSend::Committed => return Ok(Attempt::Committed),
                AfterSend::Fail => return Err(failure.unwrap_or_else(open)),
                AfterSend::LookBack(doubt) => in_doubt = doubt,
            }
            let whereabouts = loop {
                match self.whereabouts(package, tag, event, revision.as_ref()).await {
                    Err(error) if error.is_transient() && backoff.pause().await => {}
                    known => break known,
                }
            };
            match whereabouts.map(|found| plan::after_look(found, sent, in_doubt)) {
                Ok(AfterLook::Committed) => return Ok(Attempt::Committed),
                Ok(AfterLook::Beaten) => return Ok(Attempt::Beaten),
                Ok(AfterLook::Again) if backoff.pause().await => {}
                Ok(AfterLook::Again | AfterLook::Open) => {
                    return Err(failure.unwrap_or_else(open).in_doubt(&event.id));
                }
                Err(error) => return Err(failure.unwrap_or(error).in_doubt(&event.id)),
            }
        }
    }

    async fn whereabouts(
        &self,
        package: &PackageName,
        tag: &TagName,
        event: &Event,
        before: Option<&Revision>,
    ) -> Result<Whereabouts> {
        let pointer = self.pointer(package, tag).await?;
        let now = pointer
            .as_ref()
            .map(|pointer| (&pointer.revision, pointer.event().map(|event| event.id.as_str())));
        if let Some(known) = plan::whereabouts_in_pointer(&event.id, before, now) {
            return Ok(known);
        }
        let archived = self.archived_event(package, tag, event.seq).await?;
        let archived = archived.as_ref().map(|archived| archived.id.as_str());
        Ok(plan::whereabouts_in_history(&event.id, archived))
    }
}

fn outcome(tag: &TagName, event: Event, archive_pending: bool) -> TagOutcome {
    let previous = event.from;
    let state = TagState { tag: tag.clone(), version: event.to, event: Some(event.clone()) };
    TagOutcome { state, event: Some(event), previous, archive_pending }
}

/// The decision's refusal as an error about this tag. Only a tag that exists can be held or adopted.
fn explain(meaning: Meaning, package: &PackageName, tag: &TagName, version: Option<Version>) -> Error {
    match meaning {
        Meaning::Invalid { .. } if version.is_none() => {
            Error::not_found(Missing::Tag(package.clone(), tag.clone()))
        }
        meaning => Error::new(meaning, "change the tag").with_key(keys::tag(package, tag)),
    }
}
