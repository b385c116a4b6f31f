//! Conformance: tags, their compare-and-swap, ownership, holds, history.

use sacker::error::Missing;
use sacker::model::{Change, Claim, EventKind, EventSource, Expected, PackageView, Spec, TagChange, Version};

use super::bench::{
    Bench, actor, assert_conflict, assert_held, assert_invalid, assert_missing, assert_owned, moving,
    moving_as, moving_if, tag, version,
};

const ROBOT: &str = "k8s:cluster/web/frontend-live";
const OTHER: &str = "k8s:cluster/web/frontend-other";

pub(crate) async fn setting_a_tag_is_event_one(bench: Bench) {
    let [v1] = bench.versions().await;
    let outcome = bench.set("live", v1).await;
    let event = outcome.event.expect("an event");
    assert_eq!((event.seq, event.kind, event.from, event.to), (1, EventKind::Move, None, Some(v1)));
    assert_eq!(event.prev, None);
    assert_eq!(outcome.state.version, Some(v1));
    assert_eq!(outcome.previous, None);
    assert!(!outcome.archive_pending);
    assert_eq!(bench.state("live").await, Some(outcome.state));
}

pub(crate) async fn an_event_says_who_why_when_and_through_what(bench: Bench) {
    let [v1] = bench.versions().await;
    let clock = sacker::connect::Connect::default().clock;
    let before = clock.now().as_millisecond();
    let change = moving(v1);
    bench.change("live", &change).await.expect("move");
    let [event] = <[_; 1]>::try_from(bench.history("live").await).expect("one event");
    assert_eq!(
        (event.by.as_str(), event.reason.as_deref(), event.source),
        ("alice", Some("because"), EventSource::Cli)
    );
    assert_eq!(event.id, change.id);
    assert!((before..=clock.now().as_millisecond()).contains(&event.at.as_millisecond()));
}

pub(crate) async fn moving_a_tag_continues_its_history(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    let outcome = bench.set("live", v2).await;
    assert_eq!(outcome.previous, Some(v1));
    let events = bench.history("live").await;
    assert_eq!(
        events.iter().map(|event| (event.seq, event.from, event.to)).collect::<Vec<_>>(),
        [(1, None, Some(v1)), (2, Some(v1), Some(v2))]
    );
    assert_eq!(events[1].prev, Some(events[0].digest()));
}

pub(crate) async fn moving_back_is_a_move_too(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    for to in [v1, v2, v1] {
        bench.set("live", to).await;
    }
    assert_eq!(bench.history("live").await.len(), 3);
    assert_eq!(bench.state("live").await.expect("there").version, Some(v1));
}

pub(crate) async fn moving_to_where_it_is_writes_nothing(bench: Bench) {
    let [v1] = bench.versions().await;
    bench.set("live", v1).await;
    let outcome = bench.set("live", v1).await;
    assert_eq!(outcome.event, None);
    assert_eq!(outcome.state.version, Some(v1));
    assert_eq!(bench.history("live").await.len(), 1);
}

pub(crate) async fn a_tag_needs_a_version_that_exists(bench: Bench) {
    bench.versions::<1>().await;
    let absent = version(99);
    let error = bench.try_move("live", absent).await.expect_err("no version 99");
    assert_missing(&error, &Missing::Version(bench.package.clone(), absent));
    assert_eq!(bench.state("live").await, None);
}

pub(crate) async fn a_tag_needs_a_package_that_exists(bench: Bench) {
    let error = bench.try_move("live", Version::FIRST).await.expect_err("no package");
    assert_missing(&error, &Missing::Package(bench.package));
}

pub(crate) async fn tags_outside_the_rules_are_refused(bench: Bench) {
    let [v1] = bench.versions().await;
    for name in
        ["latest", "Latest", "42", "v42", "+1", "1_0", "", "-x", ".x", "a/b", "a b", "ä", &"x".repeat(129)]
    {
        assert_invalid(&bench.try_move(name, v1).await.expect_err(name));
    }
    assert_eq!(bench.ledger.tags(&bench.package).await.expect("tags"), []);
}

