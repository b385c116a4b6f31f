//! What every conformance case works with: one ledger, a package of its own, and short ways to add and to move.

use std::collections::BTreeMap;
use std::sync::Arc;

use sacker::error::{Error, Meaning, Missing};
use sacker::ledger::{Ledger, TagOutcome};
use sacker::model::{
    Actor, Change, Claim, Event, EventSource, Expected, LedgerUri, NewVersion, Numbering, PackageName,
    Sha256, TagChange, TagName, TagState, Version, VersionRecord, verify_chain,
};

use crate::support::unique;

/// One case's ledger and package. The ledger is shared by all cases of a target, the package is not.
pub(crate) struct Bench {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) numbering: Numbering,
    pub(crate) package: PackageName,
}

pub(crate) fn actor() -> Actor {
    Actor { by: "alice".into(), reason: Some("because".into()), source: EventSource::Cli }
}

pub(crate) fn tag(name: &str) -> TagName {
    TagName::existing(name)
}

pub(crate) fn version(number: i64) -> Version {
    Version::new(number).expect("a positive number")
}

/// What an `add` of the bytes `content` records.
pub(crate) fn new_version(content: &str) -> NewVersion {
    NewVersion {
        sha256: Sha256::of(content.as_bytes()),
        size: content.len() as u64,
        basename: "app.jar".into(),
        mode: 0o100_644,
        metadata: BTreeMap::from([("commit".into(), "abc123".into())]),
        added_by: "ci".into(),
        if_latest: None,
        add_id: uuid::Uuid::new_v4().to_string(),
    }
}

impl Bench {
    pub(crate) fn is_dense(&self) -> bool {
        self.numbering == Numbering::Sequence
    }

    /// Whether each write is several processes, so that many rounds take minutes.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.ledger.uri(), LedgerUri::Git(_))
    }

    /// A package beside the case's own, also unique.
    pub(crate) fn sibling(&self, suffix: &str) -> PackageName {
        PackageName::existing(format!("{}{suffix}", self.package.as_str()))
    }

    pub(crate) async fn add(&self) -> VersionRecord {
        self.add_to(&self.package).await
    }

    pub(crate) async fn add_to(&self, package: &PackageName) -> VersionRecord {
        self.ledger.add(package, &new_version(&unique("content"))).await.expect("add")
    }

    /// `count` versions, in order.
    pub(crate) async fn versions<const N: usize>(&self) -> [Version; N] {
        let mut versions = [Version::FIRST; N];
        for slot in &mut versions {
            *slot = self.add().await.version;
        }
        versions
    }

    pub(crate) async fn change(&self, name: &str, change: &TagChange) -> Result<TagOutcome, Error> {
        self.ledger.change_tag(&self.package, &tag(name), change).await
    }

    pub(crate) async fn try_move(&self, name: &str, to: Version) -> Result<TagOutcome, Error> {
        self.change(name, &moving(to)).await
    }

    pub(crate) async fn set(&self, name: &str, to: Version) -> TagOutcome {
        self.try_move(name, to).await.expect("move")
    }

    pub(crate) async fn untag(&self, name: &str) -> TagOutcome {
        self.change(name, &TagChange::new(Change::Untag, actor())).await.expect("untag")
    }

    pub(crate) async fn hold(&self, name: &str) -> TagOutcome {
        let hold = Change::Hold { reason: "incident 7".into() };
        self.change(name, &TagChange::new(hold, actor())).await.expect("hold")
    }

    pub(crate) async fn state(&self, name: &str) -> Option<TagState> {
        self.ledger.tag(&self.package, &tag(name)).await.expect("tag")
    }

    /// The history, checked to be one chain.
    pub(crate) async fn history(&self, name: &str) -> Vec<Event> {
        let events = self.ledger.history(&self.package, &tag(name)).await.expect("history");
        verify_chain(&events).expect("one linear chain");
        events
    }
}

pub(crate) fn moving(to: Version) -> TagChange {
    TagChange::new(Change::Move { to, hold: None }, actor())
}

pub(crate) fn moving_if(to: Version, expected: Expected) -> TagChange {
    moving(to).expecting(expected)
}

pub(crate) fn moving_as(to: Version, owner: &str) -> TagChange {
    moving(to).claiming(Claim::Owner(owner.into()))
}

/// Asserts what is missing.
pub(crate) fn assert_missing(error: &Error, expected: &Missing) {
    assert_eq!(error.meaning(), &Meaning::NotFound(expected.clone()), "{error}");
}

pub(crate) fn assert_invalid(error: &Error) {
    assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error}");
}

pub(crate) fn assert_conflict(error: &Error) {
    assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{error}");
}

pub(crate) fn assert_owned(error: &Error, expected: &str) {
    assert_eq!(error.meaning(), &Meaning::Owned { owner: expected.into() }, "{error}");
}

pub(crate) fn assert_held(error: &Error) {
    assert!(
        matches!(error.meaning(), Meaning::Held(hold) if hold.by == "alice" && hold.reason == "incident 7"),
        "{error}"
    );
}
