//! What an earlier look at many packages saw, so that the next one fetches only what changed.
//!
//! Only remembers; whether something remembered still holds is decided by the ledger that looks ([`super::Ledger::views`]),
//! and never by its age.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Revision;
use crate::model::{PackageName, PackageView, TagName, TagState, TagView, Version, VersionRecord};

/// What earlier calls of [`super::Ledger::views`] saw of one ledger, kept by the caller from call to call. Using it for
/// another ledger gives wrong answers.
///
/// Per package it holds what its view shows (the newest few versions, the tags and the versions they point to), so it
/// grows with the packages asked for and not with their versions; [`ViewCache::retain`] forgets packages.
#[derive(Debug, Default)]
pub struct ViewCache(Mutex<HashMap<PackageName, Arc<Known>>>);

impl ViewCache {
    /// Forgets the packages for which `is_needed` is false.
    pub fn retain(&self, mut is_needed: impl FnMut(&PackageName) -> bool) {
        self.packages().retain(|package, _| is_needed(package));
    }

    /// How many packages it remembers.
    pub fn len(&self) -> usize {
        self.packages().len()
    }

    /// Whether it remembers nothing.
    pub fn is_empty(&self) -> bool {
        self.packages().is_empty()
    }

    /// What is known of a package; nothing much before the first look.
    pub(super) fn get(&self, package: &PackageName) -> Arc<Known> {
        self.packages().get(package).cloned().unwrap_or_default()
    }

    pub(super) fn put(&self, package: &PackageName, known: Known) {
        self.packages().insert(package.clone(), Arc::new(known));
    }

    /// For a package that is not there any more.
    pub(super) fn forget(&self, package: &PackageName) {
        self.packages().remove(package);
    }

    fn packages(&self) -> MutexGuard<'_, HashMap<PackageName, Arc<Known>>> {
        // Entries are inserted whole, so a panic elsewhere leaves none in pieces.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that was read, with the revision it had; without one where the backend has none to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) revision: Option<Revision>,
}

impl<T> Read<T> {
    /// Whether what a listing shows now is still this.
    pub(super) fn is_at(&self, listed: Option<&Revision>) -> bool {
        self.revision.is_some() && self.revision.as_ref() == listed
    }
}

/// Tags by name, as they were read.
pub(super) type Tags = HashMap<TagName, Read<Option<Arc<TagState>>>>;

/// What is known of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Its tags, removed ones included; nothing for a name that only is reserved.
    pub(super) tags: Tags,
    /// The newest versions and those that tags point to, removed ones included.
    pub(super) records: HashMap<Version, Read<Arc<VersionRecord>>>,
    /// Where its newest versions begin.
    pub(super) tail: Option<Tail>,
}

/// The end of a package's versions, which is listed again where the beginning is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// The first version that is listed again.
    pub(super) oldest: Version,
    /// The highest version there was, removed ones included.
    pub(super) highest: Version,
    /// How many versions are listed before `oldest`, removed ones included.
    pub(super) before: u64,
    /// How often the beginning may still be left out.
    pub(super) uses: u8,
}

impl Known {
    /// The record of a version that a tag points to, if it cannot have changed since: the tag is as it was, and a version
    /// that a tag points to is never removed ([`super::Ledger::remove_version`]).
    pub(super) fn target(&self, version: Version, tags: &Tags) -> Option<&Read<Arc<VersionRecord>>> {
        let points_there_as_before = |(tag, now): (&TagName, &Read<Option<Arc<TagState>>>)| {
            version_of(now) == Some(version)
                && self.tags.get(tag).is_some_and(|before| before.value == now.value)
        };
        self.records.get(&version).filter(|_| tags.iter().any(points_there_as_before))
    }

    /// The versions that tags point to and that are not among the records.
    pub(super) fn missing(&self) -> BTreeSet<Version> {
        let targets = self.tags.values().filter_map(version_of);
        targets.filter(|version| !self.records.contains_key(version)).collect()
    }

    /// What it shows. `recent` are the newest versions that were not removed, newest first.
    pub(super) fn view(&self, recent: Vec<Arc<VersionRecord>>, version_count: u64) -> PackageView {
        let live = |version| {
            self.records.get(&version).map(|read| &read.value).filter(|record| !record.is_removed())
        };
        let states = self.tags.values().filter_map(|tag| tag.value.as_ref()).filter(|tag| tag.is_there());
        let mut tags: Vec<TagView> = states
            .map(|state| TagView { state: state.clone(), record: state.version.and_then(live).cloned() })
            .collect();
        tags.sort_unstable_by(|one, other| one.state.tag.cmp(&other.state.tag));
        PackageView { latest: recent.first().cloned(), tags, version_count, recent }
    }
}

fn version_of(tag: &Read<Option<Arc<TagState>>>) -> Option<Version> {
    tag.value.as_ref()?.version
}
