//! Deleting only what was seen, where no deletion takes a condition.
//!
//! A rename takes the blob out of sight together with whatever it is by then; what was moved is looked at, and deleted if
//! it is what was seen, else moved back. Its name says what it was taken for, so that whoever finds it later can end what
//! a dead collector began. `docs/adr/0013` has the reasoning and the window that stays.

use hdfs_native::client::FileStatus;

use super::error::Refused;
use super::{HdfsStore, OWN};
use crate::crash_point::around;
use crate::error::Result;
use crate::model::Sha256;
use crate::store::collect::{Deletion, StoredBlob, digest};

const DELETE: &str = "delete the blob";

/// Where blobs are that were taken out of sight.
pub(super) fn directory() -> String {
    format!("{OWN}/condemned")
}

/// Which writing of a blob a file is. A rename keeps it; another writing ends at another time.
pub(super) fn revision(status: &FileStatus) -> String {
    format!("{}-{}", status.length, status.modification_time)
}

/// A blob out of sight: `<sha256>.<revision that was seen>.<unique>`
struct Condemned<'a> {
    sha256: Sha256,
    seen: &'a str,
}

impl<'a> Condemned<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.split('.');
        let (sha256, seen) = (digest(parts.next()?)?, parts.next()?);
        (parts.next().is_some() && parts.next().is_none()).then_some(Self { sha256, seen })
    }
}

impl HdfsStore {
    pub(super) async fn delete_what_was_seen(&self, blob: &StoredBlob) -> Result<Deletion> {
        let path = self.blob_path(&blob.sha256);
        // Whatever is plainly another one stays in sight.
        match self.cluster.look(DELETE, &path).await? {
            None => return Ok(Deletion::Absent),
            Some(found) if revision(&found) != blob.revision => return Ok(Deletion::Changed),
            Some(_) => {}
        }
        let name = format!("{}.{}.{}", blob.sha256, blob.revision, uuid::Uuid::new_v4().simple());
        let condemned = self.path(&format!("{}/{name}", directory()));
        match around("store.hdfs.condemn", self.rename(DELETE, &path, &condemned, false)).await {
            Ok(()) => {}
            Err(Refused::Absent(_)) => return Ok(Deletion::Absent),
            Err(other) => return Err(other.into()),
        }
        Ok(self.settle_condemned(&name).await?.unwrap_or(Deletion::Done))
    }

    /// Ends what moving a blob out of sight began: nothing if its name says nothing or it is gone.
    pub(super) async fn settle_condemned(&self, name: &str) -> Result<Option<Deletion>> {
        let Some(Condemned { sha256, seen }) = Condemned::parse(name) else { return Ok(None) };
        let condemned = self.path(&format!("{}/{name}", directory()));
        let Some(found) = self.cluster.look(DELETE, &condemned).await? else { return Ok(None) };
        if revision(&found) == seen {
            around("store.hdfs.delete", self.cluster.delete(DELETE, &condemned)).await?;
            return Ok(Some(Deletion::Done));
        }
        let path = self.blob_path(&sha256);
        match around("store.hdfs.restore", self.rename(DELETE, &condemned, &path, false)).await {
            // The second: somebody else was as far.
            Ok(()) | Err(Refused::Absent(_)) => {}
            // Written yet again meanwhile: one is enough.
            Err(Refused::Exists(_)) => {
                self.cluster.delete(DELETE, &condemned).await?;
            }
            Err(other) => return Err(other.into()),
        }
        Ok(Some(Deletion::Changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_was_taken_for() {
        let sha256 = Sha256::of(b"blob");
        let name = format!("{sha256}.4-1700000000000.f00");
        let parsed = Condemned::parse(&name).expect("ours");
        assert_eq!((parsed.sha256, parsed.seen), (sha256, "4-1700000000000"));
        for foreign in ["", "readme", &sha256.to_string(), &format!("{sha256}.4-1"), &format!("{name}.more")]
        {
            assert!(Condemned::parse(foreign).is_none(), "{foreign}");
        }
    }
}
