//! The modelled objects: requests wait until the explorer lets one happen, and every request is one step.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::oneshot;
use sacker::error::{Error, Meaning, Result};
use sacker::ledger::{Children, ConditionalObjects, Entry, InitOptions, Object, Precondition, Put, Revision};
use sacker::model::Numbering;

use super::mutants::Mutant;

/// What a request is.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Get(String),
    List {
        prefix: String,
        start_after: String,
        limit: usize,
    },
    Children(String),
    Put {
        key: String,
        bytes: Bytes,
        precondition: Precondition,
        metadata: BTreeMap<String, String>,
    },
    /// What the client of 2015 does to untag: no product code deletes.
    Delete(String),
}

impl Request {
    pub(super) const fn writes(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete(_))
    }
}

/// The answer to a request.
#[derive(Debug)]
pub(super) enum Reply {
    Object(Option<Object>),
    Entries(Vec<Entry>),
    Children(Children),
    Put(Put),
    Lost,
}

/// One stored object, with where it came from: the `nth` request of a client. As a client's requests follow from what
/// it saw, this says as much as the bytes do, and stays the same where random ids in the bytes do not.
#[derive(Debug, Clone)]
struct Stored {
    object: Object,
    origin: (usize, u32),
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) client: usize,
    pub(super) request: Request,
    nth: u32,
    reply: oneshot::Sender<Reply>,
}

/// A write whose client was told that the connection broke, and which may still arrive.
#[derive(Debug, Clone)]
struct Late {
    request: Request,
    origin: (usize, u32),
}

/// The objects and everything that is under way.
#[derive(Debug, Default)]
pub(super) struct World {
    objects: BTreeMap<String, Stored>,
    /// Older contents, which a mutant's stale read shows.
    before: BTreeMap<String, Stored>,
    pub(super) pending: Vec<Pending>,
    late: Vec<Late>,
    /// Per client: how many requests it made.
    requests: Vec<u32>,
    /// Per client: a hash of all it has seen.
    seen: Vec<u64>,
    /// Keys that were written and are versions: to notice what was overwritten.
    pub(super) overwritten: Vec<String>,
    mutant: Option<Mutant>,
}

