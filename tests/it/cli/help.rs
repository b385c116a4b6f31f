//! Help, topics, completions and usage errors: instant, and without a look at any configuration.

use std::process::{Command, Stdio};

use rstest::rstest;

use super::home::Home;

const COMMANDS: [&str; 29] = [
    "list",
    "versions",
    "tags",
    "info",
    "add",
    "download",
    "tag",
    "untag",
    "history",
    "rollback",
    "hold",
    "release",
    "disown",
    "resolve",
    "diff",
    "verify",
    "presign",
    "init-container",
    "remove",
    "export",
    "import",
    "prune",
    "gc",
    "init",
    "doctor",
    "config",
    "completions",
    "man",
    "help",
];

/// A home whose configuration would fail every command that reads it.
fn broken_home() -> Home {
    Home::new().with("SACKER_CONFIG", "/nowhere").with("SACKER_LEDGER", "nonsense")
}

#[test]
fn the_help_of_every_command_begins_with_an_example() {
    let home = broken_home();
    for help in ["--help", "-h"] {
        for command in COMMANDS {
            let ran = home.run(&[command, help]);
            let begin = format!("Example:\n  {}", if command == "add" { "sacker add" } else { "" });
            assert!(ran.answer().starts_with(&begin), "{command}: {}", ran.stdout);
            assert!(ran.stdout.contains(&format!("sacker {command}")), "{command}: {}", ran.stdout);
            assert!(ran.stdout.contains(&format!("Usage: sacker {command}")), "{command}: {}", ran.stdout);
        }
        assert!(home.run(&[help]).answer().starts_with("Example:\n  sacker "));
    }
}

#[test]
fn the_list_of_commands_is_complete() {
    let text = broken_home().run(&["--help"]).answer().to_owned();
    let listed: Vec<_> = text
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(listed, COMMANDS);
}

#[test]
fn topics() {
    let home = broken_home();
    let codes = home.run(&["help", "exit-codes"]);
    for (exit, meaning) in sacker::exit::EXIT_CODES {
        assert!(codes.answer().contains(&format!("{:>5}  {meaning}\n", exit.code())));
    }
    assert!(home.run(&["help", "config"]).answer().contains("~/.sacker.json"));
    assert!(home.run(&["help", "output"]).answer().contains("-o json"));
    assert_eq!(home.run(&["help", "tag"]).answer(), home.run(&["tag", "-h"]).answer());
    assert!(home.run(&["help"]).answer().contains("sacker help exit-codes"));
    home.run(&["help", "exit-code"])
        .fails(2, "error: no command or topic 'exit-code'\nhint: did you mean 'exit-codes'?");
}

/// Whatever the command tree says is on the page, so a change of an option is a change of the page.
#[test]
fn the_reference_has_every_command_and_option() {
    let reference = broken_home().run(&["help", "reference"]).answer().to_owned();
    for command in COMMANDS {
        assert!(reference.contains(&format!("\n### sacker {command}\n")), "{command}");
    }
    assert!(reference.contains("\n### sacker config show\n"));
    assert!(reference.contains("--take-over"), "{reference}");
    assert_eq!(reference.matches("--timeout <TIME>").count(), 1, "global options stand there once");
    assert!(reference.lines().all(|line| line.chars().count() <= 100), "{reference}");
}

#[test]
fn manual_pages() {
    let home = broken_home();
    let page = home.run(&["man"]).answer().to_owned();
    assert!(page.contains(".TH sacker 1"), "{page}");
    let page = home.run(&["man", "add"]).answer().to_owned();
    assert!(page.contains(".TH sacker-add 1") && page.contains("sha256"), "{page}");
    let written = home.run(&["man", "--directory", "man1"]).answer().to_owned();
    let names: Vec<_> = written.lines().collect();
    assert_eq!(names.len(), COMMANDS.len() + 1);
    for name in names {
        assert!(
            std::fs::read_to_string(home.work().join(name)).expect("a page").contains(".SH NAME"),
            "{name}"
        );
    }
    home.run(&["man", "dowload"]).fails(2, "error: no command 'dowload'\nhint: did you mean 'download'?");
    home.run(&["man", "--directory", "/dev/null"]).fails(8, "error: cannot create '/dev/null': file exists");
}

#[test]
fn version_and_completions() {
    let home = broken_home();
    assert_eq!(home.run(&["--version"]).answer(), concat!("sacker ", env!("CARGO_PKG_VERSION"), "\n"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.run(&["completions", shell]).answer().contains("untag"), "{shell}");
    }
}

#[rstest]
#[case::no_command(&[], "Usage: sacker")]
#[case::unknown_command(&["lsit"], "error: no command 'lsit'\nhint: did you mean 'list'?\n")]
#[case::unknown_flag(&["list", "--colour"], "hint: did you mean '--color'?\n")]
#[case::missing_argument(&["info", "frontend-server"], "<SPEC>")]
#[case::unknown_format(&["list", "-o", "xml"], "hint: it is one of: table, json, yaml, name\n")]
#[case::spec_of_a_pod(&["info", "web@live"], "hint: package and version are two words: sacker info web live\n")]
#[case::destination(&["download", "web", "live", "app.jar"], "hint: the destination is an option: -o FILE\n")]
#[case::no_time(&["list", "--timeout", "0"], "is not a time such as 90s")]
#[case::unknown_shell(&["completions", "tcsh"], "bash")]
fn usage_errors(#[case] arguments: &[&str], #[case] message: &str) {
    let ran = broken_home().run(arguments);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains(message), "{}", ran.stderr);
}

#[test]
fn a_pipe_that_is_closed_early_is_no_failure() {
    let home = broken_home();
    for arguments in [["help", "config"], ["completions", "bash"], ["list", "--help"]] {
        let mut child = home.command(&arguments).stdout(Stdio::piped()).spawn().expect("sacker starts");
        drop(child.stdout.take());
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn the_scripts_of_bash_parse() {
    let home = broken_home();
    let script = home.file("completion.bash", home.run(&["completions", "bash"]).answer());
    let checked = Command::new("bash").arg("-n").arg(script).status().expect("bash starts");
    assert!(checked.success());
}
