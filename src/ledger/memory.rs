//! Conditional objects in memory: for unit tests, and the reference that the real ones are compared with.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::layout::check_is_probe;
use super::{
    Children, Companion, ConditionalObjects, Entry, InitOptions, Object, Precondition, Put, Revision,
};
use crate::error::Result;
use crate::model::Numbering;

/// A map of objects behind a lock.
#[derive(Debug)]
pub struct MemoryObjects {
    numbering: Numbering,
    objects: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Object>,
    writes: u64,
}

impl State {
    fn put(
        &mut self,
        key: &str,
        bytes: Bytes,
        precondition: &Precondition,
        metadata: &BTreeMap<String, String>,
    ) -> Put {
        let holds = match (self.objects.get(key), precondition) {
            (_, Precondition::None) | (None, Precondition::Absent) => true,
            (Some(object), Precondition::Revision(revision)) => object.revision == *revision,
            _ => false,
        };
        if !holds {
            return Put::Refused;
        }
        self.writes += 1;
        let revision = Revision(self.writes.to_string());
        let object = Object { bytes, revision: revision.clone(), metadata: metadata.clone() };
        self.objects.insert(key.to_owned(), object);
        Put::Written(revision)
    }
}

impl MemoryObjects {
    /// An empty place whose ledger numbers versions so.
    pub fn new(numbering: Numbering) -> Self {
        Self { numbering, objects: Mutex::default() }
    }

    /// Deletes an object, as only a client of 2015 does.
    #[cfg(test)]
    pub(super) fn remove(&self, key: &str) {
        self.lock().objects.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another test leaves a state that is still whole: every write is one insert.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ConditionalObjects for MemoryObjects {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        Ok(self.lock().objects.get(key).cloned())
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        let from = prefix.max(start_after).to_owned();
        let state = self.lock();
        let rows = state.objects.range::<String, _>((Bound::Included(from), Bound::Unbounded));
        let fits =
            rows.filter(|(key, _)| key.as_str() > start_after).take_while(|(key, _)| key.starts_with(prefix));
        let entry = |(key, object): (&String, &Object)| Entry {
            key: key.clone(),
            revision: Some(object.revision.clone()),
        };
        Ok(fits.take(limit).map(entry).collect())
    }

    async fn children(&self, prefix: &str, _start_after: Option<&str>) -> Result<Children> {
        let state = self.lock();
        let below = state.objects.keys().filter_map(|key| key.strip_prefix(prefix)?.split_once('/'));
        let mut directories: Vec<String> = below.map(|(name, _)| name.to_owned()).collect();
        directories.dedup();
        Ok(Children { directories, next: None })
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Put> {
        Ok(self.lock().put(key, bytes, &precondition, metadata))
    }

    async fn put_with(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        metadata: &BTreeMap<String, String>,
        companion: Companion,
    ) -> Result<(Put, bool)> {
        let mut state = self.lock();
        let put = state.put(key, bytes, &precondition, metadata);
        if put == Put::Refused {
            return Ok((put, false));
        }
        let beside = state.put(&companion.key, companion.bytes, &companion.precondition, &BTreeMap::new());
        Ok((put, beside != Put::Refused))
    }

    async fn delete_probe(&self, key: &str) -> Result<()> {
        check_is_probe(key)?;
        self.lock().objects.remove(key);
        Ok(())
    }

    fn default_numbering(&self) -> Numbering {
        self.numbering
    }

    async fn init(&self, _options: &InitOptions) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
