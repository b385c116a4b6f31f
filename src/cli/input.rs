//! What the user typed as a name, and the file to add.
//!
//! Names are lenient here where something is read: a 2015 client may have written them, and only the ledger knows. What
//! is then not found and breaks a rule is reported as the broken rule ([`Error::or_broken_rule`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use crate::error::{Error, Meaning, Result};
use crate::model::{PackageName, Sha256, TagName, Version, check_basename};
use crate::store::{BlobFile, Progress, Scan, Store};

/// The type bits and permissions of what comes through standard input: a regular file, `rw-r--r--`.
const PIPED_MODE: u32 = 0o100_644;

/// A package that may exist already under a name outside today's rules.
pub(super) fn package(text: &str) -> Result<PackageName> {
    if text.is_empty() { PackageName::new(text) } else { Ok(PackageName::existing(text)) }
}

/// A tag that may exist already under a name outside today's rules.
pub(super) fn tag(text: &str) -> Result<TagName> {
    if text.is_empty() { TagName::new(text) } else { Ok(TagName::existing(text)) }
}

/// A tag to be changed, or whose history is asked for: `latest` is none.
pub(super) fn stored_tag(text: &str) -> Result<TagName> {
    let tag = tag(text)?;
    tag.check_stored()?;
    Ok(tag)
}

/// The version that `option` gives.
pub(super) fn version_of(option: &str, text: Option<&String>) -> Result<Option<Version>> {
    text.map(|text| text.parse().map_err(|error| Error::invalid(format!("{option}: {error}")))).transpose()
}

/// The pairs of `--meta K=V`.
pub(super) fn metadata(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Error::invalid(format!("--meta '{pair}' is not of the form KEY=VALUE")));
        };
        if metadata.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Error::invalid(format!("--meta gives the key '{key}' twice")));
        }
    }
    Ok(metadata)
}

/// A local file that is about to be added.
#[derive(Debug)]
pub(super) struct Source {
    /// Where its bytes are.
    pub(super) path: PathBuf,
    /// The name that is recorded.
    pub(super) basename: String,
    /// Its whole `st_mode`.
    pub(super) mode: u32,
    /// Bytes.
    pub(super) size: u64,
    /// What its bytes told, where they were read.
    pub(super) scan: Option<Scan>,
    /// Removes the copy of standard input in the end.
    _spool: Option<tempfile::TempPath>,
}

impl Source {
    /// Looks at the file that `argument` names. Links are followed; the recorded name is the argument's own.
    ///
    /// # Errors
    /// `Invalid` for what is no regular file, or has no usable name; `Local` for what cannot be read.
    pub(super) fn of_file(package: &str, argument: &Path, name: Option<&str>) -> Result<Self> {
        // Open before looking: what is refused here must not be refused after a long upload of something else.
        let metadata = argument.metadata().map_err(|error| Error::local("read", argument, error))?;
        let typed = super::message::typed;
        let package = typed(package);
        if metadata.is_dir() {
            let own = argument.file_name().map_or("NAME".into(), std::ffi::OsStr::to_string_lossy);
            let hint = format!(
                "make one file of it: tar -C {} -cf - . | sacker add {package} - --name {}",
                typed(&argument.to_string_lossy()),
                typed(name.unwrap_or(&format!("{own}.tar")))
            );
            return Err(Error::invalid(format!("'{}' is a directory", argument.display())).with_hint(hint));
        }
        if !metadata.is_file() {
            return Err(Error::invalid(format!("'{}' is not a regular file", argument.display())).with_hint(
                format!(
                    "pipe it in: sacker add {package} - --name NAME < {}",
                    typed(&argument.to_string_lossy())
                ),
            ));
        }
        File::open(argument).map_err(|error| Error::local("read", argument, error))?;
        let basename = match name {
            Some(name) => name.to_owned(),
            None => own_name(argument)?,
        };
        check_basename(&basename)?;
        let (mode, size) = (metadata.mode(), metadata.len());
        Ok(Self { path: argument.to_owned(), basename, mode, size, scan: None, _spool: None })
    }

