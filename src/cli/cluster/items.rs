//! What only the cluster adds to the answers of `sacker`: the objects behind a package or a tag, and how they are.

use serde::Serialize;

use super::condition::State;
use crate::cli::items::{TagItem, or_nothing};
use crate::cli::output::Item;
use crate::model::{PackageName, TagName, Version};

/// A package that objects in one namespace are about, for `list`.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct MirroredItem {
    pub(super) package: PackageName,
    pub(super) namespace: String,
    /// The SackerLedger.
    pub(super) ledger: String,
    /// Null where no SackerPackage shows it.
    pub(super) latest: Option<Version>,
    pub(super) tags: Vec<Pointer>,
    /// Of the SackerPackage; null where there is none.
    pub(super) state: Option<State>,
}

/// Where a tag points.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Pointer {
    pub(super) tag: TagName,
    pub(super) version: Version,
}

impl MirroredItem {
    fn tags(&self) -> String {
        let tags: Vec<_> = self.tags.iter().map(|to| format!("{}={}", to.tag, to.version)).collect();
        or_nothing((!tags.is_empty()).then(|| tags.join(" ")))
    }
}

impl Item for MirroredItem {
    const HEADERS: &'static [&'static str] = &["PACKAGE", "LEDGER", "LATEST", "TAGS", "STATE"];
    const WRAPPED: &'static [&'static str] = &["TAGS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name(),
            self.ledger.clone(),
            or_nothing(self.latest),
            self.tags(),
            or_nothing(self.state.as_ref().map(State::words)),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name()]
    }

    fn name(&self) -> String {
        self.package.as_str().to_owned()
    }
}

/// The same among those of all namespaces.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Everywhere(pub(super) MirroredItem);

impl Item for Everywhere {
    const HEADERS: &'static [&'static str] = &["NAMESPACE", "PACKAGE", "LEDGER", "LATEST", "TAGS", "STATE"];
    const WRAPPED: &'static [&'static str] = MirroredItem::WRAPPED;

    fn cells(&self) -> Vec<String> {
        [vec![self.0.namespace.clone()], self.0.cells()].concat()
    }

    fn plain(&self) -> Vec<String> {
        [vec![self.0.namespace.clone()], self.0.plain()].concat()
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

/// A tag, and the SackerTag that keeps it where it points, for `tags`.
#[derive(Debug, Serialize)]
pub(super) struct KeptTagItem {
    #[serde(flatten)]
    pub(super) tag: TagItem,
    /// `<namespace>/<name>`; null where there is none.
    pub(super) sackertag: Option<String>,
    pub(super) state: Option<State>,
}

impl Item for KeptTagItem {
    const HEADERS: &'static [&'static str] =
        &["TAG", "VERSION", "CHANGED", "BY", "HELD", "SACKERTAG", "STATE"];
    const WRAPPED: &'static [&'static str] = &["HELD", "SACKERTAG"];

    fn cells(&self) -> Vec<String> {
        let mut cells = self.tag.cells();
        // The owner is the SackerTag beside it, in more letters.
        cells.remove(4);
        cells.push(or_nothing(self.sackertag.as_ref()));
        cells.push(or_nothing(self.state.as_ref().map(State::words)));
        cells
    }

    fn plain(&self) -> Vec<String> {
        self.tag.plain()
    }

    fn name(&self) -> String {
        self.tag.name()
    }
}
