//! Real pods: the image that `make image` writes, run by a kubelet as users run it, with the manifests of
//! `config/samples/pods/`. What changes in a manifest is only what depends on the place: the network of the machine, since
//! the servers listen on loopback, and the application.

pub(crate) mod home;
mod moves;
mod samples;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::home::Home;
use self::samples::{Pods, as_pod, container_state, deployment, init_container};
use crate::fetch::noise;
use crate::support::cluster::{CONFIG_MAP, PATIENCE};
use crate::support::eventually;
use crate::support::faultgate::{Action, Gate, Match, Rule};
use crate::support::node::Node;
use crate::support::testbed;
use crate::support::tier::{figure, summary};

/// How long a workload may take that fetches much on a busy machine.
const FETCH_PATIENCE: Duration = Duration::from_mins(5);

const FILE: &str = "/artifacts/app.jar";

/// What a cloud does for a pod's service account: credentials for every container that has none. Without match conditions:
/// a policy that they kept from being invoked is not invoked again after the injection, and which is first is nobody's choice.
const CLOUD: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: the-cloud}
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    objectSelector: {matchLabels: {sacker.dev/inject: enabled}}
    resourceRules:
    - {apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        has(object.spec.initContainers) && object.spec.initContainers[0].name == 'sacker-init' &&
        !object.spec.initContainers[0].env.exists(e, e.name == 'AWS_ACCESS_KEY_ID') ?
        ['AWS_ACCESS_KEY_ID=KEY', 'AWS_SECRET_ACCESS_KEY=SECRET'].map(pair, JSONPatch{
          op: 'add', path: '/spec/initContainers/0/env/-',
          value: Object.spec.initContainers.env{name: pair.split('=')[0], value: pair.split('=')[1]}
        }) : []
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: the-cloud}
spec: {policyName: the-cloud}
";

/// Installs the policy, its settings, and the credentials of a cloud; returns once they are in force.
async fn inject(pods: &Pods, home: &Home) {
    let cluster = &pods.site.cluster;
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/config/policies/injection.yaml");
    cluster.kubectl(&["apply", "-f", policy]).success();
    let [access, secret] = home.keys();
    cluster.apply(&CLOUD.replace("KEY'", &format!("{access}'")).replace("SECRET'", &format!("{secret}'")));
    cluster.kubectl(&["create", "namespace", "sacker-system"]).success();
    let image = init_container(&deployment("by-spec"))["image"].as_str().expect("an image").to_owned();
    let data = json!({ "data": { "image": image, "ledger": home.ledger, "store": home.store } });
    cluster.api().await.apply(CONFIG_MAP, "sacker-system", "sacker-injection", data).await;

    let pod = as_pod("asks", &deployment("injected")).to_string();
    eventually("the policies are in force", PATIENCE, async || {
        let arguments = ["-n", &pods.namespace, "create", "--dry-run=server", "-o", "json", "-f", "-"];
        cluster.kubectl_with(&arguments, &pod).stdout.contains("AWS_SECRET_ACCESS_KEY")
    })
    .await;
}

#[tokio::test]
async fn pods_see_exactly_the_bytes() {
    let Some(pods) = Pods::new().await else { return };
    let Some(home) = Home::new() else { return };
    pods.settings(&home, &home.store).await;
    let bytes = noise(3_000_000);
    let pin = home.add("frontend-server", &bytes);

    let api = pods.site.cluster.api().await;
    let published = json!({ "data": { "live": pin, "live.basename": "app.jar" } });
    api.apply(CONFIG_MAP, &pods.namespace, "frontend-artifacts", published).await;
    inject(&pods, &home).await;

    let ways = ["by-spec", "by-pin", "by-pin-file", "injected"];
    for way in ways {
        let mut workload = deployment(way);
        if way == "by-pin" {
            workload["spec"]["template"]["metadata"]["annotations"]["resolved.sacker.dev/app"] = json!(pin);
        }
        pods.create(&workload);
    }
    for way in ways {
        pods.available(way, PATIENCE * 2);
        let pod = pods.pod_of(way).await;
        let state = container_state(&pod, "initContainerStatuses", "state");
        assert_eq!(state["terminated"]["exitCode"], 0, "{way}: {pod:#}");
        let seen = pods.in_application(&pod, "cat");
        assert!(seen == bytes, "{way}: {} bytes, not {}", seen.len(), bytes.len());
        let status = String::from_utf8(pods.in_application(&pod, "stat -c '%u %a'")).expect("UTF-8");
        assert_eq!(status.trim(), "65532 644", "{way}");
        // Not even root can write through the application's mount.
        let refused = String::from_utf8(pods.in_application(&pod, "! touch")).expect("UTF-8");
        assert_eq!(refused, "", "{way}");
    }
}

