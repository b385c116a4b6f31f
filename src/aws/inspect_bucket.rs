//! How a bucket is set up: old versions, who may see it, encryption, what becomes of uploads that did not end. For `sacker
//! doctor`.
//!
//! Servers other than AWS's know only some of these calls; what they do not tell is no fault.

use aws_sdk_s3::types::{BucketVersioningStatus, ExpirationStatus, LifecycleRule, PolicyStatus};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::bucket::{Bucket, Operation};
use super::status_and_code;
use crate::inspection::Finding;

const VERSIONING: &str = "bucket versioning";
const ACCESS: &str = "bucket access";
const ENCRYPTION: &str = "bucket encryption";
const UPLOADS: &str = "unfinished uploads";

const LOOK_AT_VERSIONING: Operation =
    Operation { words: "see whether the bucket is versioned", action: "s3:GetBucketVersioning" };
const LOOK_AT_POLICY: Operation =
    Operation { words: "see whether the bucket is public", action: "s3:GetBucketPolicyStatus" };
const LOOK_AT_BLOCK: Operation =
    Operation { words: "see whether public access is blocked", action: "s3:GetBucketPublicAccessBlock" };
const LOOK_AT_ENCRYPTION: Operation =
    Operation { words: "see how the bucket is encrypted", action: "s3:GetEncryptionConfiguration" };
const LOOK_AT_LIFECYCLE: Operation =
    Operation { words: "see the rules of the bucket", action: "s3:GetLifecycleConfiguration" };

/// What a bucket holds, or a prefix in it: not every setting matters to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Records.
    Ledger,
    /// Blobs.
    Store {
        /// They are never written again.
        create_only: bool,
    },
}

/// What a server says to a question that it may not know.
enum Told<T> {
    Yes(T),
    /// There is no such setting on this bucket.
    Nothing,
    /// This server has no such settings.
    Unknown,
    /// It could not be found out.
    Failed(Finding),
}

impl<T> Told<T> {
    /// The finding that it is, where nothing was told.
    fn or(self, check: &'static str, what: &str, nothing: impl FnOnce() -> Finding) -> Result<T, Finding> {
        match self {
            Self::Yes(told) => Ok(told),
            Self::Nothing => Err(nothing()),
            Self::Unknown => Err(Finding::fine(check, format!("{what}: not told by this server"))),
            Self::Failed(finding) => Err(finding),
        }
    }
}

/// What blocks all public access.
const BLOCK: &str = " --public-access-block-configuration \
                     BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true";

/// The codes with which S3 says that a bucket has no such setting.
const UNSET: &[&str] = &[
    "NoSuchBucketPolicy",
    "NoSuchLifecycleConfiguration",
    "NoSuchPublicAccessBlockConfiguration",
    "ServerSideEncryptionConfigurationNotFoundError",
];

impl Bucket {
    /// What there is to say about the bucket.
    pub(crate) async fn inspect(&self, holds: Holds) -> Vec<Finding> {
        let uploads = async {
            match holds {
                // Records are never sent in parts.
                Holds::Ledger => None,
                Holds::Store { .. } => Some(self.look_at_uploads().await),
            }
        };
        let (versioning, access, encryption, uploads) = tokio::join!(
            self.look_at_versioning(holds),
            self.look_at_access(),
            self.look_at_encryption(),
            uploads
        );
        [versioning, access, encryption].into_iter().chain(uploads).collect()
    }

