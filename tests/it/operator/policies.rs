//! The policies of `config/policies/` on a real API server, each with the writes of the operator beside it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::bench::Bench;
use super::process::Operator;
use crate::support::cluster::{Answer, Cluster, PATIENCE, TAG};

const OPERATOR: &str = "system:serviceaccount:sacker-system:sacker-operator";
const ROLLOUT: &str = "system:serviceaccount:sacker-system:sacker-rollout";

fn install(cluster: &Cluster, file: &str) {
    let path = format!("{}/config/{file}", env!("CARGO_MANIFEST_DIR"));
    cluster.kubectl(&["apply", "-f", &path]).success();
}

/// `kubectl` in a namespace as somebody.
fn kubectl_as(cluster: &Cluster, user: &str, namespace: &str, arguments: &[&str], input: &str) -> Answer {
    let identity = format!("--as={user}");
    cluster.kubectl_with(&[&["-n", namespace, identity.as_str()], arguments].concat(), input)
}

/// Lets a user do this in a namespace.
fn grant(cluster: &Cluster, namespace: &str, user: &str, verbs: &str, resource: &str, name: Option<&str>) {
    let role = format!("{user}-{}", name.unwrap_or("all"));
    let (verbs, resource) = (format!("--verb={verbs}"), format!("--resource={resource}"));
    let name = name.map(|name| format!("--resource-name={name}"));
    let mut arguments = vec!["-n", namespace, "create", "role", &role, &verbs, &resource];
    arguments.extend(name.as_deref());
    cluster.kubectl(&arguments).success();
    let (role_flag, user) = (format!("--role={role}"), format!("--user={user}"));
    cluster.kubectl(&["-n", namespace, "create", "rolebinding", &role, &role_flag, &user]).success();
}

/// A policy takes a moment to be in force: asks until it is.
async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An operator with the rights of `config/rbac/operator.yaml` and no others.
fn operator(cluster: &Cluster, arguments: &[&str]) -> Operator {
    install(cluster, "rbac/operator.yaml");
    let user = format!("--user={OPERATOR}");
    let role = "--clusterrole=sacker-operator";
    cluster.kubectl(&["create", "clusterrolebinding", "sacker-operator", role, &user]).success();
    let operator = Operator::start_as(cluster, OPERATOR, arguments);
    operator.until_ready();
    operator
}

