//! A real control plane: etcd, kube-apiserver and kube-controller-manager of the test bed, and ways to use it.
//!
//! What users type goes through kubectl. What a test only looks at goes through the API, so that a wait with a deadline
//! does not start a process fifty times a second.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use super::faultgate::{Gate, Upstream};
use super::process::Folder;
use super::testbed::{self, Server};
use super::unique;

/// How long anything may take that should happen by itself. Far more than it needs: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The committed CustomResourceDefinitions.
pub(crate) const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    group: &'static str,
    version: &'static str,
    name: &'static str,
    plural: &'static str,
    is_namespaced: bool,
}

const fn ours(name: &'static str, plural: &'static str, is_namespaced: bool) -> Kind {
    Kind { group: "sacker.dev", version: "v1alpha1", name, plural, is_namespaced }
}

const fn core(name: &'static str, plural: &'static str, is_namespaced: bool) -> Kind {
    Kind { group: "", version: "v1", name, plural, is_namespaced }
}

pub(crate) const LEDGER: Kind = ours("SackerLedger", "sackerledgers", false);
pub(crate) const PACKAGE: Kind = ours("SackerPackage", "sackerpackages", true);
pub(crate) const TAG: Kind = ours("SackerTag", "sackertags", true);
pub(crate) const NAMESPACE: Kind = core("Namespace", "namespaces", false);
pub(crate) const CONFIG_MAP: Kind = core("ConfigMap", "configmaps", true);
pub(crate) const POD: Kind = core("Pod", "pods", true);
pub(crate) const DEPLOYMENT: Kind =
    Kind { group: "apps", version: "v1", name: "Deployment", plural: "deployments", is_namespaced: true };
pub(crate) const EVENT: Kind =
    Kind { group: "events.k8s.io", version: "v1", name: "Event", plural: "events", is_namespaced: true };
pub(crate) const CRD: Kind = Kind {
    group: "apiextensions.k8s.io",
    version: "v1",
    name: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    is_namespaced: false,
};

impl Kind {
    fn resource(self) -> ApiResource {
        let api_version = match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        };
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version,
            kind: self.name.to_owned(),
            plural: self.plural.to_owned(),
        }
    }

    /// `sackertags.sacker.dev`
    pub(crate) fn resource_name(self) -> String {
        format!("{}.{}", self.plural, self.group).trim_end_matches('.').to_owned()
    }
}

/// A running control plane.
#[derive(Debug)]
pub(crate) struct Cluster {
    // Ended in this order: each needs the ones after it.
    _manager: Server,
    api_server: Mutex<Server>,
    _etcd: Server,
    folder: Folder,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// What it printed; fails the test unless it succeeded.
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// What it complained about; fails the test if it succeeded.
    pub(crate) fn failure(self) -> String {
        assert_ne!(self.code, Some(0), "it was accepted: {}", self.stdout);
        self.stderr
    }
}

