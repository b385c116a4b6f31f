//! `/healthz`, `/readyz` and `/metrics` of the operator.
//!
//! Liveness says only that the process is up: restarting it mends no ledger. Readiness lists what is still waited for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// After the stop signal, how long answers under way may take.
const DRAIN: Duration = Duration::from_secs(2);

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