#[tokio::test]
async fn only_who_may_promote_moves_a_tag_and_the_history_says_who() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let bench = Bench::on(&cluster, None).await;
    let namespace = bench.namespace.as_str();
    bench.versions(2).await;
    for user in ["ann", "bob"] {
        grant(
            &cluster,
            namespace,
            user,
            "get,list,create,update,patch,delete",
            "sackertags.sacker.dev",
            None,
        );
    }
    grant(&cluster, namespace, "ann", "promote", "sackertags.sacker.dev", Some("live"));
    grant(&cluster, namespace, "bob", "promote", "sackertags.sacker.dev", Some("canary"));
    install(&cluster, "policies/promote.yaml");
    install(&cluster, "policies/actor.yaml");
    let operator = operator(&cluster, &["--trust-requested-by"]);

    let live = bench.tag_yaml(namespace, "live", "live", "version: 1");
    let apply = |user: &str, yaml: &str| kubectl_as(&cluster, user, namespace, &["apply", "-f", "-"], yaml);
    let refused = until("the policy is in force", || {
        let dry = ["apply", "--dry-run=server", "-f", "-"];
        let answer = kubectl_as(&cluster, "bob", namespace, &dry, &live);
        (answer.code != Some(0)).then_some(answer.stderr)
    })
    .await;
    let expected = format!("user \"bob\" may not promote to tag \"live\" in namespace \"{namespace}\"");
    assert!(refused.contains(&expected), "{refused}");
    assert!(refused.contains("it takes a Role with verb \"promote\""), "{refused}");
    until("users are stamped", || {
        let json = ["apply", "--dry-run=server", "-o", "json", "-f", "-"];
        let answer = kubectl_as(&cluster, "ann", namespace, &json, &live).success();
        let object: Value = serde_json::from_str(&answer).expect("JSON");
        (object["metadata"]["annotations"]["sacker.dev/requested-by"] == "ann").then_some(())
    })
    .await;

    // Forged from the start.
    let forged = live.replace("metadata: {", "metadata: {annotations: {sacker.dev/requested-by: mallory}, ");
    apply("ann", &forged).success();
    let object = bench.until_applied("live", 1).await;
    assert_eq!(object["metadata"]["annotations"]["sacker.dev/requested-by"], "ann");
    assert!(object["metadata"]["finalizers"].is_array(), "the operator's own writes pass");
    apply("bob", &bench.tag_yaml(namespace, "canary", "canary", "version: 1")).success();
    bench.until_applied("canary", 1).await;

    // Forged later, without a change of the wish, and removed.
    for value in ["sacker.dev/requested-by=mallory", "sacker.dev/requested-by-"] {
        let annotate = ["annotate", "--overwrite", "sackertag", "live", value];
        kubectl_as(&cluster, "bob", namespace, &annotate, "").success();
        let object = bench.api.get(TAG, namespace, "live").await.expect("it is there");
        assert_eq!(object["metadata"]["annotations"]["sacker.dev/requested-by"], "ann", "{value}");
    }
    let patch = ["patch", "sackertag", "live", "--type=merge", "-p", r#"{"spec": {"version": 2}}"#];
    let refused = kubectl_as(&cluster, "bob", namespace, &patch, "").failure();
    assert!(refused.contains(&expected), "{refused}");
    kubectl_as(&cluster, "ann", namespace, &patch, "").success();
    bench.until_applied("live", 2).await;
    let by = async |tag: &str| -> Vec<String> {
        bench.history(tag).await.iter().map(|event| event.by.clone()).collect()
    };
    assert_eq!(by("live").await, ["ann", "ann"]);
    assert_eq!(by("canary").await, ["bob"]);

    // A tag that goes with its object is a move like any other; one that stays is none. The operator takes its finalizer
    // away in both cases.
    let with_its_tag =
        ["patch", "sackertag", "live", "--type=merge", "-p", r#"{"spec": {"deletionPolicy": "Delete"}}"#];
    kubectl_as(&cluster, "bob", namespace, &with_its_tag, "").failure();
    kubectl_as(&cluster, "ann", namespace, &with_its_tag, "").success();
    let delete = |user: &str, name: &str| {
        kubectl_as(&cluster, user, namespace, &["delete", "sackertag", name, "--timeout=30s"], "")
    };
    let refused = delete("bob", "live").failure();
    assert!(refused.contains(&expected), "{refused}");
    delete("ann", "live").success();
    assert_eq!(bench.points_at("live").await, None);
    delete("ann", "canary").success();
    assert_eq!(bench.points_at("canary").await, Some(1));
    // Who deletes a namespace is not asked about its tags.
    apply("ann", &bench.tag_yaml(namespace, "live", "live", "version: 1, deletionPolicy: Delete")).success();
    bench.until_applied("live", 1).await;
    cluster.kubectl(&["delete", "namespace", namespace, "--timeout=60s"]).success();
    assert_eq!(bench.points_at("live").await, None);
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
}

#[tokio::test]
async fn tenants_wish_and_never_write_a_status() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let bench = Bench::on(&cluster, None).await;
    let namespace = bench.namespace.as_str();
    bench.versions(2).await;
    install(&cluster, "rbac/tenants.yaml");
    for (user, role) in [("ann", "edit"), ("bob", "view")] {
        let (role, user_flag) = (format!("--clusterrole={role}"), format!("--user={user}"));
        let bind = ["-n", namespace, "create", "rolebinding", user, &role, &user_flag];
        cluster.kubectl(&bind).success();
    }
    let operator = operator(&cluster, &[]);
    let live = bench.tag_yaml(namespace, "live", "live", "version: 1");
    // The roles of Kubernetes take these up in a moment.
    until("who may edit may wish", || {
        let answer = kubectl_as(&cluster, "ann", namespace, &["apply", "-f", "-"], &live);
        (answer.code == Some(0)).then_some(())
    })
    .await;
    let object = bench.until_applied("live", 1).await;
    until("who may view may look", || {
        let answer = kubectl_as(&cluster, "bob", namespace, &["get", "stag,spkg"], "");
        (answer.code == Some(0)).then_some(())
    })
    .await;
    let forged = r#"{"status": {"version": 2}}"#;
    for user in ["ann", "bob"] {
        let patch = ["patch", "sackertag", "live", "--subresource=status", "--type=merge", "-p", forged];
        let refused = kubectl_as(&cluster, user, namespace, &patch, "").failure();
        assert!(refused.contains("Forbidden") || refused.contains("forbidden"), "{user}: {refused}");
        // Past the status subresource the API server drops what a client says of the status.
        let patch = ["patch", "sackertag", "live", "--type=merge", "-p", forged];
        let patched = kubectl_as(&cluster, user, namespace, &patch, "");
        assert_eq!(patched.code == Some(0), user == "ann", "{}", patched.stderr);
        let may = ["auth", "can-i", "promote", "sackertags.sacker.dev/live"];
        assert_eq!(kubectl_as(&cluster, user, namespace, &may, "").stdout.trim(), "no", "{user}");
    }
    let now = bench.api.get(TAG, namespace, "live").await.expect("it is there");
    assert_eq!(now["status"], object["status"]);
    let refused = kubectl_as(&cluster, "bob", namespace, &["delete", "sackertag", "live"], "").failure();
    assert!(refused.contains("forbidden"), "{refused}");
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
}

