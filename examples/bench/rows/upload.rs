//! Uploads: `sacker add` to a directory, MinIO and versitygw, beside a hash and a copy by the peers.
//!
//! Each run sends to a prefix of its own, so that nothing is there already; what it sent is read back, compared and removed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Advice, fadvise};
use sacker::connect::Connect;
use sacker::model::Sha256;
use sacker::store::{self, BlobFile};

use super::super::contest::{Contender, Question, speed, time};
use super::super::judge::Bounds;
use super::super::peers::Peers;
use super::super::process::{Program, Sample, run};
use super::super::servers::{Object, Server};
use super::super::{Bench, Programs, Result, reference};
use super::words;

const BUCKET: &str = "bench";

/// Bytes that have no pattern, in a file.
fn write_noise(path: &Path, size: u64, seed: u64) -> Result<Sha256> {
    let (mut random, mut file) = (fastrand::Rng::with_seed(seed), File::create(path)?);
    let mut left = size;
    let mut buffer = vec![0; 1 << 20];
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        random.fill(&mut buffer[..length]);
        file.write_all(&buffer[..length])?;
        left -= length as u64;
    }
    // Only pages that are on disk can be left out of the cache later.
    file.sync_all()?;
    Ok(reference::hash_file(path)?)
}

/// Puts a new object of `size` bytes, made in `file`, into the bucket of a server.
pub(super) fn put(bench: &Bench, server: &Server, file: &Path, size: u64) -> Result<Object> {
    let sha256 = write_noise(file, size, bench.options.seed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let keys = [("AWS_ACCESS_KEY_ID", "testbed"), ("AWS_SECRET_ACCESS_KEY", "testbed-secret")];
        let environment = keys.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let connect = Connect { environment, ..Connect::default() };
        let store = store::open(&server.store(BUCKET).parse()?, &connect).await?;
        store.init().await?;
        store.put(BlobFile { path: file, sha256, size, scan: None }, &|_| ()).await?;
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    Ok(Object { sha256: sha256.to_string(), size })
}

/// A file that is sent, and where to.
struct Upload<'a> {
    home: PathBuf,
    programs: Rc<Programs>,
    peers: Rc<Peers>,
    file: PathBuf,
    sha256: Sha256,
    /// Nothing for a directory.
    server: Option<&'a Server>,
}

impl Upload<'_> {
    /// The store of one run, as our URI.
    fn store(&self, run: &str) -> String {
        match self.server {
            Some(server) => format!("s3://{BUCKET}/{run}?endpoint={}", server.endpoint),
            None => format!("file://{}", self.home.join(run).display()),
        }
    }

    /// `sacker add`, with an empty ledger.
    fn ours(&self, name: &str, flags: &[&str], is_cold: bool) -> Contender<'_> {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        self.contender(name, is_cold, move |run| {
            let file = self.file.display().to_string();
            let words = [self.programs.cli.as_str(), "add", "bench", &file].map(str::to_owned);
            Some(self.with_places(Program::new(words.into_iter().chain(flags.iter().cloned())), run))
        })
    }

    fn with_places(&self, program: Program, run: &str) -> Program {
        let ledger = format!("file://{}", self.home.join(format!("ledger-{run}")).display());
        program.env("SACKER_LEDGER", ledger).env("SACKER_STORE", self.store(run))
    }

    /// The hash of openssl, then a copy; or the copy alone.
    fn theirs(&self, name: &str, peer: &'static str, with_hash: bool) -> Contender<'_> {
        self.contender(name, false, move |run| {
            let (file, key) = (self.file.display().to_string(), self.sha256.to_string());
            let copy = match (self.server, peer) {
                (None, _) => {
                    let folder = self.home.join(run);
                    fs::create_dir_all(&folder).ok()?;
                    // On disk at the end, as ours is: a version must not be there without its blob after a power failure.
                    let line = "cp \"$1\" \"$2\" && sync \"$2\"";
                    Program::new(["sh", "-c", line, "sh", &file, &folder.join(key).display().to_string()])
                }
                (Some(server), "s5cmd") => {
                    self.peers.s5cmd(server, &["cp", &file, &format!("s3://{BUCKET}/{run}/{key}")])?
                }
                (Some(server), _) => {
                    let to = format!("s3://{BUCKET}/{run}/{key}");
                    self.peers.aws(server, &["s3", "cp", "--only-show-errors", &file, &to])?
                }
            };
            let line = if with_hash {
                "openssl dgst -sha256 -r \"$1\" && shift && exec \"$@\""
            } else {
                "shift && \"$@\""
            };
            let fixed = ["sh", "-c", line, "sh", &file].map(str::to_owned);
            Some(Program { words: fixed.into_iter().chain(copy.words).collect(), ..copy })
        })
    }

    fn contender<'b>(
        &'b self,
        name: &str,
        is_cold: bool,
        mut program: impl FnMut(&str) -> Option<Program> + 'b,
    ) -> Contender<'b> {
        Contender::new(name, move || {
            let prefix = format!("run-{}", uuid::Uuid::new_v4().simple());
            let program = program(&prefix).ok_or("missing: testbed/get peers")?;
            run(&self.with_places(Program::new([self.programs.cli.as_str(), "init"]), &prefix), &self.home)?;
            if is_cold {
                fadvise(File::open(&self.file)?, 0, None, Advice::DontNeed)?;
            }
            let before = self.server.map_or(0.0, Server::cpu);
            let mut sample = run(&program, &self.home)?;
            sample.server = self.server.map_or(0.0, Server::cpu) - before;
            self.check_and_remove(&prefix)?;
            Ok(sample)
        })
    }

    fn check_and_remove(&self, prefix: &str) -> Result<()> {
        let size = fs::metadata(&self.file)?.len().to_string();
        let sha256 = self.sha256.to_string();
        let verify = [self.programs.own.as_str(), "client", "verify", &self.store(prefix), &sha256, &size];
        run(&Program::new(verify), &self.home)?;
        let _ = fs::remove_dir_all(self.home.join(format!("ledger-{prefix}")));
        if let Some(server) = self.server {
            let all = format!("s3://{BUCKET}/{prefix}/*");
            let remove = self.peers.s5cmd(server, &["rm", &all]).ok_or("missing: testbed/get peers")?;
            run(&remove, &self.home)?;
        } else {
            fs::remove_dir_all(self.home.join(prefix))?;
        }
        Ok(())
    }
}

