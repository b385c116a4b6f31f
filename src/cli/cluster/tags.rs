//! The tags of a package, out of what its SackerPackage and its SackerTags show. Pure.

use jiff::Timestamp;

use super::items::KeptTagItem;
use super::objects::title;
use super::package::{Package, state_of_tag};
use crate::api::{EventStatus, HoldStatus, SackerTagStatus, TagStatus};
use crate::cli::items::{EventItem, TagItem};
use crate::model::{Hold, PackageName, TagName, Version, time};

/// The events of a tag that a SackerTag keeps.
#[derive(Debug)]
pub(super) struct History {
    /// Oldest first.
    pub(super) events: Vec<EventItem>,
    /// How many came before or between them.
    pub(super) missing: u64,
}

impl Package {
    /// All tags that are set, by name.
    pub(super) fn tags(&self) -> Vec<KeptTagItem> {
        let mut names: Vec<TagName> = self.mirrored_tags().iter().map(named).collect();
        names.extend(self.keepers().map(|(tag, _)| tag.clone()));
        names.sort();
        names.dedup();
        names.iter().filter_map(|tag| self.tag(tag)).collect()
    }

    /// A tag, if it is set.
    pub(super) fn tag(&self, tag: &TagName) -> Option<KeptTagItem> {
        let keeper = self.keeper(tag);
        let shown = self.mirrored_tags().iter().find(|shown| shown.name == tag.as_str());
        let told = keeper.and_then(|object| object.status.as_ref()).filter(|status| knows(status));
        let item = match (shown, told) {
            (Some(shown), Some(told)) if is_behind(told, shown) => of_mirror(&self.name, shown),
            (_, Some(told)) => of_keeper(&self.name, tag, told),
            (Some(shown), None) => of_mirror(&self.name, shown),
            (None, None) => return None,
        };
        item.version?;
        Some(KeptTagItem {
            tag: item,
            sackertag: keeper.map(|object| title(&object.metadata)),
            state: keeper.map(state_of_tag),
        })
    }

    /// The events of a tag, if a SackerTag keeps them.
    pub(super) fn history(&self, tag: &TagName) -> Option<History> {
        let status = self.keeper(tag)?.status.as_ref()?;
        let events: Vec<_> =
            status.events.iter().filter_map(|event| self::event(&self.name, tag, event)).collect();
        let last = events.last().map_or(0, |event| event.seq);
        let kept = u64::try_from(events.len()).unwrap_or(u64::MAX);
        Some(History { events, missing: last.saturating_sub(kept) })
    }

    fn mirrored_tags(&self) -> &[TagStatus] {
        self.mirrored().map(|status| status.tags.as_slice()).unwrap_or_default()
    }
}

fn named(tag: &TagStatus) -> TagName {
    TagName::existing(tag.name.as_str())
}

/// A SackerTag that was not granted, or is new, shows nothing of its tag.
fn knows(status: &SackerTagStatus) -> bool {
    status.seq.is_some() || status.version.is_some()
}

/// Whether the SackerPackage saw a later change of the tag than the SackerTag did.
fn is_behind(told: &SackerTagStatus, shown: &TagStatus) -> bool {
    let last = told.events.last().and_then(|event| moment(&event.at));
    match shown.since.as_deref().and_then(moment) {
        Some(since) => last.is_some_and(|last| last < since),
        // A 2015 client wrote it, which leaves no time.
        None => told.version != Some(shown.version),
    }
}

fn of_mirror(package: &PackageName, shown: &TagStatus) -> TagItem {
    TagItem {
        package: package.clone(),
        tag: named(shown),
        version: Version::new(shown.version),
        seq: None,
        owner: None,
        hold: None,
        changed_at: shown.since.as_deref().and_then(moment),
        changed_by: shown.by.clone(),
    }
}

fn of_keeper(package: &PackageName, tag: &TagName, told: &SackerTagStatus) -> TagItem {
    let last = told.events.last().filter(|event| Some(event.seq) == told.seq);
    TagItem {
        package: package.clone(),
        tag: tag.clone(),
        version: told.version.and_then(Version::new),
        // None where a 2015 client wrote it last.
        seq: told.seq.unwrap_or(0).try_into().ok(),
        owner: told.owner.clone(),
        hold: last.and_then(|event| hold(event.hold.as_ref()?)),
        changed_at: last.and_then(|event| moment(&event.at)),
        changed_by: last.map(|event| event.by.clone()),
    }
}

fn event(package: &PackageName, tag: &TagName, event: &EventStatus) -> Option<EventItem> {
    Some(EventItem {
        package: package.clone(),
        tag: tag.clone(),
        seq: event.seq.try_into().ok()?,
        at: moment(&event.at)?,
        kind: event.kind.clone(),
        from: event.from.and_then(Version::new),
        to: event.to.and_then(Version::new),
        by: event.by.clone(),
        source: event.source.clone(),
        reason: event.reason.clone(),
        owner: event.owner.clone(),
        hold: event.hold.as_ref().and_then(hold),
        id: None,
        prev: None,
    })
}

