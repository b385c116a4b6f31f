//! What passed through the gate: one entry per request, kept in memory and, where asked for, written as JSON lines.

use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::facts::Facts;

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Entry {
    /// When it arrived and when its reply had passed, since the gate started, in seconds.
    #[serde(serialize_with = "seconds")]
    pub(crate) started: Duration,
    /// Nothing while it is under way, or where nothing comes back.
    #[serde(serialize_with = "optional_seconds")]
    pub(crate) ended: Option<Duration>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// `PutItem`, `PutObject`, `watch`.
    pub(crate) operation: String,
    /// The path, or for DynamoDB the table and the values of the key.
    pub(crate) key: String,
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_match: Option<String>,
    pub(crate) access_key: String,
    pub(crate) user_agent: String,
    /// What the server said, also where the client does not learn it; nothing where there was no reply.
    pub(crate) status: Option<u16>,
    /// The names of the actions, with `+` between them; empty for a request that just passed.
    pub(crate) action: String,
    /// Bytes of the request's body and of the reply's.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Capacity units, where DynamoDB's reply tells them.
    pub(crate) capacity: Option<f64>,
    /// Rows that were read, where DynamoDB's reply to a Query or a Scan tells them: also those it did not hand out.
    pub(crate) scanned: Option<u64>,
}

impl Entry {
    fn new(started: Duration, facts: &Facts) -> Self {
        let header = |name: &str| {
            let value = facts.headers.get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        Self {
            started,
            ended: None,
            method: facts.method.clone(),
            path: facts.path.clone(),
            query: facts.query.clone(),
            operation: facts.operation.clone(),
            key: facts.key.clone(),
            if_match: header("if-match"),
            if_none_match: header("if-none-match"),
            access_key: facts.access_key.clone(),
            user_agent: facts.user_agent.clone(),
            status: None,
            action: String::new(),
            bytes_in: 0,
            bytes_out: 0,
            capacity: None,
            scanned: None,
        }
    }
}

/// The operations of `entries` in one line: `Query PutItem`.
pub(crate) fn operations(entries: &[Entry]) -> String {
    entries.iter().map(|entry| entry.operation.as_str()).collect::<Vec<_>>().join(" ")
}

#[derive(Debug)]
pub(crate) struct Log {
    epoch: Instant,
    entries: Mutex<Vec<Arc<Mutex<Entry>>>>,
    file: Option<Mutex<File>>,
}

impl Log {
    pub(crate) fn new(file: Option<File>) -> Arc<Self> {
        Arc::new(Self { epoch: Instant::now(), entries: Mutex::default(), file: file.map(Mutex::new) })
    }

    /// Since when the times of entries count.
    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    pub(crate) fn open(self: &Arc<Self>, facts: &Facts) -> Record {
        let entry = Arc::new(Mutex::new(Entry::new(self.epoch.elapsed(), facts)));
        lock(&self.entries).push(entry.clone());
        Record { entry, log: self.clone() }
    }

    pub(crate) fn all(&self) -> Vec<Entry> {
        lock(&self.entries).iter().map(|entry| lock(entry).clone()).collect()
    }

    pub(crate) fn take(&self) -> Vec<Entry> {
        let entries = std::mem::take(&mut *lock(&self.entries));
        entries.iter().map(|entry| lock(entry).clone()).collect()
    }
}

/// The entry of a request that is under way. It is over when this is dropped, which writes its line.
#[derive(Debug)]
pub(crate) struct Record {
    entry: Arc<Mutex<Entry>>,
    log: Arc<Log>,
}

impl Record {
    pub(crate) fn note(&self, change: impl FnOnce(&mut Entry)) {
        change(&mut lock(&self.entry));
    }

    /// The reply has passed.
    pub(crate) fn end(&self) {
        lock(&self.entry).ended.get_or_insert(self.log.epoch.elapsed());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(file) = &self.log.file {
            let mut line = serde_json::to_vec(&*lock(&self.entry)).expect("an entry is JSON");
            line.push(b'\n');
            // A full disk must not stop the traffic.
            let _ = lock(file).write_all(&line);
        }
    }
}

/// What a reply of DynamoDB says it consumed, summed, and the number of rows that were read for it.
pub(crate) fn costs(body: &[u8]) -> (Option<f64>, Option<u64>) {
    let words: Value = serde_json::from_slice(body).unwrap_or_default();
    let capacity = match words.get("ConsumedCapacity") {
        Some(Value::Array(tables)) => {
            Some(tables.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum())
        }
        Some(table) => table["CapacityUnits"].as_f64(),
        None => None,
    };
    (capacity, words["ScannedCount"].as_u64())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "serde hands out the field")]
fn optional_seconds<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}
