//! What must hold when all clients have ended: the promises of the ledger, against what it holds and what it told.

use std::collections::{BTreeMap, BTreeSet};

use sacker::ledger::{Ledger as _, ObjectLedger};
use sacker::model::{Event, Numbering, VersionRecord, verify_chain};

use super::explorer::at_once;
use super::scenarios::{self, Outcome, Record, Scenario, Step, id};
use super::world::{ModelObjects, Shared};

struct Audit<'a> {
    scenario: &'a Scenario,
    records: &'a [Record],
    versions: Vec<VersionRecord>,
    events: Vec<Event>,
    /// Whether a client of 2015 takes part, whose blind writes nobody can prevent.
    legacy_tags: bool,
}

fn must(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

/// The first promise that is broken.
pub(super) fn judge(scenario: &Scenario, world: &Shared, records: &[Record]) -> Result<(), String> {
    // A copy: the audit repairs and adopts, and the run may go on with writes that are late.
    let world = world.fresh(1, None);
    let objects = ModelObjects {
        world: world.clone(),
        client: 0,
        numbering: scenario.numbering,
        may_read: true,
        direct: true,
    };
    let ledger = scenarios::ledger(objects, 0);
    let package = scenarios::package();
    let read = |error: sacker::error::Error| format!("the ledger cannot be read: {error}");
    let versions = match at_once(ledger.versions(&package)) {
        Err(error) if error.is_not_found() => Vec::new(),
        versions => versions.map_err(read)?,
    };
    let events = match at_once(ledger.history(&package, &scenarios::live())) {
        Err(error) if error.is_not_found() => Vec::new(),
        events => events.map_err(read)?,
    };
    let is_legacy = |step: &Step| matches!(step, Step::LegacyTag(_) | Step::LegacyUntag);
    let legacy_tags = scenario.clients.iter().flat_map(|client| &client.steps).any(is_legacy);
    let audit = Audit { scenario, records, versions, events, legacy_tags };
    audit.adds(&world)?;
    audit.changes()?;
    audit.removals()?;
    audit.latest(&ledger)?;
    audit.tag(&ledger)?;
    audit.tag_reads()
}

impl Audit<'_> {
    /// G1, G2, G3: acked adds are there, once; refused ones are not; nothing is overwritten.
    fn adds(&self, world: &Shared) -> Result<(), String> {
        for record in self.records.iter().filter(|record| record.step == Step::Add) {
            let add_id = id(record.client, record.place);
            let is_own = |version: &&VersionRecord| version.add_id.as_deref() == Some(&add_id);
            let own: Vec<i64> =
                self.versions.iter().filter(is_own).map(|found| found.version.get()).collect();
            let may_read = self.scenario.clients[record.client].may_read;
            must(own.len() <= if may_read { 1 } else { 2 }, || format!("add {add_id} is versions {own:?}"))?;
            match &record.outcome {
                Outcome::Added(version) => {
                    let removed = self.was_removed(*version);
                    must(own.contains(version) || removed, || format!("acked version {version} is lost"))?;
                }
                Outcome::Refused(why) => {
                    must(own.is_empty(), || format!("add {add_id} failed ({why}) and is {own:?}"))?;
                }
                _ => {}
            }
        }
        if self.scenario.numbering == Numbering::Sequence {
            let dense = (1_i64..).zip(&self.versions).all(|(number, record)| record.version.get() == number);
            must(dense, || "the sequence has a gap".into())?;
        }
        let mut numbers = BTreeSet::new();
        for record in self.records {
            if let Outcome::Added(version) = record.outcome {
                must(numbers.insert(version), || format!("version {version} was given twice"))?;
            }
        }
        let overwritten = world.lock().overwritten.clone();
        must(overwritten.is_empty(), || format!("{overwritten:?} was overwritten"))
    }

    fn was_removed(&self, version: i64) -> bool {
        let removals = self.records.iter().filter(|record| record.outcome != Outcome::Legacy);
        let before = self.scenario.before.iter().copied();
        removals.map(|record| record.step).chain(before).any(|step| step == Step::Remove(version))
            || self
                .scenario
                .clients
                .iter()
                .flat_map(|client| &client.steps)
                .any(|step| *step == Step::Remove(version))
    }

    /// G4: one chain; every acked change is in it, once; no refused one is.
    fn changes(&self) -> Result<(), String> {
        verify_chain(&self.events).map_err(|broken| format!("the history is no chain: {broken}"))?;
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for event in &self.events {
            *times.entry(event.id.as_str()).or_default() += 1;
        }
        for record in self.records.iter().filter(|record| matches!(record.step, Step::Move(..) | Step::Untag))
        {
            let id = id(record.client, record.place);
            let times = times.get(id.as_str()).copied().unwrap_or(0);
            match &record.outcome {
                Outcome::Changed(true) => must(times == 1, || format!("acked change {id}: {times} events"))?,
                Outcome::Changed(false) | Outcome::Refused(_) => {
                    must(times == 0, || format!("change {id} ({:?}): {times} events", record.outcome))?;
                }
                _ => must(times <= 1, || format!("open change {id}: {times} events"))?,
            }
        }
        Ok(())
    }

    /// G3: a removed version stays, as a tombstone; a refused removal leaves it.
    fn removals(&self) -> Result<(), String> {
        for record in self.records {
            let Step::Remove(number) = record.step else { continue };
            let version = self.versions.iter().find(|found| found.version.get() == number);
            must(version.is_some(), || format!("version {number} is gone"))?;
            let is_removed = version.is_some_and(VersionRecord::is_removed);
            if record.outcome == Outcome::Removed {
                must(is_removed, || format!("version {number} is back after its removal"))?;
            }
        }
        Ok(())
    }

    /// G5: what readers were told never went backwards, and nothing acked was missed.
    fn latest(&self, ledger: &ObjectLedger<ModelObjects>) -> Result<(), String> {
        let removes = self.scenario.clients.iter().flat_map(|client| &client.steps);
        let any_removal = removes.chain(&self.scenario.before).any(|step| matches!(step, Step::Remove(_)));
        let newest = self.versions.iter().rev().find(|found| !found.is_removed());
        let now = match at_once(ledger.latest(&scenarios::package())) {
            Ok(record) => Some(record.version),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.to_string()),
        };
        must(now == newest.map(|found| found.version), || format!("latest is {now:?} in the end"))?;
        // After whoever can write looked after it, readers of 2015 see the same.
        at_once(ledger.repair(&scenarios::package())).map_err(|error| error.to_string())?;
        let hint = at_once(ledger.repair(&scenarios::package())).map_err(|error| error.to_string())?;
        must(hint.is_none(), || format!("a repair repairs again: {hint:?}"))?;

        if any_removal {
            return Ok(());
        }
        for record in self.records {
            let Outcome::Latest(told) = record.outcome else { continue };
            for before in record.after.iter().map(|position| &self.records[*position]) {
                let known = match before.outcome {
                    Outcome::Latest(version) => version,
                    Outcome::Added(version) => Some(version),
                    _ => None,
                };
                must(told >= known, || format!("latest was {told:?} after {known:?} was known"))?;
            }
        }
        Ok(())
    }

    /// The tag is where its last event says, and points to a version that is there.
    fn tag(&self, ledger: &ObjectLedger<ModelObjects>) -> Result<(), String> {
        let state = at_once(ledger.tag(&scenarios::package(), &scenarios::live()));
        let state = state.map_err(|error| format!("the tag cannot be read: {error}"))?;
        if self.legacy_tags {
            return Ok(());
        }
        let seq = state.as_ref().map_or(0, sacker::model::TagState::seq);
        let last = self.events.last().map_or(0, |event| event.seq);
        must(seq == last, || format!("the tag is at event {seq}, its history at {last}"))?;
        if let Some(version) = state.and_then(|state| state.version) {
            let target = self.versions.iter().find(|found| found.version == version);
            let is_there = target.is_some_and(|found| !found.is_removed());
            must(is_there, || format!("the tag points to version {version}, which is not there"))?;
        }
        Ok(())
    }

    /// A reader sees every change that was acked before it asked, and never an older one than before.
    fn tag_reads(&self) -> Result<(), String> {
        if self.legacy_tags {
            return Ok(());
        }
        for record in self.records {
            let Outcome::Tag(told) = record.outcome else { continue };
            for before in record.after.iter().map(|position| &self.records[*position]) {
                let known = match before.outcome {
                    Outcome::Tag(seq) => seq,
                    Outcome::Changed(true) => {
                        let id = id(before.client, before.place);
                        self.events.iter().find(|event| event.id == id).map_or(0, |event| event.seq)
                    }
                    _ => 0,
                };
                must(told >= known, || format!("the tag was at event {told} after {known} was known"))?;
            }
        }
        Ok(())
    }
}
