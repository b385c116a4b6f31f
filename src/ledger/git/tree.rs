//! Tree and commit objects as git stores them, and a memory of trees: one never changes under its id.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::path;

/// What a name in a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// Another tree.
    Directory,
    /// A symbolic link or another repository: nothing that sacker writes.
    Other,
}

/// What a name in a tree leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) id: String,
}

/// The names in a tree that are components of keys, decoded, in the order of their bytes.
pub(super) type Tree = BTreeMap<String, Node>;

/// Reads a tree object whose ids have `id_length` bytes; nothing for one that makes no sense.
pub(super) fn parse(bytes: &[u8], id_length: usize) -> Option<Tree> {
    let mut tree = Tree::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (mode, name) = (rest.get(..space)?, rest.get(space + 1..end)?);
        let id = rest.get(end + 1..=end + id_length)?;
        rest = &rest[end + 1 + id_length..];
        let kind = match mode {
            b"40000" | b"040000" => Kind::Directory,
            mode if mode.starts_with(b"100") => Kind::File,
            _ => Kind::Other,
        };
        if let Some(name) = path::decode(name) {
            tree.insert(name, Node { kind, id: hex::encode(id) });
        }
    }
    Some(tree)
}

/// The tree of a commit object.
pub(super) fn of_commit(bytes: &[u8]) -> Option<String> {
    let first = bytes.split(|byte| *byte == b'\n').next()?;
    let id = std::str::from_utf8(first).ok()?.strip_prefix("tree ")?;
    is_id(id).then(|| id.to_owned())
}

/// Whether the text is a whole id, of either kind of repository.
pub(super) fn is_id(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// How many names are remembered, about 150 bytes each.
const MOST: usize = 100_000;

/// Trees that were read. Forgetting costs a read.
#[derive(Debug, Default)]
pub(super) struct Trees(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    trees: HashMap<String, Arc<Tree>>,
    names: usize,
}

impl Trees {
    pub(super) fn get(&self, id: &str) -> Option<Arc<Tree>> {
        self.lock().trees.get(id).cloned()
    }

    pub(super) fn put(&self, id: &str, tree: Arc<Tree>) {
        let mut known = self.lock();
        if known.names > MOST {
            // Simple, and rare: what is still in use is read once more.
            *known = Known::default();
        }
        known.names += tree.len() + 1;
        known.trees.insert(id.to_owned(), tree);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_foreign_names_are_told_apart() {
        let mut bytes = Vec::new();
        for (mode, name) in [
            ("100644", "1"),
            ("100755", "%2Egit"),
            ("120000", "link"),
            ("160000", "module"),
            ("40000", "tags"),
            ("100644", ".gitattributes"),
        ] {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            bytes.extend_from_slice(&[0xab; 20]);
        }
        let tree = parse(&bytes, 20).expect("a tree");
        let kinds: Vec<(&str, Kind)> = tree.iter().map(|(name, node)| (name.as_str(), node.kind)).collect();
        let expected = [
            (".git", Kind::File),
            ("1", Kind::File),
            ("link", Kind::Other),
            ("module", Kind::Other),
            ("tags", Kind::Directory),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(tree["1"].id, "ab".repeat(20));
        assert_eq!(parse(&bytes[..bytes.len() - 1], 20), None, "cut short");
        assert_eq!(parse(b"", 20), Some(Tree::new()));
    }

    #[test]
    fn a_commit_names_its_tree() {
        let id = "0123456789".repeat(4);
        let commit = format!("tree {id}\nparent x\n\ntree of words");
        assert_eq!(of_commit(commit.as_bytes()), Some(id));
        assert_eq!(of_commit(b"parent x\n"), None);
        assert_eq!(of_commit(b"tree 12\n"), None);
    }
}