pub(crate) async fn tags_within_the_rules_are_kept(bench: Bench) {
    let [v1] = bench.versions().await;
    let names = ["1.2.3", "A-b_c.d", "live", &"x".repeat(128)];
    for name in names {
        bench.set(name, v1).await;
    }
    let tags = bench.ledger.tags(&bench.package).await.expect("tags");
    assert_eq!(tags.iter().map(|state| state.tag.as_str()).collect::<Vec<_>>(), names);
}

pub(crate) async fn tags_are_listed_by_name_with_their_versions(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    bench.set("canary", v2).await;
    let tags = bench.ledger.tags(&bench.package).await.expect("tags");
    let listed: Vec<_> = tags.iter().map(|state| (state.tag.as_str(), state.version)).collect();
    assert_eq!(listed, [("canary", Some(v2)), ("live", Some(v1))]);
    assert_eq!(Some(&tags[1]), bench.state("live").await.as_ref());
}

pub(crate) async fn a_package_without_tags_has_none(bench: Bench) {
    bench.versions::<1>().await;
    assert_eq!(bench.ledger.tags(&bench.package).await.expect("tags"), []);
}

pub(crate) async fn tags_of_an_unknown_package_are_not_found(bench: Bench) {
    let error = bench.ledger.tags(&bench.package).await.expect_err("no package");
    assert_missing(&error, &Missing::Package(bench.package));
}

pub(crate) async fn an_unknown_tag_is_nothing(bench: Bench) {
    bench.versions::<1>().await;
    assert_eq!(bench.state("live").await, None);
    assert_eq!(bench.state("latest").await, None, "latest is never stored");
}

pub(crate) async fn resolving_a_tag_gives_record_and_tag(bench: Bench) {
    let [v1, _] = bench.versions().await;
    bench.set("live", v1).await;
    let resolved = bench.ledger.resolve(&bench.package, &Spec::Tag(tag("live"))).await.expect("resolve");
    assert_eq!(resolved.record.version, v1);
    assert_eq!(resolved.tag, bench.state("live").await);
}

pub(crate) async fn resolving_an_unknown_tag_names_the_tag(bench: Bench) {
    bench.versions::<1>().await;
    let error = bench.ledger.resolve(&bench.package, &Spec::Tag(tag("live"))).await.expect_err("no tag");
    assert_missing(&error, &Missing::Tag(bench.package, tag("live")));
}

pub(crate) async fn resolving_a_tag_of_an_unknown_package_names_the_package(bench: Bench) {
    let error = bench.ledger.resolve(&bench.package, &Spec::Tag(tag("live"))).await.expect_err("no package");
    assert_missing(&error, &Missing::Package(bench.package));
}

pub(crate) async fn a_move_on_condition_of_the_version_succeeds(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    bench.change("live", &moving_if(v2, Expected::Version(v1))).await.expect("move");
    assert_eq!(bench.state("live").await.expect("there").version, Some(v2));
}

pub(crate) async fn a_move_on_condition_of_another_version_is_a_conflict(bench: Bench) {
    let [v1, v2, v3] = bench.versions().await;
    bench.set("live", v1).await;
    let error = bench.change("live", &moving_if(v3, Expected::Version(v2))).await.expect_err("not at v2");
    assert_conflict(&error);
    let text = error.to_string();
    assert!(text.contains(&v1.to_string()) && text.contains(&v2.to_string()), "{text}");
    assert_eq!(bench.history("live").await.len(), 1);
}

pub(crate) async fn a_move_on_condition_of_the_event_succeeds(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.change("live", &moving_if(v1, Expected::Seq(0))).await.expect("the first");
    bench.change("live", &moving_if(v2, Expected::Seq(1))).await.expect("the second");
}

