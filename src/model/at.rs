//! What was in force at a time in the past.
//!
//! Times in records come from the clocks of their writers, which differ; numbers never go back. So the rule is the same for
//! tags and versions: *of what is not later than the time asked for, the greatest number counts*. A writer whose clock is
//! ahead makes its change count later than it was made, one whose clock is behind makes it count earlier, and with it what
//! came before: a later number is never hidden by an earlier one.

use jiff::Timestamp;

use super::{Event, Version, VersionRecord};

/// Numbers from here on are Unix milliseconds (since 2001): the version itself tells when it was added.
const FIRST_TIMESTAMP: i64 = 1_000_000_000_000;

/// Where a tag pointed at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagAt<'a> {
    /// To this version, since this event or longer.
    Version(Version, &'a Event),
    /// Nowhere: it had been removed by this event.
    Removed(&'a Event),
    /// Nowhere: this, its first event, came later. Nothing: it has none at all.
    NotYet(Option<&'a Event>),
}

/// Where a tag with these events, oldest first, pointed at `time`: the event in force is the one with the greatest `seq`
/// whose time is not after it.
///
/// What a client of 2015 does to a tag counts from when it entered the history (an `adopt` event), since nobody recorded
/// when it was done.
pub fn tag_at(events: &[Event], time: Timestamp) -> TagAt<'_> {
    let in_force = events.iter().filter(|event| event.at <= time).max_by_key(|event| event.seq);
    match in_force {
        Some(event) => event.to.map_or(TagAt::Removed(event), |version| TagAt::Version(version, event)),
        None => TagAt::NotYet(events.first()),
    }
}

/// When a version was added, as its record says or, where versions are milliseconds, its number.
pub fn added_at(record: &VersionRecord) -> Option<Timestamp> {
    let stamp = record.version.get();
    let by_number = || Timestamp::from_millisecond(stamp).ok().filter(|_| stamp >= FIRST_TIMESTAMP);
    record.added_at.or_else(by_number)
}

/// The newest version at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewestAt<'a> {
    /// This one.
    Version(&'a VersionRecord),
    /// There was none yet, or all had been removed.
    None,
    /// Nobody knows: it may have been this one, and when that was added was not recorded.
    Unknown(&'a VersionRecord),
}

/// The newest of these versions at `time`: the greatest number that was added by then and not removed by then.
///
/// Versions of 2015 clients have no time (except where the number is one): they were added before every later number.
pub fn newest_at(records: &[VersionRecord], time: Timestamp) -> NewestAt<'_> {
    let mut newest_first: Vec<&VersionRecord> = records.iter().collect();
    newest_first.sort_by_key(|record| std::cmp::Reverse(record.version));
    for (position, record) in newest_first.iter().enumerate() {
        let removed = match &record.removal {
            Some(removal) => removal.at <= time,
            None => record.is_removed(),
        };
        match added_at(record) {
            _ if removed => {}
            Some(at) if at <= time => return NewestAt::Version(record),
            Some(_) => {}
            // Numbers are given in order, so it was there when a later one was.
            None if newest_first[..position]
                .iter()
                .any(|later| added_at(later).is_some_and(|at| at <= time)) =>
            {
                return NewestAt::Version(record);
            }
            None => return NewestAt::Unknown(record),
        }
    }
    NewestAt::None
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::model::{Actor, Change, Current, EventSource, Next, Removal, Sha256, TagChange, next_event};

    fn hour(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).expect("a time")
    }

    /// A history of moves (0: untag) at these hours.
    fn history(moves: &[(i64, i64)]) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        for (at, to) in moves {
            let change = Version::new(*to).map_or(Change::Untag, |to| Change::Move { to, hold: None });
            let actor = Actor { by: "ann".into(), reason: None, source: EventSource::Cli };
            let current =
                Current { version: events.last().and_then(|event| event.to), last: events.last().cloned() };
            match next_event(&current, &TagChange::new(change, actor), hour(*at)) {
                Ok(Next::Commit(event)) => events.push(*event),
                other => panic!("{other:?}"),
            }
        }
        events
    }

    /// The seq in force at an hour, and the version.
    fn in_force(events: &[Event], at: i64) -> (u64, i64) {
        match tag_at(events, hour(at)) {
            TagAt::Version(version, event) => (event.seq, version.get()),
            TagAt::Removed(event) => (event.seq, 0),
            TagAt::NotYet(first) => {
                assert_eq!(first, events.first());
                (0, 0)
            }
        }
    }

    #[test]
    fn the_last_event_before_the_time_is_in_force() {
        let events = history(&[(10, 1), (12, 2), (14, 0), (16, 3)]);
        let expected = [(9, (0, 0)), (10, (1, 1)), (11, (1, 1)), (12, (2, 2)), (15, (3, 0)), (99, (4, 3))];
        for (at, found) in expected {
            assert_eq!(in_force(&events, at), found, "{at}");
        }
        assert_eq!(tag_at(&[], hour(1)), TagAt::NotYet(None));
    }

    #[test]
    fn a_later_number_is_never_hidden_by_a_skewed_clock() {
        // The second writer's clock was three hours ahead, the fourth's four behind.
        let events = history(&[(10, 1), (15, 2), (13, 3), (10, 4)]);
        for (at, found) in [(9, (0, 0)), (10, (4, 4)), (14, (4, 4)), (16, (4, 4))] {
            assert_eq!(in_force(&events, at), found, "{at}");
        }
        let events = history(&[(10, 1), (15, 2), (13, 3)]);
        for (at, found) in [(12, (1, 1)), (13, (3, 3)), (16, (3, 3))] {
            assert_eq!(in_force(&events, at), found, "{at}");
        }
    }

    fn record(number: i64, added: Option<i64>, removed: Option<i64>) -> VersionRecord {
        VersionRecord {
            sha256: if removed.is_some() { Sha256::ZERO } else { Sha256::of(b"x") },
            added_at: added.map(hour),
            removal: removed.map(|at| Removal { at: hour(at), by: "ann".into(), reason: None }),
            ..VersionRecord::example("frontend", number, b"x")
        }
    }

    /// The newest at an hour; 0 for none, negative where it is not known.
    fn newest(records: &[VersionRecord], at: i64) -> i64 {
        match newest_at(records, hour(at)) {
            NewestAt::Version(record) => record.version.get(),
            NewestAt::None => 0,
            NewestAt::Unknown(record) => -record.version.get(),
        }
    }

    #[test]
    fn the_newest_is_what_was_added_and_not_removed() {
        let records =
            [record(1, Some(10), None), record(2, Some(12), Some(16)), record(3, Some(14), Some(15))];
        for (at, found) in [(9, 0), (10, 1), (13, 2), (14, 3), (15, 2), (16, 1), (99, 1)] {
            assert_eq!(newest(&records, at), found, "{at}");
        }
        assert_eq!(newest(&[], 1), 0);
        // A clock that was behind.
        assert_eq!(newest(&[record(1, Some(12), None), record(2, Some(10), None)], 11), 2);
    }

    #[test]
    fn versions_without_a_time_are_known_where_a_later_one_is() {
        let records = [record(1, None, None), record(2, Some(12), None), record(3, None, None)];
        assert_eq!(newest(&records, 99), -3);
        let records = &records[..2];
        for (at, found) in [(12, 2), (11, -1)] {
            assert_eq!(newest(records, at), found, "{at}");
        }
        // Version 2 was there at 12, so 1 was too; and 2 is gone since.
        let records = [record(1, None, None), record(2, Some(12), Some(13))];
        assert_eq!(newest(&records, 14), 1);
        // Without a removal record nobody knows when it went.
        let mut gone = record(4, None, None);
        gone.sha256 = Sha256::ZERO;
        assert_eq!(newest(&[gone], 99), 0);
    }

    #[test]
    fn a_version_of_milliseconds_is_its_own_time() {
        let stamp = hour(500_000).as_millisecond();
        let records = [record(stamp, None, None)];
        assert_eq!((newest(&records, 499_999), newest(&records, 500_000)), (0, stamp));
    }
}
