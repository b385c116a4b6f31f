//! V1: random steps on every ledger, one after the other, against one specification. What fails is made shorter by leaving
//! steps out, on fresh packages, as long as it still fails.

use std::collections::BTreeMap;
use std::time::Instant;

use sacker::clock::Clock as _;
use sacker::error::{Error, Meaning, Missing};
use sacker::ledger::Ledger;
use sacker::model::{
    self, Change, EventSource, PackageName, Removal, Sha256, TagChange, TagName, TagState, Version,
};

use super::client::{actor, new_version};
use super::specification::{Claim, Expected, Outcome, Package, Refusal, Row, Step, Tag, What};
use super::{Backend, Site, runtime};
use crate::support::ledgers::Target;
use crate::support::{tier, unique};

const TAGS: [&str; 3] = ["live", "canary", "1.2.3"];

const OWNERS: [&str; 3] = ["cli:alice", "k8s:cluster/web/one", "k8s:cluster/web/two"];

/// Never given by a ledger that lives less than a few million years.
const NEVER: i64 = i64::MAX - 1;

/// Steps that make sense on a package with the versions and tags that there will be, and some that do not.
fn steps(random: &mut fastrand::Rng, count: usize) -> Vec<Step> {
    let mut versions = 0;
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        let version = |random: &mut fastrand::Rng| random.usize(0..=versions);
        let tag = random.usize(..TAGS.len());
        let step = match random.u8(..100) {
            0..20 => {
                versions += 1;
                Step::Add { if_latest: None }
            }
            20..24 => Step::Add { if_latest: Some(version(random)) },
            24..64 => {
                let what = match random.u8(..20) {
                    0..10 => What::Move { to: version(random), hold: random.u8(..10) == 0 },
                    10..13 => What::Untag,
                    13 => What::Hold,
                    14..17 => What::Release,
                    17 => What::Adopt,
                    _ => What::Disown,
                };
                let expected = match random.u8(..10) {
                    0..6 => Expected::Any,
                    6..8 => Expected::Version(version(random).max(1)),
                    _ => Expected::Seq(u64::from(random.u8(..4) == 0)),
                };
                let claim = match random.u8(..10) {
                    0..6 => Claim::Nobody,
                    6..9 => Claim::Owner(random.u8(..3)),
                    _ => Claim::TakeOver(random.u8(..3)),
                };
                Step::Change { tag, what, expected, claim }
            }
            64..74 => Step::Remove { version: version(random) },
            74..80 => Step::Latest,
            80..86 => Step::Info { version: version(random) },
            86..89 => Step::Versions,
            89..92 => Step::Tags,
            92..96 => Step::Tag { tag },
            _ => Step::History { tag },
        };
        made.push(step);
    }
    made
}

/// One package of a real ledger, as the specification counts it.
struct Real<'a> {
    ledger: &'a dyn Ledger,
    package: PackageName,
    /// The numbers that its versions have.
    versions: Vec<Version>,
}

