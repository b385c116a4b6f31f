//! One client: does operations on a ledger, through the library or through the command line, and records what it called
//! and what it was told.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use sacker::clock::{Clock as _, SystemClock};
use sacker::error::Error;
use sacker::ledger::{Ledger, TagOutcome};
use sacker::model::{
    Actor, Change, EventSource, Expected, NewVersion, PackageName, Sha256, TagChange, TagName, TagState,
    Version,
};

use super::command_line::CommandLine;
use super::history::{Answer, Call, Expectation, Line, What};

/// The one tag of each package: all clients meet there.
pub(crate) const TAG: &str = "live";

/// One client of one ledger.
pub(crate) struct Client<W> {
    number: usize,
    ledger: Arc<dyn Ledger>,
    command_line: Option<CommandLine>,
    packages: Vec<String>,
    random: fastrand::Rng,
    record: W,
    calls: u64,
    /// What it was told of each package: its versions, and the tag's newest event.
    known: BTreeMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    versions: Vec<i64>,
    tag: Option<(u64, Option<i64>)>,
}

/// How many versions a client remembers per package, to point tags to.
const REMEMBERED: usize = 50;

/// Nanoseconds of the host's monotonic clock.
pub(crate) fn monotonic() -> u64 {
    u64::try_from(SystemClock.monotonic().as_nanos()).expect("less than 500 years")
}

pub(crate) fn actor(client: usize, reason: &str) -> Actor {
    Actor { by: format!("client {client}"), reason: Some(reason.to_owned()), source: EventSource::Cli }
}

impl<W: Write> Client<W> {
    pub(crate) fn new(number: usize, ledger: Arc<dyn Ledger>, packages: Vec<String>, record: W) -> Self {
        let known = BTreeMap::new();
        Self {
            number,
            ledger,
            command_line: None,
            packages,
            random: fastrand::Rng::new(),
            record,
            calls: 0,
            known,
        }
    }

    /// One operation in twenty goes through the command line from now on.
    pub(crate) fn with_command_line(mut self, command_line: CommandLine) -> Self {
        self.command_line = Some(command_line);
        self
    }

    /// Does `count` operations, chosen by `seed`: half `add`, a fifth `latest`, the rest changes of the tag and reads.
    pub(crate) async fn run(&mut self, count: usize, seed: u64) {
        self.random.seed(seed.wrapping_add(self.number as u64));
        for _ in 0..count {
            let call = self.choose();
            self.perform(call).await;
        }
        self.record.flush().expect("the record can be written");
    }

    /// From now on it does its operations on these packages.
    pub(crate) fn works_on(&mut self, packages: Vec<String>) {
        self.packages = packages;
    }

    /// Its record, when it is done.
    pub(crate) fn into_record(self) -> W {
        self.record
    }

    /// Teaches it versions to point tags to.
    pub(crate) fn knows(mut self, package: &str, versions: &[i64]) -> Self {
        self.known.entry(package.to_owned()).or_default().versions.extend(versions);
        self
    }

    fn choose(&mut self) -> Call {
        let package = self.packages[self.random.usize(..self.packages.len())].clone();
        let known = self.known.entry(package.clone()).or_default();
        let tag = TAG.to_owned();
        let id = uuid::Uuid::new_v4().to_string();
        let some_version = |random: &mut fastrand::Rng| known.versions[random.usize(..known.versions.len())];
        let dice = self.random.u8(..100);
        if dice < 50 || known.versions.is_empty() {
            return Call::Add { package, sha: Sha256::of(id.as_bytes()).to_string(), id };
        }
        match dice {
            50..70 => Call::Latest { package },
            70..85 => {
                let to = (self.random.u8(..10) > 0).then(|| some_version(&mut self.random));
                let expected = match (self.random.u8(..10), known.tag) {
                    (0..4, Some((_, Some(version)))) => Expectation::Version(version),
                    (4..8, Some((seq, _))) if seq > 0 => Expectation::Seq(seq),
                    _ => Expectation::Any,
                };
                Call::Tag { package, tag, to, expected, id }
            }
            85..93 => Call::Read { package, tag },
            _ => {
                let version = some_version(&mut self.random);
                Call::Info { package, version }
            }
        }
    }

