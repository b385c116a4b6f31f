//! Doctored histories: each takes a real, accepted history and makes one lie of it that its checker must find.
//!
//! A lie that the given history has no place for is left out; each kind of checker must be given at least
//! [`ENOUGH`] of them, and must reject every one.

use std::collections::{HashMap, HashSet};

use sacker::model::Event;

use super::history::{Answer, Call, Operation, Truth, Visible};
use super::register::{Act, Entry};

/// The least number of different lies that a checker must have found.
pub(crate) const ENOUGH: usize = 5;

/// A history that is not true.
pub(crate) struct Doctored {
    pub(crate) what: &'static str,
    pub(crate) operations: Vec<Operation>,
    pub(crate) truth: Truth,
}

/// One package's history, for making others of it.
struct Patient<'a> {
    operations: &'a [Operation],
    truth: &'a Truth,
    made: Vec<Doctored>,
}

impl<'a> Patient<'a> {
    fn new(operations: &'a [Operation], truth: &'a Truth) -> Self {
        Self { operations, truth, made: Vec::new() }
    }

    /// Tells the lie, if the doctor finds a place for it.
    fn doctor(
        &mut self,
        what: &'static str,
        tell: impl FnOnce(&mut Vec<Operation>, &mut Truth) -> Option<()>,
    ) {
        let (mut operations, mut truth) = (self.operations.to_vec(), self.truth.clone());
        if tell(&mut operations, &mut truth).is_some() {
            assert!(operations != self.operations || truth != *self.truth, "'{what}' changed nothing");
            self.made.push(Doctored { what, operations, truth });
        }
    }
}

/// The places of two of these, from the middle of the history on, of which one was called after the other had returned.
fn apart<T: Copy>(
    operations: &[Operation],
    pick: impl Fn(&Operation) -> Option<T>,
    fits: impl Fn(T, T) -> bool,
) -> Option<(usize, usize)> {
    let picked: Vec<(usize, T)> = operations
        .iter()
        .enumerate()
        .filter_map(|(place, operation)| Some((place, pick(operation)?)))
        .collect();
    let later = &picked[picked.len() / 3..];
    later.iter().enumerate().find_map(|(position, (first, one))| {
        let after = |place: usize| operations[place].called > operations[*first].returned;
        let mut rest = later[position + 1..].iter();
        rest.find(|(second, other)| after(*second) && fits(*one, *other)).map(|(second, _)| (*first, *second))
    })
}

fn swap_answers(operations: &mut [Operation], one: usize, other: usize) {
    let answer = operations[one].answer.take();
    operations[one].answer = operations[other].answer.replace(answer.expect("it was picked by its answer"));
}

fn added(operation: &Operation) -> Option<i64> {
    match (&operation.call, &operation.answer) {
        (Call::Add { .. }, Some(Answer::Version(version))) => *version,
        _ => None,
    }
}

fn latest(operation: &Operation) -> Option<i64> {
    match (&operation.call, &operation.answer) {
        (Call::Latest { .. }, Some(Answer::Version(version))) => *version,
        _ => None,
    }
}

/// Lies about `add`.
pub(crate) fn of_adds(operations: &[Operation], truth: &Truth, is_dense: bool) -> Vec<Doctored> {
    let mut patient = Patient::new(operations, truth);
    patient.doctor("two results swapped", |operations, _| {
        let (one, other) = apart(operations, added, |_, _| true)?;
        swap_answers(operations, one, other);
        Some(())
    });
    patient.doctor("two results swapped, and their records with them", |operations, truth| {
        let (one, other) = apart(operations, added, |one, other| one < other)?;
        let (low, high) = (added(&operations[one])?, added(&operations[other])?);
        swap_answers(operations, one, other);
        for visible in &mut truth.versions {
            visible.version = match visible.version {
                version if version == low => high,
                version if version == high => low,
                version => version,
            };
        }
        Some(())
    });
    patient.doctor("one version twice", |operations, _| {
        let (one, other) = apart(operations, added, |_, _| true)?;
        operations[other].answer = operations[one].answer.clone();
        Some(())
    });
    patient.doctor("an acked add whose version is gone", |operations, truth| {
        let version = operations.iter().find_map(added)?;
        truth.versions.retain(|visible| visible.version != version);
        Some(())
    });
    patient.doctor("a version listed that nobody added", |operations, _| {
        let place = operations.iter().position(|operation| added(operation).is_some())?;
        operations.remove(place);
        Some(())
    });
    patient.doctor("a version overwritten by another add", |operations, truth| {
        let (one, other) = apart(operations, added, |_, _| true)?;
        let (one, other) = (added(&operations[one])?, added(&operations[other])?);
        let writer = truth.versions.iter().find(|visible| visible.version == other)?.clone();
        let victim = truth.versions.iter_mut().find(|visible| visible.version == one)?;
        *victim = Visible { version: one, ..writer };
        Some(())
    });
    patient.doctor("an add called after a higher version was given", |operations, _| {
        let (one, other) = apart(operations, added, |one, other| one < other)?;
        let late = operations[other].returned;
        (operations[one].called, operations[one].returned) = (late + 1, late + 2);
        Some(())
    });
    patient.doctor("a failure that is none", |operations, _| {
        let place = operations.iter().position(|operation| added(operation).is_some())?;
        operations[place].answer = Some(Answer::Failed { code: 4, is_open: false, why: "doctored".into() });
        Some(())
    });
    if is_dense {
        patient.doctor("a gap", |operations, truth| {
            let (one, _) = apart(operations, added, |one, other| one < other)?;
            let version = added(&operations[one])?;
            operations.remove(one);
            truth.versions.retain(|visible| visible.version != version);
            Some(())
        });
    }
    patient.made
}

