//! The reference clients, run as processes of their own, and the limit that they and the hash give.
//!
//! `client discard STORE SHA256 SIZE` downloads over the store client of this package and drops the bytes: nobody can be faster
//! with it. `client verify STORE SHA256 SIZE` is the downloader of `sacker download -o -`, with an output that drops what was
//! verified. `client hash FILE` only hashes.

use std::fs::File;
use std::io;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sacker::connect::Connect;
use sacker::fetch::{self, Artifact};
use sacker::model::Sha256;
use sacker::store::{self, Scan, Store};

use super::machine;
use super::process::{Program, Sample};
use super::servers::{Object, Server};
use super::{Bench, Result};

/// What the downloader starts with, and stays at where the hash is what limits it.
const CONNECTIONS: usize = 2;

/// Bytes of a request.
const PART: u64 = 16 << 20;

/// Runs as a client; what it verified goes to standard output.
#[expect(clippy::print_stdout, reason = "a program for the terminal")]
pub(crate) fn client(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["hash", path] => println!("{}", hash_file(path)?),
        [how @ ("discard" | "verify"), store, sha256, size] => {
            let (sha256, size) = (sha256.parse::<Sha256>()?, size.parse::<u64>()?);
            runtime.block_on(async {
                let store = store::open(&store.parse()?, &Connect::default()).await?;
                if *how == "discard" {
                    return discard(&*store, &sha256, size).await;
                }
                let label = "bench@1".to_owned();
                let artifact = Artifact { label, sha256, size: Some(size), basename: None, mode: None };
                fetch::copy(&*store, &artifact, io::sink(), &|_| ()).await?;
                println!("{sha256}");
                Ok(())
            })?;
        }
        _ => return Err("client discard|verify STORE SHA256 SIZE, or hash FILE".into()),
    }
    Ok(())
}

async fn discard(store: &dyn Store, sha256: &Sha256, size: u64) -> Result<()> {
    let part = |index: u64| async move {
        let range = index * PART..((index + 1) * PART).min(size);
        let mut bytes = store.open(sha256, range).await?.stream;
        let mut received = 0;
        while let Some(chunk) = bytes.try_next().await? {
            received += chunk.len() as u64;
        }
        Ok::<u64, sacker::error::Error>(received)
    };
    let parts = stream::iter(0..size.div_ceil(PART)).map(part).buffer_unordered(CONNECTIONS);
    let received = parts.try_fold(0, |sum, part| async move { Ok(sum + part) }).await?;
    if received == size { Ok(()) } else { Err(format!("{received} of {size} bytes came").into()) }
}

/// The digest of a file, read as `sacker add` reads it.
pub(crate) fn hash_file(path: impl AsRef<std::path::Path>) -> io::Result<Sha256> {
    // Said to be too large to be kept in memory.
    let scan = Scan::read(File::open(path)?, Some(u64::MAX), &|_| (), &mut |_| Ok(()))?;
    Ok(scan.sha256)
}

/// One of the clients above, for an object of a server.
pub(crate) fn program(bench: &Bench, how: &str, server: &Server, object: &Object) -> Program {
    let (store, size) = (server.store("bench"), object.size.to_string());
    Program::new([
        bench.programs.own.as_str(),
        "client",
        how,
        store.as_str(),
        object.sha256.as_str(),
        size.as_str(),
    ])
}

/// What [`discard`] cost, turned into the limit of a verified download: its time is that of the object at
/// L = min(H, N, C).
pub(crate) fn limit(discard: Sample, size: u64) -> Sample {
    #[expect(clippy::cast_precision_loss, reason = "sizes of benchmarks")]
    let (size, cores) = (size as f64, machine::cores() as f64);
    let (hash, hash_cpu) = machine::hash_rate();
    let network = size / discard.seconds;
    let processor = cores / (hash_cpu + (discard.cpu() + discard.server) / size);
    Sample {
        seconds: size / hash.min(network).min(processor),
        limit: Some([hash, network, processor]),
        ..discard
    }
}
