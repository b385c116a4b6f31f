//! The newest events of a tag, as the status shows them. Read from the ledger only where the status does not have them
//! already.

use std::sync::Arc;

use super::dereference::Names;
use crate::api::{EventStatus, HoldStatus, SackerTagStatus};
use crate::controller::pool::OpenLedger;
use crate::error::Result;
use crate::model::{Event, EventSource, Hold, TagState, Version, time};

/// How many events a status shows.
pub(super) const SHOWN: usize = 10;

/// An event as the status shows it.
pub(super) fn shown(event: &Event) -> EventStatus {
    EventStatus {
        seq: i64::try_from(event.seq).unwrap_or(i64::MAX),
        kind: event.kind.as_str().to_owned(),
        from: event.from.map(Version::get),
        to: event.to.map(Version::get),
        at: time::format(event.at),
        by: event.by.clone(),
        reason: event.reason.clone(),
        owner: event.owner.clone(),
        hold: event.hold.as_ref().map(hold),
        source: event.source.as_str().to_owned(),
    }
}

fn hold(hold: &Hold) -> HoldStatus {
    HoldStatus { at: time::format(hold.at), by: hold.by.clone(), reason: hold.reason.clone() }
}

/// Whether this owner's SackerTag made an event.
pub(super) fn is_ours(event: &EventStatus, me: &str) -> bool {
    event.source == EventSource::Operator.as_str() && event.owner.as_deref() == Some(me)
}

/// The last event that changed where the tag points.
pub(super) fn last_move(events: &[EventStatus]) -> Option<&EventStatus> {
    events.iter().rev().find(|event| event.from != event.to)
}

/// Who made an event, in words.
pub(super) fn who(event: &EventStatus) -> String {
    format!("'{}' (event {}, {})", event.by, event.seq, event.source)
}

/// `events` and the one that follows them; the oldest goes when there are too many.
pub(super) fn with(mut events: Vec<EventStatus>, event: EventStatus) -> Vec<EventStatus> {
    events.push(event);
    let surplus = events.len().saturating_sub(SHOWN);
    events.drain(..surplus);
    events
}

/// The newest events of a tag, up to the one it carries.
pub(super) async fn newest(
    open: &Arc<OpenLedger>,
    names: &Names,
    status: &SackerTagStatus,
    state: &TagState,
) -> Result<Vec<EventStatus>> {
    let Some(event) = &state.event else {
        // A 2015 client's write has no event yet; what was known before it still is.
        return Ok(status.events.clone());
    };
    let event = shown(event);
    let known = &status.events;
    let events = match known.last() {
        Some(last) if *last == event => known.clone(),
        Some(last) if last.seq + 1 == event.seq => with(known.clone(), event.clone()),
        None if event.seq == 1 => vec![event.clone()],
        _ => Vec::new(),
    };
    // Without the move that brought the tag where it is, nobody could say who moved it and since when.
    if last_move(&events).is_some() {
        return Ok(events);
    }
    let Names { package, tag } = names;
    let all = open.call(|ledger| ledger.history(package, tag)).await?;
    Ok(newest_of(&all))
}

/// The newest events of a whole history. A tag that was held and released many times has its move before them: then it
/// takes the place of the oldest.
fn newest_of(all: &[Event]) -> Vec<EventStatus> {
    let start = all.len().saturating_sub(SHOWN);
    let mut newest: Vec<EventStatus> = all[start..].iter().map(shown).collect();
    let moved = all.iter().rposition(|event| event.from != event.to);
    if let (Some(moved), Some(first)) = (moved.filter(|moved| *moved < start), newest.first_mut()) {
        *first = shown(&all[moved]);
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64, from: Option<i64>, to: Option<i64>, by: &str) -> EventStatus {
        EventStatus {
            seq,
            from,
            to,
            by: by.into(),
            owner: Some("k8s:c/n/me".into()),
            source: "operator".into(),
            ..EventStatus::default()
        }
    }

    #[test]
    fn a_hold_is_no_move() {
        let events =
            [event(1, None, Some(1), "a"), event(2, Some(1), Some(2), "b"), event(3, Some(2), Some(2), "c")];
        assert_eq!(last_move(&events).map(|event| event.seq), Some(2));
    }

    #[test]
    fn only_the_operator_for_this_object_is_us() {
        let mut ours = event(1, None, Some(1), "n/me");
        assert!(is_ours(&ours, "k8s:c/n/me"));
        assert!(!is_ours(&ours, "k8s:other/n/me"));
        ours.source = "legacy".into();
        assert!(!is_ours(&ours, "k8s:c/n/me"));
    }

    #[test]
    fn the_oldest_goes() {
        let mut events = Vec::new();
        for seq in 1..=15 {
            events = with(events, event(seq, None, Some(1), "a"));
        }
        assert_eq!((events.len(), events[0].seq), (SHOWN, 6));
    }
}