/// Lies about `latest`.
pub(crate) fn of_latest(operations: &[Operation], truth: &Truth) -> Vec<Doctored> {
    let mut patient = Patient::new(operations, truth);
    patient.doctor("two results swapped", |operations, _| {
        let (one, other) = apart(operations, latest, |one, other| one < other)?;
        swap_answers(operations, one, other);
        Some(())
    });
    patient.doctor("a stale read after a newer one finished", |operations, _| {
        let (one, other) = apart(operations, latest, |one, other| one <= other)?;
        let older = truth.versions.iter().map(|visible| visible.version);
        let older = older.filter(|version| Some(*version) < latest(&operations[one])).max()?;
        operations[other].answer = Some(Answer::Version(Some(older)));
        Some(())
    });
    patient.doctor("a read behind an acked add", |operations, _| {
        let either = |operation: &Operation| {
            added(operation)
                .map(|version| (true, version))
                .or(latest(operation).map(|version| (false, version)))
        };
        let (one, other) = apart(operations, either, |(is_add, one), (other_is_add, other)| {
            is_add && !other_is_add && one <= other
        })?;
        let older = added(&operations[one])? - 1;
        operations[other].answer = Some(Answer::Version((older > 0).then_some(older)));
        Some(())
    });
    patient.doctor("a read ahead of every add that was called", |operations, _| {
        let newest = truth.versions.iter().map(|visible| visible.version).max()?;
        let place =
            operations.iter().position(|operation| latest(operation).is_some_and(|read| read < newest))?;
        let end = operations[place].returned;
        let after = |operation: &&Operation| added(operation).is_some() && operation.called > end;
        operations[place].answer = Some(Answer::Version(operations.iter().find(after).and_then(added)));
        Some(())
    });
    patient.doctor("an add placed before its invocation", |operations, _| {
        let place = operations.iter().position(|operation| latest(operation).is_some())?;
        let read = latest(&operations[place])?;
        let end = operations[place].returned;
        let writer = operations.iter_mut().find(|operation| added(operation) == Some(read))?;
        (writer.called, writer.returned) = (end + 1, end + 2);
        Some(())
    });
    patient.doctor("a version that nobody added", |operations, _| {
        let place = operations.iter().rposition(|operation| latest(operation).is_some())?;
        let newest = truth.versions.iter().map(|visible| visible.version).max()?;
        operations[place].answer = Some(Answer::Version(Some(newest + 1)));
        Some(())
    });
    patient.doctor("nothing, after a version was acked", |operations, _| {
        let place = operations.iter().rposition(|operation| latest(operation).is_some())?;
        operations[place].answer = Some(Answer::Version(None));
        Some(())
    });
    patient.made
}

