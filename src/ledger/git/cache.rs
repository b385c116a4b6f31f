//! The bare clone of a ledger's repository, below the user's cache directory: where commits are made before they are
//! pushed, and where what was fetched stays.
//!
//! Shared by all processes of the user. Git's own locks guard what it holds; it has no work tree, no index, and no ref that
//! decides anything. Losing it costs a fetch, so a damaged one is put away and made anew. Of a local repository it borrows
//! the objects, and holds only what is not pushed yet.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::command::{Deadline, Git, Unended};
use super::error::clean;
use super::failure::Failure;
use crate::crash_point::around;
use crate::environment::Environment;
use crate::error::{Error, Meaning, Result};
use crate::model::{GitLocation, GitRemote, Sha256};

/// So many loose objects in one of 256 directories make git collect them: 27 are about 7,000 in all, its own figure.
const LOOSE: usize = 27;

/// So many packs, too.
const PACKS: usize = 50;

/// The longest that a writer waits for another of this machine before it goes ahead: the push decides in any case.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file with the name of this very clone: one that was made since has another.
const NAME: &str = "sacker-clone";

/// The place of a clone.
#[derive(Debug)]
pub(super) struct Cache {
    /// Where all clones are; nothing where the environment does not say.
    root: Option<PathBuf>,
    name: String,
    /// The objects that it borrows.
    borrowed: Option<PathBuf>,
    /// This process saw it whole.
    is_known: AtomicBool,
    /// The clone that this process uses.
    used: Mutex<Option<String>>,
}

impl Cache {
    /// Touches no file.
    pub(super) fn new(location: &GitLocation, environment: &Environment) -> Self {
        let absolute =
            |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let root = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        let borrowed = match &location.remote {
            GitRemote::File(path) => Some(path.join("objects")),
            GitRemote::Ssh { .. } | GitRemote::Http { .. } => None,
        };
        Self {
            root: root.map(|root| root.join("sacker/git")),
            name: Sha256::of(location.url().as_bytes()).to_string(),
            borrowed,
            is_known: AtomicBool::new(false),
            used: Mutex::default(),
        }
    }

    fn root(&self) -> Result<&Path> {
        self.root.as_deref().ok_or_else(|| {
            Error::invalid("a git ledger needs a cache, and neither XDG_CACHE_HOME nor HOME says where")
                .with_hint("set XDG_CACHE_HOME to a directory that can be written")
        })
    }

    /// The clone, made if it is not there. `id` is any id of the repository: its length tells the kind of hash.
    pub(super) async fn ready(
        &self,
        git: &Git,
        id: Option<&str>,
        deadline: &Deadline,
    ) -> Result<PathBuf, Failure> {
        let root = self.root()?;
        let directory = root.join(&self.name);
        if self.is_known.load(Ordering::Relaxed) {
            return Ok(directory);
        }
        if directory.join("HEAD").exists() {
            self.clean_up(git, &directory, deadline).await;
        } else {
            around("git.clone", self.make(git, root, &directory, id, deadline)).await?;
        }
        let name = fs::read_to_string(directory.join(NAME)).ok();
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = name;
        self.is_known.store(true, Ordering::Relaxed);
        Ok(directory)
    }

    /// A courtesy, at the start of a process's work: pushes and fetches here leave it to us.
    async fn clean_up(&self, git: &Git, directory: &Path, deadline: &Deadline) {
        const COLLECT: &[&str] = &[
            "-c",
            "gc.auto=6700",
            "-c",
            "gc.autoDetach=false",
            "-c",
            "core.fsync=all",
            "gc",
            "--auto",
            "--quiet",
        ];
        let repository = self.borrowed.as_deref().and_then(Path::parent);
        if let Some(repository) = repository.filter(|repository| is_full(repository)) {
            let _kept = git.run(Some(repository), COLLECT, &[], deadline).await;
        }
        if is_full(directory) {
            // One that borrows has no refs: what was pushed is there, and what was not is nobody's after a while.
            let borrows = self.borrowed.is_some();
            let command = if borrows { &["prune", "--expire=1.hour.ago"] } else { COLLECT };
            let _kept = git.run(Some(directory), command, &[], deadline).await;
        }
        tidy(directory);
    }

