//! What an error of ZooKeeper means: whether a server answered at all, and what it said.

use zookeeper_client::Error as Failure;

use super::settings::Settings;
use crate::error::{Error, Meaning, Missing};

/// What is asked of a server: in words, and the right that it takes in ZooKeeper's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) words: &'static str,
    pub(super) right: &'static str,
}

pub(super) const READ: Operation = Operation { words: "read a record", right: "READ" };
pub(super) const LIST: Operation = Operation { words: "list records", right: "READ" };
pub(super) const WRITE: Operation = Operation { words: "write a record", right: "CREATE or WRITE" };
pub(super) const DELETE: Operation = Operation { words: "delete a key of a probe", right: "DELETE" };
pub(super) const CREATE: Operation = Operation { words: "create the node of the ledger", right: "CREATE" };

/// Whether a server said this, and said with it that nothing was written. Everything else is trouble on the way, after which
/// only a look can tell.
pub(super) fn is_answer(failure: &Failure) -> bool {
    // Among the codes that the library has no name for are time-outs.
    matches!(
        failure,
        Failure::BadArguments(_)
            | Failure::NoNode
            | Failure::NoAuth
            | Failure::BadVersion
            | Failure::NoChildrenForEphemerals
            | Failure::NodeExists
            | Failure::NotEmpty
            | Failure::InvalidAcl
            | Failure::AuthFailed
            | Failure::NotReadOnly
            | Failure::QuotaExceeded
            | Failure::Throttled
            | Failure::MarshallingError
            | Failure::Unimplemented
    )
}

impl Settings {
    /// A failure by meaning. `path` is the node that it was about.
    pub(super) fn failed(&self, operation: Operation, path: &str, failure: Failure) -> Error {
        let (meaning, hint) = match &failure {
            Failure::NoAuth | Failure::InvalidAcl | Failure::AuthFailed => {
                (denied(operation, path), Some(self.whose_right()))
            }
            Failure::NotReadOnly => {
                let hint = "the server lost the others of its ensemble and is read-only until they are back";
                (denied(operation, path), Some(hint.to_owned()))
            }
            Failure::QuotaExceeded => {
                (denied(operation, path), Some("the quota of a node above it is used up".to_owned()))
            }
            Failure::Throttled => (Meaning::Throttled, None),
            Failure::BadArguments(why) => (
                Meaning::Invalid { rule: format!("ZooKeeper does not take node '{path}': {why}").into() },
                None,
            ),
            Failure::NoChildrenForEphemerals => {
                let why = "an ephemeral node is in its place, which is none of sacker's".to_owned();
                (Meaning::Corrupt { why }, None)
            }
            Failure::Unimplemented => {
                (Meaning::Other, Some("sacker needs ZooKeeper 3.5 or newer".to_owned()))
            }
            Failure::MarshallingError
            | Failure::NoNode
            | Failure::NodeExists
            | Failure::BadVersion
            | Failure::NotEmpty => (Meaning::Other, None),
            _ => (Meaning::Unavailable, Some(self.how_to_reach())),
        };
        let error = Error::new(meaning, operation.words).with_key(self.place(path)).with_source(failure);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// The ledger itself is missing.
    pub(super) fn no_root(&self) -> Error {
        let what = format!("node '{}' on {}", self.root, self.servers);
        Error::new(Meaning::NotFound(Missing::Backend(what)), "open the ledger")
            .with_hint(format!("create it with: sacker --ledger {} init", self.uri))
    }
}

fn denied(operation: Operation, path: &str) -> Meaning {
    Meaning::Denied { action: operation.right.to_owned(), resource: format!("node '{path}'") }
}
