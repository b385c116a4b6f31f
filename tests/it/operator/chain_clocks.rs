//! Tags that follow, where the operator's own clock is off: a soak takes as long as it should, no more and no less.
//!
//! The operator runs in this process, on a runtime of its own, since a clock can only be given to it there. Everybody else,
//! the file system among them, has the right time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use sacker::clock::{Clock as _, SystemClock};
use sacker::connect::Connect;
use sacker::controller::context::Name;
use sacker::controller::lease::Timing;
use sacker::controller::operator::{self, Election, Settings};
use sacker::environment::Environment;
use sacker::model::{Event, Version};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, POLL};
use super::chain::{WRITE, held};
use crate::support::clock::Skewed;
use crate::support::cluster::Cluster;
use crate::support::tier;

const SOAK: Duration = Duration::from_secs(3);

/// What a restart takes beside its soak: its lease, its caches, and a poll.
const RESTART: Duration = Duration::from_secs(5);

/// An operator whose clock is off.
struct Off(Option<Runtime>);

impl Off {
    fn start(kubeconfig: PathBuf, off: SignedDuration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.spawn(async move {
            let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            let client = Client::try_from(config.expect("a complete kubeconfig")).expect("a client");
            let ended = operator::run(client, settings(off), CancellationToken::new()).await;
            panic!("nobody asked it to end: {ended:?}");
        });
        Self(Some(runtime))
    }
}

/// Ends as by a crash: nothing it had begun goes on, and it gives up no lease.
impl Drop for Off {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn settings(off: SignedDuration) -> Settings {
    Settings {
        controllers: BTreeSet::from([Name::Tag, Name::Resolver, Name::Ledger]),
        namespace: None,
        cluster_name: Some("clocks".into()),
        http_address: ([127, 0, 0, 1], 0).into(),
        trust_requested_by: false,
        poll_interval: None,
        watch_timeout: Duration::from_mins(1),
        election: Some(Election {
            namespace: "default".into(),
            name: "sacker-operator".into(),
            identity: "one".into(),
            // Who comes back under its own name does not wait for it.
            timing: Timing::default(),
        }),
        connect: Connect {
            clock: Arc::new(Skewed(off)),
            environment: Environment::default(),
            instance_metadata: false,
            ..Connect::default()
        },
    }
}

/// A soak from one tag to the one that follows it: when it began and ended, by the right time.
struct Soak {
    version: Version,
    began: Timestamp,
    ended: Timestamp,
}

/// The soaks that `follower` made of what `followed` says. Each history was stamped by a clock that was off by so much.
fn soaks(
    followed: &[Event],
    followed_off: SignedDuration,
    follower: &[Event],
    off: SignedDuration,
) -> Vec<Soak> {
    let soak = |event: &Event| {
        let version = event.to.expect("it is never removed");
        let began = followed.iter().find(|event| event.to == Some(version)).expect("it was there").at;
        if let Some(held) = held(followed, version) {
            assert!(held + WRITE >= SOAK, "{version} was held for {held:?} only, and followed");
        }
        Soak { version, began: began - followed_off, ended: event.at - off }
    };
    follower.iter().map(soak).collect()
}

async fn chain(minutes: i64) {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let start = Instant::now();
    let seed = tier::seed(&format!("a chain of followers, {minutes} min off"));
    let mut random = fastrand::Rng::with_seed(seed);
    let bench = Bench::on(&cluster, None).await;
    let off = SignedDuration::from_mins(minutes);
    let run = || Off::start(cluster.kubeconfig(), off);
    let mut operator = run();
    // One is moved by people, whose clocks are right, the other by the operator itself.
    bench.apply_tag("live", "follow: {tag: canary, soak: 3s}");
    bench.apply_tag("first", "follow: {tag: latest}");
    bench.apply_tag("second", "follow: {tag: first, soak: 3s}");
    let uploads = tier::figure(6, 60);
    let mut restarts: Vec<Timestamp> = Vec::new();
    for upload in 1..=uploads {
        assert_eq!(bench.add().await.version.get(), upload);
        bench.move_by_hand("canary", upload).await;
        bench.until_applied("first", upload).await;
        // Some are replaced before they soaked, some after: the moment is what the seed is for.
        tokio::time::sleep(Duration::from_millis(random.u64(0..6_000))).await;
        if upload % 2 == 0 {
            drop(operator);
            restarts.push(SystemClock.now());
            operator = run();
        }
    }
    for tag in ["live", "second"] {
        bench.until_applied(tag, uploads).await;
    }
    drop(operator);

    let right = SignedDuration::ZERO;
    let by_hand = soaks(&bench.history("canary").await, right, &bench.history("live").await, off);
    let by_itself = soaks(&bench.history("first").await, off, &bench.history("second").await, off);
    let (mut latest, mut latest_restarted) = (Duration::ZERO, Duration::ZERO);
    for Soak { version, began, ended } in by_hand.iter().chain(&by_itself) {
        let waited = ended.duration_since(*began);
        assert!(
            !waited.is_negative() && waited.unsigned_abs() >= SOAK,
            "{version} came early, after {waited:?}, by a clock {minutes} min off"
        );
        let late = waited.unsigned_abs().saturating_sub(SOAK);
        // A clock that is behind says nothing about what was before the process: it sees the whole soak itself.
        if restarts.iter().any(|restart| began <= restart && restart <= ended) {
            assert!(late <= SOAK + RESTART + POLL, "{version} came {late:?} late after a restart");
            latest_restarted = latest_restarted.max(late);
        } else {
            assert!(late <= POLL, "{version} came {late:?} late, by a clock {minutes} min off");
            latest = latest.max(late);
        }
    }
    tier::summary(&format!(
        "R30 clock={minutes:+}min seed={seed} uploads={uploads} followed={} restarts={} early=0 latest={latest:?} \
         latest-restarted={latest_restarted:?} seconds={}",
        by_hand.len() + by_itself.len(),
        restarts.len(),
        start.elapsed().as_secs()
    ));
}

#[tokio::test]
async fn a_clock_that_is_ahead_moves_nothing_early() {
    chain(10).await;
}

#[tokio::test]
async fn a_clock_that_is_behind_moves_nothing_late() {
    chain(-10).await;
}
