//! The section of `docs/benchmarks.md` and its chart, made of the lines of JSON that runs left: of each row, what its last run
//! on a quiet machine found. So a row can be measured again by itself.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::stats::Interval;
use super::{Bench, Result, chart, report, rows};

/// Between these lines the section is made anew.
const BEGIN: &str = "<!-- make bench: begin -->";
const END: &str = "<!-- make bench: end -->";

/// Writes the section of `benchmarks.md` in `docs`, and `benchmarks.svg`.
pub(crate) fn write(bench: &Bench, docs: &Path) -> Result<()> {
    let path = docs.join("benchmarks.md");
    let text = fs::read_to_string(&path)?;
    let (before, rest) =
        text.split_once(BEGIN).ok_or_else(|| format!("no '{BEGIN}' in {}", path.display()))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("no '{END}' in {}", path.display()))?;
    let lines = fs::read_to_string(report::results(bench))?;
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    let last = last_runs(&lines);
    fs::write(&path, format!("{before}{BEGIN}\n{}{END}{after}", section(&last)))?;
    Ok(fs::write(docs.join("benchmarks.svg"), chart::draw(&bars(&last)))?)
}

fn text<'l>(line: &'l Value, name: &str) -> &'l str {
    line[name].as_str().unwrap_or_default()
}

/// Of each row in its order, the lines of the last run that judged it.
fn last_runs(lines: &[Value]) -> Vec<&Value> {
    let mut last = Vec::new();
    for row in rows::ROWS {
        let of_row: Vec<&Value> =
            lines.iter().filter(|line| text(line, "row") == row.name && line["busy"] == false).collect();
        if let Some(newest) = of_row.last() {
            last.extend(of_row.iter().filter(|line| line["seed"] == newest["seed"]));
        }
    }
    last
}

/// Numbers that are the same for all lines of a run.
fn section(lines: &[&Value]) -> String {
    let mut section = String::new();
    let mut machines: Vec<String> = lines.iter().map(|line| machine(line)).collect();
    machines.dedup();
    for machine in machines {
        let _ = writeln!(section, "{machine}\n");
    }
    section.push_str("![Ours beside the others](benchmarks.svg)\n\n");
    section.push_str(
        "| row | case | ours beside | result | pairs | bounds | verdict | run |\n|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let count = |name: &str| line[name].as_u64().unwrap_or(0);
        let pairs = match (count("kept"), count("kept") + count("dropped")) {
            (_, 0) => String::new(),
            (kept, all) => format!("{kept}/{all}"),
        };
        let run = format!("{} {}", text(line, "commit"), text(line, "date").get(..16).unwrap_or_default());
        let cells = ["row", "case", "against", "result"].map(|name| text(line, name));
        let cells = cells.into_iter().chain([&*pairs, text(line, "bounds"), text(line, "verdict"), &*run]);
        let cells: Vec<String> = cells.map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(section, "| {} |", cells.join(" | "));
    }
    section
}

/// `2 cores (...), Linux ..., beside ...`
fn machine(line: &Value) -> String {
    let tools: Vec<&str> = line["tools"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "{} cores ({}), Linux {}. Beside {}; {}.",
        line["cores"],
        text(line, "processor"),
        text(line, "kernel"),
        text(line, "peers"),
        tools.join(", ")
    )
}

/// Speeds, for the chart: ratios that are better when they are higher.
fn bars(lines: &[&Value]) -> Vec<chart::Bar> {
    let bar = |line: &&Value| {
        let number = |index: usize| line["interval"][index].as_f64();
        let interval = Interval { low: number(0)?, median: number(1)?, high: number(2)? };
        let label = format!("{}, {}: {}", text(line, "row"), text(line, "case"), text(line, "against"));
        Some(chart::Bar { label, interval, goal: line["goal"].as_f64() })
    };
    lines.iter().filter(|line| line["is_speed"] == true).filter_map(bar).collect()
}
