//! Removals whose replies are lost, whose writer dies, and which meet a tag's writer at every possible moment.

use super::*;
use crate::error::Missing;
use crate::ledger::Removed;

const VERSION: &str = "p/versions/2";
const HINT: &str = "p/tags/latest";

fn removal() -> Removal {
    Removal { at: jiff::Timestamp::UNIX_EPOCH, by: "alice".into(), reason: Some("why".into()) }
}

async fn remove(ledger: &ObjectLedger<Scripted>, number: i64) -> Result<Removed> {
    ledger.remove_version(&p(), version(number), &removal()).await
}

async fn is_removed(ledger: &ObjectLedger<Scripted>, number: i64) -> bool {
    let records = ledger.versions(&p()).await.expect("versions");
    records.iter().any(|record| record.version == version(number) && record.is_removed())
}

async fn raw(ledger: &ObjectLedger<Scripted>, key: &str) -> serde_json::Value {
    let object = ledger.objects.inner.get(key).await.expect("read").expect("there");
    serde_json::from_slice(&object.bytes).expect("JSON")
}

#[tokio::test]
async fn lost_replies_and_requests_of_a_removal_are_settled() {
    use At::{LoseReply, LoseRequest, Through};
    // The first write marks the version, the second one is the tombstone.
    for script in [
        vec![LoseReply],
        vec![LoseRequest],
        vec![Through, LoseReply],
        vec![Through, LoseRequest],
        vec![LoseReply, LoseReply],
        vec![Through, LoseRequest, LoseRequest, LoseReply],
    ] {
        let shown = format!("{script:?}");
        let ledger = scripted(VERSION, script, None).await;
        let removed = remove(&ledger, 2).await.expect(&shown);
        assert!(removed.is_new, "{shown}: its own removal");
        assert!(is_removed(&ledger, 2).await, "{shown}");
        assert!(!remove(&ledger, 2).await.expect("again").is_new);
    }
    // A fence.
    for script in [vec![LoseReply], vec![LoseRequest, LoseReply]] {
        let ledger = scripted("never", [], None).await;
        ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("move");
        let ledger = watching(ledger, POINTER, script);
        assert!(remove(&ledger, 2).await.expect("remove").is_new);
    }
}

fn watching(
    mut ledger: ObjectLedger<Scripted>,
    watched: &'static str,
    script: Vec<At>,
) -> ObjectLedger<Scripted> {
    ledger.objects.watched = watched;
    ledger.objects.script = Mutex::new(script.into());
    ledger
}

#[tokio::test]
async fn a_removal_that_stays_in_doubt_says_so() {
    let ledger = scripted(VERSION, [At::Through], Some(At::LoseRequest)).await;
    let error = remove(&ledger, 2).await.expect_err("no answer, ever");
    assert_eq!(error.meaning(), &Meaning::Unavailable);
    assert!(error.unsettled().is_some(), "{error:?}");
    // A mark that was never written is not in doubt: nothing was removed.
    let ledger = scripted(VERSION, [], Some(At::LoseRequest)).await;
    let error = remove(&ledger, 2).await.expect_err("no answer, ever");
    assert_eq!((error.meaning(), error.unsettled()), (&Meaning::Unavailable, None));
    // After a tombstone that may be under way, no refusal is believed.
    let ledger = scripted(VERSION, [At::Through, At::LoseRequest], Some(At::Deny)).await;
    let error = remove(&ledger, 2).await.expect_err("who knows");
    assert_eq!(Exit::from(&error), Exit::Unavailable, "{error}");
    let ledger = scripted(VERSION, [At::Deny], None).await;
    assert_eq!(Exit::from(&remove(&ledger, 2).await.expect_err("denied")), Exit::Denied);
}

#[tokio::test]
async fn a_removal_that_died_half_way_harms_nobody_and_can_be_finished() {
    for moves in [false, true] {
        let ledger = scripted(VERSION, [At::Through], Some(At::Deny)).await;
        ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("move");
        remove(&ledger, 2).await.expect_err("it dies before the tombstone");
        let mut ledger = ledger;
        ledger.objects.forever = None;
        assert_eq!(raw(&ledger, VERSION).await["removing"], true);
        // Readers see a version like any other, and tags move to it.
        let record = ledger.version(&p(), version(2)).await.expect("readable");
        assert_eq!(record.sha256, Sha256::of(b"x"));
        if moves {
            ledger.change_tag(&p(), &live(), &moving(version(2))).await.expect("move");
            assert_eq!(raw(&ledger, VERSION).await.get("removing"), None, "cleared");
            let error = remove(&ledger, 2).await.expect_err("tagged");
            assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{error}");
        } else {
            assert!(remove(&ledger, 2).await.expect("the next one finishes").is_new);
            assert!(is_removed(&ledger, 2).await);
        }
        story(&ledger).await;
    }
}

