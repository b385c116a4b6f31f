//! Conformance: versions and packages.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _};
use sacker::error::Missing;
use sacker::ledger::InitOptions;
use sacker::model::{PackageName, Spec, Version};

use crate::support::unique;

use super::bench::{Bench, assert_conflict, assert_invalid, assert_missing, new_version, version};

pub(crate) async fn init_again_changes_nothing(bench: Bench) {
    let before = bench.add().await;
    let done = bench.ledger.init(&InitOptions::default()).await.expect("init again");
    assert!(done.is_empty(), "{done:?}");
    assert_eq!(bench.ledger.latest(&bench.package).await.expect("latest"), before);
}

pub(crate) async fn the_first_version_is_as_promised(bench: Bench) {
    let first = bench.add().await.version;
    if bench.is_dense() {
        assert_eq!(first, Version::FIRST);
    } else {
        // Milliseconds since 1970: 13 digits from 2001 to 2286.
        assert_eq!(first.to_string().len(), 13);
    }
}

pub(crate) async fn versions_increase(bench: Bench) {
    let versions = bench.versions::<5>().await;
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    if bench.is_dense() {
        assert_eq!(versions.map(Version::get), [1, 2, 3, 4, 5]);
    }
}

pub(crate) async fn a_version_is_read_as_it_was_added(bench: Bench) {
    let new = new_version("content");
    let added = bench.ledger.add(&bench.package, &new).await.expect("add");
    let read = bench.ledger.version(&bench.package, added.version).await.expect("version");
    assert_eq!(read, added);
    assert_eq!(read.package, bench.package);
    assert_eq!(read.sha256, new.sha256);
    assert_eq!(read.size, Some(new.size));
    assert_eq!(read.basename, new.basename);
    assert_eq!(read.mode, new.mode);
    assert_eq!(read.metadata, new.metadata);
    assert_eq!(read.added_by.as_deref(), Some("ci"));
    assert_eq!(read.add_id.as_ref(), Some(&new.add_id));
    assert!(!read.is_removed());
}

pub(crate) async fn added_at_is_the_time_of_the_add_in_milliseconds(bench: Bench) {
    let clock = sacker::connect::Connect::default().clock;
    let before = clock.now().as_millisecond();
    let added = bench.add().await.added_at.expect("added_at");
    assert!((before..=clock.now().as_millisecond()).contains(&added.as_millisecond()));
    assert_eq!(added.subsec_nanosecond() % 1_000_000, 0);
}

pub(crate) async fn latest_is_the_newest(bench: Bench) {
    for _ in 0..3 {
        let added = bench.add().await;
        assert_eq!(bench.ledger.latest(&bench.package).await.expect("latest"), added);
    }
}

pub(crate) async fn latest_of_an_unknown_package_is_not_found(bench: Bench) {
    let error = bench.ledger.latest(&bench.package).await.expect_err("nothing there");
    assert_missing(&error, &Missing::Package(bench.package));
}

pub(crate) async fn versions_of_an_unknown_package_are_not_found(bench: Bench) {
    let error = bench.ledger.versions(&bench.package).await.expect_err("nothing there");
    assert_missing(&error, &Missing::Package(bench.package));
}

pub(crate) async fn newest_of_an_unknown_package_is_not_found(bench: Bench) {
    let error = bench.ledger.newest(&bench.package, 3).await.expect_err("nothing there");
    assert_missing(&error, &Missing::Package(bench.package));
}

pub(crate) async fn an_unknown_version_is_not_found(bench: Bench) {
    bench.add().await;
    let absent = version(99);
    let error = bench.ledger.version(&bench.package, absent).await.expect_err("no version 99");
    assert_missing(&error, &Missing::Version(bench.package, absent));
}

