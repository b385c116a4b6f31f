//! HDFS: a NameNode with its DataNodes.

use std::sync::{Arc, OnceLock};

use hdfs_native::client::WriteOptions;
use hdfs_native::{Client, ClientBuilder};

use super::{Folder, Server, announce, is_there};

/// One HDFS. Whoever runs the tests is its superuser.
#[derive(Debug)]
pub(crate) struct Hdfs {
    pub(crate) name_node: Server,
    pub(crate) data_nodes: Vec<Server>,
    folder: Folder,
}

impl Hdfs {
    /// A NameNode with these settings more (`-D`, `name=value`), and so many DataNodes with those.
    pub(crate) fn start(settings: &[&str], data_nodes: usize, of_data_nodes: &[&str]) -> Self {
        let folder = Folder::new("hdfs");
        let name_node = Server::start("hdfs-namenode", folder.path(), 2, &[], settings);
        let port = [name_node.port()];
        let data_node = |_| Server::start("hdfs-datanode", folder.path(), 3, &port, of_data_nodes);
        let data_nodes = (0..data_nodes).map(data_node).collect();
        Self { name_node, data_nodes, folder }
    }

    /// `127.0.0.1:<port>`
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.name_node.port())
    }

    /// `hdfs://127.0.0.1:<port><path>`
    pub(crate) fn uri(&self, path: &str) -> String {
        format!("hdfs://{}{path}", self.address())
    }

    /// Starts a DataNode again that was killed, on its ports and with its blocks.
    pub(crate) fn restart_data_node(&mut self, index: usize) {
        let ports = self.data_nodes[index].ports().to_vec();
        let again = Server::start_on("hdfs-datanode", self.folder.path(), ports, &[]);
        self.data_nodes[index] = again.unwrap_or_else(|log| panic!("the DataNode does not start: {log}"));
    }

    /// A directory with a Hadoop configuration of these properties.
    pub(crate) fn configuration(&self, name: &str, properties: &[(&str, &str)]) -> String {
        let directory = self.folder.path().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let property = |(name, value): &(&str, &str)| {
            format!("<property><name>{name}</name><value>{value}</value></property>\n")
        };
        let text: String = properties.iter().map(property).collect();
        let text = format!("<configuration>\n{text}</configuration>\n");
        std::fs::write(directory.join("hdfs-site.xml"), text).expect("written");
        directory.to_str().expect("test folders are UTF-8").to_owned()
    }

    /// A client for looking behind the store's back.
    pub(crate) fn client(&self) -> Client {
        ClientBuilder::new().with_url(self.uri("")).build().expect("a client")
    }

    /// Writes a file, and the directories above it.
    pub(crate) async fn write(&self, path: &str, content: &[u8]) {
        let options = WriteOptions::default().overwrite(true);
        let mut file = self.client().create(path, &options).await.expect("a file");
        Box::pin(file.write_bytes(content.to_vec().into())).await.expect("written");
        Box::pin(file.close()).await.expect("closed");
    }

    /// Makes every file below `directory` three days old.
    pub(crate) async fn make_old(&self, directory: &str) {
        let client = self.client();
        for entry in client.list_status(directory, true).await.expect("listed") {
            if !entry.isdir {
                let old = entry.modification_time - 72 * 3_600_000;
                client.set_times(&entry.path, old, old).await.expect("it becomes old");
            }
        }
    }

    /// The paths of all files below a directory.
    pub(crate) async fn files(&self, directory: &str) -> Vec<String> {
        let entries = self.client().list_status(directory, true).await.unwrap_or_default();
        entries.into_iter().filter(|entry| !entry.isdir).map(|entry| entry.path).collect()
    }
}

/// A NameNode and a DataNode, shared: tests differ by path.
pub(crate) fn hdfs() -> Option<Arc<Hdfs>> {
    static CELL: OnceLock<Option<Arc<Hdfs>>> = OnceLock::new();
    let started = CELL.get_or_init(|| {
        is_there("hdfs").then(|| {
            let hdfs = Hdfs::start(&[], 1, &[]);
            announce("hdfs", &hdfs.name_node);
            Arc::new(hdfs)
        })
    });
    if started.is_none() {
        is_there("hdfs");
    }
    started.clone()
}
