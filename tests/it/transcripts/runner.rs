//! Runs the commands of a document and puts what they print in its place.
//!
//! trycmd does the like; it has no shell, so no pipes, no terminal, and knows nothing of servers that documents need.

use std::fs;
use std::io::{PipeReader, Read as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use sacker::environment::Environment;

use super::document::{Attributes, Document, Piece, Settings};
use super::normal::Normal;
use crate::cli::home::Home;
use crate::support::{terminal, testbed, unique};

/// How long a command may take, in seconds. Far more than any needs; one that waits for ever is killed.
const LIMIT: &str = "120";

/// Where a document's commands run: a home of its own, with the ledger, the store and the servers that it asks for.
struct Stage {
    home: Home,
    /// The home directory.
    root: String,
    variables: Vec<(String, String)>,
    normal: Normal,
}

/// Runs all commands of `text`, a document in `folder`; the document with what they really print. Nothing where a
/// server that it needs is missing, which was said then.
///
/// # Panics
/// Where the document cannot be read, or a command cannot be run at all.
pub(super) fn run(text: &str, folder: &Path) -> Option<String> {
    let mut document = Document::parse(text).unwrap_or_else(|why| panic!("the document is broken: {why}"));
    let mut stage = Stage::new(&document.settings, folder)?;
    for piece in &mut document.pieces {
        if let Piece::Block { attributes, steps, .. } = piece {
            for step in steps {
                step.output = stage.run(&step.command, attributes);
            }
        }
    }
    Some(document.text().unwrap_or_else(|why| panic!("the document cannot be written: {why}")))
}

impl Stage {
    fn new(settings: &Settings, folder: &Path) -> Option<Self> {
        let home = Home::new();
        for name in &settings.files {
            fs::copy(folder.join(name), home.work().join(name)).expect("a file of the document");
        }
        fs::create_dir(home.path("bin")).expect("a directory");
        symlink(env!("CARGO_BIN_EXE_sacker"), home.path("bin/sacker")).expect("a link");
        let root = home.path("").to_string_lossy().trim_end_matches('/').to_owned();
        let places = vec![(root.clone(), "~".to_owned())];
        let mut stage = Self { home, root, variables: Vec::new(), normal: Normal::new(Vec::new()) };
        let places = stage.prepare(settings, places)?;
        stage.normal = Normal::new(places);
        Some(stage)
    }

    /// Sets the variables that name ledger, store and servers; what of them is shown as something else.
    fn prepare(
        &mut self,
        settings: &Settings,
        mut places: Vec<(String, String)>,
    ) -> Option<Vec<(String, String)>> {
        for server in &settings.servers {
            let (endpoint, shown) = endpoint(server)?;
            self.set(&server.to_uppercase(), &endpoint);
            places.push((endpoint, shown.to_owned()));
        }
        let mut backends = vec![("SACKER_LEDGER", "ledger", settings.ledger.as_str())];
        if settings.ledger != "default" {
            let store = if settings.store.is_empty() { "files" } else { &settings.store };
            backends.push(("SACKER_STORE", "store", store));
        }
        for (variable, name, backend) in backends {
            if backend == "default" {
                continue;
            }
            let own = unique(name);
            let uri = self.uri(backend, name, &own)?;
            if let Some((endpoint, shown)) = endpoint(backend) {
                places.push((endpoint, shown.to_owned()));
            }
            places.push((own, name.to_owned()));
            self.set(variable, &uri);
        }
        Some(places)
    }

    /// The URI of a ledger or a store on this backend. `own` is a name that nobody else uses.
    fn uri(&self, backend: &str, name: &str, own: &str) -> Option<String> {
        Some(match backend {
            "files" => format!("file://{}", self.home.path(name).display()),
            "git" => {
                testbed::git()?;
                format!("git+file://{}", self.home.path(&format!("{name}.git")).display())
            }
            "minio" => testbed::minio()?.uri(own),
            "versitygw" => testbed::versitygw()?.uri(own),
            "dynamodb" => testbed::dynamodb()?.uri(own),
            other => panic!("there is no backend '{other}'"),
        })
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// What a command prints, as the document shows it.
    fn run(&mut self, command: &str, attributes: &Attributes) -> String {
        let bash = self.bash(command, attributes);
        let (printed, status) = match attributes.width {
            None => run_in_pipe(bash),
            Some(width) => {
                let (printed, status) = terminal::run(bash, width, attributes.answer.as_deref());
                (if attributes.color { printed } else { terminal::settled(&printed) }, status)
            }
        };
        // Visible, and nothing that a reader's own terminal would obey.
        let mut shown = self.normal.apply(&printed).replace('\u{1b}', "␛");
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        match status.code() {
            Some(0) => shown,
            Some(code) => format!("{shown}[exit code {code}]\n"),
            None => panic!("'{command}' was killed after printing:\n{shown}"),
        }
    }

    fn bash(&self, command: &str, attributes: &Attributes) -> Command {
        let path = Environment::of_process().get("PATH").unwrap_or("/usr/bin:/bin").to_owned();
        // The mode of a new file is recorded, so it must not be the machine's.
        let script = format!("umask 022\n{command}");
        let mut bash = Command::new("timeout");
        bash.args(["--foreground", "--signal=KILL", LIMIT, "bash", "-c", &script])
            .current_dir(self.home.work())
            .env_clear()
            .env("PATH", format!("{}:{path}", self.home.path("bin").display()))
            .env("HOME", &self.root)
            .env("TMPDIR", self.home.temporary())
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm")
            .env("SACKER_USER", "alice")
            .env("AWS_ACCESS_KEY_ID", testbed::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", testbed::SECRET_KEY)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if attributes.width.is_some() && !attributes.color {
            bash.env("NO_COLOR", "1");
        }
        bash.envs(&attributes.variables);
        bash
    }
}

/// The address of a server, and what it is shown as: the port that people give it.
fn endpoint(server: &str) -> Option<(String, &'static str)> {
    match server {
        "minio" => Some((testbed::minio()?.endpoint, "http://127.0.0.1:9000")),
        "versitygw" => Some((testbed::versitygw()?.endpoint, "http://127.0.0.1:7070")),
        "dynamodb" => Some((testbed::dynamodb()?.endpoint, "http://127.0.0.1:8000")),
        _ => None,
    }
}

/// Both streams are one pipe: lines come in the order in which they were written.
fn run_in_pipe(mut bash: Command) -> (String, ExitStatus) {
    let (mut reader, writer): (PipeReader, _) = std::io::pipe().expect("a pipe");
    bash.stdout(writer.try_clone().expect("it can be shared")).stderr(writer);
    let mut child = bash.spawn().expect("bash starts");
    // The pipe ends when nobody can write any more.
    drop(bash);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).expect("it can be read");
    let status = child.wait().expect("it ends");
    (String::from_utf8_lossy(&printed).into_owned(), status)
}
