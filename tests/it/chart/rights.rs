//! S1: what the rendered chart grants is what `rights.txt` says, per controller set and service account, and a real API server
//! says the same of each account.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::helm::{Helm, objects};
use crate::support::cluster::{Cluster, PATIENCE};

/// Line by line what each account may do; to read before a release.
const GOLDEN: &str = include_str!("rights.txt");

/// Controllers of the operator, whether the rollout controller runs beside it, and the one namespace that is looked after.
const SETS: [(&str, bool, &str); 6] = [
    ("tag,resolver,ledger", false, ""),
    ("resolver,ledger", false, ""),
    ("tag,ledger", false, ""),
    ("ledger", false, ""),
    ("tag,resolver,ledger", true, ""),
    ("tag,resolver,ledger", true, WATCHED),
];

const NAMESPACE: &str = "sacker-system";
const WATCHED: &str = "web";

/// Where a right counts that does not end at a namespace.
const CLUSTER: &str = "cluster";

/// Verbs by resource, such as `sackertags.sacker.dev/status` or `leases.coordination.k8s.io [name]`.
type Rights = BTreeMap<String, BTreeSet<String>>;

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// As kubectl names it.
fn resource(group: &str, resource: &str, name: Option<&str>) -> String {
    let (plural, sub) = resource.split_once('/').map_or((resource, ""), |(plural, sub)| (plural, sub));
    let mut text = plural.to_owned();
    for (separator, part) in [(".", group), ("/", sub)] {
        if !part.is_empty() {
            text = format!("{text}{separator}{part}");
        }
    }
    name.map_or(text.clone(), |name| format!("{text} [{name}]"))
}

fn add_rules(rights: &mut Rights, role: &Value) {
    for rule in role["rules"].as_array().expect("rules") {
        assert!(rule["nonResourceURLs"].is_null(), "{rule}");
        let names = words(&rule["resourceNames"]);
        let names: Vec<Option<&str>> = if names.is_empty() {
            vec![None]
        } else {
            names.iter().map(|name| Some(name.as_str())).collect()
        };
        for group in words(&rule["apiGroups"]) {
            for plural in words(&rule["resources"]) {
                for name in &names {
                    let resource = resource(&group, &plural, *name);
                    rights.entry(resource).or_default().extend(words(&rule["verbs"]));
                }
            }
        }
    }
}

/// By account and place, the cluster or a namespace.
type Granted = BTreeMap<String, BTreeMap<String, Rights>>;

fn granted(objects: &[Value]) -> Granted {
    let mut granted = Granted::new();
    for binding in objects {
        let place = match binding["kind"].as_str() {
            Some("ClusterRoleBinding") => CLUSTER,
            Some("RoleBinding") => binding["metadata"]["namespace"].as_str().expect("a namespace"),
            _ => continue,
        };
        let (kind, name) = (&binding["roleRef"]["kind"], &binding["roleRef"]["name"]);
        let is_role = |object: &&Value| object["kind"] == *kind && object["metadata"]["name"] == *name;
        let role = objects.iter().find(is_role).expect("a role of the chart");
        for subject in binding["subjects"].as_array().expect("subjects") {
            assert_eq!(
                (&subject["kind"], &subject["namespace"]),
                (&json!("ServiceAccount"), &json!(NAMESPACE))
            );
            let account = subject["name"].as_str().expect("a name").to_owned();
            add_rules(granted.entry(account).or_default().entry(place.to_owned()).or_default(), role);
        }
    }
    granted
}

/// What may be done in a namespace: what may be done everywhere, and what only there.
fn in_namespace(places: &BTreeMap<String, Rights>, namespace: &str) -> Rights {
    let mut merged = Rights::new();
    for (resource, verbs) in [CLUSTER, namespace].iter().filter_map(|place| places.get(*place)).flatten() {
        merged.entry(resource.clone()).or_default().extend(verbs.iter().cloned());
    }
    merged
}

fn rendered(helm: &Helm, (controllers, rollout, watched): (&str, bool, &str)) -> Vec<Value> {
    let list: Vec<&str> = controllers.split(',').collect();
    let list = format!("controllers={}", json!(list));
    let others = format!("rollout.enabled={rollout},watchNamespace={watched}");
    helm.objects(NAMESPACE, &["--set-json", &list, "--set", &others])
}

