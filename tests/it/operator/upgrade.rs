//! The kinds of an earlier release, those of today, and back, under a running operator and objects that use every field of
//! them (R18). `tests/data/releases/<version>/crds` is what that release shipped (`docs/releasing.md`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sacker::model::PackageName;
use serde_json::{Map, Value, json};

use super::bench::{Bench, Conditions, object_yaml};
use super::process::Operator;
use crate::support::cluster::{CRD, CRDS, Cluster, Kind, LEDGER, PACKAGE, PATIENCE, TAG};
use crate::support::{eventually, tier, unique};

const KINDS: [Kind; 3] = [LEDGER, PACKAGE, TAG];

/// How many tags the status of a SackerPackage lists at most.
const LISTED: usize = 100;

fn releases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/releases");
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// The CustomResourceDefinitions in the files of a folder.
fn definitions(folder: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let texts = entries.map(|path| std::fs::read_to_string(path).expect("a file"));
    let found: Vec<Value> = texts.map(|text| serde_saphyr::from_str(&text).expect("YAML")).collect();
    let names: BTreeSet<&str> = found.iter().map(name_of).collect();
    for kind in KINDS {
        assert!(names.contains(kind.resource_name().as_str()), "{}: {names:?}", folder.display());
    }
    found
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

/// Installs the kinds as `kubectl apply` does, and waits until the API server answers with these schemas.
async fn install(cluster: &Cluster, definitions: &[Value]) {
    let (mut items, mut marks) = (definitions.to_vec(), Vec::new());
    for item in &mut items {
        let mark = unique(name_of(item));
        for version in item["spec"]["versions"].as_array_mut().expect("versions") {
            version["schema"]["openAPIV3Schema"]["description"] = mark.as_str().into();
        }
        marks.push(mark);
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    cluster.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &list).success();
    eventually("these schemas are served", PATIENCE, async || {
        let page = cluster.kubectl(&["get", "--raw", "/openapi/v3/apis/sacker.dev/v1alpha1"]).stdout;
        marks.iter().all(|mark| page.contains(mark))
    })
    .await;
}

/// All objects by kind and name, without what every write or poll changes.
async fn objects(bench: &Bench<'_>) -> Value {
    let mut found = Map::new();
    for kind in KINDS {
        let mut of_kind = Map::new();
        for mut object in bench.api.list(kind, &bench.namespace).await {
            object["metadata"].as_object_mut().expect("an object").remove("resourceVersion");
            if kind == LEDGER {
                object.as_object_mut().expect("an object").remove("status");
            }
            of_kind.insert(name_of(&object).to_owned(), object);
        }
        found.insert(kind.resource_name(), of_kind.into());
    }
    found.into()
}

/// What was there and is not, or is otherwise; what is new is no loss.
fn lost(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let path = format!("{path}/{key}");
                match after.get(key) {
                    Some(other) => lost(&path, value, other, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (value, other)) in before.iter().zip(after).enumerate() {
                lost(&format!("{path}/{index}"), value, other, found);
            }
        }
        _ if before == after => {}
        _ => found.push(format!("{path}: {before} became {after}")),
    }
}

/// Makes so many tags and one object of each other kind, and waits until the operator did what they say. Between them they
/// have every field that their specs can have.
async fn fill(bench: &Bench<'_>, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|number| format!("tag-{number}")).collect();
    let mut yaml = String::new();
    for (number, name) in names.iter().enumerate() {
        let spec = match number % 4 {
            3 => "follow: {tag: tag-0, soak: 0s}, reason: follows".to_owned(),
            1 => format!("version: 1, reason: release {number}, deletionPolicy: Delete, driftPolicy: Report"),
            _ => {
                format!("version: 1, reason: release {number}, deletionPolicy: Retain, driftPolicy: Enforce")
            }
        };
        let _ = write!(yaml, "{}", bench.tag_yaml(&bench.namespace, name, name, &spec));
    }
    bench.cluster.apply(&yaml);
    bench.until_all_applied(&bench.namespace, count, 1, PATIENCE * 2).await;
    bench.apply_tag("suspended", "version: 2, expectedVersion: 1, suspend: true");
    bench.until_tag("suspended", "Ready", "Unknown", "Suspended").await;

    let ledger = format!(
        "
apiVersion: sacker.dev/v1alpha1
kind: SackerLedger
metadata: {{name: {}}}
spec:
  ledger: {}
  store: file:///var/lib/sacker/store
  pollInterval: 1h
  access:
  - namespaceSelector:
      matchLabels: {{team: web}}
      matchExpressions:
      - {{key: stage, operator: In, values: [live, canary]}}
    packages: ['web/**']
    verbs: [read]
",
        unique("ledger"),
        bench.uri
    );
    bench.cluster.apply(&ledger);
    // After the tags, so that its first status has them all.
    bench.apply_package("mirror", "publish: {configMap: mirror}, suspend: false");
    let is_whole = |object: &Value| {
        let tags = object["status"]["tags"].as_array().map(Vec::len);
        Conditions::of(object).is("Ready", "True") && tags == Some(count.min(LISTED))
    };
    bench.until_package("mirror", "all tags", is_whole).await;
    names
}