/// Lies about one tag.
pub(crate) fn of_tag(operations: &[Operation], truth: &Truth, tag: &str) -> Vec<Doctored> {
    fn events<'a>(truth: &'a mut Truth, tag: &str) -> Option<&'a mut Vec<Event>> {
        truth.events.get_mut(tag)
    }

    let mut patient = Patient::new(operations, truth);
    let ids: HashSet<&str> =
        truth.events.get(tag).into_iter().flatten().map(|event| event.id.as_str()).collect();
    let read = |operation: &Operation| match (&operation.call, &operation.answer) {
        (Call::Read { .. }, Some(Answer::Tag { seq: Some(seq), .. })) => Some(*seq),
        _ => None,
    };
    let written = |operation: &Operation| match (&operation.call, &operation.answer) {
        (Call::Tag { id, .. }, Some(Answer::Changed { seq, .. })) if ids.contains(id.as_str()) => *seq,
        _ => None,
    };
    patient.doctor("two results swapped", |operations, _| {
        let (one, other) = apart(operations, read, |one, other| one < other)?;
        swap_answers(operations, one, other);
        Some(())
    });
    patient.doctor("a stale read after a newer one finished", |operations, truth| {
        let (one, other) = apart(operations, read, |one, other| one > 1 && one <= other)?;
        let seq = read(&operations[one])? - 1;
        let event = truth.events.get(tag)?.iter().find(|event| event.seq == seq)?;
        let version = event.to.map(sacker::model::Version::get);
        operations[other].answer = Some(Answer::Tag { seq: Some(seq), version });
        Some(())
    });
    patient.doctor("an acked change removed from the history", |operations, truth| {
        let seq = operations.iter().find_map(written)?;
        events(truth, tag)?.retain(|event| event.seq != seq);
        Some(())
    });
    patient.doctor("an event without its change", |operations, _| {
        let place = operations.iter().position(|operation| written(operation).is_some())?;
        operations.remove(place);
        Some(())
    });
    patient.doctor("a forked chain", |_, truth| {
        let events = events(truth, tag)?;
        let (before, after) = (events.first()?.clone(), events.get_mut(2)?);
        (after.from, after.prev) = (before.to, Some(before.digest()));
        Some(())
    });
    patient.doctor("one event twice", |_, truth| {
        let events = events(truth, tag)?;
        let event = events.get(1)?.clone();
        events.insert(1, event);
        Some(())
    });
    patient.doctor("a change placed before its invocation", |operations, _| {
        let either = |operation: &Operation| {
            written(operation).map(|seq| (true, seq)).or(read(operation).map(|seq| (false, seq)))
        };
        let (one, other) = apart(operations, either, |(is_write, one), (other_is_write, other)| {
            is_write && !other_is_write && one <= other
        })?;
        let late = operations[other].returned;
        (operations[one].called, operations[one].returned) = (late + 1, late + 2);
        Some(())
    });
    patient.doctor("a failure that is none", |operations, _| {
        let place = operations.iter().position(|operation| written(operation).is_some())?;
        operations[place].answer = Some(Answer::Conflict { seq: None, version: None });
        Some(())
    });
    patient.doctor("a read of another version than the event's", |operations, _| {
        let place = operations.iter().rposition(|operation| read(operation).is_some())?;
        let seq = read(&operations[place]);
        operations[place].answer = Some(Answer::Tag { seq, version: Some(i64::MAX) });
        Some(())
    });
    patient.made
}

/// Lies about the register: of calls whose value nobody else wrote, so that no other order explains them.
pub(crate) fn of_register(initial: Option<i64>, entries: &[Entry]) -> Vec<(&'static str, Vec<Entry>)> {
    let mut writers: HashMap<Option<i64>, usize> = HashMap::from([(initial, 1)]);
    for entry in entries {
        if let Act::Write { to, .. } = entry.what {
            *writers.entry(to).or_default() += 1;
        }
    }
    let is_unique = |value: Option<i64>| writers.get(&value) == Some(&1);
    let read = |entry: &Entry| match entry.what {
        Act::Read(value) if is_unique(value) && value != initial => Some(value),
        _ => None,
    };
    let write = |entry: &Entry| match entry.what {
        Act::Write { to, .. } if is_unique(to) => Some(to),
        _ => None,
    };
    let place_of_write = |value: Option<i64>| entries.iter().position(|entry| write(entry) == Some(value));
    let seen = entries.iter().position(|entry| read(entry).is_some());
    let mut made = Vec::new();
    let mut doctor = |what: &'static str, tell: &dyn Fn(&mut Vec<Entry>) -> Option<()>| {
        let mut doctored = entries.to_vec();
        if tell(&mut doctored).is_some() {
            assert!(doctored != entries, "'{what}' changed nothing");
            made.push((what, doctored));
        }
    };
    let pair_of_reads = || {
        entries.iter().enumerate().find_map(|(place, first)| {
            let value = read(first)?;
            let differs = |entry: &Entry| {
                entry.called > first.returned && read(entry).is_some_and(|other| other != value)
            };
            entries.iter().position(differs).map(|other| (place, other))
        })
    };
    doctor("two results swapped", &|entries| {
        let (one, other) = pair_of_reads()?;
        (entries[one].what, entries[other].what) = (entries[other].what, entries[one].what);
        Some(())
    });
    doctor("a stale read after a newer one finished", &|entries| {
        let (one, _) = pair_of_reads()?;
        let end = entries.iter().map(|entry| entry.returned).max()?;
        // What was there before the newer value: nobody writes it again, so it cannot come back.
        entries.push(Entry { called: end + 1, returned: end + 2, what: entries[one].what });
        Some(())
    });
    doctor("an acked write removed", &|entries| {
        let value = read(&entries[seen?])?;
        entries.remove(place_of_write(value)?);
        Some(())
    });
    doctor("a write placed before its invocation", &|entries| {
        let value = read(&entries[seen?])?;
        let end = entries.iter().map(|entry| entry.returned).max()?;
        let place = place_of_write(value)?;
        (entries[place].called, entries[place].returned) = (end + 1, end + 2);
        Some(())
    });
    doctor("two exchanges of one value", &|entries| {
        // Each came over a value that was there once.
        let from = |entry: &Entry| match entry.what {
            Act::Write { from: Some(from), .. } if is_unique(from) => Some(from),
            _ => None,
        };
        let value = entries.iter().find_map(from)?;
        let end = entries.iter().map(|entry| entry.returned).max()?;
        entries.push(Entry {
            called: end + 1,
            returned: end + 2,
            what: Act::Write { from: Some(value), to: Some(i64::MAX) },
        });
        Some(())
    });
    doctor("a value that nobody wrote", &|entries| {
        entries[seen?].what = Act::Read(Some(i64::MAX));
        Some(())
    });
    doctor("answered before it was called", &|entries| {
        let entry = &mut entries[seen?];
        (entry.called, entry.returned) = (entry.returned + 1, entry.called);
        Some(())
    });
    made
}

