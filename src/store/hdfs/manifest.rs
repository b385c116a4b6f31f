//! The manifest of garbage collection, exchanged by compare-and-swap: `_sacker/gc/<n>.json`, of which the highest counts.
//!
//! HDFS replaces no file on condition, but it gives a name on condition that nobody has it. So the next manifest is the
//! one that got the next number; older ones are removed by whoever wrote a newer one.

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::error::Refused;
use super::{HdfsStore, OWN};
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};
use crate::store::collect::{StoredManifest, taken};

const READ: &str = "read what is condemned";
const WRITE: &str = "write what is condemned";

fn directory() -> String {
    format!("{OWN}/gc")
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok().filter(|number: &u64| format!("{number}.json") == name)
}

impl HdfsStore {
    fn manifest_path(&self, number: u64) -> String {
        self.path(&format!("{}/{number}.json", directory()))
    }

    async fn manifests(&self, operation: &'static str) -> Result<Vec<u64>> {
        let entries = self.cluster.list(operation, self.path(&directory()));
        let named = entries
            .try_filter_map(async |entry| Ok(number(entry.path.rsplit('/').next().unwrap_or_default())));
        named.try_collect().await
    }

    pub(super) async fn read_newest_manifest(&self) -> Result<Option<StoredManifest>> {
        let mut backoff = self.cluster.backoff();
        loop {
            let Some(newest) = self.manifests(READ).await?.into_iter().max() else { return Ok(None) };
            let path = self.manifest_path(newest);
            match self.cluster.read(READ, &path).await {
                Ok(reader) => {
                    let all = Box::pin(reader.read_range(0, reader.file_length()));
                    let bytes = self.cluster.step(READ, &path, all).await?;
                    return Ok(Some(StoredManifest { bytes, revision: newest.to_string() }));
                }
                // Somebody wrote a newer one and removed this.
                Err(Refused::Absent(_)) if backoff.pause().await => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    pub(super) async fn write_next_manifest(&self, bytes: Bytes, seen: Option<&str>) -> Result<String> {
        let newest = self.manifests(WRITE).await?.into_iter().max();
        if newest.map(|number| number.to_string()).as_deref() != seen {
            return Err(taken(&self.cluster.uri(&self.path(&directory()))));
        }
        let next = newest.map_or(Some(1), |newest| newest.checked_add(1)).ok_or_else(|| {
            Error::new(Meaning::Other, WRITE).with_source("the numbers of manifests are used up")
        })?;
        let path = self.manifest_path(next);
        let mut file = self.begin(WRITE, "gc").await?;
        file.write(bytes).await?;
        file.close().await?;
        match around("store.hdfs.manifest", self.rename(WRITE, file.path(), &path, false)).await {
            Ok(()) => file.keep(),
            Err(Refused::Exists(_)) => return Err(taken(&self.cluster.uri(&path))),
            Err(other) => return Err(other.into()),
        }
        let all = self.manifests(WRITE).await?;
        if all.iter().any(|number| *number > next) {
            // Late: this number was free only because a newer one had come and it was removed.
            self.cluster.delete(WRITE, &path).await?;
            return Err(taken(&self.cluster.uri(&path)));
        }
        for older in all.into_iter().filter(|number| *number < next) {
            around("store.hdfs.forget", self.cluster.delete(WRITE, &self.manifest_path(older))).await?;
        }
        Ok(next.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_have_one_name_each() {
        for (name, expected) in [("1.json", Some(1)), ("01.json", None), ("1", None), ("-1.json", None)] {
            assert_eq!(number(name), expected, "{name}");
        }
    }
}
