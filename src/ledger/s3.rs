//! Conditional objects in an S3 bucket: `If-None-Match: *` and `If-Match` on PutObject decide every race.
//!
//! Not responsible for servers whose conditions do not hold under concurrency; the probe finds those.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::base64;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use bytes::{Bytes, BytesMut};

use super::layout::check_is_probe;
use super::objects::OBJECT_MAX;
use super::{Children, ConditionalObjects, Entry, InitOptions, Object, Precondition, Put, Revision};
use crate::aws::bucket::{Bucket, Operation};
#[cfg(feature = "cli")]
use crate::aws::inspect_bucket::Holds;
use crate::aws::status_and_code;
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};
#[cfg(feature = "cli")]
use crate::inspection::Finding;
use crate::model::{Numbering, S3Location, Sha256};
use crate::retry::Backoff;
use crate::server_clock::ServerTime;

/// S3 takes this many bytes of user metadata, names and values together. What does not fit stands in the body only.
const METADATA_MAX: usize = 2048;

/// How often the body of one object is read before its ending early counts as an outage.
const READS: usize = 3;

const READ: Operation = Operation { words: "read a record", action: "s3:GetObject" };
const LIST: Operation = Operation { words: "list records", action: "s3:ListBucket" };
const DELETE: Operation = Operation { words: "delete a key of a probe", action: "s3:DeleteObject" };
const WRITE: Operation = Operation { words: "write a record", action: "s3:PutObject" };

/// Objects in one bucket.
#[derive(Debug)]
pub struct S3Objects {
    bucket: Bucket,
    numbering: Numbering,
    connect: Connect,
    /// Whether the endpoint is another than AWS's own.
    custom_endpoint: bool,
}

impl S3Objects {
    /// Makes no request.
    ///
    /// # Errors
    /// `Invalid` when no region is known, or the credential settings are incomplete.
    pub async fn open(location: &S3Location, connect: &Connect) -> Result<Self> {
        // Timestamps by default: a client that may not read can allocate one.
        let numbering = location.versions.unwrap_or(Numbering::Timestamp);
        let custom_endpoint = location.endpoint.is_some()
            || ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
                .iter()
                .any(|name| connect.environment.get(name).is_some());
        let bucket = Bucket::open(location, connect).await?;
        Ok(Self { bucket, numbering, connect: connect.clone(), custom_endpoint })
    }

    /// The whole body of an answer; nothing if it ends early.
    async fn body(&self, key: &str, mut body: ByteStream) -> Result<Option<Bytes>> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let Ok(chunk) = chunk else { return Ok(None) };
            if bytes.len() + chunk.len() > OBJECT_MAX {
                return Err(Error::corrupt(self.bucket.uri(key), "it is larger than any record"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes.freeze()))
    }

    /// What a failure means. A 404 that no S3 server words this way comes from something in between, or from another kind
    /// of server, and says nothing about the key.
    fn error<E>(&self, operation: Operation, key: &str, error: &SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let meant = self.bucket.error(operation, key, error);
        if status_and_code(error).0 != Some(404) || meant.is_not_found() {
            return meant;
        }
        Error::new(Meaning::Unavailable, operation.words)
            .with_key(self.bucket.uri(key))
            .with_hint(
                "the answer was HTTP 404 without the code NoSuchKey; check that the endpoint is an S3 server",
            )
            .with_source(meant)
    }

    fn revision(&self, key: &str, etag: Option<&str>) -> Result<Revision> {
        etag.map(|etag| Revision(etag.to_owned())).ok_or_else(|| {
            Error::new(Meaning::Other, "read the ETag of a record")
                .with_key(self.bucket.uri(key))
                .with_hint("the server gives no ETags, so it cannot hold a ledger")
        })
    }
}