pub(crate) async fn resolving_a_version_of_an_unknown_package_names_the_package(bench: Bench) {
    let error = bench
        .ledger
        .resolve(&bench.package, &Spec::Version(Version::FIRST))
        .await
        .expect_err("nothing there");
    assert_missing(&error, &Missing::Package(bench.package));
}

pub(crate) async fn resolving_an_unknown_version_names_the_version(bench: Bench) {
    bench.add().await;
    let absent = version(99);
    let error =
        bench.ledger.resolve(&bench.package, &Spec::Version(absent)).await.expect_err("no version 99");
    assert_missing(&error, &Missing::Version(bench.package, absent));
}

pub(crate) async fn resolving_a_version_gives_its_record(bench: Bench) {
    let added = bench.add().await;
    bench.add().await;
    let resolved =
        bench.ledger.resolve(&bench.package, &Spec::Version(added.version)).await.expect("resolve");
    assert_eq!(resolved.record, added);
    assert_eq!(resolved.tag, None);
}

pub(crate) async fn resolving_latest_gives_the_newest(bench: Bench) {
    bench.add().await;
    let added = bench.add().await;
    let resolved = bench.ledger.resolve(&bench.package, &Spec::Latest).await.expect("resolve");
    assert_eq!(resolved.record, added);
}

pub(crate) async fn versions_are_listed_oldest_first(bench: Bench) {
    let added = [bench.add().await, bench.add().await, bench.add().await];
    assert_eq!(bench.ledger.versions(&bench.package).await.expect("versions"), added);
}

pub(crate) async fn versions_are_ordered_as_numbers(bench: Bench) {
    let added = bench.versions::<12>().await;
    let listed = bench.ledger.versions(&bench.package).await.expect("versions");
    assert_eq!(listed.iter().map(|record| record.version).collect::<Vec<_>>(), added);
    assert_eq!(bench.ledger.latest(&bench.package).await.expect("latest").version, added[11]);
}

pub(crate) async fn newest_is_newest_first_with_the_whole_count(bench: Bench) {
    let added = bench.versions::<4>().await;
    let newest = bench.ledger.newest(&bench.package, 2).await.expect("newest");
    assert_eq!(newest.records.iter().map(|record| record.version).collect::<Vec<_>>(), [added[3], added[2]]);
    assert_eq!(newest.version_count, 4);
}

pub(crate) async fn newest_of_fewer_versions_gives_them_all(bench: Bench) {
    bench.versions::<2>().await;
    let newest = bench.ledger.newest(&bench.package, 10).await.expect("newest");
    assert_eq!((newest.records.len(), newest.version_count), (2, 2));
}

pub(crate) async fn metadata_may_be_empty(bench: Bench) {
    let mut new = new_version("content");
    new.metadata = BTreeMap::new();
    let added = bench.ledger.add(&bench.package, &new).await.expect("add");
    assert_eq!(
        bench.ledger.version(&bench.package, added.version).await.expect("version").metadata,
        BTreeMap::new()
    );
}

pub(crate) async fn metadata_keeps_any_text(bench: Bench) {
    let mut new = new_version("content");
    let pairs =
        [("größe", "∞"), ("Empty", ""), ("json", "{\"a\": [1]}"), ("lines", "a\nb\tc"), ("spaces", "  x  ")];
    new.metadata = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let added = bench.ledger.add(&bench.package, &new).await.expect("add");
    assert_eq!(
        bench.ledger.version(&bench.package, added.version).await.expect("version").metadata,
        new.metadata
    );
}

pub(crate) async fn metadata_may_be_larger_than_http_headers(bench: Bench) {
    let mut new = new_version("content");
    new.metadata = (0..40).map(|index| (format!("key-{index}"), "x".repeat(200))).collect();
    let added = bench.ledger.add(&bench.package, &new).await.expect("add");
    assert_eq!(
        bench.ledger.version(&bench.package, added.version).await.expect("version").metadata,
        new.metadata
    );
}