fn hold(status: &HoldStatus) -> Option<Hold> {
    Some(Hold { at: moment(&status.at)?, by: status.by.clone(), reason: status.reason.clone() })
}

/// A time of a status; nothing for one that is none, which the schema does not let in.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    time::parse_stored(text).ok()
}

#[cfg(test)]
mod tests {
    use super::super::condition::State;
    use super::super::objects::Objects;
    use super::*;
    use crate::api::{SackerPackage, SackerPackageStatus, SackerTag};

    fn event_status(seq: i64, to: i64, at: &str) -> EventStatus {
        EventStatus { seq, to: Some(to), at: at.into(), by: "ann".into(), ..EventStatus::default() }
    }

    fn object<T: serde::de::DeserializeOwned>(kind: &str, spec: &serde_json::Value) -> T {
        let metadata = serde_json::json!({ "namespace": "web", "name": "live" });
        let object = serde_json::json!({
            "apiVersion": "sacker.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec
        });
        serde_json::from_value(object).expect("an object")
    }

    fn sackertag(version: Option<i64>, events: Vec<EventStatus>) -> SackerTag {
        let seq = events.last().map(|event| event.seq);
        let status = SackerTagStatus { version, seq, events, ..SackerTagStatus::default() };
        let spec = serde_json::json!({ "package": "web", "tag": "live", "version": 1 });
        SackerTag { status: Some(status), ..object("SackerTag", &spec) }
    }

    fn mirror(version: i64, since: Option<&str>) -> SackerPackage {
        let tag = TagStatus {
            name: "live".into(),
            version,
            since: since.map(str::to_owned),
            ..TagStatus::default()
        };
        let status = SackerPackageStatus { tags: vec![tag], ..SackerPackageStatus::default() };
        let spec = serde_json::json!({ "package": "web" });
        SackerPackage { status: Some(status), ..object("SackerPackage", &spec) }
    }

    fn package(packages: Vec<SackerPackage>, tags: Vec<SackerTag>) -> Package {
        let objects = Objects { place: "the cluster".into(), packages, tags };
        Package::of(&PackageName::existing("web"), objects).expect("one ledger").expect("objects")
    }

    fn version(package: &Package) -> Option<i64> {
        package.tag(&TagName::existing("live"))?.tag.version.map(Version::get)
    }

    const TEN: &str = "2026-11-21T10:00:00.000Z";
    const ELEVEN: &str = "2026-11-21T11:00:00.000Z";

    #[test]
    fn whoever_saw_the_last_change_is_believed() {
        let told = |version, at: &str| vec![sackertag(Some(version), vec![event_status(1, version, at)])];
        for (mirrored, kept, expected) in [
            (mirror(1, Some(TEN)), told(2, ELEVEN), Some(2)),
            (mirror(1, Some(ELEVEN)), told(2, TEN), Some(1)),
            (mirror(1, None), told(2, TEN), Some(1)),
            (mirror(1, Some(TEN)), vec![sackertag(None, Vec::new())], Some(1)),
            (mirror(1, Some(TEN)), vec![sackertag(None, vec![event_status(2, 1, ELEVEN)])], None),
        ] {
            assert_eq!(version(&package(vec![mirrored], kept)), expected);
        }
        assert_eq!(version(&package(Vec::new(), told(2, TEN))), Some(2));
        let newer = [told(2, TEN), vec![sackertag(Some(3), vec![event_status(2, 3, ELEVEN)])]].concat();
        assert_eq!(version(&package(Vec::new(), newer)), Some(3), "of two SackerTags");
    }

    #[test]
    fn what_only_sackertags_know_is_null_without_one() {
        let tag = package(vec![mirror(1, Some(TEN))], Vec::new()).tags().remove(0);
        assert_eq!((tag.tag.seq, tag.sackertag, tag.state), (None, None, None::<State>));
        let hold = HoldStatus { at: TEN.into(), by: "ann".into(), reason: "freeze".into() };
        let held = EventStatus { hold: Some(hold), ..event_status(4, 1, TEN) };
        let tag = package(Vec::new(), vec![sackertag(Some(1), vec![held])]).tags().remove(0);
        assert_eq!((tag.tag.seq, tag.sackertag.as_deref()), (Some(4), Some("web/live")));
        assert_eq!(tag.tag.hold.expect("a hold").reason, "freeze");
    }

    #[test]
    fn events_that_are_not_kept_are_counted() {
        let live = TagName::existing("live");
        for (seqs, missing) in [(vec![1, 2], 0), (vec![5, 6], 4), (vec![2, 6, 7], 4), (vec![], 0)] {
            let events = seqs.iter().map(|seq| event_status(*seq, 1, TEN)).collect();
            let history = package(Vec::new(), vec![sackertag(Some(1), events)]).history(&live);
            let history = history.expect("a SackerTag");
            assert_eq!((history.events.len(), history.missing), (seqs.len(), missing), "{seqs:?}");
        }
    }
}
