//! A slow network, one that breaks, and a process that is killed.

use std::fs;

use super::super::contest::{Check, Contender, speed, time};
use super::super::judge::Bounds;
use super::super::process::{Sample, run};
use super::super::servers::counts;
use super::super::{Bench, Result, machine};
use super::download::{WINDOW, init, one_object};
use super::words;

/// What one connection to S3 brings, in bytes per second.
const RATE: f64 = 85e6;

/// Bytes of a part (`src/fetch/mod.rs`).
const PART: u64 = 8 << 20;

pub(super) fn wan(bench: &mut Bench) -> Result<()> {
    const ROW: &str = "dl-wan";
    let size = bench.options.size / 2;
    let network = ["--rate", "85000000", "--delay", "20"];
    let (even, object) = one_object(bench, size, &network)?;
    let (slow, _) = one_object(bench, size, &[&network[..], &["--slow", "2:1000000"]].concat())?;
    let (to, case) = (bench.work().join("file"), format!("blobserve, {}", words(size)));
    let check = || Check::File(to.clone(), object.sha256.clone());
    // As many connections as the downloader may have here.
    let connections = u32::try_from((2 * machine::cores()).clamp(4, 16))?;
    let mut ours =
        bench.contender("without a slow connection", init(bench, &even, &object, &to), &even, check());
    #[expect(clippy::cast_precision_loss, reason = "sizes of benchmarks")]
    let best = size as f64 / (f64::from(connections) * RATE);
    let mut limit = Contender::new(format!("{connections} x 85 MB/s"), || {
        Ok(Sample { seconds: best, ..Sample::default() })
    });
    let bounds = Bounds::at_least(0.7, 0.9);
    bench.contest((ROW, &case, size), (&mut ours, &mut limit), 3, &[("", speed, bounds)])?;
    let mut held_up = bench.contender("ours", init(bench, &slow, &object, &to), &slow, check());
    let case = format!("{case}, one connection at 1 MB/s");
    bench.contest(
        (ROW, &case, size),
        (&mut held_up, &mut ours),
        3,
        &[("", time, Bounds::at_most(None, 1.1))],
    )?;
    for (name, settings) in bench.peers.to_file(&slow, &object, &to) {
        if !matches!(name, "s5cmd" | "AWS CRT") {
            continue;
        }
        let contender = |program| bench.contender(name, program, &slow, check());
        // A peer that waits for the slow connection takes a minute: three pairs, as above, are enough to see that.
        match Bench::better(settings.into_iter().map(contender).collect()) {
            Ok(mut peer) => {
                let question = ("", speed as _, Bounds::at_least(0.7, 1.0));
                bench.contest((ROW, &case, size), (&mut held_up, &mut peer), 3, &[question])?;
            }
            Err(error) => bench.missing(ROW, &case, name, error.to_string()),
        }
    }
    Ok(())
}

pub(super) fn resume(bench: &mut Bench) -> Result<()> {
    const ROW: &str = "dl-resume";
    let size = bench.options.size;
    let (server, object) = one_object(bench, size, &["--rate", "85000000"])?;
    let folder = bench.work().join("resumed");
    fs::create_dir_all(&folder)?;
    let to = folder.join("file");
    let mut program = init(bench, &server, &object, &to);
    counts(server.port, "/_reset")?;
    program.killed_at = Some((server.port, size / 2));
    run(&program, bench.work())?;
    if to.exists() {
        return Err("it was there before the process was killed".into());
    }
    program.killed_at = None;
    let mut again = bench.contender("again", program, &server, Check::Nothing);
    let first = counts(server.port, "/_counts")?.bytes;
    let second = again.run()?.sent;
    if super::super::reference::hash_file(&to)?.to_string() != object.sha256 {
        return Err("wrong bytes in the file".into());
    }
    let twice = first + second - size.min(first + second);
    #[expect(clippy::cast_precision_loss, reason = "sizes of benchmarks")]
    let mebibytes = |bytes: u64| bytes as f64 / 1_048_576.0;
    let bounds = Bounds::at_most(mebibytes(WINDOW + 4 * PART), mebibytes(WINDOW + PART));
    let case = format!("blobserve, {}, SIGKILL at half of it", words(size));
    bench.figure((ROW, &case), "fetched twice", (mebibytes(twice), "MiB"), bounds);
    Ok(())
}
