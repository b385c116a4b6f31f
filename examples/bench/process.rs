//! One run of a program, and what it cost.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::Result;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A run that takes longer is killed, and fails.
const LIMIT: Duration = Duration::from_mins(10);

/// Ticks of `/proc/<pid>/stat` per second, on every Linux.
const TICKS: f64 = 100.0;

/// What is run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    pub(crate) words: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Ended by SIGKILL as soon as this server sent so many bytes; that is no failure then.
    pub(crate) killed_at: Option<(u16, u64)>,
    /// Its failure is expected, and no success.
    pub(crate) fails: bool,
}

impl Program {
    pub(crate) fn new<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }
}

/// What a run cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// From the start of the process to its end.
    pub(crate) seconds: f64,
    /// CPU seconds, of the processes it waited for as well.
    pub(crate) user: f64,
    pub(crate) system: f64,
    /// CPU seconds of the server meanwhile.
    pub(crate) server: f64,
    /// Peak of resident memory in bytes, all its processes together; 0 for a run too short to look.
    pub(crate) rss: u64,
    /// Bytes that were read from disk.
    pub(crate) disk: u64,
    /// Bytes that the server sent, and requests that it answered.
    pub(crate) sent: u64,
    pub(crate) requests: u64,
    /// Seconds from the last byte that the server sent to the end.
    pub(crate) lag: f64,
    /// Its standard output.
    pub(crate) output: String,
    /// Seconds that the hash of the object takes by itself, where a row asks for that.
    pub(crate) hash: f64,
    /// For a limit instead of a run: H, N and C in bytes per second.
    pub(crate) limit: Option<[f64; 3]>,
}

impl Sample {
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

/// The one place that starts processes.
#[expect(clippy::disallowed_methods, reason = "benchmarks compare programs")]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

/// Runs a program with nothing of this process's environment but the path.
pub(crate) fn run(program: &Program, home: &Path) -> Result<Sample> {
    let (name, arguments) = program.words.split_first().ok_or("an empty command line")?;
    // Files, since a pipe that nobody empties holds a program up.
    let (messages, output) = (home.join("messages"), home.join("output"));
    let mut command = command(name);
    // Its group is its own, so that all of it can be killed; `make bench` interrupted leaves it to end by itself.
    command.args(arguments).env_clear().envs(base_environment(home)).process_group(0);
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(fs::File::create(&output)?).stderr(fs::File::create(&messages)?);
    let start = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
    let has_ended = AtomicBool::new(false);
    let (seconds, (rss, was_killed)) = thread::scope(|scope| {
        let looking = scope.spawn(|| look(program, pid, start, &has_ended));
        let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let seconds = start.elapsed().as_secs_f64();
        has_ended.store(true, Ordering::Relaxed);
        ended.map(|_| (seconds, looking.join().unwrap_or_default()))
    })?;
    // It is dead, and not yet gone: its accounts can be read.
    let (user, system) = cpu_of(child.id())?;
    let disk = disk_of(child.id()).unwrap_or(0);
    let output = String::from_utf8_lossy(&fs::read(output)?).into_owned();
    let status = child.wait()?;
    if !was_killed && status.success() == program.fails {
        let messages = String::from_utf8_lossy(&fs::read(&messages)?).into_owned();
        let end: Vec<&str> = messages.lines().rev().take(20).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        return Err(format!("'{}' ended with {status}:\n{}", program.words.join(" "), end.join("\n")).into());
    }
    Ok(Sample { seconds, user, system, rss, disk, output, ..Sample::default() })
}

/// The same for all: no configuration of the user's, and credentials that the test bed's servers take.
fn base_environment(home: &Path) -> Vec<(String, String)> {
    let path =
        sacker::environment::Environment::of_process().get("PATH").unwrap_or("/usr/bin:/bin").to_owned();
    let fixed = [
        ("AWS_ACCESS_KEY_ID", "testbed"),
        ("AWS_SECRET_ACCESS_KEY", "testbed-secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("LC_ALL", "C"),
    ];
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    fixed
        .into_iter()
        .chain([("PATH".to_owned(), path), ("HOME".to_owned(), home.display().to_string())])
        .collect()
}

/// Peak memory until the end, and whether the program was killed as it should be.
fn look(program: &Program, pid: Pid, start: Instant, has_ended: &AtomicBool) -> (u64, bool) {
    let (mut peak, mut was_killed) = (0, false);
    while !has_ended.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        peak = peak.max(peak_memory(pid.as_raw_nonzero().get()));
        let is_due = program.killed_at.is_some_and(|(port, bytes)| {
            !was_killed && super::servers::counts(port, "/_counts").is_ok_and(|counts| counts.bytes >= bytes)
        });
        was_killed |= is_due;
        if is_due || start.elapsed() > LIMIT {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
    (peak, was_killed)
}

/// Of a process and its children.
fn peak_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let own = own.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) * 1024;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    own + children.split_whitespace().filter_map(|child| child.parse().ok()).map(peak_memory).sum::<u64>()
}

/// User and system seconds of a process and of what it waited for.
pub(crate) fn cpu_of(pid: u32) -> io::Result<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything, so count from its end: utime, stime, cutime and cstime are the 12th to 15th from there.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<f64> =
        after.split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    match fields.as_slice() {
        [user, system, user_below, system_below] => {
            Ok(((user + user_below) / TICKS, (system + system_below) / TICKS))
        }
        _ => Err(io::Error::other(format!("/proc/{pid}/stat: '{stat}'"))),
    }
}

fn disk_of(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}
