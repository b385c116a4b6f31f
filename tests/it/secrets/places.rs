//! Where secrets stand, and the backends that they are for.

use std::net::TcpListener;
use std::path::PathBuf;

use rstest::rstest;

use super::Canaries;
use super::commands::{OFFLINE, Runs, tell, try_each};
use crate::cli::home::Home;
use crate::support::canned::Canned;
use crate::support::git_http::GitHttp;
use crate::support::testbed;
use crate::support::unique;

/// A home with files to add.
fn home() -> Home {
    let home = Home::new().with("AWS_EC2_METADATA_DISABLED", "true");
    home.file("app.jar", "one\n");
    home.file("other.jar", "two\n");
    home
}

/// Fails the test if a secret is in anything that was said, or in any file but those that the test made (`own`).
#[track_caller]
fn expect_nothing(canaries: &Canaries, home: &Home, own: &[PathBuf], runs: &Runs) {
    for (words, ran) in runs {
        for (stream, said) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
            // A signed URL is asked for, and has the session's token in it.
            let said = if words[0] == "presign" && stream == "stdout" { without_url(said) } else { said };
            let found = canaries.find(said.as_bytes());
            assert_eq!(found, None, "{words:?} {stream}: {ran:?}");
        }
    }
    let found = canaries.find_in(home, own);
    assert_eq!(found, [] as [PathBuf; 0], "files with a secret");
}

/// What is left of an answer that is a signed URL.
fn without_url(said: &str) -> &str {
    let is_url = said.starts_with("http") && said.contains("X-Amz-Signature=") && said.lines().count() == 1;
    if is_url { "" } else { said }
}

/// Fails the test if a command failed that should not: what fails early says little.
#[track_caller]
fn expect_success(runs: &Runs, but: &[&str]) {
    for (words, ran) in runs {
        assert_eq!(ran.code == Some(0), !but.contains(&words[0]), "{words:?}: {ran:?}");
    }
}

/// Fails the test if a command that asks a backend did not fail.
#[track_caller]
fn expect_failure(runs: &Runs) {
    for (words, ran) in runs {
        assert!(ran.code != Some(0) || OFFLINE.contains(&words[0]), "{words:?}: {ran:?}");
        assert!(ran.code.is_some(), "{words:?}: {ran:?}");
    }
}

/// Real temporary credentials of MinIO, which it made itself.
#[tokio::test]
async fn session_credentials_on_s3() {
    let Some(server) = testbed::minio() else { return };
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
    let [key, secret, token] = testbed::minio_session(&server, policy).await;
    let mut canaries = Canaries::default();
    canaries.add(&secret);
    canaries.add(&token);
    let home = home()
        .with("SACKER_LEDGER", &format!("{}&versions=sequence", server.uri(&unique("canary"))))
        .with("SACKER_STORE", &server.uri(&unique("canary")))
        .with("AWS_ACCESS_KEY_ID", &key)
        .with("AWS_SECRET_ACCESS_KEY", &secret)
        .with("AWS_SESSION_TOKEN", &token);
    let runs = tell(&home, &[]);
    expect_success(&runs, &[]);
    expect_nothing(&canaries, &home, &[], &runs);
    // The token belongs to the URL, the secret never does.
    let url = runs.iter().find(|(words, _)| words[0] == "presign").map(|(_, ran)| ran.answer());
    assert!(url.is_some_and(|url| !url.contains(&secret)), "{url:?}");
}

/// Keys in a profile, whose file says the SDK's own loggers most; and a ledger that takes any.
#[test]
fn a_profile_and_tables() {
    let Some(server) = testbed::dynamodb() else { return };
    let mut canaries = Canaries::default();
    let (secret, token) = (canaries.word("secret"), canaries.word("token"));
    let home = home().with("SACKER_LEDGER", &server.uri(&unique("canary"))).with("AWS_PROFILE", "work");
    let store = format!("file://{}", home.path("blobs").display());
    let home = home.with("SACKER_STORE", &store);
    let keys = format!(
        "[work]\naws_access_key_id = canary\naws_secret_access_key = {secret}\naws_session_token = {token}\n"
    );
    let file = home.path(".aws/credentials");
    std::fs::create_dir(home.path(".aws")).expect("created");
    std::fs::write(&file, keys).expect("written");
    let runs = tell(&home, &[]);
    // Files have no URLs to sign.
    expect_success(&runs, &["presign"]);
    expect_nothing(&canaries, &home, &[file], &runs);
}

