//! The ledgers that the conformance suite runs on.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use sacker::connect::Connect;
use sacker::ledger::{self, InitOptions, Ledger, MemoryObjects, ObjectLedger};
use sacker::model::{LedgerUri, Numbering};
use tokio::sync::OnceCell;

use super::git_http::GitHttp;
use super::process::Folder;
use super::{environment, testbed, unique};

/// One kind of ledger on one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Memory,
    File,
    Minio,
    MinioSequence,
    Versitygw,
    Dynamo,
    ZooKeeper,
    /// Files; a store that belongs to it is in HDFS.
    Hdfs,
    Git,
    /// The same repositories through smart HTTP.
    GitHttp,
}

/// A ledger that is set up and ready.
pub(crate) struct Opened {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) uri: LedgerUri,
    pub(crate) connect: Connect,
    pub(crate) numbering: Numbering,
    /// The directory it lives in, removed with this.
    pub(crate) home: Option<Folder>,
}

/// Where all cases of one target keep their packages: a bucket or a pair of tables, set up once.
type Place = OnceCell<String>;

/// How many repositories the cases are spread over: writers to one take turns.
const REPOSITORIES: usize = 4;

impl Target {
    /// A ledger on this target; nothing where its server is missing, which was said then.
    ///
    /// Each call opens a client of its own: connections belong to the runtime of the test that made them.
    pub(crate) async fn open(self) -> Option<Opened> {
        static MINIO: Place = Place::const_new();
        static MINIO_SEQUENCE: Place = Place::const_new();
        static VERSITYGW: Place = Place::const_new();
        static DYNAMO: Place = Place::const_new();
        static ZOOKEEPER: Place = Place::const_new();
        static GIT: [Place; REPOSITORIES] = [const { Place::const_new() }; REPOSITORIES];
        static GIT_HOME: OnceLock<Folder> = OnceLock::new();
        static GIT_SERVER: OnceLock<GitHttp> = OnceLock::new();
        static GIT_NEXT: AtomicUsize = AtomicUsize::new(0);
        match self {
            Self::Memory => {
                let uri = file_uri(Path::new("/memory"));
                let objects = MemoryObjects::new(Numbering::Sequence);
                let ledger = Arc::new(ObjectLedger::new(uri.clone(), objects, Connect::default()));
                ledger.init(&InitOptions::default()).await.expect("init");
                let connect = Connect::default();
                Some(Opened { ledger, uri, connect, numbering: Numbering::Sequence, home: None })
            }
            Self::File | Self::Hdfs => {
                let home = Folder::new("ledger");
                let mut opened = open(file_uri(home.path()), Connect::default(), Numbering::Sequence).await;
                opened.ledger.init(&InitOptions::default()).await.expect("init");
                opened.home = Some(home);
                Some(opened)
            }
            Self::Minio => {
                let server = testbed::minio()?;
                let uri = set_up(&MINIO, server.uri(&unique("ledger")), &server.connect()).await;
                Some(open(uri, server.connect(), Numbering::Timestamp).await)
            }
            Self::MinioSequence => {
                let server = testbed::minio()?;
                let uri = server.uri(&format!("{}/a/prefix", unique("ledger"))) + "&versions=sequence";
                let uri = set_up(&MINIO_SEQUENCE, uri, &server.connect()).await;
                Some(open(uri, server.connect(), Numbering::Sequence).await)
            }
            Self::Versitygw => {
                let server = testbed::versitygw()?;
                let uri = set_up(&VERSITYGW, server.uri(&unique("ledger")), &server.connect()).await;
                Some(open(uri, server.connect(), Numbering::Timestamp).await)
            }
            Self::Dynamo => {
                let server = testbed::dynamodb()?;
                let uri = set_up(&DYNAMO, server.uri(&unique("ledger")), &server.connect()).await;
                Some(open(uri, server.connect(), Numbering::Sequence).await)
            }
            Self::ZooKeeper => {
                let uri = testbed::zookeeper()?.uri(&format!("{}/in/here", unique("ledger")));
                let uri = set_up(&ZOOKEEPER, uri, &Connect::default()).await;
                Some(open(uri, Connect::default(), Numbering::Sequence).await)
            }
            Self::Git | Self::GitHttp => {
                testbed::git()?;
                let home = GIT_HOME.get_or_init(|| Folder::new("git")).path();
                let connect = git_connect(home);
                let number = GIT_NEXT.fetch_add(1, Ordering::Relaxed) % REPOSITORIES;
                let uri = format!("git+file://{}/ledger-{number}", home.display());
                let mut uri = set_up(&GIT[number], uri, &connect).await;
                if self == Self::GitHttp {
                    let server = GIT_SERVER.get_or_init(|| GitHttp::start(home));
                    uri = server.uri(&format!("ledger-{number}")).parse().expect("a ledger URI");
                }
                Some(open(uri, connect, Numbering::Sequence).await)
            }
        }
    }
}

/// Settings whose cache is in this folder.
pub(crate) fn git_connect(home: &Path) -> Connect {
    let home = home.to_str().expect("test folders are UTF-8");
    Connect { environment: environment(&[("HOME", home)]), ..Connect::default() }
}

async fn set_up(place: &Place, uri: String, connect: &Connect) -> LedgerUri {
    let init = || async {
        let parsed = uri.parse().expect("a ledger URI");
        let ledger = ledger::open(&parsed, connect).await.expect("open");
        let done = ledger.init(&InitOptions::default()).await.expect("init");
        assert!(!done.is_empty(), "init says what it did");
        uri
    };
    place.get_or_init(init).await.parse().expect("a ledger URI")
}

async fn open(uri: LedgerUri, connect: Connect, numbering: Numbering) -> Opened {
    let ledger = ledger::open(&uri, &connect).await.expect("open");
    Opened { ledger, uri, connect, numbering, home: None }
}

pub(crate) fn file_uri(path: &Path) -> LedgerUri {
    format!("file://{}", path.display()).parse().expect("a file URI")
}
