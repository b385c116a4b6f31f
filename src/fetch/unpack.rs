//! Unpacks a verified archive (tar, tar.gz, tar.zst) into a directory: nothing of it is visible before all of it is there.
//!
//! An archive with the right digest may still be hostile. Only regular files and directories are made, under names of
//! harmless components, beneath a new directory; links, devices and everything else are refused, and so is what is larger, or
//! has more entries, than an honest archive would. Nothing in it is ever run. All of this is blocking I/O.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::partial::PartialFile;
use super::pipeline::Verified;
use super::place::Place;
use crate::error::{Error, Meaning, Result, io_reason};
use crate::model::safe_mode;

/// The file that says what an earlier run unpacked, and which of two runs may unpack.
pub(super) const RECORD: &str = ".sacker-unpacked";

/// What the name of a directory begins with in which an archive is being unpacked.
const STAGING: &str = ".sacker-unpacking-";

/// Most entries of an archive.
const ENTRIES: usize = 200_000;

/// An archive may be so much larger than its file, and small ones this large: the best that zstd does with program text is
/// about 20.
const RATIO: u64 = 200;
const SMALL: u64 = 64 << 20;

/// Longest path of an entry, and longest header extension, in bytes.
const PATH: u64 = 4096;
const EXTENSION: u64 = 64 << 10;

/// Most memory that a zstd frame may ask for, as a power of two: what `zstd -19` uses.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes that are copied at once.
const COPY: usize = 256 << 10;

/// Makes the directory to unpack into, if only itself is missing. One that cannot be made is told by whoever opens it.
pub(super) fn make_directory(directory: &Path) {
    let _ = fs::create_dir(directory);
}

/// Unpacks a verified archive into the directory of `place`. What an earlier run unpacked there goes.
///
/// # Errors
/// As [`unpack_file`].
pub(super) fn unpack(place: &Place, verified: &Verified<PartialFile>, label: &str) -> Result<()> {
    let file = verified.output().finished().map_err(|error| Error::local("write", &place.path(), error))?;
    // Not by its name, which may lead elsewhere by now.
    let directory = PathBuf::from(format!("/proc/self/fd/{}", place.directory().as_raw_fd()));
    unpack_file(&directory, file, label)
}

/// Unpacks `archive` into `directory`, which is there.
///
/// # Errors
/// `Corrupt` for an archive that is none, or that is refused; `Local` when the directory cannot be written to, or something
/// that no earlier run made stands where an entry would come.
fn unpack_file(directory: &Path, archive: &File, label: &str) -> Result<()> {
    let record = Record::open(directory)?;
    let staging = Staging::create(directory)?;
    let refused = |why: String| {
        let why = format!("the archive is refused: {why}");
        Error::new(Meaning::Corrupt { why }, "unpack the archive").with_key(label)
    };
    match read(archive, &staging.0) {
        Ok(()) => {}
        Err(Broken::Archive(why)) => return Err(refused(why)),
        Err(Broken::Disk(path, error)) => return Err(Error::local("write", &path, error)),
    }
    record.replace(directory, &staging.0)
}

/// Why unpacking ended early.
enum Broken {
    /// The archive.
    Archive(String),
    /// The file system, at this path.
    Disk(PathBuf, io::Error),
}

/// What the library says may quote the archive.
fn bad(error: &io::Error) -> Broken {
    let reason: String = io_reason(error).chars().take(200).collect();
    Broken::Archive(reason.escape_debug().to_string())
}

/// Writes all entries of an archive beneath `root`.
fn read(file: &File, root: &Path) -> Result<(), Broken> {
    let size = file.metadata().map_err(|error| bad(&error))?.len();
    let most = size.saturating_mul(RATIO).max(SMALL);
    let plain = decompressed(file).map_err(|error| bad(&error))?;
    let mut archive = Archive::new(Limited { inner: plain, left: most, most });
    let mut unpacking = Unpacking { root, seen: BTreeSet::new(), path: None, buffer: vec![0; COPY] };
    // Raw, since the library would read a long name of any length into memory.
    let entries = archive.entries().map_err(|error| bad(&error))?.raw(true);
    let mut count = 0;
    for entry in entries {
        let mut entry = entry.map_err(|error| bad(&error))?;
        count += 1;
        if count > ENTRIES {
            return Err(Broken::Archive(format!("it has more than {ENTRIES} entries")));
        }
        unpacking.entry(&mut entry)?;
    }
    if count == 0 {
        return Err(Broken::Archive("it has no entries; is it a tar archive?".to_owned()));
    }
    Ok(())
}

