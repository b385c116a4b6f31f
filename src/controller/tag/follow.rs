//! Where a followed tag points, and whether it has stood still long enough. A soak begins with the time that the ledger
//! says: that of the event that moved the followed tag, or of the version's own record for `latest`.
//!
//! It is over by clocks once both this machine's and the ledger's own have come to its end: each of them alone may be off,
//! and so may be that of whoever stamped the event, which is often one of the two. And it is over once this process has
//! seen the tag stand still for as long, so that a clock that is behind delays nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::decide::Target;
use crate::api::{FollowSpec, SackerTagStatus};
use crate::controller::context::Context;
use crate::controller::duration;
use crate::controller::pool::OpenLedger;
use crate::error::Result;
use crate::model::{PackageName, Spec, TagName, Version};

/// The target of a SackerTag that follows, and the version it waits for with the time since when.
pub(super) async fn target(
    context: &Context,
    open: &Arc<OpenLedger>,
    package: &PackageName,
    follow: &FollowSpec,
    uid: &str,
    status: &SackerTagStatus,
) -> Result<(Target, Option<(Version, Timestamp)>)> {
    let Some(soak) = duration::parse(&follow.soak) else {
        return Ok((Target::Absent(format!("spec.follow.soak '{}' is not a duration", follow.soak)), None));
    };
    let found = match follow.tag.parse()? {
        Spec::Latest => latest(open, package).await?,
        Spec::Tag(tag) => tagged(open, package, &tag).await?,
        Spec::Version(_) => Err(format!("'{}' is a version; spec.follow needs a tag", follow.tag)),
    };
    let (version, since) = match found {
        Err(message) => return Ok((Target::FollowedAbsent(message), None)),
        Ok((version, _)) if soak.is_zero() => return Ok((Target::Version(version), None)),
        Ok(found) => found,
    };
    let seen_for = context.sights.seen_for(uid, (version, since), context.clock.monotonic());
    let local = context.clock.now();
    let ledger = open.call(async |ledger| Ok(ledger.time().await)).await?.map(|time| time.reached());
    let since = since.unwrap_or_else(|| first_seen(status, version, local));
    let now = ledger.map_or(local, |ledger| ledger.min(local));
    Ok(judge(&follow.tag, version, since, soak, &Passed { now, seen_for }))
}

/// How far time has come.
#[derive(Debug)]
struct Passed {
    /// The time that all clocks have come to.
    now: Timestamp,
    /// For how long the version has been seen where it is.
    seen_for: Duration,
}

type Found = std::result::Result<(Version, Option<Timestamp>), String>;

async fn latest(open: &Arc<OpenLedger>, package: &PackageName) -> Result<Found> {
    match open.call(|ledger| ledger.latest(package)).await {
        Ok(record) => Ok(Ok((record.version, record.added_at))),
        Err(error) if error.is_not_found() => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

async fn tagged(open: &Arc<OpenLedger>, package: &PackageName, tag: &TagName) -> Result<Found> {
    let state = open.call(|ledger| ledger.tag(package, tag)).await?;
    let Some((version, event)) = state.and_then(|state| Some((state.version?, state.event))) else {
        return Ok(Err(format!(
            "package '{package}' has no tag '{tag}' yet; this tag follows it once it is there"
        )));
    };
    let since = match event {
        None => None,
        Some(event) if event.from != event.to => Some(event.at),
        // Held, released or adopted since: the time of the move counts, not of what came after it.
        Some(_) => {
            let events = open.call(|ledger| ledger.history(package, tag)).await?;
            events.iter().rev().find(|event| event.from != event.to).map(|event| event.at)
        }
    };
    Ok(Ok((version, since)))
}

/// When a version was first seen, where the ledger does not say since when: 2015 clients write no times.
fn first_seen(status: &SackerTagStatus, version: Version, now: Timestamp) -> Timestamp {
    let known = status.candidate.as_ref().filter(|candidate| candidate.version == version.get());
    known.and_then(|candidate| candidate.since.parse().ok()).unwrap_or(now)
}

fn judge(
    followed: &str,
    version: Version,
    since: Timestamp,
    soak: Duration,
    passed: &Passed,
) -> (Target, Option<(Version, Timestamp)>) {
    // A time beyond the calendar is never over.
    let until = since.checked_add(soak).unwrap_or(Timestamp::MAX);
    // Negative is over.
    let by_clocks = Duration::try_from(until.duration_since(passed.now)).unwrap_or_default();
    let left = by_clocks.min(soak.saturating_sub(passed.seen_for));
    if left.is_zero() {
        (Target::Version(version), None)
    } else {
        (Target::Soaking { version, followed: followed.to_owned(), until, left }, Some((version, since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CandidateStatus;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_version_soaks_by_clocks_or_in_sight() {
        let version = Version::FIRST;
        let second = Duration::from_secs(1);
        let left = |now, seen: u32| {
            let passed = Passed { now: at(now), seen_for: second * seen };
            match judge("canary", version, at(100), second * 60, &passed) {
                (Target::Version(target), None) => {
                    assert_eq!(target, version);
                    Duration::ZERO
                }
                (Target::Soaking { until, left, .. }, Some((waiting, since))) => {
                    assert_eq!((until, waiting, since), (at(160), version, at(100)));
                    left
                }
                other => panic!("{other:?}"),
            }
        };
        for (now, seen, expected) in [
            (160, 0, 0),
            (159, 0, 1),
            (120, 30, 30),
            // A clock that is behind, or an event from one that was ahead.
            (-500, 59, 1),
            (-500, 60, 0),
        ] {
            assert_eq!(left(now, seen), second * expected, "at {now} after {seen} s");
        }
    }

    #[test]
    fn without_a_time_the_first_sight_counts() {
        let candidate = CandidateStatus {
            version: 1,
            since: "1970-01-01T00:01:40Z".into(),
            ready_at: "1970-01-01T00:02:40Z".into(),
        };
        let status = SackerTagStatus { candidate: Some(candidate), ..SackerTagStatus::default() };
        assert_eq!(first_seen(&status, Version::FIRST, at(150)), at(100));
        assert_eq!(first_seen(&status, Version::new(2).expect("positive"), at(150)), at(150));
    }
}
