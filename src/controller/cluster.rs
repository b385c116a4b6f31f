//! What Kubernetes says about a ledger and about who may use it: reads of the caches, and the one access rule.

use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::context::Context;
use super::pool::{Health, OpenLedger};
use crate::api::conditions::{ConditionType, find};
use crate::api::{Reason, SackerLedger};
use crate::model::{AccessRule, LedgerUri, PackageName, Verb, check_access};

/// A SackerLedger, as far as it can be used right now.
#[derive(Debug)]
pub enum Ledger {
    /// There is no such object.
    Missing(String),
    /// It is there but cannot be used, for this reason.
    NotReady(String),
    /// It is known to be down, as this message says. Who may use it is known all the same.
    Down {
        /// Why it is down.
        message: String,
        /// Who may use it.
        access: Vec<AccessRule>,
    },
    /// It can be asked.
    Ready {
        /// Itself.
        open: Arc<OpenLedger>,
        /// Who may use it.
        access: Vec<AccessRule>,
    },
}

/// The SackerLedger of this name, as an object that can be read.
pub fn ledger_object(context: &Context, name: &str) -> Option<SackerLedger> {
    context.ledgers.cache.get(&ObjectRef::new(name))?.read().ok()
}

/// The SackerLedger of this name, opened if it can be used. Makes no request.
pub async fn ledger(context: &Context, name: &str) -> Ledger {
    let Some(object) = ledger_object(context, name) else {
        return Ledger::Missing(format!("there is no SackerLedger '{name}'; ask an administrator for one"));
    };
    let access = object.spec.access_rules();
    match readiness(&object) {
        Readiness::Ready => {}
        Readiness::Down(message) => return Ledger::Down { message, access },
        Readiness::NotReady(message) => return Ledger::NotReady(message),
    }
    let Ok(uri) = object.spec.ledger.parse::<LedgerUri>() else {
        return Ledger::NotReady(format!("SackerLedger '{name}' has a URI that cannot be used"));
    };
    match context.pool.get(&uri).await {
        Ok(open) => match open.health() {
            Health::Up => Ledger::Ready { open, access },
            Health::Down(message) => Ledger::Down { message: down(name, &message), access },
        },
        Err(error) => Ledger::NotReady(format!("SackerLedger '{name}' cannot be opened: {error}")),
    }
}

/// The sentence for everybody who waits for a ledger that is down.
pub fn down(name: &str, message: &str) -> String {
    format!("the ledger of SackerLedger '{name}' cannot be reached: {message}; what is known stays")
}

enum Readiness {
    Ready,
    Down(String),
    NotReady(String),
}

/// What the ledger controller found, if it found it for the spec as it is now.
fn readiness(object: &SackerLedger) -> Readiness {
    let name = object.name_any();
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let current = |generation: Option<i64>| generation == object.metadata.generation;
    match find(conditions, ConditionType::Ready) {
        Some(ready) if current(ready.observed_generation) => match ready.status.as_str() {
            "True" => Readiness::Ready,
            _ if ready.reason == Reason::LedgerUnavailable.as_str() => {
                Readiness::Down(down(&name, &ready.message))
            }
            _ => Readiness::NotReady(format!("SackerLedger '{name}' is not ready: {}", ready.message)),
        },
        _ => Readiness::NotReady(format!("SackerLedger '{name}' has not been looked at yet")),
    }
}

/// Why a namespace may not do this with a package, if it may not. Asked before every call to a ledger.
pub fn denial(
    context: &Context,
    access: &[AccessRule],
    namespace: &str,
    package: &PackageName,
    verb: Verb,
) -> Option<String> {
    let Some(object) = context.namespaces.get(&ObjectRef::new(namespace)) else {
        return Some(format!("namespace '{namespace}' has not been seen yet"));
    };
    check_access(access, namespace, object.labels(), package, verb).err().map(|denial| denial.message)
}
