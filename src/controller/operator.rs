//! The whole operator: waits for its kinds, watches, takes the lease, runs the controllers, and stops in order.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{Store, store::Writer};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, CustomResourceExt, Resource};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::{full_jitter, jitter};
use super::context::{Context, Kind, Name, Policy};
use super::error::is_status;
use super::events::Events;
use super::http::{self, Readiness};
use super::lease::{Elector, Guard, Lost, Timing};
use super::metrics::{Metrics, Objects};
use super::pool::{ConnectOpener, Pool};
use super::watch::{Change, Guarded, drive};
use super::{driver, route};
use crate::api::conditions::{Condition, ConditionType, find};
use crate::api::{MANAGED_BY, Reason, SackerLedger, SackerPackage, SackerTag};
use crate::clock::Clock;
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};

/// How long passes under way may take after the stop signal.
const DRAIN: Duration = Duration::from_secs(20);

/// How often missing kinds are looked for.
const KINDS_RETRY: Duration = Duration::from_secs(1);

/// How the operator runs. All of it comes from the command line and the environment.
#[derive(Debug)]
pub struct Settings {
    /// The controllers that run here.
    pub controllers: BTreeSet<Name>,
    /// The cluster's name in owner strings; the uid of `kube-system` by default.
    pub cluster_name: Option<String>,
    /// Where health, readiness and metrics are served.
    pub http_address: SocketAddr,
    /// Whether the annotation with the requester is stamped by an admission policy.
    pub trust_requested_by: bool,
    /// How often ledgers are polled whose SackerLedger does not say.
    pub poll_interval: Option<Duration>,
    /// After how long a watch that hears nothing is taken up anew.
    pub watch_timeout: Duration,
    /// The election, unless it is switched off.
    pub election: Option<Election>,
    /// How ledgers are opened.
    pub connect: Connect,
}

/// Which lease is taken, as whom.
#[derive(Debug)]
pub struct Election {
    /// The namespace of the lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Unique per process, the same after its restart.
    pub identity: String,
    /// How long it lasts.
    pub timing: Timing,
}

/// Runs until `stop`, and then to its orderly end.
///
/// # Errors
/// `Unavailable` when leadership is lost (the process must end: a restart is the way back), `Local` when the HTTP address
/// cannot be bound, `Other` when the cluster cannot be reached at all for lack of a configuration.
pub async fn run(client: Client, settings: Settings, stop: CancellationToken) -> Result<()> {
    let readiness = Readiness::default();
    readiness.waits_for("kinds", "the CustomResourceDefinitions are not there yet");
    readiness.waits_for("caches", "the first lists are not read yet");
    let clock = settings.connect.clock.clone();
    let guard = match settings.election {
        Some(_) => Guard::new(clock.clone()),
        None => Guard::always(clock.clone()),
    };
    let writers = Writers::default();
    let (metrics, registry) = Metrics::new(Box::new(writers.objects()));
    let serving = serve(&settings, &readiness, registry, &stop).await?;

    let started = tokio::select! {
        started = start(client, &settings, writers, metrics, guard, &readiness, clock) => Some(started?),
        () = stop.cancelled() => None,
    };
    let outcome = match started {
        None => Ok(()),
        Some((context, watches)) => {
            let outcome = lead(&context, settings.election, &stop).await;
            drop(watches);
            outcome
        }
    };
    stop.cancel();
    if let Err(error) = serving.await {
        warn!(%error, "the HTTP server did not end as it should");
    }
    outcome
}

type Serving = tokio::task::JoinHandle<()>;

/// Binds at once, so that a taken port is an error and not a surprise later.
async fn serve(
    settings: &Settings,
    readiness: &Readiness,
    registry: Arc<Registry>,
    stop: &CancellationToken,
) -> Result<Serving> {
    let address = settings.http_address;
    let (bound, is_bound) = tokio::sync::oneshot::channel();
    let announce = move |address: SocketAddr| {
        info!(%address, "serving /healthz, /readyz and /metrics");
        let _ = bound.send(());
    };
    let serving = http::serve(address, readiness.clone(), registry, stop.clone(), announce);
    let (failed, failure) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        if let Err(error) = serving.await {
            let _ = failed.send(error);
        }
    });
    tokio::select! {
        Ok(()) = is_bound => Ok(task),
        Ok(error) = failure => {
            let why = format!("cannot serve on {address}: {}", crate::error::io_reason(&error));
            Err(Error::new(Meaning::Local { why }, "serve HTTP").with_source(error))
        }
        else => Ok(task),
    }
}

