//! What the tests of the operator work with: a namespace, a ledger of its own behind a SackerLedger, and the truth read
//! from that ledger through the library.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sacker::connect::Connect;
use sacker::ledger::{self, InitOptions, Ledger};
use sacker::model::{
    Actor, Change, Claim, Event, EventSource, NewVersion, PackageName, Sha256, TagChange, TagName, TagState,
    Version, VersionRecord, verify_chain,
};
use serde_json::Value;

use super::process::Operator;
use crate::support::cluster::{Cluster, EVENT, LEDGER, NAMESPACE, Objects, PACKAGE, PATIENCE, TAG};
use crate::support::process::Folder;
use crate::support::{eventually, testbed, unique};

/// The control plane and the operator that most tests share, as in production: one operator, many namespaces.
pub(crate) fn shared() -> Option<(&'static Cluster, &'static Operator)> {
    static OPERATOR: OnceLock<Operator> = OnceLock::new();
    let cluster = Cluster::shared()?;
    let operator = OPERATOR.get_or_init(|| {
        let operator = Operator::start(cluster, &[]);
        operator.until_ready();
        operator
    });
    Some((cluster, operator))
}

/// One test's namespace, SackerLedger and ledger.
pub(crate) struct Bench<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) operator: Option<&'a Operator>,
    pub(crate) api: Objects,
    pub(crate) namespace: String,
    /// The value of the label `team` of the namespaces that the SackerLedger grants everything.
    pub(crate) team: String,
    /// The SackerLedger.
    pub(crate) ledger_name: String,
    pub(crate) uri: String,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) package: PackageName,
    /// The ledger's directory, where it is one.
    pub(crate) home: Option<Folder>,
}

impl Bench<'static> {
    /// On the shared operator, with a ledger in files. Nothing where a component is missing.
    pub(crate) async fn new() -> Option<Self> {
        let (cluster, operator) = shared()?;
        let bench = Self::on(cluster, Some(operator)).await;
        bench.until_ledger("True").await;
        Some(bench)
    }

    /// On the shared operator, with a ledger on MinIO that is reached at `endpoint`.
    pub(crate) async fn on_s3(endpoint: &str) -> Option<Self> {
        let (cluster, operator) = shared()?;
        let uri = format!("s3://{}?endpoint={endpoint}&versions=sequence", unique("ledger"));
        let connect = testbed::minio()?.connect();
        let bench = Self::with(cluster, Some(operator), uri, &connect, None).await;
        bench.until_ledger("True").await;
        Some(bench)
    }

    /// On the shared operator, with a ledger on DynamoDB Local.
    pub(crate) async fn on_dynamodb() -> Option<Self> {
        let server = testbed::dynamodb()?;
        let (cluster, operator) = shared()?;
        let uri = server.uri(&unique("ledger"));
        let bench = Self::with(cluster, Some(operator), uri, &server.connect(), None).await;
        bench.until_ledger("True").await;
        Some(bench)
    }
}

impl<'a> Bench<'a> {
    /// On this cluster, with a ledger in files. Does not wait for anything that an operator does.
    pub(crate) async fn on(cluster: &'a Cluster, operator: Option<&'a Operator>) -> Self {
        let home = Folder::new("ledger");
        let uri = format!("file://{}", home.path().display());
        Self::with(cluster, operator, uri, &Connect::default(), Some(home)).await
    }

    /// On this cluster, with a ledger at `uri`.
    pub(crate) async fn with(
        cluster: &'a Cluster,
        operator: Option<&'a Operator>,
        uri: String,
        connect: &Connect,
        home: Option<Folder>,
    ) -> Self {
        let ledger = ledger::open(&uri.parse().expect("a ledger URI"), connect).await.expect("open");
        ledger.init(&InitOptions::default()).await.expect("init");
        let team = unique("team");
        let bench = Self {
            api: cluster.api().await,
            namespace: cluster.namespace(&[("team", &team)]).await,
            package: PackageName::existing("web/frontend"),
            ledger_name: unique("ledger"),
            cluster,
            operator,
            team,
            uri,
            ledger,
            home,
        };
        cluster.apply(&bench.ledger_yaml());
        bench
    }

