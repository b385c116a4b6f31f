//! From what was asked for to what is to be fetched: one look into the ledger, or into a mounted file, or none.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::request::What;
use crate::error::{Error, Meaning, Missing, Result};
use crate::fetch::Artifact;
use crate::ledger::Ledger;
use crate::model::{PackageName, PinnedSpec, Spec};

/// The most that is read of a mounted file. A pinned spec has some hundred bytes; the limit is for
/// `--pin-file /dev/zero`.
const FILE_MAX: u64 = 4 << 10;

/// What `what` names.
///
/// # Errors
/// `NotFound` from the ledger; `Local` for a pin file that cannot be read, `Invalid` for one that holds no pinned spec.
pub(super) async fn resolve(what: &What, ledger: Option<&Arc<dyn Ledger>>) -> Result<Artifact> {
    match what {
        What::Pinned(pinned) => Ok(Artifact::from(pinned)),
        What::PinFile(path) => pin_file(path),
        What::Spec(package, spec) => {
            let Some(ledger) = ledger else {
                return Err(Error::invalid(format!("no ledger is set, and '{package}@{spec}' needs one")));
            };
            by_ledger(ledger, package, spec).await
        }
    }
}

async fn by_ledger(ledger: &Arc<dyn Ledger>, package: &PackageName, spec: &Spec) -> Result<Artifact> {
    let resolved =
        ledger.resolve(package, spec).await.map_err(|error| advised(error.or_broken_rule(), ledger))?;
    let artifact = Artifact::from(&resolved.record);
    tracing::info!("{package}@{spec} is version {}, sha256 {}", resolved.record.version, artifact.sha256);
    Ok(artifact)
}

/// Says where to look on, if the ledger did not.
fn advised(error: Error, ledger: &Arc<dyn Ledger>) -> Error {
    if error.hint().is_some() {
        return error;
    }
    let hint = match error.meaning() {
        Meaning::NotFound(Missing::Package(_)) => {
            format!("'sacker list --ledger {}' shows the packages", ledger.uri())
        }
        Meaning::NotFound(Missing::Version(package, _) | Missing::Removed(package, _)) => {
            format!("'sacker versions {package} --ledger {}' shows the versions", ledger.uri())
        }
        Meaning::NotFound(Missing::Tag(package, _)) => {
            format!("'sacker tags {package} --ledger {}' shows the tags", ledger.uri())
        }
        _ => return error,
    };
    error.with_hint(hint)
}

/// A mounted ConfigMap has `<tag>` with the pinned spec, and `<tag>.basename` beside it.
fn pin_file(path: &Path) -> Result<Artifact> {
    let text = read(path)?.ok_or_else(|| {
        let why = format!("cannot read the pinned spec in '{}': there is no such file", path.display());
        Error::new(Meaning::Local { why }, "read the pinned spec")
            .with_hint("mount the ConfigMap that the SackerPackage publishes; it has a key per tag")
    })?;
    let pinned: PinnedSpec = text.trim().parse().map_err(|_| {
        let form = "<package>@<version>+sha256:<64 hex digits>";
        Error::invalid(format!("file '{}' does not hold a pinned spec, '{form}'", path.display()))
    })?;
    let mut artifact = Artifact::from(&pinned);
    let mut beside = OsString::from(path);
    beside.push(".basename");
    artifact.basename = read(&PathBuf::from(beside))?;
    Ok(artifact)
}

/// The text of a small file; nothing if there is none.
fn read(path: &Path) -> Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::local("open", path, error)),
    };
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text).map_err(|error| Error::local("read", path, error))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sha256;

    #[test]
    fn a_mounted_config_map_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let pin = directory.path().join("live");
        let sha256 = Sha256::of(b"x");
        std::fs::write(&pin, format!("frontend@23+sha256:{sha256}\n")).expect("written");
        let artifact = pin_file(&pin).expect("a pinned spec");
        assert_eq!((artifact.label.as_str(), artifact.sha256), ("frontend@23", sha256));
        assert_eq!(artifact.basename, None);
        std::fs::write(directory.path().join("live.basename"), "app.jar").expect("written");
        assert_eq!(pin_file(&pin).expect("a pinned spec").basename.as_deref(), Some("app.jar"));
    }

    #[test]
    fn what_is_wrong_with_a_pin_file_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let pin = directory.path().join("live");
        let missing = pin_file(&pin).expect_err("nothing is there");
        assert!(matches!(missing.meaning(), Meaning::Local { .. }), "{missing}");
        assert!(missing.hint().is_some());
        std::fs::write(&pin, "frontend@live").expect("written");
        let malformed = pin_file(&pin).expect_err("no pinned spec");
        assert!(matches!(malformed.meaning(), Meaning::Invalid { .. }), "{malformed}");
        assert!(malformed.to_string().contains("live' does not hold a pinned spec"), "{malformed}");
        pin_file(Path::new("/dev/zero")).expect_err("no pinned spec");
    }
}