pub(crate) async fn a_move_on_condition_of_another_event_is_a_conflict(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    assert_conflict(&bench.change("live", &moving_if(v1, Expected::Seq(1))).await.expect_err("no event yet"));
    bench.set("live", v1).await;
    bench.set("live", v2).await;
    assert_conflict(
        &bench.change("live", &moving_if(v1, Expected::Seq(1))).await.expect_err("event 2 is there"),
    );
    assert_conflict(
        &bench.change("live", &moving_if(v1, Expected::Seq(0))).await.expect_err("event 2 is there"),
    );
}

pub(crate) async fn a_condition_is_checked_also_where_nothing_would_change(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    assert_conflict(
        &bench.change("live", &moving_if(v1, Expected::Version(v2))).await.expect_err("not at v2"),
    );
}

pub(crate) async fn an_untagged_tag_is_gone_and_keeps_its_history(bench: Bench) {
    let [v1] = bench.versions().await;
    bench.set("live", v1).await;
    let outcome = bench.untag("live").await;
    assert_eq!((outcome.previous, outcome.state.version), (Some(v1), None));
    assert_eq!(bench.ledger.tags(&bench.package).await.expect("tags"), []);
    let error = bench.ledger.resolve(&bench.package, &Spec::Tag(tag("live"))).await.expect_err("gone");
    assert_missing(&error, &Missing::Tag(bench.package.clone(), tag("live")));
    let kinds: Vec<_> = bench.history("live").await.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Move, EventKind::Untag]);
    let state = bench.state("live").await.expect("a removed tag is still known");
    assert_eq!((state.version, state.seq()), (None, 2));
}

pub(crate) async fn removed_tags_are_known_by_name(bench: Bench) {
    let [v1] = bench.versions().await;
    let ever = async || bench.ledger.tags_ever(&bench.package).await.expect("names");
    assert_eq!(ever().await, []);
    for name in ["live", "canary", "a.b"] {
        bench.set(name, v1).await;
    }
    bench.untag("live").await;
    assert_eq!(ever().await, [tag("a.b"), tag("canary"), tag("live")]);
    let unknown = bench.sibling("unknown");
    let error = bench.ledger.tags_ever(&unknown).await.expect_err("no package");
    assert_missing(&error, &Missing::Package(unknown));
}

pub(crate) async fn latest_is_no_tag_to_change(bench: Bench) {
    let [v1] = bench.versions().await;
    assert_invalid(&bench.try_move("latest", v1).await.expect_err("a move"));
    for change in
        [Change::Untag, Change::Hold { reason: "x".into() }, Change::Release, Change::Adopt, Change::Disown]
    {
        let change = TagChange::new(change, actor()).claiming(Claim::TakeOver(ROBOT.into()));
        assert_invalid(&bench.change("latest", &change).await.expect_err("no stored tag"));
    }
    let [v2] = bench.versions().await;
    let latest = bench.ledger.resolve(&bench.package, &Spec::Latest).await.expect("the newest");
    assert_eq!(latest.record.version, v2);
}

pub(crate) async fn setting_an_untagged_tag_continues_its_numbers(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    bench.untag("live").await;
    let event = bench.set("live", v2).await.event.expect("an event");
    assert_eq!((event.seq, event.from, event.to), (3, None, Some(v2)));
    assert_eq!(bench.history("live").await.len(), 3);
}

pub(crate) async fn a_condition_on_the_event_holds_over_an_untag(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    bench.untag("live").await;
    assert_conflict(
        &bench.change("live", &moving_if(v2, Expected::Seq(0))).await.expect_err("two events are there"),
    );
    bench.change("live", &moving_if(v2, Expected::Seq(2))).await.expect("after event 2");
}

pub(crate) async fn untagging_what_is_not_there_writes_nothing(bench: Bench) {
    let [v1] = bench.versions().await;
    assert_eq!(bench.untag("live").await.event, None);
    bench.set("live", v1).await;
    bench.untag("live").await;
    assert_eq!(bench.untag("live").await.event, None);
    assert_eq!(bench.history("live").await.len(), 2);
}

