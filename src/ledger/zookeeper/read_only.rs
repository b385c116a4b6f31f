//! Whether a server of the ensemble is there and may only read: it lost the majority, and refuses sessions like ours as if it
//! were away.
//!
//! Asked with the word `isro` (ZooKeeper's administrator's guide, "The Four Letter Words"), which such a server always answers,
//! and not with a session that may only read: the library cannot read what a server says to that.

use futures::future::select_ok;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than any answer, so that what is no ZooKeeper is not read for long.
const ANSWER: u64 = 16;

/// Whether one of `servers` (`host:port`, separated by commas) says so. Waits as long as one says nothing.
pub(super) async fn is_read_only(servers: &str) -> bool {
    let asked: Vec<_> = servers.split(',').map(|server| Box::pin(says_so(server))).collect();
    select_ok(asked).await.is_ok()
}

async fn says_so(server: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(b"isro").await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    if answer.trim_ascii() == b"ro" { Ok(()) } else { Err(std::io::ErrorKind::Other.into()) }
}
