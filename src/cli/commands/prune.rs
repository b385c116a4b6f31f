//! `sacker prune`: removes versions that no rule and no tag keeps. Says which; removes them only when asked. Their blobs
//! are `sacker gc`'s business.

use std::time::Duration;

use futures::TryStreamExt as _;
use serde::Serialize;

use crate::cli::arguments::{FormatArgs, parse_age};
use crate::cli::confirm::{can_ask_or_again, confirm};
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::message::counted;
use crate::cli::output::Item;
use crate::cli::session::Session;
use crate::error::{Meaning, Result};
use crate::model::{PackageName, Removal, Version, time};
use crate::upkeep::prune::{Fate, Policy, plan};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker prune --keep-last 20\n  sacker prune frontend-server --keep-last 5 --keep-younger-than 30d --apply"
)]
pub(in crate::cli) struct Args {
    /// The packages; all of them if none is named
    #[arg(value_name = "PACKAGE")]
    packages: Vec<String>,
    /// Keep the newest so many versions of each package
    #[arg(long, value_name = "NUMBER")]
    keep_last: Option<usize>,
    /// Keep versions that were added less than this ago, such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    keep_younger_than: Option<Duration>,
    /// Remove them; without it nothing is changed
    #[arg(long)]
    apply: bool,
    /// Do not ask
    #[arg(short, long, requires = "apply")]
    yes: bool,
    /// Why, for the record of each removed version
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// List what stays too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: FormatArgs,
}

/// A version, for `prune`.
#[derive(Debug, Serialize)]
struct PruneItem {
    package: PackageName,
    version: Version,
    /// `remove`, `removed`, or why it stays.
    fate: &'static str,
}

impl Item for PruneItem {
    const HEADERS: &'static [&'static str] = &["PACKAGE", "VERSION", "FATE"];

    fn cells(&self) -> Vec<String> {
        self.plain()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.package.as_str().to_owned(), self.version.to_string(), self.fate.to_owned()]
    }

    fn name(&self) -> String {
        format!("{}@{}", self.package, self.version)
    }
}

const fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Latest => "newest",
        Fate::Tagged => "tagged",
        Fate::Recent => "recent",
        Fate::Young => "young",
        Fate::AgeUnknown => "age unknown",
        Fate::Remove => REMOVE,
    }
}

const REMOVE: &str = "remove";
const REMOVED: &str = "removed";

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let policy = Policy::new(args.keep_last, args.keep_younger_than)?;
    if args.apply {
        can_ask_or_again(args.yes, "prune --apply")?;
    }
    let named = args.packages.iter().map(|package| input::package(package)).collect::<Result<Vec<_>>>()?;
    let ledger = session.ledger().await?;
    let packages: Vec<PackageName> =
        if named.is_empty() { ledger.packages().try_collect().await? } else { named };
    let mut items = Vec::new();
    for package in packages {
        let records = ledger.versions(&package).await?;
        let tags = ledger.tags(&package).await?;
        let server = ledger.server_time();
        if let (Some(server), Some(_)) = (&server, args.keep_younger_than) {
            server.check()?;
        }
        let now = server.map_or_else(|| session.connect.clock.now(), |server| server.time);
        for (record, fate) in plan(&records, &tags, policy, now) {
            let fate = word(fate);
            items.push(PruneItem { package: package.clone(), version: record.version, fate });
        }
    }
    let count = items.iter().filter(|item| item.fate == REMOVE).count();
    if args.apply && count > 0 {
        if args.yes || confirm(format!("remove {} for good", counted(count, "version"))).await? {
            remove(&mut items, args, session).await?;
            let removed = items.iter().filter(|item| item.fate == REMOVED).count();
            session.printer.note(format_args!(
                "removed {}; the bytes stay in the store until 'sacker gc' deletes them",
                counted(removed, "version")
            ));
        } else {
            session.printer.note(format_args!("nothing was removed"));
        }
    } else if args.apply {
        session.printer.note(format_args!("nothing to remove"));
    } else {
        let would = counted(count, "version");
        session.printer.note(format_args!("would remove {would}; nothing was changed (--apply does it)"));
    }
    items.retain(|item| args.all || item.fate.starts_with(REMOVE) || item.fate == MOVED);
    session.printer.list(args.output.format, &items)
}

const MOVED: &str = "tagged meanwhile";

async fn remove(items: &mut [PruneItem], args: &Args, session: &Session<'_>) -> Result<()> {
    let ledger = session.ledger().await?;
    let rules = [
        args.keep_last.map(|keep| format!("keep the last {keep}")),
        args.keep_younger_than.map(|age| format!("keep what is younger than {}", time::format_span(age))),
    ];
    let rules = rules.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let reason = args.reason.clone().unwrap_or_else(|| format!("pruned: {rules}"));
    for item in items.iter_mut().filter(|item| item.fate == REMOVE) {
        let at = session.connect.clock.now();
        let removal = Removal { at, by: session.actor.clone(), reason: Some(reason.clone()) };
        item.fate = match ledger.remove_version(&item.package, item.version, &removal).await {
            Ok(_) => REMOVED,
            // A tag came to point to it since the plan was made: that is what tags are for.
            Err(error) if matches!(error.meaning(), Meaning::Conflict { .. }) => MOVED,
            Err(error) => return Err(error),
        };
    }
    Ok(())
}
