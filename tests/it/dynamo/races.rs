//! Reads that are two requests, with a change of somebody else's between them.

use std::time::Duration;

use super::{Tables, actor, moving, new_version, open, package, tag};
use crate::support::faultgate::{Action, Gate, Match, Rule};
use crate::support::{eventually, testbed};
use sacker::error::Meaning;
use sacker::model::{Change, Expected, TagChange};

/// A tag that was removed, and a gate that holds the next look at its history.
async fn removed_tag() -> Option<(Tables, Gate)> {
    let tables = Tables::new().await?;
    let (frontend, live) = (package("frontend"), tag("live"));
    tables.ledger.add(&frontend, &new_version()).await.expect("add");
    tables.ledger.change_tag(&frontend, &live, &moving(1)).await.expect("move");
    tables.ledger.change_tag(&frontend, &live, &TagChange::new(Change::Untag, actor())).await.expect("untag");
    let gate = Gate::start(&testbed::dynamodb()?.endpoint, 0);
    gate.add_rule(Rule::new(Match::target("Query"), Action::Hold).times(1));
    Some((tables, gate))
}

async fn until_held(gate: &Gate) {
    eventually("the look at the history is held", Duration::from_secs(30), async || gate.held() == 1).await;
}

#[tokio::test]
async fn a_tag_that_is_set_while_it_is_read_was_not_deleted_by_a_2015_client() {
    let Some((tables, gate)) = removed_tag().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    let reader = open(&gate.url(), &tables.prefix, &tables.connect).await;
    let (of, named) = (frontend.clone(), live.clone());
    let read = tokio::spawn(async move { reader.tag(&of, &named).await });
    until_held(&gate).await;
    let set = tables.ledger.change_tag(&frontend, &live, &moving(1)).await.expect("move").state;
    gate.release();
    assert_eq!(read.await.expect("a reader").expect("tag"), Some(set));
}

#[tokio::test]
async fn a_change_that_loses_to_a_first_move_tells_the_event_it_lost_to() {
    let Some((tables, gate)) = removed_tag().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    let writer = open(&gate.url(), &tables.prefix, &tables.connect).await;
    let (of, named) = (frontend.clone(), live.clone());
    let change = moving(1).expecting(Expected::Seq(2));
    let lost = tokio::spawn(async move { writer.change_tag(&of, &named, &change).await });
    until_held(&gate).await;
    tables.ledger.change_tag(&frontend, &live, &moving(1)).await.expect("move");
    gate.release();
    let error = lost.await.expect("a writer").expect_err("it lost");
    let found = "event 3 (version 1)".to_owned();
    assert_eq!(*error.meaning(), Meaning::Conflict { expected: "event 2".to_owned(), found });
}
