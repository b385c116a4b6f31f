//! Whom a change concerns: from each watch to the queues of the controllers.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::core::PartialObjectMeta;
use kube::core::object::HasStatus;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;

use super::context::Context;
use super::guarded::{Guarded, Kept};
use super::index::{Key, Subject};
use super::watch::Change;
use crate::api::conditions::{ConditionType, find};
use crate::api::{RECONCILE_REQUESTED_AT, REQUESTED_BY, SackerLedger, SackerPackage, SackerTag};
use crate::model::LedgerUri;

fn key(object: &impl Resource) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// What of an object's metadata and spec calls for a pass. Not its status: our own writes would call for the next.
#[derive(PartialEq)]
struct Asks {
    generation: Option<i64>,
    deleting: bool,
    finalizers: Option<Vec<String>>,
    requested_at: Option<String>,
    requested_by: Option<String>,
}

fn asks(object: &impl Resource) -> Asks {
    let metadata = object.meta();
    let annotation =
        |name| metadata.annotations.as_ref().and_then(|annotations| annotations.get(name)).cloned();
    Asks {
        generation: metadata.generation,
        deleting: metadata.deletion_timestamp.is_some(),
        finalizers: metadata.finalizers.clone(),
        requested_at: annotation(RECONCILE_REQUESTED_AT),
        requested_by: annotation(REQUESTED_BY),
    }
}

/// Whether a change is somebody's edit of a status that is ours to write.
fn is_forged<K>(context: &Context, change: &Change<Guarded<K>>) -> bool
where
    K: Kept + HasStatus<Status: PartialEq + Serialize>,
{
    change.after.as_ref().is_some_and(|after| context.written.is_forged(after))
}

fn tag_subject(object: &Guarded<SackerTag>) -> Option<(Subject, &str)> {
    object.spec().map(|spec| ((spec.ledger.clone(), spec.package.clone()), spec.tag.as_str()))
}

/// A SackerTag changed: itself, and all that claim the same tag when its claim did, since one of them may have it now. It is
/// among them: its last pass may have weighed the claims before its own was known here.
pub(super) fn tag(context: &Context, change: &Change<Guarded<SackerTag>>) {
    let Some(object) = change.object() else { return };
    let itself = key(object);
    let subject = tag_subject(object);
    context.tags.index.set(&itself, change.after.as_deref().and_then(tag_subject));
    if is_forged(context, change) || change.differs(asks) {
        context.tags.queue.wake(&ObjectRef::from_obj(object));
    }
    let claims = |object: &Guarded<SackerTag>| {
        let suspended = object.spec().is_some_and(|spec| spec.suspend);
        let owner = object.status().and_then(|status| status.owner);
        (object.meta().deletion_timestamp.is_some(), suspended, owner)
    };
    if let Some(((ledger, package), tag)) = subject.filter(|_| change.differs(claims)) {
        let claimants = context.tags.index.of_tag(&ledger, &package, tag);
        if claimants.iter().any(|claimant| *claimant != itself) {
            context.tags.queue.wake_all(claimants);
        }
    }
    if let (None, Some(uid)) = (&change.after, &object.meta().uid) {
        context.forget(uid);
    }
}

/// A SackerPackage changed.
pub(super) fn package(context: &Context, change: &Change<Guarded<SackerPackage>>) {
    let Some(object) = change.object() else { return };
    let subject = |object: &Guarded<SackerPackage>| {
        object.spec().map(|spec| ((spec.ledger.clone(), spec.package.clone()), ""))
    };
    context.packages.index.set(&key(object), change.after.as_deref().and_then(subject));
    if is_forged(context, change) || change.differs(asks) {
        context.packages.queue.wake(&ObjectRef::from_obj(object));
    }
    if let (None, Some(uid)) = (&change.after, &object.meta().uid) {
        context.forget(uid);
    }
}

/// A SackerLedger changed: itself, and everybody who uses it when its spec or its readiness did.
pub(super) fn ledger(context: &Arc<Context>, change: &Change<Guarded<SackerLedger>>) {
    let Some(object) = change.object() else { return };
    let name = object.name_any();
    if is_forged(context, change) || change.differs(asks) {
        context.ledgers.queue.wake(&ObjectRef::from_obj(object));
    }
    let readiness = |object: &Guarded<SackerLedger>| {
        let conditions = object.status().map(|status| status.conditions).unwrap_or_default();
        let ready = find(&conditions, ConditionType::Ready)
            .map(|ready| (ready.status.clone(), ready.observed_generation, ready.reason.clone()));
        (object.meta().generation, ready)
    };
    if change.differs(readiness) {
        let readable = change.after.as_deref().and_then(|object| object.read().ok());
        if context.guard.allows() {
            context.polls.follow(context, &name, readable.as_ref());
        }
        users(context, &name);
        let uri = |object: &Guarded<SackerLedger>| object.spec()?.ledger.parse::<LedgerUri>().ok();
        let used: HashSet<LedgerUri> =
            context.ledgers.cache.state().iter().filter_map(|object| uri(object)).collect();
        context.pool.retain(&used);
    }
    if let (None, Some(uid)) = (&change.after, &object.meta().uid) {
        context.forget(uid);
    }
}

/// Wakes everybody who uses a SackerLedger.
fn users(context: &Context, ledger: &str) {
    context.tags.queue.wake_all(context.tags.index.of_ledger(ledger));
    context.packages.queue.wake_all(context.packages.index.of_ledger(ledger));
    context.rollouts.wake_ledger(ledger);
}

/// A ledger went down or came back: its SackerLedgers, and everybody who uses them.
pub(super) fn health(context: &Arc<Context>, uri: &LedgerUri) {
    for object in context.ledgers.cache.state() {
        let Ok(ledger) = object.read() else { continue };
        if ledger.spec.ledger.parse::<LedgerUri>().ok().as_ref() == Some(uri) {
            let name = object.name_any();
            context.ledgers.queue.wake(&ObjectRef::new(&name));
            // What was seen before an outage is old after it.
            context.views.forget(&name);
            users(context, &name);
            // Asks for a round: what changed meanwhile should not wait for the next one.
            context.polls.follow(context, &name, Some(&ledger));
        }
    }
}

/// A namespace changed: when its labels did, what its objects may do may have changed.
pub(super) fn namespace(context: &Context, change: &Change<PartialObjectMeta<Namespace>>) {
    let Some(object) = change.object() else { return };
    if change.differs(|object| object.metadata.labels.clone()) {
        let name = object.name_any();
        context.tags.queue.wake_all(context.tags.index.of_namespace(&name));
        context.packages.queue.wake_all(context.packages.index.of_namespace(&name));
        context.rollouts.wake_namespace(&name);
    }
}

/// One of our ConfigMaps changed or went: its SackerPackage.
pub(super) fn config_map(context: &Context, change: &Change<PartialObjectMeta<ConfigMap>>) {
    let Some(object) = change.object() else { return };
    if !change.differs(|object| object.metadata.resource_version.clone()) {
        return;
    }
    let Some(namespace) = object.namespace() else { return };
    let owners = object.owner_references().iter();
    for owner in owners.filter(|owner| owner.kind == SackerPackage::kind(&())) {
        context.packages.queue.wake(&ObjectRef::new(&owner.name).within(&namespace));
    }
}
