//! Conformance: removed versions, and that no tag ever comes to point to one.

use jiff::Timestamp;
use sacker::error::{Error, Meaning, Missing};
use sacker::ledger::Removed;
use sacker::model::{PackageName, Removal, Sha256, Spec, Version, VersionRecord};

use super::bench::{Bench, assert_conflict, assert_missing, moving, new_version, tag, version};
use crate::support::tier;

fn removal() -> Removal {
    let at: Timestamp = "2026-11-21T10:00:00.123Z".parse().expect("a time");
    Removal { at, by: "alice".into(), reason: Some("a leaked key".into()) }
}

impl Bench {
    async fn try_remove(&self, version: Version) -> Result<Removed, Error> {
        self.ledger.remove_version(&self.package, version, &removal()).await
    }

    async fn remove(&self, version: Version) -> Removed {
        self.try_remove(version).await.expect("remove")
    }
}

pub(crate) async fn a_removed_version_leaves_a_tombstone(bench: Bench) {
    let (first, second) = (bench.add().await, bench.add().await);
    let removed = bench.remove(first.version).await;
    assert!(removed.is_new);
    // What is known of the version stays, but where its bytes are.
    let mut expected = first.clone();
    (expected.sha256, expected.removal) = (Sha256::ZERO, Some(removal()));
    assert_eq!(removed.record, expected);
    assert!(removed.record.is_removed());
    assert_eq!(bench.ledger.versions(&bench.package).await.expect("versions"), [expected, second]);
}

pub(crate) async fn a_removal_needs_no_reason(bench: Bench) {
    let [v1, _] = bench.versions().await;
    let removal = Removal { reason: None, ..removal() };
    let removed = bench.ledger.remove_version(&bench.package, v1, &removal).await.expect("remove");
    assert_eq!(removed.record.removal, Some(removal));
    assert_eq!(bench.ledger.versions(&bench.package).await.expect("versions")[0], removed.record);
}

pub(crate) async fn a_removed_version_is_not_found(bench: Bench) {
    let [v1, _] = bench.versions().await;
    bench.remove(v1).await;
    let missing = Missing::Removed(bench.package.clone(), v1);
    let error = bench.ledger.version(&bench.package, v1).await.expect_err("removed");
    assert_missing(&error, &missing);
    let error = bench.ledger.resolve(&bench.package, &Spec::Version(v1)).await.expect_err("removed");
    assert_missing(&error, &missing);
}

pub(crate) async fn latest_is_the_newest_that_was_not_removed(bench: Bench) {
    let [v1, v2, v3] = bench.versions().await;
    bench.remove(v3).await;
    bench.remove(v2).await;
    assert_eq!(bench.ledger.latest(&bench.package).await.expect("latest").version, v1);
    let newest = bench.ledger.newest(&bench.package, 10).await.expect("newest");
    assert_eq!((newest.records.len(), newest.version_count), (1, 3));
    let view = bench.ledger.view(&bench.package).await.expect("view");
    assert_eq!(view.latest.map(|record| record.version), Some(v1));
    let added = bench.add().await;
    assert_eq!(bench.ledger.latest(&bench.package).await.expect("latest"), added);
}

pub(crate) async fn a_number_is_not_used_again(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.remove(v2).await;
    let v3 = bench.add().await.version;
    assert!(v3 > v2, "{v3}");
    if bench.is_dense() {
        assert_eq!([v1, v2, v3].map(Version::get), [1, 2, 3]);
    }
}

pub(crate) async fn a_package_may_have_removed_versions_only(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v1).await;
    bench.untag("live").await;
    bench.remove(v1).await;
    bench.remove(v2).await;
    let package = &bench.package;
    let error = bench.ledger.latest(package).await.expect_err("all are removed");
    assert_missing(&error, &Missing::Package(package.clone()));
    assert!(bench.ledger.versions(package).await.expect("versions").iter().all(VersionRecord::is_removed));
    assert_eq!(bench.ledger.tags(package).await.expect("the package exists"), []);
    assert_eq!(bench.history("live").await.len(), 2);
    let added = bench.add().await;
    assert!(added.version > v2);
    assert_eq!(bench.ledger.latest(package).await.expect("latest"), added);
}

