//! The whole operator: waits for its kinds, watches, takes the lease, runs the controllers, and stops in order.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::full_jitter;
use super::caches::{Writers, kinds, watch};
use super::context::{Context, Kind, Name, Policy};
use super::events::Events;
use super::http::{self, Readiness};
use super::lease::{Elector, Guard, Lost, Timing};
use super::metrics::Metrics;
use super::pool::{ConnectOpener, Pool};
use super::{driver, rollout, route};
use crate::api::{SackerLedger, SackerPackage, SackerTag};
use crate::clock::Clock;
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};

/// How long passes under way may take after the stop signal.
const DRAIN: Duration = Duration::from_secs(20);

/// The shortest pause between two attempts to read what the start needs.
const RETRY: Duration = Duration::from_secs(1);

/// How the operator runs. All of it comes from the command line and the environment.
#[derive(Debug)]
pub struct Settings {
    /// The controllers that run here.
    pub controllers: BTreeSet<Name>,
    /// The one namespace that is looked after; all by default.
    pub namespace: Option<String>,
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
    kinds(&client, settings.namespace.as_deref(), readiness).await;
    readiness.has("kinds");
    let cluster = cluster_name(&client, settings.cluster_name.clone(), readiness).await;
    let instance = settings.election.as_ref().map_or("sacker-operator", |election| &election.identity);
    let (pool, mut unwell) = Pool::new(Arc::new(ConnectOpener(settings.connect.clone())));
    let context = Arc::new(Context {
        events: Events::new(client.clone(), instance),
        client,
        policy: Policy {
            controllers: settings.controllers.clone(),
            namespace: settings.namespace.clone(),
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
        rollouts: rollout::Rollouts::default(),
        probed: super::ledger::Probed::default(),
        backoffs: super::backoff::Backoffs::default(),
        written: super::status::Written::default(),
        sights: super::sights::Sights::default(),
        metrics,
    });
    let mut watches = JoinSet::new();
    let lists = watch(&mut watches, &context, settings.watch_timeout, writers);
    let health = context.clone();
    watches.spawn(async move {
        while let Some(uri) = unwell.recv().await {
            route::health(&health, &uri);
        }
    });
    lists.observed().await;
    readiness.has("caches");
    Ok((context, watches))
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
        tokio::time::sleep(full_jitter(RETRY, RETRY * 10, failures)).await;
        failures += 1;
    }
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
        if let Ok(ledger) = object.read() {
            let name = ledger.metadata.name.clone().unwrap_or_default();
            context.polls.follow(context, &name, Some(&ledger));
        }
    }
    let mut controllers = JoinSet::new();
    for name in &context.policy.controllers {
        match name {
            Name::Tag => controllers.spawn(driver::run::<SackerTag>(context.clone(), stop.clone())),
            Name::Resolver => controllers.spawn(driver::run::<SackerPackage>(context.clone(), stop.clone())),
            Name::Ledger => controllers.spawn(driver::run::<SackerLedger>(context.clone(), stop.clone())),
            Name::Rollout => controllers.spawn(rollout::run(context.clone(), stop.clone())),
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
