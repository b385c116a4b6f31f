//! Temporary files: made beside the destination, removed in every case but success, and swept up after a process that
//! was killed.
//!
//! Locks and sweeping are [`crate::files`]' part. Not responsible for what is written.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::place::Place;
use crate::files;

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
            if files::claim(&file)? {
                return Ok((temporary, file));
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

/// Removes temporary files that no living process holds.
pub(super) fn sweep(place: &Place) {
    files::sweep(place.directory(), is_temporary);
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
