//! How much a test does: enough for every run (`make test`), or a night's worth (`make soak`, `SACKER_TIER=soak`).

use std::io::Write as _;

use sacker::environment::Environment;

/// Whether this run is a soak.
pub(crate) fn is_soak() -> bool {
    Environment::of_process().get("SACKER_TIER") == Some("soak")
}

/// A figure of a test: `every` in every run, `soak` in a soak.
pub(crate) fn figure<T>(every: T, soak: T) -> T {
    if is_soak() { soak } else { every }
}

/// The seed of a randomised test: `SACKER_SEED`, or a fresh one. Printed past the capture of the test harness, so that
/// it stands in the log of a run that hangs, too.
pub(crate) fn seed(test: &str) -> u64 {
    let given = Environment::of_process().get("SACKER_SEED").and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let _ = std::io::stderr().write_all(format!("{test}: SACKER_SEED={seed}\n").as_bytes());
    seed
}

/// A line of a soak's summary (`docs/track-record.md`): printed, and kept in the file that `SACKER_SUMMARY` names.
pub(crate) fn summary(line: &str) {
    let line = format!("SUMMARY {line}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = Environment::of_process().get("SACKER_SUMMARY") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the summary can be written");
    }
}
