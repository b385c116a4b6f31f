//! HTTPS towards S3: a TLS stack that is missing, or that trusts anybody, compiles and fails only when it is used.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::process::{Folder, Supervised};
use crate::support::testbed::{free_ports, is_there, run_script};
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
extendedKeyUsage = serverAuth
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
