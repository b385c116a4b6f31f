//! What one run of collection does with each blob. Pure: times, blobs and references come in, decisions and the next
//! manifest come out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::manifest::{Condemned, Manifest, State};
use crate::model::Sha256;
use crate::store::{RESOLUTION, StoredBlob, Timing};

/// What a collection goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// G: how long ago a blob must have been written. At least the grace that the store's writers keep.
    pub grace: Duration,
    /// Between condemning a blob and deleting it, both after a full read of the ledgers.
    pub period: Duration,
    /// T: how long after having seen a blob a writer may still add a version of it.
    pub publish_within: Duration,
    /// How much two times may be apart and still be in the wrong order.
    pub resolution: Duration,
    /// Hide first and delete later: for stores whose writers cannot make a blob younger (create-only).
    pub two_steps: bool,
    /// At most this share of the blobs is hidden or deleted in one run, in percent, rounded up; all of them without.
    pub max_percent: Option<u8>,
}

impl Rules {
    /// The rules for a store whose writers keep `timing`: a period of T, and at most a tenth of the blobs.
    pub fn new(timing: Timing, two_steps: bool) -> Self {
        Self {
            grace: timing.grace(),
            period: timing.publish_within(),
            publish_within: timing.publish_within(),
            resolution: RESOLUTION,
            two_steps,
            max_percent: Some(10),
        }
    }

    /// How long a hidden blob waits: until whoever saw it before has written its version, or never will. Twice the time in
    /// which that must begin, since it may take its time.
    pub fn wait_after_hiding(&self) -> Duration {
        (self.publish_within * 2).max(self.period).saturating_add(self.resolution)
    }
}

/// What a run has in front of it.
pub struct Situation<'a> {
    /// t0: the store's time, from before the blobs were listed.
    pub now: Timestamp,
    /// The blobs, listed after `now`.
    pub blobs: &'a [StoredBlob],
    /// Whether a version of any ledger refers to the digest, or somebody keeps it; read after the blobs were listed.
    pub is_referenced: &'a dyn Fn(&Sha256) -> bool,
    /// What the runs before this one condemned.
    pub manifest: &'a Manifest,
}

impl fmt::Debug for Situation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Situation")
            .field("now", &self.now)
            .field("blobs", &self.blobs)
            .finish_non_exhaustive()
    }
}

/// What is done with a blob, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Something refers to it: it stays.
    Referenced,
    /// Written less than G ago: somebody may be about to refer to it.
    TooYoung {
        /// From when on it can be condemned.
        until: Timestamp,
    },
    /// Unreferenced for the first time: it goes into the manifest.
    Condemn,
    /// Condemned, and the period is not over.
    Waiting {
        /// When it was condemned.
        since: Timestamp,
        /// From when on it can be deleted.
        until: Timestamp,
    },
    /// Could be deleted, and the share of this run is used up.
    Postponed {
        /// When it was condemned.
        since: Timestamp,
    },
    /// Deleted now.
    Delete {
        /// When it was condemned.
        since: Timestamp,
    },
    /// First step of two: hidden now.
    Hide {
        /// When it was condemned.
        since: Timestamp,
    },
    /// Hidden, and somebody who saw it before may still refer to it.
    Hidden {
        /// When it was hidden.
        since: Timestamp,
        /// From when on it can be deleted.
        until: Timestamp,
    },
    /// Hidden, and referred to after all: shown again now.
    Restore,
    /// Second step of two: deleted now.
    Purge {
        /// When it was hidden.
        since: Timestamp,
    },
}

impl Verdict {
    /// Whether this run changes the blob.
    pub const fn acts(self) -> bool {
        matches!(self, Self::Delete { .. } | Self::Hide { .. } | Self::Restore | Self::Purge { .. })
    }

    /// When another run can go on with the blob, if time alone is missing.
    pub const fn waits_until(self) -> Option<Timestamp> {
        match self {
            Self::Waiting { until, .. } | Self::Hidden { until, .. } => Some(until),
            _ => None,
        }
    }
}

/// A blob and what is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The blob, as it was seen now or when it was condemned.
    pub blob: StoredBlob,
    /// What is done with it.
    pub verdict: Verdict,
}

/// The decisions of one run, by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each blob once; a hidden blob that was written again has one for either.
    pub decisions: Vec<Decision>,
}