#[tokio::test]
async fn a_removal_that_is_refused_leaves_no_trace() {
    let ledger = scripted("never", [], None).await;
    ledger.change_tag(&p(), &live(), &moving(version(2))).await.expect("move");
    let writes = *ledger.objects.writes.lock().expect("whole");
    remove(&ledger, 2).await.expect_err("tagged");
    assert_eq!(*ledger.objects.writes.lock().expect("whole"), writes);
    remove(&ledger, 9).await.expect_err("no such version");
    assert_eq!(*ledger.objects.writes.lock().expect("whole"), writes);
}

/// Shifts a tag's writer against a removal by single requests: the one begins when the other has made so many.
async fn shifted(first_move: bool, slow_reads: Option<&'static str>) {
    let (package, tag) = (p(), live());
    let mut outcomes = std::collections::BTreeSet::new();
    // Long enough that the other is done before, and no longer.
    let (mover, remover, step) = if slow_reads.is_some() { (600, 400, 11) } else { (300, 100, 3) };
    let shifts = (0..mover).map(|later| (later, 0)).chain((1..remover).map(|later| (0, later)));
    for (mover_later, remover_later) in shifts.step_by(step) {
        let mut ledger = scripted("never", [], None).await;
        if !first_move {
            ledger.change_tag(&package, &tag, &moving(version(1))).await.expect("move");
        }
        ledger.objects.slow_reads = slow_reads;
        ledger.connect.deadline = Duration::from_secs(20);
        let change = moving(version(2));
        let (moved, removed) = tokio::join!(
            async {
                yields(mover_later).await;
                ledger.change_tag(&package, &tag, &change).await
            },
            async {
                yields(remover_later).await;
                remove(&ledger, 2).await
            }
        );
        let story = format!("{slow_reads:?} {mover_later}/{remover_later}: {moved:?} {removed:?}");
        let gone = is_removed(&ledger, 2).await;
        let on_it = points_to(&ledger).await == Some(2);
        assert!(moved.is_ok() != removed.is_ok(), "one of them; {story}");
        assert_eq!((moved.is_ok(), removed.is_ok()), (on_it, gone), "{story}");
        if let Err(error) = &moved {
            let missing = Missing::Removed(p(), version(2));
            assert_eq!(error.meaning(), &Meaning::NotFound(missing), "{story}");
        }
        if let Ok(events) = ledger.history(&package, &tag).await {
            verify_chain(&events).expect("one chain");
            assert_eq!(events.len(), usize::from(!first_move) + usize::from(on_it), "{story}");
        }
        outcomes.insert(gone);
    }
    assert_eq!(outcomes.len(), 2, "each was first at least once");
}

#[tokio::test]
async fn no_interleaving_leaves_a_tag_on_a_removed_version() {
    shifted(false, None).await;
    shifted(false, Some(POINTER)).await;
    shifted(false, Some(VERSION)).await;
}

#[tokio::test]
async fn no_interleaving_leaves_a_new_tag_on_a_removed_version() {
    shifted(true, None).await;
    shifted(true, Some(POINTER)).await;
    shifted(true, Some(VERSION)).await;
}

