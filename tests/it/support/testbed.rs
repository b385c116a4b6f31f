//! Real servers from the test bed (`testbed/`), each started at most once per test process, on free ports.
//!
//! Where a component was not built, its tests say so and pass; with `CI=true` they fail instead.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use sacker::connect::Connect;
use sacker::environment::Environment;
use sacker::model::StoreUri;

use super::faultgate::Gate;
use super::process::{Folder, Supervised};

mod hdfs;
mod zookeeper;

pub(crate) use hdfs::{Hdfs, hdfs};
pub(crate) use zookeeper::{Ensemble, ZooKeeperServer, zookeeper};

/// Java on a busy machine is the slowest to come up.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// How often a server is started anew because somebody else took its port first.
const STARTS: usize = 4;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testbed");

/// A server of the test bed.
#[derive(Debug)]
pub(crate) struct Server {
    process: Supervised,
    ports: Vec<u16>,
}

impl Server {
    /// Starts `testbed/run <component> <folder> <ports> <arguments>` with as many free ports as asked for, and waits until
    /// it answers. `fixed` ports come after the free ones (the API server takes etcd's). Fails the test with the
    /// server's log when it does not come up.
    pub(crate) fn start(
        component: &str,
        folder: &Path,
        free: usize,
        fixed: &[u16],
        arguments: &[&str],
    ) -> Self {
        let mut log = String::new();
        for _ in 0..STARTS {
            let mut ports = free_ports(free);
            ports.extend(fixed);
            match Self::start_on(component, folder, ports, arguments) {
                Ok(server) => return server,
                Err(output) => log = output,
            }
        }
        panic!("{component} does not start; the end of its log:\n{log}");
    }

    /// One start on these ports; the server's log when it ends by itself or does not answer in time.
    pub(crate) fn start_on(
        component: &str,
        folder: &Path,
        ports: Vec<u16>,
        arguments: &[&str],
    ) -> Result<Self, String> {
        let folder_text = folder.to_str().expect("test folders are UTF-8");
        let texts: Vec<String> = ports.iter().map(u16::to_string).collect();
        let mut command = vec![run_script(), component, folder_text];
        command.extend(texts.iter().map(String::as_str));
        command.extend(arguments);
        let environment = [("TESTBED_ACCESS_KEY", ACCESS_KEY), ("TESTBED_SECRET_KEY", SECRET_KEY)];
        let log = folder.join(format!("{component}-{}.log", texts[0]));
        let process = Supervised::start(&command, &environment, &log);
        let server = Self { process, ports };
        let end = Instant::now() + START_DEADLINE;
        while !server.is_ready(component, folder_text) {
            if !server.process.is_running() || Instant::now() > end {
                return Err(server.process.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn is_ready(&self, component: &str, folder: &str) -> bool {
        let probe = Command::new(format!("{SCRIPTS}/ready"))
            .args([component, &self.ports[0].to_string(), folder])
            .output()
            .expect("testbed/ready runs");
        probe.status.success()
    }

    /// The first port: the one that clients use.
    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    /// All its ports, to start it again on them.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The URL of a server without TLS.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The process itself, to kill it or to read its log.
    pub(crate) fn process(&self) -> &Supervised {
        &self.process
    }
}

/// Ports that nobody listens on right now, all different.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}

/// The script that starts servers: the first word of a command.
pub(crate) const fn run_script() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/testbed/run")
}

/// The path of a program of the test bed (`versitygw`, `kubectl`).
pub(crate) fn program(name: &str) -> String {
    let path = Command::new(format!("{SCRIPTS}/get")).args(["--path", name]).output();
    let path = path.expect("testbed/get runs");
    assert!(path.status.success(), "{}", String::from_utf8_lossy(&path.stderr));
    String::from_utf8(path.stdout).expect("paths are UTF-8").trim().to_owned()
}

/// Whether `component` was built. If not, says loudly that the caller's tests are skipped; fails under `CI=true`.
pub(crate) fn is_there(component: &str) -> bool {
    static STATES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
        let list = Command::new(format!("{SCRIPTS}/get")).arg("--list").output().expect("testbed/get runs");
        let text = String::from_utf8_lossy(&list.stdout).into_owned();
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            Some((name, words.nth(1)?.to_owned()))
        };
        text.lines().filter_map(row).collect()
    });
    if STATES.get(component).is_some_and(|state| state == "ready") {
        return true;
    }
    skip(&format!("{component} is missing; get it with: testbed/get {component}"));
    false
}

