//! Tags: moved by one, read and moved on by the other; what the old client does enters the history.

use sacker::error::{Meaning, Missing};

use super::peer::Refusal;
use super::*;

use EventKind::{Adopt, Move, Untag};
use EventSource::{Cli, Legacy};

/// Two versions, the first by the old client.
async fn two(bed: &Bed) -> (Version, Version) {
    (bed.old_add("one").await, bed.add("two").await)
}

pub(super) async fn its_tag_is_read(bed: Bed) {
    let (one, two) = two(&bed).await;
    for to in [one, two] {
        bed.old_tag("live", to).await;
        let state = bed.state("live").await.expect("it is set");
        assert_eq!((state.version, state.event), (Some(to), None));
        assert_eq!(bed.resolve("live").await.expect("it resolves").version, to);
    }
    let view = bed.ledger.view(&bed.package).await.expect("the view");
    assert_eq!(view.tags.len(), 1);
    assert_eq!(view.tags[0].record.as_ref().map(|record| record.version), Some(two));
    assert_eq!(bed.told("live").await, []);
}

pub(super) async fn our_tag_is_read_by_it(bed: Bed) {
    let (one, two) = two(&bed).await;
    for (to, content) in [(one, "one"), (two, "two"), (one, "one")] {
        bed.tag("live", to).await;
        assert_eq!(bed.peer.info(bed.name(), "live").await.expect("it resolves").sha, sha(content));
        assert_eq!(bed.peer.tags(bed.name()).await.expect("tags")["live"], to.to_string());
    }
}

/// On S3 a tombstone stays, with version 0: there is none.
pub(super) async fn our_untag_does_not_exist_for_it(bed: Bed) {
    let (one, _) = two(&bed).await;
    bed.tag("live", one).await;
    bed.untag("live").await;
    assert_eq!(bed.peer.info(bed.name(), "live").await, Err(Refusal::DoesNotExist));
    let left = bed.peer.tags(bed.name()).await.expect("tags").remove("live");
    assert_eq!(left.as_deref(), (!bed.is_dynamo()).then_some("0"));
}

pub(super) async fn its_untag_is_seen(bed: Bed) {
    let (one, _) = two(&bed).await;
    bed.old_tag("live", one).await;
    bed.peer.untag(bed.name(), "live").await;
    assert_eq!(bed.points_to("live").await, None);
    assert!(bed.resolve("live").await.expect_err("it is gone").is_not_found());
}

pub(super) async fn its_move_enters_the_history(bed: Bed) {
    let (one, two) = two(&bed).await;
    bed.tag("live", one).await;
    bed.old_tag("live", two).await;
    assert_eq!(bed.points_to("live").await, Some(two));
    bed.tag("live", one).await;
    let story = [(Move, Cli, Some(one)), (Adopt, Legacy, Some(two)), (Move, Cli, Some(one))];
    assert_eq!(bed.told("live").await, story);
    assert_eq!(bed.peer.info(bed.name(), "live").await.expect("it resolves").sha, sha("one"));
}

pub(super) async fn its_deletion_enters_the_history(bed: Bed) {
    let (one, two) = two(&bed).await;
    bed.tag("live", one).await;
    bed.peer.untag(bed.name(), "live").await;
    assert_eq!(bed.points_to("live").await, None);
    bed.tag("live", two).await;
    let told = bed.told("live").await;
    assert_eq!(told.first(), Some(&(Move, Cli, Some(one))));
    assert_eq!(told.last(), Some(&(Move, Cli, Some(two))));
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((told[1].1, told[1].2), (Legacy, None));
}

pub(super) async fn its_tag_after_our_untag(bed: Bed) {
    let (one, two) = two(&bed).await;
    bed.tag("live", one).await;
    bed.untag("live").await;
    bed.old_tag("live", two).await;
    assert_eq!(bed.points_to("live").await, Some(two));
    assert_eq!(bed.peer.info(bed.name(), "live").await.expect("it resolves").sha, sha("two"));
    bed.untag("live").await;
    let story = [(Move, Cli, Some(one)), (Untag, Cli, None), (Adopt, Legacy, Some(two)), (Untag, Cli, None)];
    assert_eq!(bed.told("live").await, story);
}

