//! A command line for every command, in an order in which each has something to do.

use std::collections::BTreeSet;

use crate::cli::home::{Home, PACKAGE, Ran};

/// The words of each command line.
pub(super) const STORY: &[&[&str]] = &[
    &["init", "--versions", "sequence", "--no-probe"],
    &["config", "show", "--origin"],
    &["add", PACKAGE, "app.jar", "--meta", "commit=1"],
    &["add", PACKAGE, "other.jar"],
    &["list"],
    &["versions", PACKAGE, "-o", "json"],
    &["tag", PACKAGE, "1", "live", "--reason", "the first"],
    &["tag", PACKAGE, "2", "live"],
    &["tags", PACKAGE, "-o", "yaml"],
    &["info", PACKAGE, "live"],
    &["history", PACKAGE, "live"],
    &["resolve", "frontend-server@live"],
    &["diff", PACKAGE, "1", "live"],
    &["download", PACKAGE, "live", "-o", "out.jar"],
    &["presign", PACKAGE, "live"],
    &["init-container", "frontend-server@live", "--pin"],
    &["hold", PACKAGE, "live", "--reason", "freeze"],
    &["release", PACKAGE, "live"],
    &["rollback", PACKAGE, "live"],
    &["release", PACKAGE, "live"],
    &["tag", PACKAGE, "2", "live", "--take-over"],
    &["disown", PACKAGE, "live", "--yes"],
    &["verify", PACKAGE, "--blobs"],
    &["doctor", "--no-probe"],
    &["export", "-o", "dump"],
    &["import", "dump", "--dry-run"],
    &["untag", PACKAGE, "live", "--yes"],
    &["remove", PACKAGE, "1", "--yes"],
    &["prune", "--keep-last", "1"],
    &["gc", "--all"],
    &["completions", "bash"],
    &["man"],
    &["help", "config"],
];

/// They ask no backend.
pub(super) const OFFLINE: &[&str] = &["completions", "config", "help", "init-container", "man"];

/// The commands, by the help.
fn listed() -> BTreeSet<String> {
    let help = Home::new().run(&["--help"]).answer().to_owned();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

#[test]
fn the_story_has_every_command() {
    let told: BTreeSet<String> = STORY.iter().map(|words| words[0].to_owned()).collect();
    assert_eq!(told, listed());
}

/// What each run came to, with its words.
pub(super) type Runs = Vec<(&'static [&'static str], Ran)>;

/// Runs the whole story in its order, as talkative as it can be.
pub(super) fn tell(home: &Home, more: &[&str]) -> Runs {
    STORY.iter().map(|words| (*words, one(home, words, more))).collect()
}

/// Runs every command once, several at a time: where nothing works, no order matters.
pub(super) fn try_each(home: &Home, more: &[&str]) -> Runs {
    const AT_A_TIME: usize = 8;
    let mut runs = Runs::new();
    for some in STORY.chunks(AT_A_TIME) {
        std::thread::scope(|scope| {
            let starting: Vec<_> =
                some.iter().map(|words| scope.spawn(move || (*words, one(home, words, more)))).collect();
            runs.extend(starting.into_iter().map(|thread| thread.join().expect("it ran")));
        });
    }
    runs
}

fn one(home: &Home, words: &[&str], more: &[&str]) -> Ran {
    home.run(&[&["-vv"], more, words].concat())
}