/// A history of threads on a ledger in memory, so that the checkers are checked without any server.
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use sacker::connect::Connect;
    use sacker::ledger::{InitOptions, Ledger, MemoryObjects, ObjectLedger};
    use sacker::model::{Numbering, PackageName, TagName};

    use super::super::client::{Client, TAG, monotonic};
    use super::super::history::{self, Line, Truth, What};
    use super::super::windows::{Recorded, check_the_checkers, judge};

    const PACKAGE: &str = "package";

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    fn recorded(numbering: Numbering, seed: u64) -> Recorded {
        let uri = "file:///memory".parse().expect("a URI");
        let objects = MemoryObjects::new(numbering);
        let ledger: Arc<dyn Ledger> = Arc::new(ObjectLedger::new(uri, objects, Connect::default()));
        runtime().block_on(ledger.init(&InitOptions::default())).expect("init");
        let mut records: Vec<Vec<u8>> = Vec::new();
        std::thread::scope(|scope| {
            let thread = |number: usize| {
                let ledger = ledger.clone();
                scope.spawn(move || {
                    let mut client = Client::new(number, ledger, vec![PACKAGE.to_owned()], Vec::new());
                    runtime().block_on(client.run(100, seed));
                    client.into_record()
                })
            };
            let threads: Vec<_> = (1..=6).map(thread).collect();
            records.extend(threads.into_iter().map(|thread| thread.join().expect("a client")));
        });
        let mut lines: Vec<Line> = records
            .into_iter()
            .flat_map(|record| history::read(&String::from_utf8(record).expect("JSON is UTF-8")))
            .collect();
        lines.push(Line { client: 0, number: 0, at: monotonic(), what: What::Barrier });
        let package = PackageName::existing(PACKAGE.to_owned());
        let truth = runtime().block_on(async {
            let events = ledger.history(&package, &TagName::existing(TAG.to_owned())).await.expect("history");
            let versions = ledger.versions(&package).await.expect("versions");
            Truth {
                versions: versions.into_iter().map(Into::into).collect(),
                events: BTreeMap::from([(TAG.to_owned(), events)]),
            }
        });
        Recorded {
            operations: history::pair(lines).expect("a history"),
            truths: BTreeMap::from([(PACKAGE.to_owned(), truth)]),
            initial: BTreeMap::from([(PACKAGE.to_owned(), BTreeMap::from([(0, None)]))]),
            is_dense: numbering == Numbering::Sequence,
            seconds: 0.0,
        }
    }

    #[test]
    fn every_doctored_history_is_rejected() {
        let seed = crate::support::tier::seed("histories::doctors");
        for numbering in [Numbering::Sequence, Numbering::Timestamp] {
            let recorded = recorded(numbering, seed);
            let wrong = judge(&recorded);
            assert!(wrong.is_empty(), "seed {seed}: the true one is accepted: {wrong:#?}");
            check_the_checkers(&recorded);
        }
    }
}
