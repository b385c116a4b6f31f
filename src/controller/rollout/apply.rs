//! The writes: server-side apply of annotations of a pod template, and of nothing else.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, ObjectMeta, PartialObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::workload::{Id, Templated, Workload, owned};
use crate::api::{RESOLVED_PREFIX, ROLLOUT_ENABLED, ROLLOUT_LABEL, ROLLOUT_MANAGER};
use crate::controller::context::Context;
use crate::controller::error::{Failure, is_status};
use crate::crash_point::around;

/// Who has the pins of a workload that is not ours any more: an owner that writes nothing, so nobody has a conflict with it
/// for long, and what the pods run stays.
const FORMER_MANAGER: &str = "sacker-rollout-former";

/// Objects per list request, as a watch has it.
const PAGE: u32 = 500;

fn api(context: &Context, id: &Id) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", id.kind.as_str()));
    Api::namespaced_with(context.client.clone(), &id.namespace, &resource)
}

/// With the uid, so that a workload that went is not made again from its annotations.
fn body(id: &Id, uid: &str, pins: &BTreeMap<String, String>) -> Value {
    let annotations: BTreeMap<String, &String> =
        pins.iter().map(|(key, value)| (format!("{RESOLVED_PREFIX}{key}"), value)).collect();
    let mut body = json!({
        "apiVersion": "apps/v1",
        "kind": id.kind.as_str(),
        "metadata": { "name": id.name, "namespace": id.namespace, "uid": uid },
    });
    if !annotations.is_empty() {
        body["spec"] = json!({ "template": { "metadata": { "annotations": annotations } } });
    }
    body
}

/// Whether it was written: not where the workload is gone, or another one of its name is there. That has a change of its own.
async fn apply(context: &Context, id: &Id, manager: &str, body: &Value) -> Result<bool, Failure> {
    context.may_write()?;
    let parameters = PatchParams::apply(manager).force();
    match api(context, id).patch(&id.name, &parameters, &Patch::Apply(body)).await {
        Ok(_) => Ok(true),
        Err(error) if is_status(&error, 404) || is_status(&error, 409) => Ok(false),
        Err(error) => Err(Failure::api("pin a pod template")(error)),
    }
}

/// Makes the pod template say these pins, and none of ours besides. Whether it was written.
pub(super) async fn pins(
    context: &Context,
    id: &Id,
    workload: &Workload,
    pins: &BTreeMap<String, String>,
) -> Result<bool, Failure> {
    let body = body(id, &workload.uid, pins);
    around("operator.rollout.pin", apply(context, id, ROLLOUT_MANAGER, &body)).await
}

/// Gives the pins of a workload back that does not ask for them any more. They stay: what its pods run does not change by that.
pub(super) async fn hand_back<K>(context: &Context, id: &Id) -> Result<(), Failure>
where
    K: Templated + DeserializeOwned + Clone + Debug,
{
    let found = api(context, id).get_opt(&id.name).await.map_err(Failure::api("read a workload"))?;
    let Some(object) = found else { return Ok(()) };
    if asks(&object.metadata) {
        return Ok(());
    }
    let Ok(object) = object.try_parse::<K>() else { return Ok(()) };
    let workload = Workload::of(&object);
    if workload.owned.is_empty() || workload.is_deleting {
        return Ok(());
    }
    let mut kept = workload.resolved.clone();
    kept.retain(|key, _| workload.owned.contains(key));
    let kept = body(id, &workload.uid, &kept);
    around("operator.rollout.keep", apply(context, id, FORMER_MANAGER, &kept)).await?;
    let none = body(id, &workload.uid, &BTreeMap::new());
    around("operator.rollout.let-go", apply(context, id, ROLLOUT_MANAGER, &none)).await?;
    Ok(())
}

fn asks(metadata: &ObjectMeta) -> bool {
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(ROLLOUT_LABEL));
    label.is_some_and(|value| value == ROLLOUT_ENABLED)
}

/// The workloads that have pins of ours and do not ask for them: they left while nobody looked.
pub(super) async fn left(context: &Context) -> Result<Vec<Id>, Failure> {
    let mut found = Vec::new();
    left_of::<Deployment>(context, &mut found).await?;
    left_of::<StatefulSet>(context, &mut found).await?;
    left_of::<DaemonSet>(context, &mut found).await?;
    Ok(found)
}

async fn left_of<K>(context: &Context, found: &mut Vec<Id>) -> Result<(), Failure>
where
    K: Templated + DeserializeOwned + Clone + Debug,
{
    let api = context.scoped::<K>();
    let others = format!("{ROLLOUT_LABEL}!={ROLLOUT_ENABLED}");
    let mut page = ListParams::default().labels(&others).limit(PAGE);
    loop {
        let list = api.list_metadata(&page).await.map_err(Failure::api("list workloads"))?;
        let ours = |object: &&PartialObjectMeta<K>| !owned(&object.metadata).is_empty();
        found.extend(list.items.iter().filter(ours).map(Id::of::<K>));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}