pub(crate) async fn a_file_name_keeps_spaces_and_letters(bench: Bench) {
    let mut new = new_version("content");
    new.basename = "größe (1).tar.gz".into();
    let added = bench.ledger.add(&bench.package, &new).await.expect("add");
    assert_eq!(
        bench.ledger.version(&bench.package, added.version).await.expect("version").basename,
        new.basename
    );
}

pub(crate) async fn the_whole_mode_is_kept(bench: Bench) {
    let mut new = new_version("content");
    new.mode = 0o104_755;
    let added = bench.ledger.add(&bench.package, &new).await.expect("add");
    assert_eq!(bench.ledger.version(&bench.package, added.version).await.expect("version").mode, 0o104_755);
}

pub(crate) async fn sizes_beyond_32_bits_are_kept(bench: Bench) {
    let mut new = new_version("content");
    new.size = 5_000_000_000_000;
    let added = bench.ledger.add(&bench.package, &new).await.expect("add");
    assert_eq!(
        bench.ledger.version(&bench.package, added.version).await.expect("version").size,
        Some(new.size)
    );
}

pub(crate) async fn the_same_bytes_may_be_two_versions(bench: Bench) {
    let first = bench.ledger.add(&bench.package, &new_version("same")).await.expect("add");
    let second = bench.ledger.add(&bench.package, &new_version("same")).await.expect("add");
    assert_eq!(first.sha256, second.sha256);
    assert!(first.version < second.version);
}

pub(crate) async fn add_on_condition_of_the_newest_succeeds(bench: Bench) {
    let newest = bench.add().await.version;
    let mut new = new_version("content");
    new.if_latest = Some(newest);
    let added = bench.ledger.add(&bench.package, &new).await;
    if bench.is_dense() {
        assert_eq!(added.expect("add").version.get(), newest.get() + 1);
    } else {
        assert_invalid(&added.expect_err("timestamps cannot promise it"));
    }
}

pub(crate) async fn add_on_condition_of_another_newest_is_a_conflict(bench: Bench) {
    let old = bench.versions::<2>().await[0];
    let mut new = new_version("content");
    new.if_latest = Some(old);
    let error = bench.ledger.add(&bench.package, &new).await.expect_err("not the newest");
    if bench.is_dense() {
        assert_conflict(&error);
    } else {
        assert_invalid(&error);
    }
    assert_eq!(bench.ledger.versions(&bench.package).await.expect("versions").len(), 2);
}

pub(crate) async fn add_refuses_file_names_that_are_paths(bench: Bench) {
    for basename in ["", ".", "..", "a/b", "/etc/passwd", "a\nb", "a\0b", &"x".repeat(256)] {
        let mut new = new_version("content");
        new.basename = basename.to_owned();
        assert_invalid(&bench.ledger.add(&bench.package, &new).await.expect_err(basename));
    }
    bench.ledger.latest(&bench.package).await.expect_err("nothing was written");
}

pub(crate) async fn add_refuses_package_names_outside_the_rules(bench: Bench) {
    let package = bench.package.as_str();
    for name in [
        String::new(),
        format!("{package}/"),
        format!("/{package}"),
        format!("{package}/versions/b"),
        format!("{package}/../b"),
        format!("{package}/tags"),
        format!("{package}\n"),
        format!("-{package}"),
        format!("sacker:history:{package}"),
        format!("_sacker/{package}"),
        "x".repeat(513),
    ] {
        let name = PackageName::existing(name);
        assert_invalid(&bench.ledger.add(&name, &new_version("content")).await.expect_err(name.as_str()));
    }
}

pub(crate) async fn packages_may_be_nested(bench: Bench) {
    let inner = bench.sibling("/role/env/job");
    let outer = bench.add().await;
    let deep = bench.add_to(&inner).await;
    assert_eq!(bench.ledger.versions(&bench.package).await.expect("outer"), [outer]);
    assert_eq!(bench.ledger.versions(&inner).await.expect("inner"), [deep]);
}

