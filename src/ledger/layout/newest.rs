//! The newest versions of a package: which numbers there are, and the records of the last few.
//!
//! Whoever looked before says what is known, and then only the end of the versions is listed, and only records whose
//! revision changed are read. Nobody else's knowledge is trusted: without revisions, everything is read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{FIRST_TIMESTAMP, ObjectLedger, PAGE, READS, keys};
use crate::error::{Error, Missing, Result};
use crate::ledger::known::{Known, Read, Tail};
use crate::ledger::{ConditionalObjects, Newest, Revision};
use crate::model::{Numbering, PackageName, Version, VersionRecord};

/// After so many looks at the end of timestamp versions their beginning is counted again: an import, or a clock far
/// behind, may have added versions there, which no tail shows.
const RECOUNT: u8 = 50;

/// Versions with the revisions that a listing gave.
pub(super) type Listed = BTreeMap<Version, Option<Revision>>;

/// What somebody asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// How many versions that were not removed.
    pub(super) count: usize,
    /// How many records may be read at a time.
    pub(super) reads: usize,
}

/// The newest versions as they were found.
#[derive(Debug)]
pub(super) struct Found {
    /// Newest first, removed ones among them.
    pub(super) records: Vec<Read<Arc<VersionRecord>>>,
    /// How many versions were ever added.
    pub(super) version_count: u64,
    /// Where to go on another time.
    pub(super) tail: Option<Tail>,
}

impl Found {
    /// The newest `count` that were not removed, newest first.
    pub(super) fn live(&self, count: usize) -> Vec<Arc<VersionRecord>> {
        let records = self.records.iter().map(|read| &read.value);
        records.filter(|record| !record.is_removed()).take(count).cloned().collect()
    }
}

/// Records down from the newest.
#[derive(Debug, Default)]
struct Walked {
    records: Vec<Read<Arc<VersionRecord>>>,
    live: usize,
    /// Whether it ended at a version that is not there.
    has_hole: bool,
}

impl<O: ConditionalObjects> ObjectLedger<O> {
    pub(super) async fn newest_versions(&self, package: &PackageName, count: usize) -> Result<Newest> {
        let wanted = Wanted { count, reads: READS };
        let found = self.newest_since(package, wanted, &Known::default()).await?;
        let records = found.live(count).into_iter().map(Arc::unwrap_or_clone).collect();
        Ok(Newest { records, version_count: found.version_count })
    }

