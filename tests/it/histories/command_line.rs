//! The command line as a client: one process per operation, its exit code and its answer read as a script would.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::history::{Answer, Call, Expectation, parse_found};

/// How `sacker` is run.
#[derive(Debug, Clone)]
pub(crate) struct CommandLine {
    /// Ledger, store and credentials, as variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// For the files that it adds.
    pub(crate) home: PathBuf,
}

/// A command line, and the call that it stands for.
pub(crate) struct Typed {
    pub(crate) call: Call,
    arguments: Vec<String>,
    file: Option<PathBuf>,
}

impl CommandLine {
    /// What a person or a script would type. It makes ids itself and has no condition on the event, so the call that it
    /// stands for has none either.
    pub(crate) fn prepare(&self, client: usize, call: &Call) -> Typed {
        let mut call = call.clone();
        let package = call.package().to_owned();
        let mut words: Vec<String> = Vec::new();
        let mut say = |said: &[&str]| words.extend(said.iter().map(|word| (*word).to_owned()));
        let mut file = None;
        match &mut call {
            Call::Add { id, .. } => {
                // The bytes whose digest was chosen are the id.
                let path = self.home.join(format!("{client}.jar"));
                std::fs::write(&path, std::mem::take(id)).expect("a file");
                say(&["add", &package, path.to_str().expect("UTF-8"), "-o", "json"]);
                file = Some(path);
            }
            Call::Latest { .. } => say(&["info", &package, "latest", "-o", "json"]),
            Call::Tag { tag, to: Some(to), expected, id, .. } => {
                say(&["tag", &package, &to.to_string(), tag, "--reason", id, "-o", "json"]);
                match expected {
                    Expectation::Version(version) => say(&["--if-version", &version.to_string()]),
                    Expectation::Seq(_) => *expected = Expectation::Any,
                    Expectation::Any => {}
                }
            }
            Call::Tag { tag, to: None, expected, id, .. } => {
                say(&["untag", &package, tag, "--yes", "--reason", id]);
                *expected = Expectation::Any;
            }
            Call::Read { .. } => say(&["tags", &package, "-o", "json"]),
            Call::Info { version, .. } => say(&["info", &package, &version.to_string(), "-o", "json"]),
        }
        Typed { call, arguments: words, file }
    }

    /// Runs it, and what it came to.
    pub(crate) fn run(&self, typed: &Typed) -> Answer {
        let output = Command::new(env!("CARGO_BIN_EXE_sacker"))
            .arg("--quiet")
            .args(&typed.arguments)
            .env_clear()
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .envs(&self.variables)
            .output()
            .expect("sacker runs");
        if let Some(file) = &typed.file {
            let _ = std::fs::remove_file(file);
        }
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match output.status.code() {
            Some(0) => told(&typed.call, &stdout),
            code => refused(&typed.call, u8::try_from(code.unwrap_or(1)).unwrap_or(1), &stderr),
        }
    }
}

fn told(call: &Call, stdout: &str) -> Answer {
    let document: Value = serde_json::from_str(stdout).unwrap_or(Value::Null);
    let version = |value: &Value| value["version"].as_i64();
    match call {
        Call::Add { .. } | Call::Latest { .. } => Answer::Version(version(&document)),
        Call::Tag { to: None, .. } => Answer::Tag { seq: None, version: None },
        Call::Tag { .. } => Answer::Tag { seq: document["seq"].as_u64(), version: version(&document) },
        Call::Read { tag, .. } => {
            let mut tags = document.as_array().into_iter().flatten();
            match tags.find(|item| item["tag"] == tag.as_str()) {
                Some(item) => Answer::Tag { seq: item["seq"].as_u64(), version: version(item) },
                None => Answer::Tag { seq: None, version: None },
            }
        }
        Call::Info { .. } => Answer::Record {
            version: version(&document).unwrap_or(0),
            sha: document["sha256"].as_str().unwrap_or_default().to_owned(),
        },
    }
}

fn refused(call: &Call, code: u8, stderr: &str) -> Answer {
    if let (4, Call::Tag { .. }) = (code, call) {
        let found = stderr.lines().find_map(|line| line.split_once(", found ")).map(|(_, found)| found);
        if let Some(answer) = found.and_then(parse_found) {
            return answer;
        }
    }
    if code == 3 && stderr.contains(" has no tag ") {
        return Answer::Tag { seq: None, version: None };
    }
    if code == 3 && stderr.contains("error: no package ") {
        return Answer::Version(None);
    }
    Answer::Failed { code, is_open: stderr.contains("the write may have happened"), why: stderr.to_owned() }
}