pub(crate) async fn packages_with_a_common_beginning_are_apart(bench: Bench) {
    let longer = bench.sibling("2");
    let added = bench.add().await;
    bench.add_to(&longer).await;
    assert_eq!(bench.ledger.versions(&bench.package).await.expect("versions"), [added]);
}

pub(crate) async fn package_names_may_have_any_letters(bench: Bench) {
    let package = bench.sibling("-größe @ 100%+x");
    let added = bench.add_to(&package).await;
    assert_eq!(bench.ledger.latest(&package).await.expect("latest"), added);
    assert!(all_packages(&bench).await.contains(&package));
}

async fn all_packages(bench: &Bench) -> Vec<PackageName> {
    bench.ledger.packages().try_collect().await.expect("packages")
}

pub(crate) async fn every_package_is_listed_once(bench: Bench) {
    let names: Vec<_> =
        ["", "/a", "/a/b", "-x", "/history-x"].iter().map(|suffix| bench.sibling(suffix)).collect();
    for name in &names {
        for _ in 0..2 {
            bench.add_to(name).await;
        }
    }
    bench.set("live", bench.ledger.latest(&bench.package).await.expect("latest").version).await;
    let mine: Vec<_> = all_packages(&bench)
        .await
        .into_iter()
        .filter(|name| name.as_str().starts_with(bench.package.as_str()))
        .collect();
    assert_eq!(mine.iter().collect::<BTreeSet<_>>(), names.iter().collect::<BTreeSet<_>>());
    assert_eq!(mine.len(), names.len(), "{mine:?}");
}

pub(crate) async fn nothing_of_our_own_is_listed_as_a_package(bench: Bench) {
    let added = bench.add().await;
    bench.set("live", added.version).await;
    bench.untag("live").await;
    for package in all_packages(&bench).await {
        package.check_new().expect("a name that a person may have given");
    }
}

pub(crate) async fn forty_packages_are_all_listed(bench: Bench) {
    let names: BTreeSet<_> = (0..40).map(|index| bench.sibling(&format!("/p{index}"))).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(8, |name| async { drop(bench.add_to(name).await) })
        .await;
    let listed: BTreeSet<_> = all_packages(&bench).await.into_iter().collect();
    assert!(names.is_subset(&listed));
}

pub(crate) async fn a_lookup_never_leaves_the_ledger(bench: Bench) {
    for name in ["../x", "a/../../x", "/etc", "", ".", "a\0b"] {
        let error = bench.ledger.latest(&PackageName::existing(name)).await.expect_err(name);
        assert!(
            error.is_not_found() || matches!(error.meaning(), sacker::error::Meaning::Invalid { .. }),
            "{error}"
        );
    }
}

pub(crate) async fn adds_in_parallel_get_versions_of_their_own(bench: Bench) {
    const WRITERS: usize = 8;
    const ADDS: usize = 10;
    let writer = |_: usize| async {
        let mut mine = Vec::new();
        for _ in 0..ADDS {
            let new = new_version(&unique("content"));
            let record = bench.ledger.add(&bench.package, &new).await.expect("add");
            assert_eq!(record.sha256, new.sha256);
            mine.push(record);
        }
        assert!(mine.is_sorted_by(|a, b| a.version < b.version), "one writer's versions increase");
        mine
    };
    let mut acknowledged: Vec<_> =
        futures::future::join_all((0..WRITERS).map(writer)).await.into_iter().flatten().collect();
    acknowledged.sort_by_key(|record| record.version);
    assert_eq!(bench.ledger.versions(&bench.package).await.expect("versions"), acknowledged);
    if bench.is_dense() {
        let numbers: Vec<_> = acknowledged.iter().map(|record| record.version.get()).collect();
        assert_eq!(numbers, (1..).take(WRITERS * ADDS).collect::<Vec<_>>());
    }
}
