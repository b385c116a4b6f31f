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

use jiff::Timestamp;

use crate::model::{Event, Numbering, TagState, Version, adopt_legacy};

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

/// What is known of a conditional write right after it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was carried out.
    Written,
    /// Its condition does not hold.
    Refused,
    /// Nobody knows, and trying again may help.
    Lost,
    /// It failed for good; an earlier attempt may still have been carried out.
    Failed,
}

/// What to do after a conditional write was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSend {
    /// Nothing: it is carried out.
    Committed,
    /// Report the failure: nothing was ever under way.
    Fail,
    /// Read back what is there. True: an attempt may be under way.
    LookBack(bool),
}

/// What to do after a conditional write was sent, `in_doubt` when an earlier attempt of it may be under way.
pub fn after_send(sent: Sent, in_doubt: bool) -> AfterSend {
    match sent {
        Sent::Written => AfterSend::Committed,
        Sent::Refused => AfterSend::LookBack(in_doubt),
        Sent::Failed if !in_doubt => AfterSend::Fail,
        Sent::Lost | Sent::Failed => AfterSend::LookBack(true),
    }
}

/// Where a write is that was not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// It was carried out.
    Committed,
    /// It was not, and what it replaces is as it was: it may still arrive.
    Pending,
    /// It was not, and can have no effect any more.
    Beaten,
}

/// What to do after it was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterLook {
    /// Nothing: it is carried out.
    Committed,
    /// Decide anew from what is there.
    Beaten,
    /// Send the very same bytes on the very same condition, so that a late attempt and this one cannot both count.
    Again,
    /// Report that the outcome is open.
    Open,
}

/// What to do with a write that was found there after it had been `sent`.
pub fn after_look(whereabouts: Whereabouts, sent: Sent, in_doubt: bool) -> AfterLook {
    match whereabouts {
        Whereabouts::Committed => AfterLook::Committed,
        Whereabouts::Beaten => AfterLook::Beaten,
        // Refused although nothing changed: another write of this key is being decided.
        Whereabouts::Pending if !in_doubt => AfterLook::Beaten,
        Whereabouts::Pending if sent != Sent::Failed => AfterLook::Again,
        Whereabouts::Pending => AfterLook::Open,
    }
}

/// Where the event `id` is, by the pointer alone: its exchange replaces a pointer at `before`, and the pointer now is at
/// the revision `now` with this event. Nothing: the history knows ([`whereabouts_in_history`]).
pub fn whereabouts_in_pointer<R: PartialEq>(
    id: &str,
    before: Option<&R>,
    now: Option<(&R, Option<&str>)>,
) -> Option<Whereabouts> {
    if now.is_some_and(|(_, event)| event == Some(id)) {
        return Some(Whereabouts::Committed);
    }
    (now.map(|(revision, _)| revision) == before).then_some(Whereabouts::Pending)
}

/// The same where the pointer was replaced since: whoever of ours did that has archived its event before.
pub fn whereabouts_in_history(id: &str, archived: Option<&str>) -> Whereabouts {
    if archived == Some(id) { Whereabouts::Committed } else { Whereabouts::Beaten }
}

/// Whether the pointer's own event is the one that the next follows. `archived`: the history has it under its number. If
/// not, the newest event of the history is (no pointer, one of a 2015 client, or one whose event lost its number).
pub fn pointer_is_last(event: Option<&Event>, archived: bool) -> bool {
    event.is_some() && archived
}

/// Whether a tag whose pointer does not tell the last event agrees with its history, which ends with `last`: it was
/// never set, or removed. If not, and if the pointer still is as it was read, a 2015 client wrote or deleted it.
pub fn agrees(pointer: Option<&TagState>, last: Option<&Event>) -> bool {
    pointer.is_none() && last.is_none_or(|event| event.to.is_none())
}

/// How a 2015 client's work enters the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It is there already (by another writer, or the pointer was set back to what it was): put this event into the
    /// pointer, with a fence, since it may have been there before.
    Restore(Event),
    /// Archive this event, create-only; then put it into the pointer.
    Adopt(Event),
}

impl Settlement {
    /// The event.
    pub fn event(&self) -> &Event {
        match self {
            Self::Restore(event) | Self::Adopt(event) => event,
        }
    }
}

/// How a pointer to `shown` that a 2015 client left is settled with a history that ends with `last`.
pub fn settlement(last: Option<&Event>, shown: Option<Version>, now: Timestamp, id: String) -> Settlement {
    match last {
        Some(last) if last.to == shown => Settlement::Restore(last.clone()),
        last => Settlement::Adopt(adopt_legacy(last, shown, now, id)),
    }
}

/// The first number that an `add` tries, above the highest one that it found. Nothing: there is none left.
pub fn first_number(numbering: Numbering, highest: Option<Version>, now: Timestamp) -> Option<Version> {
    let after = highest.map_or(Some(Version::FIRST), Version::next)?;
    Some(match numbering {
        Numbering::Sequence => after,
        Numbering::Timestamp => Version::new(now.as_millisecond()).map_or(after, |stamp| stamp.max(after)),
    })
}

/// The number to try after `version` was found taken, for the `taken`th time. In a sequence it is the next one: a taken
/// number proves that it exists, so no gap arises. Timestamps step ahead by a random number from a doubling window, since
/// many writers that share one clock and walk by 1 would meet again and again (quadratic).
pub fn following(version: Version, numbering: Numbering, taken: u32) -> Option<Version> {
    let step = match numbering {
        Numbering::Sequence => 1,
        Numbering::Timestamp if taken <= 3 => 1,
        Numbering::Timestamp => fastrand::i64(1..=1 << (taken - 3).min(16)),
    };
    version.get().checked_add(step).and_then(Version::new)
}

/// Whose a version number is, after a write that was not confirmed: `there` is the record's `add_id`, if there is a record.
pub fn taken(there: Option<Option<&str>>, own: &str) -> Whereabouts {
    match there {
        None => Whereabouts::Pending,
        Some(add_id) if add_id == Some(own) => Whereabouts::Committed,
        // Create-only: whatever of ours is still under way to this key can have no effect any more.
        Some(_) => Whereabouts::Beaten,
    }
}

/// The same for a writer that may not look, after an attempt whose reply was lost: a key that is taken is somebody else's
/// for all it knows, though it may be its own. It then makes two versions of one file, with one `add_id`.
pub fn unseen(sent: Sent) -> Whereabouts {
    if sent == Sent::Refused { Whereabouts::Beaten } else { Whereabouts::Pending }
}

/// What to do with an `add` that was found so after it had been `sent`. Unlike a pointer, a number where nothing is after
/// a refusal is tried again: walking on would leave a gap.
pub fn after_add(whereabouts: Whereabouts, sent: Sent) -> AfterLook {
    after_look(whereabouts, sent, true)
}

/// Whether the hint for 2015 readers must be raised to a version that was added.
pub fn raises(hint: Option<Version>, added: Version) -> bool {
    hint.is_none_or(|there| there < added)
}