impl Real<'_> {
    fn number(&self, version: usize) -> Version {
        let there = version.checked_sub(1).and_then(|place| self.versions.get(place));
        there.copied().unwrap_or_else(|| Version::new(NEVER).expect("positive"))
    }

    /// The count of a version; one that was never given is a count that never is.
    fn count(&self, version: Version) -> usize {
        self.versions.iter().position(|known| *known == version).map_or(usize::MAX, |place| place + 1)
    }

    fn tag(&self, state: &TagState) -> Tag {
        Tag {
            seq: state.seq(),
            version: state.version.map(|version| self.count(version)),
            owner: state.owner().map(owner_number),
            held: state.hold().is_some(),
        }
    }

    async fn step(&mut self, step: &Step, seq: u64) -> Result<Outcome, Error> {
        let ledger = self.ledger;
        let package = self.package.clone();
        let named = |tag: &usize| TagName::existing(TAGS[*tag].to_owned());
        Ok(match step {
            Step::Add { if_latest } => {
                let id = uuid::Uuid::new_v4().to_string();
                let mut new = new_version(0, &Sha256::of(id.as_bytes()).to_string(), &id);
                new.if_latest = if_latest.map(|version| self.number(version));
                let record = ledger.add(&package, &new).await?;
                assert!(self.versions.last().is_none_or(|last| *last < record.version), "numbers rise");
                self.versions.push(record.version);
                assert_eq!(record.add_id.as_deref(), Some(id.as_str()));
                Outcome::Version(self.versions.len())
            }
            Step::Change { tag, what, expected, claim } => {
                let change = self.change(*what, *expected, *claim, seq);
                let outcome = ledger.change_tag(&package, &named(tag), &change).await?;
                Outcome::Changed(self.tag(&outcome.state), outcome.event.map(|event| event.kind.as_str()))
            }
            Step::Remove { version } => {
                let at = sacker::clock::SystemClock.now();
                let removal = Removal { at, by: "somebody".into(), reason: Some("a test".into()) };
                let removed = ledger.remove_version(&package, self.number(*version), &removal).await?;
                assert!(removed.record.is_removed());
                Outcome::Removed { is_new: removed.is_new }
            }
            Step::Latest => Outcome::Version(self.count(ledger.latest(&package).await?.version)),
            Step::Info { version } => {
                Outcome::Version(self.count(ledger.version(&package, self.number(*version)).await?.version))
            }
            Step::Versions => {
                let records = ledger.versions(&package).await?;
                let numbers: Vec<Version> = records.iter().map(|record| record.version).collect();
                assert_eq!(numbers, self.versions, "every number, oldest first");
                Outcome::Versions(records.iter().map(model::VersionRecord::is_removed).collect())
            }
            Step::Tags => {
                let place = |state: &TagState| TAGS.iter().position(|name| *name == state.tag.as_str());
                let states = ledger.tags(&package).await?;
                let known = |state: &TagState| (place(state).unwrap_or(usize::MAX), self.tag(state));
                Outcome::Tags(states.iter().map(known).collect::<BTreeMap<_, _>>())
            }
            Step::Tag { tag } => {
                Outcome::Tag(ledger.tag(&package, &named(tag)).await?.map(|state| self.tag(&state)))
            }
            Step::History { tag } => {
                let events = ledger.history(&package, &named(tag)).await?;
                model::verify_chain(&events).expect("one chain");
                let count = |version: Option<Version>| version.map(|version| self.count(version));
                let row = |event: &model::Event| -> Row {
                    (event.kind.as_str().to_owned(), count(event.from), count(event.to))
                };
                Outcome::History(events.iter().map(row).collect())
            }
        })
    }

    fn change(&self, what: What, expected: Expected, claim: Claim, seq: u64) -> TagChange {
        let change = match what {
            What::Move { to, hold } => {
                Change::Move { to: self.number(to), hold: hold.then(|| "a test".to_owned()) }
            }
            What::Untag => Change::Untag,
            What::Hold => Change::Hold { reason: "a test".into() },
            What::Release => Change::Release,
            What::Adopt => Change::Adopt,
            What::Disown => Change::Disown,
        };
        let expected = match expected {
            Expected::Any => model::Expected::Any,
            Expected::Version(version) => model::Expected::Version(self.number(version)),
            Expected::Seq(more) => model::Expected::Seq(seq + more),
        };
        let owner = |number: u8| OWNERS[usize::from(number)].to_owned();
        let claim = match claim {
            Claim::Nobody => model::Claim::Nobody,
            Claim::Owner(number) => model::Claim::Owner(owner(number)),
            Claim::TakeOver(number) => model::Claim::TakeOver(owner(number)),
        };
        let mut actor = actor(0, "a test");
        actor.source = EventSource::Operator;
        TagChange::new(change, actor).expecting(expected).claiming(claim)
    }
}

