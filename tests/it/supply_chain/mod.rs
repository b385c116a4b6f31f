//! What stands between the source and those who run it: licences, bills of materials, workflows, and the scripts of a release.

mod bills;
mod licences;
mod releases;
mod workflows;

use std::path::{Path, PathBuf};

/// A file or folder of the project.
fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(place(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The compiler of the project.
fn channel() -> String {
    let file = read("rust-toolchain.toml");
    let line = file.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel");
    line.trim_matches('"').to_owned()
}
