//! An S3 server that costs next to nothing, so that benchmarks see what a client costs: `GET` and `HEAD` of objects in one
//! directory, or of synthetic ones of any size, with ranges, over HTTP/1.1. It looks at no signature.
//!
//! ```text
//! blobserve [--port N] [--directory DIR] [--synthetic BYTES]... [--rate BYTES/S] [--delay MS] [--slow CONNECTION:BYTES/S]
//!           [--tls CERTIFICATE:KEY] [--send-buffer BYTES]
//! ```
//! It says on standard output where it listens, and the sha256, which is the key, and size of each synthetic object. The bucket
//! may have any name. `--rate` is that of each connection, `--delay` the time before each answer, and `--slow` gives the
//! connection of this number, counted from 1, a rate of its own. `--tls` names two PEM files. `--send-buffer` bounds what a
//! connection has taken from this program and not yet brought to the client, which is up to 4 MiB on Linux otherwise.
//!
//! `GET /_counts` says `requests <n> bytes <n> idle <µs>`: what was asked for and sent, and how long ago the last byte went out;
//! `GET /_reset` begins these, and the numbers of connections, anew.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sacker::model::{Hasher, Sha256};

/// Bytes that synthetic objects repeat: incompressible, and no multiple of any part size.
const NOISE: usize = (1 << 20) - 3;

/// Bytes that are sent at once to a connection with a rate.
const STEP: u64 = 64 << 10;

/// Bytes that are sent at once otherwise, and counted then.
const STRIDE: u64 = 1 << 20;

struct Server {
    directory: Option<PathBuf>,
    synthetic: BTreeMap<String, u64>,
    noise: Vec<u8>,
    rate: Option<u64>,
    delay: Duration,
    slow: Option<(usize, u64)>,
    tls: Option<Arc<ServerConfig>>,
    send_buffer: Option<usize>,
    counts: Counts,
}

/// What happened since the last reset.
struct Counts {
    connections: AtomicUsize,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// When the last byte was sent, in microseconds after `start`.
    last: AtomicU64,
    start: Instant,
}

impl Counts {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last.store(self.now(), Ordering::Relaxed);
    }
}

/// A connection.
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl io::Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// What a client asks for.
struct Request {
    method: String,
    path: String,
    range: Option<Range<u64>>,
}

/// What an object's bytes come from.
enum Object<'a> {
    File(File, u64),
    Noise(&'a [u8], u64),
}

fn main() -> io::Result<()> {
    let mut server = Server {
        directory: None,
        synthetic: BTreeMap::new(),
        noise: noise(),
        rate: None,
        delay: Duration::ZERO,
        slow: None,
        tls: None,
        send_buffer: None,
        counts: Counts {
            connections: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last: AtomicU64::new(0),
            start: Instant::now(),
        },
    };
    let mut port = 0;
    let mut sizes = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| wrong(&format!("{option} needs a value")))?;
        match option.as_str() {
            "--port" => port = number(&value)?,
            "--directory" => server.directory = Some(PathBuf::from(value)),
            "--synthetic" => sizes.push(number(&value)?),
            "--rate" => server.rate = Some(number(&value)?),
            "--delay" => server.delay = Duration::from_millis(number(&value)?),
            "--slow" => {
                let (connection, rate) = value.split_once(':').ok_or_else(|| wrong("--slow N:RATE"))?;
                server.slow = Some((number(connection)?, number(rate)?));
            }
            "--tls" => {
                let (certificate, key) =
                    value.split_once(':').ok_or_else(|| wrong("--tls CERTIFICATE:KEY"))?;
                server.tls = Some(tls(certificate, key).map_err(io::Error::other)?);
            }
            "--send-buffer" => server.send_buffer = Some(number(&value)?),
            _ => return Err(wrong(&format!("no option {option}"))),
        }
    }
    for size in sizes {
        let sha256 = synthetic_digest(&server.noise, size);
        println!("object {sha256} {size}");
        server.synthetic.insert(sha256.to_string(), size);
    }
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    let server = Arc::new(server);
    for stream in listener.incoming() {
        let (stream, server) = (stream?, Arc::clone(&server));
        let number = server.counts.connections.fetch_add(1, Ordering::Relaxed) + 1;
        thread::spawn(move || {
            // A client that goes away in the middle is no news.
            let _ = server.serve(stream, number);
        });
    }
    Ok(())
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| wrong(&format!("'{text}' is no number")))
}

fn tls(certificate: &str, key: &str) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let certificates = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let config = ServerConfig::builder().with_no_client_auth();
    Ok(Arc::new(config.with_single_cert(certificates, PrivateKeyDer::from_pem_file(key)?)?))
}

fn noise() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut bytes = vec![0; NOISE];
    random.fill(&mut bytes);
    bytes
}

fn synthetic_digest(noise: &[u8], size: u64) -> Sha256 {
    let mut hasher = Hasher::default();
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(NOISE).min(NOISE);
        hasher.update(&noise[..length]);
        left -= length as u64;
    }
    hasher.finish()
}

