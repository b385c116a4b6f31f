//! V4: worker processes make a history in windows, and every checker judges it.
//!
//! At the end of each window the workers stand still, what is under way at the proxy is waited for, and one strong read
//! of each tag gives the next window's initial value. What became of calls without an answer is settled by their ids.

use std::collections::BTreeMap;
use std::time::Instant;

use sacker::model::{PackageName, TagName, Version};

use super::client::{TAG, monotonic};
use super::history::{self, Answer, Call, Line, Operation, Truth, What, shown};
use super::sites::Site;
use super::worker::{Orders, Worker, record_of};
use super::{adds, doctors, latest, register, tags};
use crate::support::unique;

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) workers: usize,
    /// At a time: after [`WINDOWS_OF_A_PACKAGE`] windows it is the turn of new ones.
    pub(crate) packages: usize,
    /// In all, of all workers.
    pub(crate) operations: usize,
    /// Of these, between two barriers. Few enough that no tag sees more than a thousand of them.
    pub(crate) window: usize,
    pub(crate) seed: u64,
}

/// A history with what it is judged by.
pub(crate) struct Recorded {
    pub(crate) operations: Vec<Operation>,
    pub(crate) truths: BTreeMap<String, Truth>,
    /// The windows of each package, and its tag at the start of each.
    pub(crate) initial: BTreeMap<String, BTreeMap<usize, Option<i64>>>,
    pub(crate) is_dense: bool,
    pub(crate) seconds: f64,
}

/// A package with tens of thousands of versions only makes the servers' listings slow; it is no harder to get right.
const WINDOWS_OF_A_PACKAGE: u64 = 5;

/// The most calls about one tag that one search is given.
const SEARCHED: usize = 1000;

