//! `size`: what has to be pulled before anything starts.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use super::super::judge::Bounds;
use super::super::process::command;
use super::super::{Bench, Result};

const ROW: &str = "size";

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let programs = [
        ("sacker-init", bench.programs.init.clone(), Bounds::at_most(12.0, 10.0), Bounds::at_most(None, 5.0)),
        ("sacker", bench.programs.cli.clone(), Bounds::at_most(None, None), Bounds::at_most(None, None)),
        (
            "sacker-operator",
            bench.programs.operator.clone(),
            Bounds::at_most(None, None),
            Bounds::at_most(None, 12.0),
        ),
    ];
    for (name, path, plain, compressed) in programs {
        let Ok(metadata) = fs::metadata(&path) else {
            bench.missing(ROW, name, "", "it is not built");
            continue;
        };
        bench.figure((ROW, name), "as it is", (decimals(metadata.len()), "MB"), plain);
        let gzip = command("gzip").args(["-9", "--stdout", &path]).output()?;
        bench.figure(
            (ROW, name),
            "gzip -9, as in an image",
            (mebibytes(gzip.stdout.len() as u64), "MiB"),
            compressed,
        );
    }
    for set in ["init", "cli", "operator"] {
        let tree = command("cargo")
            .args(["tree", "--quiet", "--locked", "--offline", "--no-default-features", "--features", set])
            .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .stderr(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&tree.stdout).into_owned();
        let crates: BTreeSet<&str> = text
            .lines()
            .map(|line| line.trim_end_matches(" (*)"))
            .filter(|line| !line.is_empty() && !line.ends_with("(proc-macro)"))
            .collect();
        let count = u32::try_from(crates.len())?;
        bench.figure(
            (ROW, &format!("features '{set}'")),
            "linked",
            (f64::from(count), "crates"),
            Bounds::at_most(None, None),
        );
    }
    match bench.peers.s5cmd_size() {
        Some(size) => {
            bench.figure((ROW, "s5cmd"), "as it is", (decimals(size), "MB"), Bounds::at_most(None, None));
        }
        None => bench.missing(ROW, "s5cmd", "", "missing: testbed/get peers"),
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "sizes of programs")]
fn decimals(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "sizes of programs")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
