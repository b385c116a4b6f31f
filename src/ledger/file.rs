//! Conditional objects as files in a directory: the embedded default, safe against power loss and other processes.
//!
//! A create is a `link(2)` of a finished file, which fails if the name is taken; an exchange happens under a lock, by
//! `rename(2)`. Files are synced before they get their name, directories after. Keys are paths below the directory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Children, ConditionalObjects, Entry, InitOptions, Object, Precondition, Put, Revision};
use crate::error::{Error, Meaning, Missing, Result, io_reason};
use crate::model::{FileLocation, Numbering, Sha256};

/// No record of a ledger is larger than this, in bytes.
const OBJECT_MAX: u64 = 1 << 20;

/// How many lock files exchanges are spread over; any number is right, more let more tags move at the same time.
const LOCKS: u8 = 64;

/// Temporary files and locks, below the ledger's own directory so that no listing meets them.
const TEMPORARY: &str = "_sacker/tmp";
const LOCK_DIRECTORY: &str = "_sacker/locks";

/// Files below one directory.
#[derive(Debug)]
pub(super) struct FileObjects {
    root: Arc<Path>,
}

impl FileObjects {
    pub(super) fn new(location: &FileLocation) -> Self {
        Self { root: Arc::from(location.path.as_path()) }
    }

    /// Runs blocking file work off the executor.
    async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Path) -> Result<T> + Send + 'static,
    {
        let root = self.root.clone();
        let finished = tokio::task::spawn_blocking(move || work(&root)).await;
        finished.unwrap_or_else(|error| {
            Err(Error::new(Meaning::Other, "use the ledger's directory").with_source(error))
        })
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
    match file.take(OBJECT_MAX + 1).read_to_end(&mut bytes) {
        Ok(length) if length as u64 > OBJECT_MAX => {
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

/// Makes the name of a file in `directory` durable.
fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| failed("sync", directory, error))
}

/// Creates `directory` and what is missing above it, each durable in its parent.
fn create_directory(root: &Path, directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent().filter(|parent| parent.starts_with(root)) {
        create_directory(root, parent)?;
    }
    match fs::create_dir(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("create", directory, error)),
    }
    // Also when somebody else just created it: their sync may not have happened yet.
    directory.parent().map_or(Ok(()), sync_directory)
}

/// A finished, synced file without a name of its own yet; removed when dropped.
fn write_temporary(root: &Path, bytes: &[u8]) -> Result<tempfile::TempPath> {
    let directory = root.join(TEMPORARY);
    create_directory(root, &directory)?;
    let broken = |error| failed("write", &directory, error);
    let mut file = tempfile::Builder::new()
        .permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666))
        .tempfile_in(&directory)
        .map_err(broken)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(broken)?;
    Ok(file.into_temp_path())
}

fn create(root: &Path, path: &Path, bytes: &[u8]) -> Result<Put> {
    let directory = path.parent().unwrap_or(root);
    create_directory(root, directory)?;
    // Spares the write where the answer is clear; the link below decides.
    if path.exists() {
        return Ok(Put::Refused);
    }
    let temporary = write_temporary(root, bytes)?;
    match fs::hard_link(&temporary, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Put::Refused),
        Err(error) => return Err(failed("write", path, error)),
    }
    sync_directory(directory)?;
    Ok(Put::Written(revision_of(bytes)))
}

fn replace(root: &Path, path: &Path, bytes: &[u8]) -> Result<Put> {
    let directory = path.parent().unwrap_or(root);
    create_directory(root, directory)?;
    let temporary = write_temporary(root, bytes)?;
    temporary.persist(path).map_err(|error| failed("write", path, error.error))?;
    sync_directory(directory)?;
    Ok(Put::Written(revision_of(bytes)))
}

/// Holds the lock that exchanges of `key` take, between threads and processes. Released when dropped.
fn lock(root: &Path, key: &str) -> Result<File> {
    let directory = root.join(LOCK_DIRECTORY);
    create_directory(root, &directory)?;
    let stripe = Sha256::of(key.as_bytes()).as_bytes()[0] % LOCKS;
    let path = directory.join(format!("{stripe:02x}"));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.and_then(|file| file.lock().map(|()| file)).map_err(|error| failed("lock", &path, error))
}

fn put(root: &Path, key: &str, bytes: &[u8], precondition: &Precondition) -> Result<Put> {
    let path = path_of(root, key).ok_or_else(|| Error::invalid(format!("'{key}' cannot be a file name")))?;
    check_root(root)?;
    match precondition {
        Precondition::Absent => create(root, &path, bytes),
        Precondition::None => replace(root, &path, bytes),
        Precondition::Revision(expected) => {
            let _lock = lock(root, key)?;
            match read(root, key)? {
                Some(found) if revision_of(&found) == *expected => replace(root, &path, bytes),
                _ => Ok(Put::Refused),
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
        if is_directory && !names(&directory.join(&name))?.is_empty() {
            directories.push(name);
        }
    }
    Ok(Children { directories, next: None })
}

#[async_trait]
impl ConditionalObjects for FileObjects {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        let key = key.to_owned();
        let bytes = self.run(move |root| read(root, &key)).await?;
        let object = |bytes: Vec<u8>| {
            let revision = revision_of(&bytes);
            Object { bytes: Bytes::from(bytes), revision, metadata: BTreeMap::new() }
        };
        Ok(bytes.map(object))
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        let (prefix, start_after) = (prefix.to_owned(), start_after.to_owned());
        self.run(move |root| list(root, &prefix, &start_after, limit)).await
    }

    async fn children(&self, prefix: &str, _start_after: Option<&str>) -> Result<Children> {
        let prefix = prefix.to_owned();
        self.run(move |root| children(root, &prefix)).await
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        _metadata: &BTreeMap<String, String>,
    ) -> Result<Put> {
        let key = key.to_owned();
        self.run(move |root| put(root, &key, &bytes, &precondition)).await
    }

    fn default_numbering(&self) -> Numbering {
        Numbering::Sequence
    }

    async fn init(&self, _options: &InitOptions) -> Result<Vec<String>> {
        self.run(|root| {
            if root.is_dir() {
                return Ok(Vec::new());
            }
            fs::create_dir_all(root).map_err(|error| failed("create", root, error))?;
            root.parent().map_or(Ok(()), sync_directory)?;
            Ok(vec![format!("created directory '{}'", root.display())])
        })
        .await
    }
}
