//! Writing status: by server-side apply, only when it differs, and compared with what was really written last.
//!
//! What was written is remembered for as long as the object lives, for two reasons. The cache may lag behind our own last
//! write: computing the next status from it would move transition times back and forth. And somebody may edit a status:
//! such an edit is noticed, never decided from, and undone.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::context::Context;
use super::error::{Failure, is_status};
use super::guarded::{Guarded, Kept};
use crate::api::conditions::{Condition, Summary};
use crate::crash_point::around;

/// How often an object's status is corrected, at most. Replicas that run without an election and disagree must not write
/// in circles.
pub(super) const CORRECTIONS: Duration = Duration::from_secs(10);

/// The longest that a status may take to be written.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Entry {
    resource_version: u64,
    /// As JSON, which takes the least space: there is one per object, and it is rarely looked into.
    status: Arc<str>,
    /// Whether another one is on its way, which the watch may show before the answer is here.
    is_writing: bool,
    /// When (monotonic) somebody else's was last corrected.
    corrected: Option<Duration>,
}

impl Entry {
    fn status<S: DeserializeOwned>(&self) -> Option<S> {
        serde_json::from_str(&self.status).ok()
    }

    /// Whether an object of this version may have another status because somebody else wrote it.
    fn is_older_than(&self, object: &impl Resource) -> bool {
        !self.is_writing && version(object) > self.resource_version
    }
}

/// The statuses that this process wrote, or found to be right, last; by uid.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<String, Entry>>);

impl Written {
    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, uid: &str) {
        if let Some(entry) = self.entries().get_mut(uid) {
            entry.is_writing = true;
        }
    }

    fn fail(&self, uid: &str) {
        if let Some(entry) = self.entries().get_mut(uid) {
            entry.is_writing = false;
        }
    }

    fn note(&self, uid: String, resource_version: u64, status: &impl Serialize) {
        let status = serde_json::to_string(status).unwrap_or_default().into();
        let mut entries = self.entries();
        let corrected = entries.get(&uid).and_then(|entry| entry.corrected);
        entries.insert(uid, Entry { resource_version, status, is_writing: false, corrected });
    }

    /// Notes a status that was found as it should be, unless a later one is known.
    fn confirm<K: Resource>(&self, object: &K, status: &impl Serialize) {
        let Some(uid) = &object.meta().uid else { return };
        if !self.entries().contains_key(uid) {
            self.note(uid.clone(), version(object), status);
        }
    }

    /// Whether somebody else wrote the status that the cache shows. One that is as we wrote it need not be kept twice.
    pub fn is_forged<K>(&self, object: &Guarded<K>) -> bool
    where
        K: Kept + HasStatus<Status: PartialEq + Serialize>,
    {
        let mut entries = self.entries();
        let Some(entry) = object.meta().uid.as_ref().and_then(|uid| entries.get_mut(uid)) else {
            return false;
        };
        if entry.is_writing || version(object) < entry.resource_version {
            return false;
        }
        let Some(shown) = object.status_text() else {
            return object.spec().is_some() && entry.is_older_than(object);
        };
        // What has this very version is what was noted; 0 is no version.
        let is_noted = entry.resource_version > 0 && version(object) == entry.resource_version;
        if is_noted || *shown == entry.status || object.status() == entry.status() {
            entry.status = Arc::clone(shown);
            return false;
        }
        entry.is_older_than(object)
            && is_different(object.status().as_ref(), entry.status::<K::Status>().as_ref())
    }

    /// Whether a correction may be made at `now` (monotonic), which then counts as made.
    fn may_correct(&self, uid: &str, now: Duration) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(uid) else { return true };
        let is_early = entry.corrected.is_some_and(|last| now.saturating_sub(last) < CORRECTIONS);
        if !is_early {
            entry.corrected = Some(now);
        }
        !is_early
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.entries().remove(uid);
    }

    /// The status to go on from: what this process wrote last, else the object's own.
    pub fn latest<K>(&self, object: &K) -> K::Status
    where
        K: Resource + HasStatus<Status: Clone + Default + DeserializeOwned> + 'static,
    {
        let uid = object.meta().uid.as_deref().unwrap_or_default();
        let ours = self.entries().get(uid).and_then(Entry::status);
        ours.unwrap_or_else(|| object.status().cloned().unwrap_or_default())
    }

    /// Whether somebody else wrote the object's status after us.
    ///
    /// Times do not count: replicas that run without an election would correct each other's for ever.
    fn is_foreign<K>(&self, object: &K) -> bool
    where
        K: Resource + HasStatus<Status: Clone + PartialEq + Serialize + DeserializeOwned> + 'static,
    {
        let entries = self.entries();
        let Some(entry) = object.meta().uid.as_ref().and_then(|uid| entries.get(uid)) else { return false };
        entry.is_older_than(object) && is_different(object.status(), entry.status().as_ref())
    }
}

