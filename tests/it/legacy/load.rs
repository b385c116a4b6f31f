//! Four clients of 2015 and four of ours at once on one package.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::peer::Refusal;
use super::*;
use crate::support::tier;

const EACH: usize = 4;

/// What was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    new: Vec<(Version, String)>,
    old: Vec<(Version, String)>,
    moves: usize,
}

/// A client of ours: it must never be refused.
async fn new_client(bed: &Bed, name: usize, mut random: fastrand::Rng, left: &AtomicUsize) -> Acknowledged {
    let mut done = Acknowledged::default();
    let ledger = ledger::open(&bed.uri, &bed.connect).await.expect("the ledger opens");
    let mut newest = None;
    while take(left) {
        match random.u32(0..10) {
            0..=5 => {
                let content = format!("new {name} {}", done.new.len());
                let record =
                    ledger.add(&bed.package, &new_version(&content, &[])).await.expect("it is added");
                done.new.push((record.version, content));
            }
            6..=7 if !done.new.is_empty() => {
                let to = done.new[random.usize(..done.new.len())].0;
                bed.tag("live", to).await;
                done.moves += 1;
            }
            _ => {
                let latest = ledger.latest(&bed.package).await.ok().map(|record| record.version);
                assert!(latest >= newest, "latest went back from {newest:?} to {latest:?}");
                newest = latest;
            }
        }
    }
    done
}

/// A client of 2015, with its races.
async fn old_client(bed: &Bed, name: usize, mut random: fastrand::Rng, left: &AtomicUsize) -> Acknowledged {
    let mut done = Acknowledged::default();
    while take(left) {
        match random.u32(0..10) {
            0..=5 => {
                let content = format!("old {name} {}", done.old.len());
                match bed.peer.add(bed.name(), &content, None).await {
                    Ok(number) => done.old.push((version(number), content)),
                    Err(Refusal::Race) => {}
                    Err(refusal) => panic!("{refusal:?}"),
                }
            }
            6..=7 if !done.old.is_empty() => {
                bed.old_tag("live", done.old[random.usize(..done.old.len())].0).await;
            }
            _ => match bed.peer.info(bed.name(), "live").await {
                Ok(_) | Err(Refusal::DoesNotExist) => {}
                Err(refusal) => panic!("{refusal:?}"),
            },
        }
    }
    done
}

fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

pub(super) async fn four_of_each_on_one_package(bed: Bed) {
    let seed = tier::seed(&format!("legacy::load::{:?}", bed.target));
    let operations = tier::figure(200, 2000);
    let started = Instant::now();
    let left = AtomicUsize::new(operations);
    let random = |index: usize| fastrand::Rng::with_seed(seed.wrapping_add(index as u64));
    let new = (0..EACH).map(|index| new_client(&bed, index, random(index), &left));
    let old = (0..EACH).map(|index| old_client(&bed, index, random(EACH + index), &left));
    let (new, old) = futures::join!(futures::future::join_all(new), futures::future::join_all(old));

    let records = bed.ledger.versions(&bed.package).await.expect("they are listed");
    let there: BTreeMap<Version, String> =
        records.iter().map(|record| (record.version, record.sha256.to_string())).collect();
    let ours: Vec<(Version, String)> = new
        .iter()
        .flat_map(|done| done.new.iter().map(|(version, content)| (*version, sha(content))))
        .collect();
    let theirs: BTreeSet<(Version, String)> = old
        .iter()
        .flat_map(|done| done.old.iter().map(|(version, content)| (*version, sha(content))))
        .collect();
    let numbers: BTreeSet<Version> = ours.iter().map(|(version, _)| *version).collect();
    assert_eq!(numbers.len(), ours.len(), "a number was given twice");
    // A put of 2015 has no condition on S3: one in the very millisecond of our version replaces it. Nothing else may.
    let overwritten =
        ours.iter().filter(|(version, sha)| there.get(version) != Some(sha)).collect::<Vec<_>>();
    for (version, _) in &overwritten {
        let by = there.get(version).map(|sha| (*version, sha.clone()));
        assert!(by.is_some_and(|by| theirs.contains(&by)), "acknowledged {version} is lost");
    }
    if bed.is_dynamo() {
        assert_eq!(overwritten.len(), 0);
        assert!(there.keys().map(|version| version.get()).eq((1..).take(there.len())), "there is a gap");
        assert_eq!(there.len(), ours.len() + theirs.len(), "every acknowledged add, and nothing else");
    }
    assert!(!ours.is_empty() && !theirs.is_empty());

    // Every acknowledged move of ours is in the one chain, which may say more about what they did.
    bed.tag("live", *numbers.first().expect("there is one")).await;
    let events = bed.events("live").await;
    let moves: usize = new.iter().map(|done| done.moves).sum();
    let told = events.iter().filter(|event| event.source == EventSource::Cli).count();
    assert!(told <= moves + 1, "{told} events of {moves} moves");

    // Old readers converge: they see what was added last.
    let last = bed.add("last").await;
    assert_eq!(bed.peer.latest(bed.name()).await, Ok(last.get()));
    assert_eq!(bed.ledger.latest(&bed.package).await.expect("latest").version, last);
    tier::summary(&format!(
        "V7 backend={:?} seed={seed} operations={operations} ours={} theirs={} overwritten={} violations=0 seconds={}",
        bed.target,
        ours.len(),
        theirs.len(),
        overwritten.len(),
        started.elapsed().as_secs()
    ));
}
