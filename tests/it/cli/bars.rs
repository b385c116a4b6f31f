//! A large file on a terminal: a bar that moves while it is added and fetched, and nothing of it left at the end.

use std::collections::BTreeSet;
use std::process::Command;

use super::home::{Home, PACKAGE};
use crate::support::terminal;
use crate::support::tier::figure;

/// The amounts that a bar of `verb` showed, such as `12.00 MiB/96.00 MiB`.
fn amounts(printed: &str, verb: &str) -> BTreeSet<String> {
    let lines = printed.split(['\r', '\n']);
    let bars = lines.filter_map(|line| line.rsplit("\u{1b}[2K").next()?.strip_prefix(verb));
    bars.filter_map(|bar| bar.split("] ").nth(1)?.split(' ').next().map(str::to_owned)).collect()
}

fn on_a_terminal(home: &Home, arguments: &[&str]) -> String {
    let mut command: Command = home.command(arguments);
    command.env("TERM", "xterm");
    let (printed, status) = terminal::run(command, 100, None);
    assert!(status.success(), "{printed}");
    printed
}

#[test]
fn a_bar_moves() {
    let home = Home::new();
    let size: usize = figure(256 << 20, 2_000_000_000);
    let file = home.file("app.jar", b"");
    // Zeros: what is hashed and copied is not what is on disk.
    std::fs::File::options()
        .write(true)
        .open(file)
        .and_then(|file| file.set_len(size as u64))
        .expect("a size");
    // The second time it is most likely there, so that it is hashed only.
    for (verb, version) in [("uploading", 1), ("hashing", 2)] {
        let added = on_a_terminal(&home, &["add", PACKAGE, "app.jar"]);
        assert!(amounts(&added, verb).len() > 1, "{verb} moves: {added:?}");
        let settled = terminal::settled(&added);
        assert!(settled.ends_with(&format!("\n{version}\n")) && !settled.contains(verb), "{settled:?}");
    }

    let fetched = on_a_terminal(&home, &["download", PACKAGE, "latest", "-o", "fetched.jar"]);
    assert!(amounts(&fetched, "downloading").len() > 1, "{fetched:?}");
    assert_eq!(terminal::settled(&fetched).lines().last(), Some("fetched.jar"));

    for arguments in
        [&["-q", "add", PACKAGE, "app.jar"][..], &["-q", "download", PACKAGE, "1", "-o", "again.jar"]]
    {
        let printed = on_a_terminal(&home, arguments);
        assert_eq!(printed.lines().count(), 1, "{printed:?}");
        assert!(!printed.contains('\u{1b}'), "{printed:?}");
    }
}
