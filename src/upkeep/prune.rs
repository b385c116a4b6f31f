//! Pruning: which versions of a package are no longer wanted, by rules that somebody gives. Pure; the caller removes the
//! versions from the ledger, and [`super::gc`] later their blobs.
//!
//! What a tag points to and the newest version always stay.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Result};
use crate::model::{TagState, Version, VersionRecord};

/// Versions from this number on are milliseconds since 1970 (2001 and later): their number tells their age.
const TIMESTAMPS_FROM: i64 = 1_000_000_000_000;

/// What to keep. A version goes only when no rule keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many versions that are not removed.
    pub keep_last: Option<usize>,
    /// Versions that were added less than this ago.
    pub keep_younger_than: Option<Duration>,
}

impl Policy {
    /// A policy with at least one rule.
    ///
    /// # Errors
    /// `Invalid` without any: it would remove everything that no tag points to.
    pub fn new(keep_last: Option<usize>, keep_younger_than: Option<Duration>) -> Result<Self> {
        if keep_last.is_none() && keep_younger_than.is_none() {
            return Err(Error::invalid("nothing says what to keep")
                .with_hint("give --keep-last N, --keep-younger-than 30d, or both"));
        }
        Ok(Self { keep_last, keep_younger_than })
    }
}

/// Why a version stays, or that it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is the newest.
    Latest,
    /// A tag points to it.
    Tagged,
    /// It is among the newest so many.
    Recent,
    /// It is younger than asked for.
    Young,
    /// Nobody knows how old it is, and age was asked about.
    AgeUnknown,
    /// No rule keeps it.
    Remove,
}

/// What becomes of each version of one package that is not removed, oldest first.
pub fn plan<'a>(
    records: &'a [VersionRecord],
    tags: &[TagState],
    policy: Policy,
    now: Timestamp,
) -> Vec<(&'a VersionRecord, Fate)> {
    let tagged: BTreeSet<Version> = tags.iter().filter_map(|tag| tag.version).collect();
    let mut there: Vec<&VersionRecord> = records.iter().filter(|record| !record.is_removed()).collect();
    there.sort_by_key(|record| record.version);
    let count = there.len();
    let fate = |(index, record): (usize, &VersionRecord)| {
        let newer = count - 1 - index;
        if newer == 0 {
            Fate::Latest
        } else if tagged.contains(&record.version) {
            Fate::Tagged
        } else if policy.keep_last.is_some_and(|keep| newer < keep) {
            Fate::Recent
        } else {
            match (policy.keep_younger_than, added_at(record)) {
                (None, _) => Fate::Remove,
                (Some(_), None) => Fate::AgeUnknown,
                (Some(limit), Some(added)) => {
                    let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
                    if now.duration_since(added) < limit { Fate::Young } else { Fate::Remove }
                }
            }
        }
    };
    there.iter().enumerate().map(|(index, record)| (*record, fate((index, record)))).collect()
}

/// When a version was added: by its record, or by a number that is a time.
fn added_at(record: &VersionRecord) -> Option<Timestamp> {
    record.added_at.or_else(|| {
        let number = record.version.get();
        if number < TIMESTAMPS_FROM { None } else { Timestamp::from_millisecond(number).ok() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Removal, TagName};

    const NOW: i64 = 1_800_000_000;
    const DAY: Duration = Duration::from_hours(24);

    fn record(version: &str, days_old: Option<i64>) -> VersionRecord {
        let at = days_old.map(|days| Timestamp::from_second(NOW - days * 86_400).expect("a time"));
        VersionRecord {
            added_at: at,
            ..VersionRecord::example("p", version.parse().expect("a number"), version.as_bytes())
        }
    }

    fn fates(records: &[VersionRecord], tagged: &[&str], policy: Policy) -> Vec<(String, Fate)> {
        let tags: Vec<TagState> = tagged
            .iter()
            .map(|version| TagState {
                tag: TagName::existing("live"),
                version: Some(version.parse().expect("a version")),
                event: None,
            })
            .collect();
        let now = Timestamp::from_second(NOW).expect("a time");
        plan(records, &tags, policy, now)
            .into_iter()
            .map(|(record, fate)| (record.version.to_string(), fate))
            .collect()
    }

    fn removed(fates: &[(String, Fate)]) -> Vec<&str> {
        fates.iter().filter(|(_, fate)| *fate == Fate::Remove).map(|(version, _)| version.as_str()).collect()
    }

    #[test]
    fn what_a_rule_keeps_stays() {
        let mut records: Vec<_> =
            (1..=6).map(|number| record(&number.to_string(), Some(10 - number))).collect();
        let by_count = Policy { keep_last: Some(2), keep_younger_than: None };
        assert_eq!(removed(&fates(&records, &["2"], by_count)), ["1", "3", "4"]);
        let by_age = Policy { keep_last: None, keep_younger_than: Some(DAY * 7) };
        // 9, 8, 7, ... days old: exactly the limit is not younger.
        assert_eq!(removed(&fates(&records, &[], by_age)), ["1", "2", "3"]);
        let both = Policy { keep_last: Some(5), keep_younger_than: Some(DAY) };
        assert_eq!(removed(&fates(&records, &[], both)), ["1"]);
        // Removed ones neither count nor are named.
        records[5].removal = Some(Removal {
            at: Timestamp::from_second(NOW).expect("a time"),
            by: "x".to_owned(),
            reason: None,
        });
        let left = fates(&records, &[], by_count);
        assert_eq!((left.len(), removed(&left)), (5, vec!["1", "2", "3"]));
    }

    #[test]
    fn the_newest_stays_whatever_is_asked() {
        let records = [record("1", Some(100)), record("2", Some(99))];
        let nothing = Policy { keep_last: Some(0), keep_younger_than: None };
        assert_eq!(fates(&records, &[], nothing)[1].1, Fate::Latest);
        assert!(Policy::new(None, None).is_err());
    }

    #[test]
    fn an_unknown_age_is_no_reason_to_remove() {
        let policy = Policy { keep_last: None, keep_younger_than: Some(DAY) };
        let old = (NOW - 2 * 86_400) * 1000;
        let records =
            [record("1", None), record(&old.to_string(), None), record(&(old + 1).to_string(), None)];
        let fates: Vec<Fate> = fates(&records, &[], policy).into_iter().map(|(_, fate)| fate).collect();
        assert_eq!(fates, [Fate::AgeUnknown, Fate::Remove, Fate::Latest]);
    }
}