/// Decides about every blob of a store.
pub fn plan(situation: &Situation<'_>, rules: &Rules) -> Plan {
    let mut decisions: Vec<Decision> = Vec::with_capacity(situation.blobs.len());
    let mut left = share(situation.blobs.len(), rules.max_percent);
    for blob in situation.blobs {
        let mut verdict = of_visible(blob, situation, rules);
        if let Verdict::Delete { since } | Verdict::Hide { since } = verdict {
            match left.checked_sub(1) {
                Some(rest) => left = rest,
                None => verdict = Verdict::Postponed { since },
            }
        }
        decisions.push(Decision { blob: blob.clone(), verdict });
    }
    let visible: BTreeMap<Sha256, &StoredBlob> =
        situation.blobs.iter().map(|blob| (blob.sha256, blob)).collect();
    for (sha256, condemned) in &situation.manifest.blobs {
        let seen = visible.get(sha256).map(|blob| blob.revision.as_str());
        if let Some(verdict) = of_hidden(*sha256, condemned, seen, situation, rules) {
            decisions.push(Decision { blob: condemned.blob(*sha256), verdict });
        }
    }
    decisions.sort_by_key(|decision| decision.blob.sha256);
    Plan { decisions }
}

/// How many blobs a run may touch: the share rounded up, so that small stores are collected at all.
fn share(blobs: usize, max_percent: Option<u8>) -> usize {
    max_percent.map_or(usize::MAX, |percent| blobs.saturating_mul(usize::from(percent)).div_ceil(100))
}

fn of_visible(blob: &StoredBlob, situation: &Situation<'_>, rules: &Rules) -> Verdict {
    if (situation.is_referenced)(&blob.sha256) {
        return Verdict::Referenced;
    }
    let old_at = later(blob.modified, rules.grace.saturating_add(rules.resolution));
    if situation.now <= old_at {
        return Verdict::TooYoung { until: old_at };
    }
    // Condemned was one writing of the blob. Another one is there because somebody wanted it meanwhile.
    let condemned = situation.manifest.blobs.get(&blob.sha256).filter(|it| it.revision == blob.revision);
    let Some(condemned) = condemned else { return Verdict::Condemn };
    let until = later(condemned.since, rules.period);
    if situation.now < until {
        return Verdict::Waiting { since: condemned.since, until };
    }
    let since = condemned.since;
    if rules.two_steps { Verdict::Hide { since } } else { Verdict::Delete { since } }
}

/// The verdict on a blob that an earlier run hid, or was about to hide. `visible` is the writing of it that is in the list.
/// Nothing if it is that one: then it is judged there.
fn of_hidden(
    sha256: Sha256,
    condemned: &Condemned,
    visible: Option<&str>,
    situation: &Situation<'_>,
    rules: &Rules,
) -> Option<Verdict> {
    let since = condemned.since;
    match (condemned.state, visible) {
        (State::Condemned, _) => None,
        (State::Hiding | State::Hidden, Some(revision)) if revision == condemned.revision => None,
        // Written again on top of the hidden one, which nobody needs any more.
        (State::Hiding | State::Hidden, Some(_)) => Some(Verdict::Purge { since }),
        (State::Hiding | State::Hidden, None) if (situation.is_referenced)(&sha256) => Some(Verdict::Restore),
        // Nobody knows when it was hidden: the time counts from the end of this run.
        (State::Hiding, None) => Some(Verdict::Hide { since }),
        (State::Hidden, None) => {
            let until = later(since, rules.wait_after_hiding());
            Some(if situation.now <= until {
                Verdict::Hidden { since, until }
            } else {
                Verdict::Purge { since }
            })
        }
    }
}

fn later(time: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

impl Plan {
    /// The manifest to be written before anything is touched: what is condemned, what still waits, and what is about to be
    /// hidden. `marked_at` is the store's time after the ledgers were read.
    pub fn manifest_before(&self, manifest: &Manifest, marked_at: Timestamp) -> Manifest {
        let mut next = Manifest::default();
        for Decision { blob, verdict } in &self.decisions {
            let before = manifest.blobs.get(&blob.sha256);
            let (state, since) = match *verdict {
                Verdict::Referenced | Verdict::TooYoung { .. } => continue,
                Verdict::Condemn => (State::Condemned, marked_at),
                Verdict::Waiting { since, .. } | Verdict::Postponed { since } | Verdict::Delete { since } => {
                    (State::Condemned, since)
                }
                Verdict::Hide { since } => (State::Hiding, since),
                Verdict::Hidden { since, .. } | Verdict::Purge { since } => (State::Hidden, since),
                Verdict::Restore => (State::Hidden, before.map_or(marked_at, |before| before.since)),
            };
            let entry = condemned(blob, state, since);
            match next.blobs.entry(blob.sha256) {
                Entry::Vacant(place) => {
                    place.insert(entry);
                }
                // What is hidden must not be forgotten before it is purged; a newer writing of it can wait.
                Entry::Occupied(mut place) if state != State::Condemned => {
                    place.insert(entry);
                }
                Entry::Occupied(_) => {}
            }
        }
        next
    }
}

fn condemned(blob: &StoredBlob, state: State, since: Timestamp) -> Condemned {
    Condemned { state, since, revision: blob.revision.clone(), size: blob.size, modified: blob.modified }
}

#[cfg(test)]
mod tests;
