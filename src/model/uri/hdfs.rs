//! A store in HDFS.

use std::fmt;
use std::time::Duration;

use super::parts::{Parts, Use, grace, shown_grace, write_query};
use crate::error::Result;

/// `hdfs://<namenode>[:port]/<path>`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HdfsLocation {
    /// `host[:port]` of a NameNode, or the name of a name service that the Hadoop configuration explains.
    pub name_node: String,
    /// The directory: begins with `/`, does not end with it.
    pub path: String,
    /// How long an unreferenced blob is left alone; see [`super::FileLocation::grace`].
    pub grace: Option<Duration>,
}

pub(super) fn parse(mut parts: Parts<'_>) -> Result<HdfsLocation> {
    let name_node = parts.host(parts.authority, None)?;
    let path = format!("/{}", parts.components()?.join("/"));
    let grace = grace(&mut parts, Use::Store)?;
    parts.finish(HdfsLocation { name_node, path, grace }, "grace")
}

impl fmt::Display for HdfsLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hdfs://{}{}", self.name_node, self.path)?;
        write_query(f, &[("grace", shown_grace(self.grace).as_deref())])
    }
}
