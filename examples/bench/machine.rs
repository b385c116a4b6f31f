//! What this machine is, how busy it is, and how fast it hashes at this moment.

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use sacker::model::Hasher;

/// How long a canary, and a measurement of the hash, takes.
const HASHING: Duration = Duration::from_millis(300);

/// Hashes a buffer that stays in the core's cache. Bytes per second of one thread, and its CPU seconds per byte.
pub(crate) fn hash_rate() -> (f64, f64) {
    let buffer = vec![0x5a_u8; 64 << 10];
    let mut hasher = Hasher::default();
    let (start, before, mut bytes) = (Instant::now(), thread_cpu(), 0_u32);
    while start.elapsed() < HASHING {
        for _ in 0..16 {
            hasher.update(&buffer);
        }
        bytes += 1 << 20;
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), thread_cpu() - before);
    black_box(hasher.finish());
    (f64::from(bytes) / wall, cpu / f64::from(bytes))
}

/// CPU seconds of this thread.
fn thread_cpu() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|field| field.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

/// The pace of the slowest core when all of them hash, in bytes per second.
pub(crate) fn canary() -> f64 {
    let threads: Vec<_> = (0..cores()).map(|_| thread::spawn(hash_rate)).collect();
    let rates = threads.into_iter().filter_map(|thread| thread.join().ok());
    rates.map(|(rate, _)| rate).fold(f64::INFINITY, f64::min)
}

pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Processes that ran or waited for a core, over the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

/// Seconds that the machine's owner took from all cores since it was started.
pub(crate) fn steal() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.split_whitespace().nth(8).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0) / 100.0
}

/// Seconds for which some process waited for a core, since the machine was started.
pub(crate) fn pressure() -> f64 {
    let text = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let total = text.split_whitespace().find_map(|field| field.strip_prefix("total="));
    total.and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0) / 1e6
}

pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':'])).to_owned()
}
