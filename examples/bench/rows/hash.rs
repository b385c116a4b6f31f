//! `hash-limit`: what our hasher takes beside the hash alone, of bytes that were just copied and of bytes in main memory.

use std::hint::black_box;
use std::process::Stdio;
use std::time::Instant;

use sacker::model::Hasher;

use super::super::contest::{Contender, speed};
use super::super::judge::Bounds;
use super::super::process::{Sample, command};
use super::super::{Bench, Result, machine};

const ROW: &str = "hash-limit";

/// More than any cache holds.
const LARGE: usize = 256 << 20;

/// Bytes that are hashed at a time.
const CHUNK: usize = 64 << 10;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut bytes = vec![0; LARGE];
    random.fill(&mut bytes);
    #[expect(clippy::cast_precision_loss, reason = "256 MiB")]
    let size = LARGE as f64;
    let mut limit = Contender::new("the hash alone", || {
        Ok(Sample { seconds: size / machine::hash_rate().0, ..Sample::default() })
    });
    let mut hot = Contender::new("copied", || {
        let mut chunk = vec![0; CHUNK];
        // A source that stays in the cache: the copy is what a socket does.
        Ok(hashed(|hasher| {
            for _ in 0..LARGE / CHUNK {
                chunk.copy_from_slice(&bytes[..CHUNK]);
                hasher.update(&chunk);
            }
        }))
    });
    let case = ("copied, then hashed", Bounds::at_least(0.85, 0.95));
    bench.contest((ROW, case.0, LARGE as u64), (&mut hot, &mut limit), 7, &[("", speed, case.1)])?;
    let mut cold = Contender::new("from main memory", || {
        Ok(hashed(|hasher| bytes.chunks(CHUNK).for_each(|chunk| hasher.update(chunk))))
    });
    let case = ("from main memory", Bounds::at_least(0.70, 0.78));
    bench.contest((ROW, case.0, LARGE as u64), (&mut cold, &mut limit), 7, &[("", speed, case.1)])?;
    let mut once = Contender::new("sha2", || {
        let start = Instant::now();
        for _ in 0..LARGE / CHUNK {
            black_box(sacker::model::Sha256::of(&bytes[..CHUNK]));
        }
        Ok(Sample { seconds: start.elapsed().as_secs_f64(), ..Sample::default() })
    });
    let mut openssl =
        Contender::new("openssl speed", || Ok(Sample { seconds: size / openssl()?, ..Sample::default() }));
    let bounds = Bounds::at_least(None, None);
    bench.contest((ROW, "64 KiB at once", LARGE as u64), (&mut once, &mut openssl), 3, &[("", speed, bounds)])
}

fn hashed(work: impl FnOnce(&mut Hasher)) -> Sample {
    let (start, mut hasher) = (Instant::now(), Hasher::default());
    work(&mut hasher);
    black_box(hasher.finish());
    Sample { seconds: start.elapsed().as_secs_f64(), ..Sample::default() }
}

/// Bytes per second.
fn openssl() -> Result<f64> {
    let words = ["speed", "-mr", "-seconds", "1", "-bytes", "65536", "-evp", "sha256"];
    let output = command("openssl").args(words).stderr(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().rfind(|line| line.starts_with("+F:")).and_then(|line| line.rsplit(':').next());
    Ok(last.ok_or("openssl speed said nothing")?.parse()?)
}