#[tokio::test]
async fn describe_says_why_a_pod_does_not_start() {
    let Some(pods) = Pods::new().await else { return };
    let Some(home) = Home::new() else { return };
    pods.settings(&home, &home.store).await;
    let size = 12_000_000;
    home.add("wrong", &noise(size));
    home.spoil("wrong", Some(&noise(size + 1)[1..])).await;
    home.add("short", &noise(size - 7));
    home.spoil("short", Some(&noise(size - 8))).await;
    home.add("missing", b"will be gone");
    home.spoil("missing", None).await;
    home.add("large", &noise(size + 8));

    let cases = [
        ("wrong", 5, "error: ", "sha256"),
        ("short", 5, "error: ", "bytes"),
        ("missing", 3, "error: ", "no blob"),
        ("large", 8, "error: ", "/artifacts"),
        ("unknown", 3, "error: ", "no package 'unknown'"),
    ];
    for (package, ..) in cases {
        let mut pod = as_pod(package, &deployment("by-spec"));
        pod["spec"]["initContainers"][0]["args"][0] = json!(format!("{package}@latest"));
        if package == "large" {
            pod["spec"]["volumes"][0]["emptyDir"] = json!({ "medium": "Memory", "sizeLimit": "4Mi" });
        }
        pods.create(&pod);
    }
    for (package, code, begin, word) in cases {
        let pod = pods.init_ended(package).await;
        let ended = &container_state(&pod, "initContainerStatuses", "state")["terminated"];
        let message = ended["message"].as_str().unwrap_or_default();
        assert_eq!(ended["exitCode"], code, "{package}: {ended:#}");
        assert!(message.starts_with(begin) && message.contains(word), "{package}: {message}");
        let told = pods.describe(package);
        assert!(told.contains(&format!("Exit Code:    {code}")), "{told}");
        for line in message.lines() {
            assert!(told.contains(line), "{package}: no '{line}' in {told}");
        }
    }
}

#[tokio::test]
async fn a_killed_init_container_starts_again() {
    let Some(pods) = Pods::new().await else { return };
    let Some(home) = Home::new() else { return };
    let Some(minio) = testbed::minio() else { return };
    let gate = Gate::start(&minio.endpoint, 1);
    pods.settings(&home, &home.behind(&gate)).await;
    let bytes = noise(24_000_000);
    home.add("frontend-server", &bytes);

    gate.set_rules(vec![Rule::new(Match::target("GetObject"), Action::Throttle(400_000))]);
    pods.create(&deployment("by-spec"));
    let arrives = || gate.log().iter().any(|entry| entry.operation == "GetObject" && entry.bytes_out > 0);
    eventually("bytes arrive", PATIENCE * 2, async || arrives()).await;
    let pod = pods.init_runs(&pods.pod_of("by-spec").await).await;
    let id = pod["status"]["initContainerStatuses"][0]["containerID"].as_str();
    let process = pods.site.node.process(id.expect("it runs")).expect("it runs");
    is_confined(&pods.site.node, process);

    gate.set_rules(Vec::new());
    pods.site.node.enter(&["kill", "-KILL", &process.to_string()]);
    pods.available("by-spec", PATIENCE * 2);
    let pod = pods.pod_of("by-spec").await;
    assert_eq!(pod["status"]["initContainerStatuses"][0]["restartCount"], 1, "{pod:#}");
    assert!(pods.in_application(&pod, "cat") == bytes);
    let listed = String::from_utf8(pods.in_application_directory(&pod, "ls -A")).expect("UTF-8");
    assert_eq!(listed.trim(), "app.jar", "the killed one's temporary file is gone");
}

/// What the manifest says of its rights is what the kernel grants.
fn is_confined(node: &Node, process: u32) {
    node.is_confined(process);
    let limit = format!(
        "group=$(grep -E ':memory:|^0::' /proc/{process}/cgroup | head -1 | cut -d : -f 3)
         cat /sys/fs/cgroup/memory$group/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup$group/memory.max"
    );
    let limit = String::from_utf8(node.enter(&["sh", "-c", &limit])).expect("UTF-8");
    assert_eq!(limit.trim(), (64 << 20).to_string());
}

#[tokio::test]
async fn a_large_artifact_goes_through_a_small_container() {
    let Some(pods) = Pods::new().await else { return };
    let Some(home) = Home::new() else { return };
    pods.settings(&home, &home.store).await;
    let mebibytes = figure(128, 1024);
    let bytes = noise(mebibytes << 20);
    let pin = home.add("frontend-server", &bytes);

    let started = Instant::now();
    pods.create(&deployment("by-spec"));
    let mut peak = 0;
    let pod = loop {
        let pod = pods.pod_of("by-spec").await;
        peak = peak.max(peak_of(&pods, &pod).unwrap_or(0));
        if pod["status"]["containerStatuses"][0]["ready"] == true {
            break pod;
        }
        let waited = started.elapsed();
        assert!(waited < FETCH_PATIENCE, "{}\n{}", pods.describe(""), pods.site.node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let took = started.elapsed();
    assert_eq!(pod["status"]["initContainerStatuses"][0]["restartCount"], 0, "{pod:#}");
    let line = String::from_utf8(pods.in_application(&pod, "sha256sum")).expect("UTF-8");
    let sha256 = line.split_whitespace().next().expect("a digest");
    assert!(pin.ends_with(sha256), "{pin}, not {sha256}");
    summary(&format!(
        "pods: {mebibytes} MiB under a limit of 64 MiB, ready after {:.1} s, at most {:.1} MiB resident",
        took.as_secs_f64(),
        f64::from(peak) / 1024.0
    ));
}

/// The most that the init container has had in memory, in KiB; nothing while it does not run.
fn peak_of(pods: &Pods, pod: &Value) -> Option<u32> {
    let id = pod["status"]["initContainerStatuses"][0]["containerID"].as_str()?;
    let status = pods.site.node.proc(pods.site.node.process(id)?, "status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
