//! The election with clocks that are off, and between two that want the same lease at the same moment. The lease is the API
//! server's, the code the operator's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use sacker::controller::lease::{Elector, Guard, Lost, Timing};

use crate::support::clock::Skewed;
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::{tier, unique};

/// By how much clocks are off: a leader's and its standbys'.
const OFF: [i64; 3] = [-10, 0, 10];

/// The shortest that a lease can say.
const SHORTEST: Duration = Duration::from_secs(1);

/// One that takes part, as far as a test needs to know.
struct Candidate {
    identity: String,
    guard: Guard,
    elector: Elector,
}

fn candidate(leases: &Api<Lease>, lease: &str, identity: &str, minutes: i64, timing: Timing) -> Candidate {
    let guard = Guard::new(Arc::new(Skewed(SignedDuration::from_mins(minutes))));
    let elector = Elector::new(leases.clone(), lease, identity, timing, guard.clone());
    Candidate { identity: identity.to_owned(), guard, elector }
}

fn leases(client: &Client) -> Api<Lease> {
    Api::namespaced(client.clone(), "default")
}

async fn spec(leases: &Api<Lease>, name: &str) -> LeaseSpec {
    leases.get(name).await.expect("it is there").spec.expect("it has one")
}

/// A leader that lives, and standbys whose clocks are off in both directions: nobody takes what is renewed, whatever time
/// stands on it. Once it stops, they wait for as long as it promised, by no clock but their own monotonic one.
async fn keeps_what_it_renews(client: &Client, minutes: i64, length: Duration) -> usize {
    let leases = leases(client);
    let name = unique("live");
    let timing = Timing::from_duration(Duration::from_secs(2));
    let leader = candidate(&leases, &name, "leader", minutes, timing);
    let mut elector = leader.elector;
    let leading = tokio::spawn(async move { elector.run().await });
    tokio::time::timeout(PATIENCE, leader.guard.acquired()).await.expect("the first one leads");
    let standbys = OFF.map(|off| candidate(&leases, &name, &format!("standby{off}"), off, timing));
    let guards = standbys.each_ref().map(|standby| standby.guard.clone());
    let standing_by: Vec<_> = standbys
        .into_iter()
        .map(|mut standby| tokio::spawn(async move { standby.elector.run().await }))
        .collect();
    let end = Instant::now() + length;
    let mut looks = 0;
    while Instant::now() < end {
        assert!(leader.guard.allows(), "the leader whose clock is {minutes} min off lost its lease");
        assert!(guards.iter().all(|guard| !guard.allows()), "a live lease was stolen");
        let spec = spec(&leases, &name).await;
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("leader"), Some(1)));
        looks += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    leading.abort();
    // Cancelled means not renewed from here on; the last renewal may be older.
    let stopped = Instant::now();
    loop {
        let now: Vec<_> = guards.iter().filter(|guard| guard.allows()).collect();
        assert!(now.len() <= 1, "two lead");
        if now.len() == 1 {
            break;
        }
        assert!(stopped.elapsed() < PATIENCE, "nobody follows");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!leader.guard.allows(), "the old leader still believes in its lease");
    let waited = stopped.elapsed();
    assert!(waited + timing.retry * 2 >= timing.duration, "it was taken after {waited:?}");
    standing_by.iter().for_each(tokio::task::JoinHandle::abort);
    looks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_off_steal_no_lease() {
    let Some(cluster) = Cluster::start() else { return };
    let start = Instant::now();
    let client = cluster.client().await;
    let length = tier::figure(Duration::from_secs(6), Duration::from_mins(2));
    let looks = join_all(OFF.map(|minutes| keeps_what_it_renews(&client, minutes, length))).await;
    tier::summary(&format!(
        "R11 clocks=-10,0,10min leaders={} standbys={} looks={} steals=0 seconds={}",
        OFF.len(),
        OFF.len() * OFF.len(),
        looks.iter().sum::<usize>(),
        start.elapsed().as_secs()
    ));
}

/// What two candidates found: a lease that ran out, or one that was given up.
#[derive(Debug, Clone, Copy)]
enum Found {
    Expired,
    Released,
}

/// Two candidates, one 10 min ahead and one behind, want this lease: exactly one gets it, in one transition and not before
/// it ran out. Returns who.
async fn race(leases: &Api<Lease>, number: usize, found: Found) -> usize {
    let name = unique("race");
    let holder = match found {
        Found::Expired => Some("dead".to_owned()),
        Found::Released => None,
    };
    let spec_before = LeaseSpec {
        holder_identity: holder,
        lease_duration_seconds: Some(1),
        lease_transitions: Some(7),
        ..LeaseSpec::default()
    };
    let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    let before = Instant::now();
    leases
        .create(&PostParams::default(), &Lease { metadata, spec: Some(spec_before) })
        .await
        .expect("create");
    // They look as often as the API server answers, so that they meet; what they promise lasts longer than the race.
    let timing =
        Timing { retry: Duration::from_millis(10), ..Timing::from_duration(Duration::from_secs(15)) };
    let mut candidates = [-10, 10].map(|off| candidate(leases, &name, &format!("off{off}"), off, timing));
    let guards = candidates.each_ref().map(|candidate| candidate.guard.clone());
    let identities = candidates.each_ref().map(|candidate| candidate.identity.clone());
    let [one, other] = &mut candidates;
    let watching = async {
        loop {
            let leading: Vec<_> = guards.iter().filter(|guard| guard.allows()).collect();
            assert!(leading.len() <= 1, "{found:?} {number}: two lead");
            if leading.len() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waited = before.elapsed();
        if matches!(found, Found::Expired) {
            assert!(waited >= SHORTEST, "{number}: a live lease was taken after {waited:?}");
        }
        // The other one has its chance to be wrong: it looks again meanwhile.
        for _ in 0..20 {
            let transitions = spec(leases, &name).await.lease_transitions;
            assert_eq!(transitions, Some(8), "{found:?} {number}: it changed hands once");
        }
    };
    let lost: Option<Lost> = tokio::select! {
        () = async { tokio::time::timeout(PATIENCE, watching).await.expect("somebody leads") } => None,
        lost = one.elector.run() => Some(lost),
        lost = other.elector.run() => Some(lost),
    };
    assert!(lost.is_none(), "{found:?} {number}: {lost:?}");
    let winners: Vec<usize> = (0..2).filter(|index| guards[*index].allows()).collect();
    let [winner] = winners[..] else { panic!("{found:?} {number}: {} lead", winners.len()) };
    let after = spec(leases, &name).await;
    assert_eq!(after.holder_identity, Some(identities[winner].clone()), "{found:?} {number}");
    assert_eq!(after.lease_transitions, Some(8), "{found:?} {number}: it changed hands once");
    winner
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_want_a_lease_exactly_one_gets_it() {
    let Some(cluster) = Cluster::start() else { return };
    let start = Instant::now();
    let leases = leases(&cluster.client().await);
    let rounds = tier::figure(100, 1_000);
    for found in [Found::Expired, Found::Released] {
        let mut won = [0, 0];
        for batch in (0..rounds).collect::<Vec<_>>().chunks(10) {
            let races = batch.iter().map(|number| race(&leases, *number, found));
            for winner in join_all(races).await {
                won[winner] += 1;
            }
        }
        assert_eq!(won.iter().sum::<usize>(), rounds);
        tier::summary(&format!(
            "R11 race={found:?} rounds={rounds} won-behind={} won-ahead={} holders=1 steals=0 seconds={}",
            won[0],
            won[1],
            start.elapsed().as_secs()
        ));
    }
}
