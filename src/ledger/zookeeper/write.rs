//! Writing: one request per write, which makes the directories that it needs in the same step.
//!
//! Directories are made together with the first object below them, so that no crash leaves an empty one.

use std::sync::Arc;

use futures::future::BoxFuture;
use zookeeper_client::{Error as Failure, MultiWriteError, MultiWriteResult, Stat};

use super::failure::{CREATE, Operation, READ, WRITE, is_answer};
use super::nodes;
use super::session::{Session, Sessions};
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};
use crate::ledger::Revision;

/// A server takes requests of at most 1,048,575 bytes unless it is configured otherwise (`jute.maxbuffer`), and breaks the
/// connection over a larger one. The rest is for paths.
pub(super) const REQUEST_MAX: usize = 1_000_000;

/// What a write does to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is not there yet.
    Create,
    /// It was written so many times since it was created. -1 stands for any number.
    Exchange(i32),
}

/// One object to be written.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) path: String,
    pub(super) bytes: bytes::Bytes,
    pub(super) change: Change,
}

/// What writes in one step came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All are written; their revisions.
    Written(Vec<Revision>),
    /// None is: this one met another state than it expects.
    Refused(usize),
    /// None is: the node that this one exchanges is not there.
    Missing(usize),
}

/// A server's answer to writes in one step: which of the step's operations failed, and how.
type Failed = (usize, Failure);

/// What sending such writes came to; the outer error is trouble on the way.
type Sent<T> = Result<Result<T, Failed>, Failure>;

/// The revision of an object. The first part is the transaction that created the node, which comes once in the life of an
/// ensemble; the second counts its writes since.
pub(super) fn revision(stat: &Stat) -> Revision {
    Revision(format!("{:x}.{}", stat.czxid, stat.version))
}

/// The number of writes that a revision counts; nothing where it is none of ours.
pub(super) fn version(revision: &Revision) -> Option<i32> {
    let (_, version) = revision.0.split_once('.')?;
    version.parse().ok().filter(|version| *version >= 0)
}

impl Sessions {
    /// Writes all or none.
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<Outcome> {
        let writes = Arc::new(writes);
        let mut backoff = self.backoff();
        let mut directories = Arc::new(Vec::new());
        loop {
            let (send, path) =
                (step(self, &directories, &writes), writes.first().map_or("", |write| &write.path));
            let (place, failure) = match self.write(WRITE, path, send).await? {
                Ok(revisions) => return Ok(Outcome::Written(revisions)),
                Err(failed) => failed,
            };
            let write = place.checked_sub(directories.len());
            match (write, &failure) {
                (Some(write), Failure::NodeExists | Failure::BadVersion) => {
                    return Ok(Outcome::Refused(write));
                }
                (Some(write), Failure::NoNode) if writes[write].change != Change::Create => {
                    self.missing_above(&writes[write].path).await?;
                    return Ok(Outcome::Missing(write));
                }
                // A directory is missing, or is there by now.
                (_, Failure::NoNode | Failure::NodeExists) => {}
                (write, _) => {
                    let path = write.map_or_else(|| &directories[place], |write| &writes[write].path);
                    return Err(self.settings.failed(WRITE, path, failure));
                }
            }
            if !directories.is_empty() && !backoff.pause().await {
                let error = Error::new(Meaning::Unavailable, WRITE.words).with_key(self.settings.place(path));
                return Err(error.with_source("others keep making and removing the nodes above it"));
            }
            let mut missing = Vec::new();
            for write in writes.iter().filter(|write| write.change == Change::Create) {
                for directory in self.missing_above(&write.path).await? {
                    if !missing.contains(&directory) {
                        missing.push(directory);
                    }
                }
            }
            directories = Arc::new(missing);
        }
    }

    /// The nodes above `path` that are not there, from above.
    ///
    /// # Errors
    /// `NotFound(Backend)` where even the root is not.
    async fn missing_above(&self, path: &str) -> Result<Vec<String>> {
        let root = &self.settings.root;
        let above = std::iter::successors(nodes::parent(path), |path| nodes::parent(path));
        let above = above.take_while(|path| path.len() >= root.len()).map(str::to_owned).collect();
        let missing = self.missing(READ, path, above).await?;
        if missing.first() == Some(root) {
            return Err(self.settings.no_root());
        }
        Ok(missing)
    }