    fn told<T, E>(
        &self,
        check: &'static str,
        operation: Operation,
        answer: Result<T, SdkError<E, HttpResponse>>,
    ) -> Told<T>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let error = match answer {
            Ok(answer) => return Told::Yes(answer),
            Err(error) => error,
        };
        match status_and_code(&error) {
            (_, Some(code)) if UNSET.contains(&code) => Told::Nothing,
            (Some(405 | 501), _) | (_, Some("NotImplemented" | "MethodNotAllowed")) => Told::Unknown,
            _ => Told::Failed(Finding::unknown(check, &self.error(operation, "", &error))),
        }
    }

    async fn look_at_versioning(&self, holds: Holds) -> Finding {
        let answer = self.client.get_bucket_versioning().bucket(&self.name).send().await;
        let told = self.told(VERSIONING, LOOK_AT_VERSIONING, answer);
        match told.or(VERSIONING, self.place(), || self.unversioned(holds)) {
            Ok(told) if told.status() == Some(&BucketVersioningStatus::Enabled) => {
                Finding::fine(VERSIONING, format!("{} keeps old versions", self.place()))
            }
            Ok(_) => self.unversioned(holds),
            Err(finding) => finding,
        }
    }

    fn unversioned(&self, holds: Holds) -> Finding {
        let command = self.command("put-bucket-versioning", " --versioning-configuration Status=Enabled");
        let text = format!("{} keeps no old versions", self.place());
        match holds {
            Holds::Ledger => {
                Finding::odd(VERSIONING, format!("{text}: what is overwritten or deleted there is gone"))
                    .with_hint(command)
            }
            Holds::Store { create_only: true } => Finding::odd(
                VERSIONING,
                format!("{text}, which writers that may not read need beside 'sacker gc'"),
            )
            .with_hint(command),
            Holds::Store { create_only: false } => Finding::fine(
                VERSIONING,
                format!("{text}; only writers that may not read need them, for 'sacker gc'"),
            ),
        }
    }

    async fn look_at_access(&self) -> Finding {
        let (policy, block) = tokio::join!(
            self.client.get_bucket_policy_status().bucket(&self.name).send(),
            self.client.get_public_access_block().bucket(&self.name).send(),
        );
        let read = policy.as_ref().err().and_then(is_public_in_capitals);
        let mut untold = None;
        let is_public = match self.told(ACCESS, LOOK_AT_POLICY, policy) {
            _ if read.is_some() => read,
            Told::Yes(answer) => Some(answer.policy_status().and_then(PolicyStatus::is_public) == Some(true)),
            // Without a policy nothing is public by one.
            Told::Nothing => Some(false),
            Told::Unknown => None,
            Told::Failed(finding) => {
                untold = Some(finding);
                None
            }
        };
        let block = match self.told(ACCESS, LOOK_AT_BLOCK, block) {
            Told::Yes(answer) => Block::of(answer.public_access_block_configuration()),
            Told::Nothing => Block::Off,
            Told::Unknown => Block::Unknown,
            Told::Failed(finding) => {
                untold = untold.or(Some(finding));
                Block::Unknown
            }
        };
        match untold {
            // One of the two settles it by itself.
            Some(finding) if is_public != Some(true) && block != Block::Whole => finding,
            _ => self.access(is_public, block),
        }
    }

    /// What it comes to that the policy is public, or not, or that nobody knows.
    fn access(&self, is_public: Option<bool>, block: Block) -> Finding {
        let place = self.place();
        let see = format!("see: {}", self.command("get-bucket-policy", ""));
        let command = self.command("put-public-access-block", BLOCK);
        match (is_public, block) {
            (Some(true), Block::Whole) => Finding::odd(
                ACCESS,
                format!("the policy of {place} makes it public, and public access is blocked"),
            )
            .with_hint(see),
            (Some(true), _) => Finding::wrong(ACCESS, format!("{place} is public by its policy"))
                .with_hint(format!("{see}; then: {command}")),
            (_, Block::Whole) => Finding::fine(ACCESS, format!("public access to {place} is blocked")),
            (Some(false), Block::Off) => {
                let text = format!("no policy makes {place} public, and nothing would keep one from it");
                Finding::odd(ACCESS, text).with_hint(command)
            }
            (Some(false), Block::Unknown) => Finding::fine(ACCESS, format!("no policy makes {place} public")),
            (None, Block::Off) => {
                Finding::odd(ACCESS, format!("public access to {place} is not blocked")).with_hint(command)
            }
            (None, Block::Unknown) => Finding::fine(ACCESS, format!("{place}: not told by this server")),
        }
    }

    async fn look_at_encryption(&self) -> Finding {
        let answer = self.client.get_bucket_encryption().bucket(&self.name).send().await;
        let place = self.place();
        let none = || Finding::fine(ENCRYPTION, format!("{place} has no encryption of its own by default"));
        let told = self.told(ENCRYPTION, LOOK_AT_ENCRYPTION, answer).or(ENCRYPTION, place, none);
        let told = match told {
            Ok(told) => told,
            Err(finding) => return finding,
        };
        let rules = told.server_side_encryption_configuration().map_or(&[][..], |found| found.rules());
        let Some(default) = rules.iter().find_map(|rule| rule.apply_server_side_encryption_by_default())
        else {
            return none();
        };
        let algorithm = default.sse_algorithm().as_str();
        let key = match default.kms_master_key_id() {
            Some(key) => format!(", key {key}"),
            None if algorithm.starts_with("aws:kms") => ", the account's own key".to_owned(),
            None => String::new(),
        };
        Finding::fine(ENCRYPTION, format!("{place} is encrypted by default: {algorithm}{key}"))
    }

    async fn look_at_uploads(&self) -> Finding {
        let answer = self.client.get_bucket_lifecycle_configuration().bucket(&self.name).send().await;
        let place = self.place();
        let none = || {
            Finding::fine(UPLOADS, format!("no rule of {place} ends them; 'sacker gc --delete' does"))
                .with_hint(
                    "a lifecycle rule with AbortIncompleteMultipartUpload does it without anybody's doing",
                )
        };
        let told = self.told(UPLOADS, LOOK_AT_LIFECYCLE, answer);
        match told.or(UPLOADS, place, none) {
            Ok(told) => match ended_after(told.rules(), &self.key("")) {
                Some(days) => {
                    Finding::fine(UPLOADS, format!("a rule of {place} ends them after {days} days"))
                }
                None => none(),
            },
            Err(finding) => finding,
        }
    }
}

