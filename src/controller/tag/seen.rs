//! What a poll saw of a tag, where that settles that nothing is to be done. The ledger is then not asked for the one object:
//! after a start, or an outage, that is every one of them at once.
//!
//! A view may be as old as the last round. So it is believed only where it shows the tag as our own status does, at the
//! version that this generation of the spec asked for before; whatever leads to a write is read anew.

use super::decide::{LedgerView, Target};
use super::dereference::{LedgerFacts, pointer};
use super::history::{last_move, shown};
use crate::api::{SackerTagSpec, SackerTagStatus};
use crate::model::{PackageView, TagName, TagState, Version, VersionRecord};

/// The facts that a view shows, if they are what the status says already.
pub(super) fn facts(
    view: &PackageView,
    tag: &TagName,
    spec: &SackerTagSpec,
    status: &SackerTagStatus,
    me: &str,
) -> Option<LedgerFacts> {
    let target = spec.version.and_then(Version::new).filter(|_| spec.follow.is_none())?;
    let seen = view.tags.iter().find(|view| view.state.tag == *tag)?;
    let record = seen.record.as_ref().filter(|record| record.version == target && !record.is_removed())?;
    let event = shown(seen.state.event.as_ref()?);
    let is_known = status.events.last() == Some(&event) && last_move(&status.events).is_some();
    (is_known && seen.state.version == Some(target)).then(|| LedgerFacts {
        view: LedgerView {
            pointer: Some(pointer(&seen.state, &status.events, me)),
            target: Target::Version(target),
        },
        state: Some(TagState::clone(&seen.state)),
        events: status.events.clone(),
        record: Some(VersionRecord::clone(record)),
        target: Some(VersionRecord::clone(record)),
        candidate: None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Actor, Change, Claim, Current, Event, EventSource, Next, TagChange, TagState, TagView, VersionRecord,
        next_event,
    };

    const ME: &str = "k8s:c/n/me";

    fn moved(to: i64, last: Option<&Event>) -> Event {
        let actor = Actor { by: "n/me".into(), reason: None, source: EventSource::Operator };
        let change = Change::Move { to: Version::new(to).expect("positive"), hold: None };
        let change = TagChange::new(change, actor).claiming(Claim::Owner(ME.into()));
        let current = Current { version: last.and_then(|event| event.to), last: last.cloned() };
        match next_event(&current, &change, jiff::Timestamp::UNIX_EPOCH) {
            Ok(Next::Commit(event)) => *event,
            other => panic!("{other:?}"),
        }
    }

    fn view(event: Option<Event>, record: Option<VersionRecord>) -> PackageView {
        let version = event.as_ref().and_then(|event| event.to).or(Version::new(2));
        let state = Arc::new(TagState { tag: TagName::existing("live"), version, event });
        PackageView { tags: vec![TagView { state, record: record.map(Arc::new) }], ..PackageView::default() }
    }

    fn record(number: i64) -> VersionRecord {
        VersionRecord::example("p", number, b"x")
    }

    #[test]
    fn only_what_the_status_says_already_is_believed() {
        let first = moved(1, None);
        let second = moved(2, Some(&first));
        let status =
            SackerTagStatus { events: vec![shown(&first), shown(&second)], ..SackerTagStatus::default() };
        let spec = |target: serde_json::Value| -> SackerTagSpec {
            let mut spec = serde_json::json!({ "ledger": "default", "package": "p", "tag": "live" });
            spec.as_object_mut().expect("an object").extend(target.as_object().expect("an object").clone());
            serde_json::from_value(spec).expect("a spec")
        };
        let follows = spec(serde_json::json!({ "follow": { "tag": "canary" } }));
        let first_again = spec(serde_json::json!({ "version": 1 }));
        let spec = spec(serde_json::json!({ "version": 2 }));
        let tag = TagName::existing("live");
        let ask = |view: &PackageView, spec: &SackerTagSpec, status: &SackerTagStatus| {
            facts(view, &tag, spec, status, ME)
        };
        let good = view(Some(second.clone()), Some(record(2)));
        let found = ask(&good, &spec, &status).expect("it is settled");
        assert_eq!(found.record.map(|record| record.version), Version::new(2));
        assert_eq!(found.view.target, Target::Version(Version::new(2).expect("positive")));

        let third = moved(3, Some(&second));
        let behind = SackerTagStatus { events: vec![shown(&first)], ..status.clone() };
        for (view, spec, status, why) in [
            (&view(Some(third), Some(record(3))), &spec, &status, "it moved"),
            (&view(None, Some(record(2))), &spec, &status, "a 2015 client wrote it"),
            (&view(Some(second.clone()), None), &spec, &status, "no such version"),
            (&good, &follows, &status, "where it should point hangs on another tag"),
            (&good, &first_again, &status, "another wish"),
            (&good, &spec, &behind, "the status does not know the last event"),
            (&PackageView::default(), &spec, &status, "no such tag"),
        ] {
            assert!(ask(view, spec, status).is_none(), "{why}");
        }
    }
}
