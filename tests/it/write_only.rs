//! A CI job that may only add (S9): a real second user whose only rights are what `sacker init --print-ci-policy` printed.
//! It adds versions and nothing else: every other call is refused by the server itself.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use rstest::rstest;
use sacker::ledger::{self, InitOptions};
use sacker::model::{LedgerUri, NewVersion, PackageName, Sha256, StoreUri};
use sacker::store;

use crate::cli::home::Home;
use crate::support::testbed::{self, S3Server};
use crate::support::{environment, unique};

/// A ledger and a store in one bucket, and the credentials of a client that may add versions of `team/web`.
pub(crate) struct Place {
    pub(crate) server: S3Server,
    pub(crate) bucket: String,
    pub(crate) ledger: String,
    store: String,
    credentials: [(&'static str, String); 3],
}

impl Place {
    pub(crate) async fn new(name: &str) -> Option<Self> {
        let server = if name == "minio" { testbed::minio()? } else { testbed::versitygw()? };
        let bucket = unique("ci");
        let (ledger, store) =
            (server.uri(&format!("{bucket}/ledger")), server.uri(&format!("{bucket}/blobs")));
        let root = ledger::open(&ledger.parse().expect("a URI"), &server.connect()).await.expect("opened");
        root.init(&InitOptions::default()).await.expect("set up");
        let home = Home::new().with("SACKER_LEDGER", &ledger).with("SACKER_STORE", &store);
        let printed = home.run(&["init", "--print-ci-policy", "--package", "team/web"]);
        assert_eq!(printed.stderr, "", "{printed:?}");
        let policy = printed.json();
        let [key, secret, token] = if name == "minio" {
            testbed::minio_session(&server, &policy.to_string()).await
        } else {
            let user = testbed::versitygw_user(&server);
            testbed::grant(&server, &bucket, &user, policy).await;
            [user.clone(), user, String::new()]
        };
        let credentials =
            [("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_SESSION_TOKEN", token)];
        Some(Self { server, bucket, ledger, store, credentials })
    }

    /// Settings with the second user's credentials.
    pub(crate) fn connect(&self) -> sacker::connect::Connect {
        let pairs: Vec<(&str, &str)> =
            self.credentials.iter().map(|(name, value)| (*name, value.as_str())).collect();
        sacker::connect::Connect { environment: environment(&pairs), ..self.server.connect() }
    }

    /// A plain client with the second user's credentials.
    async fn client(&self) -> Client {
        let StoreUri::S3(location) = self.store.parse().expect("a URI") else { panic!("it is on S3") };
        sacker::aws::s3_client(&location, &self.connect()).await.expect("a client")
    }

    /// The keys that are there, as root sees them.
    async fn keys(&self) -> Vec<String> {
        let listed = self.server.client().await.list_objects_v2().bucket(&self.bucket).send().await;
        let listed = listed.expect("listed");
        listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
    }
}

pub(crate) fn new(text: &str) -> NewVersion {
    NewVersion {
        sha256: Sha256::of(text.as_bytes()),
        size: text.len() as u64,
        basename: "web.jar".into(),
        mode: 0o100_644,
        metadata: BTreeMap::new(),
        added_by: "ci".into(),
        if_latest: None,
        add_id: uuid::Uuid::new_v4().to_string(),
    }
}

#[rstest]
#[tokio::test]
async fn a_ci_job_adds_through_the_library(#[values("minio", "versitygw")] name: &str) {
    let Some(place) = Place::new(name).await else { return };
    let (uri, package) = (place.ledger.parse::<LedgerUri>().expect("a URI"), "team/web");
    let package = PackageName::new(package).expect("an allowed name");
    let ci = ledger::open(&uri, &place.connect()).await.expect("opened");
    let mut added = Vec::new();
    for text in ["one", "two", "three"] {
        added.push(ci.add(&package, &new(text)).await.expect("it may add").version);
    }
    let root = ledger::open(&uri, &place.server.connect()).await.expect("opened");
    let found: Vec<_> =
        root.versions(&package).await.expect("versions").iter().map(|record| record.version).collect();
    assert_eq!(found, added, "in the order of the server's clock");
    let hint = place.server.client().await.get_object().bucket(&place.bucket);
    let hint = hint.key("ledger/team/web/tags/latest").send().await.expect("what 2015 readers look at");
    let hint = hint.body.collect().await.expect("read").into_bytes();
    assert_eq!(hint, format!("{{\"version\":{}}}", added[2]).as_bytes());
    let other = PackageName::new("team/other").expect("an allowed name");
    let error = ci.add(&other, &new("one")).await.expect_err("another's package");
    assert_eq!(sacker::exit::Exit::from(&error), sacker::exit::Exit::Denied, "{error:?}");
}

/// It reads how the ledger numbers versions, and nothing else: a time among the numbers of a sequence would never be found.
#[rstest]
#[tokio::test]
async fn a_ci_job_never_adds_to_a_sequence(#[values("minio", "versitygw")] name: &str) {
    let Some(place) = Place::new(name).await else { return };
    let client = place.server.client().await;
    let own = client.put_object().bucket(&place.bucket).key("ledger/_sacker/ledger.json");
    own.body(ByteStream::from_static(br#"{"versions": "sequence"}"#)).send().await.expect("written");
    let before = place.keys().await;
    let uri = place.ledger.parse::<LedgerUri>().expect("a URI");
    let ci = ledger::open(&uri, &place.connect()).await.expect("opened");
    let package = PackageName::new("team/web").expect("an allowed name");
    let error = ci.add(&package, &new("one")).await.expect_err("it cannot know the next number");
    assert_eq!(sacker::exit::Exit::from(&error), sacker::exit::Exit::Denied, "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("allow this client to read")), "{error:?}");
    assert_eq!(place.keys().await, before);
}

#[rstest]
fn a_ci_job_adds_through_the_command_line(#[values("minio", "versitygw")] name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let Some(place) = runtime.block_on(Place::new(name)) else { return };
    let mut home = Home::new()
        .with("SACKER_LEDGER", &place.ledger)
        .with("SACKER_STORE", &place.store)
        .with("AWS_EC2_METADATA_DISABLED", "true");
    for (name, value) in &place.credentials {
        home = home.with(name, value);
    }
    home.file("web.jar", "bytes of a build\n");
    let ran = home.run(&["add", "team/web", "web.jar"]);
    let version = ran.answer().trim_end().to_owned();
    assert_eq!(version.len(), 13, "{ran:?}");
    assert_eq!(home.run(&["add", "team/other", "web.jar"]).code, Some(6));
    // Larger than one request: the rights for uploads in parts are there, too.
    home.file("large.jar", vec![7_u8; 65 << 20]);
    home.run(&["add", "team/web", "large.jar"]).answer();

    let root = Home::new()
        .with("SACKER_LEDGER", &place.ledger)
        .with("SACKER_STORE", &place.store)
        .with("AWS_ACCESS_KEY_ID", place.server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", place.server.secret_key);
    assert_eq!(root.run(&["download", "team/web", &version, "-o", "-"]).answer(), "bytes of a build\n");
    assert_eq!(root.run(&["versions", "team/web"]).answer().lines().count(), 2);
}

/// The status of a call that must be refused.
macro_rules! status {
    ($call:expr) => {
        match $call.send().await {
            Ok(_) => 200,
            Err(error) => error.raw_response().map_or(0, |response| response.status().as_u16()),
        }
    };
}

#[rstest]
#[tokio::test]
async fn nothing_else_is_allowed(#[values("minio", "versitygw")] name: &str) {
    let Some(place) = Place::new(name).await else { return };
    let package = PackageName::new("team/web").expect("an allowed name");
    let root = place.server.connect();
    let ledger = ledger::open(&place.ledger.parse().expect("a URI"), &root).await.expect("opened");
    let record = ledger.add(&package, &new("blob")).await.expect("add");
    let store = store::open(&place.store.parse().expect("a URI"), &root).await.expect("opened");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "blob").expect("written");
    let blob = store::BlobFile { path: file.path(), sha256: Sha256::of(b"blob"), size: 4, scan: None };
    store.put(blob, &|_| ()).await.expect("stored");
    let before = place.keys().await;

    let client = place.client().await;
    let bucket = &place.bucket;
    let version = format!("ledger/team/web/versions/{}", record.version);
    let others = format!("ledger/team/other/versions/{}", record.version);
    let blob = format!("blobs/{}", Sha256::of(b"blob"));
    let body = || ByteStream::from_static(b"{\"version\": 1}");
    let put = |key: &str| client.put_object().bucket(bucket).key(key).body(body());
    let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
    let refused = [
        ("read a version", status!(client.get_object().bucket(bucket).key(&version))),
        ("read a blob", status!(client.get_object().bucket(bucket).key(&blob))),
        ("list", status!(client.list_objects_v2().bucket(bucket))),
        ("delete a version", status!(client.delete_object().bucket(bucket).key(&version))),
        ("delete a blob", status!(client.delete_object().bucket(bucket).key(&blob))),
        ("move live", status!(put("ledger/team/web/tags/live"))),
        ("write a history", status!(put("ledger/team/web/history/live/000000000001"))),
        ("add to another package", status!(put(&others).if_none_match("*"))),
        (
            "take the last number",
            status!(put("ledger/team/web/versions/9223372036854775807").if_none_match("*")),
        ),
        ("write the ledger's record", status!(put("ledger/_sacker/ledger.json"))),
        ("write a blob under another name", status!(put("blobs/index.html"))),
        ("read the bucket's policy", status!(client.get_bucket_policy().bucket(bucket))),
        ("write the bucket's policy", status!(client.put_bucket_policy().bucket(bucket).policy(policy))),
        (
            "keep old objects",
            status!(client.put_bucket_versioning().bucket(bucket).versioning_configuration(versioning)),
        ),
        ("delete the bucket", status!(client.delete_bucket().bucket(bucket))),
    ];
    assert!(refused.len() >= 12);
    for (what, status) in refused {
        assert_eq!(status, 403, "{what}");
    }
    assert_eq!(place.keys().await, before, "nothing was changed");
}
