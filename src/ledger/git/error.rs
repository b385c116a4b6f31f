//! What git's words mean. It has one exit code for most failures, so its texts (in the language `C`) are what there is.
//!
//! Pure. No message carries a credential: those of an address are taken out of everything that git said.

use crate::error::{Error, Meaning, Missing};
use crate::model::{GitLocation, GitRemote};

/// A kind of failure, by what git said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The server, or a directory, does not let us.
    Denied,
    /// There is no repository.
    Missing,
    /// The repository has no such branch.
    NoBranch,
    /// The server asks for less load.
    Throttled,
    /// It did not get as far as the server: nothing was sent.
    Unreached,
    /// The server did not answer, or not to the end.
    Away,
    /// The clone in the cache is damaged.
    Broken,
    Other,
}

/// In the order in which they count: a refusal is often followed by a general complaint.
const WORDS: &[(Class, &[&str])] = &[
    (Class::NoBranch, &["couldn't find remote ref"]),
    (
        Class::Denied,
        &[
            "permission denied",
            "authentication failed",
            "could not read username",
            "could not read password",
            "host key verification failed",
            "returned error: 401",
            "returned error: 403",
            "http 401",
            "http 403",
            "access denied",
            "insufficient permission",
            "not authorized",
            "unauthorized",
            "dubious ownership",
            "read-only file system",
            "you are not allowed",
            "not allowed to push",
        ],
    ),
    (
        Class::Missing,
        &[
            "does not appear to be a git repository",
            "repository not found",
            "returned error: 404",
            "http 404",
            "could not be found",
            "' not found",
            "no such repository",
        ],
    ),
    (Class::Throttled, &["returned error: 429", "http 429", "too many requests"]),
    (
        Class::Unreached,
        &[
            "could not resolve host",
            "connection refused",
            "failed to connect",
            "couldn't connect",
            "network is unreachable",
            "no route to host",
            "connect to host",
        ],
    ),
    (
        Class::Away,
        &[
            "timed out",
            "connection reset",
            "early eof",
            "hung up",
            "returned error: 5",
            "http 5",
            "empty reply",
            "unexpected disconnect",
            "connection closed",
            "rpc failed",
            "broken pipe",
            "recv failure",
            "send failure",
            "transfer closed",
            "unable to access",
            "expected flush after",
            "invalid server response",
            "bad band",
            "protocol error",
            "bad line length",
            "unexpected eof",
            "expected 'packfile'",
            "remote helper",
            "could not read from remote",
            "operation too slow",
            "expected response end packet",
        ],
    ),
    (
        Class::Broken,
        &[
            "not a git repository",
            "object file",
            "bad object",
            "loose object",
            "bad config",
            "packfile",
            "corrupt",
            "unable to read",
            "could not read",
            "failed to read",
            "could not parse",
            "not a valid object",
            "not valid",
            "does not match any",
            "missing blob",
            "missing tree",
            "missing commit",
            "invalid object",
            "bad tree",
            "not a commit",
        ],
    ),
];

/// What kind of failure git tells of.
pub(super) fn class(said: &str) -> Class {
    let text = said.to_lowercase();
    let known = WORDS.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)));
    match known {
        // The server's own trouble is none of the clone's.
        Some((Class::Broken, words)) => {
            let ours = text.lines().filter(|line| !line.starts_with("remote:"));
            let is_ours = ours.clone().any(|line| words.iter().any(|word| line.contains(word)));
            if is_ours { Class::Broken } else { Class::Away }
        }
        Some((class, _)) => *class,
        None => Class::Other,
    }
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The branch is at our commit.
    Done,
    /// The branch moved, or somebody is just moving it; nothing of ours was written.
    Moved,
    /// The server refused it: its own words.
    Refused(String),
    /// It failed so, and nothing was written.
    Failed(Class),
    /// Nobody knows.
    Unknown,
}

