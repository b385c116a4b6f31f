//! What the tree of a commit holds: files and directories by their keys.

use std::sync::Arc;

use bytes::Bytes;

use super::command::Deadline;
use super::failure::Failure;
use super::reader::Read;
use super::repository::{Repository, Tip};
use super::tree::{self, Kind, Tree};
use crate::error::Error;

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A regular file with this content.
    File(String),
    /// Something that sacker never writes, at this path.
    Odd(String),
    /// A directory, or a file in the place of one of the key's directories.
    InTheWay,
}

impl Repository {
    /// The object of this id, which `tip` needs; nothing where it is too large to be ours.
    async fn object(&self, tip: &Tip, id: &str, deadline: &Deadline) -> Result<Option<Bytes>, Failure> {
        let mut was_fetched = false;
        loop {
            match self.read(id, deadline).await? {
                Read::Object { bytes, .. } => return Ok(Some(bytes)),
                Read::TooLarge => return Ok(None),
                Read::Missing if self.local().is_some() => {
                    return Err(Error::corrupt(self.location.url(), format!("object {id} is missing")).into());
                }
                // A fetch that was cut short, or that is under way in another process, has written a part.
                Read::Missing if !was_fetched => {
                    was_fetched = true;
                    self.fetch(&tip.commit, deadline).await?;
                }
                Read::Missing => return Err(Failure::Broken(format!("object {id} is missing"))),
            }
        }
    }

    async fn tree(&self, tip: &Tip, id: &str, deadline: &Deadline) -> Result<Arc<Tree>, Failure> {
        if let Some(tree) = self.trees.get(id) {
            return Ok(tree);
        }
        let bytes = self.object(tip, id, deadline).await?;
        let tree = bytes.and_then(|bytes| tree::parse(&bytes, id.len() / 2));
        let Some(tree) = tree else {
            return Err(Error::corrupt(self.location.url(), format!("tree {id} makes no sense")).into());
        };
        let tree = Arc::new(tree);
        self.trees.put(id, tree.clone());
        Ok(tree)
    }

    /// What is at a key.
    pub(super) async fn find(&self, tip: &Tip, key: &str, deadline: &Deadline) -> Result<Found, Failure> {
        let mut id = tip.tree.clone();
        let mut rest = key;
        loop {
            let tree = self.tree(tip, &id, deadline).await?;
            let (component, below) = match rest.split_once('/') {
                Some((component, below)) => (component, Some(below)),
                None => (rest, None),
            };
            let Some(node) = tree.get(component) else { return Ok(Found::Nothing) };
            match (node.kind, below) {
                (Kind::Directory, Some(below)) => {
                    id.clone_from(&node.id);
                    rest = below;
                }
                (Kind::File, None) => return Ok(Found::File(node.id.clone())),
                (Kind::Other, None) => return Ok(Found::Odd(key.to_owned())),
                (Kind::Directory, None) | (_, Some(_)) => return Ok(Found::InTheWay),
            }
        }
    }

    /// The content of the file at a key, which was found there.
    pub(super) async fn content(
        &self,
        tip: &Tip,
        key: &str,
        id: &str,
        deadline: &Deadline,
    ) -> Result<Bytes, Failure> {
        let bytes = self.object(tip, id, deadline).await?;
        bytes.ok_or_else(|| Error::corrupt(self.shown(key), "it is larger than any record").into())
    }

    /// The tree at a directory (empty, or ending in `/`); nothing where there is none.
    pub(super) async fn directory(
        &self,
        tip: &Tip,
        prefix: &str,
        deadline: &Deadline,
    ) -> Result<Option<Arc<Tree>>, Failure> {
        let mut tree = self.tree(tip, &tip.tree, deadline).await?;
        for component in prefix.split_terminator('/') {
            match tree.get(component) {
                Some(node) if node.kind == Kind::Directory => {
                    let id = node.id.clone();
                    tree = self.tree(tip, &id, deadline).await?;
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(tree))
    }

    /// All files below a directory, and what is no file, with their ids.
    pub(super) async fn files(
        &self,
        tip: &Tip,
        prefix: &str,
        deadline: &Deadline,
    ) -> Result<Vec<(String, String)>, Failure> {
        let mut files = Vec::new();
        let Some(top) = self.directory(tip, prefix, deadline).await? else { return Ok(files) };
        let mut queue = vec![(prefix.to_owned(), top)];
        while let Some((prefix, tree)) = queue.pop() {
            for (name, node) in tree.iter() {
                let key = format!("{prefix}{name}");
                if node.kind == Kind::Directory {
                    queue.push((key + "/", self.tree(tip, &node.id, deadline).await?));
                } else {
                    files.push((key, node.id.clone()));
                }
            }
        }
        Ok(files)
    }
}
