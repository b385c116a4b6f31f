//! The rows: each starts its servers, and hands its contenders to the harness.

mod cli;
mod credentials;
mod download;
mod hash;
mod memory;
mod size;
mod small;
mod upload;
mod wan;

use super::{Bench, Result};

/// One row of the suite.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&mut Bench) -> Result<()>,
}

pub(crate) const ROWS: &[Row] = &[
    Row { name: "size", what: "bytes of each binary, and what is linked into it", run: size::run },
    Row { name: "cli", what: "help, and a list of 10,000 packages", run: cli::cli },
    Row { name: "cold-start", what: "from exec to a verified file of 1 KiB", run: small::cold_start },
    Row {
        name: "cold-creds",
        what: "credentials while the metadata service is a black hole",
        run: credentials::run,
    },
    Row { name: "hash-limit", what: "our hasher beside the hash alone", run: hash::run },
    Row { name: "dl-sink", what: "verified and discarded, from three servers", run: download::sink },
    Row { name: "dl-sink-tls", what: "the same over TLS", run: download::sink_tls },
    Row { name: "dl-lag", what: "from the last byte to the digest", run: download::lag },
    Row { name: "dl-file-fresh", what: "to a fresh file, verified", run: download::file_fresh },
    Row { name: "dl-cpu", what: "user CPU of a download to a file", run: download::cpu },
    Row { name: "dl-mem", what: "peak memory of a download to a file", run: memory::run },
    Row { name: "dl-small", what: "1,000 files of 64 KiB, and one of 1 KiB", run: small::small },
    Row { name: "dl-wan", what: "85 MB/s per connection, 20 ms, one slow connection", run: wan::wan },
    Row { name: "dl-resume", what: "killed in the middle, and again", run: wan::resume },
    Row { name: "ul-add", what: "add a large file", run: upload::add },
    Row { name: "ul-dedupe", what: "add a file whose bytes are there already", run: upload::dedupe },
];

/// `1 GiB`
fn words(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}
