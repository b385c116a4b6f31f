//! Large blobs go to S3 in parts, side by side, and become visible in one last step, or not at all.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::checksum_config::RequestChecksumCalculation;
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::task::TaskTracker;

use super::PutOutcome;
use super::parts::part_size;
use super::s3::S3Store;
use super::s3_put::{Refused, WRITE, damaged, refused};
use super::sending::Sent;
use super::source::Source;
use crate::aws::status_and_code;
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};

/// How much is held in memory at most, besides the part that is being read.
const IN_FLIGHT: u64 = 48 << 20;

/// Giving an upload up may take this long, twice at most: whoever waits has an error to hear about.
const GIVE_UP: Duration = Duration::from_secs(3);

/// How long a server is given to notice that a connection with half a part is gone.
const SETTLE: Duration = Duration::from_millis(200);

/// Sends the file in parts, and hashes it meanwhile: that it has the right bytes is known before the upload is completed.
///
/// What is left is damage on the way, and the cheapest checksum that servers compare finds it: CRC32 runs at more than 10 GB/s
/// where SHA-256 runs at 2. The SDK sends it as a header, which is signed, so that the payload need not be, and not as a
/// trailer (which several servers refuse), since the part is in memory.
///
/// # Cancellation
/// Dropping the future gives the parts up in the background, while the runtime lives ([`Store::settle`] waits for it).
/// Where that does not happen the bucket's own rule for incomplete uploads has to; nothing is visible either way.
///
/// [`Store::settle`]: super::Store::settle
pub(super) async fn put(store: &S3Store, key: &str, source: Source, sent: &Arc<Sent>) -> Result<PutOutcome> {
    let bucket = &store.bucket;
    let request = bucket.client.create_multipart_upload().bucket(&bucket.name).key(bucket.key(key));
    // Servers refuse parts with another kind of checksum than the upload was begun with.
    let request =
        request.content_type("application/octet-stream").checksum_algorithm(ChecksumAlgorithm::Crc32);
    let created = around("store.s3.create", request.send()).await;
    let created = created.map_err(|error| bucket.error(WRITE, key, &error))?;
    let Some(id) = created.upload_id() else {
        let error = Error::new(Meaning::Other, WRITE.words).with_key(bucket.uri(key));
        return Err(error.with_source("the server gave no id for the upload"));
    };
    let mut upload = Upload {
        client: bucket.client.clone(),
        bucket: bucket.name.clone(),
        key: bucket.key(key),
        id: id.to_owned(),
        open: true,
        giving_up: store.giving_up.clone(),
    };
    let size = source.promise().size;
    let outcome = match send(store, key, &upload, source, sent).await {
        Ok(parts) => complete(store, key, &upload, parts, size).await,
        Err(error) => Err(error),
    };
    if matches!(outcome, Ok(PutOutcome::Uploaded)) {
        upload.open = false;
    } else {
        upload.abort().await;
    }
    outcome
}

/// Sends all parts. Succeeds only when the bytes of all parts together have the right digest.
async fn send(
    store: &S3Store,
    key: &str,
    upload: &Upload,
    source: Source,
    sent: &Arc<Sent>,
) -> Result<Vec<CompletedPart>> {
    let part_size = part_size(source.promise().size);
    let at_once = usize::try_from((IN_FLIGHT / part_size).clamp(1, 6)).unwrap_or(1);
    let most = usize::try_from(part_size).unwrap_or(usize::MAX);
    let mut running = FuturesUnordered::new();
    let mut reading = Some(Box::pin(source.next_off_executor(most)));
    let mut number = 0;
    let mut completed = Vec::new();
    let outcome = loop {
        let step = match &mut reading {
            // The next part is read while the ones before it are on their way.
            Some(read) if running.len() < at_once => tokio::select! {
                read = read => Step::Read(read),
                Some(sent) = running.next() => Step::Sent(sent),
            },
            _ => match running.next().await {
                Some(sent) => Step::Sent(sent),
                None => break Ok(()),
            },
        };
        match step {
            Step::Read(Ok((bytes, source))) if bytes.is_empty() => {
                reading = None;
                if let Err(error) = source.check() {
                    break Err(error);
                }
            }
            Step::Read(Ok((bytes, source))) => {
                number += 1;
                running.push(send_part(store, key, upload, number, bytes, sent));
                reading = Some(Box::pin(source.next_off_executor(most)));
            }
            Step::Sent(Ok(part)) => completed.push(part),
            Step::Read(Err(error)) | Step::Sent(Err(error)) => break Err(error),
        }
    };
    if let Err(error) = outcome {
        // What is on its way ends first: a server may keep a part that arrives while the upload is given up.
        let _ = tokio::time::timeout(GIVE_UP, async { while running.next().await.is_some() {} }).await;
        return Err(error);
    }
    completed.sort_unstable_by_key(CompletedPart::part_number);
    Ok(completed)
}

