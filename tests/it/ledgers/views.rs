//! Views of many packages: the same as what the other reads say of each, whatever happened since the last call.

use std::sync::Arc;

use sacker::error::Missing;
use sacker::ledger::ViewCache;
use sacker::model::{Change, PackageName, PackageView, Removal, TagChange, TagView, Version};

use super::bench::{Bench, actor, assert_missing, moving, tag};
use crate::support::tier;

const TAGS: [&str; 3] = ["canary", "live", "next"];

/// What the reads of one thing each say; nothing for a package that does not exist.
async fn expected(bench: &Bench, package: &PackageName) -> Option<PackageView> {
    let newest = match bench.ledger.newest(package, PackageView::RECENT).await {
        Ok(newest) => newest,
        Err(error) => {
            assert_missing(&error, &Missing::Package(package.clone()));
            return None;
        }
    };
    let mut tags = Vec::new();
    for state in bench.ledger.tags(package).await.expect("tags") {
        let version = state.version.expect("only these tests wrote here");
        let record = bench.ledger.version(package, version).await.expect("a tag points to a version");
        tags.push(TagView { state: state.into(), record: Some(record.into()) });
    }
    let version_count = newest.version_count;
    let recent: Vec<_> = newest.records.into_iter().map(Arc::new).collect();
    Some(PackageView { latest: recent.first().cloned(), tags, version_count, recent })
}

/// Does something to a package at random. What the ledger refuses is as good: nothing may change then.
async fn disturb(
    bench: &Bench,
    package: &PackageName,
    versions: &mut Vec<Version>,
    random: &mut fastrand::Rng,
) {
    let name = tag(TAGS[random.usize(..TAGS.len())]);
    let some = versions.get(random.usize(..versions.len().max(1))).copied();
    let change = match (random.u8(..10), some) {
        (0..=3, _) | (_, None) => {
            versions.push(bench.add_to(package).await.version);
            return;
        }
        (4, Some(version)) => {
            let removal = Removal {
                at: sacker::connect::Connect::default().clock.now(),
                by: "alice".into(),
                reason: None,
            };
            let _ = bench.ledger.remove_version(package, version, &removal).await;
            return;
        }
        (5..=6, Some(version)) => moving(version),
        (7, _) => TagChange::new(Change::Untag, actor()),
        (8, _) => TagChange::new(Change::Hold { reason: "incident 7".into() }, actor()),
        _ => TagChange::new(Change::Release, actor()),
    };
    let _ = bench.ledger.change_tag(package, &name, &change).await;
}

pub(crate) async fn many_views_are_the_views_of_each(bench: Bench) {
    let mut random = fastrand::Rng::with_seed(tier::seed("many_views_are_the_views_of_each"));
    let packages: Vec<PackageName> =
        ["", "-b", "/below", "-absent"].iter().map(|suffix| bench.sibling(suffix)).collect();
    let mut versions = [vec![], vec![], vec![]];
    // A tag that stays behind the newest ten, in the package that gets most of what happens.
    versions[0].push(bench.add().await.version);
    bench.set("old", versions[0][0]).await;
    let known = ViewCache::default();
    for round in 0..tier::figure(12, 200) {
        let views = bench.ledger.views(&packages, &known).await;
        assert_eq!(views.len(), packages.len());
        for ((package, view), asked) in views.into_iter().zip(&packages) {
            assert_eq!(package, *asked, "in the order asked for");
            match expected(&bench, &package).await {
                Some(expected) => assert_eq!(view.expect("view"), expected, "round {round}"),
                None => assert_missing(&view.expect_err("no package"), &Missing::Package(package)),
            }
        }
        // In the first rounds the numbers get their second digit.
        let count = if round == 0 { 0 } else { random.usize(1..=6) };
        for _ in 0..count {
            let index = random.usize(..4).min(2) * random.usize(..2);
            disturb(&bench, &packages[index], &mut versions[index], &mut random).await;
        }
        if round == 0 {
            for _ in 0..7 {
                versions[0].push(bench.add().await.version);
            }
        }
    }
    bench.ledger.views(&packages, &known).await;
    assert_eq!(known.len(), versions.iter().filter(|versions| !versions.is_empty()).count());
}

pub(crate) async fn what_is_known_is_forgotten_with_its_package(bench: Bench) {
    bench.versions::<2>().await;
    let packages = [bench.package.clone(), bench.sibling("-absent")];
    let known = ViewCache::default();
    bench.ledger.views(&packages, &known).await;
    assert_eq!(known.len(), 1, "what does not exist leaves nothing");
    assert!(bench.ledger.views(&[], &known).await.is_empty());
    known.retain(|package| *package == packages[0]);
    assert_eq!(known.len(), 1);
    known.retain(|package| *package == packages[1]);
    assert!(known.is_empty());
    let views = bench.ledger.views(&packages, &known).await;
    assert_eq!(views[0].1.as_ref().expect("view").version_count, 2);
}
