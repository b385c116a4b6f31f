//! From an SDK error to its [`Meaning`], by error code and HTTP status both: servers differ in their codes.
//!
//! Not responsible for answers that are no failure to the caller (an absent key, a refused precondition): look at
//! [`status_and_code`] before asking for the meaning.

use std::fmt;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::credentials::Failure;
use super::refusal::{Refusal, refusal, right_region};
use crate::error::{Error, Meaning, Missing};

/// What was asked of AWS: everything that an error says besides its meaning.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// What was being done, as a verb phrase (`read the tag`).
    pub operation: &'static str,
    /// The IAM action (`s3:GetObject`), so that a refusal tells what to grant.
    pub action: &'static str,
    /// The table or bucket, as it is called in messages: `bucket 'x'`, `table 'x'`.
    pub place: &'a str,
    /// The key or item it was about.
    pub key: &'a str,
}

/// The HTTP status and the error code of a failure, as far as the server answered.
pub fn status_and_code<E: ProvideErrorMetadata>(
    error: &SdkError<E, HttpResponse>,
) -> (Option<u16>, Option<&str>) {
    (error.raw_response().map(|response| response.status().as_u16()), error.code())
}

const THROTTLED: &[&str] = &[
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
];

const UNAVAILABLE: &[&str] =
    &["InternalError", "InternalFailure", "InternalServerError", "RequestTimeout", "ServiceUnavailable"];

/// The request was understood and refused: what is granted is not enough.
const FORBIDDEN: &[&str] = &["AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AccountProblem"];

/// The server does not know who is asking.
const UNKNOWN_CALLER: &[&str] = &[
    "AuthFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "InvalidTokenId",
    "NotSignedUp",
    "UnrecognizedClientException",
];

/// The server does not believe who is asking.
const WRONG_SIGNATURE: &[&str] = &[
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
];

const UNSIGNED: &[&str] = &["MissingAuthenticationToken", "MissingAuthenticationTokenException"];

const EXPIRED: &[&str] = &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"];

const WRONG_CLOCK: &[&str] = &["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"];

/// How messages of [`WRONG_SIGNATURE`] begin that are about time, with DynamoDB.
const WRONG_TIME: &[&str] = &["Signature expired", "Signature not yet current"];

const WRONG_REGION: &[&str] =
    &["PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException"];

/// The key of an encryption is disabled, to be deleted, or in another region.
const WITHOUT_KEY: &[&str] = &[
    "KMS.DisabledException",
    "KMS.InvalidStateException",
    "KMS.KMSInvalidStateException",
    "KMS.NotFoundException",
];

/// A header that the server cannot use: most often it names another region than the bucket's.
const MALFORMED: &str = "AuthorizationHeaderMalformed";

const NO_PLACE: &[&str] = &["NoSuchBucket", "ResourceNotFoundException"];

