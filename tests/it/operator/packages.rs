//! SackerPackage: the mirror in the status, and the published ConfigMap.

use sacker::model::{PackageName, VersionRecord};
use serde_json::{Value, json};

use super::bench::{Bench, Conditions, POLL, message};
use crate::support::cluster::{CONFIG_MAP, PACKAGE, PATIENCE};

fn is_ready(object: &Value) -> bool {
    Conditions::of(object).is("Ready", "True")
}

#[tokio::test]
async fn the_status_follows_adds_and_moves_within_a_poll() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.move_by_hand("live", 1).await;
    bench.apply_package("mirror", "");
    let place = (PACKAGE, bench.namespace.as_str(), "mirror");
    let object = bench.until_package("mirror", "Ready", is_ready).await;
    let status = &object["status"];
    assert_eq!((&status["latest"]["version"], &status["versionCount"]), (&json!(2), &json!(2)));
    assert_eq!(status["tags"].as_array().map(Vec::len), Some(1));

    let record = bench.add().await;
    let newest = |object: &Value| object["status"]["latest"]["version"] == 3;
    // A poll, and the time that a busy machine needs.
    let object = bench.api.until(place, "the new version", POLL * 2, newest).await;
    let latest = &object["status"]["latest"];
    assert_eq!(latest["sha256"], record.sha256.to_string().as_str());
    assert_eq!(latest["addedBy"], "ci");
    assert_eq!(object["status"]["versionCount"], 3);

    bench.move_by_hand("live", 3).await;
    bench.move_by_hand("canary", 2).await;
    let moved = |object: &Value| {
        let tags = object["status"]["tags"].as_array().into_iter().flatten();
        let tags: Vec<_> = tags.map(|tag| (tag["name"].clone(), tag["version"].clone())).collect();
        tags == [(json!("canary"), json!(2)), (json!("live"), json!(3))]
    };
    let object = bench.api.until(place, "both tags", POLL * 2, moved).await;
    let live = &object["status"]["tags"][1];
    assert_eq!((&live["by"], &live["sha256"]), (&json!("alice"), &json!(record.sha256.to_string())));

    // Never the whole list.
    for _ in 0..10 {
        bench.add().await;
    }
    let ten = |object: &Value| object["status"]["latest"]["version"] == 13;
    let object = bench.api.until(place, "version 13", POLL * 2, ten).await;
    let recent: Vec<_> = object["status"]["recentVersions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|version| version["version"].as_i64())
        .collect();
    assert_eq!(recent, [13, 12, 11, 10, 9, 8, 7, 6, 5, 4]);
    assert_eq!(object["status"]["versionCount"], 13);
    assert_eq!(bench.history("canary").await.len(), 1, "a mirror writes nothing");
}

/// What the ConfigMap must hold for one name.
fn entries(data: &mut serde_json::Map<String, Value>, name: &str, record: &VersionRecord) {
    let package = record.package.as_str();
    let (version, sha) = (record.version, record.sha256);
    data.insert(name.to_owned(), format!("{package}@{version}+sha256:{sha}").into());
    data.insert(format!("{name}.version"), version.to_string().into());
    data.insert(format!("{name}.sha256"), sha.to_string().into());
    data.insert(format!("{name}.basename"), record.basename.clone().into());
}