/// What happens next while parts are sent.
enum Step {
    Read(Result<(Bytes, Source)>),
    Sent(Result<CompletedPart>),
}

/// Sends the part with this `number`, from 1.
async fn send_part(
    store: &S3Store,
    key: &str,
    upload: &Upload,
    number: i32,
    bytes: Bytes,
    sent: &Arc<Sent>,
) -> Result<CompletedPart> {
    // Adds the CRC32, which the SDK otherwise leaves out for servers that are not AWS.
    let settings = store
        .transfer(bytes.len() as u64)
        .request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
    let request = upload.client.upload_part().bucket(&upload.bucket).key(&upload.key).upload_id(&upload.id);
    let request = request.part_number(number).body(sent.body(bytes)).customize();
    let request = request.disable_payload_signing().config_override(settings);
    let taken = match around("store.s3.part", request.send()).await {
        Ok(taken) => taken,
        Err(error) => {
            let meant = store.bucket.error(WRITE, key, &error);
            return Err(match refused(&error) {
                Refused::OtherBytes => damaged(meant),
                _ => meant,
            });
        }
    };
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(taken.e_tag().map(str::to_owned))
        .set_checksum_crc32(taken.checksum_crc32().map(str::to_owned))
        .build())
}

async fn complete(
    store: &S3Store,
    key: &str,
    upload: &Upload,
    parts: Vec<CompletedPart>,
    size: u64,
) -> Result<PutOutcome> {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let mut backoff = store.backoff();
    let error = loop {
        let request = upload.client.complete_multipart_upload().bucket(&upload.bucket).key(&upload.key);
        let request = request.upload_id(&upload.id).multipart_upload(parts.clone());
        let request = request.set_if_none_match(store.condition()).customize();
        // The server may take its time to put the parts together; a minute per GiB is more than any needs.
        let request = request.config_override(store.transfer(size / 16));
        match around("store.s3.complete", request.send()).await {
            Ok(_) => return Ok(PutOutcome::Uploaded),
            Err(error) => match refused(&error) {
                // Another upload of the same bytes, or an earlier attempt of this request, came first.
                Refused::IsThere => return Ok(PutOutcome::AlreadyThere),
                Refused::OtherWriter if backoff.pause().await => {}
                _ => break error,
            },
        }
    };
    if status_and_code(&error).0 == Some(404) {
        // An earlier attempt of this very request went through and its reply was lost: the upload is gone because it is
        // complete, and the blob is young. An old one says nothing: somebody gave the upload up, and collection may be
        // about to delete what is there.
        if let Ok(Some(seen)) = store.look(key).await
            && store.suffices(&seen, size, key)?
        {
            return Ok(PutOutcome::Uploaded);
        }
    }
    Err(store.bucket.error(WRITE, key, &error))
}

/// An upload that the server holds open. Given up when dropped before it is complete.
struct Upload {
    client: Client,
    bucket: String,
    key: String,
    id: String,
    open: bool,
    giving_up: TaskTracker,
}

impl Upload {
    /// Gives the parts up. Best effort: what fails here costs space, not correctness.
    async fn abort(mut self) {
        self.open = false;
        if tokio::time::timeout(GIVE_UP, self.abort_until_gone()).await != Ok(true) {
            tracing::debug!(key = self.key, "an incomplete upload was not given up");
        }
    }

    /// Aborts until the server says that there is no such upload: a part that was still arriving brings it back.
    async fn abort_until_gone(&self) -> bool {
        loop {
            let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key);
            match request.upload_id(&self.id).send().await {
                Ok(_) => tokio::time::sleep(SETTLE).await,
                Err(error) => return status_and_code(&error).0 == Some(404),
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if tokio::runtime::Handle::try_current().is_ok() {
            let upload = Self {
                client: self.client.clone(),
                bucket: std::mem::take(&mut self.bucket),
                key: std::mem::take(&mut self.key),
                id: std::mem::take(&mut self.id),
                open: false,
                giving_up: self.giving_up.clone(),
            };
            self.giving_up.spawn(upload.abort());
        }
    }
}
