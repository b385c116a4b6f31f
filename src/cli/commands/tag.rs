//! `sacker tag`: points a tag to a version, by compare-and-swap.

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::TagItem;
use crate::cli::message::typed;
use crate::cli::session::{Session, warn_of_pending_archive};
use crate::error::Error;
use crate::ledger::TagOutcome;
use crate::model::{
    Change, Claim, EventKind, Expected, Next, PackageName, Spec, TagChange, TagName, Version,
};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker tag frontend-server 23 live\n  sacker tag frontend-server latest canary\n  sacker tag frontend-server 23 live --if-version 22 --reason 'release 2026-11'"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// The version; 'latest' or another tag stands for the version it names now
    #[arg(value_name = "VERSION")]
    version: String,
    /// The tag
    #[arg(value_name = "TAG")]
    pub(in crate::cli) tag: String,
    /// Only if the tag points to this version now
    #[arg(long, value_name = "VERSION")]
    if_version: Option<String>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Move it although somebody else owns it; you own it afterwards
    #[arg(long)]
    take_over: bool,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = PackageName::new(&args.package)?;
    let spec: Spec = args.version.parse()?;
    let tag = TagName::new(&args.tag).map_err(|error| swapped(error, args))?;
    let if_version = input::version_of("--if-version", args.if_version.as_ref())?;
    let ledger = session.ledger().await?;
    // A tag holds a number, never a word: what names a version is resolved first.
    let to = match spec {
        Spec::Version(version) => version,
        spec => ledger.resolve(&package, &spec).await?.record.version,
    };
    let mut change = session.tag_change(Change::Move { to, hold: None }, args.reason.as_ref());
    if let Some(version) = if_version {
        change = change.expecting(Expected::Version(version));
    }
    if args.take_over {
        change = change.claiming(Claim::TakeOver(session.owner()));
    }
    if args.dry_run {
        return dry_run(session, &package, &tag, &change, to).await;
    }
    let outcome = ledger.change_tag(&package, &tag, &change).await?;
    tell(session, &package, &tag, to, &outcome);
    if args.take_over {
        session.printer.note(format_args!(
            "it is yours now; to hand it back: sacker disown {} {}",
            typed(package.as_str()),
            typed(tag.as_str())
        ));
    }
    session.printer.document_only(args.output.format, &TagItem::new(&package, &outcome.state))
}

/// `sacker tag P live 23` is a common slip; the rule about number-like tags alone would not say so.
fn swapped(error: Error, args: &Args) -> Error {
    if args.tag.parse::<Version>().is_ok() && args.version.parse::<Version>().is_err() {
        let (package, tag, version) = (typed(&args.package), typed(&args.version), typed(&args.tag));
        return error.with_hint(format!("the version comes first: sacker tag {package} {version} {tag}"));
    }
    if args.tag.eq_ignore_ascii_case("latest") {
        let (package, version) = (typed(&args.package), typed(&args.version));
        return error
            .with_hint(format!("choose a tag of your own, such as: sacker tag {package} {version} live"));
    }
    error
}

fn tell(session: &Session<'_>, package: &PackageName, tag: &TagName, to: Version, outcome: &TagOutcome) {
    let printer = session.printer;
    let kind = outcome.event.as_ref().map(|event| event.kind);
    match (kind, outcome.previous) {
        (None, _) => {
            printer.note(format_args!("tag '{tag}' of package '{package}' already points to version {to}"));
        }
        (Some(EventKind::Adopt), _) => {
            printer.note(format_args!("tag '{tag}' of package '{package}' stays at version {to}"));
        }
        (Some(_), Some(from)) => {
            printer
                .note(format_args!("tag '{tag}' of package '{package}' moved from version {from} to {to}"));
        }
        (Some(_), None) => {
            printer.note(format_args!("tag '{tag}' of package '{package}' now points to version {to}"));
        }
    }
    warn_of_pending_archive(outcome);
}

/// Decides as the ledger would, from what is there now.
async fn dry_run(
    session: &Session<'_>,
    package: &PackageName,
    tag: &TagName,
    change: &TagChange,
    to: Version,
) -> Outcome {
    let ledger = session.ledger().await?;
    ledger.resolve(package, &Spec::Version(to)).await?;
    let state = ledger.tag(package, tag).await?;
    let next = session.decide(state.as_ref(), change)?;
    let now = state
        .and_then(|state| state.version)
        .map_or_else(|| "is not set".to_owned(), |version| format!("points to version {version}"));
    match next {
        Next::Unchanged => {
            session
                .printer
                .note(format_args!("tag '{tag}' of package '{package}' already points to version {to}"));
        }
        Next::Commit(_) => session
            .printer
            .note(format_args!("would point tag '{tag}' of package '{package}' to version {to}; it {now}")),
    }
    Ok(())
}
