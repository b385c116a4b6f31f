//! Where a followed tag points, and whether it has stood still long enough. Time is the ledger's: that of the event that
//! moved the followed tag, or of the version's own record for `latest`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::decide::Target;
use crate::api::{FollowSpec, SackerTagStatus};
use crate::controller::duration;
use crate::controller::pool::OpenLedger;
use crate::error::Result;
use crate::model::{PackageName, Spec, TagName, Version};

/// The target of a SackerTag that follows, and the version it waits for with the time since when.
pub(super) async fn target(
    open: &Arc<OpenLedger>,
    package: &PackageName,
    follow: &FollowSpec,
    status: &SackerTagStatus,
    now: Timestamp,
) -> Result<(Target, Option<(Version, Timestamp)>)> {
    let Some(soak) = duration::parse(&follow.soak) else {
        return Ok((Target::Absent(format!("spec.follow.soak '{}' is not a duration", follow.soak)), None));
    };
    let found = match follow.tag.parse()? {
        Spec::Latest => latest(open, package).await?,
        Spec::Tag(tag) => tagged(open, package, &tag).await?,
        Spec::Version(_) => Err(format!("'{}' is a version; spec.follow needs a tag", follow.tag)),
    };
    Ok(match found {
        Err(message) => (Target::FollowedAbsent(message), None),
        Ok((version, since)) => {
            let since = since.unwrap_or_else(|| first_seen(status, version, now));
            judge(&follow.tag, version, since, soak, now)
        }
    })
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
    now: Timestamp,
) -> (Target, Option<(Version, Timestamp)>) {
    // A time beyond the calendar is never over.
    let until = since.checked_add(soak).unwrap_or(Timestamp::MAX);
    if soak.is_zero() || until <= now {
        (Target::Version(version), None)
    } else {
        (Target::Soaking { version, followed: followed.to_owned(), until }, Some((version, since)))
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
    fn a_version_soaks_by_the_ledgers_time() {
        let version = Version::FIRST;
        let soak = Duration::from_mins(1);
        assert_eq!(judge("canary", version, at(100), soak, at(160)).0, Target::Version(version));
        assert_eq!(
            judge("canary", version, at(100), soak, at(159)),
            (
                Target::Soaking { version, followed: "canary".into(), until: at(160) },
                Some((version, at(100)))
            )
        );
        assert_eq!(judge("canary", version, at(500), Duration::ZERO, at(100)).0, Target::Version(version));
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
