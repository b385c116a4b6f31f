//! `sacker gc`: deletes blobs that no version refers to. Says what it would do; does it only when asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::BinaryBytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::arguments::{FormatArgs, parse_timeout};
use crate::cli::confirm::{can_ask_or_again, confirm};
use crate::cli::failure::Outcome;
use crate::cli::message::counted;
use crate::cli::output::Item;
use crate::cli::session::Session;
use crate::error::{Error, Meaning, Result};
use crate::ledger::{self, Ledger};
use crate::model::{LedgerUri, PinnedSpec, Sha256, time};
use crate::store::{self, Collect};
use crate::upkeep::gc::{self, Cycle, Decision, Report, Rules, Verdict};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker gc\n  sacker gc --delete\n  sacker gc --with-ledger dynamo://us-east-1/other --keep-file pinned.txt --delete --yes"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(in crate::cli) struct Args {
    /// Condemn and delete; without it nothing is changed
    #[arg(long)]
    delete: bool,
    /// Do not ask
    #[arg(short, long, requires = "delete")]
    yes: bool,
    /// Another ledger whose blobs are in the same store, as often as there are
    #[arg(long, value_name = "URI")]
    with_ledger: Vec<String>,
    /// Leave alone what was written less than this ago; at least the store's own grace (24h)
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    grace: Option<Duration>,
    /// Time between condemning a blob and deleting it; 1h by default
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    period: Option<Duration>,
    /// Wait for the period to end and go on, instead of leaving that to the next run
    #[arg(long, requires = "delete")]
    wait: bool,
    /// Delete at most this share of all blobs in one run
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    max_percent: u8,
    /// Delete any number, also if the ledgers have no version at all
    #[arg(long)]
    force: bool,
    /// Keep this blob, as often as given
    #[arg(long, value_name = "SHA256")]
    keep: Vec<String>,
    /// Keep the blobs that this file names: a sha256 or a pinned spec per line
    #[arg(long, value_name = "FILE")]
    keep_file: Vec<PathBuf>,
    /// List referenced blobs too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: FormatArgs,
}

/// A blob, or what an upload left, for `gc`.
#[derive(Debug, Serialize)]
struct GcItem {
    store: String,
    /// Null for what an unfinished upload left.
    sha256: Option<Sha256>,
    /// The file or the upload, for what is no blob.
    unfinished: Option<String>,
    size: Option<u64>,
    #[serde(with = "time")]
    modified: Timestamp,
    verdict: &'static str,
    reason: String,
    /// What was done: null in a dry run, and where there was nothing to do.
    outcome: Option<&'static str>,
}

impl Item for GcItem {
    const HEADERS: &'static [&'static str] = &["BLOB", "SIZE", "WRITTEN", "VERDICT", "WHY"];
    const WRAPPED: &'static [&'static str] = &["WHY"];

    fn cells(&self) -> Vec<String> {
        let name = self.sha256.map_or_else(|| self.name(), |sha256| sha256.short());
        let size = self.size.map_or_else(|| "-".to_owned(), |size| BinaryBytes(size).to_string());
        let reason = match self.outcome {
            Some(outcome) => format!("{}: {outcome}", self.reason),
            None => self.reason.clone(),
        };
        vec![name, size, format!("{:.0}", self.modified), self.verdict.to_owned(), reason]
    }

    fn plain(&self) -> Vec<String> {
        let size = self.size.map_or_else(|| "-".to_owned(), |size| size.to_string());
        let outcome = self.outcome.unwrap_or("-").to_owned();
        let written = time::format(self.modified);
        vec![self.name(), size, written, self.verdict.to_owned(), outcome, self.reason.clone()]
    }

    fn name(&self) -> String {
        let unfinished = || self.unfinished.clone().unwrap_or_default();
        self.sha256.map_or_else(unfinished, |sha256| sha256.to_string())
    }
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let stores = &session.configuration.store()?.value;
    let kept = kept(args)?;
    if args.delete {
        can_ask_or_again(args.yes, "gc --delete")?;
    }
    let mut ledgers: Vec<Arc<dyn Ledger>> = vec![session.ledger().await?.clone()];
    for uri in &args.with_ledger {
        let uri: LedgerUri =
            uri.parse().map_err(|error| Error::invalid(format!("--with-ledger: {error}")))?;
        let ledger = ledger::open(&uri, &session.connect).await?;
        // Its hint would say how to create it. An empty ledger in the place of one that is misspelt refers to nothing.
        ledger.state().await.map_err(|error| match error.meaning() {
            Meaning::NotFound(_) => error.with_hint("--with-ledger names a ledger that is there already"),
            _ => error,
        })?;
        ledgers.push(ledger);
    }
    let mut items = Vec::new();
    for uri in stores.iter() {
        let store = store::open_for_collection(uri, &session.connect).await?;
        let run = Run { args, session, store: &*store, ledgers: &ledgers, kept: &kept };
        items.extend(run.run().await?);
    }
    session.printer.list(args.output.format, &items)
}

