//! The run: resolve everything, see that no two blobs want one file, fetch side by side.
//!
//! Not responsible for signals, the overall time-out, or what is printed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::request::{Request, What};
use super::resolve::resolve;
use super::settings::Settings;
use crate::connect::Connect;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::fetch::{
    self, Artifact, Budget, Cache, Fetched, Form, Leftovers, Options, Target, is_absent_blob,
};
use crate::ledger::{self, Ledger};
use crate::store::{self, Store};

/// How many blobs come in at a time.
const SIDE_BY_SIDE: usize = 4;

/// How many specs are resolved at a time.
const LOOKUPS: usize = 8;

/// Bytes so far and bytes in all, for whoever looks on.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Bytes that came.
    pub(super) arrived: AtomicU64,
    /// Bytes that will have come in the end, as far as sizes are known.
    pub(super) expected: AtomicU64,
    /// Some sizes are not known.
    pub(super) open_ended: AtomicBool,
}

/// A blob that is in its place.
#[derive(Debug)]
pub(super) struct Placed {
    /// `<package>@<version>`.
    pub(super) label: String,
    /// The file.
    pub(super) fetched: Fetched,
}

struct Run<'a> {
    settings: &'a Settings,
    counters: &'a Counters,
    store: Arc<dyn Store>,
    ledger: Option<Arc<dyn Ledger>>,
    cache: Option<Cache>,
}

/// Fetches everything that `settings` ask for; in their order. The first failure ends it, and what was not yet in place
/// then leaves nothing behind.
///
/// # Errors
/// As [`fetch::fetch`] and [`Ledger::resolve`]; `Invalid` when two requests mean one file.
///
/// # Cancellation
/// What has arrived of a blob stays for the next run: a container that ran out of time is started again.
pub(super) async fn run(
    settings: &Settings,
    environment: &Environment,
    counters: &Counters,
) -> Result<Vec<Placed>> {
    let requests = &settings.requests;
    let targets = requests.iter().map(|request| Target::at(&request.to)).collect::<Result<Vec<_>>>()?;
    let connect = connect(settings, environment);
    let ledger = match &settings.ledger {
        Some(uri) => Some(ledger::open(uri, &connect).await?),
        None => None,
    };
    let store = store::open_all(&settings.store, &connect).await?;
    let cache = match &settings.cache {
        Some((directory, most)) => Some(Cache::open(directory, *most).await?),
        None => None,
    };
    let run = Run { settings, counters, store, ledger, cache };

    let artifacts: Vec<Artifact> = stream::iter(requests)
        .map(|request| run.resolve(&request.what))
        .buffered(LOOKUPS)
        .try_collect()
        .await?;
    let path = |artifact: &Artifact, target: &Target| {
        if settings.extract { Ok(target.whole()) } else { target.path_for(artifact) }
    };
    refuse_collisions(artifacts.iter().zip(&targets), path)?;

    let options = Options {
        patience: settings.patience,
        // One for all: together they stay below the memory that a small init container has.
        budget: Budget::default(),
        durable: settings.fsync,
        keep_when_cancelled: true,
        form: if settings.extract { Form::Unpacked } else { Form::File },
        leftovers: Arc::new(Leftovers::but_for(artifacts.iter().map(|artifact| artifact.sha256))),
    };
    let work = requests.iter().zip(artifacts).zip(&targets);
    let fetches = work.map(|((request, artifact), target)| run.place(request, artifact, target, &options));
    stream::iter(fetches).buffered(SIDE_BY_SIDE).try_collect().await
}

/// Every operation gets at most half of the whole time, so that the reason why one hangs is told, and not only that the
/// time is over.
fn connect(settings: &Settings, environment: &Environment) -> Connect {
    Connect {
        deadline: Connect::DEFAULT_DEADLINE.min(settings.timeout / 2),
        instance_metadata: settings.instance_metadata,
        environment: environment.clone(),
        ..Connect::default()
    }
}