    /// A SackerLedger that grants the team everything.
    pub(crate) fn ledger_yaml(&self) -> String {
        let Self { ledger_name, uri, team, .. } = self;
        format!(
            "
apiVersion: sacker.dev/v1alpha1
kind: SackerLedger
metadata: {{name: {ledger_name}}}
spec:
  ledger: {uri}
  pollInterval: 1s
  access:
  - namespaceSelector: {{matchLabels: {{team: {team}}}}}
    packages: ['**']
    verbs: [read, tag]
"
        )
    }

    /// Waits until the SackerLedger's condition `Ready` has this status.
    pub(crate) async fn until_ledger(&self, status: &str) -> Value {
        let what = format!("Ready={status}");
        let is = |object: &Value| Conditions::of(object).is("Ready", status);
        self.api.until((LEDGER, "", &self.ledger_name), &what, PATIENCE, is).await
    }

    /// The ledger's directory.
    pub(crate) fn directory(&self) -> &Path {
        self.home.as_ref().expect("a ledger in files").path()
    }

    // --- The ledger ---

    /// Adds a version and returns its record.
    pub(crate) async fn add(&self) -> VersionRecord {
        self.add_to(&self.package).await
    }

    pub(crate) async fn add_to(&self, package: &PackageName) -> VersionRecord {
        self.ledger.add(package, &new_version()).await.expect("add")
    }

    /// Adds versions 1 to `count`.
    pub(crate) async fn versions(&self, count: i64) {
        for number in 1..=count {
            assert_eq!(self.add().await.version.get(), number);
        }
    }

    pub(crate) async fn state(&self, tag: &str) -> Option<TagState> {
        self.ledger.tag(&self.package, &TagName::existing(tag)).await.expect("tag")
    }

    /// Where the tag points in the ledger.
    pub(crate) async fn points_at(&self, tag: &str) -> Option<i64> {
        self.state(tag).await.and_then(|state| state.version).map(Version::get)
    }

    /// Who owns the tag in the ledger.
    pub(crate) async fn owner_of(&self, tag: &str) -> Option<String> {
        self.state(tag).await.and_then(|state| state.owner().map(str::to_owned))
    }

    /// The tag's history, checked to be one linear chain.
    pub(crate) async fn history(&self, tag: &str) -> Vec<Event> {
        let events = self.ledger.history(&self.package, &TagName::existing(tag)).await.expect("history");
        verify_chain(&events).expect("one linear chain");
        events
    }

    /// Changes a tag as somebody else would.
    pub(crate) async fn change(&self, tag: &str, change: Change, claim: Claim) {
        let actor = Actor { by: "alice".into(), reason: Some("by hand".into()), source: EventSource::Cli };
        let change = TagChange::new(change, actor).claiming(claim);
        self.ledger.change_tag(&self.package, &TagName::existing(tag), &change).await.expect("change");
    }

    /// Moves a tag that nobody owns.
    pub(crate) async fn move_by_hand(&self, tag: &str, to: i64) {
        self.change(tag, Change::Move { to: version(to), hold: None }, Claim::Nobody).await;
    }

    /// Writes the pointer as a client of 2015 does: without event, owner or precondition.
    pub(crate) fn move_as_in_2015(&self, tag: &str, to: i64) {
        let path = self.directory().join(self.package.as_str()).join("tags").join(tag);
        std::fs::write(path, format!("{{\"version\": \"{to}\"}}")).expect("the pointer can be written");
    }

    // --- The objects ---

    /// Applies a SackerTag in this bench's namespace, named like its tag, with these further lines of its spec.
    pub(crate) fn apply_tag(&self, tag: &str, spec: &str) {
        self.cluster.apply(&self.tag_yaml(&self.namespace, tag, tag, spec));
    }

