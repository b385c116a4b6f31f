//! Where histories are made: a ledger on a real server with packages of its own, as clients reach it (through the fault
//! proxy, where there is one) and as it is read afterwards (directly).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sacker::ledger::{self, InitOptions, Ledger};
use sacker::model::{Numbering, PackageName, TagName};

use super::client::TAG;
use super::history::Truth;
use super::worker::connect;
use crate::support::faultgate::{Action, Gate, Match, Refusal, Rule, TcpFault, TcpGate};
use crate::support::git_http::GitHttp;
use crate::support::process::Folder;
use crate::support::testbed::{self, S3Server};
use crate::support::unique;

/// A backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    File,
    Dynamo,
    Versitygw,
    Minio,
    VersitygwSequence,
    MinioSequence,
    ZooKeeper,
    /// A bare repository in a directory.
    Git,
    /// The same, reached through smart HTTP.
    GitHttp,
}

/// A ledger that is set up.
pub(crate) struct Site {
    pub(crate) backend: Backend,
    /// The ledger's URI as clients use it.
    pub(crate) uri: String,
    /// The same ledger without anything in between.
    pub(crate) direct: Arc<dyn Ledger>,
    pub(crate) variables: BTreeMap<String, String>,
    /// How long clients try.
    pub(crate) deadline: Duration,
    /// What clients reach the server through; a directory has no server.
    pub(crate) gate: Option<Gate>,
    /// The same for a server that does not speak HTTP.
    connections: Option<TcpGate>,
    /// What serves a repository.
    server: Option<GitHttp>,
    home: Folder,
}

/// Faults on this share of the requests, of every kind that `backend` can have by itself: replies that are lost, refusals
/// for load, connections that are reset, delays, and writes of others that are under way.
pub(crate) fn usual_faults(backend: Backend, share: f64) -> Vec<Rule> {
    let all = |part: f64, action| Rule::new(Match::default().share(share * part), action);
    let beside = match backend {
        Backend::GitHttp => all(0.1, Action::Status(Refusal::Internal)),
        Backend::Dynamo => {
            let transactions = Match::target("TransactWriteItems").share(share);
            Rule::new(transactions, Action::Status(Refusal::TransactionConflict))
        }
        _ => Rule::new(Match::method("PUT").share(share * 0.2), Action::Status(Refusal::Conflict409)),
    };
    vec![
        all(0.2, Action::Delay(Duration::from_millis(50))),
        beside,
        all(0.3, Action::DropReply),
        all(0.15, Action::Status(Refusal::Throttling)),
        all(0.1, Action::Status(Refusal::Unavailable)),
        all(0.1, Action::Reset(0)),
    ]
}