    /// Does one operation and records it.
    pub(crate) async fn perform(&mut self, call: Call) -> Answer {
        let command_line = self.command_line.clone().filter(|_| self.random.u8(..20) == 0);
        let typed = command_line.map(|command_line| (command_line.prepare(self.number, &call), command_line));
        let call = typed.as_ref().map_or(call, |(typed, _)| typed.call.clone());
        self.calls += 1;
        self.write(What::Call(call.clone()));
        let answer = match typed {
            Some((typed, command_line)) => command_line.run(&typed),
            None => perform(self.ledger.as_ref(), self.number, &call).await,
        };
        self.write(What::Answer(answer.clone()));
        self.remember(&call, &answer);
        answer
    }

    fn write(&mut self, what: What) {
        let line = Line { client: self.number, number: self.calls, at: monotonic(), what };
        let mut text = serde_json::to_string(&line).expect("a line is plain data");
        text.push('\n');
        self.record.write_all(text.as_bytes()).expect("the record can be written");
    }

    fn remember(&mut self, call: &Call, answer: &Answer) {
        let known = self.known.entry(call.package().to_owned()).or_default();
        match answer {
            Answer::Version(Some(version)) if !known.versions.contains(version) => {
                known.versions.push(*version);
                if known.versions.len() > REMEMBERED {
                    known.versions.remove(0);
                }
            }
            Answer::Changed { seq: Some(seq), to: version, .. } | Answer::Tag { seq: Some(seq), version } => {
                known.tag = Some((*seq, *version));
            }
            Answer::Tag { seq: None, version: Some(version) } => known.tag = Some((0, Some(*version))),
            _ => {}
        }
    }
}

/// What is asked of the library.
async fn perform(ledger: &dyn Ledger, client: usize, call: &Call) -> Answer {
    match try_perform(ledger, client, call).await {
        Ok(answer) => answer,
        Err(error) => Answer::of_error(&error),
    }
}

/// An `add` of made-up bytes.
pub(crate) fn new_version(client: usize, sha: &str, id: &str) -> NewVersion {
    NewVersion {
        sha256: sha.parse().expect("a digest"),
        size: 7,
        basename: "app.jar".into(),
        mode: 0o100_644,
        metadata: BTreeMap::new(),
        added_by: format!("client {client}"),
        if_latest: None,
        add_id: id.to_owned(),
    }
}

/// A change as it is asked of the library.
pub(crate) fn tag_change(client: usize, to: Option<i64>, expected: Expectation, id: &str) -> TagChange {
    let version = |number: i64| Version::new(number).expect("a positive number");
    let change = match to {
        Some(to) => Change::Move { to: version(to), hold: None },
        None => Change::Untag,
    };
    let expected = match expected {
        Expectation::Any => Expected::Any,
        Expectation::Version(number) => Expected::Version(version(number)),
        Expectation::Seq(seq) => Expected::Seq(seq),
    };
    let mut change = TagChange::new(change, actor(client, "a test")).expecting(expected);
    id.clone_into(&mut change.id);
    change
}

/// A tag as a reader was told of it.
pub(crate) fn state_of(state: Option<&TagState>) -> Answer {
    match state {
        None => Answer::Tag { seq: Some(0), version: None },
        Some(state) => Answer::Tag { seq: Some(state.seq()), version: state.version.map(Version::get) },
    }
}

/// A change as its caller was told of it.
pub(crate) fn outcome_of(outcome: &TagOutcome) -> Answer {
    match &outcome.event {
        Some(event) => Answer::Changed {
            seq: Some(event.seq),
            from: outcome.previous.map(Version::get),
            to: event.to.map(Version::get),
        },
        // A tag that is not there and never was has no event either.
        None => state_of(Some(&outcome.state)),
    }
}

async fn try_perform(ledger: &dyn Ledger, client: usize, call: &Call) -> Result<Answer, Error> {
    let package = PackageName::existing(call.package().to_owned());
    Ok(match call {
        Call::Add { sha, id, .. } => {
            let record = ledger.add(&package, &new_version(client, sha, id)).await?;
            Answer::Version(Some(record.version.get()))
        }
        Call::Latest { .. } => Answer::Version(Some(ledger.latest(&package).await?.version.get())),
        Call::Tag { tag, to, expected, id, .. } => {
            let change = tag_change(client, *to, *expected, id);
            outcome_of(&ledger.change_tag(&package, &TagName::existing(tag.clone()), &change).await?)
        }
        Call::Read { tag, .. } => {
            state_of(ledger.tag(&package, &TagName::existing(tag.clone())).await?.as_ref())
        }
        Call::Info { version, .. } => {
            let version = Version::new(*version).expect("a positive number");
            let record = ledger.version(&package, version).await?;
            Answer::Record { version: record.version.get(), sha: record.sha256.to_string() }
        }
    })
}
