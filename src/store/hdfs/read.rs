//! A blob's bytes from the DataNodes, in order from any offset on.
//!
//! A DataNode that breaks off is replaced by another replica's, by the client library; when none is left, the stream ends
//! with an error, never without one.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};

use super::cluster::Cluster;
use super::error::Refused;
use super::{HdfsStore, READ};
use crate::error::{Error, Meaning, Missing, Result};
use crate::model::Sha256;
use crate::store::BlobReader;

/// Bytes that are handed out at once, at most. DataNodes send 64 KiB at a time unless they are told otherwise; the library
/// reads up to a hundred such ahead.
const PIECE: usize = 256 << 10;

pub(super) async fn open(store: &HdfsStore, sha256: &Sha256, range: Range<u64>) -> Result<BlobReader> {
    let (cluster, path) = (store.cluster.clone(), store.blob_path(sha256));
    let reader = match cluster.read(READ, &path).await {
        Ok(reader) => reader,
        Err(Refused::Absent(_)) => {
            store.directory(READ).await?;
            let missing = Meaning::NotFound(Missing::Blob(*sha256));
            return Err(Error::new(missing, READ).with_key(cluster.uri(&path)));
        }
        Err(other) => return Err(other.into()),
    };
    let size = reader.file_length();
    // The library panics beyond the end.
    let start = usize::try_from(range.start).ok().filter(|start| *start <= size);
    let Some(start) = start else {
        return Err(Error::invalid(format!("blob {sha256} has no byte {}", range.start)));
    };
    let end = usize::try_from(range.end).map_or(size, |end| end.min(size));
    let left = end.saturating_sub(start);
    let parts = reader.read_range_stream(start, left).boxed();
    let body = Body { cluster, path, parts, rest: Bytes::new(), left: left as u64 };
    Ok(BlobReader { size: size as u64, stream: stream::try_unfold(body, Body::next).boxed() })
}

/// The rest of a blob on its way.
struct Body {
    cluster: Cluster,
    path: String,
    parts: BoxStream<'static, hdfs_native::Result<Bytes>>,
    /// What came and was not handed out yet.
    rest: Bytes,
    left: u64,
}

impl Body {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        while self.rest.is_empty() && self.left > 0 {
            let next = async { self.parts.next().await.transpose() };
            let Some(bytes) = self.cluster.step(READ, &self.path, next).await? else {
                let why = format!("the DataNodes ended {} bytes before the end", self.left);
                let error = Error::new(Meaning::Unavailable, READ).with_key(self.cluster.uri(&self.path));
                return Err(error.with_source(why));
            };
            self.rest = bytes;
        }
        if self.left == 0 {
            return Ok(None);
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok(Some((piece, self)))
    }
}
