//! TLS towards S3 and ZooKeeper: a TLS stack that is missing, or that trusts anybody, compiles and fails only when it is used.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::process::{Folder, Supervised};
use crate::support::testbed::{Server, free_ports, is_there, run_script};
use crate::support::{eventually, unique};

/// A certificate authority, and in `certs` a key pair for 127.0.0.1 that it signed, named as MinIO wants it.
fn make_certificates(folder: &Path) {
    let script = r#"
set -eu
mkdir certs
cat >openssl.cnf <<END
[req]
distinguished_name = subject
[subject]
[ca]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = IP:127.0.0.1
END
new() { openssl req -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "$@"; }
new -x509 -extensions ca -subj /CN=sacker-test-ca -keyout ca.key -out ca.crt
new -new -subj /CN=localhost -keyout certs/private.key -out leaf.csr
openssl x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -set_serial 2 \
  -extfile openssl.cnf -extensions leaf -out certs/public.crt
"#;
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().expect("sh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `sacker init` with a ledger and a store on the server, trusting only `authorities`.
fn init(endpoint: &str, authorities: &Path) -> Output {
    let uri = |stem| format!("s3://{}?endpoint={endpoint}", unique(stem));
    Command::new(env!("CARGO_BIN_EXE_sacker"))
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", "testbed"), ("AWS_SECRET_ACCESS_KEY", "testbed-secret")])
        .envs([("SACKER_LEDGER", uri("ledger")), ("SACKER_STORE", uri("store"))])
        .env("SSL_CERT_FILE", authorities)
        .arg("init")
        .output()
        .expect("sacker runs")
}

#[tokio::test]
async fn the_servers_certificate_is_checked() {
    if !is_there("minio") {
        return;
    }
    let folder = Folder::new("tls");
    make_certificates(folder.path());
    let ports = free_ports(2);
    let (port, console) = (ports[0].to_string(), ports[1].to_string());
    let place = folder.path().to_str().expect("UTF-8");
    let certificates = format!("{place}/certs");
    let command = [run_script(), "minio", place, &port, &console, "--certs-dir", &certificates];
    let keys = [("TESTBED_ACCESS_KEY", "testbed"), ("TESTBED_SECRET_KEY", "testbed-secret")];
    let server = Supervised::start(&command, &keys, &folder.path().join("log"));
    eventually("MinIO listens", Duration::from_mins(1), async || {
        assert!(server.is_running(), "{}", server.log());
        TcpStream::connect(("127.0.0.1", ports[0])).is_ok()
    })
    .await;

    let endpoint = format!("https://127.0.0.1:{port}");
    let output = init(&endpoint, &folder.path().join("ca.crt"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\n{}", server.log());

    // Another authority: this one's own, of a second set.
    let other = Folder::new("tls-other");
    make_certificates(other.path());
    let output = init(&endpoint, &other.path().join("ca.crt"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{error}");
    assert!(error.contains("certificate"), "{error}");
}

/// `sacker init` with a ledger on ZooKeeper's encrypted port, with these files.
fn init_on_nodes(port: u16, store: &Path, variables: &[(&str, &Path)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sacker"))
        .env_clear()
        .env("SACKER_LEDGER", format!("zk://127.0.0.1:{port}/{}?tls=true&acl=creator", unique("tls")))
        .env("SACKER_STORE", format!("file://{}", store.display()))
        .envs(variables.iter().copied())
        .args(["init", "--timeout", "5s"])
        .output()
        .expect("sacker runs")
}

/// Both sides show a certificate; ours is who we are, so that nodes may be their creator's alone.
#[test]
fn zookeeper_and_its_client_check_each_other() {
    if !is_there("zookeeper") {
        return;
    }
    let (folder, other) = (Folder::new("tls-zookeeper"), Folder::new("tls-other"));
    for folder in [&folder, &other] {
        make_certificates(folder.path());
    }
    let path = |name: &str| folder.path().join(name);
    let (key, certificate) = (path("certs/private.key"), path("certs/public.crt"));
    let both = [&key, &certificate].map(|path| std::fs::read(path).expect("it was made")).concat();
    std::fs::write(path("server.pem"), both).expect("written");
    let encrypted = free_ports(1)[0];
    let settings = [
        format!("secureClientPort={encrypted}"),
        "secureClientPortAddress=127.0.0.1".to_owned(),
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
        format!("ssl.keyStore.location={}", path("server.pem").display()),
        "ssl.keyStore.type=PEM".to_owned(),
        format!("ssl.trustStore.location={}", path("ca.crt").display()),
        "ssl.trustStore.type=PEM".to_owned(),
        "ssl.clientAuth=need".to_owned(),
        "authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = Server::start("zookeeper", folder.path(), 1, &[], &settings);

    let (authorities, store) = (path("ca.crt"), path("store"));
    let ours = [("SACKER_ZOOKEEPER_CERTIFICATE", &*certificate), ("SACKER_ZOOKEEPER_KEY", &*key)];
    let trusting = |authorities| [&[("SACKER_ZOOKEEPER_CA", authorities)], &ours[..]].concat();
    let output = init_on_nodes(encrypted, &store, &trusting(&authorities));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\n{}", server.process().log());
    let foreign = other.path().join("ca.crt");
    let output = init_on_nodes(encrypted, &store, &trusting(&foreign));
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let output = init_on_nodes(server.port(), &store, &trusting(&authorities));
    assert_eq!(output.status.code(), Some(7), "no TLS there: {}", String::from_utf8_lossy(&output.stderr));
    let output = init_on_nodes(encrypted, &store, &ours);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("hint: set SACKER_ZOOKEEPER_CA"), "{error}");
}
