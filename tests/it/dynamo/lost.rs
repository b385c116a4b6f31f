//! Lost replies, lost requests, throttling: what is reported is what the tables say.

use std::time::Duration;

use futures::TryStreamExt as _;
use sacker::connect::Connect;
use sacker::error::Meaning;
use sacker::model::{Change, Expected, TagChange, verify_chain};

use super::{Tables, actor, moving, moving_from, new_version, package, tag, version};
use crate::support::faultgate::{Action, Refusal};

const THROTTLED: Action = Action::Status(Refusal::ProvisionedThroughputExceeded);
const CONFLICT: Action = Action::Status(Refusal::TransactionConflict);

/// More than the SDK would repeat by itself.
const MANY: usize = 8;

#[tokio::test]
async fn the_usual_operations_cost_few_requests() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    let requests = || tables.requests();
    for _ in 0..3 {
        tables.ledger.add(&frontend, &new_version()).await.expect("add");
        assert_eq!(requests(), "Query PutItem");
    }
    tables.ledger.change_tag(&frontend, &live, &moving(1)).await.expect("first move");
    assert_eq!(requests(), "GetItem TransactWriteItems");
    tables.ledger.change_tag(&frontend, &live, &moving_from(1, 2)).await.expect("move");
    assert_eq!(requests(), "GetItem TransactWriteItems");
    tables.ledger.change_tag(&frontend, &live, &moving(2)).await.expect("nothing to do");
    assert_eq!(requests(), "GetItem GetItem", "the tag, and whether its version exists");
    tables.ledger.latest(&frontend).await.expect("latest");
    assert_eq!(requests(), "Query");
    tables.ledger.tag(&frontend, &live).await.expect("tag");
    assert_eq!(requests(), "GetItem");
    tables.ledger.tags(&frontend).await.expect("tags");
    assert_eq!(requests(), "Query");
    tables.ledger.view(&frontend).await.expect("view");
    assert_eq!(requests(), "Query Query");
    for name in ["a", "b", "c"] {
        tables.ledger.add(&package(name), &new_version()).await.expect("add");
    }
    requests();
    let packages: Vec<_> = tables.ledger.packages().try_collect().await.expect("packages");
    assert_eq!(packages.len(), 4);
    assert_eq!(tables.gate.take_log().len(), 4 + 8, "one per package, one per segment");
}

#[tokio::test]
async fn an_add_whose_reply_was_lost_is_one_version() {
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    for times in [1, MANY] {
        tables.inject("PutItem", Action::DropReply, times);
        let before = tables.ledger.newest(&frontend, 1).await.map_or(0, |newest| newest.version_count);
        let added = tables.ledger.add(&frontend, &new_version()).await.expect("add");
        assert_eq!(added.version.get().unsigned_abs(), before + 1);
        assert_eq!(tables.ledger.latest(&frontend).await.expect("latest"), added);
        tables.heal();
    }
}

#[tokio::test]
async fn an_add_whose_request_was_lost_is_sent_again() {
    let Some(tables) = Tables::new().await else { return };
    tables.inject("PutItem", Action::DropBefore, 2);
    tables.inject("Query", THROTTLED, 2);
    let added = tables.ledger.add(&package("frontend"), &new_version()).await.expect("add");
    assert_eq!(added.version, version(1));
}

#[tokio::test]
async fn an_add_repeated_is_one_version() {
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    let new = new_version();
    let first = tables.ledger.add(&frontend, &new).await.expect("add");
    assert_eq!(tables.ledger.add(&frontend, &new).await.expect("at once"), first);
    for _ in 0..20 {
        tables.ledger.add(&frontend, &new_version()).await.expect("add");
    }
    assert_eq!(tables.ledger.add(&frontend, &new).await.expect("after others"), first);
    // Also where its condition holds no more: it held when the version was added.
    let mut conditional = new_version();
    conditional.if_latest = Some(version(21));
    let first = tables.ledger.add(&frontend, &conditional).await.expect("add");
    tables.ledger.add(&frontend, &new_version()).await.expect("add");
    assert_eq!(tables.ledger.add(&frontend, &conditional).await.expect("again"), first);
    assert_eq!(tables.ledger.versions(&frontend).await.expect("versions").len(), 23);
}