/// The writing ends of all caches.
#[derive(Debug)]
struct Writers {
    ledgers: Writer<Guarded<SackerLedger>>,
    packages: Writer<Guarded<SackerPackage>>,
    tags: Writer<Guarded<SackerTag>>,
    namespaces: Writer<PartialObjectMeta<Namespace>>,
    config_maps: Writer<PartialObjectMeta<ConfigMap>>,
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
    fn objects(
        &self,
    ) -> Objects<impl Fn() -> Vec<(&'static str, &'static str, i64)> + Send + Sync + 'static> {
        let (ledgers, packages, tags) =
            (self.ledgers.as_reader(), self.packages.as_reader(), self.tags.as_reader());
        Objects::new(move || {
            let mut counts = Vec::new();
            count(&mut counts, "SackerLedger", &ledgers, |object| {
                object.status.as_ref().map(|status| status.conditions.as_slice())
            });
            count(&mut counts, "SackerPackage", &packages, |object| {
                object.status.as_ref().map(|status| status.conditions.as_slice())
            });
            count(&mut counts, "SackerTag", &tags, |object| {
                object.status.as_ref().map(|status| status.conditions.as_slice())
            });
            counts
        })
    }
}

fn count<K>(
    counts: &mut Vec<(&'static str, &'static str, i64)>,
    kind: &'static str,
    cache: &Store<Guarded<K>>,
    conditions: impl Fn(&K) -> Option<&[Condition]>,
) where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut by_reason = std::collections::BTreeMap::new();
    for object in cache.state() {
        let found = object.0.as_ref().ok().and_then(&conditions);
        let ready = found.and_then(|conditions| find(conditions, ConditionType::Ready));
        // Only our own words: a reason that somebody wrote by hand must not become a label.
        let reason =
            ready.and_then(|ready| Reason::ALL.iter().find(|reason| reason.as_str() == ready.reason));
        *by_reason.entry(reason.map_or("Unknown", |reason| reason.as_str())).or_insert(0) += 1;
    }
    counts.extend(by_reason.into_iter().map(|(reason, number)| (kind, reason, number)));
}

/// Waits for the kinds and the first lists. Ends with everything watched and nothing acting yet.
async fn start(
    client: Client,
    settings: &Settings,
    writers: Writers,
    metrics: Metrics,
    guard: Guard,
    readiness: &Readiness,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<Context>, JoinSet<()>)> {
    kinds(&client, readiness).await;
    readiness.has("kinds");
    let cluster = cluster_name(&client, settings.cluster_name.clone(), readiness).await;
    let instance = settings.election.as_ref().map_or("sacker-operator", |election| &election.identity);
    let (pool, mut unwell) = Pool::new(Arc::new(ConnectOpener(settings.connect.clone())));
    let context = Arc::new(Context {
        events: Events::new(client.clone(), instance),
        client,
        policy: Policy {
            controllers: settings.controllers.clone(),
            cluster,
            trust_requested_by: settings.trust_requested_by,
            poll_interval: settings.poll_interval,
        },
        clock,
        guard,
        ledgers: Kind::new(writers.ledgers.as_reader()),
        packages: Kind::new(writers.packages.as_reader()),
        tags: Kind::new(writers.tags.as_reader()),
        namespaces: writers.namespaces.as_reader(),
        config_maps: writers.config_maps.as_reader(),
        pool,
        views: super::views::Views::default(),
        polls: super::poll::Polls::default(),
        probed: super::ledger::Probed::default(),
        backoffs: super::backoff::Backoffs::default(),
        written: super::status::Written::default(),
        metrics,
    });
    let mut watches = JoinSet::new();
    watch(&mut watches, &context, settings, writers);
    let health = context.clone();
    watches.spawn(async move {
        while let Some(uri) = unwell.recv().await {
            route::health(&health, &uri);
        }
    });
    let caches = async {
        let _ = context.ledgers.cache.wait_until_ready().await;
        let _ = context.packages.cache.wait_until_ready().await;
        let _ = context.tags.cache.wait_until_ready().await;
        let _ = context.namespaces.wait_until_ready().await;
        let _ = context.config_maps.wait_until_ready().await;
    };
    caches.await;
    readiness.has("caches");
    Ok((context, watches))
}

