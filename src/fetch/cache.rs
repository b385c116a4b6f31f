//! Blobs that several pods of a node share: a directory of files named by their sha256, each verified whenever it is used.
//!
//! The cache is a store like any other, and trusted as little: a fetch copies from it and hashes what it copies, so nobody
//! can change a file that somebody else got. One process at a time fetches a blob into it, the others wait. Entries are
//! removed least recently used first once all are larger than asked for.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::pipeline::hash_file;
use super::{Artifact, Fetched, Form, Options, Target, blocking, fetch_from, is_absent_blob, is_corrupt};
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};
use crate::model::Sha256;
use crate::store::{self, Progress, Store};

/// How long whoever waits for another process pauses between looks.
const LOOK: Duration = Duration::from_millis(50);

/// A directory of blobs, and how large it may grow.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
    /// Bytes of all entries; one that is in use may stand beyond it.
    most: u64,
    entries: Arc<dyn Store>,
}

impl Cache {
    /// The cache in `directory`, which must exist and be absolute, of at most `most` bytes.
    ///
    /// # Errors
    /// `Invalid` for a path that is not absolute, `Local` where there is no such directory.
    pub async fn open(directory: &Path, most: u64) -> Result<Self> {
        if !directory.is_dir() {
            let why = format!("the cache '{}' is no directory", directory.display());
            return Err(Error::new(Meaning::Local { why }, "open the cache")
                .with_hint("mount a volume there, such as a hostPath with type DirectoryOrCreate"));
        }
        let uri = format!("file://{}", directory.display()).parse()?;
        let entries = store::open(&uri, &Connect::default()).await?;
        Ok(Self { directory: directory.to_owned(), most, entries })
    }

    /// Fetches a blob from here into a file, and into here before that if it is missing or spoilt.
    ///
    /// # Errors
    /// As [`super::fetch_with`].
    pub async fn fetch_with(
        &self,
        store: &dyn Store,
        artifact: &Artifact,
        target: &Target,
        options: &Options,
        progress: Progress<'_>,
    ) -> Result<Fetched> {
        match self.take(artifact, target, options).await {
            Err(error) if is_absent_blob(&error) => {}
            // What is wrong may be the record, or the archive, and not the entry.
            Err(error) if is_corrupt(&error) && !self.is_whole(&artifact.sha256).await => {
                tracing::warn!("{error}; the cache has a spoilt entry, it is fetched again");
                self.remove(&artifact.sha256).await?;
            }
            outcome => return outcome,
        }
        let _lock = match self.lock(&artifact.sha256).await {
            // Somebody else's files in the cache are no reason for a pod not to start.
            Err(error) if matches!(error.meaning(), Meaning::Local { .. }) => {
                tracing::warn!("{error}; fetched without the cache");
                return super::fetch_with(store, artifact, target, options, progress).await;
            }
            lock => lock?,
        };
        // Somebody else may have fetched it while we waited.
        match self.take(artifact, target, options).await {
            Err(error) if is_absent_blob(&error) => {}
            outcome => return outcome,
        }
        let entry = Artifact { basename: None, mode: Some(0o644), ..artifact.clone() };
        let path = Target::at(self.directory.join(artifact.sha256.to_string()))?;
        let into_cache = Options { form: Form::File, ..options.clone() };
        match super::fetch_with(store, &entry, &path, &into_cache, progress).await {
            Ok(_) => self.shrink(artifact.sha256).await?,
            // A full cache is no reason for a pod not to start.
            Err(error) if matches!(error.meaning(), Meaning::Local { .. }) => {
                tracing::warn!("{error}; fetched without the cache");
                return super::fetch_with(store, artifact, target, options, progress).await;
            }
            Err(error) => return Err(error),
        }
        match self.take(artifact, target, options).await {
            // Another process found the cache full meanwhile.
            Err(error) if is_absent_blob(&error) => {
                super::fetch_with(store, artifact, target, options, progress).await
            }
            outcome => outcome,
        }
    }

    /// Copies an entry, verified, to where it is asked for.
    async fn take(&self, artifact: &Artifact, target: &Target, options: &Options) -> Result<Fetched> {
        let fetched = fetch_from(&*self.entries, artifact, target, options, &|_| {}).await?;
        let path = self.directory.join(artifact.sha256.to_string());
        // Its time says when it was last of use. Where that may not be set, it counts as older, and no more.
        let _ = blocking(move || Ok(touch(&path).is_ok())).await?;
        Ok(fetched)
    }