/// Whether two statuses differ in more than times.
fn is_different<S: PartialEq + Serialize>(one: Option<&S>, other: Option<&S>) -> bool {
    let value = |status| without_times(serde_json::to_value(status).unwrap_or_default());
    one != other && value(one) != value(other)
}

/// A status without the times that say only when somebody looked.
fn without_times(mut status: Value) -> Value {
    if let Some(status) = status.as_object_mut() {
        status.remove("lastPollTime");
        let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
            condition.remove("lastTransitionTime");
        }
    }
    status
}

/// Resource versions of one kind are ordered numbers (KEP-5504); one that is not counts as oldest.
fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Writes `status` if it differs from `previous`, or if somebody else wrote another one. Returns whether it did. An object
/// that is gone is no error.
///
/// # Errors
/// `Api`, `NotLeading`.
pub async fn write<K>(
    context: &Context,
    manager: &'static str,
    object: &K,
    previous: &K::Status,
    status: &K::Status,
) -> Result<bool, Failure>
where
    K: Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned + 'static,
    K::Status: Clone + Serialize + PartialEq + DeserializeOwned,
{
    let is_foreign = context.written.is_foreign(object);
    if previous == status && !is_foreign {
        context.written.confirm(object, status);
        return Ok(false);
    }
    let value = serde_json::to_value(status).unwrap_or_default();
    if is_foreign {
        correct::<K>(context, manager, object, value).await
    } else {
        apply::<K>(context, manager, object, value).await
    }
}

/// Writes the right status over one that somebody else wrote. Where the right one is there already, another replica was
/// faster.
async fn correct<K>(
    context: &Context,
    manager: &'static str,
    object: &impl Resource,
    right: Value,
) -> Result<bool, Failure>
where
    K: Resource<DynamicType = ()>,
{
    let uid = object.meta().uid.clone().unwrap_or_default();
    if !context.written.may_correct(&uid, context.clock.monotonic()) {
        return Ok(false);
    }
    let name = object.name_any();
    let api = dynamic::<K>(context, object.namespace().as_deref());
    let live = api.get_opt(&name).await.map_err(Failure::api("read the object"))?;
    let Some(live) = live.filter(|live| live.metadata.uid == object.meta().uid) else { return Ok(false) };
    let found = live.data.get("status").cloned().unwrap_or_default();
    if without_times(found.clone()) == without_times(right.clone()) {
        context.written.note(uid, version(&live), &found);
        return Ok(false);
    }
    tracing::info!(kind = %K::kind(&()), object = %name, "somebody else wrote the status; it is corrected");
    apply::<K>(context, manager, object, right).await
}