#[tokio::test]
async fn an_add_that_cannot_be_settled_says_so_with_its_id() {
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    let hasty = Connect { deadline: Duration::from_millis(400), ..tables.connect.clone() };
    let new = new_version();
    tables.inject("PutItem", Action::Swallow, usize::MAX);
    let error = tables.again(&hasty).await.add(&frontend, &new).await.expect_err("no reply");
    assert_eq!(error.meaning(), &Meaning::Unavailable, "{error}");
    assert_eq!(error.unsettled(), Some(new.add_id.as_str()));
    // The next run settles it.
    tables.heal();
    let settled = tables.ledger.add(&frontend, &new).await.expect("add");
    assert_eq!(settled.version, version(1));
    assert_eq!(tables.ledger.versions(&frontend).await.expect("versions"), [settled]);
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_a_lost_one() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    tables.inject("PutItem", Action::Cut, 2);
    let added = tables.ledger.add(&frontend, &new_version()).await.expect("add");
    assert_eq!(tables.ledger.versions(&frontend).await.expect("versions"), [added]);
    tables.inject("TransactWriteItems", Action::Cut, 2);
    tables.ledger.change_tag(&frontend, &live, &moving(1)).await.expect("move");
    assert_eq!(tables.ledger.history(&frontend, &live).await.expect("history").len(), 1);
}

#[tokio::test]
async fn a_refusal_does_not_hide_the_attempt_before_it() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    // The first attempt was carried out: a look finds it.
    tables.inject("PutItem", Action::DropReply, 1);
    tables.inject("PutItem", Action::SignatureExpired, usize::MAX);
    let added = tables.ledger.add(&frontend, &new_version()).await.expect("add");
    assert_eq!(added.version, version(1));
    tables.inject("TransactWriteItems", Action::DropReply, 1);
    tables.inject("TransactWriteItems", Action::SignatureExpired, usize::MAX);
    let first = moving(1);
    let moved = tables.ledger.change_tag(&frontend, &live, &first).await.expect("move");
    assert_eq!(moved.event.map(|event| event.id), Some(first.id));
    tables.heal();

    // Nothing is there yet, but the first attempt may still be on its way.
    tables.inject("PutItem", Action::DropBefore, 1);
    tables.inject("PutItem", Action::SignatureExpired, usize::MAX);
    let new = new_version();
    let error = tables.ledger.add(&frontend, &new).await.expect_err("in doubt");
    assert_eq!((error.meaning(), error.unsettled()), (&Meaning::Unavailable, Some(new.add_id.as_str())));
    tables.inject("TransactWriteItems", Action::DropBefore, 1);
    tables.inject("TransactWriteItems", Action::SignatureExpired, usize::MAX);
    let change = TagChange::new(Change::Untag, actor());
    let error = tables.ledger.change_tag(&frontend, &live, &change).await.expect_err("in doubt");
    assert_eq!((error.meaning(), error.unsettled()), (&Meaning::Unavailable, Some(change.id.as_str())));
    tables.heal();

    // A refusal alone is one.
    tables.inject("PutItem", Action::SignatureExpired, usize::MAX);
    let error = tables.ledger.add(&frontend, &new_version()).await.expect_err("refused");
    assert!(matches!(error.meaning(), Meaning::Denied { .. }) && error.unsettled().is_none(), "{error:?}");
}

#[tokio::test]
async fn an_add_that_was_never_sent_is_not_in_doubt() {
    let Some(tables) = Tables::new().await else { return };
    let hasty = Connect { deadline: Duration::from_millis(400), ..tables.connect.clone() };
    tables.inject("Query", Action::Swallow, usize::MAX);
    let error = tables.again(&hasty).await.add(&package("frontend"), &new_version()).await;
    let error = error.expect_err("no reply");
    assert_eq!((error.meaning(), error.unsettled()), (&Meaning::Unavailable, None));
}