/// The world of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(super) fn new(clients: usize, mutant: Option<Mutant>) -> Self {
        let world = World { requests: vec![0; clients], seen: vec![0; clients], mutant, ..World::default() };
        Self(Arc::new(Mutex::new(world)))
    }

    /// The same objects in a world of its own, with clients that saw nothing yet.
    pub(super) fn fresh(&self, clients: usize, mutant: Option<Mutant>) -> Self {
        let copy = Self::new(clients, mutant);
        let (from, mut to) = (self.lock(), copy.lock());
        to.objects.clone_from(&from.objects);
        drop(to);
        copy
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl World {
    /// Makes a client aware of something.
    pub(super) fn note(&mut self, client: usize, what: impl Hash) {
        self.seen[client] = hash_of((self.seen[client], hash_of(what)));
    }

    /// What tells this state from others: contents, what each client saw, what is late.
    pub(super) fn fingerprint(&self) -> u64 {
        let objects: Vec<_> = self.objects.iter().map(|(key, stored)| (key, stored.origin)).collect();
        let mut late: Vec<_> = self.late.iter().map(|late| late.origin).collect();
        late.sort_unstable();
        hash_of((objects, &self.seen, late, &self.overwritten))
    }

    pub(super) fn late_count(&self) -> usize {
        self.late.len()
    }

    /// The origin of an object: what its reader learns.
    fn origin(&self, key: &str) -> Option<(usize, u32)> {
        self.objects.get(key).map(|stored| stored.origin)
    }

    /// Lets a waiting request happen.
    pub(super) fn grant(&mut self, index: usize) {
        let Pending { client, request, nth, reply } = self.pending.remove(index);
        let answer = self.carry_out(&request, (client, nth), Some(client));
        // A client that crashed does not listen any more.
        let _gone = reply.send(answer);
    }

    /// Loses the reply to a write, which happens now, later or never.
    pub(super) fn lose(&mut self, index: usize, fate: Fate) {
        let Pending { client, request, nth, reply } = self.pending.remove(index);
        match fate {
            Fate::Now => drop(self.carry_out(&request, (client, nth), None)),
            Fate::Later => self.late.push(Late { request, origin: (client, nth) }),
            Fate::Never => {}
        }
        self.note(client, "lost");
        let _gone = reply.send(Reply::Lost);
    }

    /// Lets a late write arrive.
    pub(super) fn deliver(&mut self, index: usize) {
        let Late { request, origin } = self.late.remove(index);
        drop(self.carry_out(&request, origin, None));
    }

    /// Removes what a client waits for.
    pub(super) fn crash(&mut self, client: usize) {
        self.pending.retain(|pending| pending.client != client);
        self.note(client, "crashed");
    }

    fn carry_out(&mut self, request: &Request, origin: (usize, u32), observer: Option<usize>) -> Reply {
        let mutant = self.mutant;
        let (reply, learned) = match request {
            Request::Get(key) => {
                let stale = mutant.is_some_and(|mutant| mutant.reads_stale(key));
                let stored = if stale { self.before.get(key) } else { self.objects.get(key) };
                let learned = hash_of(stored.map(|stored| stored.origin));
                let mut object = stored.map(|stored| stored.object.clone());
                if let (Some(mutant), Some(object)) = (mutant, &mut object) {
                    mutant.spoil_read(key, object);
                }
                (Reply::Object(object), learned)
            }
            Request::List { prefix, start_after, limit } => {
                let fits = |key: &&String| key.starts_with(prefix.as_str()) && *key > start_after;
                let keys: Vec<&String> = self.objects.keys().filter(fits).take(*limit).collect();
                let learned: Vec<_> = keys.iter().map(|key| (key, self.origin(key))).collect();
                let entry = |key: &&String| Entry {
                    key: (*key).clone(),
                    revision: self.objects.get(*key).map(|stored| stored.object.revision.clone()),
                };
                (Reply::Entries(keys.iter().map(entry).collect()), hash_of(learned))
            }
            Request::Children(prefix) => {
                let below =
                    self.objects.keys().filter_map(|key| key.strip_prefix(prefix.as_str())?.split_once('/'));
                let mut directories: Vec<String> = below.map(|(name, _)| name.to_owned()).collect();
                directories.dedup();
                let learned = hash_of(&directories);
                (Reply::Children(Children { directories, next: None }), learned)
            }
            Request::Delete(key) => {
                self.objects.remove(key);
                (Reply::Object(None), 0)
            }
            Request::Put { key, bytes, precondition, metadata } => {
                let put = self.put(key, bytes, precondition, metadata, origin);
                let learned = hash_of(matches!(put, Put::Written(_)));
                (Reply::Put(put), learned)
            }
        };
        if let Some(observer) = observer {
            self.note(observer, (origin.1, learned));
        }
        reply
    }

    fn put(
        &mut self,
        key: &str,
        bytes: &Bytes,
        precondition: &Precondition,
        metadata: &BTreeMap<String, String>,
        origin: (usize, u32),
    ) -> Put {
        // Told by the content, as on S3 and files: what comes back has its old revision.
        let revision = Revision(hash_of(bytes).to_string());
        let there = self.objects.get(key);
        let holds = match (there, precondition) {
            (_, Precondition::None) | (None, Precondition::Absent) => true,
            (Some(stored), Precondition::Revision(expected)) => stored.object.revision == *expected,
            (Some(_), Precondition::Absent) | (None, Precondition::Revision(_)) => false,
        };
        let fate = self.mutant.map_or(WriteFate::AsAsked, |mutant| mutant.write(key, bytes, precondition));
        match fate {
            WriteFate::AsAsked | WriteFate::Pretended | WriteFate::Deleted if !holds => return Put::Refused,
            WriteFate::Pretended => {
                let same = there.map(|stored| stored.object.revision.clone());
                return Put::Written(same.unwrap_or(revision));
            }
            WriteFate::Deleted => {
                self.objects.remove(key);
                return Put::Written(revision);
            }
            WriteFate::AsAsked | WriteFate::Unconditional => {}
        }
        if key.contains("/versions/") && there.is_some() && *precondition == Precondition::Absent {
            self.overwritten.push(key.to_owned());
        }
        let object = Object { bytes: bytes.clone(), revision: revision.clone(), metadata: metadata.clone() };
        if let Some(before) = self.objects.insert(key.to_owned(), Stored { object, origin }) {
            self.before.insert(key.to_owned(), before);
        }
        Put::Written(revision)
    }
}

/// When a write happens whose reply is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Now,
    Later,
    Never,
}