/// What an apply left standing, as a merge patch: it takes away only what we once applied ourselves.
fn remains(found: &Value, right: &Value) -> Option<Value> {
    let (found, right) = (found.as_object()?, right.as_object()?);
    let surplus = found.keys().filter(|key| !right.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let different = right.iter().filter(|(key, value)| found.get(*key) != Some(*value));
    let patch: serde_json::Map<String, Value> =
        surplus.chain(different.map(|(key, value)| (key.clone(), value.clone()))).collect();
    (!patch.is_empty()).then(|| Value::from(patch))
}

async fn apply<K>(
    context: &Context,
    manager: &'static str,
    object: &impl Resource,
    status: Value,
) -> Result<bool, Failure>
where
    K: Resource<DynamicType = ()>,
{
    context.may_write()?;
    let name = object.name_any();
    // The uid keeps the status of a deleted object from landing on its successor.
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "uid": object.meta().uid },
        "status": status,
    });
    let api = dynamic::<K>(context, object.namespace().as_deref());
    // Our own status is ours alone: whatever stands there by hand goes.
    let parameters = PatchParams::apply(manager).force();
    let patch = Patch::Apply(&body);
    let uid = object.meta().uid.clone().unwrap_or_default();
    context.written.begin(&uid);
    let answer = around("operator.status.apply", patched(&api, &name, &parameters, &patch)).await;
    let answer = match answer {
        Ok(Some(applied)) => {
            context.metrics.status_written(manager);
            let found = applied.data.get("status").cloned().unwrap_or_default();
            match remains(&found, &status) {
                None => Ok(Some(applied)),
                Some(rest) => {
                    let body = json!({ "metadata": { "uid": object.meta().uid }, "status": rest });
                    let (parameters, patch) = (PatchParams::default(), Patch::Merge(&body));
                    around("operator.status.rest", patched(&api, &name, &parameters, &patch)).await
                }
            }
        }
        other => other,
    };
    match &answer {
        Ok(Some(written)) => context.written.note(uid, version(written), &status),
        Ok(None) | Err(_) => context.written.fail(&uid),
    }
    answer.map(|written| written.is_some())
}

/// One patch of a status; nothing when the object is gone.
async fn patched(
    api: &Api<DynamicObject>,
    name: &str,
    parameters: &PatchParams,
    patch: &Patch<&Value>,
) -> Result<Option<DynamicObject>, Failure> {
    match tokio::time::timeout(DEADLINE, api.patch_status(name, parameters, patch)).await {
        Err(_) => Err(Failure::TimedOut("write the status")),
        Ok(Ok(object)) => Ok(Some(object)),
        Ok(Err(error)) if is_status(&error, 404) => Ok(None),
        Ok(Err(error)) => Err(Failure::api("write the status")(error)),
    }
}

fn dynamic<K: Resource<DynamicType = ()>>(context: &Context, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<K>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(context.client.clone(), namespace, &resource),
        None => Api::all_with(context.client.clone(), &resource),
    }
}