pub(crate) async fn a_tagged_version_is_not_removed(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    for name in ["live", "canary"] {
        bench.set(name, v1).await;
    }
    bench.set("other", v2).await;
    let error = bench.try_remove(v1).await.expect_err("tagged");
    assert_conflict(&error);
    let message = error.to_string();
    assert!(message.contains("'canary', 'live'") && !message.contains("other"), "{message}");
    assert!(error.hint().is_some_and(|hint| hint.contains("sacker untag")), "{:?}", error.hint());
    bench.ledger.version(&bench.package, v1).await.expect("still there");
    bench.set("live", v2).await;
    assert_conflict(&bench.try_remove(v1).await.expect_err("one is left"));
    bench.untag("canary").await;
    assert!(bench.remove(v1).await.is_new, "tags that left do not count");
    assert_eq!(bench.state("live").await.expect("there").version, Some(v2));
    assert_eq!(bench.history("live").await.len(), 2);
}

pub(crate) async fn removing_again_changes_nothing(bench: Bench) {
    let [v1, _] = bench.versions().await;
    let first = bench.remove(v1).await;
    let other = Removal { by: "bob".into(), reason: None, ..removal() };
    let again = bench.ledger.remove_version(&bench.package, v1, &other).await.expect("again");
    assert_eq!((again.is_new, again.record), (false, first.record));
}

pub(crate) async fn what_was_never_added_cannot_be_removed(bench: Bench) {
    let error = bench.try_remove(version(1)).await.expect_err("no package");
    assert_missing(&error, &Missing::Package(bench.package.clone()));
    let [v1] = bench.versions().await;
    let next = v1.next().expect("a number");
    let error = bench.try_remove(next).await.expect_err("no version");
    assert_missing(&error, &Missing::Version(bench.package.clone(), next));
    assert!(bench.add().await.version > v1, "nothing was written in its place");
}

pub(crate) async fn no_tag_moves_to_a_removed_version(bench: Bench) {
    let [v1, v2] = bench.versions().await;
    bench.set("live", v2).await;
    bench.remove(v1).await;
    for name in ["live", "canary"] {
        let error = bench.try_move(name, v1).await.expect_err("removed");
        assert_missing(&error, &Missing::Removed(bench.package.clone(), v1));
    }
    assert_eq!(bench.state("live").await.expect("there").version, Some(v2));
    assert_eq!(bench.state("canary").await, None);
}

pub(crate) async fn tags_move_on_after_a_removal(bench: Bench) {
    let [v1, v2, v3] = bench.versions().await;
    bench.set("live", v1).await;
    bench.set("gone", v1).await;
    bench.untag("gone").await;
    bench.remove(v2).await;
    bench.set("live", v3).await;
    bench.set("gone", v3).await;
    bench.set("canary", v1).await;
    assert_eq!(bench.history("live").await.len(), 2);
    assert_eq!(bench.history("gone").await.len(), 3);
    assert_eq!(bench.history("canary").await.len(), 1);
}

pub(crate) async fn removers_of_one_version_agree(bench: Bench) {
    const REMOVERS: usize = 4;
    let [v1, v2] = bench.versions().await;
    bench.set("live", v2).await;
    let remover = |index: usize| {
        let bench = &bench;
        async move {
            let removal = Removal { by: format!("remover {index}"), ..removal() };
            bench.ledger.remove_version(&bench.package, v1, &removal).await.expect("remove")
        }
    };
    let removed = futures::future::join_all((0..REMOVERS).map(remover)).await;
    assert_eq!(removed.iter().filter(|removed| removed.is_new).count(), 1, "{removed:?}");
    assert!(removed.iter().all(|each| each.record == removed[0].record), "{removed:?}");
}

