//! A server that gives every request the same answer: for what no real server can be brought to say.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Listens until the test process ends.
pub(crate) struct Canned {
    /// `http://127.0.0.1:<port>`
    pub(crate) endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Canned {
    /// Answers with exactly these bytes and closes the connection.
    pub(crate) fn raw(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                // Counted before it is answered, so that whoever has the answer finds its request.
                let request = read_request(&mut connection);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        Self { endpoint, requests }
    }

    /// Answers with this status (`503 Slow Down`) and body.
    pub(crate) fn with(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
    }

    /// Every request so far: head and body as text.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A request with its body; what there is of it when the client stops.
fn read_request(connection: &mut TcpStream) -> String {
    let _ = connection.set_read_timeout(Some(Duration::from_secs(5)));
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match connection.read(&mut chunk) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return text,
        }
    }
}