/// Writes only conditions, for an object whose spec or status cannot be read as its type. The rest of the live status
/// stays: a server-side apply without it would remove it.
///
/// # Errors
/// `Api`, `NotLeading`.
pub async fn write_conditions<K>(
    context: &Context,
    manager: &'static str,
    object: &impl Resource,
    summary: &Summary,
) -> Result<(), Failure>
where
    K: Resource<DynamicType = ()>,
{
    let api = dynamic::<K>(context, object.namespace().as_deref());
    let live = api.get_opt(&object.name_any()).await.map_err(Failure::api("read the object"))?;
    let Some(live) = live.filter(|live| live.metadata.uid == object.meta().uid) else { return Ok(()) };
    let before = live.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let conditions: Vec<Condition> =
        serde_json::from_value(before.get("conditions").cloned().unwrap_or_default()).unwrap_or_default();
    // Of the object that was looked at, not of the live one: the live one may have a newer spec.
    let generation = object.meta().generation;
    let mut status = before.clone();
    status["conditions"] = json!(summary.conditions(&conditions, generation, context.clock.now()));
    status["observedGeneration"] = json!(generation);
    if status != before {
        apply::<K>(context, manager, &live, status).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{SackerLedger, SackerLedgerSpec, SackerLedgerStatus};

    fn object(resource_version: u64, status: &SackerLedgerStatus) -> SackerLedger {
        let spec = json!({ "ledger": "file:///ledger" });
        let spec: SackerLedgerSpec = serde_json::from_value(spec).expect("a spec");
        let mut object = SackerLedger::new("default", spec);
        object.metadata.uid = Some("uid".into());
        object.metadata.resource_version = Some(resource_version.to_string());
        object.status = Some(status.clone());
        object
    }

    fn status(packages: i64, polled: &str) -> SackerLedgerStatus {
        SackerLedgerStatus {
            packages: Some(packages),
            last_poll_time: Some(polled.into()),
            ..SackerLedgerStatus::default()
        }
    }

    #[test]
    fn only_a_newer_and_different_status_is_foreign() {
        let written = Written::default();
        let (ours, forged) = (status(1, "2026-11-21T10:00:00Z"), status(9, "2026-11-21T10:00:00Z"));
        assert!(!written.is_foreign(&object(5, &forged)), "nothing is known yet");
        assert_eq!(written.latest(&object(5, &forged)), forged);

        written.confirm(&object(5, &ours), &ours);
        assert!(!written.is_foreign(&object(4, &forged)), "the cache is behind");
        assert!(!written.is_foreign(&object(6, &ours)), "something else of the object changed");
        assert!(!written.is_foreign(&object(6, &status(1, "2026-11-21T11:00:00Z"))), "a time");
        assert!(written.is_foreign(&object(6, &forged)));
        assert_eq!(written.latest(&object(6, &forged)), ours, "a forged one is never gone on from");

        written.begin("uid");
        assert!(!written.is_foreign(&object(6, &forged)), "it may be the one that is being written");
        written.note("uid".into(), 6, &serde_json::to_value(&forged).expect("JSON"));
        assert!(!written.is_foreign(&object(6, &forged)));
        written.forget("uid");
        assert!(!written.is_foreign(&object(9, &ours)));
    }

    #[test]
    fn what_the_cache_shows_is_kept_once() {
        let written = Written::default();
        let shown = |object: &SackerLedger| -> Guarded<SackerLedger> {
            serde_json::from_value(serde_json::to_value(object).expect("JSON")).expect("an object")
        };
        let is_shared = |object: &Guarded<SackerLedger>| {
            let entries = written.entries();
            object.status_text().is_some_and(|text| Arc::ptr_eq(text, &entries["uid"].status))
        };
        let (ours, forged) = (status(1, "2026-11-21T10:00:00Z"), status(9, "2026-11-21T10:00:00Z"));
        assert!(!written.is_forged(&shown(&object(5, &forged))), "nothing is known yet");
        written.confirm(&object(5, &ours), &ours);
        for (resource_version, found, is_forged) in
            [(4, &ours, false), (4, &forged, false), (6, &forged, true)]
        {
            let found = shown(&object(resource_version, found));
            assert_eq!(written.is_forged(&found), is_forged, "{resource_version}");
            assert!(!is_shared(&found), "{resource_version}");
        }
        let found = shown(&object(6, &ours));
        assert!(!written.is_forged(&found) && is_shared(&found));
        let found = shown(&object(6, &status(1, "2026-11-21T11:00:00Z")));
        assert!(!written.is_forged(&found) && !is_shared(&found), "a time");
        let mut bare = object(7, &ours);
        bare.status = None;
        assert!(written.is_forged(&shown(&bare)), "it was taken away");
        assert!(written.is_forged(&shown(&object(7, &forged))));
        assert_eq!(written.latest(&object(7, &forged)), ours, "a forged one is never gone on from");
    }

    #[test]
    fn corrections_are_rare() {
        let written = Written::default();
        let ours = status(1, "2026-11-21T10:00:00Z");
        written.confirm(&object(5, &ours), &ours);
        assert!(written.may_correct("uid", Duration::from_secs(1)));
        written.note("uid".into(), 6, &json!({}));
        assert!(!written.may_correct("uid", Duration::from_secs(2)));
        assert!(written.may_correct("uid", Duration::from_secs(11)));
    }

    #[test]
    fn what_an_apply_left_is_removed() {
        let right = json!({ "version": 1, "conditions": [{ "type": "Ready" }] });
        assert_eq!(remains(&right, &right), None);
        let found =
            json!({ "version": 1, "conditions": [{ "type": "Ready" }, { "type": "X" }], "candidate": {} });
        let rest = json!({ "candidate": null, "conditions": [{ "type": "Ready" }] });
        assert_eq!(remains(&found, &right), Some(rest));
    }
}
