//! How fast many statuses are written, beside a loop in this process that writes the same ones and does nothing else: the rows
//! op-scale, op-restart and op-fanout of `make bench`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sacker::environment::Environment;
use sacker::model::PackageName;
use serde_json::{Value, json};

use super::bench::Bench;
use super::process::Operator;
use super::scale::{add, in_parallel, set};
use crate::support::cluster::{Cluster, Kind, LEDGER, PACKAGE, TAG};
use crate::support::eventually;
use crate::support::tier;

/// SackerTags of the row op-scale, at a night's figures; a fan-out is half of it.
const OBJECTS: usize = 10_000;

/// Tags per package.
const TAGS: usize = 10;

/// Resident memory of the operator with that many, in bytes.
const MEMORY: u64 = 64 * 1024 * 1024;

/// The counter of SackerTags' statuses that were written.
const TAG_WRITES: &str = "sacker_status_writes_total{manager=\"sacker-tag-controller\"}";

/// Restarts, each after a bare reflector's start. An odd number has a middle.
const RESTARTS: usize = 5;

/// How often a counter is looked at. To answer costs the operator some milliseconds with that many objects.
const LOOK: Duration = Duration::from_millis(100);

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_mins(10);

fn package(index: usize) -> PackageName {
    PackageName::existing(format!("web/p{index}"))
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("objects have names")
}

/// Removes every status of a kind.
async fn clear(bench: &Bench<'_>, kind: Kind, objects: &[Value]) {
    let none = json!({ "status": null });
    in_parallel(
        objects
            .iter()
            .map(|object| bench.api.patch_status(kind, &bench.namespace, name_of(object), none.clone())),
    )
    .await;
}

/// The loop that everything is compared with.
async fn raw_loop(bench: &Bench<'_>, kind: Kind, objects: &[Value]) -> Duration {
    let start = Instant::now();
    in_parallel(
        objects
            .iter()
            .map(|object| bench.api.apply_status(kind, &bench.namespace, name_of(object), &object["status"])),
    )
    .await;
    start.elapsed()
}

/// How long it takes until a counter of the operator has come to `count`.
async fn until_counted(operator: &Operator, counter: &str, count: usize) -> Duration {
    let start = Instant::now();
    while operator.metric(counter) < count as u64 {
        assert!(start.elapsed() < LIMIT, "{counter} is {}, not {count}", operator.metric(counter));
        tokio::time::sleep(LOOK).await;
    }
    start.elapsed()
}

/// When (after `start`) the last status was written with which all SackerTags are `Ready`. An object may get two.
async fn until_written(bench: &Bench<'_>, operator: &Operator, count: usize, start: Instant) -> Duration {
    let mut least = count;
    loop {
        until_counted(operator, TAG_WRITES, least).await;
        let (elapsed, written) = (start.elapsed(), operator.metric(TAG_WRITES));
        if bench.api.list(TAG, &bench.namespace).await.iter().all(is_ready) {
            return elapsed;
        }
        least = usize::try_from(written).expect("a number of objects") + 1;
    }
}