/// Fails where the objects do not have a field that a spec of these kinds can have: then its loss would not be seen.
fn have_every_field(objects: &Value, definitions: &[Value]) {
    for definition in definitions {
        let of_kind = objects[name_of(definition)].as_object().expect("objects");
        let specs = of_kind.values().filter_map(|object| object["spec"].as_object());
        let used: BTreeSet<&str> = specs.flat_map(Map::keys).map(String::as_str).collect();
        for version in definition["spec"]["versions"].as_array().expect("versions") {
            let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
            for field in spec.as_object().expect("properties").keys() {
                assert!(used.contains(field.as_str()), "no object of {} has {field}", name_of(definition));
            }
        }
    }
}

/// What the API server says it has stored, it still has a version for.
async fn stored_versions_are_known(bench: &Bench<'_>) {
    for kind in KINDS {
        let name = kind.resource_name();
        let definition = bench.api.get(CRD, "", &name).await.expect("it is installed");
        let versions = definition["spec"]["versions"].as_array().expect("versions");
        let stored = definition["status"]["storedVersions"].as_array().expect("a list");
        for version in stored {
            assert!(versions.iter().any(|known| known["name"] == *version), "{name}: {version} is unknown");
        }
        let storage = versions.iter().find(|version| version["storage"] == true).expect("one is stored");
        assert!(stored.contains(&storage["name"]), "{name}: {stored:?}");
    }
}

#[tokio::test]
async fn kinds_go_forth_and_back_without_a_loss() {
    let releases = releases();
    assert!(!releases.is_empty());
    let (start, count) = (Instant::now(), tier::figure(50, 500));
    for release in &releases {
        let Some(cluster) = Cluster::start() else { return };
        let (earlier, today) = (definitions(&release.join("crds")), definitions(Path::new(CRDS)));
        install(&cluster, &earlier).await;
        let bench = Bench::on(&cluster, None).await;
        bench.versions(2).await;
        let other = PackageName::existing("web/other");
        bench.add_to(&other).await;
        let operator = Operator::start(&cluster, &["--cluster-name", "upgrade"]);
        operator.until_ready();
        let names = fill(&bench, count).await;
        let there = objects(&bench).await;
        have_every_field(&there, &earlier);
        let moves = operator.metric("sacker_tag_changes_total");

        for (step, definitions) in [("forth", &today), ("back", &earlier)] {
            install(&cluster, definitions).await;
            // The same operator goes on with its work.
            let spec = format!("ledger: {}, package: {other}, tag: {step}, version: 1", bench.ledger_name);
            cluster.apply(&object_yaml("SackerTag", &bench.namespace, step, &spec));
            bench.until_applied(step, 1).await;
            let mut missing = Vec::new();
            lost("", &there, &objects(&bench).await, &mut missing);
            assert!(missing.is_empty(), "{}, {step}: {missing:#?}", release.display());
            stored_versions_are_known(&bench).await;
        }
        assert_eq!(operator.metric("sacker_tag_changes_total"), moves + 2, "two tags were new");
        for name in &names {
            assert_eq!(bench.history(name).await.len(), 1, "{name} was written again");
        }
        operator.terminate();
        assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
    }
    tier::summary(&format!(
        "R18 releases={} objects={count} lost=0 writes=0 seconds={}",
        releases.len(),
        start.elapsed().as_secs()
    ));
}

/// The test above would see it.
#[tokio::test]
async fn a_field_that_new_kinds_do_not_have_is_missed() {
    let Some(cluster) = Cluster::start() else { return };
    let today = definitions(Path::new(CRDS));
    install(&cluster, &today).await;
    let bench = Bench::on(&cluster, None).await;
    bench.apply_tag("live", "version: 1, driftPolicy: Report, suspend: true");
    let there = objects(&bench).await;

    let mut without = today.clone();
    for definition in without.iter_mut().filter(|definition| name_of(definition) == TAG.resource_name()) {
        let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let fields = schema["properties"]["spec"]["properties"].as_object_mut().expect("properties");
        assert!(fields.remove("suspend").is_some() && fields.remove("driftPolicy").is_some());
    }
    install(&cluster, &without).await;
    let object = format!("/{}/live/spec", TAG.resource_name());
    let expected = ["driftPolicy", "suspend"].map(|field| format!("{object}/{field}"));
    eventually("the loss shows", PATIENCE, async || {
        let mut missing = Vec::new();
        lost("", &there, &objects(&bench).await, &mut missing);
        missing == expected
    })
    .await;
}
