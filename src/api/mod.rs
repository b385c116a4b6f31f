//! The Kubernetes types: group, kinds, schema rules, conditions. No behaviour, no I/O.
//!
//! What the schema can decide is decided there (CEL), so that a wrong object is refused at `kubectl apply`. The
//! controllers check again through [`crate::model`], since an old schema may have let an object in.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;
use kube::core::ObjectMeta;

pub mod conditions;
mod ledger;
mod package;
mod rules;
mod tag;

pub use conditions::{Condition, ConditionStatus, ConditionType, Reason};
pub use ledger::{
    AccessRuleSpec, LabelSelectorSpec, SackerLedger, SackerLedgerSpec, SackerLedgerStatus,
    SelectorRequirementSpec, VerbSpec,
};
pub use package::{
    PublishSpec, SackerPackage, SackerPackageSpec, SackerPackageStatus, TagStatus, VersionStatus,
};
pub use tag::{
    CandidateStatus, DeletionPolicy, DriftPolicy, EventStatus, FollowSpec, HoldStatus, SackerTag,
    SackerTagSpec, SackerTagStatus,
};

/// The API group of every kind.
pub const GROUP: &str = "sacker.dev";

/// The version of every kind.
pub const VERSION: &str = "v1alpha1";

/// Keeps a SackerTag until its tag is given up or removed.
pub const TAG_FINALIZER: &str = "sacker.dev/tag";

/// Set to any new value to ask for a pass; the status answers with `lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_AT: &str = "sacker.dev/reconcile-requested-at";

/// Who asked for the current spec. Anyone who may edit the object can write it, so it counts only where an admission
/// policy stamps it (`--trust-requested-by`).
pub const REQUESTED_BY: &str = "sacker.dev/requested-by";

/// The label on everything the operator creates, and the value it has.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "sacker-operator");

/// The field manager of the tag controller.
pub const TAG_MANAGER: &str = "sacker-tag-controller";

/// The field manager of the resolver.
pub const RESOLVER_MANAGER: &str = "sacker-resolver";

/// The field manager of the ledger controller.
pub const LEDGER_MANAGER: &str = "sacker-ledger-controller";

/// The field manager of the pins in pod templates.
pub const ROLLOUT_MANAGER: &str = "sacker-rollout";

/// The label of workloads whose pins are kept.
pub const ROLLOUT_LABEL: &str = "sacker.dev/rollout";

/// The value that it has there.
pub const ROLLOUT_ENABLED: &str = "enabled";

/// Annotations of a workload: `pin.sacker.dev/<key>: <package>@<version, tag or latest>`.
pub const PIN_PREFIX: &str = "pin.sacker.dev/";

/// Annotations of its pod template: `resolved.sacker.dev/<key>: <pinned spec>`.
pub const RESOLVED_PREFIX: &str = "resolved.sacker.dev/";

/// The annotation that names the SackerLedger of a workload.
pub const LEDGER_OF_WORKLOAD: &str = "sacker.dev/ledger";

/// The CustomResourceDefinitions as they are installed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![SackerLedger::crd(), SackerPackage::crd(), SackerTag::crd()];
    let versions = crds.iter_mut().flat_map(|crd| crd.spec.versions.iter_mut());
    for schema in versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        tidy(schema);
        schema.title = None;
        // A new object says `observedGeneration: -1` until a controller has seen it: tools that read a missing status
        // as "done" (kstatus) would otherwise take it for ready.
        if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
        }
    }
    crds
}

/// Optional fields are absent, not null: the API server then drops a null before the rules see it. Line breaks of the
/// source become spaces; paragraphs stay.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<_> = description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    schema.properties.iter_mut().flatten().for_each(|(_, property)| tidy(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

/// The value of the annotation that asks for a pass.
pub fn requested_at(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(RECONCILE_REQUESTED_AT).map(String::as_str)
}
