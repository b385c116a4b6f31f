//! Files that have no name yet that counts: written once, then renamed or removed. Also the store's clock, which is the
//! time of such a file.

use bytes::Bytes;
use hdfs_native::file::FileWriter;
use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::error::Refused;
use super::{HdfsStore, OWN, modified};
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};

/// Where these files are. One that is still written to is known by nothing but its age.
pub(super) fn directory() -> String {
    format!("{OWN}/unfinished")
}

/// A file on its way. Removed when dropped before it has its name.
pub(super) struct Unfinished {
    cluster: Cluster,
    operation: &'static str,
    path: String,
    writer: Option<FileWriter>,
    is_named: bool,
    giving_up: TaskTracker,
}

impl HdfsStore {
    /// Begins a file under a name that nobody else uses.
    pub(super) async fn begin(&self, operation: &'static str, stem: &str) -> Result<Unfinished> {
        let directory = self.path(&directory());
        let path = format!("{directory}/{stem}.{}", uuid::Uuid::new_v4().simple());
        // Before the first request: a lost reply may stand for a file that was made.
        let mut unfinished = Unfinished {
            cluster: self.cluster.clone(),
            operation,
            path,
            writer: None,
            is_named: false,
            giving_up: self.giving_up.clone(),
        };
        let create = async || self.cluster.create(operation, &unfinished.path).await;
        let writer = match around("store.hdfs.create", create()).await {
            Err(Refused::Absent(_)) => {
                self.make_directory(operation, &directory).await?;
                create().await?
            }
            other => other?,
        };
        unfinished.writer = Some(writer);
        Ok(unfinished)
    }

    /// The time by the NameNode: the time of a file that is made now.
    pub(super) async fn time(&self, operation: &'static str) -> Result<Timestamp> {
        let file = self.begin(operation, "now").await?;
        let status = self.cluster.look(operation, file.path()).await?;
        file.remove().await?;
        status.as_ref().and_then(modified).ok_or_else(|| {
            Error::new(Meaning::Unavailable, operation)
                .with_key(self.location.to_string())
                .with_source("the NameNode does not tell its time")
        })
    }
}

impl Unfinished {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn writer(&mut self) -> Result<(&Cluster, &str, &mut FileWriter)> {
        match &mut self.writer {
            Some(writer) => Ok((&self.cluster, &self.path, writer)),
            None => Err(Error::new(Meaning::Other, self.operation).with_key(self.path.clone())),
        }
    }

    /// Sends bytes. They are on no disk when this returns.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let operation = self.operation;
        let (cluster, path, writer) = self.writer()?;
        cluster.step(operation, path, Box::pin(writer.write_bytes(bytes))).await.map(drop)
    }

    /// Ends the file. The library has every DataNode of the pipeline sync each block to its disk, and the NameNode counts
    /// it as whole only with as many replicas as it asks for.
    pub(super) async fn close(&mut self) -> Result<()> {
        let operation = self.operation;
        let (cluster, path, writer) = self.writer()?;
        cluster.step(operation, path, Box::pin(writer.close())).await
    }

    /// It has another name by now, and stays.
    pub(super) fn keep(mut self) {
        self.is_named = true;
    }

    /// Removes it.
    pub(super) async fn remove(mut self) -> Result<()> {
        around("store.hdfs.remove", self.cluster.delete(self.operation, &self.path)).await?;
        self.is_named = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // The lease goes with the writer, and must not be renewed for a file that goes.
        drop(self.writer.take());
        if self.is_named || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (cluster, operation, path) =
            (self.cluster.clone(), self.operation, std::mem::take(&mut self.path));
        // Best effort: what fails here costs space, not correctness.
        self.giving_up.spawn(async move {
            if let Err(error) = cluster.delete(operation, &path).await {
                tracing::debug!(%error, path, "an unfinished file was not removed");
            }
        });
    }
}
