//! The bill of materials of each image (`image/sbom`): whole, made of `Cargo.lock`, allowed, and the same each time.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use rstest::rstest;
use serde_json::Value;

use super::licences::Policy;
use super::{channel, place, read};
use crate::images::{beside, manifest_digest};

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// `<name>@<version>` of each crate that `Cargo.lock` takes from a registry, and the digest of its archive.
fn locked() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for package in read("Cargo.lock").split("[[package]]").skip(1) {
        let field = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(digest)) =
            (field("name"), field("version"), field("checksum"))
        {
            found.insert(format!("{name}@{version}"), digest);
        }
    }
    found
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digits =
        text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    lengths == [8, 4, 4, 4, 12] && digits && text[14..].starts_with('8') && text[19..].starts_with('8')
}

#[rstest]
#[case::init("sacker-init", &["lexopt", "tokio"], &["kube", "clap", "axum"])]
#[case::sacker("sacker", &["kube", "clap", "axum", "tokio"], &["lexopt"])]
fn a_bill_lists_what_is_linked(#[case] name: &str, #[case] holds: &[&str], #[case] lacks: &[&str]) {
    let (Some(path), Some(archive)) = (beside(name, ".cdx.json"), beside(name, ".tar")) else { return };
    let bill: Value = serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("JSON");
    // Required by the schema of CycloneDX 1.6, and nothing that changes from one day to the next.
    let keys: BTreeSet<&str> = bill.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected =
        ["bomFormat", "components", "dependencies", "metadata", "serialNumber", "specVersion", "version"];
    assert_eq!(keys, BTreeSet::from(expected));
    assert_eq!((text(&bill, "bomFormat"), text(&bill, "specVersion")), ("CycloneDX", "1.6"));
    assert_eq!(bill["version"], 1);
    assert!(text(&bill, "serialNumber").strip_prefix("urn:uuid:").is_some_and(is_uuid), "{bill}");

    let root = &bill["metadata"]["component"];
    let digest = manifest_digest(&archive).replace(':', "%3A");
    assert_eq!(text(root, "purl"), format!("pkg:oci/{name}@{digest}"));
    assert_eq!((text(root, "name"), text(root, "version")), (name, env!("CARGO_PKG_VERSION")));

    let (locked, policy) = (locked(), Policy::of_project());
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for component in list(&bill, "components") {
        let reference = text(component, "bom-ref");
        assert_eq!((text(component, "type"), text(component, "purl")), ("library", reference));
        assert!(needs.insert(reference, Vec::new()).is_none(), "{reference} is there twice");
        names.insert(text(component, "name"));
        let Some(crate_) = reference.strip_prefix("pkg:cargo/") else { continue };
        assert_eq!(crate_, format!("{}@{}", text(component, "name"), text(component, "version")));
        let licence = text(&list(component, "licenses")[0], "expression");
        assert!(policy.allows(licence), "{crate_} is under {licence}");
        if text(component, "name") != "sacker" {
            let hash = &list(component, "hashes")[0];
            assert_eq!(text(hash, "alg"), "SHA-256");
            assert_eq!(locked.get(crate_).map(String::as_str), Some(text(hash, "content")), "{crate_}");
        }
    }
    for held in holds.iter().chain(&["rust-std", "aws-lc-sys", "rustls", "sha2"]) {
        assert!(names.contains(held), "{held} is missing");
    }
    for absent in lacks.iter().chain(&["serde_derive", "rstest", "ring", "cc"]) {
        assert!(!names.contains(absent), "{absent} is not linked");
    }
    assert!(needs.contains_key(format!("pkg:generic/rust-std@{}", channel()).as_str()));
    assert!(names.contains("glibc") || names.contains("musl"), "{names:?}");

    // Each component is what something needs that the image is made of.
    needs.insert(text(root, "bom-ref"), Vec::new());
    let known: BTreeSet<&str> = needs.keys().copied().collect();
    for dependency in list(&bill, "dependencies") {
        let of = text(dependency, "ref");
        let on = list(dependency, "dependsOn").iter().map(|on| on.as_str().expect("a reference"));
        needs.get_mut(of).unwrap_or_else(|| panic!("{of} is unknown")).extend(on);
    }
    let mut reached = BTreeSet::new();
    let mut next = vec![text(root, "bom-ref")];
    while let Some(reference) = next.pop() {
        if reached.insert(reference) {
            next.extend(needs.get(reference).unwrap_or_else(|| panic!("{reference} is unknown")));
        }
    }
    assert_eq!(reached, known);
}

#[rstest]
#[case::init("sacker-init", "init")]
#[case::sacker("sacker", "cli operator")]
fn a_bill_is_the_same_each_time(#[case] name: &str, #[case] features: &str) {
    let (Some(path), Some(archive)) = (beside(name, ".cdx.json"), beside(name, ".tar")) else { return };
    let version = Command::new("rustc").arg("-vV").output().expect("rustc runs").stdout;
    let version = String::from_utf8(version).expect("UTF-8");
    let triple = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let script = place("image/sbom");
    let output = Command::new(script).args([name, triple, features]).arg(archive).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout == std::fs::read(path).expect("it is there"), "image/sbom prints something else");
}