    async fn make(
        &self,
        git: &Git,
        root: &Path,
        directory: &Path,
        id: Option<&str>,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        let unwritable = |operation, path: &Path, error| {
            Error::local(operation, path, error)
                .with_hint("the cache of git ledgers is here; XDG_CACHE_HOME names another place")
        };
        fs::create_dir_all(root).map_err(|error| unwritable("create", root, error))?;
        sweep(root);
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(root);
        let new = new.map_err(|error| unwritable("write to", root, error))?;
        let path = new.path().to_str().ok_or_else(|| Error::invalid("the cache directory is not UTF-8"))?;
        let kind = if id.is_some_and(|id| id.len() == 64) { "sha256" } else { "sha1" };
        let format = format!("--object-format={kind}");
        let arguments = ["init", "--quiet", "--bare", "--template=", &format, "--", path];
        match git.run(None, &arguments, &[], deadline).await {
            Ok(ended) if ended.is_success() => {}
            Ok(ended) => {
                let error = Error::new(Meaning::Other, "make a clone in the cache").with_key(path);
                return Err(error.with_source(clean(&ended.stderr)).into());
            }
            Err(Unended::Unstarted(error)) => return Err(error.into()),
            Err(Unended::TimedOut) => {
                return Err(Error::new(Meaning::Unavailable, "make a clone in the cache").into());
            }
        }
        let write = |name: &str, text: String| {
            let file = new.path().join(name);
            file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, text))
        };
        let mut written = write(NAME, uuid::Uuid::new_v4().to_string());
        if let Some(borrowed) = &self.borrowed {
            written =
                written.and_then(|()| write("objects/info/alternates", format!("{}\n", borrowed.display())));
        }
        written.map_err(|error| unwritable("write to", root, error))?;
        match fs::rename(new.path(), directory) {
            Ok(()) => {}
            // Somebody else was faster: theirs is as good.
            Err(_) if directory.join("HEAD").exists() => return Ok(()),
            Err(error) if is_taken(&error) => {
                // What is there is no clone: a directory that was being removed when its process died.
                self.put_away(root, directory);
                fs::rename(new.path(), directory)
                    .map_err(|error| unwritable("write to", directory, error))?;
            }
            Err(error) => return Err(unwritable("write to", directory, error).into()),
        }
        Ok(())
    }

    /// Puts the clone away that this process used, unless somebody else did so: the next [`Cache::ready`] makes another.
    pub(super) fn discard(&self) {
        self.is_known.store(false, Ordering::Relaxed);
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(root) = &self.root else { return };
        let directory = root.join(&self.name);
        if fs::read_to_string(directory.join(NAME)).ok() == used {
            self.put_away(root, &directory);
        }
    }

    fn put_away(&self, root: &Path, directory: &Path) {
        let away = root.join(format!(".old-{}", uuid::Uuid::new_v4().simple()));
        if fs::rename(directory, &away).is_ok() {
            tracing::debug!(clone = self.name, "a damaged clone in the cache is made anew");
            let _ = fs::remove_dir_all(away);
        }
    }

    /// Lets one writer of this machine go at a time, as far as that can be had: writers that race spend their pushes on
    /// each other. True: another one was ahead.
    pub(super) async fn turn(&self, deadline: &Deadline) -> (Option<File>, bool) {
        let Ok(root) = self.root() else { return (None, false) };
        let path = root.join(format!("{}.lock", self.name));
        let Ok(file) = OpenOptions::new().create(true).truncate(false).write(true).open(path) else {
            return (None, false);
        };
        let patience = deadline.at_most(PATIENCE.min(deadline.left() / 2));
        let mut has_waited = false;
        loop {
            match file.try_lock() {
                Ok(()) => return (Some(file), has_waited),
                Err(TryLockError::WouldBlock) if !patience.left().is_zero() => {
                    has_waited = true;
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=6))).await;
                }
                Err(_) => return (None, has_waited),
            }
        }
    }
}

fn is_taken(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory)
}

fn entries(directory: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten()
}

/// Whether it is time to collect loose objects and packs.
fn is_full(repository: &Path) -> bool {
    let packs = entries(&repository.join("objects/pack"));
    let packs = packs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pack"));
    entries(&repository.join("objects/17")).count() >= LOOSE || packs.count() >= PACKS
}

fn is_older_than(entry: &fs::DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|found| found.modified()).ok();
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|elapsed| elapsed > age)
}

/// Half-made and put-away clones of processes that died.
fn sweep(root: &Path) {
    for entry in entries(root) {
        let name = entry.file_name();
        let is_ours = [".new-", ".old-"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
        if is_ours && is_older_than(&entry, Duration::from_hours(1)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Locks of refs, and crash reports, that processes left which died. No ref is locked for longer than a moment.
fn tidy(clone: &Path) {
    let old = |entry: &fs::DirEntry| is_older_than(entry, Duration::from_mins(10));
    for entry in entries(&clone.join("refs/sacker")).chain(entries(clone)) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if (name.ends_with(".lock") || name.starts_with("fast_import_crash_")) && old(&entry) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(pairs: &[(&str, &str)]) -> Cache {
        let environment: Environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Cache::new(&GitLocation { remote: GitRemote::File("/r".into()), branch: "main".into() }, &environment)
    }

    #[test]
    fn the_environment_says_where_clones_are() {
        let root = |pairs| cache(pairs).root().map(Path::to_owned).ok();
        assert_eq!(root(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/sacker/git".into()));
        assert_eq!(
            root(&[("HOME", "/h"), ("XDG_CACHE_HOME", "relative")]),
            Some("/h/.cache/sacker/git".into())
        );
        let error = cache(&[]).root().map(|_| ()).expect_err("nobody says where");
        assert!(error.to_string().contains("neither XDG_CACHE_HOME nor HOME"), "{error}");
    }

    #[test]
    fn only_the_clone_that_was_used_is_put_away() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let cache = cache(&[("XDG_CACHE_HOME", folder.path().to_str().expect("UTF-8"))]);
        let directory = cache.root().expect("a root").join(&cache.name);
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join(NAME), "another").expect("written");
        *cache.used.lock().expect("a lock") = Some("one".into());
        cache.discard();
        assert!(directory.exists(), "somebody else made it anew");
        *cache.used.lock().expect("a lock") = Some("another".into());
        cache.discard();
        assert!(!directory.exists());
    }
}
