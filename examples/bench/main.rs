//! `make bench`: downloads and uploads beside other programs, and beside what the machine can do.
//!
//! ```text
//! bench [--only ROW,...] [--size BYTES] [--pairs N] [--seed N] [--pause MS] [--work DIRECTORY] [--docs DIRECTORY] [--busy]
//! ```
//! `--size` is that of the large object, 1 GiB otherwise; `--busy` measures although the machine is busy, and judges nothing;
//! `--docs` writes the table and the chart there after each row: what the last run of each found. `SACKER_BENCH_INIT`, `SACKER_BENCH_CLI`, `SACKER_BENCH_OPERATOR` and
//! `SACKER_BENCH_BLOBSERVE` name other programs than those beside this one.
//!
//! Runs from the top folder of the checkout. One idea per file; what each row measures stands in `rows/`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod chart;
mod contest;
mod document;
mod judge;
mod machine;
mod peers;
mod process;
mod reference;
mod report;
mod rows;
mod servers;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use sacker::environment::Environment;

use self::contest::Comparison;
use self::judge::Verdict;
use self::peers::Peers;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A machine with more to do than this is not quiet.
const QUIET: f64 = 0.5;

/// How long to wait until it is: the build before this leaves a load behind.
const UNTIL_QUIET: Duration = Duration::from_mins(10);

struct Options {
    only: Option<String>,
    /// Bytes of the large object.
    size: u64,
    pairs: Option<usize>,
    seed: u64,
    /// Before each run that writes a file.
    pause: Duration,
    work: PathBuf,
    docs: Option<PathBuf>,
    is_busy: bool,
}

/// Paths.
struct Programs {
    own: String,
    init: String,
    cli: String,
    operator: String,
    blobserve: String,
}

/// A run of rows, and what came of it so far.
struct Bench {
    options: Options,
    programs: Rc<Programs>,
    peers: Rc<Peers>,
    folder: tempfile::TempDir,
    /// The best canary of this run, in bytes per second.
    best: f64,
    worst: f64,
    comparisons: Vec<Comparison>,
}

impl Bench {
    fn work(&self) -> &Path {
        self.folder.path()
    }

    /// How many pairs: as given, or as many as the row wants.
    fn pairs(&self, wanted: usize) -> usize {
        self.options.pairs.unwrap_or(wanted)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "client" => reference::client(rest).map(|()| true),
        _ => options(arguments).and_then(run),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: Vec<String>) -> Result<Options> {
    let mut options = Options {
        only: None,
        size: 1 << 30,
        pairs: None,
        seed: fastrand::u64(..),
        pause: Duration::from_secs(3),
        work: PathBuf::from("target/bench"),
        docs: None,
        is_busy: false,
    };
    let mut arguments = arguments.into_iter();
    while let Some(option) = arguments.next() {
        if option == "--busy" {
            options.is_busy = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--only" => options.only = Some(value),
            "--size" => options.size = number(&value)?,
            "--pairs" => options.pairs = Some(number(&value)?),
            "--seed" => options.seed = number(&value)?,
            "--pause" => options.pause = Duration::from_millis(number(&value)?),
            "--work" => options.work = PathBuf::from(value),
            "--docs" => options.docs = Some(PathBuf::from(value)),
            _ => return Err(format!("no option {option}").into()),
        }
    }
    if options.pairs == Some(0) {
        return Err("no pairs, no result".into());
    }
    Ok(options)
}

fn number<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| format!("'{text}' is no number").into())
}

fn programs() -> Result<Programs> {
    let own = env::current_exe()?;
    let environment = Environment::of_process();
    // target/release/examples/bench
    let examples = own.parent().ok_or("no folder")?.to_owned();
    let release = examples.parent().ok_or("no folder")?.to_owned();
    let path = |variable: &str, usual: PathBuf| {
        environment.get(variable).map_or_else(|| usual.display().to_string(), str::to_owned)
    };
    Ok(Programs {
        own: own.display().to_string(),
        init: path("SACKER_BENCH_INIT", release.join("sacker-init")),
        cli: path("SACKER_BENCH_CLI", release.join("sacker")),
        operator: path("SACKER_BENCH_OPERATOR", release.join("sacker-operator")),
        blobserve: path("SACKER_BENCH_BLOBSERVE", examples.join("blobserve")),
    })
}

/// Whether no comparison is below its floor.
fn run(options: Options) -> Result<bool> {
    let wanted = wanted(options.only.as_deref())?;
    if !options.is_busy {
        wait_until_quiet()?;
    }
    fs::create_dir_all(&options.work)?;
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(fs::canonicalize(&options.work)?)?;
    let mut bench = Bench {
        programs: Rc::new(programs()?),
        peers: Rc::new(Peers::find()),
        folder,
        best: 0.0,
        worst: f64::INFINITY,
        comparisons: Vec::new(),
        options,
    };
    println!("seed {}; peers: {}", bench.options.seed, report::peers(&bench));
    let commit = report::commit();
    for row in wanted {
        let begin = report::Begin::now(&commit);
        println!("\n{}: {}", row.name, row.what);
        let from = bench.comparisons.len();
        if let Err(error) = (row.run)(&mut bench) {
            println!("  {} could not be measured: {error}", row.name);
            bench.missing(row.name, "all of it", "", error.to_string());
        }
        for comparison in &bench.comparisons[from..] {
            println!("  {}", report::line(&bench, comparison));
        }
        report::append(&bench, &bench.comparisons[from..], &begin)?;
        if let Some(docs) = &bench.options.docs {
            document::write(&bench, docs)?;
        }
    }
    let failed: Vec<&Comparison> = bench
        .comparisons
        .iter()
        .filter(|comparison| bench.judge(comparison).verdict == Verdict::Failed)
        .collect();
    if bench.best > 0.0 {
        println!("\ncanary {:.2} to {:.2} GB/s", bench.worst / 1e9, bench.best / 1e9);
    }
    if bench.options.is_busy {
        println!("measured on a machine that may be busy: nothing is judged");
        return Ok(true);
    }
    for comparison in &failed {
        println!("below the floor: {}", report::line(&bench, comparison));
    }
    Ok(failed.is_empty())
}

/// The rows with these names, in their own order.
fn wanted(only: Option<&str>) -> Result<Vec<&'static rows::Row>> {
    let Some(only) = only else { return Ok(rows::ROWS.iter().collect()) };
    let names: Vec<&str> = only.split(',').collect();
    if let Some(unknown) = names.iter().find(|name| rows::ROWS.iter().all(|row| row.name != **name)) {
        let known: Vec<&str> = rows::ROWS.iter().map(|row| row.name).collect();
        return Err(format!("no row '{unknown}'; there are {}", known.join(", ")).into());
    }
    Ok(rows::ROWS.iter().filter(|row| names.contains(&row.name)).collect())
}

fn wait_until_quiet() -> Result<()> {
    let start = Instant::now();
    while machine::load() > QUIET {
        if start.elapsed() > UNTIL_QUIET {
            return Err(format!(
                "the machine is busy (load {}); end the rest, or give --busy",
                machine::load()
            )
            .into());
        }
        eprintln!("waiting until the machine is quiet (load {}, at most {QUIET})", machine::load());
        thread::sleep(Duration::from_secs(15));
    }
    Ok(())
}
