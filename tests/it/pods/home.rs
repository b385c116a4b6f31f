//! A ledger on DynamoDB Local and a store on MinIO, filled by the command line as users fill them.

use std::process::Command;

use sacker::model::PinnedSpec;

use crate::support::faultgate::Gate;
use crate::support::process::Folder;
use crate::support::testbed::{self, S3Server};
use crate::support::unique;

pub(crate) struct Home {
    folder: Folder,
    minio: S3Server,
    bucket: String,
    pub(crate) ledger: String,
    pub(crate) store: String,
}

impl Home {
    /// Both empty. Nothing where a server is missing, which was said then.
    pub(crate) fn new() -> Option<Self> {
        let (minio, dynamo) = (testbed::minio()?, testbed::dynamodb()?);
        let bucket = unique("store");
        let (ledger, store) = (dynamo.uri(&unique("ledger")), minio.uri(&bucket));
        let home = Self { folder: Folder::new("pods"), minio, bucket, ledger, store };
        home.sacker(&["init"]);
        Some(home)
    }

    /// Access key and secret.
    pub(crate) fn keys(&self) -> [&'static str; 2] {
        [self.minio.access_key, self.minio.secret_key]
    }

    /// The store's URI through a gate.
    pub(crate) fn behind(&self, gate: &Gate) -> String {
        self.minio.behind(gate).uri(&self.bucket)
    }

    /// Adds a file `app.jar` as the next version and points `live` to it: the pinned spec.
    pub(crate) fn add(&self, package: &str, bytes: &[u8]) -> String {
        let file = self.folder.path().join("app.jar");
        std::fs::write(&file, bytes).expect("it can be written");
        self.sacker(&["add", package, file.to_str().expect("UTF-8")]);
        self.sacker(&["tag", package, "latest", "live"]);
        self.sacker(&["resolve", &format!("{package}@live")])
    }

    /// Puts other bytes, or none, behind the ledger's back where the newest version's are.
    pub(crate) async fn spoil(&self, package: &str, bytes: Option<&[u8]>) {
        let pin: PinnedSpec =
            self.sacker(&["resolve", &format!("{package}@live")]).parse().expect("a pinned spec");
        let (client, key) = (self.minio.client().await, pin.sha256.to_string());
        match bytes {
            Some(bytes) => {
                let body = bytes.to_vec().into();
                client.put_object().bucket(&self.bucket).key(key).body(body).send().await.expect("it is put");
            }
            None => {
                client.delete_object().bucket(&self.bucket).key(key).send().await.expect("it is deleted");
            }
        }
    }

    /// What a command prints; fails the test unless it succeeds.
    pub(crate) fn sacker(&self, arguments: &[&str]) -> String {
        let [access, secret] = self.keys();
        let output = Command::new(env!("CARGO_BIN_EXE_sacker"))
            .args(arguments)
            .env_clear()
            .envs([("SACKER_LEDGER", &self.ledger), ("SACKER_STORE", &self.store)])
            .envs([("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret), ("USER", "tests")])
            .env("HOME", self.folder.path())
            .output()
            .expect("sacker runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }
}