/// Waits until the API server knows all kinds. Installing them later than the operator is fine.
async fn kinds(client: &Client, readiness: &Readiness) {
    let is_there = [
        is_served::<SackerLedger>(client.clone()).boxed(),
        is_served::<SackerPackage>(client.clone()).boxed(),
        is_served::<SackerTag>(client.clone()).boxed(),
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

async fn is_served<K>(client: Client)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(client);
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

/// What this cluster is called in owner strings: as asked, else by the one id that lives as long as the cluster.
async fn cluster_name(client: &Client, asked: Option<String>, readiness: &Readiness) -> String {
    if let Some(name) = asked {
        return name;
    }
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let mut failures = 0;
    loop {
        match namespaces.get("kube-system").await {
            Ok(namespace) => {
                if let Some(uid) = namespace.metadata.uid {
                    readiness.has("cluster");
                    return uid;
                }
            }
            Err(error) => warn!(%error, "waiting for the uid of the namespace kube-system"),
        }
        readiness.waits_for("cluster", "the uid of the namespace kube-system is not read yet");
        tokio::time::sleep(full_jitter(KINDS_RETRY, KINDS_RETRY * 10, failures)).await;
        failures += 1;
    }
}

/// Starts the watches. Each one ends only with its task.
fn watch(watches: &mut JoinSet<()>, context: &Arc<Context>, settings: &Settings, writers: Writers) {
    let seconds = u32::try_from(settings.watch_timeout.as_secs()).unwrap_or(u32::MAX).max(1);
    let plain = watcher::Config::default().timeout(seconds);
    let ours = plain.clone().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    watches.spawn(follow(context, "SackerLedger", plain.clone(), writers.ledgers, route::ledger));
    watches.spawn(follow(context, "SackerPackage", plain.clone(), writers.packages, |context, change| {
        route::package(context, change);
    }));
    watches.spawn(follow(context, "SackerTag", plain.clone(), writers.tags, |context, change| {
        route::tag(context, change);
    }));
    watches.spawn(follow(context, "Namespace", plain, writers.namespaces, |context, change| {
        route::namespace(context, change);
    }));
    watches.spawn(follow(context, "ConfigMap", ours, writers.config_maps, |context, change| {
        route::config_map(context, change);
    }));
}

fn follow<K>(
    context: &Arc<Context>,
    kind: &'static str,
    config: watcher::Config,
    writer: Writer<K>,
    routed: impl Fn(&Arc<Context>, &Change<K>) + Send + Sync + 'static,
) -> BoxFuture<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let context = context.clone();
    let api: Api<K> = Api::all(context.client.clone());
    // Who manages which field is of no use here, and makes up half of many an object.
    let events =
        watcher(api, config).default_backoff().modify(|object| object.meta_mut().managed_fields = None);
    async move {
        let heard = || context.metrics.heard(kind, context.clock.now());
        drive(events, writer, kind, heard, |change| routed(&context, &change)).await;
    }
    .boxed()
}

/// Acts for as long as this process leads, or from the start without an election.
async fn lead(context: &Arc<Context>, election: Option<Election>, stop: &CancellationToken) -> Result<()> {
    let Some(election) = election else {
        act(context, stop.clone()).await;
        return Ok(());
    };
    let leases: Api<Lease> = Api::namespaced(context.client.clone(), &election.namespace);
    let Election { name, identity, timing, .. } = election;
    let mut elector = Elector::new(leases, name, identity, timing, context.guard.clone());
    let lost = {
        let acting = async {
            context.guard.acquired().await;
            act(context, stop.clone()).await;
        };
        tokio::select! {
            // Passes under way end while the lease is still renewed.
            () = acting => None,
            lost = elector.run() => Some(lost),
            () = idle(context, stop) => None,
        }
    };
    match lost {
        None => {
            elector.release().await;
            Ok(())
        }
        // At once: another replica may act by now.
        Some(lost) => Err(failed(&lost)),
    }
}

/// Ends with the stop signal if this process does not lead: then nothing is under way.
async fn idle(context: &Context, stop: &CancellationToken) {
    stop.cancelled().await;
    if context.guard.allows() {
        std::future::pending::<()>().await;
    }
}

fn failed(lost: &Lost) -> Error {
    Error::new(Meaning::Unavailable, "lead")
        .with_hint(format!("{lost}; the process ends, its restart follows again"))
}

/// Runs the controllers and polls until `stop`, and finishes what is under way.
async fn act(context: &Arc<Context>, stop: CancellationToken) {
    context.metrics.leading(true);
    for object in context.ledgers.cache.state() {
        if let Ok(ledger) = &object.0 {
            let name = ledger.metadata.name.clone().unwrap_or_default();
            context.polls.follow(context, &name, Some(ledger));
        }
    }
    let mut controllers = JoinSet::new();
    for name in &context.policy.controllers {
        match name {
            Name::Tag => controllers.spawn(driver::run::<SackerTag>(context.clone(), stop.clone())),
            Name::Resolver => controllers.spawn(driver::run::<SackerPackage>(context.clone(), stop.clone())),
            Name::Ledger => controllers.spawn(driver::run::<SackerLedger>(context.clone(), stop.clone())),
        };
    }
    info!(controllers = ?context.policy.controllers, cluster = %context.policy.cluster, "running");
    stop.cancelled().await;
    context.polls.stop();
    let drained = tokio::time::timeout(DRAIN, async { while controllers.join_next().await.is_some() {} });
    if drained.await.is_err() {
        warn!(
            "passes under way did not end within {DRAIN:?}; they are dropped, and made again after the restart"
        );
    }
    context.metrics.leading(false);
    info!("stopped");
}
