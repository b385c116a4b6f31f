//! The caches: what fills them, when they are ready, and how many objects they hold.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{Store, store::Writer};
use kube::runtime::watcher;
use kube::{Client, CustomResourceExt, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::backoff::jitter;
use super::context::{Context, Name, scoped};
use super::error::is_status;
use super::guarded::{Guarded, Kept};
use super::http::Readiness;
use super::metrics::Objects;
use super::watch::{Change, drive, events};
use super::{rollout, route};
use crate::api::conditions::ConditionType;
use crate::api::{MANAGED_BY, Reason, SackerLedger, SackerPackage, SackerTag};

/// How often missing kinds are looked for.
const KINDS_RETRY: Duration = Duration::from_secs(1);

/// The writing ends of all caches.
#[derive(Debug)]
pub(super) struct Writers {
    pub(super) ledgers: Writer<Guarded<SackerLedger>>,
    pub(super) packages: Writer<Guarded<SackerPackage>>,
    pub(super) tags: Writer<Guarded<SackerTag>>,
    pub(super) namespaces: Writer<PartialObjectMeta<Namespace>>,
    pub(super) config_maps: Writer<PartialObjectMeta<ConfigMap>>,
}

impl Default for Writers {
    fn default() -> Self {
        Self {
            ledgers: Writer::new(()),
            packages: Writer::new(()),
            tags: Writer::new(()),
            namespaces: Writer::new(()),
            config_maps: Writer::new(()),
        }
    }
}

impl Writers {
    /// Counts the objects in the caches.
    pub(super) fn objects(
        &self,
    ) -> Objects<impl Fn() -> Vec<(&'static str, &'static str, i64)> + Send + Sync + 'static> {
        let (ledgers, packages, tags) =
            (self.ledgers.as_reader(), self.packages.as_reader(), self.tags.as_reader());
        Objects::new(move || {
            let mut counts = Vec::new();
            count(&mut counts, "SackerLedger", &ledgers);
            count(&mut counts, "SackerPackage", &packages);
            count(&mut counts, "SackerTag", &tags);
            counts
        })
    }
}

/// What of a status is counted.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Reasons<'a> {
    #[serde(borrow)]
    conditions: Vec<ReasonOf<'a>>,
}

#[derive(Deserialize)]
struct ReasonOf<'a> {
    #[serde(borrow, rename = "type")]
    condition: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

fn count<K>(
    counts: &mut Vec<(&'static str, &'static str, i64)>,
    kind: &'static str,
    cache: &Store<Guarded<K>>,
) where
    K: Kept<DynamicType = ()> + 'static,
{
    let mut by_reason = std::collections::BTreeMap::new();
    for object in cache.state() {
        let Reasons { conditions } = object.status_as().unwrap_or_default();
        let ready = conditions.iter().find(|found| found.condition == ConditionType::Ready.as_str());
        // Only our own words: a reason that somebody wrote by hand must not become a label.
        let reason =
            ready.and_then(|ready| Reason::ALL.iter().find(|reason| reason.as_str() == ready.reason));
        *by_reason.entry(reason.map_or("Unknown", |reason| reason.as_str())).or_insert(0) += 1;
    }
    counts.extend(by_reason.into_iter().map(|(reason, number)| (kind, reason, number)));
}

/// Waits until the API server knows all kinds. Installing them later than the operator is fine.
pub(super) async fn kinds(client: &Client, namespace: Option<&str>, readiness: &Readiness) {
    let is_there = [
        is_served::<SackerLedger>(Api::all(client.clone())).boxed(),
        is_served::<SackerPackage>(scoped(client, namespace)).boxed(),
        is_served::<SackerTag>(scoped(client, namespace)).boxed(),
    ];
    let mut waiting = is_there.into_iter();
    let names = [SackerLedger::crd_name(), SackerPackage::crd_name(), SackerTag::crd_name()];
    for name in names {
        readiness.waits_for("kinds", format!("the CustomResourceDefinition '{name}' is not there yet"));
        if let Some(is_there) = waiting.next() {
            is_there.await;
        }
    }
}

async fn is_served<K>(api: Api<PartialObjectMeta<K>>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let parameters = ListParams::default().limit(1);
    let mut told = false;
    loop {
        match api.list(&parameters).await {
            Ok(_) => return,
            Err(error) => {
                // Said once; readiness says it all the time.
                let missing = is_status(&error, 404);
                if !told && missing {
                    info!(kind = %K::kind(&()), "waiting for the CustomResourceDefinition");
                } else if !told {
                    warn!(kind = %K::kind(&()), %error, "waiting for the API server");
                }
                told = true;
            }
        }
        tokio::time::sleep(jitter(KINDS_RETRY)).await;
    }
}