#[tokio::test]
async fn the_published_config_map_is_exact_and_restored() {
    let Some(bench) = Bench::new().await else { return };
    let first = bench.add().await;
    let second = bench.add().await;
    bench.move_by_hand("live", 1).await;
    bench.apply_package("mirror", "publish: {configMap: artifacts}");
    let package = bench.until_package("mirror", "Ready", is_ready).await;
    assert_eq!(package["status"]["publishedConfigMap"], "artifacts");

    let mut expected = serde_json::Map::new();
    entries(&mut expected, "latest", &second);
    entries(&mut expected, "live", &first);
    let expected = Value::from(expected);
    let place = (CONFIG_MAP, bench.namespace.as_str(), "artifacts");
    let config_map = bench.api.get(CONFIG_MAP, &bench.namespace, "artifacts").await.expect("it is there");
    assert_eq!(config_map["data"], expected);
    let owners = config_map["metadata"]["ownerReferences"].as_array().expect("an owner");
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0]["kind"], "SackerPackage");
    assert_eq!(owners[0]["uid"], package["metadata"]["uid"]);

    // Edited: restored.
    bench
        .api
        .patch(CONFIG_MAP, &bench.namespace, "artifacts", json!({ "data": { "live": "evil", "more": "x" } }))
        .await;
    let restored = |object: &Value| object["data"] == expected;
    bench.api.until(place, "restored after an edit", POLL, restored).await;
    // Deleted: made again.
    bench.api.delete(CONFIG_MAP, &bench.namespace, "artifacts").await;
    bench.api.until(place, "restored after a deletion", POLL, restored).await;

    // A move shows.
    bench.move_by_hand("live", 2).await;
    let sha = second.sha256.to_string();
    let moved = |object: &Value| {
        object["data"]["live.sha256"] == sha.as_str() && object["data"]["live.version"] == "2"
    };
    bench.api.until(place, "the move", POLL * 2, moved).await;

    // Published under another name, the first one goes.
    bench.apply_package("mirror", "publish: {configMap: others}");
    bench.api.until_gone(place, PATIENCE).await;
    let others = (CONFIG_MAP, bench.namespace.as_str(), "others");
    bench.api.until(others, "under the new name", PATIENCE, moved).await;
    // No longer published, it goes.
    bench.apply_package("mirror", "");
    bench.api.until_gone(others, PATIENCE).await;
    let object = bench.until_package("mirror", "Ready", is_ready).await;
    assert!(object["status"]["publishedConfigMap"].is_null(), "{object:#}");

    // It goes with its SackerPackage.
    bench.apply_package("mirror", "publish: {configMap: artifacts}");
    bench.api.until(place, "again", PATIENCE, moved).await;
    bench.api.delete(PACKAGE, &bench.namespace, "mirror").await;
    bench.api.until_gone(place, PATIENCE).await;
}

#[tokio::test]
async fn a_config_map_of_somebody_else_is_never_touched() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    let labels = json!({ "app.kubernetes.io/managed-by": "sacker-operator" });
    for (name, metadata) in [("plain", json!({})), ("forged", json!({ "labels": labels }))] {
        let body = json!({ "metadata": metadata, "data": { "live": "mine" } });
        let before = bench.api.apply(CONFIG_MAP, &bench.namespace, name, body).await;
        bench.apply_package(name, &format!("publish: {{configMap: {name}}}"));
        let refused = |object: &Value| Conditions::of(object).reason("Stalled") == "ConfigMapNotOwned";
        let object = bench.until_package(name, "ConfigMapNotOwned", refused).await;
        assert!(message(&object, "Ready").contains(&format!("'{name}'")), "{object:#}");
        assert_eq!(object["status"]["latest"]["version"], 1, "the mirror works all the same");
        bench.pass(PACKAGE, &bench.namespace, name).await;
        bench.apply_package(name, "");
        bench.until_package(name, "Ready", is_ready).await;
        bench.api.delete(PACKAGE, &bench.namespace, name).await;
        bench.api.until_gone((PACKAGE, &bench.namespace, name), PATIENCE).await;
        let after = bench.api.get(CONFIG_MAP, &bench.namespace, name).await.expect("it is there");
        assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    }
}

#[tokio::test]
async fn a_config_map_of_another_package_is_not_taken() {
    let Some(mut bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_package("first", "publish: {configMap: shared}");
    bench.until_package("first", "Ready", is_ready).await;
    let before = bench.api.get(CONFIG_MAP, &bench.namespace, "shared").await.expect("it is there");
    bench.package = PackageName::existing("other");
    bench.versions(1).await;
    bench.apply_package("second", "publish: {configMap: shared}");
    let refused = |object: &Value| Conditions::of(object).reason("Stalled") == "ConfigMapNotOwned";
    bench.until_package("second", "ConfigMapNotOwned", refused).await;
    let after = bench.api.get(CONFIG_MAP, &bench.namespace, "shared").await.expect("it is there");
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_suspended_package_stays_as_it_is() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_package("mirror", "");
    bench.until_package("mirror", "Ready", is_ready).await;
    bench.apply_package("mirror", "suspend: true");
    let suspended = |object: &Value| Conditions::of(object).reason("Ready") == "Suspended";
    bench.until_package("mirror", "Suspended", suspended).await;
    bench.add().await;
    // Another mirror of the same package shows that the poll came by.
    bench.apply_package("witness", "");
    bench.until_package("witness", "version 2", |object| object["status"]["latest"]["version"] == 2).await;
    let object = bench.until_package("mirror", "still suspended", suspended).await;
    assert_eq!(object["status"]["latest"]["version"], 1);
    bench.apply_package("mirror", "suspend: false");
    bench.until_package("mirror", "version 2", |object| object["status"]["latest"]["version"] == 2).await;
}
