//! A TCP proxy in front of a real server, which spoils what the server answers. The server still checks signatures: the
//! bytes towards it are untouched.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to one connection's answer. Positions count the bytes of the whole answer, headers included.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spoil {
    Nothing,
    /// Silence after so many bytes.
    StallAt(usize),
    /// The connection is closed after so many bytes.
    CloseAt(usize),
    /// This byte is another.
    FlipAt(usize),
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Plan {
    /// In reverse; the last one that is left stays.
    script: Vec<Spoil>,
    on_first: Option<Hook>,
    connections: usize,
}

/// A listening proxy; ends with the test process.
pub(super) struct Proxy {
    port: u16,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    /// Listens in front of `http://127.0.0.1:<port>`. One entry of `script` per connection, in order; the last one repeats.
    pub(super) fn start(endpoint: &str, script: &[Spoil]) -> Self {
        let server = endpoint.strip_prefix("http://").expect("plain HTTP").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let script = script.iter().rev().copied().collect();
        let plan = Arc::new(Mutex::new(Plan { script, ..Plan::default() }));
        let shared = Arc::clone(&plan);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (spoil, hook) = {
                    let mut plan = shared.lock().expect("no thread panics with it");
                    plan.connections += 1;
                    let spoil =
                        if plan.script.len() > 1 { plan.script.pop() } else { plan.script.last().copied() };
                    (spoil.unwrap_or(Spoil::Nothing), plan.on_first.take())
                };
                if let Some(hook) = hook {
                    hook();
                }
                let server = TcpStream::connect(&server).expect("the server is up");
                let (from, to) =
                    (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
                std::thread::spawn(move || forward(from, to, Spoil::Nothing));
                std::thread::spawn(move || forward(server, client, spoil));
            }
        });
        Self { port, plan }
    }

    /// Runs `hook` before the first connection is served.
    pub(super) fn on_first(self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.plan.lock().expect("no thread panics with it").on_first = Some(Box::new(hook));
        self
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many connections there were.
    pub(super) fn connections(&self) -> usize {
        self.plan.lock().expect("no thread panics with it").connections
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, spoil: Spoil) {
    let mut buffer = vec![0; 16 << 10];
    let mut offset = 0;
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..length];
        let end = offset + length;
        match spoil {
            Spoil::FlipAt(at) if (offset..end).contains(&at) => bytes[at - offset] ^= 1,
            Spoil::StallAt(at) if at < end => {
                let _ = to.write_all(&bytes[..at - offset]);
                // Until the client gives up.
                let _ = to.set_read_timeout(Some(Duration::from_mins(2)));
                while matches!(to.read(&mut buffer), Ok(1..)) {}
                break;
            }
            Spoil::CloseAt(at) if at < end => {
                let _ = to.write_all(&bytes[..at - offset]);
                break;
            }
            _ => {}
        }
        if to.write_all(bytes).is_err() {
            break;
        }
        offset = end;
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
