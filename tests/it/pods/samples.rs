//! The manifests of `config/samples/pods/`, and a namespace to run them in.

use std::time::Duration;

use serde_json::{Value, json};

use super::FILE;
use super::home::Home;
use crate::support::cluster::{CONFIG_MAP, PATIENCE, POD};
use crate::support::node::{APPLICATION, Node, Site};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/samples/pods");

fn sample(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("{SAMPLES}/{name}.yaml")).expect("a sample");
    serde_saphyr::from_str(&text).expect("YAML")
}

/// The Deployment of a sample, on the network of this machine and with an application that is there.
pub(super) fn deployment(name: &str) -> Value {
    let mut deployment = sample(name);
    let spec = &mut deployment["spec"]["template"]["spec"];
    spec["hostNetwork"] = json!(true);
    spec["dnsPolicy"] = json!("Default");
    spec["containers"][0]["image"] = json!(APPLICATION);
    deployment
}

/// One pod as a Deployment makes it, but tried once only.
pub(super) fn as_pod(name: &str, deployment: &Value) -> Value {
    let mut metadata = deployment["spec"]["template"]["metadata"].clone();
    metadata["name"] = json!(name);
    let mut spec = deployment["spec"]["template"]["spec"].clone();
    spec["restartPolicy"] = json!("Never");
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
}

pub(super) fn init_container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["initContainers"][0]
}

/// `state` or `lastState` of the first container of these statuses.
pub(super) fn container_state<'a>(pod: &'a Value, statuses: &str, state: &str) -> &'a Value {
    &pod["status"][statuses][0][state]
}

/// A namespace of the shared site.
pub(super) struct Pods {
    pub(super) site: &'static Site,
    pub(super) namespace: String,
}

impl Pods {
    /// Nothing where a part is missing, which was said then.
    pub(super) async fn new() -> Option<Self> {
        let site = Site::shared()?;
        let namespace = site.cluster.namespace(&[]).await;
        let account = ["-n", &namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s"];
        site.cluster.kubectl(&account).success();
        Some(Self { site, namespace })
    }

    /// The ConfigMap that the samples take their settings from, with credentials.
    pub(super) async fn settings(&self, home: &Home, store: &str) {
        let sample = sample("settings");
        let mut data = sample["data"].clone();
        let [access, secret] = home.keys();
        for (name, value) in [("SACKER_LEDGER", home.ledger.as_str()), ("SACKER_STORE", store)] {
            assert!(data[name].is_string(), "the sample has {name}");
            data[name] = json!(value);
        }
        for (name, value) in [("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret)] {
            data[name] = json!(value);
        }
        let name = sample["metadata"]["name"].as_str().expect("a name");
        let api = self.site.cluster.api().await;
        api.apply(CONFIG_MAP, &self.namespace, name, json!({ "data": data })).await;
    }

    fn kubectl(&self, arguments: &[&str]) -> crate::support::cluster::Answer {
        self.site.cluster.kubectl(&[&["-n", &self.namespace], arguments].concat())
    }

    pub(super) fn create(&self, object: &Value) {
        let arguments = ["-n", &self.namespace, "create", "-f", "-"];
        self.site.cluster.kubectl_with(&arguments, &object.to_string()).success();
    }

    /// What `kubectl describe` says of a pod; of all for an empty name.
    pub(super) fn describe(&self, pod: &str) -> String {
        let arguments: &[&str] =
            if pod.is_empty() { &["describe", "pod"] } else { &["describe", "pod", pod] };
        self.kubectl(arguments).success()
    }

    /// Waits until a Deployment is available; fails the test with what is known of its pods.
    pub(super) fn available(&self, name: &str, limit: Duration) {
        let (object, limit) = (format!("deployment/{name}"), format!("--timeout={}s", limit.as_secs()));
        let answer = self.kubectl(&["wait", "--for=condition=Available", &object, &limit]);
        assert_eq!(answer.code, Some(0), "{}{}\n{}", answer.stderr, self.describe(""), self.site.node.log());
    }

    /// The one pod of a Deployment that is not going away.
    pub(super) async fn pod_of(&self, deployment: &str) -> Value {
        let api = self.site.cluster.api().await;
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let found = api.list(POD, &self.namespace).await.into_iter().find(|pod| {
                pod["metadata"]["labels"]["app"] == deployment
                    && pod["metadata"]["deletionTimestamp"].is_null()
            });
            if let Some(pod) = found {
                return pod;
            }
            assert!(std::time::Instant::now() < end, "no pod of {deployment}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a pod's init container has ended.
    pub(super) async fn init_ended(&self, pod: &str) -> Value {
        let ended =
            |pod: &Value| container_state(pod, "initContainerStatuses", "state")["terminated"].is_object();
        let api = self.site.cluster.api().await;
        api.until((POD, &self.namespace, pod), "the init container ended", PATIENCE * 2, ended).await
    }

    /// Waits until a pod's init container is known to run.
    pub(super) async fn init_runs(&self, pod: &Value) -> Value {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let runs =
            |pod: &Value| container_state(pod, "initContainerStatuses", "state")["running"].is_object();
        let api = self.site.cluster.api().await;
        api.until((POD, &self.namespace, name), "the init container runs", PATIENCE, runs).await
    }

    /// A command on the artifact as the application's container has it, run by root.
    pub(super) fn in_application(&self, pod: &Value, command: &str) -> Vec<u8> {
        self.run_in(pod, command, FILE)
    }

    /// The same on its directory.
    pub(super) fn in_application_directory(&self, pod: &Value, command: &str) -> Vec<u8> {
        self.run_in(pod, command, "/artifacts")
    }

    fn run_in(&self, pod: &Value, command: &str, path: &str) -> Vec<u8> {
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().expect("it runs");
        let process = self.site.node.process(id).expect("it runs");
        let command = format!("{command} '{}' 2>/dev/null", Node::path(process, path));
        self.site.node.enter(&["sh", "-c", &command])
    }
}
