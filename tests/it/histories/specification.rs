//! What a ledger is, in memory and without any of the product's decisions: versions, tags, owners, holds, removals, histories.
//!
//! Versions are counted 1, 2, 3, ... here, whatever numbers the ledger gives. Only V1 (`stateful`) uses it.

use std::collections::BTreeMap;

/// One step on one package. Versions and tags are chosen by number among those that there are; version 0 is one that
/// never was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Add { if_latest: Option<usize> },
    Change { tag: usize, what: What, expected: Expected, claim: Claim },
    Remove { version: usize },
    Latest,
    Info { version: usize },
    Versions,
    Tags,
    Tag { tag: usize },
    History { tag: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Move { to: usize, hold: bool },
    Untag,
    Hold,
    Release,
    Adopt,
    Disown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Any,
    Version(usize),
    /// The last event's number, and this more.
    Seq(u64),
}

/// Owners are robots 1 and 2, and a person, who is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Nobody,
    Owner(u8),
    TakeOver(u8),
}

/// What a step comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Version(usize),
    /// Every version, oldest first, and whether it was removed.
    Versions(Vec<bool>),
    /// The tag after a change, and the kind of event that was written.
    Changed(Tag, Option<&'static str>),
    Tag(Option<Tag>),
    Tags(BTreeMap<usize, Tag>),
    /// Kind, from, to of each event.
    History(Vec<Row>),
    Removed {
        is_new: bool,
    },
    Refused(Refusal),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoPackage,
    NoVersion,
    RemovedVersion,
    NoTag,
    Conflict,
    Held,
    Owned,
}

pub(crate) type Row = (String, Option<usize>, Option<usize>);

/// A tag as readers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) seq: u64,
    pub(crate) version: Option<usize>,
    pub(crate) owner: Option<u8>,
    pub(crate) held: bool,
}

/// One package.
#[derive(Debug, Default)]
pub(crate) struct Package {
    /// Whether each was removed.
    removed: Vec<bool>,
    tags: BTreeMap<usize, (Tag, Vec<Row>)>,
}

const PERSON: u8 = 0;

impl Package {
    /// How many versions there ever were.
    pub(crate) fn count(&self) -> usize {
        self.removed.len()
    }

    /// The last event's number of a tag.
    pub(crate) fn seq(&self, tag: usize) -> u64 {
        self.tags.get(&tag).map_or(0, |(tag, _)| tag.seq)
    }

    fn latest(&self) -> Option<usize> {
        self.removed.iter().rposition(|removed| !removed).map(|place| place + 1)
    }

    /// Whether the version can be read.
    fn look(&self, version: usize) -> Result<(), Refusal> {
        match version.checked_sub(1).and_then(|place| self.removed.get(place)) {
            Some(false) => Ok(()),
            Some(true) => Err(Refusal::RemovedVersion),
            None => Err(Refusal::NoVersion),
        }
    }

    /// Does the step.
    pub(crate) fn step(&mut self, step: &Step) -> Outcome {
        self.try_step(step).unwrap_or_else(Outcome::Refused)
    }