pub(crate) async fn untag_takes_a_condition(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    let untag = |expected| TagChange::new(Change::Untag, actor()).expecting(expected);
    assert_conflict(&bench.change("live", &untag(Expected::Version(v2))).await.expect_err("not at v2"));
    bench.change("live", &untag(Expected::Version(v1))).await.expect("untag");
}

pub(crate) async fn history_of_an_unknown_tag_is_not_found(bench: Bench) {
    bench.versions::<1>().await;
    let error = bench.ledger.history(&bench.package, &tag("live")).await.expect_err("no tag");
    assert_missing(&error, &Missing::Tag(bench.package, tag("live")));
}

pub(crate) async fn tags_have_histories_of_their_own(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    bench.set("live-eu", v2).await;
    bench.set("live", v2).await;
    assert_eq!(bench.history("live").await.len(), 2);
    assert_eq!(bench.history("live-eu").await.len(), 1);
}

pub(crate) async fn a_long_history_is_read_whole(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    for round in 0..30 {
        bench.set("live", if round % 2 == 0 { v1 } else { v2 }).await;
    }
    assert_eq!(bench.history("live").await.len(), 30);
}

pub(crate) async fn the_same_change_repeated_is_one_event(bench: Bench) {
    let [v1] = bench.versions().await;
    let change = moving_if(v1, Expected::Seq(0));
    let first = bench.change("live", &change).await.expect("move");
    let again = bench.change("live", &change).await.expect("the same change again");
    assert_eq!(again.event, first.event);
    assert_eq!(bench.history("live").await.len(), 1);
}

pub(crate) async fn the_same_untag_repeated_is_one_event(bench: Bench) {
    let [v1] = bench.versions().await;
    bench.set("live", v1).await;
    let change = TagChange::new(Change::Untag, actor()).expecting(Expected::Seq(1));
    let first = bench.change("live", &change).await.expect("untag");
    assert_eq!(bench.change("live", &change).await.expect("the same untag again").event, first.event);
    assert_eq!(bench.history("live").await.len(), 2);
}

pub(crate) async fn an_owner_keeps_others_out(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    let outcome = bench.change("live", &moving_as(v1, ROBOT)).await.expect("move");
    assert_eq!(outcome.state.owner(), Some(ROBOT));
    assert_owned(&bench.try_move("live", v2).await.expect_err("owned"), ROBOT);
    assert_owned(&bench.change("live", &moving_as(v2, OTHER)).await.expect_err("owned"), ROBOT);
    assert_owned(
        &bench.change("live", &TagChange::new(Change::Untag, actor())).await.expect_err("owned"),
        ROBOT,
    );
    bench.change("live", &moving_as(v2, ROBOT)).await.expect("the owner may");
    assert_eq!(bench.history("live").await.len(), 2);
}

pub(crate) async fn ownership_can_be_taken_over(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.change("live", &moving_as(v1, ROBOT)).await.expect("move");
    let change = moving(v2).claiming(Claim::TakeOver("cli:alice".into()));
    assert_eq!(bench.change("live", &change).await.expect("take over").state.owner(), Some("cli:alice"));
    assert_owned(&bench.change("live", &moving_as(v1, ROBOT)).await.expect_err("owned"), "cli:alice");
}

pub(crate) async fn people_do_not_keep_each_other_out(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.change("live", &moving(v1).claiming(Claim::TakeOver("cli:alice".into()))).await.expect("take over");
    assert_eq!(bench.set("live", v2).await.state.owner(), Some("cli:alice"));
}

