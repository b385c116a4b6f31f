//! A large file on its way to S3: what a log says of it, and what an interrupt leaves.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::home::{Home, PACKAGE, files};
use crate::support::faultgate::{Action, Gate, Match, Rule};
use crate::support::testbed::{self, S3Server};
use crate::support::{eventually, unique};

/// Goes in parts.
const SIZE: usize = 200 << 20;

/// A store behind a gate; versitygw, since MinIO lists no unfinished uploads.
struct Place {
    server: S3Server,
    gate: Gate,
    bucket: String,
    home: Home,
}

impl Place {
    fn new() -> Option<Self> {
        let server = testbed::versitygw()?;
        let (gate, bucket) = (Gate::start(&server.endpoint, 0), unique("store"));
        let home = Home::new();
        let ledger = format!("file://{}", home.path("ledger").display());
        let home = home
            .with("SACKER_LEDGER", &ledger)
            .with("SACKER_STORE", &server.behind(&gate).uri(&bucket))
            .with("AWS_ACCESS_KEY_ID", server.access_key)
            .with("AWS_SECRET_ACCESS_KEY", server.secret_key)
            .with("AWS_EC2_METADATA_DISABLED", "true");
        home.run(&["init"]).answer();
        home.file("app.jar", vec![7; SIZE]);
        Some(Self { server, gate, bucket, home })
    }

    /// From now on no part arrives before [`Gate::release`].
    fn hold_parts(&self) {
        self.gate.set_rules(vec![Rule::new(Match::target("UploadPart"), Action::Hold)]);
    }

    async fn part_is_held(&self) {
        eventually("a part is on its way", Duration::from_mins(1), async || self.gate.held() > 0).await;
    }

    async fn unfinished(&self) -> usize {
        let client = self.server.client().await;
        let listed = client.list_multipart_uploads().bucket(&self.bucket).send().await.expect("listed");
        listed.uploads().len()
    }
}

#[tokio::test]
async fn an_interrupted_upload_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    place.hold_parts();
    let child = place
        .home
        .command(&["add", PACKAGE, "app.jar"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sacker starts");
    place.part_is_held().await;
    assert_eq!(place.unfinished().await, 1, "there is something to give up");
    kill_process(Pid::from_child(&child), Signal::INT).expect("the signal is sent");
    let output = child.wait_with_output().expect("it ends");
    place.gate.release();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: interrupted\n");
    assert_eq!(place.unfinished().await, 0);
    assert_eq!(files(&place.home.temporary()), Vec::<std::path::PathBuf>::new());
    assert_eq!(place.home.run(&["list"]).answer(), "");
}

/// The first part after ten seconds makes a line; what is quicker than that makes none.
#[tokio::test]
async fn a_log_gets_a_line_every_ten_seconds() {
    let Some(place) = Place::new() else { return };
    for quiet in [false, true] {
        place.home.file("app.jar", vec![u8::from(quiet); SIZE]);
        place.hold_parts();
        let flags: &[&str] = if quiet { &["-q"] } else { &[] };
        let started = Instant::now();
        let mut child = place
            .home
            .command(&[flags, &["add", PACKAGE, "app.jar"]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sacker starts");
        place.part_is_held().await;
        eventually("ten seconds are over", Duration::from_secs(20), async || {
            started.elapsed() > Duration::from_secs(11)
        })
        .await;
        place.gate.set_rules(Vec::new());
        place.gate.release();
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let lines: Vec<String> = stderr.lines().map_while(Result::ok).collect();
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{lines:?}");
        if quiet {
            assert!(lines.is_empty(), "{lines:?}");
            continue;
        }
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(line.starts_with("uploading 'app.jar': ") && line.contains(" of 200.00 MiB, "), "{line}");
        assert!(line.ends_with(" s left"), "{line}");
    }
}
