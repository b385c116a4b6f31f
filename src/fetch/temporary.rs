//! Temporary files: made beside the destination, found again by whoever goes on with the blob, removed otherwise.
//!
//! Locks are [`crate::files`]' part, those of processes that were killed `leftovers.rs`'s. Not responsible for what is written.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::leftovers;
use super::place::Place;
use crate::files;
use crate::model::Sha256;

/// Only this user can read it.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A file without its final name. Dropping this removes it, unless it was renamed or is worth going on with.
#[derive(Debug)]
pub(super) struct Temporary {
    place: Arc<Place>,
    name: OsString,
    /// Holds the lock until the name is gone: whoever opened the file meanwhile must not take it for a leftover.
    file: File,
    /// Bytes of whole parts in it.
    kept: Arc<AtomicU64>,
    /// Whether another process may go on with it.
    is_left: AtomicBool,
    /// Whether another process would find it.
    is_named_by_blob: bool,
}

impl Temporary {
    /// Opens the file that belongs to this blob, in which an earlier process may have left something, and locks it. Another
    /// one, new and empty, where somebody holds that file or it is not what such a process makes.
    pub(super) fn open(place: &Arc<Place>, sha256: &Sha256) -> io::Result<(Self, File)> {
        let name = leftovers::name_of(sha256);
        if let Ok(file) = place.open_beneath(&name, OFlags::RDWR | OFlags::CREATE, PRIVATE)
            && files::claim(&file)?
            && is_own(place, &name, &file)
        {
            return Ok((Self::of(place, name, true, file.try_clone()?), file));
        }
        loop {
            let name = leftovers::random_name();
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            let file = place.open_beneath(&name, flags, PRIVATE)?;
            let temporary = Self::of(place, name, false, file.try_clone()?);
            if files::claim(&file)? {
                return Ok((temporary, file));
            }
        }
    }

    fn of(place: &Arc<Place>, name: OsString, is_named_by_blob: bool, file: File) -> Self {
        let is_left = AtomicBool::new(false);
        Self { place: Arc::clone(place), name, file, kept: Arc::default(), is_left, is_named_by_blob }
    }

    /// Its name in the directory of the destination.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The number of bytes of whole parts in it, for whoever writes them.
    pub(super) fn kept(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.kept)
    }

    /// Whether it stays, if it has a whole part, when this is dropped.
    pub(super) fn leave(&self, is_left: bool) {
        self.is_left.store(is_left && self.is_named_by_blob, Ordering::Relaxed);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_left.load(Ordering::Relaxed) && self.kept.load(Ordering::Relaxed) > 0 {
            return;
        }
        // After a rename there is nothing under this name, or already the file of somebody who fetches the same blob.
        if is_named(&self.place, &self.name, &self.file) {
            let _ = rustix::fs::unlinkat(self.place.directory(), &self.name, AtFlags::empty());
        }
    }
}

/// Whether a file that was found, and locked, is a temporary one that nobody else can change. Whoever held the lock before may
/// have given it its final name meanwhile.
fn is_own(place: &Place, name: &OsStr, file: &File) -> bool {
    is_named(place, name, file)
        && file.metadata().is_ok_and(|found| {
            found.is_file()
                && found.mode() & 0o7777 == 0o600
                && found.uid() == rustix::process::geteuid().as_raw()
                && found.nlink() == 1
        })
}

/// Whether this name leads to this very file.
fn is_named(place: &Place, name: &OsStr, file: &File) -> bool {
    let named = rustix::fs::statat(place.directory(), name, AtFlags::SYMLINK_NOFOLLOW);
    let same = |found: std::fs::Metadata| {
        named.is_ok_and(|named| (named.st_dev, named.st_ino) == (found.dev(), found.ino()))
    };
    file.metadata().is_ok_and(same)
}
