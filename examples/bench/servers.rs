//! Servers for a run: the light one of ours, and the real ones of the test bed.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{command, cpu_of};
use super::{Bench, Result};

/// How long a server may take until it answers.
const DEADLINE: Duration = Duration::from_mins(1);

/// An object on a server: its sha256, which is its key, and its size in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

/// A server that ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) name: &'static str,
    pub(crate) endpoint: String,
    pub(crate) port: u16,
    /// Synthetic ones, in the order of the command line.
    pub(crate) objects: Vec<Object>,
    /// Whether it answers `/_counts`.
    pub(crate) counts: bool,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts `blobserve` with these options.
    pub(crate) fn blobserve(bench: &Bench, options: &[String]) -> Result<Self> {
        let mut child = server(&bench.programs.blobserve).args(options).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let scheme = if options.iter().any(|option| option == "--tls") { "https" } else { "http" };
        let mut server = Self {
            child,
            name: "blobserve",
            endpoint: String::new(),
            port: 0,
            objects: Vec::new(),
            counts: scheme == "http",
        };
        for line in BufReader::new(output).lines() {
            let line = line?;
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["object", sha256, size] => {
                    server.objects.push(Object { sha256: (*sha256).to_owned(), size: size.parse()? });
                }
                ["listening", "on", address] => {
                    server.endpoint = format!("{scheme}://{address}");
                    server.port = address.rsplit(':').next().unwrap_or_default().parse()?;
                    return Ok(server);
                }
                _ => {}
            }
        }
        Err("blobserve did not start".into())
    }

    /// Starts `minio` or `versitygw` of the test bed.
    pub(crate) fn real(bench: &Bench, name: &'static str) -> Result<Self> {
        let ports = [free_port()?, free_port()?];
        let folder = bench.work().join(name);
        let log = fs::File::create(bench.work().join(format!("{name}.log")))?;
        let mut command = server("testbed/run");
        command.arg(name).arg(&folder).arg(ports[0].to_string());
        if name == "minio" {
            command.arg(ports[1].to_string());
        }
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let endpoint = format!("http://127.0.0.1:{}", ports[0]);
        let server = Self { child, name, endpoint, port: ports[0], objects: Vec::new(), counts: false };
        let end = Instant::now() + DEADLINE;
        while !super::process::command("testbed/ready")
            .arg(name)
            .arg(ports[0].to_string())
            .status()?
            .success()
        {
            if Instant::now() > end {
                return Err(format!("{name} does not answer").into());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        cpu_of(self.child.id()).map_or(0.0, |(user, system)| user + system)
    }

    /// Our URI of a bucket on it.
    pub(crate) fn store(&self, bucket: &str) -> String {
        format!("s3://{bucket}?endpoint={}", self.endpoint)
    }
}

/// A server that does not outlive this process, however that ends.
fn server(program: &str) -> Command {
    let mut command = command("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// What `blobserve` counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// Seconds since the last byte was sent.
    pub(crate) idle: f64,
}

/// Asks `blobserve`: `/_counts`, or `/_reset` to begin anew.
pub(crate) fn counts(port: u16, path: &str) -> Result<Counts> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    let figure = |name: &str| -> Result<u64> {
        let words: Vec<&str> = body.split_whitespace().collect();
        let at = words.iter().position(|word| *word == name).ok_or("no such count")?;
        Ok(words.get(at + 1).ok_or("no figure")?.parse()?)
    };
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a run")]
    let idle = figure("idle")? as f64 / 1e6;
    Ok(Counts { requests: figure("requests")?, bytes: figure("bytes")?, idle })
}

pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A key pair for 127.0.0.1 in `folder`, as `certificate` and `key`; signed by itself.
pub(crate) fn make_certificate(folder: &Path) -> Result<()> {
    let status = command("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=sacker-bench",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "key",
            "-out",
            "certificate",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err("openssl made no certificate".into()) }
}
