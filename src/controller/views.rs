//! What was last seen of each package: the poll fills it, the resolver shows it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::place;
use crate::api::Reason;
use crate::error::{Error, Meaning, Missing};
use crate::model::{PackageName, PackageView};

/// What a look at a package came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The package.
    View(Box<PackageView>),
    /// The ledger has no such package.
    Absent,
    /// The look failed, in a way that is about this package and not about the ledger as a whole.
    Failed {
        /// Why, in one word.
        reason: Reason,
        /// Why.
        message: String,
    },
}

impl Seen {
    /// What the result of a look means; nothing when it says nothing about the package.
    pub fn of(result: Result<PackageView, Error>) -> Option<Self> {
        match result {
            Ok(view) => Some(Self::View(Box::new(view))),
            Err(error) => match error.meaning() {
                Meaning::NotFound(Missing::Package(_)) => Some(Self::Absent),
                Meaning::Throttled | Meaning::Unavailable => None,
                meaning => Some(Self::Failed { reason: place(meaning).1, message: error.to_string() }),
            },
        }
    }
}

/// The views of all packages that are asked for, by SackerLedger and package.
#[derive(Debug, Default)]
pub struct Views(Mutex<HashMap<String, HashMap<PackageName, Arc<Seen>>>>);

impl Views {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, HashMap<PackageName, Arc<Seen>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was last seen of a package; nothing before the first look.
    pub fn get(&self, ledger: &str, package: &PackageName) -> Option<Arc<Seen>> {
        self.all().get(ledger)?.get(package).cloned()
    }

    /// Notes what was seen. Returns whether it differs from before.
    pub fn put(&self, ledger: &str, package: &PackageName, seen: Seen) -> bool {
        let mut all = self.all();
        let packages = all.entry(ledger.to_owned()).or_default();
        let now = Arc::new(seen);
        // Also where nothing changed: the records of the new one are those that the next look starts from.
        let before = packages.insert(package.clone(), Arc::clone(&now));
        before.is_none_or(|before| before != now)
    }

    /// Forgets the packages of a ledger that are not in `needed`.
    pub fn retain(&self, ledger: &str, needed: &HashSet<PackageName>) {
        if let Some(packages) = self.all().get_mut(ledger) {
            packages.retain(|package, _| needed.contains(package));
        }
    }

    /// Forgets a ledger.
    pub fn forget(&self, ledger: &str) {
        self.all().remove(ledger);
    }
}
