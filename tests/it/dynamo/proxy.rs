//! A proxy in front of DynamoDB Local that counts requests and makes the faults that the server itself never shows: lost
//! replies, lost requests, throttling, transaction conflicts.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is carried out, and the reply is lost.
    LoseReply,
    /// It is lost on the way.
    LoseRequest,
    /// It is carried out, and nothing comes back on the open connection.
    Hang,
    /// The server asks for less load.
    Throttle,
    /// Another transaction is at work on one of the items.
    Conflict,
    /// The credentials have expired.
    Expire,
    /// It is carried out, and the reply breaks off within its body.
    CutReply,
}

#[derive(Debug, Default)]
struct State {
    /// The operations that arrived, in order.
    log: Vec<String>,
    faults: Vec<(&'static str, Fault, usize)>,
}

/// A running proxy; it ends with the runtime of its test.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    /// `http://127.0.0.1:<port>`
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// A proxy in front of `backend` (`http://127.0.0.1:<port>`).
    pub(crate) async fn start(backend: &str) -> Self {
        let backend = backend.strip_prefix("http://").expect("an address without TLS").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let proxy = Self { endpoint, state: Arc::default() };
        let state = proxy.state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, backend.clone(), state.clone()));
            }
        });
        proxy
    }

    /// The next `times` requests of this operation (`PutItem`) get `fault`.
    pub(crate) fn inject(&self, operation: &'static str, fault: Fault, times: usize) {
        self.state().faults.push((operation, fault, times));
    }

    /// No faults any more.
    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// The operations that arrived since the last call.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One message with its head and body, as bytes.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut part = vec![0; 16 * 1024];
        let count = stream.read(&mut part).await.ok()?;
        if count == 0 {
            return None;
        }
        bytes.extend_from_slice(&part[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = header(&bytes, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let missing = (end + 4 + body).saturating_sub(bytes.len());
            let have = bytes.len();
            bytes.resize(have + missing, 0);
            stream.read_exact(&mut bytes[have..]).await.ok()?;
            return Some(bytes);
        }
    }
}

fn header(message: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let head = text.split("\r\n\r\n").next()?.to_owned();
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

fn refusal(code: &str) -> Vec<u8> {
    let conflict = code == "TransactionCanceledException";
    let reasons = r#"[{"Code":"TransactionConflict","Message":"busy"},{"Code":"None"},{"Code":"None"}]"#;
    let more = if conflict { format!(r#","CancellationReasons":{reasons}"#) } else { String::new() };
    let body =
        format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"injected"{more}}}"#);
    let length = body.len();
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0";
    format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

async fn serve(mut client: TcpStream, backend: String, state: Arc<Mutex<State>>) {
    while let Some(request) = message(&mut client).await {
        let target = header(&request, "x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let fault = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let rule = state.faults.iter_mut().find(|(name, _, times)| *name == operation && *times > 0);
            let fault = rule.map(|(_, fault, times)| {
                *times -= 1;
                *fault
            });
            state.log.push(operation);
            fault
        };
        let reply = match fault {
            Some(Fault::LoseRequest) => return,
            Some(Fault::Throttle) => refusal("ProvisionedThroughputExceededException"),
            Some(Fault::Conflict) => refusal("TransactionCanceledException"),
            Some(Fault::Expire) => refusal("ExpiredTokenException"),
            None | Some(Fault::LoseReply | Fault::Hang | Fault::CutReply) => {
                let Ok(mut server) = TcpStream::connect(&backend).await else { return };
                if server.write_all(&request).await.is_err() {
                    return;
                }
                let Some(reply) = message(&mut server).await else { return };
                reply
            }
        };
        match fault {
            Some(Fault::LoseReply) => return,
            Some(Fault::CutReply) => {
                let _ = client.write_all(&reply[..reply.len() - 1]).await;
                return;
            }
            Some(Fault::Hang) => std::future::pending().await,
            _ => {}
        }
        if client.write_all(&reply).await.is_err() {
            return;
        }
    }
}
