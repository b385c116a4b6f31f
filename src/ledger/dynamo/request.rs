//! Sending one request, and the time an operation has for all of its requests.
//!
//! Repeating a read that failed on the way is the SDK's business ([`crate::aws`]); this adds the deadline over all
//! requests of an operation. Conditional writes are sent once ([`single_attempt`]) and repeated by whoever compares ids.
//! Not responsible for what an answer means to an algorithm.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use tokio::time::Instant;

use super::consumed::Consumed;
use crate::aws::Call;
use crate::connect::Connect;
use crate::error::{Error, Meaning};
use crate::retry::Backoff;

/// Answers that say "another request is at work on this item": they pass by themselves.
const BUSY: [&str; 3] =
    ["TransactionConflictException", "TransactionInProgressException", "ReplicatedWriteConflictException"];

/// The time that one operation of the ledger has, with all its requests and pauses.
#[derive(Debug)]
pub(super) struct Patience {
    end: Instant,
    backoff: Backoff,
}

impl Patience {
    /// From now until the deadline.
    pub(super) fn new(connect: &Connect) -> Self {
        Self::lasting(connect, connect.deadline)
    }

    /// From now on for this long.
    pub(super) fn lasting(connect: &Connect, time: Duration) -> Self {
        Self { end: Instant::now() + time, backoff: Backoff::new(connect.clock.clone(), time) }
    }

    /// Waits a little before the next attempt; false when there is no time for one.
    pub(super) async fn pause(&mut self) -> bool {
        Instant::now() < self.end && self.backoff.pause().await
    }
}

/// A request that failed: its meaning, and the service's own words where an algorithm looks at them.
pub(super) struct Failure<E> {
    pub(super) error: Error,
    pub(super) service: Option<Box<E>>,
}

impl<E> fmt::Debug for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E> From<Failure<E>> for Error {
    fn from(failure: Failure<E>) -> Self {
        failure.error
    }
}

/// For conditional writes: no repetition below the loop that compares ids. Otherwise an attempt whose reply was lost could
/// hide behind the refusal of the next one.
pub(super) fn single_attempt() -> aws_sdk_dynamodb::config::Builder {
    aws_sdk_dynamodb::Config::builder().retry_config(RetryConfig::disabled())
}

/// Sends a request for rows, as [`send`], and notes the capacity it consumed.
pub(super) fn send_counted<T, E>(
    patience: &Patience,
    call: &Call<'_>,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> impl Future<Output = Result<T, Failure<E>>>
where
    T: Consumed,
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    // Before it becomes part of this future: see `send`.
    let request = Box::pin(request);
    async move {
        let answer = send(patience, call, request).await?;
        answer.note(call.operation, call.key);
        Ok(answer)
    }
}

/// Sends one request within the time that is left.
///
/// # Errors
/// As [`Call::error`] tells; `Unavailable` when the time is over. A write that fails with a transient error may have
/// happened.
pub(super) async fn send<T, E>(
    patience: &Patience,
    call: &Call<'_>,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Failure<E>>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    // Boxed: the SDK's futures are several kilobytes each, and would add up in their callers'.
    let Ok(answer) = tokio::time::timeout_at(patience.end, Box::pin(request)).await else {
        let error = Error::new(Meaning::Unavailable, call.operation).with_key(call.key);
        return Err(Failure { error, service: None });
    };
    answer.map_err(|error| {
        let busy = error.code().is_some_and(|code| BUSY.contains(&code));
        let meant = if busy {
            Error::new(Meaning::Throttled, call.operation).with_key(call.key)
        } else {
            call.error(&error)
        };
        let service = match error {
            SdkError::ServiceError(context) => Some(Box::new(context.into_err())),
            _ => None,
        };
        Failure { error: meant, service }
    })
}
