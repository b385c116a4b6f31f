//! The chart on a real node, as an administrator installs it: the images of `make image`, a namespace that enforces the level
//! `restricted`, a ledger on DynamoDB Local and a store on MinIO (S8).

use serde_json::{Value, json};

use super::helm::{CHART, Helm};
use super::network::{MACHINE, as_pods_reach_it};
use crate::fetch::noise;
use crate::pods::home::Home;
use crate::support::cluster::{Cluster, DEPLOYMENT, LEDGER, PATIENCE, POD, TAG};
use crate::support::node::{APPLICATION, Site};

const NAMESPACE: &str = "sacker-system";
const TENANT: &str = "web";

/// How long helm may wait for pods.
const WAIT: &str = "180s";

/// Default values, plus where the servers of the test are, one SackerLedger and who may use it.
fn values(cluster: &Cluster, home: &Home, ledger: &str) -> Value {
    let server =
        cluster.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]).success();
    let server = as_pods_reach_it(&server);
    let (_, port) = server.rsplit_once(':').expect("a port");
    let [access, secret] = home.keys();
    // There is no network of services here, and what serves it: the API server by the name in its certificate.
    let environment = [
        ("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc"),
        ("KUBERNETES_SERVICE_PORT", port),
        ("AWS_ACCESS_KEY_ID", access),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    json!({
        "hostAliases": [{ "ip": MACHINE, "hostnames": ["kubernetes.default.svc"] }],
        "env": environment.map(|(name, value)| json!({ "name": name, "value": value })),
        "ledgers": { "default": {
            "ledger": ledger,
            "pollInterval": "1s",
            "access": [{
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": TENANT } },
                "packages": ["**"],
                "verbs": ["read", "tag"]
            }]
        } }
    })
}

/// A namespace in which every pod keeps to the level.
fn restricted(cluster: &Cluster, name: &str) {
    cluster.kubectl(&["create", "namespace", name]).success();
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", name, label]).success();
    let account = ["-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout=30s"];
    cluster.kubectl(&account).success();
}

/// An application that goes on only if the file has this digest, with what `sacker init-container` printed pasted in.
fn application(snippet: &str, sha256: &str, keys: [&str; 2]) -> Value {
    let mut spec: Value = serde_saphyr::from_str(snippet).expect("YAML");
    // What a cloud does for a service account.
    let environment = spec["initContainers"][0]["env"].as_array_mut().expect("variables");
    for (name, value) in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].iter().zip(keys) {
        environment.push(json!({ "name": name, "value": value }));
    }
    let script = format!("echo '{sha256}  /artifacts/app.jar' | sha256sum -c && exec sleep 1000000");
    spec["securityContext"] = json!({ "fsGroup": 65532 });
    spec["containers"] = json!([{
        "name": "app",
        "image": APPLICATION,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", script],
        "volumeMounts": [{ "name": "artifacts", "mountPath": "/artifacts", "readOnly": true }],
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" }
        }
    }]);
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "app", "namespace": TENANT },
        "spec": {
            "selector": { "matchLabels": { "app": "app" } },
            "template": { "metadata": { "labels": { "app": "app" } }, "spec": spec }
        }
    })
}

/// Everything that is known when something does not become ready.
fn known(site: &Site) -> String {
    let pods = site.cluster.kubectl(&["describe", "pods", "-A"]).stdout;
    let events = site.cluster.kubectl(&["get", "events", "-A"]).stdout;
    format!("{pods}\n{events}\n{}", site.node.log())
}

/// What the kernel grants the operator's process.
fn is_confined(site: &Site, pod: &Value) {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().expect("it runs");
    let process = site.node.process(id).expect("it runs");
    site.node.is_confined(process);
}

fn uids(cluster: &Cluster) -> String {
    let path = "jsonpath={.items[*].metadata.uid}";
    let kinds = ["sackerledgers", "sackerpackages", "sackertags"].map(|kind| format!("{kind}.sacker.dev"));
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let crds = cluster.kubectl(&[&["get", "crd", "-o", path], &kinds[..]].concat()).success();
    let ledgers = cluster.kubectl(&["get", "sackerledgers", "-o", path]).success();
    format!("{crds} {ledgers}")
}

