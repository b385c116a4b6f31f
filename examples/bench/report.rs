//! What a run prints and keeps of each comparison: a line for people, and a line of JSON.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use super::contest::Comparison;
use super::judge::{Better, Bounds, Measured};
use super::process::{Sample, command};
use super::stats::median;
use super::{Bench, Result, machine};

/// What the machine had done when a row began, and what is measured.
pub(crate) struct Begin {
    commit: String,
    steal: f64,
    pressure: f64,
    load: f64,
}

impl Begin {
    pub(crate) fn now(commit: &str) -> Self {
        let (steal, pressure, load) = (machine::steal(), machine::pressure(), machine::load());
        Self { commit: commit.to_owned(), steal, pressure, load }
    }
}

/// Where the lines of JSON go.
pub(crate) fn results(bench: &Bench) -> PathBuf {
    bench.options.work.join("results.jsonl")
}

/// `dl-sink/blobserve/1 GiB  / curl  1.74 [1.70, 1.79]  7/7 pairs  floor ≥ 1.2, goal ≥ 1.7: goal met  ours ...; theirs ...`
pub(crate) fn line(bench: &Bench, comparison: &Comparison) -> String {
    let Comparison { row, case, against, .. } = comparison;
    let judgement = bench.judge(comparison);
    let pairs = match comparison.measured {
        Measured::Pairs(_) => format!("  {}/{} pairs", judgement.kept, judgement.kept + judgement.dropped),
        _ => String::new(),
    };
    let bounds = bounds(comparison.bounds);
    let verdict = judgement.verdict.words().replace('*', "");
    let words = [bounds.as_str(), verdict.as_str()].into_iter().filter(|word| !word.is_empty());
    let words = words.collect::<Vec<_>>().join(": ");
    format!("{row}/{case}  {against}  {}{pairs}  {words}{}", result(bench, comparison), costs(comparison))
}

/// `1.74 [1.70, 1.79]`, or a figure, or why there is none.
fn result(bench: &Bench, comparison: &Comparison) -> String {
    match (&comparison.measured, bench.judge(comparison).interval) {
        (Measured::Pairs(_), Some(interval)) => {
            format!("{:.2} [{:.2}, {:.2}]", interval.median, interval.low, interval.high)
        }
        (Measured::Figure(figure, unit), _) => format!("{} {unit}", rounded(*figure)),
        (Measured::Missing(why), _) => why.lines().next().unwrap_or_default().to_owned(),
        (Measured::Pairs(_), None) => String::new(),
    }
}

fn rounded(figure: f64) -> String {
    if figure.fract().abs() < 1e-9 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}