/// A tag's first move, its next move and two removals of the same version, all at once.
pub(crate) async fn no_race_leaves_a_tag_on_a_removed_version(bench: Bench) {
    let rounds = if bench.is_slow() { tier::figure(15, 100) } else { tier::figure(50, 1000) };
    let (mut removals, mut refusals) = (0, 0);
    for round in 0..rounds {
        let name = bench.sibling(&format!("-{}", round / 5));
        let one = Bench { ledger: bench.ledger.clone(), numbering: bench.numbering, package: name };
        let [before, raced] = one.versions().await;
        one.set("live", before).await;
        let new = format!("new-{round}");
        let mover = |name: String, later: u64| {
            let one = &one;
            async move {
                pause(later).await;
                one.ledger.change_tag(&one.package, &tag(&name), &moving(raced)).await
            }
        };
        let remover = |later: u64| {
            let one = &one;
            async move {
                pause(later).await;
                one.try_remove(raced).await
            }
        };
        // Neither side is always first.
        let (tagger, other) = (round % 7, (round / 7) % 7);
        let (moved, created, first, second) = tokio::join!(
            mover("live".into(), tagger),
            mover(new.clone(), tagger / 2),
            remover(other),
            remover(other / 2)
        );
        let there = one.ledger.versions(&one.package).await.expect("versions");
        let is_removed = there.iter().any(|record| record.version == raced && record.is_removed());
        let tags = one.ledger.tags(&one.package).await.expect("tags");
        let on_it = tags.iter().filter(|state| state.version == Some(raced)).count();
        let story = format!("{round}: {moved:?} {created:?} {first:?} {second:?}");
        assert!(on_it == 0 || !is_removed, "a tag on a removed version; {story}");
        let acknowledged = usize::from(moved.is_ok()) + usize::from(created.is_ok());
        assert_eq!(acknowledged, on_it, "{story}");
        for error in [moved, created].iter().filter_map(|moved| moved.as_ref().err()) {
            assert_missing(error, &Missing::Removed(one.package.clone(), raced));
        }
        assert_eq!(first.is_ok() || second.is_ok(), is_removed, "{story}");
        for error in [first, second].iter().filter_map(|removed| removed.as_ref().err()) {
            assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{story}");
        }
        one.history("live").await;
        *(if is_removed { &mut removals } else { &mut refusals }) += 1;
    }
    if tier::is_soak() {
        let backend = bench.ledger.uri().scheme();
        tier::summary(&format!(
            "tag-race backend={backend} operations={} removals={removals} refusals={refusals} violations=0",
            rounds * 4
        ));
    }
}

async fn pause(milliseconds: u64) {
    // No wait for a condition: it only shifts the racers against each other.
    tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
}

pub(crate) async fn adds_and_removals_at_once_keep_every_number(bench: Bench) {
    const ROUNDS: usize = 10;
    let adder = async {
        for _ in 0..ROUNDS {
            bench.add().await;
        }
    };
    let remover = async {
        let mut removed = Vec::new();
        while removed.len() < ROUNDS / 2 {
            match bench.ledger.latest(&bench.package).await {
                Ok(latest) => removed.push(bench.remove(latest.version).await.record.version),
                Err(error) => assert!(error.is_not_found(), "{error}"),
            }
            tokio::task::yield_now().await;
        }
        removed
    };
    let ((), removed) = tokio::join!(adder, remover);
    let versions = bench.ledger.versions(&bench.package).await.expect("versions");
    assert_eq!(versions.len(), ROUNDS);
    let gone: Vec<_> =
        versions.iter().filter(|record| record.is_removed()).map(|record| record.version).collect();
    let mut removed = removed;
    removed.sort_unstable();
    assert_eq!(gone, removed);
    let package: &PackageName = &bench.package;
    let newest = versions.iter().rev().find(|record| !record.is_removed()).expect("one is left");
    assert_eq!(&bench.ledger.latest(package).await.expect("latest"), newest);
    bench.ledger.add(package, &new_version("another")).await.expect("add");
}