    fn try_step(&mut self, step: &Step) -> Result<Outcome, Refusal> {
        Ok(match step {
            Step::Add { if_latest } => {
                // The highest number, be it removed, counts as the newest, too: whoever saw it knows all that there is.
                let is_newest = |expected| self.latest() == Some(expected) || self.count() == expected;
                if if_latest.is_some_and(|expected| expected == 0 || !is_newest(expected)) {
                    return Err(Refusal::Conflict);
                }
                self.removed.push(false);
                Outcome::Version(self.count())
            }
            Step::Change { tag, what, expected, claim } => self.change(*tag, *what, *expected, *claim)?,
            Step::Remove { version } => match self.look(*version) {
                Err(Refusal::RemovedVersion) => Outcome::Removed { is_new: false },
                Err(_) if self.count() == 0 => return Err(Refusal::NoPackage),
                Err(refusal) => return Err(refusal),
                Ok(()) if self.tags.values().any(|(tag, _)| tag.version == Some(*version)) => {
                    return Err(Refusal::Conflict);
                }
                Ok(()) => {
                    self.removed[version - 1] = true;
                    Outcome::Removed { is_new: true }
                }
            },
            Step::Latest => Outcome::Version(self.latest().ok_or(Refusal::NoPackage)?),
            Step::Info { version } => {
                self.look(*version)?;
                Outcome::Version(*version)
            }
            Step::Versions if self.count() == 0 => return Err(Refusal::NoPackage),
            Step::Versions => Outcome::Versions(self.removed.clone()),
            Step::Tags => {
                let there: BTreeMap<usize, Tag> = self
                    .tags
                    .iter()
                    .filter(|(_, (tag, _))| tag.version.is_some())
                    .map(|(name, (tag, _))| (*name, tag.clone()))
                    .collect();
                if there.is_empty() && self.count() == 0 {
                    return Err(Refusal::NoPackage);
                }
                Outcome::Tags(there)
            }
            Step::Tag { tag } => Outcome::Tag(self.tags.get(tag).map(|(tag, _)| tag.clone())),
            Step::History { tag } => {
                let (_, rows) = self.tags.get(tag).ok_or(Refusal::NoTag)?;
                Outcome::History(rows.clone())
            }
        })
    }

    fn change(
        &mut self,
        name: usize,
        what: What,
        expected: Expected,
        claim: Claim,
    ) -> Result<Outcome, Refusal> {
        if let What::Move { to, .. } = what {
            self.look(to).map_err(|refusal| {
                if self.count() == 0 && refusal == Refusal::NoVersion { Refusal::NoPackage } else { refusal }
            })?;
        }
        let before = self.tags.get(&name).map(|(tag, _)| tag.clone()).unwrap_or_default();
        let holds = match expected {
            Expected::Any => true,
            Expected::Version(version) => before.version == Some(version),
            Expected::Seq(more) => more == 0,
        };
        if !holds {
            return Err(Refusal::Conflict);
        }
        let is_mine = match (claim, before.owner) {
            (_, None) | (Claim::TakeOver(_), _) => true,
            (Claim::Nobody, Some(owner)) => owner == PERSON,
            (Claim::Owner(me), Some(owner)) => me == owner,
        };
        let claimed = match claim {
            Claim::Nobody => before.owner,
            Claim::Owner(me) | Claim::TakeOver(me) => Some(me),
        };
        let mut after = before.clone();
        let needs_right = !matches!(what, What::Hold | What::Release);
        if needs_right && !is_mine {
            return Err(Refusal::Owned);
        }
        let kind = match what {
            What::Move { to, hold } => {
                if before.held && before.version != Some(to) {
                    return Err(Refusal::Held);
                }
                (after.version, after.owner, after.held) = (Some(to), claimed, before.held || hold);
                if before.version != Some(to) {
                    Some("move")
                } else if after.held != before.held {
                    Some("hold")
                } else {
                    (after.owner != before.owner).then_some("adopt")
                }
            }
            What::Untag if before.held => return Err(Refusal::Held),
            What::Untag => {
                (after.version, after.owner, after.held) = (None, None, false);
                before.version.map(|_| "untag")
            }
            What::Hold | What::Adopt if before.version.is_none() => return Err(Refusal::NoTag),
            What::Hold => {
                after.held = true;
                Some("hold")
            }
            What::Release => {
                after.held = false;
                before.held.then_some("release")
            }
            What::Adopt => {
                after.owner = claimed;
                (after.owner != before.owner).then_some("adopt")
            }
            What::Disown => {
                after.owner = None;
                before.owner.map(|_| "disown")
            }
        };
        if let Some(kind) = kind {
            after.seq += 1;
            let (tag, rows) = self.tags.entry(name).or_default();
            rows.push((kind.to_owned(), before.version, after.version));
            *tag = after.clone();
        }
        Ok(Outcome::Changed(if kind.is_some() { after } else { before }, kind))
    }
}
