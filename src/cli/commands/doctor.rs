//! `sacker doctor`: whether the ledger and the store are as they should be, one line per check.
//!
//! Where lines are plain each check is told as it is known; a table or a document comes at the end. What is looked at and
//! decided stands in the ledger and the store; here it only gets a line. The exit code is that of the first failed check, so
//! that a script knows an outage from a fault.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use futures::future::try_join_all;
use jiff::SignedDuration;

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::items::CheckItem;
use crate::cli::message::counted;
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::error::{Error, Meaning, Result};
use crate::exit::Exit;
use crate::inspection::{Finding, Level};
use crate::ledger::{Ledger, ProbeOptions};
use crate::model::{LedgerUri, PackageName, Sha256};
use crate::store::Store;

/// How many packages are looked at, and how many blobs, where nobody says otherwise: enough to notice what is common,
/// few enough to wait for.
const PACKAGES: usize = 200;

/// How many packages are looked at side by side.
const AT_A_TIME: usize = 8;

/// How many versions of a kind are named in one line.
const NAMED: usize = 3;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker doctor\n  sacker doctor --repair\n  sacker doctor --no-probe --packages 10000"
)]
pub(in crate::cli) struct Args {
    /// Do not check conditional writes, which takes a thousand small requests on S3
    #[arg(long)]
    no_probe: bool,
    /// Set right what can be set right without loss: hints for readers of 2015
    #[arg(long)]
    repair: bool,
    /// Look at so many packages at most
    #[arg(long, value_name = "COUNT", default_value_t = PACKAGES)]
    packages: usize,
    #[command(flatten)]
    output: FormatArgs,
}

/// What became of a check.
enum Verdict {
    Fine(String),
    Odd(String, Option<String>),
    Failed(Exit, String, Option<String>),
}

impl Verdict {
    fn of(error: &Error) -> Self {
        Self::Failed(Exit::from(error), error.to_string(), error.hint().map(str::to_owned))
    }
}

/// The checks so far.
struct Report<'a> {
    session: &'a Session<'a>,
    output: &'a FormatArgs,
    /// Whether each check is printed when it is known.
    is_streamed: bool,
    progress: Option<Progress>,
    items: Vec<CheckItem>,
    /// What backends found: a bucket that holds both is looked at twice, and told once.
    found: Vec<Finding>,
    failed: Option<Exit>,
}

impl<'a> Report<'a> {
    fn new(args: &'a Args, session: &'a Session<'a>) -> Self {
        let is_streamed = session.printer.is_plain(args.output.format);
        let progress = (!is_streamed)
            .then(|| Progress::counting(session.printer, &session.connect.clock, "checking", "checks"));
        let (items, found) = (Vec::new(), Vec::new());
        Self { session, output: &args.output, is_streamed, progress, items, found, failed: None }
    }

    fn tell(&mut self, check: &str, verdict: Verdict) -> Outcome {
        let (verdict, text, hint) = match verdict {
            Verdict::Fine(text) => ("ok", text, None),
            Verdict::Odd(text, hint) => ("warning", text, hint),
            Verdict::Failed(exit, text, hint) => {
                self.failed.get_or_insert(exit);
                ("failed", text, hint)
            }
        };
        self.add(CheckItem { verdict, check: check.to_owned(), text, hint })
    }

    /// Tells what a backend found.
    fn tell_found(&mut self, finding: Finding) -> Outcome {
        if self.found.contains(&finding) {
            return Ok(());
        }
        self.found.push(finding.clone());
        let verdict = match finding.level {
            Level::Fine => "ok",
            Level::Odd => "warning",
            Level::Wrong => {
                // What is there is set up wrongly.
                self.failed.get_or_insert(Exit::Usage);
                "failed"
            }
        };
        let Finding { check, text, hint, .. } = finding;
        self.add(CheckItem { verdict, check: check.to_owned(), text, hint })
    }

    fn add(&mut self, item: CheckItem) -> Outcome {
        if let Some(progress) = &self.progress {
            progress.advance(1);
        }
        if self.is_streamed {
            return self.session.printer.item(self.output.format, &item);
        }
        self.items.push(item);
        Ok(())
    }

    /// Prints what was not printed yet. Returns how the first failed check ends the command.
    fn finish(mut self) -> Outcome<Option<Exit>> {
        drop(self.progress.take());
        if !self.is_streamed {
            self.session.printer.list(self.output.format, &self.items)?;
        }
        Ok(self.failed)
    }
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let mut report = Report::new(args, session);
    let checked = check(args, session, &mut report).await;
    // What was found before a failure stands.
    let failed = report.finish()?;
    checked?;
    match failed {
        None => Ok(()),
        Some(exit) => {
            session.printer.finish()?;
            Err(Failure::Reported(exit))
        }
    }
}

