//! One controller's loop: passes over the objects that were woken, each one guarded against panics, timed and counted,
//! tried again with growing pauses when it fails.
//!
//! All use of kube's unstable controller streams is here.

use std::any::Any;
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use kube::core::ObjectMeta;
use kube::core::object::HasStatus;
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::CONCURRENCY;
use super::context::{Context, Kind, Name};
use super::error::Failure;
use super::status;
use super::watch::Guarded;
use crate::api::Reason;
use crate::api::conditions::Summary;

/// A kind of object that a controller looks after.
pub(super) trait Reconcile:
    Resource<DynamicType = ()>
    + HasStatus<Status: Serialize>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The controller.
    const NAME: Name;

    /// The field manager of its status.
    const MANAGER: &'static str;

    /// Its objects.
    fn objects(context: &Context) -> &Kind<Self>;

    /// Lets an object go that is being deleted and cannot be read: no validation may keep it.
    fn let_go(metadata: ObjectMeta, context: Arc<Context>) -> BoxFuture<'static, Result<(), Failure>>;

    /// One pass: makes the ledger and the status what the spec says. Idempotent; may be cancelled anywhere.
    fn reconcile(self: Arc<Self>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Failure>>;
}

/// Runs the controller of `K` until `stop`; passes under way are finished.
pub(super) async fn run<K>(context: Arc<Context>, stop: CancellationToken)
where
    K: Reconcile,
    K::DynamicType: Eq + Hash,
{
    let kind = K::objects(&context);
    let woken = kind.queue.open();
    for object in kind.cache.state() {
        kind.queue.wake(ObjectRef::from_obj(&*object));
    }
    // One watch serves several controllers, so objects come in by name from the routes instead of a watch of its own.
    Controller::for_stream(futures::stream::pending(), kind.cache.clone())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(woken)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(pass::<K>, again::<K>, context.clone())
        .for_each(async |outcome| report::<K>(outcome))
        .await;
}

async fn pass<K: Reconcile>(object: Arc<Guarded<K>>, context: Arc<Context>) -> Result<Action, Failure> {
    let start = context.clock.monotonic();
    let result = match &object.0 {
        Ok(readable) => {
            let work = Arc::new(readable.clone()).reconcile(context.clone());
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(result) => result,
                Err(panic) => panicked::<K>(&object, &context, words(panic.as_ref())).await,
            }
        }
        Err(invalid) if invalid.metadata.deletion_timestamp.is_some() => {
            K::let_go(invalid.metadata.clone(), context.clone()).await.map(|()| Action::await_change())
        }
        Err(invalid) => {
            let message = format!("the object cannot be read: {}", invalid.error);
            let summary = Summary::stalled(Reason::InvalidSpec, message);
            status::write_conditions::<K>(&context, K::MANAGER, &*object, &summary)
                .await
                .map(|()| Action::await_change())
        }
    };
    let result = result.map(|action| match &object.0 {
        // Corrected a moment ago, and wrong again: that waits, so that nobody writes in circles.
        Ok(readable) if context.written.is_foreign(readable) => Action::requeue(status::CORRECTIONS),
        _ => action,
    });
    let time = context.clock.monotonic().saturating_sub(start);
    context.metrics.passed(K::NAME, time, result.as_ref().err().map(Failure::reason));
    if let (Ok(_), Some(uid)) = (&result, object.uid()) {
        context.backoffs.reset(&uid);
    }
    result
}

/// A panic is a bug of ours: it is said in the object's condition and in the log, and stops nobody else.
async fn panicked<K: Reconcile>(
    object: &Guarded<K>,
    context: &Context,
    text: String,
) -> Result<Action, Failure> {
    let message = format!("the operator failed on this object, which is a bug: {text}");
    let summary = Summary::unknown(Reason::Internal, message);
    if let Err(failure) = status::write_conditions::<K>(context, K::MANAGER, object, &summary).await {
        debug!(%failure, "the panic is not in the object's status");
    }
    Err(Failure::Panicked(text))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn again<K: Reconcile>(object: Arc<Guarded<K>>, _: &Failure, context: Arc<Context>) -> Action {
    let uid = object.uid().unwrap_or_default();
    Action::requeue(context.backoffs.failed(&uid, context.clock.monotonic()))
}

type Outcome<K> = Result<(ObjectRef<Guarded<K>>, Action), Error<Failure, kube::runtime::watcher::Error>>;

fn report<K: Reconcile>(outcome: Outcome<K>) {
    let controller = K::NAME.as_str();
    match outcome {
        Ok((object, action)) => debug!(controller, %object, ?action, "reconciled"),
        Err(Error::ReconcilerFailed(failure, object)) => match failure {
            Failure::Ledger(_) | Failure::NotLeading | Failure::Waiting(_) => {
                info!(controller, %object, %failure, "not yet");
            }
            Failure::Api { .. } | Failure::TimedOut(_) => warn!(controller, %object, %failure, "failed"),
            Failure::Panicked(_) => error!(controller, %object, %failure, "failed"),
        },
        // Woken by something that refers to it, and gone by the time its turn came.
        Err(Error::ObjectNotFound(object)) => debug!(controller, %object, "gone"),
        Err(error @ (Error::QueueError(_) | Error::RunnerError(_))) => {
            warn!(controller, %error, "the queue failed");
        }
    }
}
