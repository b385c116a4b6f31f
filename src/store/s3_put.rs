//! How blobs come into a bucket: in one request up to a size, in parts above it.

use std::sync::Arc;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::base64;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;

use super::parts::SINGLE_MAX;
use super::s3::{Look, S3Store, Seen};
use super::sending::Sent;
use super::source::Source;
use super::{BlobFile, Progress, PutOutcome, Store as _, multipart};
use crate::aws::bucket::Operation;
use crate::aws::{status_and_code, transfer_timeouts};
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};
use crate::retry::Backoff;

pub(super) const WRITE: Operation = Operation { words: "store the blob", action: "s3:PutObject" };

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

impl S3Store {
    /// [`super::Store::put`].
    pub(super) async fn store(&self, blob: BlobFile<'_>, progress: Progress<'_>) -> Result<PutOutcome> {
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
}
