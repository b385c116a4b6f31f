//! What the schema refuses at `kubectl apply`, with the rule in the message.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::bench::{object_yaml, shared};

/// Applies many objects at once; by name, what each one was refused for. The accepted ones have no entry.
pub(super) fn refusals(documents: &[(String, String, &str)]) -> BTreeMap<String, String> {
    let Some((cluster, _)) = shared() else { return BTreeMap::new() };
    let mut yaml = String::new();
    for (kind, name, spec) in documents {
        yaml += &object_yaml(kind, "default", name, spec);
    }
    let answer = cluster.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &yaml);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut last = None;
    for line in answer.stderr.lines() {
        // A message may have more lines; only its first one names the object.
        let names = |(_, name, _): &&(String, String, &str)| line.contains(&format!("{name}\""));
        if let Some((_, name, _)) = documents.iter().find(names) {
            last = Some(name);
        }
        if let Some(name) = last {
            let text = found.entry(name.clone()).or_default();
            let _ = writeln!(text, "{line}");
        }
    }
    found
}

/// Each spec must be refused, with this text in the message.
fn check(kind: &str, table: &[(&'static str, &str)]) {
    if shared().is_none() {
        return;
    }
    let documents: Vec<(String, String, &str)> = table
        .iter()
        .enumerate()
        .map(|(number, (spec, _))| (kind.to_owned(), format!("case-{number}-x"), *spec))
        .collect();
    let found = refusals(&documents);
    for (number, (spec, expected)) in table.iter().enumerate() {
        let message = found.get(&format!("case-{number}-x"));
        let message = message.unwrap_or_else(|| panic!("'{spec}' was accepted; refused were {found:#?}"));
        assert!(message.contains(expected), "'{spec}' was refused for another reason: {message}");
    }
}

/// Each spec must be accepted.
fn check_accepted(kind: &str, table: &[&'static str]) {
    let documents: Vec<(String, String, &str)> = table
        .iter()
        .enumerate()
        .map(|(number, spec)| (kind.to_owned(), format!("case-{number}-x"), *spec))
        .collect();
    let found = refusals(&documents);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn tags_that_are_no_tags() {
    check(
        "SackerTag",
        &[
            ("package: p, tag: latest, version: 1", "the tag 'latest' is reserved"),
            ("package: p, tag: Latest, version: 1", "the tag 'latest' is reserved"),
            ("package: p, tag: LATEST, version: 1", "the tag 'latest' is reserved"),
            ("package: p, tag: '42', version: 1", "the tag reads as a version number"),
            ("package: p, tag: v42, version: 1", "the tag reads as a version number"),
            ("package: p, tag: V1, version: 1", "the tag reads as a version number"),
            ("package: p, tag: '1_0', version: 1", "the tag reads as a version number"),
            ("package: p, tag: '+1', version: 1", "a tag must be letters"),
            ("package: p, tag: '-live', version: 1", "a tag must be letters"),
            ("package: p, tag: 'a b', version: 1", "a tag must be letters"),
            ("package: p, tag: a/b, version: 1", "a tag must be letters"),
            ("package: p, tag: 'live#1', version: 1", "a tag must be letters"),
            ("package: p, tag: größe, version: 1", "a tag must be letters"),
            ("package: p, tag: '', version: 1", "spec.tag"),
            ("package: p, tag: 42, version: 1", "must be of type string"),
            ("package: p, version: 1", "spec.tag: Required value"),
        ],
    );
    check_accepted(
        "SackerTag",
        &["package: p, tag: live, version: 1", "package: p, tag: v1.2.3-rc_4, version: 1"],
    );
}

#[test]
fn wishes_that_cannot_be() {
    let one = "give exactly one of version and follow";
    check(
        "SackerTag",
        &[
            ("package: p, tag: live, version: 1, follow: {tag: canary}", one),
            ("package: p, tag: live", one),
            ("package: p, tag: live, version: null", one),
            ("package: p, tag: live, version: 0", "greater than or equal to 1"),
            ("package: p, tag: live, version: -1", "greater than or equal to 1"),
            ("package: p, tag: live, version: 1.5", "must be of type integer"),
            ("package: p, tag: live, version: '1'", "must be of type integer"),
            ("package: p, tag: live, version: 9223372036854775808", "spec.version"),
            ("package: p, tag: live, version: 1, expectedVersion: 0", "greater than or equal to 1"),
            (
                "package: p, tag: live, version: 1, deletionPolicy: Forget",
                "supported values: \"Retain\", \"Delete\"",
            ),
            (
                "package: p, tag: live, version: 1, driftPolicy: Ignore",
                "supported values: \"Enforce\", \"Report\"",
            ),
            ("package: p, tag: live, version: 1, suspend: 'yes'", "must be of type boolean"),
            ("package: p, tag: live, follow: {tag: live}", "a tag cannot follow itself"),
            ("package: p, tag: live, follow: {tag: '42'}", "the tag reads as a version number"),
            ("package: p, tag: live, follow: {tag: LATEST}", "'latest' is reserved"),
            ("package: p, tag: live, follow: {tag: canary, soak: 2 hours}", "the duration must be like"),
            ("package: p, tag: live, follow: {tag: canary, soak: -1h}", "the duration must be like"),
            ("package: p, tag: live, follow: {tag: canary, soak: 9000h}", "the duration must be like"),
            ("package: p, tag: live, version: 1, ledger: ''", "spec.ledger"),
        ],
    );
    check_accepted(
        "SackerTag",
        &[
            "package: p, tag: live, version: 9223372036854775807",
            "package: p, tag: live, follow: {tag: canary, soak: 1h30m}",
            "package: p, tag: live, follow: {tag: latest}",
        ],
    );
}

#[test]
fn packages_that_are_no_packages() {
    let slashes = "must not begin or end with '/' or contain '//'";
    let components = "is reserved";
    let characters = "must not contain control characters";
    let own = "are sacker's own";
    let table = [
        ("package: /p", slashes),
        ("package: p/", slashes),
        ("package: p//q", slashes),
        ("package: ./p", components),
        ("package: p/../q", components),
        ("package: p/versions", components),
        ("package: tags/p", components),
        ("package: p/history/q", components),
        ("package: p/generations", components),
        ("package: -p", "must not begin with '-'"),
        ("package: \"p\\nq\"", characters),
        ("package: \"p\\u202eq\"", characters),
        ("package: 'sacker:history'", own),
        ("package: _sacker/x", own),
        ("package: ''", "spec.package"),
    ];
    check("SackerPackage", &table);
    let of_tags: Vec<(&'static str, &str)> = table
        .iter()
        .map(|(spec, message)| (&*format!("{spec}, tag: live, version: 1").leak(), *message))
        .collect();
    check("SackerTag", &of_tags);
    let long: &'static str = format!("package: {}", "ä".repeat(257)).leak();
    check("SackerPackage", &[(long, "512 are allowed")]);
    check(
        "SackerPackage",
        &[
            ("package: p, publish: {configMap: Not_A_Name}", "spec.publish.configMap"),
            ("package: p, publish: {configMap: ''}", "spec.publish.configMap"),
        ],
    );
    check_accepted("SackerPackage", &["package: web/api/größe", "package: a-b_c.d"]);
}

#[test]
fn ledgers_that_are_no_ledgers() {
    let shape = "the ledger must be dynamo://<region>/<prefix>";
    check(
        "SackerLedger",
        &[
            ("ledger: http://example.com/ledger", shape),
            ("ledger: dynamo://us-east-1", shape),
            ("ledger: s3://UPPER", shape),
            ("ledger: file://relative/path", shape),
            ("ledger: /var/lib/sacker", shape),
            ("ledger: 's3://key:secret@bucket'", "no credentials"),
            ("ledger: 's3://bucket/a b'", "no white space"),
            ("store: s3://bucket", "spec.ledger: Required value"),
            ("ledger: s3://bucket, store: dynamo://us-east-1/sacker", "the store must be s3://"),
            ("ledger: s3://bucket, pollInterval: 10ms", "the duration must be like"),
            ("ledger: s3://bucket, pollInterval: often", "the duration must be like"),
            ("ledger: s3://bucket, access: [{packages: [], verbs: [read]}]", "at least 1 items"),
            ("ledger: s3://bucket, access: [{packages: ['**'], verbs: []}]", "at least 1 items"),
            (
                "ledger: s3://bucket, access: [{packages: ['**'], verbs: [write]}]",
                "supported values: \"read\", \"tag\"",
            ),
            ("ledger: s3://bucket, access: [{verbs: [read]}]", "packages: Required value"),
        ],
    );
    check_accepted(
        "SackerLedger",
        &[
            "ledger: dynamo://us-east-1/sacker",
            "ledger: s3://bucket/prefix, pollInterval: 1m30s",
            "ledger: file:///x",
            "ledger: 'zk://a:2181,b/sacker?tls=true'",
        ],
    );
}

#[test]
fn a_field_that_does_not_exist() {
    let Some((cluster, _)) = shared() else { return };
    let yaml = object_yaml("SackerTag", "default", "typo", "package: p, tag: live, version: 1, vresion: 2");
    let message = cluster.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &yaml).failure();
    assert!(message.contains("unknown field \"spec.vresion\""), "{message}");
}

#[tokio::test]
async fn ledger_package_and_tag_cannot_be_changed() {
    let Some((cluster, _)) = shared() else { return };
    let namespace = cluster.namespace(&[]).await;
    let yaml = |spec: &str| object_yaml("SackerTag", &namespace, "live", spec);
    cluster.apply(&yaml("ledger: none, package: p, tag: live, version: 1"));
    for spec in [
        "ledger: other, package: p, tag: live, version: 1",
        "package: p, tag: live, version: 1",
        "ledger: none, package: q, tag: live, version: 1",
        "ledger: none, package: p, tag: canary, version: 1",
    ] {
        let message = cluster.kubectl_with(&["apply", "-f", "-"], &yaml(spec)).failure();
        assert!(message.contains("the field cannot be changed"), "{spec}: {message}");
    }
    cluster.apply(&yaml("ledger: none, package: p, tag: live, version: 2, deletionPolicy: Delete"));
    cluster.kubectl(&["delete", "--wait=false", "namespace", &namespace]).success();
}
