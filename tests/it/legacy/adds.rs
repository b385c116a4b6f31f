//! Versions: written by one, read by the other, and by both in turn.

use futures::TryStreamExt as _;
use sacker::error::{Meaning, Missing};

use super::peer::{Info, Refusal};
use super::*;

pub(super) async fn its_version_is_read(bed: Bed) {
    let old = bed.old_add("one").await;
    let record = bed.ledger.version(&bed.package, old).await.expect("it is read");
    assert_eq!((record.sha256, record.size), (Sha256::of(b"one"), None));
    assert_eq!((record.basename.as_str(), record.mode), ("app.jar", 0o100_644));
    assert_eq!((record.metadata, record.added_at, record.add_id), (BTreeMap::new(), None, None));
    assert_eq!(bed.ledger.versions(&bed.package).await.expect("they are listed").len(), 1);
}

pub(super) async fn its_metadata_is_read(bed: Bed) {
    let metadata: &[(&str, &str)] = &[("commit", "abc"), ("build", "7")];
    let old = bed.peer.add(bed.name(), "one", Some(metadata)).await.expect("the old client adds");
    let record = bed.ledger.version(&bed.package, version(old)).await.expect("it is read");
    let expected = BTreeMap::from([("build".to_owned(), "7".to_owned()), ("commit".into(), "abc".into())]);
    assert_eq!(record.metadata, expected);
}

