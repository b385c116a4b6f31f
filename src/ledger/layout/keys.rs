//! The keys of the object ledger (`docs/formats.md`). The first two are the 2015 layout.

use crate::model::{PackageName, TagName, Version};

/// The tag object that 2015 readers look at for the newest version. To us it is only a hint where to look first.
pub(super) const LATEST: &str = "latest";

/// The components that end a package name in a key.
pub(super) const RESERVED: [&str; 4] = ["versions", "tags", "history", "generations"];

/// What sacker keeps about the ledger itself lives below this.
pub(super) const OWN: &str = "_sacker";

/// The ledger's own record: how it numbers versions.
pub(super) const LEDGER: &str = "_sacker/ledger.json";

/// The keys of probes: the only ones that are ever deleted.
pub(super) const PROBE: &str = "_sacker/probe/";

pub(super) fn versions(package: &PackageName) -> String {
    format!("{}/versions/", package.as_str())
}

pub(super) fn version(package: &PackageName, version: Version) -> String {
    format!("{}/versions/{version}", package.as_str())
}

pub(super) fn tags(package: &PackageName) -> String {
    format!("{}/tags/", package.as_str())
}

pub(super) fn tag(package: &PackageName, tag: &TagName) -> String {
    format!("{}/tags/{}", package.as_str(), tag.as_str())
}

pub(super) fn latest_hint(package: &PackageName) -> String {
    format!("{}/tags/{LATEST}", package.as_str())
}

pub(super) fn histories(package: &PackageName) -> String {
    format!("{}/history/", package.as_str())
}

pub(super) fn history(package: &PackageName, tag: &TagName) -> String {
    format!("{}/history/{}/", package.as_str(), tag.as_str())
}

/// Twelve digits, so that keys sort as numbers do.
pub(super) fn event(package: &PackageName, tag: &TagName, seq: u64) -> String {
    format!("{}/history/{}/{seq:012}", package.as_str(), tag.as_str())
}
