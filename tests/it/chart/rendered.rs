//! What the chart renders to is what a real API server takes, and what `crds/` and `config/` say.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::helm::{CHART, Helm, name, objects, values_files};
use crate::support::cluster::Cluster;

/// The level of pod security that everything of ours keeps to.
const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

/// Kinds of the Prometheus operator: that they are there is enough for an API server to take an object of them.
fn monitoring_kinds() -> String {
    let kind = |name: &str, plural: &str| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.monitoring.coreos.com") },
            "spec": {
                "group": "monitoring.coreos.com",
                "scope": "Namespaced",
                "names": { "kind": name, "plural": plural },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true
                    } }
                }]
            }
        })
    };
    let kinds = [kind("ServiceMonitor", "servicemonitors"), kind("PrometheusRule", "prometheusrules")];
    json!({ "apiVersion": "v1", "kind": "List", "items": kinds }).to_string()
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let Some(helm) = Helm::new() else { return };
    let files = values_files();
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        let file = file.to_str().expect("UTF-8");
        let answer = helm.run(&["lint", "--strict", CHART, "--values", file]);
        assert_eq!(answer.code, Some(0), "{file}: {}{}", answer.stdout, answer.stderr);
    }
}

/// The pods of a Deployment as they will be created: of the Deployment itself pod security only warns.
fn pod_of(deployment: &Value) -> Value {
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = deployment["metadata"]["name"].clone();
    pod["metadata"]["namespace"] = deployment["metadata"]["namespace"].clone();
    pod
}

#[tokio::test]
async fn an_api_server_takes_what_every_values_file_renders_to() {
    let (Some(helm), Some(cluster)) = (Helm::new(), Cluster::shared()) else { return };
    cluster.apply(&monitoring_kinds());
    for plural in ["servicemonitors", "prometheusrules"] {
        let object = format!("crd/{plural}.monitoring.coreos.com");
        cluster.kubectl(&["wait", "--for=condition=Established", &object, "--timeout=30s"]).success();
    }
    let namespace = cluster.namespace(&[RESTRICTED]).await;
    for account in ["sacker-operator", "sacker-rollout", "my-operator", "my-rollout"] {
        cluster.kubectl(&["-n", &namespace, "create", "serviceaccount", account]).success();
    }
    for file in values_files() {
        let file = file.to_str().expect("UTF-8");
        let mut items = helm.objects(&namespace, &["--values", file]);
        let pods: Vec<Value> =
            items.iter().filter(|object| object["kind"] == "Deployment").map(pod_of).collect();
        assert!(!pods.is_empty(), "{file}");
        items.extend(pods);
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
        let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
        let answer = cluster.kubectl_with(&arguments, &list);
        assert_eq!(answer.code, Some(0), "{file}: {}", answer.stderr);
        assert!(!answer.stderr.contains("Warning"), "{file}: {}", answer.stderr);
    }
}

#[test]
fn what_is_no_value_is_refused() {
    let Some(helm) = Helm::new() else { return };
    for (values, word) in [
        ("replica=2", "replica"),
        ("rollout.enable=true", "enable"),
        ("policies.injection.legder=x", "legder"),
        ("ledgers.default.leger=x", "leger"),
        ("ledgers.default.ledger=x,ledgers.default.acess=x", "acess"),
        ("metrics.serviceMonitor.label.a=b", "label"),
        ("leaderElection.leaseDuration=15", "leaseDuration"),
        ("controllers={tag,rollout}", "controllers"),
        ("replicas=many", "replicas"),
        ("policies.injection.enabled=true", "injection"),
        ("image.digest=abc", "digest"),
        ("replicas=2,leaderElection.enabled=false", "need leaderElection.enabled"),
        ("rollout.enabled=true,rollout.serviceAccount.name=sacker-operator", "must not be the operator's"),
    ] {
        let refused = helm.template("sacker-system", &["--set", values]).failure();
        assert!(refused.contains(word), "{values}: {refused}");
    }
    let older = ["--set", "policies.actor=true", "--kube-version", "1.35.0"];
    let refused = helm.template("sacker-system", &older).failure();
    assert!(refused.contains("need Kubernetes 1.36"), "{refused}");
}

