//! Conditional objects as nodes of a ZooKeeper ensemble: `create` and `setData` of a known version decide every race, and
//! `multi` makes several writes one.
//!
//! Not responsible for how a server keeps what it acknowledged.

mod failure;
mod listing;
mod nodes;
mod read_only;
mod session;
mod settings;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use zookeeper_client::Error as Failure;

use failure::{DELETE, LIST, READ};
use listing::Wanted;
use nodes::Child;
use session::{Session, Sessions};
use settings::Settings;
use write::{Change, Outcome, REQUEST_MAX, Write};

use super::layout::check_is_probe;
use super::objects::OBJECT_MAX;
use super::{
    Children, Companion, ConditionalObjects, Entry, InitOptions, Object, Precondition, Put, Revision,
};
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};
use crate::model::{Numbering, ZooKeeperLocation};

/// Objects below one node.
#[derive(Debug)]
pub struct ZooKeeperObjects {
    sessions: Sessions,
}

impl ZooKeeperObjects {
    /// Makes no request: a session is made when the first is, and again when one is lost. Dropping the last of its users ends
    /// it.
    ///
    /// # Errors
    /// `Invalid` when the variables for credentials are incomplete, `Local` when a file they name cannot be read.
    pub fn open(location: &ZooKeeperLocation, connect: &Connect) -> Result<Self> {
        let settings = Settings::new(location, &connect.environment)?;
        Ok(Self { sessions: Sessions::new(settings, connect) })
    }

    fn settings(&self) -> &Settings {
        &self.sessions.settings
    }

    fn node(&self, key: &str) -> Option<String> {
        nodes::object(&self.settings().root, key)
    }

    /// How `key` is to be written.
    ///
    /// # Errors
    /// `Invalid` where no node can have that key, or that content.
    fn write(&self, key: &str, bytes: Bytes, change: Change) -> Result<Write> {
        if bytes.is_empty() || bytes.len() > REQUEST_MAX {
            let length = bytes.len();
            return Err(Error::invalid(format!(
                "a record on ZooKeeper has 1 to {REQUEST_MAX} bytes, not {length}"
            )));
        }
        let path = self.node(key).ok_or_else(|| Error::invalid(format!("'{key}' cannot be a node")))?;
        Ok(Write { path, bytes, change })
    }

    /// Sets whatever is there, or creates it.
    async fn put_anyway(&self, key: &str, bytes: Bytes) -> Result<Put> {
        let mut backoff = self.sessions.backoff();
        loop {
            for change in [Change::Exchange(-1), Change::Create] {
                let write = self.write(key, bytes.clone(), change)?;
                if let Outcome::Written(revisions) = self.sessions.commit(vec![write]).await? {
                    return written(revisions);
                }
            }
            // Somebody created it in between, or keeps removing it.
            if !backoff.pause().await {
                let error = Error::new(Meaning::Unavailable, failure::WRITE.words).with_key(self.place(key));
                return Err(error.with_source("others keep creating and removing it"));
            }
        }
    }
}

/// How a write that expects this is made; nothing where nothing can be as expected.
fn change(precondition: &Precondition) -> Option<Change> {
    match precondition {
        Precondition::Absent => Some(Change::Create),
        Precondition::Revision(revision) => write::version(revision).map(Change::Exchange),
        Precondition::None => None,
    }
}

fn written(revisions: Vec<Revision>) -> Result<Put> {
    let first = revisions.into_iter().next();
    first.map(Put::Written).ok_or_else(|| Error::new(Meaning::Other, "read the answer to a write"))
}

/// What looking at a node found.
enum Found {
    Object(Vec<u8>, Revision),
    Nothing,
    /// Not even the ledger.
    NoRoot,
}

async fn look(session: Arc<Session>, path: String) -> Result<Found, Failure> {
    match session.client.get_data(&path).await {
        Ok((bytes, stat)) => Ok(Found::Object(bytes, write::revision(&stat))),
        Err(Failure::NoNode) if session.has_root().await? => Ok(Found::Nothing),
        Err(Failure::NoNode) => Ok(Found::NoRoot),
        Err(failure) => Err(failure),
    }
}