/// What a mutant makes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteFate {
    AsAsked,
    /// The condition is left out.
    Unconditional,
    /// Nothing is written, success is told.
    Pretended,
    /// The object goes away instead.
    Deleted,
}

/// The objects as one client sees them.
#[derive(Debug)]
pub(super) struct ModelObjects {
    pub(super) world: Shared,
    pub(super) client: usize,
    pub(super) numbering: Numbering,
    /// Whether this client may read at all.
    pub(super) may_read: bool,
    /// Requests happen at once: for setting up, and for the audit in the end.
    pub(super) direct: bool,
}

/// The ledger's own record never changes in these runs: reading it is no step.
const OWN_RECORD: &str = "_sacker/ledger.json";

impl ModelObjects {
    pub(super) async fn ask(&self, request: Request) -> Result<Reply> {
        let answer = {
            let mut world = self.world.lock();
            if !self.may_read && !request.writes() {
                return denied();
            }
            let at_once = matches!(&request, Request::Get(key) if key == OWN_RECORD);
            if self.direct || at_once {
                let mutant = world.mutant.take();
                let nth = u32::try_from(world.objects.len()).expect("few objects");
                let answer = world.carry_out(&request, (usize::MAX, nth), None);
                world.mutant = mutant;
                return Ok(answer);
            }
            world.requests[self.client] += 1;
            let nth = world.requests[self.client];
            let (reply, answer) = oneshot::channel();
            world.pending.push(Pending { client: self.client, request, nth, reply });
            answer
        };
        match answer.await {
            Ok(Reply::Lost) | Err(_) => Err(Error::new(Meaning::Unavailable, "use the model")),
            Ok(reply) => Ok(reply),
        }
    }
}

fn denied() -> Result<Reply> {
    let meaning = Meaning::Denied { action: "s3:GetObject".into(), resource: "the model".into() };
    Err(Error::new(meaning, "use the model"))
}

#[async_trait]
impl ConditionalObjects for ModelObjects {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        match self.ask(Request::Get(key.to_owned())).await? {
            Reply::Object(object) => Ok(object),
            other => panic!("{other:?}"),
        }
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        let (prefix, start_after) = (prefix.to_owned(), start_after.to_owned());
        match self.ask(Request::List { prefix, start_after, limit }).await? {
            Reply::Entries(entries) => Ok(entries),
            other => panic!("{other:?}"),
        }
    }

    async fn children(&self, prefix: &str, _start_after: Option<&str>) -> Result<Children> {
        match self.ask(Request::Children(prefix.to_owned())).await? {
            Reply::Children(children) => Ok(children),
            other => panic!("{other:?}"),
        }
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Put> {
        let request = Request::Put { key: key.to_owned(), bytes, precondition, metadata: metadata.clone() };
        match self.ask(request).await? {
            Reply::Put(put) => Ok(put),
            other => panic!("{other:?}"),
        }
    }

    async fn delete_probe(&self, key: &str) -> Result<()> {
        panic!("nothing probes a model: {key}")
    }

    fn default_numbering(&self) -> Numbering {
        self.numbering
    }

    async fn init(&self, _options: &InitOptions) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
