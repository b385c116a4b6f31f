//! `kubectl sacker` as a plugin of the real kubectl: what the cluster tells of a release day is what `sacker` tells of the
//! ledger.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::bench::{Bench, message, object_yaml};
use crate::cli::home::Ran;
use crate::support::cluster::{Cluster, PATIENCE, TAG};
use crate::support::process::Folder;
use crate::support::{eventually, testbed, unique};

/// How many events a SackerTag keeps.
const KEPT: usize = 10;

/// kubectl with `kubectl-sacker` in its path, and nothing else of this machine.
pub(super) struct Plugin {
    folder: Folder,
    kubeconfig: PathBuf,
}

impl Plugin {
    /// As whoever this kubeconfig is for.
    pub(super) fn new(kubeconfig: &Path) -> Self {
        let folder = Folder::new("kubectl");
        symlink(env!("CARGO_BIN_EXE_sacker"), folder.path().join("kubectl-sacker")).expect("a link");
        Self { folder, kubeconfig: kubeconfig.to_owned() }
    }

    /// The administrator's.
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self::new(&cluster.kubeconfig())
    }

    /// `kubectl sacker <arguments>`
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(testbed::program("kubectl"));
        command
            .arg("sacker")
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.folder.path().display()))
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", &self.kubeconfig);
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().expect("kubectl starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A bench, and the two programs that are compared.
struct Day {
    bench: Bench<'static>,
    plugin: Plugin,
}

impl Day {
    async fn new() -> Option<Self> {
        let bench = Bench::new().await?;
        let plugin = Plugin::of(bench.cluster);
        Some(Self { bench, plugin })
    }

    /// `sacker <arguments>` on the bench's ledger.
    fn ledger(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_sacker"))
            .args(["--ledger", &self.bench.uri])
            .args(arguments)
            .env_clear()
            .env("HOME", self.bench.directory())
            .env("SACKER_USER", "alice")
            .output()
            .expect("sacker starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// `kubectl sacker <arguments>` in the bench's namespace.
    fn cluster(&self, arguments: &[&str]) -> Ran {
        self.plugin.run(&[arguments, &["-n", &self.bench.namespace]].concat())
    }

    /// Moves `live` by its SackerTag.
    async fn promote(&self, version: i64) {
        self.bench.apply_tag("live", &format!("version: {version}, reason: release {version}"));
        self.bench.until_applied("live", version).await;
    }

    /// Waits until the cluster tells the same of `live` as the ledger, and gives what both tell.
    async fn until_told(&self) -> (Vec<Value>, Vec<Value>) {
        let package = self.bench.package.as_str();
        let words = ["history", package, "live", "-o", "json"];
        let told = |ran: &Ran| ran.json().as_array().expect("a list").clone();
        let all = told(&self.ledger(&words));
        let last = |events: &[Value]| events.last().map(|event| event["seq"].clone());
        let is_told = async || last(&told(&self.cluster(&words))) == last(&all);
        eventually("the last event is in the status", PATIENCE, is_told).await;
        (told(&self.cluster(&words)), all)
    }
}

/// Fails the test unless every key of `ledger` is in `cluster` with the same value, or with null where it is none of `known`.
#[track_caller]
fn assert_agrees(cluster: &Value, ledger: &Value, known: &[&str]) {
    for (key, value) in ledger.as_object().expect("an object") {
        let shown = cluster.get(key).unwrap_or_else(|| panic!("{key} is not in {cluster:#}"));
        let is_unknown = shown.is_null() && !known.contains(&key.as_str());
        assert!(is_unknown || shown == value, "{key} is {shown}, in the ledger {value}: {cluster:#}");
    }
}

fn by_version(list: &Value) -> BTreeMap<i64, Value> {
    let items = list.as_array().expect("a list").iter();
    items.map(|item| (item["version"].as_i64().expect("a number"), item.clone())).collect()
}

const EVENT: [&str; 12] =
    ["package", "tag", "seq", "at", "kind", "from", "to", "by", "source", "reason", "owner", "hold"];

/// Eight promotions by SackerTag and two by hand; a rollback under a hold, its release, and a take-over.
#[tokio::test]
async fn a_release_day_is_told_alike() {
    let Some(day) = Day::new().await else { return };
    let bench = &day.bench;
    let package = bench.package.as_str();
    bench.versions(12).await;
    bench.apply_package("frontend", "");
    bench.move_by_hand("canary", 1).await;
    for version in 1..=5 {
        day.promote(version).await;
    }
    let (short, all) = day.until_told().await;
    assert_eq!((short.len(), all.len()), (5, 5), "nothing is missing yet");
    assert_eq!(day.cluster(&["history", package, "live"]).stderr, "");

    day.ledger(&["rollback", package, "live", "--reason", "incident 4711"]).answer();
    bench.until_tag("live", "Held", "True", "Held").await;
    let (held, _) = day.until_told().await;
    assert_eq!(held.last().expect("events")["hold"]["reason"], "incident 4711");
    let tags = day.cluster(&["tags", package, "-o", "json"]).json();
    let live = tags.as_array().expect("a list").iter().find(|tag| tag["tag"] == "live").expect("live");
    assert_eq!((&live["version"], &live["hold"]["by"]), (&json!(4), &json!("alice")));
    assert_eq!((&live["state"]["held"], &live["state"]["ready"]), (&json!(true), &json!("False")));
    let table = day.cluster(&["tags", package, "-o", "table"]).answer().to_owned();
    assert!(
        table.contains("incident 4711") && table.contains(&format!("{}/live", bench.namespace)),
        "{table}"
    );

    // What is wished for must not move while it is held; then it does.
    bench.apply_tag("live", "version: 6, reason: release 6");
    bench.until_tag("live", "Ready", "False", "Held").await;
    day.ledger(&["release", package, "live"]).answer();
    bench.until_applied("live", 6).await;
    day.promote(7).await;
    day.promote(8).await;
    assert_eq!(day.ledger(&["tag", package, "9", "live"]).code, Some(4), "it is the SackerTag's");
    day.ledger(&["tag", package, "9", "live", "--take-over", "--reason", "by hand"]).answer();
    day.ledger(&["tag", package, "10", "live"]).answer();
    let object = bench.until_tag("live", "Stalled", "True", "Owned").await;
    assert!(message(&object, "Ready").contains("cli:alice"), "{object:#}");

    let (told, all) = day.until_told().await;
    let kinds: Vec<_> = all.iter().map(|event| event["kind"].as_str().expect("a kind")).collect();
    let promotions = kinds.iter().filter(|kind| **kind == "move").count() - 1;
    assert_eq!((promotions, all.len()), (10, 12), "{kinds:?}");
    assert_eq!(told.len(), KEPT);
    for (shown, event) in told.iter().zip(&all[all.len() - KEPT..]) {
        assert_agrees(shown, event, &EVENT);
        assert_eq!(shown.as_object().map(serde_json::Map::len), Some(EVENT.len() + 2), "and no other key");
    }
    let (lines, table) = (["history", package, "live"], ["history", package, "live", "-o", "table"]);
    let plain = day.ledger(&lines);
    let last: Vec<_> = plain.answer().lines().skip(all.len() - KEPT).collect();
    let ran = day.cluster(&lines);
    assert_eq!(ran.answer().lines().collect::<Vec<_>>(), last);
    let note = format!(
        "note: only in the ledger: 2 earlier events of tag 'live'; see: sacker history {package} live\n"
    );
    assert_eq!(ran.stderr, note);
    assert_eq!(day.cluster(&[&lines[..], &["-q"]].concat()).stderr, "");
    let head =
        |ran: &Ran| ran.answer().lines().next().map(|line| line.split_whitespace().collect::<String>());
    assert_eq!(head(&day.cluster(&table)), head(&day.ledger(&table)), "the same columns");
    let whole = day.cluster(&["history", package]);
    assert!(
        whole.stderr.ends_with("note: no SackerTag keeps the history of these tags: canary\n"),
        "{whole:?}"
    );
    assert_eq!(whole.answer().lines().count(), KEPT);

    assert_the_rest_agrees(&day).await;
}

/// `tags`, `versions`, `info`, `list` and `resolve`, after the mirror has come to the same state.
async fn assert_the_rest_agrees(day: &Day) {
    let package = day.bench.package.as_str();
    let both = |words: &[&str]| {
        let words = [words, &["-o", "json"]].concat();
        (day.cluster(&words).json(), day.ledger(&words).json())
    };
    let is_mirrored = |object: &Value| {
        let tags = object["status"]["tags"].as_array().into_iter().flatten();
        let live = tags.clone().find(|tag| tag["name"] == "live");
        live.is_some_and(|tag| tag["version"] == 10) && object["status"]["latest"]["version"] == 12
    };
    day.bench.until_package("frontend", "mirrored", is_mirrored).await;

    let (shown, tags) = both(&["tags", package]);
    let (shown, tags) = (shown.as_array().expect("a list"), tags.as_array().expect("a list"));
    let canary = ["package", "tag", "version", "changed_at", "changed_by"];
    let live = [&canary[..], &["seq", "owner", "hold"]].concat();
    assert_eq!(shown.len(), tags.len());
    for ((shown, tag), known) in shown.iter().zip(tags).zip([&canary[..], &live]) {
        assert_agrees(shown, tag, known);
    }
    assert_eq!(shown[0]["sackertag"], Value::Null);
    assert_eq!(shown[1]["sackertag"], format!("{}/live", day.bench.namespace));
    assert_eq!(shown[1]["state"]["reason"], "Owned");

    let (shown, versions) = both(&["versions", package]);
    let (shown, versions) = (by_version(&shown), by_version(&versions));
    assert_eq!(shown.keys().copied().collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    for (number, version) in &shown {
        let mirrored = ["sha256", "size", "basename", "added_at", "added_by", "tags", "removed", "pinned"];
        let known: &[&str] = if *number == 1 { &["sha256", "tags", "pinned"] } else { &mirrored };
        assert_agrees(version, &versions[number], known);
    }
    assert_agrees(&shown[&10], &versions[&10], &["mode"]);
    let note = "note: of 12 versions that were ever added 11 are shown; ask the ledger: sacker versions";
    assert!(day.cluster(&["versions", package]).stderr.starts_with(note));

    let (shown, version) = both(&["info", package, "live"]);
    assert_agrees(&shown, &version, &["version", "mode", "size"]);
    for spec in ["", "@latest", "@live", "@canary", "@5"] {
        let words = ["resolve", &format!("{package}{spec}")];
        assert_eq!(day.cluster(&words).answer(), day.ledger(&words).answer(), "{spec}");
    }
    assert_eq!(day.cluster(&["list"]).answer(), day.ledger(&["list"]).answer());
    let list = &day.cluster(&["list", "-o", "json"]).json()[0];
    let tags = json!([{ "tag": "canary", "version": 1 }, { "tag": "live", "version": 10 }]);
    assert_eq!((&list["latest"], &list["tags"]), (&json!(12), &tags));
    assert_eq!((&list["ledger"], &list["state"]["ready"]), (&json!(day.bench.ledger_name), &json!("True")));
    let everywhere = day.plugin.run(&["list", "-A"]).answer().to_owned();
    assert!(everywhere.contains(&format!("{}\t{package}\n", day.bench.namespace)), "{everywhere}");
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_is_not_shown() {
    let Some(day) = Day::new().await else { return };
    let bench = &day.bench;
    let (package, namespace) = (bench.package.as_str(), bench.namespace.as_str());
    let nothing = day.cluster(&["list"]);
    let note = format!(
        "note: no SackerPackage and no SackerTag is in namespace '{namespace}'; -n and -A look elsewhere\n"
    );
    assert_eq!((nothing.answer(), nothing.stderr.as_str()), ("", note.as_str()));
    day.cluster(&["tags", package]).fails(
        3,
        &format!(
            "error: no object in namespace '{namespace}' shows package 'web/frontend'\n\
             hint: there is no SackerPackage and no SackerTag; -n and -A look elsewhere"
        ),
    );

    bench.versions(12).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    // Only a SackerTag: nobody knows of other tags, nor the newest version.
    let tags = day.cluster(&["tags", package]);
    assert_eq!(tags.answer(), "live\t1\n");
    assert!(tags.stderr.contains("it may have more tags"), "{tags:?}");
    let newest = day.cluster(&["resolve", package]);
    assert_eq!(newest.code, Some(3), "{newest:?}");
    assert!(newest.stderr.contains("shows the newest version of package 'web/frontend'"), "{newest:?}");
    let canary = day.cluster(&["info", package, "canary"]);
    assert!(
        canary.stderr.contains(&format!("no object in namespace '{namespace}' shows tag 'canary'")),
        "{canary:?}"
    );

    bench.apply_package("frontend", "");
    bench.until_package("frontend", "mirrored", |object| object["status"]["versionCount"] == 12).await;
    day.cluster(&["info", package, "liev"])
        .fails(3, "error: package 'web/frontend' has no tag 'liev'\nhint: did you mean 'live'?");
    day.cluster(&["info", package, "99"])
        .fails(3, "error: package 'web/frontend' has no version 99\nhint: its newest versions: 12, 11, 10");
    day.cluster(&["info", package, "2"]).fails(
        3,
        &format!(
            "error: no object in namespace '{namespace}' shows version 2 of package 'web/frontend'\n\
             hint: it shows the 10 newest and those that tags point to; ask the ledger: sacker info web/frontend 2"
        ),
    );
    day.cluster(&["history", "web/frontent"]).fails(
        3,
        &format!(
            "error: no object in namespace '{namespace}' shows package 'web/frontent'\nhint: did you mean 'web/frontend'?"
        ),
    );
    assert_eq!(day.cluster(&["history", package, "latest"]).code, Some(2));

    // What a suspended object shows may be old, and is said to be.
    bench.api.patch(TAG, namespace, "live", json!({ "spec": { "suspend": true } })).await;
    bench.until_tag("live", "Ready", "Unknown", "Suspended").await;
    let old = day.cluster(&["tags", package]);
    assert_eq!(old.answer(), "live\t1\n");
    let warning = format!("warning: SackerTag '{namespace}/live' may show what is old, or nothing: ");
    assert!(old.stderr.starts_with(&warning), "{old:?}");
}

#[tokio::test]
async fn the_same_package_of_two_ledgers_is_asked_for_by_ledger() {
    let (Some(day), Some(other)) = (Day::new().await, Bench::new().await) else { return };
    let (package, namespace) = (day.bench.package.as_str(), day.bench.namespace.as_str());
    for (bench, version) in [(&day.bench, 1), (&other, 2)] {
        bench.versions(version).await;
        let spec = format!("ledger: {}, package: {package}", bench.ledger_name);
        bench.cluster.apply(&object_yaml("SackerPackage", namespace, &unique("mirror"), &spec));
    }
    let mut names = [day.bench.ledger_name.as_str(), other.ledger_name.as_str()];
    names.sort_unstable();
    day.cluster(&["versions", package]).fails(
        2,
        &format!(
            "error: package 'web/frontend' is in several SackerLedgers: '{}', '{}'\nhint: choose one, such as: --ledger {}",
            names[0], names[1], names[0]
        ),
    );
    let first = &day.bench.ledger_name;
    let is_mirrored = async || day.cluster(&["versions", package, "--ledger", first]).stdout == "1\n";
    eventually("the first is mirrored", PATIENCE, is_mirrored).await;
    let list = day.cluster(&["list", "-o", "json"]).json();
    let ledgers: Vec<_> =
        list.as_array().expect("a list").iter().map(|item| item["ledger"].clone()).collect();
    assert_eq!(ledgers, names.map(Value::from));
}