/// Lets workers make a history on `site`.
pub(crate) async fn record(site: &Site, plan: &Plan) -> Recorded {
    let orders = |client: usize| Orders {
        client,
        ledger: site.uri.clone(),
        store: site.store(),
        variables: site.variables.clone(),
        deadline: site.deadline,
        record: site.home().join(format!("client-{client}.jsonl")),
        home: site.home(),
    };
    let started = Instant::now();
    let mut workers: Vec<Worker> = (1..=plan.workers).map(|client| Worker::start(&orders(client))).collect();
    let mut lines = Vec::new();
    let mut initial: BTreeMap<String, BTreeMap<usize, Option<i64>>> = BTreeMap::new();
    let mut packages = Vec::new();
    let mut left = plan.operations;
    let mut window = 0_u64;
    while left > 0 {
        if window.is_multiple_of(WINDOWS_OF_A_PACKAGE) {
            packages = (0..plan.packages).map(|_| unique("package")).collect();
        }
        for package in &packages {
            let value = strong_read(site, package).await;
            let number = usize::try_from(window).expect("not many");
            initial.entry(package.clone()).or_default().insert(number, value);
        }
        let count = plan.window.min(left).div_ceil(plan.workers);
        let seed = plan.seed.wrapping_add(window << 32);
        for worker in &mut workers {
            worker.order(count, seed, &packages);
        }
        tokio::task::block_in_place(|| workers.iter_mut().for_each(Worker::wait));
        site.drain().await;
        lines.push(Line { client: 0, number: window, at: monotonic(), what: What::Barrier });
        left = left.saturating_sub(count * plan.workers);
        window += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    for worker in &workers {
        lines.extend(history::read(&record_of(&worker.record)));
    }
    drop(workers);
    let operations = history::pair(lines).expect("a history");
    let mut truths = BTreeMap::new();
    for package in initial.keys() {
        truths.insert(package.clone(), site.truth(package).await);
    }
    Recorded { operations, truths, initial, is_dense: site.is_dense(), seconds }
}

async fn strong_read(site: &Site, package: &str) -> Option<i64> {
    let (package, tag) = (PackageName::existing(package.to_owned()), TagName::existing(TAG.to_owned()));
    let state = site.direct.tag(&package, &tag).await.expect("a strong read");
    state.and_then(|state| state.version).map(Version::get)
}

/// Everything that is wrong with a history.
pub(crate) fn judge(recorded: &Recorded) -> Vec<String> {
    let mut wrong = unexplained(&recorded.operations);
    for (package, truth) in &recorded.truths {
        let operations = of_package(&recorded.operations, package);
        wrong.extend(adds::check(&operations, package, truth, recorded.is_dense));
        wrong.extend(latest::check(&operations, package, truth));
        wrong.extend(tags::check(&operations, package, TAG, truth));
        for (window, initial) in &recorded.initial[package] {
            let entries = register::entries(&operations, package, TAG, truth, *window);
            assert!(entries.len() <= SEARCHED, "{} calls about one tag in a window", entries.len());
            if !register::is_linearizable(*initial, &entries) {
                wrong.push(format!(
                    "no order explains the calls about the tag of '{package}' in window {window}"
                ));
            }
        }
    }
    wrong
}

fn of_package(operations: &[Operation], package: &str) -> Vec<Operation> {
    operations.iter().filter(|operation| operation.call.package() == package).cloned().collect()
}

/// Nothing in these histories can be refused but a change that lost, and a backend may stay away.
pub(crate) fn unexplained(operations: &[Operation]) -> Vec<String> {
    let is_explained = |operation: &&Operation| match (&operation.call, &operation.answer) {
        (_, Some(Answer::Failed { code, .. })) => *code == 7,
        // Clients change and read only what they know to be there.
        (call, Some(answer)) => matches!(
            (call, answer),
            (Call::Tag { .. }, Answer::Changed { .. } | Answer::Tag { .. } | Answer::Conflict { .. })
                | (Call::Read { .. }, Answer::Tag { .. })
                | (Call::Info { .. }, Answer::Record { .. })
                | (Call::Add { .. } | Call::Latest { .. }, Answer::Version(Some(_)))
        ),
        (_, None) => false,
    };
    operations
        .iter()
        .filter(|operation| !is_explained(operation))
        .map(|operation| format!("unexplained: {}", shown(operation)))
        .collect()
}

/// Doctors a history that was found to be true: each checker must reject every lie about it.
pub(crate) fn check_the_checkers(recorded: &Recorded) {
    let (package, truth) = recorded.truths.iter().next().expect("a package");
    let operations = of_package(&recorded.operations, package);
    let must_reject = |checker: &str, lies: Vec<(&str, bool)>| {
        for (what, is_rejected) in &lies {
            assert!(is_rejected, "the checker of {checker} accepts a doctored history: {what}");
        }
        assert!(lies.len() >= doctors::ENOUGH, "too few lies for the checker of {checker}: {lies:?}");
    };
    let dense = recorded.is_dense;
    let lies = doctors::of_adds(&operations, truth, dense);
    let rejected = lies
        .iter()
        .map(|lie| (lie.what, !adds::check(&lie.operations, package, &lie.truth, dense).is_empty()));
    must_reject("add", rejected.collect());
    let lies = doctors::of_latest(&operations, truth);
    let rejected =
        lies.iter().map(|lie| (lie.what, !latest::check(&lie.operations, package, &lie.truth).is_empty()));
    must_reject("latest", rejected.collect());
    let lies = doctors::of_tag(&operations, truth, TAG);
    let rejected =
        lies.iter().map(|lie| (lie.what, !tags::check(&lie.operations, package, TAG, &lie.truth).is_empty()));
    must_reject("tags", rejected.collect());
    // A window may have no place for some lies: together they must.
    let mut rejected: BTreeMap<&str, bool> = BTreeMap::new();
    for (window, initial) in &recorded.initial[package] {
        let entries = register::entries(&operations, package, TAG, truth, *window);
        for (what, lie) in doctors::of_register(*initial, &entries) {
            *rejected.entry(what).or_insert(true) &= !register::is_linearizable(*initial, &lie);
        }
    }
    must_reject("registers", rejected.into_iter().collect());
}