pub(super) async fn its_latest_is_ours(bed: Bed) {
    for content in ["one", "two"] {
        let old = bed.old_add(content).await;
        assert_eq!(bed.ledger.latest(&bed.package).await.expect("latest").version, old);
        assert_eq!(bed.resolve("latest").await.expect("latest").sha256.to_string(), sha(content));
        // Its next one needs another millisecond.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

pub(super) async fn our_version_is_read_by_it(bed: Bed) {
    let ours = bed.add("one").await;
    let info = Info { sha: sha("one"), basename: "app.jar".into(), mode: 33188, metadata: BTreeMap::new() };
    assert_eq!(bed.peer.info(bed.name(), &ours.to_string()).await, Ok(info));
    assert_eq!(bed.peer.versions(bed.name()).await, Ok(vec![ours.get()]));
}

pub(super) async fn our_metadata_is_read_by_it(bed: Bed) {
    let ours = bed.add_with("one", &[("commit", "abc"), ("note", "a b")]).await.version;
    let info = bed.peer.info(bed.name(), &ours.to_string()).await.expect("it is read");
    let expected = BTreeMap::from([("commit".to_owned(), "abc".to_owned()), ("note".into(), "a b".into())]);
    assert_eq!(info.metadata, expected);
}

pub(super) async fn our_latest_is_its(bed: Bed) {
    assert_eq!(bed.peer.latest(bed.name()).await, Err(Refusal::DoesNotExist));
    for content in ["one", "two", "three"] {
        let ours = bed.add(content).await;
        assert_eq!(bed.peer.latest(bed.name()).await, Ok(ours.get()));
        assert_eq!(bed.peer.info(bed.name(), "latest").await.expect("latest").sha, sha(content));
    }
}

pub(super) async fn our_package_is_listed_by_it(bed: Bed) {
    bed.add("one").await;
    assert_eq!(bed.peer.packages().await.into_iter().collect::<Vec<_>>(), [bed.name()]);
}

pub(super) async fn its_package_is_listed_by_us(bed: Bed) {
    bed.old_add("one").await;
    let packages: Vec<PackageName> = bed.ledger.packages().try_collect().await.expect("they are listed");
    assert_eq!(packages, std::slice::from_ref(&bed.package));
}

/// History, hints and settings: none of them is a version, a tag or a package to it.
pub(super) async fn our_own_records_are_nothing_to_it(bed: Bed) {
    let (one, two) = (bed.add("one").await, bed.add("two").await);
    for to in [one, two, one] {
        bed.tag("live", to).await;
    }
    bed.change("live", Change::Hold { reason: "freeze".into() }).await.expect("it is held");
    assert_eq!(bed.peer.versions(bed.name()).await, Ok(vec![one.get(), two.get()]));
    let mut tags = bed.peer.tags(bed.name()).await.expect("tags");
    // The old client stores `latest` as a tag on S3, and no such thing on DynamoDB.
    assert_eq!(tags.remove("latest"), (!bed.is_dynamo()).then(|| two.to_string()));
    assert_eq!(tags, BTreeMap::from([("live".to_owned(), one.to_string())]));
    assert_eq!(bed.peer.packages().await.len(), 1);
}

pub(super) async fn both_add_in_turn(bed: Bed) {
    let mut expected = Vec::new();
    for round in 0..10 {
        expected.push((bed.old_add(&format!("old {round}")).await, sha(&format!("old {round}"))));
        expected.push((bed.add(&format!("new {round}")).await, sha(&format!("new {round}"))));
        // Its next number is the time; ours may be a little ahead of it.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    let records = bed.ledger.versions(&bed.package).await.expect("they are listed");
    let found: Vec<_> = records.iter().map(|record| (record.version, record.sha256.to_string())).collect();
    assert_eq!(found, expected);
    let numbers: Vec<i64> = expected.iter().map(|(version, _)| version.get()).collect();
    assert_eq!(bed.peer.versions(bed.name()).await, Ok(numbers.clone()));
    if bed.is_dynamo() {
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    }
}

/// Its last writer wins: `latest` may name an older version. We do not believe it, and our next add puts it right.
pub(super) async fn latest_that_went_backwards_is_repaired_by_the_next_add(bed: Bed) {
    let (one, two) = (bed.old_add("one").await, bed.add("two").await);
    bed.old_tag("latest", one).await;
    assert_eq!(bed.ledger.latest(&bed.package).await.expect("latest").version, two);
    let three = bed.add("three").await;
    assert!(three > two);
    assert_eq!(bed.peer.latest(bed.name()).await, Ok(three.get()));
}

pub(super) async fn an_untagged_latest_hides_nothing_from_us(bed: Bed) {
    let one = bed.old_add("one").await;
    bed.peer.untag(bed.name(), "latest").await;
    // To the old client on S3 the package is gone.
    assert_eq!(bed.peer.packages().await.len(), usize::from(bed.is_dynamo()));
    assert_eq!(bed.ledger.latest(&bed.package).await.expect("latest").version, one);
    let packages: Vec<PackageName> = bed.ledger.packages().try_collect().await.expect("they are listed");
    assert_eq!(packages.len(), 1);
    let two = bed.add("two").await;
    assert_eq!(bed.peer.latest(bed.name()).await, Ok(two.get()));
    assert_eq!(bed.peer.packages().await.len(), 1);
}

/// Two of its adds in one millisecond are one version on S3: nothing of ours can help. Ours takes a number of its own.
pub(super) async fn adds_of_one_millisecond(bed: Bed) {
    let frozen = bed.connect.clock.now().as_millisecond() + 1000;
    bed.peer.freeze(frozen);
    bed.old_add("one").await;
    let two = bed.old_add("two").await;
    let three = bed.add("three").await;
    assert!(three > two);
    let records = bed.ledger.versions(&bed.package).await.expect("they are listed");
    let shas: Vec<String> = records.iter().map(|record| record.sha256.to_string()).collect();
    let expected = if bed.is_dynamo() { vec!["one", "two", "three"] } else { vec!["two", "three"] };
    assert_eq!(shas, expected.into_iter().map(sha).collect::<Vec<_>>());
}

pub(super) async fn a_removed_version_is_read_by_it(bed: Bed) {
    let (one, two) = (bed.add_with("one", &[("commit", "abc")]).await.version, bed.add("two").await);
    bed.remove(one).await;
    let info = bed.peer.info(bed.name(), &one.to_string()).await.expect("a record that it can read");
    assert_eq!(info.sha, "0".repeat(64), "no store has such a blob: its download says so");
    assert_eq!(info.metadata.get("removed_by").map(String::as_str), Some("alice"), "{:?}", info.metadata);
    assert_eq!(bed.peer.info(bed.name(), &two.to_string()).await.expect("another").sha, sha("two"));
    let error = bed.resolve(&one.to_string()).await.expect_err("removed");
    assert_eq!(error.meaning(), &Meaning::NotFound(Missing::Removed(bed.package.clone(), one)));
    // The newest: `latest` is the one before, where that client reads what we say.
    let three = bed.add("three").await;
    bed.remove(three).await;
    assert_eq!(bed.ledger.latest(&bed.package).await.expect("latest").version, two);
    let its = if bed.is_dynamo() { three } else { two };
    assert_eq!(bed.peer.latest(bed.name()).await, Ok(its.get()));
}

pub(super) async fn a_removed_number_is_not_given_again(bed: Bed) {
    let (one, two) = (bed.old_add("one").await, bed.add("two").await);
    for removed in [one, two] {
        bed.remove(removed).await;
    }
    // Its next number on S3 is the time, which ours may be ahead of.
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    let three = bed.old_add("three").await;
    let four = bed.add("four").await;
    assert!(two < three && three < four, "{two} {three} {four}");
    let records = bed.ledger.versions(&bed.package).await.expect("they are listed");
    assert_eq!(records.iter().filter(|record| record.is_removed()).count(), 2);
    if bed.is_dynamo() {
        assert_eq!((three, four), (version(3), version(4)));
    }
}

/// It stops at one page: on DynamoDB above 1 MB its `latest` sticks and its adds fail. Ours go on.
pub(super) async fn a_package_over_one_page(bed: Bed) {
    if bed.is_dynamo() {
        let large = "x".repeat(300 << 10);
        for round in 0..5 {
            bed.add_with(&format!("{round}"), &[("large", &large)]).await;
        }
        assert_eq!(bed.peer.latest(bed.name()).await, Ok(4), "one page");
        assert_eq!(bed.peer.add(bed.name(), "stuck", None).await, Err(Refusal::Race));
        assert_eq!(bed.add("six").await, version(6));
        assert_eq!(bed.ledger.versions(&bed.package).await.expect("they are listed").len(), 6);
    } else {
        let first = bed.connect.clock.now().as_millisecond() - 10_000;
        for number in 0..1010 {
            bed.peer.freeze(first + number);
            bed.old_add(&format!("{number}")).await;
        }
        assert_eq!(bed.ledger.latest(&bed.package).await.expect("latest").version, version(first + 1009));
        bed.old_tag("latest", version(first)).await;
        assert_eq!(bed.ledger.latest(&bed.package).await.expect("latest").version, version(first + 1009));
        assert_eq!(bed.ledger.versions(&bed.package).await.expect("they are listed").len(), 1010);
        let ours = bed.add("ours").await;
        assert_eq!(bed.peer.latest(bed.name()).await, Ok(ours.get()));
    }
}

/// It reports its own repetition as a race. Ours takes the same number for what it is.
pub(super) async fn our_retry_is_no_failure(bed: Bed) {
    let new = new_version("one", &[]);
    let first = bed.ledger.add(&bed.package, &new).await.expect("it is added");
    assert_eq!(bed.peer.versions(bed.name()).await, Ok(vec![first.version.get()]));
    bed.old_add("between").await;
    if bed.is_dynamo() {
        let again = bed.ledger.add(&bed.package, &new).await.expect("it is the same add");
        assert_eq!(again.version, first.version);
        assert_eq!(bed.peer.versions(bed.name()).await, Ok(vec![1, 2]));
    }
}
