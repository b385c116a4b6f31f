//! Names, tags and specs that somebody chose to do harm, or that read as something else: the command line, the schema on a real
//! API server and the ledgers refuse each of them, and for the same reason (S4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use rstest::rstest;
use sacker::error::{Error, Meaning};
use sacker::ledger::Ledger;
use sacker::model::{PackageName, Spec, TagName, Version};

use super::bench::shared;
use super::refusals::refusals;
use crate::cli::home::{Home, PACKAGE};
use crate::ledgers::bench::{moving, new_version};
use crate::support::ledgers::Target;

/// What is done with the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A package is added under this name.
    Package,
    /// A tag is set.
    Tag,
    /// A version is asked for; in the cluster, a tag is followed.
    Spec,
}

/// Why it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Empty,
    TooLong,
    Control,
    Dash,
    Ours,
    Slashes,
    Reserved,
    Latest,
    Number,
    Letters,
}

use Reason::{Control, Dash, Empty, Latest, Letters, Number, Ours, Reserved, Slashes, TooLong};

impl Reason {
    /// The words that command line, ledgers and schema all use for it. Where the schema gives a bound and not a rule, the API
    /// server's own words.
    const fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Empty => ("must not be empty", Some("should be at least 1 chars long")),
            TooLong => ("are allowed", Some("may not be more than")),
            Control => ("must not contain control characters", None),
            Dash => ("must not begin with '-'", None),
            Ours => ("are sacker's own", None),
            Slashes => ("must not begin or end with '/' or contain '//'", None),
            Reserved => ("is reserved", None),
            Latest => ("'latest' is reserved", None),
            Number => ("reads as a version number", None),
            Letters => ("must be letters, digits, '.', '_' and '-', beginning with a letter or digit", None),
        }
    }
}

/// A hostile text, what it is used as, and why that is refused.
type Case = (Use, String, Reason);

fn packages() -> Vec<(String, Reason)> {
    let long = |count| "x".repeat(count);
    let table: &[(&str, Reason)] = &[
        ("", Empty),
        (".", Reserved),
        ("..", Reserved),
        ("../", Slashes),
        ("../..", Reserved),
        ("../../etc/passwd", Reserved),
        ("a/../b", Reserved),
        ("a/..", Reserved),
        ("./a", Reserved),
        ("/", Slashes),
        ("/etc/passwd", Slashes),
        ("//server/share", Slashes),
        ("a//b", Slashes),
        ("a/", Slashes),
        ("versions", Reserved),
        ("a/versions", Reserved),
        ("a/versions/1", Reserved),
        ("tags", Reserved),
        ("a/tags/live", Reserved),
        ("history/a", Reserved),
        ("a/generations", Reserved),
        ("-a", Dash),
        ("--help", Dash),
        ("-", Dash),
        ("sacker:history:a", Ours),
        ("sacker:", Ours),
        ("_sacker", Ours),
        ("_sacker/ledger.json", Ours),
        ("a\0b", Control),
        ("a\nb", Control),
        ("a\rb", Control),
        ("a\tb", Control),
        ("a\u{7f}b", Control),
        ("a\u{1b}[2Jb", Control),
        ("a\u{85}b", Control),
        ("a\u{9b}31mb", Control),
        ("a\u{202e}gpj.b", Control),
        ("a\u{200f}b", Control),
        ("a\u{2066}b", Control),
        ("a\u{061c}b", Control),
    ];
    let table = table.iter().map(|(name, reason)| ((*name).to_owned(), *reason));
    // Bytes count, not letters.
    let long = [long(513), long(1025), "ä".repeat(257), format!("a/{}", "ö".repeat(256))];
    table.chain(long.map(|name| (name, TooLong))).collect()
}

