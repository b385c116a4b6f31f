//! The git command line: found, checked, started with an environment of its own, and ended in time.
//!
//! The one place that starts processes. Arguments are a vector, never a shell's text. Each process leads a group, so that
//! what it starts itself (ssh, a remote helper) ends with it. Not responsible for what an answer means ([`super::error`]).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::clock::Clock;
use crate::environment::Environment;
use crate::error::{Error, Meaning, Result};
use crate::model::{GitLocation, GitRemote};

/// The oldest git that has all that is used here.
const OLDEST: (u32, u32) = (2, 30);

/// What git, ssh and curl may know of this process's environment.
const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "GIT_CONFIG_GLOBAL",
    "GIT_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_CERT",
    "GIT_SSL_KEY",
    "GIT_EXEC_PATH",
    "GIT_PROXY_SSL_CAINFO",
    "SSH_ASKPASS",
    "SSH_ASKPASS_REQUIRE",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Settings that no file of the user or the machine may change.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    // The clone can be lost; what writes into a local repository says otherwise.
    "core.fsync=none",
    "protocol.version=2",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.pushUpdateRejected=false",
    "push.followTags=false",
    "push.gpgSign=false",
    "push.recurseSubmodules=no",
    "submodule.recurse=false",
    "fetch.writeCommitGraph=false",
    "fetch.showForcedUpdates=false",
    "color.ui=false",
    "pack.threads=1",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=20",
];

/// Where programs are looked for without a PATH.
const PATHS: &str = "/usr/local/bin:/usr/bin:/bin";

/// So much of what a process says is kept.
const SAID: usize = 1 << 20;

/// How long a process has to end after it was asked to, and its pipes to close after it ended.
const GRACE: Duration = Duration::from_millis(500);

/// The time by which an operation must end.
#[derive(Debug, Clone)]
pub(super) struct Deadline {
    clock: Arc<dyn Clock>,
    end: Duration,
}

impl Deadline {
    pub(super) fn after(clock: &Arc<dyn Clock>, time: Duration) -> Self {
        Self { end: clock.monotonic().saturating_add(time), clock: clock.clone() }
    }

    /// One that is over after `time` already, if that is earlier.
    pub(super) fn at_most(&self, time: Duration) -> Self {
        let end = self.end.min(self.clock.monotonic().saturating_add(time));
        Self { end, clock: self.clock.clone() }
    }

    pub(super) fn left(&self) -> Duration {
        self.end.saturating_sub(self.clock.monotonic())
    }
}

/// What a process came to.
#[derive(Debug)]
pub(super) struct Ended {
    /// The exit code; nothing where a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Ended {
    pub(super) fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// What a process was started for, and how it ended where it did not end by itself.
#[derive(Debug)]
pub(super) enum Unended {
    /// It could not be started.
    Unstarted(Error),
    /// Its time was over; it was ended.
    TimedOut,
}

/// Git, as it is run for one repository.
#[derive(Debug)]
pub(super) struct Git {
    /// Nothing where there is none.
    program: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Git {
    /// Starts nothing.
    pub(super) fn new(location: &GitLocation, environment: &Environment) -> Self {
        let passed = PASSED_ON.iter().filter_map(|name| Some((*name, environment.get(name)?)));
        let mut variables: Vec<(String, String)> =
            passed.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let protocols = match location.remote {
            GitRemote::Http { is_secure: false, .. } => "file:ssh:https:http",
            _ => "file:ssh:https",
        };
        for (name, value) in [
            ("LC_ALL", "C"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ALLOW_PROTOCOL", protocols),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
        ] {
            variables.push((name.to_owned(), value.to_owned()));
        }
        if environment.get("SSH_ASKPASS").is_none() {
            // Without somebody to ask, ssh must say so at once instead of waiting at a terminal.
            for (name, value) in [("SSH_ASKPASS", "false"), ("SSH_ASKPASS_REQUIRE", "force")] {
                variables.push((name.to_owned(), value.to_owned()));
            }
        }
        Self { program: program(environment.get("PATH").unwrap_or(PATHS)), environment: variables }
    }

    fn path(&self) -> Result<&Path> {
        self.program.as_deref().ok_or_else(|| {
            Error::invalid("a git ledger needs the program 'git', and there is none in PATH")
                .with_hint("install git 2.30 or newer, or set PATH")
        })
    }

    /// Git with these arguments, on the repository in this directory. Its output is piped, its input empty.
    pub(super) fn command(&self, directory: Option<&Path>, arguments: &[&str]) -> Result<Command> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
        let mut command = Command::new(self.path()?);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        if let Some(directory) = directory {
            let mut option = OsString::from("--git-dir=");
            option.push(directory);
            command.arg(option);
        }
        command.args(arguments).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Checks that git is there and new enough: once per process and program.
    pub(super) async fn check(&self, deadline: &Deadline) -> Result<()> {
        static CHECKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
        let path = self.path()?;
        if CHECKED.lock().unwrap_or_else(PoisonError::into_inner).contains(path) {
            return Ok(());
        }
        let ended = match self.run(None, &["version"], &[], deadline).await {
            Ok(ended) => ended,
            Err(Unended::Unstarted(error)) => return Err(error),
            Err(Unended::TimedOut) => {
                return Err(Error::new(Meaning::Unavailable, "ask git for its version"));
            }
        };
        let text = ended.text();
        match version(&text) {
            Some(found) if found >= OLDEST => {}
            _ => {
                let said = text.lines().next().unwrap_or_default();
                let rule = format!("'{}' is too old for a git ledger: {said}", path.display());
                return Err(
                    Error::invalid(rule).with_hint("install git 2.30 or newer, or put it first in PATH")
                );
            }
        }
        CHECKED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Ok(())
    }

    /// Runs git to its end, with `input` on its standard input.
    ///
    /// Dropped before the end, it asks the process and all that it started to end.
    pub(super) async fn run(
        &self,
        directory: Option<&Path>,
        arguments: &[&str],
        input: &[u8],
        deadline: &Deadline,
    ) -> Result<Ended, Unended> {
        let mut command = self.command(directory, arguments).map_err(Unended::Unstarted)?;
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|error| Unended::Unstarted(self.unstarted(error)))?;
        let mut group = Group::of(&child);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let stdin = child.stdin.take();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        // Boxed: it is a part of every operation's future, several times over.
        let work = Box::pin(async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // Who ends early says why.
                    let _ = stdin.write_all(input).await;
                }
            };
            let talk = async { tokio::join!(feed, keep(out, &mut stdout), keep(err, &mut stderr)) };
            tokio::pin!(talk);
            tokio::select! {
                biased;
                _ = &mut talk => child.wait().await,
                status = child.wait() => {
                    // What it started (an ssh that stays for the next connection) may hold the pipes open.
                    let _ = tokio::time::timeout(GRACE, talk).await;
                    status
                }
            }
        });
        let Ok(status) = tokio::time::timeout(deadline.left(), work).await else {
            group.end(&mut child).await;
            return Err(Unended::TimedOut);
        };
        group.is_over = true;
        let code = status.ok().and_then(|status| status.code());
        Ok(Ended { code, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
    }

    pub(super) fn unstarted(&self, error: io::Error) -> Error {
        let path = self.program.as_deref().unwrap_or(Path::new("git"));
        Error::local("start", path, error)
    }
}

/// Keeps what comes out of a pipe, up to a limit; what is above it is read and dropped, so that nobody waits.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    // Not within the future, which is moved about.
    let mut buffer = vec![0; 8192];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let room = SAID.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}

