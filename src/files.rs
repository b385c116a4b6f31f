//! What everything that keeps files has in common: temporary files that a killed process does not leave for ever, and
//! directories whose names last.
//!
//! A living temporary file is recognised by its lock, which dies with its process. Not responsible for what is written, nor
//! for what a failure means: errors are plain [`io::Error`]s.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use crate::crash_point::crash_point_at;

/// Locks a temporary file that was just made. False if somebody swept it before: make another one.
pub(crate) fn claim(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(TryLockError::WouldBlock) => Ok(false),
        // Where there are no locks, nobody can hold one, and nobody sweeps.
        Err(TryLockError::Error(_)) => Ok(true),
    }
}

/// A locked, empty file with a random name. The umask applies to `mode`. Removed when dropped; the lock lasts as long.
pub(crate) fn temporary(directory: &Path, prefix: &str, mode: u32) -> io::Result<NamedTempFile> {
    loop {
        let file = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        if claim(file.as_file())? {
            crash_point_at("files.temporary.created", file.path());
            return Ok(file);
        }
    }
}

/// The time by the clock of the file system that a directory is on, which on a network is the server's: that of a file which
/// is made for it and never gets a name.
pub(crate) fn time_at(directory: &Path) -> io::Result<Timestamp> {
    let time = tempfile::tempfile_in(directory)?.metadata()?.modified()?;
    Timestamp::try_from(time).map_err(io::Error::other)
}

/// Removes the temporary files that no living process holds. Without this a process that is killed again and again would
/// fill its disk. What cannot be removed stays: this is a courtesy, not a condition.
pub(crate) fn sweep(directory: impl AsFd, is_temporary: impl Fn(&OsStr) -> bool) {
    let directory = directory.as_fd();
    let Ok(entries) = Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_temporary(name) {
            remove_if_abandoned(directory, name);
        }
    }
}

/// Whether no living process holds this temporary file. One that cannot be looked at is taken to be held.
pub(crate) fn is_abandoned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// Removes a temporary file that no living process holds.
pub(crate) fn remove_if_abandoned(directory: impl AsFd, name: &OsStr) {
    // A name of one component with NOFOLLOW leads nowhere else; without NONBLOCK a FIFO would hang the open.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(&directory, name, flags, Mode::empty()) else { return };
    let file = File::from(file);
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    // Removed while the lock is held: a process that made the file this moment finds it locked, or gone, and makes
    // another one.
    if is_file && file.try_lock().is_ok() {
        let _ = rustix::fs::unlinkat(&directory, name, AtFlags::empty());
        tracing::debug!("removed '{}', which an earlier run left", name.display());
    }
}

/// What `statfs(2)` calls a file system in memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Sets the blocks of a file of `size` bytes aside, where the file system can: a write then has none to look for, which took a
/// fifth of its time on ext4. Not in memory, where that would touch every page twice.
///
/// # Errors
/// When there is not that much space. Whatever else the file system has against it does not matter here.
pub(crate) fn reserve(file: &File, size: u64) -> io::Result<()> {
    let is_in_memory =
        rustix::fs::fstatfs(file).is_ok_and(|found| found.f_type.cast_unsigned() == TMPFS_MAGIC);
    if is_in_memory || size == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, size) {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => Err(errno.into()),
        _ => Ok(()),
    }
}

/// Makes the names in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates `directory` and all that is missing above it, durably. Returns whether it was not there.
///
/// A directory that is there may have been made by a process that did not get to its sync, so its name is synced as well;
/// only where this user may not, it was somebody else's to set up.
pub(crate) fn create_directories(directory: &Path) -> io::Result<bool> {
    if directory.is_dir() {
        let _ = directory.parent().map(sync_directory);
        return Ok(false);
    }
    if let Some(parent) = directory.parent() {
        create_directories(parent)?;
    }
    let created = match fs::create_dir(directory) {
        Ok(()) => true,
        // Somebody was quicker.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => false,
        Err(error) => return Err(error),
    };
    crash_point_at("files.directory.created", directory);
    if let Some(parent) = directory.parent() {
        sync_directory(parent)?;
        crash_point_at("files.directory.durable", parent);
    }
    Ok(created)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_abandoned_files_are_swept() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let held = temporary(folder.path(), ".unfinished-", 0o644).expect("made");
        for name in [".unfinished-dead", "other"] {
            fs::write(folder.path().join(name), "left").expect("written");
        }
        fs::create_dir(folder.path().join(".unfinished-directory")).expect("made");
        let directory = File::open(folder.path()).expect("opened");
        sweep(&directory, |name| name.as_bytes().starts_with(b".unfinished-"));
        assert!(held.path().exists());
        assert!(!folder.path().join(".unfinished-dead").exists());
        assert!(folder.path().join("other").exists() && folder.path().join(".unfinished-directory").exists());
        drop(held);
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 2);
    }

    #[test]
    fn what_is_reserved_is_not_there_yet() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("made");
        let is_supported = rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 4096).is_ok();
        reserve(&file, 1 << 20).expect("a mebibyte is free");
        let found = file.metadata().expect("looked");
        assert_eq!(found.len(), 0);
        assert_eq!(found.blocks() >= 2048, is_supported, "{} blocks of 512 bytes", found.blocks());
    }

    #[test]
    fn no_memory_is_touched_before_it_is_written() {
        let file = tempfile::tempfile_in("/dev/shm").expect("made");
        reserve(&file, 1 << 20).expect("nothing to do");
        assert_eq!(file.metadata().expect("looked").blocks(), 0);
    }

    #[test]
    fn a_swept_file_is_not_claimed() {
        let file = tempfile::NamedTempFile::new().expect("made");
        fs::remove_file(file.path()).expect("swept");
        assert!(!claim(file.as_file()).expect("looked"));
    }
}
