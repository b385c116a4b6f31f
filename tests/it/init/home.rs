//! A ledger and a store with packages in them, and `sacker-init` run on them as a pod would.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use sacker::connect::Connect;
use sacker::ledger::{self, InitOptions, Ledger};
use sacker::model::{
    Actor, Change, EventSource, NewVersion, PackageName, Sha256, TagChange, TagName, VersionRecord,
};
use sacker::store::{self, BlobFile, Store};
use tempfile::TempDir;

use crate::fetch::names;
use crate::support::testbed::{DynamoServer, S3Server};
use crate::support::unique;

/// The package that most tests use.
pub(super) const PACKAGE: &str = "frontend-server";

/// A place to fetch from, and `out`, a directory to fetch into.
pub(super) struct Home {
    folder: TempDir,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) store: Arc<dyn Store>,
    variables: BTreeMap<&'static str, String>,
}

/// What a run came to.
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ran {
    /// Fails the test unless the exit code is `code` and standard error has `message`.
    #[track_caller]
    pub(super) fn expect(&self, code: i32, message: &str) -> &Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.contains(message), "no '{message}' in: {}", self.stderr);
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Home {
    /// Ledger and store in directories.
    pub(super) async fn file() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let uri = |name: &str| format!("file://{}", folder.path().join(name).display());
        let (ledger, store) = (uri("ledger"), uri("store"));
        Self::new(folder, &ledger, &store, &Connect::default(), &[]).await
    }

    /// Ledger and store in buckets of their own.
    pub(super) async fn s3(server: &S3Server) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let (ledger, store) = (server.uri(&unique("ledger")), server.uri(&unique("store")));
        let keys = [("AWS_ACCESS_KEY_ID", server.access_key), ("AWS_SECRET_ACCESS_KEY", server.secret_key)];
        Self::new(folder, &ledger, &store, &server.connect(), &keys).await
    }

    /// The ledger in tables, the store in a bucket.
    pub(super) async fn dynamo(dynamo: &DynamoServer, s3: &S3Server) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let (ledger, store) = (dynamo.uri(&unique("ledger")), s3.uri(&unique("store")));
        assert_eq!(dynamo.access_key, s3.access_key, "one set of keys reaches both");
        let keys = [("AWS_ACCESS_KEY_ID", s3.access_key), ("AWS_SECRET_ACCESS_KEY", s3.secret_key)];
        Self::new(folder, &ledger, &store, &s3.connect(), &keys).await
    }

    async fn new(
        folder: TempDir,
        ledger_uri: &str,
        store_uri: &str,
        connect: &Connect,
        keys: &[(&'static str, &str)],
    ) -> Self {
        let ledger = ledger::open(&ledger_uri.parse().expect("a URI"), connect).await.expect("the ledger");
        let store = store::open(&store_uri.parse().expect("a URI"), connect).await.expect("the store");
        ledger.init(&InitOptions::default()).await.expect("the ledger is set up");
        store.init().await.expect("the store is set up");
        fs::create_dir(folder.path().join("out")).expect("a directory");
        let mut variables: BTreeMap<_, _> =
            keys.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        variables.insert("SACKER_LEDGER", ledger_uri.to_owned());
        variables.insert("SACKER_STORE", store_uri.to_owned());
        Self { folder, ledger, store, variables }
    }

    /// Adds a version of [`PACKAGE`].
    pub(super) async fn add(&self, bytes: &[u8]) -> VersionRecord {
        self.add_as(PACKAGE, bytes, "app.jar", 0o100_644).await
    }

    /// Adds a version.
    pub(super) async fn add_as(
        &self,
        package: &str,
        bytes: &[u8],
        basename: &str,
        mode: u32,
    ) -> VersionRecord {
        let path = self.folder.path().join("upload");
        fs::write(&path, bytes).expect("the file is written");
        let (sha256, size) = (Sha256::of(bytes), bytes.len() as u64);
        self.store
            .put(BlobFile { path: &path, sha256, size, scan: None }, &|_| {})
            .await
            .expect("the blob is stored");
        let new = NewVersion {
            sha256,
            size,
            basename: basename.to_owned(),
            mode,
            metadata: BTreeMap::new(),
            added_by: "tests".to_owned(),
            if_latest: None,
            add_id: unique("add"),
        };
        self.ledger.add(&name(package), &new).await.expect("the version is added")
    }

    /// Moves a tag of [`PACKAGE`].
    pub(super) async fn tag(&self, tag: &str, to: &VersionRecord) {
        move_tag(self.ledger.as_ref(), tag, to).await;
    }

    /// The directory to fetch into.
    pub(super) fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// A path in the folder of this test.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The one file below the folder whose name contains `part`.
    pub(super) fn find(&self, part: &str) -> PathBuf {
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_str().is_some_and(|path| path.contains(part)) {
                    return path;
                }
            }
        }
        panic!("no file '{part}'");
    }

    /// Every name in [`Home::out`].
    pub(super) fn names(&self) -> Vec<String> {
        names(&self.out())
    }

    /// Another value for a variable of every later run; empty for none.
    pub(super) fn set(&mut self, variable: &'static str, value: impl Into<String>) -> &mut Self {
        self.variables.insert(variable, value.into());
        self
    }

    /// What a variable of every later run is.
    pub(super) fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// `sacker-init` with these arguments and nothing of this machine's environment.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sacker-init"));
        command.args(arguments).env_clear().envs(&self.variables).current_dir(self.out());
        command
    }

    /// Runs `sacker-init` to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("sacker-init runs").into()
    }
}

pub(super) async fn move_tag(ledger: &dyn Ledger, tag: &str, to: &VersionRecord) {
    let actor = Actor { by: "tests".to_owned(), reason: None, source: EventSource::Cli };
    let change = TagChange::new(Change::Move { to: to.version, hold: None }, actor);
    let tag = TagName::new(tag).expect("a tag");
    ledger.change_tag(&to.package, &tag, &change).await.expect("the tag is moved");
}

pub(super) fn name(package: &str) -> PackageName {
    PackageName::new(package).expect("a package name")
}