/// Says loudly why the caller's tests are skipped; fails under `CI=true`.
pub(crate) fn skip(why: &str) {
    let message = format!("SKIPPED: {why}\n");
    assert!(Environment::of_process().get("CI") != Some("true"), "{message}");
    // Past the capture of the test harness, so that it is seen.
    let _ = std::io::stderr().write_all(message.as_bytes());
}

/// Says once, past the capture of the test harness, which real server takes part.
pub(crate) fn announce(component: &str, server: &Server) {
    let mut line = String::new();
    let _ = writeln!(line, "testbed: {component} on 127.0.0.1:{}", server.port());
    let _ = std::io::stderr().write_all(line.as_bytes());
    // For the summary at the end of `make test`.
    if let Some(folder) = Environment::of_process().get("SACKER_SERVERS") {
        std::fs::create_dir_all(folder).expect("the folder for the summary can be created");
        std::fs::write(Path::new(folder).join(component), server.url()).expect("the summary can be written");
    }
}

/// Settings with the root credentials of every server here.
pub(crate) fn connect() -> Connect {
    super::connect(ACCESS_KEY, SECRET_KEY)
}

pub(crate) const ACCESS_KEY: &str = "testbed";
pub(crate) const SECRET_KEY: &str = "testbed-secret";

/// A server that all tests of this process share, with the folder it keeps its data in.
type Shared = OnceLock<Option<(Server, Folder)>>;

fn shared(
    cell: &'static Shared,
    component: &str,
    ports: usize,
    arguments: &[&str],
) -> Option<&'static Server> {
    let started = cell.get_or_init(|| {
        is_there(component).then(|| {
            let folder = Folder::new(component);
            let server = Server::start(component, folder.path(), ports, &[], arguments);
            announce(component, &server);
            (server, folder)
        })
    });
    if started.is_none() {
        is_there(component);
    }
    started.as_ref().map(|(server, _)| server)
}

/// An S3 server.
#[derive(Debug, Clone)]
pub(crate) struct S3Server {
    /// `http://127.0.0.1:<port>`
    pub(crate) endpoint: String,
    /// The root user.
    pub(crate) access_key: &'static str,
    /// Its secret.
    pub(crate) secret_key: &'static str,
}

impl S3Server {
    fn of(server: &Server) -> Self {
        Self { endpoint: server.url(), access_key: ACCESS_KEY, secret_key: SECRET_KEY }
    }

    /// Settings with the server's root credentials.
    pub(crate) fn connect(&self) -> Connect {
        super::connect(self.access_key, self.secret_key)
    }

    /// A plain SDK client with the root credentials, for looking behind sacker's back.
    pub(crate) async fn client(&self) -> aws_sdk_s3::Client {
        let uri = self.uri("any-bucket").parse().expect("a URI");
        let StoreUri::S3(location) = uri else { panic!("{uri} is not S3") };
        sacker::aws::s3_client(&location, &self.connect()).await.expect("a client")
    }

    /// The same server, reached through `gate`, which learns the root's secret.
    pub(crate) fn behind(&self, gate: &Gate) -> Self {
        gate.know_secret(self.access_key, self.secret_key);
        Self { endpoint: gate.url(), ..self.clone() }
    }

    /// `s3://<bucket>` on this server.
    pub(crate) fn uri(&self, bucket: &str) -> String {
        format!("s3://{bucket}?endpoint={}", self.endpoint)
    }
}

/// MinIO: what most people run, archived upstream.
pub(crate) fn minio() -> Option<S3Server> {
    static CELL: Shared = OnceLock::new();
    shared(&CELL, "minio", 2, &[]).map(S3Server::of)
}

/// versitygw on a file system: maintained, and an independent implementation.
pub(crate) fn versitygw() -> Option<S3Server> {
    static CELL: Shared = OnceLock::new();
    shared(&CELL, "versitygw", 1, &[]).map(S3Server::of)
}

