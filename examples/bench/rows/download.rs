//! One large object: to nowhere, and to a fresh file.
//!
//! To nowhere, ours is the client `verify` of `reference.rs`: the downloader of `sacker download -o -` with an output that drops
//! what was verified, as curl's `/dev/null` does. To a file it is `sacker-init` with a pinned spec.

use std::path::Path;

use super::super::contest::{Check, Contender, hash_alone, speed, user_cpu};
use super::super::judge::Bounds;
use super::super::process::{Program, Sample};
use super::super::servers::{Object, Server, make_certificate};
use super::super::{Bench, Result, machine, peers, reference};
use super::words;

/// Bytes that may wait for the hash when the last one arrives (`src/fetch/budget.rs`).
pub(super) const WINDOW: u64 = 10 << 20;

/// Bytes; the kernel takes twice as many, for what it keeps beside them.
const SEND_BUFFER: &str = "131072";

/// `sacker-init` with a pinned spec, to a file.
pub(super) fn init(bench: &Bench, server: &Server, object: &Object, to: &Path) -> Program {
    let pin = format!("bench@1+sha256:{}", object.sha256);
    let (store, to) = (server.store("bench"), to.display().to_string());
    Program::new([bench.programs.init.as_str(), "-q", "--store", &store, "--pin", &pin, "--to", &to])
}

/// A server with one synthetic object of this size.
pub(super) fn one_object(bench: &Bench, size: u64, more: &[&str]) -> Result<(Server, Object)> {
    let options = ["--synthetic".to_owned(), size.to_string()].into_iter();
    let options: Vec<String> = options.chain(more.iter().map(|&word| word.to_owned())).collect();
    let server = Server::blobserve(bench, &options)?;
    let object = server.objects.first().cloned().ok_or("blobserve told no object")?;
    Ok((server, object))
}

pub(super) fn sink(bench: &mut Bench) -> Result<()> {
    const ROW: &str = "dl-sink";
    let size = bench.options.size;
    let (server, object) = one_object(bench, size, &[])?;
    sink_from(bench, ROW, &server, &object)?;
    drop(server);
    let (server, object) = one_object(bench, 8 * size, &[])?;
    let case = format!("blobserve, {}", words(object.size));
    let mut ours = verify(bench, &server, &object);
    beside_limit(bench, ROW, &case, &mut ours, &server, &object)?;
    drop(ours);
    drop(server);
    // The same bytes on the real servers, from a file that is thrown away as soon as both have them.
    let file = bench.work().join("object");
    for name in ["minio", "versitygw"] {
        let server = Server::real(bench, name)?;
        let object = super::upload::put(bench, &server, &file, size)?;
        std::fs::remove_file(&file)?;
        sink_from(bench, ROW, &server, &object)?;
    }
    Ok(())
}

fn verify<'a>(bench: &Bench, server: &'a Server, object: &Object) -> Contender<'a> {
    let program = reference::program(bench, "verify", server, object);
    bench.contender("ours", program, server, Check::Output(object.sha256.clone()))
}

fn beside_limit(
    bench: &mut Bench,
    row: &'static str,
    case: &str,
    ours: &mut Contender<'_>,
    server: &Server,
    object: &Object,
) -> Result<()> {
    let discard = reference::program(bench, "discard", server, object);
    let mut discard = bench.contender("discard", discard, server, Check::Nothing);
    let mut limit = Contender::new("limit L", || Ok(reference::limit(discard.run()?, object.size)));
    limit.run()?;
    let bounds = Bounds::at_least(0.70, 0.85);
    // Twice as many where one takes a second: what this comes to is within 5 % of a bound.
    let pairs = if object.size > bench.options.size { 7 } else { 15 };
    bench.contest((row, case, object.size), (ours, &mut limit), pairs, &[("", speed, bounds)])
}

fn sink_from(bench: &mut Bench, row: &'static str, server: &Server, object: &Object) -> Result<()> {
    let case = format!("{}, {}", server.name, words(object.size));
    let what = (row, case.as_str(), object.size);
    let mut ours = verify(bench, server, object);
    ours.run()?;
    beside_limit(bench, row, &case, &mut ours, server, object)?;
    let digest = Check::Output(object.sha256.clone());
    let mut others = vec![
        (
            "curl, openssl beside it",
            vec![peers::curl_into_openssl(server, object)],
            digest,
            Bounds::at_least(1.2, 1.7),
        ),
        ("curl, no check", vec![peers::curl(server, object)], Check::Nothing, Bounds::at_least(None, None)),
    ];
    for (name, settings) in bench.peers.to_sink(server, object) {
        others.push((name, settings, Check::Nothing, Bounds::at_least(None, 1.0)));
    }
    for (name, settings, check, bounds) in others {
        let contender = |program| bench.contender(name, program, server, check.clone());
        let settings = settings.into_iter().map(contender).collect();
        bench.beside(what, &mut ours, (name, settings), &[("", speed, bounds)])?;
    }
    Ok(())
}

