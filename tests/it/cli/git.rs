//! A ledger in a git repository, as its user sees it: the verbs, the log, and what goes wrong.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::home::{Home, PACKAGE};
use crate::support::git_http::GitHttp;
use crate::support::testbed;

/// A home whose ledger is a bare repository in it.
fn home() -> Option<Home> {
    testbed::git()?;
    let home = Home::new();
    let (ledger, store) = (
        format!("git+file://{}", home.path("r.git").display()),
        format!("file://{}", home.path("s").display()),
    );
    Some(home.with("SACKER_LEDGER", &ledger).with("SACKER_STORE", &store))
}

/// The same, set up, with two versions.
fn with_two_versions() -> Option<Home> {
    let home = home()?;
    home.run(&["init"]).answer();
    for content in ["one", "two"] {
        home.file("app.jar", content);
        home.run(&["add", PACKAGE, "app.jar"]).answer();
    }
    Some(home)
}

/// What git prints about the repository.
fn ask_git(home: &Home, arguments: &[&str]) -> String {
    let option = format!("--git-dir={}", home.path("r.git").display());
    let output = Command::new("git").arg(option).args(arguments).output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Somebody edits the branch by hand: a file of this mode.
fn edit(home: &Home, mode: &str, path: &str, content: &str) {
    let option = format!("--git-dir={}", home.path("r.git").display());
    let mut git = Command::new("git")
        .args([&option, "fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("git starts");
    let stream = format!(
        "commit refs/heads/main\ncommitter a <a@b> 1700000000 +0000\ndata 1\nx\nfrom refs/heads/main^0\n\
         M {mode} inline {path}\ndata {}\n{content}\n\n",
        content.len()
    );
    git.stdin.take().expect("it is piped").write_all(stream.as_bytes()).expect("git reads");
    assert!(git.wait().expect("git ends").success());
}

#[test]
fn the_log_of_the_repository_is_the_history_of_the_ledger() {
    let Some(home) = home() else { return };
    let done = home.run(&["init"]).answer().to_owned();
    let repository = home.path("r.git");
    assert!(
        done.starts_with(&format!(
            "ledger: created repository '{}' with branch 'main'\nledger: versions are numbered by sequence\n",
            repository.display()
        )),
        "{done}"
    );
    assert_eq!(home.run(&["init"]).stderr, "note: nothing to do: everything is there\n");
    let home = home.with("SACKER_USER", "ann@build-7");
    for (content, version) in [("one", "1\n"), ("two", "2\n")] {
        home.file("app.jar", content);
        assert_eq!(home.run(&["add", PACKAGE, "app.jar"]).answer(), version);
    }
    home.run(&["tag", PACKAGE, "1", "live", "--reason", "the first"]).answer();
    home.run(&["tag", PACKAGE, "2", "live", "--reason", "works"]).answer();
    home.run(&["hold", PACKAGE, "live", "--reason", "a freeze"]).answer();
    assert_eq!(home.run(&["list"]).answer(), "frontend-server\n");
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "live\t2\n");
    assert_eq!(
        home.run(&["history", PACKAGE, "live", "-o", "json"]).json().as_array().map(Vec::len),
        Some(3)
    );
    home.run(&["verify", PACKAGE]).answer();
    home.run(&["download", PACKAGE, "live", "-o", "fetched"]).answer();
    assert_eq!(fs::read(home.work().join("fetched")).expect("fetched"), b"two");

    let subjects = ask_git(&home, &["log", "--format=%an <%ae> %s", "main"]);
    for line in [
        "ann@build-7 <ann@build-7> frontend-server: add version 1",
        "ann@build-7 <ann@build-7> frontend-server: add version 2",
        "ann@build-7 <ann@build-7> frontend-server: set 'live' to 1",
        "ann@build-7 <ann@build-7> frontend-server: move 'live' from 1 to 2",
        "ann@build-7 <ann@build-7> frontend-server: hold 'live'",
        "sacker <sacker@sacker.invalid> ledger: begin",
    ] {
        assert_eq!(subjects.lines().filter(|subject| *subject == line).count(), 1, "{line}\n{subjects}");
    }
    let moved = ask_git(&home, &["log", "--grep=move 'live' from 1 to 2$", "--format=%b", "main"]);
    let id =
        home.run(&["history", PACKAGE, "live", "-o", "json"]).json()[1]["id"].as_str().map(str::to_owned);
    assert!(moved.contains("works\n"), "{moved}");
    assert!(moved.contains(&format!("Sacker-Source: cli\nSacker-Id: {}\n", id.expect("an id"))), "{moved}");
    assert!(ask_git(&home, &["fsck", "--strict"]).is_empty());
    // What else is on the branch is nobody's package.
    edit(&home, "100644", "README.md", "# read me");
    edit(&home, "100644", ".github/workflows/x.yml", "x");
    assert_eq!(home.run(&["list"]).answer(), "frontend-server\n");
    assert_eq!(home.run(&["doctor", "--no-probe"]).code, Some(0));
}

#[test]
fn a_branch_is_a_ledger_of_its_own() {
    let Some(home) = with_two_versions() else { return };
    let other = format!("git+file://{}?branch=team/b", home.path("r.git").display());
    let ran = home.run(&["list", "--ledger", &other]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.starts_with("error: branch 'team/b' of repository 'file://"), "{ran:?}");
    assert!(ran.stderr.contains("create it with: sacker --ledger"), "{ran:?}");
    let done = home.run(&["init", "--ledger", &other]).answer().to_owned();
    assert!(done.contains("ledger: created branch 'team/b'\n"), "{done}");
    assert_eq!(home.run(&["list", "--ledger", &other]).answer(), "");
    home.file("app.jar", "three");
    assert_eq!(home.run(&["add", "other", "app.jar", "--ledger", &other]).answer(), "1\n");
    assert_eq!(home.run(&["list"]).answer(), "frontend-server\n");
}

#[test]
fn a_missing_repository_is_named_with_what_to_do() {
    let Some(home) = home() else { return };
    let ran = home.run(&["versions", PACKAGE]);
    ran.fails(
        3,
        &format!(
            "error: repository 'file://{}' does not exist\nhint: if that is its right name, create it with: sacker init",
            home.path("r.git").display()
        ),
    );
    let server = GitHttp::start(&home.path("work"));
    let far = server.uri("none.git");
    for command in [&["list"][..], &["init"]] {
        let ran = home.run(&[command, &["--ledger", &far]].concat());
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(ran.stderr.contains("/none.git' does not exist"), "{ran:?}");
        assert!(ran.stderr.contains("hint: make an empty repository on the server first"), "{ran:?}");
    }
    // A directory with something else in it stays as it is.
    fs::create_dir(home.path("r.git")).expect("made");
    fs::write(home.path("r.git/mine"), "x").expect("written");
    let ran = home.run(&["init"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("is no bare git repository, and not empty"), "{ran:?}");
}

#[test]
fn a_server_that_is_away_ends_it_in_time() {
    let Some(home) = home() else { return };
    // One that nobody listens at, and one that takes a connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let away = testbed::free_ports(1)[0];
    for (port, longest) in [(away, 10), (silent.local_addr().expect("it is bound").port(), 10)] {
        let ledger = format!("git+http://127.0.0.1:{port}/r.git");
        let started = Instant::now();
        let ran = home.run(&["list", "--ledger", &ledger, "--timeout", "2s"]);
        assert_eq!(ran.code, Some(7), "{ran:?}");
        assert!(started.elapsed() < Duration::from_secs(longest), "{:?}", started.elapsed());
    }
}

#[test]
fn a_hook_that_refuses_is_quoted() {
    let Some(home) = with_two_versions() else { return };
    let hook = home.path("r.git/hooks/pre-receive");
    fs::create_dir_all(home.path("r.git/hooks")).expect("made");
    fs::write(&hook, "#!/bin/sh\necho 'branch main is protected: ask the release team' >&2\nexit 1\n")
        .expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("executable");
    for command in [&["tag", PACKAGE, "2", "live"][..], &["add", PACKAGE, "app.jar"]] {
        let ran = home.run(command);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(6), ""), "{ran:?}");
        assert!(ran.stderr.contains("branch main is protected: ask the release team"), "{ran:?}");
        assert!(ran.stderr.contains("pre-receive hook declined"), "{ran:?}");
    }
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "");
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n2\n");
}

