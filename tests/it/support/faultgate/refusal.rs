//! What the real servers say when they refuse, in the words of DynamoDB, S3 and the Kubernetes API server.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::facts::{Dialect, Facts};

/// Why a server refuses. Each dialect has its own words for it, or the nearest that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// DynamoDB `ThrottlingException`, S3 503 `SlowDown`, API server 429.
    Throttling,
    /// DynamoDB only; elsewhere as `Throttling`.
    ProvisionedThroughputExceeded,
    /// DynamoDB: another transaction is at work on an item. Elsewhere as `Conflict409`.
    TransactionConflict,
    /// S3 503 `SlowDown`; elsewhere as `Throttling`.
    SlowDown,
    /// 500.
    Internal,
    /// 503.
    Unavailable,
    /// S3 `ConditionalRequestConflict`, API server `Conflict`; DynamoDB `TransactionConflictException`.
    Conflict409,
    /// S3 `PreconditionFailed`; DynamoDB `ConditionalCheckFailedException`.
    PreconditionFailed412,
    /// 403 (DynamoDB: `AccessDeniedException`).
    Forbidden,
    /// API server 429 with `Retry-After: 1`; elsewhere as `Throttling`.
    TooManyRequests,
    /// API server 410, `Expired`; a watch says so in an `ERROR` event, as the server does.
    Gone,
    /// The signature's time, or the session's token, is over.
    Expired,
}

/// A whole reply.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Refusal {
    /// The reply of the server that `facts` were said to; `body` is the request's, where it was read.
    pub(crate) fn answer(self, facts: &Facts, body: &[u8]) -> Answer {
        match facts.dialect {
            Dialect::Dynamo => self.dynamo(facts, body),
            Dialect::S3 => self.s3(facts),
            Dialect::Kubernetes => self.kubernetes(facts.is_watch),
        }
    }

    fn dynamo(self, facts: &Facts, body: &[u8]) -> Answer {
        const SERVICE: &str = "com.amazonaws.dynamodb.v20120810";
        const CORAL: &str = "com.amazon.coral.service";
        let in_transaction = facts.operation == "TransactWriteItems";
        let (status, kind, code, message) = match self {
            Self::Throttling | Self::SlowDown | Self::TooManyRequests => {
                (400, CORAL, "ThrottlingException", "Rate of requests exceeds the allowed throughput.")
            }
            Self::ProvisionedThroughputExceeded => (
                400,
                SERVICE,
                "ProvisionedThroughputExceededException",
                "The level of configured provisioned throughput for the table was exceeded. Consider increasing \
                 your provisioning level with the UpdateTable API.",
            ),
            Self::TransactionConflict | Self::Conflict409 if in_transaction => (
                400,
                SERVICE,
                "TransactionCanceledException",
                "Transaction cancelled, please refer cancellation reasons for specific reasons",
            ),
            Self::TransactionConflict | Self::Conflict409 => {
                (400, SERVICE, "TransactionConflictException", "Transaction is ongoing for the item")
            }
            Self::Internal | Self::Gone => (500, SERVICE, "InternalServerError", "Internal server error"),
            Self::Unavailable => (503, CORAL, "ServiceUnavailableException", "Service is unavailable"),
            Self::PreconditionFailed412 => {
                (400, SERVICE, "ConditionalCheckFailedException", "The conditional request failed")
            }
            Self::Forbidden => (
                400,
                CORAL,
                "AccessDeniedException",
                "User: arn:aws:iam::000000000000:user/test is not authorized to perform this action",
            ),
            Self::Expired => {
                (400, CORAL, "ExpiredTokenException", "The security token included in the request is expired")
            }
        };
        let mut words = json!({ "__type": format!("{kind}#{code}"), "message": message });
        if code == "TransactionCanceledException" {
            let request: Value = serde_json::from_slice(body).unwrap_or_default();
            let items = request["TransactItems"].as_array().map_or(1, Vec::len);
            let reason = |index| match index {
                0 => {
                    json!({ "Code": "TransactionConflict", "Message": "Transaction is ongoing for the item" })
                }
                _ => json!({ "Code": "None" }),
            };
            words["CancellationReasons"] = (0..items).map(reason).collect();
        }
        Answer::new(status, "application/x-amz-json-1.0", words.to_string())
    }

    fn s3(self, facts: &Facts) -> Answer {
        let (status, code, message) = match self {
            Self::Throttling
            | Self::ProvisionedThroughputExceeded
            | Self::SlowDown
            | Self::TooManyRequests => (503, "SlowDown", "Please reduce your request rate."),
            Self::TransactionConflict | Self::Conflict409 => (
                409,
                "ConditionalRequestConflict",
                "The conditional request cannot succeed due to a conflicting operation against this resource.",
            ),
            Self::Internal | Self::Gone => {
                (500, "InternalError", "We encountered an internal error. Please try again.")
            }
            Self::Unavailable => (503, "ServiceUnavailable", "Service is unable to handle request."),
            Self::PreconditionFailed412 => {
                (412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
            }
            Self::Forbidden => (403, "AccessDenied", "Access Denied"),
            Self::Expired => (
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            ),
        };
        let resource = &facts.path;
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
             <Resource>{resource}</Resource><RequestId>FAULTGATE</RequestId></Error>"
        );
        // A HEAD has no body to say it in, as with the real servers.
        let body = if facts.method == "HEAD" { String::new() } else { body };
        Answer::new(status, "application/xml", body)
    }

    fn kubernetes(self, is_watch: bool) -> Answer {
        let (status, reason, message) = match self {
            Self::Throttling
            | Self::ProvisionedThroughputExceeded
            | Self::SlowDown
            | Self::TooManyRequests => (
                429,
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again",
            ),
            Self::TransactionConflict | Self::Conflict409 | Self::PreconditionFailed412 => (
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version",
            ),
            Self::Internal => {
                (500, "InternalError", "Internal error occurred: etcdserver: request timed out")
            }
            Self::Unavailable => {
                (503, "ServiceUnavailable", "the server is currently unable to handle the request")
            }
            Self::Forbidden => (403, "Forbidden", "access is forbidden"),
            Self::Gone => (410, "Expired", "too old resource version: 1 (2)"),
            Self::Expired => (401, "Unauthorized", "Unauthorized"),
        };
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": status,
        });
        if is_watch && status == 410 {
            let event = json!({ "type": "ERROR", "object": body });
            return Answer::new(200, "application/json", format!("{event}\n"));
        }
        let mut answer = Answer::new(status, "application/json", body.to_string());
        if status == 429 {
            answer.headers.push(("retry-after", "1".to_owned()));
        }
        answer
    }
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &str, body: String) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: Bytes::from(body) }
    }
}