/// The collection of one store.
struct Run<'a> {
    args: &'a Args,
    session: &'a Session<'a>,
    store: &'a dyn Collect,
    ledgers: &'a [Arc<dyn Ledger>],
    kept: &'a BTreeMap<Sha256, String>,
}

impl Run<'_> {
    async fn run(&self) -> Result<Vec<GcItem>> {
        let note = |text: std::fmt::Arguments<'_>| self.session.printer.note(text);
        let place = self.store.place();
        if self.args.delete && !self.args.yes {
            let would = self.cycle(false).await?;
            let (blobs, leftovers) = would.due();
            // What waits now goes later in this very command.
            let waits = |(decision, _): &&(Decision, gc::Outcome)| {
                matches!(
                    decision.verdict,
                    Verdict::Condemn
                        | Verdict::Waiting { .. }
                        | Verdict::Hide { .. }
                        | Verdict::Hidden { .. }
                )
            };
            let later = if self.args.wait { would.blobs.iter().filter(waits).count() } else { 0 };
            if blobs + leftovers + later > 0 {
                let leftovers = counted(leftovers, "leftover");
                let what = format!("{} and {leftovers} of uploads", counted(blobs + later, "blob"));
                if !confirm(format!("delete {what} in {place}")).await? {
                    note(format_args!("nothing was changed"));
                    return Ok(self.items(&would));
                }
            }
        }
        let mut report = self.cycle(self.args.delete).await?;
        if self.args.wait {
            while let Some(next_at) = report.next_at {
                self.wait_until(next_at).await?;
                let next = self.cycle(true).await?;
                let went_on = next.next_at != report.next_at;
                report = next;
                if !went_on {
                    break;
                }
            }
        }
        let (due, leftovers) = report.due();
        let of = report.blobs.len();
        if self.args.delete {
            note(format_args!("{place}: deleted {} of {}", report.deleted(), counted(of, "blob")));
        } else {
            note(format_args!(
                "{place}: would delete {due} of {} and {}; nothing was changed",
                counted(of, "blob"),
                counted(leftovers, "leftover")
            ));
        }
        if let Some(next_at) = report.next_at {
            note(format_args!("{place}: others are condemned; a run after {next_at:.0} goes on with them"));
        }
        if report.foreign > 0 {
            note(format_args!("{place}: {} things there are no blobs and are left alone", report.foreign));
        }
        Ok(self.items(&report))
    }

    async fn cycle(&self, act: bool) -> Result<Report> {
        let mut rules = Rules::new(self.store.timing(), self.store.is_create_only());
        rules.grace = self.args.grace.unwrap_or(rules.grace);
        rules.period = self.args.period.unwrap_or(rules.period);
        rules.max_percent = (!self.args.force).then_some(self.args.max_percent);
        let Self { store, ledgers, kept, .. } = *self;
        gc::collect(&Cycle { store, ledgers, kept, rules, act, empty_ledgers: self.args.force }).await
    }

    /// Waits by the store's clock.
    async fn wait_until(&self, time: Timestamp) -> Result<()> {
        let now = self.store.now().await?;
        let rest = Duration::try_from(time.duration_since(now)).unwrap_or_default() + store::RESOLUTION * 2;
        self.session.printer.note(format_args!("waiting {} s until the period is over", rest.as_secs()));
        tokio::time::sleep(rest).await;
        Ok(())
    }

    fn items(&self, report: &Report) -> Vec<GcItem> {
        let store = self.store.place();
        let shown = |decision: &Decision| self.args.all || decision.verdict != Verdict::Referenced;
        let blobs = report.blobs.iter().filter(|(decision, _)| shown(decision)).map(|(decision, outcome)| {
            let (verdict, reason) = explain(decision, report);
            GcItem {
                store: store.clone(),
                sha256: Some(decision.blob.sha256),
                unfinished: None,
                size: Some(decision.blob.size),
                modified: decision.blob.modified,
                verdict,
                reason,
                outcome: match outcome {
                    gc::Outcome::None => None,
                    gc::Outcome::Done => Some("done"),
                    gc::Outcome::Changed => Some("is wanted again"),
                    gc::Outcome::Absent => Some("was gone"),
                },
            }
        });
        let leftovers = report.unfinished.iter().map(|(left, goes)| GcItem {
            store: store.clone(),
            sha256: None,
            unfinished: Some(left.name.clone()),
            size: left.size,
            modified: left.since,
            verdict: if *goes { "leftover" } else { "in progress" },
            reason: if *goes { "an upload that did not end" } else { "an upload that may still go on" }
                .to_owned(),
            outcome: (self.args.delete && *goes).then_some("done"),
        });
        blobs.chain(leftovers).collect()
    }
}