/// The server's reasons that mean "somebody else was faster".
const MOVED: &[&str] = &[
    "fetch first",
    "non-fast-forward",
    "stale info",
    "failed to update ref",
    "cannot lock ref",
    "failed to lock",
    "already exists",
    "incorrect old value",
    "unable to lock",
    "cannot update ref",
    "transaction",
];

/// Reads what `git push --porcelain` printed.
pub(super) fn pushed(is_success: bool, stdout: &str, stderr: &str) -> Pushed {
    let mut rows = stdout.lines().filter(|line| line.split('\t').count() >= 3);
    if let Some(row) = rows.next() {
        let flag = row.chars().next().unwrap_or_default();
        let summary = row.split('\t').nth(2).unwrap_or_default();
        let reason = summary.split_once('(').map_or(summary, |(_, rest)| rest.trim_end_matches(')'));
        return match flag {
            ' ' | '*' | '=' if is_success => Pushed::Done,
            '!' if summary.contains("[remote failure]") || reason.contains("failed to report") => {
                Pushed::Unknown
            }
            '!' if MOVED.iter().any(|word| reason.contains(word)) => Pushed::Moved,
            '!' if reason.contains("unpacker error") => match class(stderr) {
                Class::Denied => Pushed::Failed(Class::Denied),
                _ => Pushed::Failed(Class::Away),
            },
            '!' if reason.to_lowercase().contains("server error") => Pushed::Failed(Class::Away),
            '!' => Pushed::Refused(refusal(reason, stderr)),
            _ => Pushed::Unknown,
        };
    }
    match class(stderr) {
        _ if is_success => Pushed::Done,
        Class::Away | Class::Other | Class::NoBranch => Pushed::Unknown,
        known => Pushed::Failed(known),
    }
}

/// The words of the server, or of its hook, for a person.
fn refusal(reason: &str, stderr: &str) -> String {
    let said = clean(stderr);
    let words = said.lines().filter_map(|line| line.strip_prefix("remote:")).map(str::trim);
    let words: Vec<&str> = words.filter(|line| !line.is_empty()).collect();
    let text = words.join("; ");
    let text: String = text.chars().take(500).collect();
    if text.is_empty() { clean(reason) } else { format!("{text} ({})", clean(reason)) }
}

/// What git said without control characters, and without what stands before the `@` of an address.
pub(super) fn clean(said: &str) -> String {
    let is_kept = |letter: &char| !letter.is_control() || *letter == '\n';
    let said: String = said.trim().chars().filter(is_kept).collect();
    let mut clean = String::with_capacity(said.len());
    let mut rest = said.as_str();
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end = after.find(|letter: char| letter.is_whitespace() || "/'\"".contains(letter));
        let authority = &after[..end.unwrap_or(after.len())];
        rest = authority.rfind('@').map_or(after, |at| &after[at + 1..]);
    }
    clean + rest
}

/// The repository, for messages.
pub(super) fn repository(location: &GitLocation) -> String {
    format!("repository '{}'", location.url())
}

/// There is no such repository, or none that we may see.
pub(super) fn missing(location: &GitLocation, operation: &'static str) -> Error {
    let error = Error::new(Meaning::NotFound(Missing::Backend(repository(location))), operation);
    match &location.remote {
        GitRemote::File(_) => error.with_hint(format!("create it with: sacker --ledger {location} init")),
        GitRemote::Ssh { .. } | GitRemote::Http { .. } => error.with_hint(
            "make an empty repository on the server first (git init --bare), and check that these credentials may \
             see it",
        ),
    }
}

/// The repository has no such branch, so there is no ledger yet.
pub(super) fn no_branch(location: &GitLocation, operation: &'static str) -> Error {
    let what = format!("branch '{}' of {}", location.branch, repository(location));
    Error::new(Meaning::NotFound(Missing::Backend(what)), operation)
        .with_hint(format!("create it with: sacker --ledger {location} init"))
}