/// A process and all that it started, which end with it.
#[derive(Debug)]
pub(super) struct Group {
    leader: Option<Pid>,
    /// It was waited for: its id may be another's by now.
    is_over: bool,
}

impl Group {
    pub(super) fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { leader: id.and_then(Pid::from_raw), is_over: false }
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader.filter(|_| !self.is_over) {
            let _gone = kill_process_group(leader, signal);
        }
    }

    /// Asks first: git removes its lock files then, and a lock of a local repository that stays would stop everybody.
    async fn end(&mut self, child: &mut Child) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = child.wait().await;
        }
        self.is_over = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
    }
}

/// The first program called git in these directories.
fn program(paths: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let directories = paths.split(':').filter(|directory| directory.starts_with('/'));
    directories.map(|directory| Path::new(directory).join("git")).find(is_program)
}

/// The numbers in `git version 2.39.5 (Apple Git-154)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, expected) in [
            ("git version 2.39.5\n", Some((2, 39))),
            ("git version 2.100.1 (Apple Git-154)\n", Some((2, 100))),
            ("git version 3.0.0-rc1\n", Some((3, 0))),
            ("git version 2.20.1\n", Some((2, 20))),
            ("hub version 2.14\n", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
        assert!((2, 100) >= OLDEST && (2, 29) < OLDEST);
    }

    #[test]
    fn only_what_is_needed_of_the_environment_is_passed_on() {
        let pairs =
            [("HOME", "/h"), ("GIT_DIR", "/x"), ("GIT_CONFIG_COUNT", "1"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let environment: Environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let location = GitLocation { remote: GitRemote::File("/r".into()), branch: "main".to_owned() };
        let git = Git::new(&location, &environment);
        let value =
            |name: &str| git.environment.iter().find(|pair| pair.0 == name).map(|pair| pair.1.as_str());
        assert_eq!(value("HOME"), Some("/h"));
        assert_eq!(value("GIT_ALLOW_PROTOCOL"), Some("file:ssh:https"));
        for name in ["GIT_DIR", "GIT_CONFIG_COUNT", "AWS_SECRET_ACCESS_KEY"] {
            assert_eq!(value(name), None, "{name}");
        }
    }

    #[tokio::test]
    async fn what_does_not_end_in_time_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let marker = folder.path().join("pid");
        let script = format!("#!/bin/sh\nsleep 60 &\necho $! > {}\nwait\n", marker.display());
        let path = folder.path().join("git");
        std::fs::write(&path, script).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let environment: Environment =
            [("PATH".to_owned(), format!("{}:{PATHS}", folder.path().display()))].into_iter().collect();
        let location = GitLocation { remote: GitRemote::File("/r".into()), branch: "main".to_owned() };
        let git = Git::new(&location, &environment);
        let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
        let ended = git.run(None, &["x"], &[], &Deadline::after(&clock, Duration::from_secs(1))).await;
        assert!(matches!(ended, Err(Unended::TimedOut)), "{ended:?}");
        let sleeper = std::fs::read_to_string(marker).expect("it was started");
        let process = PathBuf::from(format!("/proc/{}/stat", sleeper.trim()));
        let is_dead = || std::fs::read_to_string(&process).map_or(true, |stat| stat.contains(") Z "));
        for _ in 0..200 {
            if is_dead() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the helper still runs");
    }
}