    /// Those of `nodes`, each above the one before it, that come before the first that is there; from above.
    async fn missing(&self, operation: Operation, path: &str, nodes: Vec<String>) -> Result<Vec<String>> {
        let nodes = Arc::new(nodes);
        let look = |session: Arc<Session>| {
            let nodes = nodes.clone();
            async move {
                let mut missing = Vec::new();
                for node in nodes.iter() {
                    if session.client.check_stat(node).await?.is_some() {
                        break;
                    }
                    missing.insert(0, node.clone());
                }
                Ok(missing)
            }
        };
        self.read(operation, path, look).await
    }

    /// Creates the root and what is missing above it. Returns whether anything was.
    pub(super) async fn create_root(&self) -> Result<bool> {
        let root = &self.settings.root;
        let mut backoff = self.backoff();
        let whole: Vec<String> = std::iter::successors(Some(root.as_str()), |path| nodes::parent(path))
            .map(str::to_owned)
            .collect();
        loop {
            let missing = self.missing(CREATE, root, whole.clone()).await?;
            if missing.is_empty() {
                return Ok(false);
            }
            let missing = Arc::new(missing);
            let sent = self.write(CREATE, root, step(self, &missing, &Arc::default()));
            let Err((place, failure)) = around("zookeeper.root", sent).await? else { return Ok(true) };
            // Somebody else made it meanwhile, or took away what is above it.
            let is_race = matches!(failure, Failure::NodeExists | Failure::NoNode);
            if !is_race || !backoff.pause().await {
                return Err(self.settings.failed(CREATE, &missing[place.min(missing.len() - 1)], failure));
            }
        }
    }
}

/// Sends one step: the directories in their order, then the writes in theirs.
fn step(
    sessions: &Sessions,
    directories: &Arc<Vec<String>>,
    writes: &Arc<Vec<Write>>,
) -> impl FnOnce(Arc<Session>) -> BoxFuture<'static, Sent<Vec<Revision>>> + use<> {
    let options = sessions.settings.options();
    let (directories, writes) = (directories.clone(), writes.clone());
    move |session| {
        Box::pin(async move {
            let client = &session.client;
            let answer = match (directories.as_slice(), writes.as_slice()) {
                ([], [Write { path, bytes, change: Change::Create }]) => {
                    client.create(path, bytes, &options).await.map(|(stat, _)| vec![stat])
                }
                ([], [Write { path, bytes, change: Change::Exchange(version) }]) => {
                    let expected = Some(*version).filter(|version| *version >= 0);
                    client.set_data(path, bytes, expected).await.map(|stat| vec![stat])
                }
                _ => {
                    let mut writer = client.new_multi_writer();
                    let made = directories.iter().try_for_each(|path| writer.add_create(path, &[], &options));
                    let made = made.and_then(|()| {
                        writes.iter().try_for_each(|write| match write.change {
                            Change::Create => writer.add_create(&write.path, &write.bytes, &options),
                            Change::Exchange(version) => {
                                let expected = Some(version).filter(|version| *version >= 0);
                                writer.add_set_data(&write.path, &write.bytes, expected)
                            }
                        })
                    });
                    if let Err(failure) = made {
                        return answered(0, failure);
                    }
                    match writer.commit().await {
                        Ok(results) => {
                            Ok(results.iter().skip(directories.len()).filter_map(stat_of).collect())
                        }
                        Err(MultiWriteError::OperationFailed { index, source }) => {
                            return answered(index, source);
                        }
                        Err(MultiWriteError::RequestFailed { source }) => Err(source),
                    }
                }
            };
            let stats = match answer {
                Ok(stats) => stats,
                Err(failure) => return answered(0, failure),
            };
            let mut revisions = Vec::with_capacity(stats.len());
            for (stat, write) in stats.iter().zip(writes.iter()) {
                revisions.push(if stat.is_invalid() {
                    created(&session, &write.path).await?
                } else {
                    revision(stat)
                });
            }
            Ok(Ok(revisions))
        })
    }
}

/// A server's own answer apart from trouble on the way to it.
fn answered<T>(place: usize, failure: Failure) -> Sent<T> {
    if is_answer(&failure) { Ok(Err((place, failure))) } else { Err(failure) }
}

fn stat_of(result: &MultiWriteResult) -> Option<Stat> {
    match result {
        MultiWriteResult::Create { stat, .. } | MultiWriteResult::SetData { stat } => Some(*stat),
        _ => None,
    }
}

/// The revision that a node had when it was created just now. Some servers leave it out of their answer (ZOOKEEPER-4026,
/// ZOOKEEPER-4667).
async fn created(session: &Session, path: &str) -> Result<Revision, Failure> {
    let stat = session.client.check_stat(path).await?;
    // Others may have written it since, which leaves the first part as it was.
    let stat = stat.ok_or(Failure::ConnectionLoss)?;
    Ok(revision(&Stat { version: 0, ..stat }))
}