    pub(crate) fn tag_yaml(&self, namespace: &str, name: &str, tag: &str, spec: &str) -> String {
        let (ledger, package) = (&self.ledger_name, &self.package);
        object_yaml(
            "SackerTag",
            namespace,
            name,
            &format!("ledger: {ledger}, package: {package}, tag: {tag}, {spec}"),
        )
    }

    /// Applies a SackerPackage in this bench's namespace with these further fields of its spec (`publish: ...`).
    pub(crate) fn apply_package(&self, name: &str, spec: &str) {
        let (ledger, package) = (&self.ledger_name, &self.package);
        let separator = if spec.is_empty() { "" } else { ", " };
        let spec = format!("ledger: {ledger}, package: {package}{separator}{spec}");
        self.cluster.apply(&object_yaml("SackerPackage", &self.namespace, name, &spec));
    }

    /// Waits until a SackerTag's condition is as said, for its present generation.
    pub(crate) async fn until_tag(&self, name: &str, condition: &str, status: &str, reason: &str) -> Value {
        self.until_tag_in(&self.namespace, name, condition, status, reason).await
    }

    pub(crate) async fn until_tag_in(
        &self,
        namespace: &str,
        name: &str,
        condition: &str,
        status: &str,
        reason: &str,
    ) -> Value {
        let what = format!("{condition}={status}, reason {reason}");
        let is = |object: &Value| {
            let conditions = Conditions::of(object);
            conditions.is(condition, status) && conditions.reason(condition) == reason
        };
        self.api.until((TAG, namespace, name), &what, PATIENCE, is).await
    }

    /// Waits until a SackerTag is Ready at this version.
    pub(crate) async fn until_applied(&self, name: &str, version: i64) -> Value {
        let is = |object: &Value| {
            Conditions::of(object).is("Ready", "True") && object["status"]["version"] == version
        };
        let what = format!("Ready at version {version}");
        self.api.until((TAG, &self.namespace, name), &what, PATIENCE, is).await
    }

    /// Waits until a SackerPackage `holds`.
    pub(crate) async fn until_package(
        &self,
        name: &str,
        what: &str,
        holds: impl FnMut(&Value) -> bool,
    ) -> Value {
        self.api.until((PACKAGE, &self.namespace, name), what, PATIENCE, holds).await
    }

    /// Asks for a pass over an object and waits until it answers.
    pub(crate) async fn pass(&self, kind: crate::support::cluster::Kind, namespace: &str, name: &str) {
        let token = unique("pass");
        let body = serde_json::json!({
            "metadata": { "annotations": { "sacker.dev/reconcile-requested-at": token } }
        });
        self.api.patch(kind, namespace, name, body).await;
        let answers = |object: &Value| object["status"]["lastHandledReconcileAt"] == token.as_str();
        self.api.until((kind, namespace, name), "an answer to the request", PATIENCE, answers).await;
    }