pub(super) fn sink_tls(bench: &mut Bench) -> Result<()> {
    let (size, folder) = (bench.options.size, bench.work().to_owned());
    make_certificate(&folder)?;
    let (certificate, key) = (folder.join("certificate"), folder.join("key"));
    let pair = format!("{}:{}", certificate.display(), key.display());
    let (server, object) = one_object(bench, size, &["--tls", &pair])?;
    let trust = certificate.display().to_string();
    let ours = reference::program(bench, "verify", &server, &object).env("SSL_CERT_FILE", trust.as_str());
    let mut ours = bench.contender("ours", ours, &server, Check::Output(object.sha256.clone()));
    let piped = peers::curl_into_openssl(&server, &object).env("SSL_CERT_FILE", trust);
    let mut piped =
        bench.contender("curl, openssl beside it", piped, &server, Check::Output(object.sha256.clone()));
    ours.run()?;
    piped.run()?;
    let case = format!("blobserve, {}", words(size));
    let bounds = Bounds::at_least(1.1, 1.5);
    bench.contest(("dl-sink-tls", &case, size), (&mut ours, &mut piped), 7, &[("", speed, bounds)])
}

pub(super) fn lag(bench: &mut Bench) -> Result<()> {
    let size = bench.options.size;
    // What the server has sent is then what the client's machine has: no client hashes what is still in the server's buffer.
    let (server, object) = one_object(bench, size, &["--send-buffer", SEND_BUFFER])?;
    let case = format!("blobserve, {}", words(size));
    let mut ours = verify(bench, &server, &object);
    let mut window = Contender::new("the hash of a full window", || {
        #[expect(clippy::cast_precision_loss, reason = "10 MiB")]
        let lag = WINDOW as f64 / machine::hash_rate().0;
        Ok(Sample { seconds: lag, lag, ..Sample::default() })
    });
    let lag = |ours: &Sample, theirs: &Sample| ours.lag / theirs.lag;
    ours.run()?;
    bench.contest(
        ("dl-lag", &case, 0),
        (&mut ours, &mut window),
        15,
        &[("", lag, Bounds::at_most(2.0, 1.0))],
    )?;
    let to = bench.work().join("file");
    let then = peers::curl_then_openssl(&server, &object, &to);
    let mut then =
        bench.contender("curl, then openssl", then, &server, Check::File(to, object.sha256.clone()));
    bench.contest(("dl-lag", &case, 0), (&mut ours, &mut then), 3, &[("", lag, Bounds::at_most(None, None))])
}

pub(super) fn file_fresh(bench: &mut Bench) -> Result<()> {
    const ROW: &str = "dl-file-fresh";
    let size = bench.options.size;
    let (server, object) = one_object(bench, size, &[])?;
    let (to, case) = (bench.work().join("file"), format!("blobserve, {}", words(size)));
    let check = || Check::File(to.clone(), object.sha256.clone());
    let mut ours = bench.contender("ours", init(bench, &server, &object, &to), &server, check());
    let mut ours = Contender::new("ours", || {
        #[expect(clippy::cast_precision_loss, reason = "sizes of benchmarks")]
        let hash = size as f64 / machine::hash_rate().0;
        Ok(Sample { hash, ..ours.run()? })
    });
    ours.run()?;
    let then = peers::curl_then_openssl(&server, &object, &to);
    let mut contenders = vec![("curl, then openssl", vec![then], Bounds::at_least(1.1, 1.5))];
    for (name, settings) in bench.peers.to_file(&server, &object, &to) {
        let bounds = if name == "boto3" { Bounds::at_least(0.9, 2.0) } else { Bounds::at_least(0.9, 1.1) };
        contenders.push((name, settings, bounds));
    }
    for (name, settings, bounds) in contenders {
        let contender = |program| bench.contender(name, program, &server, check());
        let settings = settings.into_iter().map(contender).collect();
        let user_bounds = Bounds::at_most(None, (name == "boto3").then_some(0.33));
        let questions = [
            ("", speed as _, bounds),
            ("our hash alone", hash_alone as _, Bounds::at_least(None, None)),
            ("user CPU", user_cpu as _, user_bounds),
        ];
        bench.beside((ROW, &case, size), &mut ours, (name, settings), &questions)?;
    }
    Ok(())
}

pub(super) fn cpu(bench: &mut Bench) -> Result<()> {
    let size = bench.options.size;
    let (server, object) = one_object(bench, size, &[])?;
    let (to, case) = (bench.work().join("file"), format!("blobserve, {}", words(size)));
    let check = || Check::File(to.clone(), object.sha256.clone());
    let mut hash = Contender::new("the hash alone", || {
        #[expect(clippy::cast_precision_loss, reason = "sizes of benchmarks")]
        let user = machine::hash_rate().1 * size as f64;
        Ok(Sample { seconds: user, user, ..Sample::default() })
    });
    let mut contenders = vec![("ours", vec![init(bench, &server, &object, &to)], Bounds::at_most(1.8, 1.4))];
    for (name, settings) in bench.peers.to_file(&server, &object, &to) {
        if matches!(name, "boto3" | "AWS CRT") {
            contenders.push((name, settings, Bounds::at_most(None, None)));
        }
    }
    for (name, settings, bounds) in contenders {
        let contender = |program| bench.contender(name, program, &server, check());
        match Bench::better(settings.into_iter().map(contender).collect()) {
            Ok(mut contender) => {
                let case = format!("{name}: {case}");
                bench.contest(
                    ("dl-cpu", &case, size),
                    (&mut contender, &mut hash),
                    7,
                    &[("user CPU", user_cpu, bounds)],
                )?;
            }
            Err(error) => bench.missing("dl-cpu", name, "the hash alone", error.to_string()),
        }
    }
    Ok(())
}