impl Run<'_> {
    async fn resolve(&self, what: &What) -> Result<Artifact> {
        let mut artifact = resolve(what, self.ledger.as_ref()).await?;
        if let Some(mode) = self.settings.mode {
            artifact.mode = Some(mode);
        }
        Ok(artifact)
    }

    async fn place(
        &self,
        request: &Request,
        artifact: Artifact,
        target: &Target,
        options: &Options,
    ) -> Result<Placed> {
        match self.fetch(artifact.clone(), target, options).await {
            // The version may have been removed since it was resolved, and the tag moved on.
            Err(error) if is_absent_blob(&error) && matches!(request.what, What::Spec(..)) => {
                let again = self.resolve(&request.what).await?;
                if again.sha256 == artifact.sha256 {
                    return Err(self.advised(error));
                }
                self.fetch(again, target, options).await.map_err(|error| self.advised(error))
            }
            other => other.map_err(|error| self.advised(error)),
        }
    }

    async fn fetch(&self, artifact: Artifact, target: &Target, options: &Options) -> Result<Placed> {
        let Counters { arrived, expected, open_ended } = self.counters;
        match artifact.size {
            Some(size) => {
                expected.fetch_add(size, Ordering::Relaxed);
            }
            None => open_ended.store(true, Ordering::Relaxed),
        }
        let progress = |bytes| {
            arrived.fetch_add(bytes, Ordering::Relaxed);
        };
        let store = self.store.as_ref();
        let fetched = match &self.cache {
            Some(cache) => cache.fetch_with(store, &artifact, target, options, &progress).await?,
            None => fetch::fetch_with(store, &artifact, target, options, &progress).await?,
        };
        let how = if fetched.already_there {
            expected.fetch_sub(artifact.size.unwrap_or(0), Ordering::Relaxed);
            "was there already"
        } else {
            "is in place"
        };
        tracing::info!("{} {how}: {} bytes, '{}'", artifact.label, fetched.size, fetched.path.display());
        Ok(Placed { label: artifact.label, fetched })
    }

    fn advised(&self, error: Error) -> Error {
        if !is_absent_blob(&error) || error.hint().is_some() {
            return error;
        }
        error.with_hint(format!(
            "check that '{}' is the store that the version was added to",
            self.store.place()
        ))
    }
}

/// Two blobs for one file would leave the one that comes last.
fn refuse_collisions<'a>(
    work: impl Iterator<Item = (&'a Artifact, &'a Target)>,
    path: impl Fn(&Artifact, &Target) -> Result<PathBuf>,
) -> Result<()> {
    let mut taken: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for (artifact, target) in work {
        let path = path(artifact, target)?;
        if let Some(other) = taken.insert(real(&path), &artifact.label) {
            let rule = format!("'{other}' and '{}' both go to '{}'", artifact.label, path.display());
            return Err(Error::invalid(rule).with_hint("give each its own file, as <spec>=<file>"));
        }
    }
    Ok(())
}

/// The path with its directory's links resolved, where that is possible: one file has many spellings.
fn real(path: &Path) -> PathBuf {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    let directory = if directory == Path::new("") { Path::new(".") } else { directory };
    match directory.canonicalize() {
        Ok(directory) => directory.join(name),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sha256;

    #[test]
    fn two_blobs_never_share_a_file() {
        let artifact = |label: &str, basename: &str| Artifact {
            label: label.to_owned(),
            sha256: Sha256::of(label.as_bytes()),
            size: None,
            basename: Some(basename.to_owned()),
            mode: None,
        };
        let (a, b) = (artifact("a@1", "app.jar"), artifact("b@1", "app.jar"));
        let home = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(home.path(), home.path().join("link")).expect("a link");
        let at = |path: &str| Target::at(home.path().join(path)).expect("a target");
        let check = |left: &Target, right: &Target| {
            refuse_collisions([(&a, left), (&b, right)].into_iter(), |artifact, target| {
                target.path_for(artifact)
            })
        };

        check(&at("x"), &at("y")).expect("two files");
        for (left, right) in [("", ""), ("x", "x"), ("app.jar", ""), ("link/x", "x"), ("./x", "x")] {
            let error = check(&at(left), &at(right)).expect_err("one file").to_string();
            assert!(error.starts_with("'a@1' and 'b@1' both go to '"), "{error}");
        }
    }
}
