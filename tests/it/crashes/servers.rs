//! Servers that are killed under a load and started again on the same data: what was acknowledged is there.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::forgetting::{Forgetting, NOTHING};
use super::site::Site;
use super::story::Story;
use crate::support::ledgers::Target;
use crate::support::process::Folder;
use crate::support::testbed::{self, Server};
use crate::support::{eventually, tier, unique};

const CLIENTS: usize = 3;

/// How a server is started, and what is on it.
struct Kind {
    target: Target,
    component: &'static str,
    ports: usize,
    /// Flags that keep its data in `folder`.
    flags: fn(folder: &Path) -> Vec<String>,
    /// Whether it acknowledges before its data would outlive it.
    forgets: bool,
}

const DYNAMO: Kind = Kind {
    target: Target::Dynamo,
    component: "dynamodb-local",
    ports: 1,
    flags: |folder| vec!["-dbPath".into(), folder.display().to_string()],
    forgets: true,
};
const MINIO: Kind =
    Kind { target: Target::Minio, component: "minio", ports: 2, flags: |_| Vec::new(), forgets: false };
const VERSITYGW: Kind = Kind {
    target: Target::Versitygw,
    component: "versitygw",
    ports: 1,
    flags: |_| Vec::new(),
    forgets: false,
};
const ZOOKEEPER: Kind = Kind {
    target: Target::ZooKeeper,
    component: "zookeeper",
    ports: 1,
    flags: |_| Vec::new(),
    forgets: false,
};

impl Kind {
    fn start(&self, folder: &Path) -> (Server, Vec<u16>) {
        let flags = (self.flags)(folder);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let server = Server::start(self.component, folder, self.ports, &[], &flags);
        let ports = server.ports().to_vec();
        (server, ports)
    }

    /// On the same ports, as soon as they are free.
    fn start_again(&self, folder: &Path, ports: &[u16]) -> Server {
        let flags = (self.flags)(folder);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut log = String::new();
        for _ in 0..5 {
            match Server::start_on(self.component, folder, ports.to_vec(), &flags) {
                Ok(server) => return server,
                Err(output) => log = output,
            }
        }
        panic!("{} does not start again; the end of its log:\n{log}", self.component);
    }

    fn site(&self, server: &Server) -> Site {
        let home = Folder::new("crashes");
        let directory = format!("file://{}/store", home.path().display());
        let bucket = |what| format!("s3://{}?endpoint={}", unique(what), server.url());
        let (ledger, store) = match self.target {
            Target::Dynamo => {
                (format!("dynamo://us-east-1/{}?endpoint={}", unique("crashes"), server.url()), directory)
            }
            Target::ZooKeeper => (testbed::ZooKeeperServer::of(server).uri(&unique("crashes")), directory),
            _ => (bucket("ledger"), bucket("store")),
        };
        let site = Site::at(self.target, &ledger, &store, testbed::connect(), home);
        site.set_up();
        site
    }
}

/// One client at work until it is told to stop: how many of its requests were acknowledged.
fn work(story: &mut Story<'_>, seed: u64, stop: &AtomicBool, acknowledged: &AtomicU64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !stop.load(Ordering::Relaxed) {
        let step = story.any_step(&mut random);
        let site = story.site;
        if story.attempt(&step, |arguments| site.run(&arguments)) {
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn killed_servers(kind: &Kind, kills: usize) {
    if !testbed::is_there(kind.component) {
        return;
    }
    let seed = tier::seed(&format!("crashes::servers::{:?}", kind.target));
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = Folder::new("killed-server");
    let (mut server, ports) = kind.start(folder.path());
    let site = kind.site(&server);
    let forgetting = Forgetting::new();
    let forgotten = if kind.forgets { &forgetting } else { &NOTHING };
    let new_story = |_| Story::that_is_forgotten(&site, forgotten);
    let mut stories: Vec<Story<'_>> = (0..CLIENTS).map(new_story).collect();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    std::thread::scope(|scope| {
        // Also when an assertion below fails: the clients would work for ever.
        let _stop = Stop(&stop);
        for story in &mut stories {
            let (stop, acknowledged, seed) = (&stop, &acknowledged, random.u64(..));
            scope.spawn(move || work(story, seed, stop, acknowledged));
        }
        for _ in 0..kills {
            let before = acknowledged.load(Ordering::Relaxed);
            let works = async || acknowledged.load(Ordering::Relaxed) >= before + CLIENTS as u64;
            waiting.block_on(eventually("clients are served", Duration::from_mins(1), works));
            // The random time is the fault, not a wait for anything.
            std::thread::sleep(Duration::from_millis(random.u64(0..200)));
            server.process().kill();
            forgetting.killed();
            server = kind.start_again(folder.path(), &ports);
        }
        let before = acknowledged.load(Ordering::Relaxed);
        let works = async || acknowledged.load(Ordering::Relaxed) > before;
        waiting.block_on(eventually("clients are served", Duration::from_mins(1), works));
    });
    for story in &stories {
        story.check(&format!("{:?} after {kills} kills of the server", kind.target));
    }
    tier::summary(&format!(
        "V5-servers backend={:?} seed={seed} operations={} kills={kills} forgotten={} violations=0 seconds={}",
        kind.target,
        acknowledged.load(Ordering::Relaxed),
        forgotten.excused(),
        started.elapsed().as_secs()
    ));
    drop(server);
}

/// Tells the clients to stop when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn dynamo() {
    killed_servers(&DYNAMO, tier::figure(2, 50));
}

#[test]
fn zookeeper() {
    killed_servers(&ZOOKEEPER, tier::figure(20, 50));
}

#[test]
fn minio() {
    killed_servers(&MINIO, tier::figure(2, 50));
}

#[test]
fn versitygw() {
    killed_servers(&VERSITYGW, tier::figure(2, 50));
}
