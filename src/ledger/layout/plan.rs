//! The decisions of the object ledger, apart from its requests: what was read → what to do next.
//!
//! Pure, so that models (`tests/it`) explore the very functions that run. Not responsible for what a change makes of a
//! tag ([`crate::model::next_event`]).
//!
//! # A tag never comes to point to a removed version
//! A tag's writer reads the pointer first and the version after it, and exchanges the pointer on condition of the
//! revision it read. A removal *marks* the version (it stays readable), then gives every pointer a new revision (the
//! *fence*), and only then exchanges the marked record for the tombstone. A writer that read its pointer before the fence
//! cannot exchange it any more; one that read it after the fence reads the version after the mark, and clears the mark
//! before it goes on, which the tombstone's condition notices. A tag without a pointer cannot be fenced: its first
//! writer reserves the pointer, and reads the version again after that.
//!
//! No revision comes twice: every writing of a marked or cleared version, of a fenced, reserved or restored pointer has
//! an id of its own in it. Whoever dies half way leaves a mark, a fence or a reservation, which mean nothing by themselves.

use crate::model::Version;

/// A version object as a removal or a tag's writer finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// It was never added.
    Nothing,
    /// It is as it was added.
    Live,
    /// It is there, and a removal is under way with this id.
    Marked {
        /// The id, which also is in the pointers that were fenced.
        mark: &'a str,
    },
    /// It was removed, by the removal with this id.
    Removed {
        /// The id of the call that wrote the tombstone.
        by: Option<&'a str>,
    },
}

/// What a removal does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remove {
    /// Nothing: there is no such version.
    Refuse,
    /// Nothing: it is removed. True: by this very call, whose reply was lost.
    Done(bool),
    /// Look whether a tag points to it; mark it if none does.
    Mark,
    /// Fence every pointer, then write the tombstone on condition of the marked record. Also under the mark of another
    /// removal, dead or alive: the fence protects whoever comes after the mark, whosever it is.
    Fence,
}

/// What a removal with the id `own` does about a version that it found so.
pub fn remove(found: Found<'_>, own: &str) -> Remove {
    match found {
        Found::Nothing => Remove::Refuse,
        Found::Removed { by } => Remove::Done(by == Some(own)),
        Found::Live => Remove::Mark,
        Found::Marked { .. } => Remove::Fence,
    }
}

/// What a removal does with one pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Give up: the tag points to the version.
    Tagged,
    /// Nothing: it was given a new revision under this mark.
    Fenced,
    /// Give it a new revision, on condition of the one that was read.
    Write,
}

/// What a removal of `version` under `mark` does with a pointer to `points_to` that carries `fence`.
pub fn fence(points_to: Option<Version>, fence: Option<&str>, version: Version, mark: &str) -> Fence {
    if points_to == Some(version) {
        Fence::Tagged
    } else if fence == Some(mark) {
        Fence::Fenced
    } else {
        Fence::Write
    }
}

/// What a tag's writer does before it exchanges the pointer for one to a version that it found after reading the pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approach {
    /// Give up: there is no such version.
    Refuse,
    /// Create the pointer without a version, so that a removal can fence it; then look at the version again.
    Reserve,
    /// Clear the mark on condition of the revision that was read, so that the removal starts anew; then exchange.
    Clear,
    /// Exchange the pointer.
    Exchange,
}

/// How a tag's writer approaches the version that it found.
pub fn approach(found: Found<'_>, has_pointer: bool) -> Approach {
    match found {
        Found::Nothing | Found::Removed { .. } => Approach::Refuse,
        Found::Live | Found::Marked { .. } if !has_pointer => Approach::Reserve,
        Found::Marked { .. } => Approach::Clear,
        Found::Live => Approach::Exchange,
    }
}