    /// `sacker --ledger <this ledger> <arguments>`: its exit code and what it complained about.
    pub(crate) fn sacker(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sacker"))
            .args(["--ledger", &self.uri])
            .args(arguments)
            .env_clear()
            .env("HOME", self.directory())
            .env("USER", "alice")
            .output()
            .expect("sacker runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The notes of the Events about an object of this bench that have one of these reasons, or any if
    /// none is given.
    pub(crate) async fn notes(&self, name: &str, reasons: &[&str]) -> Vec<String> {
        let events = self.api.list(EVENT, &self.namespace).await;
        let is_meant = |event: &&Value| {
            event["regarding"]["name"] == name
                && (reasons.is_empty() || event["reason"].as_str().is_some_and(|it| reasons.contains(&it)))
        };
        let note = |event: &Value| event["note"].as_str().unwrap_or_default().to_owned();
        events.iter().filter(is_meant).map(note).collect()
    }

    /// How many SackerTags of a namespace are Ready at this version.
    pub(crate) async fn count_applied(&self, namespace: &str, version: i64) -> usize {
        let is = |object: &&Value| {
            Conditions::of(object).is("Ready", "True") && object["status"]["version"] == version
        };
        self.api.list(TAG, namespace).await.iter().filter(is).count()
    }

    /// Waits until so many SackerTags of a namespace are Ready at this version; how long that took.
    pub(crate) async fn until_all_applied(
        &self,
        namespace: &str,
        count: usize,
        version: i64,
        limit: Duration,
    ) -> Duration {
        let start = Instant::now();
        let what = format!("all {count} are at {version}");
        eventually(&what, limit, async || self.count_applied(namespace, version).await == count).await;
        start.elapsed()
    }

    /// The owner string of a SackerTag of this bench.
    pub(crate) async fn owner(&self, name: &str) -> String {
        let system = self.api.get(NAMESPACE, "", "kube-system").await.expect("it is there");
        let uid = system["metadata"]["uid"].as_str().expect("it has one").to_owned();
        format!("k8s:{uid}/{}/{name}", self.namespace)
    }
}

/// Says what the operator did, if the test failed; else leaves the shared operator with nothing to do for it.
impl Drop for Bench<'_> {
    #[expect(clippy::print_stderr, reason = "the harness keeps it and shows it with the failure")]
    fn drop(&mut self) {
        let Some(operator) = self.operator else { return };
        if std::thread::panicking() {
            eprintln!("the end of the operator's log:\n{}", operator.log());
        } else {
            let ledger = format!("sackerledger/{}", self.ledger_name);
            let namespace = format!("namespace/{}", self.namespace);
            self.cluster.kubectl(&["delete", "--wait=false", "--ignore-not-found", &ledger, &namespace]);
        }
    }
}

/// An object of ours as YAML. `spec` is in flow style without braces.
pub(crate) fn object_yaml(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: sacker.dev/v1alpha1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
"
    )
}

/// A version with content of its own.
pub(crate) fn new_version() -> NewVersion {
    let content = unique("content");
    NewVersion {
        sha256: Sha256::of(content.as_bytes()),
        size: content.len() as u64,
        basename: "app.jar".into(),
        mode: 0o100_755,
        metadata: BTreeMap::new(),
        added_by: "ci".into(),
        if_latest: None,
        add_id: uuid::Uuid::new_v4().to_string(),
    }
}

pub(crate) fn version(number: i64) -> Version {
    Version::new(number).expect("a positive number")
}

/// The conditions of an object, as far as they are about its present generation.
#[derive(Debug)]
pub(crate) struct Conditions<'a>(Vec<&'a Value>);

impl<'a> Conditions<'a> {
    pub(crate) fn of(object: &'a Value) -> Self {
        let generation = &object["metadata"]["generation"];
        let status = &object["status"];
        let all = status["conditions"].as_array().into_iter().flatten();
        let is_current = |condition: &&Value| condition["observedGeneration"] == *generation;
        Self(all.filter(is_current).filter(|_| status["observedGeneration"] == *generation).collect())
    }

    fn find(&self, kind: &str) -> Option<&'a Value> {
        self.0.iter().copied().find(|condition| condition["type"] == kind)
    }

    pub(crate) fn is(&self, kind: &str, status: &str) -> bool {
        self.find(kind).is_some_and(|condition| condition["status"] == status)
    }

    pub(crate) fn has(&self, kind: &str) -> bool {
        self.find(kind).is_some()
    }

    fn text(&self, kind: &str, field: &str) -> &'a str {
        self.find(kind).and_then(|condition| condition[field].as_str()).unwrap_or_default()
    }

    pub(crate) fn reason(&self, kind: &str) -> &'a str {
        self.text(kind, "reason")
    }

    pub(crate) fn message(&self, kind: &str) -> &'a str {
        self.text(kind, "message")
    }
}

/// The message of a condition of an object.
pub(crate) fn message<'a>(object: &'a Value, kind: &str) -> &'a str {
    Conditions::of(object).message(kind)
}

/// Says a measured figure past the capture of the test harness.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "operator: {line}");
}

/// A time that the poll of a bench's ledger needs at most to see a change: its interval grows fourfold while it is quiet.
pub(crate) const POLL: Duration = Duration::from_secs(5);
