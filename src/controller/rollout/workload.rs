//! A workload, as far as it concerns the rollout: what it asks for, and what its pod template says.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use kube::{Resource, ResourceExt as _};

use super::pins::Wish;
use crate::api::{LEDGER_OF_WORKLOAD, PIN_PREFIX, RESOLVED_PREFIX, ROLLOUT_MANAGER};

/// The SackerLedger of a workload that names none.
const DEFAULT_LEDGER: &str = "default";

/// The kinds that have a pod template and roll by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::controller) enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

/// Which workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What of it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) uid: String,
    /// The SackerLedger.
    pub(super) ledger: String,
    /// By key: `<key>` of `pin.sacker.dev/<key>`.
    pub(super) wishes: BTreeMap<String, Wish>,
    /// By the same keys: the values of `resolved.sacker.dev/<key>` in the pod template.
    pub(super) resolved: BTreeMap<String, String>,
    /// The keys of those that are ours.
    pub(super) owned: BTreeSet<String>,
    pub(super) is_deleting: bool,
}

/// An object with a pod template.
pub(in crate::controller) trait Templated:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
{
    const KIND: Kind;

    /// The metadata of its pod template.
    fn template(&self) -> Option<&ObjectMeta>;
}

impl Templated for Deployment {
    const KIND: Kind = Kind::Deployment;

    fn template(&self) -> Option<&ObjectMeta> {
        self.spec.as_ref()?.template.metadata.as_ref()
    }
}

impl Templated for StatefulSet {
    const KIND: Kind = Kind::StatefulSet;

    fn template(&self) -> Option<&ObjectMeta> {
        self.spec.as_ref()?.template.metadata.as_ref()
    }
}

impl Templated for DaemonSet {
    const KIND: Kind = Kind::DaemonSet;

    fn template(&self) -> Option<&ObjectMeta> {
        self.spec.as_ref()?.template.metadata.as_ref()
    }
}

impl Id {
    pub(super) fn of<K: Templated>(object: &impl Resource) -> Self {
        Self { kind: K::KIND, namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// What events are about.
    pub(super) fn reference(&self, uid: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some(self.kind.as_str().into()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(uid.into()),
            ..ObjectReference::default()
        }
    }
}

impl Workload {
    pub(super) fn of<K: Templated>(object: &K) -> Self {
        let annotations = object.annotations();
        let wishes = by_key(annotations, PIN_PREFIX).map(|(key, text)| (key, Wish::parse(text))).collect();
        let of_template = object.template().and_then(|template| template.annotations.as_ref());
        let resolved = of_template.into_iter().flat_map(|annotations| by_key(annotations, RESOLVED_PREFIX));
        Self {
            uid: object.uid().unwrap_or_default(),
            ledger: annotations.get(LEDGER_OF_WORKLOAD).map_or(DEFAULT_LEDGER, String::as_str).to_owned(),
            wishes,
            resolved: resolved.map(|(key, value)| (key, value.clone())).collect(),
            owned: owned(object.meta()),
            is_deleting: object.meta().deletion_timestamp.is_some(),
        }
    }

    /// The packages that a ledger has to be asked about.
    pub(super) fn packages(&self) -> impl Iterator<Item = &str> {
        self.wishes.values().filter_map(|wish| match wish {
            Wish::Of(package, _) => Some(package.as_str()),
            Wish::Exact(_) | Wish::Invalid(_) => None,
        })
    }
}

fn by_key<'a>(
    annotations: &'a BTreeMap<String, String>,
    prefix: &'a str,
) -> impl Iterator<Item = (String, &'a String)> {
    annotations.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value)))
}

/// The annotations of the pod template that our field manager has applied.
pub(super) fn owned(metadata: &ObjectMeta) -> BTreeSet<String> {
    let ours = metadata.managed_fields.iter().flatten().filter(|entry| {
        entry.manager.as_deref() == Some(ROLLOUT_MANAGER) && entry.operation.as_deref() == Some("Apply")
    });
    let fields = ours.filter_map(|entry| {
        let fields = &entry.fields_v1.as_ref()?.0;
        fields.pointer("/f:spec/f:template/f:metadata/f:annotations")?.as_object()
    });
    let keys = fields.flat_map(|fields| fields.keys());
    keys.filter_map(|key| Some(key.strip_prefix("f:")?.strip_prefix(RESOLVED_PREFIX)?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_what_is_said_and_what_is_ours() {
        let object: Deployment = serde_json::from_value(json!({
            "metadata": {
                "name": "app", "namespace": "web", "uid": "u",
                "annotations": {
                    "pin.sacker.dev/app": "web/app@live", "pin.sacker.dev/bad": "x", "other": "y",
                    "sacker.dev/ledger": "eu"
                },
                "managedFields": [
                    { "manager": ROLLOUT_MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {
                        "f:spec": { "f:template": { "f:metadata": { "f:annotations": {
                            "f:resolved.sacker.dev/app": {} } } } } } },
                    { "manager": "kubectl", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {
                        "f:spec": { "f:template": { "f:metadata": { "f:annotations": {
                            "f:resolved.sacker.dev/theirs": {} } } } } } }
                ]
            },
            "spec": {
                "selector": {},
                "template": { "metadata": { "annotations": {
                    "resolved.sacker.dev/app": "v", "resolved.sacker.dev/theirs": "w", "prometheus": "yes"
                } } }
            }
        }))
        .expect("a Deployment");
        let workload = Workload::of(&object);
        assert_eq!(workload.ledger, "eu");
        assert_eq!(workload.wishes.keys().collect::<Vec<_>>(), ["app", "bad"]);
        assert_eq!(workload.packages().collect::<Vec<_>>(), ["web/app"]);
        assert_eq!(workload.resolved.keys().collect::<Vec<_>>(), ["app", "theirs"]);
        assert_eq!(workload.owned.iter().collect::<Vec<_>>(), ["app"]);
    }
}