fn bounds(bounds: Bounds) -> String {
    let sign = if bounds.better == Better::Higher { "≥" } else { "≤" };
    let words = [
        bounds.floor.map(|floor| format!("floor {sign} {floor}")),
        bounds.goal.map(|goal| format!("goal {sign} {goal}")),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Medians of what both cost, for the line.
fn costs(comparison: &Comparison) -> String {
    if comparison.samples.is_empty() {
        return String::new();
    }
    let ours: Vec<&Sample> = comparison.samples.iter().map(|(ours, _)| ours).collect();
    let theirs: Vec<&Sample> = comparison.samples.iter().map(|(_, theirs)| theirs).collect();
    format!("\n      ours {}\n      theirs {}", cost(&ours, comparison.size), cost(&theirs, comparison.size))
}

fn cost(samples: &[&Sample], size: u64) -> String {
    let of =
        |what: fn(&Sample) -> f64| median(&samples.iter().map(|sample| what(sample)).collect::<Vec<_>>());
    let seconds = of(|sample| sample.seconds);
    let mut words = vec![format!("{seconds:.4} s")];
    #[expect(clippy::cast_precision_loss, reason = "sizes of benchmarks")]
    let size = size as f64 / 1e9;
    if size > 0.0 {
        words.push(format!("{:.2} GB/s", size / seconds));
        let (user, system, server) =
            (of(|sample| sample.user), of(|sample| sample.system), of(|sample| sample.server));
        words.push(format!("{:.2} user + {:.2} sys CPU-s/GB", user / size, system / size));
        words.push(format!("server {:.2}", server / size));
    }
    #[expect(clippy::cast_precision_loss, reason = "memory of benchmarks")]
    let rss = of(|sample| sample.rss as f64) / 1_048_576.0;
    if rss > 0.0 {
        words.push(format!("RSS {rss:.1} MiB"));
    }
    if let Some(limits) = limits(samples) {
        words.push(limits);
    }
    words.join(", ")
}

/// `L=1.48 (C binds; H 1.73 N 2.52 C 1.48)`
fn limits(samples: &[&Sample]) -> Option<String> {
    let limits: Vec<[f64; 3]> = samples.iter().filter_map(|sample| sample.limit).collect();
    let of = |index: usize| median(&limits.iter().map(|limit| limit[index] / 1e9).collect::<Vec<_>>());
    let (hash, network, processor) = (of(0), of(1), of(2));
    let least = hash.min(network).min(processor);
    let binds = [("H", hash), ("N", network), ("C", processor)];
    let binds = binds.iter().find(|(_, rate)| *rate <= least)?.0;
    Some(format!("L={least:.2} ({binds} binds; H {hash:.2} N {network:.2} C {processor:.2})"))
}

pub(crate) fn peers(bench: &Bench) -> String {
    let versions = bench.peers.versions();
    if versions.is_empty() { "missing (testbed/get peers)".to_owned() } else { versions.join(", ") }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = command(program).args(arguments).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// What is measured. To be asked before the documentation is written, which changes the checkout.
pub(crate) fn commit() -> String {
    first_line("git", &["describe", "--always", "--dirty", "--abbrev=12"])
}

fn tools() -> Vec<String> {
    let list = command("testbed/get").arg("--list").stderr(Stdio::null()).output();
    let list = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let servers = list.lines().filter(|line| line.starts_with("minio") || line.starts_with("versitygw"));
    let servers = servers.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    let curl = first_line("curl", &["--version"]).split(' ').take(2).collect::<Vec<_>>().join(" ");
    servers.chain([curl, first_line("openssl", &["version"])]).collect()
}

/// Appends a line of JSON for each of these comparisons, which are all of a row.
pub(crate) fn append(bench: &Bench, comparisons: &[Comparison], begin: &Begin) -> Result<()> {
    let common = json!({
        "commit": begin.commit, "seed": bench.options.seed, "busy": bench.options.is_busy, "cores": machine::cores(),
        "processor": machine::processor(), "kernel": machine::kernel(), "load": begin.load,
        "steal": machine::steal() - begin.steal, "pressure": machine::pressure() - begin.pressure,
        "canary": [bench.worst, bench.best], "peers": peers(bench), "tools": tools(),
        "date": first_line("date", &["--utc", "--iso-8601=seconds"]),
    });
    let mut file = fs::OpenOptions::new().create(true).append(true).open(results(bench))?;
    for comparison in comparisons {
        let judgement = bench.judge(comparison);
        let samples: Vec<Value> =
            comparison.samples.iter().map(|(ours, theirs)| json!([ours.json(), theirs.json()])).collect();
        let mut line = json!({
            "row": comparison.row, "case": comparison.case, "against": comparison.against, "size": comparison.size,
            "result": result(bench, comparison), "kept": judgement.kept, "dropped": judgement.dropped,
            "interval": judgement.interval.map(|interval| [interval.low, interval.median, interval.high]),
            "floor": comparison.bounds.floor, "goal": comparison.bounds.goal, "bounds": bounds(comparison.bounds),
            "is_speed": comparison.bounds.better == Better::Higher, "verdict": judgement.verdict.words(), "samples": samples,
        });
        if let (Some(line), Some(common)) = (line.as_object_mut(), common.as_object()) {
            line.extend(common.clone());
        }
        writeln!(file, "{line}")?;
    }
    Ok(())
}
