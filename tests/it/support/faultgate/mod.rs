//! faultgate: a seeded fault proxy for HTTP, between a client and S3, DynamoDB or the Kubernetes API server.
//!
//! It passes requests on as they are (signatures verify), keeps a log of them, and does what its rules say: refuse, lose,
//! delay, repeat, cut, spoil. Tests use it in process (`Gate`), people as `cargo run --example faultgate`. What a rule can
//! say is in `rule`. It is no cache, no balancer, and no security boundary.

mod admin;
mod body;
mod decide;
mod exchange;
mod facts;
mod late;
mod log;
mod refusal;
mod rule;
mod shared;
mod sign;
mod tcp;
mod upstream;
mod wire;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub(crate) use admin::rules as parse_rules;
pub(crate) use log::{Entry, operations};
pub(crate) use refusal::Refusal;
pub(crate) use rule::{Action, Match, Rule, ServerDate};
pub(crate) use tcp::{TcpFault, TcpGate, parse_fault};
pub(crate) use upstream::Upstream;

use log::Log;
use shared::Shared;
use wire::{Control, Wire};

/// A running gate: on a thread with a runtime of its own, so that it outlives the runtime of any test. It ends with its
/// last handle.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Handle,
    /// Dropped with the last handle, which ends the thread.
    life: Arc<watch::Sender<()>>,
}

impl Gate {
    /// A gate in front of `upstream` (`http://127.0.0.1:<port>`), on a free port, without rules.
    pub(crate) fn start(upstream: &str, seed: u64) -> Self {
        Self::before(&Upstream::new(upstream), seed)
    }

    /// The same in front of a server that may speak TLS.
    pub(crate) fn before(upstream: &Upstream, seed: u64) -> Self {
        Self::start_on(upstream, seed, "127.0.0.1:0", None).expect("a free port")
    }

    /// The same on this address, with a file for the log. An error where the address cannot be had.
    pub(crate) fn start_on(
        upstream: &Upstream,
        seed: u64,
        listen: &str,
        log: Option<File>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let shared = Arc::new(Shared::new(upstream, seed, Log::new(log)));
        let life = Arc::new(watch::Sender::new(()));
        let (serving, mut alive) = (shared.clone(), life.subscribe());
        std::thread::Builder::new().name("faultgate".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, serving) => {}
                    _ = alive.changed() => {}
                }
            });
        })?;
        Ok(Self { shared, address, runtime: handle, life })
    }

    /// Opens the admin port on `address`: where it is.
    pub(crate) fn admin(&self, address: &str) -> std::io::Result<SocketAddr> {
        admin::start(self, address)
    }

    fn weak(&self) -> WeakGate {
        let (shared, address, runtime) = (self.shared.clone(), self.address, self.runtime.clone());
        WeakGate { shared, address, runtime, life: Arc::downgrade(&self.life) }
    }

    /// `http://127.0.0.1:<port>`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces all rules; none heals. Replies that were kept to be given again are forgotten.
    pub(crate) fn set_rules(&self, rules: Vec<Rule>) {
        self.shared.set_rules(rules);
    }

    /// One more rule, after the others.
    pub(crate) fn add_rule(&self, rule: Rule) {
        self.shared.add_rule(rule);
    }

    /// The secret of an access key: needed where a signed request is changed (`ConditionOn`, `Strip`,
    /// `AcceptAbsentIfMatch`) and the server verifies.
    pub(crate) fn know_secret(&self, access_key: &str, secret: &str) {
        self.shared.know_secret(access_key, secret);
    }

    /// Every request so far, in the order of arrival.
    pub(crate) fn log(&self) -> Vec<Entry> {
        self.shared.log.all()
    }

    /// Every request since the last call. What is still under way is in it, as far as it has come.
    pub(crate) fn take_log(&self) -> Vec<Entry> {
        self.shared.log.take()
    }

    /// How many requests in the log name this word in their path, query or key.
    pub(crate) fn about(&self, word: &str) -> usize {
        let names =
            |entry: &Entry| [&entry.path, &entry.query, &entry.key].iter().any(|text| text.contains(word));
        self.log().iter().filter(|entry| names(entry)).count()
    }

    /// Since when the times of the log count.
    pub(crate) fn epoch(&self) -> Instant {
        self.shared.log.epoch()
    }

    /// How often each action was applied.
    pub(crate) fn hits(&self) -> BTreeMap<&'static str, u64> {
        self.shared.hits()
    }

    /// Lets all requests go that are held now.
    pub(crate) fn release(&self) {
        self.shared.release();
    }

    /// How many requests are held.
    pub(crate) fn held(&self) -> usize {
        *self.shared.held.borrow()
    }

    /// Lets all replies that are under way say nothing more; their connections stay open. What is asked later passes.
    pub(crate) fn silence(&self) {
        self.shared.silence();
    }

    /// Ends all connections and lets nobody in. What was forwarded stays forwarded.
    pub(crate) fn close(&self) {
        self.shared.open.send_replace(false);
    }

    /// Lets everybody in again.
    pub(crate) fn open(&self) {
        self.shared.open.send_replace(true);
    }

    /// Waits until nothing is pending at the backend: all that was forwarded is answered, all that was delayed is
    /// delivered. Held requests are pending until they are released.
    pub(crate) async fn drain(&self) {
        let mut pending = self.shared.pending.subscribe();
        loop {
            // The sender is in `self`.
            let _ = pending.wait_for(|count| *count == 0).await;
            // What a client sent before it went away may not have been read yet: a turn of the gate's runtime reads it.
            let turn = self.runtime.spawn(tokio::time::sleep(TURN));
            if turn.await.is_err() || *pending.borrow() == 0 {
                return;
            }
        }
    }

    /// The same, blocking: for tests without a runtime.
    pub(crate) fn drain_blocking(&self) {
        let (done, waiting) = std::sync::mpsc::channel();
        let gate = self.clone();
        self.runtime.spawn(async move {
            gate.drain().await;
            let _ = done.send(());
        });
        let _ = waiting.recv();
    }
}

/// A handle that does not keep the gate running.
#[derive(Clone)]
struct WeakGate {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Handle,
    life: Weak<watch::Sender<()>>,
}

impl WeakGate {
    fn upgrade(&self) -> Option<Gate> {
        let (shared, address, runtime) = (self.shared.clone(), self.address, self.runtime.clone());
        Some(Gate { shared, address, runtime, life: self.life.upgrade()? })
    }
}

const TURN: Duration = Duration::from_millis(2);

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime with I/O");
    loop {
        // Out of file descriptors, at worst: others will be closed.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(TURN).await;
            continue;
        };
        tokio::spawn(serve(stream, shared.clone()));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut open = shared.open.subscribe();
    let _ = stream.set_nodelay(true);
    let control = Arc::new(Control::default());
    let wire = TokioIo::new(Wire::new(stream, control.clone()));
    let service = service_fn(move |request| exchange::serve(shared.clone(), control.clone(), request));
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(wire, service);
    tokio::select! {
        // First, so that nobody who comes to a closed gate is heard.
        biased;
        _ = open.wait_for(|open| !*open) => {}
        // How a connection ended is the client's to know.
        _ = connection => {}
    }
}
