//! Who does what at the same time, and how much may go wrong meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use sacker::clock::Clock;
use sacker::connect::Connect;
use sacker::ledger::{Ledger as _, ObjectLedger};
use sacker::model::{
    Actor, Change, EventSource, Expected, LedgerUri, NewVersion, Numbering, PackageName, Removal, Sha256,
    TagChange, TagName, Version,
};

use super::world::{ModelObjects, Request, Shared};
use crate::support::tier;

/// One thing a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Add,
    /// Points `live` to this version, whatever is there or only if it points to the second.
    Move(i64, Option<i64>),
    Untag,
    Remove(i64),
    Latest,
    /// Reads the tag.
    Tag,
    /// Brings the hint for readers of 2015 up to date.
    Repair,
    /// The client of 2015 adds the version of its own clock.
    LegacyAdd,
    LegacyTag(i64),
    LegacyUntag,
}

/// One client: what it does, one step after the other.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) steps: Vec<Step>,
    pub(super) may_read: bool,
    /// Milliseconds by which its clock is off.
    pub(super) skew: i64,
}

impl Client {
    pub(super) fn new(steps: &[Step]) -> Self {
        Self { steps: steps.to_vec(), may_read: true, skew: 0 }
    }

    pub(super) fn write_only(mut self) -> Self {
        self.may_read = false;
        self
    }

    pub(super) fn with_skew(mut self, skew: i64) -> Self {
        self.skew = skew;
        self
    }
}

/// Clients at work at the same time.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) numbering: Numbering,
    /// What happened before, in order.
    pub(super) before: Vec<Step>,
    pub(super) clients: Vec<Client>,
    /// How many replies to writes may get lost.
    pub(super) losses: u8,
    /// How many clients may crash.
    pub(super) crashes: u8,
}

/// The time of every run: it stands still, so that clocks differ by their skew and nothing else.
const NOW: i64 = 1_800_000_000_000;

/// The version that an `Add` gets by a clock with this skew.
pub(super) fn stamp(skew: i64) -> i64 {
    NOW + skew
}

/// Longer than any pause.
const DEADLINE: Duration = Duration::from_hours(1);

/// How often a client pauses before its deadline is over: enough for every race here, so that no run is endless.
const PAUSES: u32 = 6;

/// A clock that stands still, and jumps by a deadline when a client has paused too often. How long a pause is must not matter: it is random.
#[derive(Debug)]
struct ModelClock {
    skew: i64,
    pauses: Arc<AtomicU32>,
}

impl Clock for ModelClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(stamp(self.skew)).expect("within range")
    }

    fn monotonic(&self) -> Duration {
        DEADLINE * (self.pauses.load(Ordering::Relaxed) / PAUSES)
    }

    fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
        self.pauses.fetch_add(1, Ordering::Relaxed);
        futures::future::ready(()).boxed()
    }
}

pub(super) fn package() -> PackageName {
    PackageName::existing("p")
}

pub(super) fn live() -> TagName {
    TagName::existing("live")
}

/// A ledger of the product over the modelled objects.
pub(super) fn ledger(objects: ModelObjects, skew: i64) -> ObjectLedger<ModelObjects> {
    static CONNECT: LazyLock<Connect> =
        LazyLock::new(|| Connect { deadline: DEADLINE, ..Connect::default() });
    static URI: LazyLock<LedgerUri> =
        LazyLock::new(|| "s3://model?versions=timestamp".parse().expect("a URI"));
    let connect = Connect { clock: Arc::new(ModelClock { skew, pauses: Arc::default() }), ..CONNECT.clone() };
    ObjectLedger::new(URI.clone(), objects, connect)
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Added(i64),
    /// The tag was changed (true) or was as asked.
    Changed(bool),
    /// A removal that was carried out.
    Removed,
    Latest(Option<i64>),
    /// The number of the tag's last event.
    Tag(u64),
    Legacy,
    Repaired,
    /// It failed for certain.
    Refused(String),
    /// Nobody knows.
    Open,
}

/// A step that ended.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) client: usize,
    pub(super) place: usize,
    pub(super) step: Step,
    /// The steps that had ended when it began, as positions in the list of records.
    pub(super) after: Vec<usize>,
    pub(super) outcome: Outcome,
}

/// The id that a step writes.
pub(super) fn id(client: usize, place: usize) -> String {
    format!("{client}-{place}")
}

fn actor() -> Actor {
    Actor { by: "model".into(), reason: None, source: EventSource::Cli }
}

