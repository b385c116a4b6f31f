//! Where an object stands, out of its conditions, in one word or two.

use serde::Serialize;

use crate::api::conditions::{ConditionStatus, ConditionType, find};
use crate::api::{Condition, Reason};

/// What the conditions of a SackerPackage or a SackerTag say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct State {
    /// `True`, `False` or `Unknown`; null before the operator has seen the object.
    ready: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    held: bool,
    drifted: bool,
}

impl State {
    /// The state that these conditions say.
    pub(super) fn of(conditions: &[Condition]) -> Self {
        let ready = find(conditions, ConditionType::Ready);
        let is = |kind| {
            find(conditions, kind).is_some_and(|condition| condition.status == ConditionStatus::True.as_str())
        };
        Self {
            ready: ready.map(|condition| condition.status.clone()),
            reason: ready.map(|condition| condition.reason.clone()),
            message: ready.map(|condition| condition.message.clone()),
            held: is(ConditionType::Held),
            drifted: is(ConditionType::Drifted),
        }
    }

    /// Whether the object is as it should be.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.as_deref() == Some(ConditionStatus::True.as_str())
    }

    /// Why the ledger was not asked when the status was last written, if so: what the status shows may be old, or nothing.
    pub(super) fn blind(&self) -> Option<&str> {
        const BLIND: [Reason; 8] = [
            Reason::Suspended,
            Reason::InvalidSpec,
            Reason::LedgerNotFound,
            Reason::LedgerNotReady,
            Reason::LedgerUnavailable,
            Reason::BackendNotFound,
            Reason::Denied,
            Reason::NotGranted,
        ];
        let reason = self.reason.as_deref().unwrap_or_default();
        let is_blind = self.ready.is_none() || BLIND.iter().any(|blind| blind.as_str() == reason);
        is_blind.then(|| self.message.as_deref().unwrap_or("the operator has not seen it yet"))
    }

    /// In words for a column: `ready`, else the reason why not; and `held`, `drifted`.
    pub(super) fn words(&self) -> String {
        let first = match &self.reason {
            _ if self.is_ready() => "ready",
            Some(reason) => reason.as_str(),
            None => "not seen yet",
        };
        let mut words = vec![first];
        for (holds, word) in [(self.held, "held"), (self.drifted, "drifted")] {
            if holds && !first.eq_ignore_ascii_case(word) {
                words.push(word);
            }
        }
        words.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::Summary;

    fn state(summary: &Summary) -> State {
        State::of(&summary.conditions(&[], Some(1), jiff::Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn words_of_a_column() {
        let mut summary = Summary::ready(Reason::Applied, "");
        assert_eq!(state(&summary).words(), "ready");
        summary.held = Some("by alice".into());
        assert_eq!(state(&summary).words(), "ready,held");
        let mut summary = Summary::waiting(Reason::Held, "held by alice");
        summary.held = Some("by alice".into());
        assert_eq!(state(&summary).words(), "Held");
        summary.drifted = Some("by bob".into());
        assert_eq!(state(&summary).words(), "Held,drifted");
        assert_eq!(State::default().words(), "not seen yet");
    }

    #[test]
    fn who_was_not_asked_is_blind() {
        assert_eq!(state(&Summary::ready(Reason::Applied, "")).blind(), None);
        assert_eq!(state(&Summary::waiting(Reason::Soaking, "until noon")).blind(), None);
        let down = Summary::unknown(Reason::LedgerUnavailable, "it is down");
        assert_eq!(state(&down).blind(), Some("it is down"));
        assert_eq!(State::default().blind(), Some("the operator has not seen it yet"));
    }
}
