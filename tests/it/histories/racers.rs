//! Many writers of one process race for one thing: R1 and R3 add to one package, R4 moves one tag.

use std::time::{Duration, Instant};

use sacker::model::{PackageName, Sha256, TagName, Version};

use super::client::{Client, TAG, monotonic, new_version};
use super::history::{self, Answer, Call, Expectation, Line, Operation, What, shown};
use super::sites::{Backend, Site};
use super::{adds, runtime, tags, windows};
use crate::support::faultgate::{Action, Match, Refusal, Rule};
use crate::support::{tier, unique};

/// What each client of a race does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// So many adds.
    Adds(usize),
    /// So many moves of the tag, half of them on condition of what was read just before, some of them removals.
    Moves(usize),
    /// So many operations as the workers of V4 do them, chosen by this seed.
    Mixed(usize, u64),
}

/// One history of `clients`, each with a connection of its own.
pub(crate) async fn race(
    site: &Site,
    clients: usize,
    package: &str,
    versions: &[i64],
    load: Load,
) -> Vec<Operation> {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=clients {
        let client = Client::new(number, site.client().await, vec![package.to_owned()], Vec::new());
        let client = client.knows(package, versions);
        tasks.spawn(turn(client, package.to_owned(), versions.to_vec(), load));
    }
    let mut lines = Vec::new();
    for record in tasks.join_all().await {
        lines.extend(history::read(&String::from_utf8(record).expect("JSON is UTF-8")));
    }
    if let Some(gate) = &site.gate {
        gate.drain().await;
    }
    lines.push(Line { client: 0, number: 0, at: monotonic(), what: What::Barrier });
    history::pair(lines).expect("a history")
}

async fn turn(mut client: Client<Vec<u8>>, package: String, versions: Vec<i64>, load: Load) -> Vec<u8> {
    match load {
        Load::Adds(count) => {
            for _ in 0..count {
                let id = uuid::Uuid::new_v4().to_string();
                let sha = Sha256::of(id.as_bytes()).to_string();
                client.perform(Call::Add { package: package.clone(), sha, id }).await;
            }
        }
        Load::Moves(count) => {
            let tag = TAG.to_owned();
            for round in 0..count {
                let read = Call::Read { package: package.clone(), tag: tag.clone() };
                let expected = match (round % 2, client.perform(read).await) {
                    (0, Answer::Tag { version: Some(version), .. }) => Expectation::Version(version),
                    (0, Answer::Tag { seq: Some(seq), .. }) => Expectation::Seq(seq),
                    _ => Expectation::Any,
                };
                let to = (fastrand::u8(..10) > 0).then(|| versions[fastrand::usize(..versions.len())]);
                let id = uuid::Uuid::new_v4().to_string();
                client
                    .perform(Call::Tag { package: package.clone(), tag: tag.clone(), to, expected, id })
                    .await;
            }
        }
        Load::Mixed(count, seed) => client.run(count, seed).await,
    }
    client.into_record()
}

fn fail_on(wrong: &[String], seed: u64) {
    assert!(wrong.is_empty(), "{} violations with seed {seed}:\n{}", wrong.len(), wrong.join("\n"));
}

/// R1, and R3 with faults: `writers` x `count` adds on one package.
fn adders(row: &str, backend: Backend, (writers, count): (usize, usize), faults: &[(f64, Action)]) {
    let runtime = runtime();
    let seed = tier::seed(&format!("histories::{row} {backend:?}"));
    let Some(site) = runtime.block_on(Site::open(backend)) else { return };
    let rules: Vec<Rule> = faults
        .iter()
        .map(|(share, action)| Rule::new(Match::default().share(*share), action.clone()))
        .collect();
    let site = if rules.is_empty() { site } else { site.with_gate(seed, rules) };
    let package = unique("race");
    let started = Instant::now();
    let operations = runtime.block_on(race(&site, writers, &package, &[], Load::Adds(count)));
    let seconds = started.elapsed().as_secs_f64();
    let truth = runtime.block_on(site.truth(&package));
    let mut wrong = windows::unexplained(&operations);
    wrong.extend(adds::check(&operations, &package, &truth, site.is_dense()));
    fail_on(&wrong, seed);
    if faults.is_empty() {
        let lost =
            operations.iter().filter(|operation| !operation.is_settled()).map(shown).collect::<Vec<_>>();
        assert!(lost.is_empty(), "adds without an answer: {lost:?}");
        assert_eq!(truth.versions.len(), writers * count, "every add is one version");
    } else {
        assert!(site.faults() > 0, "no fault was made");
    }
    tier::summary(&format!(
        "{row} backend={backend:?} seed={seed} operations={} faults={} violations=0 seconds={seconds:.0}",
        operations.len(),
        site.faults()
    ));
    let rate = f64::from(u32::try_from(operations.len()).expect("not many")) / seconds;
    if let Some(least) = least_rate(backend) {
        tier::summary(&format!("{row} backend={backend:?} seed={seed} adds_per_second={rate:.1}"));
        assert!(rate >= least, "{rate:.1} adds/s, {least} are promised");
    }
}

/// What writers who race for one branch get at least, in all.
fn least_rate(backend: Backend) -> Option<f64> {
    (backend == Backend::Git).then_some(3.0)
}