impl Site {
    /// A ledger of its own on `backend`; nothing where its server is missing, which was said then.
    pub(crate) async fn open(backend: Backend) -> Option<Self> {
        let home = Folder::new("histories");
        let keys = |access: &str, secret: &str| {
            let pairs = [("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret)];
            let none = [("AWS_EC2_METADATA_DISABLED", "true")];
            pairs.iter().chain(&none).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let s3 = |server: S3Server, is_sequence: bool| {
            let uri = server.uri(&unique("histories")) + if is_sequence { "&versions=sequence" } else { "" };
            (uri, keys(server.access_key, server.secret_key))
        };
        let mut served = None;
        let (uri, variables) = match backend {
            Backend::Git | Backend::GitHttp => {
                testbed::git()?;
                let cache = home.path().join("cache").display().to_string();
                let variables = BTreeMap::from([("XDG_CACHE_HOME".to_owned(), cache)]);
                (format!("git+file://{}/ledger", home.path().display()), variables)
            }
            Backend::File => (format!("file://{}/ledger", home.path().display()), BTreeMap::new()),
            Backend::Dynamo => {
                let server = testbed::dynamodb()?;
                (server.uri(&unique("histories")), keys(server.access_key, server.secret_key))
            }
            Backend::Versitygw => s3(testbed::versitygw()?, false),
            Backend::VersitygwSequence => s3(testbed::versitygw()?, true),
            Backend::Minio => s3(testbed::minio()?, false),
            Backend::MinioSequence => s3(testbed::minio()?, true),
            Backend::ZooKeeper => (testbed::zookeeper()?.uri(&unique("histories")), BTreeMap::new()),
        };
        let deadline = Duration::from_secs(30);
        let parsed = uri.parse().expect("a ledger URI");
        let direct = ledger::open(&parsed, &connect(&variables, deadline)).await.expect("open");
        direct.init(&InitOptions::default()).await.expect("init");
        std::fs::create_dir(home.path().join("store")).expect("a store");
        let uri = if backend == Backend::GitHttp {
            served.insert(GitHttp::start(home.path())).uri("ledger")
        } else {
            uri
        };
        Some(Self {
            backend,
            uri,
            direct,
            variables,
            deadline,
            gate: None,
            connections: None,
            server: served,
            home,
        })
    }

    /// Lets clients reach the server through a gate with these rules from now on. A directory has none, and one that passes
    /// bytes has faults of its own.
    pub(crate) fn with_gate(mut self, seed: u64, rules: Vec<Rule>) -> Self {
        if self.backend == Backend::ZooKeeper {
            return self.with_broken_connections(seed);
        }
        if let Some(server) = &self.server {
            let gate = Gate::start(&server.url(), seed);
            gate.set_rules(rules);
            self.uri = self.uri.replace(&server.url(), &gate.url());
            self.gate = Some(gate);
        } else if let Some((_, endpoint)) = self.uri.split_once("endpoint=") {
            let endpoint = endpoint.split('&').next().unwrap_or(endpoint).to_owned();
            let gate = Gate::start(&endpoint, seed);
            gate.set_rules(rules);
            self.uri = self.uri.replace(&endpoint, &gate.url());
            self.gate = Some(gate);
        }
        self
    }

    /// Lets clients reach the server through connections that break off in the middle of an answer, again and again; a few
    /// come late, or stay without an answer until the client gives them up.
    fn with_broken_connections(mut self, seed: u64) -> Self {
        let address = self.uri.trim_start_matches("zk://").split('/').next().expect("a server").to_owned();
        let gate = TcpGate::start(&address, "127.0.0.1:0").expect("a gate");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut fault = || match random.u8(..100) {
            0..3 => TcpFault::SwallowReply,
            3..13 => TcpFault::Delay(Duration::from_millis(20)),
            _ => TcpFault::Reset(random.u64(50..20_000)),
        };
        let faults: Vec<TcpFault> = (0..100_000).map(|_| fault()).collect();
        gate.script(&faults);
        self.uri = self.uri.replace(&address, &gate.address());
        self.connections = Some(gate);
        self
    }

    /// A folder of its own, removed with it.
    pub(crate) fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// A store beside the ledger, for the command line.
    pub(crate) fn store(&self) -> String {
        format!("file://{}/store", self.home.path().display())
    }

    /// Whether versions are 1, 2, 3, ...
    pub(crate) fn is_dense(&self) -> bool {
        self.numbering() == Numbering::Sequence
    }

    fn numbering(&self) -> Numbering {
        match self.backend {
            Backend::Versitygw | Backend::Minio => Numbering::Timestamp,
            Backend::File
            | Backend::Dynamo
            | Backend::VersitygwSequence
            | Backend::MinioSequence
            | Backend::ZooKeeper
            | Backend::Git
            | Backend::GitHttp => Numbering::Sequence,
        }
    }

    /// A client's own connection to the ledger.
    pub(crate) async fn client(&self) -> Arc<dyn Ledger> {
        let uri = self.uri.parse().expect("a ledger URI");
        ledger::open(&uri, &connect(&self.variables, self.deadline)).await.expect("open")
    }

    /// Waits until nothing that clients sent is under way any more.
    pub(crate) async fn drain(&self) {
        if let Some(gate) = &self.gate {
            gate.drain().await;
            // Faults are counted apart; a log of a whole soak would fill the memory.
            drop(gate.take_log());
        }
    }

    /// How many faults were made.
    pub(crate) fn faults(&self) -> u64 {
        let connections = self.connections.as_ref().map_or(0, |gate| gate.connections() as u64);
        self.gate.as_ref().map_or(connections, |gate| gate.hits().values().sum())
    }

    /// What the ledger says about a package.
    pub(crate) async fn truth(&self, package: &str) -> Truth {
        let package = PackageName::existing(package.to_owned());
        let versions = self.direct.versions(&package).await.expect("versions");
        let tag = TagName::existing(TAG.to_owned());
        let events = match self.direct.history(&package, &tag).await {
            Ok(events) => events,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => panic!("{error}"),
        };
        Truth {
            versions: versions.into_iter().map(Into::into).collect(),
            events: BTreeMap::from([(TAG.to_owned(), events)]),
        }
    }
}
