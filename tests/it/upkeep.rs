//! Garbage collection beside writers who know nothing of it: the trap step by step, and many of both at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sacker::clock::{Clock, SystemClock};
use sacker::connect::Connect;
use sacker::ledger::{InitOptions, Ledger, MemoryObjects, ObjectLedger};
use sacker::model::{NewVersion, Numbering, PackageName, Sha256};
use sacker::publish::Publisher;
use sacker::store::{self, BlobFile, Collect, Store};
use sacker::upkeep::gc::{Cycle, Report, Rules, collect};

use crate::stores::collect::switch_versions_on;
use crate::support::ledgers::file_uri;
use crate::support::process::Folder;
use crate::support::{testbed, unique};

mod storm;
mod trap;

/// The kinds of stores that collection treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Deletes under a lock.
    File,
    /// Deletes what it saw last: versitygw.
    Unversioned,
    /// Deletes by version id: MinIO.
    Versioned,
    /// Hides first: MinIO with versions, whose writers never write a blob twice.
    CreateOnly,
    /// Takes a blob out of sight, and looks at what it took.
    Hdfs,
}

/// A store, and a ledger in memory: what is looked at here are the blobs.
struct Place {
    store: Arc<dyn Store>,
    collected: Arc<dyn Collect>,
    ledgers: Vec<Arc<dyn Ledger>>,
    clock: Arc<dyn Clock>,
    folder: Folder,
}

impl Place {
    /// Nothing when the server is not there.
    async fn new(kind: Kind, grace: &str) -> Option<Self> {
        let folder = Folder::new("upkeep");
        let (uri, connect) = match kind {
            Kind::File => {
                (format!("file://{}/store?grace={grace}", folder.path().display()), Connect::default())
            }
            Kind::Hdfs => {
                let uri = testbed::hdfs()?.uri(&format!("/upkeep/{}", unique("store")));
                (format!("{uri}?grace={grace}"), Connect::default())
            }
            Kind::Unversioned | Kind::Versioned | Kind::CreateOnly => {
                let server =
                    if kind == Kind::Unversioned { testbed::versitygw()? } else { testbed::minio()? };
                let bucket = unique("store");
                let create_only = if kind == Kind::CreateOnly { "&create_only=true" } else { "" };
                let uri = server.uri(&bucket) + "&grace=" + grace + create_only;
                let plain =
                    store::open(&uri.parse().expect("a URI"), &server.connect()).await.expect("it opens");
                plain.init().await.expect("a bucket");
                if kind != Kind::Unversioned {
                    switch_versions_on(&server, &bucket).await;
                }
                (uri, server.connect())
            }
        };
        let uri = uri.parse().expect("a URI");
        let store = store::open(&uri, &connect).await.expect("it opens");
        store.init().await.expect("it is set up");
        let collected = store::open_for_collection(&uri, &connect).await.expect("it opens");
        let objects = MemoryObjects::new(Numbering::Sequence);
        let ledger = ObjectLedger::new(file_uri(Path::new("/memory")), objects, Connect::default());
        ledger.init(&InitOptions::default()).await.expect("init");
        let ledgers: Vec<Arc<dyn Ledger>> = vec![Arc::new(ledger)];
        Some(Self { store, collected, ledgers, clock: Arc::new(SystemClock), folder })
    }

    fn publisher(&self) -> Publisher<'_> {
        Publisher { ledger: &*self.ledgers[0], store: &*self.store, clock: &self.clock }
    }

    fn rules(&self) -> Rules {
        Rules::new(self.collected.timing(), self.collected.is_create_only())
    }

    async fn cycle(&self, store: &dyn Collect, rules: Rules) -> sacker::error::Result<Report> {
        let kept = BTreeMap::new();
        collect(&Cycle { store, ledgers: &self.ledgers, kept: &kept, rules, act: true, empty_ledgers: true })
            .await
    }

    fn file(&self, name: &str, content: &str) -> Blob {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        Blob { path, sha256: Sha256::of(content.as_bytes()), size: content.len() as u64 }
    }
}

/// A file to publish.
#[derive(Debug, Clone)]
struct Blob {
    path: PathBuf,
    sha256: Sha256,
    size: u64,
}

impl Blob {
    fn file(&self) -> BlobFile<'_> {
        BlobFile { path: &self.path, sha256: self.sha256, size: self.size, scan: None }
    }

    fn version(&self) -> NewVersion {
        NewVersion {
            sha256: self.sha256,
            size: self.size,
            basename: "f".to_owned(),
            mode: 0o100_644,
            metadata: BTreeMap::new(),
            added_by: "tester".to_owned(),
            if_latest: None,
            add_id: uuid::Uuid::new_v4().to_string(),
        }
    }
}

fn package(name: &str) -> PackageName {
    PackageName::new(name).expect("a name")
}
