//! Conditions: their types, the reasons, and how a new set is made of the last one.
//!
//! `Ready` is always there. `Reconciling`, `Stalled` (kstatus) and, on SackerTags, `Held` and `Drifted` are
//! abnormal-true: they are there only while they are true. A reason is one word in the condition, the event and the
//! metric label.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{Schema, SchemaGenerator, json_schema};

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The longest message of a condition, in bytes.
const MESSAGE_MAX: usize = 1024;

/// The conditions that sacker sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionType {
    /// The ledger is as the object says, for the observed generation.
    Ready,
    /// It is not yet, and sacker waits or works for it.
    Reconciling,
    /// It is not, and will not be until somebody changes something.
    Stalled,
    /// The tag is held in the ledger: nothing moves it.
    Held,
    /// Someone else moved the tag.
    Drifted,
}

impl ConditionType {
    /// The type as it stands in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Held => "Held",
            Self::Drifted => "Drifted",
        }
    }
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell at the moment.
    Unknown,
}

impl ConditionStatus {
    /// The status as it stands in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a condition has its status. Part of the API: `docs/api` lists them, scripts match them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason as it stands in conditions, events and metric labels.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

reasons! {
    /// The tag points where the SackerTag says.
    Applied,
    /// The status shows what the ledger holds.
    Mirrored,
    /// The ledger answers.
    Reachable,
    /// The object was seen and its turn is coming.
    Progressing,
    /// `spec.suspend` is set.
    Suspended,
    /// The object cannot be read, or its spec breaks a rule that the schema did not catch.
    InvalidSpec,
    /// There is no SackerLedger of this name.
    LedgerNotFound,
    /// The SackerLedger is there, but not `Ready`.
    LedgerNotReady,
    /// The ledger cannot be reached, or asks for less load.
    LedgerUnavailable,
    /// The table, bucket or directory of the ledger does not exist.
    BackendNotFound,
    /// The backend refuses the operator's credentials.
    Denied,
    /// No access rule of the SackerLedger grants this to the namespace.
    NotGranted,
    /// Another SackerTag claims the tag, or it points elsewhere than `expectedVersion`.
    Conflict,
    /// Someone outside this cluster's SackerTags owns the tag.
    Owned,
    /// The tag is held in the ledger.
    Held,
    /// Someone else moved the tag.
    Drifted,
    /// The followed tag does not exist.
    FollowedTagNotFound,
    /// The followed tag has not stood still long enough.
    Soaking,
    /// The version does not exist, or was removed.
    VersionNotFound,
    /// The package has no version.
    PackageNotFound,
    /// A ConfigMap of this name exists and is not ours.
    ConfigMapNotOwned,
    /// The ConfigMap would be larger than Kubernetes allows.
    ConfigMapTooLarge,
    /// A record in the ledger is not what it must be.
    Corrupt,
    /// The object is being deleted, and its tag is not settled yet.
    Deleting,
    /// The Kubernetes API refused or failed.
    ApiUnavailable,
    /// An error nobody expected; the operator's log has more.
    Internal,
    /// The tag was moved (events only).
    Moved,
    /// A pod template has a pin (events only).
    Pinned,
    /// The tag was taken over as it was (events only).
    Adopted,
    /// The tag was removed (events only).
    Untagged,
    /// Ownership was given up (events only).
    Disowned,
    /// The object went, but the tag still names it as the owner (events only).
    OwnershipKept,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a pass found, before it becomes conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whether the object is as it should be.
    pub ready: ConditionStatus,
    /// Why.
    pub reason: Reason,
    /// Why, in words; says what to do.
    pub message: String,
    /// Which abnormal-true condition of kstatus goes with it.
    pub progress: Progress,
    /// Who holds the tag, if someone does.
    pub held: Option<String>,
    /// Who moved the tag, if someone else did.
    pub drifted: Option<String>,
}

/// Where an object stands on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing more is to be done now.
    Settled,
    /// Sacker waits or works.
    Reconciling,
    /// Somebody must change something.
    Stalled,
}