/// It knows no holds. Its overwrite stands, but no client of ours moves the tag on.
pub(super) async fn a_hold_survives_its_overwrite(bed: Bed) {
    let (one, two) = two(&bed).await;
    bed.tag("live", one).await;
    bed.change("live", Change::Hold { reason: "freeze".into() }).await.expect("it is held");
    bed.old_tag("live", two).await;
    let error = bed.change("live", Change::Move { to: one, hold: None }).await.expect_err("it is held");
    assert!(matches!(error.meaning(), Meaning::Held(_)), "{error}");
    bed.change("live", Change::Release).await.expect("it is released");
    bed.tag("live", one).await;
    assert_eq!(bed.events("live").await.len(), 5);
}

/// `tag <package> latest live` stores the word.
pub(super) async fn a_word_where_a_number_belongs(bed: Bed) {
    let (one, _) = two(&bed).await;
    bed.peer.tag(bed.name(), "latest", "live").await;
    assert_eq!(bed.peer.info(bed.name(), "live").await, Err(Refusal::DoesNotExist), "nor does it itself");
    let state = bed.state("live").await.expect("something is there");
    assert_eq!((state.version, state.event), (None, None));
    assert!(bed.resolve("live").await.expect_err("it names no version").is_not_found());
    bed.tag("live", one).await;
    assert_eq!(bed.resolve("live").await.expect("it resolves").version, one);
    assert_eq!(bed.peer.info(bed.name(), "live").await.expect("for it too").sha, sha("one"));
}

/// It does not check that the version exists.
pub(super) async fn a_tag_to_nowhere(bed: Bed) {
    let (one, _) = two(&bed).await;
    let nowhere = version(one.get() + 1_000_000_000);
    bed.old_tag("live", nowhere).await;
    assert_eq!(bed.points_to("live").await, Some(nowhere));
    let error = bed.resolve("live").await.expect_err("there is no such version");
    assert_eq!(error.meaning(), &Meaning::NotFound(Missing::Version(bed.package.clone(), nowhere)));
    let error = bed.change("live", Change::Move { to: nowhere, hold: None }).await.expect_err("nor for us");
    assert!(error.is_not_found(), "{error}");
    bed.tag("live", one).await;
    assert_eq!(bed.told("live").await, [(Adopt, Legacy, Some(nowhere)), (Move, Cli, Some(one))]);
}

/// A tag named `42` can never be resolved, by either: digits are a version. It can be listed, and removed.
pub(super) async fn a_number_as_a_tag(bed: Bed) {
    let (one, _) = two(&bed).await;
    bed.old_tag("42", one).await;
    let tags = bed.ledger.tags(&bed.package).await.expect("tags");
    assert_eq!(tags.iter().map(|state| state.tag.as_str()).collect::<Vec<_>>(), ["42"]);
    assert!(bed.resolve("42").await.expect_err("there is no version 42").is_not_found());
    assert_eq!(bed.peer.info(bed.name(), "42").await, Err(Refusal::DoesNotExist));
    let error = bed.change("42", Change::Move { to: one, hold: None }).await.expect_err("it breaks a rule");
    assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error}");
    bed.untag("42").await;
    assert_eq!(bed.ledger.tags(&bed.package).await.expect("tags"), []);
}

/// An overwrite with what was there before is no move; the history stays one chain.
pub(super) async fn it_sets_a_tag_back_to_what_it_was(bed: Bed) {
    let (one, two) = two(&bed).await;
    bed.tag("live", one).await;
    bed.old_tag("live", one).await;
    assert_eq!(bed.points_to("live").await, Some(one));
    bed.tag("live", two).await;
    bed.old_tag("live", one).await;
    bed.tag("live", two).await;
    let events = bed.events("live").await;
    assert_eq!(events.last().and_then(|event| event.to), Some(two));
    let told = bed.told("live").await;
    assert_eq!(told.iter().filter(|(_, source, _)| *source == Cli).count(), 3, "{told:?}");
}

/// It does not know that a version is gone. We do, and can move the tag away.
pub(super) async fn a_removed_version_that_it_tags(bed: Bed) {
    let (one, two) = two(&bed).await;
    bed.remove(one).await;
    bed.old_tag("live", one).await;
    let error = bed.resolve("live").await.expect_err("removed");
    assert_eq!(error.meaning(), &Meaning::NotFound(Missing::Removed(bed.package.clone(), one)));
    assert_eq!(bed.peer.info(bed.name(), "live").await.expect("it reads zeros").sha, "0".repeat(64));
    bed.tag("live", two).await;
    assert_eq!(bed.resolve("live").await.expect("it resolves").version, two);
}