    /// The newest versions. `NotFound(Package)` where none was ever added.
    pub(super) async fn newest_since(
        &self,
        package: &PackageName,
        wanted: Wanted,
        known: &Known,
    ) -> Result<Found> {
        let sequence = self.known_numbering().await? == Numbering::Sequence;
        if let Some(tail) = &known.tail {
            let found = if sequence {
                self.numbers_since(package, wanted, known, tail).await?
            } else {
                self.stamps_since(package, wanted, known, tail).await?
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        if sequence {
            let hint = self.hint(package).await?;
            let highest = self.highest(package, &hint).await?;
            let found = self.numbers_down(package, wanted, known, highest, &Listed::new()).await?;
            if let Some(found) = found {
                return Ok(found);
            }
            // A sequence with a hole is none: a client that numbers otherwise wrote here. Only a listing knows.
        }
        let listed = self.listed_versions(package, &keys::versions(package)).await?;
        if listed.is_empty() {
            return Err(Error::not_found(Missing::Package(package.clone())));
        }
        let walked = self.walk(package, listed.keys().rev().copied(), &listed, wanted, known).await?;
        let tail = (!sequence).then(|| stamp_tail(&walked, &listed, 0, RECOUNT)).flatten();
        Ok(Found { version_count: listed.len() as u64, records: walked.records, tail })
    }

    /// Timestamps sort as numbers, so what is new is listed behind what is known. Nothing when the whole must be listed.
    async fn stamps_since(
        &self,
        package: &PackageName,
        wanted: Wanted,
        known: &Known,
        tail: &Tail,
    ) -> Result<Option<Found>> {
        let before = Version::new(tail.oldest.get() - 1);
        let (Some(before), Some(uses)) = (before, tail.uses.checked_sub(1)) else { return Ok(None) };
        let listed = self.listed_versions(package, &keys::version(package, before)).await?;
        let walked = self.walk(package, listed.keys().rev().copied(), &listed, wanted, known).await?;
        if walked.live < wanted.count && tail.before > 0 {
            // Some of them were removed: older ones take their places.
            return Ok(None);
        }
        if listed.is_empty() {
            return Ok(None);
        }
        let version_count = tail.before + listed.len() as u64;
        let tail = stamp_tail(&walked, &listed, tail.before, uses);
        Ok(Some(Found { version_count, records: walked.records, tail }))
    }

    /// Numbers of a sequence sort as text, so each length is listed for itself. Nothing where that cannot tell.
    async fn numbers_since(
        &self,
        package: &PackageName,
        wanted: Wanted,
        known: &Known,
        tail: &Tail,
    ) -> Result<Option<Found>> {
        let Some(following) = tail.highest.next() else { return Ok(None) };
        let prefix = keys::versions(package);
        let mut listed = Listed::new();
        for span in spans(tail.oldest, following) {
            if span.rows > PAGE {
                return Ok(None);
            }
            let page = self.objects.list(&prefix, &format!("{prefix}{}", span.after), span.rows).await?;
            let until = format!("{prefix}{}", span.until);
            if page.len() == span.rows && page.last().is_some_and(|entry| entry.key < until) {
                return Ok(None);
            }
            let numbers = page.into_iter().filter_map(|entry| {
                let version: Version = entry.key[prefix.len()..].parse().ok()?;
                (tail.oldest <= version && version <= following).then_some((version, entry.revision))
            });
            listed.extend(numbers);
        }
        let is_there =
            |number: i64| Version::new(number).is_some_and(|version| listed.contains_key(&version));
        if !(tail.oldest.get()..following.get()).all(is_there) {
            return Ok(None);
        }
        let highest = if listed.contains_key(&following) {
            self.highest_in_sequence(package, Some(following)).await?
        } else {
            Some(tail.highest)
        };
        self.numbers_down(package, wanted, known, highest, &listed).await
    }

    /// The records of a sequence from `highest` down; nothing if it has a hole.
    async fn numbers_down(
        &self,
        package: &PackageName,
        wanted: Wanted,
        known: &Known,
        highest: Option<Version>,
        listed: &Listed,
    ) -> Result<Option<Found>> {
        let Some(highest) = highest else { return Ok(None) };
        let versions = (1..=highest.get()).rev().filter_map(Version::new);
        let walked = self.walk(package, versions, listed, wanted, known).await?;
        if walked.has_hole {
            return Ok(None);
        }
        let oldest = walked.records.last().map(|read| read.value.version);
        let tail = oldest.filter(|_| self.objects.lists_revisions()).map(|oldest| {
            let before = oldest.get().unsigned_abs() - 1;
            Tail { oldest, highest, before, uses: RECOUNT }
        });
        let version_count = highest.get().unsigned_abs();
        Ok(Some(Found { records: walked.records, version_count, tail }))
    }

    /// All versions whose keys come after `start`.
    pub(super) async fn listed_versions(&self, package: &PackageName, start: &str) -> Result<Listed> {
        let prefix = keys::versions(package);
        let entries = self.list_all(&prefix, start).await?;
        // Other keys there belong to a package of 2015 whose name contains `/versions/`.
        let version = |key: &str| key[prefix.len()..].parse().ok();
        Ok(entries.into_iter().filter_map(|entry| Some((version(&entry.key)?, entry.revision))).collect())
    }

    /// Reads records in the order of `versions` until enough of them were not removed.
    async fn walk(
        &self,
        package: &PackageName,
        mut versions: impl Iterator<Item = Version> + Send,
        listed: &Listed,
        wanted: Wanted,
        known: &Known,
    ) -> Result<Walked> {
        let mut walked = Walked::default();
        let mut fruitless = 0;
        while walked.live < wanted.count && !walked.has_hole {
            // No more than can be needed, unless there is a long row of removed ones.
            let step = (wanted.count - walked.live).max(fruitless);
            let round: Vec<Version> = versions.by_ref().take(step).collect();
            if round.is_empty() {
                break;
            }
            let read = |version: Version| async move {
                let revision = listed.get(&version).and_then(Option::as_ref);
                match known.records.get(&version) {
                    Some(read) if read.is_at(revision) => Ok(Some(read.clone())),
                    _ => self.read_version(package, version).await,
                }
            };
            let reads = stream::iter(round.iter().copied()).map(read).buffered(wanted.reads);
            let found: Vec<_> = reads.try_collect().await?;
            let live = walked.live;
            for (version, read) in round.iter().zip(found) {
                // One that was listed was deleted since, by hand.
                walked.has_hole |= read.is_none() && !listed.contains_key(version);
                walked.live += usize::from(read.as_ref().is_some_and(|read| !read.value.is_removed()));
                walked.records.extend(read);
            }
            fruitless = if walked.live == live { (step * 2).min(READS) } else { 0 };
        }
        Ok(walked)
    }

    /// A version, removed or not, with its revision; nothing if it was never added.
    pub(super) async fn read_version(
        &self,
        package: &PackageName,
        version: Version,
    ) -> Result<Option<Read<Arc<VersionRecord>>>> {
        let stored = self.stored_version(package, version).await?;
        Ok(stored
            .map(|stored| Read { value: Arc::new(stored.record), revision: Some(stored.object.revision) }))
    }
}

/// Where to go on with timestamps; nothing for other numbers, whose keys do not sort as they do. `before` is the number of
/// versions that were not listed.
fn stamp_tail(walked: &Walked, listed: &Listed, before: u64, uses: u8) -> Option<Tail> {
    let oldest = walked.records.last()?.value.version;
    let (highest, _) = listed.last_key_value()?;
    let are_stamps = oldest.get() >= FIRST_TIMESTAMP && highest.get() / 10 < FIRST_TIMESTAMP;
    let oldest_text = oldest.to_string();
    let left_out = listed.keys().filter(|version| version.to_string() < oldest_text).count() as u64;
    are_stamps.then_some(Tail { oldest, highest: *highest, before: before + left_out, uses })
}

/// One listing of a part of the numbers.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    /// The text after which it begins.
    after: String,
    /// The text that it must reach, or come to its end before.
    until: String,
    /// How many rows it can have up to there, where no number is greater.
    rows: usize,
}

/// The listings that show every number from `first` to `last`: one per length, since among numbers of one length, and only
/// there, the order of texts is the order of numbers; or one of them all, where they fit into a page.
fn spans(first: Version, last: Version) -> Vec<Span> {
    let mut spans = Vec::new();
    let (mut from, last) = (first.get(), last.get());
    if from.ilog10() < last.ilog10() && usize::try_from(last).is_ok_and(|last| last < PAGE) {
        // `:` comes after all digits.
        return vec![Span { after: String::new(), until: ":".to_owned(), rows: PAGE }];
    }
    while from <= last {
        let digits = from.ilog10();
        let least = 10_i64.pow(digits);
        let to = least.checked_mul(10).map_or(last, |next| last.min(next - 1));
        // Right before 100 stands 10, and before 1 nothing.
        let before = if from == least { least / 10 } else { from - 1 };
        let after = if before == 0 { String::new() } else { before.to_string() };
        // Shorter numbers stand between them: 12 between 119 and 120.
        let longest = usize::try_from(to - from).unwrap_or(usize::MAX / 2);
        let rows = longest + longest / 9 + digits as usize + 2;
        spans.push(Span { after, until: to.to_string(), rows });
        let Some(next) = to.checked_add(1) else { break };
        from = next;
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a listing gives: the texts of 1 to `highest` in their order.
    fn sorted(highest: i64) -> Vec<String> {
        let mut texts: Vec<String> = (1..=highest).map(|number| number.to_string()).collect();
        texts.sort_unstable();
        texts
    }

    #[test]
    fn spans_show_every_number_in_few_rows() {
        for highest in (1..=130).chain(990..=1030).chain(9_985..=10_015) {
            let texts = sorted(highest);
            for count in [1, 9, 10, 11] {
                let first = (highest - count + 1).max(1);
                let number = |number| Version::new(number).expect("positive");
                let spans = spans(number(first), number(highest + 1));
                let is_long = first < 1000 && highest + 1 >= 1000 || first < 10_000 && highest + 1 >= 10_000;
                assert_eq!(spans.len(), 1 + usize::from(is_long), "{first} to {highest}: {spans:?}");
                let mut seen = Vec::new();
                for span in &spans {
                    let rows: Vec<_> =
                        texts.iter().filter(|text| **text > span.after).take(span.rows).collect();
                    assert!(
                        rows.len() < span.rows || rows.last().is_some_and(|text| **text >= span.until),
                        "{span:?}"
                    );
                    seen.extend(rows.iter().filter_map(|text| text.parse::<i64>().ok()));
                }
                assert!(
                    (first..=highest).all(|number| seen.contains(&number)),
                    "{first} to {highest}: {spans:?}"
                );
            }
        }
    }

    #[test]
    fn spans_end_with_the_numbers() {
        let last = Version::new(i64::MAX).expect("positive");
        let spans = spans(Version::new(i64::MAX - 3).expect("positive"), last);
        assert_eq!(spans.len(), 1);
        assert_eq!((spans[0].until.as_str(), spans[0].rows < 40), (last.to_string().as_str(), true));
    }
}
