//! How pods with a network of their own reach the servers of a test, which listen on loopback only: a listener that takes
//! connections of such pods and of nobody else, and hands them on.

use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

/// The machine as its pods see it (`testbed/node`).
pub(super) const MACHINE: &str = "10.251.0.1";

/// A port at [`MACHINE`] that leads to this one of loopback, until the process ends.
pub(super) fn forwarded(to: u16) -> u16 {
    // The address of the machine is there only once a pod is.
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if stream.peer_addr().is_ok_and(is_pod) {
                std::thread::spawn(move || hand_on(&stream, to));
            }
        }
    });
    port
}

fn is_pod(peer: SocketAddr) -> bool {
    matches!(peer.ip(), IpAddr::V4(address) if address.octets().starts_with(&[10, 251, 0]))
}

/// Both ways, until both ends are done.
fn hand_on(pod: &TcpStream, to: u16) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(pod, &server));
        copy(&server, pod);
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    // However it ends: the other side learns it by the end of the stream.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// A URI of a server on loopback as pods reach it.
pub(super) fn as_pods_reach_it(uri: &str) -> String {
    let (before, rest) = uri.split_once("127.0.0.1:").expect("a server on loopback");
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (port, after) = rest.split_at(digits);
    format!("{before}{MACHINE}:{}{after}", forwarded(port.parse().expect("a port")))
}