#[async_trait]
impl ConditionalObjects for ZooKeeperObjects {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        let Some(path) = self.node(key) else { return Ok(None) };
        match self.sessions.read(READ, &path, |session| look(session, path.clone())).await? {
            Found::Nothing => Ok(None),
            Found::NoRoot => Err(self.settings().no_root()),
            Found::Object(bytes, _) if bytes.is_empty() => {
                Err(Error::corrupt(self.place(key), "it is empty"))
            }
            Found::Object(bytes, _) if bytes.len() > OBJECT_MAX => {
                Err(Error::corrupt(self.place(key), "it is larger than any record"))
            }
            Found::Object(bytes, revision) => {
                Ok(Some(Object { bytes: Bytes::from(bytes), revision, metadata: BTreeMap::new() }))
            }
        }
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        let wanted = Arc::new(Wanted {
            root: self.settings().root.clone(),
            prefix: prefix.to_owned(),
            start_after: start_after.to_owned(),
            limit,
        });
        let keys = |session: Arc<Session>| {
            let wanted = wanted.clone();
            async move { wanted.keys(&session).await }
        };
        let keys = self.sessions.read(LIST, &self.settings().root, keys).await?;
        let keys = keys.ok_or_else(|| self.settings().no_root())?;
        Ok(keys.into_iter().map(|key| Entry { key, revision: None }).collect())
    }

    /// A listing gives names only: to ask each node for its revision costs as much as to read it.
    fn lists_revisions(&self) -> bool {
        false
    }

    async fn children(&self, prefix: &str, _start_after: Option<&str>) -> Result<Children> {
        let root = &self.settings().root;
        let Some(path) = nodes::directory(root, prefix.trim_end_matches('/')) else {
            return Ok(Children::default());
        };
        let below = |session: Arc<Session>| {
            let path = path.clone();
            async move {
                match listing::names(&session, &path).await? {
                    Some(names) => Ok(Some(names)),
                    None => Ok(session.has_root().await?.then(Vec::new)),
                }
            }
        };
        let names = self.sessions.read(LIST, &path, below).await?.ok_or_else(|| self.settings().no_root())?;
        let directory = |name: String| match nodes::child(&name)? {
            Child::Directory(component) => Some(component),
            Child::Object(_) | Child::Bucket(_) => None,
        };
        let mut directories: Vec<String> = names.into_iter().filter_map(directory).collect();
        directories.sort_unstable();
        Ok(Children { directories, next: None })
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        _metadata: &BTreeMap<String, String>,
    ) -> Result<Put> {
        if precondition == Precondition::None {
            return self.put_anyway(key, bytes).await;
        }
        let Some(change) = change(&precondition) else { return Ok(Put::Refused) };
        match self.sessions.commit(vec![self.write(key, bytes, change)?]).await? {
            Outcome::Written(revisions) => written(revisions),
            Outcome::Refused(_) | Outcome::Missing(_) => Ok(Put::Refused),
        }
    }

    async fn put_with(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        metadata: &BTreeMap<String, String>,
        companion: Companion,
    ) -> Result<(Put, bool)> {
        let fits = bytes.len() + companion.bytes.len() <= REQUEST_MAX;
        if let (true, Some(first), Some(second)) =
            (fits, change(&precondition), change(&companion.precondition))
        {
            let both = vec![
                self.write(key, bytes.clone(), first)?,
                self.write(&companion.key, companion.bytes, second)?,
            ];
            match self.sessions.commit(both).await? {
                Outcome::Written(revisions) => return written(revisions).map(|put| (put, true)),
                Outcome::Refused(0) | Outcome::Missing(0) => return Ok((Put::Refused, false)),
                Outcome::Refused(_) | Outcome::Missing(_) => {}
            }
        }
        self.put(key, bytes, precondition, metadata).await.map(|put| (put, false))
    }

    async fn delete_probe(&self, key: &str) -> Result<()> {
        check_is_probe(key)?;
        let Some(path) = self.node(key) else { return Ok(()) };
        let kept = format!("{}/_sacker/probe", self.settings().root);
        let mut nodes = vec![path.as_str()];
        nodes.extend(std::iter::successors(nodes::parent(&path), |path| nodes::parent(path)));
        for node in nodes.into_iter().take_while(|node| node.len() > kept.len()) {
            let delete = |session: Arc<Session>| {
                let node = node.to_owned();
                async move {
                    match session.client.delete(&node, None).await {
                        Ok(()) | Err(Failure::NoNode) => Ok(true),
                        // Other keys of the probe are still there; with the last of them the directory goes.
                        Err(Failure::NotEmpty) => Ok(false),
                        Err(failure) => Err(failure),
                    }
                }
            };
            // As a read: a deletion may be repeated.
            if !self.sessions.read(DELETE, node, delete).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn place(&self, key: &str) -> String {
        let settings = self.settings();
        self.node(key).map_or_else(|| key.to_owned(), |path| settings.place(&path))
    }

    fn default_numbering(&self) -> Numbering {
        Numbering::Sequence
    }

    async fn init(&self, _options: &InitOptions) -> Result<Vec<String>> {
        let is_new = self.sessions.create_root().await?;
        let settings = self.settings();
        Ok(is_new.then(|| format!("created node '{}'", settings.root)).into_iter().collect())
    }
}
