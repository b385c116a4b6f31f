//! Which of several SackerTags for one tag may have it: the one that has it, else the oldest.

use jiff::Timestamp;

/// A SackerTag that claims a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claimant {
    /// Whether it does not own the tag in the ledger, as far as its status says; an owner sorts first.
    pub(super) waits: bool,
    /// When it was created.
    pub(super) created: Option<Timestamp>,
    /// Its uid, so that any two can be told apart.
    pub(super) uid: String,
    /// `<namespace>/<name>`.
    pub(super) name: String,
}

/// The claimant with a better claim than `me`, if there is one. `others` are those that may tag the package and are not
/// being deleted: an object without access must not block one that has it.
pub(super) fn better_claim<'a>(me: &Claimant, others: &'a [Claimant]) -> Option<&'a Claimant> {
    others.iter().filter(|other| other.uid != me.uid && *other < me).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(name: &str, owns: bool, created: i64) -> Claimant {
        Claimant {
            waits: !owns,
            created: Timestamp::from_second(created).ok(),
            uid: format!("uid-{name}"),
            name: format!("n/{name}"),
        }
    }

    #[test]
    fn the_one_that_has_it_keeps_it_then_the_oldest_then_the_uid() {
        let young_owner = claimant("young", true, 20);
        let old = claimant("old", false, 10);
        let twin = claimant("zwin", false, 10);
        let all = [young_owner.clone(), old.clone(), twin.clone()];
        assert_eq!(better_claim(&young_owner, &all), None);
        assert_eq!(better_claim(&old, &all), Some(&young_owner));
        assert_eq!(better_claim(&twin, &[old.clone(), twin.clone()]), Some(&old));
        assert_eq!(better_claim(&old, &[twin, old.clone()]), None);
    }
}