#[test]
fn kinds_are_those_of_the_repository_and_kept() {
    let Some(helm) = Helm::new() else { return };
    let is_kind = |object: &Value| object["kind"] == "CustomResourceDefinition";
    let rendered = helm.objects("sacker-system", &[]).into_iter().filter(is_kind);
    let mut rendered: BTreeMap<String, Value> = rendered.map(|object| (name(&object), object)).collect();
    for (file, content) in sacker::controller::crd_files().expect("the kinds") {
        let expected: Value = serde_saphyr::from_str(&content).expect("YAML");
        let mut found = rendered.remove(&name(&expected)).expect(&file);
        assert_eq!(found["metadata"]["annotations"], json!({ "helm.sh/resource-policy": "keep" }), "{file}");
        found["metadata"].as_object_mut().expect("an object").remove("annotations");
        assert_eq!(found, expected, "{file}");
    }
    assert!(rendered.is_empty(), "{rendered:?}");
    let none = helm.objects("sacker-system", &["--set", "crds.install=false"]);
    assert!(!none.iter().any(is_kind));
}

#[test]
fn policies_are_those_of_config_and_none_without_being_asked_for() {
    let Some(helm) = Helm::new() else { return };
    let is_policy = |object: &Value| {
        object["apiVersion"].as_str().is_some_and(|version| version.starts_with("admissionregistration"))
    };
    assert!(!helm.objects("sacker-system", &[]).iter().any(is_policy));
    let all = Path::new(CHART).join("ci/policies.yaml");
    let all = ["--values", all.to_str().expect("UTF-8")];
    let rendered = helm.objects("sacker-system", &all);
    let mut expected = Vec::new();
    for policy in ["actor", "injection", "promote", "rollout-fence"] {
        let file = format!("{}/config/policies/{policy}.yaml", env!("CARGO_MANIFEST_DIR"));
        expected.extend(objects(&std::fs::read_to_string(file).expect("a policy")));
    }
    for policy in &expected {
        let found = rendered.iter().find(|object| name(object) == name(policy));
        assert_eq!(found, Some(policy), "{}", name(policy));
    }
    assert_eq!(rendered.iter().filter(|object| is_policy(object)).count(), expected.len());

    // Elsewhere they speak of that namespace.
    let elsewhere = helm.template("elsewhere", &all).success();
    assert!(elsewhere.contains("system:serviceaccount:elsewhere:sacker-rollout"));
    assert!(!elsewhere.contains("sacker-system"), "{elsewhere}");
}

#[test]
fn a_budget_is_there_for_several_replicas_only() {
    let Some(helm) = Helm::new() else { return };
    let cases: [(&str, &[&str]); 6] = [
        ("replicas=1", &[]),
        ("replicas=2", &["PodDisruptionBudget/sacker-operator"]),
        ("rollout.enabled=true", &[]),
        ("rollout.replicas=2", &[]),
        ("rollout.enabled=true,rollout.replicas=2", &["PodDisruptionBudget/sacker-rollout"]),
        (
            "replicas=2,rollout.enabled=true,rollout.replicas=2",
            &["PodDisruptionBudget/sacker-operator", "PodDisruptionBudget/sacker-rollout"],
        ),
    ];
    for (values, expected) in cases {
        let rendered = helm.objects("sacker-system", &["--set", values]);
        let budgets: Vec<String> =
            rendered.iter().map(name).filter(|name| name.starts_with("PodDisruptionBudget/")).collect();
        assert_eq!(budgets, expected, "{values}");
    }
}

/// The operator takes every flag that a Deployment starts it with.
#[test]
fn the_operator_knows_its_arguments() {
    let Some(helm) = Helm::new() else { return };
    for file in values_files() {
        let rendered = helm.objects("sacker-system", &["--values", file.to_str().expect("UTF-8")]);
        for deployment in rendered.iter().filter(|object| object["kind"] == "Deployment") {
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            assert_eq!(container["command"], json!(["/sacker-operator"]));
            let arguments: Vec<&str> =
                container["args"].as_array().expect("arguments").iter().filter_map(Value::as_str).collect();
            // With help asked for last: all before it is read, and nothing starts.
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_sacker-operator"))
                .args(&arguments)
                .arg("--help")
                .env_clear()
                .output()
                .expect("the operator runs");
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {complaint}");
        }
    }
}
