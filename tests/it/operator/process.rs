//! The operator's binary as a process of a test.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use sacker::environment::Environment;

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::faultgate::Gate;
use crate::support::process::{Folder, Supervised};
use crate::support::testbed::free_ports;

/// A running operator. It cannot outlive the test process.
#[derive(Debug)]
pub(crate) struct Operator {
    process: Supervised,
    port: u16,
    _home: Folder,
}

impl Operator {
    /// Starts `sacker-operator run <arguments>` against a cluster, with the credentials of the test bed's S3 servers and
    /// nothing else of this machine. Does not wait.
    pub(crate) fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        Self::start_with(&cluster.kubeconfig(), arguments, &[])
    }

    /// The same as somebody else than the administrator.
    pub(crate) fn start_as(cluster: &Cluster, user: &str, arguments: &[&str]) -> Self {
        Self::start_with(&cluster.kubeconfig_as(user), arguments, &[])
    }

    /// The same through a gate, which sees each of its requests to the API server.
    pub(crate) fn start_through(cluster: &Cluster, gate: &Gate, arguments: &[&str]) -> Self {
        Self::start_with(&cluster.kubeconfig_through(gate), arguments, &[])
    }

    /// The same with more in its environment.
    pub(crate) fn start_in(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_with(&cluster.kubeconfig(), arguments, environment)
    }

    fn start_with(kubeconfig: &Path, arguments: &[&str], more: &[(&str, &str)]) -> Self {
        let home = Folder::new("operator");
        let port = free_ports(1)[0];
        let address = format!("127.0.0.1:{port}");
        // A benchmark measures what is released.
        let released = Environment::of_process().get("SACKER_BENCH_OPERATOR").map(str::to_owned);
        let program = released.as_deref().unwrap_or(env!("CARGO_BIN_EXE_sacker-operator"));
        let mut command = vec![program, "run", "--http-address", &address];
        command.extend(arguments);
        let environment = [
            ("KUBECONFIG", text(kubeconfig)),
            ("HOME", text(home.path())),
            ("AWS_ACCESS_KEY_ID", "testbed"),
            ("AWS_SECRET_ACCESS_KEY", "testbed-secret"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let environment = [&environment[..], more].concat();
        let process = Supervised::start(&command, &environment, &home.path().join("operator.log"));
        Self { process, port, _home: home }
    }

    /// Waits until it says that it is ready.
    pub(crate) fn until_ready(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.get("/readyz");
            if matches!(answer, Some((200, _))) {
                return;
            }
            assert!(
                self.process.is_running() && Instant::now() < end,
                "the operator is not ready: {answer:?}; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Status and body of a page it serves; nothing when nobody answers.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        self.ask("GET", path)
    }

    /// The same for another method.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, format!("{head}\n\n{body}")))
    }

    /// The value of a counter, of all its labels together. `name` is as it stands in the text.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (_, page) = self.get("/metrics").expect("metrics are served");
        let value = |line: &str| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            rest.rsplit(' ').next()?.parse::<u64>().ok()
        };
        page.lines().filter_map(value).sum()
    }

    /// `kill -9`, at once.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
        self.process.kill();
    }

    /// Asks it to end, as Kubernetes does.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it without its knowledge, as a paused machine does.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Its exit code, if it ends until `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> Option<i32> {
        self.process.wait(limit)
    }

    /// CPU time in user and kernel so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).expect("it runs");
        // The name before them may have spaces; utime and stime are the 14th and 15th of proc_pid_stat(5).
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let ticks = |index: usize| -> u64 {
            rest.split_whitespace().nth(index).and_then(|ticks| ticks.parse().ok()).expect("a number")
        };
        // USER_HZ, which is 100 wherever tests run (proc(5)).
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// Memory that is in use, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        // One that ended already is what the caller wanted.
        let _ = kill_process(pid, signal);
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}