fn pod(name: &str, labels: &str, annotations: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{{labels}}}, annotations: {{{annotations}}}}}
spec:
  securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: app
    image: app
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
  - name: beside
    image: beside
    volumeMounts: [{{name: other, mountPath: /other}}]
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
  volumes: [{{name: other, emptyDir: {{}}}}]
"
    )
}

#[tokio::test]
async fn artifacts_are_injected_once_where_they_are_asked_for() {
    let Some(cluster) = Cluster::start() else { return };
    install(&cluster, "policies/injection.yaml");
    cluster.kubectl(&["create", "namespace", "sacker-system"]).success();
    let settings = ["image=sacker-init:test", "ledger=dynamo://us-east-1/sacker", "store=s3://blobs"]
        .map(|setting| format!("--from-literal={setting}"));
    let mut arguments = vec!["-n", "sacker-system", "create", "configmap", "sacker-injection"];
    arguments.extend(settings.iter().map(String::as_str));
    cluster.kubectl(&arguments).success();
    let namespace = cluster.namespace(&[("pod-security.kubernetes.io/enforce", "restricted")]).await;
    cluster.kubectl(&["-n", &namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s"]);
    let create = |yaml: &str, dry: bool| {
        let mut arguments = vec!["-n", &namespace, "create", "-o", "json", "-f", "-"];
        arguments.extend(dry.then_some("--dry-run=server"));
        cluster.kubectl_with(&arguments, yaml)
    };
    let object = |answer: Answer| -> Value { serde_json::from_str(&answer.success()).expect("JSON") };
    let label = "sacker.dev/inject: enabled";
    let fetch = "sacker.dev/fetch: 'frontend-server@live=/artifacts/app.jar  m@3=/artifacts/m'";
    let count = |pod: &Value| pod["spec"]["initContainers"].as_array().map_or(0, Vec::len);
    until("the policy is in force", || {
        let answer = create(&pod("first", label, fetch), true);
        (answer.code == Some(0) && count(&object(answer)) == 1).then_some(())
    })
    .await;

    let injected = object(create(&pod("first", label, fetch), false));
    let container = &injected["spec"]["initContainers"][0];
    assert_eq!(container["name"], "sacker-init");
    assert_eq!(container["image"], "sacker-init:test");
    assert_eq!(
        container["args"],
        serde_json::json!(["frontend-server@live=/artifacts/app.jar", "m@3=/artifacts/m"])
    );
    assert_eq!(container["env"][0]["value"], "dynamo://us-east-1/sacker");
    assert_eq!(container["env"][1]["value"], "s3://blobs");
    assert_eq!(container["resources"]["limits"]["memory"], "64Mi");
    let mounts = |index: usize| -> Vec<(String, bool)> {
        let mounts = injected["spec"]["containers"][index]["volumeMounts"].as_array().expect("mounts");
        let mount = |mount: &Value| {
            (mount["mountPath"].as_str().expect("a path").to_owned(), mount["readOnly"] == true)
        };
        mounts.iter().map(mount).filter(|(path, _)| !path.contains("serviceaccount")).collect()
    };
    assert_eq!(mounts(0), [("/artifacts".to_owned(), true)]);
    assert_eq!(mounts(1), [("/other".to_owned(), false), ("/artifacts".to_owned(), true)]);
    assert!(
        injected["spec"]["volumes"].as_array().is_some_and(|volumes| {
            volumes
                .iter()
                .any(|volume| volume["name"] == "sacker-artifacts" && volume["emptyDir"].is_object())
        }),
        "{injected:#}"
    );

    // What is injected already, as in a copy of a pod, stays as it is.
    let mut again = injected;
    again["metadata"] = serde_json::json!({
        "name": "again", "labels": { "sacker.dev/inject": "enabled" },
        "annotations": { "sacker.dev/fetch": "frontend-server@live=/artifacts/app.jar" }
    });
    assert_eq!(count(&object(create(&again.to_string(), false))), 1);
    // Without label nothing, whatever the annotation says.
    assert_eq!(count(&object(create(&pod("plain", "app: x", fetch), false))), 0);
    let refused = create(&pod("nothing", label, "a: b"), false).failure();
    assert!(refused.contains("the annotation sacker.dev/fetch does not say which"), "{refused}");
}

#[tokio::test]
async fn the_rollout_controller_is_fenced_in() {
    let Some(cluster) = Cluster::start() else { return };
    install(&cluster, "policies/rollout-fence.yaml");
    let namespace = cluster.namespace(&[]).await;
    let verbs = "--verb=get,list,create,update,patch,delete";
    let resources = "--resource=deployments.apps,statefulsets.apps,daemonsets.apps";
    cluster.kubectl(&["create", "clusterrole", "rollout", verbs, resources]).success();
    for user in [ROLLOUT, "ann"] {
        let (name, user) = (format!("{}-rollout", user.replace(':', "-")), format!("--user={user}"));
        cluster.kubectl(&["create", "clusterrolebinding", &name, "--clusterrole=rollout", &user]).success();
    }
    let workload = |kind: &str, more: &str| {
        format!(
            "
apiVersion: apps/v1
kind: {kind}
metadata: {{name: app, labels: {{team: web}}, annotations: {{note: ours}}}}
spec:
  {more}
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}, annotations: {{prometheus: 'yes'}}}}
    spec: {{containers: [{{name: app, image: app}}]}}
"
        )
    };
    let kinds = [
        ("deployment", "Deployment", "replicas: 2"),
        ("statefulset", "StatefulSet", "serviceName: app"),
        ("daemonset", "DaemonSet", "minReadySeconds: 0"),
    ];
    for (name, kind, more) in kinds {
        let yaml = workload(kind, more);
        let rollout =
            |arguments: &[&str], input: &str| kubectl_as(&cluster, ROLLOUT, &namespace, arguments, input);
        let refused = until("the policy is in force", || {
            let answer = rollout(&["create", "--dry-run=server", "-f", "-"], &yaml);
            (answer.code != Some(0)).then_some(answer.stderr)
        })
        .await;
        assert!(refused.contains("neither creates nor deletes workloads"), "{refused}");
        kubectl_as(&cluster, "ann", &namespace, &["create", "-f", "-"], &yaml).success();

        let template = |metadata: &str| format!(r#"{{"spec": {{"template": {{"metadata": {metadata}}}}}}}"#);
        let pin = template(r#"{"annotations": {"resolved.sacker.dev/app": "a@1+sha256:DIGEST"}}"#)
            .replace("DIGEST", &"0".repeat(64));
        let patch = |user: &str, patch: &str| {
            let arguments = ["patch", name, "app", "--type=merge", "-p", patch];
            kubectl_as(&cluster, user, &namespace, &arguments, "")
        };
        patch(ROLLOUT, &pin).success();
        patch(ROLLOUT, &pin.replace("a@1", "a@2")).success();
        patch(ROLLOUT, &template(r#"{"annotations": {"resolved.sacker.dev/app": null}}"#)).success();
        let applied = format!(
            r#"{{"apiVersion": "apps/v1", "kind": "{kind}", "metadata": {{"name": "app"}}, "spec": {{"template": {{"metadata":
            {{"annotations": {{"resolved.sacker.dev/app": "{}"}}}}}}}}}}"#,
            format_args!("a@1+sha256:{}", "0".repeat(64))
        );
        let apply = ["apply", "--server-side", "--field-manager=sacker-rollout", "-f", "-"];
        rollout(&apply, &applied).success();
        let everything_else = [
            template(r#"{"annotations": {"prometheus": "no"}}"#),
            template(r#"{"annotations": {"prometheus": null}}"#),
            template(r#"{"annotations": {"other.dev/app": "x"}}"#),
            template(r#"{"annotations": {"resolved.sacker.dev/app": "a@live"}}"#),
            template(r#"{"annotations": {"resolved.sacker.dev/app": "a@1+sha256:00"}}"#),
            template(r#"{"labels": {"more": "x"}}"#),
            r#"{"spec": {"template": {"spec": {"hostNetwork": true}}}}"#.to_owned(),
            r#"{"spec": {"template": {"spec": {"serviceAccountName": "admin"}}}}"#.to_owned(),
            r#"{"spec": {"minReadySeconds": 7}}"#.to_owned(),
            r#"{"spec": {"revisionHistoryLimit": 1}}"#.to_owned(),
            r#"{"metadata": {"labels": {"team": "evil"}}}"#.to_owned(),
            r#"{"metadata": {"annotations": {"note": null}}}"#.to_owned(),
            r#"{"metadata": {"finalizers": ["sacker.dev/never"]}}"#.to_owned(),
        ];
        for change in &everything_else {
            let refused = patch(ROLLOUT, change).failure();
            assert!(refused.contains("the rollout controller changes n"), "{kind} {change}: {refused}");
        }
        let refused = rollout(&["delete", name, "app"], "").failure();
        assert!(refused.contains("neither creates nor deletes workloads"), "{refused}");
        // Nobody else is.
        patch("ann", r#"{"spec": {"minReadySeconds": 7}}"#).success();
        kubectl_as(&cluster, "ann", &namespace, &["delete", name, "app"], "").success();
    }
}