fn tags() -> Vec<(String, Reason)> {
    let table: &[(&str, Reason)] = &[
        ("", Empty),
        ("latest", Latest),
        ("LATEST", Latest),
        ("LaTeSt", Latest),
        ("0", Number),
        ("42", Number),
        ("007", Number),
        ("99999999999999999999", Number),
        ("v42", Number),
        ("V1", Number),
        ("+1", Number),
        ("-1", Number),
        ("1_0", Number),
        ("_1", Number),
        ("../x", Letters),
        ("..%2f", Letters),
        ("..", Letters),
        (".hidden", Letters),
        ("/etc/passwd", Letters),
        ("li/ve", Letters),
        ("a@b@c", Letters),
        ("a+sha256:b", Letters),
        ("-live", Letters),
        ("--yes", Letters),
        ("live\0", Letters),
        ("live\n", Letters),
        ("li ve", Letters),
        ("li\u{202e}ve", Letters),
        ("\u{1b}[2J", Letters),
        // The same word for a reader, composed and decomposed.
        ("gr\u{f6}sse", Letters),
        ("gro\u{308}sse", Letters),
        // A letter of another script that looks like ours, and digits that are none of ours.
        ("l\u{456}ve", Letters),
        ("\u{661}\u{662}", Letters),
        ("l*", Letters),
        ("$(reboot)", Letters),
        ("live;x", Letters),
    ];
    let table = table.iter().map(|(tag, reason)| ((*tag).to_owned(), *reason));
    table.chain([129, 1025].map(|count| ("x".repeat(count), TooLong))).collect()
}

/// What is a tag's fault is one of a spec too, except what is a fine spec: `latest` and plain numbers. (Numbers that no version
/// can have are refused as such by the command line, and cannot be written as a number in an object.)
fn specs() -> Vec<(String, Reason)> {
    let is_version = |text: &str| !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_other = |text: &str| !text.is_empty() && (text == "latest" || is_version(text));
    tags().into_iter().filter(|(text, _)| !is_other(text)).collect()
}

fn cases() -> Vec<Case> {
    let of = |usage: Use, table: Vec<(String, Reason)>| {
        table.into_iter().map(move |(text, reason)| (usage, text, reason))
    };
    of(Use::Package, packages()).chain(of(Use::Tag, tags())).chain(of(Use::Spec, specs())).collect()
}

#[test]
fn there_are_enough_of_them() {
    let texts: std::collections::BTreeSet<String> = cases().into_iter().map(|(_, text, _)| text).collect();
    assert!(texts.len() >= 60, "{}", texts.len());
}

