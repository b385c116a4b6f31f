//! Where a blob goes: what a person or a pod wrote as destination, and the one file that means for a given version.
//!
//! Pure: whether a path is a directory enters as an argument. Opening, checking and replacing that file is
//! `place.rs`'s part.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Artifact;
use crate::error::{Error, Meaning, Result};
use crate::model::check_basename;

/// A destination as it was asked for: a directory, where the file gets its recorded name, or one exact file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    directory: PathBuf,
    name: Option<OsString>,
}

/// The one file that a target means for one artifact: a directory and a single path component in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// May be reached through symbolic links: a Kubernetes volume is.
    pub(super) directory: PathBuf,
    /// Never empty, `.` or `..`, and without `/`.
    pub(super) name: OsString,
}

impl Destination {
    /// The file's path, as it is shown and reported.
    pub(super) fn path(&self) -> PathBuf {
        if self.directory == Path::new(".") {
            PathBuf::from(&self.name)
        } else {
            self.directory.join(&self.name)
        }
    }
}

impl Target {
    /// Reads a destination: an existing directory, or a path that ends in `/`, is a directory; anything else is the exact
    /// file. Looks at the file system once, and changes nothing.
    ///
    /// # Errors
    /// `Invalid` for a path that names neither.
    pub fn at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, path.is_dir())
    }

    /// The directory at `path`, whether or not it exists yet.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { directory: path.into(), name: None }
    }

    /// [`Target::at`], knowing whether `path` is an existing directory.
    fn parse(path: &Path, is_directory: bool) -> Result<Self> {
        let text = path.as_os_str().as_encoded_bytes();
        if text.is_empty() {
            return Err(Error::invalid("the destination is empty: give a directory or a file"));
        }
        if text.contains(&0) {
            return Err(Error::invalid("the destination must not contain a NUL byte"));
        }
        if is_directory || text.ends_with(b"/") {
            return Ok(Self::directory(path));
        }
        // `Path::file_name` would read `a/b/.` as the file `b`.
        let names_a_file = !text.ends_with(b"/.") && text != b".";
        match (path.file_name(), path.parent()) {
            (Some(name), Some(parent)) if names_a_file => {
                let directory = if parent == Path::new("") { Path::new(".") } else { parent };
                Ok(Self { directory: directory.to_owned(), name: Some(name.to_owned()) })
            }
            _ => {
                let rule = format!("destination '{}' is neither a directory nor a file name", path.display());
                Err(Error::invalid(rule))
            }
        }
    }

    /// The path of the file that this target means for `artifact`. Makes no request and reads no file.
    ///
    /// # Errors
    /// `Invalid` when the target is a directory and no name was recorded (a pinned spec carries none); `Corrupt` when the
    /// recorded name is not one harmless path component.
    pub fn path_for(&self, artifact: &Artifact) -> Result<PathBuf> {
        self.destination(artifact).map(|destination| destination.path())
    }

    /// A file in the directory that this target names, whether or not it also may name a file.
    #[cfg(feature = "init")]
    pub(super) fn beneath(&self, name: &str) -> Destination {
        Destination { directory: self.whole(), name: name.into() }
    }

    /// The path as it was asked for, be it a directory or a file.
    #[cfg(feature = "init")]
    pub fn whole(&self) -> PathBuf {
        match &self.name {
            Some(own) => self.directory.join(own),
            None => self.directory.clone(),
        }
    }

    pub(super) fn destination(&self, artifact: &Artifact) -> Result<Destination> {
        let directory = self.directory.clone();
        if let Some(name) = &self.name {
            return Ok(Destination { directory, name: name.clone() });
        }
        let Some(basename) = &artifact.basename else {
            let rule = format!("no file name is known for '{}'", artifact.label);
            let hint = format!("name the file, such as '{}'", self.directory.join("app.jar").display());
            return Err(Error::invalid(rule).with_hint(hint));
        };
        check_basename(basename).map_err(|broken| {
            Error::new(Meaning::Corrupt { why: format!("the recorded {broken}") }, "choose a file name")
                .with_key(&artifact.label)
                .with_hint("name the file in the destination to fetch it nevertheless")
        })?;
        Ok(Destination { directory, name: basename.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sha256;

    fn artifact(basename: Option<&str>) -> Artifact {
        Artifact {
            label: "frontend-server@23".to_owned(),
            sha256: Sha256::of(b"x"),
            size: Some(1),
            basename: basename.map(str::to_owned),
            mode: None,
        }
    }

    fn path(target: &str, is_directory: bool, basename: Option<&str>) -> Result<PathBuf> {
        Target::parse(Path::new(target), is_directory)?.path_for(&artifact(basename))
    }

    #[test]
    fn directories_and_files() {
        for (target, is_directory, expected) in [
            ("/artifacts", true, "/artifacts/app.jar"),
            ("/artifacts/", true, "/artifacts/app.jar"),
            ("/artifacts/", false, "/artifacts/app.jar"),
            ("/artifacts", false, "/artifacts"),
            ("/artifacts/my.jar", false, "/artifacts/my.jar"),
            ("my.jar", false, "my.jar"),
            ("./my.jar", false, "my.jar"),
            (".", true, "app.jar"),
            ("..", true, "../app.jar"),
            ("../my.jar", false, "../my.jar"),
            ("/", true, "/app.jar"),
            ("/a/../b.jar", false, "/a/../b.jar"),
            ("/a//b.jar", false, "/a/b.jar"),
        ] {
            let found = path(target, is_directory, Some("app.jar")).expect(target);
            assert_eq!(found, Path::new(expected), "{target}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for target in ["", ".", "..", "/a/..", "/a/.", "a\0b"] {
            let error = path(target, false, Some("app.jar")).expect_err(target);
            assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{target:?}: {error}");
        }
    }

    #[test]
    fn a_hostile_recorded_name_is_corrupt_unless_the_file_is_named() {
        let long = "x".repeat(300);
        for hostile in ["../../x", "/etc/x", "a/b", "", ".", "..", "a\nb", "a\0b", long.as_str()] {
            let error = path("/artifacts/", true, Some(hostile)).expect_err(hostile);
            assert!(matches!(error.meaning(), Meaning::Corrupt { .. }), "{hostile:?}: {error}");
            assert!(!error.to_string().contains('\n'), "{error:?}");
            let named = path("/artifacts/app.jar", false, Some(hostile)).expect(hostile);
            assert_eq!(named, Path::new("/artifacts/app.jar"));
        }
    }

    #[test]
    fn a_directory_needs_a_recorded_name() {
        let error = path("/artifacts/", true, None).expect_err("there is no name");
        assert_eq!(error.to_string(), "no file name is known for 'frontend-server@23'");
        assert_eq!(error.hint(), Some("name the file, such as '/artifacts/app.jar'"));
    }
}
