//! Histories: what many clients did at once and were told, recorded and judged by checkers that must find every lie.
//!
//! The checkers (`adds`, `latest`, `tags`, `register`) are pure; `doctors` makes false histories of true ones for them.

mod adds;
mod client;
mod command_line;
mod doctors;
mod faults;
mod history;
mod latest;
mod racers;
mod register;
mod sites;
mod specification;
mod stateful;
mod tags;
mod windows;
mod worker;

pub(crate) use client::new_version;
use sites::{Backend, Site, usual_faults};
use windows::Plan;

use crate::support::tier;

/// The share of requests that V4 has faults on.
const FAULTS: f64 = 0.05;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(4).build().expect("a runtime")
}

/// V4 on one backend: `every` operations in every run, `soak` in a soak, there over three seeds.
fn workers(name: &str, backend: Backend, every: usize, soak: usize) {
    let runtime = runtime();
    let runs = tier::figure(1, 3);
    let operations = tier::figure(every, soak / runs);
    let first = tier::seed(name);
    for seed in (0..runs).map(|run| first.wrapping_add(run as u64)) {
        let plan = Plan { workers: 16, packages: 4, operations, window: tier::figure(1000, 4000), seed };
        let Some(site) = runtime.block_on(Site::open(backend)) else { return };
        let site = site.with_gate(seed, usual_faults(backend, FAULTS));
        let recorded = runtime.block_on(windows::record(&site, &plan));
        let wrong = windows::judge(&recorded);
        let faults = site.faults();
        assert!(wrong.is_empty(), "{} violations with seed {seed}:\n{}", wrong.len(), wrong.join("\n"));
        windows::check_the_checkers(&recorded);
        let (count, seconds) = (recorded.operations.len(), recorded.seconds);
        tier::summary(&format!(
            "V4 backend={backend:?} seed={seed} operations={count} faults={faults} violations=0 seconds={seconds:.0}"
        ));
    }
}

mod v4 {
    use super::{Backend, workers};

    #[test]
    fn file() {
        workers("histories::v4::file", Backend::File, 5_000, 200_000);
    }

    #[test]
    fn dynamo() {
        workers("histories::v4::dynamo", Backend::Dynamo, 5_000, 200_000);
    }

    #[test]
    fn zookeeper() {
        workers("histories::v4::zookeeper", Backend::ZooKeeper, 3_000, 200_000);
    }

    #[test]
    fn git() {
        workers("histories::v4::git", Backend::Git, 500, 6_000);
    }

    #[test]
    #[ignore = "soak: 80 s of two cores; a repository on disk stands for git in every run"]
    fn git_http() {
        workers("histories::v4::git_http", Backend::GitHttp, 500, 4_000);
    }

    #[test]
    fn versitygw() {
        workers("histories::v4::versitygw", Backend::Versitygw, 3_000, 200_000);
    }

    #[test]
    #[ignore = "soak: versitygw stands for S3 in every run"]
    fn minio() {
        workers("histories::v4::minio", Backend::Minio, 3_000, 200_000);
    }
}
