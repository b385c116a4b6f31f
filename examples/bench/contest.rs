//! Two contenders in pairs, ABBA, with a canary between the pairs; and what is made of their samples.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::judge::{Bounds, Judgement, Measured, Ratio, is_undecided, judge};
use super::process::{Program, Sample, run};
use super::servers::{Server, counts};
use super::{Bench, Result, machine, reference};

/// Something that can be run again and again.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    run: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

/// How it is known that a run did what it should.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    /// Its exit code has to do.
    Nothing,
    /// Its standard output begins with the digest.
    Output(String),
    /// The file has this digest. It is removed before each run, and there is a pause.
    File(PathBuf, String),
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut() -> Result<Sample> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    pub(crate) fn run(&mut self) -> Result<Sample> {
        (self.run)().map_err(|error| format!("{}: {error}", self.name).into())
    }
}

/// What is asked of the samples of a pair, ours first.
pub(crate) type Question = fn(&Sample, &Sample) -> f64;

/// Their time / ours.
pub(crate) fn speed(ours: &Sample, theirs: &Sample) -> f64 {
    theirs.seconds / ours.seconds
}

/// Our time / theirs.
pub(crate) fn time(ours: &Sample, theirs: &Sample) -> f64 {
    ours.seconds / theirs.seconds
}

/// Their time / that of our hash alone: what a download that verifies cannot exceed, however fast the rest of it is.
pub(crate) fn hash_alone(ours: &Sample, theirs: &Sample) -> f64 {
    theirs.seconds / ours.hash
}

/// Our user CPU / theirs; no less than one tick of the clock that counts it.
pub(crate) fn user_cpu(ours: &Sample, theirs: &Sample) -> f64 {
    ours.user.max(0.01) / theirs.user.max(0.01)
}

/// One line of the result.
pub(crate) struct Comparison {
    pub(crate) row: &'static str,
    /// What was fetched or sent, and from where.
    pub(crate) case: String,
    /// What ours was measured beside.
    pub(crate) against: String,
    pub(crate) bounds: Bounds,
    pub(crate) measured: Measured,
    /// Ours and theirs, of each pair.
    pub(crate) samples: Vec<(Sample, Sample)>,
    /// Bytes of the object, for rates; 0 where that makes no sense.
    pub(crate) size: u64,
}

impl Bench {
    pub(crate) fn judge(&self, comparison: &Comparison) -> Judgement {
        judge(&comparison.measured, comparison.bounds, self.best, self.options.seed)
    }

