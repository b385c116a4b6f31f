//! Smart HTTP for the repositories below a folder: `git http-backend` behind a bridge from HTTP to CGI, on loopback.
//!
//! Everybody may push. Not responsible for faults: those are the gate's (`faultgate`).

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::watch;

/// A running bridge, on a thread with a runtime of its own. It ends with its last handle.
#[derive(Debug, Clone)]
pub(crate) struct GitHttp {
    address: SocketAddr,
    _life: Arc<watch::Sender<()>>,
}

impl GitHttp {
    /// Serves every bare repository below `root`.
    pub(crate) fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("it can wait");
        let address = listener.local_addr().expect("it is bound");
        let life = Arc::new(watch::Sender::new(()));
        let (mut alive, root) = (life.subscribe(), root.to_owned());
        let serve = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, root) => {}
                    _ = alive.changed() => {}
                }
            });
        };
        std::thread::Builder::new().name("git-http".into()).spawn(serve).expect("a thread");
        Self { address, _life: life }
    }

    /// `http://127.0.0.1:<port>`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The ledger in the repository of this name.
    pub(crate) fn uri(&self, repository: &str) -> String {
        format!("git+{}/{repository}", self.url())
    }
}

async fn accept(listener: TcpListener, root: PathBuf) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime with I/O");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let root = root.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(root.clone(), request));
            // How a connection ended is the client's to know.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// By its path: that spares a process, and a search that makes starting one slow.
static BACKEND: LazyLock<PathBuf> = LazyLock::new(|| {
    let output = std::process::Command::new("git").arg("--exec-path").output().expect("git runs");
    Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("git-http-backend")
});

async fn answer(root: PathBuf, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut child = Command::new(BACKEND.as_path())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("GIT_PROJECT_ROOT", &root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "tester")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let feed = async move {
        let _ = stdin.write_all(&body).await;
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output?.stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let Some(end) = end else { return Ok(refused()) };
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap_or("500")),
            _ => response.header(name, value),
        };
    }
    Ok(response.body(Full::new(Bytes::copy_from_slice(&output[end + 4..]))).unwrap_or_else(|_| refused()))
}

/// What a web server says for a program that failed.
fn refused() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"the program failed")));
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    response
}
