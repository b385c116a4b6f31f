//! The gate for what is not HTTP: it passes bytes, and knows nothing of what they say.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::log::lock;
use super::rule::duration;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TcpFault {
    #[default]
    None,
    /// Each piece comes so much later, in both directions.
    Delay(#[serde(deserialize_with = "duration")] Duration),
    /// A reset (RST) after so many bytes from the server.
    Reset(u64),
    /// Nothing passes, and the connection stays open.
    Blackhole,
    /// So many bytes a second, in each direction.
    Throttle(u64),
    /// What the client says passes, what the server says does not.
    SwallowReply,
}

#[derive(Debug, Default)]
struct Plan {
    /// One for each of the next connections.
    script: VecDeque<TcpFault>,
    connections: usize,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    plan: Mutex<Plan>,
    /// For the connections that the script has nothing for, also for those that are open.
    fault: watch::Sender<TcpFault>,
}

/// A running gate, on a thread of its own. It ends with its last handle.
#[derive(Debug, Clone)]
pub(crate) struct TcpGate {
    shared: Arc<Shared>,
    address: SocketAddr,
    _life: Arc<watch::Sender<()>>,
}

impl TcpGate {
    /// A gate in front of `upstream` (`127.0.0.1:<port>`) that listens on `listen` (port 0: a free one).
    pub(crate) fn start(upstream: &str, listen: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fault = watch::Sender::new(TcpFault::None);
        let shared = Arc::new(Shared { upstream: upstream.to_owned(), plan: Mutex::default(), fault });
        let life = Arc::new(watch::Sender::new(()));
        let (serving, mut alive) = (shared.clone(), life.subscribe());
        std::thread::Builder::new().name("faultgate-tcp".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, serving) => {}
                    _ = alive.changed() => {}
                }
            });
        })?;
        Ok(Self { shared, address, _life: life })
    }

    /// `127.0.0.1:<port>`
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// What happens from now on, also to open connections.
    pub(crate) fn set(&self, fault: TcpFault) {
        self.shared.fault.send_replace(fault);
    }

    /// What happens to the next connections, one each; those after them are as [`TcpGate::set`] says.
    pub(crate) fn script(&self, faults: &[TcpFault]) {
        lock(&self.shared.plan).script.extend(faults);
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.shared.plan).connections
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime with I/O");
    while let Ok((client, _)) = listener.accept().await {
        let own = {
            let mut plan = lock(&shared.plan);
            plan.connections += 1;
            plan.script.pop_front()
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let _ = serve(client, own, &shared).await;
        });
    }
}

/// What happens to one connection now.
struct Fate {
    own: Option<TcpFault>,
    all: watch::Receiver<TcpFault>,
}

impl Fate {
    fn now(&mut self) -> TcpFault {
        self.own.unwrap_or_else(|| *self.all.borrow_and_update())
    }

    /// Waits while nothing passes.
    async fn wait(&mut self) -> TcpFault {
        loop {
            match self.now() {
                TcpFault::Blackhole if self.own.is_some() => std::future::pending().await,
                TcpFault::Blackhole => {
                    if self.all.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                fault => return fault,
            }
        }
    }
}

async fn serve(client: TcpStream, own: Option<TcpFault>, shared: &Shared) -> std::io::Result<()> {
    let fate = || Fate { own, all: shared.fault.subscribe() };
    fate().wait().await;
    let server = TcpStream::connect(&shared.upstream).await?;
    let (mut client, mut server) = (client, server);
    let (resets, up, down) = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let up = async {
            let mut fate = fate();
            let mut buffer = vec![0; 64 << 10];
            loop {
                let length = from_client.read(&mut buffer).await?;
                let fault = fate.wait().await;
                pace(fault, length).await;
                if length == 0 {
                    return to_server.shutdown().await;
                }
                to_server.write_all(&buffer[..length]).await?;
            }
        };
        let down = async {
            let mut fate = fate();
            let (mut buffer, mut passed) = (vec![0; 64 << 10], 0_u64);
            loop {
                let fault = fate.now();
                let limit = match fault {
                    TcpFault::Reset(at) => usize::try_from(at.saturating_sub(passed)).unwrap_or(usize::MAX),
                    _ => usize::MAX,
                };
                if limit == 0 {
                    return Ok(true);
                }
                let room = buffer.len().min(limit);
                let length = from_server.read(&mut buffer[..room]).await?;
                let fault = fate.wait().await;
                pace(fault, length).await;
                if length == 0 {
                    to_client.shutdown().await?;
                    return Ok::<bool, std::io::Error>(false);
                }
                if fault != TcpFault::SwallowReply {
                    to_client.write_all(&buffer[..length]).await?;
                    passed += length as u64;
                }
            }
        };
        tokio::pin!(up, down);
        let mut sent = None;
        loop {
            tokio::select! {
                end = &mut up, if sent.is_none() => sent = Some(end),
                end = &mut down => break (matches!(end, Ok(true)), sent, end),
            }
        }
    };
    if resets {
        client.set_zero_linger()?;
    }
    up.unwrap_or(Ok(())).and(down.map(|_| ()))
}

async fn pace(fault: TcpFault, length: usize) {
    match fault {
        TcpFault::Delay(delay) => tokio::time::sleep(delay).await,
        #[expect(clippy::cast_precision_loss, reason = "pieces are small")]
        TcpFault::Throttle(rate) => {
            tokio::time::sleep(Duration::from_secs_f64(length as f64 / rate.max(1) as f64)).await;
        }
        _ => {}
    }
}

/// A fault as it is written in YAML; what is wrong with it otherwise.
pub(crate) fn parse_fault(text: &str) -> Result<TcpFault, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}