async fn check(args: &Args, session: &Session<'_>, report: &mut Report<'_>) -> Outcome {
    let configured = (session.configuration.ledger().is_ok(), session.configuration.store().is_ok());
    // With only one of the two configured, that one is looked at; with none, the error says so.
    if configured.0 || !configured.1 {
        look_at_ledger(args, session, report).await?;
    }
    if !configured.1 {
        return report.tell("store", Verdict::Odd("no store is configured".to_owned(), None));
    }
    look_at_stores(session, report).await?;
    if configured.0 && report.failed.is_none() {
        look_at_blobs(args, session, report).await?;
    }
    Ok(())
}

async fn look_at_ledger(args: &Args, session: &Session<'_>, report: &mut Report<'_>) -> Outcome {
    let ledger = match session.ledger().await {
        Ok(ledger) => ledger,
        Err(error) => return report.tell("ledger", Verdict::of(&error)),
    };
    if let Some(finding) = ledger.inspect_credentials().await {
        report.tell_found(finding)?;
    }
    let state = match ledger.state().await {
        Ok(state) => state,
        Err(error) => return report.tell("ledger", Verdict::of(&error)),
    };
    let numbers = format!("versions are numbered by {}", state.numbering.as_str());
    report.tell(
        "ledger",
        if state.is_set_up {
            Verdict::Fine(format!("it answers; {numbers}"))
        } else {
            let text = format!("it answers and was never set up; {numbers} by default");
            Verdict::Odd(text, Some("run: sacker init".to_owned()))
        },
    )?;
    for finding in ledger.inspect().await {
        report.tell_found(finding)?;
    }
    report.tell("clock", clock(&**ledger))?;
    let kept = state.verdict.filter(|verdict| !verdict.holds && !state.is_single_writer);
    if args.no_probe {
        if let Some(verdict) = kept {
            let text = format!("they were found broken: {}", verdict.why.unwrap_or_default());
            report.tell("conditional writes", Verdict::Failed(Exit::Usage, text, None))?;
        }
    } else {
        report.tell("conditional writes", probe(&**ledger, kept.is_some(), state.is_single_writer).await)?;
    }
    look_at_packages(args, &**ledger, report).await
}

fn clock(ledger: &dyn Ledger) -> Verdict {
    match ledger.server_time() {
        None => Verdict::Fine("the server tells no time, and no version depends on it".to_owned()),
        Some(time) => match time.check() {
            Err(error) => Verdict::of(&error),
            Ok(()) if time.is_notable() => {
                let text = format!("this machine's clock is {} the server's", time.words());
                Verdict::Odd(text, Some("set the clock right".to_owned()))
            }
            Ok(()) => Verdict::Fine("this machine's clock agrees with the server's".to_owned()),
        },
    }
}

async fn probe(ledger: &dyn Ledger, was_broken: bool, single_writer: bool) -> Verdict {
    let options = match ledger.uri() {
        // Each round is commits that stay in the history: enough to see that the server decides at all.
        LedgerUri::Git(_) => ProbeOptions { rounds: 3, ..ProbeOptions::default() },
        _ => ProbeOptions::default(),
    };
    match ledger.probe(&options).await {
        Err(error) => Verdict::of(&error),
        Ok(found) => match found.why() {
            Some(why) if single_writer => {
                Verdict::Odd(format!("{why}; the ledger's URI says that there is one writer"), None)
            }
            Some(why) => {
                let hint = match ledger.uri() {
                    LedgerUri::S3(_) => {
                        "use another server or release, or say ?single_writer=true if there is one writer at a time"
                    }
                    _ => "use another server or release",
                };
                Verdict::Failed(Exit::Usage, why, Some(hint.to_owned()))
            }
            None if was_broken => {
                let text = "they hold now, and writers are still refused: an earlier probe found them broken";
                Verdict::Odd(text.to_owned(), Some("run: sacker init".to_owned()))
            }
            None => Verdict::Fine(format!("{} promises hold, also in parallel", found.checks.len())),
        },
    }
}

/// The first packages of the ledger, and whether there are more.
async fn packages(args: &Args, ledger: &dyn Ledger) -> Result<(Vec<PackageName>, bool)> {
    let mut names = Vec::new();
    let mut stream = ledger.packages();
    while let Some(name) = stream.next().await {
        if names.len() == args.packages {
            return Ok((names, true));
        }
        names.push(name?);
    }
    Ok((names, false))
}

/// `2 packages`, and whether there are more.
fn looked_at(count: usize, more: bool) -> String {
    let only = if more { " (there are more: --packages)" } else { "" };
    format!("{}{only}", counted(count, "package"))
}

