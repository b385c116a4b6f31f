//! ZooKeeper: one server that all tests share, and ensembles of a test's own.

use std::sync::OnceLock;

use super::{Folder, Server, Shared, free_ports, is_there, shared};

/// ZooKeeper, shared: tests differ by root node.
#[derive(Debug, Clone)]
pub(crate) struct ZooKeeperServer {
    /// `127.0.0.1:<port>`
    pub(crate) address: String,
}

impl ZooKeeperServer {
    /// One that is not shared.
    pub(crate) fn of(server: &Server) -> Self {
        Self { address: format!("127.0.0.1:{}", server.port()) }
    }

    /// `zk://127.0.0.1:<port>/<root>`
    pub(crate) fn uri(&self, root: &str) -> String {
        format!("zk://{}/{root}", self.address)
    }

    /// A plain client, for looking behind sacker's back.
    pub(crate) async fn client(&self) -> zookeeper_client::Client {
        zookeeper_client::Client::connect(&self.address).await.expect("a session")
    }
}

/// ZooKeeper.
pub(crate) fn zookeeper() -> Option<ZooKeeperServer> {
    static CELL: Shared = OnceLock::new();
    shared(&CELL, "zookeeper", 1, &[]).map(ZooKeeperServer::of)
}

/// Three servers that are one ensemble.
#[derive(Debug)]
pub(crate) struct Ensemble {
    pub(crate) members: Vec<Server>,
    _folders: Vec<Folder>,
}

impl Ensemble {
    /// Starts it; nothing where ZooKeeper is missing, which was said then.
    pub(crate) fn start() -> Option<Self> {
        is_there("zookeeper").then(|| {
            let ports = free_ports(9);
            let folders: Vec<Folder> = (0..3).map(|_| Folder::new("zookeeper")).collect();
            let line = |index: usize| {
                format!("server.{}=127.0.0.1:{}:{}", index + 1, ports[3 + index], ports[6 + index])
            };
            let lines: Vec<String> = (0..3).map(line).collect();
            let start = |index: usize| {
                let id = format!("myid={}", index + 1);
                let settings = [id.as_str(), &lines[0], &lines[1], &lines[2]];
                Server::start_on("zookeeper", folders[index].path(), vec![ports[index]], &settings)
                    .unwrap_or_else(|log| panic!("a member does not start: {log}"))
            };
            // One alone waits for the others.
            let members = std::thread::scope(|scope| {
                let start = &start;
                let starting: Vec<_> = (0..3).map(|index| scope.spawn(move || start(index))).collect();
                starting.into_iter().map(|thread| thread.join().expect("it starts")).collect()
            });
            Self { members, _folders: folders }
        })
    }

    /// `zk://127.0.0.1:<port>,...,127.0.0.1:<port>/<root>`
    pub(crate) fn uri(&self, root: &str) -> String {
        let members: Vec<_> =
            self.members.iter().map(|member| format!("127.0.0.1:{}", member.port())).collect();
        format!("zk://{}/{root}", members.join(","))
    }
}
