//! One HDFS as the store uses it: single requests, each within the deadline, with their failures by meaning.
//!
//! The client library may try for minutes and may panic on what it does not expect; neither passes this file. Not
//! responsible for what the requests are for.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};
use hdfs_native::client::{FileStatus, WriteOptions};
use hdfs_native::file::{FileReader, FileWriter};
use hdfs_native::{Client, ClientBuilder, HdfsError};
use tokio::sync::OnceCell;

use super::error::{Refused, is_in_doubt, refused, too_late, was_not_served};
use crate::clock::Clock;
use crate::connect::Connect;
use crate::environment::Environment;
use crate::error::{Error, Meaning, Result};
use crate::model::HdfsLocation;
use crate::names::is_of_link_local;
use crate::retry::Backoff;

/// The port of a NameNode that is named without one and that no Hadoop configuration explains.
const USUAL_PORT: u16 = 8020;

/// How the library goes from NameNode to NameNode. Its own figures would outlast any deadline here, and hide what it met.
const FAILOVER: [(&str, &str); 3] = [
    ("dfs.client.failover.max.attempts", "3"),
    ("dfs.client.failover.sleep.base.millis", "50"),
    ("dfs.client.failover.sleep.max.millis", "1000"),
];

/// Whether a request may be carried out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Twice is once.
    Freely,
    /// Whoever repeats it has to look first.
    IfNotServed,
}

/// A NameNode, or several of one name service, and their DataNodes.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    name_node: Arc<str>,
    /// Whether that is the name of a link-local address, once looked at.
    is_refused: Arc<OnceCell<bool>>,
    deadline: Duration,
    clock: Arc<dyn Clock>,
}

