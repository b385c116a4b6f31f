//! What a reader learns about a package in one go.
//!
//! Views of thousands of packages are kept, beside what the next look starts from, so both share the records.

use std::sync::Arc;

use super::{TagState, VersionRecord};

/// A spec, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The version it names.
    pub record: VersionRecord,
    /// The tag it went through, if it did.
    pub tag: Option<TagState>,
}

/// A tag with the record it points to; the record is absent for a tag that points to nothing (a 2015 client does not
/// check).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagView {
    /// The tag.
    pub state: Arc<TagState>,
    /// The record of its version.
    pub record: Option<Arc<VersionRecord>>,
}

/// The newest version, the tags, and the newest few versions of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageView {
    /// The newest version that was not removed.
    pub latest: Option<Arc<VersionRecord>>,
    /// All tags, by name.
    pub tags: Vec<TagView>,
    /// How many versions were ever added, removed ones included.
    pub version_count: u64,
    /// The newest versions that were not removed, newest first, at most [`PackageView::RECENT`].
    pub recent: Vec<Arc<VersionRecord>>,
}

impl PackageView {
    /// How many recent versions a view carries.
    pub const RECENT: usize = 10;
}
