//! Tags: the pointer object, its compare-and-swap, and the archived events.
//!
//! The order of writes is: archive event n, put the pointer with event n+1 (the commit), archive event n+1. The first
//! makes sure that no event is overwritten before it is in the history; the last that a 2015 client's blind overwrite of
//! the pointer cannot lose a move that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{ObjectLedger, PAGE, READS, keys, records};
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::{ConditionalObjects, Precondition, Put, Revision, TagOutcome};
use crate::model::{
    Change, Current, Event, Expected, Next, PackageName, TagChange, TagName, TagState, Version, adopt_legacy,
    check_expected, next_event,
};
use crate::retry::Backoff;

/// A pointer object as it was read.
struct Pointer {
    state: TagState,
    revision: Revision,
}

/// What one attempt to write a pointer came to.
enum Attempt {
    Committed,
    /// Somebody else's write was there first, or nothing was written: read and decide again.
    Again,
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    async fn pointer(&self, package: &PackageName, tag: &TagName) -> Result<Option<Pointer>> {
        let key = keys::tag(package, tag);
        let Some(object) = self.objects.get(&key).await? else { return Ok(None) };
        let state = records::decode_pointer(tag, &key, &object.bytes)?;
        Ok(Some(Pointer { state, revision: object.revision }))
    }

    pub(super) async fn one_tag(&self, package: &PackageName, tag: &TagName) -> Result<Option<TagState>> {
        if tag.as_str() == keys::LATEST {
            return Ok(None);
        }
        Ok(self.pointer(package, tag).await?.map(|pointer| pointer.state))
    }

    pub(super) async fn all_tags(&self, package: &PackageName) -> Result<Vec<TagState>> {
        let prefix = keys::tags(package);
        let mut names = Vec::new();
        let mut start = prefix.clone();
        loop {
            let page = self.objects.list(&prefix, &start, PAGE).await?;
            names.extend(page.iter().map(|entry| entry.key[prefix.len()..].to_owned()));
            match page.last() {
                Some(last) if page.len() == PAGE => start.clone_from(&last.key),
                _ => break,
            }
        }
        let tags = names.into_iter().filter(|name| name != keys::LATEST).map(TagName::existing);
        let read = |tag: TagName| async move { self.one_tag(package, &tag).await };
        let states: Vec<_> = stream::iter(tags).map(read).buffered(READS).try_collect().await?;
        let states: Vec<TagState> = states.into_iter().flatten().filter(TagState::is_there).collect();
        if states.is_empty() {
            // An empty answer is only right for a package that exists.
            self.latest_version(package).await?;
        }
        Ok(states)
    }

    /// Removed tags leave a pointer without version, and all have a history, which also survives a 2015 client's
    /// deletion of the pointer.
    pub(super) async fn all_tags_ever(&self, package: &PackageName) -> Result<Vec<TagName>> {
        let set = self.all_tags(package).await?;
        let (_, had) = self.children_of(keys::histories(package)).await?;
        let had = had.into_iter().filter(|name| name != keys::LATEST).map(TagName::existing);
        let names: BTreeSet<TagName> = had.chain(set.into_iter().map(|state| state.tag)).collect();
        Ok(names.into_iter().collect())
    }

    /// The numbers of the archived events, ascending.
    async fn archived(&self, package: &PackageName, tag: &TagName) -> Result<Vec<u64>> {
        let prefix = keys::history(package, tag);
        let mut numbers = Vec::new();
        let mut start = prefix.clone();
        loop {
            let page = self.objects.list(&prefix, &start, PAGE).await?;
            numbers.extend(page.iter().filter_map(|entry| entry.key[prefix.len()..].parse::<u64>().ok()));
            match page.last() {
                Some(last) if page.len() == PAGE => start.clone_from(&last.key),
                _ => return Ok(numbers),
            }
        }
    }

    async fn archived_event(&self, package: &PackageName, tag: &TagName, seq: u64) -> Result<Option<Event>> {
        let key = keys::event(package, tag, seq);
        let object = self.objects.get(&key).await?;
        object.map(|object| records::decode_event(&key, &object.bytes)).transpose()
    }

    async fn last_archived(&self, package: &PackageName, tag: &TagName) -> Result<Option<Event>> {
        match self.archived(package, tag).await?.last() {
            Some(seq) => self.archived_event(package, tag, *seq).await,
            None => Ok(None),
        }
    }

    /// Puts an event into the history. Idempotent: an event that is there already stays as it is.
    async fn archive(&self, package: &PackageName, tag: &TagName, event: &Event) -> Result<()> {
        let key = keys::event(package, tag, event.seq);
        let body = records::encode_event(event);
        self.objects.put(&key, body, Precondition::Absent, &BTreeMap::new()).await.map(|_| ())
    }

    pub(super) async fn all_events(&self, package: &PackageName, tag: &TagName) -> Result<Vec<Event>> {
        let numbers = self.archived(package, tag).await?;
        let pointer = self.one_tag(package, tag).await?;
        let read = |seq: u64| self.archived_event(package, tag, seq);
        let events: Vec<_> = stream::iter(numbers).map(read).buffered(READS).try_collect().await?;
        let mut events: Vec<Event> = events.into_iter().flatten().collect();
        if let Some(event) = pointer.as_ref().and_then(|state| state.event.clone())
            && events.last().is_none_or(|last| last.seq < event.seq)
        {
            // The writer died between its commit and this step. A reader that may not write leaves it to the next.
            if let Err(error) = self.archive(package, tag, &event).await {
                tracing::debug!(%package, %tag, %error, "the newest event was not archived");
            }
            events.push(event);
        }
        if events.is_empty() && pointer.is_none() {
            return Err(Error::not_found(Missing::Tag(package.clone(), tag.clone())));
        }
        Ok(events)
    }

