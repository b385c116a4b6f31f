//! Removing versions: what it costs, lost replies, and what a 2015 client sees.

use std::time::Duration;

use sacker::connect::Connect;
use sacker::error::{Error, Meaning};
use sacker::ledger::Removed;
use sacker::model::Removal;

use super::{Tables, moving, new_version, number, package, tag, text, version};
use crate::support::faultgate::Action;

fn removal() -> Removal {
    let at = "2026-11-21T10:00:00.123Z".parse().expect("a time");
    Removal { at, by: "alice".into(), reason: Some("a leaked key".into()) }
}

/// Tables with two versions of `frontend`.
async fn tables() -> Option<Tables> {
    let tables = Tables::new().await?;
    for _ in 0..2 {
        tables.ledger.add(&package("frontend"), &new_version()).await.expect("add");
    }
    tables.gate.take_log();
    Some(tables)
}

async fn remove(tables: &Tables, number: i64) -> Result<Removed, Error> {
    tables.ledger.remove_version(&package("frontend"), version(number), &removal()).await
}

#[tokio::test]
async fn a_removal_costs_three_requests() {
    let Some(tables) = tables().await else { return };
    tables.ledger.change_tag(&package("frontend"), &tag("live"), &moving(1)).await.expect("move");
    tables.gate.take_log();
    assert!(remove(&tables, 2).await.expect("remove").is_new);
    assert_eq!(tables.requests(), "GetItem Query PutItem");
    assert!(!remove(&tables, 2).await.expect("again").is_new);
    assert_eq!(tables.requests(), "GetItem");
    remove(&tables, 1).await.expect_err("tagged");
    assert_eq!(tables.requests(), "GetItem Query");
}

#[tokio::test]
async fn a_removal_whose_reply_was_lost_is_recognised() {
    for (action, times) in [(Action::DropReply, 1), (Action::DropBefore, 2), (Action::Cut, 1)] {
        let Some(tables) = tables().await else { return };
        tables.inject("PutItem", action.clone(), times);
        assert!(remove(&tables, 2).await.expect("remove").is_new, "{action:?}");
        assert!(!remove(&tables, 2).await.expect("again").is_new);
    }
}

#[tokio::test]
async fn a_removal_that_cannot_be_settled_says_so() {
    let Some(tables) = tables().await else { return };
    let hasty = Connect { deadline: Duration::from_millis(400), ..tables.connect.clone() };
    tables.inject("PutItem", Action::Swallow, usize::MAX);
    let hasty = tables.again(&hasty).await;
    let error =
        hasty.remove_version(&package("frontend"), version(2), &removal()).await.expect_err("no reply");
    assert_eq!(error.meaning(), &Meaning::Unavailable, "{error}");
    assert!(error.unsettled().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_tombstone_is_a_row_that_2015_clients_read() {
    let Some(tables) = Tables::new().await else { return };
    tables.old_version("frontend", 1, r#"{"commit": "abc"}"#).await;
    tables.old_version("frontend", 2, "null").await;
    for number in [1, 2] {
        remove(&tables, number).await.expect("remove");
    }
    let there = tables.raw_version("frontend", 1).await.expect("there");
    assert_eq!(there["sha"], text(&"0".repeat(64)));
    assert_eq!((&there["basename"], &there["mode"]), (&text("app.jar"), &number(33188)));
    let told: serde_json::Value =
        serde_json::from_str(there["metadata"].as_s().expect("text")).expect("JSON");
    assert_eq!(
        told,
        serde_json::json!({
            "commit": "abc",
            "removed_at": "2026-11-21T10:00:00.123Z",
            "removed_by": "alice",
            "removed_reason": "a leaked key",
        })
    );
    let records = tables.ledger.versions(&package("frontend")).await.expect("versions");
    assert_eq!(records[0].metadata.len(), 1, "our own readers are told by `removal`");
    assert!(records[1].metadata.is_empty());
    // The number stays taken for that client, too: its next one is 3.
    let added = tables.ledger.add(&package("frontend"), &new_version()).await.expect("add");
    assert_eq!(added.version, version(3));
}

#[tokio::test]
async fn a_2015_clients_tag_protects_its_version() {
    let Some(tables) = tables().await else { return };
    tables.old_tag("frontend", "live", text("2")).await;
    let error = remove(&tables, 2).await.expect_err("tagged");
    assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{error}");
    remove(&tables, 1).await.expect("remove");
}
