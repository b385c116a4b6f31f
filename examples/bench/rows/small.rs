//! Small objects: where what counts is how fast a program starts, and what each file costs it.

use std::fs;

use sacker::model::Sha256;

use super::super::contest::{Check, Contender, speed, time};
use super::super::judge::Bounds;
use super::super::process::Program;
use super::super::servers::{Object, Server};
use super::super::{Bench, Result, peers};
use super::download::{init, one_object};

/// How many files, and their size.
const FILES: usize = 1_000;
const FILE: usize = 64 << 10;

pub(super) fn cold_start(bench: &mut Bench) -> Result<()> {
    const ROW: &str = "cold-start";
    let (server, object) = one_object(bench, 1 << 10, &[])?;
    let (to, case) = (bench.work().join("file"), "blobserve, 1 KiB");
    let mut ours = bench.contender("ours", init(bench, &server, &object, &to), &server, Check::Nothing);
    let mut ours = checked(&mut ours, &to, &object);
    let first = ours.run()?;
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let requests = first.requests as f64;
    bench.figure((ROW, case), "requests", (requests, "requests"), Bounds::at_most(1.0, 1.0));
    let source = format!("s3://bench/{}", object.sha256);
    let s5cmd = bench.peers.s5cmd(&server, &["cp", &source, &to.display().to_string()]);
    let boto3 = bench.peers.python("boto3", &server, &object.sha256, &to);
    let bounds = [Bounds::at_most(2.0, 1.2), Bounds::at_most(0.1, 0.05)];
    for ((name, program), bounds) in [("s5cmd", s5cmd), ("boto3", boto3)].into_iter().zip(bounds) {
        let Some(program) = program else {
            bench.missing(ROW, case, name, "missing: testbed/get peers");
            continue;
        };
        let mut peer = bench.contender(name, program, &server, Check::Nothing);
        let mut peer = checked(&mut peer, &to, &object);
        peer.run()?;
        let pairs = if name == "s5cmd" { 50 } else { 7 };
        bench.contest((ROW, case, 0), (&mut ours, &mut peer), pairs, &[("", time, bounds)])?;
    }
    Ok(())
}

/// Removes the file before, and looks at it afterwards; without the pause of large files.
fn checked<'a>(
    contender: &'a mut Contender<'_>,
    to: &'a std::path::Path,
    object: &'a Object,
) -> Contender<'a> {
    Contender::new(contender.name.clone(), move || {
        let _ = fs::remove_file(to);
        let sample = contender.run()?;
        if Sha256::of(&fs::read(to)?).to_string() == object.sha256 {
            Ok(sample)
        } else {
            Err("wrong bytes".into())
        }
    })
}

pub(super) fn small(bench: &mut Bench) -> Result<()> {
    const ROW: &str = "dl-small";
    let (blobs, files) = (bench.work().join("blobs"), bench.work().join("files"));
    fs::create_dir_all(&blobs)?;
    let mut random = fastrand::Rng::with_seed(bench.options.seed);
    let mut keys = Vec::new();
    for _ in 0..FILES {
        let mut bytes = vec![0; FILE];
        random.fill(&mut bytes);
        let key = Sha256::of(&bytes).to_string();
        fs::write(blobs.join(&key), bytes)?;
        keys.push(key);
    }
    let server = Server::blobserve(bench, &["--directory".to_owned(), blobs.display().to_string()])?;
    let pins = keys.iter().map(|key| format!("bench@1+sha256:{key}={}", files.join(key).display()));
    let store = server.store("bench");
    let fixed = [bench.programs.init.as_str(), "-q", "--store", &store].map(str::to_owned);
    let mut ours =
        bench.contender("ours", Program::new(fixed.into_iter().chain(pins)), &server, Check::Nothing);
    let list = bench.work().join("list");
    let lines = keys.iter().map(|key| format!("cp s3://bench/{key} {}\n", files.join(key).display()));
    fs::write(&list, lines.collect::<String>())?;
    let case = "blobserve, 1,000 files of 64 KiB";
    if let Some(program) = bench.peers.s5cmd(&server, &["run", &list.display().to_string()]) {
        let mut peer = bench.contender("s5cmd run", program, &server, Check::Nothing);
        let (mut ours, mut peer) = (all(&mut ours, &files, &keys), all(&mut peer, &files, &keys));
        peer.run()?;
        ours.run()?;
        let bounds = Bounds::at_least(1.0, 2.0);
        bench.contest(
            (ROW, case, (FILES * FILE) as u64),
            (&mut ours, &mut peer),
            7,
            &[("", speed, bounds)],
        )?;
    } else {
        bench.missing(ROW, case, "s5cmd run", "missing: testbed/get peers");
    }
    let (server, object) = one_object(bench, 1 << 10, &[])?;
    let to = bench.work().join("file");
    let mut ours = bench.contender("ours", init(bench, &server, &object, &to), &server, Check::Nothing);
    let curl = peers::curl_to_file(&server, &object, &to);
    let mut curl = bench.contender("curl, no check", curl, &server, Check::Nothing);
    let (mut ours, mut curl) = (checked(&mut ours, &to, &object), checked(&mut curl, &to, &object));
    ours.run()?;
    curl.run()?;
    let bounds = Bounds::at_most(3.0, 1.5);
    bench.contest((ROW, "blobserve, 1 KiB", 0), (&mut ours, &mut curl), 25, &[("", time, bounds)])
}

/// Empties the folder before, and looks at every file afterwards.
fn all<'a>(
    contender: &'a mut Contender<'_>,
    files: &'a std::path::Path,
    keys: &'a [String],
) -> Contender<'a> {
    Contender::new(contender.name.clone(), move || {
        let _ = fs::remove_dir_all(files);
        fs::create_dir(files)?;
        let sample = contender.run()?;
        for key in keys {
            if Sha256::of(&fs::read(files.join(key))?).to_string() != *key {
                return Err(format!("wrong bytes in {key}").into());
            }
        }
        Ok(sample)
    })
}
