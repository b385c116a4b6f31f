//! Places where a test can make the process die: one before and after every step of input and output with which `init`,
//! `add`, `tag`, `untag`, `remove`, `export`, `gc` and the operator change something. An `import` has none of its own: it
//! writes create-only what is known beforehand, and is simply run again.
//!
//! A debug build started with `SACKER_CRASH_AT=<name>[:<nth>]` ends there at once, as by `kill -9`: nothing is cleaned up,
//! no destructor runs. With `SACKER_CRASH_TRACE=<file>` it appends a line for each point it passes instead (the name, and
//! where it has one the path and the bytes there), so that a test can arm exactly those that a command reaches. A release
//! build has none of this. Not responsible for faults that come from outside (lost replies, refusals): those need a server
//! or a proxy.

use std::path::Path;

/// All names. A test compares them with those in the source, and the crash tests (`tests/it/crashes`, and for the operator
/// `tests/it/operator/crash_points.rs`) fail for one that nothing reaches.
#[rustfmt::skip]
pub const POINTS: &[&str] = &[
    // An export to a file.
    "export.file.durable",
    "export.file.named",
    "export.file.synced",
    "export.file.written",
    // Files: what ledger, store and downloads on disk share.
    "files.directory.created",
    "files.directory.durable",
    "files.temporary.created",
    // The object ledger, on files and on S3.
    "ledger.archive.after",
    "ledger.archive.before",
    "ledger.fence.after",
    "ledger.fence.before",
    "ledger.hint.after",
    "ledger.hint.before",
    "ledger.mark.after",
    "ledger.mark.before",
    "ledger.pointer.after",
    "ledger.pointer.before",
    "ledger.reservation.after",
    "ledger.reservation.before",
    "ledger.settings.after",
    "ledger.settings.before",
    "ledger.tombstone.after",
    "ledger.tombstone.before",
    "ledger.version.after",
    "ledger.version.before",
    // Its objects as files.
    "file.directory.created",
    "file.directory.durable",
    "file.lock.taken",
    "file.object.durable",
    "file.object.linked",
    "file.object.renamed",
    "file.temporary.synced",
    "file.temporary.written",
    // The root node of a ZooKeeper ledger.
    "zookeeper.root.after",
    "zookeeper.root.before",
    // Its objects in a git repository.
    "git.clone.after",
    "git.clone.before",
    "git.commit.after",
    "git.commit.before",
    "git.push.after",
    "git.push.before",
    "git.repository.after",
    "git.repository.before",
    // The DynamoDB ledger.
    "dynamo.tag.after",
    "dynamo.tag.before",
    "dynamo.tombstone.after",
    "dynamo.tombstone.before",
    "dynamo.version.after",
    "dynamo.version.before",
    // The operator: what it writes into the cluster, and the steps of its own in the ledger.
    "operator.config-map.create.after",
    "operator.config-map.create.before",
    "operator.config-map.delete.after",
    "operator.config-map.delete.before",
    "operator.config-map.replace.after",
    "operator.config-map.replace.before",
    "operator.event.create.after",
    "operator.event.create.before",
    "operator.finalizer.add.after",
    "operator.finalizer.add.before",
    "operator.finalizer.force.after",
    "operator.finalizer.force.before",
    "operator.finalizer.remove.after",
    "operator.finalizer.remove.before",
    "operator.lease.create.after",
    "operator.lease.create.before",
    "operator.lease.release.after",
    "operator.lease.release.before",
    "operator.lease.renew.after",
    "operator.lease.renew.before",
    "operator.rollout.keep.after",
    "operator.rollout.keep.before",
    "operator.rollout.let-go.after",
    "operator.rollout.let-go.before",
    "operator.rollout.pin.after",
    "operator.rollout.pin.before",
    "operator.status.apply.after",
    "operator.status.apply.before",
    "operator.status.rest.after",
    "operator.status.rest.before",
    "operator.tag.change.after",
    "operator.tag.change.before",
    "operator.tag.disown.after",
    "operator.tag.disown.before",
    "operator.tag.untag.after",
    "operator.tag.untag.before",
    // Blobs as files.
    "store.file.confirmed",
    "store.file.copied",
    "store.file.durable",
    "store.file.named",
    "store.file.replaced",
    "store.file.synced",
    // Collection of blobs.
    "gc.delete.after",
    "gc.delete.before",
    "gc.discard.after",
    "gc.discard.before",
    "gc.hide.after",
    "gc.hide.before",
    "gc.manifest.after",
    "gc.manifest.before",
    "gc.purge.after",
    "gc.purge.before",
    "gc.restore.after",
    "gc.restore.before",
    // Blobs on S3.
    "store.s3.complete.after",
    "store.s3.complete.before",
    "store.s3.create.after",
    "store.s3.create.before",
    "store.s3.part.after",
    "store.s3.part.before",
    "store.s3.put.after",
    "store.s3.put.before",
    // Blobs in HDFS.
    "store.hdfs.close.after",
    "store.hdfs.close.before",
    "store.hdfs.condemn.after",
    "store.hdfs.condemn.before",
    "store.hdfs.create.after",
    "store.hdfs.create.before",
    "store.hdfs.delete.after",
    "store.hdfs.delete.before",
    "store.hdfs.directory.after",
    "store.hdfs.directory.before",
    "store.hdfs.forget.after",
    "store.hdfs.forget.before",
    "store.hdfs.init.after",
    "store.hdfs.init.before",
    "store.hdfs.manifest.after",
    "store.hdfs.manifest.before",
    "store.hdfs.name.after",
    "store.hdfs.name.before",
    "store.hdfs.remove.after",
    "store.hdfs.remove.before",
    "store.hdfs.replace.after",
    "store.hdfs.replace.before",
    "store.hdfs.restore.after",
    "store.hdfs.restore.before",
    "store.hdfs.send.after",
    "store.hdfs.send.before",
];

