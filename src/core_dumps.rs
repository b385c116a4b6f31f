//! No core dumps: the memory of every program here holds credentials.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Keeps this process from leaving its memory behind when it dies; the programs that it starts inherit the limit. To be
/// called first of all.
///
/// Where the system pipes dumps to a program of its own (`core_pattern`), it does not heed the limit; so Linux is also told
/// that this process has no dump at all. Debuggers and other processes of the same user cannot read its memory either then.
pub fn forbid() {
    // What is less than before is always allowed. Nobody can be told if it is not.
    let _kept = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _kept = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
