//! Blobs in an S3 bucket: the key is the sha256, nothing else.
//!
//! A blob becomes visible only when all its bytes were sent and had the right digest: S3 shows an object when its
//! upload is complete, and the digest is known before that. Not responsible for verifying what it hands out.

use std::ops::Range;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_types::checksum_config::ResponseChecksumValidation;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio::sync::OnceCell;
#[cfg(feature = "cli")]
use tokio_util::task::TaskTracker;

use super::timing::Timing;
#[cfg(feature = "cli")]
use super::{BlobFile, Progress, PutOutcome};
use super::{BlobInfo, BlobReader, Store};
use crate::aws::bucket::{Bucket, Operation};
use crate::aws::date::{AnswerDate, timestamp};
#[cfg(feature = "cli")]
use crate::aws::inspect_bucket::Holds;
use crate::aws::status_and_code;
use crate::connect::Connect;
use crate::error::{Error, Meaning, Missing, Result};
#[cfg(feature = "cli")]
use crate::inspection::Finding;
use crate::model::{S3Location, Sha256};

const LOOK: Operation = Operation { words: "look for the blob", action: "s3:GetObject" };
const READ: Operation = Operation { words: "read the blob", action: "s3:GetObject" };

/// Blobs in one bucket.
#[derive(Debug)]
pub(super) struct S3Store {
    pub(super) location: S3Location,
    pub(super) bucket: Bucket,
    #[cfg(feature = "cli")]
    pub(super) connect: Connect,
    /// Whether the bucket keeps old versions, once asked. Switching that is nothing that happens during a command.
    pub(super) versioned: OnceCell<bool>,
    /// Uploads that are being given up.
    #[cfg(feature = "cli")]
    pub(super) giving_up: TaskTracker,
}

impl S3Store {
    /// Makes no request.
    ///
    /// # Errors
    /// `Invalid` when no region is known, or the credential settings are incomplete.
    pub(super) async fn open(location: &S3Location, connect: &Connect) -> Result<Self> {
        let mut bucket = Bucket::open(location, connect).await?;
        // Every byte that is read is verified by its sha256 anyway: a second checksum would only cost time.
        let config = bucket.client.config().to_builder();
        let config = config.response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        bucket.client = Client::from_conf(config.build());
        Ok(Self {
            location: location.clone(),
            bucket,
            #[cfg(feature = "cli")]
            connect: connect.clone(),
            versioned: OnceCell::new(),
            #[cfg(feature = "cli")]
            giving_up: TaskTracker::new(),
        })
    }

    /// The blob's size and age; nothing on 404, which may also mean that there is no bucket.
    pub(super) async fn look(&self, key: &str) -> std::result::Result<Option<Seen>, Look> {
        let request = self.bucket.client.head_object().bucket(&self.bucket.name).key(self.bucket.key(key));
        let date = AnswerDate::default();
        match request.customize().interceptor(date.clone()).send().await {
            Ok(head) => Ok(Some(Seen {
                info: BlobInfo {
                    size: head.content_length().and_then(|size| size.try_into().ok()).unwrap_or(0),
                    modified: head.last_modified().and_then(timestamp),
                },
                at: date.get(),
            })),
            Err(error) => match status_and_code(&error).0 {
                Some(404) => Ok(None),
                // The answer to HEAD has no body, so that 400 may be as much about credentials as 403 is.
                Some(400 | 401 | 403) => Err(Look::Refused(self.bucket.error(LOOK, key, &error))),
                _ => Err(Look::Failed(self.bucket.error(LOOK, key, &error))),
            },
        }
    }

    fn reader(&self, key: &str, asked: &Range<u64>, output: GetObjectOutput) -> Result<BlobReader> {
        let length: u64 = output.content_length().and_then(|length| length.try_into().ok()).unwrap_or(0);
        // `bytes <first>-<last>/<size>`
        let range = output.content_range().and_then(|range| {
            let (range, size) = range.strip_prefix("bytes ")?.split_once('/')?;
            Some((range.split_once('-')?.0.parse::<u64>().ok()?, size.parse::<u64>().ok()?))
        });
        let size = match range {
            Some((first, size)) if first == asked.start && first + length == asked.end.min(size) => size,
            // A server may answer with the whole where the whole was asked for.
            None if asked.start == 0 && length <= asked.end => length,
            _ => {
                let error = Error::new(Meaning::Other, READ.words).with_key(self.bucket.uri(key));
                return Err(error.with_source("the server answered with another part than the one asked for"));
            }
        };
        let body = Body { bytes: output.body, left: length, uri: self.bucket.uri(key) };
        Ok(BlobReader { size, stream: stream::try_unfold(body, Body::next).boxed() })
    }
}