/// Not the client: it holds the whole Hadoop configuration.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name_node", &self.name_node).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Makes no request.
    ///
    /// # Errors
    /// `Invalid` when the Hadoop configuration cannot be used.
    pub(super) fn open(location: &HdfsLocation, connect: &Connect) -> Result<Self> {
        let name_node = &location.name_node;
        let build = |url: String| {
            let mut builder = ClientBuilder::new().with_url(url).with_config(FAILOVER);
            if let Some(directory) = configuration(&connect.environment) {
                builder = builder.with_config_dir(directory);
            }
            std::panic::catch_unwind(AssertUnwindSafe(|| builder.build())).unwrap_or_else(|_| Err(panicked()))
        };
        let client = match build(format!("hdfs://{name_node}")) {
            // Without a port it may be a name service. If it is none, it is a NameNode at the usual port.
            Err(HdfsError::InvalidArgument(_)) if !has_port(name_node) => {
                build(format!("hdfs://{name_node}:{USUAL_PORT}"))
            }
            other => other,
        };
        let uri = format!("hdfs://{name_node}");
        let client = client.map_err(|error| match Error::from(refused("open the store", &uri, &error)) {
            error if matches!(error.meaning(), Meaning::Invalid { .. }) => error,
            other => Error::invalid("the Hadoop configuration cannot be used")
                .with_hint("HADOOP_CONF_DIR names the directory with core-site.xml and hdfs-site.xml")
                .with_source(other),
        })?;
        Ok(Self {
            client,
            name_node: name_node.as_str().into(),
            is_refused: Arc::default(),
            deadline: connect.deadline,
            clock: connect.clock.clone(),
        })
    }

    /// What `path` is called in messages.
    pub(super) fn uri(&self, path: &str) -> String {
        format!("hdfs://{}{path}", self.name_node)
    }

    /// Pauses for an operation of several requests.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.clock.clone(), self.deadline)
    }

    /// Refuses a NameNode whose name is that of a link-local address; looked at once. A name service is none that resolves.
    async fn check_name(&self, operation: &'static str) -> Result<()> {
        let name = self.name_node.rsplit_once(':').map_or(&*self.name_node, |(name, _)| name);
        let is_refused =
            self.is_refused.get_or_init(|| is_of_link_local(name.trim_matches(['[', ']']))).await;
        if *is_refused {
            let why = format!(
                "'{name}' is the name of a link-local address, where clouds keep machine credentials"
            );
            return Err(Error::new(Meaning::Invalid { rule: why.into() }, operation));
        }
        Ok(())
    }

    /// Repeats a request while it is not served, until the deadline.
    async fn ask<T, F>(
        &self,
        operation: &'static str,
        path: &str,
        repeat: Repeat,
        request: impl Fn() -> F,
    ) -> Result<T, Refused>
    where
        F: Future<Output = hdfs_native::Result<T>>,
    {
        self.check_name(operation).await.map_err(Refused::Otherwise)?;
        let mut last = None;
        // Boxed: the library's futures are large, and would be part of every one around them.
        let attempts = Box::pin(async {
            let mut backoff = self.backoff();
            loop {
                let error = match shielded(request()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                let again = was_not_served(&error) || (repeat == Repeat::Freely && is_in_doubt(&error));
                if !again || !backoff.pause().await {
                    return Err(error);
                }
                last = Some(error);
            }
        });
        // Out of the way before `last` is looked at.
        let outcome = tokio::time::timeout(self.deadline, attempts).await;
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(refused(operation, &self.uri(path), &error)),
            Err(_) => Err(Refused::Otherwise(too_late(operation, &self.uri(path), last.as_ref()))),
        }
    }

    /// Waits for a step of a transfer, which the library repeats itself where that is possible.
    pub(super) async fn step<T>(
        &self,
        operation: &'static str,
        path: &str,
        step: impl Future<Output = hdfs_native::Result<T>>,
    ) -> Result<T> {
        self.check_name(operation).await?;
        match tokio::time::timeout(self.deadline, shielded(step)).await {
            Ok(outcome) => outcome.map_err(|error| refused(operation, &self.uri(path), &error).into()),
            Err(_) => Err(too_late(operation, &self.uri(path), None)),
        }
    }

    /// What is at `path`, if anything.
    pub(super) async fn look(&self, operation: &'static str, path: &str) -> Result<Option<FileStatus>> {
        match self.ask(operation, path, Repeat::Freely, || self.client.get_file_info(path)).await {
            Ok(status) => Ok(Some(status)),
            Err(Refused::Absent(_)) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// Makes a directory and those above it. No failure if it is there.
    pub(super) async fn make_directory(
        &self,
        operation: &'static str,
        path: &str,
        mode: u16,
    ) -> Result<(), Refused> {
        let request = || self.client.mkdirs(path, mode.into(), true);
        self.ask(operation, path, Repeat::Freely, request).await
    }

    /// Begins a file whose name nobody else uses.
    pub(super) async fn create(&self, operation: &'static str, path: &str) -> Result<FileWriter, Refused> {
        let options = WriteOptions::default().create_parent(false);
        let request = || self.client.create(path, &options);
        self.ask(operation, path, Repeat::IfNotServed, request).await
    }

    /// Gives a file another name, in one step; what has that name already is replaced by it, if that is wanted.
    pub(super) async fn rename(
        &self,
        operation: &'static str,
        from: &str,
        to: &str,
        replace: bool,
    ) -> Result<(), Refused> {
        let request = || self.client.rename(from, to, replace);
        self.ask(operation, to, Repeat::IfNotServed, request).await
    }

    /// Deletes a file. False if there is none.
    pub(super) async fn delete(&self, operation: &'static str, path: &str) -> Result<bool> {
        let request = || self.client.delete(path, false);
        match self.ask(operation, path, Repeat::Freely, request).await {
            Ok(deleted) => Ok(deleted),
            Err(Refused::Absent(_)) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// Where the bytes of a file are.
    pub(super) async fn read(&self, operation: &'static str, path: &str) -> Result<FileReader, Refused> {
        self.ask(operation, path, Repeat::Freely, || self.client.read(path)).await
    }

    /// What is directly in a directory; nothing if there is none.
    pub(super) fn list(&self, operation: &'static str, path: String) -> BoxStream<'_, Result<FileStatus>> {
        let entries = self.client.list_status_iter(&path, false);
        stream::try_unfold((entries, path), move |(entries, path)| async move {
            let entry = async { entries.next().await.transpose() };
            match tokio::time::timeout(self.deadline, shielded(entry)).await {
                Ok(Ok(entry)) => Ok(entry.map(|entry| (entry, (entries, path)))),
                Ok(Err(error)) => match refused(operation, &self.uri(&path), &error) {
                    Refused::Absent(_) => Ok(None),
                    other => Err(other.into()),
                },
                Err(_) => Err(too_late(operation, &self.uri(&path), None)),
            }
        })
        .boxed()
    }
}

/// Where the Hadoop configuration is, as Hadoop's own clients look for it.
fn configuration(environment: &Environment) -> Option<String> {
    let home = || environment.get("HADOOP_HOME").map(|home| format!("{home}/etc/hadoop"));
    environment.get("HADOOP_CONF_DIR").map(str::to_owned).or_else(home)
}

fn has_port(name_node: &str) -> bool {
    name_node.rfind(':').is_some_and(|colon| !name_node[colon..].contains(']'))
}

fn panicked() -> HdfsError {
    HdfsError::InternalError("the HDFS client library panicked".to_owned())
}

/// A panic of the library as an error. (Where panics abort, as in the init container, it ends the process all the same.)
async fn shielded<T>(request: impl Future<Output = hdfs_native::Result<T>>) -> hdfs_native::Result<T> {
    AssertUnwindSafe(request).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_told_from_an_address() {
        for (name_node, expected) in
            [("namenode", false), ("namenode:8020", true), ("[::1]", false), ("[::1]:8020", true)]
        {
            assert_eq!(has_port(name_node), expected, "{name_node}");
        }
    }
}