/// What an answer says that the SDK cannot read: MinIO writes `TRUE` and `FALSE`.
fn is_public_in_capitals<E>(error: &SdkError<E, HttpResponse>) -> Option<bool> {
    let raw = error.raw_response().filter(|raw| raw.status().is_success())?;
    let body = std::str::from_utf8(raw.body().bytes()?).ok()?;
    match body.split_once("<IsPublic>")?.1.split_once('<')?.0 {
        "TRUE" => Some(true),
        "FALSE" => Some(false),
        _ => None,
    }
}

/// What keeps a bucket from being public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// All four settings are on.
    Whole,
    /// At least one is not.
    Off,
    Unknown,
}

impl Block {
    fn of(found: Option<&aws_sdk_s3::types::PublicAccessBlockConfiguration>) -> Self {
        let is_whole = found.is_some_and(|found| {
            [
                found.block_public_acls(),
                found.ignore_public_acls(),
                found.block_public_policy(),
                found.restrict_public_buckets(),
            ]
            .iter()
            .all(|setting| *setting == Some(true))
        });
        if is_whole { Self::Whole } else { Self::Off }
    }
}

/// After how many days an upload below `prefix` is given up: by the first rule that is for all of it.
fn ended_after(rules: &[LifecycleRule], prefix: &str) -> Option<i32> {
    let of = |rule: &LifecycleRule| {
        let days = rule.abort_incomplete_multipart_upload()?.days_after_initiation()?;
        #[expect(deprecated, reason = "rules from before filters have their prefix here")]
        let old = rule.prefix();
        let own = rule.filter().and_then(|filter| filter.prefix()).or(old).unwrap_or_default();
        let is_narrower =
            rule.filter().is_some_and(|filter| filter.and().is_some() || filter.tag().is_some());
        (*rule.status() == ExpirationStatus::Enabled && !is_narrower && prefix.starts_with(own))
            .then_some(days)
    };
    rules.iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{AbortIncompleteMultipartUpload, LifecycleRuleFilter};

    use super::*;
    use crate::connect::Connect;
    use crate::inspection::Level;
    use crate::model::{S3Location, StoreUri};

    async fn bucket() -> Bucket {
        let StoreUri::S3(location) = "s3://bucket/blobs?region=eu-west-1".parse().expect("a URI") else {
            unreachable!("it is S3")
        };
        let location: S3Location = location;
        let environment = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let connect = Connect { environment: environment.collect(), ..Connect::default() };
        Bucket::open(&location, &connect).await.expect("opened")
    }

    #[tokio::test]
    async fn only_a_public_bucket_is_a_failure() {
        let bucket = bucket().await;
        for (is_public, block, level) in [
            (Some(true), Block::Off, Level::Wrong),
            (Some(true), Block::Unknown, Level::Wrong),
            (Some(true), Block::Whole, Level::Odd),
            (Some(false), Block::Whole, Level::Fine),
            (Some(false), Block::Off, Level::Odd),
            (Some(false), Block::Unknown, Level::Fine),
            (None, Block::Off, Level::Odd),
            (None, Block::Whole, Level::Fine),
            (None, Block::Unknown, Level::Fine),
        ] {
            let finding = bucket.access(is_public, block);
            assert_eq!(finding.level, level, "{is_public:?} {block:?}: {finding:?}");
            assert_eq!(finding.hint.is_some(), level != Level::Fine, "{finding:?}");
        }
    }

    #[tokio::test]
    async fn a_ledger_wants_old_versions_and_most_stores_do_not() {
        let bucket = bucket().await;
        for (holds, level) in [
            (Holds::Ledger, Level::Odd),
            (Holds::Store { create_only: true }, Level::Odd),
            (Holds::Store { create_only: false }, Level::Fine),
        ] {
            assert_eq!(bucket.unversioned(holds).level, level, "{holds:?}");
        }
    }

    #[test]
    fn a_rule_counts_that_is_for_the_whole_prefix() {
        let rule = |prefix: Option<&str>, status, days| {
            let end = AbortIncompleteMultipartUpload::builder().set_days_after_initiation(days).build();
            let filter = prefix.map(|prefix| LifecycleRuleFilter::builder().prefix(prefix).build());
            let rule = LifecycleRule::builder().status(status).set_filter(filter);
            rule.abort_incomplete_multipart_upload(end).build().expect("a rule")
        };
        let on = ExpirationStatus::Enabled;
        assert_eq!(ended_after(&[rule(None, on.clone(), Some(7))], "blobs/"), Some(7));
        assert_eq!(ended_after(&[rule(Some(""), on.clone(), Some(7))], ""), Some(7));
        assert_eq!(ended_after(&[rule(Some("blobs/"), on.clone(), Some(3))], "blobs/"), Some(3));
        assert_eq!(ended_after(&[rule(Some("other/"), on.clone(), Some(3))], "blobs/"), None);
        assert_eq!(ended_after(&[rule(Some("blobs/"), on.clone(), Some(3))], ""), None);
        assert_eq!(ended_after(&[rule(None, ExpirationStatus::Disabled, Some(7))], ""), None);
        assert_eq!(ended_after(&[rule(None, on, None)], ""), None);
    }
}