#[async_trait]
impl ConditionalObjects for S3Objects {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        if !is_addressable(key) {
            return Ok(None);
        }
        // The SDK repeats requests, but not the reading of an answer's body.
        for _ in 0..READS {
            let request = self.bucket.client.get_object().bucket(&self.bucket.name);
            let output = match request.key(self.bucket.key(key)).send().await {
                Ok(output) => output,
                Err(error) => {
                    return match status_and_code(&error) {
                        // The second: MinIO has no object with an empty component in its key.
                        (Some(404), Some("NoSuchKey")) | (Some(400), Some("XMinioInvalidObjectName")) => {
                            Ok(None)
                        }
                        _ => Err(self.error(READ, key, &error)),
                    };
                }
            };
            let revision = self.revision(key, output.e_tag())?;
            let metadata = output.metadata().into_iter().flatten();
            let metadata = metadata.map(|(name, value)| (name.clone(), value.clone())).collect();
            if let Some(bytes) = self.body(key, output.body).await? {
                return Ok(Some(Object { bytes, revision, metadata }));
            }
        }
        let error = Error::new(Meaning::Unavailable, READ.words).with_key(self.bucket.uri(key));
        Err(error.with_source("the connection broke before the end of the record"))
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if !is_addressable(prefix) {
            return Ok(entries);
        }
        let mut token = None;
        loop {
            let wanted = i32::try_from(limit - entries.len()).unwrap_or(i32::MAX);
            let request = self.bucket.client.list_objects_v2().bucket(&self.bucket.name);
            let request = request.prefix(self.bucket.key(prefix)).max_keys(wanted);
            let request = match token.take() {
                None => request.start_after(self.bucket.key(start_after)),
                Some(token) => request.continuation_token(token),
            };
            let page = request.send().await.map_err(|error| self.error(LIST, prefix, &error))?;
            for object in page.contents() {
                let Some(key) = object.key() else { continue };
                let revision = object.e_tag().map(|etag| Revision(etag.to_owned()));
                entries.push(Entry { key: self.bucket.below_prefix(key).to_owned(), revision });
            }
            // A server may give fewer rows than asked for without being at the end.
            token = page
                .next_continuation_token()
                .filter(|_| page.is_truncated() == Some(true))
                .map(str::to_owned);
            if token.is_none() || entries.len() >= limit {
                return Ok(entries);
            }
        }
    }

    async fn children(&self, prefix: &str, start_after: Option<&str>) -> Result<Children> {
        let whole = self.bucket.key(prefix);
        let request =
            self.bucket.client.list_objects_v2().bucket(&self.bucket.name).prefix(&whole).delimiter("/");
        let request = request.set_continuation_token(start_after.map(str::to_owned));
        let page = request.send().await.map_err(|error| self.error(LIST, prefix, &error))?;
        let names = page
            .common_prefixes()
            .iter()
            .filter_map(|common| common.prefix()?.strip_prefix(&whole)?.strip_suffix('/').map(str::to_owned));
        let next = page.next_continuation_token().filter(|_| page.is_truncated() == Some(true));
        Ok(Children { directories: names.collect(), next: next.map(str::to_owned) })
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Put> {
        if !is_addressable(key) {
            return Err(Error::invalid(format!("'{key}' cannot be the key of an object")));
        }
        let checksum = base64::encode(Sha256::of(&bytes).as_bytes());
        let mut backoff = Backoff::new(self.connect.clock.clone(), self.connect.deadline);
        loop {
            let request = self.bucket.client.put_object().bucket(&self.bucket.name).key(self.bucket.key(key));
            let request = request
                .content_type("application/json")
                .checksum_sha256(&checksum)
                .set_metadata(Some(headers(metadata)).filter(|headers| !headers.is_empty()))
                .body(ByteStream::from(bytes.clone()));
            let request = match &precondition {
                Precondition::Absent => request.if_none_match("*"),
                Precondition::Revision(revision) => request.if_match(&revision.0),
                Precondition::None => request,
            };
            // A repetition below the caller, who compares ids, could hide a write behind the refusal of the next attempt; and a
            // hint is not worth one.
            let once = aws_sdk_s3::Config::builder().retry_config(RetryConfig::disabled());
            let error = match request.customize().config_override(once).send().await {
                Ok(output) => return self.revision(key, output.e_tag()).map(Put::Written),
                Err(error) => error,
            };
            match status_and_code(&error) {
                (Some(412), _) => return Ok(Put::Refused),
                // What If-Match names is gone; servers differ between 404 and 412 here.
                (Some(404), Some("NoSuchKey")) if matches!(precondition, Precondition::Revision(_)) => {
                    return Ok(Put::Refused);
                }
                // Another write of this key is under way and nothing is decided yet: ask again, for the same key.
                (Some(409), _) if precondition != Precondition::None => {
                    if !backoff.pause().await {
                        let error =
                            Error::new(Meaning::Unavailable, WRITE.words).with_key(self.bucket.uri(key));
                        return Err(error.with_source("HTTP 409: other writes of this key are under way"));
                    }
                }
                _ => return Err(self.error(WRITE, key, &error)),
            }
        }
    }

    async fn written(&self, prefix: &str) -> Result<Vec<(String, jiff::Timestamp)>> {
        let row = |object: &aws_sdk_s3::types::Object| {
            let written = object.last_modified()?;
            let written = jiff::Timestamp::from_millisecond(written.to_millis().ok()?).ok()?;
            Some((self.bucket.below_prefix(object.key()?).to_owned(), written))
        };
        let mut rows = Vec::new();
        let mut token = None;
        loop {
            let request = self.bucket.client.list_objects_v2().bucket(&self.bucket.name);
            let request = request.prefix(self.bucket.key(prefix)).set_continuation_token(token);
            let page = request.send().await.map_err(|error| self.error(LIST, prefix, &error))?;
            rows.extend(page.contents().iter().filter_map(row));
            token = page
                .next_continuation_token()
                .filter(|_| page.is_truncated() == Some(true))
                .map(str::to_owned);
            if token.is_none() {
                return Ok(rows);
            }
        }
    }

    async fn create_in_parts(&self, key: &str, bytes: Bytes) -> Result<Option<Put>> {
        let (client, bucket, whole) = (&self.bucket.client, &self.bucket.name, self.bucket.key(key));
        let created = client.create_multipart_upload().bucket(bucket).key(&whole).send().await;
        let created = created.map_err(|error| self.error(WRITE, key, &error))?;
        let id = created.upload_id().unwrap_or_default();
        let upload = client.upload_part().bucket(bucket).key(&whole).upload_id(id).part_number(1);
        let part = upload.body(ByteStream::from(bytes)).send().await;
        let part = part.map_err(|error| self.error(WRITE, key, &error))?;
        let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let request = client.complete_multipart_upload().bucket(bucket).key(&whole).upload_id(id);
        let once = aws_sdk_s3::Config::builder().retry_config(RetryConfig::disabled());
        let request = request.multipart_upload(parts).if_none_match("*").customize().config_override(once);
        let error = match request.send().await {
            Ok(output) => {
                return self.revision(key, output.e_tag()).map(|revision| Some(Put::Written(revision)));
            }
            Err(error) => error,
        };
        let abort = client.abort_multipart_upload().bucket(bucket).key(&whole).upload_id(id);
        // The bucket's own rule for incomplete uploads ends it otherwise.
        let _kept = abort.send().await;
        match status_and_code(&error).0 {
            Some(412) => Ok(Some(Put::Refused)),
            _ => Err(self.error(WRITE, key, &error)),
        }
    }

    async fn delete_probe(&self, key: &str) -> Result<()> {
        check_is_probe(key)?;
        let request = self.bucket.client.delete_object().bucket(&self.bucket.name).key(self.bucket.key(key));
        request.send().await.map(drop).map_err(|error| self.error(DELETE, key, &error))
    }

    #[cfg(feature = "cli")]
    async fn inspect_credentials(&self) -> Option<Finding> {
        let region = self.bucket.client.config().region();
        Some(crate::aws::inspect::credentials(&self.connect, region).await)
    }

    #[cfg(feature = "cli")]
    async fn inspect(&self) -> Vec<Finding> {
        Box::pin(self.bucket.inspect(Holds::Ledger)).await
    }

    fn wants_probe(&self) -> bool {
        self.custom_endpoint
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.bucket.clock.now()
    }

    fn default_numbering(&self) -> Numbering {
        self.numbering
    }

    async fn init(&self, _options: &InitOptions) -> Result<Vec<String>> {
        self.bucket.create().await
    }
}