/// An agent gives the keys for a token; both servers are wrong about who that is.
#[rstest]
fn keys_that_a_server_refuses(#[values("minio", "versitygw")] name: &str) {
    let server = if name == "minio" { testbed::minio() } else { testbed::versitygw() };
    let Some(server) = server else { return };
    let mut canaries = Canaries::default();
    let (secret, token, proof) = (canaries.word("secret"), canaries.word("token"), canaries.word("proof"));
    let keys = serde_json::json!({
        "AccessKeyId": server.access_key, "SecretAccessKey": secret, "Token": token,
        "Expiration": "2099-01-01T00:00:00Z",
    });
    let agent = Canned::with("200 OK", &keys.to_string());
    let home = home()
        .with("SACKER_LEDGER", &server.uri(&unique("canary")))
        .with("SACKER_STORE", &server.uri(&unique("canary")))
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.endpoint);
    let file = home.file("proof", &proof);
    let home = home.with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file.display().to_string());
    let runs = try_each(&home, &[]);
    assert!(agent.requests().iter().any(|request| request.contains(&proof)), "the agent was asked");
    expect_failure(&runs);
    expect_nothing(&canaries, &home, &[file], &runs);
}

/// Nobody listens, and everything is said that can be said about it.
#[rstest]
#[case::s3("s3://ledger?endpoint=http://HOST", "s3://store?endpoint=http://HOST")]
#[case::dynamodb("dynamo://us-east-1/sacker?endpoint=http://HOST", "hdfs://HOST/store")]
#[case::zookeeper("zk://HOST/ledger?acl=creator", "hdfs://HOST/store")]
#[case::git("git+http://HOST/ledger.git", "s3://store?endpoint=http://HOST")]
fn a_server_that_is_down(#[case] ledger: &str, #[case] store: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    let mut canaries = Canaries::default();
    let mut word = |stem| canaries.word(stem);
    let home = home()
        .with("SACKER_LEDGER", &ledger.replace("HOST", &host))
        .with("SACKER_STORE", &store.replace("HOST", &host))
        .with("AWS_ACCESS_KEY_ID", "canary")
        .with("AWS_SECRET_ACCESS_KEY", &word("secret"))
        .with("AWS_SESSION_TOKEN", &word("token"))
        .with("SACKER_ZOOKEEPER_USER", "ann")
        .with("SACKER_ZOOKEEPER_PASSWORD", &word("password"))
        .with("HADOOP_USER_NAME", "ann")
        .with("KRB5_PASSWORD", &word("kerberos"))
        .with("GITHUB_TOKEN", &word("github"));
    let tokens = home.file("tokens", word("delegation"));
    let home = home.with("HADOOP_TOKEN_FILE_LOCATION", &tokens.display().to_string());
    let runs = try_each(&home, &["--timeout", "1s"]);
    expect_failure(&runs);
    expect_nothing(&canaries, &home, &[tokens], &runs);
}

/// ZooKeeper takes anybody, and gives nodes to whoever has the password.
#[test]
fn a_password_on_zookeeper() {
    let Some(server) = testbed::zookeeper() else { return };
    let mut canaries = Canaries::default();
    let home = home()
        .with("SACKER_LEDGER", &format!("{}?acl=creator", server.uri(&unique("canary"))))
        .with("SACKER_ZOOKEEPER_USER", "ann")
        .with("SACKER_ZOOKEEPER_PASSWORD", &canaries.word("password"));
    let store = format!("file://{}", home.path("blobs").display());
    let home = home.with("SACKER_STORE", &store);
    let runs = tell(&home, &[]);
    expect_success(&runs, &["presign"]);
    expect_nothing(&canaries, &home, &[], &runs);
}