#[test]
fn the_command_line_refuses_them() {
    let home = Home::with_two_versions();
    home.file("app.jar", "one\n");
    let before = crate::cli::home::files(&home.path(""));
    for (usage, text, reason) in cases() {
        // The system itself passes no such argument.
        if text.contains('\0') {
            continue;
        }
        let arguments = match usage {
            Use::Package => ["add", "--", &text, "app.jar"].to_vec(),
            Use::Tag => ["tag", "--", PACKAGE, "1", &text].to_vec(),
            Use::Spec => ["info", "--", PACKAGE, &text].to_vec(),
        };
        let ran = home.run(&arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{usage:?} {text:?}: {ran:?}");
        // A spec that is not there is told as such: it is never taken for something else.
        let words =
            if (usage, reason) == (Use::Spec, Empty) { "the spec is empty" } else { reason.words().0 };
        assert!(ran.stderr.contains(words), "{usage:?} {text:?} for another reason: {ran:?}");
        assert!(ran.stderr.chars().all(|letter| letter == '\n' || !letter.is_control()), "{ran:?}");
        assert!(!ran.stderr.contains('\u{202e}'), "{ran:?}");
    }
    assert_eq!(crate::cli::home::files(&home.path("")), before, "nothing was written");
}

/// How each ledger refuses a text: asked past every check of the command line.
async fn refusal(ledger: &Arc<dyn Ledger>, package: &PackageName, usage: Use, text: &str) -> Option<Error> {
    match usage {
        Use::Package => ledger.add(&PackageName::existing(text), &new_version(text)).await.err(),
        Use::Tag => ledger.change_tag(package, &TagName::existing(text), &moving(Version::FIRST)).await.err(),
        // What its decoder takes for a tag is looked up, and then judged.
        Use::Spec => match text.parse::<Spec>() {
            Ok(spec) => ledger.resolve(package, &spec).await.err().map(Error::or_broken_rule),
            Err(error) => Some(error),
        },
    }
}

#[rstest]
#[case::memory(Target::Memory)]
#[case::file(Target::File)]
#[case::git(Target::Git)]
#[case::minio(Target::Minio)]
#[case::versitygw(Target::Versitygw)]
#[case::dynamo(Target::Dynamo)]
#[case::zookeeper(Target::ZooKeeper)]
#[tokio::test]
async fn the_ledgers_refuse_them(#[case] target: Target) {
    let Some(opened) = target.open().await else { return };
    let package = PackageName::existing(crate::support::unique("hostile"));
    opened.ledger.add(&package, &new_version("one")).await.expect("a package");
    for (usage, text, reason) in cases() {
        let error = refusal(&opened.ledger, &package, usage, &text).await;
        let error = error.unwrap_or_else(|| panic!("{usage:?} {text:?} was accepted"));
        assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{usage:?} {text:?}: {error}");
        let words = match (usage, reason) {
            (Use::Spec, Empty) => "the spec is empty",
            // Where it is asked for as a tag to be changed, the one word that is computed is no stored tag.
            (Use::Tag, Latest) if text == "latest" => "it always is the newest version",
            _ => reason.words().0,
        };
        assert!(error.to_string().contains(words), "{usage:?} {text:?} for another reason: {error}");
    }
    assert_eq!(opened.ledger.tags(&package).await.expect("tags"), [], "no tag was written");
}

#[test]
fn the_schema_refuses_them() {
    if shared().is_none() {
        return;
    }
    let specs: Vec<String> = cases().iter().map(|(usage, text, _)| object(*usage, text)).collect();
    let documents: Vec<(String, String, &str)> = specs
        .iter()
        .enumerate()
        .map(|(number, spec)| ("SackerTag".to_owned(), format!("case-{number}-x"), spec.as_str()))
        .collect();
    let found = refusals(&documents);
    for (number, (usage, text, reason)) in cases().iter().enumerate() {
        let message = found.get(&format!("case-{number}-x"));
        let message = message.unwrap_or_else(|| panic!("{usage:?} {text:?} was accepted"));
        let (ours, theirs) = reason.words();
        let is_told = message.contains(ours) || theirs.is_some_and(|theirs| message.contains(theirs));
        assert!(is_told, "{usage:?} {text:?} for another reason: {message}");
        assert!(!message.contains('\u{1b}') && !message.contains('\u{202e}'), "{text:?}: {message}");
    }
}

/// The spec of a SackerTag that uses the text.
fn object(usage: Use, text: &str) -> String {
    let text = quoted(text);
    match usage {
        Use::Package => format!("package: {text}, tag: live, version: 1"),
        Use::Tag => format!("package: p, tag: {text}, version: 1"),
        Use::Spec => format!("package: p, tag: live, follow: {{tag: {text}}}"),
    }
}

/// A text in YAML, whatever is in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        if letter.is_ascii_graphic() && !matches!(letter, '"' | '\\') {
            quoted.push(letter);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(quoted, "\\U{:08x}", u32::from(letter));
        }
    }
    quoted + "\""
}

/// What only looks dangerous is a name as any other, everywhere the same: taken as it is, byte by byte.
#[tokio::test]
async fn names_that_only_look_dangerous_stay_what_they_are() {
    let names =
        ["..%2f", "..%2fetc", "a@b@c", "gr\u{f6}sse", "gro\u{308}sse", "...", "a:b", "~", "a b", "%00", "1"];
    let home = Home::new();
    home.file("app.jar", "one\n");
    for name in names {
        assert_eq!(home.run(&["add", "--", name, "app.jar"]).answer(), "1\n", "{name}");
    }
    let listed = home.run(&["list"]);
    let mut listed: Vec<&str> = listed.answer().lines().collect();
    let mut expected = names.to_vec();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected, "both spellings of one word are two packages");
    let outside = crate::cli::home::files(&home.path(""));
    let outside: Vec<_> = outside.iter().filter(|path| !path.starts_with(home.data())).collect();
    assert_eq!(outside, [&home.work().join("app.jar")], "nothing is outside of the ledger and the store");

    let specs: BTreeMap<String, String> = names
        .iter()
        .enumerate()
        .map(|(number, name)| (format!("fine-{number}-x"), object(Use::Package, name)))
        .collect();
    let documents: Vec<(String, String, &str)> =
        specs.iter().map(|(name, spec)| ("SackerTag".to_owned(), name.clone(), spec.as_str())).collect();
    assert_eq!(refusals(&documents), BTreeMap::new());
}