pub(crate) async fn a_tag_without_owner_can_be_adopted(bench: Bench) {
    let [v1] = bench.versions().await;
    bench.set("live", v1).await;
    let adopt = |owner: &str| TagChange::new(Change::Adopt, actor()).claiming(Claim::Owner(owner.into()));
    let event = bench.change("live", &adopt(ROBOT)).await.expect("adopt").event.expect("an event");
    assert_eq!(
        (event.kind, event.from, event.to, event.owner.as_deref()),
        (EventKind::Adopt, Some(v1), Some(v1), Some(ROBOT))
    );
    assert_eq!(bench.change("live", &adopt(ROBOT)).await.expect("again").event, None);
    assert_owned(&bench.change("live", &adopt(OTHER)).await.expect_err("owned"), ROBOT);
}

pub(crate) async fn moving_to_where_it_is_as_owner_adopts(bench: Bench) {
    let [v1] = bench.versions().await;
    bench.set("live", v1).await;
    let event = bench.change("live", &moving_as(v1, ROBOT)).await.expect("move").event.expect("an event");
    assert_eq!((event.kind, event.owner.as_deref()), (EventKind::Adopt, Some(ROBOT)));
}

pub(crate) async fn an_owner_can_give_a_tag_up(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.change("live", &moving_as(v1, ROBOT)).await.expect("move");
    let disown = |owner: &str| TagChange::new(Change::Disown, actor()).claiming(Claim::Owner(owner.into()));
    assert_owned(&bench.change("live", &disown(OTHER)).await.expect_err("not theirs"), ROBOT);
    let outcome = bench.change("live", &disown(ROBOT)).await.expect("disown");
    assert_eq!((outcome.state.owner(), outcome.state.version), (None, Some(v1)));
    assert_eq!(bench.change("live", &disown(ROBOT)).await.expect("again").event, None);
    bench.set("live", v2).await;
}

pub(crate) async fn an_untag_ends_ownership(bench: Bench) {
    let [v1] = bench.versions().await;
    bench.change("live", &moving_as(v1, ROBOT)).await.expect("move");
    let untag = TagChange::new(Change::Untag, actor()).claiming(Claim::Owner(ROBOT.into()));
    bench.change("live", &untag).await.expect("untag");
    bench.set("live", v1).await;
    assert_eq!(bench.state("live").await.expect("there").owner(), None);
}

pub(crate) async fn only_an_existing_tag_can_be_adopted_or_held(bench: Bench) {
    bench.versions::<1>().await;
    for change in [Change::Adopt, Change::Hold { reason: "x".into() }] {
        let change = TagChange::new(change, actor()).claiming(Claim::Owner(ROBOT.into()));
        let error = bench.change("live", &change).await.expect_err("no tag");
        assert_missing(&error, &Missing::Tag(bench.package.clone(), tag("live")));
    }
}

pub(crate) async fn a_held_tag_does_not_move(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    let outcome = bench.hold("live").await;
    assert_eq!(outcome.state.hold().map(|hold| hold.reason.as_str()), Some("incident 7"));
    assert_held(&bench.try_move("live", v2).await.expect_err("held"));
    assert_held(&bench.change("live", &TagChange::new(Change::Untag, actor())).await.expect_err("held"));
    assert_held(&bench.change("live", &moving_as(v2, ROBOT)).await.expect_err("held"));
    let take_over = moving(v2).claiming(Claim::TakeOver("cli:bob".into()));
    assert_held(&bench.change("live", &take_over).await.expect_err("held"));
    assert_eq!(bench.state("live").await.expect("there").version, Some(v1));
}

pub(crate) async fn a_held_tag_may_be_asked_to_stay(bench: Bench) {
    let [v1] = bench.versions().await;
    bench.set("live", v1).await;
    bench.hold("live").await;
    assert_eq!(bench.set("live", v1).await.event, None);
}

pub(crate) async fn a_release_ends_the_hold(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    bench.hold("live").await;
    let release = TagChange::new(Change::Release, actor());
    let outcome = bench.change("live", &release).await.expect("release");
    assert_eq!((outcome.state.hold(), outcome.state.version), (None, Some(v1)));
    bench.set("live", v2).await;
    let kinds: Vec<_> = bench.history("live").await.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Move, EventKind::Hold, EventKind::Release, EventKind::Move]);
}

