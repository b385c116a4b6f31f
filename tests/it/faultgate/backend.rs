//! A server that answers by rote and keeps what it was sent, byte by byte; and a client that says exactly what it is told.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Answers `/bytes/<n>` and `/zeros/<n>` with n bytes, `/chunked` in chunks, `PUT` with nothing, and whatever with the count of requests so
/// far in `X-Count`. Ends with the test process.
pub(super) struct Backend {
    /// `http://127.0.0.1:<port>`
    pub(super) url: String,
    /// What each request was, head and body.
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// The date that the backend says it is.
pub(super) const DATE: &str = "Sat, 01 Aug 2026 12:00:00 GMT";

impl Backend {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let requests: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = requests.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || serve(client, &kept));
            }
        });
        Self { url, requests }
    }

    /// The requests since the last call.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first lines of the requests since the last call.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |request: Vec<u8>| {
            String::from_utf8_lossy(&request).lines().next().unwrap_or_default().replace(" HTTP/1.1", "")
        };
        self.take().into_iter().map(line).collect()
    }
}

/// The bytes that the backend has: a pattern that differs from place to place.
pub(super) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + at / 251) % 251).expect("below 251")).collect()
}

fn serve(mut client: TcpStream, kept: &Mutex<Vec<Vec<u8>>>) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = message(&mut client, &mut buffer) {
        let count = {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push([head.as_bytes(), &body].concat());
            kept.len()
        };
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let common = format!("HTTP/1.1 200 OK\r\nServer: Rote\r\nX-cOUNT: {count}\r\nDate: {DATE}\r\n");
        let length = path.strip_prefix("/bytes/").and_then(|rest| rest.split('?').next()?.parse().ok());
        let reply = match (method, length) {
            ("GET" | "POST", Some(length)) => {
                let head = format!("{common}Content-Length: {length}\r\n\r\n");
                [head.into_bytes(), content(length)].concat()
            }
            ("GET", None) if path.starts_with("/zeros/") => {
                // Cheap to make, for measuring.
                let length = path["/zeros/".len()..].parse().unwrap_or_default();
                let head = format!("{common}Content-Length: {length}\r\n\r\n");
                let sent =
                    client.write_all(head.as_bytes()).and_then(|()| client.write_all(&vec![0; length]));
                if sent.is_err() {
                    return;
                }
                continue;
            }
            ("HEAD", Some(length)) => format!("{common}Content-Length: {length}\r\n\r\n").into_bytes(),
            ("DELETE", _) => format!("HTTP/1.1 204 No Content\r\nDate: {DATE}\r\n\r\n").into_bytes(),
            ("GET" | "PUT" | "POST", _) if path == "/chunked" => {
                let chunks = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
                format!("{common}Transfer-Encoding: chunked\r\n\r\n{chunks}").into_bytes()
            }
            _ => format!("{common}Content-Length: 0\r\n\r\n").into_bytes(),
        };
        if client.write_all(&reply).is_err() {
            return;
        }
    }
}

/// What came back, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// With the empty line; empty where nothing came.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    pub(super) ended: Ended,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// As its `Content-Length` says.
    Whole,
    Closed,
    Reset,
    Silent,
}

impl Reply {
    pub(super) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// The body without the frames of chunks, which are each connection's own.
    pub(super) fn content(&self) -> Vec<u8> {
        if self.header("transfer-encoding").is_none() {
            return self.body.clone();
        }
        let (mut content, mut rest) = (Vec::new(), self.body.as_slice());
        while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let length =
                std::str::from_utf8(&rest[..at]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            let length = length.expect("the length of a chunk");
            content.extend_from_slice(&rest[at + 2..at + 2 + length]);
            rest = &rest[at + 2 + length + 2..];
        }
        content
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// A connection that stays open.
pub(super) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// To `http://127.0.0.1:<port>`. Silence is what lasts for `patience`.
    pub(super) fn connect(url: &str, patience: Duration) -> Self {
        let address = url.strip_prefix("http://").expect("an address without TLS");
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(patience)).expect("it can be set");
        stream.set_nodelay(true).expect("it can be set");
        Self { stream, buffer: Vec::new() }
    }

    pub(super) fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).expect("it is sent");
    }

    /// Reads some bytes and forgets them: how many.
    pub(super) fn skip(&mut self) -> usize {
        self.buffer.resize(1 << 20, 0);
        self.stream.read(&mut self.buffer).expect("more comes")
    }

    /// The next reply; `has_body` says whether one may come (not after a HEAD).
    pub(super) fn receive(&mut self, has_body: bool) -> Reply {
        let (mut wanted, mut split) = (usize::MAX, 0);
        loop {
            if split == 0
                && let Some(end) = end_of_head(&self.buffer)
            {
                let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                let length = header(&head, "content-length").and_then(|length| length.parse().ok());
                let none = !has_body || head.contains(" 204 ");
                split = end;
                wanted = if none { end } else { length.map_or(usize::MAX, |length: usize| end + length) };
            }
            // The only chunked reply ends with its last chunk.
            let is_chunked = wanted == usize::MAX && self.buffer.ends_with(b"0\r\n\r\n");
            let mut chunk = vec![0; 16 << 10];
            let ended = if self.buffer.len() >= wanted || (split > 0 && is_chunked) {
                Ended::Whole
            } else {
                match self.stream.read(&mut chunk) {
                    Ok(0) => Ended::Closed,
                    Ok(length) => {
                        self.buffer.extend_from_slice(&chunk[..length]);
                        continue;
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        Ended::Silent
                    }
                    Err(_) => Ended::Reset,
                }
            };
            let end = if ended == Ended::Whole && !is_chunked { wanted } else { self.buffer.len() };
            let rest = self.buffer.split_off(end);
            let bytes = std::mem::replace(&mut self.buffer, rest);
            let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
            return Reply { head, body: bytes[split..].to_vec(), ended };
        }
    }
}

/// One request on a connection of its own.
pub(super) fn ask(url: &str, method: &str, path: &str) -> Reply {
    ask_with(url, method, path, "", b"")
}

/// The same with more headers (`A: b\r\n`) and a body.
pub(super) fn ask_with(url: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
    let mut client = Client::connect(url, Duration::from_millis(400));
    client.send(&request(method, path, headers, body));
    client.receive(method != "HEAD")
}

pub(super) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: backend.test\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// A head with its empty line, and a body of as many bytes as it says.
fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = end_of_head(buffer) {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if buffer.len() >= end + length {
                let rest = buffer.split_off(end + length);
                let body = std::mem::replace(buffer, rest).split_off(end);
                return Some((head, body));
            }
        }
        let mut chunk = vec![0; 16 << 10];
        match stream.read(&mut chunk) {
            Ok(length @ 1..) => buffer.extend_from_slice(&chunk[..length]),
            _ => return None,
        }
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
