//! The admin port: what a test does through the handle, for a gate in another process.
//!
//! `PUT /rules` (YAML), `DELETE /rules`; `GET /log` (JSON lines), `DELETE /log` (the same, and forgets them); `GET /hits`;
//! `POST /drain`, `/release`, `/silence`, `/close`, `/open`; `PUT /secret/<access key id>`.

use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::body::Failure;
use super::{Entry, Gate, Rule};

/// Listens on `address` for as long as the gate runs. An error where the address cannot be had.
pub(super) fn start(gate: &Gate, address: &str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    // Without a handle of its own: the admin port must not keep the gate alive.
    let weak = gate.weak();
    gate.runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime with I/O");
        while let Ok((stream, _)) = listener.accept().await {
            let weak = weak.clone();
            let service = service_fn(move |request| {
                let gate = weak.upgrade();
                async move { answer(gate.ok_or("the gate is gone")?, request).await }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(bound)
}

async fn answer(gate: Gate, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Failure> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = parts.uri.path();
    let (status, text) = match (&parts.method, path) {
        (&Method::PUT, "/rules") => match rules(&String::from_utf8_lossy(&body)) {
            Ok(rules) => {
                gate.set_rules(rules);
                (200, String::new())
            }
            Err(error) => (400, error),
        },
        (&Method::DELETE, "/rules") => {
            gate.set_rules(Vec::new());
            (200, String::new())
        }
        (&Method::GET, "/log") => (200, lines(&gate.log())),
        (&Method::DELETE, "/log") => (200, lines(&gate.take_log())),
        (&Method::GET, "/hits") => (200, serde_json::to_string(&gate.hits())? + "\n"),
        (&Method::POST, "/drain") => {
            gate.drain().await;
            (200, String::new())
        }
        (&Method::POST, "/release") => {
            gate.release();
            (200, String::new())
        }
        (&Method::POST, "/silence") => {
            gate.silence();
            (200, String::new())
        }
        (&Method::POST, "/close") => {
            gate.close();
            (200, String::new())
        }
        (&Method::POST, "/open") => {
            gate.open();
            (200, String::new())
        }
        (&Method::PUT, _) if path.starts_with("/secret/") => {
            gate.know_secret(&path["/secret/".len()..], String::from_utf8_lossy(&body).trim());
            (200, String::new())
        }
        _ => (404, "no such call\n".to_owned()),
    };
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(text)))?)
}

/// Rules as they are written in YAML; what is wrong with them otherwise.
pub(crate) fn rules(text: &str) -> Result<Vec<Rule>, String> {
    serde_saphyr::from_str(text).map_err(|error| format!("{error}\n"))
}

fn lines(entries: &[Entry]) -> String {
    let line = |entry| serde_json::to_string(entry).expect("an entry is JSON") + "\n";
    entries.iter().map(line).collect()
}
