//! `dl-mem`: peak memory whatever the size, and a container's limit that counts the page cache as well.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::contest::{Check, speed};
use super::super::judge::Bounds;
use super::super::process::Program;
use super::super::{Bench, Result};
use super::download::{init, one_object};
use super::words;

const ROW: &str = "dl-mem";

/// The memory limit of a small init container.
const LIMIT: u64 = 64 << 20;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let large = bench.options.size;
    for size in [1 << 20, 64 << 20, large, 20 * large] {
        let case = format!("blobserve, {}", words(size));
        if size + (4 << 30) > free_space(bench.work())? {
            bench.missing(ROW, &case, "ours", "not enough free space");
            continue;
        }
        let (server, object) = one_object(bench, size, &[])?;
        let to = bench.work().join("file");
        let check = || Check::File(to.clone(), object.sha256.clone());
        let peak = bench.contender("ours", init(bench, &server, &object, &to), &server, check()).run()?.rss;
        let peak = mebibytes(peak);
        let _ = fs::remove_file(&to);
        if peak > 0.0 {
            bench.figure((ROW, &case), "ours", (peak, "MiB"), Bounds::at_most(48.0, 32.0));
        } else {
            bench.missing(ROW, &case, "ours", "over before anybody could look");
        }
        if size != large {
            continue;
        }
        for (name, settings) in bench.peers.to_file(&server, &object, &to) {
            if !matches!(name, "s5cmd" | "boto3" | "AWS CRT") {
                continue;
            }
            let contender = |program| bench.contender(name, program, &server, check());
            match Bench::better(settings.into_iter().map(contender).collect()) {
                Ok(mut peer) => {
                    let peak = mebibytes(peer.run()?.rss);
                    bench.figure((ROW, &case), name, (peak, "MiB"), Bounds::at_most(None, None));
                }
                Err(error) => bench.missing(ROW, &case, name, error.to_string()),
            }
        }
        let free = init(bench, &server, &object, &to);
        let Ok(group) = Group::new() else {
            bench.missing(ROW, &case, "in 64 MiB", "no memory cgroup can be made here");
            continue;
        };
        let mut bound = bench.contender("ours in 64 MiB", group.program(&free), &server, check());
        let mut free = bench.contender("ours without a limit", free, &server, check());
        free.run()?;
        bound.run()?;
        let case = format!("{case}, in 64 MiB");
        let bounds = Bounds::at_least(None, 0.7);
        bench.contest((ROW, &case, size), (&mut bound, &mut free), 7, &[("", speed, bounds)])?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "memory of programs")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn free_space(path: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail * found.f_frsize)
}

/// A memory cgroup of ours, of either version; removed at the end.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self> {
        let name = format!("sacker-bench-{}", std::process::id());
        for (root, limit) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let group = Self(Path::new(root).join(&name));
            if fs::create_dir(&group.0).is_ok() && fs::write(group.0.join(limit), LIMIT.to_string()).is_ok() {
                return Ok(group);
            }
        }
        Err("no memory cgroup".into())
    }

    /// The program in the group, from its first instruction on.
    fn program(&self, program: &Program) -> Program {
        let enter = format!("echo $$ >'{}' && exec \"$@\"", self.0.join("cgroup.procs").display());
        let words = ["sh", "-c", &enter, "sh"].map(str::to_owned).into_iter();
        Program { words: words.chain(program.words.iter().cloned()).collect(), ..program.clone() }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
