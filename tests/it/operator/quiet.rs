//! Where nothing changes, nothing is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::bench::{Bench, Conditions};
use super::process::Operator;
use crate::support::cluster::{CONFIG_MAP, Cluster, EVENT, LEDGER, PACKAGE, TAG};

/// How long it is looked at: several polls.
const QUIET: Duration = Duration::from_secs(10);

/// Every file below a directory with its size and time.
pub(super) fn files(directory: &Path, found: &mut BTreeMap<PathBuf, (u64, SystemTime)>) {
    for entry in std::fs::read_dir(directory).expect("it can be listed") {
        let path = entry.expect("an entry").path();
        let metadata = path.metadata().expect("it is there");
        if metadata.is_dir() {
            files(&path, found);
        } else {
            found.insert(path, (metadata.len(), metadata.modified().expect("it has a time")));
        }
    }
}

#[tokio::test]
async fn nothing_is_written_while_nothing_changes_nor_by_a_restart() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let start = || {
        let operator = Operator::start(&cluster, &[]);
        operator.until_ready();
        operator
    };
    let first = start();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(2).await;
    bench.move_by_hand("theirs", 1).await;
    bench.apply_tag("live", "version: 1");
    // Those that wait or are refused must be as quiet as those that are ready.
    bench.apply_tag("absent", "version: 99");
    bench.apply_tag("theirs", "version: 2, expectedVersion: 2");
    bench.apply_package("mirror", "publish: {configMap: artifacts}");
    bench.until_applied("live", 1).await;
    bench.until_tag("absent", "Ready", "False", "VersionNotFound").await;
    bench.until_tag("theirs", "Stalled", "True", "Conflict").await;
    bench
        .until_package("mirror", "Ready with its tags", |object| {
            Conditions::of(object).is("Ready", "True")
                && object["status"]["tags"].as_array().is_some_and(|tags| tags.len() == 2)
        })
        .await;

    let look = async || {
        let mut seen = BTreeMap::new();
        for kind in [TAG, PACKAGE, CONFIG_MAP, EVENT] {
            for object in bench.api.list(kind, &bench.namespace).await {
                let metadata = &object["metadata"];
                seen.insert(
                    format!("{kind:?} {}", metadata["name"]),
                    metadata["resourceVersion"].to_string(),
                );
            }
        }
        let ledger = bench.api.get(LEDGER, "", &bench.ledger_name).await.expect("it is there");
        seen.insert("ledger".into(), ledger["metadata"]["resourceVersion"].to_string());
        let mut of_ledger = BTreeMap::new();
        files(bench.directory(), &mut of_ledger);
        (seen, of_ledger)
    };
    // The last event of the set-up may still be on its way: quiet is what lasts, not what begins at once.
    let deadline = Instant::now() + QUIET * 3;
    let (mut before, mut since) = (look().await, Instant::now());
    while since.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = look().await;
        if now != before {
            assert!(Instant::now() + QUIET < deadline, "it does not become quiet:\n{before:#?}\n{now:#?}");
            (before, since) = (now, Instant::now());
        }
    }

    // A new process looks at everything, and finds nothing to write either.
    first.kill();
    let second = start();
    let end = Instant::now() + QUIET;
    while Instant::now() < end || second.metric("sacker_polls_total") < 2 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(look().await, before, "a restart writes");
    }
    assert!(second.metric("sacker_reconcile_total") >= 5, "it looked at everything");
    // An apply of what is there already changes no resourceVersion, and is a request all the same.
    assert_eq!(second.metric("sacker_status_writes_total"), 0);
    assert_eq!(second.metric("sacker_tag_changes_total"), 0);
}
