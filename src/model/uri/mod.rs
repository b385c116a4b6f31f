//! Where a ledger or a store lives, as a URI. A URI never holds a credential.

mod dynamo;
mod file;
mod git;
mod hdfs;
mod parts;
mod s3;
#[cfg(test)]
mod tests;
mod zookeeper;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use dynamo::DynamoLocation;
pub use file::FileLocation;
pub use git::{GitLocation, GitRemote};
pub use hdfs::HdfsLocation;
pub use s3::S3Location;
pub use zookeeper::{ZooKeeperAcl, ZooKeeperLocation};

use crate::error::{Error, Result};
use parts::{Parts, Use};

pub use parts::is_link_local;

/// How a ledger numbers versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbering {
    /// 1, 2, 3, ... without a gap.
    Sequence,
    /// Milliseconds since 1970: a client that cannot read can allocate one.
    Timestamp,
}

impl Numbering {
    /// The numbering as it is stored and printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Timestamp => "timestamp",
        }
    }
}

// Numbering is part of a key in caches of open ledgers.
impl std::hash::Hash for Numbering {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// Where a ledger lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LedgerUri {
    /// Two DynamoDB tables.
    Dynamo(DynamoLocation),
    /// Objects in a bucket.
    S3(S3Location),
    /// Files in a directory.
    File(FileLocation),
    /// Nodes of a ZooKeeper ensemble.
    ZooKeeper(ZooKeeperLocation),
    /// Files of a branch in a git repository.
    Git(GitLocation),
}

/// Where blobs live.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreUri {
    /// Objects in a bucket.
    S3(S3Location),
    /// Files in a directory.
    File(FileLocation),
    /// Files in HDFS.
    Hdfs(HdfsLocation),
}

/// One store, or several that hold the same blobs: at least one, each once.
///
/// As text: URIs separated by white space, which no URI contains.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreUris(Vec<StoreUri>);

impl StoreUris {
    /// Stores in the order in which they are written and asked.
    ///
    /// # Errors
    /// `Invalid` for none, and for one that is there twice.
    pub fn new(uris: Vec<StoreUri>) -> Result<Self> {
        if uris.is_empty() {
            return Err(Error::invalid("no store is named"));
        }
        for (index, uri) in uris.iter().enumerate() {
            if uris[..index].contains(uri) {
                return Err(Error::invalid(format!("the store '{uri}' is named twice")));
            }
        }
        Ok(Self(uris))
    }
}

impl std::ops::Deref for StoreUris {
    type Target = [StoreUri];

    fn deref(&self) -> &[StoreUri] {
        &self.0
    }
}

impl From<StoreUri> for StoreUris {
    fn from(uri: StoreUri) -> Self {
        Self(vec![uri])
    }
}

impl FromStr for StoreUris {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text.split_whitespace().map(str::parse).collect::<Result<_>>()?)
    }
}

impl fmt::Display for StoreUris {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, uri) in self.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{uri}")?;
        }
        Ok(())
    }
}

impl FromStr for LedgerUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = Parts::cut(text)?;
        match parts.scheme {
            "dynamo" => dynamo::parse(parts).map(Self::Dynamo),
            "s3" => s3::parse(parts, Use::Ledger).map(Self::S3),
            "file" => file::parse(parts, Use::Ledger).map(Self::File),
            "zk" => zookeeper::parse(parts).map(Self::ZooKeeper),
            scheme if scheme.starts_with(git::SCHEME) => git::parse(parts).map(Self::Git),
            other => Err(parts.broken(format_args!(
                "'{other}' is not a kind of ledger; use dynamo://<region>/<prefix>, s3://<bucket>, file:///<path>, \
                 zk://<server>/<root> or git+ssh://<server>/<path>"
            ))),
        }
    }
}

impl FromStr for StoreUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = Parts::cut(text)?;
        match parts.scheme {
            "s3" => s3::parse(parts, Use::Store).map(Self::S3),
            "file" => file::parse(parts, Use::Store).map(Self::File),
            "hdfs" => hdfs::parse(parts).map(Self::Hdfs),
            other => Err(parts.broken(format_args!(
                "'{other}' is not a kind of store; use s3://<bucket>, file:///<path> or hdfs://<namenode>/<path>"
            ))),
        }
    }
}

impl LedgerUri {
    /// The kind: `dynamo`, `s3`, `file`, `zk` or `git`.
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Dynamo(_) => "dynamo",
            Self::S3(_) => "s3",
            Self::File(_) => "file",
            Self::ZooKeeper(_) => "zk",
            Self::Git(_) => "git",
        }
    }
}

impl fmt::Display for LedgerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dynamo(location) => location.fmt(f),
            Self::S3(location) => location.fmt(f),
            Self::File(location) => location.fmt(f),
            Self::ZooKeeper(location) => location.fmt(f),
            Self::Git(location) => location.fmt(f),
        }
    }
}

impl fmt::Display for StoreUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(location) => location.fmt(f),
            Self::File(location) => location.fmt(f),
            Self::Hdfs(location) => location.fmt(f),
        }
    }
}