pub(crate) async fn releasing_what_is_not_held_writes_nothing(bench: Bench) {
    let [v1] = bench.versions().await;
    bench.set("live", v1).await;
    assert_eq!(
        bench.change("live", &TagChange::new(Change::Release, actor())).await.expect("release").event,
        None
    );
}

pub(crate) async fn a_move_can_hold_in_the_same_step(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v2).await;
    let back = TagChange::new(Change::Move { to: v1, hold: Some("incident 7".into()) }, actor());
    let event = bench.change("live", &back).await.expect("move").event.expect("one event");
    assert_eq!((event.kind, event.to, event.hold.is_some()), (EventKind::Move, Some(v1), true));
    assert_held(&bench.try_move("live", v2).await.expect_err("held"));
}

pub(crate) async fn ownership_can_be_given_up_under_a_hold(bench: Bench) {
    let [v1] = bench.versions().await;
    bench.change("live", &moving_as(v1, ROBOT)).await.expect("move");
    bench.hold("live").await;
    let disown = TagChange::new(Change::Disown, actor()).claiming(Claim::Owner(ROBOT.into()));
    let state = bench.change("live", &disown).await.expect("disown").state;
    assert_eq!((state.owner(), state.hold().is_some()), (None, true));
}

pub(crate) async fn a_view_shows_latest_tags_and_the_newest_ten(bench: Bench) {
    let versions = bench.versions::<12>().await;
    bench.set("live", versions[0]).await;
    bench.set("canary", versions[11]).await;
    let view = bench.ledger.view(&bench.package).await.expect("view");
    assert_eq!(view.latest.map(|record| record.version), Some(versions[11]));
    assert_eq!(view.version_count, 12);
    assert_eq!(view.recent.len(), PackageView::RECENT);
    assert_eq!(view.recent[0].version, versions[11]);
    let tags: Vec<_> = view
        .tags
        .iter()
        .map(|tag| (tag.state.tag.as_str(), tag.record.as_ref().map(|record| record.version)))
        .collect();
    assert_eq!(tags, [("canary", Some(versions[11])), ("live", Some(versions[0]))]);
}

pub(crate) async fn a_view_of_an_unknown_package_is_not_found(bench: Bench) {
    let error = bench.ledger.view(&bench.package).await.expect_err("no package");
    assert_missing(&error, &Missing::Package(bench.package));
}

pub(crate) async fn racers_on_one_tag_have_one_winner_a_round(bench: Bench) {
    const RACERS: usize = 8;
    const ROUNDS: u64 = 50;
    let [v1, v2] = bench.versions().await;
    for round in 0..ROUNDS {
        let to = if round % 2 == 0 { v1 } else { v2 };
        let racer = |_: usize| async { bench.change("live", &moving_if(to, Expected::Seq(round))).await };
        let outcomes = futures::future::join_all((0..RACERS).map(racer)).await;
        let winners = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(winners, 1, "round {round}: {outcomes:?}");
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_conflict(error);
        }
    }
    assert_eq!(bench.history("live").await.len() as u64, ROUNDS);
}

pub(crate) async fn unconditional_racers_all_win_in_one_line(bench: Bench) {
    const RACERS: usize = 4;
    const MOVES: usize = 5;
    let [v1, v2] = bench.versions().await;
    let racer = |index: usize| {
        let bench = &bench;
        async move {
            let mut written = 0;
            for round in 0..MOVES {
                let to = if (index + round).is_multiple_of(2) { v1 } else { v2 };
                written += usize::from(bench.set("live", to).await.event.is_some());
            }
            written
        }
    };
    let written: usize = futures::future::join_all((0..RACERS).map(racer)).await.into_iter().sum();
    assert_eq!(bench.history("live").await.len(), written);
}
