//! A ledger with its store on one real backend, and `sacker` run on them in processes of its own.

use std::future::Future;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use sacker::connect::Connect;
use sacker::ledger::{self, InitOptions, Ledger};
use sacker::model::{LedgerUri, Numbering, Sha256};
use sacker::store::{self, Store};
use tokio::runtime::Runtime;

use crate::stores::collect::switch_versions_on;
use crate::support::ledgers::{Target, git_connect};
use crate::support::process::Folder;
use crate::support::testbed::{self, S3Server};
use crate::support::{eventually, unique};

pub(super) struct Site {
    runtime: Runtime,
    pub(super) target: Target,
    pub(super) ledger_uri: LedgerUri,
    pub(super) store_uri: String,
    pub(super) numbering: Numbering,
    connect: Connect,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) store: Arc<dyn Store>,
    /// Files of the clients, and the ledger and store where they are files.
    home: Folder,
}

/// What a run of `sacker` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// Exit code 0; its answer.
    Acknowledged(String),
    /// By SIGKILL.
    Killed,
    /// Any other way; the exit code, if there is one, and what it said.
    Failed(Option<i32>, String),
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) => Self::Acknowledged(String::from_utf8(output.stdout).expect("answers are text")),
            (_, Some(9)) => Self::Killed,
            (code, _) => Self::Failed(code, String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

impl Site {
    /// A new ledger and store, set up; nothing where the server is missing, which was said then.
    pub(super) fn open(target: Target) -> Option<Self> {
        let home = Folder::new("crashes");
        let (ledger, store, connect) = Self::place(target, home.path())?;
        let site = Self::at(target, &ledger, &store, connect, home);
        site.set_up();
        Some(site)
    }

    /// A ledger and a store that nobody made yet.
    pub(super) fn unmade(target: Target) -> Option<Self> {
        let home = Folder::new("crashes");
        let (ledger, store, connect) = Self::place(target, home.path())?;
        Some(Self::at(target, &ledger, &store, connect, home))
    }

    /// A ledger, and a store on S3 whose writers never write a blob twice: what is deleted there is hidden first. Times
    /// are as short as they can be.
    pub(super) fn create_only(target: Target) -> Option<Self> {
        let home = Folder::new("crashes");
        let (ledger, store, connect) = Self::place(target, home.path())?;
        let store = store + "&create_only=true&grace=2s";
        let site = Self::at(target, &ledger, &store, connect, home);
        site.set_up();
        let server = site.s3_server()?;
        site.wait_for(switch_versions_on(&server, site.bucket()));
        Some(site)
    }

    fn place(target: Target, home: &Path) -> Option<(String, String, Connect)> {
        let directory = |name: &str| format!("file://{}/{name}", home.display());
        match target {
            Target::Dynamo => {
                let server = testbed::dynamodb()?;
                Some((server.uri(&unique("crashes")), directory("store"), server.connect()))
            }
            Target::ZooKeeper => {
                let uri = testbed::zookeeper()?.uri(&unique("crashes"));
                Some((uri, directory("store"), Connect::default()))
            }
            Target::Minio | Target::Versitygw => {
                let server = if target == Target::Minio { testbed::minio()? } else { testbed::versitygw()? };
                let uri = |what: &str| server.uri(&unique(what));
                Some((uri("ledger"), uri("store"), server.connect()))
            }
            Target::Hdfs => {
                let store = testbed::hdfs()?.uri(&format!("/crashes/{}", unique("store")));
                Some((directory("ledger"), store, Connect::default()))
            }
            Target::Git => {
                testbed::git()?;
                let ledger = format!("git+file://{}/ledger", home.display());
                Some((ledger, directory("store"), git_connect(home)))
            }
            _ => Some((directory("ledger"), directory("store"), Connect::default())),
        }
    }

    /// On these places, whoever set them up.
    pub(super) fn at(
        target: Target,
        ledger_uri: &str,
        store_uri: &str,
        connect: Connect,
        home: Folder,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let ledger_uri: LedgerUri = ledger_uri.parse().expect("a ledger URI");
        let store = store_uri.parse().expect("a store URI");
        let (ledger, store) = runtime.block_on(async {
            let ledger = ledger::open(&ledger_uri, &connect).await.expect("the ledger opens");
            (ledger, store::open(&store, &connect).await.expect("the store opens"))
        });
        let numbering = match target {
            Target::Minio | Target::Versitygw => Numbering::Timestamp,
            _ => Numbering::Sequence,
        };
        let store_uri = store_uri.to_owned();
        Self { runtime, target, ledger_uri, store_uri, numbering, connect, ledger, store, home }
    }

    pub(super) fn set_up(&self) {
        self.wait_for(async {
            self.ledger.init(&InitOptions::default()).await.expect("the ledger is set up");
            self.store.init().await.expect("the store is set up");
        });
    }

    pub(super) fn wait_for<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A file that no other call gave, of `size` bytes, most of them zeros.
    pub(super) fn new_file(&self, size: u64) -> PathBuf {
        let path = self.path(&unique("file"));
        std::fs::write(&path, path.to_string_lossy().as_bytes()).expect("a file is written");
        if size > 0 {
            let file = std::fs::OpenOptions::new().write(true).open(&path).expect("it was just written");
            file.set_len(size).expect("it gets its size");
        }
        path
    }

    pub(super) fn command(&self, arguments: &[String]) -> Command {
        let (ledger, store) = (self.ledger_uri.to_string(), self.store_uri.as_str());
        let mut command = Command::new(env!("CARGO_BIN_EXE_sacker"));
        command.env_clear().args(["--quiet", "--ledger", &ledger, "--store", store]).args(arguments);
        command
            .env("HOME", self.home.path())
            .env("SACKER_USER", "crasher")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            if let Some(value) = self.connect.environment.get(name) {
                command.env(name, value);
            }
        }
        command
    }

    pub(super) fn run(&self, arguments: &[String]) -> Ended {
        self.command(arguments).output().expect("sacker starts").into()
    }

    /// Makes everything in a store of files older than any grace.
    #[expect(clippy::disallowed_methods, reason = "files keep the machine's time")]
    pub(super) fn age_blobs(&self) {
        if let Some(path) = self.hdfs_path("") {
            return self.wait_for(hdfs().make_old(&path));
        }
        let old = std::time::SystemTime::now() - std::time::Duration::from_hours(72);
        for entry in std::fs::read_dir(self.path("store")).expect("a store of files") {
            let path = entry.expect("an entry").path();
            let file = std::fs::OpenOptions::new().write(true).open(path);
            // A directory stays as it is.
            if let Ok(file) = file {
                file.set_modified(old).expect("it becomes old");
            }
        }
    }

    /// Puts what a dead writer left into a store of files, and what a dead collector left into one in HDFS.
    pub(super) fn leave_unfinished(&self) {
        let Some(unfinished) = self.hdfs_path("/_sacker/unfinished") else {
            std::fs::write(self.path("store/.unfinished-dead"), "half").expect("a file is written");
            return;
        };
        let taken = format!("/_sacker/condemned/{}.9-9.dead", Sha256::of(unique("taken").as_bytes()));
        let taken = self.hdfs_path(&taken).expect("it is in HDFS");
        self.wait_for(async {
            hdfs().write(&format!("{unfinished}/dead"), b"half").await;
            hdfs().make_old(&unfinished).await;
            // What was taken out of sight was not what had been seen: it goes back.
            hdfs().write(&taken, b"written again").await;
        });
    }

    /// A path of a store in HDFS.
    fn hdfs_path(&self, relative: &str) -> Option<String> {
        let path = self.store_uri.strip_prefix("hdfs://")?.split_once('/')?.1;
        Some(format!("/{path}{relative}"))
    }

    /// Deletes a blob of a store on S3 with all uploads of it that were begun: the dead leave more of large ones than a
    /// disk holds.
    pub(super) fn discard(&self, sha256: &Sha256) {
        let server = self.s3_server().expect("the server is there");
        let (bucket, key) = (self.bucket(), sha256.to_string());
        self.wait_for(async {
            let client = server.client().await;
            let uploads = client.list_multipart_uploads().bucket(bucket).prefix(&key).send().await;
            for upload in uploads.expect("uploads are listed").uploads() {
                let abort = client.abort_multipart_upload().bucket(bucket).key(&key);
                abort.set_upload_id(upload.upload_id.clone()).send().await.expect("an upload is given up");
            }
            client.delete_object().bucket(bucket).key(&key).send().await.expect("a blob is deleted");
        });
    }

    fn s3_server(&self) -> Option<S3Server> {
        if self.target == Target::Minio { testbed::minio() } else { testbed::versitygw() }
    }

    /// The bucket of a store on S3.
    fn bucket(&self) -> &str {
        self.store_uri.trim_start_matches("s3://").split(['/', '?']).next().unwrap_or_default()
    }

    /// Waits until what a client started that was killed has ended: its git goes on for a moment, and may write.
    pub(super) fn wait_for_orphans(&self) {
        if self.target != Target::Git {
            return;
        }
        let home = self.home().to_str().expect("test folders are UTF-8");
        let is_ours = |process: std::fs::DirEntry| {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            let is_git = words.iter().any(|word| word.ends_with("git") || word.contains("receive-pack"));
            // The reader of this very process lives as long as the site.
            is_git
                && words.iter().any(|word| word.contains(home))
                && !words.iter().any(|word| word == "cat-file")
        };
        let is_over = async || {
            let processes = std::fs::read_dir("/proc").expect("processes are listed").flatten();
            !processes.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()).any(is_ours)
        };
        self.wait_for(eventually("orphans have ended", std::time::Duration::from_secs(30), is_over));
    }

    /// What processes that died left behind in the places where files are: names of temporary files.
    pub(super) fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for (directory, prefix) in
            [("ledger/_sacker/tmp", ""), ("store", ".unfinished-"), (".", ".sacker-export-")]
        {
            let Ok(entries) = std::fs::read_dir(self.path(directory)) else { continue };
            let paths = entries.map(|entry| entry.expect("an entry"));
            let left = paths.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
            found.extend(left.map(|entry| entry.path()));
        }
        found
    }
}

fn hdfs() -> Arc<testbed::Hdfs> {
    testbed::hdfs().expect("the server is there")
}
