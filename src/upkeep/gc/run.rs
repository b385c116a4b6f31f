//! One run of collection: carries a plan out, in the order that makes it safe.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::TryStreamExt as _;
use jiff::Timestamp;

use super::manifest::{Manifest, State};
use super::mark::{Roots, mark};
use super::plan::{Decision, Plan, Rules, Situation, Verdict, plan};
use crate::crash_point::around;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::model::{Sha256, time};
use crate::store::{Collect, Deletion, Listed, StoredBlob, Unfinished};

/// What a run works on.
#[derive(Debug, Clone, Copy)]
pub struct Cycle<'a> {
    /// The store.
    pub store: &'a dyn Collect,
    /// Every ledger whose versions have their blobs in it.
    pub ledgers: &'a [Arc<dyn Ledger>],
    /// Digests that stay although no version refers to them, with the reason.
    pub kept: &'a BTreeMap<Sha256, String>,
    /// What it goes by.
    pub rules: Rules,
    /// Whether anything is changed; otherwise it is only said what would be.
    pub act: bool,
    /// Go on although a ledger has not a single version: nearly always that is the wrong ledger.
    pub empty_ledgers: bool,
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was to be done, or nothing is changed in this run.
    None,
    /// Carried out.
    Done,
    /// The blob was written again meanwhile, and stays.
    Changed,
    /// The blob was gone already.
    Absent,
}

/// What a run saw and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Each blob by digest, with what was decided and what came of it.
    pub blobs: Vec<(Decision, Outcome)>,
    /// What keeps blobs.
    pub roots: Roots,
    /// Things in the store that are no blobs.
    pub foreign: u64,
    /// What unfinished uploads left; true for what was removed, or would be.
    pub unfinished: Vec<(Unfinished, bool)>,
    /// From when on another run can go on with what waits.
    pub next_at: Option<Timestamp>,
}

impl Report {
    /// How many blobs and leftovers go for good in this run, or would.
    pub fn due(&self) -> (usize, usize) {
        let goes = |(decision, _): &&(Decision, Outcome)| {
            matches!(decision.verdict, Verdict::Delete { .. } | Verdict::Hide { .. } | Verdict::Purge { .. })
        };
        let leftovers = self.unfinished.iter().filter(|(_, goes)| *goes).count();
        (self.blobs.iter().filter(goes).count(), leftovers)
    }

    /// How many blobs were deleted for good.
    pub fn deleted(&self) -> usize {
        let gone = |(decision, outcome): &&(Decision, Outcome)| {
            matches!(decision.verdict, Verdict::Delete { .. } | Verdict::Purge { .. })
                && *outcome == Outcome::Done
        };
        self.blobs.iter().filter(gone).count()
    }
}

