//! What all controllers share: the client, the caches, the ledgers, and whether this process may write.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::Api;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource};

use super::backoff::Backoffs;
use super::error::Failure;
use super::events::Events;
use super::guarded::{Guarded, Kept};
use super::index::Index;
use super::lease::Guard;
use super::ledger::Probed;
use super::metrics::Metrics;
use super::poll::Polls;
use super::pool::Pool;
use super::queue::Queue;
use super::rollout::Rollouts;
use super::sights::Sights;
use super::status::Written;
use super::views::Views;
use crate::api::{SackerLedger, SackerPackage, SackerTag};
use crate::clock::Clock;

/// A controller that can be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// SackerTags: the one that writes tags.
    Tag,
    /// SackerPackages: reads ledgers, never writes them.
    Resolver,
    /// SackerLedgers.
    Ledger,
    /// Workloads: writes pins into pod templates. Off unless it is asked for.
    Rollout,
}

impl Name {
    /// Every controller.
    pub const ALL: [Self; 4] = [Self::Tag, Self::Resolver, Self::Ledger, Self::Rollout];

    /// The name in settings and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Resolver => "resolver",
            Self::Ledger => "ledger",
            Self::Rollout => "rollout",
        }
    }
}

/// What the controllers do differently from one installation to the next.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The controllers that run here.
    pub controllers: BTreeSet<Name>,
    /// The one namespace that is looked after; all by default.
    pub namespace: Option<String>,
    /// The name of this cluster in owner strings.
    pub cluster: String,
    /// Whether the annotation that names the requester is stamped by an admission policy, so that it may be believed.
    pub trust_requested_by: bool,
    /// How often the ledger is polled where its SackerLedger does not say; by default 30 s, and 2 m on s3.
    pub poll_interval: Option<Duration>,
}

/// One kind of ours: its objects, who asks for what, and who is to be looked at.
pub struct Kind<K>
where
    K: Kept<DynamicType = ()> + 'static,
{
    /// The objects, as last seen.
    pub cache: Store<Guarded<K>>,
    /// Who asks for which package.
    pub index: Index,
    /// Who is to be looked at.
    pub queue: Queue<Guarded<K>>,
}

impl<K> Kind<K>
where
    K: Kept<DynamicType = ()> + 'static,
{
    /// A kind whose objects are in `cache`.
    pub fn new(cache: Store<Guarded<K>>) -> Self {
        Self { cache, index: Index::default(), queue: Queue::default() }
    }
}

impl<K> fmt::Debug for Kind<K>
where
    K: Kept<DynamicType = ()> + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").finish_non_exhaustive()
    }
}

/// The objects of a namespaced kind in `namespace`, or in all.
pub fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// What all controllers share.
pub struct Context {
    /// The Kubernetes API.
    pub client: Client,
    /// How this installation behaves.
    pub policy: Policy,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Whether this process may write.
    pub guard: Guard,
    /// SackerLedgers.
    pub ledgers: Kind<SackerLedger>,
    /// SackerPackages.
    pub packages: Kind<SackerPackage>,
    /// SackerTags.
    pub tags: Kind<SackerTag>,
    /// Metadata of namespaces, for their labels.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Metadata of the ConfigMaps that we made.
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    /// Open ledgers.
    pub pool: Pool,
    /// What was last seen of each package.
    pub views: Views,
    /// The poll of each SackerLedger.
    pub polls: Polls,
    /// Workloads that pin something.
    pub rollouts: Rollouts,
    /// The SackerLedgers that were asked already.
    pub probed: Probed,
    /// The pauses of objects that failed.
    pub backoffs: Backoffs,
    /// The statuses that the caches may not show yet.
    pub written: Written,
    /// Since when followed tags are seen where they point.
    pub sights: Sights,
    /// Where events go.
    pub events: Events,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Context {
    /// Asked before every write: a process that no longer leads must not act.
    ///
    /// # Errors
    /// `NotLeading`.
    pub fn may_write(&self) -> Result<(), Failure> {
        if self.guard.allows() { Ok(()) } else { Err(Failure::NotLeading) }
    }

    /// The objects of a namespaced kind that are looked after here.
    pub fn scoped<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        scoped(&self.client, self.policy.namespace.as_deref())
    }

    /// Whether this controller runs here.
    pub fn runs(&self, name: Name) -> bool {
        self.policy.controllers.contains(&name)
    }

    /// What every owner string of this cluster begins with.
    pub fn owner_prefix(&self) -> String {
        format!("k8s:{}/", self.policy.cluster)
    }

    /// Something about a ledger as a whole may be wrong: its controller should ask it again.
    pub fn doubt(&self, ledger: &str) {
        let object = ObjectRef::new(ledger);
        if let Some(uid) = self.ledgers.cache.get(&object).and_then(|ledger| ledger.meta().uid.clone()) {
            self.probed.forget(&uid);
            self.ledgers.queue.wake(&object);
        }
    }

    /// Forgets what is kept about an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.backoffs.reset(uid);
        self.written.forget(uid);
        self.sights.forget(uid);
        self.probed.forget(uid);
    }
}
