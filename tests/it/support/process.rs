//! Child processes that cannot outlive the test process, whatever ends it.
//!
//! Destructors of statics do not run, and a killed test process runs nothing at all. So each server has a small
//! supervising shell that holds the reading end of a pipe: when the test process is gone, the pipe closes, and the shell
//! ends the server by its process id.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Reports the server's process id on standard output, ends it when standard input closes, and ends with it and with its
/// exit code.
const SUPERVISE: &str = r#"
exec 3<&0 </dev/null 2>/dev/null
log=$1
shift
"$@" >>"$log" 2>&1 &
server=$!
echo "$server"
{ cat <&3 >/dev/null; kill -KILL "$server"; } &
watcher=$!
wait "$server"
code=$?
kill "$watcher"
exit "$code"
"#;

/// Removes a folder when standard input closes. Servers that are ending at that moment may still write into it.
const REMOVE: &str = r#"
cat >/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf "$1" 2>/dev/null && exit
  sleep 0.1
done
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Supervised {
    supervisor: Mutex<Child>,
    /// Closing it ends the server.
    lifeline: Mutex<Option<ChildStdin>>,
    pid: u32,
    log: PathBuf,
}

impl Supervised {
    /// Starts `command`; its output is appended to the file `log`.
    pub(crate) fn start(command: &[&str], environment: &[(&str, &str)], log: &Path) -> Self {
        File::create(log).expect("the log can be created");
        let mut supervisor = shell(SUPERVISE)
            .arg(log)
            .args(command)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let lifeline = supervisor.stdin.take();
        let output = supervisor.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("sh answers");
        let pid = line.trim().parse().unwrap_or_else(|_| panic!("'{command:?}' did not start: '{line}'"));
        Self { supervisor: Mutex::new(supervisor), lifeline: Mutex::new(lifeline), pid, log: log.to_owned() }
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the server still runs.
    pub(crate) fn is_running(&self) -> bool {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(supervisor.try_wait(), Ok(None))
    }

    /// Waits until the server ended by itself, or until `limit`; its exit code, as a shell sees it.
    pub(crate) fn wait(&self, limit: Duration) -> Option<i32> {
        let end = Instant::now() + limit;
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match supervisor.try_wait() {
                Ok(Some(status)) => return status.code(),
                _ if Instant::now() > end => return None,
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Kills the server and waits until it is gone.
    pub(crate) fn kill(&self) {
        drop(self.lifeline.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        supervisor.wait().expect("sh can be waited for");
    }

    /// The end of what the server wrote, for messages.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder that is removed when the value is dropped or the test process ends.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    remover: Child,
}

impl Folder {
    pub(crate) fn new(stem: &str) -> Self {
        let path = tempfile::Builder::new()
            .prefix(&format!("{stem}-"))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a temporary folder")
            .keep();
        let remover =
            shell(REMOVE).arg(&path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("sh starts");
        Self { path, remover }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        let _ = self.remover.wait();
    }
}

/// In a group of its own, so that an interrupt from the terminal ends the tests, and the tests' end ends the servers.
pub(super) fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).process_group(0);
    command
}
