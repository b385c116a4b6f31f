//! A repository as it is read: where the branch is, and what its tree holds.
//!
//! Of a local repository, refs and objects are read where they are. Of any other, `git ls-remote` says where the branch is,
//! and what the clone lacks of it is fetched: the answer of the server alone decides what is current. Not responsible for
//! writes ([`super::write`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::cache::Cache;
use super::command::{Deadline, Ended, Git, Unended};
use super::error::{self, Class};
use super::failure::Failure;
use super::reader::{Read, Reader};
use super::tree::{self, Trees};
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};
use crate::model::{GitLocation, GitRemote};
use crate::retry::Backoff;

/// How often a server that is away, or busy, is asked in a row.
pub(super) const ATTEMPTS: u32 = 6;

/// Where the branch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) commit: String,
    pub(super) tree: String,
}

/// The last look at where the branch is, and which it was.
#[derive(Debug, Default)]
struct Looked {
    number: u64,
    outcome: Option<Result<Option<Arc<Tip>>, Failure>>,
}

/// One branch of one repository.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) location: GitLocation,
    pub(super) connect: Connect,
    pub(super) git: Git,
    pub(super) cache: Cache,
    reader: Reader,
    pub(super) trees: Trees,
    /// How many looks were begun.
    begun: AtomicU64,
    looked: Mutex<Looked>,
}

impl Repository {
    /// Starts no process and touches no file.
    pub(super) fn new(location: &GitLocation, connect: &Connect) -> Self {
        Self {
            location: location.clone(),
            connect: connect.clone(),
            git: Git::new(location, &connect.environment),
            cache: Cache::new(location, &connect.environment),
            reader: Reader::default(),
            trees: Trees::default(),
            begun: AtomicU64::new(0),
            looked: Mutex::default(),
        }
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(&self.connect.clock, self.connect.deadline)
    }

    pub(super) fn backoff(&self, deadline: &Deadline) -> Backoff {
        Backoff::new(self.connect.clock.clone(), deadline.left())
    }

    /// The directory of a local repository.
    pub(super) fn local(&self) -> Option<&Path> {
        match &self.location.remote {
            GitRemote::File(path) => Some(path),
            GitRemote::Ssh { .. } | GitRemote::Http { .. } => None,
        }
    }

    /// The repository as an argument. A path is taken as it is, where a URL would be decoded.
    pub(super) fn argument(&self) -> String {
        self.local().map_or_else(|| self.location.url(), |path| path.display().to_string())
    }

    pub(super) fn branch(&self) -> String {
        format!("refs/heads/{}", self.location.branch)
    }

    /// The error of a step that did not end, or not well.
    pub(super) fn unended(&self, unended: Unended, operation: &'static str) -> Error {
        match unended {
            Unended::Unstarted(error) => error,
            Unended::TimedOut => Error::new(Meaning::Unavailable, operation)
                .with_key(self.location.url())
                .with_source("git did not end in time and was ended"),
        }
    }

    fn failed(&self, ended: &Ended, operation: &'static str) -> Failure {
        match error::class(&ended.stderr) {
            Class::Broken if self.local().is_none() => Failure::Broken(error::clean(&ended.stderr)),
            class => error::of(class, &self.location, operation, &ended.stderr).into(),
        }
    }

    /// Where the branch is: as of a look that began after this call did, shared by all who called before it began.
    /// Nothing where there is no such branch.
    pub(super) async fn tip(&self, deadline: &Deadline) -> Result<Option<Arc<Tip>>, Failure> {
        let arrived = self.begun.load(Ordering::SeqCst);
        let mut looked = self.looked.lock().await;
        if looked.number > arrived
            && let Some(outcome) = &looked.outcome
        {
            return shared(outcome);
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = self.look(deadline).await;
        *looked = Looked { number, outcome: Some(shared(&outcome)) };
        outcome
    }

    /// Where the branch was at the last look, if that is known.
    pub(super) async fn last_tip(&self) -> Option<Arc<Tip>> {
        match &self.looked.lock().await.outcome {
            Some(Ok(tip)) => tip.clone(),
            _ => None,
        }
    }

    /// The branch is here now: we put it there.
    pub(super) async fn note(&self, tip: Arc<Tip>) {
        let mut looked = self.looked.lock().await;
        // A look of this number is over, so nobody takes this for one that began later.
        looked.outcome = Some(Ok(Some(tip)));
        looked.number = 0;
    }

    /// The same, where a ledger must have the branch.
    pub(super) async fn present_tip(&self, deadline: &Deadline) -> Result<Arc<Tip>, Failure> {
        self.tip(deadline).await?.ok_or_else(|| error::no_branch(&self.location, "open the ledger").into())
    }

    async fn look(&self, deadline: &Deadline) -> Result<Option<Arc<Tip>>, Failure> {
        self.git.check(deadline).await?;
        if self.local().is_some() {
            return self.commit(&self.branch(), deadline).await;
        }
        let mut backoff = self.backoff(deadline);
        loop {
            let Some(id) = self.ask(deadline).await? else { return Ok(None) };
            if let Some(tip) = self.commit(&id, deadline).await? {
                return Ok(Some(tip));
            }
            self.fetch(&id, deadline).await?;
            if let Some(tip) = self.commit(&id, deadline).await? {
                return Ok(Some(tip));
            }
            // Somebody wound the branch back meanwhile, against the rules.
            if !backoff.pause().await {
                let error =
                    Error::new(Meaning::Unavailable, "fetch the branch").with_key(self.location.url());
                return Err(error.into());
            }
        }
    }

    /// Where the server says that the branch is.
    async fn ask(&self, deadline: &Deadline) -> Result<Option<String>, Failure> {
        let (remote, branch) = (self.argument(), self.branch());
        let ended = self.persist(&["ls-remote", "--", &remote, &branch], None, deadline).await?;
        if !ended.is_success() {
            return Err(self.failed(&ended, "ask for the branch"));
        }
        let rows = ended.text();
        let mut rows = rows.lines().filter_map(|line| line.split_once('\t'));
        Ok(rows.find(|(id, name)| *name == branch && tree::is_id(id)).map(|(id, _)| id.to_owned()))
    }

    /// Fetches the branch, with all that the clone lacks of it. The ref is only for the next fetch to build on: where others
    /// are writing it, what was asked for is there all the same.
    pub(super) async fn fetch(&self, id: &str, deadline: &Deadline) -> Result<(), Failure> {
        let directory = self.cache.ready(&self.git, Some(id), deadline).await?;
        let remote = self.argument();
        let refspec = format!("+{}:refs/sacker/{}", self.branch(), self.location.branch);
        let arguments = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--",
            &remote,
            &refspec,
        ];
        let ended = self.persist(&arguments, Some(&directory), deadline).await?;
        if ended.is_success() || self.commit(id, deadline).await?.is_some() {
            return Ok(());
        }
        Err(self.failed(&ended, "fetch the branch"))
    }

