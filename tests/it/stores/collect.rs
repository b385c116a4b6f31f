//! What garbage collection needs of every store: a listing, the store's clock, deletions of what was seen and nothing newer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::{self, StreamExt as _};
use rstest::rstest;
use sacker::error::Meaning;
use sacker::exit::Exit;
use sacker::model::Sha256;
use sacker::store::{self, Collect, Deletion, Listed, PutOutcome, Store, StoredBlob, WHOLE};

use super::{Kind, MIB, Target, collect, content, open, put};
use crate::support;
use crate::support::eventually;
use crate::support::testbed::S3Server;

const PREFIX: &str = "some/prefix/";

/// A store with a short grace, so that every put counts as one of an old blob.
struct Place {
    target: Target,
    store: Arc<dyn Store>,
    collected: Arc<dyn Collect>,
}

impl Place {
    async fn new(kind: Kind, settings: &str, versioned: bool) -> Option<Self> {
        let target = Target::ready(kind).await?;
        let (uri, connect) = target.with(settings);
        if versioned {
            let server = target.server.as_ref().expect("an S3 server");
            switch_versions_on(server, &target.place).await;
        }
        let uri = uri.parse().expect("a store URI");
        let store = store::open(&uri, &connect).await.expect("it opens");
        let collected = store::open_for_collection(&uri, &connect).await.expect("it opens");
        Some(Self { target, store, collected })
    }

    async fn put(&self, size: usize) -> (Sha256, PutOutcome) {
        let (path, sha256) = self.target.file(size);
        (sha256, put(&*self.store, &path, sha256, size as u64).await.expect("put").0)
    }

    async fn listed(&self) -> (Vec<StoredBlob>, Vec<String>) {
        let all: Vec<Listed> = self.collected.list().try_collect().await.expect("listed");
        let (mut blobs, mut foreign) = (Vec::new(), Vec::new());
        for one in all {
            match one {
                Listed::Blob(blob) => blobs.push(blob),
                Listed::Foreign(name) => foreign.push(name),
            }
        }
        foreign.sort();
        (blobs, foreign)
    }

    async fn only_blob(&self) -> StoredBlob {
        let (mut blobs, _) = self.listed().await;
        assert_eq!(blobs.len(), 1, "{blobs:?}");
        blobs.remove(0)
    }

    async fn is_there(&self, sha256: &Sha256) -> bool {
        self.store.head(sha256).await.expect("looked").is_some()
    }

    /// Waits for another second of the store's clock: S3 tells the times of objects no finer, and versitygw's date lags behind
    /// by up to one more.
    async fn next_second(&self) {
        let before = self.collected.now().await.expect("the time").as_second();
        eventually("the next second", Duration::from_secs(5), async || {
            self.collected.now().await.expect("the time").as_second() > before + 1
        })
        .await;
    }
}

pub(crate) async fn switch_versions_on(server: &S3Server, bucket: &str) {
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let request = server.client().await.put_bucket_versioning().bucket(bucket).versioning_configuration(on);
    request.send().await.expect("versions are kept");
}

#[rstest]
#[case(Kind::File, false)]
#[case(Kind::Minio, false)]
#[case(Kind::Minio, true)]
#[case(Kind::Versitygw, false)]
#[case(Kind::Hdfs, false)]
#[tokio::test]
async fn a_listing_tells_blobs_from_everything_else(#[case] kind: Kind, #[case] versioned: bool) {
    let Some(place) = Place::new(kind, "grace=24h", versioned).await else { return };
    assert_eq!(place.collected.is_versioned().await.expect("asked"), versioned);
    assert_eq!(place.listed().await, (vec![], vec![]));
    let before = place.collected.now().await.expect("the time");
    let (one, two) = (place.put(1).await.0, place.put(MIB).await.0);
    let after = place.collected.now().await.expect("the time");
    let upper = Sha256::of(b"upper").to_string().to_uppercase();
    for name in ["readme", "pkg/versions/1", "_sacker/ledger.json", &upper] {
        place.target.write(name, b"foreign").await;
    }
    let (mut blobs, foreign) = place.listed().await;
    blobs.sort_by_key(|blob| blob.size);
    assert_eq!(
        blobs.iter().map(|blob| (blob.sha256, blob.size)).collect::<Vec<_>>(),
        [(one, 1), (two, MIB as u64)]
    );
    for blob in &blobs {
        // The clock is the one that dates the blobs; both are cut to whole seconds on S3.
        let slack = jiff::SignedDuration::from_secs(1);
        assert!(
            before - slack <= blob.modified && blob.modified <= after + slack,
            "{before} {blob:?} {after}"
        );
    }
    let directory = if matches!(kind, Kind::File | Kind::Hdfs) { "pkg" } else { "pkg/" };
    let mut expected = vec!["readme".to_owned(), directory.to_owned(), upper];
    expected.sort();
    assert_eq!(foreign, expected);
}

