//! The versions of a package, out of what its SackerPackage and its SackerTags show. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::package::Package;
use super::tags::moment;
use crate::api::{SackerTagStatus, VersionStatus};
use crate::cli::items::VersionItem;
use crate::model::{PackageName, PinnedSpec, Sha256, Version};

impl Package {
    /// Every version that something is shown of, with the tags that point to it.
    pub(super) fn versions(&self) -> BTreeMap<Version, VersionItem> {
        let mut versions = BTreeMap::new();
        for item in self.shown_versions().into_iter().flatten() {
            match versions.entry(item.version) {
                Entry::Vacant(entry) => drop(entry.insert(item)),
                Entry::Occupied(mut entry) => complete(entry.get_mut(), item),
            }
        }
        for kept in self.tags() {
            if let Some(item) = kept.tag.version.and_then(|version| versions.get_mut(&version)) {
                item.tags.push(kept.tag.tag);
            }
        }
        versions
    }

    /// What each object shows of each version.
    fn shown_versions(&self) -> Vec<Option<VersionItem>> {
        let mut items = Vec::new();
        if let Some(status) = self.mirrored() {
            let newest = status.latest.iter().chain(&status.recent_versions);
            items.extend(newest.map(|version| of_mirror(&self.name, version)));
            // Older ones, of which no more is shown than where a tag points.
            let tagged = status.tags.iter().filter_map(|tag| Some((tag.version, tag.sha256.as_deref()?)));
            items.extend(tagged.map(|(version, sha256)| bare(&self.name, version, sha256)));
        }
        let told = self.keepers().filter_map(|(_, object)| object.status.as_ref());
        items.extend(told.map(|status| of_keeper(&self.name, status)));
        items
    }

    /// The newest version, if a SackerPackage shows it.
    pub(super) fn latest(&self) -> Option<Version> {
        Version::new(self.mirrored()?.latest.as_ref()?.version)
    }
}

/// What one object shows of a version, another shows too, or leaves out.
fn complete(item: &mut VersionItem, other: VersionItem) {
    item.size = item.size.or(other.size);
    item.mode = item.mode.or(other.mode);
    item.basename = item.basename.take().or(other.basename);
    item.added_at = item.added_at.or(other.added_at);
    item.added_by = item.added_by.take().or(other.added_by);
}

/// A version with nothing but its digest; nothing where the status has no proper one.
fn bare(package: &PackageName, version: i64, sha256: &str) -> Option<VersionItem> {
    let (version, sha256): (Version, Sha256) = (Version::new(version)?, sha256.parse().ok()?);
    let pinned = PinnedSpec { package: package.clone(), version, sha256 }.to_string();
    Some(VersionItem {
        package: package.clone(),
        version,
        sha256: Some(sha256),
        size: None,
        basename: None,
        mode: None,
        metadata: None,
        added_at: None,
        added_by: None,
        add_id: None,
        tags: Vec::new(),
        removed: None,
        pinned: Some(pinned),
    })
}

fn of_mirror(package: &PackageName, status: &VersionStatus) -> Option<VersionItem> {
    Some(VersionItem {
        size: status.size.and_then(|size| size.try_into().ok()),
        basename: status.basename.clone(),
        added_at: status.added_at.as_deref().and_then(moment),
        added_by: status.added_by.clone(),
        ..bare(package, status.version, &status.sha256)?
    })
}

fn of_keeper(package: &PackageName, status: &SackerTagStatus) -> Option<VersionItem> {
    Some(VersionItem {
        size: status.size.and_then(|size| size.try_into().ok()),
        basename: status.basename.clone(),
        mode: status.mode.and_then(|mode| mode.try_into().ok()),
        ..bare(package, status.version?, status.sha256.as_deref()?)?
    })
}
