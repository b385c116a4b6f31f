//! Writing status: by server-side apply, only when it differs, and compared with what was really written last.
//!
//! The cache may lag behind our own last write. Computing the next status from it would move transition times back and
//! forth, so what was written is remembered until the cache shows it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::context::Context;
use super::error::{Failure, is_status};
use crate::api::conditions::{Condition, Summary};

/// The longest that a status may take to be written.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Entry {
    resource_version: u64,
    status: Value,
}

/// The statuses that were written last, by uid, until the cache shows them.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<String, Entry>>);

impl Written {
    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, uid: String, resource_version: u64, status: Value) {
        self.entries().insert(uid, Entry { resource_version, status });
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.entries().remove(uid);
    }

    /// The newest status that is known of an object: its own, or the one that was written after it was cached.
    pub fn latest<K>(&self, object: &K) -> K::Status
    where
        K: Resource + HasStatus,
        K::Status: Clone + Default + DeserializeOwned,
    {
        let cached = || object.status().cloned().unwrap_or_default();
        let Some(uid) = &object.meta().uid else { return cached() };
        let mut entries = self.entries();
        match entries.get(uid) {
            Some(entry) if entry.resource_version > version(object) => {
                serde_json::from_value(entry.status.clone()).unwrap_or_else(|_| cached())
            }
            Some(_) => {
                entries.remove(uid);
                cached()
            }
            None => cached(),
        }
    }
}

/// Resource versions of one kind are ordered numbers (KEP-5504); one that is not counts as oldest.
fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Writes `status` if it differs from `previous`. Returns whether it did. An object that is gone is no error.
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
    K: Resource<DynamicType = ()> + HasStatus + Clone + Debug + DeserializeOwned,
    K::Status: Serialize + PartialEq,
{
    if previous == status {
        return Ok(false);
    }
    let value = serde_json::to_value(status).unwrap_or_default();
    apply::<K>(context, manager, object, value).await
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
    let patching = api.patch_status(&name, &parameters, &patch);
    let Ok(answer) = tokio::time::timeout(DEADLINE, patching).await else {
        return Err(Failure::TimedOut("write the status"));
    };
    match answer {
        Ok(patched) => {
            context.metrics.status_written(manager);
            if let Some(uid) = object.meta().uid.clone() {
                context.written.note(uid, version(&patched), status);
            }
            Ok(true)
        }
        Err(error) if is_status(&error, 404) => Ok(false),
        Err(error) => Err(Failure::api("write the status")(error)),
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