#[test]
fn no_git_or_an_old_one_is_said() {
    let Some(home) = with_two_versions() else { return };
    let empty = home.path("empty");
    fs::create_dir(&empty).expect("made");
    let with_path = |path: &Path| {
        let output = home.command(&["list"]).env("PATH", path).output().expect("sacker starts");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, said) = with_path(&empty);
    let expected = "error: a git ledger needs the program 'git', and there is none in PATH\n\
                    hint: install git 2.30 or newer, or set PATH\n";
    assert_eq!((code, said.as_str()), (Some(2), expected));
    let fake = empty.join("git");
    fs::write(&fake, "#!/bin/sh\necho 'git version 2.20.1'\n").expect("written");
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("executable");
    let (code, said) = with_path(&empty);
    let expected = format!(
        "error: '{}' is too old for a git ledger: git version 2.20.1\n\
         hint: install git 2.30 or newer, or put it first in PATH\n",
        fake.display()
    );
    assert_eq!((code, said), (Some(2), expected));
}

#[test]
fn a_file_that_was_edited_by_hand_is_named() {
    let Some(home) = with_two_versions() else { return };
    let path = "frontend-server/versions/2";
    for (mode, content) in [("100644", "{"), ("120000", "../1")] {
        edit(&home, mode, path, content);
        let ran = home.run(&["info", PACKAGE, "2"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""), "{ran:?}");
        assert!(ran.stderr.contains(path), "{ran:?}");
        assert_eq!(home.run(&["info", PACKAGE, "1", "-o", "name"]).code, Some(0));
    }
}

#[test]
fn the_cache_has_a_place_or_says_so() {
    let Some(home) = with_two_versions() else { return };
    let blocked = home.path("file");
    fs::write(&blocked, "x").expect("written");
    let output = home.command(&["tag", PACKAGE, "1", "live"]).env("XDG_CACHE_HOME", &blocked).output();
    let output = output.expect("sacker starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(
        said.contains("file/sacker/git'") && said.contains("XDG_CACHE_HOME names another place"),
        "{said}"
    );
    let output = home.command(&["tag", PACKAGE, "1", "live"]).env_remove("HOME").output();
    let output = output.expect("sacker starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("neither XDG_CACHE_HOME nor HOME says where"), "{said}");
    // A clone that was cut short is made anew.
    let clones = home.path(".cache/sacker/git");
    for entry in fs::read_dir(clones).expect("a cache").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            fs::write(entry.join("config"), "[core").expect("spoilt");
        }
    }
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "live\t1\n");
}