fn owner_number(owner: &str) -> u8 {
    let place = OWNERS.iter().position(|known| *known == owner);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

fn refusal(error: &Error) -> Refusal {
    match error.meaning() {
        Meaning::NotFound(Missing::Package(_)) => Refusal::NoPackage,
        Meaning::NotFound(Missing::Version(..)) => Refusal::NoVersion,
        Meaning::NotFound(Missing::Removed(..)) => Refusal::RemovedVersion,
        Meaning::NotFound(Missing::Tag(..)) => Refusal::NoTag,
        Meaning::Conflict { .. } => Refusal::Conflict,
        Meaning::Held(_) => Refusal::Held,
        Meaning::Owned { .. } => Refusal::Owned,
        _ => panic!("nothing else can go wrong here: {error:?}"),
    }
}

/// The first step at which ledger and specification differ, and how.
async fn first_difference(ledger: &dyn Ledger, steps: &[Step]) -> Option<(usize, String)> {
    let package = PackageName::existing(unique("v1"));
    let mut real = Real { ledger, package, versions: Vec::new() };
    let mut specification = Package::default();
    for (place, step) in steps.iter().enumerate() {
        let seq = match step {
            Step::Change { tag, .. } => specification.seq(*tag),
            _ => 0,
        };
        let expected = specification.step(step);
        let found = real.step(step, seq).await.unwrap_or_else(|error| Outcome::Refused(refusal(&error)));
        if found != expected {
            return Some((place, format!("{step:?}: expected {expected:?}, found {found:?}")));
        }
    }
    None
}

/// The fewest steps that still differ, by leaving out one after the other.
async fn shortest(ledger: &dyn Ledger, mut steps: Vec<Step>) -> (Vec<Step>, String) {
    let mut why = String::new();
    let mut place = steps.len();
    while place > 0 {
        place -= 1;
        let mut fewer = steps.clone();
        fewer.remove(place);
        if let Some((end, difference)) = first_difference(ledger, &fewer).await {
            fewer.truncate(end + 1);
            place = place.min(fewer.len());
            (steps, why) = (fewer, difference);
        }
    }
    (steps, why)
}

async fn compare(name: &str, ledger: &dyn Ledger, is_dense: bool, (cases, length): (u64, usize)) {
    let seed = tier::seed(&format!("histories::stateful {name}"));
    let started = Instant::now();
    let mut operations = 0;
    for case in 0..cases {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(case));
        let mut steps = steps(&mut random, length);
        if !is_dense {
            // Numbers that are times have no such condition.
            let adds = steps.iter_mut().filter(|step| matches!(step, Step::Add { .. }));
            adds.for_each(|step| *step = Step::Add { if_latest: None });
        }
        operations += steps.len();
        if let Some((end, why)) = first_difference(ledger, &steps).await {
            steps.truncate(end + 1);
            let (steps, shorter) = shortest(ledger, steps).await;
            panic!(
                "{name} differs from the specification (SACKER_SEED={seed}, case {case}): {why}\n{shorter}\nin {steps:#?}"
            );
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    tier::summary(&format!(
        "V1 backend={name} seed={seed} operations={operations} faults=0 violations=0 seconds={seconds:.0}"
    ));
}

fn on_server(backend: Backend) {
    on(backend, tier::figure((100, 30), (500, 30)));
}

fn on(backend: Backend, size: (u64, usize)) {
    let runtime = runtime();
    let Some(site) = runtime.block_on(Site::open(backend)) else { return };
    runtime.block_on(compare(&format!("{backend:?}"), site.direct.as_ref(), site.is_dense(), size));
}

#[test]
fn memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let opened = Target::Memory.open().await.expect("memory is always there");
        compare("Memory", opened.ledger.as_ref(), true, tier::figure((1_000, 50), (10_000, 50))).await;
    });
}

#[test]
fn file() {
    on_server(Backend::File);
}

#[test]
fn dynamo() {
    on_server(Backend::Dynamo);
}

/// Each write is a commit of a few processes.
#[test]
fn git() {
    on(Backend::Git, tier::figure((5, 20), (50, 30)));
}

#[test]
#[ignore = "soak: a repository on disk stands for git in every run"]
fn git_http() {
    let runtime = runtime();
    let Some(site) = runtime.block_on(Site::open(Backend::GitHttp)) else { return };
    runtime.block_on(async {
        compare("GitHttp", site.client().await.as_ref(), site.is_dense(), tier::figure((5, 20), (10, 30)))
            .await;
    });
}

#[test]
fn zookeeper() {
    on_server(Backend::ZooKeeper);
}

#[test]
fn versitygw() {
    on_server(Backend::Versitygw);
}

#[test]
fn minio() {
    on_server(Backend::MinioSequence);
}