/// More than one page.
#[rstest]
#[case(Kind::Minio, false)]
#[case(Kind::Minio, true)]
#[case(Kind::Versitygw, false)]
#[tokio::test]
async fn a_long_listing_is_whole(#[case] kind: Kind, #[case] versioned: bool) {
    const BLOBS: usize = 1_010;
    let Some(place) = Place::new(kind, "grace=24h", versioned).await else { return };
    let server = place.target.server.as_ref().expect("an S3 server");
    let client = server.client().await;
    let puts = (0..BLOBS).map(|number| {
        let key = format!("{PREFIX}{}", Sha256::of(number.to_string().as_bytes()));
        client.put_object().bucket(&place.target.place).key(key).send()
    });
    stream::iter(puts).buffer_unordered(16).for_each(|put| async { drop(put.expect("written")) }).await;
    let (blobs, foreign) = place.listed().await;
    let distinct: std::collections::BTreeSet<Sha256> = blobs.iter().map(|blob| blob.sha256).collect();
    assert_eq!((blobs.len(), distinct.len(), foreign.len()), (BLOBS, BLOBS, 0));
}

#[rstest]
#[case(Kind::File, false)]
#[case(Kind::Minio, false)]
#[case(Kind::Minio, true)]
#[case(Kind::Versitygw, false)]
#[case(Kind::Hdfs, false)]
#[tokio::test]
async fn only_what_was_seen_is_deleted(#[case] kind: Kind, #[case] versioned: bool) {
    let Some(place) = Place::new(kind, "grace=2s", versioned).await else { return };
    let (sha256, _) = place.put(1000).await;
    let seen = place.only_blob().await;
    place.next_second().await;
    // Somebody wants it again: it is sent again, and is another blob for whoever saw it before.
    assert_eq!(place.put(1000).await, (sha256, PutOutcome::Uploaded));
    assert_eq!(place.collected.delete(&seen).await.expect("tried"), Deletion::Changed);
    let bytes = collect(place.store.open(&sha256, WHOLE).await.expect("opened")).await.expect("read");
    assert_eq!(bytes, content(1000));
    let seen_now = place.only_blob().await;
    assert!(seen_now.modified > seen.modified && seen_now.revision != seen.revision, "{seen:?} {seen_now:?}");
    assert_eq!(place.collected.delete(&seen_now).await.expect("deleted"), Deletion::Done);
    // On a versioned bucket the older writing must not come up again.
    assert!(!place.is_there(&sha256).await);
    assert_eq!(place.listed().await, (vec![], vec![]));
    assert_eq!(place.collected.delete(&seen_now).await.expect("tried"), Deletion::Absent);
}

#[rstest]
#[tokio::test]
async fn a_manifest_is_exchanged_by_compare_and_swap(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
) {
    let Some(place) = Place::new(kind, "grace=24h", false).await else { return };
    let store = &place.collected;
    assert_eq!(store.read_manifest().await.expect("read"), None);
    let first = store.write_manifest(Bytes::from_static(b"one"), None).await.expect("written");
    let error = store.write_manifest(Bytes::from_static(b"two"), None).await.expect_err("taken");
    assert_eq!(Exit::from(&error), Exit::Conflict, "{error:?}");
    let second = store.write_manifest(Bytes::from_static(b"two"), Some(&first)).await.expect("written");
    let error = store.write_manifest(Bytes::from_static(b"three"), Some(&first)).await.expect_err("taken");
    assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{error:?}");
    let read = store.read_manifest().await.expect("read").expect("it is there");
    assert_eq!((&read.bytes[..], read.revision), (&b"two"[..], second));
    // It is no blob and nothing foreign.
    assert_eq!(place.listed().await, (vec![], vec![]));
}