async fn look_at_packages(args: &Args, ledger: &dyn Ledger, report: &mut Report<'_>) -> Outcome {
    let (names, more) = match packages(args, ledger).await {
        Ok(found) => found,
        Err(error) => return report.tell("packages", Verdict::of(&error)),
    };
    let mut misplaced: Vec<String> = Vec::new();
    let mut lagging: BTreeMap<&PackageName, String> = BTreeMap::new();
    let mut all = Vec::new();
    for some in names.chunks(AT_A_TIME) {
        match try_join_all(some.iter().map(|name| ledger.examine(name))).await {
            Ok(findings) => all.extend(findings),
            Err(error) => return report.tell("packages", Verdict::of(&error)),
        }
    }
    for (name, findings) in names.iter().zip(all) {
        misplaced.extend(findings.misplaced.iter().map(|(version, ahead)| {
            let side = if ahead.is_negative() { "before" } else { "after" };
            let minutes = ahead.abs().as_secs() / SignedDuration::from_mins(1).as_secs();
            format!("{name} {version} ({minutes} min {side} its writing)")
        }));
        lagging.extend(findings.lagging_hint.map(|hint| (name, hint)));
    }
    let looked_at = looked_at(names.len(), more);
    report.tell(
        "times of versions",
        if misplaced.is_empty() {
            Verdict::Fine(looked_at.clone())
        } else {
            let hint = "a writer's clock was wrong; these versions stay where they are, and newer ones come after them";
            Verdict::Odd(format!("{} are off: {}", misplaced.len(), some(&misplaced)), Some(hint.to_owned()))
        },
    )?;
    let verdict = if lagging.is_empty() {
        Verdict::Fine(looked_at)
    } else if args.repair {
        let mut done = Vec::new();
        for name in lagging.keys() {
            match ledger.repair(name).await {
                Ok(line) => done.extend(line),
                Err(error) => return report.tell("hints for old readers", Verdict::of(&error)),
            }
        }
        Verdict::Fine(format!("{} were set right: {}", done.len(), some(&done)))
    } else {
        let lines: Vec<String> = lagging.iter().map(|(name, hint)| format!("{name}: {hint}")).collect();
        let hint = "only readers of 2015 look at them; run: sacker doctor --repair";
        Verdict::Odd(format!("{} lag: {}", lines.len(), some(&lines)), Some(hint.to_owned()))
    };
    report.tell("hints for old readers", verdict)
}

/// The first few of `lines`.
fn some(lines: &[String]) -> String {
    let more = lines.len().saturating_sub(NAMED);
    let shown = lines[..lines.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Each store by itself, where there are several.
async fn look_at_stores(session: &Session<'_>, report: &mut Report<'_>) -> Outcome {
    let store = match session.store().await {
        Ok(store) => store,
        Err(error) => return report.tell("store", Verdict::of(&error)),
    };
    if store.parts().is_empty() {
        return look_at_store(&**store, None, report).await;
    }
    for part in store.parts() {
        look_at_store(&**part, Some(part.place()), report).await?;
    }
    Ok(())
}

/// One store, named by `place` where it is not the only one.
async fn look_at_store(store: &dyn Store, place: Option<String>, report: &mut Report<'_>) -> Outcome {
    if let Some(finding) = store.inspect_credentials().await {
        report.tell_found(finding)?;
    }
    let named =
        |text: String| place.as_ref().map_or_else(|| text.clone(), |place| format!("{place}: {text}"));
    // Any digest will do: what counts is that the answer is "no".
    let verdict = match store.head(&Sha256::of(b"sacker doctor")).await {
        Ok(_) => Verdict::Fine(named("it answers".to_owned())),
        // A client that may only write has no right to look.
        Err(error) if matches!(error.meaning(), Meaning::Denied { .. }) => {
            Verdict::Odd(named(error.to_string()), error.hint().map(str::to_owned))
        }
        Err(error) => {
            let hint = error.hint().map(str::to_owned);
            return report.tell("store", Verdict::Failed(Exit::from(&error), named(error.to_string()), hint));
        }
    };
    report.tell("store", verdict)?;
    for finding in store.inspect().await {
        report.tell_found(finding)?;
    }
    Ok(())
}

/// The newest version of each package looked at must have its blob.
async fn look_at_blobs(args: &Args, session: &Session<'_>, report: &mut Report<'_>) -> Outcome {
    let (ledger, store) = (session.ledger().await?, session.store().await?);
    let (names, more) = packages(args, &**ledger).await?;
    let mut dangling = Vec::new();
    let look = async |name: &PackageName| {
        let record = match ledger.latest(name).await {
            Ok(record) => record,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let there = store.head(&record.sha256).await?.is_some();
        Ok((!there).then(|| format!("{name} {}", record.version)))
    };
    for some in names.chunks(AT_A_TIME) {
        match try_join_all(some.iter().map(&look)).await {
            Ok(found) => dangling.extend(found.into_iter().flatten()),
            Err(error) if matches!(error.meaning(), Meaning::Denied { .. }) => {
                let hint = error.hint().map(str::to_owned);
                return report.tell("blobs", Verdict::Odd(error.to_string(), hint));
            }
            Err(error) => return report.tell("blobs", Verdict::of(&error)),
        }
    }
    let verdict = if dangling.is_empty() {
        Verdict::Fine(format!("the newest version is there in {}", looked_at(names.len(), more)))
    } else {
        let hint = "restore them from a backup or another store, or add the same files again";
        let text = format!("{} newest versions have no blob: {}", dangling.len(), some(&dangling));
        Verdict::Failed(Exit::Integrity, text, Some(hint.to_owned()))
    };
    report.tell("blobs", verdict)
}
