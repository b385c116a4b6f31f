//! A ledger of its own for each test, and a way around it: what a 2015 client writes.

use std::path::Path;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::primitives::ByteStream;
use sacker::ledger::{self, InitOptions, Ledger};
use sacker::model::{LedgerUri, Sha256, Version};

use crate::support::process::Folder;
use crate::support::{ledgers, testbed, unique};

/// A kind of ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dynamo,
    Minio,
    MinioSequence,
    ZooKeeper,
}

enum Raw {
    File(Folder),
    Dynamo(aws_sdk_dynamodb::Client, String),
    S3(aws_sdk_s3::Client, String),
    /// The root node: no 2015 client ever wrote there.
    ZooKeeper(zookeeper_client::Client, String),
}

/// An empty ledger.
pub(super) struct Place {
    pub(super) ledger: Arc<dyn Ledger>,
    kind: Kind,
    raw: Raw,
}

impl Place {
    /// Nothing where its server is missing, which was said then.
    pub(super) async fn new(kind: Kind) -> Option<Self> {
        let (uri, connect, raw): (LedgerUri, _, _) = match kind {
            Kind::File => {
                let folder = Folder::new("dump");
                (ledgers::file_uri(folder.path()), sacker::connect::Connect::default(), Raw::File(folder))
            }
            Kind::Dynamo => {
                let server = testbed::dynamodb()?;
                let (prefix, connect) = (unique("dump"), server.connect());
                let client = sacker::aws::dynamo_client("us-east-1", Some(&server.endpoint), &connect);
                let client = client.await.expect("a client");
                (server.uri(&prefix).parse().expect("a URI"), connect, Raw::Dynamo(client, prefix))
            }
            Kind::Minio | Kind::MinioSequence => {
                let server = testbed::minio()?;
                let bucket = unique("dump");
                let sequence = if kind == Kind::Minio { "" } else { "&versions=sequence" };
                let uri = server.uri(&bucket) + sequence;
                (uri.parse().expect("a URI"), server.connect(), Raw::S3(server.client().await, bucket))
            }
            Kind::ZooKeeper => {
                let (server, root) = (testbed::zookeeper()?, unique("dump"));
                let uri = server.uri(&root).parse().expect("a URI");
                let raw = Raw::ZooKeeper(server.client().await, format!("/{root}"));
                (uri, sacker::connect::Connect::default(), raw)
            }
        };
        let ledger = ledger::open(&uri, &connect).await.expect("open");
        ledger.init(&InitOptions::default()).await.expect("init");
        Some(Self { ledger, kind, raw })
    }

    /// The directory of a file ledger.
    pub(super) fn path(&self) -> &Path {
        match &self.raw {
            Raw::File(folder) => folder.path(),
            _ => panic!("only a file ledger has a path"),
        }
    }

    /// The first number that a 2015 client gives here.
    pub(super) fn old_number(&self) -> i64 {
        if self.kind == Kind::Minio { 1_795_223_159_828 } else { 1 }
    }

    /// As the 2015 client adds.
    pub(super) async fn old_version(&self, package: &str, number: i64) {
        let sha = Sha256::of(format!("old {number}").as_bytes());
        if let Raw::Dynamo(client, table) = &self.raw {
            let put = client.put_item().table_name(table);
            let put = put.item("package_name", text(package)).item("version", numeric(number));
            let put = put.item("sha", text(&sha.to_string())).item("basename", text("app.jar"));
            let put = put.item("mode", numeric(33188)).item("metadata", text("null"));
            put.send().await.expect("put");
        } else {
            let body = format!(r#"{{"sha": "{sha}", "basename": "app.jar", "mode": 33188}}"#);
            self.put_object(&format!("{package}/versions/{number}"), body).await;
        }
    }

    /// As the 2015 client tags; without a version, the word that it stores for `tag <package> latest <tag>`.
    pub(super) async fn old_tag(&self, package: &str, tag: &str, version: Option<i64>) {
        if let Raw::Dynamo(client, table) = &self.raw {
            let version = version.map_or_else(|| text("latest"), numeric);
            let put = client.put_item().table_name(format!("{table}-tags"));
            let put = put.item("package_name", text(package)).item("tag", text(tag));
            put.item("version", version).send().await.expect("put");
        } else {
            let version = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
            let body = format!(r#"{{"version": "{version}"}}"#);
            self.put_object(&format!("{package}/tags/{tag}"), body).await;
        }
    }

    /// As the 2015 client removes a tag.
    pub(super) async fn old_untag(&self, package: &str, tag: &str) {
        let key = format!("{package}/tags/{tag}");
        match &self.raw {
            Raw::File(folder) => std::fs::remove_file(folder.path().join(key)).expect("removed"),
            Raw::Dynamo(client, table) => {
                let delete = client.delete_item().table_name(format!("{table}-tags"));
                let delete = delete.key("package_name", text(package)).key("tag", text(tag));
                delete.send().await.expect("deleted");
            }
            Raw::S3(client, bucket) => {
                client.delete_object().bucket(bucket).key(key).send().await.expect("deleted");
            }
            Raw::ZooKeeper(..) => panic!("no 2015 client writes nodes"),
        }
    }

    async fn put_object(&self, key: &str, body: String) {
        match &self.raw {
            Raw::File(folder) => {
                let path = folder.path().join(key);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
                std::fs::write(path, body).expect("written");
            }
            Raw::S3(client, bucket) => {
                let body = ByteStream::from(body.into_bytes());
                client.put_object().bucket(bucket).key(key).body(body).send().await.expect("put");
            }
            Raw::Dynamo(..) | Raw::ZooKeeper(..) => panic!("no 2015 client puts objects there"),
        }
    }

    /// Checks what a 2015 reader takes for the newest version.
    pub(super) async fn check_hint(&self, package: &str, version: Version) {
        let key = format!("{package}/tags/latest");
        let body = match &self.raw {
            Raw::File(folder) => std::fs::read(folder.path().join(key)).expect("a hint"),
            Raw::S3(client, bucket) => {
                let object = client.get_object().bucket(bucket).key(key).send().await.expect("a hint");
                object.body.collect().await.expect("its body").to_vec()
            }
            Raw::ZooKeeper(client, root) => {
                client.get_data(&format!("{root}/{package}/tags/=latest")).await.expect("a hint").0
            }
            Raw::Dynamo(..) => return,
        };
        let hint: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(hint["version"], version.get());
    }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn numeric(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}
