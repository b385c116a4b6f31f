//! What killed processes left in the directories that this one fetches into: how such files are called, which of them somebody
//! still wants, and the removal of the others.
//!
//! Not responsible for what is in them (`partial.rs`), nor for making them (`temporary.rs`).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, PoisonError};

use super::place::Place;
use crate::files;
use crate::model::Sha256;

const PREFIX: &str = ".sacker-";
const SUFFIX: &str = ".partial";

/// Digits of a random name.
const RANDOM_DIGITS: usize = 32;

/// Digits of a name that another process finds again.
const SHA256_DIGITS: usize = 64;

/// Temporary files of processes that are gone. Each directory is looked through once, however many files go into it.
#[derive(Debug, Default)]
pub struct Leftovers {
    wanted: BTreeSet<Sha256>,
    /// Device and inode of the directories that were looked through.
    swept: Mutex<BTreeSet<(u64, u64)>>,
}

impl Leftovers {
    /// Those of a process that is about to fetch these blobs: what is there of them stays.
    pub fn but_for(wanted: impl IntoIterator<Item = Sha256>) -> Self {
        Self { wanted: wanted.into_iter().collect(), swept: Mutex::default() }
    }

    /// Removes what no living process holds, but for the file of this blob and those that are wanted.
    pub(super) fn sweep(&self, place: &Place, own: &Sha256) {
        let Ok(found) = rustix::fs::fstat(place.directory()) else { return };
        // A set of what was done is right at any time, also after a panic.
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if !swept.insert((found.st_dev, found.st_ino)) {
            return;
        }
        drop(swept);
        let own = name_of(own);
        let wanted: BTreeSet<OsString> = self.wanted.iter().map(name_of).collect();
        let is_wanted = |name: &OsStr| name == own || wanted.contains(name);
        files::sweep(place.directory(), |name| is_temporary(name) && !is_wanted(name));
    }

    /// Removes the file of a blob that turned out to be there already, where no living process holds it.
    pub(super) fn remove(&self, place: &Place, sha256: &Sha256) {
        if !self.wanted.contains(sha256) {
            files::remove_if_abandoned(place.directory(), &name_of(sha256));
        }
    }
}

/// The name under which another process finds what is there of a blob.
pub(super) fn name_of(sha256: &Sha256) -> OsString {
    format!("{PREFIX}{sha256}{SUFFIX}").into()
}

/// A name that nobody will look for.
pub(super) fn random_name() -> OsString {
    format!("{PREFIX}{}{SUFFIX}", uuid::Uuid::new_v4().simple()).into()
}

fn is_temporary(name: &OsStr) -> bool {
    let digits = name.as_bytes().strip_prefix(PREFIX.as_bytes());
    digits.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes())).is_some_and(|digits| {
        matches!(digits.len(), RANDOM_DIGITS | SHA256_DIGITS) && digits.iter().all(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_swept() {
        for own in [random_name(), name_of(&Sha256::of(b"x"))] {
            assert!(is_temporary(&own), "{own:?}");
        }
        for other in [".sacker-.partial", ".sacker-x.partial", "a.partial", "app.jar", ".sacker-partial"] {
            assert!(!is_temporary(OsStr::new(other)), "{other}");
        }
    }
}