/// All objects of a kind, as soon as each is `Ready`: an earlier status of one would be corrected by a restart.
async fn all_ready(bench: &Bench<'_>, kind: Kind) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let objects = bench.api.list(kind, &bench.namespace).await;
        let done = objects.iter().filter(|object| is_ready(object)).count();
        if done == objects.len() {
            return objects;
        }
        assert!(start.elapsed() < LIMIT, "{done} of {} are ready", objects.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// How long a process needs that lists all there is and does nothing else, from its start to its end.
fn bare_reflector(cluster: &Cluster, tags: usize) -> Duration {
    let released = Environment::of_process().get("SACKER_BENCH_REFLECTOR").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_BIN_EXE_sacker-operator")).with_file_name("examples/reflector");
    let mut command = Command::new(released.unwrap_or(beside));
    command.env("KUBECONFIG", cluster.kubeconfig());
    let start = Instant::now();
    let output = command.output().expect("the reflector starts");
    let time = start.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let listed = text.strip_prefix("objects=").and_then(|number| number.trim().parse::<usize>().ok());
    assert!(
        listed.is_some_and(|listed| listed > tags),
        "a list of {tags} SackerTags and a SackerLedger: {output:?}"
    );
    time
}

fn seconds(times: [Duration; 2]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64() / 2.0
}

#[tokio::test]
#[ignore = "benchmark: make bench"]
async fn many_first_statuses_and_a_restart() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let count = tier::figure(1_000, OBJECTS);
    let bench = Bench::on(&cluster, None).await;
    // Polls would be in the way.
    cluster.apply(&bench.ledger_yaml().replace("pollInterval: 1s", "pollInterval: 10m"));
    let ledger = bench.ledger.as_ref();
    in_parallel((0..count / TAGS).map(async |index| {
        add(ledger, &package(index)).await;
        for at in 0..TAGS {
            set(ledger, &package(index), &format!("t{at}"), 1).await;
        }
    }))
    .await;
    in_parallel((0..count).map(async |index| {
        let spec = json!({
            "ledger": bench.ledger_name, "package": package(index / TAGS).as_str(),
            "tag": format!("t{}", index % TAGS), "version": 1
        });
        bench.api.apply(TAG, &bench.namespace, &format!("t{index}"), json!({ "spec": spec })).await;
    }))
    .await;

    // They become its own.
    let first = Operator::start(&cluster, &[]);
    first.until_ready();
    // Not by its counter, in which the SackerLedger's own status is one.
    let objects = all_ready(&bench, TAG).await;
    first.kill();

    let mut raw = [Duration::ZERO; 2];
    let mut operator = [Duration::ZERO; 2];
    let mut memory = 0;
    // Once in each order: what slows down as it goes on slows both.
    for round in 0..2 {
        for is_raw in [round == 0, round == 1] {
            clear(&bench, TAG, &objects).await;
            if is_raw {
                raw[round] = raw_loop(&bench, TAG, &objects).await;
            } else {
                let start = Instant::now();
                let process = Operator::start(&cluster, &[]);
                process.until_ready();
                operator[round] = until_written(&bench, &process, count, start).await;
                memory = memory.max(process.memory());
                process.kill();
            }
        }
    }
    let ratio = seconds(raw) / seconds(operator);
    tier::summary(&format!(
        "op-scale objects={count} raw={raw:.1?} operator={operator:.1?} ratio={ratio:.2} memory={}MiB",
        memory / 1024 / 1024
    ));

    // A SackerLedger says every ten minutes when it was last read: that comes before the restarts, not among them.
    let unread = json!({ "status": { "lastPollTime": null } });
    bench.api.patch_status(LEDGER, "", &bench.ledger_name, unread).await;
    let process = Operator::start(&cluster, &[]);
    eventually("the SackerLedger says that all was read", LIMIT, async || {
        let ledger = bench.api.get(LEDGER, "", &bench.ledger_name).await.expect("it is there");
        ledger["status"]["packages"] == count / TAGS && ledger["status"]["lastPollTime"].is_string()
    })
    .await;
    process.kill();
    let (mut bare, mut restart) = ([Duration::ZERO; RESTARTS], [Duration::ZERO; RESTARTS]);
    let mut restarted = 0;
    let mut ready = Duration::ZERO;
    for round in 0..RESTARTS {
        bare[round] = bare_reflector(&cluster, count);
        let start = Instant::now();
        let process = Operator::start(&cluster, &[]);
        process.until_ready();
        ready = start.elapsed();
        until_counted(&process, "sacker_reconcile_total", count).await;
        restart[round] = start.elapsed();
        assert_eq!(process.metric("sacker_status_writes_total"), 0, "a restart writes");
        restarted = restarted.max(process.memory());
        process.kill();
    }
    bare.sort_unstable();
    restart.sort_unstable();
    let slower = restart[RESTARTS / 2].as_secs_f64() / bare[RESTARTS / 2].as_secs_f64();
    tier::summary(&format!(
        "op-restart objects={count} reflector={bare:.1?} ready={ready:.1?} restart={restart:.1?} ratio={slower:.2} \
         writes=0 memory={}MiB",
        restarted / 1024 / 1024
    ));
    assert!(ratio >= 0.6, "op-scale: {ratio:.2} of a raw loop, at least 0.6");
    assert!(slower <= 2.0, "op-restart: {slower:.2} times a bare reflector, at most 2");
    let most = memory.max(restarted);
    assert!(most <= MEMORY, "op-scale, op-restart: {most} bytes of memory, at most {MEMORY}");
}

#[tokio::test]
#[ignore = "benchmark: make bench"]
async fn one_package_that_many_objects_mirror_moves() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let count = tier::figure(500, OBJECTS / 2);
    let bench = Bench::on(&cluster, None).await;
    let ledger = bench.ledger.as_ref();
    add(ledger, &bench.package).await;
    add(ledger, &bench.package).await;
    set(ledger, &bench.package, "live", 1).await;
    let spec = json!({ "ledger": bench.ledger_name, "package": bench.package.as_str() });
    in_parallel((0..count).map(async |index| {
        bench.api.apply(PACKAGE, &bench.namespace, &format!("p{index}"), json!({ "spec": spec })).await;
    }))
    .await;
    let operator = Operator::start(&cluster, &[]);
    operator.until_ready();
    until_counted(&operator, "sacker_status_writes_total", count).await;

    let mut moved = [Duration::ZERO; 2];
    for (round, to) in [2, 1].into_iter().enumerate() {
        let before = usize::try_from(operator.metric("sacker_status_writes_total")).expect("a few");
        set(ledger, &bench.package, "live", to).await;
        // The poll's own pause is no part of it.
        until_counted(&operator, "sacker_status_writes_total", before + 1).await;
        moved[round] = until_counted(&operator, "sacker_status_writes_total", before + count).await;
    }
    operator.kill();
    let objects = all_ready(&bench, PACKAGE).await;
    let mut raw = [Duration::ZERO; 2];
    for time in &mut raw {
        clear(&bench, PACKAGE, &objects).await;
        *time = raw_loop(&bench, PACKAGE, &objects).await;
    }
    let ratio = seconds(raw) / seconds(moved);
    tier::summary(&format!("op-fanout objects={count} raw={raw:.1?} operator={moved:.1?} ratio={ratio:.2}"));
    assert!(ratio >= 0.6, "op-fanout: {ratio:.2} of a raw loop, at least 0.6");
}
