//! Conditional objects as files in a directory: the embedded default, safe against power loss and other processes.
//!
//! A create is a `link(2)` of a finished file, which fails if the name is taken; an exchange happens under a lock, by
//! `rename(2)`. Files are synced before they get their name, directories after. Keys are paths below the directory.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::Semaphore;

use super::layout::check_is_probe;
use super::objects::OBJECT_MAX;
use super::{Children, ConditionalObjects, Entry, InitOptions, Object, Precondition, Put, Revision};
use crate::crash_point::{crash_point, crash_point_at};
use crate::error::{Error, Meaning, Missing, Result, io_reason};
use crate::files;
use crate::model::{FileLocation, Numbering, Sha256};
use crate::server_clock::{ServerClock, ServerTime};

/// How many lock files exchanges are spread over; any number is right, more let more tags move at the same time.
const LOCKS: u8 = 64;

/// Temporary files and locks, below the ledger's own directory so that no listing meets them.
const TEMPORARY: &str = "_sacker/tmp";
const LOCK_DIRECTORY: &str = "_sacker/locks";

/// Threads that one directory may keep busy: a file system that hangs must not take those of everybody else, and a thread
/// costs memory.
const THREADS: usize = 16;

/// Files below one directory.
#[derive(Debug)]
pub(super) struct FileObjects {
    place: Arc<Place>,
    clock: Arc<dyn crate::clock::Clock>,
    turns: Arc<Semaphore>,
}

/// The directory, and what this process knows about it.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    /// Directories whose names this process has made durable, or found to be.
    durable: Mutex<HashSet<PathBuf>>,
    swept: Once,
}

impl FileObjects {
    pub(super) fn new(location: &FileLocation, clock: Arc<dyn crate::clock::Clock>) -> Self {
        let turns = Arc::new(Semaphore::new(THREADS));
        Self { place: Arc::new(Place::new(&location.path)), clock, turns }
    }

    /// Runs blocking file work off the executor.
    async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Place) -> Result<T> + Send + 'static,
    {
        let place = self.place.clone();
        // Nobody closes it.
        let turn = self.turns.clone().acquire_owned().await.ok();
        // The turn is part of the outcome: a file system that hangs keeps it when nobody waits any more, and a thread that has
        // done its work is free again before another one is asked for.
        let finished = tokio::task::spawn_blocking(move || (work(&place), turn)).await;
        match finished {
            Ok((done, _turn)) => done,
            Err(error) => Err(Error::new(Meaning::Other, "use the ledger's directory").with_source(error)),
        }
    }
}

/// The path of a key; nothing for a key that is no plain path below the root (no such object can exist).
fn path_of(root: &Path, key: &str) -> Option<PathBuf> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    key.split('/').all(plain).then(|| root.join(key))
}

fn revision_of(bytes: &[u8]) -> Revision {
    Revision(Sha256::of(bytes).to_string())
}

/// An I/O error by meaning.
fn failed(operation: &'static str, path: &Path, error: io::Error) -> Error {
    let key = path.display().to_string();
    let meaning = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Meaning::Denied { action: operation.to_owned(), resource: io_reason(&error) }
        }
        ErrorKind::InvalidFilename => {
            Meaning::Invalid { rule: "a part of the name is too long for a file name".into() }
        }
        _ => return Error::local(operation, path, error),
    };
    Error::new(meaning, operation).with_key(key).with_source(error)
}

fn read(root: &Path, key: &str) -> Result<Option<Vec<u8>>> {
    let Some(path) = path_of(root, key) else { return Ok(None) };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed("read", &path, error)),
    };
    let mut bytes = Vec::new();
    match file.take(OBJECT_MAX as u64 + 1).read_to_end(&mut bytes) {
        Ok(length) if length > OBJECT_MAX => {
            Err(Error::corrupt(path.display().to_string(), "it is larger than any record"))
        }
        Ok(_) => Ok(Some(bytes)),
        // A name that only ever is a directory (a tag named like a component of another key).
        Err(error) if error.kind() == ErrorKind::IsADirectory => Ok(None),
        Err(error) => Err(failed("read", &path, error)),
    }
}

fn check_root(root: &Path) -> Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let what = format!("directory '{}'", root.display());
    Err(Error::new(Meaning::NotFound(Missing::Backend(what)), "open the ledger")
        .with_hint(format!("create it with: sacker --ledger file://{} init", root.display())))
}