/// Ends the process here if this point is the armed one.
#[cfg(debug_assertions)]
pub(crate) fn crash_point(name: &'static str) {
    armed::pass(name);
}

/// The same, for a step on the file or directory at `path`: the trace has the path and, of a file, the bytes, so that a test
/// can tell what a loss of power would have left.
#[cfg(debug_assertions)]
pub(crate) fn crash_point_at(name: &'static str, path: &Path) {
    armed::pass_at(name, Some(path));
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) const fn crash_point_at(_name: &'static str, _path: &Path) {}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) const fn crash_point(_name: &'static str) {}

/// Carries out `step` between the points `<name>.before` and `<name>.after`. The second also when the step failed: a
/// failed request may have been carried out.
#[cfg(debug_assertions)]
pub(crate) async fn around<F: Future>(name: &'static str, step: F) -> F::Output {
    armed::pass(&format!("{name}.before"));
    let output = step.await;
    armed::pass(&format!("{name}.after"));
    output
}

/// The step alone, in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn around<F: Future>(_name: &'static str, step: F) -> F {
    step
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::{File, OpenOptions};
    use std::io::Write as _;
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Mutex, OnceLock, PoisonError};

    use crate::environment::Environment;

    /// What the environment asks for.
    #[derive(Debug, Default)]
    struct Settings {
        /// The point, and at which of its passings the process dies.
        armed: Option<(String, u32)>,
        passed: AtomicU32,
        trace: Option<Mutex<File>>,
    }

    impl Settings {
        fn new(environment: &Environment) -> Self {
            let armed = environment.get("SACKER_CRASH_AT").map(|asked| match asked.rsplit_once(':') {
                Some((name, nth)) => (name.to_owned(), nth.parse().expect("SACKER_CRASH_AT=<name>:<nth>")),
                None => (asked.to_owned(), 1),
            });
            let open = |path| OpenOptions::new().create(true).append(true).open(path);
            let trace = environment.get("SACKER_CRASH_TRACE").map(open);
            let trace = trace.map(|file| Mutex::new(file.expect("SACKER_CRASH_TRACE names a file")));
            Self { armed, passed: AtomicU32::new(0), trace }
        }
    }

    pub(super) fn pass(name: &str) {
        pass_at(name, None);
    }

    pub(super) fn pass_at(name: &str, path: Option<&Path>) {
        static SETTINGS: OnceLock<Settings> = OnceLock::new();
        debug_assert!(super::POINTS.contains(&name), "'{name}' is not in POINTS");
        let settings = SETTINGS.get_or_init(|| Settings::new(&Environment::of_process()));
        if let Some(trace) = &settings.trace {
            let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
            let (path, bytes) = path.map_or_else(Default::default, |path| {
                (path.display().to_string(), std::fs::read(path).map(hex::encode).unwrap_or_default())
            });
            let line = format!("{name}\t{path}\t{bytes}\n");
            trace.write_all(line.as_bytes()).expect("the trace can be written");
        }
        if let Some((armed, nth)) = &settings.armed
            && armed == name
            && settings.passed.fetch_add(1, Ordering::Relaxed) + 1 == *nth
        {
            // As `kill -9`: no handler runs, and no core is dumped.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The names in the source below `directory`: `crash_point("name")`, and `around("name", ..)`, which is two.
    fn names(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).expect("the source is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                names(&path, found);
                continue;
            }
            if path.ends_with("crash_point.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("source is text");
            let calls: [(&str, &[&str]); 3] =
                [("crash_point(", &[""]), ("crash_point_at(", &[""]), ("around(", &[".before", ".after"])];
            for (call, endings) in calls {
                for (_, rest) in text.match_indices(call).map(|(start, _)| text.split_at(start + call.len()))
                {
                    let rest = rest.trim_start();
                    let Some((name, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
                        panic!("{}: a crash point without a literal name", path.display());
                    };
                    for ending in endings {
                        found.insert(format!("{name}{ending}"));
                    }
                }
            }
        }
    }

    #[test]
    fn every_point_in_the_source_is_in_the_list_and_the_other_way_round() {
        let mut found = BTreeSet::new();
        names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let listed: BTreeSet<String> = POINTS.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(listed.len(), POINTS.len(), "a name stands there twice");
        assert_eq!(found, listed);
    }
}