#[tokio::test]
async fn a_hidden_blob_comes_back_or_goes() {
    let Some(place) = Place::new(Kind::Minio, "create_only=true&grace=2s", true).await else { return };
    let (sha256, _) = place.put(1000).await;
    let seen = place.only_blob().await;
    assert_eq!(place.collected.hide(&seen).await.expect("hidden"), Deletion::Done);
    assert!(!place.is_there(&sha256).await);
    assert_eq!(place.listed().await.0, vec![]);
    // Twice is once: the run before may have been killed.
    assert_eq!(place.collected.hide(&seen).await.expect("hidden"), Deletion::Done);
    place.collected.restore(&seen).await.expect("restored");
    assert_eq!(place.only_blob().await, seen);

    // Written again over the hidden one: purging the old one leaves the new one alone.
    place.collected.hide(&seen).await.expect("hidden");
    assert_eq!(place.put(1000).await, (sha256, PutOutcome::Uploaded));
    let newer = place.only_blob().await;
    assert_ne!(newer.revision, seen.revision);
    assert_eq!(place.collected.hide(&seen).await.expect("tried"), Deletion::Changed);
    place.collected.restore(&seen).await.expect("nothing to restore");
    place.collected.purge(&seen).await.expect("purged");
    assert_eq!(place.only_blob().await, newer);

    place.collected.hide(&newer).await.expect("hidden");
    place.collected.purge(&newer).await.expect("purged");
    let server = place.target.server.as_ref().expect("an S3 server");
    let left = server
        .client()
        .await
        .list_object_versions()
        .bucket(&place.target.place)
        .send()
        .await
        .expect("listed");
    assert_eq!((left.versions().len(), left.delete_markers().len()), (0, 0), "{left:?}");
}

#[rstest]
#[case::one_request(MIB)]
#[case::parts(65 * MIB)]
#[tokio::test]
async fn a_create_only_store_is_never_written_twice(
    #[values(Kind::Minio, Kind::Versitygw)] kind: Kind,
    #[case] size: usize,
) {
    let Some(place) = Place::new(kind, "create_only=true&grace=2s", false).await else { return };
    let (path, sha256) = place.target.file(size);
    let racers = (0..3).map(|_| put(&*place.store, &path, sha256, size as u64));
    let outcomes = futures::future::join_all(racers).await;
    let uploaded = outcomes.iter().filter(|outcome| outcome.as_ref().expect("put").0 == PutOutcome::Uploaded);
    assert_eq!(uploaded.count(), 1, "one of the racers writes");
    let seen = place.only_blob().await;
    place.next_second().await;
    assert_eq!(place.put(size).await, (sha256, PutOutcome::AlreadyThere));
    assert_eq!(place.only_blob().await, seen);
    assert_eq!(place.target.leftovers().await, 0);
}

#[tokio::test]
async fn a_damaged_blob_of_a_create_only_store_is_told() {
    let Some(place) = Place::new(Kind::Versitygw, "create_only=true", false).await else { return };
    let (path, sha256) = place.target.file(1000);
    place.target.write(&sha256.to_string(), b"foreign").await;
    let error = put(&*place.store, &path, sha256, 1000).await.expect_err("it cannot be replaced");
    assert_eq!(Exit::from(&error), Exit::Integrity, "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
}

#[tokio::test]
async fn leftovers_of_the_dead_are_found_in_a_directory() {
    let Some(place) = Place::new(Kind::File, "grace=2s", false).await else { return };
    let folder = Path::new(&place.target.place);
    std::fs::write(folder.join(".unfinished-dead"), "left").expect("written");
    let living = std::fs::File::create(folder.join(".unfinished-living")).expect("made");
    living.lock().expect("held");
    let mut found = place.collected.unfinished().await.expect("listed");
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = found.iter().map(|it| (it.name.as_str(), it.size, it.abandoned)).collect();
    assert_eq!(seen, [(".unfinished-dead", Some(4), true), (".unfinished-living", Some(0), false)]);
    let gone = [
        place.collected.discard(&found[0]).await.expect("tried"),
        place.collected.discard(&found[1]).await.expect("tried"),
    ];
    assert_eq!(gone, [true, false]);
    assert_eq!(place.target.leftovers().await, 1);
    drop(living);
    assert!(place.collected.discard(&found[1]).await.expect("tried"), "its writer is gone");
}

#[tokio::test]
async fn unfinished_uploads_are_found_in_a_bucket() {
    let Some(place) = Place::new(Kind::Versitygw, "grace=2s", false).await else { return };
    let client = place.target.server.as_ref().expect("an S3 server").client().await;
    let sha256 = Sha256::of(b"unfinished");
    for key in [format!("{PREFIX}{sha256}"), format!("{PREFIX}something-else")] {
        client.create_multipart_upload().bucket(&place.target.place).key(key).send().await.expect("begun");
    }
    let found = place.collected.unfinished().await.expect("listed");
    assert_eq!(found.len(), 1, "only what may be ours: {found:?}");
    assert!(found[0].name.starts_with(&sha256.to_string()) && !found[0].abandoned);
    assert!(place.collected.discard(&found[0]).await.expect("given up"));
    assert!(!place.collected.discard(&found[0]).await.expect("gone"));
    assert_eq!(place.target.leftovers().await, 1);
}

/// A store that is down, by URI.
fn down() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("s3://down?endpoint=http://{}", listener.local_addr().expect("bound"))
}

