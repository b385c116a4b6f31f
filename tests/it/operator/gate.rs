//! A gate in front of a server: everything that clients say through it is kept, and it can be closed.
//!
//! It runs on threads, so that a test that waits for a program does not stop it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A running gate. Its threads end with the test process.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    /// `http://127.0.0.1:<port>`
    pub(crate) endpoint: String,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    backend: String,
    is_open: AtomicBool,
    /// What clients said, in the order of arrival.
    said: Mutex<Vec<u8>>,
    connections: Mutex<Vec<TcpStream>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// A gate in front of `backend` (`http://127.0.0.1:<port>`), open.
    pub(crate) fn start(backend: &str) -> Self {
        let backend = backend.strip_prefix("http://").expect("an address without TLS").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let state = Arc::new(State {
            backend,
            is_open: AtomicBool::new(true),
            said: Mutex::default(),
            connections: Mutex::default(),
        });
        let gate = Self { endpoint, state: state.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A closed gate drops whoever comes.
                if state.is_open.load(Ordering::Acquire) {
                    let _ = connect(client, &state);
                }
            }
        });
        gate
    }

    /// Ends all connections and lets nobody in.
    pub(crate) fn close(&self) {
        self.state.is_open.store(false, Ordering::Release);
        for connection in lock(&self.state.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Lets everybody in again.
    pub(crate) fn open(&self) {
        self.state.is_open.store(true, Ordering::Release);
    }

    /// How often clients said this word, in any request's line, header or body.
    pub(crate) fn heard(&self, word: &str) -> usize {
        let said = lock(&self.state.said);
        said.windows(word.len()).filter(|window| *window == word.as_bytes()).count()
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.heard(" HTTP/1.1\r\n")
    }
}

fn connect(client: TcpStream, state: &Arc<State>) -> std::io::Result<()> {
    let server = TcpStream::connect(&state.backend)?;
    lock(&state.connections).extend([client.try_clone()?, server.try_clone()?]);
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let state = state.clone();
    std::thread::spawn(move || copy(from_client, to_server, |bytes| lock(&state.said).extend(bytes)));
    std::thread::spawn(move || copy(server, client, |_| {}));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, note: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        note(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// The gate itself: a count of nothing must not be the count of a gate that hears nothing.
mod tests {
    use super::*;

    #[test]
    fn it_hears_what_is_said_and_can_be_closed() {
        let echo = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let backend = format!("http://{}", echo.local_addr().expect("it is bound"));
        std::thread::spawn(move || {
            for mut client in echo.incoming().flatten() {
                let mut word = [0; 5];
                let _ = client.read_exact(&mut word).and_then(|()| client.write_all(&word));
            }
        });
        let gate = Gate::start(&backend);
        let address = gate.endpoint.strip_prefix("http://").expect("it has one").to_owned();
        let ask = || -> std::io::Result<[u8; 5]> {
            let mut stream = TcpStream::connect(&address)?;
            stream.write_all(b"hello")?;
            let mut word = [0; 5];
            stream.read_exact(&mut word)?;
            Ok(word)
        };
        assert_eq!(ask().expect("an answer"), *b"hello");
        assert_eq!((gate.heard("hello"), gate.heard("bye")), (1, 0));
        gate.close();
        ask().expect_err("it is closed");
        assert_eq!(gate.heard("hello"), 1);
        gate.open();
        ask().expect("an answer");
    }
}
