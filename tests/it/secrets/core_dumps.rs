//! A program that dies leaves no dump of its memory, also where its user's limit would allow one.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::home::Home;
use crate::support::{eventually, testbed};

/// Raises the limit as far as it goes, notes it, and becomes the program.
const UNLIMITED: &str = r#"ulimit -c "$(ulimit -H -c)"; ulimit -c >limit; exec "$@""#;

/// The soft and the hard limit of a process, as the kernel says them.
fn limit(pid: u32) -> Option<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let mut words = text.lines().find_map(|line| line.strip_prefix("Max core file size"))?.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

/// The arguments with which each program waits for a server that never answers.
fn waiting(program: &str, home: &Home, endpoint: &str) -> (&'static str, Vec<String>) {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let uri = format!("s3://bucket?endpoint={endpoint}");
    match program {
        "sacker" => (env!("CARGO_BIN_EXE_sacker"), words(&["list", "--ledger", &uri])),
        "sacker-init" => {
            let pin = format!("package@1+sha256:{}", "0".repeat(64));
            let to = home.path("work/file").display().to_string();
            (env!("CARGO_BIN_EXE_sacker-init"), words(&["--store", &uri, "--pin", &pin, "--to", &to]))
        }
        _ => {
            let file = home.file(
                "kubeconfig",
                format!(
                    "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
                     clusters: [{{name: it, cluster: {{server: '{endpoint}'}}}}]\n\
                     users: [{{name: it, user: {{token: none}}}}]\n\
                     contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n"
                ),
            );
            assert!(file.exists());
            (env!("CARGO_BIN_EXE_sacker-operator"), words(&["run", "--http-address", "127.0.0.1:0"]))
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_program_that_dies_leaves_no_dump(
    #[values("sacker", "sacker-init", "sacker-operator")] program: &str,
) {
    // Connections are accepted by the kernel, and nothing is ever said.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let home = Home::new();
    let (path, arguments) = waiting(program, &home, &endpoint);
    let mut child = Command::new("sh")
        .args(["-c", UNLIMITED, "sh", path])
        .args(arguments)
        .env_clear()
        .env("HOME", home.path(""))
        .env("KUBECONFIG", home.work().join("kubeconfig"))
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .current_dir(home.work())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh starts");
    let pid = child.id();
    let none = Some(("0".to_owned(), "0".to_owned()));
    eventually("the limit is 0", Duration::from_secs(20), async || limit(pid) == none).await;
    let raised = fs::read_to_string(home.work().join("limit")).expect("the shell noted it");
    if raised.trim() == "0" {
        testbed::skip("this machine allows no core dumps at all");
    }
    let process = Pid::from_child(&child);
    kill_process(process, Signal::ABORT).expect("it runs");
    let status = child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status:?}");
    assert!(!status.core_dumped(), "{status:?}");
    let left: Vec<_> = crate::cli::home::files(&home.work())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core")))
        .collect();
    assert_eq!(left, [] as [&Path; 0]);
}
