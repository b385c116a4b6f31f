//! Blobs in an S3 bucket: the key is the sha256, nothing else.
//!
//! A blob becomes visible only when all its bytes were sent and had the right digest: S3 shows an object when its
//! upload is complete, and the digest is known before that. Not responsible for verifying what it hands out.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::base64;
use aws_smithy_types::checksum_config::ResponseChecksumValidation;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use super::parts::SINGLE_MAX;
use super::sending::Sent;
use super::source::Source;
use super::timing::Timing;
use super::{BlobFile, BlobInfo, BlobReader, Progress, PutOutcome, Store, multipart};
use crate::aws::bucket::{Bucket, Operation};
use crate::aws::date::{AnswerDate, timestamp};
#[cfg(feature = "cli")]
use crate::aws::inspect_bucket::Holds;
use crate::aws::{status_and_code, transfer_timeouts};
use crate::connect::Connect;
use crate::crash_point::around;
use crate::error::{Error, Meaning, Missing, Result};
#[cfg(feature = "cli")]
use crate::inspection::Finding;
use crate::model::{S3Location, Sha256};
use crate::retry::Backoff;

const LOOK: Operation = Operation { words: "look for the blob", action: "s3:GetObject" };
const READ: Operation = Operation { words: "read the blob", action: "s3:GetObject" };
pub(super) const WRITE: Operation = Operation { words: "store the blob", action: "s3:PutObject" };

/// Blobs in one bucket.
#[derive(Debug)]
pub(super) struct S3Store {
    pub(super) location: S3Location,
    pub(super) bucket: Bucket,
    connect: Connect,
    /// Whether the bucket keeps old versions, once asked. Switching that is nothing that happens during a command.
    pub(super) versioned: OnceCell<bool>,
    /// Uploads that are being given up.
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
            connect: connect.clone(),
            versioned: OnceCell::new(),
            giving_up: TaskTracker::new(),
        })
    }

    /// Settings for a request that moves `bytes` of a blob.
    pub(super) fn transfer(&self, bytes: u64) -> aws_sdk_s3::config::Builder {
        let timeouts: TimeoutConfig = transfer_timeouts(bytes, &self.connect);
        aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
    }

    /// How often a create-only write may be tried against another one that is on its way.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.connect.clock.clone(), self.connect.deadline)
    }

    /// The condition of every write of a blob.
    pub(super) fn condition(&self) -> Option<String> {
        self.location.create_only.then(|| "*".to_owned())
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

    /// Whether what is there makes sending the bytes unnecessary.
    pub(super) fn suffices(&self, seen: &Seen, size: u64, key: &str) -> Result<bool> {
        let same = seen.info.size == size;
        if self.location.create_only && !same {
            let why =
                format!("it has {} bytes instead of {size}, and the store is create-only", seen.info.size);
            let hint = "whoever may delete in the bucket has to delete it first";
            return Err(Error::corrupt(self.bucket.uri(key), why).with_hint(hint));
        }
        // Another size cannot be these bytes: whatever it is, it is replaced. A create-only store cannot make the blob
        // younger; collection there hides first and deletes later, when the reference is visible.
        Ok(same && (self.location.create_only || self.timing().is_fresh(seen.info.modified, seen.at)))
    }

    async fn put_single(&self, key: &str, source: Source, sent: &Arc<Sent>) -> Result<PutOutcome> {
        let (size, digest) = (source.promise().size, source.promise().sha256);
        // One byte more than expected, so that a file that grew is noticed.
        let most = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1);
        let (bytes, source) = source.next_off_executor(most).await?;
        source.check()?;
        let mut backoff = self.backoff();
        loop {
            let request = self.bucket.client.put_object().bucket(&self.bucket.name).key(self.bucket.key(key));
            let request = request
                .content_type("application/octet-stream")
                .checksum_sha256(base64::encode(digest.as_bytes()))
                .set_if_none_match(self.condition())
                .body(sent.body(bytes.clone()));
            // The digest is a signed header, and the server compares the bytes with it: a signature of the payload would only
            // have it hashed twice.
            let request = request.customize().disable_payload_signing().config_override(self.transfer(size));
            match around("store.s3.put", request.send()).await {
                Ok(_) => return Ok(PutOutcome::Uploaded),
                Err(error) => match refused(&error) {
                    // Perhaps by an earlier attempt of this very request, whose reply was lost.
                    Refused::IsThere => return Ok(PutOutcome::AlreadyThere),
                    Refused::OtherWriter if backoff.pause().await => {}
                    Refused::OtherBytes => {
                        let meant = self.bucket.error(WRITE, key, &error);
                        return Err(damaged(meant));
                    }
                    _ => return Err(self.bucket.error(WRITE, key, &error)),
                },
            }
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

/// The error that it is when a server says that it got other bytes than were announced. The file had the right ones: it is hashed
/// before a server may call anything complete.
pub(super) fn damaged(refusal: Error) -> Error {
    let why = "the server received other bytes than were sent".to_owned();
    let key = refusal.key().unwrap_or_default().to_owned();
    Error::new(Meaning::Corrupt { why }, WRITE.words)
        .with_key(key)
        .with_hint(
            "nothing was stored; run the command again, and suspect what is between here and the server",
        )
        .with_source(refusal)
}

/// What is known of a blob, and when that was so by the server's clock.
pub(super) struct Seen {
    info: BlobInfo,
    at: Option<jiff::Timestamp>,
}

/// Why a conditional write was refused.
pub(super) enum Refused {
    /// There is such a blob.
    IsThere,
    /// Somebody else is writing at this moment.
    OtherWriter,
    /// What arrived is not what the request said that it is.
    OtherBytes,
    Otherwise,
}

/// What servers call bytes that differ from their checksum: S3 and versitygw the first, MinIO the second; the third is of
/// signed payloads.
const OTHER_BYTES: &[&str] = &["BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"];

/// Why a write of bytes failed.
pub(super) fn refused<E>(error: &SdkError<E, HttpResponse>) -> Refused
where
    E: ProvideErrorMetadata,
{
    match status_and_code(error) {
        (Some(412), _) => Refused::IsThere,
        (Some(409), _) => Refused::OtherWriter,
        (Some(400), Some(code)) if OTHER_BYTES.contains(&code) => Refused::OtherBytes,
        _ => Refused::Otherwise,
    }
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

    async fn settle(&self) {
        self.giving_up.close();
        self.giving_up.wait().await;
        self.giving_up.reopen();
    }

    async fn init(&self) -> Result<Vec<String>> {
        self.bucket.create().await
    }

    async fn put(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<PutOutcome> {
        let key = blob.sha256.to_string();
        match self.look(&key).await {
            Ok(Some(seen)) if self.suffices(&seen, blob.size, &key)? => return Ok(PutOutcome::AlreadyThere),
            Ok(_) | Err(Look::Refused(_)) => {}
            Err(Look::Failed(error)) => return Err(error),
        }
        let source = Source::open(blob).await?;
        let sent = Arc::new(Sent::default());
        if blob.size <= SINGLE_MAX {
            sent.report(blob.size, progress, self.put_single(&key, source, &sent)).await
        } else {
            let put = Box::pin(multipart::put(self, &key, source, &sent));
            sent.report(blob.size, progress, put).await
        }
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
