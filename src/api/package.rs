//! SackerPackage: a live mirror of one package in a namespace.

#![expect(unreachable_pub, reason = "KubeSchema repeats each struct inside a function")]
#![expect(clippy::duplicated_attributes, reason = "each printer column has a type of its own")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::{Condition, conditions_schema};
use super::rules;

pub(super) fn default_ledger() -> String {
    "default".to_owned()
}

/// Which package to mirror, and whether to publish it as a ConfigMap.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sacker.dev",
    version = "v1alpha1",
    kind = "SackerPackage",
    plural = "sackerpackages",
    namespaced,
    shortname = "spkg",
    category = "sacker",
    status = "SackerPackageStatus",
    derive = "PartialEq",
    doc = "SackerPackage mirrors one package of a ledger: its newest version and its tags.",
    selectable = ".spec.package",
    printcolumn(name = "Package", type_ = "string", json_path = ".spec.package"),
    printcolumn(name = "Latest", type_ = "integer", json_path = ".status.latest.version"),
    printcolumn(name = "Tags", type_ = "string", json_path = ".status.tagSummary"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Ledger", type_ = "string", priority = 1, json_path = ".spec.ledger"),
    printcolumn(name = "Versions", type_ = "integer", priority = 1, json_path = ".status.versionCount"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SackerPackageSpec {
    /// The SackerLedger that has the package. Default `default`.
    #[serde(default = "default_ledger")]
    #[schemars(length(min = 1, max = 253))]
    pub ledger: String,

    /// The name of the package, such as `frontend-server` or `web/api/job`.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = rules::package_slashes(),
        validation = rules::package_components(),
        validation = rules::package_characters(),
        validation = rules::package_begin(),
        validation = rules::package_not_ours(),
        validation = rules::package_length()
    )]
    pub package: String,

    /// Where else to show the package. Default: only in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishSpec>,

    /// Stop following the package; the status stays as it is. Default false.
    #[serde(default)]
    pub suspend: bool,
}

/// Where a package is shown besides the status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishSpec {
    /// The ConfigMap to create and keep, in the same namespace. Default: none.
    ///
    /// For `latest` and each tag it has `<tag>` (the pinned spec), `<tag>.version`, `<tag>.sha256` and
    /// `<tag>.basename`. A ConfigMap of this name that someone else made is never touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub config_map: Option<String>,
}

/// What the ledger holds for the package.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SackerPackageStatus {
    /// The generation of the spec that this status is about; -1 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`, and `Reconciling` or `Stalled` while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The newest version that was not removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<VersionStatus>,

    /// The tags by name; the 100 that moved last if there are more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tags: Vec<TagStatus>,

    /// The tags in one line, such as `canary=31 live=23`, for tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_summary: Option<String>,

    /// How many versions were ever added, removed ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_count: Option<i64>,

    /// The 10 newest versions that were not removed, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_versions: Vec<VersionStatus>,

    /// The ConfigMap that shows the package, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_config_map: Option<String>,

    /// The last value of the annotation sacker.dev/reconcile-requested-at seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// One version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// The version's number.
    pub version: i64,

    /// The sha256 of the blob, 64 hex digits.
    pub sha256: String,

    /// The file's name when it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basename: Option<String>,

    /// The blob's size in bytes. Absent if the ledger does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,

    /// When it was added, by the clock of who added it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub added_at: Option<String>,

    /// Who added it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_by: Option<String>,
}

/// One tag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagStatus {
    /// The tag.
    pub name: String,

    /// The version it points to.
    pub version: i64,

    /// The sha256 of that version's blob. Absent if there is no such version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,

    /// When the tag last changed, by the clock of who changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,

    /// Who changed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}
