//! SackerLedger: where the truth is, and who in the cluster may use it. Owned by the cluster's administrators.

#![expect(unreachable_pub, reason = "KubeSchema repeats each struct inside a function")]
#![expect(clippy::duplicated_attributes, reason = "each printer column has a type of its own")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::{Condition, conditions_schema};
use super::rules;
use crate::model::{AccessRule, Glob, LabelSelector, SelectorOperator, SelectorRequirement, Verb};

/// Where a ledger and its store are, and who in the cluster may use it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sacker.dev",
    version = "v1alpha1",
    kind = "SackerLedger",
    plural = "sackerledgers",
    shortname = "sledger",
    category = "sacker",
    status = "SackerLedgerStatus",
    derive = "PartialEq",
    doc = "SackerLedger says where a ledger is and who may use it. For administrators.",
    printcolumn(name = "Ledger", type_ = "string", json_path = ".spec.ledger"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Packages", type_ = "integer", json_path = ".status.packages"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Store", type_ = "string", priority = 1, json_path = ".spec.store"),
    printcolumn(name = "Polled", type_ = "date", priority = 1, json_path = ".status.lastPollTime"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SackerLedgerSpec {
    /// Where names, versions and tags are, as a URI. Required, without a default.
    ///
    /// `dynamo://<region>/<prefix>`, `s3://<bucket>[/<prefix>]`, `zk://<host>[,<host>...]/<root>` or `file:///<absolute path>`.
    /// Credentials never stand here: they come from the operator's own environment.
    #[schemars(length(min = 8, max = 1024))]
    #[x_kube(validation = rules::ledger_uri(), validation = rules::uri_plain())]
    pub ledger: String,

    /// Where the blobs are, as a URI. Optional: none of the controllers reads blobs.
    ///
    /// `s3://<bucket>[/<prefix>]`, `file:///<absolute path>` or `hdfs://<namenode>[:port]/<path>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024))]
    #[x_kube(validation = rules::store_uri(), validation = rules::uri_plain())]
    pub store: Option<String>,

    /// How often the ledger is asked for changes, 1s to 24h. Default 30s, 2m on s3.
    ///
    /// The interval varies by a tenth, and grows up to fourfold while nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rules::duration_between("1s", "24h"))]
    pub poll_interval: Option<String>,

    /// Who may use the ledger from this cluster. Default: nobody.
    ///
    /// A namespace may do what any one of the rules grants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub access: Vec<AccessRuleSpec>,
}

/// One rule: these namespaces may do this with these packages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRuleSpec {
    /// Which namespaces, by their labels. Default: none; `{}` means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelectorSpec>,

    /// Which packages, as patterns. `*` stays within one component.
    ///
    /// `**` crosses components: `frontend-*`, `web/**`, `**`.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 512)))]
    pub packages: Vec<String>,

    /// What is granted: `read` (see it in the cluster), `tag` (move its tags).
    #[schemars(length(min = 1, max = 8))]
    pub verbs: Vec<VerbSpec>,
}

/// What a rule grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum VerbSpec {
    /// See the package, its versions and tags in the cluster.
    Read,
    /// Move and remove its tags.
    Tag,
}

/// A label selector with Kubernetes' meaning: all conditions must hold, an empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelectorSpec {
    /// Labels that must have exactly these values. Default: no condition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,

    /// Further conditions on labels, all of which must hold. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub match_expressions: Vec<SelectorRequirementSpec>,
}

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectorRequirementSpec {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,

    /// How it compares: `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[schemars(regex(pattern = r"^(In|NotIn|Exists|DoesNotExist)$"))]
    pub operator: String,

    /// The values to compare with, for `In` and `NotIn`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub values: Vec<String>,
}

/// What the operator found.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SackerLedgerStatus {
    /// The generation of the spec that this status is about; -1 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`, and `Reconciling` or `Stalled` while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Whether the backend decides conditional writes correctly, if probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditional_writes: Option<bool>,

    /// How versions are numbered: `sequence` or `timestamp`. Absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<String>,

    /// How many packages objects of this cluster ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<i64>,

    /// When the ledger was last polled. Written at most once per 10 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_poll_time: Option<String>,

    /// The last value of the annotation sacker.dev/reconcile-requested-at seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

impl SackerLedgerSpec {
    /// The access rules in the form that [`crate::model::check_access`] reads.
    pub fn access_rules(&self) -> Vec<AccessRule> {
        self.access.iter().map(AccessRuleSpec::rule).collect()
    }
}

impl AccessRuleSpec {
    fn rule(&self) -> AccessRule {
        let verb = |verb: &VerbSpec| match verb {
            VerbSpec::Read => Verb::Read,
            VerbSpec::Tag => Verb::Tag,
        };
        AccessRule {
            namespaces: self.namespace_selector.as_ref().map(LabelSelectorSpec::selector),
            packages: self.packages.iter().map(Glob::new).collect(),
            verbs: self.verbs.iter().map(verb).collect(),
        }
    }
}

impl LabelSelectorSpec {
    fn selector(&self) -> LabelSelector {
        let requirement = |requirement: &SelectorRequirementSpec| SelectorRequirement {
            key: requirement.key.clone(),
            operator: match requirement.operator.as_str() {
                "In" => SelectorOperator::In,
                "NotIn" => SelectorOperator::NotIn,
                "Exists" => SelectorOperator::Exists,
                "DoesNotExist" => SelectorOperator::DoesNotExist,
                _ => SelectorOperator::Unknown,
            },
            values: requirement.values.clone(),
        };
        LabelSelector {
            match_labels: self.match_labels.clone(),
            match_expressions: self.match_expressions.iter().map(requirement).collect(),
        }
    }
}