/// A new user of [`versitygw`], who may do nothing until a bucket policy says so: its access key; the secret is the
/// same word.
pub(crate) fn versitygw_user(server: &S3Server) -> String {
    let user = super::unique("user");
    let output = Command::new(program("versitygw"))
        .args(["admin", "--access", server.access_key, "--secret", server.secret_key])
        .args(["--endpoint-url", &server.endpoint, "create-user"])
        .args(["--access", &user, "--secret", &user, "--role", "user"])
        .output()
        .expect("versitygw runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    user
}

/// Lets `user` do exactly `actions` on the objects of `bucket`.
pub(crate) async fn allow(server: &S3Server, bucket: &str, user: &str, actions: &[&str]) {
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": [format!("arn:aws:s3:::{bucket}/*")] }],
    });
    grant(server, bucket, user, policy).await;
}

/// Gives `user` the rights of `policy`, an IAM document about `bucket`.
pub(crate) async fn grant(server: &S3Server, bucket: &str, user: &str, mut policy: serde_json::Value) {
    for statement in policy["Statement"].as_array_mut().expect("statements") {
        statement["Principal"] = serde_json::json!({ "AWS": [user] });
    }
    let request = server.client().await.put_bucket_policy().bucket(bucket).policy(policy.to_string());
    request.send().await.expect("the policy is taken");
}

/// Credentials of [`minio`] with the rights of `policy` only, which is an IAM document: access key, secret, session token.
pub(crate) async fn minio_session(server: &S3Server, policy: &str) -> [String; 3] {
    let keys =
        aws_sdk_sts::config::Credentials::new(server.access_key, server.secret_key, None, None, "test");
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
        .region(aws_sdk_sts::config::Region::new("us-east-1"))
        .endpoint_url(&server.endpoint)
        .credentials_provider(keys)
        .build();
    let request = aws_sdk_sts::Client::from_conf(config).assume_role().policy(policy);
    let request = request.role_arn("arn:x:ignored:by:minio:").role_session_name("ci");
    let answer = request.send().await.expect("a session");
    let found = answer.credentials().expect("credentials");
    [found.access_key_id(), found.secret_access_key(), found.session_token()].map(str::to_owned)
}

/// DynamoDB Local, shared: tests differ by table prefix.
#[derive(Debug, Clone)]
pub(crate) struct DynamoServer {
    /// `http://127.0.0.1:<port>`
    pub(crate) endpoint: String,
    /// It accepts any keys, but each key id has its own tables.
    pub(crate) access_key: &'static str,
    /// Any will do.
    pub(crate) secret_key: &'static str,
}

impl DynamoServer {
    /// Settings that reach the shared tables.
    pub(crate) fn connect(&self) -> Connect {
        super::connect(self.access_key, self.secret_key)
    }

    /// The same server, reached through `gate`.
    pub(crate) fn behind(&self, gate: &Gate) -> Self {
        Self { endpoint: gate.url(), ..self.clone() }
    }

    /// `dynamo://us-east-1/<prefix>` on this server.
    pub(crate) fn uri(&self, prefix: &str) -> String {
        format!("dynamo://us-east-1/{prefix}?endpoint={}", self.endpoint)
    }
}

/// Git, which is no server of the test bed: the machine's own. Says loudly where it is missing, as for those.
pub(crate) fn git() -> Option<()> {
    static IS_THERE: LazyLock<bool> = LazyLock::new(|| {
        Command::new("git").arg("version").output().is_ok_and(|output| output.status.success())
    });
    if *IS_THERE {
        return Some(());
    }
    skip("git is missing; install it (2.30 or newer)");
    None
}

/// DynamoDB Local.
pub(crate) fn dynamodb() -> Option<DynamoServer> {
    static CELL: Shared = OnceLock::new();
    let server = shared(&CELL, "dynamodb-local", 1, &[])?;
    Some(DynamoServer { endpoint: server.url(), access_key: ACCESS_KEY, secret_key: SECRET_KEY })
}

/// The starters themselves.
mod tests {
    use super::*;

    #[test]
    fn servers_start_once_and_answer() {
        assert_eq!(minio().map(|server| server.endpoint), minio().map(|server| server.endpoint));
        versitygw();
        dynamodb();
        zookeeper();
        hdfs();
    }

    #[test]
    fn a_killed_server_is_gone() {
        if !is_there("versitygw") {
            return;
        }
        let folder = Folder::new("killed");
        let server = Server::start("versitygw", folder.path(), 1, &[], &[]);
        assert!(server.process().is_running());
        server.process().kill();
        assert!(!server.process().is_running());
        assert!(!Path::new(&format!("/proc/{}", server.process().pid())).exists());
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }
}