/// Carries out one step.
pub(super) async fn perform(
    ledger: &ObjectLedger<ModelObjects>,
    objects: &ModelObjects,
    step: Step,
    id: String,
    skew: i64,
) -> Outcome {
    let package = package();
    let version = |number: i64| Version::new(number).expect("positive");
    let change = |change: Change| TagChange { id: id.clone(), ..TagChange::new(change, actor()) };
    let outcome = match step {
        Step::Add => {
            let new = NewVersion {
                sha256: Sha256::of(id.as_bytes()),
                size: 1,
                basename: "b".into(),
                mode: 0o100_644,
                metadata: std::collections::BTreeMap::new(),
                added_by: "model".into(),
                if_latest: None,
                add_id: id.clone(),
            };
            ledger.add(&package, &new).await.map(|record| Outcome::Added(record.version.get()))
        }
        Step::Move(to, expected) => {
            let expected = expected.map_or(Expected::Any, |number| Expected::Version(version(number)));
            let change = change(Change::Move { to: version(to), hold: None }).expecting(expected);
            let done = ledger.change_tag(&package, &live(), &change).await;
            done.map(|done| Outcome::Changed(done.event.is_some()))
        }
        Step::Untag => {
            let done = ledger.change_tag(&package, &live(), &change(Change::Untag)).await;
            done.map(|done| Outcome::Changed(done.event.is_some()))
        }
        Step::Remove(number) => {
            let at = Timestamp::from_millisecond(stamp(skew)).expect("within range");
            let removal = Removal { at, by: id.clone(), reason: None };
            ledger.remove_version(&package, version(number), &removal).await.map(|_| Outcome::Removed)
        }
        Step::Latest => match ledger.latest(&package).await {
            Ok(record) => Ok(Outcome::Latest(Some(record.version.get()))),
            Err(error) if error.is_not_found() => Ok(Outcome::Latest(None)),
            Err(error) => Err(error),
        },
        Step::Tag => {
            let state = ledger.tag(&package, &live()).await;
            state.map(|state| Outcome::Tag(state.map_or(0, |state| state.seq())))
        }
        Step::Repair => ledger.repair(&package).await.map(|_| Outcome::Repaired),
        Step::LegacyAdd => {
            let stamp = stamp(skew);
            let sha = Sha256::of(id.as_bytes());
            let body = format!("{{\"sha\": \"{sha}\", \"basename\": \"b\", \"mode\": 33188}}");
            legacy_put(objects, format!("p/versions/{stamp}"), body).await;
            legacy_put(objects, "p/tags/latest".into(), format!("{{\"version\": {stamp}}}")).await;
            return Outcome::Legacy;
        }
        Step::LegacyTag(to) => {
            legacy_put(objects, "p/tags/live".into(), format!("{{\"version\": \"{to}\"}}")).await;
            return Outcome::Legacy;
        }
        Step::LegacyUntag => {
            let _whatever = objects.ask(Request::Delete("p/tags/live".into())).await;
            return Outcome::Legacy;
        }
    };
    match outcome {
        Ok(outcome) => outcome,
        Err(error) if error.unsettled().is_some() || error.is_transient() => Outcome::Open,
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

/// A write without any condition.
async fn legacy_put(objects: &ModelObjects, key: String, body: String) {
    let precondition = sacker::ledger::Precondition::None;
    let metadata = std::collections::BTreeMap::new();
    let _whatever = objects.ask(Request::Put { key, bytes: body.into(), precondition, metadata }).await;
}

/// Everything that client `number` does.
pub(super) async fn script(
    client: Client,
    number: usize,
    world: Shared,
    numbering: Numbering,
    records: Arc<std::sync::Mutex<Vec<Record>>>,
) {
    let objects = || ModelObjects {
        world: world.clone(),
        client: number,
        numbering,
        may_read: client.may_read,
        direct: false,
    };
    let (ledger, raw) = (ledger(objects(), client.skew), objects());
    for (place, step) in client.steps.iter().copied().enumerate() {
        let after: Vec<usize> = {
            let records = records.lock().expect("no client panics with it");
            (0..records.len()).collect()
        };
        {
            let records = records.lock().expect("no client panics with it");
            let ended: Vec<_> = records.iter().map(|record| (record.client, record.place)).collect();
            // What ended before a step begins is part of what its result is judged by.
            let mut sorted = ended;
            sorted.sort_unstable();
            world.lock().note(number, sorted);
        }
        let outcome = perform(&ledger, &raw, step, id(number, place), client.skew).await;
        let record = Record { client: number, place, step, after, outcome };
        records.lock().expect("no client panics with it").push(record);
    }
}

fn sequence(name: &'static str, before: &[Step], clients: Vec<Client>) -> Scenario {
    Scenario { name, numbering: Numbering::Sequence, before: before.to_vec(), clients, losses: 0, crashes: 0 }
}

fn timestamps(name: &'static str, before: &[Step], clients: Vec<Client>) -> Scenario {
    Scenario { numbering: Numbering::Timestamp, ..sequence(name, before, clients) }
}

impl Scenario {
    fn losing(mut self, losses: u8) -> Self {
        self.losses = losses;
        self
    }

    fn crashing(mut self, crashes: u8) -> Self {
        self.crashes = crashes;
        self
    }
}

/// The first step in every run, all of them in a soak.
fn steps(all: &[Step]) -> Client {
    Client::new(tier::figure(&all[..1], all))
}

/// Two versions, and `live` points to the first.
const TAGGED: [Step; 3] = [Step::Add, Step::Add, Step::Move(1, None)];

/// Two clients add at the same time, where numbers are 1, 2, 3.
pub(super) fn adds_in_sequence(losses: u8, crashes: u8) -> Scenario {
    let clients = vec![Client::new(&[Step::Add]), Client::new(&[Step::Add, Step::Latest])];
    sequence("adds in sequence", &[Step::Add], clients).losing(losses).crashing(crashes)
}

/// A reader beside writers with clocks that differ; one of them may not read.
pub(super) fn adds_by_timestamp(losses: u8) -> Scenario {
    let mut clients = vec![
        Client::new(&[Step::Add]),
        Client::new(&[Step::Add]).write_only().with_skew(1),
        Client::new(&[Step::Latest, Step::Latest]),
    ];
    if tier::is_soak() {
        clients.push(Client::new(&[Step::Add]).write_only().with_skew(1));
    }
    timestamps("adds by timestamp", &[Step::Add], clients).losing(losses)
}

/// Clients of 2015 write `latest` backwards while others add, read and repair.
pub(super) fn adds_beside_2015() -> Scenario {
    let mut clients = vec![
        Client::new(&[Step::LegacyAdd]).with_skew(5),
        Client::new(&[Step::Add, Step::Latest]),
        steps(&[Step::Latest, Step::Repair, Step::Latest]),
    ];
    if tier::is_soak() {
        clients.push(Client::new(&[Step::LegacyAdd]).with_skew(-5));
    }
    timestamps("adds beside 2015", &[Step::Add], clients)
}

/// Two movers and a reader.
pub(super) fn moves(losses: u8, crashes: u8) -> Scenario {
    let clients = vec![
        Client::new(&[Step::Move(2, Some(1))]),
        steps(&[Step::Move(2, None), Step::Move(1, Some(2))]),
        Client::new(&[Step::Tag, Step::Tag]),
    ];
    sequence("moves", &TAGGED, clients).losing(losses).crashing(crashes)
}

/// The tag is removed and set while somebody else moves it.
pub(super) fn untag_and_tag(losses: u8) -> Scenario {
    let clients = vec![Client::new(&[Step::Untag, Step::Move(1, None)]), Client::new(&[Step::Move(2, None)])];
    sequence("untag and tag", &TAGGED, clients).losing(losses)
}

/// A client of 2015 overwrites the pointer blindly while others move it.
pub(super) fn moves_beside_2015(losses: u8, crashes: u8) -> Scenario {
    let clients = vec![
        Client::new(&[Step::Move(2, None)]),
        steps(&[Step::Move(2, None), Step::Move(1, None)]),
        Client::new(&[Step::LegacyTag(2)]),
    ];
    sequence("moves beside 2015", &TAGGED, clients).losing(losses).crashing(crashes)
}

/// A client of 2015 deletes the pointer while others move it.
pub(super) fn moves_beside_deletion() -> Scenario {
    let clients = vec![
        Client::new(&[Step::Move(2, None)]),
        Client::new(&[Step::LegacyUntag]),
        Client::new(&[Step::LegacyTag(1)]),
    ];
    sequence("moves beside a deletion of 2015", &TAGGED, clients)
}

/// A version is removed while the tag moves to it.
pub(super) fn removal_and_move(losses: u8, crashes: u8) -> Scenario {
    let clients = vec![Client::new(&[Step::Remove(2)]), Client::new(&[Step::Move(2, None)])];
    sequence("a removal and a move", &TAGGED, clients).losing(losses).crashing(crashes)
}

/// A version is removed while the tag is created on it.
pub(super) fn removal_and_first_tag(losses: u8, crashes: u8) -> Scenario {
    let clients = vec![Client::new(&[Step::Remove(2)]), Client::new(&[Step::Move(2, None)])];
    sequence("a removal and a first tag", &[Step::Add, Step::Add], clients).losing(losses).crashing(crashes)
}

/// Two removals of one version while the tag moves to it and away.
pub(super) fn two_removals_and_moves() -> Scenario {
    let clients = vec![
        Client::new(&[Step::Remove(2)]),
        Client::new(&[Step::Remove(2)]),
        Client::new(&[Step::Move(2, None)]),
    ];
    sequence("two removals and a move", &TAGGED, clients)
}

/// The newest version is removed while another is added: its number must not come again.
pub(super) fn removal_and_add(losses: u8) -> Scenario {
    let clients = vec![Client::new(&[Step::Remove(2), Step::Add]), Client::new(&[Step::Add])];
    sequence("a removal and an add", &[Step::Add, Step::Add], clients).losing(losses)
}