impl Summary {
    /// As it should be.
    pub fn ready(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::True, reason, message, Progress::Settled)
    }

    /// Not as it should be; sacker goes on by itself.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::False, reason, message, Progress::Reconciling)
    }

    /// Not known at the moment.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::Unknown, reason, message, Progress::Reconciling)
    }

    /// Not as it should be, until somebody changes something.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::False, reason, message, Progress::Stalled)
    }

    /// With each part given.
    pub fn new(
        ready: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
        progress: Progress,
    ) -> Self {
        Self { ready, reason, message: message.into(), progress, held: None, drifted: None }
    }

    /// The conditions that say this. A transition time of `previous` stays unless the status flips; each condition is
    /// about `generation`, so that `kubectl wait` does not take an old one for the new spec's.
    pub fn conditions(
        &self,
        previous: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let make = |kind: ConditionType, status: ConditionStatus, reason: Reason, message: &str| {
            let before = previous
                .iter()
                .find(|condition| condition.type_ == kind.as_str() && condition.status == status.as_str());
            Condition {
                type_: kind.as_str().to_owned(),
                status: status.as_str().to_owned(),
                reason: reason.as_str().to_owned(),
                message: clean(message),
                observed_generation: generation,
                last_transition_time: before
                    .map_or_else(|| Time(now), |condition| condition.last_transition_time.clone()),
            }
        };
        let mut conditions = vec![make(ConditionType::Ready, self.ready, self.reason, &self.message)];
        let mut abnormal = |kind, reason, message: &str| {
            conditions.push(make(kind, ConditionStatus::True, reason, message));
        };
        match self.progress {
            Progress::Settled => {}
            Progress::Reconciling => abnormal(ConditionType::Reconciling, self.reason, &self.message),
            Progress::Stalled => abnormal(ConditionType::Stalled, self.reason, &self.message),
        }
        if let Some(message) = &self.held {
            abnormal(ConditionType::Held, Reason::Held, message);
        }
        if let Some(message) = &self.drifted {
            abnormal(ConditionType::Drifted, Reason::Drifted, message);
        }
        conditions
    }
}

/// The condition of this type.
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// `message` as it may stand in an object that tenants read: no control characters, no query strings (they carry
/// signatures), at most 1 KiB.
pub fn clean(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for (position, word) in message.split(' ').enumerate() {
        if position > 0 {
            text.push(' ');
        }
        let word = match (word.find("://"), word.find('?')) {
            (Some(scheme), Some(query)) if scheme < query => &word[..query],
            _ => word,
        };
        text.extend(word.chars().map(|letter| if letter.is_control() { ' ' } else { letter }));
    }
    if text.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// The schema of a list of conditions: `metav1.Condition`, with its documented limits and short descriptions.
pub(super) fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "description": "What the condition is about, such as Ready.",
                    "type": "string", "maxLength": 316,
                },
                "status": {
                    "description": "Whether it holds: True, False or Unknown.",
                    "type": "string", "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why, in one word.",
                    "type": "string", "minLength": 1, "maxLength": 1024,
                },
                "message": {
                    "description": "Why, in words; says what to do.",
                    "type": "string", "maxLength": 32768,
                },
                "observedGeneration": {
                    "description": "The generation of the spec that the condition is about.",
                    "type": "integer", "format": "int64", "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When the status last changed.",
                    "type": "string", "format": "date-time",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_transition_time_moves_only_when_the_status_flips() {
        let first =
            Summary::waiting(Reason::VersionNotFound, "no version 2").conditions(&[], Some(1), at(10));
        let types: Vec<_> = first.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "Reconciling"]);

        let other_reason = Summary::stalled(Reason::Owned, "owned").conditions(&first, Some(2), at(20));
        assert_eq!(other_reason[0].last_transition_time, Time(at(10)), "still False");
        assert_eq!(other_reason[0].observed_generation, Some(2));
        assert_eq!(other_reason[1].type_, "Stalled");
        assert_eq!(other_reason[1].last_transition_time, Time(at(20)));

        let ready = Summary::ready(Reason::Applied, "").conditions(&other_reason, Some(2), at(30));
        assert_eq!(ready.len(), 1);
        assert_eq!(ready[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn held_and_drifted_come_and_go() {
        let mut summary = Summary::ready(Reason::Applied, "");
        summary.held = Some("held by 'alice'".into());
        summary.drifted = Some("moved by 'bob'".into());
        let conditions = summary.conditions(&[], Some(1), at(1));
        assert!(find(&conditions, ConditionType::Held).is_some());
        assert!(find(&conditions, ConditionType::Drifted).is_some());
        assert!(find(&conditions, ConditionType::Stalled).is_none());
    }

    #[test]
    fn messages_carry_no_query_and_no_control_characters_and_end() {
        assert_eq!(
            clean("GET https://s3/x?X-Amz-Signature=abc failed\nwhy?"),
            "GET https://s3/x failed why?"
        );
        let long = clean(&"ä".repeat(2000));
        assert!(long.len() <= MESSAGE_MAX && long.ends_with('…'));
    }

    #[test]
    fn reasons_are_camel_case_and_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(text.starts_with(|first: char| first.is_ascii_uppercase()), "{text}");
            assert!(text.bytes().all(|byte| byte.is_ascii_alphabetic()), "{text}");
            assert!(seen.insert(text));
        }
    }
}
