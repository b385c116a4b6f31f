//! helm as a process, with files of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::cluster::{Answer, Cluster};
use crate::support::process::Folder;
use crate::support::testbed;

/// The chart.
pub(super) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/sacker");

/// The oldest Kubernetes that serves all its policies.
const KUBERNETES: &str = "1.36.0";

pub(super) struct Helm {
    program: String,
    home: Folder,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// For commands that ask no cluster. Nothing where helm is missing, which was said then.
    pub(super) fn new() -> Option<Self> {
        testbed::is_there("helm").then(|| Self {
            program: testbed::program("helm"),
            home: Folder::new("helm"),
            kubeconfig: None,
        })
    }

    /// For a cluster, with full rights.
    pub(super) fn on(cluster: &Cluster) -> Option<Self> {
        Some(Self { kubeconfig: Some(cluster.kubeconfig()), ..Self::new()? })
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("HOME", self.home.path());
        // Where it looks without one is nobody's cluster.
        let none = self.home.path().join("no-kubeconfig");
        command.env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(&none));
        let output = command.output().expect("helm runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Answer { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// A file with these values: its path.
    pub(super) fn values(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.to_str().expect("test folders are UTF-8").to_owned()
    }

    /// A place of its own below its home.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What the chart renders to, as text.
    pub(super) fn template(&self, namespace: &str, more: &[&str]) -> Answer {
        let fixed = ["template", "sacker", CHART, "--namespace", namespace, "--kube-version", KUBERNETES];
        self.run(&[&fixed, more].concat())
    }

    /// The objects that the chart renders to.
    pub(super) fn objects(&self, namespace: &str, more: &[&str]) -> Vec<Value> {
        objects(&self.template(namespace, more).success())
    }
}

/// The objects of a text of several YAML documents; those of comments only are none.
pub(super) fn objects(text: &str) -> Vec<Value> {
    let documents = text.split("\n---").map(|document| document.trim_start_matches("---"));
    let is_empty =
        |document: &str| document.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
    documents
        .filter(|document| !is_empty(document))
        .map(|document| match serde_saphyr::from_str(document) {
            Ok(object) => object,
            Err(error) => panic!("{error}\n{document}"),
        })
        .collect()
}

/// `Deployment/sacker-operator`
pub(super) fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// The values files beside the chart.
pub(super) fn values_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(CHART).join("ci")).expect("the values files");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}