#[tokio::test]
async fn a_move_whose_reply_was_lost_is_one_event() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    for _ in 0..2 {
        tables.ledger.add(&frontend, &new_version()).await.expect("add");
    }
    let changes = [
        (1, moving(1).expecting(Expected::Seq(0))),
        (MANY, moving(2).expecting(Expected::Seq(1))),
        (1, TagChange::new(Change::Hold { reason: "x".into() }, actor()).expecting(Expected::Seq(2))),
        (1, TagChange::new(Change::Release, actor()).expecting(Expected::Seq(3))),
        (1, TagChange::new(Change::Untag, actor()).expecting(Expected::Seq(4))),
    ];
    for (times, change) in &changes {
        tables.inject("TransactWriteItems", Action::DropReply, *times);
        let outcome = tables.ledger.change_tag(&frontend, &live, change).await.expect("change");
        assert_eq!(outcome.event.map(|event| event.id).as_ref(), Some(&change.id));
        tables.heal();
    }
    let events = tables.ledger.history(&frontend, &live).await.expect("history");
    verify_chain(&events).expect("one chain");
    assert_eq!(events.len(), changes.len());
}

#[tokio::test]
async fn a_move_waits_while_others_are_at_work() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    tables.ledger.add(&frontend, &new_version()).await.expect("add");
    tables.inject("TransactWriteItems", CONFLICT, 3);
    tables.inject("TransactWriteItems", THROTTLED, 2);
    tables.inject("TransactWriteItems", Action::DropBefore, 1);
    tables.ledger.change_tag(&frontend, &live, &moving(1)).await.expect("move");
    assert_eq!(tables.ledger.history(&frontend, &live).await.expect("history").len(), 1);
}

#[tokio::test]
async fn a_move_repeated_is_one_event() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    for _ in 0..3 {
        tables.ledger.add(&frontend, &new_version()).await.expect("add");
    }
    let conditional = moving(1).expecting(Expected::Seq(0));
    let free = moving(2);
    let last = TagChange::new(Change::Untag, actor());
    let mut firsts = Vec::new();
    for change in [&conditional, &free, &last] {
        firsts.push(tables.ledger.change_tag(&frontend, &live, change).await.expect("change"));
        assert_eq!(firsts.last(), tables.ledger.change_tag(&frontend, &live, change).await.ok().as_ref());
    }
    // After others moved the tag, too: where the condition holds no more, and where there is none.
    tables.ledger.change_tag(&frontend, &live, &moving(3)).await.expect("move");
    for (change, first) in [&conditional, &free, &last].into_iter().zip(&firsts) {
        let again = tables.ledger.change_tag(&frontend, &live, change).await.expect("again");
        assert_eq!(&again, first);
    }
    assert_eq!(tables.ledger.history(&frontend, &live).await.expect("history").len(), 4);
    // An id of any length, and one that was used for another tag.
    let mut long = moving(1);
    long.id = "x".repeat(200);
    tables.ledger.change_tag(&frontend, &tag("a"), &long).await.expect("a long id");
    tables.ledger.change_tag(&frontend, &tag("a"), &moving(2)).await.expect("move");
    tables.ledger.change_tag(&frontend, &tag("a"), &long).await.expect("again");
    assert_eq!(tables.ledger.history(&frontend, &tag("a")).await.expect("history").len(), 2);
    let mut shared = moving(3);
    shared.id.clone_from(&conditional.id);
    tables.ledger.change_tag(&frontend, &tag("b"), &shared).await.expect("another tag");
    assert_eq!(tables.ledger.history(&frontend, &tag("b")).await.expect("history").len(), 1);
}

#[tokio::test]
async fn a_move_that_cannot_be_settled_says_so_with_its_id() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    tables.ledger.add(&frontend, &new_version()).await.expect("add");
    let hasty = Connect { deadline: Duration::from_millis(400), ..tables.connect.clone() };
    let change = moving(1);
    tables.inject("TransactWriteItems", Action::Swallow, usize::MAX);
    let error = tables.again(&hasty).await.change_tag(&frontend, &live, &change).await.expect_err("no reply");
    assert_eq!(error.meaning(), &Meaning::Unavailable, "{error}");
    assert_eq!(error.unsettled(), Some(change.id.as_str()));
    tables.heal();
    let outcome = tables.ledger.change_tag(&frontend, &live, &change).await.expect("settled");
    assert_eq!(outcome.event.map(|event| event.seq), Some(1));
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    let Some(tables) = Tables::new().await else { return };
    let hasty = Connect { deadline: Duration::from_millis(500), ..tables.connect.clone() };
    let ledger = super::open("http://127.0.0.1:1", &tables.prefix, &hasty).await;
    let error = ledger.latest(&package("frontend")).await.expect_err("nobody listens there");
    assert_eq!(error.meaning(), &Meaning::Unavailable, "{error}");
}