/// The verdict in one word, and why.
fn explain(decision: &Decision, report: &Report) -> (&'static str, String) {
    match decision.verdict {
        Verdict::Referenced => {
            let by = report.roots.referrers.get(&decision.blob.sha256);
            ("referenced", by.map_or_else(|| "kept".to_owned(), |by| format!("by {by}")))
        }
        Verdict::TooYoung { until } => ("young", format!("left alone until {until:.0}")),
        Verdict::Condemn => ("condemn", "unreferenced, seen for the first time".to_owned()),
        Verdict::Waiting { since, until } => {
            ("condemned", format!("unreferenced since {since:.0}, waits until {until:.0}"))
        }
        Verdict::Postponed { since } => (
            "postponed",
            format!("unreferenced since {since:.0}, beyond the share of one run (--max-percent)"),
        ),
        Verdict::Delete { since } => ("delete", format!("unreferenced since {since:.0}")),
        Verdict::Hide { since } => {
            ("hide", format!("unreferenced since {since:.0}; hidden first, since the store is create-only"))
        }
        Verdict::Hidden { since, until } => ("hidden", format!("since {since:.0}, waits until {until:.0}")),
        Verdict::Restore => ("restore", "hidden, and referenced after all".to_owned()),
        Verdict::Purge { since } => ("delete", format!("hidden since {since:.0}")),
    }
}

/// What the command line says to keep, with where it says so.
fn kept(args: &Args) -> Result<BTreeMap<Sha256, String>> {
    let mut kept = BTreeMap::new();
    for text in &args.keep {
        kept.insert(text.parse()?, "kept by --keep".to_owned());
    }
    for path in &args.keep_file {
        let text = std::fs::read_to_string(path).map_err(|error| Error::local("read", path, error))?;
        kept.extend(kept_by_file(path, &text)?);
    }
    Ok(kept)
}

fn kept_by_file(path: &Path, text: &str) -> Result<Vec<(Sha256, String)>> {
    let mut kept = Vec::new();
    for (index, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pinned = line.parse::<PinnedSpec>().map(|pinned| pinned.sha256);
        let sha256 = pinned.or_else(|_| line.parse::<Sha256>()).map_err(|_| {
            // What cannot be read might be what keeps production alive.
            let rule = format!("'{}' line {index} is neither a sha256 nor a pinned spec", path.display());
            Error::invalid(rule)
        })?;
        kept.push((sha256, format!("kept by '{}'", path.display())));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_digests_is_read_to_its_end_or_not_at_all() {
        let (one, two) = (Sha256::of(b"1"), Sha256::of(b"2"));
        let text = format!("# pods\n{one}\n\n frontend@23+sha256:{two} \n");
        let kept = kept_by_file(Path::new("pins"), &text).expect("a list");
        assert_eq!(kept.iter().map(|(sha256, _)| *sha256).collect::<Vec<_>>(), [one, two]);
        let error =
            kept_by_file(Path::new("pins"), &format!("{one}\nlive\n")).expect_err("a refusal").to_string();
        assert_eq!(error, "'pins' line 2 is neither a sha256 nor a pinned spec");
    }
}
