//! Tags that follow: canary follows latest, live follows canary after a soak, through uploads and restarts.

use std::time::{Duration, Instant};

use sacker::model::{Event, Version};

use super::bench::{Bench, POLL, say};
use super::process::Operator;
use crate::support::cluster::Cluster;
use crate::support::tier;

/// How much later than its time an event's write may be complete: it is stamped before.
pub(super) const WRITE: Duration = Duration::from_secs(1);

/// When a version was reached and until when it was held, in a history of moves.
pub(super) fn held(events: &[Event], version: Version) -> Option<Duration> {
    let position = events.iter().position(|event| event.to == Some(version) && event.from != event.to)?;
    let end = events[position + 1..].iter().find(|event| event.to != Some(version))?;
    Some(end.at.duration_since(events[position].at).unsigned_abs())
}

#[tokio::test]
async fn live_follows_what_canary_held_for_the_soak_never_early() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let start = Instant::now();
    let mut random = fastrand::Rng::with_seed(tier::seed("a chain of followers"));
    let bench = Bench::on(&cluster, None).await;
    let run = || Operator::start(&cluster, &["--cluster-name", "chain", "--lease-duration", "2s"]);
    let mut operator = run();
    operator.until_ready();
    bench.apply_tag("canary", "follow: {tag: latest}");
    // A restart needs its lease and its caches, and then a poll; without one there is nothing to wait for.
    let (soak, uploads, is_restarted) = tier::figure((3, 5, true), (30, 20, false));
    let soak_time = Duration::from_secs(soak);
    let grace = if is_restarted { POLL + Duration::from_secs(5) } else { Duration::from_secs(2) };
    bench.apply_tag("live", &format!("follow: {{tag: canary, soak: {soak}s}}"));
    let mut restarts = 0;
    for upload in 1..=uploads {
        let version = bench.add().await.version.get();
        assert_eq!(version, upload);
        bench.until_applied("canary", version).await;
        // Some are replaced before they soaked, some after: the moment is what the seed is for.
        tokio::time::sleep(soak_time.mul_f64(random.f64() * 5.0 / 3.0)).await;
        if is_restarted && upload % 2 == 0 {
            operator.kill();
            operator = run();
            restarts += 1;
        }
    }
    bench.until_applied("live", uploads).await;

    let canary = bench.history("canary").await;
    let live = bench.history("live").await;
    let reached: Vec<i64> = canary.iter().filter_map(|event| event.to.map(Version::get)).collect();
    assert_eq!(reached, (1..=uploads).collect::<Vec<_>>(), "canary takes every version, once and in order");
    let mut latest = Duration::ZERO;
    let mut previous = None;
    for event in &live {
        let version = event.to.expect("live is never removed");
        assert!(previous < Some(version), "never back: {live:#?}");
        previous = Some(version);
        let since = canary.iter().find(|event| event.to == Some(version)).expect("canary had it").at;
        let waited = event.at.duration_since(since);
        assert!(
            !waited.is_negative() && waited.unsigned_abs() >= soak_time,
            "{version} came early, after {waited:?}"
        );
        if let Some(held) = held(&canary, version) {
            assert!(held + WRITE >= soak_time, "{version} was held for {held:?} only, and went live");
        }
        latest = latest.max(waited.unsigned_abs().saturating_sub(soak_time));
    }
    // What canary held for long enough has gone live.
    for number in 1..=uploads {
        let version = super::bench::version(number);
        if held(&canary, version).is_some_and(|held| held > soak_time + grace) {
            assert!(live.iter().any(|event| event.to == Some(version)), "{version} never went live");
        }
    }
    assert!(latest <= grace, "{latest:?} late");
    say(&format!("{} of {uploads} versions went live, at most {latest:?} after their soak", live.len()));
    tier::summary(&format!(
        "R30 uploads={uploads} live={} restarts={restarts} latest={latest:?} violations=0 seconds={}",
        live.len(),
        start.elapsed().as_secs()
    ));
    operator.terminate();
    assert_eq!(operator.wait(Duration::from_secs(20)), Some(0), "{}", operator.log());
}
