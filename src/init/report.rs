//! What a run tells: lines on standard output, the failure on standard error, and its last words for the kubelet.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::time::Duration;

use super::run::Placed;
use super::settings::TerminationLog;
use crate::error::{Error, Meaning};
use crate::exit::EXIT_CODES;

/// The most that the kubelet keeps of a termination message, in bytes.
const LAST_WORDS_MAX: usize = 4096;

const HELP: &str = "\
sacker-init frontend-server@live --to /artifacts/app.jar

Fetches blobs into files, verifies them, and exits. The files appear complete and with the right bytes, or not at all.

Usage:
  sacker-init [OPTIONS] <PACKAGE>@<SPEC>... --to <DIRECTORY or FILE>
  sacker-init [OPTIONS] <PACKAGE>@<SPEC>=<DIRECTORY or FILE>...
  sacker-init [OPTIONS] --pin <PINNED SPEC> --to <FILE>
  sacker-init [OPTIONS] --pin-file <FILE> --to <DIRECTORY or FILE>

A spec is a version, a tag or 'latest', and needs a ledger. A pinned spec, <package>@<version>+sha256:<64 hex digits>,
needs only the store, and may stand wherever a spec may. A destination that is an existing directory or ends in '/' gets
the file under its recorded name.

Options, and the variables that stand for them:
  --ledger <URI>            SACKER_LEDGER             dynamo://<region>/<prefix>, s3://<bucket> or file:///<path>
  --store <URI>             SACKER_STORE              s3://<bucket>, file:///<path> or
                                                      hdfs://<namenode>[:port]/<path>; may be repeated
  --to <PATH>               SACKER_TO                 where to, for everything that does not say so itself
  --pin <PINNED SPEC>       SACKER_PIN                these bytes
  --pin-file <FILE>         SACKER_PIN_FILE           the pinned spec in this file, such as a mounted ConfigMap's key
  --mode <OCTAL>            SACKER_MODE               permissions instead of the recorded ones, within 0755
  --timeout <TIME>          SACKER_TIMEOUT            for the whole run [default: 10m]
  --stall-timeout <TIME>    SACKER_STALL_TIMEOUT      for the next byte to come [default: 20s]
  --extract                 SACKER_EXTRACT            unpack tar, tar.gz or tar.zst into the directory that --to names
  --cache <DIRECTORY>       SACKER_CACHE              blobs that pods of a node share
  --cache-size <SIZE>       SACKER_CACHE_SIZE         such as 10Gi, the default; the least recently used go first
  --fsync                   SACKER_FSYNC              files survive a power cut, for volumes that outlive the pod
  --termination-log <FILE>  SACKER_TERMINATION_LOG    for the last words [default: /dev/termination-log, if it is there]
  --instance-metadata       SACKER_INSTANCE_METADATA  ask the machine's metadata service for credentials, too
  -q, --quiet                                         no progress on standard error
  -h, --help                                          this text
  -V, --version                                       the version
SACKER_PIN and SACKER_PIN_FILE count only if the command line names nothing. SACKER_LOG filters the log. Credentials and
region come from the standard AWS_* variables.

Prints for each blob the file, <package>@<version> and the sha256, separated by tabs.

Exit codes:
";

/// The help text.
pub(super) fn help() -> String {
    let mut text = HELP.to_owned();
    for (exit, meaning) in EXIT_CODES {
        let _ = writeln!(text, "  {:<3} {meaning}", exit.code());
    }
    text
}

/// Prints `text` as it is. Whoever closed standard output does not want it.
pub(super) fn print(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// Prints a line per blob.
pub(super) fn print_placed(placed: &[Placed]) {
    let mut text = String::new();
    for Placed { label, fetched } in placed {
        let _ = writeln!(text, "{}\t{label}\t{}", fetched.path.display(), fetched.sha256);
    }
    print(&text);
}

/// Tells a failure to people, and to the kubelet.
pub(super) fn tell(error: &Error, log: &TerminationLog) {
    let text = failure(error);
    let _ = io::stderr().lock().write_all(text.as_bytes());
    if let Err(error) = write_last_words(log, &text) {
        tracing::warn!("cannot write the termination message: {error}");
    }
}

/// A failure in words: what, why as far as somebody below knows, and what to do.
fn failure(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    let hint = error.hint().unwrap_or_default();
    // Some hints name the cause themselves.
    if let Some(cause) = cause(error).filter(|cause| !hint.contains(cause) && !text.contains(cause)) {
        let _ = writeln!(text, "cause: {cause}");
    }
    if !hint.is_empty() {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// The innermost reason, where the meaning alone does not say enough. Backends give sanitized sources.
fn cause(error: &Error) -> Option<String> {
    match error.meaning() {
        Meaning::Denied { .. } | Meaning::Throttled | Meaning::Unavailable | Meaning::Other => {}
        Meaning::NotFound(_)
        | Meaning::AlreadyExists { .. }
        | Meaning::Conflict { .. }
        | Meaning::Held(_)
        | Meaning::Owned { .. }
        | Meaning::Invalid { .. }
        | Meaning::Corrupt { .. }
        | Meaning::Local { .. }
        | Meaning::Interrupted => return None,
    }
    let mut source = std::error::Error::source(error)?;
    while let Some(inner) = source.source() {
        source = inner;
    }
    // One line per thing that is said.
    Some(source.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

fn write_last_words(log: &TerminationLog, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(true);
    let opened = match log {
        TerminationLog::Asked(path) => options.create(true).open(path),
        TerminationLog::Usual(path) => match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other,
        },
    };
    opened?.write_all(cut(text.trim_end(), LAST_WORDS_MAX).as_bytes())
}

/// At most `max` bytes of `text`, whole characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Bytes for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// The run did not end in time.
pub(super) fn out_of_time(timeout: Duration, arrived: u64) -> Error {
    Error::new(Meaning::Unavailable, "finish in time")
        .with_key(format!("{} came within {timeout:?}", megabytes(arrived)))
        .with_hint("look at the ledger and the store, or give more time with --timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_begins_with_an_example_and_has_every_exit_code() {
        let help = help();
        assert!(help.starts_with("sacker-init frontend-server@live --to "));
        for code in ["0", "1", "2", "3", "4", "5", "6", "7", "8", "130"] {
            assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))), "{code}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 120));
    }

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let error = Error::new(Meaning::Unavailable, "read the tag")
            .with_key("bucket 'x'")
            .with_source(io::Error::other("connection\n refused"))
            .with_hint("start it");
        let expected = "error: the backend is unavailable (cannot read the tag: bucket 'x')\n\
                        cause: connection refused\nhint: start it\n";
        assert_eq!(failure(&error), expected);
        assert_eq!(failure(&Error::invalid("no")), "error: no\n");
    }

    #[test]
    fn last_words_are_cut_where_a_character_ends() {
        assert_eq!(cut("aäb", 2), "a");
        assert_eq!(cut("aäb", 3), "aä");
        assert_eq!(cut("aäb", 99), "aäb");
    }

    #[test]
    fn last_words_go_where_the_kubelet_looks() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("termination-log");
        write_last_words(&TerminationLog::Usual(path.clone()), "text").expect("nothing to do");
        assert!(!path.exists());
        write_last_words(&TerminationLog::Asked(path.clone()), &"ä".repeat(5000)).expect("written");
        assert_eq!(std::fs::read(&path).expect("there").len(), 4096);
        write_last_words(&TerminationLog::Usual(path.clone()), "error: no\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "error: no");
    }
}