    /// Waits until no other process fetches this blob.
    async fn lock(&self, sha256: &Sha256) -> Result<Lock> {
        let path = self.directory.join(format!(".sacker-{sha256}.lock"));
        loop {
            let attempt = path.clone();
            match blocking(move || Lock::attempt(attempt)).await? {
                Some(lock) => return Ok(lock),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Whether the cache has the blob, with the right bytes.
    async fn is_whole(&self, sha256: &Sha256) -> bool {
        let Ok(file) = File::open(self.directory.join(sha256.to_string())) else { return false };
        hash_file(file).await.is_ok_and(|found| found == *sha256)
    }

    async fn remove(&self, sha256: &Sha256) -> Result<()> {
        let path = self.directory.join(sha256.to_string());
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::local("remove", &path, error))
            }
            _ => Ok(()),
        })
        .await
    }

    /// Removes the least recently used entries until all together are small enough; never the one that was just fetched.
    async fn shrink(&self, newest: Sha256) -> Result<()> {
        let (directory, most) = (self.directory.clone(), self.most);
        blocking(move || {
            let listed = fs::read_dir(&directory).map_err(|error| Error::local("read", &directory, error))?;
            let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
            for entry in listed.flatten() {
                let sha256 = entry.file_name().to_str().and_then(|name| name.parse::<Sha256>().ok());
                let Ok(found) = entry.metadata() else { continue };
                if sha256.is_some() && found.is_file() {
                    let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    entries.push((used, found.len(), entry.path()));
                }
            }
            let newest = directory.join(newest.to_string());
            for path in surplus(entries, most, &newest) {
                tracing::debug!("the cache is full: '{}' goes", path.display());
                // Somebody who reads it keeps it open; somebody who comes later fetches it again.
                let _ = fs::remove_file(path);
            }
            Ok(())
        })
        .await
    }
}

/// The right to fetch one blob into the cache. Nothing stays of it.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    /// Closing it gives the lock to the next.
    _file: File,
}

impl Lock {
    /// The lock, unless another process has it.
    fn attempt(path: PathBuf) -> Result<Option<Self>> {
        let failed = |error| Error::local("lock", &path, error);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Whoever had it before removed the file: one that is no longer there keeps nobody out.
        let locked = file.metadata().map_err(failed)?;
        let is_there =
            fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()));
        Ok(is_there.then_some(Self { path, _file: file }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked, so that it is ours. What cannot be removed is taken again by the next.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a file's time that of now, by the clock of its file system.
fn touch(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: omit, last_modification: now })?)
}

/// Which entries go: the least recently used ones, until the others are at most `most` bytes.
fn surplus(mut entries: Vec<(SystemTime, u64, PathBuf)>, most: u64, newest: &Path) -> Vec<PathBuf> {
    entries.sort_unstable();
    let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
    let mut gone = Vec::new();
    for (_, size, path) in entries {
        if total <= most {
            break;
        }
        if path != newest {
            total -= size;
            gone.push(path);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_lock_and_nothing_stays_of_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("lock");
        let attempt = || Lock::attempt(path.clone()).expect("it can be asked for");
        let lock = attempt().expect("nobody has it");
        assert!(attempt().is_none());
        drop(lock);
        assert!(!path.exists());
        let lock = attempt().expect("nobody has it");
        fs::remove_file(&path).expect("removed");
        let next = attempt().expect("the name is free");
        drop((next, lock));
        assert!(!path.exists());
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let at = |second: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let entry = |second, size, name: &str| (at(second), size, PathBuf::from(name));
        let entries = vec![entry(3, 10, "c"), entry(1, 10, "a"), entry(2, 10, "b")];
        let names = |most, newest: &str| surplus(entries.clone(), most, Path::new(newest));
        assert_eq!(names(30, "c"), Vec::<PathBuf>::new());
        assert_eq!(names(29, "c"), [PathBuf::from("a")]);
        assert_eq!(names(5, "c"), [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(names(5, "a"), [PathBuf::from("b"), PathBuf::from("c")], "the newest stays");
    }
}
