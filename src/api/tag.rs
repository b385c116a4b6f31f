//! SackerTag: the wish that a tag of a package points at a version.

#![expect(unreachable_pub, reason = "KubeSchema repeats each struct inside a function")]
#![expect(clippy::duplicated_attributes, reason = "each printer column has a type of its own")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::{Condition, conditions_schema};
use super::package::default_ledger;
use super::rules;

/// Which tag should point at which version, or which tag it follows.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sacker.dev",
    version = "v1alpha1",
    kind = "SackerTag",
    plural = "sackertags",
    namespaced,
    shortname = "stag",
    category = "sacker",
    status = "SackerTagStatus",
    derive = "PartialEq",
    doc = "SackerTag keeps a tag of a package at a version. Deleting it leaves the tag by default.",
    selectable = ".spec.package",
    selectable = ".spec.tag",
    printcolumn(name = "Package", type_ = "string", json_path = ".spec.package"),
    printcolumn(name = "Tag", type_ = "string", json_path = ".spec.tag"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.version"),
    printcolumn(name = "Sha", type_ = "string", json_path = ".status.shortSha256"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Since", type_ = "date", priority = 1, json_path = ".status.since"),
    printcolumn(name = "By", type_ = "string", priority = 1, json_path = ".status.by"),
    printcolumn(name = "Reason", type_ = "string", priority = 1, json_path = ".status.reason"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.version) != has(self.follow)")
        .message("give exactly one of version and follow"),
    validation = Rule::new("!has(self.follow) || self.follow.tag != self.tag")
        .message("a tag cannot follow itself")
)]
pub struct SackerTagSpec {
    /// The SackerLedger that has the package. Default `default`. Immutable.
    #[serde(default = "default_ledger")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::immutable())]
    pub ledger: String,

    /// The name of the package, such as `frontend-server`. Immutable.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = rules::immutable(),
        validation = rules::package_slashes(),
        validation = rules::package_components(),
        validation = rules::package_characters(),
        validation = rules::package_begin(),
        validation = rules::package_not_ours(),
        validation = rules::package_length()
    )]
    pub package: String,

    /// The tag, such as `live`; never `latest`, never a number. Immutable.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = rules::immutable(),
        validation = rules::tag_characters(),
        validation = rules::tag_not_latest(),
        validation = rules::tag_not_number()
    )]
    pub tag: String,

    /// The version the tag should point at, from 1. This, or `follow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<i64>,

    /// Point where another tag points, after a while. This, or `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<FollowSpec>,

    /// Move only from this version. Default: from wherever it points.
    ///
    /// If the tag points elsewhere, nothing is moved and the condition `Stalled` says where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub expected_version: Option<i64>,

    /// On deletion, leave the tag (`Retain`) or remove it (`Delete`). Default Retain.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// If someone else moves the tag: move it back, or report it. Default Enforce.
    ///
    /// `Enforce` moves it back at most once per 10 s; `Report` only sets the condition `Drifted`.
    #[serde(default)]
    pub drift_policy: DriftPolicy,

    /// Why, for the tag's history. Default: no reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,

    /// Stop acting on the tag; nothing asks or changes the ledger. Default false.
    #[serde(default)]
    pub suspend: bool,
}

/// Which tag to follow, and how long it must have stood still.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowSpec {
    /// The tag of the same package to follow, or `latest`.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = rules::tag_characters(),
        validation = rules::followed_tag_not_latest(),
        validation = rules::tag_not_number()
    )]
    pub tag: String,

    /// How long the followed tag must have pointed there. Default 0s, at most 8760h.
    #[serde(default = "no_soak")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rules::duration_between("0s", "8760h"))]
    pub soak: String,
}

fn no_soak() -> String {
    "0s".to_owned()
}

/// What becomes of the tag when its SackerTag is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum DeletionPolicy {
    /// The tag stays where it points, without an owner.
    #[default]
    Retain,
    /// The tag is removed, if it still is ours and not held.
    Delete,
}

/// What happens when someone else moves the tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum DriftPolicy {
    /// It is moved back.
    #[default]
    Enforce,
    /// It is reported.
    Report,
}

/// Where the tag points, since when, and how it came there.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SackerTagStatus {
    /// The generation of the spec that this status is about; -1 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`; and `Reconciling`, `Stalled`, `Held`, `Drifted` while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The version the tag points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,

    /// The sha256 of that version's blob, 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,

    /// The first 12 digits of the sha256, for tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_sha256: Option<String>,

    /// The file's name when the version was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basename: Option<String>,

    /// The file's mode when the version was added: the full st_mode, in decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<i64>,

    /// The blob's size in bytes. Absent if the ledger does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,

    /// The number of the last event in the tag's history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,

    /// The generation of the spec that last was in force in the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_generation: Option<i64>,

    /// The version the tag pointed to before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_version: Option<i64>,

    /// Since when the tag points there, by the clock of who moved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,

    /// Who moved it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,

    /// Why it was moved there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// Who owns the tag: only the owner may move it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The version that the followed tag points to, while it soaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateStatus>,

    /// The last 10 events of the tag's history, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventStatus>,

    /// The last value of the annotation sacker.dev/reconcile-requested-at seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// A version that waits for its time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateStatus {
    /// The version.
    pub version: i64,

    /// Since when the followed tag points to it; if unknown, when it was first seen.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,

    /// When the tag will be moved to it.
    #[schemars(extend("format" = "date-time"))]
    pub ready_at: String,
}

/// One event of the tag's history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventStatus {
    /// The event's number in the tag's history, from 1.
    pub seq: i64,

    /// What it did: move, untag, hold, release, adopt or disown.
    pub kind: String,

    /// The version before it. Absent if the tag did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,

    /// The version after it. Absent if the tag was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,

    /// When, by the writer's clock.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,

    /// Who asked for it.
    pub by: String,

    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// The owner after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The hold in force after it. Absent if the tag is not held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldStatus>,

    /// Through what it came: cli, operator, import or legacy.
    pub source: String,
}

/// A hold: nothing moves the tag until it is released.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldStatus {
    /// When it was set, by the clock of who set it.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,

    /// Who set it.
    pub by: String,

    /// Why nothing may move the tag.
    pub reason: String,
}