/// One contest of uploads: name, ours, theirs and what is asked.
type Contest<'a> = (Contender<'a>, Contender<'a>, Vec<(&'static str, Question, Bounds)>);

pub(super) fn add(bench: &mut Bench) -> Result<()> {
    const ROW: &str = "ul-add";
    let (file, size) = (bench.work().join("upload"), bench.options.size);
    let sha256 = write_noise(&file, size, bench.options.seed ^ 1)?;
    for place in ["directory", "minio", "versitygw"] {
        let server = if place == "directory" { None } else { Some(Server::real(bench, place)?) };
        let case = format!("{place}, {}", words(size));
        let upload = Upload {
            home: bench.work().to_owned(),
            programs: Rc::clone(&bench.programs),
            peers: Rc::clone(&bench.peers),
            file: file.clone(),
            sha256,
            server: server.as_ref(),
        };
        let digest = sha256.to_string();
        let known = ["--sha256", digest.as_str()];
        let shell = Bounds::at_least(0.9, 1.2);
        let one = Bounds::at_least(None, 0.85);
        let copy = if place == "directory" { "cp and sync" } else { "s5cmd cp" };
        let two_passes = format!("openssl, then {copy}");
        let mut contests: Vec<Contest<'_>> = vec![
            (
                upload.ours("ours", &[], false),
                upload.theirs(&two_passes, "s5cmd", true),
                vec![("", speed, shell)],
            ),
            (
                upload.ours("ours", &known, false),
                upload.theirs(&format!("{copy} alone (ours with --sha256)"), "s5cmd", false),
                vec![("", speed, one)],
            ),
        ];
        if server.is_some() {
            let aws = upload.theirs("openssl, then aws-cli", "aws", true);
            contests.push((upload.ours("ours", &[], false), aws, vec![("", speed, shell)]));
        }
        for (mut ours, mut theirs, questions) in contests {
            let warm = ours.run().and_then(|_| theirs.run());
            match warm {
                Ok(_) => bench.contest((ROW, &case, size), (&mut ours, &mut theirs), 5, &questions)?,
                Err(error) => bench.missing(ROW, &case, &theirs.name, error.to_string()),
            }
        }
        let cold = upload.ours("ours", &[], true).run()?;
        #[expect(clippy::cast_precision_loss, reason = "sizes of benchmarks")]
        let read = cold.disk as f64 / size as f64;
        bench.figure(
            (ROW, &case),
            "bytes read from disk, file not cached",
            (read, "x size"),
            Bounds::at_most(1.05, 1.05),
        );
    }
    Ok(())
}

pub(super) fn dedupe(bench: &mut Bench) -> Result<()> {
    const ROW: &str = "ul-dedupe";
    let (file, size) = (bench.work().join("upload"), bench.options.size);
    let sha256 = write_noise(&file, size, bench.options.seed ^ 2)?.to_string();
    for place in ["directory", "minio"] {
        let server = if place == "directory" { None } else { Some(Server::real(bench, place)?) };
        let store = match &server {
            Some(server) => server.store(BUCKET),
            None => format!("file://{}", bench.work().join("store").display()),
        };
        let ledger = format!("file://{}", bench.work().join(format!("ledger-{place}")).display());
        let (home, path) = (bench.work().to_owned(), file.display().to_string());
        let places = |program: Program| {
            program.env("SACKER_LEDGER", ledger.as_str()).env("SACKER_STORE", store.as_str())
        };
        run(&places(Program::new([bench.programs.cli.as_str(), "init"])), &home)?;
        let add = places(Program::new([bench.programs.cli.as_str(), "add", "bench", &path]));
        let hash = Program::new([bench.programs.own.as_str(), "client", "hash", &path]);
        let mut ours = Contender::new("ours", || run(&add, &home));
        let mut alone = Contender::new("the hash of the file alone", || {
            let sample: Sample = run(&hash, &home)?;
            if sample.output.trim() == sha256 { Ok(sample) } else { Err("wrong digest".into()) }
        });
        // The first one sends it.
        ours.run()?;
        alone.run()?;
        let case = format!("{place}, {}", words(size));
        let bounds = Bounds::at_most(1.2, 1.05);
        bench.contest((ROW, &case, size), (&mut ours, &mut alone), 7, &[("", time, bounds)])?;
    }
    Ok(())
}