    pub(super) async fn commit_change(
        &self,
        package: &PackageName,
        tag: &TagName,
        change: &TagChange,
    ) -> Result<TagOutcome> {
        // What is stored under `latest` is a hint for readers of 2015, not a tag.
        tag.check_stored()?;
        if let Change::Move { to, .. } = &change.change {
            package.check_new()?;
            tag.check_new()?;
            self.check_target(package, *to).await?;
        }
        let mut backoff = self.backoff();
        let mut expected = change.expected;
        loop {
            let pointer = self.pointer(package, tag).await?;
            let last = match pointer.as_ref().and_then(|pointer| pointer.state.event.clone()) {
                Some(event) => Some(event),
                // Never set, or written or deleted by a 2015 client: the history says where to go on.
                None => self.last_archived(package, tag).await?,
            };
            let version = pointer.as_ref().and_then(|pointer| pointer.state.version);
            if let Some(event) = last.as_ref().filter(|event| event.id == change.id) {
                // A repeated request: the first one was carried out.
                return Ok(outcome(tag, event.clone(), false));
            }
            let revision = pointer.as_ref().map(|pointer| pointer.revision.clone());
            let legacy_write = pointer.as_ref().is_some_and(|pointer| pointer.state.event.is_none());
            let legacy_delete = pointer.is_none() && last.as_ref().is_some_and(|event| event.to.is_some());
            if legacy_write || legacy_delete {
                // A reader is shown event 0 here. What cannot hold must not leave a trace.
                let shown = Current { version, last: None };
                check_expected(&shown, expected)
                    .map_err(|meaning| explain(meaning, package, tag, version))?;
                let id = uuid::Uuid::new_v4().to_string();
                let adopted = adopt_legacy(last.as_ref(), version, self.connect.clock.now(), id);
                let attempt = self.put_pointer(package, tag, &adopted, revision, &mut backoff).await?;
                if let (Attempt::Committed, Expected::Seq(_)) = (attempt, expected) {
                    expected = Expected::Seq(adopted.seq);
                }
                // Committed or beaten: either way the pointer is to be read again.
                continue;
            }
            let current = Current { version, last };
            let wanted = TagChange { expected, ..change.clone() };
            let next = next_event(&current, &wanted, self.connect.clock.now())
                .map_err(|meaning| explain(meaning, package, tag, current.version))?;
            let event = match next {
                Next::Unchanged => {
                    let state = TagState { tag: tag.clone(), version, event: current.last };
                    return Ok(TagOutcome { state, event: None, previous: version, archive_pending: false });
                }
                Next::Commit(event) => *event,
            };
            if let Some(last) = &current.last {
                self.archive(package, tag, last).await?;
            }
            match self.put_pointer(package, tag, &event, revision, &mut backoff).await? {
                Attempt::Committed => {
                    let archived = self.archive(package, tag, &event).await;
                    if let Err(error) = &archived {
                        tracing::warn!(%package, %tag, %error, "the event stands, its copy in the history is pending");
                    }
                    return Ok(outcome(tag, event, archived.is_err()));
                }
                Attempt::Again if backoff.pause().await => {}
                Attempt::Again => {
                    return Err(Error::new(Meaning::Throttled, "win the race for the tag")
                        .with_key(keys::tag(package, tag)));
                }
            }
        }
    }

    /// A tag moves to versions that exist only: checked before the pointer is read, since versions are never deleted.
    async fn check_target(&self, package: &PackageName, to: Version) -> Result<()> {
        match self.live_version(package, to).await {
            Err(error) if error.is_not_found() => {
                // Say which of the two is missing.
                match self.latest_version(package).await {
                    Err(missing) if missing.is_not_found() => Err(missing),
                    _ => Err(error),
                }
            }
            other => other.map(|_| ()),
        }
    }

    /// Writes the pointer with `event`, on condition that it is still at `revision`. When the reply is lost, or a retry
    /// below met its own write, the event's id tells whether it is there.
    async fn put_pointer(
        &self,
        package: &PackageName,
        tag: &TagName,
        event: &Event,
        revision: Option<Revision>,
        backoff: &mut Backoff,
    ) -> Result<Attempt> {
        let key = keys::tag(package, tag);
        let precondition = revision.map_or(Precondition::Absent, Precondition::Revision);
        let failure = match self
            .objects
            .put(&key, records::encode_pointer(event), precondition, &BTreeMap::new())
            .await
        {
            Ok(Put::Written(_)) => return Ok(Attempt::Committed),
            Ok(Put::Refused) => None,
            Err(error) if error.is_transient() => Some(error),
            Err(error) => return Err(error),
        };
        loop {
            match self.is_committed(package, tag, event).await {
                Ok(true) => return Ok(Attempt::Committed),
                Ok(false) => return Ok(Attempt::Again),
                Err(error) if error.is_transient() && backoff.pause().await => {}
                Err(error) => {
                    // A refusal is certain by itself only if the write was never repeated below; we cannot know that.
                    return Err(failure.unwrap_or(error).with_unsettled(&event.id));
                }
            }
        }
    }

    /// Whether `event` is the pointer's, or in the history because others moved the tag since.
    async fn is_committed(&self, package: &PackageName, tag: &TagName, event: &Event) -> Result<bool> {
        let pointer = self.pointer(package, tag).await?;
        let now = pointer.and_then(|pointer| pointer.state.event);
        if let Some(now) = &now
            && now.seq <= event.seq
        {
            return Ok(now.id == event.id);
        }
        // A successor archives our event before it overwrites the pointer.
        let archived = self.archived_event(package, tag, event.seq).await?;
        Ok(archived.is_some_and(|archived| archived.id == event.id))
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