    /// A program that downloads from a server.
    pub(crate) fn contender<'a>(
        &self,
        name: impl Into<String>,
        program: Program,
        server: &'a Server,
        check: Check,
    ) -> Contender<'a> {
        let (home, pause) = (self.work().to_owned(), self.options.pause);
        Contender::new(name, move || {
            if let Check::File(path, _) = &check {
                let _ = fs::remove_file(path);
                thread::sleep(pause);
            }
            if server.counts {
                counts(server.port, "/_reset")?;
            }
            let before = server.cpu();
            let mut sample = run(&program, &home)?;
            if server.counts {
                let counts = counts(server.port, "/_counts")?;
                (sample.requests, sample.sent, sample.lag) = (counts.requests, counts.bytes, counts.idle);
            }
            sample.server = server.cpu() - before;
            match &check {
                Check::Output(digest) if !sample.output.starts_with(digest.as_str()) => {
                    Err(format!("wrong bytes: '{}'", sample.output.trim()).into())
                }
                Check::File(path, digest) if reference::hash_file(path)?.to_string() != *digest => {
                    Err("wrong bytes in the file".into())
                }
                _ => Ok(sample),
            }
        })
    }

    /// The faster of several settings, by one run each, which also warms everything up.
    pub(crate) fn better<'a>(contenders: Vec<Contender<'a>>) -> Result<Contender<'a>> {
        let mut best: Option<(f64, Contender<'a>)> = None;
        let mut failure = "missing: testbed/get peers, or a package of the machine".to_owned();
        for mut contender in contenders {
            match contender.run() {
                Ok(sample) if best.as_ref().is_none_or(|(seconds, _)| sample.seconds < *seconds) => {
                    best = Some((sample.seconds, contender));
                }
                Ok(_) => {}
                Err(error) => failure = error.to_string(),
            }
        }
        best.map(|(_, contender)| contender).ok_or_else(|| failure.into())
    }

    /// Runs pairs until so many count, or more than that do not, and asks several questions of them.
    pub(crate) fn contest(
        &mut self,
        (row, case, size): (&'static str, &str, u64),
        (ours, theirs): (&mut Contender<'_>, &mut Contender<'_>),
        pairs: usize,
        questions: &[(&str, Question, Bounds)],
    ) -> Result<()> {
        let mut samples = Vec::new();
        let mut canaries = Vec::new();
        let mut before = self.canary();
        let wanted = self.pairs(pairs);
        while is_undecided(&canaries, self.best, wanted) {
            samples.push(if samples.len() % 2 == 0 {
                let sample = ours.run()?;
                (sample, theirs.run()?)
            } else {
                let sample = theirs.run()?;
                (ours.run()?, sample)
            });
            let after = self.canary();
            canaries.push(before.min(after));
            before = after;
        }
        for (what, question, bounds) in questions {
            let ratio = |((ours, theirs), canary): (&(Sample, Sample), &f64)| Ratio {
                ratio: question(ours, theirs),
                canary: *canary,
            };
            let ratios = samples.iter().zip(&canaries).map(ratio).collect();
            let against =
                if what.is_empty() { theirs.name.clone() } else { format!("{}, {what}", theirs.name) };
            self.comparisons.push(Comparison {
                row,
                case: case.to_owned(),
                against,
                bounds: *bounds,
                measured: Measured::Pairs(ratios),
                samples: samples.clone(),
                size,
            });
        }
        Ok(())
    }

    /// The same beside the fastest setting of a peer, if that is there.
    pub(crate) fn beside(
        &mut self,
        what: (&'static str, &str, u64),
        ours: &mut Contender<'_>,
        (name, settings): (&str, Vec<Contender<'_>>),
        questions: &[(&str, Question, Bounds)],
    ) -> Result<()> {
        match Self::better(settings) {
            Ok(mut peer) => self.contest(what, (ours, &mut peer), 7, questions),
            Err(error) => {
                self.missing(what.0, what.1, name, error.to_string());
                Ok(())
            }
        }
    }

    /// A figure that is exact, or a deadline.
    pub(crate) fn figure(
        &mut self,
        (row, case): (&'static str, &str),
        what: &str,
        (figure, unit): (f64, &'static str),
        bounds: Bounds,
    ) {
        self.push(row, case, what, bounds, Measured::Figure(figure, unit));
    }

    /// Something that could not be measured, and why.
    pub(crate) fn missing(&mut self, row: &'static str, case: &str, against: &str, why: impl Into<String>) {
        self.push(row, case, against, Bounds::at_least(None, None), Measured::Missing(why.into()));
    }

    fn push(&mut self, row: &'static str, case: &str, against: &str, bounds: Bounds, measured: Measured) {
        let (case, against) = (case.to_owned(), against.to_owned());
        self.comparisons.push(Comparison {
            row,
            case,
            against,
            bounds,
            measured,
            samples: Vec::new(),
            size: 0,
        });
    }

    fn canary(&mut self) -> f64 {
        // What the run before left behind, such as dying processes, is no neighbour.
        thread::sleep(Duration::from_millis(20));
        let rate = machine::canary();
        self.best = self.best.max(rate);
        self.worst = self.worst.min(rate);
        rate
    }
}

impl Sample {
    pub(crate) fn json(&self) -> Value {
        json!({
            "seconds": self.seconds, "user": self.user, "system": self.system, "server": self.server, "rss": self.rss,
            "disk": self.disk, "sent": self.sent, "requests": self.requests, "lag": self.lag, "hash": self.hash,
            "limit": self.limit,
        })
    }
}
