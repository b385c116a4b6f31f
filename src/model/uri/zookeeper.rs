//! A ledger in a ZooKeeper ensemble.

use std::fmt;

use super::parts::{Parts, write_query};
use crate::error::Result;

/// The port that ZooKeeper servers listen on where the URI says none.
const PORT: u16 = 2181;

/// Who may do what with the nodes that are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ZooKeeperAcl {
    /// Everybody everything: the network keeps strangers out.
    Open,
    /// Whoever created a node everything, others nothing: needs credentials.
    Creator,
}

/// `zk://<host>[:port][,<host>[:port]...]/<root>`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ZooKeeperLocation {
    /// The servers of one ensemble as `host:port`, at least one.
    pub servers: Vec<String>,
    /// The node below which everything is: begins with `/`, does not end with it.
    pub root: String,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// Who may use what this client creates.
    pub acl: ZooKeeperAcl,
}

pub(super) fn parse(mut parts: Parts<'_>) -> Result<ZooKeeperLocation> {
    let hosts = parts.authority.split(',').map(|host| parts.host(host, Some(PORT)));
    let servers = hosts.collect::<Result<Vec<_>>>()?;
    let components = parts.components()?;
    if components.first() == Some(&"zookeeper") {
        return Err(parts.broken("the node /zookeeper belongs to the server itself"));
    }
    let root = format!("/{}", components.join("/"));
    let tls = parts.take_flag("tls")?.unwrap_or(false);
    let acl = match parts.take("acl").as_deref() {
        None | Some("open") => ZooKeeperAcl::Open,
        Some("creator") => ZooKeeperAcl::Creator,
        Some(_) => return Err(parts.broken("acl is 'open' or 'creator'")),
    };
    parts.finish(ZooKeeperLocation { servers, root, tls, acl }, "tls, acl")
}

impl fmt::Display for ZooKeeperLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zk://{}{}", self.servers.join(","), self.root)?;
        let acl = (self.acl == ZooKeeperAcl::Creator).then_some("creator");
        write_query(f, &[("tls", self.tls.then_some("true")), ("acl", acl)])
    }
}