#[tokio::test]
async fn several_stores_are_written_in_order_and_read_in_order() {
    let Some(first) = Target::ready(Kind::File).await else { return };
    let Some(second) = Target::ready(Kind::Minio).await else { return };
    let server = second.server.as_ref().expect("an S3 server");
    let uris = format!("file://{} {}", first.place, server.uri(&second.place));
    let both = store::open_all(&uris.parse().expect("URIs"), &server.connect()).await.expect("they open");
    let (path, sha256) = first.file(1000);
    assert_eq!(put(&*both, &path, sha256, 1000).await.expect("put"), (PutOutcome::Uploaded, 1000));
    let alone = open(&server.uri(&second.place), &server.connect()).await;
    assert!(alone.head(&sha256).await.expect("looked").is_some(), "it is in the second too");
    assert_eq!(put(&*both, &path, sha256, 1000).await.expect("put"), (PutOutcome::AlreadyThere, 0));

    std::fs::remove_file(Path::new(&first.place).join(sha256.to_string())).expect("it goes");
    assert!(both.head(&sha256).await.expect("looked").is_some());
    let bytes = collect(both.open(&sha256, 10..u64::MAX).await.expect("opened")).await.expect("read");
    assert_eq!(bytes, content(1000)[10..]);
    // What is missing in one is written to that one.
    assert_eq!(put(&*both, &path, sha256, 1000).await.expect("put").0, PutOutcome::Uploaded);
    assert!(Path::new(&first.place).join(sha256.to_string()).exists());

    let absent = Sha256::of(b"absent");
    assert_eq!(both.head(&absent).await.expect("looked"), None);
    let error = both.open(&absent, WHOLE).await.expect_err("absent in both");
    assert_eq!(Exit::from(&error), Exit::NotFound, "{error:?}");
    let hint = error.hint().expect("a hint");
    assert!(hint.contains(&first.place) && hint.contains(&second.place), "each is told: {hint}");
}

#[tokio::test]
async fn a_store_that_is_down_or_spoilt_is_passed_over_by_readers_only() {
    let Some(good) = Target::ready(Kind::File).await else { return };
    let connect =
        sacker::connect::Connect { deadline: Duration::from_secs(2), ..support::connect("key", "secret") };
    let (path, sha256) = good.file(1000);
    put(&*good.store, &path, sha256, 1000).await.expect("put");
    let uris = format!("{} file://{}", down(), good.place);
    let both = store::open_all(&uris.parse().expect("URIs"), &connect).await.expect("they open");
    let bytes = collect(both.open(&sha256, WHOLE).await.expect("the second has it")).await.expect("read");
    assert_eq!(bytes, content(1000));
    let error = put(&*both, &path, sha256, 1000).await.expect_err("it must be in all");
    assert_eq!(*error.meaning(), Meaning::Unavailable, "{error:?}");
    // Neither says that there is none: one of them did not answer.
    let error = both.open(&Sha256::of(b"absent"), WHOLE).await.expect_err("not known");
    assert_eq!(*error.meaning(), Meaning::Unavailable, "{error:?}");

    let Some(spoilt) = Target::ready(Kind::File).await else { return };
    let mut bytes = content(1000);
    bytes[500] ^= 1;
    std::fs::write(Path::new(&spoilt.place).join(sha256.to_string()), bytes).expect("written");
    let uris = format!("file://{} file://{}", spoilt.place, good.place);
    let both = store::open_all(&uris.parse().expect("URIs"), &connect).await.expect("they open");
    let artifact = sacker::fetch::Artifact {
        label: "p@1".to_owned(),
        sha256,
        size: Some(1000),
        basename: Some("f".to_owned()),
        mode: None,
    };
    let target = sacker::fetch::Target::at(good.folder.path().join("fetched")).expect("a target");
    sacker::fetch::fetch(&*both, &artifact, &target, &|_| {}).await.expect("the second store has the bytes");
    let only = open(&format!("file://{}", spoilt.place), &connect).await;
    let target = sacker::fetch::Target::at(good.folder.path().join("other")).expect("a target");
    let error = sacker::fetch::fetch(&*only, &artifact, &target, &|_| {}).await.expect_err("spoilt");
    assert_eq!(Exit::from(&error), Exit::Integrity, "{error:?}");
}