/// R4: 16 writers race for one tag.
fn movers(backend: Backend) {
    let runtime = runtime();
    let seed = tier::seed(&format!("histories::R4 {backend:?}"));
    let Some(site) = runtime.block_on(Site::open(backend)) else { return };
    let package = unique("race");
    let writers = 16;
    let moves = tier::figure(160, 2000) / writers;
    runtime.block_on(async {
        let name = PackageName::existing(package.clone());
        let mut versions = Vec::new();
        for _ in 0..20 {
            let id = uuid::Uuid::new_v4().to_string();
            let new = new_version(0, &Sha256::of(id.as_bytes()).to_string(), &id);
            versions.push(site.direct.add(&name, &new).await.expect("add").version.get());
        }
        let started = Instant::now();
        let operations = race(&site, writers, &package, &versions, Load::Moves(moves)).await;
        let seconds = started.elapsed().as_secs_f64();
        let truth = site.truth(&package).await;
        let mut wrong = windows::unexplained(&operations);
        wrong.extend(tags::check(&operations, &package, TAG, &truth));
        fail_on(&wrong, seed);

        // What the checker says of each change, said of all of them together, too.
        let events = &truth.events[TAG];
        let mut acked: Vec<(u64, Option<i64>)> = operations
            .iter()
            .filter_map(|operation| match operation.answer {
                Some(Answer::Changed { seq: Some(seq), to, .. }) => Some((seq, to)),
                _ => None,
            })
            .collect();
        acked.sort_unstable();
        let written: Vec<_> = events.iter().map(|event| (event.seq, event.to.map(Version::get))).collect();
        assert_eq!(acked, written, "events are the acknowledged changes");
        let last = site.direct.tag(&name, &TagName::existing(TAG.to_owned())).await.expect("tag");
        let last = last.expect("it was moved");
        assert_eq!((last.seq(), last.version.map(Version::get)), *acked.last().expect("a move"));
        assert!(events.iter().any(|event| event.to.is_none()), "no untag was in the mix");
        assert!(
            operations.iter().any(|operation| matches!(operation.answer, Some(Answer::Conflict { .. }))),
            "nobody lost a race: the load is too small"
        );
        tier::summary(&format!(
            "R4 backend={backend:?} seed={seed} operations={} faults=0 violations=0 seconds={seconds:.0}",
            operations.len()
        ));
    });
}

/// The faults of R3.
fn r3_faults() -> Vec<(f64, Action)> {
    vec![
        (0.05, Action::Delay(Duration::from_millis(200))),
        (0.05, Action::Status(Refusal::Throttling)),
        (0.05, Action::Status(Refusal::Unavailable)),
        (0.05, Action::DropReply),
        (0.02, Action::Reset(0)),
    ]
}

/// Thirty-two writers of two hundred each in a soak.
mod r1 {
    use super::{Backend, adders, tier};

    fn size() -> (usize, usize) {
        tier::figure((8, 100), (32, 200))
    }

    #[test]
    fn file() {
        adders("R1", Backend::File, size(), &[]);
    }

    #[test]
    fn dynamo() {
        adders("R1", Backend::Dynamo, size(), &[]);
    }

    #[test]
    fn zookeeper() {
        adders("R1", Backend::ZooKeeper, size(), &[]);
    }

    #[test]
    fn versitygw_sequence() {
        adders("R1", Backend::VersitygwSequence, size(), &[]);
    }

    #[test]
    fn git() {
        adders("R1", Backend::Git, tier::figure((8, 25), (16, 50)), &[]);
    }

    #[test]
    #[ignore = "soak: a repository on disk stands for git in every run"]
    fn git_http() {
        adders("R1", Backend::GitHttp, (8, 25), &[]);
    }

    #[test]
    #[ignore = "soak: versitygw stands for S3 in every run"]
    fn minio_sequence() {
        adders("R1", Backend::MinioSequence, size(), &[]);
    }
}

mod r3 {
    use super::{Backend, adders, r3_faults, tier};

    fn size() -> (usize, usize) {
        tier::figure((4, 50), (32, 200))
    }

    #[test]
    fn dynamo() {
        adders("R3", Backend::Dynamo, size(), &r3_faults());
    }

    #[test]
    fn versitygw() {
        adders("R3", Backend::Versitygw, size(), &r3_faults());
    }

    #[test]
    fn versitygw_sequence() {
        adders("R3", Backend::VersitygwSequence, size(), &r3_faults());
    }

    #[test]
    #[ignore = "soak: versitygw stands for S3 in every run"]
    fn minio() {
        adders("R3", Backend::Minio, size(), &r3_faults());
    }
}

mod r4 {
    use super::{Backend, movers};

    #[test]
    fn file() {
        movers(Backend::File);
    }

    #[test]
    fn dynamo() {
        movers(Backend::Dynamo);
    }

    #[test]
    fn zookeeper() {
        movers(Backend::ZooKeeper);
    }

    #[test]
    fn git() {
        movers(Backend::Git);
    }

    #[test]
    #[ignore = "soak: a repository on disk stands for git in every run"]
    fn git_http() {
        movers(Backend::GitHttp);
    }

    #[test]
    fn versitygw() {
        movers(Backend::Versitygw);
    }

    #[test]
    fn minio() {
        movers(Backend::Minio);
    }
}
