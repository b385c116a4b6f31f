//! Alerts and dashboard speak of what a running operator really exports, and each alert has its runbook.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use sacker::api::Reason;
use serde_json::Value;

use super::helm::CHART;
use crate::operator::bench::Bench;
use crate::operator::process::Operator;
use crate::support::cluster::{Cluster, PATIENCE};

const OPERATOR: &str = "system:serviceaccount:sacker-system:sacker-operator";

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(CHART).join("files").join(name)).expect("it can be read")
}

fn alerts() -> Vec<Value> {
    serde_saphyr::from_str(&file("alerts.yaml")).expect("YAML")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Every expression, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let alerts = alerts();
    let mut found: Vec<_> = alerts
        .iter()
        .map(|alert| (text(&alert["alert"]).to_owned(), text(&alert["expr"]).to_owned()))
        .collect();
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            found.push((text(&panel["title"]).to_owned(), text(&target["expr"]).to_owned()));
        }
    }
    assert!(found.len() > 12, "{found:?}");
    found
}

/// The metrics that an expression names.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("sacker_"))
}

/// What is named and not exported.
fn missing(operator: &Operator) -> Vec<(String, String)> {
    let (_, page) = operator.get("/metrics").expect("metrics are served");
    let series = page.lines().filter(|line| line.starts_with("sacker_"));
    let exported: BTreeSet<&str> = series.filter_map(|line| line.split(['{', ' ']).next()).collect();
    let mut missing = Vec::new();
    for (place, expression) in expressions() {
        let mut named = metrics(&expression).peekable();
        assert!(named.peek().is_some(), "{place} names no metric");
        let absent = named.filter(|name| !exported.contains(name));
        missing.extend(absent.map(|name| (place.clone(), name.to_owned())));
    }
    missing
}

#[tokio::test]
async fn every_expression_names_what_an_operator_exports() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    // It lacks one right, so that some passes fail.
    let role = include_str!("../../../config/rbac/operator.yaml");
    let without = role.replace("sackerpackages/status, ", "");
    assert_ne!(role, without);
    cluster.apply(&without);
    let (role, user) = ("--clusterrole=sacker-operator", format!("--user={OPERATOR}"));
    cluster.kubectl(&["create", "clusterrolebinding", "sacker-operator", role, &user]).success();
    let operator = Operator::start_as(&cluster, OPERATOR, &[]);
    operator.until_ready();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.apply_package("mirror", "");

    let end = Instant::now() + PATIENCE;
    while !missing(&operator).is_empty() && Instant::now() < end {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let missing = missing(&operator);
    assert!(missing.is_empty(), "not exported: {missing:?}\n{}", operator.log());
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
}

/// A reason that is spelled wrong would alert for ever, or never.
#[test]
fn alerts_speak_of_reasons_that_there_are() {
    let mut seen = 0;
    for (place, expression) in expressions() {
        for rest in expression.split("reason!~\"").skip(1) {
            let reasons = rest.split('"').next().expect("the end of the pattern");
            for reason in reasons.split('|') {
                seen += 1;
                let is_one = reason == "Unknown" || Reason::ALL.iter().any(|known| known.as_str() == reason);
                assert!(is_one, "{place}: {reason}");
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn every_alert_has_its_runbook() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let page = std::fs::read_to_string(path).expect("the page about operations");
    let headings: BTreeSet<String> = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .collect();
    for alert in alerts() {
        let anchor = text(&alert["alert"]).to_lowercase();
        let runbook = text(&alert["annotations"]["runbook_url"]);
        assert_eq!(runbook, format!("docs/operations.md#{anchor}"));
        assert!(headings.contains(&anchor), "docs/operations.md has no section '{anchor}'");
        assert!(alert["annotations"]["summary"].is_string(), "{anchor}");
    }
}
