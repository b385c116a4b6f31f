//! An operator of one namespace: the rights that the chart gives it are enough, and it looks at no other namespace.

use serde_json::{Value, json};

use super::helm::Helm;
use crate::operator::bench::Bench;
use crate::operator::process::Operator;
use crate::support::cluster::{CONFIG_MAP, Cluster, PATIENCE, TAG};

const NAMESPACE: &str = "sacker-system";
const OPERATOR: &str = "system:serviceaccount:sacker-system:sacker-operator";

#[tokio::test]
async fn an_operator_of_one_namespace_looks_after_that_one() {
    let Some(helm) = Helm::new() else { return };
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    cluster.kubectl(&["create", "namespace", NAMESPACE]).success();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(1).await;
    let other = cluster.namespace(&[("team", &bench.team)]).await;
    let watched = format!("watchNamespace={}", bench.namespace);
    let is_right = |object: &Value| {
        object["apiVersion"].as_str().is_some_and(|version| version.starts_with("rbac.authorization"))
    };
    let items: Vec<Value> =
        helm.objects(NAMESPACE, &["--set", &watched]).into_iter().filter(is_right).collect();
    cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string());
    let arguments = ["--watch-namespace", &bench.namespace, "--lease-namespace", NAMESPACE];
    let operator = Operator::start_as(&cluster, OPERATOR, &arguments);
    operator.until_ready();

    cluster.apply(&bench.tag_yaml(&other, "elsewhere", "elsewhere", "version: 1"));
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.apply_package("mirror", "publish: {configMap: artifacts}");
    let what = "it has the tag";
    let has_tag = |object: &Value| object["data"]["live"].is_string();
    bench.api.until((CONFIG_MAP, &bench.namespace, "artifacts"), what, PATIENCE, has_tag).await;

    let elsewhere = bench.api.get(TAG, &other, "elsewhere").await.expect("it is there");
    assert!(elsewhere["metadata"]["finalizers"].is_null(), "{elsewhere:#}");
    assert!(elsewhere["status"]["conditions"].is_null(), "{elsewhere:#}");
    assert_eq!(bench.points_at("elsewhere").await, None);
    assert_eq!(operator.metric("sacker_reconcile_failures_total"), 0, "{}", operator.log());
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
}