async fn yields(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_writer_that_read_its_pointer_before_the_fence_is_stopped() {
    // Its exchange arrives when the removal is complete.
    let ledger = scripted("never", [], None).await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("move");
    let before = ledger.objects.inner.get(POINTER).await.expect("read").expect("there");
    remove(&ledger, 2).await.expect("remove");
    let event = adopt(None, 2);
    let late = ledger
        .objects
        .inner
        .put(
            POINTER,
            records::encode_pointer(&event, None),
            Precondition::Revision(before.revision),
            &BTreeMap::new(),
        )
        .await;
    assert_eq!(late.expect("answered"), Put::Refused);
    assert_eq!(points_to(&ledger).await, Some(1));
    assert_eq!(story(&ledger).await, [(EventKind::Move, Some(1))], "the fence is no event");
}

#[tokio::test]
async fn pointers_of_2015_are_fenced_and_stay_theirs() {
    let ledger = scripted("never", [], None).await;
    ledger.objects.force(POINTER, "{\"version\": \"3\"}").await;
    ledger.objects.force("p/tags/word", "{\"version\": \"latest\"}").await;
    remove(&ledger, 2).await.expect("remove");
    assert_eq!(raw(&ledger, POINTER).await["version"], "3");
    let state = ledger.tag(&p(), &live()).await.expect("tag").expect("there");
    assert_eq!((state.version, state.event), (Some(version(3)), None));
    let error = remove(&ledger, 3).await.expect_err("a 2015 client's tag counts");
    assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{error}");
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("move");
    assert_eq!(story(&ledger).await, [(EventKind::Adopt, Some(3)), (EventKind::Move, Some(1))]);
}

#[tokio::test]
async fn a_reserved_name_is_no_tag() {
    // The first writer dies after the reservation.
    let mut ledger = at_the_exchange([], Some(At::Deny)).await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect_err("denied");
    ledger.objects.forever = None;
    assert_eq!(raw(&ledger, POINTER).await["version"], 0, "absent to a 2015 reader");
    assert_eq!(ledger.tag(&p(), &live()).await.expect("tag"), None);
    assert_eq!(ledger.tags(&p()).await.expect("tags"), []);
    assert_eq!(ledger.tags_ever(&p()).await.expect("tags"), []);
    assert!(ledger.history(&p(), &live()).await.expect_err("none").is_not_found());
    assert_eq!(ledger.change_tag(&p(), &live(), &change(Change::Untag)).await.expect("nothing").event, None);
    ledger
        .change_tag(&p(), &live(), &moving(version(1)).expecting(Expected::Seq(0)))
        .await
        .expect("as if there were no pointer");
    assert_eq!(story(&ledger).await, [(EventKind::Move, Some(1))]);
}

#[tokio::test]
async fn a_pointer_that_is_set_back_has_a_new_revision() {
    let ledger = scripted("never", [], None).await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("move");
    let first = raw(&ledger, POINTER).await;
    ledger.objects.force(POINTER, "{\"version\": 1}").await;
    ledger.change_tag(&p(), &live(), &change(Change::Release)).await.expect("nothing to release");
    let second = raw(&ledger, POINTER).await;
    assert_eq!(first["event"], second["event"]);
    assert_ne!(first, second, "content is what S3 and files tell revisions by");
}

#[tokio::test]
async fn the_tombstone_is_a_record_for_2015_clients() {
    let ledger = scripted("never", [], None).await;
    let old = format!("{{\"sha\": \"{}\", \"basename\": \"app.jar\", \"mode\": 33188}}", Sha256::of(b"y"));
    let metadata = BTreeMap::from([("commit".to_owned(), "abc".to_owned())]);
    let key = "p/versions/4";
    ledger.objects.inner.put(key, old.into(), Precondition::Absent, &metadata).await.expect("write");
    let removed = remove(&ledger, 4).await.expect("remove");
    let stored = ledger.objects.inner.get(key).await.expect("read").expect("there");
    let body = raw(&ledger, key).await;
    assert_eq!((&body["basename"], &body["mode"]), (&"app.jar".into(), &33188.into()));
    assert_eq!(body["sha"], "0".repeat(64));
    assert_eq!(stored.metadata["removed_by"], "alice");
    assert_eq!(stored.metadata["removed_reason"], "why");
    assert_eq!(removed.record.metadata, metadata, "we still know what it was");
}

#[tokio::test]
async fn an_add_whose_reply_was_lost_finds_its_version_removed() {
    let ledger = scripted("never", [], None).await;
    let new = new();
    let added = ledger.add(&p(), &new).await.expect("add");
    let removed = remove(&ledger, added.version.get()).await.expect("remove");
    assert_eq!(removed.record.add_id, Some(new.add_id));
}

#[tokio::test]
async fn the_hint_for_2015_readers_follows_removals_and_adds() {
    let ledger = scripted("never", [], None).await;
    for (number, hint) in [(1, 3), (3, 2), (2, 0)] {
        remove(&ledger, number).await.expect("remove");
        assert_eq!(raw(&ledger, HINT).await["version"], hint, "after the removal of {number}");
    }
    assert_eq!(raw(&ledger, HINT).await["removed"], true);
    ledger.add(&p(), &new()).await.expect("add");
    assert_eq!(raw(&ledger, HINT).await, serde_json::json!({ "version": 4 }));
}

#[tokio::test]
async fn a_lagging_hint_is_repaired() {
    let ledger = scripted("never", [], None).await;
    assert_eq!(ledger.repair(&p()).await.expect("nothing to do"), None);
    for (wrong, says) in [("{\"version\": 1}", "1"), ("{\"version\": 99}", "99"), ("nonsense", "nothing")] {
        ledger.objects.force(HINT, wrong).await;
        let done = ledger.repair(&p()).await.expect("repaired").expect("something was done");
        assert!(done.contains(says) && done.contains("version 3"), "{done}");
        assert_eq!(raw(&ledger, HINT).await["version"], 3);
    }
    ledger.objects.inner.remove(HINT);
    assert!(ledger.repair(&p()).await.expect("repaired").is_some());
    let unknown = PackageName::new("unknown").expect("an allowed name");
    assert_eq!(ledger.repair(&unknown).await.expect("nothing there"), None);
}

#[tokio::test]
async fn a_move_costs_four_requests_where_the_process_knows_the_tag() {
    let mut ledger = scripted("never", [], None).await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("move");
    ledger.objects.requests.lock().expect("whole").clear();
    ledger.change_tag(&p(), &live(), &moving(version(2))).await.expect("move");
    let known = std::mem::take(&mut *ledger.objects.requests.lock().expect("whole"));
    assert_eq!(
        known,
        ["get p/tags/live", "get p/versions/2", "put p/tags/live", "put p/history/live/000000000002",]
    );
    ledger.archived = Archived::default();
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("move");
    let fresh = std::mem::take(&mut *ledger.objects.requests.lock().expect("whole"));
    assert_eq!(fresh[1], "get p/history/live/000000000002");
    assert_eq!(fresh.len(), 5, "{fresh:?}");
}
