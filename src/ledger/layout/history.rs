//! The history of a tag: its archived events, one create-only object each.
//!
//! Rows are never overwritten or deleted; the first writer of a number decides who has it. Not responsible for when an
//! event is archived ([`super::tags`]).

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{ObjectLedger, READS, keys, records};
use crate::crash_point::around;
use crate::error::{Error, Missing, Result};
use crate::ledger::{Companion, ConditionalObjects, Object, Precondition, Put};
use crate::model::{Event, PackageName, TagName};

/// The row of an event, which nothing may be in the place of.
pub(super) fn history_row(package: &PackageName, tag: &TagName, event: &Event) -> Companion {
    Companion {
        key: keys::event(package, tag, event.seq),
        bytes: records::encode_event(event),
        precondition: Precondition::Absent,
    }
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    /// The numbers of the archived events, ascending.
    async fn archived(&self, package: &PackageName, tag: &TagName) -> Result<Vec<u64>> {
        let prefix = keys::history(package, tag);
        let listed = self.list_all(&prefix, &prefix).await?;
        Ok(listed.iter().filter_map(|entry| entry.key[prefix.len()..].parse::<u64>().ok()).collect())
    }

    pub(super) async fn archived_event(
        &self,
        package: &PackageName,
        tag: &TagName,
        seq: u64,
    ) -> Result<Option<Event>> {
        let key = keys::event(package, tag, seq);
        let object = self.objects.get(&key).await?;
        let decode = |object: Object| self.placed(&key, records::decode_event(&key, &object.bytes));
        let event = object.map(decode).transpose()?;
        if let Some(event) = event.as_ref().filter(|event| event.seq == seq) {
            self.archived.remember(package, tag, event);
        }
        Ok(event)
    }

    pub(super) async fn last_archived(&self, package: &PackageName, tag: &TagName) -> Result<Option<Event>> {
        match self.archived(package, tag).await?.last() {
            Some(seq) => self.archived_event(package, tag, *seq).await,
            None => Ok(None),
        }
    }

    /// Puts an event into the history. Returns whether the history has this very event now; false says that another one
    /// has its number. Rows are create-only, so the first writer of a number decides who has it.
    pub(super) async fn archive(&self, package: &PackageName, tag: &TagName, event: &Event) -> Result<bool> {
        if self.archived.has(package, tag, event) {
            return Ok(true);
        }
        let (row, nothing) = (history_row(package, tag, event), BTreeMap::new());
        let put = self.objects.put(&row.key, row.bytes, row.precondition, &nothing);
        match around("ledger.archive", put).await? {
            Put::Written(_) => {
                self.archived.remember(package, tag, event);
                Ok(true)
            }
            Put::Refused => {
                let there = self.archived_event(package, tag, event.seq).await?;
                Ok(there.is_some_and(|there| there.id == event.id))
            }
        }
    }

    /// The same, where the row most likely is there already: looks first.
    pub(super) async fn ensure_archived(
        &self,
        package: &PackageName,
        tag: &TagName,
        event: &Event,
    ) -> Result<bool> {
        if self.archived.has(package, tag, event) {
            return Ok(true);
        }
        match self.archived_event(package, tag, event.seq).await? {
            Some(there) => Ok(there.id == event.id),
            None => self.archive(package, tag, event).await,
        }
    }

    pub(super) async fn all_events(&self, package: &PackageName, tag: &TagName) -> Result<Vec<Event>> {
        // The pointer first: what is below its event was archived before it was written, however fast others move on.
        let pointer = self.one_tag(package, tag).await?;
        if let Some(event) = pointer.as_ref().and_then(|state| state.event.as_ref()) {
            // Its writer may have died before this step. A reader that may not write leaves it to the next.
            if let Err(error) = self.ensure_archived(package, tag, event).await {
                tracing::debug!(%package, %tag, %error, "the newest event was not archived");
            }
        }
        let numbers = self.archived(package, tag).await?;
        let read = |seq: u64| self.archived_event(package, tag, seq);
        let events: Vec<_> = stream::iter(numbers).map(read).buffered(READS).try_collect().await?;
        let mut events: Vec<Event> = events.into_iter().flatten().collect();
        let newest = pointer.as_ref().and_then(|state| state.event.clone());
        events.extend(newest.filter(|event| events.last().is_none_or(|last| last.seq < event.seq)));
        if events.is_empty() && pointer.is_none() {
            return Err(Error::not_found(Missing::Tag(package.clone(), tag.clone())));
        }
        Ok(events)
    }
}
