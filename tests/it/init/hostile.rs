//! Settings that lead where a pod must not go, and a pod that may read its blobs and nothing else.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use super::home::Home;
use crate::fetch::noise;
use crate::support::canned::Canned;
use crate::support::testbed;
use crate::support::unique;

const PIN: &str = "web@1+sha256:0000000000000000000000000000000000000000000000000000000000000001=app.jar";

/// Where clouds keep machine credentials, in every spelling that a client may understand.
const LINK_LOCAL: [&str; 21] = [
    "http://169.254.169.254",
    "http://169.254.169.254:80",
    "https://169.254.169.254",
    "http://169.254.170.2",
    "http://169.254.170.23",
    "http://169.254.0.1",
    "http://2852039166",
    "http://0xa9fea9fe",
    "http://0xA9.0xFE.0xA9.0xFE",
    "http://0251.0376.0251.0376",
    "http://169.254.43518",
    "http://169.16689662",
    "http://[fe80::1]",
    "http://[::ffff:169.254.169.254]",
    "http://[::ffff:a9fe:a9fe]",
    "http://[fd00:ec2::254]",
    "http://[::169.254.169.254]",
    "http://[64:ff9b::169.254.169.254]",
    "http://metadata.google.internal",
    "http://Instance-Data.ec2.internal.",
    "http://[0:0:0:0:0:ffff:169.254.169.254]",
];

/// S7: refused by what is written there, before anything is asked; nothing secret is repeated.
#[tokio::test]
async fn endpoints_that_lead_to_credentials_are_refused() {
    let mut home = Home::file().await;
    let other = [
        ("s3://key:topsecret@bucket", "credentials never stand"),
        ("s3://bucket?endpoint=http://user:topsecret@host", "credentials never stand"),
        ("s3://bucket?endpoint=http%3A%2F%2Fuser%3Atopsecret%40host", "credentials never stand"),
        ("s3://bucket?secret_key=topsecret", "unknown parameter"),
        ("s3://bucket?endpoint=file:///etc/passwd", "endpoint is not"),
        ("s3://bucket?endpoint=gopher://host", "endpoint is not"),
        ("file://host/blobs", "absolute path"),
        ("file:///blobs/../etc", "'..'"),
        ("ftp://host/blobs", "not a kind of store"),
        ("hdfs://169.254.169.254/blobs", "link-local"),
        ("hdfs://user:topsecret@host/blobs", "credentials never stand"),
    ];
    let endpoints = LINK_LOCAL.map(|endpoint| (format!("s3://bucket?endpoint={endpoint}"), "link-local"));
    let others = other.map(|(uri, why)| (uri.to_owned(), why));
    for (uri, why) in endpoints.iter().chain(&others) {
        home.set("SACKER_STORE", uri);
        let start = Instant::now();
        let ran = home.run(&[PIN]);
        assert_eq!(ran.code, Some(2), "{uri}: {}", ran.stderr);
        ran.expect(2, why);
        assert!(!ran.stderr.replace("'secret_key'", "").contains("topsecret"), "{uri}: {}", ran.stderr);
        assert!(start.elapsed() < Duration::from_secs(2), "{uri}: {:?}", start.elapsed());
    }
    home.set("SACKER_STORE", "file:///blobs");
    for uri in
        ["git+ext://sh%20-c%20id", "git+ssh://-oProxyCommand=id/repo", "git+https://user:topsecret@host/repo"]
    {
        let ran = home.run(&["web@live=app.jar", "--ledger", uri]);
        assert_eq!(ran.code, Some(2), "{uri}: {}", ran.stderr);
        assert!(!ran.stderr.contains("topsecret"), "{uri}: {}", ran.stderr);
    }
    assert!(home.names().is_empty());
}

/// S7: a server that sends its clients elsewhere sends them nowhere.
#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a free port");
    elsewhere.set_nonblocking(true).expect("set");
    let address = elsewhere.local_addr().expect("bound");
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let server = Canned::raw(format!(
            "HTTP/1.1 {status}\r\nLocation: http://{address}/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        let mut home = Home::file().await;
        home.set("SACKER_STORE", format!("s3://bucket?endpoint={}", server.endpoint))
            .set("AWS_ACCESS_KEY_ID", "key")
            .set("AWS_SECRET_ACCESS_KEY", "topsecret");
        let ran = home.run(&[PIN, "--timeout", "20s"]);
        assert!(matches!(ran.code, Some(1..=7)), "{status}: {:?} {}", ran.code, ran.stderr);
        assert!(!server.requests().is_empty(), "{status}");
        assert!(!ran.stderr.contains("topsecret"), "{}", ran.stderr);
        assert!(home.names().is_empty());
    }
    assert!(elsewhere.accept().is_err(), "somebody followed a redirect");
}

/// S10: credentials with `GetObject` on the store fetch a pinned spec, and can do nothing else.
#[tokio::test]
async fn a_pod_that_may_only_read_its_blobs_does_and_no_more() {
    let Some(server) = testbed::minio() else { return };
    let mut home = Home::s3(&server).await;
    let bytes = noise(100_000);
    let record = home.add(&bytes).await;
    let place = home.store.place();
    let bucket =
        place.strip_prefix("s3://").and_then(|rest| rest.split(['?', '/']).next()).expect("a bucket");
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [format!("arn:aws:s3:::{bucket}/*")] }
    ]});
    let [key, secret, token] = testbed::minio_session(&server, &policy.to_string()).await;
    home.set("AWS_ACCESS_KEY_ID", key).set("AWS_SECRET_ACCESS_KEY", secret).set("AWS_SESSION_TOKEN", token);

    home.run(&[&format!("{}=app.jar", record.pinned())]).expect(0, "");
    assert!(fs::read(home.out().join("app.jar")).expect("the file") == bytes);
    // The ledger is not its business.
    home.run(&[&format!("{}@1=other.jar", record.package)]).expect(6, "s3:");
    assert_eq!(home.names(), ["app.jar"]);
    let connect = server.connect();
    let variables = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    let pairs: Vec<(&str, &str)> = variables.iter().map(|name| (*name, home.variable(name))).collect();
    let connect = sacker::connect::Connect { environment: crate::support::environment(&pairs), ..connect };
    let pod = sacker::store::open(&place.parse().expect("a URI"), &connect).await.expect("opened");
    let path = home.path(&unique("upload"));
    fs::write(&path, b"new").expect("written");
    let blob = sacker::store::BlobFile {
        path: &path,
        sha256: sacker::model::Sha256::of(b"new"),
        size: 3,
        scan: None,
    };
    let error = pod.put(blob, &|_| {}).await.expect_err("it may not write");
    assert!(matches!(error.meaning(), sacker::error::Meaning::Denied { .. }), "{error}");
}
