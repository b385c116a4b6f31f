//! One package as the objects about it show it: which of them count, and where they may be behind. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::State;
use super::objects::{Objects, title};
use crate::api::{SackerPackage, SackerPackageStatus, SackerTag, SackerTagStatus};
use crate::cli::message::typed;
use crate::error::{Error, Result};
use crate::model::{PackageName, TagName};

/// A package of one SackerLedger.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: PackageName,
    /// Where was looked, such as `namespace 'web'`.
    pub(super) place: String,
    /// The SackerPackage that shows it best.
    mirror: Option<SackerPackage>,
    /// For each tag that SackerTags are for, the one that knows it best.
    keepers: BTreeMap<TagName, SackerTag>,
}

impl Package {
    /// The package, out of the objects about it; nothing where there are none.
    ///
    /// # Errors
    /// `Invalid` where they are about packages of several SackerLedgers.
    pub(super) fn of(name: &PackageName, objects: Objects) -> Result<Option<Self>> {
        let of_packages = objects.packages.iter().map(|object| object.spec.ledger.as_str());
        let of_tags = objects.tags.iter().map(|object| object.spec.ledger.as_str());
        let ledgers: BTreeSet<&str> = of_packages.chain(of_tags).collect();
        if ledgers.len() > 1 {
            return Err(ambiguous(name, &ledgers));
        }
        if ledgers.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            name: name.clone(),
            place: objects.place,
            mirror: objects.packages.into_iter().max_by_key(knowledge),
            keepers: keepers(objects.tags),
        }))
    }

    /// What the SackerPackage shows.
    pub(super) fn mirrored(&self) -> Option<&SackerPackageStatus> {
        self.mirror.as_ref()?.status.as_ref()
    }

    /// How the SackerPackage is.
    pub(super) fn state(&self) -> Option<State> {
        self.mirror.as_ref().map(state_of_package)
    }

    /// Whether a SackerPackage shows what the ledger holds now: what it lacks is not there.
    pub(super) fn is_complete(&self) -> bool {
        self.state().is_some_and(|state| state.is_ready())
    }

    /// Every SackerTag that counts, with its tag.
    pub(super) fn keepers(&self) -> impl Iterator<Item = (&TagName, &SackerTag)> {
        self.keepers.iter()
    }

    /// The SackerTag for a tag.
    pub(super) fn keeper(&self, tag: &TagName) -> Option<&SackerTag> {
        self.keepers.get(tag)
    }

    /// A sentence for each object whose operator could not ask the ledger when it last wrote the status.
    pub(super) fn doubts(&self) -> Vec<String> {
        let doubt = |kind: &str, title: String, state: &State| {
            let why = state.blind()?;
            Some(format!("{kind} '{title}' may show what is old, or nothing: {why}"))
        };
        let mirror = self
            .mirror
            .iter()
            .map(|object| doubt("SackerPackage", title(&object.metadata), &state_of_package(object)));
        let keepers = self
            .keepers
            .values()
            .map(|object| doubt("SackerTag", title(&object.metadata), &state_of_tag(object)));
        mirror.chain(keepers).flatten().collect()
    }
}

fn ambiguous(name: &PackageName, ledgers: &BTreeSet<&str>) -> Error {
    let names: Vec<String> = ledgers.iter().map(|ledger| format!("'{ledger}'")).collect();
    let first = ledgers.first().copied().unwrap_or_default();
    Error::invalid(format!("package '{name}' is in several SackerLedgers: {}", names.join(", ")))
        .with_hint(format!("choose one, such as: --ledger {}", typed(first)))
}

/// How the conditions of a SackerPackage are.
pub(super) fn state_of_package(object: &SackerPackage) -> State {
    State::of(object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default())
}

/// How the conditions of a SackerTag are.
pub(super) fn state_of_tag(object: &SackerTag) -> State {
    State::of(object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default())
}

/// One that is suspended, or was not granted, shows less than one that is ready.
fn knowledge(object: &SackerPackage) -> (bool, Option<i64>) {
    let latest = object.status.as_ref().and_then(|status| status.latest.as_ref());
    (state_of_package(object).is_ready(), latest.map(|latest| latest.version))
}

/// For each tag, the SackerTag that saw the last of its events; of several, its owner.
fn keepers(objects: Vec<SackerTag>) -> BTreeMap<TagName, SackerTag> {
    let mut keepers: BTreeMap<TagName, SackerTag> = BTreeMap::new();
    for object in objects {
        let tag = TagName::existing(object.spec.tag.as_str());
        let is_better = keepers.get(&tag).is_none_or(|other| rank(other) < rank(&object));
        if is_better {
            keepers.insert(tag, object);
        }
    }
    keepers
}

fn rank(object: &SackerTag) -> (Option<i64>, bool) {
    let status = object.status.as_ref();
    (status.and_then(|status| status.seq), status.is_some_and(|status| is_owner(object, status)))
}

/// Owners are `k8s:<cluster>/<namespace>/<name>`.
fn is_owner(object: &SackerTag, status: &SackerTagStatus) -> bool {
    let owner = status.owner.as_deref().and_then(|owner| owner.strip_prefix("k8s:"));
    owner.and_then(|owner| owner.split_once('/')).is_some_and(|(_, own)| own == title(&object.metadata))
}