impl Server {
    fn serve(&self, stream: TcpStream, connection: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if let Some(bytes) = self.send_buffer {
            set_socket_send_buffer_size(&stream, bytes)?;
        }
        let wire = match &self.tls {
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Wire::Tls(Box::new(StreamOwned::new(session, stream)))
            }
            None => Wire::Plain(stream),
        };
        let mut wire = BufReader::new(wire);
        let rate = match self.slow {
            Some((number, rate)) if number == connection => Some(rate),
            _ => self.rate,
        };
        while let Some(asked) = request(&mut wire)? {
            let wire = wire.get_mut();
            match asked.path.as_str() {
                "/_counts" | "/_reset" => self.tell(wire, asked.path == "/_reset")?,
                _ => {
                    thread::sleep(self.delay);
                    self.answer(wire, &asked, rate)?;
                }
            }
            wire.flush()?;
        }
        Ok(())
    }

    fn tell(&self, wire: &mut Wire, is_reset: bool) -> io::Result<()> {
        let Counts { connections, requests, bytes, last, .. } = &self.counts;
        let idle = self.counts.now().saturating_sub(last.load(Ordering::Relaxed));
        let (asked, sent) = (requests.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
        if is_reset {
            connections.store(0, Ordering::Relaxed);
            requests.store(0, Ordering::Relaxed);
            bytes.store(0, Ordering::Relaxed);
        }
        let body = format!("requests {asked} bytes {sent} idle {idle}\n");
        let length = body.len();
        write!(wire, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
    }

    fn answer(&self, wire: &mut Wire, asked: &Request, rate: Option<u64>) -> io::Result<()> {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let Request { method, path, range } = asked;
        let path = path.split('?').next().unwrap_or_default();
        let key = path.rsplit('/').next().unwrap_or_default();
        // A bucket's own path.
        if method == "GET" && path.trim_matches('/').split('/').count() == 1 {
            return self.list(wire);
        }
        let Some(object) = self.object(key).filter(|_| matches!(method.as_str(), "GET" | "HEAD")) else {
            let body = "<Error><Code>NoSuchKey</Code><Message>no such object</Message></Error>";
            let length = body.len();
            return write!(wire, "HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n{body}");
        };
        let (Object::File(_, size) | Object::Noise(_, size)) = object;
        let (status, part) = match range.clone() {
            Some(range) if range.start < size => ("206 Partial Content", range.start..range.end.min(size)),
            Some(_) => {
                let head = "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n";
                return wire.write_all(head.as_bytes());
            }
            None => ("200 OK", 0..size),
        };
        let mut head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: \"{key}\"\r\n", part.end - part.start);
        head.push_str("accept-ranges: bytes\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n");
        if status.starts_with("206") {
            let _ = write!(head, "content-range: bytes {}-{}/{size}\r\n", part.start, part.end - 1);
        }
        head.push_str("\r\n");
        wire.write_all(head.as_bytes())?;
        if method == "HEAD" {
            return Ok(());
        }
        let start = Instant::now();
        let mut at = part.start;
        while at < part.end {
            let until = (at + if rate.is_some() { STEP } else { STRIDE }).min(part.end);
            send(&object, at..until, wire)?;
            self.counts.sent(until - at);
            at = until;
            let Some(rate) = rate else { continue };
            let due = u128::from(at - part.start) * 1_000_000 / u128::from(rate.max(1));
            let due = Duration::from_micros(u64::try_from(due).unwrap_or(u64::MAX));
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        Ok(())
    }

    /// All synthetic objects, whatever was asked for.
    fn list(&self, wire: &mut Wire) -> io::Result<()> {
        let mut body = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        for (key, size) in &self.synthetic {
            let _ = write!(
                body,
                "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>\"{key}\"</ETag>\
                 <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            );
        }
        body.push_str("</ListBucketResult>");
        let length = body.len();
        write!(
            wire,
            "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    }

    fn object(&self, key: &str) -> Option<Object<'_>> {
        if let Some(size) = self.synthetic.get(key) {
            return Some(Object::Noise(&self.noise, *size));
        }
        let file = File::open(self.directory.as_ref()?.join(key)).ok()?;
        let size = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        Some(Object::File(file, size))
    }
}

/// Sends a part of an object. A file goes from the page cache to a plain socket without a copy of ours: `io::copy` uses
/// `sendfile`.
fn send(object: &Object<'_>, part: Range<u64>, wire: &mut Wire) -> io::Result<()> {
    match object {
        Object::File(file, _) => {
            let mut file = file;
            file.seek(SeekFrom::Start(part.start))?;
            let mut part = file.take(part.end - part.start);
            match wire {
                Wire::Plain(stream) => io::copy(&mut part, stream).map(|_| ()),
                Wire::Tls(stream) => io::copy(&mut part, stream).map(|_| ()),
            }
        }
        Object::Noise(noise, _) => {
            let mut at = part.start;
            while at < part.end {
                let from = usize::try_from(at % NOISE as u64).unwrap_or(0);
                let length = usize::try_from(part.end - at).unwrap_or(NOISE).min(NOISE - from);
                wire.write_all(&noise[from..from + length])?;
                at += length as u64;
            }
            Ok(())
        }
    }
}

/// The next request of a connection: method, path and range; nothing at its end.
fn request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let (mut range, mut length) = (None, 0);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim_end().is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("range") {
            range = parse_range(value.trim());
        } else if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    io::copy(&mut reader.take(length), &mut io::sink())?;
    Ok(Some(Request { method, path, range }))
}

/// `bytes=<first>-[<last>]`
fn parse_range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = if last.is_empty() { u64::MAX } else { last.parse::<u64>().ok()? + 1 };
    Some(first.parse().ok()?..end)
}