/// Runs one cycle.
///
/// # Errors
/// `Invalid` before anything is read: without a ledger, with a grace shorter than the writers', or for a create-only store
/// without versions. `Invalid` after reading ledgers without a single version. `Conflict` when another collection writes
/// the manifest at the same time. Else what store and ledgers say; nothing is deleted then that was not safe to delete.
///
/// # Cancellation
/// At any point, as with a killed process: the next run goes on from the manifest.
pub async fn collect(cycle: &Cycle<'_>) -> Result<Report> {
    let Cycle { store, rules, .. } = *cycle;
    check(cycle).await?;
    let read = store.read_manifest().await?;
    let revision = read.as_ref().map(|read| read.revision.clone());
    let before = match &read {
        Some(read) => Manifest::decode(&read.bytes, &store.place())?,
        None => Manifest::default(),
    };

    // The order of these three is the point: a reference that is written after the marking belongs to a blob that was too
    // young for the list.
    let now = store.now().await?;
    let (blobs, foreign) = list(store).await?;
    let roots = mark(cycle.ledgers, cycle.kept).await?;
    if let (Some(uri), false, false) = (&roots.empty, blobs.is_empty(), cycle.empty_ledgers) {
        let rule =
            format!("ledger {uri} has not a single version, so all blobs of its packages would be garbage");
        return Err(Error::invalid(rule).with_hint("check --ledger; if that is right, add --force"));
    }

    let is_referenced = |sha256: &Sha256| roots.contains(sha256);
    let situation = Situation { now, blobs: &blobs, is_referenced: &is_referenced, manifest: &before };
    let plan = plan(&situation, &rules);
    let mut report = Report { foreign, roots: roots.clone(), ..Report::default() };
    report.unfinished = leftovers(cycle, now).await?;
    if !cycle.act {
        report.next_at = next_at(&plan, None);
        report.blobs = plan.decisions.into_iter().map(|decision| (decision, Outcome::None)).collect();
        return Ok(report);
    }

    let mut manifest = plan.manifest_before(&before, store.now().await?);
    let mut revision = write(store, &before, &manifest, revision).await?;
    let written = manifest.clone();
    report.next_at = next_at(&plan, Some((&manifest, &rules)));
    let outcome = carry_out(store, plan, &mut manifest, &mut report).await;
    if manifest.blobs.values().any(|it| it.state == State::Hiding) {
        // What was hidden counts as hidden from now on, not from before it happened.
        let hidden_at = store.now().await?;
        let hidden: Vec<Sha256> = report
            .blobs
            .iter()
            .filter(|(decision, outcome)| {
                matches!(decision.verdict, Verdict::Hide { .. }) && *outcome == Outcome::Done
            })
            .map(|(decision, _)| decision.blob.sha256)
            .collect();
        for sha256 in hidden {
            if let Some(it) = manifest.blobs.get_mut(&sha256) {
                (it.state, it.since) = (State::Hidden, hidden_at);
            }
        }
    }
    // Also after a failure: what was done is done.
    revision = write(store, &written, &manifest, revision).await?;
    outcome?;
    let hidden = manifest.clone();
    show_again(cycle, &mut manifest, &mut report).await?;
    write(store, &hidden, &manifest, revision).await?;
    Ok(report)
}

/// Shows again what this run hid and somebody began to refer to after the marking: whoever looked before it was hidden found
/// it, so nobody else would. Left out by an interruption, the next run does it.
async fn show_again(cycle: &Cycle<'_>, manifest: &mut Manifest, report: &mut Report) -> Result<()> {
    let is_hidden = |(decision, outcome): &(Decision, Outcome)| {
        matches!(decision.verdict, Verdict::Hide { .. }) && *outcome == Outcome::Done
    };
    if !report.blobs.iter().any(is_hidden) {
        return Ok(());
    }
    let roots = mark(cycle.ledgers, cycle.kept).await?;
    for entry in report.blobs.iter_mut().filter(|entry| is_hidden(entry)) {
        if roots.contains(&entry.0.blob.sha256) {
            around("gc.restore", cycle.store.restore(&entry.0.blob)).await?;
            manifest.blobs.remove(&entry.0.blob.sha256);
            entry.1 = Outcome::Changed;
        }
    }
    Ok(())
}

async fn check(cycle: &Cycle<'_>) -> Result<()> {
    let Cycle { store, rules, .. } = *cycle;
    if cycle.ledgers.is_empty() {
        return Err(Error::invalid("no ledger says what is referred to"));
    }
    let usual = store.timing().grace();
    if rules.grace < usual {
        let rule = format!(
            "a grace of {} is shorter than the {} that writers of {} count on",
            time::format_span(rules.grace),
            time::format_span(usual),
            store.place()
        );
        return Err(Error::invalid(rule)
            .with_hint("a shorter one has to be in the store's URI, for all who write: ?grace=12h"));
    }
    if store.is_create_only() && !store.is_versioned().await? {
        let rule = format!(
            "{} is create-only and keeps no versions: writers cannot make a blob younger there, and what is \
            deleted cannot be restored",
            store.place()
        );
        return Err(Error::invalid(rule).with_hint("switch the bucket's versioning on, and run this again"));
    }
    Ok(())
}

