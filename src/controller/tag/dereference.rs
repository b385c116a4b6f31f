//! All reads for one SackerTag: Kubernetes' caches first, the access rule next, the ledger last and only if it is granted.

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use super::decide::{ClusterView, LedgerState, LedgerView, Mover, Pointer, Target, Wish, before_ledger};
use super::follow;
use super::history;
use super::rival::{Claimant, better_claim};
use super::seen;
use crate::api::conditions::{ConditionType, Summary, find};
use crate::api::{EventStatus, Reason, SackerTag, SackerTagSpec, SackerTagStatus};
use crate::controller::cluster::{self, Ledger};
use crate::controller::context::Context;
use crate::controller::duration;
use crate::controller::guarded::Guarded;
use crate::controller::pool::OpenLedger;
use crate::controller::views::Seen;
use crate::error::{Error, Result};
use crate::model::{AccessRule, Expected, PackageName, TagName, TagState, Verb, Version, VersionRecord};

/// The names in a spec, checked.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) package: PackageName,
    pub(super) tag: TagName,
}

impl Names {
    /// Checks what the schema should have checked already.
    pub(super) fn of(spec: &SackerTagSpec) -> std::result::Result<Self, Summary> {
        let names = || -> Result<Self> {
            check_target(spec)?;
            Ok(Self { package: PackageName::new(&spec.package)?, tag: TagName::new(&spec.tag)? })
        };
        names().map_err(|error| Summary::stalled(Reason::InvalidSpec, error.to_string()))
    }
}

fn check_target(spec: &SackerTagSpec) -> Result<()> {
    match (&spec.follow, spec.version) {
        (Some(_), Some(_)) | (None, None) => Err(Error::invalid("give exactly one of version and follow")),
        (None, Some(version)) if Version::new(version).is_none() => {
            Err(Error::invalid(format!("version {version} is not positive")))
        }
        (Some(follow), None) if duration::parse(&follow.soak).is_none() => {
            Err(Error::invalid(format!("spec.follow.soak '{}' is not like '30s' or '1h30m'", follow.soak)))
        }
        (Some(_), None) | (None, Some(_)) => Ok(()),
    }
}

/// Whether what a poll saw may do instead of reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Where it settles that nothing is to be done ([`super::seen`]).
    Views,
    /// No: the ledger is asked.
    Ledger,
}

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) names: Names,
    pub(super) wish: Wish,
    pub(super) cluster: ClusterView,
    /// Nothing where the ledger was not asked.
    pub(super) ledger: Option<Result<LedgerFacts>>,
    /// Its status was settled before a start or an outage, and the first look of the poll at its package since then is still
    /// to come. It wakes the object if anything is to be done: thousands that ask for themselves would be the next outage.
    pub(super) is_awaited: bool,
    /// The ledger, where it may be asked.
    pub(super) open: Option<Arc<OpenLedger>>,
}

/// What was read from the ledger, for the decision and for the status.
#[derive(Debug)]
pub(super) struct LedgerFacts {
    pub(super) view: LedgerView,
    /// The tag as it is.
    pub(super) state: Option<TagState>,
    /// The newest events, oldest first.
    pub(super) events: Vec<EventStatus>,
    /// The record that the tag points to.
    pub(super) record: Option<VersionRecord>,
    /// The record that it should point to.
    pub(super) target: Option<VersionRecord>,
    /// Since when the followed tag points to what soaks.
    pub(super) candidate: Option<(Version, Timestamp)>,
}

/// The owner string of a SackerTag.
pub(super) fn owner(context: &Context, object: &SackerTag) -> String {
    format!("{}{}", context.owner_prefix(), title(object))
}

/// `<namespace>/<name>`.
pub(super) fn title(object: &SackerTag) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Reads what Kubernetes says, and the ledger if [`before_ledger`] leaves anything to it.
pub(super) async fn facts(
    context: &Context,
    object: &SackerTag,
    names: &Names,
    status: &SackerTagStatus,
    trust: Trust,
) -> Facts {
    let spec = &object.spec;
    let applied = status.applied_generation;
    let wish = Wish {
        package: spec.package.clone(),
        tag: spec.tag.clone(),
        me: owner(context, object),
        cluster_prefix: context.owner_prefix(),
        expected: spec.expected_version.and_then(Version::new),
        drift: spec.drift_policy,
        was_applied: applied.is_some() && applied == object.metadata.generation,
    };
    let (cluster, open) = cluster_view(context, object, names).await;
    let mut facts = Facts { names: names.clone(), wish, cluster, ledger: None, is_awaited: false, open };
    if before_ledger(&facts.wish, &facts.cluster).is_none()
        && let Some(open) = &facts.open
    {
        let me = &facts.wish.me;
        if trust == Trust::Views && facts.wish.was_applied && spec.follow.is_none() {
            match context.views.get(&spec.ledger, &names.package).as_deref() {
                Some(Seen::View(view)) => {
                    facts.ledger = seen::facts(view, &names.tag, spec, status, me).map(Ok);
                }
                Some(Seen::Absent | Seen::Failed { .. }) => {}
                None => facts.is_awaited = was_settled(object, status),
            }
        }
        if facts.ledger.is_none() && !facts.is_awaited {
            facts.ledger = Some(ledger_facts(context, open, object, names, status, me).await);
        }
    }
    facts
}

/// Whether the status says that this generation is in force, or was before the ledger went away.
fn was_settled(object: &SackerTag, status: &SackerTagStatus) -> bool {
    find(&status.conditions, ConditionType::Ready).is_some_and(|ready| {
        ready.observed_generation == object.metadata.generation
            && (ready.status == "True" || ready.reason == Reason::LedgerUnavailable.as_str())
    })
}

