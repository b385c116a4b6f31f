//! V3: each fault that the proxy can make, alone, against each backend that can have it. Operations end right or as an
//! honest error, and the history is true all the same.
//!
//! Not here: what spoils bytes on the way (`flip`, `swap`), which TLS keeps from ledgers and the digest from blobs; servers that
//! do not heed conditions or lie about the time, which `probe` refuses; `stale`, since no ledger asks for such reads.

use std::time::{Duration, Instant};

use super::history::{Answer, Operation, shown};
use super::racers::{Load, race};
use super::sites::{Backend, Site};
use super::{adds, client::TAG, latest, runtime, tags};
use crate::support::faultgate::{Action, Match, Refusal, Rule};
use crate::support::{tier, unique};

/// One fault, on which requests, and the exit codes that it may come to besides `Unavailable`.
struct Fault {
    name: &'static str,
    matches: Match,
    action: Action,
    codes: &'static [u8],
}

fn fault(name: &'static str, share: f64, action: Action) -> Fault {
    Fault { name, matches: Match::default().share(share), action, codes: &[] }
}

/// Requests that hang cost the client its patience; these are the shares that let a test end in time.
const OFTEN: f64 = 0.2;
const SELDOM: f64 = 0.05;

fn faults(backend: Backend) -> Vec<Fault> {
    let status = |name, refusal| fault(name, OFTEN, Action::Status(refusal));
    let mut faults = vec![
        status("throttling", Refusal::Throttling),
        status("internal", Refusal::Internal),
        status("unavailable", Refusal::Unavailable),
        Fault { codes: &[6], ..status("forbidden", Refusal::Forbidden) },
        Fault { codes: &[6], ..fault("signature_expired", SELDOM, Action::SignatureExpired) },
        fault("drop_before", OFTEN, Action::DropBefore),
        fault("drop_reply", OFTEN, Action::DropReply),
        fault("swallow", SELDOM, Action::Swallow),
        fault("blackhole", SELDOM, Action::Blackhole),
        fault("delay", OFTEN, Action::Delay(Duration::from_millis(100))),
        fault("hold", SELDOM, Action::Hold),
        fault("duplicate", OFTEN, Action::Duplicate),
        fault("truncate", OFTEN, Action::Truncate(10)),
        fault("cut", OFTEN, Action::Cut),
        fault("length_more", SELDOM, Action::Length(7)),
        fault("throttle", OFTEN, Action::Throttle(4000)),
        fault("stall", SELDOM, Action::Stall(10)),
        fault("reset", OFTEN, Action::Reset(0)),
        fault("reset_later", OFTEN, Action::Reset(20)),
    ];
    if backend == Backend::Dynamo {
        let transactions = Match::target("TransactWriteItems").share(0.5);
        let action = Action::Status(Refusal::TransactionConflict);
        faults.push(Fault { name: "transaction_conflict", matches: transactions, action, codes: &[] });
        faults.push(status("provisioned_throughput", Refusal::ProvisionedThroughputExceeded));
    } else {
        let action = Action::Status(Refusal::Conflict409);
        faults.push(Fault {
            name: "conflict_409",
            matches: Match::method("PUT").share(OFTEN),
            action,
            codes: &[],
        });
        faults.push(status("slow_down", Refusal::SlowDown));
    }
    faults
}

const CLIENTS: usize = 8;

/// Operations of each client between two looks at how often the fault was made.
fn round_length() -> usize {
    tier::figure(4, 24)
}

/// Rounds after which a fault that is not made often enough is a broken test.
const ROUNDS: usize = 400;

async fn meet(backend: Backend, fault: Fault, needed: u64, seed: u64) -> Option<(u64, usize)> {
    let mut site = Site::open(backend).await?;
    site.deadline = Duration::from_secs(3);
    let hit = fault.action.name();
    let site = site.with_gate(seed, vec![Rule::new(fault.matches, fault.action)]);
    let gate = site.gate.clone().expect("a server has a gate");
    let release = tokio::spawn({
        let gate = gate.clone();
        async move {
            loop {
                // Often enough that a held request is late, not lost.
                tokio::time::sleep(Duration::from_millis(50)).await;
                gate.release();
            }
        }
    });
    let (mut hits, mut operations) = (0, 0);
    for round in 0..ROUNDS {
        let package = unique("v3");
        let load = Load::Mixed(round_length(), seed.wrapping_add((round as u64) << 32));
        let history = race(&site, CLIENTS, &package, &[], load).await;
        let truth = site.truth(&package).await;
        let mut wrong: Vec<String> =
            history.iter().filter(|operation| !is_honest(operation, fault.codes)).map(shown).collect();
        wrong.extend(adds::check(&history, &package, &truth, site.is_dense()));
        wrong.extend(latest::check(&history, &package, &truth));
        wrong.extend(tags::check(&history, &package, TAG, &truth));
        let name = fault.name;
        assert!(wrong.is_empty(), "{backend:?}, {name}, SACKER_SEED={seed}:\n{}", wrong.join("\n"));
        operations += history.len();
        let entries = gate.take_log();
        let was_hit = |action: &str| action.split('+').any(|action| action == hit);
        hits += entries.iter().filter(|entry| was_hit(&entry.action)).count() as u64;
        if hits >= needed {
            break;
        }
    }
    release.abort();
    assert!(hits >= needed, "{}: only {hits} hits on {backend:?}", fault.name);
    Some((hits, operations))
}

/// Whether the answer is one that the operation may end with under this fault.
fn is_honest(operation: &Operation, codes: &[u8]) -> bool {
    match &operation.answer {
        None => false,
        Some(Answer::Failed { code, .. }) => *code == 7 || codes.contains(code),
        Some(_) => true,
    }
}

fn every_fault(backend: Backend) {
    let runtime = runtime();
    let seed = tier::seed(&format!("histories::faults {backend:?}"));
    let needed = tier::figure(20, 1000);
    let started = Instant::now();
    let met = faults(backend).into_iter().map(|fault| async move {
        let name = fault.name;
        (name, tokio::spawn(meet(backend, fault, needed, seed)).await)
    });
    // All at once: most of the time is the patience of clients whose request hangs.
    let met: Vec<_> = runtime.block_on(futures::future::join_all(met));
    let seconds = started.elapsed().as_secs_f64();
    let mut failed = Vec::new();
    for (name, result) in met {
        match result {
            Ok(Some((hits, operations))) => tier::summary(&format!(
                "V3 backend={backend:?} action={name} seed={seed} operations={operations} faults={hits} violations=0 \
                 seconds={seconds:.0}"
            )),
            Ok(None) => return,
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn dynamo() {
    every_fault(Backend::Dynamo);
}

#[test]
fn versitygw() {
    every_fault(Backend::Versitygw);
}

#[test]
#[ignore = "soak: versitygw stands for S3 in every run"]
fn minio() {
    every_fault(Backend::Minio);
}
