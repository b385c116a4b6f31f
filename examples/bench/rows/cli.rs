//! The command line: how long a person waits for help, and for a list of many packages.

use std::fs;
use std::path::Path;

use super::super::judge::Bounds;
use super::super::process::{Program, run};
use super::super::{Bench, Result};

const ROW: &str = "cli";

/// How often each is run; the median counts.
const RUNS: usize = 21;

/// Packages of the ledger that is listed.
const PACKAGES: usize = 10_000;

pub(super) fn cli(bench: &mut Bench) -> Result<()> {
    let sacker = bench.programs.cli.clone();
    let help = Program::new([sacker.as_str(), "--help"]);
    figure(bench, "--help", &help, Bounds::at_most(10.0, 10.0))?;
    let command = Program::new([sacker.as_str(), "add", "--help"]);
    figure(bench, "add --help", &command, Bounds::at_most(10.0, 10.0))?;

    let ledger = bench.work().join("ledger");
    let places = |program: Program| {
        program
            .env("SACKER_LEDGER", format!("file://{}", ledger.display()))
            .env("SACKER_STORE", format!("file://{}", bench.work().join("blobs").display()))
    };
    let file = bench.work().join("app.jar");
    fs::write(&file, "bytes")?;
    run(&places(Program::new([sacker.as_str(), "init"])), bench.work())?;
    let file = file.display().to_string();
    run(&places(Program::new([sacker.as_str(), "add", "package-0", &file])), bench.work())?;
    for number in 1..PACKAGES {
        copy(&ledger.join("package-0"), &ledger.join(format!("package-{number}")))?;
    }
    let list = places(Program::new([sacker.as_str(), "list"]));
    let listed = run(&list, bench.work())?.output.lines().count();
    if listed != PACKAGES {
        return Err(format!("{listed} packages were listed, not {PACKAGES}").into());
    }
    figure(bench, "list of 10,000 packages", &list, Bounds::at_most(300.0, 300.0))
}

/// The median of the milliseconds that a program takes.
fn figure(bench: &mut Bench, case: &str, program: &Program, bounds: Bounds) -> Result<()> {
    let mut seconds = Vec::new();
    for _ in 0..RUNS {
        seconds.push(run(program, bench.work())?.seconds);
    }
    seconds.sort_unstable_by(f64::total_cmp);
    bench.figure((ROW, case), "median", (seconds[RUNS / 2] * 1_000.0, "ms"), bounds);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