impl Call<'_> {
    /// The error that `error` means for this call.
    pub fn error<E>(&self, error: &SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let Some(failure) = credentials_failure(error) {
            return self.no_credentials(failure);
        }
        let (status, code) = status_and_code(error);
        let (meaning, hint) = match error {
            SdkError::ServiceError(_) => self.answered(status.unwrap_or(0), code.unwrap_or_default(), error),
            // An answer that broke off: what there is of it may still say something.
            SdkError::ResponseError(_) => {
                match self.answered(status.unwrap_or(0), code.unwrap_or_default(), error) {
                    (Meaning::Other, _) => (Meaning::Unavailable, None),
                    answered => answered,
                }
            }
            SdkError::TimeoutError(_) => (Meaning::Unavailable, None),
            SdkError::DispatchFailure(failure) if !failure.is_user() => {
                let hint = format!("check the endpoint and the network: {}", innermost(error));
                (Meaning::Unavailable, Some(hint))
            }
            _ => (Meaning::Other, None),
        };
        let error = self.with(meaning).with_source(Cause::of(error, status, code));
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// What an answer of the server means, and what to do about it.
    fn answered<E>(
        &self,
        status: u16,
        code: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> (Meaning, Option<String>)
    where
        E: ProvideErrorMetadata,
    {
        let is = |codes: &[&str]| codes.contains(&code);
        let message = error.message().unwrap_or_default();
        // Codes first: DynamoDB sends nearly everything with status 400.
        if is(NO_PLACE) {
            let missing = Missing::Backend(self.place.to_owned());
            (Meaning::NotFound(missing), Some("create it with 'sacker init'".to_owned()))
        } else if let Some(hint) = mistrust(code, message) {
            (self.denied(), Some(hint.to_owned()))
        } else if is(FORBIDDEN) {
            self.forbidden(refusal(message))
        } else if is(WITHOUT_KEY) {
            let hint =
                format!("the KMS key that encrypts {} is disabled, to be deleted, or elsewhere", self.place);
            (self.denied(), Some(hint))
        } else if is(WRONG_REGION) || code == MALFORMED || status == 301 {
            self.elsewhere(code, message, error)
        } else if is(THROTTLED) || status == 429 {
            (Meaning::Throttled, None)
        } else if is(UNAVAILABLE) || status >= 500 {
            (Meaning::Unavailable, None)
        } else if status == 401 || status == 403 {
            let hint =
                format!("check the credentials, and that they grant {} on {}", self.action, self.place);
            (self.denied(), Some(hint))
        } else {
            (Meaning::Other, None)
        }
    }

    fn denied(&self) -> Meaning {
        Meaning::Denied { action: self.action.to_owned(), resource: self.key.to_owned() }
    }

    /// What is granted is not enough. AWS knows better than the caller which right is missing: that may be one of the key of
    /// an encryption.
    fn forbidden(&self, refusal: Option<Refusal<'_>>) -> (Meaning, Option<String>) {
        match refusal {
            None => (self.denied(), Some(format!("grant {} on {}", self.action, self.place))),
            Some(refusal) => {
                let action = refusal.action.to_owned();
                let resource = match refusal.resource {
                    Some(resource) if refusal.action != self.action => resource.to_owned(),
                    _ => self.key.to_owned(),
                };
                (Meaning::Denied { action, resource }, Some(refusal.hint(self.place)))
            }
        }
    }

    /// The bucket is in another region, or the signature was made for one.
    fn elsewhere<E>(
        &self,
        code: &str,
        message: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> (Meaning, Option<String>) {
        let raw = error.raw_response();
        let body = raw.and_then(|raw| raw.body().bytes()).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let told = raw.and_then(|raw| raw.headers().get("x-amz-bucket-region"));
        let region = told.or_else(|| right_region(message, body.unwrap_or_default()));
        if region.is_none() && code == MALFORMED {
            // Something else of the header than the region: an access key with a slash in it, say.
            return (self.denied(), Some(UNKNOWN_CALLER_HINT.to_owned()));
        }
        let (meaning, hint) = in_another_region(self.place, region);
        (meaning, Some(hint))
    }

    fn no_credentials(&self, failure: &Failure) -> Error {
        if failure.transient {
            return self.with(Meaning::Unavailable).with_hint(failure.text.clone());
        }
        let hint = match &failure.hint {
            Some(hint) => format!("{hint} ({})", failure.text),
            None => format!("no AWS credentials: {}", failure.text),
        };
        self.with(self.denied()).with_hint(hint)
    }

    fn with(&self, meaning: Meaning) -> Error {
        Error::new(meaning, self.operation).with_key(self.key)
    }
}

/// What it means that a bucket is in another region than the one that was asked, and what to do about it.
pub(super) fn in_another_region(place: &str, region: Option<&str>) -> (Meaning, String) {
    let rule = format!("{place} is in another region");
    let hint = format!("write ?region={} in the URI", region.unwrap_or("<region>"));
    (Meaning::Invalid { rule: rule.into() }, hint)
}

const UNKNOWN_CALLER_HINT: &str = "the server does not know this access key: it is of another account or server, or it was \
                                   deleted; 'sacker doctor' says where it comes from";

/// What to do where the server does not take whoever asks for who that claims to be; nothing where it does.
fn mistrust(code: &str, message: &str) -> Option<&'static str> {
    let is = |codes: &[&str]| codes.contains(&code);
    let is_time = || WRONG_TIME.iter().any(|start| message.starts_with(start));
    if is(EXPIRED) {
        Some("the credentials have expired; get new ones, with SSO by: aws sso login")
    } else if is(WRONG_CLOCK) || is(WRONG_SIGNATURE) && is_time() {
        Some("this machine's clock differs too much from the server's; set it right")
    } else if is(WRONG_SIGNATURE) && message.contains("scoped to a valid region") {
        Some(
            "the request was signed for another region than the server's; check the region in the URI and AWS_REGION",
        )
    } else if is(WRONG_SIGNATURE) {
        Some(
            "the secret is not that of the access key, or this machine's clock is wrong; see 'sacker doctor'",
        )
    } else if is(UNKNOWN_CALLER) {
        Some(UNKNOWN_CALLER_HINT)
    } else if is(UNSIGNED) {
        Some("the server does not accept these credentials; check AWS_PROFILE and the AWS_* variables")
    } else {
        None
    }
}

pub(super) fn credentials_failure<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Failure> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return Some(failure);
        }
        link = error.source();
    }
    None
}

