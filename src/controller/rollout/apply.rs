//! The writes: server-side apply of annotations of a pod template, and of nothing else.

use std::collections::BTreeMap;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::workload::{Id, Workload};
use super::{LABEL, is_enabled};
use crate::api::{RESOLVED_PREFIX, ROLLOUT_MANAGER};
use crate::controller::context::Context;
use crate::controller::error::{Failure, is_status};

/// Who has the pins of a workload that is not ours any more: an owner that writes nothing, so nobody has a conflict with it
/// for long, and what the pods run stays.
const FORMER_MANAGER: &str = "sacker-rollout-former";

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

async fn apply(context: &Context, id: &Id, manager: &str, body: &Value) -> Result<(), Failure> {
    context.may_write()?;
    let parameters = PatchParams::apply(manager).force();
    match api(context, id).patch(&id.name, &parameters, &Patch::Apply(body)).await {
        Ok(_) => Ok(()),
        // It is gone, or another one of its name is there, which has a change of its own.
        Err(error) if is_status(&error, 404) || is_status(&error, 409) => Ok(()),
        Err(error) => Err(Failure::api("pin a pod template")(error)),
    }
}

/// Makes the pod template say these pins, and none of ours besides.
pub(super) async fn pins(
    context: &Context,
    id: &Id,
    workload: &Workload,
    pins: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    apply(context, id, ROLLOUT_MANAGER, &body(id, &workload.uid, pins)).await
}

/// Gives the pins of a workload back that does not ask for them any more. They stay: what its pods run does not change by that.
pub(super) async fn hand_back<K>(context: &Context, id: &Id) -> Result<(), Failure>
where
    K: super::workload::Templated + serde::de::DeserializeOwned + Clone + std::fmt::Debug,
{
    let found = api(context, id).get_opt(&id.name).await.map_err(Failure::api("read a workload"))?;
    let Some(object) = found else { return Ok(()) };
    let labels = object.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(LABEL)).is_some_and(|value| is_enabled(value)) {
        return Ok(());
    }
    let Ok(object) = object.try_parse::<K>() else { return Ok(()) };
    let workload = Workload::of(&object);
    if workload.owned.is_empty() || workload.is_deleting {
        return Ok(());
    }
    let mut kept = workload.resolved.clone();
    kept.retain(|key, _| workload.owned.contains(key));
    apply(context, id, FORMER_MANAGER, &body(id, &workload.uid, &kept)).await?;
    apply(context, id, ROLLOUT_MANAGER, &body(id, &workload.uid, &BTreeMap::new())).await
}
