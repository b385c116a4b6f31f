//! A home directory that nothing else uses, and `sacker` run in it with an environment of its own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use sacker::connect::Connect;
use sacker::error::Meaning;
use sacker::ledger::{self, Ledger};
use sacker::model::{Actor, Change, Claim, EventSource, PackageName, TagChange, TagName, Version};
use tempfile::TempDir;

/// The package that most tests use.
pub(crate) const PACKAGE: &str = "frontend-server";

/// A home with a work directory, and with the built-in default ledger and store.
pub(crate) struct Home {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    /// Without the note that the built-in default is used.
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails the test unless it ended with exit code 0; gives what it answered.
    #[track_caller]
    pub(crate) fn answer(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// Fails the test unless it failed with this exit code, answered nothing, and said exactly this.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, message: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        assert_eq!(self.stderr.trim_end(), message);
    }

    /// The answer as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.answer()).expect("the answer is JSON")
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        for name in ["work", "tmp"] {
            fs::create_dir(folder.path().join(name)).expect("a directory");
        }
        Self { folder, variables: Vec::new() }.with("SACKER_USER", "tester")
    }

    /// A home with two versions of [`PACKAGE`] (`one\n` and `two\n`, both called `app.jar`).
    pub(crate) fn with_two_versions() -> Self {
        let home = Self::new();
        for content in ["one\n", "two\n"] {
            home.file("app.jar", content);
            home.run(&["add", PACKAGE, "app.jar"]).answer();
        }
        fs::remove_file(home.work().join("app.jar")).expect("the file goes");
        home
    }

    /// With one more variable in the environment of every run.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The current directory of every run.
    pub(crate) fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// Where runs put temporary files.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path("tmp")
    }

    /// Where the built-in default is.
    pub(crate) fn data(&self) -> PathBuf {
        self.path(".local/share/sacker")
    }

    /// Writes a file into the work directory.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        fs::write(&path, content).expect("a file");
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sacker"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.temporary())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.work())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(&self.command(arguments).output().expect("sacker starts"))
    }

    /// A run whose standard input is `input`.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sacker starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may refuse before it has read everything.
        let _ = stdin.write_all(input);
        drop(stdin);
        ran(&child.wait_with_output().expect("sacker ends"))
    }

    /// The built-in default ledger, opened by the test itself.
    pub(crate) async fn ledger(&self) -> Arc<dyn Ledger> {
        let uri = format!("file://{}", self.data().join("ledger").display());
        ledger::open(&uri.parse().expect("a URI"), &Connect::default()).await.expect("the ledger opens")
    }

    /// Moves `live` to `version` as the operator does it for a SackerTag.
    pub(crate) async fn robot_moves(&self, version: i64) -> Result<(), Meaning> {
        let actor = Actor { by: "operator".into(), reason: None, source: EventSource::Operator };
        let to = Version::new(version).expect("positive");
        let change = TagChange::new(Change::Move { to, hold: None }, actor)
            .claiming(Claim::Owner("k8s:prod/web/frontend-live".into()));
        let (package, tag) = (PackageName::existing(PACKAGE), TagName::existing("live"));
        let outcome = self.ledger().await.change_tag(&package, &tag, &change).await;
        outcome.map(|_| ()).map_err(|error| error.meaning().clone())
    }

    /// The file of the only blob whose content is `content`.
    pub(crate) fn blob(&self, content: &str) -> PathBuf {
        let found = files(&self.data().join("store"))
            .into_iter()
            .find(|path| fs::read(path).is_ok_and(|bytes| bytes == content.as_bytes()));
        found.expect("the store has the blob")
    }
}

fn ran(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let stderr = text(&output.stderr);
    let ours = |line: &&str| !line.starts_with("note: no ledger or store is configured");
    let stderr = stderr.split_inclusive('\n').filter(ours).collect();
    Ran { code: output.status.code(), stdout: text(&output.stdout), stderr }
}

/// All files below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut queue = vec![directory.to_owned()];
    while let Some(directory) = queue.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                queue.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