    /// Copies standard input into a temporary file and hashes it on the way. The size is not known before.
    pub(super) async fn of_stdin(
        name: Option<&str>,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<Self> {
        let missing = || {
            Error::invalid("what comes from standard input has no name")
                .with_hint("give it one with --name NAME")
        };
        let basename = name.ok_or_else(missing)?.to_owned();
        check_basename(&basename)?;
        let elsewhere = "set TMPDIR to a directory with room for all of standard input";
        let broken =
            |error| Error::local("create a file in", &std::env::temp_dir(), error).with_hint(elsewhere);
        let (mut copy, spool) = tempfile::NamedTempFile::new().map_err(broken)?.into_parts();
        let path = spool.to_path_buf();
        // The thread has the open file only: the name is removed with this future, whatever the thread does.
        let scan = on_own_thread(move || {
            let mut write = |bytes: &[u8]| io::Write::write_all(&mut copy, bytes);
            Scan::read(io::stdin().lock(), None, &progress, &mut write)
        })
        .await?
        .map_err(|error| Error::local("copy standard input to", &path, error).with_hint(elsewhere))?;
        let size = scan.size;
        Ok(Self { path, basename, mode: PIPED_MODE, size, scan: Some(scan), _spool: Some(spool) })
    }

    /// Hashes the file; the size becomes what was really read.
    pub(super) async fn hash(&mut self, progress: impl Fn(u64) + Send + 'static) -> Result<Sha256> {
        let (path, expected) = (self.path.clone(), Some(self.size));
        let read = move || Scan::read(File::open(path)?, expected, &progress, &mut |_| Ok(()));
        let scan = on_own_thread(read).await?.map_err(|error| Error::local("read", &self.path, error))?;
        let sha256 = scan.sha256;
        self.size = scan.size;
        self.scan = Some(scan);
        Ok(sha256)
    }

    /// Has the store read the file, where it does that in one pass with copying it.
    ///
    /// # Errors
    /// As [`Store::draft`].
    pub(super) async fn draft(&mut self, store: &dyn Store, progress: Progress<'_>) -> Result<()> {
        if let Some(scan) = store.draft(&self.path, self.size, progress).await? {
            self.size = scan.size;
            self.scan = Some(scan);
        }
        Ok(())
    }

    /// The digest, where reading the bytes was necessary anyway.
    pub(super) fn sha256(&self) -> Option<Sha256> {
        self.scan.as_ref().map(|scan| scan.sha256)
    }

    /// The file as the blob with this digest.
    pub(super) fn blob(&self, sha256: Sha256) -> BlobFile<'_> {
        BlobFile { path: &self.path, sha256, size: self.size, scan: self.scan.as_ref() }
    }
}

fn own_name(argument: &Path) -> Result<String> {
    let name = argument.file_name().and_then(std::ffi::OsStr::to_str).map(str::to_owned);
    name.ok_or_else(|| {
        Error::invalid(format!("the name of '{}' is not UTF-8", argument.display()))
            .with_hint("give it another with --name NAME")
    })
}

/// Runs work that may block for as long as it likes (a terminal, a pipe, a large file) on a thread that the end of the
/// process does not wait for.
pub(super) async fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Meaning::Other, "run a thread").with_source(error)
    };
    std::thread::Builder::new()
        .spawn(move || {
            // Nobody listens any more after an interrupt.
            let _unheard = sender.send(work());
        })
        .map_err(|error| failed(error.into()))?;
    receiver.await.map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Missing;

    #[test]
    fn metadata_pairs() {
        let pairs = ["commit=abc".to_owned(), "note=a=b".to_owned(), "empty=".to_owned()];
        let parsed = metadata(&pairs).expect("pairs");
        assert_eq!(parsed["commit"], "abc");
        assert_eq!(parsed["note"], "a=b");
        assert_eq!(parsed["empty"], "");
        for broken in
            [vec!["commit".to_owned()], vec!["=x".to_owned()], vec!["a=1".to_owned(), "a=2".to_owned()]]
        {
            assert!(metadata(&broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_link_gives_its_own_name_and_the_mode_of_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("app-1.2.jar"), directory.path().join("app.jar"));
        std::fs::write(&file, "bytes").expect("a file");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        let source = Source::of_file("web", &link, None).expect("a source");
        assert_eq!((source.basename.as_str(), source.size), ("app.jar", 5));
        assert_eq!(source.mode & 0o170_000, 0o100_000, "the mode says: a regular file");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_with_a_way_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = Source::of_file("web", directory.path(), None).expect_err("a refusal");
        assert!(error.to_string().ends_with("is a directory"), "{error}");
        assert!(error.hint().expect("a hint").contains("tar"));
        let error = Source::of_file("web", Path::new("/dev/null"), None).expect_err("a refusal");
        assert!(error.to_string().ends_with("is not a regular file"), "{error}");
    }

    #[test]
    fn a_broken_rule_is_the_news() {
        let missing = |name: &str| Error::not_found(Missing::Package(PackageName::existing(name)));
        assert!(missing("a//b").or_broken_rule().to_string().contains("is not allowed"));
        assert_eq!(missing("a/b").or_broken_rule().to_string(), "no package 'a/b'");
    }
}