/// The error of a failure of this class, with git's words underneath.
pub(super) fn of(class: Class, location: &GitLocation, operation: &'static str, said: &str) -> Error {
    let meaning = match class {
        Class::Denied => {
            let said = said.to_lowercase();
            let error = Meaning::Denied { action: "git access".to_owned(), resource: repository(location) };
            let hint = if said.contains("host key verification failed") {
                "ssh does not know the server's key: add it to known_hosts"
            } else if said.contains("dubious ownership") {
                "the repository belongs to somebody else: add it to safe.directory in git's configuration"
            } else if matches!(location.remote, GitRemote::File(_)) {
                "check who owns the repository, and that it is not mounted read-only"
            } else {
                "check the key or the credential helper that git uses, and what it may do"
            };
            return Error::new(error, operation).with_hint(hint).with_source(clean(&said));
        }
        Class::Missing => return missing(location, operation).with_source(clean(said)),
        Class::NoBranch => return no_branch(location, operation).with_source(clean(said)),
        Class::Throttled => Meaning::Throttled,
        Class::Unreached | Class::Away => Meaning::Unavailable,
        Class::Broken | Class::Other => Meaning::Other,
    };
    let said = clean(said);
    let error = Error::new(meaning, operation).with_key(location.url());
    if said.is_empty() { error } else { error.with_source(said) }
}