/// What is known of a blob, and when that was so by the server's clock.
pub(super) struct Seen {
    pub(super) info: BlobInfo,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only of use to a writer"))]
    pub(super) at: Option<jiff::Timestamp>,
}

/// Why it is not known whether the blob is there.
pub(super) enum Look {
    /// Whoever asks may not know.
    Refused(Error),
    Failed(Error),
}

/// The rest of a blob on its way.
struct Body {
    bytes: ByteStream,
    left: u64,
    uri: String,
}

impl Body {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        match self.bytes.next().await {
            Some(Ok(chunk)) => {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                Ok(Some((chunk, self)))
            }
            None if self.left == 0 => Ok(None),
            Some(Err(_)) | None => {
                let why = format!("the connection broke or stalled {} bytes before the end", self.left);
                Err(Error::new(Meaning::Unavailable, READ.words).with_key(self.uri).with_source(why))
            }
        }
    }
}

#[async_trait]
impl Store for S3Store {
    fn place(&self) -> String {
        self.location.to_string()
    }

    fn timing(&self) -> Timing {
        Timing::new(self.location.grace)
    }

    #[cfg(feature = "cli")]
    async fn inspect_credentials(&self) -> Option<Finding> {
        let region = self.bucket.client.config().region();
        Some(crate::aws::inspect::credentials(&self.connect, region).await)
    }

    #[cfg(feature = "cli")]
    async fn inspect(&self) -> Vec<Finding> {
        Box::pin(self.bucket.inspect(Holds::Store { create_only: self.location.create_only })).await
    }

    #[cfg(feature = "cli")]
    async fn settle(&self) {
        self.giving_up.close();
        self.giving_up.wait().await;
        self.giving_up.reopen();
    }

    async fn init(&self) -> Result<Vec<String>> {
        self.bucket.create().await
    }

    #[cfg(feature = "cli")]
    async fn put(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<PutOutcome> {
        self.store(blob, progress).await
    }

    async fn head(&self, sha256: &Sha256) -> Result<Option<BlobInfo>> {
        match self.look(&sha256.to_string()).await {
            Ok(None) => self.bucket.check(LOOK.words).await.map(|()| None),
            Ok(seen) => Ok(seen.map(|seen| seen.info)),
            Err(Look::Refused(error) | Look::Failed(error)) => Err(error),
        }
    }

    #[cfg(feature = "cli")]
    async fn presign(&self, sha256: &Sha256, expires: std::time::Duration, filename: &str) -> Result<String> {
        super::signed::url(self, sha256, expires, filename).await
    }

    async fn open(&self, sha256: &Sha256, range: Range<u64>) -> Result<BlobReader> {
        let key = sha256.to_string();
        let request = self.bucket.client.get_object().bucket(&self.bucket.name).key(self.bucket.key(&key));
        // An open end is left open, so that the whole of a blob is asked for without a range: an empty one has no byte 0.
        let header = match range.clone() {
            Range { start: 0, end: u64::MAX } => None,
            Range { start, end: u64::MAX } => Some(format!("bytes={start}-")),
            Range { start, end } => Some(format!("bytes={start}-{}", end.saturating_sub(1).max(start))),
        };
        match request.set_range(header).send().await {
            Ok(output) => self.reader(&key, &range, output),
            Err(error) => match status_and_code(&error) {
                (Some(404), code) if code != Some("NoSuchBucket") => {
                    let missing = Meaning::NotFound(Missing::Blob(*sha256));
                    Err(Error::new(missing, READ.words).with_key(self.bucket.uri(&key)))
                }
                // Nothing stands at or after the offset. At the very end that is no mistake.
                (Some(416), _) => match self.head(sha256).await? {
                    Some(info) if info.size == range.start => {
                        Ok(BlobReader { size: info.size, stream: stream::empty().boxed() })
                    }
                    _ => Err(Error::invalid(format!("blob {sha256} has no byte {}", range.start))),
                },
                _ => Err(self.bucket.error(READ, &key, &error)),
            },
        }
    }
}
