//! Documents whose commands are really run: each must print what the document says.
//!
//! `SACKER_UPDATE=1 cargo test --test it transcripts` writes what is printed into the documents. Look at every line that
//! changes: an answer that is wrong, ugly or of no help is a fault of the product.

mod difference;
mod document;
mod normal;
mod runner;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sacker::environment::Environment;

use self::difference::difference;
use self::document::Document;

/// The fewest commands that the transcripts have together, without the tour.
const COMMANDS: usize = 150;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("tests/it/transcripts")
}

/// Runs a document and compares, or writes it with `SACKER_UPDATE=1`.
fn check(path: &Path) {
    let text = fs::read_to_string(path).expect("the document can be read");
    let Some(found) = runner::run(&text, &folder()) else { return };
    if found == text {
        return;
    }
    if Environment::of_process().get("SACKER_UPDATE").is_some() {
        fs::write(path, found).expect("the document can be written");
        return;
    }
    panic!(
        "{} does not say what its commands print (-: it says, +: they print):\n{}\nif that is right: SACKER_UPDATE=1",
        path.display(),
        difference(&text, &found)
    );
}

/// A test per document, and the list of them.
macro_rules! documents {
    ($($name:ident: $file:literal,)*) => {
        $(
            #[test]
            fn $name() {
                check(&folder().join($file));
            }
        )*

        const DOCUMENTS: &[&str] = &[$($file),*];
    };
}

documents! {
    answers: "answers.md",
    aws: "aws.md",
    colours: "colours.md",
    dry_runs: "dry-runs.md",
    exit_codes: "exit-codes.md",
    git: "git.md",
    help: "help.md",
    hints: "hints.md",
    holds: "holds.md",
    new_commands: "new-commands.md",
    on_dynamodb: "dynamodb.md",
    on_s3: "s3.md",
    questions: "questions.md",
    streams: "streams.md",
    upkeep: "upkeep.md",
    widths: "widths.md",
    words: "words.md",
}

#[test]
fn the_tour() {
    check(&root().join("docs/tour.md"));
}

#[test]
fn the_quickstart() {
    check(&root().join("docs/quickstart.md"));
}

fn read(name: &str) -> Document {
    let text = fs::read_to_string(folder().join(name)).expect("the document can be read");
    Document::parse(&text).unwrap_or_else(|why| panic!("{name}: {why}"))
}

#[test]
fn every_document_is_run() {
    let paths = fs::read_dir(folder()).expect("the folder").map(|entry| entry.expect("an entry").path());
    let documents = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let there: BTreeSet<PathBuf> = documents.collect();
    assert_eq!(there, DOCUMENTS.iter().map(|name| folder().join(name)).collect());
}

#[test]
fn there_are_enough_commands() {
    let ours = |document: &Document| document.steps().filter(|step| step.command.contains("sacker")).count();
    let count: usize = DOCUMENTS.iter().map(|name| ours(&read(name))).sum();
    assert!(count >= COMMANDS, "{count} commands");
}

/// Whatever `sacker --help` lists explains itself in some document.
#[test]
fn the_help_of_every_command_is_shown() {
    let documents: Vec<Document> = DOCUMENTS.iter().map(|name| read(name)).collect();
    let steps = || documents.iter().flat_map(Document::steps);
    let list = steps().find(|step| step.command == "sacker --help").expect("the list of commands");
    let listed = list.output.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    let commands: BTreeSet<&str> = steps().map(|step| step.command.as_str()).collect();
    let missing: Vec<&str> =
        names.clone().filter(|name| !commands.contains(format!("sacker {name} --help").as_str())).collect();
    assert!(names.count() > 20 && missing.is_empty(), "{missing:?}");
}

/// The document of exit codes reaches each of them.
#[test]
fn every_exit_code_is_reached() {
    let reached: BTreeSet<u8> = read("exit-codes.md").steps().map(document::Step::exit_code).collect();
    let known: BTreeSet<u8> = sacker::exit::EXIT_CODES.iter().map(|(exit, _)| exit.code()).collect();
    assert_eq!(reached, known);
}