#[test]
fn the_chart_grants_what_the_list_says() {
    let Some(helm) = Helm::new() else { return };
    let mut text = String::new();
    for set in SETS {
        let objects = rendered(&helm, set);
        let (controllers, rollout, watched) = set;
        let _ = write!(text, "controllers {controllers}{}", if rollout { ", and rollout" } else { "" });
        let _ = writeln!(text, "{}", if watched.is_empty() { "" } else { ", of one namespace" });
        for (account, places) in granted(&objects) {
            let _ = writeln!(text, "  {account}");
            for (place, rights) in places {
                for (resource, verbs) in rights {
                    let verbs = verbs.into_iter().collect::<Vec<_>>().join(" ");
                    let _ = writeln!(text, "    {place} {resource}: {verbs}");
                }
            }
        }
        // Bound or not.
        for role in objects.iter().filter(|object| object["rules"].is_array()) {
            let mut rights = Rights::new();
            add_rules(&mut rights, role);
            no_more_than_needed(&rights);
        }
    }
    assert!(text == GOLDEN, "tests/it/chart/rights.txt is not what the chart grants:\n{text}");
}

fn no_more_than_needed(rights: &Rights) {
    for (resource, verbs) in rights {
        assert!(!resource.contains('*') && !verbs.contains("*"), "{resource}: {verbs:?}");
        for forbidden in ["secrets", "pods", "clusterrole", "rolebinding", "serviceaccounts"] {
            assert!(!resource.starts_with(forbidden), "{resource}: {verbs:?}");
        }
        for verb in ["escalate", "bind", "impersonate", "promote"] {
            assert!(!verbs.contains(verb), "{resource}: {verbs:?}");
        }
    }
}

/// The one role for who installs without the chart is the same, but for the name of the lease.
#[test]
fn the_role_of_config_is_that_of_the_chart() {
    let Some(helm) = Helm::new() else { return };
    let granted = granted(&rendered(&helm, SETS[0]));
    let mut of_chart = Rights::new();
    for (resource, verbs) in in_namespace(&granted["sacker-operator"], NAMESPACE) {
        let resource = resource.split(' ').next().unwrap_or_default().to_owned();
        of_chart.entry(resource).or_default().extend(verbs);
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/rbac/operator.yaml");
    let roles = objects(&std::fs::read_to_string(file).expect("it can be read"));
    let mut of_config = Rights::new();
    for role in &roles {
        add_rules(&mut of_config, role);
    }
    assert_eq!(of_chart, of_config);
}

/// What `kubectl auth can-i --list` says of an account in a namespace; of paths that are no resources, nothing.
fn listed(cluster: &Cluster, account: &str, namespace: &str) -> Rights {
    let identity = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
    let answer = cluster.kubectl(&["auth", "can-i", "--list", "-n", namespace, &identity]).success();
    let mut rights = Rights::new();
    for line in answer.lines().skip(1) {
        let mut parts = line.split(['[', ']']);
        let resource = parts.next().unwrap_or_default().trim();
        // Paths, names and verbs, with a space between each two brackets.
        let (names, verbs) = (parts.nth(2), parts.nth(1));
        if resource.is_empty() {
            continue;
        }
        let (names, verbs) = (names.expect(line), verbs.expect(line));
        let verbs: Vec<String> = verbs.split_whitespace().map(str::to_owned).collect();
        let names: Vec<&str> = names.split_whitespace().collect();
        if names.is_empty() {
            rights.entry(resource.to_owned()).or_default().extend(verbs.iter().cloned());
        }
        for name in names {
            rights.entry(format!("{resource} [{name}]")).or_default().extend(verbs.iter().cloned());
        }
    }
    assert!(!rights.is_empty(), "{answer}");
    rights
}

#[test]
fn an_api_server_says_the_same() {
    let Some(helm) = Helm::new() else { return };
    let Some(cluster) = Cluster::start() else { return };
    for namespace in [NAMESPACE, WATCHED] {
        cluster.kubectl(&["create", "namespace", namespace]).success();
    }
    let is_right = |object: &&Value| {
        object["apiVersion"].as_str().is_some_and(|version| version.starts_with("rbac.authorization"))
    };
    for set in SETS {
        let objects = rendered(&helm, set);
        let items: Vec<&Value> = objects.iter().filter(is_right).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
        cluster.apply(&list);
        // What everybody who is authenticated may do.
        let anybody = listed(&cluster, "nobody", NAMESPACE);
        let own = |account: &str, namespace: &str| {
            let mut rights = listed(&cluster, account, namespace);
            no_more_than_needed(&rights);
            rights.retain(|resource, verbs| anybody.get(resource) != Some(verbs));
            rights
        };
        let granted = granted(&objects);
        assert_eq!(granted.len(), if set.1 { 2 } else { 1 }, "{set:?}");
        for (account, places) in &granted {
            for namespace in [NAMESPACE, WATCHED, "default"] {
                let expected = in_namespace(places, namespace);
                let end = Instant::now() + PATIENCE;
                let mut found = own(account, namespace);
                // The API server takes roles up in a moment.
                while found != expected && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(200));
                    found = own(account, namespace);
                }
                assert_eq!(found, expected, "{set:?}: {account} in {namespace}");
            }
        }
        cluster.kubectl_with(&["delete", "-f", "-"], &list).success();
    }
}
