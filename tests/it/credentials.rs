//! Where credentials come from, seen from outside: `sacker-init` as a process with the environment of a pod.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sacker::model::Sha256;
use sacker::store::{self, BlobFile};

use crate::support::canned::Canned;
use crate::support::testbed::{self, S3Server};
use crate::support::unique;

const BYTES: &[u8] = b"the blob";

/// A blob in a store on MinIO, and a folder to fetch it into.
struct Pod {
    folder: tempfile::TempDir,
    store: String,
    server: S3Server,
}

impl Pod {
    async fn new() -> Option<Self> {
        let server = testbed::minio()?;
        let folder = tempfile::tempdir().expect("a folder");
        let uri = server.uri(&unique("store"));
        let store = store::open(&uri.parse().expect("a URI"), &server.connect()).await.expect("opened");
        store.init().await.expect("set up");
        let path = folder.path().join("source");
        std::fs::write(&path, BYTES).expect("written");
        let blob = BlobFile { path: &path, sha256: Sha256::of(BYTES), size: BYTES.len() as u64, scan: None };
        store.put(blob, &|_| {}).await.expect("put");
        Some(Self { folder, store: uri, server })
    }

    /// Fetches the blob with nothing but these variables. The whole run's time comes with it.
    fn fetch(&self, variables: &[(&str, &str)], arguments: &[&str]) -> (Output, Duration) {
        let pin = format!("package@1+sha256:{}", Sha256::of(BYTES));
        let began = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_sacker-init"))
            .env_clear()
            .envs(variables.iter().copied())
            .envs([("SACKER_STORE", self.store.as_str()), ("HOME", self.home())])
            .args(["--pin", &pin, "--to", &format!("{}/fetched", self.home())])
            .args(arguments)
            .output()
            .expect("sacker-init runs");
        (output, began.elapsed())
    }

    fn home(&self) -> &str {
        self.folder.path().to_str().expect("UTF-8")
    }

    #[track_caller]
    fn expect_fetched(&self, output: &Output) {
        assert!(output.status.success(), "{}", error_of(output));
        let path = self.folder.path().join("fetched");
        assert_eq!(std::fs::read(&path).expect("it is there"), BYTES);
        std::fs::remove_file(path).expect("removed");
    }

    /// What a token service answers: keys that MinIO knows.
    fn json_keys(&self) -> String {
        serde_json::json!({
            "AccessKeyId": self.server.access_key,
            "SecretAccessKey": self.server.secret_key,
            "Token": "",
            "Expiration": "2099-01-01T00:00:00Z",
        })
        .to_string()
    }
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A port where connections are accepted and nothing is ever said.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, endpoint)
}

#[tokio::test]
async fn a_profile_is_found_in_the_home_directory() {
    let Some(pod) = Pod::new().await else { return };
    let folder = Path::new(pod.home()).join(".aws");
    std::fs::create_dir(&folder).expect("created");
    let keys = format!(
        "[work]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        pod.server.access_key, pod.server.secret_key
    );
    std::fs::write(folder.join("credentials"), keys).expect("written");
    let (output, _) = pod.fetch(&[("AWS_PROFILE", "work")], &[]);
    pod.expect_fetched(&output);
}

/// EKS Pod Identity and ECS: a local agent, named by the environment.
#[tokio::test]
async fn container_credentials_are_used_alone() {
    let Some(pod) = Pod::new().await else { return };
    let agent = Canned::with("200 OK", &pod.json_keys());
    let token = pod.folder.path().join("token");
    std::fs::write(&token, "the-token").expect("written");
    let (_listener, metadata) = silent();
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.endpoint.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().expect("UTF-8")),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata),
    ];
    let (output, took) = pod.fetch(&variables, &["--instance-metadata"]);
    pod.expect_fetched(&output);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let requests = agent.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].to_lowercase().contains("authorization: the-token"), "{requests:?}");
}

#[tokio::test]
async fn an_agent_that_is_down_is_an_outage() {
    let Some(pod) = Pod::new().await else { return };
    let (listener, agent) = silent();
    drop(listener);
    let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str())];
    let (output, took) = pod.fetch(&variables, &["--timeout", "20s"]);
    let error = error_of(&output);
    assert_eq!(output.status.code(), Some(7), "{error}");
    assert!(
        error.contains("the container credentials (AWS_CONTAINER_CREDENTIALS_FULL_URI) failed"),
        "{error}"
    );
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// EKS IAM roles for service accounts: a token file, exchanged at the token service.
#[tokio::test]
async fn a_web_identity_is_exchanged_once() {
    let Some(pod) = Pod::new().await else { return };
    let answer = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>\
         <SecretAccessKey>{}</SecretAccessKey><SessionToken></SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>",
        pod.server.access_key, pod.server.secret_key
    );
    let service = Canned::with("200 OK", &answer);
    let token = pod.folder.path().join("token");
    std::fs::write(&token, "the.web.token").expect("written");
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().expect("UTF-8")),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/sacker"),
        ("AWS_ENDPOINT_URL_STS", service.endpoint.as_str()),
    ];
    let (output, _) = pod.fetch(&variables, &[]);
    pod.expect_fetched(&output);
    let requests = service.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].contains("WebIdentityToken=the.web.token"), "{requests:?}");

    let refusal = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                   <Code>AccessDenied</Code><Message>Not authorized</Message></Error></ErrorResponse>";
    let service = Canned::with("403 Forbidden", refusal);
    let mut refused = variables;
    refused[2].1 = &service.endpoint;
    let (output, _) = pod.fetch(&refused, &[]);
    let error = error_of(&output);
    assert_eq!(output.status.code(), Some(6), "{error}");
    assert!(error.contains("the web identity (AWS_WEB_IDENTITY_TOKEN_FILE) failed"), "{error}");
    assert!(!error.contains("the.web.token"), "{error}");
}

/// In a pod nobody waits for a metadata service unless told to, and then not for long.
#[tokio::test]
async fn no_credentials_is_said_within_two_seconds() {
    let Some(pod) = Pod::new().await else { return };
    let (_listener, metadata) = silent();
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str())];
    for (arguments, tried, bound) in [
        (&[][..], "the profile 'default'", Duration::from_secs(1)),
        (&["--instance-metadata"], "the instance metadata service", Duration::from_secs(3)),
    ] {
        let (output, took) = pod.fetch(&variables, arguments);
        let error = error_of(&output);
        assert_eq!(output.status.code(), Some(6), "{error}");
        assert!(error.contains("AWS_WEB_IDENTITY_TOKEN_FILE") && error.contains(tried), "{error}");
        assert!(took < bound, "{took:?}");
    }
}
