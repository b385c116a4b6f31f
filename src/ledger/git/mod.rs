//! Conditional objects as files of a branch in a git repository: one commit per change, pushed fast-forward only, so that
//! the repository's own log is the history of the ledger and its server decides every race.
//!
//! By the git command line, so that keys, agents and credential helpers are those that the user has. An object's revision
//! is its blob's id. Not responsible for who may push (the server), nor for anything else that the repository holds.

mod cache;
mod command;
mod contents;
mod error;
mod failure;
mod message;
mod path;
mod push;
mod reader;
mod repository;
mod stream;
mod tree;
mod write;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use self::command::Deadline;
use self::contents::Found;
use self::failure::Failure;
use self::repository::{Repository, is_repository};
use self::tree::Kind;
use self::write::{Queue, Write};
use super::layout::check_is_probe;
use super::{
    Children, Companion, ConditionalObjects, Entry, InitOptions, Object, Precondition, Put, Revision,
};
use crate::connect::Connect;
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};
use crate::model::{GitLocation, Numbering};

/// Files of one branch.
#[derive(Debug)]
pub struct GitObjects {
    repository: Arc<Repository>,
    queue: Queue,
}

/// What a new repository is told: that of a ledger only ever goes on, and what it took is on the disk.
const SETTINGS: &str =
    "[receive]\n\tdenyNonFastForwards = true\n\tdenyDeletes = true\n[core]\n\tfsync = all\n";

/// Carries out a step again on a new clone, as long as the one in the cache turns out to be damaged.
macro_rules! on_whole_clone {
    ($repository:expr, $step:expr) => {{
        let mut mended = 0;
        loop {
            match $step.await {
                Ok(done) => break Ok(done),
                Err(Failure::Error(error)) => break Err(error),
                Err(Failure::Broken(said)) => $repository.mend(said, &mut mended).await?,
            }
        }
    }};
}

impl GitObjects {
    /// Makes no request and starts no process.
    ///
    /// # Errors
    /// `Invalid` for a path that git cannot be told of.
    pub fn open(location: &GitLocation, connect: &Connect) -> Result<Self> {
        let repository = Repository::new(location, connect);
        let is_plain = |path: &Path| path.to_str().is_some_and(|path| !path.contains(['\n', '"']));
        if repository.local().is_some_and(|path| !is_plain(path)) {
            return Err(Error::invalid("the path of a git ledger is UTF-8, without quotes and line breaks"));
        }
        Ok(Self { repository: Arc::new(repository), queue: Queue::default() })
    }

    async fn read(&self, key: &str, deadline: &Deadline) -> Result<Option<Object>, Failure> {
        let repository = &self.repository;
        let tip = repository.present_tip(deadline).await?;
        let id = match repository.find(&tip, key, deadline).await? {
            Found::File(id) => id,
            Found::Odd(key) => {
                return Err(Error::corrupt(repository.shown(&key), "it is no regular file").into());
            }
            Found::Nothing | Found::InTheWay => return Ok(None),
        };
        let bytes = repository.content(&tip, key, &id, deadline).await?;
        Ok(Some(Object { bytes, revision: Revision(id), metadata: BTreeMap::new() }))
    }

    async fn listed(&self, prefix: &str, deadline: &Deadline) -> Result<Vec<(String, String)>, Failure> {
        let tip = self.repository.present_tip(deadline).await?;
        let directory = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
        self.repository.files(&tip, directory, deadline).await
    }

    async fn names(&self, prefix: &str, deadline: &Deadline) -> Result<Vec<String>, Failure> {
        let tip = self.repository.present_tip(deadline).await?;
        let Some(tree) = self.repository.directory(&tip, prefix, deadline).await? else {
            return Ok(Vec::new());
        };
        let directories = tree.iter().filter(|(_, node)| node.kind == Kind::Directory);
        Ok(directories.map(|(name, _)| name.clone()).collect())
    }