impl Cluster {
    /// The control plane that most tests of this process share, with the CustomResourceDefinitions. Nothing where a
    /// component is missing, which was said then.
    pub(crate) fn shared() -> Option<&'static Self> {
        static CELL: OnceLock<Option<Cluster>> = OnceLock::new();
        let started = CELL.get_or_init(|| {
            let cluster = Self::start()?;
            testbed::announce("kube-apiserver", &cluster.api_server.lock().expect("nobody else has it"));
            cluster.install_crds();
            Some(cluster)
        });
        if started.is_none() {
            Self::is_there();
        }
        started.as_ref()
    }

    fn is_there() -> bool {
        let etcd = testbed::is_there("etcd");
        testbed::is_there("kubernetes") && etcd
    }

    /// A control plane of the caller's own, without the CustomResourceDefinitions.
    pub(crate) fn start() -> Option<Self> {
        if !Self::is_there() {
            return None;
        }
        let folder = Folder::new("cluster");
        let etcd = Server::start("etcd", folder.path(), 2, &[], &[]);
        let api_server = Server::start("kube-apiserver", folder.path(), 1, &[etcd.port()], &[]);
        let manager = Server::start("kube-controller-manager", folder.path(), 1, &[], &[]);
        let api_server = Mutex::new(api_server);
        Some(Self { _manager: manager, api_server, _etcd: etcd, folder })
    }

    /// `kill -9` of the API server, and its start on the same ports. Returns once it answers again.
    pub(crate) fn restart_api_server(&self) {
        let mut server = self.api_server.lock().unwrap_or_else(PoisonError::into_inner);
        server.process().kill();
        let ports = server.ports().to_vec();
        let started = Server::start_on("kube-apiserver", self.folder(), ports, &[]);
        *server = started.unwrap_or_else(|log| panic!("the API server does not come back:\n{log}"));
    }

    /// Where it keeps its files; removed with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// For `KUBECONFIG`: full rights.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder().join("admin.kubeconfig")
    }

    /// For `KUBECONFIG`: the rights of this user, by impersonation.
    pub(crate) fn kubeconfig_as(&self, user: &str) -> PathBuf {
        let mut kubeconfig = Kubeconfig::read_from(self.kubeconfig()).expect("a kubeconfig");
        for identity in &mut kubeconfig.auth_infos {
            identity.auth_info.get_or_insert_default().impersonate = Some(user.to_owned());
        }
        let path = self.folder().join(format!("{}.kubeconfig", user.replace(':', "-")));
        let text = serde_json::to_string(&kubeconfig).expect("it is plain data");
        std::fs::write(&path, text).expect("it can be written");
        path
    }

    /// A gate in front of the API server.
    pub(crate) fn gate(&self, seed: u64) -> Gate {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig()).expect("a kubeconfig");
        let cluster = kubeconfig.clusters[0].cluster.as_ref().expect("a cluster");
        let authority = std::fs::read(self.folder().join("pki/ca.crt")).expect("the test bed made it");
        let upstream = Upstream::new(cluster.server.as_deref().expect("its address"));
        Gate::before(&upstream.trusting(&authority).expect("an authority"), seed)
    }

    /// For `KUBECONFIG`: full rights, through this gate. The token goes in plain text over the loopback device.
    pub(crate) fn kubeconfig_through(&self, gate: &Gate) -> PathBuf {
        let mut kubeconfig = Kubeconfig::read_from(self.kubeconfig()).expect("a kubeconfig");
        for named in &mut kubeconfig.clusters {
            let cluster = named.cluster.get_or_insert_default();
            cluster.server = Some(gate.url());
            cluster.certificate_authority_data = None;
        }
        let port = gate.url().rsplit(':').next().expect("a port").to_owned();
        let path = self.folder().join(format!("gate-{port}.kubeconfig"));
        let text = serde_json::to_string(&kubeconfig).expect("it is plain data");
        std::fs::write(&path, text).expect("it can be written");
        path
    }

    /// Installs the CustomResourceDefinitions and waits until they are served.
    pub(crate) fn install_crds(&self) {
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", CRDS]).success();
        let names = [LEDGER, PACKAGE, TAG].map(|kind| format!("crd/{}", kind.resource_name()));
        let [ledger, package, tag] = &names;
        let arguments = ["wait", "--for=condition=Established", "--timeout=30s", ledger, package, tag];
        self.kubectl(&arguments).success();
    }

    /// Runs kubectl, with full rights and files of its own.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Answer {
        self.kubectl_with(arguments, "")
    }

    /// Runs kubectl with this standard input.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], input: &str) -> Answer {
        static KUBECTL: OnceLock<String> = OnceLock::new();
        let mut child = Command::new(KUBECTL.get_or_init(|| testbed::program("kubectl")))
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.folder().join("kubectl-cache"))
            .env("HOME", self.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let output = std::thread::scope(|scope| {
            // Beside reading: it answers while it reads, and waits when nobody takes the answer. One that reads nothing has
            // ended already; its exit code says why.
            scope.spawn(move || stdin.write_all(input.as_bytes()));
            child.wait_with_output().expect("kubectl ends")
        });
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Answer { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// `kubectl apply` of YAML or JSON; fails the test if it is refused.
    pub(crate) fn apply(&self, text: &str) -> String {
        self.kubectl_with(&["apply", "-f", "-"], text).success()
    }

    /// A new namespace with these labels.
    pub(crate) async fn namespace(&self, labels: &[(&str, &str)]) -> String {
        let name = unique("test");
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        let body = serde_json::json!({ "metadata": { "labels": labels } });
        self.api().await.apply(NAMESPACE, "", &name, body).await;
        name
    }

    /// The API, for a test of its own runtime.
    pub(crate) async fn api(&self) -> Objects {
        Objects(self.client().await)
    }

    /// The same through a gate.
    pub(crate) async fn api_through(&self, gate: &Gate) -> Objects {
        Objects(client(&self.kubeconfig_through(gate)).await)
    }

    /// A client with full rights, for a test of its own runtime.
    pub(crate) async fn client(&self) -> Client {
        client(&self.kubeconfig()).await
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a complete kubeconfig")).expect("a client")
}

/// Objects of any kind, as JSON.
#[derive(Clone)]
pub(crate) struct Objects(Client);

impl Objects {
    fn of(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        let resource = kind.resource();
        if kind.is_namespaced {
            Api::namespaced_with(self.0.clone(), namespace, &resource)
        } else {
            Api::all_with(self.0.clone(), &resource)
        }
    }

    /// The object, if it is there. `namespace` counts only for a namespaced kind, here and below.
    pub(crate) async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        let found = self.of(kind, namespace).get_opt(name).await.expect("the API answers");
        found.map(shown)
    }

    /// Who has applied something to the object, server-side.
    pub(crate) async fn appliers(&self, kind: Kind, namespace: &str, name: &str) -> BTreeSet<String> {
        let found = self.of(kind, namespace).get_opt(name).await.expect("the API answers");
        let entries = found.and_then(|object| object.metadata.managed_fields).unwrap_or_default();
        let applied = entries.into_iter().filter(|entry| entry.operation.as_deref() == Some("Apply"));
        applied.filter_map(|entry| entry.manager).collect()
    }

    /// All objects of a kind in a namespace.
    pub(crate) async fn list(&self, kind: Kind, namespace: &str) -> Vec<Value> {
        let found = self.of(kind, namespace).list(&ListParams::default()).await.expect("the API answers");
        found.items.into_iter().map(shown).collect()
    }

    /// What happens to the objects of a kind in a namespace, those that are there first.
    pub(crate) async fn watch(
        &self,
        kind: Kind,
        namespace: &str,
    ) -> BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>> {
        let parameters = WatchParams::default().timeout(120);
        self.of(kind, namespace).watch(&parameters, "0").await.expect("the API answers").boxed()
    }

    /// Server-side apply of an object whose `apiVersion`, `kind` and name are left out.
    pub(crate) async fn apply(&self, kind: Kind, namespace: &str, name: &str, mut body: Value) -> Value {
        let resource = kind.resource();
        body["apiVersion"] = resource.api_version.into();
        body["kind"] = kind.name.into();
        body["metadata"]["name"] = name.into();
        let parameters = PatchParams::apply("tests").force();
        let applied = self.of(kind, namespace).patch(name, &parameters, &Patch::Apply(&body)).await;
        shown(applied.expect("it is accepted"))
    }

    /// A merge patch.
    pub(crate) async fn patch(&self, kind: Kind, namespace: &str, name: &str, body: Value) -> Value {
        let patch = Patch::Merge(&body);
        let patched = self.of(kind, namespace).patch(name, &PatchParams::default(), &patch).await;
        shown(patched.expect("it is accepted"))
    }

    /// A merge patch of the status, with an administrator's rights.
    pub(crate) async fn patch_status(&self, kind: Kind, namespace: &str, name: &str, body: Value) {
        let patch = Patch::Merge(&body);
        let patched = self.of(kind, namespace).patch_status(name, &PatchParams::default(), &patch).await;
        patched.expect("it is accepted");
    }

    /// Server-side apply of a status as an administrator who takes fields over.
    pub(crate) async fn apply_status(&self, kind: Kind, namespace: &str, name: &str, status: &Value) {
        let resource = kind.resource();
        let body = serde_json::json!({
            "apiVersion": resource.api_version, "kind": kind.name, "metadata": { "name": name }, "status": status
        });
        let parameters = PatchParams::apply("tests").force();
        let applied = self.of(kind, namespace).patch_status(name, &parameters, &Patch::Apply(&body)).await;
        applied.expect("it is accepted");
    }

    /// How many objects there are, read in pages as a watch reads them at its start.
    pub(crate) async fn count(&self, kind: Kind, namespace: &str) -> usize {
        let (api, mut count, mut page) = (self.of(kind, namespace), 0, ListParams::default().limit(500));
        loop {
            let found = api.list(&page).await.expect("the API answers");
            count += found.items.len();
            match found.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return count,
            }
        }
    }

    /// Deletes the object and does not wait.
    pub(crate) async fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        self.of(kind, namespace).delete(name, &DeleteParams::default()).await.expect("it is accepted");
    }

    /// Waits until the object is there and `holds`; fails the test with `what` and the object as it is after `limit`.
    pub(crate) async fn until(
        &self,
        (kind, namespace, name): (Kind, &str, &str),
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&Value) -> bool,
    ) -> Value {
        let end = Instant::now() + limit;
        loop {
            let found = self.get(kind, namespace, name).await;
            match found {
                Some(object) if holds(&object) => return object,
                last => assert!(
                    Instant::now() < end,
                    "after {limit:?} still not: {what}; {} '{name}' is {}",
                    kind.name,
                    last.map_or_else(|| "not there".to_owned(), |object| format!("{object:#}"))
                ),
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits until the object is gone.
    pub(crate) async fn until_gone(
        &self,
        (kind, namespace, name): (Kind, &str, &str),
        limit: Duration,
    ) -> Duration {
        let start = Instant::now();
        while let Some(object) = self.get(kind, namespace, name).await {
            assert!(
                start.elapsed() < limit,
                "after {limit:?} there still is {} '{name}': {object:#}",
                kind.name
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        start.elapsed()
    }
}

/// An object as JSON, without what nobody reads.
fn shown(mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    serde_json::to_value(object).expect("an object is JSON")
}