/// The first lists of the watches, on their way.
#[derive(Debug, Default)]
pub(super) struct FirstLists(Vec<oneshot::Receiver<()>>);

impl FirstLists {
    fn one_more(&mut self) -> oneshot::Sender<()> {
        let (told, listed) = oneshot::channel();
        self.0.push(listed);
        told
    }

    /// Waits until the caches are complete, and all that follows from their objects was noted. A round of polls that began
    /// before would know of some of the packages only.
    pub(super) async fn observed(self) {
        for listed in self.0 {
            // A watch that ended tells why itself.
            let _ = listed.await;
        }
    }
}

/// Starts the watches. Each one ends only with its task. The first lists of workloads are nothing to wait for.
pub(super) fn watch(
    watches: &mut JoinSet<()>,
    context: &Arc<Context>,
    timeout: Duration,
    writers: Writers,
) -> FirstLists {
    let mut lists = FirstLists::default();
    let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).max(1);
    let plain = watcher::Config::default().timeout(seconds);
    // Where a selector names one object, the right to that object is enough.
    let namespaces = match &context.policy.namespace {
        Some(name) => plain.clone().fields(&format!("metadata.name={name}")),
        None => plain.clone(),
    };
    let ours = plain.clone().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    watches.spawn(follow(
        context,
        Api::all(context.client.clone()),
        "SackerLedger",
        plain.clone(),
        writers.ledgers,
        lists.one_more(),
        route::ledger,
    ));
    watches.spawn(follow(
        context,
        context.scoped(),
        "SackerPackage",
        plain.clone(),
        writers.packages,
        lists.one_more(),
        |context, change| {
            route::package(context, change);
        },
    ));
    watches.spawn(follow(
        context,
        context.scoped(),
        "SackerTag",
        plain,
        writers.tags,
        lists.one_more(),
        |context, change| {
            route::tag(context, change);
        },
    ));
    watches.spawn(follow(
        context,
        Api::all(context.client.clone()),
        "Namespace",
        namespaces,
        writers.namespaces,
        lists.one_more(),
        |context, change| {
            route::namespace(context, change);
        },
    ));
    // Who publishes nothing needs no right to read what others did.
    if context.runs(Name::Resolver) {
        watches.spawn(follow(
            context,
            context.scoped(),
            "ConfigMap",
            ours,
            writers.config_maps,
            lists.one_more(),
            |context, change| {
                route::config_map(context, change);
            },
        ));
    }
    if context.runs(Name::Rollout) {
        watches.spawn(follow_workloads::<Deployment>(context, "Deployment", seconds));
        watches.spawn(follow_workloads::<StatefulSet>(context, "StatefulSet", seconds));
        watches.spawn(follow_workloads::<DaemonSet>(context, "DaemonSet", seconds));
    }
    lists
}

fn follow<K>(
    context: &Arc<Context>,
    api: Api<K>,
    kind: &'static str,
    config: watcher::Config,
    writer: Writer<K>,
    listed: oneshot::Sender<()>,
    routed: impl Fn(&Arc<Context>, &Change<K>) + Send + Sync + 'static,
) -> BoxFuture<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let context = context.clone();
    // Who manages which field is of no use here, and makes up half of many an object.
    let events =
        events(api, config).default_backoff().modify(|object| object.meta_mut().managed_fields = None);
    async move {
        let heard = || context.metrics.heard(kind, context.clock.now());
        drive(events, writer, kind, listed, heard, |change| routed(&context, &change)).await;
    }
    .boxed()
}

/// Follows the workloads that ask for it. Who manages which of their fields is looked at, so it stays.
fn follow_workloads<K: rollout::Watched>(
    context: &Arc<Context>,
    kind: &'static str,
    seconds: u32,
) -> BoxFuture<'static, ()> {
    let context = context.clone();
    let config = watcher::Config::default().timeout(seconds).labels(&rollout::selector());
    let events = events(context.scoped::<DeserializeGuard<K>>(), config).default_backoff();
    async move {
        let heard = || context.metrics.heard(kind, context.clock.now());
        let (listed, _) = oneshot::channel();
        drive(events, Writer::new(()), kind, listed, heard, |change| context.rollouts.changed(&change)).await;
    }
    .boxed()
}
