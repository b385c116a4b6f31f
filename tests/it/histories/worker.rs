//! A worker: a process of its own that is one client, and does as many operations as it is told to, window by window.
//!
//! It is the test binary itself, so that nothing else has to be linked. It reads `<count> <seed> <package>...` lines from standard
//! input
//! and says `DONE` after each; it ends when its standard input does, so it cannot outlive the test.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use sacker::connect::Connect;
use sacker::environment::Environment;
use sacker::ledger;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::command_line::CommandLine;

/// The name of the variable with the [`Orders`].
const ORDERS: &str = "SACKER_TEST_WORKER";

/// What a worker is to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) client: usize,
    pub(crate) ledger: String,
    pub(crate) store: String,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) deadline: Duration,
    /// Its history.
    pub(crate) record: PathBuf,
    pub(crate) home: PathBuf,
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub(crate) record: PathBuf,
}

impl Worker {
    pub(crate) fn start(orders: &Orders) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--ignored", "--nocapture", "histories::worker::is_a_worker"])
            .env(ORDERS, serde_json::to_string(orders).expect("plain data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a worker starts");
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().expect("it is piped");
        Self { process, orders: stdin, answers: BufReader::new(stdout), record: orders.record.clone() }
    }

    /// Lets it do `count` operations on these packages; [`Worker::wait`] waits for them.
    pub(crate) fn order(&mut self, count: usize, seed: u64, packages: &[String]) {
        let orders = self.orders.as_mut().expect("it was not ended");
        writeln!(orders, "{count} {seed} {}", packages.join(" ")).expect("the worker lives");
    }

    /// Waits until it stands still.
    pub(crate) fn wait(&mut self) {
        let mut line = String::new();
        while line.trim_end() != "DONE" {
            line.clear();
            let read = self.answers.read_line(&mut line).expect("text");
            assert!(read > 0, "worker {} ended: {:?}", self.process.id(), self.process.try_wait());
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.orders.take());
        if std::thread::panicking() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// Settings that reach the ledger with these variables and nothing of this machine.
pub(crate) fn connect(variables: &BTreeMap<String, String>, deadline: Duration) -> Connect {
    Connect {
        environment: variables.clone().into_iter().collect(),
        instance_metadata: false,
        deadline,
        ..Connect::default()
    }
}

fn command_line(orders: &Orders) -> CommandLine {
    let mut variables = orders.variables.clone();
    variables.insert("SACKER_LEDGER".into(), orders.ledger.clone());
    variables.insert("SACKER_STORE".into(), orders.store.clone());
    variables.insert("SACKER_USER".into(), format!("client {}", orders.client));
    CommandLine { variables, home: orders.home.clone() }
}

#[test]
#[ignore = "not a test: a worker process of the tests beside it"]
fn is_a_worker() {
    let orders = Environment::of_process();
    let orders = orders.get(ORDERS).expect("only the tests beside it start it");
    let orders: Orders = serde_json::from_str(orders).expect("orders");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connect = connect(&orders.variables, orders.deadline);
    let uri = orders.ledger.parse().expect("a ledger URI");
    let ledger = runtime.block_on(ledger::open(&uri, &connect)).expect("open");
    let record = BufWriter::new(File::create(&orders.record).expect("the record can be created"));
    let mut client =
        Client::new(orders.client, ledger, Vec::new(), record).with_command_line(command_line(&orders));
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
        let (count, seed) = (number(), number());
        client.works_on(words.map(str::to_owned).collect());
        let count = usize::try_from(count).expect("not many");
        runtime.block_on(client.run(count, seed));
        // Past the capture of the test harness, and on a line of its own.
        std::io::stdout().write_all(b"\nDONE\n").expect("somebody listens");
        std::io::stdout().flush().expect("somebody listens");
    }
}

/// A worker's record so far.
pub(crate) fn record_of(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the record")
}
