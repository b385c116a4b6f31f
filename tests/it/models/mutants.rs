//! Products that leave out one step. Each is the real product over objects that ignore one kind of write or condition,
//! or answer one kind of read wrong, and each must be found by one of the scenarios.

use bytes::Bytes;
use sacker::ledger::{Object, Precondition};

use super::world::WriteFate;

/// One step left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Versions are put without `If-None-Match`.
    VersionWithoutCondition,
    /// Pointers are put without a condition.
    PointerWithoutCondition,
    /// The event is never archived, so that the pointer alone has it.
    EventNotArchived,
    /// Events are archived over what is there.
    ArchiveWithoutCondition,
    /// The id of an `add` is not recognised in its own record.
    AddIdIgnored,
    /// A removed version is deleted, no tombstone stays.
    DeletedInsteadOfTombstone,
    /// The tombstone is put without a condition.
    TombstoneWithoutCondition,
    /// A removal does not fence the pointers.
    NotFenced,
    /// A removal does not mark the version.
    NotMarked,
    /// A read may show what was there before.
    StaleReads,
}

pub(super) const ALL: [Mutant; 10] = [
    Mutant::VersionWithoutCondition,
    Mutant::PointerWithoutCondition,
    Mutant::EventNotArchived,
    Mutant::ArchiveWithoutCondition,
    Mutant::AddIdIgnored,
    Mutant::DeletedInsteadOfTombstone,
    Mutant::TombstoneWithoutCondition,
    Mutant::NotFenced,
    Mutant::NotMarked,
    Mutant::StaleReads,
];

fn is_pointer(key: &str) -> bool {
    key == "p/tags/live"
}

fn says(bytes: &Bytes, text: &str) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|json| json.contains(text))
}

impl Mutant {
    /// What becomes of a write.
    pub(super) fn write(self, key: &str, bytes: &Bytes, precondition: &Precondition) -> WriteFate {
        let creates = *precondition == Precondition::Absent;
        let is_version = key.contains("/versions/");
        let is_tombstone = is_version && says(bytes, "\"removal\"");
        let is_mark = is_version && !creates && !is_tombstone;
        match self {
            Self::VersionWithoutCondition if is_version && creates => WriteFate::Unconditional,
            Self::PointerWithoutCondition if is_pointer(key) => WriteFate::Unconditional,
            Self::EventNotArchived if key.contains("/history/") => WriteFate::Pretended,
            Self::ArchiveWithoutCondition if key.contains("/history/") => WriteFate::Unconditional,
            Self::DeletedInsteadOfTombstone if is_tombstone => WriteFate::Deleted,
            Self::TombstoneWithoutCondition if is_tombstone => WriteFate::Unconditional,
            Self::NotFenced if is_pointer(key) && says(bytes, "\"fence\"") => WriteFate::Pretended,
            Self::NotMarked if is_mark => WriteFate::Pretended,
            _ => WriteFate::AsAsked,
        }
    }

    /// Changes what a reader gets.
    pub(super) fn spoil_read(self, key: &str, object: &mut Object) {
        if self == Self::AddIdIgnored && key.contains("/versions/") {
            let text = String::from_utf8_lossy(&object.bytes);
            object.bytes = Bytes::from(text.replace("\"add_id\":\"", "\"add_id\":\"another-"));
        }
    }

    /// Whether a read of this key shows what was there before.
    pub(super) fn reads_stale(self, key: &str) -> bool {
        self == Self::StaleReads && is_pointer(key)
    }
}
