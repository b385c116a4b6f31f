//! Listing in the order of keys: a walk over nodes that opens only those which hold a key that is asked for.
//!
//! ZooKeeper gives the names below a node in no order and all at once. Every directory and bucket has a least key, though, so
//! taking what has the least one first, and opening it when it is no object, meets the objects in their order.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use zookeeper_client::Error as Failure;

use super::nodes::{self, Child};
use super::session::Session;

/// What a listing asks for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) root: String,
    pub(super) prefix: String,
    pub(super) start_after: String,
    pub(super) limit: usize,
}

/// Something still to be taken. None of the keys below it is less than `least`.
#[derive(Debug, PartialEq, Eq)]
struct Pending {
    least: String,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Object,
    /// A node to be opened, and what the keys of its objects begin with.
    Node {
        path: String,
        prefix: String,
    },
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        self.least.cmp(&other.least)
    }
}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Wanted {
    /// The keys, and whether there is a ledger at all.
    pub(super) async fn keys(&self, session: &Session) -> Result<Option<Vec<String>>, Failure> {
        let mut keys = Vec::new();
        let Some(first) = self.first() else { return Ok(Some(keys)) };
        let mut pending = BinaryHeap::from([Reverse(first)]);
        let mut is_first = true;
        while let Some(Reverse(next)) = pending.pop() {
            let (path, prefix) = match next.kind {
                Kind::Node { path, prefix } => (path, prefix),
                Kind::Object => {
                    keys.push(next.least);
                    if keys.len() >= self.limit {
                        break;
                    }
                    continue;
                }
            };
            match names(session, &path).await? {
                Some(names) => {
                    let found = names.iter().filter_map(|name| self.pending(&path, &prefix, name));
                    pending.extend(found.map(Reverse));
                }
                None if is_first && !session.has_root().await? => return Ok(None),
                // It was removed meanwhile: the keys of a probe.
                None => {}
            }
            is_first = false;
        }
        Ok(Some(keys))
    }

    /// The directory that all wanted keys are below.
    fn first(&self) -> Option<Pending> {
        let components = self.prefix.rsplit_once('/').map(|(components, _)| components);
        let path = nodes::directory(&self.root, components.unwrap_or_default())?;
        let prefix = components.map_or_else(String::new, |components| format!("{components}/"));
        (components != Some("")).then(|| Pending { least: prefix.clone(), kind: Kind::Node { path, prefix } })
    }

    /// What a name below the node `path` may add; nothing where that is none of what is wanted.
    fn pending(&self, path: &str, prefix: &str, name: &str) -> Option<Pending> {
        let start = &self.start_after;
        match nodes::child(name)? {
            Child::Object(name) => {
                let key = format!("{prefix}{name}");
                let is_wanted = key.starts_with(&self.prefix) && key > *start;
                is_wanted.then_some(Pending { least: key, kind: Kind::Object })
            }
            Child::Bucket(digits) => {
                let least = format!("{prefix}{digits}{}", if digits.is_empty() { "0" } else { "000" });
                let is_wanted = format!("{prefix}{digits}999") > *start;
                let path = nodes::bucket(path, &digits);
                is_wanted.then(|| Pending { least, kind: Kind::Node { path, prefix: prefix.to_owned() } })
            }
            Child::Directory(component) => {
                let path = nodes::directory(path, &component)?;
                let prefix = format!("{prefix}{component}/");
                let is_wanted =
                    prefix.starts_with(&self.prefix) && (prefix > *start || start.starts_with(&prefix));
                is_wanted.then(|| Pending { least: prefix.clone(), kind: Kind::Node { path, prefix } })
            }
        }
    }
}

/// The names right below a node; nothing where it is not there.
pub(super) async fn names(session: &Session, path: &str) -> Result<Option<Vec<String>>, Failure> {
    match session.client.list_children(path).await {
        Ok(names) => Ok(Some(names)),
        Err(Failure::NoNode) => Ok(None),
        Err(failure) => Err(failure),
    }
}
