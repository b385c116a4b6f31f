//! `/healthz`, `/readyz` and `/metrics` of the operator.
//!
//! A connection lives for a short time and only so many live at once: whoever connects and says nothing, or reads slowly,
//! costs a little memory for a while and nobody else's answer.
//!
//! Liveness says only that the process is up: restarting it mends no ledger. Readiness lists what is still waited for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// After the stop signal, how long answers under way may take.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a connection lives, from its first byte to its last. A scraper that keeps its connection makes a new one.
const LIFETIME: Duration = Duration::from_mins(1);

/// How many connections live at once; more wait to be accepted.
const CONNECTIONS: usize = 64;

/// What the process still waits for before it is ready, by name. Shared by everything that starts something.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<RwLock<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// `name` is not there yet; `why` says what is waited for.
    pub fn waits_for(&self, name: &'static str, why: impl Into<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, why.into());
    }

    /// `name` is there.
    pub fn has(&self, name: &'static str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// A line per thing that is waited for.
    pub fn missing(&self) -> Vec<String> {
        let waiting = self.0.read().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().map(|(name, why)| format!("{name}: {why}")).collect()
    }
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    registry: Arc<Registry>,
}

/// Serves on `address` until `stop`; readiness turns off with it. Calls `bound` with the address that was bound, for port 0.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    registry: Arc<Registry>,
    stop: CancellationToken,
    bound: impl FnOnce(SocketAddr),
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    bound(listener.local_addr()?);
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Shared { readiness: readiness.clone(), registry });
    let stopping = {
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            readiness.waits_for("process", "stopping");
        }
    };
    let listener = Limited { listener, turns: Arc::new(Semaphore::new(CONNECTIONS)), lifetime: LIFETIME };
    let serving = axum::serve(listener, router).with_graceful_shutdown(stopping);
    // Idle keep-alive connections must not hold up the end of the process.
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served,
        () = late => Ok(()),
    }
}

/// A listener whose connections are limited in number and in time.
struct Limited {
    listener: TcpListener,
    turns: Arc<Semaphore>,
    lifetime: Duration,
}

impl Listener for Limited {
    type Io = Short;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Short, SocketAddr) {
        // Nobody closes the semaphore.
        let turn = self.turns.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Short { stream, end: Box::pin(tokio::time::sleep(self.lifetime)), _turn: turn }, address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself.
struct Short {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Short {
    fn check(&mut self, context: &mut Context<'_>) -> std::io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(std::io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Short {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Short {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    let missing = shared.readiness.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for\n{}\n", missing.join("\n"))).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shared.registry) {
        Ok(()) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn who_says_nothing_is_let_go_and_the_next_gets_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let lifetime = Duration::from_millis(200);
        let listener = Limited { listener, turns: Arc::new(Semaphore::new(1)), lifetime };
        let router = Router::new().route("/healthz", get(async || "ok\n"));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let mut silent = TcpStream::connect(address).await.expect("it listens");
        silent.write_all(b"GET /healthz HT").await.expect("half a request");
        let mut speaking = TcpStream::connect(address).await.expect("it listens");
        speaking.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.expect("a request");
        let mut answer = String::new();
        let reading = speaking.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(10), reading).await.expect("in time").expect("an answer");
        assert!(answer.ends_with("ok\n"), "{answer}");
        let mut rest = Vec::new();
        let _ = silent.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
}