/// The server refused a commit.
pub(super) fn refused(location: &GitLocation, words: &str) -> Error {
    let action = format!("push to branch '{}'", location.branch);
    let resource = format!("{}: {words}", repository(location));
    Error::new(Meaning::Denied { action, resource }, "write a record")
        .with_key(location.url())
        .with_hint("the branch of a ledger must take fast-forward pushes of those who write to it")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As git 2.39, GitHub, GitLab and OpenSSH say it.
    #[test]
    fn recorded_texts_have_their_meaning() {
        for (said, expected) in [
            ("fatal: couldn't find remote ref refs/heads/main\n", Class::NoBranch),
            (
                "git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.\n\nPlease make \
                 sure you have the correct access rights\nand the repository exists.\n",
                Class::Denied,
            ),
            ("fatal: could not read Username for 'https://host': terminal prompts disabled\n", Class::Denied),
            ("fatal: Authentication failed for 'https://host/x/'\n", Class::Denied),
            (
                "fatal: unable to access 'http://host/x/': The requested URL returned error: 403\n",
                Class::Denied,
            ),
            ("error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403\n", Class::Denied),
            ("Host key verification failed.\nfatal: Could not read from remote repository.\n", Class::Denied),
            (
                "remote: error: insufficient permission for adding an object to repository database ./objects\n",
                Class::Denied,
            ),
            ("fatal: detected dubious ownership in repository at '/srv/r'\n", Class::Denied),
            ("fatal: '/srv/x' does not appear to be a git repository\n", Class::Missing),
            ("ERROR: Repository not found.\nfatal: Could not read from remote repository.\n", Class::Missing),
            ("fatal: repository 'http://host/x/' not found\n", Class::Missing),
            (
                "remote: The project you were looking for could not be found.\nfatal: repository not found\n",
                Class::Missing,
            ),
            ("error: RPC failed; HTTP 429 curl 22 The requested URL returned error: 429\n", Class::Throttled),
            (
                "ssh: Could not resolve hostname nohost: Name or service not known\nfatal: Could not read from remote \
                 repository.\n",
                Class::Unreached,
            ),
            ("fatal: unable to access 'https://h/x/': Could not resolve host: h\n", Class::Unreached),
            (
                "fatal: unable to access 'http://127.0.0.1:1/x/': Failed to connect to 127.0.0.1 port 1 after 0 ms: \
                 Couldn't connect to server\n",
                Class::Unreached,
            ),
            ("ssh: connect to host 127.0.0.1 port 1: Connection refused\n", Class::Unreached),
            ("fatal: unable to access 'http://h/x/': The requested URL returned error: 503\n", Class::Away),
            ("fatal: unable to access 'http://h/x/': Recv failure: Connection reset by peer\n", Class::Away),
            ("fatal: unable to access 'http://h/x/': Empty reply from server\n", Class::Away),
            ("send-pack: unexpected disconnect while reading sideband packet\n", Class::Away),
            ("fatal: the remote end hung up unexpectedly\n", Class::Away),
            ("fatal: fetch-pack: invalid index-pack output\nfatal: early EOF\n", Class::Away),
            ("remote: fatal: loose object 12 is corrupt\n", Class::Away),
            ("fatal: not a git repository: '/cache/x'\n", Class::Broken),
            ("error: object file /cache/x/objects/12/34 is empty\n", Class::Broken),
            ("fatal: loose object 1234 (stored in /cache/x) is corrupt\n", Class::Broken),
            ("fatal: bad config line 1 in file /cache/x/config\n", Class::Broken),
            ("fatal: something nobody has seen\n", Class::Other),
        ] {
            assert_eq!(class(said), expected, "{said}");
        }
    }

    fn row(flag: char, summary: &str) -> String {
        format!("To file:///r\n{flag}\t0123:refs/heads/main\t{summary}\nDone\n")
    }

    #[test]
    fn pushes_are_told_apart() {
        for (flag, summary, expected) in [
            (' ', "0123..4567", Pushed::Done),
            ('*', "[new branch]", Pushed::Done),
            ('=', "[up to date]", Pushed::Done),
            ('!', "[rejected] (fetch first)", Pushed::Moved),
            ('!', "[rejected] (non-fast-forward)", Pushed::Moved),
            ('!', "[remote rejected] (failed to update ref)", Pushed::Moved),
            (
                '!',
                "[remote rejected] (cannot lock ref 'refs/heads/main': is at 1 but expected 2)",
                Pushed::Moved,
            ),
            ('!', "[remote rejected] (unpacker error)", Pushed::Failed(Class::Away)),
            ('!', "[remote rejected] (Internal Server Error)", Pushed::Failed(Class::Away)),
            ('!', "[remote failure] (remote failed to report status)", Pushed::Unknown),
            (
                '!',
                "[remote rejected] (protected branch hook declined)",
                Pushed::Refused("protected branch hook declined".to_owned()),
            ),
        ] {
            assert_eq!(pushed(flag != '!', &row(flag, summary), ""), expected, "{summary}");
        }
        let stderr = "remote: error: GH006: Protected branch update failed for refs/heads/main.        \n\
                      remote: \nerror: failed to push some refs to 'https://x:token@host/r'\n";
        let refused = pushed(false, &row('!', "[remote rejected] (protected branch hook declined)"), stderr);
        let words = "error: GH006: Protected branch update failed for refs/heads/main. (protected branch hook \
                     declined)";
        assert_eq!(refused, Pushed::Refused(words.to_owned()));
        assert_eq!(
            pushed(false, "", "ssh: connect to host h port 22: Connection refused"),
            Pushed::Failed(Class::Unreached)
        );
        assert_eq!(pushed(false, "", "fatal: the remote end hung up unexpectedly"), Pushed::Unknown);
        assert_eq!(pushed(false, "", ""), Pushed::Unknown);
        let full = "remote: error: unable to create temporary object directory: Permission denied";
        let unpacked = row('!', "[remote rejected] (unpacker error)");
        assert_eq!(pushed(false, &unpacked, full), Pushed::Failed(Class::Denied));
    }

    #[test]
    fn no_credential_stays_in_what_git_said() {
        for (said, expected) in [
            (
                "fatal: unable to access 'https://user:secret@host/x/': no",
                "fatal: unable to access 'https://host/x/': no",
            ),
            ("to https://token@host and ssh://git@host/x", "to https://host and ssh://host/x"),
            ("https://a@b@host", "https://host"),
            ("nothing\u{1b}[2J of it", "nothing[2J of it"),
            ("mail a@b.c", "mail a@b.c"),
        ] {
            assert_eq!(clean(said), expected);
        }
    }
}