    /// Makes the repository in a directory; false when somebody else did so meanwhile.
    async fn create(&self, path: &Path, deadline: &Deadline) -> Result<bool> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                let resource = crate::error::io_reason(&error);
                let meaning = Meaning::Denied { action: "create".to_owned(), resource };
                Error::new(meaning, "create the repository").with_key(path.display().to_string())
            }
            _ => Error::local("create", path, error),
        };
        if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
            let rule = format!("'{}' is no bare git repository, and not empty", path.display());
            return Err(Error::invalid(rule)
                .with_hint("a ledger gets a repository of its own: name another directory"));
        }
        let parent = path.parent().unwrap_or(path);
        fs::create_dir_all(parent).map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = parent.join(format!(".{name}-{}", uuid::Uuid::new_v4().simple()));
        let branch = format!("--initial-branch={}", self.repository.location.branch);
        let text = new.display().to_string();
        let arguments = ["init", "--quiet", "--bare", "--template=", &branch, "--", &text];
        let ended = self.repository.git.run(None, &arguments, &[], deadline).await;
        let ended = ended.map_err(|unended| self.repository.unended(unended, "create the repository"))?;
        let made = if ended.is_success() {
            let config = new.join("config");
            let written = fs::read_to_string(&config).and_then(|text| fs::write(&config, text + SETTINGS));
            written.and_then(|()| fs::rename(&new, path)).map_err(failed)
        } else {
            let class = error::class(&ended.stderr);
            Err(error::of(class, &self.repository.location, "create the repository", &ended.stderr))
        };
        if made.is_err() {
            let _ = fs::remove_dir_all(&new);
        }
        match made {
            Ok(()) => Ok(true),
            Err(_) if is_repository(path) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn begun(&self, deadline: &Deadline) -> Result<bool, Failure> {
        match self.repository.tip(deadline).await? {
            Some(_) => Ok(false),
            None => push::begin(&self.repository, deadline).await,
        }
    }
}

#[async_trait]
impl ConditionalObjects for GitObjects {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        let deadline = self.repository.deadline();
        on_whole_clone!(self.repository, self.read(key, &deadline))
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        let deadline = self.repository.deadline();
        let mut files = on_whole_clone!(self.repository, self.listed(prefix, &deadline))?;
        files.retain(|(key, _)| key.starts_with(prefix) && key.as_str() > start_after);
        // A tree has an order of its own, of names as they are written there.
        files.sort_unstable();
        files.truncate(limit);
        Ok(files.into_iter().map(|(key, id)| Entry { key, revision: Some(Revision(id)) }).collect())
    }

    async fn children(&self, prefix: &str, _start_after: Option<&str>) -> Result<Children> {
        let deadline = self.repository.deadline();
        let directories = on_whole_clone!(self.repository, self.names(prefix, &deadline))?;
        Ok(Children { directories, next: None })
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        _metadata: &BTreeMap<String, String>,
    ) -> Result<Put> {
        check_path(key)?;
        let write = Write { key: key.to_owned(), bytes: Some(bytes), precondition, companion: None };
        self.queue.put(&self.repository, write).await.map(|(put, _)| put)
    }

    async fn put_with(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        _metadata: &BTreeMap<String, String>,
        companion: Companion,
    ) -> Result<(Put, bool)> {
        check_path(key)?;
        let companion = Some(companion);
        let write = Write { key: key.to_owned(), bytes: Some(bytes), precondition, companion };
        self.queue.put(&self.repository, write).await
    }

    async fn delete_probe(&self, key: &str) -> Result<()> {
        check_is_probe(key)?;
        check_path(key)?;
        let write =
            Write { key: key.to_owned(), bytes: None, precondition: Precondition::None, companion: None };
        self.queue.put(&self.repository, write).await.map(drop)
    }

    fn default_numbering(&self) -> Numbering {
        Numbering::Sequence
    }

    async fn init(&self, _options: &InitOptions) -> Result<Vec<String>> {
        let deadline = self.repository.deadline();
        self.repository.git.check(&deadline).await?;
        let mut made = None;
        if let Some(path) = self.repository.local().filter(|path| !is_repository(path))
            && around("git.repository", self.create(path, &deadline)).await?
        {
            made = Some(format!("repository '{}'", path.display()));
        }
        let branch = &self.repository.location.branch;
        if on_whole_clone!(self.repository, self.begun(&deadline))? {
            let branch = format!("branch '{branch}'");
            made = Some(made.map_or(branch.clone(), |made| format!("{made} with {branch}")));
        }
        Ok(made.map(|made| format!("created {made}")).into_iter().collect())
    }
}

/// Refuses a key that no path is.
fn check_path(key: &str) -> Result<()> {
    match path::of(key) {
        Some(_) => Ok(()),
        None => Err(Error::invalid(format!("'{key}' cannot be a path in a repository"))),
    }
}
