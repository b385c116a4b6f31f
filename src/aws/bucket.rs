//! One bucket, and perhaps a prefix in it: what the S3 ledger and the S3 store have in common.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::error::in_another_region;
use super::refusal::refusal;
use super::{Call, REGION_WITHOUT_CONSTRAINT, s3_client_with_clock, status_and_code};
use crate::connect::Connect;
use crate::error::{Error, Meaning, Missing, Result};
use crate::model::S3Location;
use crate::server_clock::ServerClock;

/// A bucket with the client that reaches it.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
    /// The server's clock, as far as its answers to this client told.
    pub(crate) clock: Arc<ServerClock>,
    /// Empty, or ending in `/`.
    prefix: String,
    /// The bucket in messages.
    place: String,
    /// Another server than AWS's own, where the location names one.
    #[cfg(feature = "cli")]
    endpoint: Option<String>,
}

/// What is being done to a bucket or a key in it, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    /// A verb phrase.
    pub(crate) words: &'static str,
    /// The IAM action that it needs.
    pub(crate) action: &'static str,
}

impl Bucket {
    /// Makes no request.
    pub(crate) async fn open(location: &S3Location, connect: &Connect) -> Result<Self> {
        let clock = Arc::new(ServerClock::new(connect.clock.clone()));
        Ok(Self {
            client: s3_client_with_clock(location, connect, clock.clone()).await?,
            clock,
            name: location.bucket.clone(),
            prefix: location.prefix.clone(),
            place: format!("bucket '{}'", location.bucket),
            #[cfg(feature = "cli")]
            endpoint: location.endpoint.clone(),
        })
    }

    /// The whole key of `key` below the prefix.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A whole key as the caller knows it.
    #[cfg(feature = "ledger-s3")]
    pub(crate) fn below_prefix<'k>(&self, key: &'k str) -> &'k str {
        key.strip_prefix(&self.prefix).unwrap_or(key)
    }

    /// What to type to do something to the bucket that sacker does not do.
    #[cfg(feature = "cli")]
    pub(crate) fn command(&self, verb: &str, options: &str) -> String {
        let endpoint =
            self.endpoint.as_deref().map(|url| format!("--endpoint-url {url} ")).unwrap_or_default();
        format!("aws {endpoint}s3api {verb} --bucket {}{options}", self.name)
    }

    /// The bucket as it is called in messages.
    #[cfg(feature = "cli")]
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The key as it is called in messages.
    pub(crate) fn uri(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.name, self.prefix)
    }

    /// The error that `error` means. A 404 for an absent key is the caller's to recognise first.
    pub(crate) fn error<E>(&self, operation: Operation, key: &str, error: &SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let uri = self.uri(key);
        let call =
            Call { operation: operation.words, action: operation.action, place: &self.place, key: &uri };
        if let Some(region) = self.other_region(error) {
            let (meaning, hint) = in_another_region(&self.place, Some(region));
            return Error::new(meaning, operation.words).with_key(&uri).with_hint(hint);
        }
        let meant = call.error(error);
        let (status, code) = status_and_code(error);
        let is_told = error.message().is_some_and(|message| refusal(message).is_some());
        if operation.action == "s3:GetObject"
            && status == Some(403)
            && matches!(code, None | Some("AccessDenied"))
            && !is_told
        {
            return meant.with_hint(format!(
                "grant s3:GetObject on {0}, and s3:ListBucket: without it S3 gives the same answer for a key that does \
                 not exist",
                self.place
            ));
        }
        meant
    }

    /// The bucket's region, where the answer to a HEAD names another than the one that was asked. It has no body to say so.
    fn other_region<'e, E>(&self, error: &'e SdkError<E, HttpResponse>) -> Option<&'e str> {
        let raw = error.raw_response().filter(|raw| raw.status().as_u16() == 400)?;
        let has_body = raw.body().bytes().is_some_and(|bytes| !bytes.is_empty());
        let region = raw.headers().get("x-amz-bucket-region").filter(|_| !has_body)?;
        let asked = self.client.config().region().map(AsRef::as_ref);
        (asked != Some(region)).then_some(region)
    }

    /// `NotFound` when the bucket does not exist. For answers that do not tell a missing bucket from a missing key.
    pub(crate) async fn check(&self, words: &'static str) -> Result<()> {
        let operation = Operation { words, action: "s3:ListBucket" };
        match self.client.head_bucket().bucket(&self.name).send().await {
            Ok(_) => Ok(()),
            Err(error) if status_and_code(&error).0 == Some(404) => {
                let missing = Missing::Backend(self.place.clone());
                Err(Error::new(Meaning::NotFound(missing), words)
                    .with_key(self.uri(""))
                    .with_hint("create it with 'sacker init'"))
            }
            Err(error) => Err(self.error(operation, "", &error)),
        }
    }

    /// Creates the bucket unless it is there. Returns a line per thing done.
    pub(crate) async fn create(&self) -> Result<Vec<String>> {
        match self.check("look for the bucket").await {
            Ok(()) => return Ok(Vec::new()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let region = self.client.config().region().map(|region| region.as_ref().to_owned());
        // The first region is named by leaving the constraint out.
        let constraint = region.filter(|region| region != REGION_WITHOUT_CONSTRAINT).map(|region| {
            let region = BucketLocationConstraint::from(region.as_str());
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        let request = self.client.create_bucket().bucket(&self.name);
        match request.set_create_bucket_configuration(constraint).send().await {
            Ok(_) => Ok(vec![format!("created {}", self.place)]),
            // Somebody was quicker, or the reply to our own request was lost.
            Err(error) if status_and_code(&error).1 == Some("BucketAlreadyOwnedByYou") => Ok(Vec::new()),
            Err(error) if status_and_code(&error).1 == Some("BucketAlreadyExists") => {
                let rule =
                    format!("{} belongs to somebody else; bucket names are shared by all of S3", self.place);
                Err(Error::invalid(rule).with_hint("choose another name"))
            }
            Err(error) => {
                let operation = Operation { words: "create the bucket", action: "s3:CreateBucket" };
                Err(self.error(operation, "", &error))
            }
        }
    }
}