/// A proxy with a password between here and the servers, which is not there.
#[test]
fn a_password_of_a_proxy() {
    let mut canaries = Canaries::default();
    let proxy = format!("http://ann:{}@127.0.0.1:1", canaries.word("proxy"));
    let home = home()
        .with("SACKER_LEDGER", "dynamo://us-east-1/sacker")
        .with("SACKER_STORE", "s3://store?region=us-east-1")
        .with("AWS_ACCESS_KEY_ID", "canary")
        .with("AWS_SECRET_ACCESS_KEY", &canaries.word("secret"));
    let home =
        ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"].iter().fold(home, |home, name| home.with(name, &proxy));
    let runs = try_each(&home, &["--timeout", "1s"]);
    expect_failure(&runs);
    expect_nothing(&canaries, &home, &[], &runs);
}

/// Git's own settings put a token into the address of a repository, and git repeats that when it fails.
#[test]
fn a_token_in_the_settings_of_git() {
    if testbed::git().is_none() {
        return;
    }
    let mut canaries = Canaries::default();
    let token = canaries.word("token");
    let home = home();
    std::fs::create_dir(home.path("served")).expect("created");
    let server = GitHttp::start(&home.path("served"));
    let address = server.url();
    let with_token = address.replace("http://", &format!("http://ann:{token}@"));
    let settings = home.file("gitconfig", format!("[url \"{with_token}\"]\n\tinsteadOf = {address}\n"));
    let store = format!("file://{}", home.path("blobs").display());
    let home = home
        .with("SACKER_LEDGER", &server.uri("none.git"))
        .with("SACKER_STORE", &store)
        .with("GIT_CONFIG_GLOBAL", &settings.display().to_string())
        .with("PATH", "/usr/local/bin:/usr/bin:/bin");
    let runs = try_each(&home, &["--timeout", "5s"]);
    expect_failure(&runs);
    expect_nothing(&canaries, &home, &[settings], &runs);
}

/// A URI with a password is refused before anything else, wherever it stands, without the password.
#[rstest]
fn secrets_in_uris_are_not_repeated(
    #[values("flag", "variable", "file", "endpoint", "sdk")] where_it_stands: &str,
    #[values(
        "s3://key:PASSWORD@bucket",
        "git+https://PASSWORD@host/repository",
        "https://ann:PASSWORD@host/x?y@z"
    )]
    uri: &str,
) {
    let mut canaries = Canaries::default();
    let uri = uri.replace("PASSWORD", &canaries.word("password"));
    let mut home = home();
    let (mut own, mut more) = (Vec::new(), Vec::new());
    match where_it_stands {
        "flag" => more.extend(["--ledger", &uri, "--store", &uri]),
        "variable" => home = home.with("SACKER_LEDGER", &uri).with("SACKER_STORE", &uri),
        "file" => {
            let text = serde_json::json!({"ledger": uri, "store": [uri]}).to_string();
            let path = home.path(".sacker.json");
            std::fs::write(&path, text).expect("written");
            own.push(path);
        }
        "endpoint" => {
            let endpoint = uri.replacen("s3://", "http://", 1).replacen("git+", "", 1);
            let uri = format!("s3://bucket?endpoint={endpoint}");
            home = home.with("SACKER_LEDGER", &uri).with("SACKER_STORE", &uri);
        }
        _ => {
            // Neither is ours to refuse, and so it is asked.
            let endpoint = uri.split_once('@').map(|(start, _)| {
                let secret = start.rsplit([':', '/']).next().unwrap_or_default();
                format!("http://ann:{secret}@127.0.0.1:1")
            });
            home = home
                .with("SACKER_LEDGER", "dynamo://us-east-1/sacker")
                .with("SACKER_STORE", "s3://store?region=us-east-1")
                .with("AWS_ENDPOINT_URL", &endpoint.expect("every URI has one"))
                .with("AWS_ACCESS_KEY_ID", "canary")
                .with("AWS_SECRET_ACCESS_KEY", &canaries.word("secret"));
            more.extend(["--timeout", "1s"]);
        }
    }
    let runs = try_each(&home, &more);
    expect_failure(&runs);
    expect_nothing(&canaries, &home, &own, &runs);
}