#[tokio::test]
async fn an_administrator_installs_upgrades_tests_and_removes_it() {
    // Asked for first: a node is not started for nothing.
    let (Some(_), Some(home)) = (Helm::new(), Home::new()) else { return };
    let Some(site) = Site::own() else { return };
    let cluster = &site.cluster;
    let Some(helm) = Helm::on(cluster) else { return };
    let api = cluster.api().await;
    restricted(cluster, NAMESPACE);
    restricted(cluster, TENANT);
    let bytes = noise(3_000_000);
    let pin = home.add("frontend-server", &bytes);
    let ledger = as_pods_reach_it(&home.ledger);
    let values = helm.values("values.json", &values(cluster, &home, &ledger).to_string());
    let common =
        ["sacker", CHART, "--namespace", NAMESPACE, "--values", &values, "--wait", "--timeout", WAIT];

    let installed = helm.run(&[&["install"], &common[..]].concat());
    assert_eq!(installed.code, Some(0), "{}{}\n{}", installed.stdout, installed.stderr, known(&site));
    assert!(installed.stdout.contains("helm test sacker"), "{}", installed.stdout);
    let is_ready = |object: &Value| {
        let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    api.until((LEDGER, "", "default"), "Ready", PATIENCE, is_ready).await;
    for pod in api.list(POD, NAMESPACE).await {
        is_confined(&site, &pod);
    }
    let before = uids(cluster);

    // A promotion, and a workload that fetches it.
    cluster.apply(&format!(
        "
apiVersion: sacker.dev/v1alpha1
kind: SackerTag
metadata: {{name: stable, namespace: {TENANT}}}
spec: {{package: frontend-server, tag: stable, version: 1}}
"
    ));
    api.until((TAG, TENANT, "stable"), "Ready", PATIENCE, is_ready).await;
    let store = as_pods_reach_it(&home.store);
    let arguments = [
        "init-container",
        "frontend-server@stable",
        "--to",
        "/artifacts/app.jar",
        "--ledger",
        &ledger,
        "--store",
        &store,
    ];
    let snippet = home.sacker(&arguments);
    let (_, sha256) = pin.split_once("+sha256:").expect("a pin");
    let deployment = application(&snippet, sha256, home.keys());
    cluster.kubectl_with(&["create", "-f", "-"], &deployment.to_string()).success();
    let wait = ["-n", TENANT, "wait", "--for=condition=Available", "deployment/app", "--timeout=120s"];
    let answer = cluster.kubectl(&wait);
    assert_eq!(answer.code, Some(0), "{}\n{}", answer.stderr, known(&site));

    let upgraded = helm.run(&[&["upgrade"], &common[..], &["--set", "replicas=2"]].concat());
    assert_eq!(upgraded.code, Some(0), "{}{}\n{}", upgraded.stdout, upgraded.stderr, known(&site));
    let operator = api.get(DEPLOYMENT, NAMESPACE, "sacker-operator").await.expect("it is there");
    assert_eq!(operator["status"]["readyReplicas"], 2, "{operator:#}");
    assert_eq!(uids(cluster), before);

    let tested = helm.run(&["test", "sacker", "--namespace", NAMESPACE, "--timeout", WAIT]);
    assert_eq!(tested.code, Some(0), "{}{}\n{}", tested.stdout, tested.stderr, known(&site));
    let doctor = api.get(POD, NAMESPACE, "sacker-doctor-default").await.expect("it is there");
    assert_eq!(doctor["status"]["phase"], "Succeeded", "{doctor:#}");

    helm.run(&["uninstall", "sacker", "--namespace", NAMESPACE, "--wait", "--timeout", WAIT]).success();
    assert!(api.get(DEPLOYMENT, NAMESPACE, "sacker-operator").await.is_none());
    assert_eq!(uids(cluster), before);
    assert!(api.get(TAG, TENANT, "stable").await.is_some_and(|tag| is_ready(&tag)));
    assert_eq!(home.sacker(&["resolve", "frontend-server@stable"]), pin);
}
