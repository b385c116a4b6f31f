//! The directory that a file goes into, held open, and what may be done in it: look at what is there, measure the space,
//! put a verified file in place.
//!
//! Everything here is blocking I/O on one open directory and names of a single component, so nothing outside that
//! directory can be reached, whatever symbolic links appear meanwhile. Temporary files are `temporary.rs`'s part; what
//! names are allowed is `target.rs`'s.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::partial::PartialFile;
use super::pipeline::Verified;
use super::target::Destination;
use crate::error::{Error, Meaning, Result, io_reason};

/// One name in one open directory.
#[derive(Debug)]
pub(super) struct Place {
    directory: OwnedFd,
    destination: Destination,
}

impl Place {
    /// Opens the directory, which must exist; volumes are often reached through symbolic links, so those are followed.
    pub(super) fn open(destination: Destination) -> Result<Self> {
        let path = &destination.directory;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            let error = refused("open the directory", path, errno.into());
            if errno == Errno::NOENT {
                error.with_hint("create the directory, or mount a volume there")
            } else {
                error
            }
        })?;
        Ok(Self { directory, destination })
    }

    /// The file's path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.destination.path()
    }

    /// The file's name in [`Place::directory`].
    pub(super) fn name(&self) -> &OsStr {
        &self.destination.name
    }

    /// The open directory.
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Whether a regular file is there already.
    ///
    /// # Errors
    /// `Local` for anything else: what a symbolic link, a FIFO or a directory is there for is not ours to guess.
    pub(super) fn holds_file(&self) -> Result<bool> {
        let stat = match rustix::fs::statat(&self.directory, self.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(refused("look at", &self.path(), errno.into())),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return Ok(true),
            FileType::Symlink => "a symbolic link",
            FileType::Directory => "a directory",
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            _ => "a device",
        };
        let why = format!("cannot write '{}': {kind} is there", self.path().display());
        Err(Error::new(Meaning::Local { why }, "write the file").with_hint(match kind {
            "a device" => "choose another destination; '-' is standard output for 'sacker download'",
            _ => "remove it, or choose another destination",
        }))
    }

    /// Opens the file that is there, if it could be the one that is asked for: readable, of this size (where it is
    /// known), with this mode, and changed by nobody but this user, so that what is verified now stays true.
    pub(super) fn open_candidate(&self, size: Option<u64>, mode: u32) -> Result<Option<(File, u64)>> {
        if !self.holds_file()? {
            return Ok(None);
        }
        // Without NONBLOCK a FIFO that took the file's place would hang the open.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let Ok(file) = self.open_beneath(self.name(), flags, Mode::empty()) else { return Ok(None) };
        let found = file.metadata().map_err(|error| refused("look at", &self.path(), error))?;
        let same = found.is_file()
            && size.is_none_or(|size| size == found.len())
            && found.mode() & 0o7777 == mode
            && found.uid() == rustix::process::geteuid().as_raw()
            && found.nlink() == 1;
        Ok(same.then_some((file, found.len())))
    }

    /// Opens `name`, one path component, in the directory and nowhere else.
    pub(super) fn open_beneath(&self, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = match rustix::fs::openat2(&self.directory, name, flags, mode, resolve) {
            // Kernels before 5.6 do not have the call, and older container runtimes forbid it with EPERM. A single
            // component with NOFOLLOW cannot lead elsewhere either.
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&self.directory, name, flags, mode),
            other => other,
        };
        Ok(opened?.into())
    }

    /// Bytes that this user can still write to the file system; nothing where it does not say.
    pub(super) fn free_space(&self) -> Option<u64> {
        let found = rustix::fs::fstatvfs(&self.directory).ok()?;
        // Some network file systems report zeros.
        (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Checks that `needed` bytes fit.
    ///
    /// # Errors
    /// `Local`, with the path, what is needed and what is free.
    pub(super) fn check_space(&self, needed: u64) -> Result<()> {
        match self.free_space() {
            Some(free) if free < needed => Err(no_space(&self.path(), needed, Some(free))),
            _ => Ok(()),
        }
    }

    /// Gives a verified file its mode and its final name, replacing a regular file there; where it is to be `durable`, once
    /// its bytes are, and its name is before this returns.
    pub(super) fn install(
        &self,
        temporary: &OsStr,
        verified: &Verified<PartialFile>,
        mode: u32,
        durable: bool,
    ) -> Result<()> {
        let path = self.path();
        let file = verified.output().finished().map_err(|error| refused("write", &path, error))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
            .map_err(|errno| refused("set the mode of", &path, errno.into()))?;
        if durable {
            file.sync_all().map_err(|error| refused("write", &path, error))?;
        }
        // Time has passed since the first look.
        self.holds_file()?;
        rustix::fs::renameat(&self.directory, temporary, &self.directory, self.name())
            .map_err(|errno| refused("write", &path, errno.into()))?;
        if !durable {
            return Ok(());
        }
        match rustix::fs::fsync(&self.directory) {
            // Some file systems have no sync for directories.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(refused("sync the directory of", &path, errno.into())),
        }
    }

    /// What a failed write means, with what was needed and what is free now, where space is the reason.
    pub(super) fn write_failure(&self, needed: u64, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                no_space(&self.path(), needed, self.free_space()).with_source(error)
            }
            _ => refused("write", &self.path(), error),
        }
    }
}

fn no_space(path: &Path, needed: u64, free: Option<u64>) -> Error {
    let shown = path.display();
    let why = match free {
        Some(free) if free < needed => {
            format!("not enough space for '{shown}': {needed} bytes needed, {free} bytes free")
        }
        // The bytes would fit, so it is the other thing that runs out.
        Some(free) => format!(
            "not enough space for '{shown}': {needed} bytes needed, {free} bytes free, but no inode or quota is left"
        ),
        None => format!("not enough space for '{shown}': {needed} bytes needed"),
    };
    Error::new(Meaning::Local { why }, "write the file").with_hint("give the volume more space, or empty it")
}

/// A local failure, with what usually helps.
fn refused(operation: &'static str, path: &Path, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("mount a writable volume there, such as an emptyDir".to_owned())
        }
        io::ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid().as_raw();
            Some(format!("the directory must be writable for user {user}; in a pod, set fsGroup"))
        }
        _ => None,
    };
    let why = format!("cannot {operation} '{}': {}", path.display(), io_reason(&error));
    let failure = Error::new(Meaning::Local { why }, operation).with_source(error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
