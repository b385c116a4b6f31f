//! Temporary files: made beside the destination, removed in every case but success, and swept up after a process that
//! was killed.
//!
//! A living file is recognised by its lock, which dies with its process. Not responsible for what is written.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use super::place::Place;

const PREFIX: &[u8] = b".sacker-";
const SUFFIX: &[u8] = b".partial";

/// Random digits in a temporary name.
const DIGITS: usize = 32;

/// A file without its final name. Dropping this removes it, unless it was renamed.
#[derive(Debug)]
pub(super) struct Temporary {
    place: Arc<Place>,
    name: OsString,
}

impl Temporary {
    /// Makes an empty file that only this user can read, and locks it.
    pub(super) fn create(place: &Arc<Place>) -> io::Result<(Self, File)> {
        loop {
            let name = OsString::from(format!(".sacker-{}.partial", uuid::Uuid::new_v4().simple()));
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let file = place.open_beneath(&name, flags, Mode::RUSR | Mode::WUSR)?;
            let temporary = Self { place: Arc::clone(place), name };
            match file.try_lock() {
                // Another fetch swept the file before it was locked.
                Ok(()) if file.metadata()?.nlink() == 0 => {}
                Err(TryLockError::WouldBlock) => {}
                // Where there are no locks, nobody can hold one, and nobody sweeps.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok((temporary, file)),
            }
        }
    }

    /// Its name in the directory of the destination.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under this name.
        let _ = rustix::fs::unlinkat(self.place.directory(), &self.name, AtFlags::empty());
    }
}

/// Removes temporary files that no living process holds. Without this a container that is killed again and again would
/// fill its volume. What cannot be removed stays: this is a courtesy, not a condition.
pub(super) fn sweep(place: &Place) {
    let Ok(entries) = Dir::read_from(place.directory()) else { return };
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_temporary(name) {
            remove_if_abandoned(place, name);
        }
    }
}

fn remove_if_abandoned(place: &Place, name: &OsStr) {
    let Ok(file) = place.open_beneath(name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) else { return };
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    // Removed while the lock is held: a process that made the file this moment finds it locked, or gone, and makes
    // another one.
    if is_file && file.try_lock().is_ok() {
        let _ = rustix::fs::unlinkat(place.directory(), name, AtFlags::empty());
        tracing::debug!("removed '{}', which an earlier run left", name.display());
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let middle = name.as_bytes().strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    middle.is_some_and(|digits| digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_swept() {
        let own = format!(".sacker-{}.partial", uuid::Uuid::new_v4().simple());
        assert!(is_temporary(OsStr::new(&own)));
        for other in [".sacker-.partial", ".sacker-x.partial", "a.partial", "app.jar", ".sacker-partial"] {
            assert!(!is_temporary(OsStr::new(other)), "{other}");
        }
    }
}