/// Whether a request can name the key: URLs fold `.` and `..`, and no server keeps control characters.
fn is_addressable(key: &str) -> bool {
    !key.chars().any(char::is_control) && key.split('/').all(|part| part != "." && part != "..")
}

/// The part of the metadata that can be sent as headers. Whole pairs only, in the order of their names.
fn headers(metadata: &BTreeMap<String, String>) -> HashMap<String, String> {
    let is_token = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let is_text = |value: &str| {
        value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.trim_matches(' ') == value
    };
    let mut left = METADATA_MAX;
    let mut headers = HashMap::new();
    for (name, value) in metadata {
        let size = name.len() + value.len();
        if is_token(name) && is_text(value) && size <= left {
            left -= size;
            headers.insert(name.clone(), value.clone());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_header_can_carry_becomes_one() {
        let pairs = [
            ("a", "plain text"),
            ("b", "ümlaut"),
            ("c", "line\nbreak"),
            ("d", " padded"),
            ("e f", "no token"),
            ("ü", "no token either"),
            ("g", ""),
        ];
        let metadata = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut names: Vec<String> = headers(&metadata).into_keys().collect();
        names.sort();
        assert_eq!(names, ["a", "g"]);
    }

    #[test]
    fn headers_stay_within_what_s3_takes() {
        let metadata = BTreeMap::from([
            ("a".to_owned(), "x".repeat(1500)),
            ("b".to_owned(), "x".repeat(1500)),
            ("c".to_owned(), "x".repeat(546)),
            ("d".to_owned(), "x".to_owned()),
        ]);
        let mut names: Vec<String> = headers(&metadata).into_keys().collect();
        names.sort();
        assert_eq!(names, ["a", "c"]);
    }
}
