//! The gate for bytes: each fault as a client feels it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::faultgate::{TcpFault, TcpGate, parse_fault};

/// Says everything back.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut buffer) {
                    if client.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

struct Client(TcpStream);

impl Client {
    fn connect(gate: &TcpGate) -> Self {
        let stream = TcpStream::connect(gate.address()).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_millis(400))).expect("it can be set");
        Self(stream)
    }

    fn say(&mut self, words: &[u8]) {
        self.0.write_all(words).expect("it is sent");
    }

    /// So many bytes, or why not.
    fn hear(&mut self, length: usize) -> Result<Vec<u8>, ErrorKind> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).map(|()| bytes).map_err(|error| error.kind())
    }
}

#[test]
fn each_fault_is_felt() {
    let gate = TcpGate::start(&echo(), "127.0.0.1:0").expect("a gate");
    let mut steady = Client::connect(&gate);
    steady.say(b"hello");
    assert_eq!(steady.hear(5), Ok(b"hello".to_vec()));

    gate.set(TcpFault::Blackhole);
    steady.say(b"again");
    assert_eq!(steady.hear(5), Err(ErrorKind::WouldBlock), "also where it was open before");
    gate.set(TcpFault::None);
    assert_eq!(steady.hear(5), Ok(b"again".to_vec()), "it was only late");

    gate.set(TcpFault::SwallowReply);
    steady.say(b"gone");
    assert_eq!(steady.hear(4), Err(ErrorKind::WouldBlock));
    gate.set(TcpFault::None);
    steady.say(b"here");
    assert_eq!(steady.hear(4), Ok(b"here".to_vec()), "what was swallowed does not come");

    gate.script(&[
        TcpFault::Reset(3),
        TcpFault::Delay(Duration::from_millis(60)),
        TcpFault::Throttle(20_000),
    ]);
    let mut reset = Client::connect(&gate);
    reset.say(b"hello");
    assert_eq!(reset.hear(3), Ok(b"hel".to_vec()));
    assert_eq!(reset.hear(1), Err(ErrorKind::ConnectionReset));
    let timed = |words: &[u8]| {
        let mut client = Client::connect(&gate);
        client.0.set_read_timeout(Some(Duration::from_secs(20))).expect("it can be set");
        let start = Instant::now();
        client.say(words);
        assert_eq!(client.hear(words.len()), Ok(words.to_vec()));
        start.elapsed()
    };
    let delayed = timed(b"hello");
    assert!(delayed >= Duration::from_millis(120), "there and back: {delayed:?}");
    let throttled = timed(&[7; 4000]);
    assert!(throttled >= Duration::from_millis(350), "there and back: {throttled:?}");
    assert!(timed(b"hello") < Duration::from_millis(120), "the script is over");
    assert_eq!(gate.connections(), 5);
}

#[test]
fn faults_are_written_in_yaml() {
    assert_eq!(parse_fault("blackhole"), Ok(TcpFault::Blackhole));
    assert_eq!(parse_fault("delay: 200ms"), Ok(TcpFault::Delay(Duration::from_millis(200))));
    assert_eq!(parse_fault("reset: 10"), Ok(TcpFault::Reset(10)));
    assert!(parse_fault("explode").is_err());
}