    /// Runs git until the server answers, or was away too often in a row.
    async fn persist(
        &self,
        arguments: &[&str],
        directory: Option<&Path>,
        deadline: &Deadline,
    ) -> Result<Ended, Failure> {
        let mut backoff = self.backoff(deadline);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let ended = self.git.run(directory, arguments, &[], deadline).await;
            let ended = ended.map_err(|unended| self.unended(unended, "ask the server"))?;
            let class = error::class(&ended.stderr);
            let is_away = matches!(class, Class::Unreached | Class::Away | Class::Throttled);
            if ended.is_success() || !is_away || attempt >= ATTEMPTS || !backoff.pause().await {
                return Ok(ended);
            }
        }
    }

    /// Where objects are read.
    async fn place(&self, id: &str, deadline: &Deadline) -> Result<PathBuf, Failure> {
        match self.local() {
            Some(path) if is_repository(path) => Ok(path.to_owned()),
            Some(_) => Err(error::missing(&self.location, "open the ledger").into()),
            None => self.cache.ready(&self.git, Some(id), deadline).await,
        }
    }

    pub(super) async fn read(&self, name: &str, deadline: &Deadline) -> Result<Read, Failure> {
        let place = self.place(name, deadline).await?;
        match self.reader.read(&self.git, &place, name, deadline).await {
            Err(Failure::Broken(said)) if self.local().is_some() => {
                let class = error::class(&said);
                Err(error::of(class, &self.location, "read the repository", &said).into())
            }
            read => read,
        }
    }

    /// The commit of this name; nothing where there is none.
    pub(super) async fn commit(&self, name: &str, deadline: &Deadline) -> Result<Option<Arc<Tip>>, Failure> {
        match self.read(name, deadline).await? {
            Read::Missing => Ok(None),
            Read::Object { id, bytes } => match tree::of_commit(&bytes) {
                Some(tree) => Ok(Some(Arc::new(Tip { commit: id, tree }))),
                None => Err(Error::corrupt(self.location.url(), format!("{name} is no commit")).into()),
            },
            Read::TooLarge => Err(Error::corrupt(self.location.url(), format!("{name} is no commit")).into()),
        }
    }

    /// A key as it is shown: with the repository and the branch.
    pub(super) fn shown(&self, key: &str) -> String {
        format!("{} {}:{key}", self.location.url(), self.location.branch)
    }

    /// Puts a damaged clone away. An error when that was done too often.
    pub(super) async fn mend(&self, said: String, times: &mut u32) -> Result<()> {
        tracing::debug!(said, "the clone in the cache is put away");
        *times += 1;
        self.cache.discard();
        self.reader.reset().await;
        // The new clone does not have it, so nothing can be built on it.
        self.looked.lock().await.outcome = None;
        if *times <= 3 {
            return Ok(());
        }
        Err(Error::new(Meaning::Other, "use the clone in the cache")
            .with_key(self.location.url())
            .with_source(said))
    }
}

/// What one look found, for another of those whom it serves.
fn shared(outcome: &Result<Option<Arc<Tip>>, Failure>) -> Result<Option<Arc<Tip>>, Failure> {
    match outcome {
        Ok(tip) => Ok(tip.clone()),
        Err(failure) => Err(failure.alike()),
    }
}

/// Whether a directory is a repository, as far as a look tells.
pub(super) fn is_repository(path: &Path) -> bool {
    path.join("HEAD").exists() && path.join("objects").is_dir()
}