/// The bytes behind a compression that the first bytes tell.
fn decompressed(mut file: &File) -> io::Result<Box<dyn Read + '_>> {
    let mut magic = [0; 4];
    file.seek(SeekFrom::Start(0))?;
    let length = file.take(4).read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let reader = BufReader::with_capacity(COPY, file);
    Ok(match &magic[..length] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => Box::new(reader),
    })
}

/// A reader that fails beyond a number of bytes.
struct Limited<R> {
    inner: R,
    left: u64,
    most: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(format!("it is larger than {} bytes unpacked", self.most))),
        }
        Ok(read)
    }
}

struct Unpacking<'a> {
    root: &'a Path,
    /// Files that were made.
    seen: BTreeSet<PathBuf>,
    /// The path of the next entry, from an extension before it.
    path: Option<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), Broken> {
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => {
                let mut name = extension(entry, PATH)?;
                while name.last() == Some(&0) {
                    name.pop();
                }
                self.path = Some(name);
                return Ok(());
            }
            EntryType::XHeader => return self.pax(entry),
            // Such as a comment with the commit of `git archive`.
            EntryType::XGlobalHeader => return extension(entry, EXTENSION).map(|_| ()),
            _ => {}
        }
        let name = self.path.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let shown = String::from_utf8_lossy(&name).escape_debug().to_string();
        let Some(path) = harmless(&name) else {
            return Err(Broken::Archive(format!("its entry '{shown}' leads out of the directory")));
        };
        let mode = entry.header().mode().map_err(|error| bad(&error))?;
        match kind {
            EntryType::Regular | EntryType::Continuous if !path.as_os_str().is_empty() => {
                if !self.seen.insert(path.clone()) {
                    return Err(Broken::Archive(format!("it has '{shown}' twice")));
                }
                self.file(entry, &path, safe_mode(mode), &shown)
            }
            EntryType::Directory => self.directory(&path),
            other => {
                let what = match other {
                    EntryType::Symlink | EntryType::Link => "a link",
                    EntryType::Char | EntryType::Block => "a device",
                    EntryType::Fifo => "a FIFO",
                    EntryType::GNUSparse => "a sparse file",
                    _ => "neither a file nor a directory",
                };
                Err(Broken::Archive(format!("its entry '{shown}' is {what}")))
            }
        }
    }

    /// A header extension: only a path has a meaning for us.
    fn pax<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), Broken> {
        let bytes = extension(entry, EXTENSION)?;
        for pair in PaxExtensions::new(&bytes) {
            let pair = pair.map_err(|error| bad(&error))?;
            match pair.key_bytes() {
                b"path" => self.path = Some(pair.value_bytes().to_vec()),
                b"size" => return Err(Broken::Archive("an entry has its size in an extension".to_owned())),
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(Broken::Archive("an entry is a sparse file".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn directory(&self, path: &Path) -> Result<(), Broken> {
        let path = self.root.join(path);
        fs::create_dir_all(&path).map_err(|error| Broken::Disk(path, error))
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: &Path,
        mode: u32,
        shown: &str,
    ) -> Result<(), Broken> {
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        let path = self.root.join(path);
        let failed = |error| Broken::Disk(path.clone(), error);
        // The directory is ours and new and holds no links, so this leads nowhere else.
        let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = created.map_err(failed)?;
        let mut left = entry.header().entry_size().map_err(|error| bad(&error))?;
        while left > 0 {
            let read = entry.read(&mut self.buffer).map_err(|error| bad(&error))?;
            if read == 0 {
                return Err(Broken::Archive(format!("it ends in the middle of '{shown}'")));
            }
            file.write_all(&self.buffer[..read]).map_err(failed)?;
            left = left.saturating_sub(read as u64);
        }
        file.set_permissions(Permissions::from_mode(mode)).map_err(failed)
    }
}

/// The bytes of a header extension.
fn extension<R: Read>(entry: &mut Entry<'_, R>, most: u64) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    entry.take(most + 1).read_to_end(&mut bytes).map_err(|error| bad(&error))?;
    if bytes.len() as u64 > most {
        return Err(Broken::Archive(format!("an entry's path or extension is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// A relative path without `..`; nothing for any other. Empty for the archive's own root, `./`.
fn harmless(name: &[u8]) -> Option<PathBuf> {
    if name.contains(&0) || name.len() as u64 > PATH {
        return None;
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) if part.len() <= 255 => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    // Our own files stand beside the archive's.
    let own = path.iter().next().is_some_and(|first| first.as_bytes().starts_with(b".sacker-"));
    (!own).then_some(path)
}

/// A new directory to unpack into; removed when dropped.
struct Staging(PathBuf);

impl Staging {
    /// Also removes what killed processes left: whoever has the [`Record`] is alone.
    fn create(directory: &Path) -> Result<Self> {
        let failed = |error| Error::local("write to", directory, error);
        for entry in fs::read_dir(directory).map_err(failed)?.flatten() {
            if entry.file_name().as_bytes().starts_with(STAGING.as_bytes()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = directory.join(format!("{STAGING}{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&path).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The names that an earlier run put into a directory. Held open and locked while one is at work.
struct Record {
    file: File,
    names: Vec<OsString>,
}

impl Record {
    fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(RECORD);
        let failed = |error| Error::local("write", &path, error);
        let mut options = fs::OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(failed)?;
        if file.try_lock().is_err() {
            let why = format!("another process unpacks into '{}' at this moment", directory.display());
            return Err(Error::new(Meaning::Local { why }, "unpack the archive"));
        }
        let mut text = Vec::new();
        (&mut file).take(16 << 20).read_to_end(&mut text).map_err(failed)?;
        let is_name = |name: &&[u8]| !matches!(*name, b"" | b"." | b"..") && !name.contains(&b'/');
        let names = text.split(|byte| *byte == 0).filter(is_name);
        Ok(Self { names: names.map(|name| OsString::from_vec(name.to_vec())).collect(), file })
    }

    /// Puts what was unpacked in the place of what an earlier run unpacked.
    fn replace(mut self, directory: &Path, staging: &Path) -> Result<()> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| Error::local("write", &path, error)
        };
        let listed = fs::read_dir(staging).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let new: Vec<OsString> =
            listed.map_err(failed(staging))?.into_iter().map(|entry| entry.file_name()).collect();
        for name in new.iter().filter(|name| !self.names.contains(name)) {
            let path = directory.join(name);
            if path.symlink_metadata().is_ok() {
                let why = format!("cannot unpack to '{}': something is there", path.display());
                return Err(Error::new(Meaning::Local { why }, "unpack the archive")
                    .with_hint("remove it, or choose another directory"));
            }
        }
        // First of all what either run put there, so that one that is killed now leaves nothing unknown.
        let old = std::mem::take(&mut self.names);
        let both: BTreeSet<&OsString> = old.iter().chain(&new).collect();
        self.write(both).map_err(failed(&directory.join(RECORD)))?;
        for name in &old {
            let path = directory.join(name);
            let removed = match path.symlink_metadata() {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(_) => Ok(()),
            };
            removed.map_err(failed(&path))?;
        }
        for name in &new {
            let path = directory.join(name);
            fs::rename(staging.join(name), &path).map_err(failed(&path))?;
        }
        self.write(new.iter().collect()).map_err(failed(&directory.join(RECORD)))
    }

    fn write(&mut self, names: BTreeSet<&OsString>) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        let mut text = Vec::new();
        for name in names {
            text.extend_from_slice(name.as_bytes());
            text.push(0);
        }
        self.file.write_all(&text)
    }
}

#[cfg(test)]
mod tests;