/// A directory, opened before a name in it changes: what can be refused is refused while nothing was written yet.
struct Parent {
    directory: File,
    path: PathBuf,
}

impl Parent {
    fn open(path: &Path) -> Result<Self> {
        let directory = File::open(path).map_err(|error| failed("open", path, error))?;
        Ok(Self { directory, path: path.to_owned() })
    }

    /// Makes the names in it durable.
    ///
    /// # Errors
    /// `Unavailable`, whatever the reason: a name is in place that may not last, so only a look can tell.
    fn sync(&self) -> Result<()> {
        self.directory.sync_all().map_err(|error| {
            let key = self.path.display().to_string();
            Error::new(Meaning::Unavailable, "sync").with_key(key).with_source(error)
        })?;
        crash_point_at("file.object.durable", &self.path);
        Ok(())
    }
}

impl Place {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), durable: Mutex::default(), swept: Once::new() }
    }

    /// Creates `directory` and what is missing between it and the root, each durable in its parent. Also where somebody
    /// else created it: their sync may not have happened.
    fn create_directory(&self, directory: &Path) -> Result<()> {
        let is_known = self.durable().contains(directory);
        if directory == self.root || (is_known && directory.is_dir()) {
            return Ok(());
        }
        let parent = directory.parent().unwrap_or(&self.root);
        self.create_directory(parent)?;
        match fs::create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create", directory, error)),
        }
        crash_point_at("file.directory.created", directory);
        files::sync_directory(parent).map_err(|error| failed("sync", parent, error))?;
        crash_point_at("file.directory.durable", parent);
        self.durable().insert(directory.to_owned());
        Ok(())
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A finished, synced file without a name of its own yet; removed when dropped.
    fn write_temporary(&self, bytes: &[u8]) -> Result<NamedTempFile> {
        let directory = self.root.join(TEMPORARY);
        self.create_directory(&directory)?;
        let broken = |error| failed("write", &directory, error);
        self.swept.call_once(|| {
            if let Ok(directory) = File::open(&directory) {
                files::sweep(&directory, |_| true);
            }
        });
        let mut file = files::temporary(&directory, ".tmp", 0o666).map_err(broken)?;
        file.write_all(bytes).map_err(broken)?;
        crash_point_at("file.temporary.written", file.path());
        file.as_file().sync_all().map_err(broken)?;
        crash_point_at("file.temporary.synced", file.path());
        Ok(file)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> Result<Put> {
        let directory = path.parent().unwrap_or(&self.root);
        self.create_directory(directory)?;
        let parent = Parent::open(directory)?;
        let linked = if path.exists() {
            // Spares the write where the answer is clear; otherwise the link decides.
            Err(ErrorKind::AlreadyExists.into())
        } else {
            fs::hard_link(self.write_temporary(bytes)?, path)
        };
        match linked {
            Ok(()) => {
                crash_point_at("file.object.linked", path);
                parent.sync().map(|()| Put::Written(revision_of(bytes)))
            }
            // What is there may be this write's own earlier attempt, and its name not durable yet.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => parent.sync().map(|()| Put::Refused),
            Err(error) => Err(failed("write", path, error)),
        }
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<Put> {
        let directory = path.parent().unwrap_or(&self.root);
        self.create_directory(directory)?;
        let parent = Parent::open(directory)?;
        let temporary = self.write_temporary(bytes)?;
        temporary.persist(path).map_err(|error| failed("write", path, error.error))?;
        crash_point_at("file.object.renamed", path);
        parent.sync()?;
        Ok(Put::Written(revision_of(bytes)))
    }

    /// Holds the lock that exchanges of `key` take, between threads and processes. Released when dropped.
    fn lock(&self, key: &str) -> Result<File> {
        let directory = self.root.join(LOCK_DIRECTORY);
        self.create_directory(&directory)?;
        let stripe = Sha256::of(key.as_bytes()).as_bytes()[0] % LOCKS;
        let path = directory.join(format!("{stripe:02x}"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file =
            file.and_then(|file| file.lock().map(|()| file)).map_err(|error| failed("lock", &path, error))?;
        crash_point("file.lock.taken");
        Ok(file)
    }

    fn put(&self, key: &str, bytes: &[u8], precondition: &Precondition) -> Result<Put> {
        let root = &self.root;
        let path =
            path_of(root, key).ok_or_else(|| Error::invalid(format!("'{key}' cannot be a file name")))?;
        check_root(root)?;
        match precondition {
            Precondition::Absent => self.create(&path, bytes),
            Precondition::None => self.replace(&path, bytes),
            Precondition::Revision(expected) => {
                let _lock = self.lock(key)?;
                match read(root, key)? {
                    Some(found) if revision_of(&found) == *expected => self.replace(&path, bytes),
                    // What is there may be this write's own earlier attempt, and its name not durable yet.
                    Some(_) => Parent::open(path.parent().unwrap_or(root))?.sync().map(|()| Put::Refused),
                    None => Ok(Put::Refused),
                }
            }
        }
    }
}

/// The names in a directory, sorted by their bytes; none if it does not exist.
fn names(directory: &Path) -> Result<Vec<(String, bool)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed("list", directory, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", directory, error))?;
        let is_directory = entry.file_type().map_err(|error| failed("list", directory, error))?.is_dir();
        // Keys are text: a name that is not UTF-8 is nobody's key.
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, is_directory));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a directory has anything in it that [`names`] would give.
fn has_names(directory: &Path) -> Result<bool> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("list", directory, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", directory, error))?;
        if entry.file_name().to_str().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a directory surely has others in it: each is a link to it. Spares the reading of it where the file system counts those.
fn has_directories(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|found| found.nlink() > 2)
}

/// Collects the keys of all files below `prefix` (which ends in `/`).
fn collect(root: &Path, prefix: &str, keys: &mut Vec<String>) -> Result<()> {
    let Some(directory) = path_of(root, prefix.trim_end_matches('/')) else { return Ok(()) };
    for (name, is_directory) in names(&directory)? {
        let key = format!("{prefix}{name}");
        if is_directory {
            collect(root, &format!("{key}/"), keys)?;
        } else {
            keys.push(key);
        }
    }
    Ok(())
}

fn list(root: &Path, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
    let mut keys = Vec::new();
    collect(root, prefix, &mut keys)?;
    if keys.is_empty() {
        check_root(root)?;
    }
    keys.retain(|key| key.as_str() > start_after);
    keys.sort_unstable();
    keys.truncate(limit);
    Ok(keys.into_iter().map(|key| Entry { key, revision: None }).collect())
}

fn children(root: &Path, prefix: &str) -> Result<Children> {
    check_root(root)?;
    let directory = root.join(prefix);
    let mut directories = Vec::new();
    for (name, is_directory) in names(&directory)? {
        // A crash can leave an empty directory; on object stores there is no such thing.
        let is_there = |path: &Path| Ok::<_, Error>(has_directories(path) || has_names(path)?);
        if is_directory && is_there(&directory.join(&name))? {
            directories.push(name);
        }
    }
    Ok(Children { directories, next: None })
}

#[async_trait]
impl ConditionalObjects for FileObjects {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        let key = key.to_owned();
        let bytes = self.run(move |place| {
            let found = read(&place.root, &key)?;
            if found.is_none() {
                check_root(&place.root)?;
            }
            Ok(found)
        });
        let object = |bytes: Vec<u8>| {
            let revision = revision_of(&bytes);
            Object { bytes: Bytes::from(bytes), revision, metadata: BTreeMap::new() }
        };
        Ok(bytes.await?.map(object))
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        let (prefix, start_after) = (prefix.to_owned(), start_after.to_owned());
        self.run(move |place| list(&place.root, &prefix, &start_after, limit)).await
    }

    /// A revision is a digest here: to list it would mean reading every file.
    fn lists_revisions(&self) -> bool {
        false
    }

    async fn children(&self, prefix: &str, _start_after: Option<&str>) -> Result<Children> {
        let prefix = prefix.to_owned();
        self.run(move |place| children(&place.root, &prefix)).await
    }

    async fn children_of_each(&self, prefixes: Vec<String>) -> Result<Vec<(String, Vec<String>)>> {
        let each = |root: &Path, prefix: String| {
            children(root, &prefix).map(|children| (prefix, children.directories))
        };
        self.run(move |place| prefixes.into_iter().map(|prefix| each(&place.root, prefix)).collect()).await
    }

    /// To hand a listing over to a thread takes as long as the listing.
    fn listings_at_once(&self) -> usize {
        64
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        _metadata: &BTreeMap<String, String>,
    ) -> Result<Put> {
        let key = key.to_owned();
        self.run(move |place| place.put(&key, &bytes, &precondition)).await
    }

    async fn delete_probe(&self, key: &str) -> Result<()> {
        check_is_probe(key)?;
        let key = key.to_owned();
        self.run(move |place| {
            let Some(path) = path_of(&place.root, &key) else { return Ok(()) };
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path, error)),
                _ => {
                    // The directory of one probe goes with its last file.
                    let _not_empty_yet = path.parent().map(fs::remove_dir);
                    Ok(())
                }
            }
        })
        .await
    }

    /// By the clock of the file system. Nothing where that may not be asked.
    async fn time(&self) -> Option<ServerTime> {
        let server = ServerClock::new(self.clock.clone());
        let asked = self.run(move |place| {
            let sent = server.monotonic();
            if let Ok(time) = files::time_at(&place.root) {
                server.observe(time, sent);
            }
            Ok(server.now())
        });
        asked.await.ok().flatten()
    }

    fn default_numbering(&self) -> Numbering {
        Numbering::Sequence
    }

    async fn init(&self, _options: &InitOptions) -> Result<Vec<String>> {
        self.run(|place| {
            let root = &place.root;
            let created = files::create_directories(root).map_err(|error| failed("create", root, error))?;
            Ok(created.then(|| format!("created directory '{}'", root.display())).into_iter().collect())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let place = Place::new(folder.path());
        (folder, place)
    }

    #[test]
    fn a_name_that_may_not_last_is_in_doubt() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let opened = rustix::fs::open(folder.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        // Nothing can be synced through such a descriptor.
        let directory = File::from(opened.expect("opened"));
        let error = Parent { directory, path: folder.path().to_owned() }.sync().expect_err("no sync");
        assert_eq!(*error.meaning(), Meaning::Unavailable, "{error:?}");
    }

    #[test]
    fn what_killed_processes_left_is_removed() {
        let (folder, place) = place();
        let temporary = folder.path().join(TEMPORARY);
        fs::create_dir_all(&temporary).expect("made");
        fs::write(temporary.join(".tmpAbCdEf"), "left").expect("written");
        let held = files::temporary(&temporary, ".tmp", 0o666).expect("made");
        place.put("a/b", b"{}", &Precondition::Absent).expect("written");
        let left: Vec<_> = names(&temporary).expect("listed");
        let held_name = held.path().file_name().expect("a name").to_str().expect("UTF-8");
        assert_eq!(left, [(held_name.to_owned(), false)]);
    }

    #[test]
    fn directories_of_others_are_made_durable_once() {
        let (folder, place) = place();
        fs::create_dir_all(folder.path().join("a/b")).expect("made by somebody else");
        place.put("a/b/c", b"{}", &Precondition::Absent).expect("written");
        for directory in ["a", "a/b", "_sacker", "_sacker/tmp"] {
            assert!(place.durable().contains(&folder.path().join(directory)), "{directory}");
        }
        // One that was removed meanwhile is made again.
        fs::remove_dir_all(folder.path().join("a")).expect("removed");
        let put = place.put("a/b/c", b"{}", &Precondition::Absent).expect("written");
        assert!(matches!(put, Put::Written(_)));
    }

    #[tokio::test]
    async fn a_ledger_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let objects = FileObjects::new(
            &FileLocation::at(folder.path().join("none")),
            Arc::new(crate::clock::SystemClock),
        );
        for error in [
            objects.get("a").await.map(|_| ()).expect_err("no ledger"),
            objects.list("a/", "a/", 1).await.map(|_| ()).expect_err("no ledger"),
            objects.children("", None).await.map(|_| ()).expect_err("no ledger"),
        ] {
            assert!(matches!(error.meaning(), Meaning::NotFound(Missing::Backend(_))), "{error:?}");
            assert!(error.hint().is_some_and(|hint| hint.ends_with("/none init")), "{error:?}");
        }
        assert_eq!(objects.init(&InitOptions::default()).await.expect("set up").len(), 1);
        assert_eq!(objects.get("a").await.expect("read"), None);
        assert!(objects.list("a/", "a/", 1).await.expect("listed").is_empty());
    }
}