async fn list(store: &dyn Collect) -> Result<(Vec<StoredBlob>, u64)> {
    let (mut blobs, mut foreign) = (Vec::new(), 0);
    let mut listed = store.list();
    while let Some(entry) = listed.try_next().await? {
        match entry {
            Listed::Blob(blob) => blobs.push(blob),
            Listed::Foreign(_) => foreign += 1,
        }
    }
    blobs.sort_by_key(|blob| blob.sha256);
    Ok((blobs, foreign))
}

/// Unfinished uploads, and whether they go: what nobody works on, or what nobody can work on any more after the grace.
async fn leftovers(cycle: &Cycle<'_>, now: Timestamp) -> Result<Vec<(Unfinished, bool)>> {
    let mut found = Vec::new();
    for unfinished in cycle.store.unfinished().await? {
        let age = now.duration_since(unfinished.since);
        let is_old = std::time::Duration::try_from(age)
            .is_ok_and(|age| age > cycle.rules.grace + cycle.rules.resolution);
        let mut goes = unfinished.abandoned || is_old;
        if goes && cycle.act {
            goes = around("gc.discard", cycle.store.discard(&unfinished)).await?;
        }
        found.push((unfinished, goes));
    }
    Ok(found)
}

/// Carries the decisions out one by one. What is done leaves the manifest.
async fn carry_out(
    store: &dyn Collect,
    plan: Plan,
    manifest: &mut Manifest,
    report: &mut Report,
) -> Result<()> {
    for decision in plan.decisions {
        let blob = &decision.blob;
        let outcome = match decision.verdict {
            Verdict::Delete { .. } => of(around("gc.delete", store.delete(blob)).await?),
            Verdict::Hide { .. } => of(around("gc.hide", store.hide(blob)).await?),
            Verdict::Restore => {
                around("gc.restore", store.restore(blob)).await?;
                Outcome::Done
            }
            Verdict::Purge { .. } => {
                around("gc.purge", store.purge(blob)).await?;
                Outcome::Done
            }
            _ => Outcome::None,
        };
        let stays = matches!(decision.verdict, Verdict::Hide { .. }) && outcome == Outcome::Done;
        if decision.verdict.acts() && !stays {
            manifest.blobs.remove(&blob.sha256);
        }
        report.blobs.push((decision, outcome));
    }
    Ok(())
}

fn of(deletion: Deletion) -> Outcome {
    match deletion {
        Deletion::Done => Outcome::Done,
        Deletion::Changed => Outcome::Changed,
        Deletion::Absent => Outcome::Absent,
    }
}

/// When the first of what waits can go on: by the plan, or for what this run condemned and hid, by the manifest.
fn next_at(plan: &Plan, written: Option<(&Manifest, &Rules)>) -> Option<Timestamp> {
    let waiting = plan.decisions.iter().filter_map(|decision| decision.verdict.waits_until());
    let begun = written.into_iter().flat_map(|(manifest, rules)| {
        let begun = plan
            .decisions
            .iter()
            .filter(|decision| matches!(decision.verdict, Verdict::Condemn | Verdict::Hide { .. }));
        begun.filter_map(move |decision| {
            let since = manifest.blobs.get(&decision.blob.sha256)?.since;
            let wait =
                if decision.verdict == Verdict::Condemn { rules.period } else { rules.wait_after_hiding() };
            since.checked_add(wait).ok()
        })
    });
    waiting.chain(begun).min()
}

async fn write(
    store: &dyn Collect,
    before: &Manifest,
    manifest: &Manifest,
    revision: Option<String>,
) -> Result<Option<String>> {
    if before == manifest {
        return Ok(revision);
    }
    let written = store.write_manifest(manifest.encode()?, revision.as_deref());
    around("gc.manifest", written).await.map(Some)
}
