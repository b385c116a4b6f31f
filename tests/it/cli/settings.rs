//! `sacker config show`: what counts, and where it comes from.

use std::io;
use std::net::TcpListener;

use super::home::Home;

#[test]
fn each_setting_tells_its_origin() {
    let home = Home::new();
    let data = home.data();
    let shown = home.run(&["config", "show", "--origin"]);
    let expected = format!(
        "ledger\tfile://{0}/ledger\tthe default\nstore\tfile://{0}/store\tthe default\nuser\ttester\tSACKER_USER\n",
        data.display()
    );
    assert_eq!(
        (shown.answer(), shown.stderr.as_str()),
        (expected.as_str(), ""),
        "no note, and nothing is made"
    );
    assert!(!data.exists());

    std::fs::write(home.path(".sacker.json"), r#"{"ledger": "s3://from-file", "store": "s3://blobs"}"#)
        .expect("a file");
    let home = home.with("SACKER_STORE", "s3://from-variable");
    let shown = home.run(&["--ledger", "dynamo://eu-west-1/flag", "config", "show", "--origin"]);
    assert_eq!(
        shown.answer(),
        "ledger\tdynamo://eu-west-1/flag\t--ledger\nstore\ts3://from-variable\tSACKER_STORE\nuser\ttester\tSACKER_USER\n"
    );
    let file = format!("'{}'", home.path(".sacker.json").display());
    let document = home.run(&["config", "show", "-o", "json"]).json();
    assert_eq!(document["ledger"], serde_json::json!({ "value": "s3://from-file", "origin": file }));
    assert_eq!(home.run(&["config", "show"]).answer().lines().next(), Some("ledger\ts3://from-file"));
}

#[test]
fn what_is_not_configured_is_shown_as_such() {
    let home = Home::new().with("SACKER_LEDGER", "s3://ledger");
    assert_eq!(
        home.run(&["config", "show", "--origin"]).answer(),
        "ledger\ts3://ledger\tSACKER_LEDGER\nstore\t-\t-\nuser\ttester\tSACKER_USER\n"
    );
    assert!(home.run(&["config", "show", "-o", "json"]).json()["store"]["value"].is_null());
}

#[test]
fn a_broken_setting_is_the_answer() {
    let home = Home::new().with("SACKER_LEDGER", "nonsense");
    let ran = home.run(&["config", "show"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(
        ran.stderr.starts_with("error: SACKER_LEDGER: 'nonsense' is not a ledger or store URI"),
        "{ran:?}"
    );
    assert_eq!(home.run(&["config"]).code, Some(2));
}

/// Whoever asks for help, a script or the settings may be offline, or in front of a server that does not answer.
#[test]
fn what_needs_no_server_asks_none() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("it does not block");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let home = Home::new()
        .with("SACKER_LEDGER", &format!("s3://ledger?endpoint={endpoint}"))
        .with("SACKER_STORE", &format!("s3://store?endpoint={endpoint}"))
        .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint)
        .with("AWS_ENDPOINT_URL_STS", &endpoint)
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere")
        .with("AWS_ROLE_ARN", "arn:aws:iam::1:role/none");
    let commands: [&[&str]; 10] = [
        &["--help"],
        &["--version"],
        &["add", "--help"],
        &["help", "reference"],
        &["help", "exit-codes"],
        &["completions", "zsh"],
        &["man", "tag"],
        &["config", "show", "--origin"],
        &["init", "--print-ci-policy"],
        &["init-container", "web@live"],
    ];
    for command in commands {
        home.run(command).answer();
        let asked = listener.accept().map(|(_, from)| from);
        assert_eq!(asked.expect_err("nobody asked").kind(), io::ErrorKind::WouldBlock, "{command:?}");
    }
}