async fn cluster_view(
    context: &Context,
    object: &SackerTag,
    names: &Names,
) -> (ClusterView, Option<Arc<OpenLedger>>) {
    let namespace = object.namespace().unwrap_or_default();
    let (ledger, open, access) = match cluster::ledger(context, &object.spec.ledger).await {
        Ledger::Missing(message) => (LedgerState::Missing(message), None, Vec::new()),
        Ledger::NotReady(message) => (LedgerState::NotReady(message), None, Vec::new()),
        Ledger::Down { message, access } => (LedgerState::Down(message), None, access),
        Ledger::Ready { open, access } => (LedgerState::Ready, Some(open), access),
    };
    let denial = cluster::denial(context, &access, &namespace, &names.package, Verb::Tag);
    let rival = match denial {
        // Who is not granted the package learns nothing about who else uses it.
        Some(_) => None,
        None => rival(context, object, names, &access),
    };
    (ClusterView { suspended: object.spec.suspend, ledger, denial, rival }, open)
}

/// The SackerTag with a better claim to the same tag, from the cache. Should the cache be behind, the ledger's owner
/// decides all the same.
fn rival(context: &Context, me: &SackerTag, names: &Names, access: &[AccessRule]) -> Option<String> {
    let claimant = |object: &SackerTag| {
        let owns = object.status.as_ref().and_then(|status| status.owner.as_ref());
        Claimant {
            waits: owns != Some(&owner(context, object)),
            created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            uid: object.uid().unwrap_or_default(),
            name: title(object),
        }
    };
    let is_rival = |other: &Guarded<SackerTag>| {
        other.spec().is_some_and(|spec| spec.tag == me.spec.tag && !spec.suspend)
            && other.meta().uid != me.metadata.uid
            && other.meta().deletion_timestamp.is_none()
            && {
                let namespace = other.namespace().unwrap_or_default();
                cluster::denial(context, access, &namespace, &names.package, Verb::Tag).is_none()
            }
    };
    let same_tag = context.tags.index.of_tag(&me.spec.ledger, &me.spec.package, &me.spec.tag);
    let others: Vec<Claimant> = same_tag
        .into_iter()
        .filter_map(|(namespace, name)| context.tags.cache.get(&ObjectRef::new(&name).within(&namespace)))
        .filter(|other| is_rival(other))
        .filter_map(|other| other.read().ok().map(|other| claimant(&other)))
        .collect();
    better_claim(&claimant(me), &others).map(|other| other.name.clone())
}

async fn ledger_facts(
    context: &Context,
    open: &Arc<OpenLedger>,
    object: &SackerTag,
    names: &Names,
    status: &SackerTagStatus,
    me: &str,
) -> Result<LedgerFacts> {
    let (spec, Names { package, tag }) = (&object.spec, names);
    let state = open.call(|ledger| ledger.tag(package, tag)).await?;
    if state.is_none() && status.seq.is_some() {
        // Tags leave a tombstone. One that vanished speaks of a lost mount rather than of a lost tag: ask the ledger
        // itself before believing it.
        open.probe().await?;
    }
    let events = match &state {
        Some(state) => history::newest(open, names, status, state).await?,
        None => Vec::new(),
    };
    let (target, candidate) = match (&spec.follow, spec.version.and_then(Version::new)) {
        (Some(follow), _) => {
            let uid = object.uid().unwrap_or_default();
            follow::target(context, open, package, follow, &uid, status).await?
        }
        (None, Some(version)) => (Target::Version(version), None),
        (None, None) => (Target::Absent("the spec names no version".to_owned()), None),
    };
    let (target, record_of_target) = match target {
        Target::Version(version) => match record(open, package, version).await {
            Ok(record) => (Target::Version(version), Some(record)),
            Err(error) if error.is_not_found() => (Target::Absent(error.to_string()), None),
            Err(error) => return Err(error),
        },
        other => (other, None),
    };
    let record_of_pointer = match state.as_ref().and_then(|state| state.version) {
        None => None,
        Some(version) if record_of_target.as_ref().is_some_and(|record| record.version == version) => {
            record_of_target.clone()
        }
        Some(version) => match record(open, package, version).await {
            Ok(record) => Some(record),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        },
    };
    let pointer = state.as_ref().map(|state| pointer(state, &events, me));
    Ok(LedgerFacts {
        view: LedgerView { pointer, target },
        state,
        events,
        record: record_of_pointer,
        target: record_of_target,
        candidate,
    })
}

async fn record(open: &Arc<OpenLedger>, package: &PackageName, version: Version) -> Result<VersionRecord> {
    open.call(|ledger| ledger.version(package, version)).await
}

pub(super) fn pointer(state: &TagState, events: &[EventStatus], me: &str) -> Pointer {
    let is_ours = |event: &EventStatus| history::is_ours(event, me);
    let mover = match (&state.event, history::last_move(events)) {
        (None, _) => Mover::Other("a 2015 client, which leaves no name".to_owned()),
        (Some(_), Some(event)) if !is_ours(event) => Mover::Other(history::who(event)),
        (Some(_), _) => Mover::Us,
    };
    let own = events.iter().rev().find(|event| is_ours(event));
    Pointer {
        version: state.version,
        expected: match (&state.event, state.version) {
            // Written by a 2015 client: the ledger gives it a number only when it is changed.
            (None, Some(version)) => Expected::Version(version),
            _ => Expected::Seq(state.seq()),
        },
        owner: state.owner().map(str::to_owned),
        hold: state.hold().cloned(),
        mover,
        own_write: own.and_then(|event| event.at.parse().ok()),
    }
}