/// What stays of an SDK error: enough to find the reason, nothing that was signed or secret.
#[derive(Debug)]
struct Cause(String);

impl Cause {
    fn of<E>(error: &SdkError<E, HttpResponse>, status: Option<u16>, code: Option<&str>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let Some(status) = status {
            let code = code.map(|code| format!(" {code}")).unwrap_or_default();
            let message = error.message().map(|message| format!(": {message}")).unwrap_or_default();
            return Self(sanitized(&format!("HTTP {status}{code}{message}")));
        }
        if let SdkError::TimeoutError(_) = error {
            return Self("no answer in time".to_owned());
        }
        Self(innermost(error))
    }
}

/// The last reason in a chain of errors: the others only repeat that it failed.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    sanitized(&last.to_string())
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// One short line without control characters, and without the query of any URL: that is where signatures stand.
fn sanitized(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        match word.split_once('?') {
            Some((start, query)) if !query.is_empty() => {
                line.push_str(start);
                line.push_str("?…");
            }
            _ => line.push_str(word),
        }
    }
    let mut short: String = line.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect();
    if let Some(end) = short.find(" (os error") {
        short.truncate(end);
        short = short.to_lowercase();
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_one_short_line_without_queries() {
        let text = "failed at\nhttps://b.s3.amazonaws.com/k?X-Amz-Signature=abc&X-Amz-Credential=AKIA why?";
        assert_eq!(sanitized(text), "failed at https://b.s3.amazonaws.com/k?… why?");
        assert_eq!(sanitized("Connection refused (os error 111)"), "connection refused");
        assert!(sanitized(&"x".repeat(1000)).len() <= 300);
    }

    #[cfg(feature = "ledger-s3")]
    fn mapped(status: u16, code: &str) -> Error {
        answered(status, code, "a message", "", &[])
    }

    /// An answer as a server gave it: code and message as the SDK reads them out of the body, the body, and headers.
    #[cfg(feature = "ledger-s3")]
    fn answered(
        status: u16,
        code: &str,
        message: &str,
        body: &'static str,
        headers: &[(&'static str, &'static str)],
    ) -> Error {
        use aws_sdk_s3::operation::get_object::GetObjectError;
        use aws_smithy_types::body::SdkBody;
        use aws_smithy_types::error::ErrorMetadata;

        let metadata = ErrorMetadata::builder().code(code).message(message).build();
        let status = status.try_into().expect("an HTTP status");
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        for (name, value) in headers {
            response.headers_mut().insert(*name, *value);
        }
        let error = SdkError::service_error(GetObjectError::generic(metadata), response);
        let call = Call {
            operation: "read the tag",
            action: "s3:GetObject",
            place: "bucket 'b'",
            key: "s3://b/pkg/tags/live",
        };
        call.error(&error)
    }

    #[test]
    #[cfg(feature = "ledger-s3")]
    fn codes_and_statuses_have_one_meaning_each() {
        use crate::exit::Exit;

        for (status, code, exit) in [
            (404, "NoSuchBucket", Exit::NotFound),
            (400, "ResourceNotFoundException", Exit::NotFound),
            (403, "AccessDenied", Exit::Denied),
            (403, "", Exit::Denied),
            (401, "", Exit::Denied),
            (403, "InvalidAccessKeyId", Exit::Denied),
            (403, "SignatureDoesNotMatch", Exit::Denied),
            (400, "ExpiredToken", Exit::Denied),
            (400, "UnrecognizedClientException", Exit::Denied),
            (403, "RequestTimeTooSkewed", Exit::Denied),
            (503, "SlowDown", Exit::Unavailable),
            (400, "ProvisionedThroughputExceededException", Exit::Unavailable),
            (500, "InternalError", Exit::Unavailable),
            (502, "", Exit::Unavailable),
            (301, "PermanentRedirect", Exit::Usage),
            // A missing upload, a broken request: neither is an absent key, nor does it get better.
            (404, "NoSuchUpload", Exit::Other),
            (400, "ValidationException", Exit::Other),
        ] {
            assert_eq!(Exit::from(&mapped(status, code)), exit, "{status} {code}");
        }
        assert_eq!(*mapped(503, "SlowDown").meaning(), Meaning::Throttled);
        assert_eq!(*mapped(503, "ServiceUnavailable").meaning(), Meaning::Unavailable);
    }

    #[test]
    #[cfg(feature = "ledger-s3")]
    fn an_error_says_what_was_refused_and_what_to_do() {
        let error = mapped(403, "AccessDenied");
        let text =
            "access denied: s3:GetObject on s3://b/pkg/tags/live (cannot read the tag: s3://b/pkg/tags/live)";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.hint(), Some("grant s3:GetObject on bucket 'b'"));
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("HTTP 403 AccessDenied: a message"));
        let error = mapped(404, "NoSuchBucket");
        assert_eq!(
            error.to_string(),
            "bucket 'b' does not exist (cannot read the tag: s3://b/pkg/tags/live)"
        );
        assert_eq!(error.hint(), Some("create it with 'sacker init'"));
    }

    /// As the services, MinIO and versitygw say it.
    #[test]
    #[cfg(feature = "ledger-s3")]
    fn every_way_of_not_being_believed_has_its_own_hint() {
        use crate::exit::Exit;

        for (status, code, message, hint) in [
            (400, "ExpiredToken", "The provided token has expired.", "aws sso login"),
            (
                400,
                "ExpiredTokenException",
                "The security token included in the request is expired",
                "aws sso login",
            ),
            (
                403,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
                "does not know this access key",
            ),
            (
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid",
                "does not know",
            ),
            (
                400,
                "UnrecognizedClientException",
                "The Access Key ID or security token is invalid.",
                "does not know",
            ),
            (403, "InvalidTokenId", "The security token included in the request is invalid", "does not know"),
            (
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
                "the secret is not that of the access key",
            ),
            (
                400,
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided.",
                "the secret is not that of the access key",
            ),
            (
                400,
                "InvalidSignatureException",
                "Signature expired: 20261121T100000Z is now earlier than 20261121T120000Z (20261121T121500Z - 15 min.)",
                "clock differs",
            ),
            (
                400,
                "InvalidSignatureException",
                "Credential should be scoped to a valid region.",
                "signed for another region",
            ),
            (
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
                "clock differs",
            ),
            (
                400,
                "KMS.DisabledException",
                "arn:aws:kms:eu-west-1:1:key/1 is disabled.",
                "the KMS key that encrypts",
            ),
            (
                400,
                "MissingAuthenticationToken",
                "Request is missing Authentication Token",
                "check AWS_PROFILE",
            ),
        ] {
            let error = answered(status, code, message, "", &[]);
            assert!(error.hint().is_some_and(|found| found.contains(hint)), "{code}: {error:?}");
            assert_eq!(Exit::from(&error), Exit::Denied, "{code}: {error:?}");
        }
    }

    #[test]
    #[cfg(feature = "ledger-s3")]
    fn a_refusal_that_says_what_is_missing_is_repeated() {
        let error = answered(
            403,
            "AccessDenied",
            "User: arn:aws:iam::123456789012:user/ann is not authorized to perform: kms:Decrypt on resource: \
             arn:aws:kms:eu-west-1:123456789012:key/1b because no identity-based policy allows the kms:Decrypt action",
            "",
            &[],
        );
        assert_eq!(
            error.to_string(),
            "access denied: kms:Decrypt on arn:aws:kms:eu-west-1:123456789012:key/1b (cannot read the tag: \
             s3://b/pkg/tags/live)"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("in the policy of the key, too")), "{error:?}");
    }

    #[test]
    #[cfg(feature = "ledger-s3")]
    fn the_right_region_is_named() {
        let malformed =
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'";
        let redirected =
            "The bucket you are attempting to access must be addressed using the specified endpoint.";
        let body =
            "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint></Error>";
        for (status, code, message, body, headers) in [
            (400, "AuthorizationHeaderMalformed", malformed, "", &[][..]),
            (301, "PermanentRedirect", redirected, body, &[]),
            (301, "", "", "", &[("x-amz-bucket-region", "eu-west-1")]),
        ] {
            let error = answered(status, code, message, body, headers);
            assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error:?}");
            assert_eq!(error.to_string(), "bucket 'b' is in another region");
            assert_eq!(error.hint(), Some("write ?region=eu-west-1 in the URI"), "{code}");
        }
        // The same code for something else of that header.
        let error = answered(400, "AuthorizationHeaderMalformed", "the Credential is mal-formed", "", &[]);
        assert!(matches!(error.meaning(), Meaning::Denied { .. }), "{error:?}");
    }
}
