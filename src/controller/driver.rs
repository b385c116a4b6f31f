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
use super::guarded::{Guarded, Kept};
use super::status;
use crate::api::Reason;
use crate::api::conditions::Summary;

/// A kind of object that a controller looks after.
pub(super) trait Reconcile:
    Kept<DynamicType = (), Spec: Send + Sync>
    + HasStatus<Status: Clone + PartialEq + Serialize + DeserializeOwned>
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
        kind.queue.wake(&ObjectRef::from_obj(&*object));
    }
    // One watch serves several controllers, so objects come in by name from the routes instead of a watch of its own.
    Controller::for_stream(futures::stream::pending(), kind.cache.clone())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(woken)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(pass::<K>, again::<K>, context.clone())
        .for_each(async |outcome| {
            if let Some((namespace, name)) = about::<K>(&outcome) {
                kind.queue.answered(namespace, name);
            }
            report::<K>(outcome);
        })
        .await;
}

async fn pass<K: Reconcile>(object: Arc<Guarded<K>>, context: Arc<Context>) -> Result<Action, Failure> {
    let start = context.clock.monotonic();
    let metadata = object.meta();
    let result = match object.read() {
        Ok(readable) => {
            let work = Arc::new(readable).reconcile(context.clone());
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(result) => result,
                Err(panic) => panicked::<K>(&object, &context, words(panic.as_ref())).await,
            }
        }
        Err(_) if metadata.deletion_timestamp.is_some() => {
            K::let_go(metadata.clone(), context.clone()).await.map(|()| Action::await_change())
        }
        Err(error) => {
            let message = format!("the object cannot be read: {error}");
            let summary = Summary::stalled(Reason::InvalidSpec, message);
            status::write_conditions::<K>(&context, K::MANAGER, &*object, &summary)
                .await
                .map(|()| Action::await_change())
        }
    };
    let result = result.map(|action| {
        let shown = K::objects(&context).cache.get(&ObjectRef::from_obj(&*object));
        // Corrected a moment ago, and wrong again: that waits, so that nobody writes in circles.
        let is_forged = shown.is_some_and(|shown| context.written.is_forged(&shown));
        if is_forged { Action::requeue(status::CORRECTIONS) } else { action }
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

/// Whom an outcome is about: namespace and name.
fn about<K: Reconcile>(outcome: &Outcome<K>) -> Option<(Option<&str>, &str)> {
    match outcome {
        Ok((object, _)) => Some((object.namespace.as_deref(), &object.name)),
        Err(Error::ReconcilerFailed(_, object) | Error::ObjectNotFound(object)) => {
            Some((object.namespace.as_deref(), &object.name))
        }
        Err(Error::QueueError(_) | Error::RunnerError(_)) => None,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SackerTag;
    use crate::clock::SystemClock;
    use crate::connect::Connect;
    use crate::controller::context::Policy;
    use crate::controller::events::Events;
    use crate::controller::lease::Guard;
    use crate::controller::metrics::{Metrics, Objects};
    use crate::controller::pool::{ConnectOpener, Pool};
    use kube::core::object::HasSpec;
    use kube::runtime::reflector::store::Writer;
    use kube::{Client, Config};
    use prometheus_client::registry::Registry;
    use std::borrow::Cow;
    use std::time::Duration;

    /// A SackerTag whose every pass panics.
    #[derive(Debug, Clone, serde::Deserialize)]
    #[serde(transparent)]
    struct Bomb(SackerTag);

    impl Resource for Bomb {
        type DynamicType = ();
        type Scope = <SackerTag as Resource>::Scope;

        fn kind((): &()) -> Cow<'_, str> {
            SackerTag::kind(&())
        }
        fn group((): &()) -> Cow<'_, str> {
            SackerTag::group(&())
        }
        fn version((): &()) -> Cow<'_, str> {
            SackerTag::version(&())
        }
        fn plural((): &()) -> Cow<'_, str> {
            SackerTag::plural(&())
        }
        fn meta(&self) -> &ObjectMeta {
            self.0.meta()
        }
        fn meta_mut(&mut self) -> &mut ObjectMeta {
            self.0.meta_mut()
        }
    }

    impl HasSpec for Bomb {
        type Spec = <SackerTag as HasSpec>::Spec;

        fn spec(&self) -> &Self::Spec {
            self.0.spec()
        }
        fn spec_mut(&mut self) -> &mut Self::Spec {
            self.0.spec_mut()
        }
    }

    impl Kept for Bomb {
        fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
            Self(SackerTag::assemble(metadata, spec, status))
        }
    }

    impl HasStatus for Bomb {
        type Status = <SackerTag as HasStatus>::Status;

        fn status(&self) -> Option<&Self::Status> {
            self.0.status()
        }
        fn status_mut(&mut self) -> &mut Option<Self::Status> {
            self.0.status_mut()
        }
    }

    impl Reconcile for Bomb {
        const NAME: Name = Name::Tag;
        const MANAGER: &'static str = "bomb";

        fn objects(_: &Context) -> &Kind<Self> {
            panic!("a pass does not look for others")
        }

        fn let_go(_: ObjectMeta, _: Arc<Context>) -> BoxFuture<'static, Result<(), Failure>> {
            std::future::ready(Ok(())).boxed()
        }

        fn reconcile(self: Arc<Self>, _: Arc<Context>) -> BoxFuture<'static, Result<Action, Failure>> {
            async { panic!("boom") }.boxed()
        }
    }

    /// A context whose API server nobody serves.
    fn context() -> (Arc<Context>, Arc<Registry>) {
        let clock = Arc::new(SystemClock);
        let config = Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        let client = Client::try_from(config).expect("a client");
        let (metrics, registry) = Metrics::new(Box::new(Objects::new(Vec::new)));
        let context = Context {
            events: Events::new(client.clone(), "test"),
            client,
            policy: Policy {
                controllers: Name::ALL.into(),
                namespace: None,
                cluster: "test".into(),
                trust_requested_by: false,
                poll_interval: None,
            },
            guard: Guard::always(clock.clone()),
            clock,
            ledgers: Kind::new(Writer::new(()).as_reader()),
            packages: Kind::new(Writer::new(()).as_reader()),
            tags: Kind::new(Writer::new(()).as_reader()),
            namespaces: Writer::new(()).as_reader(),
            config_maps: Writer::new(()).as_reader(),
            pool: Pool::new(Arc::new(ConnectOpener(Connect::default()))).0,
            views: crate::controller::views::Views::default(),
            polls: crate::controller::poll::Polls::default(),
            rollouts: crate::controller::rollout::Rollouts::default(),
            probed: crate::controller::ledger::Probed::default(),
            backoffs: crate::controller::backoff::Backoffs::default(),
            written: status::Written::default(),
            sights: crate::controller::sights::Sights::default(),
            metrics,
        };
        (Arc::new(context), registry)
    }

    fn object() -> Guarded<Bomb> {
        let object = serde_json::json!({
            "metadata": { "name": "live", "uid": "uid" }, "spec": { "package": "a", "tag": "live", "version": 1 }
        });
        serde_json::from_value(object).expect("an object")
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_of_one_pass_and_is_tried_again_later() {
        let (context, registry) = context();
        let object = Arc::new(object());
        let outcome = pass(object.clone(), context.clone()).await;
        let Err(failure @ Failure::Panicked(_)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.to_string(), "panic: boom");
        let again = again(object, &failure, context.clone());
        assert!(again != Action::await_change() && again != Action::requeue(Duration::ZERO), "{again:?}");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("metrics");
        let counted = "sacker_reconcile_failures_total{controller=\"tag\",reason=\"Internal\"} 1";
        assert!(text.contains(counted), "{text}");
    }
}
